"""What params say about the transport rather than to the model: where to, with which key, how long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from neuro_mw.errors import ConfigError
from neuro_mw.types import Params

_OURS = frozenset(
    {
        "api_base",
        "api_key",
        "api_version",
        "azure_ad_token",
        "base_url",
        "extra_body",
        "extra_headers",
        "extra_query",
        "headers",
        "max_retries",
        "model",
        "num_retries",
        "organization",
        "stream",
        "timeout",
    }
)
# Words of litellm that are no provider's. Sent on, they would be refused with an error that explains nothing.
_LITELLMS = frozenset(
    {
        "additional_drop_params",
        "allowed_openai_params",
        "context_window_fallback_dict",
        "custom_llm_provider",
        "drop_params",
        "mock_response",
        "mock_timeout",
        "mock_tool_calls",
    }
)


class Timeouts(NamedTuple):
    """Seconds: to connect, between two pieces of an answer, and for the whole call. None is no limit.

    In a stream ``total`` counts the time spent waiting for the provider, not the time the consumer takes.
    """

    connect: float | None = 10.0
    read: float | None = 600.0
    total: float | None = 3600.0


DEFAULT_TIMEOUTS = Timeouts()


class Transport(NamedTuple):
    """The transport's share of the params."""

    base_url: str | None = None
    api_key: str | None = None
    api_version: str | None = None
    azure_ad_token: str | None = None
    organization: str | None = None
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    extra_body: Mapping[str, Any] = {}
    timeouts: Timeouts = DEFAULT_TIMEOUTS

    def __repr__(self) -> str:
        return f"Transport({self.base_url!r})"  # the rest may hold keys


_PLAIN = Transport()


def split(params: Params) -> tuple[Params, Transport]:
    """What goes into the body, and what does not.

    Raises ConfigError for retries (this driver makes none) and for words that only litellm knows.

    >>> split({"messages": [], "timeout": 5, "model": "x"})[0]
    {'messages': []}
    """
    if _OURS.isdisjoint(params) and _LITELLMS.isdisjoint(params):
        return params, _PLAIN
    for name in ("max_retries", "num_retries"):
        if params.get(name):
            raise ConfigError("the native driver tries once", key=name, expected="0; driver='litellm' has retries")
    for name in _LITELLMS.intersection(params):
        if params[name]:
            raise ConfigError("only litellm knows this parameter", key=name, expected="driver='litellm' with it")
    body = {name: value for name, value in params.items() if name not in _OURS and name not in _LITELLMS}
    transport = Transport(
        base_url=params.get("base_url") or params.get("api_base"),
        api_key=params.get("api_key"),
        api_version=params.get("api_version"),
        azure_ad_token=params.get("azure_ad_token"),
        organization=params.get("organization"),
        headers={**_mapping(params, "headers"), **_mapping(params, "extra_headers")},
        query=_mapping(params, "extra_query"),
        extra_body=_mapping(params, "extra_body"),
        timeouts=timeouts_of(params.get("timeout")),
    )
    return body, transport


def timeouts_of(value: Any) -> Timeouts:
    """Timeouts from a number of seconds for the whole call, or from a dict with ``connect``, ``read``, ``total``.

    >>> timeouts_of(5)
    Timeouts(connect=5.0, read=5.0, total=5.0)
    >>> timeouts_of({"read": 30})
    Timeouts(connect=10.0, read=30.0, total=3600.0)
    """
    if value is None:
        return DEFAULT_TIMEOUTS
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        total = float(value)
        return Timeouts(min(total, DEFAULT_TIMEOUTS.connect or total), total, total)
    if isinstance(value, Mapping) and set(value) <= set(Timeouts._fields):
        limits = {name: None if limit is None else _seconds(limit) for name, limit in value.items()}
        return DEFAULT_TIMEOUTS._replace(**limits)
    raise ConfigError(
        f"it is of type {type(value).__name__}" if not isinstance(value, int | float) else f"it is {value}",
        key="timeout",
        expected="seconds above 0, or a dict with connect, read, total",
    )


def _seconds(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(value)
    raise ConfigError("a limit is not a number of seconds above 0", key="timeout")


def _mapping(params: Params, name: str) -> Mapping[str, Any]:
    value = params.get(name) or {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"it is of type {type(value).__name__}", key=name, expected="a dict")
    return value

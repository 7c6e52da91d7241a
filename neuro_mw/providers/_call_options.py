"""What params say about the call rather than to the model: where to, with which key, how long."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from neuro_mw.errors import ConfigError
from neuro_mw.param_names import of_drivers
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


@functools.lru_cache(1024)
def _kind(name: str) -> str:
    if name in _OURS:
        return "ours"
    return "litellm's" if isinstance(name, str) and of_drivers(name) else ""


OF_SOME = frozenset({"api_version", "azure_ad_token", "organization"})


class Timeouts(NamedTuple):
    """Seconds: to connect, between two pieces of an answer, and for the whole call. None is no limit.

    In a stream ``total`` counts the time spent waiting for the provider, not the time the consumer takes.
    """

    connect: float | None = 10.0
    read: float | None = 600.0
    total: float | None = 3600.0


DEFAULT_TIMEOUTS = Timeouts()
_LONGEST = 86_400


class CallOptions(NamedTuple):
    """The call's share of the params. ``query`` is added to the URL, ``headers`` and ``extra_body`` to the request."""

    base_url: str | None = None
    api_key: str | None = None
    api_version: str | None = None
    azure_ad_token: str | None = None
    organization: str | None = None
    headers: Mapping[str, Any] = {}
    query: Mapping[str, Any] = {}
    extra_body: Mapping[str, Any] = {}
    timeouts: Timeouts = DEFAULT_TIMEOUTS

    def __repr__(self) -> str:
        return f"CallOptions({self.base_url!r})"  # the rest may hold keys


_PLAIN = CallOptions()
_TEXTS = ("api_base", "api_key", "api_version", "azure_ad_token", "base_url", "organization", "model")


def split(params: Params, known: frozenset[str] = frozenset()) -> tuple[Params, CallOptions]:
    """What goes into the body, and what does not. `known` are the options that only some providers have.

    Raises ConfigError for retries (this driver makes none), for options that this provider does not have, and for words
    that only litellm knows.

    >>> split({"messages": [], "timeout": 5, "model": "x"})[0]
    {'messages': []}
    """
    kinds = {name: kind for name in params if (kind := _kind(name))}
    if not kinds:
        return params, _PLAIN
    for name, kind in kinds.items():
        value = params[name]
        if not value:
            continue
        if kind != "ours":
            raise ConfigError("only litellm knows this parameter", key=name, expected="driver='litellm' with it")
        if name in ("max_retries", "num_retries"):
            raise ConfigError("the native driver tries once", key=name, expected="0; driver='litellm' has retries")
        if name in OF_SOME and name not in known:
            raise ConfigError("this provider has no such option", key=name, expected="leave it out")
        if name in _TEXTS and not isinstance(value, str):
            raise ConfigError(f"it is of type {type(value).__name__}", key=name, expected="a string")
    return {name: value for name, value in params.items() if name not in kinds}, CallOptions(
        base_url=params.get("base_url") or params.get("api_base"),
        api_key=(params.get("api_key") or "").strip() or None,
        api_version=params.get("api_version"),
        azure_ad_token=(params.get("azure_ad_token") or "").strip() or None,
        organization=params.get("organization"),
        headers={**_mapping(params, "headers"), **_mapping(params, "extra_headers")},
        query=_mapping(params, "extra_query"),
        extra_body=_mapping(params, "extra_body"),
        timeouts=timeouts_of(params.get("timeout")),
    )


def timeouts_of(value: Any) -> Timeouts:
    """Timeouts from a number of seconds for the whole call, or from a dict with ``connect``, ``read``, ``total``.

    >>> timeouts_of(5)
    Timeouts(connect=5.0, read=5.0, total=5.0)
    >>> timeouts_of({"read": 30})
    Timeouts(connect=10.0, read=30.0, total=3600.0)
    """
    if value is None:
        return DEFAULT_TIMEOUTS
    if isinstance(value, Mapping) and set(value) <= set(Timeouts._fields):
        limits = {name: None if limit is None else _seconds(limit) for name, limit in value.items()}
        return DEFAULT_TIMEOUTS._replace(**limits)
    total = _seconds(value)
    return Timeouts(min(total, DEFAULT_TIMEOUTS.connect or total), total, total)


def _seconds(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and 0 < value <= _LONGEST:
        return float(value)
    raise ConfigError(
        f"it is {value:g}" if isinstance(value, float) else f"it is no such {type(value).__name__}",
        key="timeout",
        expected=f"seconds above 0, at most {_LONGEST}, or a dict with connect, read, total",
    )


def _mapping(params: Params, name: str) -> Mapping[str, Any]:
    value = params.get(name) or {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"it is of type {type(value).__name__}", key=name, expected="a dict")
    return {str(key): one for key, one in value.items() if one is not None}

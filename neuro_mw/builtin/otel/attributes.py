"""A request and its answer as attributes of a span. None of them holds a word of either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from neuro_mw import Attempt, Response
from neuro_mw.param_names import OUTPUT as MAX_TOKENS

from . import conventions as name

Attributes = dict[str, Any]
_ADDRESSES = ("base_url", "api_base")
_OUTPUT_TYPES = {"text": "text", "json_object": "json", "json_schema": "json"}
_PORTS = {"http": 80, "https": 443}


def sendable(text: str) -> str:
    """A text as it can be sent: half a surrogate pair would spoil the export of all spans that go with it.

    >>> sendable("grüß" + chr(0xD800))
    'grüß?'
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def request_attributes(params: Mapping[str, Any]) -> Attributes:
    """What of a request the conventions have an attribute for; texts, and a value of another type, are left out.

    >>> request_attributes({"temperature": 0, "stop": "END", "seed": "seven"})
    {'gen_ai.request.temperature': 0.0}
    """
    found: Attributes = {}
    for param, attribute in name.REQUEST_NUMBERS:
        value = params.get(param)
        if value is not None and (type(value) is float or _is_int(value)):
            found[attribute] = float(value)
    for param in MAX_TOKENS:
        if _is_int(params.get(param)):
            found[name.REQUEST_MAX_TOKENS] = params[param]
            break
    if _is_int(params.get("seed")):
        found[name.REQUEST_SEED] = params["seed"]
    wanted = params.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, Mapping) else None
    if isinstance(kind, str) and kind in _OUTPUT_TYPES:
        found[name.OUTPUT_TYPE] = _OUTPUT_TYPES[kind]
    return found


def _is_int(value: Any) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63  # no larger one can be sent


def server_attributes(params: Mapping[str, Any]) -> Attributes:
    """Host and port of the address that a request itself names; without one they are the provider's business.

    >>> server_attributes({"base_url": "https://user:key@llm.example.org/v1"})
    {'server.address': 'llm.example.org', 'server.port': 443}
    """
    for param in _ADDRESSES:
        url = params.get(param)
        if url and isinstance(url, str):
            return dict(_server(url))
    return {}


@lru_cache(64)
def _server(url: str) -> tuple[tuple[str, Any], ...]:
    try:
        parsed = urlsplit(url)
        host, port = parsed.hostname, parsed.port or _PORTS.get(parsed.scheme)
    except ValueError:
        return ()
    if not host or port is None:
        return ()
    return (name.SERVER_ADDRESS, sendable(host)), (name.SERVER_PORT, port)


def response_attributes(response: Response, *, finished: bool) -> Attributes:
    """Who answered, how it ended, and who refused; an answer that broke off has no finish reason."""
    found: Attributes = {}
    if isinstance(response.id, str):
        found[name.RESPONSE_ID] = sendable(response.id)
    if isinstance(response.model, str):
        found[name.RESPONSE_MODEL] = sendable(response.model)
    if finished:
        found[name.RESPONSE_FINISH_REASONS] = (sendable(str(response.finish_reason)),)
    if response.blocked is not None:
        found[name.BLOCK_MIDDLEWARE] = sendable(str(response.blocked.middleware))
        found[name.BLOCK_CATEGORY] = sendable(str(response.blocked.category))
    return found


def tokens_of(attempt: Attempt, field: str) -> int | None:
    """A count of an attempt's usage; a model of someone else's may have left anything there."""
    tokens: Any = getattr(attempt.usage, field, None)
    return tokens if _is_int(tokens) and tokens >= 0 else None


def usage_attributes(attempts: Sequence[Attempt]) -> Attributes:
    """The tokens of all attempts together. What no model was asked for has used none, whatever its answer says."""
    found: Attributes = {}
    for attempt in attempts:
        for field, attribute in name.USAGE:
            tokens = tokens_of(attempt, field)
            if tokens is not None:
                found[attribute] = found.get(attribute, 0) + tokens
    return found


def who(provider: str, model: str) -> Attributes:
    """What is done and who is asked: on every span, event and metric.

    >>> who("azure", "gpt-4o")["gen_ai.provider.name"]
    'azure.ai.openai'
    """
    return {
        name.OPERATION_NAME: name.CHAT,
        name.PROVIDER_NAME: name.PROVIDERS.get(provider) or sendable(provider),
        name.REQUEST_MODEL: sendable(model),
    }

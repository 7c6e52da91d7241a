"""Answers of the chat-completions API in the words of `neuro_mw.types`; whole answers here, chunks in `_chat_chunks`.

litellm speaks this dialect too, so both drivers translate here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from neuro_mw.types import (
    FinishReason,
    Response,
    ToolCall,
    Usage,
)

from ._thinking import SIGNED, sealed

TOP = frozenset({"id", "created", "model", "object", "choices", "usage"})
CHOICE = frozenset({"index", "delta", "message", "finish_reason"})
MESSAGE = frozenset({"role", "content", "tool_calls", "function_call", "reasoning_content", "reasoning"})
_CALL = frozenset({"index", "id", "function", "custom"})
_USAGE = frozenset(
    {
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "prompt_cache_hit_tokens",
        "cached_tokens",
        "cache_creation_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "text_tokens",  # litellm's own subtraction
    }
)
_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "complete": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
    "error": "error",
    "network_error": "error",
}

_OPENAI_REASONS = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter"})


def plain(value: Any) -> dict[str, Any]:
    """A pydantic object of litellm or the SDK as a dict, without what is None."""
    if isinstance(value, Mapping):
        return {name: one for name, one in value.items() if one is not None}
    # warnings: litellm stores shapes its own annotations do not foresee, and pydantic warns at each of them
    dumped: dict[str, Any] = value.model_dump(exclude_none=True, warnings=False)
    return dumped


def response_of(answer: Any) -> Response:
    """A whole answer."""
    data = plain(answer)
    choices = [plain(choice) for choice in data.get("choices") or ()]
    choice = choices[0] if choices else {}
    message = choice.get("message") or {}
    calls = _calls(message)
    fields = {**rest_of(data, TOP), **rest_of(choice, CHOICE), **rest_of(message, MESSAGE)}
    if call_fields := {call.id or str(index): rest for index, call, rest in calls if rest}:
        fields["tool_call_fields"] = call_fields
    usage, usage_rest = usage_of(data.get("usage"))
    if usage_rest:
        fields["usage"] = usage_rest
    if len(choices) > 1:
        fields["choices"] = choices[1:]
    fields |= native_reason(choice.get("finish_reason"), fields)
    fields |= {name: [sealed(block) for block in fields[name]] for name in SIGNED if fields.get(name)}
    text, reasoning = texts_of(message, fields)
    return Response(
        text=text,
        reasoning=reasoning,
        tool_calls=[call for _, call, _ in calls],
        finish_reason=reason_of(choice.get("finish_reason"), fields.get("native_finish_reason"), bool(calls)),
        usage=usage,
        id=data.get("id"),
        model=data.get("model"),
        created=data.get("created"),
        provider_fields=fields,
    )


def texts_of(message: dict[str, Any], fields: dict[str, Any]) -> tuple[str, str]:
    """Text and reasoning of a message or a delta; what is neither goes into `fields`."""
    text, reasoning = message.get("content"), message.get("reasoning_content") or message.get("reasoning")
    if isinstance(text, list):  # Mistral's reasoning models
        text, thought, rest = _texts_in(text)
        reasoning = reasoning or thought
        if rest:
            fields["content"] = rest
    elif text is not None and not isinstance(text, str):
        fields["content"] = text  # a shape this vocabulary has no word for
    if reasoning is not None and not isinstance(reasoning, str):
        fields["reasoning"] = reasoning
    return text if isinstance(text, str) else "", reasoning if isinstance(reasoning, str) else ""


def _texts_in(content: list[Any]) -> tuple[str, str, list[Any]]:
    """The text and the reasoning in a list of content parts, and the other parts."""
    text, thought, rest = "", "", []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        said = part.get(kind) if kind in ("text", "thinking") else None
        if kind == "thinking" and isinstance(said, list):
            said, _, more = _texts_in(said)
            rest += more
        if not isinstance(said, str):
            rest.append(part)
        elif kind == "text":
            text += said
        else:
            thought += said
    return text, thought, rest


def _calls(message: dict[str, Any]) -> list[tuple[int, ToolCall, dict[str, Any]]]:
    found = list(message.get("tool_calls") or ())
    if message.get("function_call"):  # the older form of the API
        found.append({"id": "", "function": message["function_call"]})
    calls = []
    for index, call in enumerate(found):
        id, name, arguments, rest = call_of(call)
        calls.append((index, ToolCall(id or "", name or "", arguments), rest))
    return calls


def call_of(call: dict[str, Any]) -> tuple[str | None, str | None, str, dict[str, Any]]:
    function = call.get("function") or call.get("custom") or {}
    rest = rest_of(call, _CALL)
    if rest.get("type") == "function":
        del rest["type"]
    arguments = function.get("arguments") or function.get("input") or ""
    if not isinstance(arguments, str):  # some servers send the object, and not its text
        arguments = json.dumps(arguments, ensure_ascii=False)
    id, name = call.get("id"), function.get("name")
    return str(id) if id else None, str(name) if name else None, arguments, rest


def rest_of(data: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    rest = {name: _without_nulls(value) for name, value in data.items() if name not in known and value is not None}
    nested = rest.pop("provider_specific_fields", None)  # where litellm puts what it has no field for
    for name, value in nested.items() if isinstance(nested, Mapping) else ():
        if value is not None and name not in known:
            rest.setdefault(name, value)
    return rest


def _without_nulls(value: Any) -> Any:
    """Null in an object is the same as nothing: litellm drops it, so both drivers do, at any depth."""
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def native_reason(given: str | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The provider's own word for the end of an answer as a provider field, where OpenAI has no such word."""
    unusual = given is not None and given not in _OPENAI_REASONS and fields.get("native_finish_reason") is None
    return {"native_finish_reason": given} if unusual else {}


def reason_of(given: str | None, native: str | None, has_calls: bool) -> FinishReason:
    """Why an answer ended. litellm calls what it does not know "stop" and keeps the provider's word as `native`."""
    if given is None:
        return "error"
    known = _REASONS.get((native or given).lower())
    mapped = _REASONS.get(given.lower())
    reason = known or (mapped if mapped and mapped != "stop" else "other")
    # some providers, and litellm in one of its two modes, say "stop" after tool calls
    return "tool_calls" if reason == "stop" and has_calls else reason


def usage_of(data: Any) -> tuple[Usage, dict[str, Any]]:
    """Token counts, and what the provider counted beyond them. litellm writes 0 where a provider said nothing."""
    if not data:
        return Usage(), {}
    data = data if type(data) is dict else plain(data)
    asked, said = _object(data.get("prompt_tokens_details")), _object(data.get("completion_tokens_details"))
    rest = {
        name: value for name, value in data.items() if name not in _USAGE and value and not name.endswith("_details")
    }
    for name, details in (("prompt_tokens_details", asked), ("completion_tokens_details", said)):
        if more := {key: value for key, value in details.items() if value and key not in _USAGE}:
            rest[name] = more
    if not data.get("prompt_tokens") and not data.get("completion_tokens"):
        return Usage(), rest
    return Usage(
        input_tokens=_first(data.get("prompt_tokens")),
        output_tokens=_first(data.get("completion_tokens")),
        cache_read_tokens=_first(
            asked.get("cached_tokens"), data.get("cache_read_input_tokens"), data.get("prompt_cache_hit_tokens")
        ),
        cache_write_tokens=_first(
            data.get("cache_creation_input_tokens"), asked.get("cache_creation_tokens"), asked.get("cache_write_tokens")
        ),
        reasoning_tokens=_first(said.get("reasoning_tokens")),
    ), rest


def _object(value: Any) -> dict[str, Any]:
    return value if type(value) is dict else plain(value or {})


def _first(*values: Any) -> int | None:
    """The first that is a count."""
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)

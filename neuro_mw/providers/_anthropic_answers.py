"""Answers of Anthropic's Messages API in the words of `neuro_mw.types`.

An answer is a list of blocks. Text, reasoning and tool calls go where the vocabulary has them, all other blocks into
``provider_fields``, under litellm's names where it has some. Where the blocks do not come as reasoning, text, calls,
``provider_fields["content_order"]`` says how they came: the name of the field of each block, and for a text its length
and digest. It holds no text, so that what a middleware redacts is redacted. `_anthropic_events` reads streams,
`_anthropic_history` makes blocks of an answer again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from neuro_mw.types import FinishReason, Response, ToolCall, Usage

from ._thinking import digest, sealed

Renamed = Mapping[str, str | None]
"""The names that tools were sent by -> the caller's; None for the tool whose input is a JSON answer."""

NOT_RENAMED: Renamed = MappingProxyType({})
TOOL_USE = frozenset({"type", "id", "name", "input"})
TOP = frozenset({"id", "type", "role", "model", "content", "stop_reason", "usage"})
_COUNTS = frozenset({"input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"})
_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
_OWN_WORDS = frozenset({"end_turn", "tool_use", "max_tokens"})  # our word for them says all
_PLAIN_ORDER = ("thinking_blocks", "text", "tool_calls")
_FIELDS = {
    "thinking": "thinking_blocks",
    "redacted_thinking": "thinking_blocks",
    "tool_use": "tool_calls",
    "server_tool_use": "server_tool_use",
    "web_search_tool_result": "web_search_results",
    "web_fetch_tool_result": "web_search_results",
    "compaction": "compaction_blocks",
}


def response_of(message: Mapping[str, Any], renamed: Renamed = NOT_RENAMED) -> Response:
    """A whole answer. `renamed` is what `body_of` gave with the request.

    >>> response_of({"content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"}).text
    'hi'
    """
    blocks = [plain_block(block, renamed) for block in message.get("content") or ()]
    calls = [
        ToolCall(block.get("id") or "", name_of(block, renamed), arguments_of(block))
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    usage, usage_rest = usage_of(message.get("usage"))
    reason, fields = message.get("stop_reason"), fields_of(message, blocks)
    return Response(
        text="".join(block.get("text") or "" for block in blocks if block.get("type") == "text"),
        reasoning="".join(block.get("thinking") or "" for block in blocks if block.get("type") == "thinking"),
        tool_calls=calls,
        finish_reason=reason_of(reason, bool(calls)),
        usage=usage,
        id=message.get("id"),
        model=message.get("model"),
        provider_fields={**fields, **end_fields(reason, usage_rest)},
    )


def plain_block(block: dict[str, Any], renamed: Renamed) -> dict[str, Any]:
    """The block; the forced call that stands for a JSON answer (see `_anthropic_requests`) as the text it is."""
    if block.get("type") == "tool_use" and renamed and renamed.get(block.get("name", ""), "") is None:
        return {"type": "text", "text": arguments_of(block)}
    return block


def name_of(block: Mapping[str, Any], renamed: Renamed) -> str:
    """The caller's name of the tool that a block calls."""
    name = block.get("name") or ""
    return renamed.get(name, name) or name


def arguments_of(block: Mapping[str, Any]) -> str:
    """The input of a call as JSON text; letters stay letters, for those who look for words in it."""
    return json.dumps(block.get("input") or {}, ensure_ascii=False)


def fields_of(message: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the vocabulary has no field for."""
    fields = {name: value for name, value in message.items() if name not in TOP and value is not None}
    order: list[Any] = []
    calls = 0
    for block in blocks:
        kind = block.get("type") or ""
        name = "text" if kind == "text" else _FIELDS.get(kind)
        if name is None:
            name = "tool_results" if kind.endswith("_tool_result") else "other_blocks"
        if name == "text":
            order.append(_text_mark(block))
            if block.get("citations"):
                fields.setdefault("citations", []).append(block["citations"])
            continue
        order.append(name)
        if kind == "thinking" and block.get("thinking") is None:
            block = {**block, "thinking": ""}
        if name != "tool_calls":
            fields.setdefault(name, []).append(sealed(block))
            continue
        if rest := {key: value for key, value in block.items() if key not in TOOL_USE and value is not None}:
            fields.setdefault("tool_call_fields", {})[block.get("id") or str(calls)] = rest
        calls += 1
    if not _is_plain(order):
        fields["content_order"] = order
    return fields


def end_fields(reason: str | None, usage_rest: dict[str, Any]) -> dict[str, Any]:
    """The fields that go with usage and finish reason."""
    fields: dict[str, Any] = {"usage": usage_rest} if usage_rest else {}
    if reason is not None and reason not in _OWN_WORDS:
        fields["native_finish_reason"] = reason
    return fields


def reason_of(given: str | None, has_calls: bool) -> FinishReason:
    """Why an answer ended; "error" where the provider does not say, "other" where it wants to go on (pause_turn)."""
    if given is None:
        return "error"
    reason = _REASONS.get(given, "other")
    if reason == "tool_calls" and not has_calls:  # the forced call that stands for a JSON answer
        return "stop"
    return reason


def usage_of(data: Mapping[str, Any] | None) -> tuple[Usage, dict[str, Any]]:
    """Token counts, and what the provider counted beyond them.

    The API counts input without what its cache read and wrote; here, as in OpenAI's convention, input is all of it.
    Where it compacted the context on the way, its totals are of the last round only, and the rounds are summed.

    >>> usage_of({"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 4})[0].input_tokens
    14
    """
    if not data:
        return Usage(), {}
    given = data.get("iterations")
    rounds = given if given and isinstance(given, list) and all(isinstance(one, Mapping) for one in given) else [data]
    details = [_details(one) for one in rounds]

    def total(*names: str) -> int | None:
        found = [one[name] for one in rounds for name in names if _is_count(one.get(name))]
        return sum(found) if found else None

    rest = {name: value for name, value in data.items() if value is not None}
    if rounds[0] is data:  # else the totals say something else than the sums
        rest = {name: value for name, value in rest.items() if not (name in _COUNTS and _is_count(value))}
        if isinstance(rest.get("output_tokens_details"), Mapping):
            more = {name: value for name, value in rest.pop("output_tokens_details").items() if value is not None}
            if _is_count(more.get("thinking_tokens")):
                del more["thinking_tokens"]
            rest.update({"output_tokens_details": more} if more else {})
    thought = [one["thinking_tokens"] for one in details if _is_count(one.get("thinking_tokens"))]
    return Usage(
        input_tokens=total("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
        output_tokens=total("output_tokens"),
        cache_read_tokens=total("cache_read_input_tokens"),
        cache_write_tokens=total("cache_creation_input_tokens"),
        reasoning_tokens=sum(thought) if len(thought) == len(rounds) else None,
    ), rest


def _details(one: Mapping[str, Any]) -> Mapping[str, Any]:
    found = one.get("output_tokens_details")
    return found if isinstance(found, Mapping) else {}


def _is_count(value: Any) -> bool:
    """Whether the API, or a gateway, counted something; text, lists and truth values are no counts."""
    return isinstance(value, int) and not isinstance(value, bool)


def _text_mark(block: Mapping[str, Any]) -> dict[str, Any]:
    text = block.get("text") or ""
    mark: dict[str, Any] = {"length": len(text), "digest": digest(text)}
    if block.get("citations"):
        mark["cited"] = True
    known = ("type", "text", "citations")
    if rest := {name: value for name, value in block.items() if name not in known and value is not None}:
        mark["fields"] = rest
    return mark


def _is_plain(order: list[Any]) -> bool:
    names = [mark if isinstance(mark, str) else "text" for mark in order]
    marked = any("cited" in mark or "fields" in mark for mark in order if not isinstance(mark, str))
    if marked or any(name not in _PLAIN_ORDER for name in names):
        return False
    return names == sorted(names, key=_PLAIN_ORDER.index)

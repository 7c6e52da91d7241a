"""Answers of Anthropic's Messages API in the words of `neuro_mw.types`, and back into blocks when they are sent again.

An answer is a list of blocks. Text, reasoning and tool calls go where the vocabulary has them, all other blocks into
``provider_fields``, under litellm's names where it has some. Where the blocks do not come as reasoning, text, calls,
``provider_fields["content_order"]`` says how they came: the name of the field of each block, and for a text its length
and digest. It holds no text, so that what a middleware redacts is redacted. Events of a stream: `_anthropic_events`.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from neuro_mw.types import FinishReason, Response, ToolCall, Usage

from ._thinking import digest, opened, sealed

Blocks = list[dict[str, Any]]
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
LONGEST_NAME = 128
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_REASONING = ("thinking", "redacted_thinking")
_CALL = frozenset({"id", "type", "function", "custom", "index", "provider_specific_fields"})
_RESULTS = ("web_search_results", "tool_results")
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


class Untranslatable(ValueError):  # noqa: N818  # what it is, not that it is one: it never leaves this package
    """What a message holds has no form in this API; says where and what to do, and none of its text."""


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
        if name != "tool_calls":
            fields.setdefault(name, []).append(sealed(block))
            continue
        if rest := {key: value for key, value in block.items() if key not in TOOL_USE and value is not None}:
            fields.setdefault("tool_call_fields", {})[str(calls)] = rest
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
    rounds = data.get("iterations") or [data]
    thought: list[Any] = [(one.get("output_tokens_details") or {}).get("thinking_tokens") for one in rounds]

    def total(*names: str) -> int | None:
        found = [one[name] for one in rounds for name in names if one.get(name) is not None]
        return sum(found) if found else None

    rest = {name: value for name, value in data.items() if value is not None}
    if "iterations" not in rest:  # else the totals say something else than the sums
        details = rest.pop("output_tokens_details", {})
        rest = {name: value for name, value in rest.items() if name not in _COUNTS}
        if more := {name: value for name, value in details.items() if name != "thinking_tokens" and value is not None}:
            rest["output_tokens_details"] = more
    return Usage(
        input_tokens=total("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
        output_tokens=total("output_tokens"),
        cache_read_tokens=total("cache_read_input_tokens"),
        cache_write_tokens=total("cache_creation_input_tokens"),
        reasoning_tokens=None if None in thought else sum(thought),
    ), rest


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


# --- and back, in the next request -------------------------------------------------------------------------------


def blocks_of(message: Mapping[str, Any], texts: Blocks, names: Mapping[str, str]) -> Blocks:
    """An assistant message as the blocks it came in; `texts` is its content, `names` maps names of tools to those sent.

    Signed reasoning is in ``thinking_blocks``, its text in ``reasoning_content`` or ``reasoning``; all that
    ``provider_fields`` held may be in a dict of that name, or of litellm's, ``provider_specific_fields``.
    Raises Untranslatable where the arguments of a call are no JSON.

    >>> blocks_of({"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}]}, [], {})
    [{'type': 'tool_use', 'id': 'c', 'name': 'f', 'input': {}}]
    """
    fields = {**(message.get("provider_specific_fields") or {}), **(message.get("provider_fields") or {})}
    content = message.get("content")
    inline = any(block.get("type") in _REASONING for block in texts)
    signed = [] if inline else _signed(message, fields)
    calls = list(_calls(message, fields, names))
    if isinstance(fields.get("content_order"), list) and not isinstance(content, list):
        return _in_order(fields, content or "", signed, calls)
    return [*(fields.get("compaction_blocks") or ()), *filter(None, signed), *texts, *calls]


def sendable(name: str) -> str:
    """A name or an id in the letters that the API takes."""
    return _NOT_IN_NAMES.sub("_", name)[:LONGEST_NAME]


def _signed(message: Mapping[str, Any], fields: Mapping[str, Any]) -> Blocks:
    reasoning = message.get("reasoning_content")
    reasoning = message.get("reasoning") if reasoning is None else reasoning
    blocks = opened(message.get("thinking_blocks") or fields.get("thinking_blocks") or (), reasoning)
    # what another provider thought is unsigned, and refused; its place stays, for the order of the others
    return [block if block.get("type") == "redacted_thinking" or block.get("signature") else {} for block in blocks]


def _calls(message: Mapping[str, Any], fields: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    calls = list(message.get("tool_calls") or ())
    if message.get("function_call"):  # the older form of the API
        function = message["function_call"]
        calls.append({"id": f"call_{function.get('name')}", "function": function})
    extras = fields.get("tool_call_fields") or {}
    results = {}
    if "content_order" not in fields:  # litellm's convention: what the server called and answered is among the calls
        results = {one.get("tool_use_id"): one for name in _RESULTS for one in fields.get(name) or ()}
    for number, call in enumerate(calls):
        function = call.get("function") or {}
        id, name = call.get("id") or "", function.get("name") or ""
        block = {"name": names.get(name, name), "input": _input(function.get("arguments"), number)}
        if id in results:
            yield {"type": "server_tool_use", "id": id, **block}
            yield results[id]
            continue
        rest = {key: value for key, value in call.items() if key not in _CALL and value is not None}
        more = {**(extras.get(str(number)) or {}), **rest}
        yield {"type": "tool_use", "id": sendable(id), **block, **more}


def _input(arguments: Any, number: int) -> Any:
    if not isinstance(arguments, str):
        return arguments or {}
    try:
        return json.loads(arguments) if arguments.strip() else {}
    except ValueError:
        where = f"the arguments of tool_calls[{number}]"
        raise Untranslatable(f"{where} are not valid JSON; repair them, or leave out call and result") from None


def _in_order(fields: Mapping[str, Any], text: str, signed: Blocks, calls: Blocks) -> Blocks:
    """The blocks of an answer as they came. A text that was changed since stands whole where the last one stood."""
    order = fields["content_order"]
    rest = {"thinking_blocks": deque(signed), "tool_calls": deque(calls)}
    marks = [mark for mark in order if not isinstance(mark, str)]
    changed: Blocks = [{}] * (len(marks) - 1) + [{"type": "text", "text": text}]
    texts = deque(_cut(text, marks, fields.get("citations") or ()) or changed)
    blocks: Blocks = []
    for name in order:
        queue = rest.setdefault(name, deque(fields.get(name) or ())) if isinstance(name, str) else texts
        blocks += [queue.popleft()] if queue else []
    return [block for block in [*blocks, *texts, *rest["tool_calls"]] if block]


def _cut(text: str, marks: Iterable[Mapping[str, Any]], citations: Iterable[Any]) -> Blocks:
    """The texts of an answer with what belongs to each; nothing where they are no longer those of the marks."""
    found: Blocks = []
    at, cited = 0, iter(citations)
    for mark in marks:
        piece = text[at : at + mark["length"]]
        at += len(piece)
        if digest(piece) != mark["digest"]:
            return []
        found.append({"type": "text", "text": piece, **(mark.get("fields") or {})})
        if mark.get("cited"):
            found[-1]["citations"] = next(cited, [])
    return found if at == len(text) else []

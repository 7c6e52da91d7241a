"""Earlier answers as the blocks that Anthropic's API gave: what `_anthropic_answers` took apart, put together again."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ._anthropic_shapes import Blocks, Untranslatable, dict_in, dicts_in, text_in
from ._anthropic_tools import sendable
from ._thinking import digest, opened

_REASONING = ("thinking", "redacted_thinking")
_CALL = frozenset({"id", "type", "function", "custom", "index", "provider_specific_fields"})
_RESULTS = ("web_search_results", "tool_results")
_BLOCKS = (*_RESULTS, "compaction_blocks", "server_tool_use", "other_blocks")
_AS_IT_CAME = "send back what Response.to_message() gave, or leave it out"


def blocks_of(message: Mapping[str, Any], texts: Blocks, names: Mapping[str, str]) -> Blocks:
    """An assistant message as the blocks it came in; `texts` is its content, `names` maps names of tools to those sent.

    Signed reasoning is in ``thinking_blocks``, its text in ``reasoning_content`` or ``reasoning``; all that
    ``provider_fields`` held may be in a dict of that name, or of litellm's, ``provider_specific_fields``.
    Raises Untranslatable where the arguments of a call are no JSON, and where something is not of its shape.

    >>> blocks_of({"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}]}, [], {})
    [{'type': 'tool_use', 'id': 'c', 'name': 'f', 'input': {}}]
    """
    fields = _fields(message)
    content = message.get("content")
    inline = any(block.get("type") in _REASONING for block in texts)
    signed = [] if inline else _signed(message, fields)
    calls = list(_calls(message, fields, names))
    if isinstance(fields.get("content_order"), list) and not isinstance(content, list):
        return _in_order(fields, content or "", signed, calls)
    return [*map(dict, fields.get("compaction_blocks") or ()), *filter(None, signed), *texts, *calls]


def _fields(message: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("provider_specific_fields", "provider_fields"):
        found |= dict_in(message.get(name) or {}, f"'{name}'")
    for name in _BLOCKS:
        if found.get(name) is not None:
            found[name] = dicts_in(found[name], name)
    return found


def _signed(message: Mapping[str, Any], fields: Mapping[str, Any]) -> Blocks:
    reasoning = message.get("reasoning_content")
    reasoning = message.get("reasoning") if reasoning is None else reasoning
    if reasoning is not None:
        text_in(reasoning, "'reasoning_content'")
    kept = dicts_in(message.get("thinking_blocks") or fields.get("thinking_blocks") or (), "thinking_blocks")
    given = [
        {name: value for name, value in block.items() if name != "index"} for block in kept
    ]  # litellm 1.109 adds it
    for number, block in enumerate(given):
        if "digest" in block and not isinstance(block.get("length"), int) and "thinking" not in block:
            raise Untranslatable(f"thinking_blocks[{number}] has a digest and no length; {_AS_IT_CAME}")
    blocks = opened(given, reasoning)
    # what another provider thought is unsigned, and refused; its place stays, for the order of the others
    return [block if block.get("type") == "redacted_thinking" or block.get("signature") else {} for block in blocks]


def _calls(message: Mapping[str, Any], fields: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    calls = dicts_in(message.get("tool_calls") or (), "tool_calls")
    if message.get("function_call"):  # the older form of the API
        function = dict_in(message["function_call"], "'function_call'")
        calls.append({"id": f"call_{function.get('name')}", "function": function})
    more_of = _further_fields(fields, [call.get("id") for call in calls])
    results = {}
    if "content_order" not in fields:  # litellm's convention: what the server called and answered is among the calls
        results = {one.get("tool_use_id"): one for name in _RESULTS for one in fields.get(name) or ()}
    for number, call in enumerate(calls):
        where = f"tool_calls[{number}]"
        function = dict_in(call.get("function") or {}, f"the function of {where}")
        id, name = text_in(call.get("id"), f"the id of {where}"), text_in(function.get("name"), f"the name of {where}")
        block = {"name": names.get(name, name), "input": _input(function.get("arguments"), number)}
        if id in results:
            yield {"type": "server_tool_use", "id": id, **block}
            yield dict(results[id])
            continue
        rest = {key: value for key, value in call.items() if key not in _CALL and value is not None}
        yield {"type": "tool_use", "id": sendable(id), **block, **more_of[number], **rest}


def _further_fields(fields: Mapping[str, Any], ids: list[Any]) -> list[Mapping[str, Any]]:
    """What ``tool_call_fields`` holds for each call: by its id, else by its index, where that is no id."""
    found = dict_in(fields.get("tool_call_fields") or {}, "'tool_call_fields'")
    by_index = {str(number) for number in range(len(ids))}.difference(map(str, ids))
    further = []
    for number, id in enumerate(ids):
        index = str(number)
        more = found.get(id) if id else None
        if more is None and index in by_index:
            more = found.get(index)
        further.append(dict_in(more or {}, f"tool_call_fields of call {number}"))
    return further


def _input(arguments: Any, number: int) -> Any:
    where = f"the arguments of tool_calls[{number}]"
    if not isinstance(arguments, str):
        return dict_in(arguments or {}, where, "JSON text or a dict")
    try:
        return json.loads(arguments) if arguments.strip() else {}
    except ValueError:
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


def _cut(text: str, marks: Iterable[Any], citations: Iterable[Any]) -> Blocks:
    """The texts of an answer with what belongs to each; nothing where they are no longer those of the marks."""
    found: Blocks = []
    at, cited = 0, iter(citations)
    for mark in marks:
        if not isinstance(mark, Mapping) or not isinstance(mark.get("length"), int) or "digest" not in mark:
            raise Untranslatable(f"content_order names a text without length and digest; {_AS_IT_CAME}")
        piece = text[at : at + mark["length"]]
        at += len(piece)
        if digest(piece) != mark["digest"]:
            return []
        found.append({"type": "text", "text": piece, **(mark.get("fields") or {})})
        if mark.get("cited"):
            found[-1]["citations"] = next(cited, [])
    return found if at == len(text) else []

"""A request's messages under the filters of their channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from .filters import Filter
from .json_filter import JSONRun

Counts = Mapping[str, "Counter[str]"]


def filtered(messages: list[Any], filters: Mapping[str, Filter], counts: Counts) -> list[Any]:
    """The messages after all rules; those that did not change are the same objects. Raises Blocked.

    What a message becomes depends on the message alone, so that the same beginning of a conversation stays the same.
    """
    newest = _newest(messages)
    return [
        _message(one, _channel(one, at >= newest), filters, counts) if isinstance(one, dict) else one
        for at, one in enumerate(messages)
    ]


def _newest(messages: list[Any]) -> int:
    """Where the turn begins that has not been answered yet."""
    answered = [at for at, one in enumerate(messages) if isinstance(one, dict) and one.get("role") == "assistant"]
    return answered[-1] + 1 if answered else 0


def _channel(message: dict[str, Any], is_new: bool) -> str:
    role = message.get("role")
    if role in ("system", "developer"):
        return "system"
    if role in ("tool", "function"):
        return "tool_results"
    return "input" if is_new and role != "assistant" else "history"


def _message(message: dict[str, Any], channel: str, filters: Mapping[str, Filter], counts: Counts) -> dict[str, Any]:
    plan = filters.get(channel)
    if plan is None:
        return message
    changed: dict[str, Any] = {}
    content = _content(message.get("content"), plan, counts[channel])
    if content is not message.get("content"):
        changed["content"] = content
    for key in ("reasoning_content", "reasoning", "refusal"):
        if isinstance(message.get(key), str):
            text = plan.whole(message[key], counts[channel])
            if text != message[key]:
                changed[key] = text
    if calls := message.get("tool_calls"):
        written = [_call(call, plan, counts[channel]) for call in calls]
        if any(new is not old for new, old in zip(written, calls, strict=True)):
            changed["tool_calls"] = written
    return {**message, **changed} if changed else message


def _content(content: Any, plan: Filter, counts: Counter[str]) -> Any:
    if isinstance(content, str):
        text = plan.whole(content, counts)
        return content if text == content else text
    if not isinstance(content, list):
        return content
    parts = [_part(part, plan, counts) for part in content]
    return parts if any(new is not old for new, old in zip(parts, content, strict=True)) else content


def _part(part: Any, plan: Filter, counts: Counter[str]) -> Any:
    if isinstance(part, str):
        return _content(part, plan, counts)
    if not isinstance(part, dict):
        return part
    changed = {
        key: new
        for key in ("text", "content", "refusal")
        if isinstance(part.get(key), str | list) and (new := _content(part[key], plan, counts)) is not part[key]
    }
    return {**part, **changed} if changed else part


def _call(call: Any, plan: Filter, counts: Counter[str]) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(arguments, str):
        return call
    run = JSONRun(plan, counts)
    text = "".join([piece.text for piece in (*run.feed(arguments), *run.finish())])
    return call if text == arguments else {**call, "function": {**function, "arguments": text}}

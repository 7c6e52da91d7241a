"""The turns of a conversation, and which of them may go."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

_SYSTEM = ("system", "developer")


def older_turns(messages: Any, keep_last: int, *, keep_system: bool) -> list[list[int]]:
    """The turns before the last `keep_last` messages of users, the oldest first; of each the places of its messages.

    With `keep_system` no place of a system message is among them. What comes before the first turn is one, too.

    >>> messages = [{"role": "system"}, {"role": "user"}, {"role": "assistant"}, {"role": "user"}]
    >>> older_turns(messages, 1, keep_system=True)
    [[1, 2]]
    """
    if not isinstance(messages, list):
        return []
    starts = turn_starts(messages)
    asked = [at for at, message in enumerate(messages) if _is_asked(message)]
    end = asked[-min(keep_last, len(asked))] if asked else 0
    older = []
    for start, after in pairwise(starts):
        turn = [at for at in range(start, after) if not (keep_system and _role(messages[at]) in _SYSTEM)]
        if after <= end and turn:
            older.append(turn)
    return older


def turn_starts(messages: list[Any]) -> list[int]:
    """Where turns begin: at each message of a user, but not between a tool call and its result.

    >>> turn_starts([{"role": "user"}, {"role": "assistant"}, {"role": "user"}])
    [0, 2]
    """
    called: dict[str, int] = {}
    within = [0] * (len(messages) + 1)  # where such a stretch begins (+1) and ends (-1)
    for at, message in enumerate(messages):
        called.update((id, at) for id in _call_ids(message))
        for id in _result_ids(message):
            if id in called:
                within[called[id] + 1] += 1
                within[at + 1] -= 1
    starts, depth = [], 0
    for at, message in enumerate(messages):
        depth += within[at]
        if at == 0 or (not depth and _is_asked(message)):
            starts.append(at)
    return starts


def _call_ids(message: Any) -> list[str]:
    """The ids of the tool calls of a message, in OpenAI's form and in Anthropic's."""
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    calls = calls if isinstance(calls, list | tuple) else ()
    found = [call.get("id") for call in calls if isinstance(call, dict)]
    return _texts([*found, *(part.get("id") for part in _parts(message, "tool_use"))])


def _result_ids(message: Any) -> list[str]:
    """The ids of the tool calls that a message has results of."""
    found = message.get("tool_call_id") if isinstance(message, dict) else None
    return _texts([found, *(part.get("tool_use_id") for part in _parts(message, "tool_result"))])


def _texts(values: list[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def _parts(message: Any, kind: str) -> list[dict[str, Any]]:
    content = message.get("content") if isinstance(message, dict) else None
    parts = content if isinstance(content, list | tuple) else ()
    return [part for part in parts if isinstance(part, dict) and str(part.get("type")).endswith(kind)]


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _is_asked(message: Any) -> bool:
    """Whether a user says something, rather than a tool in the user's name."""
    return _role(message) == "user" and not _parts(message, "tool_result")

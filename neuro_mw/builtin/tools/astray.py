"""Calls where nobody would judge them: among the provider's own fields, or in parts of a type that is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuro_mw import ToolCallDelta

OF_CALLS = "tool_call_fields"  # by the id of a call, or by its number where it has none: these are no calls
_CALLS = ("tool_calls", "function_call")
_TYPES = ("tool_use", "function_call", "custom_tool_call", "tool_call")
_DEEPEST = 8
_MOST = 1000  # objects and lists in one field that are looked at, the outer ones first


def calls_astray(fields: Mapping[str, Any]) -> list[str]:
    """The fields of a provider in which there are calls that no one judges: those of a further choice, and the like.

    >>> calls_astray({"usage": {}, "choices": [{"message": {"tool_calls": [{"id": "c1"}]}}]})
    ['choices']
    """
    return [name for name, value in fields.items() if name != OF_CALLS and _has_calls(name, value)]


def is_astray(part: Any) -> bool:
    """Whether a part says that it is of a call, and is of no type that anybody could judge."""
    return getattr(part, "type", None) == ToolCallDelta.type and not isinstance(part, ToolCallDelta)


def _has_calls(name: str, value: Any) -> bool:
    """Whether a field is made of calls, or has an object somewhere in it that has some, or is one."""
    if name in _CALLS:
        return bool(value)
    level, seen = [value], 0
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, Mapping):
                if one.get("type") in _TYPES or any(one.get(name) for name in _CALLS):
                    return True
                inner += one.values()
            elif isinstance(one, list | tuple):
                inner += one
        level = [one for one in inner if isinstance(one, dict | list | tuple | Mapping)][: _MOST - seen]
        seen += len(level)
        if not level:
            break
    return False

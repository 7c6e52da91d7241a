"""The tool calls of an answer as they come: held whole, until someone says which of them leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from neuro_mw import Part, ProviderDelta, ToolCall, ToolCallDelta

_OF_CALLS = "tool_call_fields"  # by the id of a call, or by its number where it has none
_CALLS = ("tool_calls", "function_call")
_ELSEWHERE = (*_CALLS, "choices")


class HeldCalls:
    """Takes in the deltas of calls, in any order, and what the provider says of these calls in its own fields.

    ``astray``: there were calls among the provider's fields, as those of a further choice are. They never leave.
    """

    __slots__ = ("_calls", "_clashes", "_fields", "astray")

    def __init__(self) -> None:
        self._calls: dict[int, tuple[ToolCall, list[str]]] = {}  # by index, with the pieces of the arguments
        self._clashes: set[int] = set()
        self._fields: list[Any] = []
        self.astray = False

    def __bool__(self) -> bool:
        return bool(self._calls or self._fields or self.astray)

    def add(self, part: ToolCallDelta) -> None:
        """Take in a delta of a call."""
        found = self._calls.get(part.index)
        if found is None:
            found = self._calls[part.index] = ToolCall(part.id or "", part.name or "", ""), []
        call, pieces = found
        if (part.id and call.id and part.id != call.id) or (part.name and call.name and part.name != call.name):
            self._clashes.add(part.index)
        call.id, call.name = call.id or part.id or "", call.name or part.name or ""
        if isinstance(part.arguments, str):
            pieces.append(part.arguments)
        elif part.arguments is not None:
            self._clashes.add(part.index)  # no one can say what becomes of it

    def rest_of(self, part: ProviderDelta) -> ProviderDelta | None:
        """What of the provider's fields may go on at once: all that is not about calls."""
        fields = part.fields
        if _OF_CALLS not in fields and not any(map(fields.__contains__, _ELSEWHERE)):
            return part
        if _OF_CALLS in fields:
            self._fields.append(fields[_OF_CALLS])
        astray = calls_astray(fields)
        self.astray = self.astray or bool(astray)
        rest = {name: value for name, value in fields.items() if name != _OF_CALLS and name not in astray}
        return ProviderDelta(rest) if rest else None

    def calls(self) -> list[ToolCall]:
        """The calls so far, in the order in which they are collected."""
        found = []
        for _, (call, pieces) in self._in_order() if len(self._calls) > 1 else self._calls.items():
            if len(pieces) != 1:
                pieces[:] = ["".join(pieces)]  # with "skip" this is asked for at each delta
            found.append(ToolCall(call.id, call.name, pieces[0]))
        return found

    @property
    def clashes(self) -> set[int]:
        """The places of calls in which two have become one: their deltas have several ids, or several names."""
        found = self._clashes  # nearly always there are none
        return {place for place, (index, _) in enumerate(self._in_order()) if index in found} if found else found

    def leaving(self, calls: list[ToolCall], places: Sequence[int]) -> list[Part]:
        """Of these calls those at some places, each in one part, numbered anew, and the fields that belong to them."""
        kept = calls if len(places) == len(calls) else [calls[place] for place in places]
        parts: list[Part] = [ToolCallDelta(at, call.id, call.name, call.arguments) for at, call in enumerate(kept)]
        fields = self._fields
        if len(kept) < len(calls):
            names: dict[str, str | None] = {call.id or str(place): None for place, call in enumerate(calls)}
            names |= {
                call.id or str(place): call.id or str(at)
                for at, (place, call) in enumerate(zip(places, kept, strict=True))
            }
            fields = [_renamed(one, names) for one in fields]
        return parts + [ProviderDelta({_OF_CALLS: one}) for one in fields if one] if fields else parts

    def _in_order(self) -> list[tuple[int, tuple[ToolCall, list[str]]]]:
        return sorted(self._calls.items(), key=itemgetter(0))


def calls_astray(fields: Mapping[str, Any]) -> list[str]:
    """The fields of a provider in which there are calls that no one judges: those of a further choice, and the like.

    >>> calls_astray({"usage": {}, "choices": [{"message": {"tool_calls": [{"id": "c1"}]}}]})
    ['choices']
    """
    return [name for name in _ELSEWHERE if _has_calls(name, fields.get(name))]


def _renamed(fields: Any, names: Mapping[str, str | None]) -> Any:
    if not isinstance(fields, Mapping):
        return {}
    named = ((names.get(name, name), value) for name, value in fields.items())
    return {name: value for name, value in named if name is not None}


def _has_calls(name: str, value: Any) -> bool:
    """Whether there are calls in a field of the provider's: itself, or a list of choices with messages or deltas."""
    if name in _CALLS:
        return bool(value)
    for choice in value if isinstance(value, list | tuple) else [value]:
        for said in (choice.get("message"), choice.get("delta"), choice) if isinstance(choice, Mapping) else ():
            if isinstance(said, Mapping) and any(said.get(one) for one in _CALLS):
                return True
    return False

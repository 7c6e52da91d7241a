"""The tool calls of an answer as they come: held whole, until someone says which of them leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from neuro_mw import Part, ProviderDelta, ToolCall, ToolCallDelta

from .astray import OF_CALLS, calls_astray, is_astray


class HeldCalls:
    """Takes in the deltas of calls, in any order, and what the provider says of these calls in its own fields.

    What is no text is no id and no name; arguments that are none stay as they are, for they break a rule. ``astray``:
    there were calls elsewhere, among the provider's fields, as those of a further choice are. They never leave.
    """

    __slots__ = ("_calls", "_clashes", "_fields", "_foreign", "astray", "came")

    def __init__(self) -> None:
        self._calls: dict[int, tuple[ToolCall, list[str]]] = {}  # by index, with the pieces of the arguments
        self._clashes: set[int] = set()
        self._foreign: dict[int, Any] = {}  # by index, arguments that are no text
        self._fields: list[Any] = []
        self.astray = False
        self.came: list[Part] = []  # all that is held, as it came

    def __bool__(self) -> bool:
        return bool(self._calls or self._fields or self.astray)

    def add(self, part: ToolCallDelta) -> None:
        """Take in a delta of a call."""
        self.came.append(part)
        id, name = text_of(part.id), text_of(part.name)
        found = self._calls.get(part.index)
        if found is None:
            found = self._calls[part.index] = ToolCall(id, name, ""), []
        call, pieces = found
        if (id and call.id and id != call.id) or (name and call.name and name != call.name):
            self._clashes.add(part.index)
        call.id, call.name = call.id or id, call.name or name
        if isinstance(part.arguments, str):
            pieces.append(part.arguments)
        elif part.arguments is not None:
            self._foreign.setdefault(part.index, part.arguments)

    def rest_of(self, part: ProviderDelta) -> ProviderDelta | None:
        """What of the provider's fields may go on at once: all that is not about calls."""
        fields = part.fields
        astray = calls_astray(fields)
        if OF_CALLS in fields:
            self._fields.append(fields[OF_CALLS])
            self.came.append(ProviderDelta({OF_CALLS: fields[OF_CALLS]}))
        elif not astray:
            return part
        self.astray = self.astray or bool(astray)
        rest = {name: value for name, value in fields.items() if name != OF_CALLS and name not in astray}
        return ProviderDelta(rest) if rest else None

    def goes_astray(self, part: Any) -> bool:
        """Whether a part of no known type says that it is of a call; it is noted."""
        found = is_astray(part)
        self.astray = self.astray or found
        return found

    def calls(self) -> list[ToolCall]:
        """The calls so far, in the order in which they are collected."""
        found = []
        for index, (call, pieces) in self._in_order() if len(self._calls) > 1 else self._calls.items():
            if len(pieces) != 1:
                pieces[:] = ["".join(pieces)]
            arguments = self._foreign.get(index, pieces[0]) if self._foreign else pieces[0]
            found.append(ToolCall(call.id, call.name, arguments))
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
        return parts + [ProviderDelta({OF_CALLS: one}) for one in fields if one] if fields else parts

    def _in_order(self) -> list[tuple[int, tuple[ToolCall, list[str]]]]:
        return sorted(self._calls.items(), key=itemgetter(0))


def text_of(value: Any) -> str:
    """An id or a name of a call; what is no text is none."""
    return value if isinstance(value, str) else ""


def as_held(call: ToolCall) -> ToolCall:
    """A call of a whole answer, as it were if it had come in a stream."""
    return ToolCall(text_of(call.id), text_of(call.name), "" if call.arguments is None else call.arguments)


def _renamed(fields: Any, names: Mapping[str, str | None]) -> Any:
    if not isinstance(fields, Mapping):
        return {}
    named = ((names.get(name, name), value) for name, value in fields.items())
    return {name: value for name, value in named if name is not None}

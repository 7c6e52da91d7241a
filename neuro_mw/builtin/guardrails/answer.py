"""An answer as it comes, under the filters of its channels: the step that the chain feeds."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from neuro_mw import Finish, Part, ProviderDelta, ReasoningDelta, TextDelta, ToolCallDelta

from .fields import FieldsFilter
from .filters import Filter, FilterRun, Leaving
from .json_filter import JSONRun

_PATIENCE = 64  # characters, and parts without any, that wait for one that holds


@dataclass(slots=True)
class _Slot:
    """One part that came: what of it is still held, and what of it may leave."""

    part: Part
    text: str = ""  # of it, as it came
    left: int = 0  # characters that are not decided yet
    pieces: list[str] = field(default_factory=list)  # what was decided, and has not left

    def as_it_came(self) -> Part:
        """What has not left of it."""
        held = self.text[len(self.text) - self.left :]
        return _with(self.part, "".join(self.pieces) + held) if self.text else self.part


class AnswerStep:
    """Feeds text, reasoning and the arguments of each tool call to their filters, and keeps the order of the parts.

    A part waits for those before it that are held. What is held may not be decided before the end (the last word of the
    reasoning, while the text comes): behind 64 characters of other channels, each channel goes on by itself.
    ``counts`` has a counter for each channel, one for arguments that are no JSON ("invalid_json"), and one for fields
    and metadata that may not leave ("left_out").
    """

    def __init__(self, filters: Mapping[str, Filter], counts: Mapping[str, Counter[str]]) -> None:
        self._filters, self._counts = filters, counts
        plan = filters.get("output")
        self._fields = FieldsFilter(plan, counts["output"], counts["left_out"]) if plan is not None else None
        self._runs: dict[Any, FilterRun | JSONRun] = {}
        self._open: dict[Any, deque[_Slot]] = {}
        self._queue: deque[tuple[Any, _Slot]] = deque()
        self._behind = 0  # characters of other channels that came while the same part was held in front
        self._apart: dict[Any, deque[_Slot]] = {}  # what is held, by channel, once they go on by themselves

    def feed(self, part: Part) -> list[Part]:
        """The parts that may leave. Raises Blocked."""
        if isinstance(part, TextDelta):
            return self._through("output", "output", part, part.text)
        if isinstance(part, ReasoningDelta):
            return self._through("reasoning", "reasoning", part, part.text)
        if isinstance(part, ToolCallDelta):
            plan = self._filters.get("tool_arguments")
            if plan is not None and part.name:  # a model may make up any name
                part = replace(part, name=plan.whole(part.name, self._counts["tool_arguments"]))
            return self._through(("tool_arguments", part.index), "tool_arguments", part, part.arguments)
        if isinstance(part, ProviderDelta) and self._fields is not None:
            part = ProviderDelta(self._fields.feed(part.fields))
        elif isinstance(part, Finish) and self._fields is not None:
            part = self._fields.end(part)
        return self._passing(part)

    def finish(self) -> list[Part]:
        """All that was held."""
        for key, run in self._runs.items():
            self._decide(key, run.finish())
            if isinstance(run, JSONRun) and run.invalid:
                self._counts["invalid_json"]["tool_arguments"] += 1
        if self._fields is not None and (rest := self._fields.finish()):
            self._queue.append((None, _Slot(ProviderDelta(rest))))
        return [*self._leaving(), *(part for key in list(self._apart) for part in self._by_itself(key))]

    def abort(self) -> None:
        """Drop what was held; what has left is counted."""
        for run in self._runs.values():
            run.watch()
        self._runs, self._open, self._apart = {}, {}, {}
        self._queue.clear()

    def held(self) -> list[Part]:
        """What is held, as it came."""
        waiting = [slot for _, slot in self._queue] + [slot for slots in self._apart.values() for slot in slots]
        return [slot.as_it_came() for slot in waiting]

    def _through(self, key: Any, channel: str, part: Part, text: str) -> list[Part]:
        plan = self._filters.get(channel)
        if plan is None:
            return self._passing(part)
        run = self._runs.get(key) or self._begin(key, channel, plan)
        slot = _Slot(part, text, len(text))
        if self._apart:
            self._apart.setdefault(key, deque()).append(slot)
        else:
            self._queue.append((key, slot))
            if self._queue[0][0] != key:
                self._behind += len(text) or 1
        if text:
            self._open[key].append(slot)
            self._decide(key, run.feed(text))
        return list(self._by_itself(key) if self._apart else self._leaving())

    def _begin(self, key: Any, channel: str, plan: Filter) -> FilterRun | JSONRun:
        kind = JSONRun if channel == "tool_arguments" else FilterRun
        run = self._runs[key] = kind(plan, self._counts[channel])
        self._open[key] = deque()
        return run

    def _passing(self, part: Part) -> list[Part]:
        """A part that no filter looks at: it waits for its turn."""
        if self._apart:
            return [part]
        self._queue.append((None, _Slot(part)))
        self._behind += 1
        return list(self._leaving())

    def _decide(self, key: Any, pieces: list[Leaving]) -> None:
        """Hand pieces to the parts that they come from; a replacement stands where its match begins."""
        slots = self._open[key]
        for piece, size, same in pieces:
            while size:
                slot = slots[0]
                taken = min(size, slot.left)
                if said := piece[:taken] if same else piece:
                    slot.pieces.append(said)
                piece, size = piece[taken:] if same else "", size - taken
                slot.left -= taken
                if not slot.left:
                    slots.popleft()

    def _leaving(self) -> Iterator[Part]:
        queue = self._queue
        while queue and not queue[0][1].left:
            yield from self._whole(*queue.popleft())
            self._behind = 0
        if not queue:
            return
        yield from self._begun(queue[0][1])
        if self._behind <= _PATIENCE:
            return
        for key, slot in queue:
            if key is None:
                yield slot.part
            else:
                self._apart.setdefault(key, deque()).append(slot)
        queue.clear()
        for key in list(self._apart):
            yield from self._by_itself(key)

    def _by_itself(self, key: Any) -> Iterator[Part]:
        """What may leave of one channel, whatever is held of the others."""
        slots = self._apart[key]
        while slots and not slots[0].left:
            yield from self._whole(key, slots.popleft())
        if slots:
            yield from self._begun(slots[0])
            return
        del self._apart[key]
        if not self._apart:
            self._behind = 0

    def _begun(self, slot: _Slot) -> Iterator[Part]:
        """What of a part that is held in part may leave."""
        if text := "".join(slot.pieces):
            slot.pieces.clear()
            yield _with(slot.part, text)
            slot.part = _rest(slot.part)

    def _whole(self, key: Any, slot: _Slot) -> Iterator[Part]:
        """A part of which nothing is held; nothing where nothing is left of it."""
        text = "".join(slot.pieces)
        begins = isinstance(slot.part, ToolCallDelta) and (slot.part.id or slot.part.name)
        if key is None:
            yield slot.part
        elif text or begins:
            yield _with(slot.part, text)


def _with(part: Any, text: str) -> Part:
    if isinstance(part, ToolCallDelta):
        return ToolCallDelta(part.index, part.id, part.name, text)
    return type(part)(text)  # type: ignore[no-any-return]  # a delta of text or reasoning


def _rest(part: Any) -> Part:
    return ToolCallDelta(part.index) if isinstance(part, ToolCallDelta) else part

"""Whether what leaves a layer is what came to it, however it was cut, and how much of it is held back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..types import Finish, Part, ReasoningDelta, TextDelta, ToolCallDelta

if TYPE_CHECKING:
    from .link import Inner


class _Channel:
    """Text that came and has not left. Joined lazily, so that a step which holds everything stays linear."""

    __slots__ = ("joined", "offset", "pending", "size")

    def __init__(self) -> None:
        self.joined, self.offset, self.size = "", 0, 0
        self.pending: list[str] = []

    def came(self, text: str) -> None:
        self.pending.append(text)
        self.size += len(text)

    def left(self, text: str) -> bool:
        """Whether this is what had to leave next."""
        if len(self.joined) - self.offset < len(text):
            self.joined = self.joined[self.offset :] + "".join(self.pending)
            self.offset, self.pending = 0, []
        if self.joined.startswith(text, self.offset):
            self.offset += len(text)
            self.size -= len(text)
            return True
        self.__init__()  # type: ignore[misc]  # from here on only what comes anew can be compared
        return False


class Difference:
    """Compares, channel by channel, what comes to a step with what leaves it."""

    __slots__ = ("changed", "channels", "held", "held_max", "others")

    def __init__(self) -> None:
        self.changed = False
        self.held = self.held_max = 0  # characters
        self.channels: dict[Any, _Channel] = {}
        self.others: list[Any] = []

    def note(self, came: Iterable[Part], left: Iterable[Part]) -> None:
        """Parts came, and then these left."""
        for part in came:
            for channel, text in _pieces(part):
                if channel is None:
                    self.others.append(part)
                elif text:
                    self._channel(channel).came(text)
                    self.held += len(text)
        for part in left:
            for channel, text in _pieces(part):
                if channel is None:
                    self._other_left(part)
                elif text:
                    of = self._channel(channel)
                    self.held -= of.size
                    if not of.left(text):
                        self.changed = True
                    self.held += of.size
        if self.held > self.held_max:
            self.held_max = self.held

    def _channel(self, name: Any) -> _Channel:
        channel = self.channels.get(name)
        if channel is None:
            channel = self.channels[name] = _Channel()
        return channel

    def _other_left(self, part: Any) -> None:
        for index, other in enumerate(self.others):
            if other is part or other == part:
                del self.others[index]
                return
        self.changed = True

    def at_end(self) -> bool:
        """Whether anything was changed, now that nothing more can leave."""
        return self.changed or bool(self.others) or self.held > 0


def _pieces(part: Part) -> tuple[tuple[Any, str], ...]:
    if isinstance(part, TextDelta):
        return (("text", part.text),)
    if isinstance(part, ReasoningDelta):
        return (("reasoning", part.text),)
    if isinstance(part, ToolCallDelta):
        who = f"{part.id or ''}{part.name or ''}"
        return ((part.index, "arguments"), part.arguments), ((part.index, "who"), who)
    return () if isinstance(part, Finish) else ((None, ""),)


def passed_on(inners: Sequence[Inner], part: Part | None, difference: Difference | None) -> Difference | None:
    """Note what a wrapping hook let go (None: its end) against what it had pulled; None as long as it is the same."""
    came = inners[-1].pulled if inners else []
    same = (part is None and not came) or (len(came) == 1 and came[0] is part)
    if difference is None and not same:
        difference = Difference()
    if difference is not None:
        difference.note(came, [] if part is None else [part])
    for inner in inners:
        inner.pulled.clear()
    return difference

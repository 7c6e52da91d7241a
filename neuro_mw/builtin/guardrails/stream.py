"""A text that comes in pieces, under a rule set: what is decided leaves at once, what may become a match is held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rules import Match
from .view import View

if TYPE_CHECKING:
    from .ruleset import Replace, RuleSet


class RuleStream:
    """One text, cut anywhere. What leaves, joined, is what `RuleSet.redact` makes of the whole.

    ``matches`` are those found so far; ``held`` is what may yet become one.
    """

    __slots__ = ("_at", "_base", "_buffer", "_line", "_replace", "_rules", "_skips", "matches")

    def __init__(self, rules: RuleSet, replace: Replace | str = "[REDACTED]") -> None:
        self._rules, self._replace = rules, replace
        self._buffer = ""  # what is held, behind the character before it: edges of words depend on that
        self._at = 0  # where in the buffer that begins
        self._line: list[str] = []  # what came since, where whole lines are waited for
        self._base = 0  # where in the text the buffer begins
        self._skips: dict[int, int] = {}  # where in the text a rule may match again, by its place in the set
        self.matches: list[Match] = []

    @property
    def held(self) -> str:
        """The text that has not left yet."""
        return self._buffer[self._at :] + "".join(self._line)

    def feed(self, text: str) -> str:
        """What leaves now that `text` has come."""
        return "".join([piece for piece, _ in self.pieces(text)])

    def finish(self) -> str:
        """What was held, now that nothing more comes."""
        return "".join([piece for piece, _ in self.pieces("", final=True)])

    def passed(self, char: str) -> None:
        """The last character of what has left unseen: edges depend on it. Nothing may be held."""
        self._buffer, self._at = char, len(char)

    def pieces(self, text: str, *, final: bool = False) -> list[tuple[str, Match | None]]:
        """What leaves: pieces of the text as they are, and replacements with the match they stand for."""
        rules, raw = self._rules, self._at
        if rules.by_line:
            self._line.append(text)
            if not final and "\n" not in text:
                return []
            text = "".join(self._line)
            self._line.clear()
        buffer = self._buffer = self._buffer + text
        view = View(buffer, rules.reading)
        at = view.after(raw)
        stop = len(view) if final else rules.hold(view, at)
        leaving: list[tuple[str, Match | None]] = []
        skips: dict[int, int] = {}
        if self._skips:
            skips = {order: view.after(place - self._base) for order, place in self._skips.items()}
        for begin, end, rule in rules.matches(view, at, stop, skips) if stop > at else ():
            first, last = max(raw, view.raw(begin)), view.end(end)
            if first > raw:
                leaving.append((buffer[raw:first], None))
            match = Match(self._base + first, self._base + last, rule)
            self.matches.append(match)
            replace = self._replace
            leaving.append((replace if isinstance(replace, str) else replace(match, buffer[first:last]), match))
            raw, at = last, end
        rest = max(raw, view.raw(max(at, stop)))
        if rest > raw:
            leaving.append((buffer[raw:rest], None))
        if skips:
            self._skips = {
                order: self._base + view.raw(place) for order, place in skips.items() if view.raw(place) > rest
            }
        self._keep(view, rest)
        return leaving

    def _keep(self, view: View, rest: int) -> None:
        """Keep what begins at `rest`, and before it the last character that counts for edges, or a whole line."""
        if rest == self._at:
            return
        if self._rules.by_line:
            kept = max(0, self._buffer.rfind("\n", 0, rest))  # normalized, it is the only character with a line's end
            self._base += kept
            self._buffer, self._at = self._buffer[kept:], rest - kept
            return
        before = view.after(rest) - 1
        edge = "" if before < 0 else self._buffer[view.raw(before)]
        self._base += rest - len(edge)
        self._buffer, self._at = edge + self._buffer[rest:], len(edge)

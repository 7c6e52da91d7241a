"""Regular expressions in linear time (RE2), each with the longest match it may have and with what begins like one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .prefixes import shape_of
from .rules import Rule
from .view import View

_MEMORY = 64 << 20  # bytes that one automaton may take
_WINDOW = 4096  # characters searched at a time: what is looked at twice is bounded by it


def compiled(pattern: str) -> Any:
    """A pattern as RE2 runs it. Raises ValueError that says why where it does not."""
    import re2

    options = re2.Options()
    options.longest_match, options.log_errors, options.max_mem = True, False, _MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason)) from None


class Pattern:
    """A rule, compiled. Raises ValueError for a pattern that RE2 refuses, or that matches nothing or only too much.

    ``order`` is the rule's place among those of its set.
    """

    def __init__(self, rule: Rule, order: int = 0) -> None:
        compiled(rule.pattern)  # RE2 says what is wrong with it
        shape = shape_of(rule.pattern)
        if shape.solid is None:
            raise ValueError("it matches nothing but the empty text")
        self.rule, self.order, self.whole, self.begun = rule, order, shape.solid, shape.begun
        self._pattern = compiled(shape.solid)
        if shape.shortest > rule.max_chars:
            raise ValueError(f"its shortest match has {shape.shortest} characters, and {rule.max_chars} are looked at")
        self.longest = rule.max_chars if shape.longest is None else min(shape.longest, rule.max_chars)

    def checked(self, view: View, begin: int, end: int) -> int:
        """How many characters of a match the rule's check leaves; negative where none begins within so many."""
        check = self.rule.check
        return end - begin if check is None else check(view.norm[begin:end])

    def within(self, view: View, start: int, stop: int) -> Iterator[Any]:
        """RE2's matches between two places, none over another; edges depend on what is around them."""
        found: Iterator[Any] = self._pattern.finditer(view.data, view.byte(start), view.byte(stop))
        return found

    def longest_at(self, view: View, at: int) -> int:
        """Where the longest match that is allowed at one place ends; there itself if there is none."""
        found = self._pattern.match(view.data, view.byte(at), view.byte(at + self.longest))
        return at if found is None else view.char(found.end())


class Search:
    """One pattern over one view, from left to right."""

    __slots__ = ("_at", "_found", "_row", "_stop", "_view", "_width", "pattern")

    def __init__(self, pattern: Pattern, view: View) -> None:
        self.pattern, self._view = pattern, view
        self._at = -1  # where the next that `_found` gives is the first from there on
        self._width = max(_WINDOW, 4 * pattern.longest)
        self._row = False  # whether the last would have been longer than is allowed: the next begins where it ends

    def find(self, start: int) -> tuple[int, int] | None:
        """The leftmost match from `start` on, the longest there that is allowed; not checked yet."""
        view, longest = self._view, self.pattern.longest
        size = len(view.norm)
        if self._row and (end := self.pattern.longest_at(view, start)) > start:
            return start, end
        self._row = False
        if start != self._at:
            self._open(start)
        while True:
            found = next(self._found, None)
            if found is None:
                if self._stop == size:
                    return None
                self._width = min(2 * self._width, max(_WINDOW, 4 * longest))
                self._open(max(start, self._stop - longest))  # a match that begins before would have been seen
                continue
            first, last = found.span()
            begin, end = view.char(first), view.char(last)
            if begin + longest > self._stop < size:
                self._width = max(2 * longest, self._width)
                self._open(max(start, self._stop - longest))  # it may go on behind, and so may one before it
                continue
            self._at = end
            if end - begin > longest:
                self._row = True
                end = self.pattern.longest_at(view, begin)
            if end > begin:
                return begin, end
            self._row, start = False, begin + 1
            self._width = longest + longest // 8 + 1  # so that no more of the same is seen than can be too long
            self._open(start)

    def _open(self, start: int) -> None:
        self._stop = min(len(self._view.norm), start + self._width)
        self._found = self.pattern.within(self._view, start, self._stop)


def union(patterns: Sequence[str]) -> list[Any]:
    """Choices between patterns, compiled: one, or as many as RE2 can hold."""
    try:
        return [compiled("|".join(f"(?:{one})" for one in patterns))]
    except ValueError:
        if len(patterns) == 1:
            raise
        middle = len(patterns) // 2
        return [*union(patterns[:middle]), *union(patterns[middle:])]


class Beginnings:
    """What at the end of a text can still become a match of one of these patterns."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        # patterns of much longer matches apart: else they would make all the others look back as far
        lengths = sorted({_rounded(one.longest) for one in patterns})
        self._groups = [
            (length, pattern)
            for length in lengths
            for pattern in union([f"(?:{one.begun})\\z" for one in patterns if _rounded(one.longest) == length])
        ]

    def hold(self, view: View, start: int) -> int:
        """The first place from `start` on where what follows begins like a match; the end if there is none."""
        data, size = view.data, len(view)
        found = len(data)
        for length, pattern in self._groups:
            seen = pattern.search(data, view.byte(max(start, size - length)))
            if seen is not None:
                found = min(found, seen.start())
        return view.char(found)


def _rounded(length: int) -> int:
    return 256 if length <= 256 else 1 << (length - 1).bit_length()

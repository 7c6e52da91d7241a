"""Regular expressions in linear time (RE2), each with the longest match it may have and with what begins like one."""

from __future__ import annotations

from collections.abc import Sequence
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
    """A rule, compiled. Raises ValueError for a pattern that RE2 refuses, or that matches nothing or only too much."""

    def __init__(self, rule: Rule) -> None:
        compiled(rule.pattern)  # RE2 says what is wrong with it
        shape = shape_of(rule.pattern)
        if shape.solid is None:
            raise ValueError("it matches nothing but the empty text")
        self.rule, self.whole, self.begun = rule, shape.solid, shape.begun
        self._pattern = compiled(shape.solid)
        if shape.shortest > rule.max_chars:
            raise ValueError(f"its shortest match has {shape.shortest} characters, and {rule.max_chars} are looked at")
        self.longest = rule.max_chars if shape.longest is None else min(shape.longest, rule.max_chars)

    def find(self, view: View, start: int) -> tuple[int, int] | None:
        """The leftmost match from `start` on, the longest there that is allowed."""
        search, data, size, longest = self._pattern.search, view.data, len(view), self.longest
        window = max(_WINDOW, 4 * longest)
        while start < size:
            stop = min(size, start + window)
            found = search(data, view.byte(start), view.byte(stop))
            if found is None:
                if stop == size:
                    return None
                start = stop - longest  # a match that begins before would have been seen
                continue
            begin, end = view.char(found.start()), view.char(found.end())
            if stop < size and begin + longest > stop:
                start = stop - longest  # it may go on behind the window, and so may one before it
                continue
            if end - begin > longest:
                found = self._pattern.match(data, view.byte(begin), view.byte(begin + longest))
                end = view.char(found.end()) if found is not None else begin
            if end > begin and self.rule.check is not None:
                end = begin + self.rule.check(view.norm[begin:end])
            if end > begin:
                return begin, end
            start = begin + 1
        return None


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

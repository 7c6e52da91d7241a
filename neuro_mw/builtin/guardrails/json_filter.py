"""The arguments of a tool call under a filter: each string and each number in them, so that they stay valid JSON."""

from __future__ import annotations

from collections import Counter, deque

from .filters import Filter, FilterRun, Leaving
from .json_text import JSONReader, Token, quoted

_LITERALS = ("true", "false", "null")
_STRUCTURE = frozenset("{}[]:, \t\r\n")


class JSONRun:
    """One JSON text under a filter, whole or in pieces.

    A number that is changed becomes a string. From the first character on that cannot be JSON the rest is taken as
    plain text, and ``invalid`` is set.
    """

    __slots__ = ("_counts", "_filter", "_inner", "_number", "_plain", "_raws", "_reader", "_word", "invalid")

    def __init__(self, plan: Filter, counts: Counter[str]) -> None:
        self._filter, self._counts = plan, counts
        self._reader = JSONReader()
        self._inner: FilterRun | None = None  # the string that is open
        self._raws: deque[tuple[str, str]] = deque()  # what it says and how that was written, not left yet
        self._number = ""
        self._word = ""
        self._plain: FilterRun | None = None
        self.invalid = False

    @property
    def held(self) -> str:
        """The text that has not left yet, as it was written."""
        if self._plain is not None:
            return self._plain.held
        return "".join([raw for _, raw in self._raws]) + self._number

    def feed(self, text: str, *, final: bool = False) -> list[Leaving]:
        """What leaves now that `text` has come. Raises Blocked."""
        if self._plain is not None:
            return self._plain.feed(text, final=final)
        leaving: list[Leaving] = []
        tokens = self._reader.feed(text, final=final)
        for index, token in enumerate(tokens):
            leaving += self._take(token)
            if self.invalid:
                rest = "".join([one.raw for one in tokens[index + 1 :]]) + self._reader.rest()
                return leaving + self._as_text(rest, final=final)
        if final:
            leaving += self._end_of_number() + self._end_of_string()
        return leaving

    def finish(self) -> list[Leaving]:
        """What was held, now that nothing more comes."""
        return self.feed("", final=True)

    def watch(self) -> None:
        """Count what the rules that only watch find in all that has come."""
        for run in (self._inner, self._plain):
            if run is not None:
                run.watch()

    def _take(self, token: Token) -> list[Leaving]:
        if token.kind == "string":
            if self._inner is None:
                self._inner = FilterRun(self._filter, self._counts)
            self._raws.append((token.text, token.raw))
            return self._written(self._inner.feed(token.text))
        if token.kind == "number":
            self._number += token.raw
            return []
        leaving = self._end_of_number() + self._end_of_string()
        for at, char in enumerate(token.raw):
            if char in _STRUCTURE or char == '"':
                self._word = ""
            else:
                self._word += char
                if not any(one.startswith(self._word) for one in _LITERALS):
                    self.invalid = True
                    before = [Leaving(token.raw[:at], at, same=True)] if at else []
                    return [*leaving, *before, *self._as_text(token.raw[at:])]
        return [*leaving, Leaving(token.raw, len(token.raw), same=True)]

    def _as_text(self, text: str, *, final: bool = False) -> list[Leaving]:
        if self._plain is None:
            self._plain = FilterRun(self._filter, self._counts)
        return self._plain.feed(text, final=final)

    def _end_of_string(self) -> list[Leaving]:
        inner, self._inner = self._inner, None
        return self._written(inner.finish()) if inner is not None else []

    def _end_of_number(self) -> list[Leaving]:
        number, self._number = self._number, ""
        if not number:
            return []
        changed = self._filter.whole(number, self._counts)
        same = changed == number
        return [Leaving(number if same else f'"{quoted(changed)}"', len(number), same)]

    def _written(self, pieces: list[Leaving]) -> list[Leaving]:
        """Pieces of what a string says as pieces of how it is written: unchanged ones as they were."""
        leaving = []
        for text, size, same in pieces:
            raw = self._pop(size)
            leaving.append(Leaving(raw if same else quoted(text), len(raw), same))
        return leaving

    def _pop(self, size: int) -> str:
        written = []
        while size:
            text, raw = self._raws.popleft()
            if len(text) > size:  # only stretches without escapes are longer than one character
                self._raws.appendleft((text[size:], raw[size:]))
                text, raw = text[:size], raw[:size]
            size -= len(text)
            written.append(raw)
        return "".join(written)


def whole_json(text: str, plan: Filter, counts: Counter[str]) -> tuple[str, bool]:
    """A whole JSON text after all rules, and whether it was JSON. Raises Blocked."""
    run = JSONRun(plan, counts)
    changed = "".join([piece.text for piece in (*run.feed(text), *run.finish())])
    return changed, not run.invalid

"""The arguments of a tool call under a filter: each string and each number in them, so that they stay valid JSON."""

from __future__ import annotations

import re
from collections import Counter, deque

from .filters import Filter, FilterRun, Leaving
from .json_text import JSONReader, quoted

_LITERALS = ("true", "false", "null")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMBER_BEGUN = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.(?:[0-9]+(?:[eE][+-]?[0-9]*)?)?|[eE][+-]?[0-9]*)?)?")
_PIECES = re.compile(r'[ \t\r\n]+|[{}\[\],:"]|[^ \t\r\n{}\[\],:"]+')
_MAX_BARE = 1000  # characters of one number


class JSONRun:
    """One JSON text under a filter, whole or in pieces.

    A number that is changed becomes a string, or a number where what stands for it is one. From where it is no JSON any
    more, back to the beginning of the number or word that this shows in, it is taken as plain text, and ``invalid`` is
    set.
    """

    __slots__ = ("_bare", "_counts", "_depth", "_filter", "_inner", "_inside", "_parted", "_plain", "_raws", "_reader",
                 "_words", "invalid")  # fmt: skip

    def __init__(self, plan: Filter, counts: Counter[str]) -> None:
        self._filter, self._counts = plan, counts
        self._reader = JSONReader()
        self._inner: FilterRun | None = None  # the string that is open
        self._raws: deque[tuple[str, str]] = deque()  # what it says and how that was written, not left yet
        self._words: list[str] = []  # what it says, and its filter has not seen yet
        self._bare = ""  # a number or a word, and white space behind it
        self._inside = False  # of a string
        self._parted = True  # whether a value may stand here
        self._depth = 0
        self._plain: FilterRun | None = None
        self.invalid = False

    def feed(self, text: str, *, final: bool = False) -> list[Leaving]:
        """What leaves now that `text` has come. Raises Blocked."""
        if self._plain is not None:
            return self._plain.feed(text, final=final)
        leaving: list[Leaving] = []
        tokens = self._reader.feed(text, final=final)
        for index, token in enumerate(tokens):
            if token.is_text:
                self._raws.append((token.text, token.raw))
                self._words.append(token.text)
                continue
            leaving += self._in_string()
            rest = self._outside(token.raw, leaving)
            if self.invalid:
                rest += "".join([one.raw for one in tokens[index + 1 :]]) + self._reader.rest()
                return leaving + self._as_text(rest, final=final)
        leaving += self._in_string()
        return leaving + self._end() if final else leaving

    def finish(self) -> list[Leaving]:
        """What was held, now that nothing more comes."""
        return self.feed("", final=True)

    def watch(self) -> None:
        """Count what the rules that only watch find in all that has come."""
        for run in (self._inner, self._plain):
            if run is not None:
                run.watch()

    def _end(self) -> list[Leaving]:
        if self._bare and not _is_value(self._bare.rstrip()):
            self.invalid = True
            bare, self._bare = self._bare, ""
            return self._as_text(bare, final=True)
        self.invalid = self._inside or self._depth != 0  # it breaks off
        return self._end_of_bare() + self._end_of_string()

    def _in_string(self) -> list[Leaving]:
        """What of the words that came may leave: together, for each price of its own."""
        words, self._words = "".join(self._words), []
        if not words:
            return []
        if self._inner is None:
            self._inner = FilterRun(self._filter, self._counts)
        return self._written(self._inner.feed(words))

    def _outside(self, raw: str, leaving: list[Leaving]) -> str:
        """Go through what stands outside of strings, or ends one; what is no JSON is given back."""
        for found in _PIECES.finditer(raw):
            piece = found[0]
            if piece[0] in " \t\r\n":
                if self._bare:
                    self._bare += piece
                    continue
            elif piece == '"' and self._inside:
                leaving += self._end_of_string()
                self._inside, self._parted = False, False
            elif piece in "}],:":
                if self._bare and not _is_value(self._bare.rstrip()):
                    return self._give_back(raw[found.start() :])
                leaving += self._end_of_bare()
                self._parted = piece in ",:"
                self._depth -= piece in "}]"
            elif not self._parted or (self._bare and piece in '"{['):
                return self._give_back(raw[found.start() :])
            elif piece in '"{[':
                self._inside = piece == '"'
                self._depth += piece != '"'
            else:
                self._bare += piece
                if len(self._bare) > _MAX_BARE or not _may_be_value(self._bare):
                    return self._give_back(raw[found.end() :])
                continue
            leaving.append(Leaving(piece, len(piece), same=True))
        return ""

    def _give_back(self, rest: str) -> str:
        self.invalid = True
        bare, self._bare = self._bare, ""
        return bare + rest

    def _as_text(self, text: str, *, final: bool = False) -> list[Leaving]:
        if self._plain is None:
            self._plain = FilterRun(self._filter, self._counts)
        return self._plain.feed(text, final=final)

    def _end_of_string(self) -> list[Leaving]:
        inner, self._inner = self._inner, None
        return self._written(inner.finish()) if inner is not None else []

    def _end_of_bare(self) -> list[Leaving]:
        bare, self._bare = self._bare, ""
        if not bare:
            return []
        self._parted = False
        value = bare.rstrip()
        changed = self._filter.whole(value, self._counts) if value not in _LITERALS else value
        if changed == value:
            return [Leaving(bare, len(bare), same=True)]
        written = changed if _NUMBER.fullmatch(changed) else f'"{quoted(changed)}"'
        return [Leaving(written + bare[len(value) :], len(bare), same=False)]

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


def _is_value(bare: str) -> bool:
    return bare in _LITERALS or _NUMBER.fullmatch(bare) is not None


def _may_be_value(begun: str) -> bool:
    return _NUMBER_BEGUN.fullmatch(begun) is not None or any(one.startswith(begun) for one in _LITERALS)


def whole_json(text: str, plan: Filter, counts: Counter[str]) -> tuple[str, bool]:
    """A whole JSON text after all rules, and whether it was JSON. Raises Blocked."""
    run = JSONRun(plan, counts)
    changed = "".join([piece.text for piece in (*run.feed(text), *run.finish())])
    return changed, not run.invalid

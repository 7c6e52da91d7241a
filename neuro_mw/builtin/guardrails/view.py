"""A text as detectors read it: normalized and folded, each place mapped back to the text itself.

Every character is normalized by itself, so that it makes no difference where a stream is cut: compatibility forms
become what they stand for (NFKC, Unicode Standard Annex 15), zero-width characters go. Case is folded where a
character stays one character.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

from .confusables import CONFUSABLE

# Zero-width characters and controls that nobody sees (Unicode: default ignorable), soft hyphens, tags, and selectors.
RANGES = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFFB), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
IGNORABLE = frozenset(chr(code) for first, last in RANGES for code in range(first, last + 1))

# Scripts, punctuation and emoji of which most texts consist: none of these characters is normalized to another one, and
# their case folds as `str.lower` does it. Others are looked at one by one.
_UNUSUAL = re.compile(
    "[^\0-\x9f\xa1-\xa7\xab\xb0\xb1\xb7\xbb\xbf-\u012f\u0141-\u0148\u014a-\u017e\u0300-\u033f\u0388-\u03cf"
    "\u0400-\u0586\u0588-\u061b\u061d-\u0674\u0679-\u0957\u0e01-\u0e32\u0e34-\u0e5b\u10d0-\u10fb\u1ea0-\u1ef9"
    "\u2010\u2012-\u2016\u2018-\u2023\u20ac\u2190-\u222b\u2500-\u27bf\u3001-\u3035\u3041-\u3096\u30a1-\u30fa"
    "\u4e00-\u9fff\uac00-\ud7a3\U0001f300-\U0001f64f\U0001f680-\U0001f6ff\U0001f900-\U0001f9ff]+"
)
_HALF = re.compile("[\ud800-\udfff]")
_FEW = 16  # so many characters are replaced one after the other: a table of them costs more
_BLOCK = 64  # characters from one known place in the bytes to the next
_CONTINUING = bytes(range(0x80, 0xC0))  # bytes that begin no character (UTF-8)
_LOOKS = str.maketrans(CONFUSABLE)


class Reading(NamedTuple):
    """How texts are read: normalized or as they are, and whether look-alikes of Latin letters count as these."""

    normalize: bool = True
    confusables: bool = False


class View:
    r"""One text under a reading.

    ``norm`` is what patterns see, ``folded`` what terms see: of the same length. Positions are those of ``norm``;
    `raw` and `end` map them to places in ``text``.

    >>> view = View("\uff22\uff21\u200bD", Reading())
    >>> view.norm, view.folded, view.raw(2), view.end(3)
    ('BAD', 'bad', 3, 4)
    """

    __slots__ = ("_marks", "_narrow", "_pieces", "data", "folded", "norm", "text")

    def __init__(self, text: str, reading: Reading) -> None:
        self.text = self.norm = text
        # Where stretches begin in `norm` and in `text` whose characters are one for one, where that is not all of it.
        self._pieces: tuple[list[int], list[int]] | None = None
        self._marks: list[int] | None = None  # where in the bytes every so many characters begin
        self._narrow = text.isascii()  # whether each character is one byte
        if self._narrow:
            self.folded = text.lower()
            self.data = text.encode()
            return
        unusual = set("".join(_UNUSUAL.findall(text)))
        if unusual and reading.normalize:
            changed = {char: normal for char in unusual if (normal := _normal(char)) != char}
            if changed:
                self._normalize(changed)
                unusual = set("".join([changed.get(char, char) for char in unusual]))
        self.folded = _folded(self.norm, unusual, reading.confusables)
        try:
            self.data = self.norm.encode()
        except UnicodeEncodeError:  # a half of a surrogate pair
            self.data = self.norm.encode("utf-8", "surrogatepass")
            self.folded = _HALF.sub("\ufffd", self.folded)  # the automaton of terms takes none
        self._narrow = len(self.data) == len(self.norm)

    def __len__(self) -> int:
        return len(self.norm)

    def _normalize(self, changed: dict[str, str]) -> None:
        text = self.text
        if len(changed) > _FEW:
            self.norm = text.translate({ord(char): normal for char, normal in changed.items()})
        else:  # nothing stands for a character that is changed itself
            for char, normal in changed.items():
                self.norm = self.norm.replace(char, normal)
        sizes = {char: len(normal) for char, normal in changed.items() if len(normal) != 1}
        if not sizes:
            return
        places, raws, moved = [0], [0], 0
        for found in _UNUSUAL.finditer(text):
            for at, char in enumerate(found[0], found.start()):
                if char in sizes:
                    places += (at + moved, at + moved + sizes[char])
                    raws += (at, at + 1)
                    moved += sizes[char] - 1
        self._pieces = [*places, len(self.norm)], [*raws, len(text)]

    def raw(self, at: int) -> int:
        """Where in the text the character at `at` begins; at the end of all, the text's end."""
        if self._pieces is None:
            return at
        if at >= len(self.norm):
            return len(self.text)
        places, raws = self._pieces
        piece = bisect_right(places, at) - 1
        return min(raws[piece] + at - places[piece], raws[piece + 1] - 1)  # several may stand for one

    def end(self, at: int) -> int:
        """Where in the text the character before `at` ends."""
        if self._pieces is None:
            return at
        return self.raw(at - 1) + 1 if at else 0

    def after(self, raw: int) -> int:
        """The first position whose character begins at or behind `raw` in the text."""
        if self._pieces is None:
            return raw
        if raw >= len(self.text):
            return len(self.norm)
        places, raws = self._pieces
        piece = bisect_right(raws, raw) - 1
        return min(places[piece] + raw - raws[piece], places[piece + 1])

    def byte(self, at: int) -> int:
        """Where the character at `at` begins in ``data``."""
        if self._narrow or at == 0:
            return at
        if at == len(self.norm):
            return len(self.data)
        known = at // _BLOCK
        return self._known()[known] + len(self.norm[known * _BLOCK : at].encode("utf-8", "surrogatepass"))

    def char(self, byte: int) -> int:
        """The position of the character that begins at `byte` in ``data``."""
        if self._narrow or byte == 0:
            return byte
        if byte == len(self.data):
            return len(self.norm)
        marks = self._known()
        known = bisect_right(marks, byte) - 1
        return known * _BLOCK + len(self.data[marks[known] : byte].translate(None, _CONTINUING))

    def _known(self) -> list[int]:
        if self._marks is None:
            norm = self.norm
            blocks = (norm[at : at + _BLOCK] for at in range(0, len(norm), _BLOCK))
            self._marks = list(accumulate((len(one.encode("utf-8", "surrogatepass")) for one in blocks), initial=0))
        return self._marks


def fold(text: str, confusables: bool = False) -> str:
    """A text as terms see it.

    >>> fold("Äpfel")
    'äpfel'
    """
    return "".join([_fold(char, confusables) for char in text])


def _folded(text: str, unusual: Iterable[str], confusables: bool) -> str:
    """The same, knowing which characters in it are unusual."""
    if confusables:
        text = text.translate(_LOOKS)
    if all(map(_is_lowered, unusual)):
        return text.lower().replace("\u03c2", "\u03c3")  # the sigma at the end of a word depends on what is around it
    return "".join([_fold(char, False) for char in text])


@functools.lru_cache(4096)
def _normal(char: str) -> str:
    return "" if char in IGNORABLE else unicodedata.normalize("NFKC", char)


@functools.lru_cache(4096)
def _fold(char: str, confusables: bool) -> str:
    if confusables:
        char = CONFUSABLE.get(char, char)
    return next((folded for folded in (char.casefold(), char.lower()) if len(folded) == 1), char)


@functools.lru_cache(4096)
def _is_lowered(char: str) -> bool:
    """Whether a character folds to what `str.lower` makes of it."""
    return char.lower().replace("\u03c2", "\u03c3") == _fold(char, False)


def is_word(char: str) -> bool:
    """Whether a character belongs to a word, so that no word begins or ends beside it.

    Scripts that do not part their words by spaces (Chinese, Japanese, Thai, ...) have none here: there every place can
    be the edge of a word.
    """
    if char < "\x80":
        return char.isalnum() or char == "_"
    return _is_word(char)


@functools.lru_cache(4096)
def _is_word(char: str) -> bool:
    code = ord(char)
    unspaced = 0x0E00 <= code < 0x0F00 or 0x1000 <= code < 0x10A0 or 0x1780 <= code < 0x1800 or 0x3040 <= code < 0xA000
    if unspaced or 0xF900 <= code < 0xFB00 or 0x20000 <= code < 0x33480:
        return False
    return char.isalnum() or unicodedata.category(char) in ("Mn", "Mc", "Me")

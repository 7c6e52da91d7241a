"""A text as detectors read it: normalized and folded, each place mapped back to the text itself.

Every character is normalized by itself, so that it makes no difference where a stream is cut: compatibility forms
become what they stand for (NFKC, Unicode Standard Annex 15), zero-width characters go. Case is folded where a
character stays one character.
"""

from __future__ import annotations

import functools
import unicodedata
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from .confusables import CONFUSABLE

# Zero-width characters and controls that nobody sees (Unicode: default ignorable), soft hyphens, tags, and selectors.
_RANGES = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFFB), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
IGNORABLE = frozenset(chr(code) for first, last in _RANGES for code in range(first, last + 1))


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

    __slots__ = ("_bytes", "_raw", "data", "folded", "norm", "text")

    def __init__(self, text: str, reading: Reading) -> None:
        self.text = self.norm = text
        self._raw: list[int] | None = None
        self._bytes: list[int] | None = None
        if text.isascii():
            self.folded = text.lower()
            self.data = text.encode()
            return
        if reading.normalize:
            self._normalize(text)
        self.folded = "".join([_fold(char, reading.confusables) for char in self.norm])
        self.data = self.norm.encode("utf-8", "surrogatepass")
        if len(self.data) != len(self.norm):
            places, at = [], 0
            for char in self.norm:
                places.append(at)
                code = ord(char)
                at += 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4
            self._bytes = [*places, at]

    def __len__(self) -> int:
        return len(self.norm)

    def _normalize(self, text: str) -> None:
        pieces, raw = [], []
        for at, char in enumerate(text):
            piece = char if char < "\x80" else _normal(char)
            pieces.append(piece)
            raw += [at] * len(piece)
        if raw != list(range(len(text))):
            self._raw = raw
        self.norm = "".join(pieces)

    def raw(self, at: int) -> int:
        """Where in the text the character at `at` begins; at the end of all, the text's end."""
        if self._raw is None:
            return at
        return self._raw[at] if at < len(self._raw) else len(self.text)

    def end(self, at: int) -> int:
        """Where in the text the character before `at` ends."""
        if self._raw is None:
            return at
        return self._raw[at - 1] + 1 if at else 0

    def after(self, raw: int) -> int:
        """The first position whose character begins at or behind `raw` in the text."""
        if self._raw is None:
            return raw
        return bisect_left(self._raw, raw)

    def byte(self, at: int) -> int:
        """Where the character at `at` begins in ``data``."""
        return at if self._bytes is None else self._bytes[at]

    def char(self, byte: int) -> int:
        """The position of the character that begins at `byte` in ``data``."""
        return byte if self._bytes is None else bisect_right(self._bytes, byte) - 1


def fold(text: str, confusables: bool = False) -> str:
    """A text as terms see it.

    >>> fold("Äpfel")
    'äpfel'
    """
    return "".join([_fold(char, confusables) for char in text])


@functools.lru_cache(4096)
def _normal(char: str) -> str:
    return "" if char in IGNORABLE else unicodedata.normalize("NFKC", char)


@functools.lru_cache(4096)
def _fold(char: str, confusables: bool) -> str:
    if confusables:
        char = CONFUSABLE.get(char, char)
    folded = char.casefold()
    return folded if len(folded) == 1 else char


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

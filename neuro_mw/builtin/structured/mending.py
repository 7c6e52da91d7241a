"""JSON that is not quite JSON, where it is clear what was meant.

Mended are: trailing commas and missing ones, comments, single and curly quotes, keys without quotes, True, False and
None, raw line ends in strings, escapes that JSON does not know, numbers like ``+1`` and ``.5``, and brackets that were
never closed, or closed too late. Nothing is guessed: what has no value, a string without end, words without quotes,
"..." in place of values, a name that stands twice in one object, all that stays broken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..json_schemas.reading import DEEPEST
from .kinds import Kinds

_SKIPPED = re.compile(r"(?:[\s\ufeff]++|//[^\n]*+|#[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/|\Z))*+")
_KEY = re.compile(r"[^\W\d][\w$-]*+")
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*+)(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?(?![\w.])")
_WORD = re.compile(r"[A-Za-z]++(?!\w)")
_CODE = re.compile(r"x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4}")
_WORDS = {"true": True, "false": False, "null": None, "none": None}
_CLOSING = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019"}
_PLAIN = {quote: re.compile(rf"[^\\{quote}]++") for quote in _CLOSING.values()}
_HALF = re.compile("[\ud800-\udbff]")
_ESCAPES = {'"': '"', "'": "'", "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class BrokenError(ValueError):
    """It is not clear what was meant."""


def mended(text: str, kinds: Kinds) -> Iterator[Any]:
    """The values that a text has where it is read like that, one after the other.

    Raises BrokenError at what begins like a value of these kinds and cannot be read.

    >>> list(mended("Sure: {name: 'Ann', tags: ['a', 'b',], ok: True, // done", Kinds("{", scalar=False)))
    [{'name': 'Ann', 'tags': ['a', 'b'], 'ok': True}]
    """
    bracket = re.compile(f"[{re.escape(kinds.openings)}]") if kinds.openings else None
    at = 0
    while bracket is not None and (found := bracket.search(text, at)):
        reader = _Reader(text, found.start())
        try:
            yield reader.value()
        except BrokenError:
            if reader.began:
                raise
        at = max(reader.at, found.end())


class _Reader:
    """One value, from its bracket on. ``began``: it was more than a bracket in prose."""

    def __init__(self, text: str, at: int) -> None:
        self.text, self.at, self.began = text, at, False
        self._open: list[str] = []

    def value(self) -> Any:
        char = self._next()
        if char in ("{", "["):
            if len(self._open) == DEEPEST:
                raise BrokenError("it is nested too deeply")
            self.at += 1
            self._open.append(char)
            made = self._object() if char == "{" else self._array()
            self._open.pop()
            return made
        if char in _CLOSING:
            return self._string(_CLOSING[char])
        return self._scalar()

    def _object(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        while not self._over("}", "["):
            char = self._next()
            key = self._string(_CLOSING[char]) if char in _CLOSING else self._match(_KEY)
            if self._next() != ":":
                raise BrokenError("a key has no value")
            self.at += 1
            self.began = True
            if key in made:
                raise BrokenError("a name stands twice")
            made[key] = self.value()
            self._comma()
        return made

    def _array(self) -> list[Any]:
        made: list[Any] = []
        while not self._over("]", "{"):
            made.append(self.value())
            self.began = True
            self._comma()
        return made

    def _over(self, closing: str, outer: str) -> bool:
        """Whether an object or an array ends here, if only because what is around it does."""
        char = self._next()
        if char == closing:
            self.at += 1
            return True
        if not char and not self.began:
            raise BrokenError("a bracket, and nothing in it")
        return not char or (char in "}]" and outer in self._open)

    def _comma(self) -> None:
        """What is between two values: a comma, or at least white space."""
        before = self.at
        char = self._next()
        if char == ",":
            self.at += 1
        elif char and char not in "}]" and before == self.at:
            raise BrokenError("two values without anything between them")

    def _next(self) -> str:
        """The next character that counts; none at the end of the text, and of its fence."""
        found = _SKIPPED.match(self.text, self.at)
        self.at = found.end() if found is not None else self.at
        return "" if self.text.startswith("```", self.at) else self.text[self.at : self.at + 1]

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise BrokenError("there is no value, or none that is clear")
        self.at = found.end()
        return found[0]

    def _scalar(self) -> Any:
        if self.text[self.at : self.at + 1].isalpha():
            word = self._match(_WORD).lower()
            if word not in _WORDS:
                raise BrokenError("a word without quotes")
            return _WORDS[word]
        digits = self._match(_NUMBER)
        is_whole = digits.lstrip("+-").isdigit()
        return int(digits) if is_whole and len(digits) < 4000 else float(digits)

    def _string(self, closing: str) -> str:
        self.at += 1
        plain, pieces = _PLAIN[closing], []
        while True:
            found = plain.match(self.text, self.at)
            if found is not None:
                pieces.append(found[0])
                self.at = found.end()
            char = self.text[self.at : self.at + 1]
            if not char:
                raise BrokenError("a string without end")
            self.at += 1
            if char == closing:
                return _whole("".join(pieces))
            pieces.append(self._escape())

    def _escape(self) -> str:
        code = _CODE.match(self.text, self.at)
        if code is not None:
            self.at = code.end()
            return chr(int(code[0][1:], 16))
        char = self.text[self.at : self.at + 1]
        self.at += 1
        return _ESCAPES.get(char, "\\" + char)  # one that there is not was meant as it stands


def _whole(text: str) -> str:
    """A text with the two halves of each surrogate pair put together."""
    if text.isascii() or not _HALF.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")

"""JSON that comes in pieces, as the strings in it and what stands between them.

A reader for the arguments of tool calls. It follows RFC 8259 as far as it must to know where a string begins and ends;
whether the whole is valid is not its question.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_PLAIN = re.compile(r'[^"\\]+')
_OUTSIDE = re.compile(r'[^"]+')
_HEX = re.compile(r"[0-9a-fA-F]{4}")


class Token(NamedTuple):
    """A stretch of JSON: ``raw`` as it came; inside of a string (``is_text``) ``text`` is what it says."""

    raw: str
    text: str = ""
    is_text: bool = False


class JSONReader:
    """Pieces of JSON in, tokens out. Escapes are decoded one by one, so each character has its own ``raw``."""

    __slots__ = ("_inside", "_rest")

    def __init__(self) -> None:
        self._rest = ""
        self._inside = False

    def feed(self, piece: str, *, final: bool = False) -> list[Token]:
        """The tokens that `piece` completes; half an escape waits for the rest of it."""
        data, at, tokens = self._rest + piece, 0, []
        while at < len(data):
            token = self._next(data, at, final)
            if token is None:
                break
            tokens.append(token)
            at += len(token.raw)
        self._rest = data[at:]
        if final and self._rest:
            tokens.append(Token(self._rest, self._rest, is_text=self._inside))
            self._rest = ""
        return tokens

    def rest(self) -> str:
        """What waits for the rest of an escape; it is forgotten here."""
        rest, self._rest = self._rest, ""
        return rest

    def _next(self, data: str, at: int, final: bool) -> Token | None:
        if data[at] == '"':
            self._inside = not self._inside
            return Token('"')
        if not self._inside:
            found = _OUTSIDE.match(data, at)
            assert found is not None
            return Token(found[0])
        if data[at] == "\\":
            return _escape(data, at, final)
        found = _PLAIN.match(data, at)
        assert found is not None
        return Token(found[0], found[0], is_text=True)


def _escape(data: str, at: int, final: bool) -> Token | None:
    char = data[at + 1 : at + 2]
    if char == "u":
        if not _HEX.fullmatch(data[at + 2 : at + 6]):
            waits = len(data) < at + 6 and not final
            return None if waits else Token(data[at : at + 2], data[at : at + 2], is_text=True)
        code, raw = int(data[at + 2 : at + 6], 16), data[at : at + 6]
        if 0xD800 <= code < 0xDC00:  # the first half of a pair
            if len(data) < at + 12 and not final and data[at + 6 : at + 8] in ("", "\\", "\\u"):
                return None
            low = data[at + 8 : at + 12]
            if data[at + 6 : at + 8] == "\\u" and _HEX.fullmatch(low) and 0xDC00 <= int(low, 16) < 0xE000:
                code, raw = 0x10000 + ((code - 0xD800) << 10) + int(low, 16) - 0xDC00, data[at : at + 12]
        return Token(raw, chr(code), is_text=True)
    if char or final:
        return Token(data[at : at + 2], _ESCAPES.get(char, data[at : at + 2]), is_text=True)
    return None


def quoted(text: str) -> str:
    r"""A text as it stands between the quotes of a JSON string.

    >>> quoted('say "x"')
    'say \\"x\\"'
    """
    return json.dumps(text, ensure_ascii=False)[1:-1]

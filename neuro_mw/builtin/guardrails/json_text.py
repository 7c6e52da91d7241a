"""JSON that comes in pieces, as the strings and numbers in it: what stands for them is put back so that it stays JSON.

A reader for the arguments of tool calls. It follows RFC 8259 as far as it must to know where a string begins and ends;
whether the whole is valid is not its question.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_PLAIN = re.compile(r'[^"\\]+')
_BETWEEN = re.compile(r'[^"0-9+\-.eE]+')
_NUMBER = re.compile(r"[0-9+\-.eE]+")
_HEX = re.compile(r"[0-9a-fA-F]{4}")


class Token(NamedTuple):
    """A stretch of JSON: ``raw`` as it came, ``text`` what it says. ``kind`` is "string" or "number" inside of one."""

    kind: str
    raw: str
    text: str = ""
    ends: bool = False


class JSONReader:
    """Pieces of JSON in, tokens out. Escapes are decoded one by one, so each character has its own ``raw``."""

    __slots__ = ("_inside", "_rest")

    def __init__(self) -> None:
        self._rest = ""
        self._inside = ""

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
            tokens.append(Token(self._inside, self._rest, self._rest))
            self._rest = ""
        return tokens

    def rest(self) -> str:
        """What waits for the rest of an escape; it is forgotten here."""
        rest, self._rest = self._rest, ""
        return rest

    def _next(self, data: str, at: int, final: bool) -> Token | None:
        if self._inside == "string":
            if data[at] == '"':
                self._inside = ""
                return Token("", '"', ends=True)
            if data[at] == "\\":
                return _escape(data, at, final)
            found = _PLAIN.match(data, at)
            assert found is not None
            return Token("string", found[0], found[0])
        if data[at] == '"':
            ends, self._inside = self._inside == "number", "string"
            return Token("", '"', ends=ends)
        if found := _NUMBER.match(data, at):
            self._inside = "number"
            return Token("number", found[0], found[0])
        found = _BETWEEN.match(data, at)
        assert found is not None
        ends, self._inside = self._inside == "number", ""
        return Token("", found[0], ends=ends)


def _escape(data: str, at: int, final: bool) -> Token | None:
    char = data[at + 1 : at + 2]
    if char == "u":
        if not _HEX.fullmatch(data[at + 2 : at + 6]):
            waits = len(data) < at + 6 and not final
            return None if waits else Token("string", data[at : at + 2], data[at : at + 2])
        code, raw = int(data[at + 2 : at + 6], 16), data[at : at + 6]
        if 0xD800 <= code < 0xDC00:  # the first half of a pair
            if len(data) < at + 12 and not final and data[at + 6 : at + 8] in ("", "\\", "\\u"):
                return None
            low = data[at + 8 : at + 12]
            if data[at + 6 : at + 8] == "\\u" and _HEX.fullmatch(low) and 0xDC00 <= int(low, 16) < 0xE000:
                code, raw = 0x10000 + ((code - 0xD800) << 10) + int(low, 16) - 0xDC00, data[at : at + 12]
        return Token("string", raw, chr(code))
    if char or final:
        return Token("string", data[at : at + 2], _ESCAPES.get(char, data[at : at + 2]))
    return None


def quoted(text: str) -> str:
    r"""A text as it stands between the quotes of a JSON string.

    >>> quoted('say "x"')
    'say \\"x\\"'
    """
    return json.dumps(text, ensure_ascii=False)[1:-1]

"""Where JSON stands in a text that may come in pieces: behind prose or a fence, and before more of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .kinds import Kinds

_BEHIND = {"{": tuple('"}'), "[": (*'{["-0123456789]', "true", "false", "null")}  # what may come, after white space
_LONGEST = len("false")
_SOLID = re.compile(r"[^ \t\n\r]")
_OUTSIDE = re.compile(r'[][{}"]')
_INSIDE = re.compile(r'["\\]')
_MOST = 16  # values of one text that are looked at


class Finder:
    """The first object or array of a text: from a bracket that is followed as in JSON, to the one that closes it.

    ``openings`` are the brackets that it may begin with. Whether all between them is JSON is not its question.

    >>> finder = Finder("{")
    >>> finder.feed('Here [it] is: {'), finder.feed('"a": 1} and so on'), finder.ended
    ('', '{"a": 1}', True)
    """

    __slots__ = ("_depth", "_escaped", "_openings", "_pending", "_quoted", "_word", "begun", "ended", "rest")

    def __init__(self, openings: str) -> None:
        self._openings = re.compile(f"[{re.escape(openings)}]")
        self._pending: list[str] = []  # a bracket, and the white space behind it
        self._word = ""  # behind that the beginning of a word
        self._depth = 0
        self._quoted = self._escaped = False
        self.begun = self.ended = False
        self.rest = ""  # what of the last piece is behind it

    def feed(self, text: str) -> str:
        """What of the value is in a piece of the text; once it has begun, it is all that comes until it ends."""
        if self.ended:
            return ""
        start, before = 0, ""
        if not self.begun:
            text, self._word = self._word + text, ""
            start = self._begin(text)
            if start < 0:
                return ""
            before, self.begun, self._depth = "".join(self._pending), True, 1
        end = self._close(text, start)
        self.rest = text[end:]
        return before + text[start:end]

    def _begin(self, text: str) -> int:
        """Where what is behind the first bracket begins; -1 where it has not come yet."""
        at, pending = 0, self._pending
        while True:
            if pending:
                solid = _SOLID.search(text, at)
                if solid is None:
                    pending.append(text[at:])
                    return -1
                begun, next_ = _BEHIND[pending[0]], text[solid.start() : solid.start() + _LONGEST]
                if next_.startswith(begun) or (len(next_) < _LONGEST and _is_begun(next_, begun)):
                    pending.append(text[at : solid.start()])
                    if next_.startswith(begun):
                        return solid.start()
                    self._word = next_
                    return -1
                pending.clear()
                at = solid.start()
            bracket = self._openings.search(text, at)
            if bracket is None:
                return -1
            pending.append(bracket[0])
            at = bracket.end()

    def _close(self, text: str, at: int) -> int:
        """Where it ends in this piece."""
        size = len(text)
        while at < size:
            if self._escaped:
                self._escaped, at = False, at + 1
                continue
            found = (_INSIDE if self._quoted else _OUTSIDE).search(text, at)
            if found is None:
                return size
            at, char = found.end(), found[0]
            if char == '"':
                self._quoted = not self._quoted
            elif char == "\\":
                self._escaped = True
            else:
                self._depth += 1 if char in "{[" else -1
                if not self._depth:
                    self.ended = True
                    return at
        return size


def _is_begun(text: str, words: tuple[str, ...]) -> bool:
    return any(word.startswith(text) for word in words)


def values_in(text: str, kinds: Kinds) -> Iterator[str]:
    """The stretches of a text that may be the value: all of it where that may be a scalar, then one after the other.

    >>> list(values_in('Not [this] but {"a": 1}, or {"a": 2}.', Kinds("{", scalar=False)))
    ['{"a": 1}', '{"a": 2}']
    """
    if kinds.scalar:
        yield unfenced(text)
    for _ in range(_MOST if kinds.openings else 0):
        finder = Finder(kinds.openings)
        found = finder.feed(text)
        if found:
            yield found
        if not finder.ended:
            return
        text = finder.rest


def unfenced(text: str) -> str:
    r"""A text without the white space and the fence round it.

    >>> unfenced(" ```json\n42\n```")
    '42'
    """
    text = text.strip()
    if len(text) < 6 or not (text.startswith("```") and text.endswith("```")):
        return text
    line, found, rest = text[3:-3].partition("\n")
    return (rest if found else line).strip()

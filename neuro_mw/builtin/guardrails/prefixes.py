"""The pattern of all beginnings of what a pattern matches: what a stream has to hold back, and no more.

The parser knows RE2's syntax (https://github.com/google/re2/wiki/Syntax) as far as it matters for that: where an atom
ends, what is repeated, what is a choice. RE2 itself has the last word on what is valid.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_COUNT = re.compile(r"\{(\d+)(,(\d*))?\}")
_ESCAPE = re.compile(r"\\(?:[pP]\{[^}]*\}|[pP].|x\{[0-9a-fA-F]+\}|x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
_FLAGS = re.compile(r"\(\?[imsU]*(?:-[imsU]+)?\)")
_GROUP = re.compile(r"\((?:\?(?:P?<\w+>|[imsU]*(?:-[imsU]+)?:))?")
_EDGES = ("\\b", "\\B", "\\A", "\\z", "^", "$")


class Shape(NamedTuple):
    """A pattern taken apart.

    ``begun`` matches all beginnings of what it matches, itself and nothing among them. ``solid`` matches what it
    matches but for the empty text, which ``empty`` stands for; each is None where there is no such thing. ``longest``
    is None where nothing bounds it.
    """

    whole: str
    begun: str
    solid: str | None
    empty: str | None
    shortest: int
    longest: int | None


def shape_of(pattern: str) -> Shape:
    r"""The shape of a pattern. Raises ValueError for what cannot be read.

    >>> shape_of(r"ab{2,3}").begun, shape_of(r"a*b?").solid
    ('(?:a(?:b{0,3}))?', '(?:a(?:a)*b?|b)')
    """
    parser = _Parser(pattern)
    found = parser.choice()
    if parser.at < len(pattern):
        raise ValueError("unexpected )")
    return found


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._pattern, self.at = pattern, 0
        self._flags = ""  # those of the branch that was read last

    def choice(self) -> Shape:
        flags, branches = "", [self._sequence()]
        while self._pattern.startswith("|", self.at):
            self.at += 1
            flags += self._flags  # they hold to the end of the group, through all branches that follow
            branches.append(_under(flags, self._sequence()))
        if len(branches) == 1:
            return branches[0]
        bounds = [one.longest for one in branches]
        return Shape(
            "|".join(one.whole for one in branches),
            "|".join(one.begun for one in branches),
            _either(*(one.solid for one in branches)),
            _either(*(one.empty for one in branches)),
            min(one.shortest for one in branches),
            None if None in bounds else max(bound for bound in bounds if bound is not None),
        )

    def _sequence(self) -> Shape:
        items = []
        while self.at < len(self._pattern) and self._pattern[self.at] not in "|)":
            items.append(self._repeated())
        bounds = [one.longest for one in items]
        self._flags = "".join([item.whole for item in items if _FLAGS.fullmatch(item.whole)])
        whole = begun = ""
        solid: str | None = None
        empty: str | None = ""
        for item in reversed(items):
            begun = _then(item, begun)
            solid = _either(_both(item.solid, whole), _both(item.empty, solid))
            empty = _both(item.empty, empty)
            whole = item.whole + whole
        return Shape(
            whole,
            begun,
            solid,
            empty,
            sum(one.shortest for one in items),
            None if None in bounds else sum(bound for bound in bounds if bound is not None),
        )

    def _repeated(self) -> Shape:
        item = self._atom()
        while (found := self._quantifier()) is not None:
            item = _repeat(item, *found)
        return item

    def _quantifier(self) -> tuple[str, int, int | None] | None:
        start, sign = self.at, self._pattern[self.at : self.at + 1]
        if sign and sign in "*+?":
            self.at += 1
            low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        elif (count := _COUNT.match(self._pattern, self.at)) is not None:
            self.at = count.end()
            low = int(count[1])
            high = (int(count[3]) if count[3] else None) if count[2] else low
        else:
            return None
        self.at += self._pattern.startswith("?", self.at)  # the longest match counts, lazy or not
        return self._pattern[start : self.at], low, high

    def _atom(self) -> Shape:
        pattern, start = self._pattern, self.at
        if pattern.startswith("\\Q", start):
            end = pattern.find("\\E", start)
            text = pattern[start + 2 : end if end >= 0 else len(pattern)]
            self.at = end + 2 if end >= 0 else len(pattern)
            return _literal(text)
        if flags := _FLAGS.match(pattern, start):
            self.at = flags.end()
            return Shape(flags[0], "", None, flags[0], 0, 0)
        if pattern[start] == "(":
            opening = _GROUP.match(pattern, start)
            assert opening is not None
            self.at = opening.end()
            inner = self.choice()
            if not pattern.startswith(")", self.at):
                raise ValueError("missing )")
            self.at += 1
            flagged = opening[0] if opening[0].endswith(":") else "(?:"
            solid, empty = (None if form is None else f"{flagged}{form})" for form in (inner.solid, inner.empty))
            whole, begun = f"{flagged}{inner.whole})", f"{flagged}{inner.begun})"
            return Shape(whole, begun, solid, empty, inner.shortest, inner.longest)
        if pattern[start] == "[":
            self.at = self._end_of_class(start)
        elif escape := _ESCAPE.match(pattern, start):
            self.at = escape.end()
        else:
            self.at += 1
        atom = pattern[start : self.at]
        if atom == "\\C":
            raise ValueError("\\C matches a byte, not a character")
        return Shape(atom, "", None, atom, 0, 0) if atom in _EDGES else Shape(atom, f"{atom}?", atom, None, 1, 1)

    def _end_of_class(self, start: int) -> int:
        at = start + 1
        at += self._pattern.startswith("^", at)
        at += self._pattern.startswith("]", at)
        while at < len(self._pattern) and self._pattern[at] != "]":
            if self._pattern.startswith("[:", at) and (end := self._pattern.find(":]", at)) >= 0:
                at = end + 2
            elif escape := _ESCAPE.match(self._pattern, at):
                at = escape.end()
            else:
                at += 1
        if at >= len(self._pattern):
            raise ValueError("missing ]")
        return at + 1


def _under(flags: str, branch: Shape) -> Shape:
    if not flags:
        return branch
    forms = [None if form is None else f"{flags}(?:{form})" for form in (branch.solid, branch.empty)]
    return branch._replace(begun=f"{flags}(?:{branch.begun})", solid=forms[0], empty=forms[1])


def _literal(text: str) -> Shape:
    begun = ""
    for char in reversed(text):
        begun = f"(?:{re.escape(char)}{begun})?"
    solid, empty = (re.escape(text), None) if text else (None, "")
    return Shape(re.escape(text), begun, solid, empty, len(text), len(text))


def _then(item: Shape, rest: str) -> str:
    """The beginnings of an item with something behind it, of which `rest` are the beginnings."""
    if item.longest == 0:  # an edge or flags: where the text ends before it is seen, it may hold yet
        flags = _FLAGS.fullmatch(item.whole) is not None
        return f"(?:{item.whole}(?:{rest}))" if flags else f"(?:{item.whole}(?:{rest}))?" if rest else ""
    if not rest:
        return item.begun
    if item.begun == f"{item.whole}?":  # one character
        return f"(?:{item.whole}{_closed(rest)})?"
    return f"(?:{item.whole}{_closed(rest)}|{item.begun})"


def _closed(pattern: str) -> str:
    return pattern if pattern.startswith("(?:") and pattern.endswith((")", ")?")) else f"(?:{pattern})"


def _repeat(item: Shape, sign: str, low: int, high: int | None) -> Shape:
    longest = None if high is None or item.longest is None else item.longest * high
    whole = f"{item.whole}{sign}"
    if item.longest == 0 or high == 0:
        return Shape(whole, "", None, whole, 0, 0)
    if item.begun == f"{item.whole}?":
        begun = f"{item.whole}*" if high is None else f"{item.whole}{{0,{high}}}"
    else:
        times = "*" if high is None else f"{{0,{high - 1}}}"
        begun = f"(?:{item.whole}){times}(?:{item.begun})"
    solid: str | None = whole
    if low == 0 or item.empty is not None:
        rest = "*" if high is None else f"{{0,{high - 1}}}"
        least = f"{{{low - 1},{'' if high is None else high - 1}}}" if low > 1 else rest
        solid = item.solid if high == 1 else _both(item.solid, f"(?:{item.whole}){least}")
    return Shape(whole, begun, solid, "" if low == 0 else item.empty, item.shortest * low, longest)


def _either(*patterns: str | None) -> str | None:
    known = list(dict.fromkeys(one for one in patterns if one is not None))
    return f"(?:{'|'.join(known)})" if len(known) > 1 else known[0] if known else None


def _both(first: str | None, then: str | None) -> str | None:
    return None if first is None or then is None else f"{first}{then}"

"""The numbers that values have got: in one call, or in a session."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice

import orjson

from .names import digest, placeholder
from .options import Style

_DIGEST_CHARS = 24
Value = tuple[str, str]
"""A type, and a text of it."""


@dataclass(slots=True)
class Table:
    """Which value has which number. Of the values it has keyed hashes only, and the key."""

    key: bytes = field(default_factory=lambda: os.urandom(32))
    last: Counter[str] = field(default_factory=Counter)
    numbers: dict[str, int] = field(default_factory=dict)
    used: float = 0.0
    """When it was written, in seconds since 1970."""
    is_new: bool = True
    """Whether it is to be written."""

    def names(self, style: Style, values: Iterable[Value], taken: Collection[str]) -> dict[Value, str]:
        """A placeholder for each value: its own of before, or the next of its type that is not taken.

        A number is never given twice; one that makes what is taken is given up.
        """
        found: dict[Value, str] = {}
        given = set(taken)
        for value in values:
            kind, original = value
            name = digest(self.key, kind, original)[:_DIGEST_CHARS]
            number = self.numbers.get(name, 0 if style == "hash" else None)
            while number is None or (made := placeholder(style, kind, number, original, self.key)) in given:
                self.last[kind] += 1
                number = self.last[kind]
                self.numbers[name], self.is_new = number, True
            given.add(made)
            found[value] = made
        return found

    def encoded(self, used: Iterable[Value], now: float, max_values: int, max_bytes: int) -> bytes:
        """The bytes of it; where it is too much, it forgets what was not used for longest."""
        for kind, original in used:
            name = digest(self.key, kind, original)[:_DIGEST_CHARS]
            if name in self.numbers:
                self.numbers[name] = self.numbers.pop(name)
        drop = max(0, len(self.numbers) - max_values)
        while True:
            self.numbers = dict(islice(self.numbers.items(), drop, None))
            made = orjson.dumps([1, self.key.hex(), now, self.last, self.numbers])
            if len(made) <= max_bytes or not self.numbers:
                return made
            drop = len(self.numbers) // 4 + 1


def decoded(data: bytes) -> Table | None:
    """The table of these bytes; None where they are none.

    >>> decoded(Table(last=Counter(EMAIL=2)).encoded((), 5.0, 10, 1000)).last, decoded(b"{}")
    (Counter({'EMAIL': 2}), None)
    """
    try:
        match orjson.loads(data):
            case [1, str(key), float(used), dict(last), dict(numbers)] if all(
                type(number) is int and 0 < number < 10**9 for number in (*last.values(), *numbers.values())
            ):
                return Table(bytes.fromhex(key), Counter(last), numbers, used, is_new=False)
    except ValueError:
        pass
    return None

"""What layers attach to an answer, with other texts in it: metadata, and what a block says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from neuro_mw.plain import as_plain

from .text_keys import digits, free_name

_LOST: Any = object()
_SCALARS = (bool, type(None), date, time, timedelta, Decimal, UUID, Enum)


class Attached:
    """Puts what `put` makes of a text in its place, in values and in names. What it leaves alone stays the same object.

    Sets become lists where something in them changes, and objects of other kinds (pydantic models, dataclasses, errors)
    plain data. Numbers are read under "value" alone, where an answer is said as data: elsewhere they are figures.
    ``strict``: nothing stays in which nobody could look, or of which more can be seen than is read.

    >>> Attached(str.upper).of({"id": {"a": ["b", 1, {"c"}]}})
    ({'id': {'A': ['B', 1, ['C']]}}, {})
    """

    def __init__(self, put: Callable[[str], str], *, strict: bool = False) -> None:
        self._put, self._strict = put, strict
        self._lost = 0

    def of(self, given: Mapping[Any, Any]) -> tuple[dict[Any, Any], dict[Any, int]]:
        """The data by its ids, which are no texts; and how many things were left out of it, where some were."""
        made, left_out = {}, {}
        for id, value in given.items():
            self._lost = 0
            try:
                new = self._made(value)
            except RecursionError:
                new = self._unread(value)
            if new is not _LOST:
                made[id] = new
            if self._lost:
                left_out[id] = self._lost
        return made, left_out

    def _made(self, value: Any, *, data: bool = False) -> Any:
        if isinstance(value, str):
            made: Any = self._put(value)
            return value if made == value else made
        if isinstance(value, _SCALARS):
            return value
        if isinstance(value, int | float):
            return self._number(value) if data and self._strict else value
        if isinstance(value, dict):
            return self._dict(value, data=data)
        if isinstance(value, list | tuple | set | frozenset | deque):
            return self._items(value, data=data)
        if isinstance(value, bytes | bytearray):
            return self._bytes(value)
        return self._object(value, data=data)

    def _dict(self, value: dict[Any, Any], *, data: bool) -> Any:
        made: dict[Any, Any] = {}
        same = True
        for name, one in value.items():
            new = self._made(one, data=data or name == "value")
            key = _LOST if new is _LOST else self._made(name, data=data)
            if key is not _LOST:
                try:
                    key = free_name(key, made)
                except TypeError:  # the plain form of an object is no name
                    key = self._unread(_LOST)
            if key is not _LOST:
                made[key] = new
            same = same and key is name and new is one
        return value if same else made

    def _items(self, value: Any, *, data: bool) -> Any:
        made: list[Any] = []
        same = True
        for one in value:
            new = self._made(one, data=data)
            if new is not _LOST:
                made.append(new)
            same = same and new is one
        if same:
            return value
        if isinstance(value, tuple):
            named = getattr(type(value), "_make", tuple)
            return named(made) if len(made) == len(value) else tuple(made)
        return made

    def _number(self, value: float) -> Any:
        said = digits(value)
        if said is None:
            return self._unread(value)
        made = self._put(said)
        return value if made == said else made

    def _bytes(self, value: bytes | bytearray) -> Any:
        try:
            said = value.decode()
        except UnicodeDecodeError:
            return self._unread(value)
        made = self._put(said)
        return value if made == said else made

    def _object(self, value: Any, *, data: bool) -> Any:
        try:
            plain = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else as_plain(value)
        except Exception:  # noqa: BLE001  # an object of any kind may raise anything
            plain = value
        if plain is value:
            return self._unread(value)
        made = self._made(plain, data=data)
        return value if made is plain and not self._strict else made

    def _unread(self, value: Any) -> Any:
        """What becomes of a thing in which nobody could look."""
        if not self._strict:
            return value
        self._lost += 1
        return _LOST

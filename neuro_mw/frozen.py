"""Plain data as a key, as text that is the same everywhere, as a copy; a cache of bounded size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class UnhashableError(Exception):
    """A value that cannot be told apart from others by a key."""


def freeze(value: Any) -> Any:
    """A hashable stand-in for plain data: equal for equal data of the same types, and for nothing else.

    Raises UnhashableError for objects that are neither plain data nor hashable: what depends on them cannot be cached.
    """
    if isinstance(value, Mapping):
        return "mapping", frozenset((key, freeze(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return type(value).__name__, tuple(freeze(item) for item in value)
    if isinstance(value, set | frozenset):
        return type(value).__name__, frozenset(freeze(item) for item in value)
    try:
        hash(value)
    except TypeError:
        raise UnhashableError from None
    return type(value), value


def key_of(value: Any) -> Any:
    """`freeze`, or None where the value cannot be a key."""
    try:
        return freeze(value)
    except UnhashableError:
        return None


def plain(value: Any) -> Any:
    """A stand-in whose ``repr`` is the same in each process: no addresses, no order of sets or keys."""
    if isinstance(value, Mapping):
        return sorted((repr(plain(key)), plain(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(repr(plain(item)) for item in value)
    if value is None or isinstance(value, str | bytes | int | float):
        return value
    arguments = getattr(value, "__args__", None)
    if isinstance(arguments, tuple):  # of list[int], int | None; an Annotated has more beside them
        beside = map(repr, getattr(value, "__metadata__", ()))
        return [plain(getattr(value, "__origin__", type(value))), *map(plain, arguments), *beside]
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    if isinstance(value, type) and hasattr(value, "model_json_schema"):  # of pydantic: its fields may change
        with suppress(Exception):  # not every type has a schema
            return [name, plain(value.model_json_schema())]
    return name


def own_copy(data: Any) -> Any:
    """A copy of plain data that changes of the original do not reach; other values are kept as they are."""
    if isinstance(data, Mapping):
        return {key: own_copy(value) for key, value in data.items()}
    if type(data) in (list, tuple, set):
        return type(data)(own_copy(value) for value in data)
    return data


class Bounded(Generic[K, V]):
    """The last values used, `size` of them at most."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value of a key, None where it is not there (any more)."""
        value = self._values.get(key)
        if value is not None:
            with suppress(KeyError):  # another thread may just have put it out
                self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> V:
        """Keep a value; the one used least recently goes."""
        self._values[key] = value
        while len(self._values) > self.size:
            self._values.popitem(last=False)
        return value

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()

    def __len__(self) -> int:
        return len(self._values)

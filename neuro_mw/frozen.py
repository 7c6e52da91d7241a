"""Plain data as a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def freeze(value: Any) -> Any:
    """A hashable stand-in for plain data."""
    if isinstance(value, Mapping):
        return frozenset((key, freeze(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    if isinstance(value, set | frozenset):
        return frozenset(freeze(item) for item in value)
    try:
        hash(value)
    except TypeError:
        return id(value)
    return type(value), value

"""The arguments of a tool call: JSON text as the one object that every reader of it finds in it, or nothing."""

from __future__ import annotations

from typing import Any

from ..json_schemas.reading import read

_MOST_VALUES = 20_000


def object_in(text: Any) -> dict[str, Any] | None:
    """The object that arguments are; None where they are none, or not the same one to all who read them.

    No text is an empty object: that is what a call without arguments is with many providers. None are: arguments with a
    name twice in one object, numbers that overflow, more than 64 levels or 20,000 values.

    >>> object_in('{"a": 1}'), object_in(""), object_in('{"a": 1, "a": 2}')
    ({'a': 1}, {}, None)
    """
    if not isinstance(text, str):
        return None
    try:
        value = read(text, _MOST_VALUES)
    except ValueError:
        return None if text.strip(" \t\r\n") else {}
    return value if type(value) is dict else None

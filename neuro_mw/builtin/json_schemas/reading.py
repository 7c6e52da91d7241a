"""JSON text as the one value that every reader of it finds in it."""

from __future__ import annotations

import json
from typing import Any

DEEPEST = 64  # objects and arrays in each other
_MOST_DIGITS = 308  # of one number: what is longer is infinite to most readers
_SPACE = " \t\r\n"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in an object")  # some readers take the first, others the last
    return found


def _int(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError("a number is too long")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return number


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_read = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_int, parse_float=_float, parse_constant=_constant
).raw_decode  # `decode` is this and two searches for white space, at twice the price


def read(text: str, most_values: int) -> Any:
    """The value of a JSON text, of so many values and 64 levels at most.

    Raises ValueError, which says why without a word of the text, where it is none, has a name twice in one object, a
    number that overflows, or too much of them.

    >>> read('{"a": [1, 2.5]}', 100)
    {'a': [1, 2.5]}
    """
    text = text.strip(_SPACE)
    try:
        value, end = _read(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if end < len(text):
        raise ValueError("there is more behind it")
    if len(text) > 2 * DEEPEST:  # what is shorter cannot be deep, nor have many values
        opened = text.count("{") + text.count("[")
        if opened > DEEPEST or opened + text.count(",") >= most_values:
            _check_bounds(value, most_values)
    return value


def _check_bounds(value: Any, most_values: int) -> None:
    level, seen = [value], 1
    for _ in range(DEEPEST + 1):
        level = [one for one in level if type(one) is dict or type(one) is list]
        if not level:
            return
        level = [value for one in level for value in (one.values() if type(one) is dict else one)]
        seen += len(level)
        if seen > most_values:
            raise ValueError("it has too many values")
    raise ValueError("it is nested too deeply")

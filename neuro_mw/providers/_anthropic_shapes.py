"""What params have to look like before they can be translated: what is of another type is refused by name."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

Blocks = list[dict[str, Any]]
# What reading params of another shape raises, where no check names the place.
NOT_OF_THE_SHAPE = (AttributeError, TypeError, LookupError, ValueError, OverflowError, RecursionError)


class Untranslatable(ValueError):  # noqa: N818  # what it is, not that it is one: it never leaves this package
    """What the params hold has no form in this API; says where and what to do, and none of its text."""


def dict_in(value: Any, where: str, wanted: str = "a dict") -> Mapping[str, Any]:
    """`value`, which has to be a dict, or an object of an SDK that knows itself as one. Raises Untranslatable.

    >>> dict_in({"a": 1}, "'x'")
    {'a': 1}
    """
    if isinstance(value, Mapping):
        return value
    dump = None if isinstance(value, type) else getattr(value, "model_dump", None)
    found = dump(exclude_none=True) if dump is not None else None
    if not isinstance(found, Mapping):
        raise _refused(value, where, wanted)
    return found


def list_in(value: Any, where: str, wanted: str = "a list") -> list[Any]:
    """`value` as a list; any collection will do that is neither text nor a dict. Raises Untranslatable."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Collection):
        raise _refused(value, where, wanted)
    return list(value)


def dicts_in(value: Any, where: str) -> list[Mapping[str, Any]]:
    """`value` as a list of dicts. Raises Untranslatable that counts to the one that is none.

    >>> dicts_in(["a"], "tools")
    Traceback (most recent call last):
        ...
    neuro_mw.providers._anthropic_shapes.Untranslatable: tools[0] is of type str; give a dict
    """
    return [dict_in(one, f"{where}[{number}]") for number, one in enumerate(list_in(value, where, "a list of dicts"))]


def text_in(value: Any, where: str) -> str:
    """`value`, which has to be a string; None is one without letters. Raises Untranslatable."""
    if value is None or isinstance(value, str):
        return value or ""
    raise _refused(value, where, "a string")


def texts_in(value: Any, where: str) -> list[str]:
    """`value` as a list of strings; one string is a list of one. Raises Untranslatable."""
    if isinstance(value, str):
        return [value]
    found = list_in(value, where, "a string or a list of strings")
    return [text_in(one, f"{where}[{number}]") for number, one in enumerate(found)]


def count_in(value: Any, where: str) -> int:
    """`value`, a number of tokens, rounded. Raises Untranslatable.

    >>> count_in(9.7, "'max_tokens'")
    10
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _refused(value, where, "a whole number")
    if not math.isfinite(value):
        raise Untranslatable(f"{where} is no finite number; give a whole number")
    return round(value)


def _refused(value: Any, where: str, wanted: str) -> Untranslatable:
    return Untranslatable(f"{where} is of type {type(value).__name__}; give {wanted}")

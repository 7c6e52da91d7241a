"""The formats that are judged: those of what people ask for that jsonschema itself can judge, and "date-time"."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

_FORMATS = ("date", "email", "ipv4", "ipv6", "uuid")


@cache
def formats() -> Any:
    """What judges formats."""
    from jsonschema import FormatChecker  # type: ignore[import-untyped]  # it has no types

    checker = FormatChecker(formats=_FORMATS)
    checker.checks("date-time", raises=ValueError)(_is_moment)
    return checker


def _is_moment(value: object) -> bool:
    if not isinstance(value, str):
        return True
    return value[10:11] in ("T", "t") and datetime.fromisoformat(value).tzinfo is not None

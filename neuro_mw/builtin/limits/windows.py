"""The stretches of time that a budget holds for: a day or a month in UTC, so many seconds, or all time."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator

from neuro_mw import ConfigError, nearest

_NAMED = ("day", "month")
_LONGEST_S = 366 * 86_400.0


def _read(value: Any) -> Any:
    if value is None or value in _NAMED:
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and 1 <= value <= _LONGEST_S:
        return float(value)
    near = nearest(value, _NAMED) if isinstance(value, str) else None
    said = f"it is {value!r}" if is_number or isinstance(value, str) else f"it is of type {type(value).__name__}"
    raise ConfigError(said, key="window", expected='"day", "month", or seconds from 1 to 366 days', nearest=near)


Kind = Annotated[str | float | None, BeforeValidator(_read)]
"""A day, a month, so many seconds, or (None) all time."""


class Window(NamedTuple):
    """One of them: its name within keys, when it begins and when it ends (None: never), in seconds since 1970."""

    name: str
    begins: float
    ends: float | None

def window_at(kind: str | float | None, now: float) -> Window:
    """The window that holds now; stretches of seconds are counted from 1970 on.

    >>> window_at("month", 0.0), window_at(60, 61.0).name, window_at(None, 0.0).ends
    (Window(name='1970-01', begins=0.0, ends=2678400.0), '60s-1', None)
    """
    if kind is None:
        return Window("ever", 0.0, None)
    if isinstance(kind, str):
        day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if kind == "day":
            return Window(f"{day:%Y-%m-%d}", day.timestamp(), day.timestamp() + 86400.0)
        first = day.replace(day=1)
        after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
        return Window(f"{first:%Y-%m}", first.timestamp(), after.timestamp())
    number = now // kind
    return Window(f"{kind}s-{number:.0f}", number * kind, (number + 1) * kind)

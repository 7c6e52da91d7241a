"""Rate limits as people write them: "60/minute", "100000 tokens/hour", "100 requests/10s"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from neuro_mw import ConfigError, nearest

_FORM = re.compile(
    r"(?P<amount>\d[\d_,]*) \s* (?P<unit>[a-z]+)? \s* (?:/|\bper\b) \s* "
    r"(?P<number>\d+(?:\.\d+)?)? \s* (?P<period>[a-z]+)",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_UNITS: dict[str, Literal["requests", "tokens"]] = {
    "request": "requests", "requests": "requests", "token": "tokens", "tokens": "tokens",
}  # fmt: skip
_PERIODS = {
    "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hour": 3600.0, "hours": 3600.0, "d": 86400.0, "day": 86400.0, "days": 86400.0,
}  # fmt: skip
_EXPECTED = "such as '60/minute', '100000 tokens/hour' or '100 requests/10s'"
_LONG = 100  # characters
_MOST, _LONGEST_S = 10**12, 366 * 86400.0


class Limit(NamedTuple):
    """So much in a period; `text` is how it was written."""

    amount: int
    unit: Literal["requests", "tokens"]
    period_s: float
    text: str


def read_limit(text: str, key: str = "limits") -> Limit:
    """The limit that a text means: a number, "requests" (if nothing is said) or "tokens", "/" or "per", a period.

    A period is second, minute, hour or day, or s, sec, m, min, h, d, also in plural, and may have a number before it.
    Raises ConfigError with this key.

    >>> read_limit("100 requests/10s")
    Limit(amount=100, unit='requests', period_s=10.0, text='100 requests/10s')
    """
    if len(text) > _LONG:
        raise ConfigError("it is too long for a limit", key=key, expected=_EXPECTED)
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"{text!r} is no limit", key=key, expected=_EXPECTED)
    unit, period = (found["unit"] or "requests").lower(), found["period"].lower()
    for word, known in ((unit, _UNITS), (period, _PERIODS)):
        if word not in known:
            raise ConfigError(f"{word!r} in {text!r} is not known", key=key, expected=_EXPECTED,
                              nearest=nearest(word, known))  # fmt: skip
    amount, period_s = int(re.sub("[_,]", "", found["amount"])), float(found["number"] or 1) * _PERIODS[period]
    if not 0 < amount <= _MOST:
        raise ConfigError(f"the number in {text!r} is not above 0, or too large", key=key, expected="1 to 10**12")
    if not 0.001 <= period_s <= _LONGEST_S:
        raise ConfigError(f"the period in {text!r} is too short or too long", key=key, expected="0.001 s to 366 days")
    return Limit(amount, _UNITS[unit], period_s, text.strip())


def read_limits(texts: Sequence[str]) -> list[Limit]:
    """Limits that hold together, those of requests first. Raises ConfigError where two say the same.

    >>> [limit.unit for limit in read_limits(["5000 tokens/minute", "5/second"])]
    ['requests', 'tokens']
    """
    limits: list[Limit] = []
    for index, text in enumerate(texts):
        limit = read_limit(text, f"limits.{index}")
        for other in limits:
            if (other.unit, other.period_s) == (limit.unit, limit.period_s):
                said = f"{limit.text!r} limits the same as {other.text!r}"
                raise ConfigError(said, key=f"limits.{index}", expected="one limit for each unit and period")
        limits.append(limit)
    return sorted(limits, key=lambda limit: limit.unit)

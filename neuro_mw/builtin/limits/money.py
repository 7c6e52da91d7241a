"""Money in whole nano-dollars: read, rounded and shown."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator

NANO = 10**9
MOST = 2**53 - 1


def nano_of(value: Any) -> int:
    """Dollars as they were written, in nano-dollars. Raises ValueError for what is none, below 0 or too exact.

    >>> nano_of(0.1), nano_of("12.345678901")
    (100000000, 12345678901)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError("it is not an amount of dollars")
    try:
        nano = Decimal(str(value)).scaleb(9)
    except ArithmeticError:
        raise ValueError("it is not an amount of dollars") from None
    if not nano.is_finite() or nano < 0:
        raise ValueError("it is not an amount of dollars from 0 on")
    if nano != nano.to_integral_value():
        raise ValueError("it has more than nine decimals")
    if nano > MOST:
        raise ValueError(f"it is more than {MOST / NANO:,.2f} dollars, which is the most that is counted exactly")
    return int(nano)


def _checked(value: Any) -> Any:
    nano_of(value)
    return value


Dollars = Annotated[float | int | str | Decimal, BeforeValidator(_checked)]
"""An amount that can be counted exactly."""


def shown(nano: int) -> str:
    """An amount for people.

    >>> shown(1_500_000_000), shown(1_234)
    ('$1.5', '$0.000001234')
    """
    text = f"{Decimal(nano).scaleb(-9):f}"
    return "$" + (text.rstrip("0").rstrip(".") if "." in text else text)


def whole(nano: float) -> int:
    """Rounded up, but for the noise of a multiplication.

    >>> whole(3_500_000.0000000005), whole(0.075)
    (3500000, 1)
    """
    if not math.isfinite(nano):
        return MOST
    rounded = math.ceil(nano - 0.0005)
    return rounded if 0 <= rounded <= MOST else min(max(rounded, 0), MOST)

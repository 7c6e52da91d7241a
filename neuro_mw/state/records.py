"""The state of a limit or a budget as text, for stores that keep text. What somebody else wrote is recognized."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from .scripts import MOST
from .steps import Budget, Corrupt, Lease, Meter, State


def encoded(state: State) -> str:
    """The text of a state.

    >>> encoded(Meter(used=2.5, at=1000.0, limit=60, period_s=60.0))
    '["meter", 2.5, 1000.0, 60, 60.0]'
    """
    if type(state) is Meter:
        return json.dumps(["meter", state.used, state.at, state.limit, state.period_s])
    assert type(state) is Budget
    return json.dumps(["budget", state.at, state.ttl_s, state.spent, state.leases])


def decoded(text: Any) -> State:
    """The state of a text. Raises Corrupt where it is none.

    >>> decoded('["meter", 2.5, 1000.0, 60, 60.0]')
    Meter(used=2.5, at=1000.0, limit=60, period_s=60.0)
    """
    try:
        match json.loads(text):
            case ["meter", used, at, limit, period_s]:
                _number(used, at)
                _above_0(limit, period_s)
                return Meter(used, at, limit, period_s)
            case ["budget", at, ttl_s, spent, dict(leases)]:
                _number(at)
                _above_0(ttl_s)
                _whole(spent)
                held = {lease: _lease(*fields) for lease, fields in leases.items()}
                reserved = sum(lease.amount for lease in held.values())
                first_end = min((lease.ends for lease in held.values()), default=MOST)
                return Budget(at, ttl_s, spent, reserved, first_end, held)
    except (ValueError, TypeError, OverflowError, RecursionError):
        pass
    raise Corrupt


def _lease(amount: Any, ends: Any, length_s: Any) -> Lease:
    _whole(amount)
    _number(ends)
    _above_0(length_s)
    return Lease(amount, ends, length_s)


def _number(*numbers: Any) -> None:
    if not all(type(number) in (int, float) and isfinite(number) and number >= 0 for number in numbers):
        raise Corrupt


def _above_0(*numbers: Any) -> None:
    _number(*numbers)
    if not all(numbers):
        raise Corrupt


def _whole(number: Any) -> None:
    if type(number) is not int or not 0 <= number <= MOST:
        raise Corrupt

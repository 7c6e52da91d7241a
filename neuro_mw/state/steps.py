"""How it is decided: functions of a state, the time and arguments.

Memory and sqlite run these; ``run.lua`` says the same for Redis, number for number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

from .protocol import DEFAULT_TTL_S, MAX_TTL_S
from .scripts import MOST, Rate, Spending

TICK_S = 0.000001  # times are known to a microsecond
_tuple: Any = tuple.__new__  # makes a named tuple in half the time


class Corrupt(Exception):  # noqa: N818 - it says what the entry is
    """The entry of a key is none of ours, or of another kind."""


@dataclass(slots=True)
class Meter:
    """The state of a rate limit: what was used at a time. `limit` and `period_s` are those of its last use."""

    used: float
    at: float
    limit: float
    period_s: float

    @property
    def ends(self) -> float:
        """When all is drained, so that it need not be kept."""
        return self.at + min(self.used * self.period_s / self.limit, MAX_TTL_S)


class Lease(NamedTuple):
    """Nano-dollars that are reserved until `ends`; `length_s` is how far away that may be."""

    amount: int
    ends: float
    length_s: float


@dataclass(slots=True)
class Budget:
    """The state of a budget. `reserved` is the sum of the leases; none of them ends before `first_end`."""

    at: float
    ttl_s: float
    spent: int = 0
    reserved: int = 0
    first_end: float = MOST
    leases: dict[str, Lease] = field(default_factory=dict)

    @property
    def ends(self) -> float:
        """When it is forgotten."""
        return self.at + self.ttl_s


State: TypeAlias = Meter | Budget
Step: TypeAlias = Callable[..., tuple[State | None, Rate | Spending | None]]


def _drained(state: State, now: float, limit: float, period_s: float) -> float:
    """What is used now."""
    if type(state) is not Meter:
        raise Corrupt
    elapsed = now - state.at
    used = state.used - elapsed * limit / period_s if elapsed > 0 else state.used
    return used if used > 0 else 0.0


def _metered(state: State | None, used: float, now: float, limit: float, period_s: float) -> Meter | None:
    if used <= 0:
        return None
    if type(state) is not Meter:
        return Meter(used, now, limit, period_s)
    state.used, state.at, state.limit, state.period_s = used, now, limit, period_s
    return state


def _rate(granted: bool, retry_after_s: float | None, used: float, limit: float) -> Rate:
    rate: Rate = _tuple(Rate, (granted, retry_after_s, used, limit))
    return rate


def _standing(granted: bool, budget: Budget) -> Spending:
    standing: Spending = _tuple(Spending, (granted, budget.spent, budget.reserved))
    return standing


def _take(state: State | None, now: float, amount: float, limit: float, period_s: float) -> tuple[Meter | None, Rate]:
    used = 0.0 if state is None else _drained(state, now, limit, period_s)
    most = limit + limit / period_s * TICK_S
    if used + amount <= most:
        used += amount
        if type(state) is Meter and used > 0:  # as `_metered` does
            state.used, state.at, state.limit, state.period_s = used, now, limit, period_s
            return state, _tuple(Rate, (True, 0.0, used, limit))
        return _metered(state, used, now, limit, period_s), _rate(True, 0.0, used, limit)
    retry_after_s = (used + amount - limit) * period_s / limit if amount <= most else None
    return _metered(state, used, now, limit, period_s), _rate(False, retry_after_s, used, limit)


def _return(state: State | None, now: float, amount: float, limit: float, period_s: float) -> tuple[Meter | None, Rate]:
    used = 0.0 if state is None else _drained(state, now, limit, period_s)
    used = min(max(0.0, used - amount), MOST)
    return _metered(state, used, now, limit, period_s), _rate(True, 0.0, used, limit)


def _opened(state: State | None, now: float) -> Budget | None:
    """The budget as of now: without the leases that have ended."""
    if state is None:
        return None
    if type(state) is not Budget:
        raise Corrupt
    if state.at <= now < state.first_end and now < state.at + state.ttl_s:
        state.at = now
        return state
    if now >= state.at + state.ttl_s:
        return None
    if now < state.at or now >= state.first_end:
        cut = {id: held._replace(ends=min(held.ends, now + held.length_s)) for id, held in state.leases.items()}
        state.leases = {id: held for id, held in cut.items() if held.ends > now}
        state.reserved = sum(held.amount for held in state.leases.values())
        state.first_end = min((held.ends for held in state.leases.values()), default=MOST)
    state.at = now
    return state


def _drop(budget: Budget, lease: str) -> None:
    held = budget.leases.pop(lease, None)
    if held is not None:
        budget.reserved -= held.amount


def _reserve(
    state: State | None, now: float, lease: str, amount: int, limit: int, lease_s: float, ttl_s: float
) -> tuple[Budget, Spending]:
    budget = _opened(state, now) or Budget(now, ttl_s)
    budget.ttl_s = ttl_s if ttl_s > lease_s else lease_s
    _drop(budget, lease)
    granted = budget.spent + budget.reserved + amount <= limit
    if granted:
        ends = now + lease_s
        budget.leases[lease] = _tuple(Lease, (amount, ends, lease_s))
        budget.reserved += amount
        if ends < budget.first_end:
            budget.first_end = ends
    return budget, _standing(granted, budget)


def _settle(
    state: State | None, now: float, lease: str, amount: int, again: bool = False
) -> tuple[Budget | None, Spending]:
    budget = _opened(state, now)
    if again and (budget is None or lease not in budget.leases):
        return budget, Spending(True, 0, 0) if budget is None else _standing(True, budget)
    budget = budget or Budget(now, DEFAULT_TTL_S)
    _drop(budget, lease)
    budget.spent += amount
    if budget.spent > MOST:
        budget.spent = int(MOST)
    return budget, _standing(True, budget)


def _release(state: State | None, now: float, lease: str) -> tuple[Budget | None, Spending]:
    budget = _opened(state, now)
    if budget is None:
        return None, Spending(True, 0, 0)
    _drop(budget, lease)
    return budget, _standing(True, budget)


def _peek(state: State | None, now: float) -> tuple[State | None, Rate | Spending | None]:
    if type(state) is Meter:
        used = _drained(state, now, state.limit, state.period_s)
        return state, Rate(True, 0.0, used, state.limit) if used > 0 else None
    budget = _opened(replace(state) if type(state) is Budget else state, now)
    return state, None if budget is None else _standing(True, budget)


STEPS: dict[str, Step] = {
    "take": _take,
    "return": _return,
    "reserve": _reserve,
    "settle": _settle,
    "release": _release,
    "peek": _peek,
}

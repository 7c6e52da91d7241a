"""Entries that are not what was written: a miss, or what is declared for a store that is away; counted, no crash."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_workers import MODES, answer, ask, budget_of, factory_of

from neuro_mw import LimitError, Response
from neuro_mw.state import StoreUnavailable
from neuro_mw.testing import ScriptedModel
from tests.state.conftest import redis_url, valkey

__all__ = ["redis_url", "valkey"]  # fixtures
FEW = settings().max_examples // 10
POLICIES = ["open", "closed", "local"]
LIMITS = {
    "rate_limit": {"limits": ["10/day", "1000 tokens/day"], "key": "user"},
    "budget": budget_of(100, key="user"),
}
TEXT = "the answer that was given"
WHO = {"user_id": "anna-17"}

FOREIGN: dict[str, Callable[[redis.Redis, bytes], Any]] = {
    "text": lambda client, key: client.set(key, "garbage"),
    "bytes": lambda client, key: client.set(key, b"\xff\0\xfe"),
    "nothing": lambda client, key: client.set(key, b""),
    "json": lambda client, key: client.set(key, b'[1, 5.0, "x", "", [], "stop", [1], null, null, null, {}, {}]'),
    "number": lambda client, key: client.set(key, 5),
    "large": lambda client, key: client.set(key, b"[" * (3 << 20)),
    "list": lambda client, key: client.rpush(key, "x"),
    "hash": lambda client, key: client.hset(key, mapping={"spent": "x", "lease:a": "y"}),
    "set": lambda client, key: client.sadd(key, "x"),
    "sorted set": lambda client, key: client.zadd(key, {"x": 1}),
    "stream": lambda client, key: client.xadd(key, {"x": 1}),
    "bits": lambda client, key: client.setbit(key, 7, 1),
}


def made(url: str, id: str, **options: Any) -> tuple[Any, Any, ScriptedModel]:
    scripted = ScriptedModel(answer(1, TEXT))
    factory = factory_of(url, **{id: options})
    return factory, factory.apply_middleware(scripted).with_context(session=WHO), scripted


def counts(factory: Any, id: str) -> dict[str, int]:
    return factory.registry.get_aggregated_stats()[id].counts


async def became(model: Any, mode: str) -> Response | StoreUnavailable:
    try:
        return await ask(model, mode, "a question", max_tokens=1)
    except StoreUnavailable as error:
        return error


def keys_of(client: redis.Redis, url: str) -> list[bytes]:
    return sorted(client.keys(url.split("prefix=")[1] + "*"))


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_answer_that_is_none_is_a_miss_and_made_anew(valkey, redis_url, kind):
    async def main(client: redis.Redis) -> None:
        factory, model, scripted = made(redis_url, "cache")
        async with factory:
            await became(model, "generate")
            [key] = keys_of(client, redis_url)
            for mode in MODES:
                client.delete(key)
                FOREIGN[kind](client, key)
                miss, hit = await became(model, mode), await became(model, mode)
                assert miss.text == hit.text == TEXT
                assert [one.metadata["cache"]["hit"] for one in (miss, hit)] == [False, True]
        assert len(scripted.calls) == 3
        found = counts(factory, "cache")
        assert found.pop("corrupt", 0) == (0 if kind in OTHER_TYPES else 2)
        assert found == {"misses": 3, "stored": 3, "hits": 2}

    with redis.Redis(port=valkey.port) as client:
        asyncio.run(main(client))


OTHER_TYPES = ("list", "hash", "set", "sorted set", "stream")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("id", LIMITS)
def test_a_limit_or_a_budget_that_is_none_is_as_if_the_store_were_away(valkey, redis_url, id, policy):
    """Never as if nothing had been used; what it says holds no name of a user."""

    async def main(client: redis.Redis) -> None:
        mended = await asked("generate")
        assert not mended.receipt.layers[id]["failures_skipped"]
        keys = keys_of(client, redis_url)
        assert len(keys) == len(LIMITS[id].get("limits", [""]))
        for at, (kind, foreign) in enumerate(FOREIGN.items()):
            for key in keys:
                client.delete(key)
                foreign(client, key)
            before = [client.dump(key) for key in keys]
            response = await asked(MODES[at % 2])
            if policy == "closed":
                assert isinstance(response, StoreUnavailable), kind
                assert "none of ours" in str(response)
                assert "anna" not in "".join((str(response), *getattr(response, "__notes__", ())))
            else:
                assert response.text == TEXT, kind
                assert response.receipt.layers[id]["failures_skipped"] >= 1
            assert [client.dump(key) for key in keys] == before  # it is whoever's it is
            client.delete(*keys)
            mended = await asked(MODES[at % 2])
            assert not mended.receipt.layers[id]["failures_skipped"]
            assert keys_of(client, redis_url) == keys

    async def asked(mode: str) -> Response | StoreUnavailable:
        """By another factory each time, since one whose store failed leaves it alone for a while."""
        factory, model, scripted = made(redis_url, id, **LIMITS[id], on_store_failure=policy)
        async with factory:
            response = await became(model, mode)
        assert len(scripted.calls) == isinstance(response, Response)
        skipped = response.receipt.layers[id]["failures_skipped"] if isinstance(response, Response) else 0
        assert (counts(factory, id).get("store_away", 0) == 1) == (skipped > 0)
        return response

    with redis.Redis(port=valkey.port) as client:
        asyncio.run(main(client))


@pytest.mark.parametrize("mode", MODES)
def test_the_corrupt_entry_of_one_user_stops_no_other(valkey, redis_url, mode):
    factory = factory_of(redis_url, budget=budget_of(100, key="user"))
    model = factory.apply_middleware(ScriptedModel(answer()))

    async def main() -> None:
        async with factory:
            anna, bob = (model.with_context(session={"user_id": name}) for name in ("anna", "bob"))
            await ask(anna, mode, max_tokens=1)
            with redis.Redis(port=valkey.port) as client:
                [key] = keys_of(client, redis_url)
                client.set(key, "garbage")
            with pytest.raises(StoreUnavailable, match="none of ours"):
                await ask(anna, mode, max_tokens=1)
            assert (await ask(bob, mode, max_tokens=1)).text == "hello"

    asyncio.run(main())


# --- in a file -------------------------------------------------------------------------------------------------------

CONFIGS: dict[str, dict[str, Any]] = {"cache": {}, **LIMITS}
ROWS = ["garbage", "", "[]", "null", '["meter"]', '["meter", 1, 2, 0, 4]', '["budget", 1, 2, 3]', b"\xff", 5, 5.5]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("id", CONFIGS)
def test_rows_of_others(tmp_path, id, policy):
    path = tmp_path / "state.db"

    async def main() -> None:
        _, model, _ = made(f"sqlite:///{path}", id, **CONFIGS[id])
        await became(model, "generate")
        for at, row in enumerate(ROWS):
            with closing(sqlite3.connect(path)) as connection, connection:
                changed = connection.execute("UPDATE entries SET value = ?", (row,)).rowcount
                changed += connection.execute("UPDATE states SET state = ?", (row,)).rowcount
                assert changed >= 1
            factory, model, scripted = made(f"sqlite:///{path}", id, **CONFIGS[id], on_store_failure=policy)
            response = await became(model, MODES[at % 2])
            if policy == "closed" and id != "cache":
                assert isinstance(response, StoreUnavailable), row
                assert scripted.calls == []
                continue
            assert response.text == TEXT
            if id == "cache":
                assert counts(factory, id).pop("corrupt", 0) == (type(row) is bytes)
                assert (await became(model, "stream")).metadata["cache"]["hit"]
            else:
                assert counts(factory, id)["store_away"] == 1
                assert response.receipt.layers[id]["failures_skipped"] >= 1
            assert len(scripted.calls) == 1

    asyncio.run(main())


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """A file with an answer, two limits and a budget."""
    path: Path = tmp_path_factory.mktemp("state") / "state.db"

    async def main() -> None:
        factory = factory_of(f"sqlite:///{path}", **CONFIGS)
        async with factory:
            model = factory.apply_middleware(ScriptedModel(answer(1, TEXT))).with_context(session=WHO)
            await ask(model, "generate", "a question", max_tokens=1)

    asyncio.run(main())
    return path


@settings(max_examples=2 * FEW)
@given(
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 127)), min_size=1, max_size=20),
    policy=st.sampled_from(POLICIES),
)
def test_bytes_that_flipped_in_the_file(file, flips, policy):
    """Whatever they make of it: the right answer, a limit that holds, or what was declared."""
    broken = bytearray(file.read_bytes())
    text = broken.index(TEXT.encode())
    places = [at for at, byte in enumerate(broken) if byte and not text <= at < text + len(TEXT)]
    for place, bits in flips:
        broken[places[place % len(places)]] ^= bits

    async def asked(url: str, id: str) -> list[Any]:
        _, model, _ = made(url, id, **CONFIGS[id], on_store_failure=policy)
        calls = (ask(model, mode, "a question", max_tokens=1) for mode in MODES)
        return [one for call in calls for one in await asyncio.gather(call, return_exceptions=True)]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        for id in CONFIGS:
            path.write_bytes(broken)
            for became in asyncio.run(asked(f"sqlite:///{path}", id)):
                if isinstance(became, Response):
                    assert became.text == TEXT
                else:
                    allowed = (StoreUnavailable,) * (policy == "closed") + (LimitError,) * (id != "cache")
                    assert isinstance(became, allowed), became

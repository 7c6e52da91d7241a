"""Broken files and entries, clocks that differ, layers between: where state is shared, and went wrong once."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

import pytest
import redis
from shared_workers import MODES, answer, ask, budget_of, factory_of
from test_shared_clock import Ticking, host
from test_shared_trips import ASKED, CONFIGS, MODEL, server, told

from neuro_mw.state import StoreUnavailable
from neuro_mw.testing import ScriptedModel
from tests.state.conftest import redis_url, valkey

__all__ = ["redis_url", "server", "valkey"]  # fixtures


def corrupt(valkey: Any, url: str, part: str) -> None:
    """Somebody writes over the one key whose name holds this."""
    with redis.Redis(port=valkey.port) as client:
        [key] = [key for key in client.keys(url.split("prefix=")[1] + "*") if part in key.decode()]
        client.set(key, "garbage")


@pytest.mark.parametrize("mode", MODES)
def test_the_corrupt_entry_of_a_budget_leaves_the_limits_as_they_are(valkey, redis_url, mode):
    factory = factory_of(redis_url, rate_limit={"limits": ["5/day"]}, budget=budget_of(100))
    model = factory.apply_middleware(ScriptedModel(answer()))

    async def main() -> None:
        async with factory:
            await ask(model, mode, max_tokens=1)
            corrupt(valkey, redis_url, "budget:")
            with pytest.raises(StoreUnavailable, match="none of ours"):
                await ask(model, mode, max_tokens=1)
            assert "store_away" not in factory.registry.get_aggregated_stats()["rate_limit"].counts

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
def test_a_text_that_was_changed_is_a_miss(tmp_path, mode):
    path = tmp_path / "state.db"
    model = factory_of(f"sqlite:///{path}", cache={}).apply_middleware(ScriptedModel(answer(1, "transfer 100 dollars")))

    async def main() -> None:
        await ask(model, mode)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE entries SET value = CAST(replace(value, '100', '900') AS BLOB)")
        assert (await ask(model, mode)).text == "transfer 100 dollars"

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
def test_a_host_whose_clock_is_ahead_has_hits_too(redis_url, mode):
    factory, scripted = factory_of(redis_url, cache={"ttl_s": 60}), ScriptedModel(answer())
    model = factory.apply_middleware(scripted)

    async def main() -> None:
        async with factory:
            await ask(model, mode)
            with host(Ticking()) as clock:
                clock.ahead = 61.0
                assert (await ask(model, mode)).metadata["cache"]["hit"]

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
def test_a_file_whose_schema_is_no_text_is_a_store_that_is_away(tmp_path, mode):
    path = tmp_path / "state.db"
    asyncio.run(ask(factory_of(f"sqlite:///{path}", cache={}).apply_middleware(ScriptedModel(answer())), mode))
    broken = bytearray(path.read_bytes())
    broken[broken.index(b"CREATE TABLE entries") + 8] ^= 0x80
    path.write_bytes(broken)
    for name in ("state.db-wal", "state.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    model = factory_of(f"sqlite:///{path}", cache={}).apply_middleware(ScriptedModel(answer()))
    assert asyncio.run(ask(model, mode)).text == "hello"


def test_a_store_that_is_not_there_at_the_start_is_said_with_its_place(tmp_path):
    factory = factory_of(f"sqlite:///{tmp_path}/missing/state.db", budget=budget_of(1))

    async def main() -> str:
        with pytest.raises(StoreUnavailable) as caught:
            async with factory:
                raise AssertionError
        return "\n".join((str(caught.value), *getattr(caught.value, "__notes__", ())))

    assert "middleware 'budget' does not start without it" in asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
def test_a_request_that_becomes_longer_further_in_is_one_command_before_the_model(redis_url, server, mode):
    configs = {**CONFIGS, "budget": {"limit_usd": 100}, "default_settings": {"system": "Be brief."}}
    factory = factory_of(redis_url, **configs)

    async def one(wrapped: Any) -> None:
        await ask(wrapped, mode, max_tokens=10)

    assert told(factory, server, ScriptedModel(answer(4)), one) == [[ASKED, MODEL, ASKED]]

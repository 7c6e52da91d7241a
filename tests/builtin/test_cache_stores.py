"""cache on Valkey: what is shared, how often it is asked, and what holds while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import redis
from pydantic import BaseModel

from neuro_mw import MiddlewareFactory, MiddlewareMetadata, Params, Response, middleware
from neuro_mw.builtin._keeping import Keeping
from neuro_mw.builtin.cache import Cache
from neuro_mw.state import Read, Reserve, Script, StoreUnavailable, Take
from neuro_mw.testing import FaultyModel, ScriptedModel
from tests.builtin.test_cache import MODES, PAIRS, ask, chain, told
from tests.state.conftest import mortal, redis_url, valkey

__all__ = ["mortal", "redis_url", "valkey"]  # fixtures


class Limit(Keeping):
    """Stands outside of the cache and asks the same store: a rate limit, as plain as can be."""

    metadata = MiddlewareMetadata(id="limit", priority=98, kind="control")
    name, key = "take", "limit"

    class Config(BaseModel):
        store: str | None = None
        on_store_failure: str = "open"

    def scripts(self) -> list[Script]:
        return [Take(self.key, 1, limit=100, period_s=60.0)]

    def foresee(self, params: Params, context: Any) -> Sequence[Script]:
        return self.scripts()

    async def transform_params(self, params: Params, context: Any) -> Params:
        found = self.foreseen(self.name, self.key, context)
        if found is None:
            await self.ask(self.scripts(), params, context)
        else:
            self.used(found[0], context)
        return params

    async def on_end(self, outcome: Any, context: Any) -> None:
        await self.write(context)


class Inner(Limit):
    """Stands further in: a budget."""

    metadata = MiddlewareMetadata(id="inner", priority=35, kind="control")
    name, key = "reserve", "inner"

    def scripts(self) -> list[Script]:
        return [Reserve(self.key, "lease", 5, limit=100, lease_s=60.0, ttl_s=60.0)]


def counted(store: Any) -> list[list[str]]:
    """The round trips from here on: the names of the scripts of each."""
    trips, run = [], store.run

    async def running(*scripts: Script) -> Any:
        trips.append([one.name for one in scripts])
        return await run(*scripts)

    store.run = running
    return trips


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_processes_share_it(redis_url, first, second):
    async def main():
        answers = []
        for mode in (first, second):
            _, wrapped = chain(model := ScriptedModel("hello"), factory={"state": redis_url})
            answers.append(await ask(wrapped, mode))
            assert len(model.calls) == (mode is first and len(answers) == 1)
        return answers

    miss, hit = asyncio.run(main())
    assert (told(miss), told(hit)) == (False, True)
    assert miss.text == hit.text == "hello"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layers", [[], [Limit], [Inner], [Limit, Inner]])
def test_one_round_trip_for_a_hit_and_two_for_a_miss(redis_url, mode, layers):
    cache = Cache()
    factory = MiddlewareFactory(
        preset=None, plugins=False, state=redis_url, middleware=[cache, *(layer() for layer in layers)]
    )
    model = ScriptedModel("hello")
    wrapped = factory.apply_middleware(model)

    async def main():
        async with factory:
            trips = counted(cache.store)
            miss, hit = await ask(wrapped, mode), await ask(wrapped, mode)
            assert (told(miss), told(hit)) == (False, True)
            return trips

    trips = asyncio.run(main())
    asked = ["take"] * (Limit in layers) + ["read"] + ["reserve"] * (Inner in layers)
    assert trips == [asked, ["write"], asked]
    assert len(model.calls) == 1


def test_a_hundred_at_once_are_one_call_and_one_question(redis_url):
    cache, wrapped = chain(model := FaultyModel("abc", delay_s=0.001), factory={"state": redis_url})

    async def main():
        trips = counted(cache.store)
        answers = await asyncio.gather(*(ask(wrapped, MODES[n % 2]) for n in range(100)))
        assert {one.text for one in answers} == {"abc"}
        return trips

    assert asyncio.run(main()) == [["read"], ["write"]]
    assert len(model.calls) == 1


@pytest.mark.parametrize("mode", MODES)
def test_an_entry_of_another_kind_is_a_miss(valkey, redis_url, mode):
    cache, wrapped = chain(model := ScriptedModel("hello"), factory={"state": redis_url})

    async def main():
        await ask(wrapped, mode)
        with redis.Redis(port=valkey.port) as client:
            (name,) = client.keys(redis_url.split("prefix=")[1] + "*")
            client.delete(name)
            client.lpush(name, "x")
        return [await ask(wrapped, mode) for _ in range(2)]

    responses = asyncio.run(main())
    assert [(one.text, told(one)) for one in responses] == [("hello", False), ("hello", True)]
    assert len(model.calls) == 2
    assert cache.tally.counts() == {"misses": 2, "stored": 2, "hits": 1}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", ["open", "closed", "local"])
def test_the_server_goes_away(mortal, policy, mode):
    url = f"redis://127.0.0.1:{mortal.port}?timeout_s=0.3&connect_timeout_s=0.3"
    cache, wrapped = chain(model := ScriptedModel("hello"), store=url, on_store_failure=policy)

    async def main():
        assert not told(await ask(wrapped, mode))
        mortal.terminate()
        if policy == "closed":
            for _ in range(3):
                calls = asyncio.gather(*(ask(wrapped, mode) for _ in range(5)), return_exceptions=True)
                answers = await asyncio.wait_for(calls, 10)
                assert [type(one) for one in answers] == [StoreUnavailable] * 5
            return
        answers = await asyncio.gather(*(ask(wrapped, mode) for _ in range(20)))
        answers.append(await ask(wrapped, mode))
        assert {one.text for one in answers} == {"hello"}
        assert told(answers[-1]) == (policy == "local")

    asyncio.run(main())
    assert len(model.calls) <= {"open": 3, "closed": 1, "local": 2}[policy]
    if policy != "closed":
        assert cache.tally.counts()["store_away"] >= 1


def test_what_is_too_large_is_not_sent(redis_url):
    cache, wrapped = chain(
        ScriptedModel(Response(text="a" * 5000)), factory={"state": redis_url + "&max_value_bytes=4000"}
    )

    async def main():
        trips = counted(cache.store)
        await ask(wrapped, "generate")
        return trips

    assert asyncio.run(main()) == [["read"]]
    assert cache.tally.counts() == {"misses": 1, "unstored.size": 1}


def test_keys_tell_nothing(valkey, redis_url):
    """Neither what was asked nor the key of an account can be read from the name of an entry."""
    _, wrapped = chain(ScriptedModel("hello"), factory={"state": redis_url}, scope="user")

    async def main():
        await ask(wrapped.with_context(session={"user_id": "anna"}), "generate", "a question", api_key="sk-1")

    asyncio.run(main())
    with redis.Redis(port=valkey.port) as client:
        (name,) = client.keys(redis_url.split("prefix=")[1] + "*")
        assert not any(word in name + client.get(name) for word in (b"question", b"sk-1", b"anna"))
        assert 0 < client.ttl(name) <= 3600


@pytest.mark.parametrize("mode", MODES)
def test_what_is_foreseen_is_what_is_asked(mode):
    cache, seen = Cache(), []

    def foreseeing(params, context):
        seen.extend(cache.foresee(params, context))
        return params

    outer = middleware("outer", priority=98, transform_params=foreseeing)
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[cache, outer])
    asyncio.run(ask(factory.apply_middleware(ScriptedModel("hello")), mode))
    assert seen == [Read(key) for key in cache.store._values]

"""One command before the model and one after it, as the server itself saw them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import pytest
import redis
from shared_workers import MODES, PER_TOKEN, answer, ask, factory_of

from neuro_mw import BudgetExceeded, MiddlewareFactory, ProviderUnavailable, RateLimitExceeded
from neuro_mw.testing import FaultyModel, ScriptedModel
from tests.state.conftest import redis_url, valkey

__all__ = ["redis_url", "valkey"]  # fixtures
CONFIGS: dict[str, dict[str, Any]] = {
    "rate_limit": {"limits": ["1000/minute", "1000000 tokens/hour"], "key": "user"},
    "cache": {},
    "budget": {"limit_usd": 100, "prices": PER_TOKEN},
}
SUBSETS = [some for number in (1, 2, 3) for some in combinations(CONFIGS, number)]
ASKED, MODEL = "EVALSHA", "the model"


class Server:
    """What a server is told, in order: the names of commands, and when a model was asked."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.monitor = client.monitor().__enter__()

    def mark(self, what: str) -> None:
        """Put a mark between the commands."""
        self.client.echo(what)

    def seen(self) -> list[str]:
        """What came since the last time, without what the scripts do on the server."""
        self.mark("end")
        found = []
        while (one := self.monitor.next_command())["command"] != "ECHO end":
            name, _, rest = one["command"].partition(" ")
            if one["client_type"] != "lua" and name not in ("CLIENT", "SELECT", "HELLO"):
                found.append(rest if name == "ECHO" else name)
        return found


@pytest.fixture
def server(valkey) -> Iterator[Server]:
    with redis.Redis(port=valkey.port) as client:
        server = Server(client)
        yield server
        server.monitor.__exit__(None, None, None)


def marking(server: Server, model: Any) -> Any:
    """The model, which leaves a mark when it is asked."""

    class Marking(type(model)):  # type: ignore[misc]
        def generate(self, params: Any) -> Any:
            server.mark(MODEL)
            return super().generate(params)

        def stream(self, params: Any) -> Any:
            server.mark(MODEL)
            return super().stream(params)

    model.__class__ = Marking
    return model


def told(factory: MiddlewareFactory, server: Server, model: Any, *calls: Callable[[Any], Any]) -> list[list[str]]:
    """What the server was told in each call; the first one, which connects, is not counted."""
    wrapped = factory.apply_middleware(marking(server, model))

    async def main() -> list[list[str]]:
        async with factory:
            await ask(wrapped, "generate", "warm", max_tokens=10)
            server.seen()
            found = []
            for call in calls:
                await call(wrapped)
                found.append(server.seen())
            return found

    return asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ids", SUBSETS, ids="+".join)
def test_a_miss_is_one_command_before_the_model_and_one_after_it(ids, mode, redis_url, server):
    factory = factory_of(redis_url, **{id: CONFIGS[id] for id in ids})

    async def one(wrapped: Any) -> None:
        await ask(wrapped, mode, max_tokens=10)

    miss, hit = told(factory, server, ScriptedModel(answer(4)), one, one)
    assert miss == [ASKED, MODEL, ASKED]
    if "cache" in ids:
        assert hit[0] == ASKED
        assert hit[1:] in ([], [ASKED])
        assert len(hit) == 1 or "rate_limit" in ids  # which gives the tokens back
    else:
        assert hit == miss


@pytest.mark.parametrize("mode", MODES)
def test_each_attempt_behind_a_retry_is_one_command_more(mode, redis_url, server):
    down = [ProviderUnavailable("down", provider="openai", model="gpt-4o", retryable=True) for _ in range(2)]
    factory = factory_of(redis_url, retry={"initial_delay_s": 0, "attempts": 4}, **CONFIGS)
    model = ScriptedModel(answer(4), errors=[None, *down])

    async def one(wrapped: Any) -> None:
        assert (await ask(wrapped, mode, max_tokens=10)).text == "hello"

    [seen] = told(factory, server, model, one)
    assert seen == [ASKED, MODEL, ASKED, MODEL, ASKED, MODEL, ASKED]


@pytest.mark.parametrize("mode", MODES)
def test_what_fails_is_left_or_is_refused_is_asked_no_more_often(mode, redis_url, server):
    factory = factory_of(redis_url, **{**CONFIGS, "budget": {**CONFIGS["budget"], "limit_usd": 0.1}})
    model = ScriptedModel(answer(4), cuts=[1], errors=[None, ProviderUnavailable("d", provider="a", model="b")])

    async def fails(wrapped: Any) -> None:
        with pytest.raises(ProviderUnavailable):
            await ask(wrapped, mode, "one", max_tokens=10)

    async def left(wrapped: Any) -> None:
        async with wrapped.stream("two", max_tokens=10) as stream:
            await anext(stream)

    async def too_dear(wrapped: Any) -> None:
        with pytest.raises(BudgetExceeded):
            await ask(wrapped, mode, "three", max_tokens=99)

    async def too_many(wrapped: Any) -> None:
        with pytest.raises(RateLimitExceeded):
            await ask(wrapped, mode, "four", max_tokens=999_990)

    failed, abandoned, dear, many = told(factory, server, model, fails, left, too_dear, too_many)
    assert failed == abandoned == [ASKED, MODEL, ASKED]
    assert MODEL not in [*dear, *many]
    assert len(dear) <= 3  # the budget counts the tokens before it refuses; the tokens of the limit go back
    assert len(many) <= 2


@pytest.mark.parametrize("mode", MODES)
def test_presets_that_limit_and_guard_ask_no_more_often(mode, redis_url, server):
    factory = MiddlewareFactory(
        preset=["production", "cost"], plugins=False, state=redis_url,
        middleware_config={id: {"config": config} for id, config in CONFIGS.items()},
    )  # fmt: skip

    async def one(wrapped: Any) -> None:
        await ask(wrapped, mode, "a question about the weather", max_tokens=10)

    miss, hit = told(factory, server, ScriptedModel(answer(4)), one, one)
    assert miss == [ASKED, MODEL, ASKED]
    assert hit == [ASKED, ASKED]


@pytest.mark.parametrize("mode", MODES)
def test_many_calls_at_once_are_two_commands_each(mode, redis_url, server):
    factory = factory_of(redis_url, **CONFIGS)

    async def many(wrapped: Any) -> None:
        await asyncio.gather(*(ask(wrapped, mode, f"question {at}", max_tokens=10) for at in range(40)))

    async def equal(wrapped: Any) -> None:
        await asyncio.gather(*(ask(wrapped, mode, "the same", max_tokens=10) for _ in range(40)))

    different, same = told(factory, server, FaultyModel(answer(4), delay_s=0.005), many, equal)
    assert (different.count(ASKED), different.count(MODEL)) == (80, 40)
    assert same.count(MODEL) == 1
    assert 40 <= same.count(ASKED) <= 80

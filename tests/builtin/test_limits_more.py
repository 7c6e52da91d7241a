"""rate_limit and budget: keys and tables that stay apart and small, stores that are full or broken, what is refused."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from decimal import ROUND_CEILING, Decimal
from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import (
    ConfigError,
    MiddlewareContext,
    MiddlewareFactory,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimitExceeded,
    Response,
    Usage,
    middleware,
    pricing,
)
from neuro_mw.builtin._size import size_of
from neuro_mw.builtin.budget import Budget
from neuro_mw.builtin.cache import Cache
from neuro_mw.builtin.limits.costs import Prices, Rates
from neuro_mw.builtin.limits.line import Lines
from neuro_mw.builtin.rate_limit import RateLimit
from neuro_mw.builtin.retry import Retry
from neuro_mw.options import MiddlewareFactoryOptions
from neuro_mw.state import Peek, Spending, StoreUnavailable, open_store
from neuro_mw.state.memory import MemoryStore
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel
from tests.state.conftest import redis_url, valkey

__all__ = ["redis_url", "valkey"]  # fixtures
MODES = ["generate", "stream"]


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


def factory_of(*layers, state=None, clock=None):
    for layer in layers:
        if clock is not None and layer.uses_store:
            layer.store = MemoryStore(clock=clock)
    return MiddlewareFactory(preset=None, plugins=False, middleware=layers, **({"state": state} if state else {}))


def limited(model, *layers, **more):
    return factory_of(*layers, **more).apply_middleware(model)


async def call(model, mode="generate", prompt="hello", *, user=None, **params):
    if user is not None:
        model = model.with_context(session={"user_id": user})
    if mode == "generate":
        return await model.generate(prompt, **params)
    return await model.stream(prompt, **params).response()


def used(limit, at=0, whose="global"):
    [rate] = asyncio.run(limit.store.run(Peek(limit._key(whose, limit._limits[at]))))
    return rate.used if rate else 0.0


def said(tokens_in=3, tokens_out=2):
    return Response(text="hello", usage=Usage(tokens_in, tokens_out))


# --- stores that are broken, full, or its own --------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["open", "closed", "local"])
def test_a_broken_entry_in_a_file_stops_nobody_else(tmp_path, policy):
    """It is that one key: the store is not away, and is asked for all others at once."""
    path = tmp_path / "state.db"
    limit = RateLimit(limits=["2/day"], key="user", on_store_failure=policy, store=f"sqlite:///{path}")
    model = limited(ScriptedModel(), limit)

    async def main():
        for user in ("ada", "bob"):
            await call(model, user=user)
        with closing(sqlite3.connect(path)) as connection, connection:
            [(key,)] = connection.execute("SELECT key FROM states WHERE CAST(key AS TEXT) LIKE '%ada'").fetchall()
            connection.execute("UPDATE states SET state = 'garbage' WHERE key = ?", (key,))
        with suppress(StoreUnavailable):
            await call(model, user="ada")
        await call(model, user="bob")
        with pytest.raises(RateLimitExceeded):
            await call(model, user="bob")
        await limit.aclose()

    asyncio.run(main())
    assert limit.tally.counts() == {"rejected": 1, **({} if policy == "closed" else {"store_away": 1})}


@pytest.mark.parametrize("policy", ["open", "closed", "local"])
def test_a_full_store_in_memory_disturbs_no_key_that_it_holds(policy):
    limit = RateLimit(limits=["3/day"], key="user", on_store_failure=policy)
    limit.store = MemoryStore(max_meters=2, clock=Clock())
    model = limited(ScriptedModel(), limit)

    async def main():
        for user in ("ada", "bob"):
            await call(model, user=user)
        for user in ("cyd", "dan", "cyd"):
            with suppress(StoreUnavailable):
                await call(model, user=user)
        for user in ("ada", "bob", "ada", "bob"):
            await call(model, user=user)
        for user in ("ada", "bob"):
            with pytest.raises(RateLimitExceeded):
                await call(model, user=user)

    asyncio.run(main())
    assert limit.tally.counts() == {"rejected": 2, **({} if policy == "closed" else {"store_away": 3})}
    assert (used(limit, whose="user:ada"), used(limit, whose="user:bob")) == (3, 3)


@pytest.mark.parametrize("make", [
    lambda url: RateLimit(limits=["5/day"], store=url), lambda url: Budget(limit_usd=1, store=url),
    lambda url: Cache(store=url),
])  # fmt: skip
def test_a_store_of_its_own_is_closed_with_the_factory(tmp_path, make):
    layer = make(f"sqlite:///{tmp_path}/state.db")
    factory = factory_of(layer)

    async def main():
        async with factory:
            await call(factory.apply_middleware(ScriptedModel()), max_tokens=5)
            assert layer.store._connection is not None
        assert layer.store._connection is None

    asyncio.run(main())


# --- tokens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [
    ["1000 tokens/minute", "100 tokens/second"], ["100 tokens/second", "1000 tokens/minute"],
])  # fmt: skip
def test_of_two_limits_of_tokens_the_smaller_decides(limits):
    """Which calls can never pass; and how much is counted."""
    limit, scripted = RateLimit(limits=limits), ScriptedModel(said())
    model = limited(scripted, limit, clock=Clock())
    with pytest.raises(RateLimitExceeded, match="100 tokens/second' can never") as caught:
        asyncio.run(call(model, max_tokens=150))
    assert caught.value.retry_after is None
    assert scripted.calls == []
    asyncio.run(call(model, prompt=" " * 600, max_tokens=40))  # 150 by its bytes, a few when they are counted
    assert [used(limit, at) for at in (0, 1)] == [5, 5]


@pytest.mark.parametrize("mode", MODES)
def test_behind_a_retry_each_attempt_is_counted_once(mode):
    """Those before it are not its own."""
    late = [ProviderTimeout("late", provider="openai", model="gpt-4o", retryable=True) for _ in range(2)]
    limit = RateLimit(limits=["10/day", "1000 tokens/day"])
    limit.store = MemoryStore(clock=Clock())
    factory = factory_of(Retry(initial_delay_s=0, attempts=3))
    factory.register(limit, replace=True, default_enabled=True, priority=40)
    asyncio.run(call(factory.apply_middleware(ScriptedModel(said(), errors=late)), mode, max_tokens=100))
    about = size_of({"messages": [{"role": "user", "content": "hello"}]}, "gpt-4o").about + 100
    assert [used(limit, at) for at in (0, 1)] == [3, 2 * about + 5]


@pytest.mark.parametrize("mode", MODES)
def test_behind_a_retry_what_asked_no_model_gives_back_all(mode):
    """Also where an attempt before it did."""
    asked = []

    def second_fails(params, context):
        asked.append(1)
        if len(asked) == 2:
            raise RuntimeError("before any model")
        return params

    down = ProviderUnavailable("down", provider="openai", model="gpt-4o", retryable=True, status=503)
    limit = RateLimit(limits=["10/day", "1000 tokens/day"])
    limit.store = MemoryStore(clock=Clock())
    factory = factory_of(Retry(initial_delay_s=0, attempts=3),
                         middleware("fails", transform_params=second_fails, priority=10))  # fmt: skip
    factory.register(limit, replace=True, default_enabled=True, priority=40)
    with pytest.raises(RuntimeError):
        asyncio.run(call(factory.apply_middleware(ScriptedModel(said(), errors=[down])), mode, max_tokens=100))
    assert [used(limit, at) for at in (0, 1)] == [1, 0]


@pytest.mark.parametrize("mode", MODES)
def test_who_waits_for_one_of_two_limits_takes_of_the_other_once(mode):
    """What the first gave is returned while the second refuses, once each time."""
    limit, clock = RateLimit(limits=["5/day", "1/0.1s"], on_exceeded="wait"), Clock()
    model = limited(ScriptedModel(), limit, clock=clock)

    async def main():
        await call(model, mode)
        tasks = [asyncio.ensure_future(call(model, mode)) for _ in range(3)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.01)
            clock.now += 0.02
            assert used(limit) <= 4
        await asyncio.gather(*tasks)

    def used(limit):
        return limit.store.decide("peek", limit._key("global", limit._limits[0])).used

    asyncio.run(main())
    assert isclose(used(limit), 4, abs_tol=0.01)


@pytest.mark.parametrize("mode", MODES)
def test_who_would_wait_too_long_returns_once_what_the_other_limit_gave(mode):
    limit = RateLimit(limits=["5/day", "2/hour"], on_exceeded="wait", max_wait_s=1)
    model = limited(ScriptedModel(), limit, clock=Clock())

    async def main():
        for _ in range(2):
            await call(model, mode)
        for _ in range(3):
            with pytest.raises(RateLimitExceeded, match="2/hour"):
                await call(model, mode)

    asyncio.run(main())
    assert (used(limit, 0), used(limit, 1)) == (2, 2)


def test_images_and_files_that_nobody_can_count_reserve_all_that_a_model_reads():
    file = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}}
    budget = Budget(limit_usd=100, window=None)
    budget.store = MemoryStore(clock=Clock())
    model = limited(FaultyModel(said(), faults=[Fault(0, stall_s=5)]), budget)

    async def main():
        messages = [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, file]}]
        task = asyncio.ensure_future(model.generate(messages=messages, max_tokens=1))
        for _ in range(5):
            await asyncio.sleep(0)
        [standing] = await budget.store.run(Peek("budget:budget:None:ever:global"))
        task.cancel()
        await asyncio.wait([task])
        return standing

    price, window = pricing.price_of("openai", "gpt-4o"), pricing.context_window("openai", "gpt-4o")
    standing = asyncio.run(main())
    assert isinstance(standing, Spending)
    assert standing.reserved >= window.max_input_tokens * price.input * 1000


# --- keys --------------------------------------------------------------------------------------------------------


def one_name(context):
    return "the same"


def another_name(context):
    return "the same"


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_two_functions_that_say_the_same_mean_two_limits(kind, tmp_path, request):
    url = f"sqlite:///{tmp_path}/state.db" if kind == "sqlite" else request.getfixturevalue("redis_url")

    async def main():
        passed = []
        for key in (one_name, another_name, one_name):
            factory = factory_of(RateLimit(limits=["1/day"], key=key), state=url)
            async with factory:
                try:
                    await call(factory.apply_middleware(ScriptedModel()))
                    passed.append(key)
                except RateLimitExceeded:
                    pass
        return passed

    assert asyncio.run(main()) == [one_name, another_name]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
@pytest.mark.parametrize(("of", "config"), [
    (RateLimit, {"limits": ["2/day"]}),
    (Budget, {"limit_usd": "0.02", "window": None, "prices": {"gpt-4o": {"input": 0, "output": 1000}}}),
])  # fmt: skip
def test_two_under_two_ids_in_one_store_are_apart(kind, of, config, tmp_path, request):
    """Both in one chain: each has its own books, and two calls are two calls for each."""
    url = f"sqlite:///{tmp_path}/state.db" if kind == "sqlite" else request.getfixturevalue("redis_url")

    async def main():
        factory = MiddlewareFactory(preset=None, plugins=False, state=url)
        for id in ("near", "far"):
            factory.register(of, id=id, default_enabled=True, global_config=config)
        async with factory:
            model = factory.apply_middleware(ScriptedModel(said(3, 10)))
            for _ in range(2):
                assert (await call(model, max_tokens=10)).text == "hello"

    asyncio.run(main())


@pytest.mark.parametrize("user", ["a\nb", "a\0b", "\ud800", "a" * 300, "\u202e", " \t"])
def test_an_id_that_cannot_be_written_as_it_is_becomes_a_hash(user):
    """And is told from others by it."""
    store = MemoryStore(clock=Clock())
    limit = RateLimit(limits=["1/day"], key="user")
    limit.store = store
    model = limited(ScriptedModel(), limit)
    asyncio.run(call(model, user=user))
    [key] = store._states
    assert "#" in key
    assert user not in key
    assert len(key) < 200
    asyncio.run(call(model, user=user + "x"))
    with pytest.raises(RateLimitExceeded):
        asyncio.run(call(model, user=user))


def test_tables_of_known_keys_are_bounded():
    limit = RateLimit(limits=["1/day"], key="user")
    model = limited(ScriptedModel(), limit, clock=Clock())

    async def main():
        for at in range(2100):
            await call(model, user=f"u{at}")
            assert len(limit._known) <= 1024
        with pytest.raises(RateLimitExceeded):
            await call(model, user="u0")

    asyncio.run(main())
    prices = Prices({"echo": {"input": 1, "output": 1}})
    for at in range(2100):
        prices.rates("echo", f"m{at}")
        assert len(prices._known) <= 1024
    assert prices.rates("echo", "echo") is not None


# --- the line ----------------------------------------------------------------------------------------------------


def test_who_waited_in_a_loop_that_was_closed_stops_nobody():
    lines, first = Lines(), []

    async def leaves():
        first.append(lines.join("key", [1]))

    async def waits():
        ticket = lines.join("key", [2])
        assert lines.ahead("key", ticket) == []
        other = lines.join("key", [3])
        assert lines.ahead("key", other) == [[2]]
        lines.tell("key")
        lines.leave("key", ticket)
        async with asyncio.timeout(5):
            await other.sleep(60)  # it is told that it is the first
        assert lines.ahead("key", other) == []
        lines.leave("key", other)

    asyncio.run(leaves())
    assert first[0].gone
    asyncio.run(waits())
    assert "key" not in lines


def test_what_is_given_back_wakes_the_first_who_is_still_there():
    """Behind one whose loop was closed."""
    lines = Lines()

    async def leaves():
        lines.join("key", [1])

    async def waits():
        ticket = lines.join("key", [2])
        lines.tell("key")
        async with asyncio.timeout(0.2) as limit:
            await ticket.sleep(60)
        return limit.expired()

    asyncio.run(leaves())
    assert not asyncio.run(waits())


# --- money -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_cost_has_no_noise_of_its_multiplication(price_in, price_out, into, out):
    """To the nano-dollar, for prices in steps of a millionth of a dollar: never one too much."""
    price = pricing.Price(price_in / 10**6, price_out / 10**6)
    exact = (Decimal(price_in) * into + Decimal(price_out) * out) / 1000
    cost = Rates(price, None, None).cost(Usage(into, out))
    assert abs(cost - int(exact.to_integral_value(ROUND_CEILING))) <= exact * Decimal(2) ** -50


# --- what is refused ---------------------------------------------------------------------------------------------


def test_a_text_of_any_length_is_not_repeated():
    with pytest.raises(ConfigError) as caught:
        RateLimit(limits=["1" * 100_000 + "/minute"])
    assert caught.value.key == "middleware.rate_limit.config.limits.0"
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("window", [0.5, 0.999, 366 * 86_400.0 + 1])
def test_a_window_that_is_too_short_or_too_long(window):
    with pytest.raises(ConfigError, match="seconds from 1 to 366 days") as caught:
        Budget(limit_usd=1, window=window)
    assert caught.value.key == "middleware.budget.config.window"
    assert Budget(limit_usd=1, window=1).config.window == 1.0


def test_no_password_is_shown():
    url = "redis://app:hunter2@localhost:1/0"
    options = MiddlewareFactoryOptions(state=url)
    layers = [RateLimit(limits=["1/day"], store=url), Budget(limit_usd=1, store=url), Cache(store=url)]
    factory = MiddlewareFactory(preset=None, plugins=False, state=url, middleware=layers)
    shown = [options, *layers, *(one.config for one in layers), *(one.store for one in layers), factory,
             open_store(url), factory.apply_middleware("echo/echo")]  # fmt: skip
    for one in shown:
        assert "hunter2" not in repr(one) + str(one), type(one)


def test_a_context_of_nobody_shares_one_limit():
    limit = RateLimit(limits=["1/day"], key="session")
    limit.store = MemoryStore(clock=Clock())
    assert limit._whose.at_once("openai", "gpt-4o", MiddlewareContext("openai", "gpt-4o")) == "session"
    assert limit.tally.counts() == {"unknown_session": 1}

"""What cache, rate_limit and budget have in common: a store that is away, told once, and asked again in time."""

from __future__ import annotations

import asyncio
import logging

import pytest

from neuro_mw import MiddlewareFactory, RateLimitExceeded, Response, Usage
from neuro_mw.builtin import Budget, Cache, RateLimit
from neuro_mw.builtin._owed import owed_to
from neuro_mw.state import StoreUnavailable
from neuro_mw.testing import ScriptedModel

NOWHERE = "redis://app:s3cr3t@127.0.0.1:1/0?connect_timeout_s=0.3&timeout_s=0.3"
ALL = {
    "cache": lambda **more: Cache(**more),
    "rate_limit": lambda **more: RateLimit(limits=["100/minute"], **more),
    "budget": lambda **more: Budget(limit_usd=1, **more),
}
PRICES = {"gpt-4o": {"input": 0, "output": 1000.0}}  # a thousandth of a dollar for a token


def chain(*middlewares, **options):
    return MiddlewareFactory(preset=None, plugins=False, middleware=middlewares, **options).apply_middleware(
        ScriptedModel("hello")
    )


@pytest.mark.parametrize("id", ALL)
def test_a_password_is_shown_nowhere(id):
    one = ALL[id](store=NOWHERE)
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[one])
    plan = factory.explain(factory.create_context("openai", "gpt-4o"))
    assert "s3cr3t" not in f"{plan.to_dict()}{plan}{one.config!r}{one.store!r}"
    assert plan[id].config["store"] == NOWHERE.replace("s3cr3t", "***")
    assert one.config.store == NOWHERE


@pytest.mark.parametrize("id", ALL)
def test_a_store_that_stays_away_is_told_once_a_minute_and_asked_once_a_second(id, monkeypatch, caplog):
    now = [1000.0]
    monkeypatch.setattr("neuro_mw.builtin._keeping.clock", lambda: now[0])
    one = ALL[id](store=NOWHERE, on_store_failure="open")
    asked, run = [], one.store.run

    async def running(*scripts):
        asked.append(now[0])
        return await run(*scripts)

    one.store.run = running
    model = chain(one)

    async def main():
        for step in (0, 0, 0.9, 0.2, 0.5, 58, 0.5, 60):
            now[0] += step
            assert (await model.generate(str(now[0]))).text == "hello"

    with caplog.at_level(logging.WARNING, "neuro_mw"):
        asyncio.run(main())
    assert asked == [1001.1, 1059.6, 1120.1]  # startup found it away at 1000
    assert len([record for record in caplog.records if "calls pass without it" in record.message]) == 2
    assert "s3cr3t" not in caplog.text
    assert one.tally.counts()["store_away"] == 8


@pytest.mark.parametrize("id", ALL)
def test_closed_rests_from_the_start(id):
    """So that not each call before the first success waits for the whole timeout."""
    one = ALL[id](store=NOWHERE, on_store_failure="closed")
    chain(one)

    async def main():
        with pytest.raises(StoreUnavailable) as first:
            await one.startup()
        with pytest.raises(StoreUnavailable, match=f"less than 1 s ago, and {id} is closed"):
            await one.run([], None)
        assert "s3cr3t" not in str(first.value)

    asyncio.run(main())


def test_one_broken_entry_stops_nobody_else():
    """A limit of one user that is no limit any more is refused or local, by declaration; another user's holds."""
    limit = RateLimit(limits=["1/minute"], key="user", on_store_failure="closed")
    budget = Budget(limit_usd=0.005, key="user", prices=PRICES)
    model = chain(limit, budget)

    async def ask(user):
        return await model.with_context(session={"user_id": user}).generate("hi", max_tokens=5)

    async def main():
        await ask("ada")
        for key, state in list(limit.store._states.items()):
            limit.store._states[key.replace("ada", "eve")] = "none of ours" if "rate" in key else state
        with pytest.raises(StoreUnavailable, match="another kind"):
            await ask("eve")
        assert (await ask("bob")).text == "hello"
        with pytest.raises(RateLimitExceeded):
            await ask("bob")

    asyncio.run(main())


@pytest.mark.parametrize("id", ALL)
def test_closing_one_that_no_factory_took_in(id):
    one = ALL[id]()
    asyncio.run(one.aclose())
    assert one.store is None


def test_what_is_still_owed_as_all_is_closed_is_lost_once():
    """Counted by the one that tried; with the store away the others have nothing to try any more."""
    budget, limit = Budget(limit_usd=1, prices=PRICES, on_store_failure="open"), RateLimit(limits=["9/minute"])
    factory = MiddlewareFactory(preset=None, plugins=False, state=NOWHERE, middleware=[limit, budget])
    model = factory.apply_middleware(ScriptedModel(Response(text="hello", usage=Usage(1, 1))))

    async def main():
        async with factory:
            assert (await model.generate("hi", max_tokens=5)).text == "hello"

    asyncio.run(main())
    assert budget.tally.counts()["owed"] >= 1
    lost = [one.tally.counts().get("not_written", 0) for one in (budget, limit)]
    assert sorted(number > 0 for number in lost) == [False, True]
    assert len(owed_to(budget.store)) == 0

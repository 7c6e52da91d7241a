"""budget: what may be spent, what is reserved meanwhile, and what was spent in the end; in both modes."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import re
import signal
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal
from math import inf, isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_mw import (
    Blocked,
    BudgetExceeded,
    ConfigError,
    Middleware,
    MiddlewareFactory,
    MiddlewareMetadata,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    Response,
    Usage,
    middleware,
    pricing,
)
from neuro_mw.builtin import budget as module
from neuro_mw.builtin._size import Size
from neuro_mw.builtin.budget import Budget
from neuro_mw.builtin.cache import Cache
from neuro_mw.builtin.fallback import Fallback
from neuro_mw.builtin.limits.costs import Rates
from neuro_mw.builtin.limits.money import MOST, nano_of, shown
from neuro_mw.builtin.limits.windows import window_at
from neuro_mw.builtin.rate_limit import RateLimit
from neuro_mw.builtin.retry import Retry
from neuro_mw.state import Peek, Spending, StoreUnavailable, open_store
from neuro_mw.state.memory import MemoryStore
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel, random_faults
from neuro_mw.tokens import count_tokens_sync
from tests.state.conftest import redis_url, valkey

__all__ = ["redis_url", "valkey"]  # fixtures
MODES = ["generate", "stream"]
FEW = settings().max_examples // 5
CENT = 10_000_000
PER_TOKEN = {"gpt-4o": {"input": 0.0, "output": 1000.0}}  # a token out costs a tenth of a cent, one in nothing
MILLI = 1_000_000  # what such a token costs


class Clock:
    def __init__(self, now=1_700_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "clock", clock)
    return clock


def wrapped(model, *layers, clock=None, session=None):
    for layer in layers:
        if isinstance(layer, Budget) and clock is not None:
            layer.store = MemoryStore(clock=clock)
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=layers)
    return factory.apply_middleware(model, factory.create_context(model.provider, model.model_id, session=session))


async def call(model, mode, prompt="hello", **params):
    if mode == "generate":
        return await model.generate(prompt, **params)
    return await model.stream(prompt, **params).response()


async def standing(budget, whose="global"):
    [found] = await budget.store.run(Peek(budget._opened()[0] + whose))
    return found or Spending(True, 0, 0)


def stands(budget, whose="global"):
    return asyncio.run(standing(budget, whose))


def said(out=2, into=3, text="hello"):
    return Response(text=text, usage=Usage(into, out))


# --- config ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "key", "words"), [
    ({}, "limit_usd", "required"),
    ({"limit_usd": -1}, "limit_usd", "from 0 on"),
    ({"limit_usd": "ten"}, "limit_usd", "not an amount of dollars"),
    ({"limit_usd": True}, "limit_usd", "not an amount of dollars"),
    ({"limit_usd": inf}, "limit_usd", "from 0 on"),
    ({"limit_usd": "0.0000000001"}, "limit_usd", "nine decimals"),
    ({"limit_usd": 10**7}, "limit_usd", "more than 9,007,199.25 dollars"),
    ({"limit_usd": 1, "window": "mnth"}, "window", "Did you mean 'month'?"),
    ({"limit_usd": 1, "window": 0}, "window", "seconds"),
    ({"limit_usd": 1, "window": True}, "window", "type bool"),
    ({"limit_usd": 1, "key": "modle"}, "key", "Did you mean 'model'?"),
    ({"limit_usd": 1, "on_exceeded": "downgrade"}, "downgrade_to", "not set"),
    ({"limit_usd": 1, "downgrade_to": "gpt-4o-mini"}, "downgrade_to", "nothing is downgraded"),
    ({"limit_usd": 1, "lease_s": 0}, "lease_s", "greater than 0"),
    ({"limit_usd": 1, "prices": {"x": {"input": -1, "output": 1}}}, "prices.x.input", "greater than"),
    ({"limit_usd": 1, "limits_usd": 1}, "limits_usd", "Did you mean 'limit_usd'?"),
])  # fmt: skip
def test_what_makes_no_sense_is_said(options, key, words):
    with pytest.raises(ConfigError) as caught:
        Budget(**options)
    assert caught.value.key == f"middleware.budget.config.{key}"
    assert words in str(caught.value)


def test_the_model_to_downgrade_to_is_checked_at_construction():
    with pytest.raises(ConfigError) as caught:
        MiddlewareFactory(preset=None, middleware=[
            Budget(limit_usd=1, on_exceeded="downgrade", downgrade_to="opnai/gpt-4o-mini"),
        ]).apply_middleware("openai/gpt-4o")  # fmt: skip
    assert caught.value.key == "middleware.budget.config.downgrade_to"


@given(st.integers(0, MOST), st.sampled_from([str, Decimal]))
def test_dollars_are_read_exactly(nano, kind):
    assert nano_of(kind(Decimal(nano).scaleb(-9))) == nano
    assert nano_of(shown(nano)[1:]) == nano


@given(st.integers(0, 10**8))
def test_dollars_as_floats_are_what_was_written(cents):
    assert nano_of(cents / 100) == cents * CENT


@given(st.sampled_from(["day", "month", 3600.0, 86400.0, 0.5]), st.floats(0, 4e9))
def test_a_window_holds_its_time_and_they_follow_each_other(kind, now):
    window = window_at(kind, now)
    assert window.begins <= now < window.ends
    after = window_at(kind, window.ends)
    assert after.begins == window.ends
    assert after.name != window.name


def test_windows_in_utc():
    night = datetime(2024, 12, 31, 23, 59, tzinfo=UTC).timestamp()
    assert window_at("month", night) == ("2024-12", datetime(2024, 12, 1, tzinfo=UTC).timestamp(), night + 60)
    assert window_at("day", night)[::2] == ("2024-12-31", night + 60)


# --- what passes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_what_is_spent_is_spent_and_the_next_window_is_new(mode, clock):
    budget = Budget(limit_usd=0.05, prices=PER_TOKEN, key="user")
    model = wrapped(ScriptedModel(said(10)), budget, clock=clock, session={"user_id": "ada"})
    for calls in range(1, 6):
        asyncio.run(call(model, mode, max_tokens=10))
        assert stands(budget, "user:ada") == (True, calls * CENT, 0)
    with pytest.raises(BudgetExceeded) as caught:
        asyncio.run(call(model, mode, max_tokens=10))
    assert caught.value.retry_after == budget._window[1] - clock.now
    assert str(caught.value).startswith("the budget of $0.05 a day (key: user): $0.05 are spent, $0 reserved")
    assert "openai/gpt-4o may cost up to $0.01" in str(caught.value)
    assert "ada" not in str(caught.value)
    assert asyncio.run(call(model.with_context(session={"user_id": "bob"}), mode, max_tokens=10)).text == "hello"
    clock.now += caught.value.retry_after
    asyncio.run(call(model, mode, max_tokens=10))
    assert stands(budget, "user:ada") == (True, CENT, 0)


@pytest.mark.parametrize("mode", MODES)
def test_a_call_dearer_than_the_whole_budget_can_never_pass(mode, clock):
    budget = Budget(limit_usd=0.05, prices=PER_TOKEN)
    scripted = ScriptedModel(said(10))
    with pytest.raises(BudgetExceeded, match="more than the whole budget") as caught:
        asyncio.run(call(wrapped(scripted, budget, clock=clock), mode, max_tokens=100))
    assert caught.value.retry_after is None
    assert scripted.calls == []


def test_without_a_limit_of_the_answer_the_longest_one_is_reserved(clock):
    budget = Budget(limit_usd=1)
    model = wrapped(FaultyModel(said(), faults=[Fault(0, stall_s=inf)]), budget, clock=clock)

    async def main():
        task = asyncio.create_task(model.generate("hello"))
        await asyncio.sleep(0)
        reserved = (await standing(budget)).reserved
        price = pricing.price_of("openai", "gpt-4o")
        assert 16384 * price.output * 1000 < reserved < 16384 * price.output * 1000 + 100 * price.input * 1000
        task.cancel()
        await asyncio.wait([task])
        assert await standing(budget) == (True, reserved, 0), "nobody knows what it cost"

    asyncio.run(main())
    assert budget.tally.counts() == {"usage_unknown": 1}


@pytest.mark.parametrize("mode", MODES)
def test_tokens_are_counted_where_the_estimate_does_not_fit(mode, clock):
    """200 words of prose are about 200 tokens and 1,000 bytes; two such calls fit, and both may be under way."""
    text = "word " * 200
    price = {"gpt-4o": {"input": 10.0, "output": 10.0}}
    tokens = count_tokens_sync({"messages": [{"role": "user", "content": text}]}, "openai", "gpt-4o").tokens
    budget = Budget(limit_usd=str(Decimal((tokens + 10) * 10 * 2) / 10**6), prices=price)
    model = wrapped(FaultyModel(said(10, tokens), delay_s=0.0), budget, clock=clock)

    async def main():
        await asyncio.gather(*(call(model, mode, text, max_tokens=10) for _ in range(2)))
        with pytest.raises(BudgetExceeded):
            await call(model, mode, text, max_tokens=10)

    asyncio.run(main())
    assert stands(budget) == (True, budget.limit, 0)


@pytest.mark.parametrize("mode", MODES)
def test_each_attempt_reserves_and_those_that_were_turned_away_cost_nothing(mode, clock):
    busy = ProviderRateLimited("busy", provider="openai", model="gpt-4o", status=429, retryable=True)
    gone = ProviderUnavailable("gone", provider="openai", model="gpt-4o", retryable=True)
    gone.__cause__ = ConnectionRefusedError()
    late = ProviderTimeout("late", provider="openai", model="gpt-4o", retryable=True)
    budget = Budget(limit_usd=0.02, prices=PER_TOKEN)
    scripted = ScriptedModel(said(4), errors=[busy, gone, late])
    model = wrapped(scripted, Retry(attempts=4, initial_delay_s=0), budget, clock=clock)
    asyncio.run(call(model, mode, max_tokens=10))
    assert stands(budget) == (True, 14 * MILLI, 0), "the one that was late may have been paid for"
    with pytest.raises(BudgetExceeded):
        asyncio.run(call(model, mode, max_tokens=10))
    asyncio.run(call(model, mode, max_tokens=6))


def test_the_most_that_a_call_can_cost():
    tiers = ((100, pricing.Price(3.0, 30.0)),)
    price = pricing.Price(1.0, 10.0, cache_write=2.0, reasoning=20.0, request=0.5, tiers=tiers)
    rates = Rates(price, 1000, 50)
    assert [rates.longest(params) for params in ({}, {"max_tokens": 20}, {"max_tokens": 500})] == [50, 20, 50]
    assert rates.at_most(10, Size(10, 1), 5) == (500_000_000 + 10 * 2000 + 5 * 20_000, 20_000)
    assert rates.at_most(101, Size(10, 1), 5) == (101 * 3000 + 5 * 30_000, 303_000)
    assert rates.at_most(10, Size(10, 1, uncounted=1), 0) == (3_000_000, 3_000_000), "a file may be all that is read"


@given(st.builds(Usage, *[st.none() | st.integers(0, 10**6)] * 5))
def test_a_cost_is_that_of_the_price_in_whole_nano_dollars(usage):
    price = pricing.Price(0.15, 0.6, cache_read=0.075)
    exact = price.cost(usage)
    cost = Rates(price, None, None).cost(usage) if exact is not None else None
    assert (cost is None) is (exact is None)
    assert exact is None or abs(cost - exact * 1e9) <= 1


def test_cached_answers_are_free(clock):
    budget = Budget(limit_usd=0.01, prices=PER_TOKEN)
    model = wrapped(ScriptedModel(said(10)), Cache(), budget, clock=clock)
    for _ in range(3):
        asyncio.run(model.generate("hello", max_tokens=10))
    assert stands(budget) == (True, CENT, 0)


@pytest.mark.parametrize("stalls", [(0.03, 0.02, 0.01), (0.01, 0.02, 0.03), (0.02, 0.01, 0.03)])
def test_attempts_side_by_side_are_each_in_the_books_once(stalls, clock):
    async def hedge(do_generate, params, context):
        answers = await asyncio.gather(*(do_generate({**params, "seed": at}) for at in range(3)))
        return answers[0]

    budget = Budget(limit_usd=0.03, prices=PER_TOKEN)
    faulty = FaultyModel([said(1), said(2), said(3)], faults=[Fault(0, stall_s=stall) for stall in stalls])
    asyncio.run(wrapped(faulty, middleware("hedge", wrap_generate=hedge, priority=60), budget, clock=clock).generate(
        "hello", max_tokens=10))  # fmt: skip
    assert stands(budget) == (True, 6 * MILLI, 0)


class Judges(Middleware):
    """Asks a model at one moment of a call, or more."""

    metadata = MiddlewareMetadata(id="judge", priority=90)

    def __init__(self, *moments, model=None, error=None):
        super().__init__()
        self.moments, self.model, self.error, self.contexts = moments, model, error, []

    async def ask(self, moment, context):
        if moment in self.moments:
            await context.ask("is this fine?", model=self.model)
            if self.error is not None:
                raise self.error

    async def transform_params(self, params, context):
        self.contexts.append(context)
        await self.ask("before", context)
        return params

    async def wrap_generate(self, do_generate, params, context):
        response = await do_generate(params)
        await self.ask("after", context)
        return response

    async def on_end(self, outcome, context):
        await self.ask("end", context)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("moments", [["before"], ["after"], ["end"], ["before", "after", "end"]])
@pytest.mark.parametrize("key", ["global", "model"])
def test_what_a_middleware_asks_a_model_is_paid_for_too(mode, moments, key, clock):
    """Whenever it asks: also when the passage through the budget is over."""
    budget, scripted = Budget(limit_usd=1, prices=PER_TOKEN, key=key), ScriptedModel(said(7))
    asyncio.run(call(wrapped(scripted, Judges(*moments), budget, clock=clock), mode, max_tokens=10))
    assert len(scripted.calls) == 1 + len(moments)
    whose = "global" if key == "global" else "model:openai/gpt-4o"
    assert stands(budget, whose) == (True, 7 * len(scripted.calls) * MILLI, 0)


@pytest.mark.parametrize("mode", MODES)
def test_a_question_is_paid_for_where_the_call_never_comes_to_the_budget(mode, clock):
    """As where a judge refuses it; and by the budget of the model that was asked."""
    budget, scripted = Budget(limit_usd=1, prices=PER_TOKEN, key="model"), ScriptedModel(said(7))
    judge = Judges("before", error=Blocked("no"))
    response = asyncio.run(call(wrapped(scripted, judge, budget, clock=clock), mode, max_tokens=10))
    assert response.blocked is not None
    assert stands(budget, "model:openai/gpt-4o") == (True, 7 * MILLI, 0)


def test_a_question_is_paid_for_when_the_call_is_over(clock):
    async def main():
        budget, scripted, judge = Budget(limit_usd=1, prices=PER_TOKEN), ScriptedModel(said(7)), Judges()
        await wrapped(scripted, judge, budget, clock=clock).generate("hello", max_tokens=10)
        await judge.contexts[0].ask("was this fine?")
        return budget

    assert stands(asyncio.run(main())) == (True, 14 * MILLI, 0)


def test_a_question_whose_price_or_usage_nobody_knows_is_counted(clock):
    budget = Budget(limit_usd=1, prices=PER_TOKEN)
    model = wrapped(ScriptedModel(said(7)), Judges("after", model="echo/judge"), budget, clock=clock)
    asyncio.run(model.generate("hi", max_tokens=10))
    assert budget.tally.counts()["unpriced"] == 1
    assert stands(budget) == (True, 7 * MILLI, 0)


def test_a_question_counts_in_the_window_in_which_its_call_began(clock):
    class Late(Judges):
        async def wrap_generate(self, do_generate, params, context):
            response = await do_generate(params)
            clock.now += 1000
            await self.ask("after", context)
            return response

    budget = Budget(limit_usd=1, prices=PER_TOKEN, window=1000)
    before = budget._opened()[0]
    asyncio.run(wrapped(ScriptedModel(said(7)), Late("after"), budget, clock=clock).generate("hi", max_tokens=10))
    assert budget._opened()[0] != before
    assert stands(budget) == (True, 0, 0)
    [found] = asyncio.run(budget.store.run(Peek(before + "global")))
    assert found == (True, 14 * MILLI, 0)


def test_a_call_without_a_user_is_counted_once_whatever_is_asked_in_it(clock):
    budget = Budget(limit_usd=1, prices=PER_TOKEN, key="user")
    judge = Judges("before", "after", "end")
    asyncio.run(wrapped(ScriptedModel(said(7)), judge, budget, clock=clock).generate("hi", max_tokens=10))
    assert budget.tally.counts() == {"unknown_user": 1}


@pytest.mark.parametrize("mode", MODES)
def test_questions_count_here_where_the_store_is_away_and_the_budget_is_local(mode):
    budget = Budget(limit_usd=0.02, prices=PER_TOKEN, store="redis://127.0.0.1:1", on_store_failure="local")
    model = wrapped(ScriptedModel(said(7)), Judges("after"), budget)

    async def main():
        await call(model, mode, max_tokens=10)  # 7 and 7 thousandths
        with pytest.raises(BudgetExceeded, match=r"\$0\.014 are spent"):
            await call(model, mode, max_tokens=10)

    asyncio.run(main())


def test_who_asks_does_not_know_of_a_budget_that_fails(clock, caplog):
    """Its function for the key raises, for the question only."""

    def key(context):
        if context.model == "judge":
            raise ValueError("a secret")
        return "mine"

    budget = Budget(limit_usd=1, prices={**PER_TOKEN, "judge": {"input": 1, "output": 1}}, key=key)
    model = wrapped(ScriptedModel(said(7)), Judges("after", model="echo/judge"), budget, clock=clock)
    assert asyncio.run(model.generate("hi", max_tokens=10)).blocked is None
    assert "'budget' failed in on_asked (ValueError" in caplog.text
    assert "secret" not in caplog.text


# --- prices that are not known -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("prices", "words"), [
    ({}, "price of vllm/mine"), ({"mine": {"input": 1, "output": 1}}, "long"),
])  # fmt: skip
def test_a_price_that_is_not_known(mode, prices, words, clock):
    scripted = ScriptedModel(said(10), provider="vllm", model_id="mine")
    with pytest.raises(BudgetExceeded, match=words) as caught:
        asyncio.run(call(wrapped(scripted, Budget(limit_usd=1, prices=prices), clock=clock), mode))
    assert caught.value.retry_after is None
    assert scripted.calls == []
    budget = Budget(limit_usd=1, prices=prices, on_unknown_price="allow")
    response = asyncio.run(call(wrapped(scripted, budget, clock=clock), mode))
    assert stands(budget).spent == (13_000 if prices else 0)
    assert budget.tally.counts() == {"unknown_price": 1, **({} if prices else {"unpriced": 1})}
    [layer] = response.receipt.to_dict()["layers"]
    assert layer["failures_skipped"] == 1


# --- warn and downgrade ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_warn_lets_it_pass_and_says_so(mode, clock, caplog):
    budget = Budget(limit_usd=0.01, prices=PER_TOKEN, on_exceeded="warn")
    model = wrapped(ScriptedModel(said(6)), budget, clock=clock)
    with caplog.at_level(logging.WARNING, "neuro_mw"):
        answers = [asyncio.run(call(model, mode, max_tokens=10)) for _ in range(4)]
    assert "budget" not in answers[0].metadata
    assert answers[3].metadata["budget"] == {"over_limit": True, "limit_usd": 0.01, "spent_usd": 0.018}
    assert stands(budget) == (True, 24 * MILLI, 0)
    assert budget.tally.counts() == {"over_limit": 3}
    assert len(caplog.records) == 1


def test_warn_books_what_was_not_told_at_what_it_may_have_been(clock):
    budget = Budget(limit_usd=0.01, prices=PER_TOKEN, on_exceeded="warn")
    model = wrapped(ScriptedModel("hello"), budget, clock=clock)
    for _ in range(3):
        asyncio.run(model.generate("hi", max_tokens=10))
    assert stands(budget) == (True, 30 * MILLI, 0)


@pytest.mark.parametrize("mode", MODES)
def test_downgrade_where_each_model_has_a_budget(mode, clock):
    prices = {**PER_TOKEN, "gpt-4o-mini": {"input": 0, "output": 1000.0}}
    budget = Budget(limit_usd=0.01, prices=prices, key="model", on_exceeded="downgrade", downgrade_to="gpt-4o-mini")
    model = wrapped(ScriptedModel(said(10)), budget, clock=clock)
    for _ in range(2):
        asyncio.run(call(model, mode, max_tokens=10))
    with pytest.raises(BudgetExceeded):
        asyncio.run(call(model, mode, max_tokens=10))
    for name in ("gpt-4o", "gpt-4o-mini"):
        assert stands(budget, f"model:openai/{name}") == (True, CENT, 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cheap", ["gpt-4o-mini", "openai/gpt-4o-mini"])
def test_downgrade_asks_a_cheaper_model_through_its_own_chain(mode, cheap, clock):
    prices = {**PER_TOKEN, "openai/gpt-4o-mini": {"input": 0, "output": 100.0}}
    budget = Budget(limit_usd=0.013, prices=prices, on_exceeded="downgrade", downgrade_to=cheap)
    guard = middleware("guard", kind="guard", priority=10, transform_params=lambda params, _: {**params, "seed": 7})
    scripted = ScriptedModel(said(10))
    factory = MiddlewareFactory(preset=None, middleware=[budget, guard], middleware_config={
        "guard": {"conditions": {"models": ["*mini"]}}})  # fmt: skip
    budget.store = MemoryStore(clock=clock)
    model = factory.apply_middleware(scripted)
    answers = [asyncio.run(call(model, mode, max_tokens=10)) for _ in range(4)]
    assert "budget" not in answers[0].metadata
    assert answers[1].metadata["budget"] == {"downgraded_from": "openai/gpt-4o", "model": "openai/gpt-4o-mini"}
    assert [params.get("model") for _, params in scripted.calls] == [None] + ["gpt-4o-mini"] * 3
    assert [params.get("seed") for _, params in scripted.calls] == [None, 7, 7, 7]
    with pytest.raises(BudgetExceeded, match="openai/gpt-4o-mini may cost"):
        asyncio.run(call(model, mode, max_tokens=10))
    assert stands(budget) == (True, 13 * MILLI, 0)
    assert budget.tally.counts() == {"downgraded": 3, "rejected": 1}


def test_a_budget_that_is_used_up_is_final_for_retry_and_fallback(clock):
    budget = Budget(limit_usd=0.01, prices=PER_TOKEN)
    scripted = ScriptedModel(said(10))
    model = wrapped(scripted, Fallback(models=["gpt-4o-mini"], on=["any"]), Retry(on=["any"]), budget, clock=clock)
    with pytest.raises(BudgetExceeded):
        asyncio.run(model.generate("hello", max_tokens=11))
    assert scripted.calls == []


# --- the plain reference -----------------------------------------------------------------------------------------

STEPS = st.lists(st.tuples(
    st.sampled_from([0.0, 1.0, 50.0, 7000.0]), st.sampled_from(["answer", "answer", "silent", "busy", "down"]),
    st.integers(1, 60), st.integers(0, 70), st.sampled_from(MODES), st.sampled_from(["ada", "bob", None]),
), min_size=1, max_size=30)  # fmt: skip


@settings(max_examples=FEW)
@given(STEPS, st.integers(40, 200), st.sampled_from(["day", 3600.0, None]), st.sampled_from(["global", "user"]))
def test_as_a_plain_reference_has_it(steps, limit, window, key):
    clock = Clock()
    before, module.clock = module.clock, clock
    try:
        budget = Budget(limit_usd=str(Decimal(limit) / 1000), window=window, key=key, prices=PER_TOKEN)
        scripted = ScriptedModel()
        model = wrapped(scripted, budget, clock=clock)
        spent = {}
        for pause_s, kind, most, real, mode, user in steps:
            clock.now += pause_s
            scripted.response = Response(text="hello") if kind == "silent" else said(min(real, most))
            scripted.error = {
                "busy": ProviderRateLimited("busy", provider="openai", model="gpt-4o", status=429),
                "down": ProviderUnavailable("down", provider="openai", model="gpt-4o"),
            }.get(kind)
            name = window_at(window, clock.now).name, user if key == "user" else None
            fits = spent.get(name, 0) + most <= limit
            try:
                asyncio.run(call(model.with_context(session={"user_id": user}), mode, max_tokens=most))
                refused = False
            except (ProviderRateLimited, ProviderUnavailable):
                refused = False
            except BudgetExceeded:
                refused = True
            assert refused is not fits
            if fits:
                cost = {"answer": min(real, most), "busy": 0}.get(kind, most)
                spent[name] = spent.get(name, 0) + cost
                assert spent[name] <= limit
            whose = "global" if key == "global" else "user" if user is None else f"user:{user}"
            assert stands(budget, whose) == (True, spent.get(name, 0) * MILLI, 0)
    finally:
        module.clock = before


# --- concurrency -------------------------------------------------------------------------------------------------


@settings(max_examples=FEW)
@given(
    st.integers(0, 10**6), st.integers(10, 300),
    st.lists(st.tuples(st.sampled_from(MODES), st.none() | st.integers(0, 8)), min_size=1, max_size=12),
)  # fmt: skip
def test_never_overspends_and_nothing_stays_reserved(seed, limit, calls):
    """Both modes at once, retries, failures, stalls, calls that are cancelled and streams that are left."""
    clock = Clock()
    budget = Budget(limit_usd=str(Decimal(limit) / 1000), window=None, prices=PER_TOKEN)
    faulty = FaultyModel(said(4), faults=random_faults(seed, 4, stall_s=0.001), delay_s=0.0)
    model = wrapped(faulty, Retry(attempts=2, initial_delay_s=0), budget, clock=clock)

    async def one(mode, leave):
        try:
            if mode == "generate":
                await model.generate("hello", max_tokens=20)
                return
            async with model.stream("hello", max_tokens=20) as stream:
                at = 0
                async for _ in stream:
                    at += 1
                    if at == leave:
                        return
        except Exception:  # noqa: BLE001  # what went wrong is in faulty.calls
            return

    async def main():
        tasks = [asyncio.create_task(one(*each)) for each in calls]
        await asyncio.sleep(0)
        for (_, leave), task in zip(calls, tasks, strict=True):
            for _ in range(leave or 0):
                await asyncio.sleep(0)
                now = await standing(budget)
                assert now.spent + now.reserved <= budget.limit
            if leave is not None and leave % 2:
                task.cancel()
        await asyncio.wait(tasks)

    def cost_of(one):
        if one.usage is not None:
            return 4
        turned_away = isinstance(one.error, ProviderRateLimited) and (one.mode == "generate" or not one.parts)
        return 0 if turned_away else 20

    asyncio.run(main())
    assert stands(budget) == (True, sum(map(cost_of, faulty.calls)) * MILLI, 0)
    assert stands(budget).spent <= budget.limit


def test_threads_share_a_budget_exactly(clock):
    budget, passed = Budget(limit_usd=0.5, prices=PER_TOKEN), []
    model = wrapped(ScriptedModel(said(1)), budget, clock=clock)

    def worker():
        async def main():
            for _ in range(200):
                try:
                    await model.generate("hi", max_tokens=1)
                    passed.append(1)
                except BudgetExceeded:
                    pass

        asyncio.run(main())

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 500
    assert stands(budget) == (True, budget.limit, 0)


# --- stores that others share ------------------------------------------------------------------------------------


def shared(url, **more):
    return Budget(limit_usd="0.1", window=None, prices=PER_TOKEN, store=url, **more)


def spend(url, results):
    async def main():
        passed = 0
        model = wrapped(ScriptedModel(said(1)), shared(url))
        for _ in range(60):
            try:
                await model.generate("hi", max_tokens=1)
                passed += 1
            except BudgetExceeded:
                pass
        return passed

    results.put(asyncio.run(main()))


def stall(url, ready):
    async def main():
        model = wrapped(FaultyModel(faults=[Fault(0, stall_s=inf)]), shared(url, lease_s=1.5))
        task = asyncio.create_task(model.generate("hi", max_tokens=60))
        while (await standing_at(url)).reserved == 0:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        ready.put(os.getpid())
        await task

    asyncio.run(main())


async def standing_at(url):
    store = open_store(url)
    [found] = await store.run(Peek("budget:budget:None:ever:global"))
    await store.aclose()
    return found or Spending(True, 0, 0)


@pytest.fixture(params=["sqlite", "redis"])
def shared_url(request, tmp_path):
    return f"sqlite:///{tmp_path}/state.db" if request.param == "sqlite" else request.getfixturevalue("redis_url")


def test_processes_share_a_budget_exactly(shared_url):
    there = multiprocessing.get_context("spawn")
    results = there.Queue()
    workers = [there.Process(target=spend, args=(shared_url, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert sum(results.get(timeout=60) for _ in workers) == 100
    for worker in workers:
        worker.join()
    assert asyncio.run(standing_at(shared_url)) == (True, 100 * MILLI, 0)


def test_what_a_killed_process_had_reserved_comes_back(shared_url):
    there = multiprocessing.get_context("spawn")
    ready = there.Queue()
    worker = there.Process(target=stall, args=(shared_url, ready))
    worker.start()
    os.kill(ready.get(timeout=60), signal.SIGKILL)
    worker.join()

    async def main():
        model = wrapped(ScriptedModel(said(60)), shared(shared_url))
        with pytest.raises(BudgetExceeded):
            await model.generate("hi", max_tokens=60)
        await asyncio.sleep(1.7)
        await model.generate("hi", max_tokens=60)

    asyncio.run(main())
    assert asyncio.run(standing_at(shared_url)) == (True, 60 * MILLI, 0)


class Counting:
    """A store that notes what it is asked, in each round trip."""

    def __init__(self, store, fails_at=()):
        self.inner, self.url, self.remote, self.trips, self.fails_at = store, store.url, True, [], fails_at

    async def run(self, *scripts):
        self.trips.append([f"{one.name} {one.key.partition(':')[0]}" for one in scripts])
        if len(self.trips) in self.fails_at:
            raise StoreUnavailable("gone", url=self.url)
        return await self.inner.run(*scripts)

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.fixture
def remote(redis_url):
    return Counting(open_store(redis_url))


def chain_of(store, model, *layers):
    for layer in layers:
        if layer.uses_store:
            layer.store = store
    factory = MiddlewareFactory(preset=None, plugins=False, state=store.url, middleware=layers)
    return factory.apply_middleware(model)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("moments", [["before"], ["after"], ["end"], ["before", "after", "end"]])
def test_questions_are_paid_for_in_a_server(mode, moments, remote):
    """With the end of the call, where that is still to come."""
    budget, scripted = Budget(limit_usd=1, prices=PER_TOKEN), ScriptedModel(said(7))
    asyncio.run(call(chain_of(remote, scripted, Judges(*moments), budget), mode, max_tokens=10))
    assert stands(budget) == (True, 7 * (1 + len(moments)) * MILLI, 0)


@pytest.mark.parametrize("mode", MODES)
def test_one_round_trip_before_the_model_and_one_behind_it(mode, remote):
    limit = RateLimit(limits=["10/minute", "10000 tokens/minute"])
    budget = Budget(limit_usd=1, prices=PER_TOKEN)
    model = chain_of(remote, ScriptedModel(said(4)), limit, budget)

    async def main():
        await call(model, mode, max_tokens=10)
        assert remote.trips == [
            ["take rate_limit", "take rate_limit", "reserve budget"], ["settle budget", "return rate_limit"],
        ]  # fmt: skip
        assert await standing(budget) == (True, 4 * MILLI, 0)
        await remote.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
def test_what_was_foreseen_and_is_not_needed_is_released(mode, remote):
    """Further in the answer may become longer, shorter, another model's, or none at all."""
    cases = {
        "longer": (lambda params, context: {**params, "max_tokens": 30}, 4),
        "shorter": (lambda params, context: {**params, "max_tokens": 5}, 4),
        "fails": (lambda params, context: 1 / 0, 0),
        "other": (lambda params, context: {**params, "model": "gpt-4o-mini"}, 4),
    }

    async def main():
        for name, (transform, tokens) in cases.items():
            prices = {**PER_TOKEN, "gpt-4o-mini": {"input": 0.0, "output": 1000.0}}
            key = "model" if name == "other" else "global"
            budget = Budget(limit_usd=1, prices=prices, window=None, key=key)
            budget.stored_as = name
            limit = RateLimit(limits=["10000/minute"])
            inner = middleware("inner", transform_params=transform, priority=60)
            model = chain_of(remote, ScriptedModel(said(4)), limit, inner, budget)
            try:
                await call(model, mode, max_tokens=10)
            except ZeroDivisionError:
                assert name == "fails"
            whose = {"other": "model:openai/gpt-4o-mini"}.get(name, "global")
            assert await standing(budget, whose) == (True, tokens * MILLI, 0), name
            assert (await standing(budget, "model:openai/gpt-4o")).reserved == 0
        await remote.aclose()

    asyncio.run(main())


def test_what_was_foreseen_is_made_up_to_what_is_needed(remote):
    """Ten tokens of the answer were foreseen, thirty are allowed further in, twenty are in the budget."""
    longer = middleware("inner", transform_params=lambda params, _: {**params, "max_tokens": 30}, priority=60)
    budget, scripted = Budget(limit_usd=0.02, prices=PER_TOKEN), ScriptedModel(said(4))
    model = chain_of(remote, scripted, RateLimit(limits=["10/minute"]), longer, budget)

    async def main():
        with pytest.raises(BudgetExceeded):
            await model.generate("hello", max_tokens=10)
        assert scripted.calls == []
        assert await standing(budget) == (True, 0, 0)
        await remote.aclose()

    asyncio.run(main())


def test_the_second_attempt_settles_the_first_in_the_same_round_trip(remote):
    """A budget that holds one attempt at a time is enough for two, one after the other."""
    busy = ProviderRateLimited("busy", provider="openai", model="gpt-4o", status=429, retryable=True)
    budget = Budget(limit_usd=0.015, prices=PER_TOKEN)
    limit = RateLimit(limits=["10/minute"])
    model = chain_of(remote, ScriptedModel(said(4), errors=[busy]), limit, Retry(initial_delay_s=0), budget)

    async def main():
        await model.generate("hello", max_tokens=10)
        assert remote.trips == [
            ["take rate_limit", "reserve budget"], ["release budget", "reserve budget"], ["settle budget"],
        ]  # fmt: skip
        assert await standing(budget) == (True, 4 * MILLI, 0)
        await remote.aclose()

    asyncio.run(main())


def test_what_an_attempt_cost_is_not_lost_where_the_next_one_finds_the_store_away():
    late = ProviderTimeout("late", provider="openai", model="gpt-4o", retryable=True)
    budget = Budget(limit_usd=1, prices=PER_TOKEN)
    store = Counting(MemoryStore(), fails_at=[2])
    model = chain_of(store, ScriptedModel(said(4), errors=[late]), RateLimit(limits=["10/minute"]),
                     Retry(initial_delay_s=0), budget)  # fmt: skip
    with pytest.raises(StoreUnavailable):
        asyncio.run(model.generate("hello", max_tokens=10))
    assert stands(budget) == (True, 0, CENT)  # the store is left alone for a while
    asyncio.run(budget.aclose())
    assert stands(budget) == (True, CENT, 0)


def test_a_store_that_was_away_is_left_alone_for_a_while():
    store = Counting(MemoryStore(), fails_at=range(100))
    budget = Budget(limit_usd=1, prices=PER_TOKEN, on_store_failure="open")
    model = chain_of(store, ScriptedModel(said(4)), budget)
    for _ in range(3):
        asyncio.run(model.generate("hello", max_tokens=10))
    assert len(store.trips) == 1
    assert budget.tally.counts() == {"store_away": 3, "owed": 3}


@pytest.mark.parametrize("policy", ["open", "closed", "local"])
def test_a_store_that_is_away(policy):
    away = "redis://127.0.0.1:1/0?connect_timeout_s=0.2"
    budget = shared(away, on_store_failure=policy)
    limit = RateLimit(limits=["2/minute"], store=away, on_store_failure="open")
    model = wrapped(ScriptedModel(said(50)), limit, budget)

    async def main():
        begun = time.monotonic()
        if policy == "closed":
            with pytest.raises(StoreUnavailable, match="127"):
                await model.generate("hi", max_tokens=50)
            return
        for _ in range(2):
            await model.generate("hi", max_tokens=50)
        if policy == "local":
            with pytest.raises(BudgetExceeded):
                await model.generate("hi", max_tokens=50)
        assert time.monotonic() - begun < 1.5

    asyncio.run(main())
    assert budget.tally.counts().get("store_away", 0) == {"open": 2, "closed": 0, "local": 3}[policy]


def test_the_lease_of_a_call_says_who_holds_it(clock):
    budget = Budget(limit_usd=1, prices=PER_TOKEN)
    wrapped(ScriptedModel(said()), budget, clock=clock)
    context = MiddlewareFactory(preset=None).create_context("openai", "gpt-4o")
    [script] = budget.foresee({"messages": [], "max_tokens": 10}, context)
    lease, *rest = script.arguments
    assert script[:2] == ("reserve", budget._opened()[0] + "global")
    assert re.fullmatch(rf"{context.request_id}:[0-9a-f]{{16}}:f1", lease)
    assert rest[:3] == [10 * MILLI, 10**9, 3600.0]
    assert isclose(script.arguments[-1], budget._window[1] - clock.now + 3600)

"""The built-in `analytics`: a record of every call, in both modes, however it ends."""

import asyncio
import json

import pytest

from neuro_mw import (
    AuthenticationFailed,
    BadRequest,
    Blocked,
    ConfigError,
    ContextTooLong,
    MiddlewareFactory,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    Response,
    Usage,
    middleware,
)
from neuro_mw.builtin import Analytics, Retry
from neuro_mw.testing import ScriptedModel

from .chain.conftest import MODES, call, run

LISTED = (8 * 2.5 + 2 * 1.25 + 5 * 10) / 1e6  # ANSWER at the list's price of gpt-4o, two tokens out of the cache
ANSWER = Response(text="hello there", usage=Usage(10, 5, 2, 1, 3))
PRICES = {"openai/gpt-4o": {"input": 2.5, "output": 10}}
KEYS = {"request_id", "timestamp", "response_time", "usage", "cost_usd", "provider", "model", "user_id", "session_id"}


class Kit:
    """One analytics instance and a model behind it."""

    def __init__(self, *middlewares, model=None, **options):
        self.analytics = Analytics(**options)
        self.factory = MiddlewareFactory(preset=None, plugins=False, middleware=[self.analytics, *middlewares])
        self.model = self.factory.apply_middleware(model or ScriptedModel(ANSWER, cuts=(2,)))

    def record(self, mode, **params):
        """The one record of one call, whatever came of it."""

        async def ask():
            try:
                return await call(self.model, mode, "swordfish", **params)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # whatever comes, there is a record
                return error

        self.answer = run(ask())
        (record,) = self.analytics.records()
        return record


@pytest.mark.parametrize("mode", MODES)
def test_the_record_of_a_call(mode):
    kit = Kit(prices=PRICES)
    kit.model = kit.model.with_context(session={"user_id": "u", "session_id": "s"})
    record = kit.record(mode)
    assert set(record) >= KEYS
    assert record == kit.answer.metadata["analytics"]
    assert record["request_id"] == kit.answer.receipt.request_id
    assert (record["provider"], record["model"], record["user_id"], record["session_id"]) == (
        "openai",
        "gpt-4o",
        "u",
        "s",
    )
    assert (record["status"], record["mode"]) == ("completed", mode)
    assert record["usage"] == {"input": 10, "output": 5, "total": 15, "cache_read": 2, "cache_write": 1, "reasoning": 3}
    assert record["cost_usd"] == pytest.approx((10 * 2.5 + 5 * 10) / 1e6)
    assert record["response_time"] > 0
    if mode == "stream":
        assert 0 < record["time_to_first_part"] <= record["response_time"]
        assert record["parts"] == 7
    assert "swordfish" not in json.dumps(record)
    assert "hello" not in json.dumps(record)


def test_the_default_preset_does_it():
    factory = MiddlewareFactory(plugins=False)
    model = factory.apply_middleware("echo/echo")
    answers = [run(call(model, mode, "one two")) for mode in MODES]
    assert [answer.metadata["analytics"]["usage"]["total"] for answer in answers] == [4, 4]
    assert [one["request_id"] for one in factory.registry.get("analytics").records()] == [
        answer.metadata["analytics"]["request_id"] for answer in answers
    ]


async def short(do_generate, params, context):
    return Response(text="cached", usage=Usage(0, 0))


def refuse(params, context):
    raise Blocked("no")


def failing(params, context):
    raise RuntimeError("mine")


DOWN = ProviderUnavailable("down", provider="openai", model="gpt-4o")
ENDINGS = {
    "short_circuited": ([middleware("cache", wrap_generate=short)], None, "completed"),
    "blocked": ([middleware("guard", transform_params=refuse)], None, "blocked"),
    "inner failure": ([middleware("bad", transform_params=failing)], None, "failed"),
    "provider failure": ([], ScriptedModel(error=DOWN), "failed"),
    "cancelled": ([], ScriptedModel(error=asyncio.CancelledError()), "cancelled"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_has_its_record(mode, ending):
    middlewares, model, status = ENDINGS[ending]
    kit = Kit(*middlewares, model=model, prices=PRICES)
    record = kit.record(mode)
    assert record["status"] == status
    assert record["response_time"] >= 0
    if model is None and ending != "inner failure":
        assert (record["usage"]["total"], record["cost_usd"]) == (0, 0.0)
        assert kit.answer.metadata["analytics"] == record
    if model is not None:
        assert record["usage"]["total"] is None
        assert record["cost_usd"] is None
    summary = kit.analytics.summary()
    assert summary["provider"]["openai"]["failed"] == (status == "failed")


@pytest.mark.parametrize("read", [0, 1, 3])
def test_an_abandoned_stream_has_its_record(read):
    kit = Kit()

    async def leave():
        async with kit.model.stream("x") as stream:
            for _ in range(read):
                await anext(stream)

    run(leave())
    records = kit.analytics.records()
    if not read:
        assert records == []  # it was never begun
        return
    assert [(one["status"], one["mode"], one["parts"]) for one in records] == [("cancelled", "stream", read)]
    assert records[0]["usage"]["total"] is None
    assert records[0]["time_to_first_part"] > 0


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_that_fails_midway(mode):
    kit = Kit(model=ScriptedModel(ANSWER, cuts=(2,), error=DOWN, error_at=3))
    record = kit.record(mode)
    assert record["status"] == "failed"
    if mode == "stream":
        assert record["parts"] == 3


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_what_is_not_collected_is_not_there(mode):
    record = Kit(collect_timing=False).record(mode)
    assert not {"response_time", "time_to_first_part"} & set(record)
    record = Kit(collect_token_usage=False).record(mode)
    assert not {"usage", "cost_usd"} & set(record)
    both = Kit(collect_token_usage=False, collect_timing=False)
    assert both.record(mode)["model"] == "gpt-4o"
    assert both.analytics.summary()["model"]["openai/gpt-4o"]["calls"] == 1


@pytest.mark.parametrize(
    ("prices", "wanted"),
    [
        ({}, LISTED), ({"gpt-4": {"input": 1, "output": 1}}, LISTED),
        ({"gpt-4o": {"input": 1, "output": 2}}, 20 / 1e6), ({"openai/gpt-4o": {"input": 1, "output": 2}}, 20 / 1e6),
        ({"gpt-4o": {"input": 9, "output": 9}, "openai/gpt-4o": {"input": 1, "output": 2}}, 20 / 1e6),
        ({"gpt-4o": {"input": 0, "output": 0}}, 0.0),
        ({"gpt-4o": {"input": 1, "output": 2, "cache_read": 0.1}}, (8 + 2 * 0.1 + 5 * 2) / 1e6),
        ({"gpt-4o": {"input": 1, "output": 2, "cache_write": 3}}, (9 + 3 + 5 * 2) / 1e6),
        ({"anthropic/gpt-4o": {"input": 1, "output": 2}}, LISTED),
    ],
)  # fmt: skip
def test_prices(prices, wanted):
    assert Kit(prices=prices).record("generate")["cost_usd"] == pytest.approx(wanted)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("provider", "model_id"), [("openai", "gpt-4o-of-mine"), ("anthropic", "gpt-4o"), ("x", "y")])
def test_a_model_that_is_not_listed_has_no_cost(mode, provider, model_id):
    model = ScriptedModel(ANSWER, provider=provider, model_id=model_id)
    assert Kit(model=model).record(mode)["cost_usd"] is None
    assert Kit(model=model, prices={model_id: {"input": 1, "output": 0}}).record(mode)["cost_usd"] == 10 / 1e6


def test_without_usage_the_cost_is_unknown_not_zero():
    kit = Kit(model=ScriptedModel(Response(text="x", usage=Usage(input_tokens=3))), prices=PRICES)
    record = kit.record("generate")
    assert record["cost_usd"] is None
    assert record["usage"]["input"] == 3
    assert kit.analytics.summary()["provider"]["openai"]["unpriced_calls"] == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wrong", ["10", True, -1, float("nan"), [1], object()], ids=lambda wrong: type(wrong).__name__)
def test_counts_that_are_none_leave_a_record(mode, wrong):
    async def twice(do_generate, params, context):
        await do_generate(params)
        return await do_generate(params)

    for middlewares in ([], [middleware("twice", wrap_generate=twice)]):
        answer = Response(text="hello", usage=Usage(wrong, 5, wrong))
        kit = Kit(*middlewares, model=ScriptedModel(answer), prices=PRICES)
        record = kit.record(mode)
        assert record["status"] == "completed"
        assert (record["usage"]["input"], record["usage"]["cache_read"]) == (None, None)
        assert record["usage"]["output"] == record["usage"]["total"] == 5 * (1 + len(middlewares))
        assert record["cost_usd"] is None
        assert kit.analytics.summary()["user"] == {}
        assert kit.analytics.summary()["provider"]["openai"]["unpriced_calls"] == 1


def test_a_short_cut_without_usage_leaves_a_record():
    async def short(do_generate, params, context):
        return Response(text="cached", usage=Usage("10", 5))

    record = Kit(middleware("cache", wrap_generate=short)).record("generate")
    assert (record["status"], record["usage"]["input"], record["usage"]["output"]) == ("completed", None, 5)


def test_a_price_list_that_cannot_be_read_leaves_a_record(monkeypatch):
    def spoiled(*asked):
        raise KeyError("range")

    monkeypatch.setattr("neuro_mw.pricing.price_of", spoiled)
    record = Kit().record("generate")
    assert (record["usage"]["input"], record["cost_usd"]) == (10, None)


@pytest.mark.parametrize(
    "options",
    [{"max_records": -1}, {"max_records": "many"}, {"prices": {"m": {"input": 1}}},
        {"prices": {"m": {"input": -1, "output": 1}}},
     {"prices": {"m": {"input": 1, "output": 1, "cached": 1}}},
     {"prices": {"m": {"input": 1, "output": 1, "cache_read": -1}}},
     {"prices": ["m"]}, {"price": {}}, {"prices": {"m": 5}}],
    ids=repr,
)  # fmt: skip
def test_wrong_options(options):
    with pytest.raises(ConfigError, match=r"middleware\.analytics\.config\."):
        Analytics(**options)


# --- several attempts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_usage_and_cost_of_all_attempts(mode):
    async def twice(do_generate, params, context):
        await do_generate(params)
        return await do_generate({**params, "model": "gpt-4o-mini"})

    prices = {"gpt-4o": {"input": 1, "output": 1}, "gpt-4o-mini": {"input": 10, "output": 10}}
    kit = Kit(middleware("twice", wrap_generate=twice), prices=prices)
    record = kit.record(mode)
    assert (record["usage"]["input"], record["usage"]["output"]) == (20, 10)
    assert record["cost_usd"] == pytest.approx((15 + 150) / 1e6)
    assert record["model"] == "gpt-4o-mini"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("error", "costs"),
    [
        (ProviderRateLimited("slow down", provider="openai", model="gpt-4o"), 15 / 1e6),
        (ProviderUnavailable("down", provider="openai", model="gpt-4o", status=503), 15 / 1e6),
        (ProviderUnavailable("broke off", provider="openai", model="gpt-4o"), None),  # it may have begun
        (AuthenticationFailed("no such key", provider="openai", model="gpt-4o"), 15 / 1e6),
        (BadRequest("no", provider="openai", model="gpt-4o"), 15 / 1e6),
        (ContextTooLong("too long", provider="openai", model="gpt-4o"), 15 / 1e6),
        (ProviderError("odd", provider="openai", model="gpt-4o", status=418), 15 / 1e6),
        (ProviderError("odd", provider="openai", model="gpt-4o"), None),
        (ProviderTimeout("late", provider="openai", model="gpt-4o", status=504), None),
        (ProviderTimeout("late", provider="openai", model="gpt-4o"), None),
        (ConnectionError("gone"), None),
    ],
)
def test_what_was_turned_away_costs_nothing(mode, error, costs):
    model = ScriptedModel(ANSWER, errors=[error])
    kit = Kit(Retry(initial_delay_s=0, on=["any"]), model=model, prices={"gpt-4o": {"input": 1, "output": 1}})
    record = kit.record(mode)
    assert record["usage"]["total"] == 15
    assert record["cost_usd"] == (costs if costs is None else pytest.approx(costs))


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_that_broke_off_is_not_free(mode):
    """It was begun, whatever status the end had; before its first content it was turned away."""
    for error_at, costs in ((0, 0.0), (2, None if mode == "stream" else 0.0)):
        broken = ProviderUnavailable("broken", provider="openai", model="gpt-4o", status=500)
        model = ScriptedModel("hello there", cuts=(2,), error=broken, error_at=error_at)
        record = Kit(model=model, prices={"gpt-4o": {"input": 1, "output": 1}}).record(mode)
        assert (record["status"], record["cost_usd"]) == ("failed", costs)


# --- the store -------------------------------------------------------------------------------------------------------


def test_records_are_bounded_and_copies():
    kit = Kit(max_records=3)
    for number in range(5):
        run(kit.model.with_context(session={"user_id": f"u{number}"}).generate("x"))
    records = kit.analytics.records()
    assert [one["user_id"] for one in records] == ["u2", "u3", "u4"]
    records[0]["user_id"] = "spoiled"
    records[0]["usage"]["input"] = 10**9
    assert kit.analytics.records()[0]["user_id"] == "u2"
    assert kit.analytics.records()[0]["usage"]["input"] == 10
    kit.analytics.clear()
    assert kit.analytics.records() == []
    assert kit.analytics.summary() == {"provider": {}, "model": {}, "user": {}}


@pytest.mark.parametrize("mode", MODES)
def test_what_a_caller_does_to_its_answer_is_not_seen_in_the_store(mode):
    kit = Kit()
    kit.record(mode)
    kit.answer.metadata["analytics"]["usage"]["input"] = 10**9
    kit.answer.metadata["analytics"]["model"] = "spoiled"
    assert kit.analytics.records()[0]["usage"]["input"] == 10
    assert kit.analytics.records()[0]["model"] == "gpt-4o"


def test_no_records_at_all():
    kit = Kit(max_records=0)
    answer = run(kit.model.generate("x"))
    assert answer.metadata["analytics"]["usage"]["input"] == 10
    assert kit.analytics.records() == []


def test_the_summary():
    kit = Kit(prices={"gpt-4o": {"input": 1, "output": 1}})
    one, two = (kit.model.with_context(session={"user_id": user}) for user in ("u1", "u2"))
    for mode in MODES:
        run(call(one, mode))
        run(call(one, mode, model="mine"))
    run(two.generate("x"))
    run(kit.model.generate("x"))
    summary = kit.analytics.summary()
    assert set(summary) == {"provider", "model", "user"}
    assert summary["provider"]["openai"]["calls"] == 6
    assert summary["provider"]["openai"]["input_tokens"] == 60
    assert {name: one["calls"] for name, one in summary["model"].items()} == {
        "openai/gpt-4o": 4,
        "openai/mine": 2,
    }
    assert {name: one["calls"] for name, one in summary["user"].items()} == {"u1": 4, "u2": 1}
    assert summary["user"]["u1"]["cost_usd"] == pytest.approx(2 * 15 / 1e6)
    assert summary["user"]["u1"]["unpriced_calls"] == 2
    assert summary["model"]["openai/gpt-4o"]["cost_usd"] == pytest.approx(4 * 15 / 1e6)


def test_no_two_of_2000_concurrent_calls_share_a_request_id():
    kit = Kit(model=ScriptedModel(ANSWER, cuts=(5,), delay_s=0), max_records=5000)

    async def many():
        return await asyncio.gather(*(call(kit.model, MODES[number % 2]) for number in range(2000)))

    answers = run(many())
    ids = [answer.metadata["analytics"]["request_id"] for answer in answers]
    assert len(set(ids)) == 2000
    assert {one["request_id"] for one in kit.analytics.records()} == set(ids)
    assert all(answer.receipt.request_id == id for answer, id in zip(answers, ids, strict=True))


def test_a_failure_of_analytics_is_not_one_of_the_call():
    class Broken(Analytics):
        def on_end(self, outcome, context):
            raise ValueError("broken")

    model = MiddlewareFactory(plugins=False, middleware=[Broken()]).apply_middleware(ScriptedModel("fine"))
    for mode in MODES:
        answer = run(call(model, mode))
        assert answer.text == "fine"
        assert answer.receipt.layers["analytics"]["failures_skipped"] == 1


def test_it_is_an_observer_of_priority_100():
    metadata = Analytics.metadata
    assert (metadata.id, metadata.priority, metadata.kind, metadata.default_enabled) == (
        "analytics",
        100,
        "observer",
        False,
    )

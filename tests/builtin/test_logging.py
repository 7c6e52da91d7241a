"""logging: one record at the end of each call, whatever became of it; no text of it unless asked; never a key."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import (
    Blocked,
    ConfigError,
    Finish,
    MiddlewareFactory,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    Response,
    TextDelta,
    ToolCall,
    Usage,
    collect,
    middleware,
    parts_of,
)
from neuro_mw.builtin.analytics import Analytics
from neuro_mw.builtin.cache import Cache
from neuro_mw.builtin.fallback import Fallback
from neuro_mw.builtin.guardrails import Guardrails
from neuro_mw.builtin.logging import Logging
from neuro_mw.builtin.retry import Retry
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel
from tests.chain.conftest import MODES, call, run, wrap

both = pytest.mark.parametrize("mode", MODES)
BEGINS = ["request_id", "provider", "model", "mode", "message_count", "temperature", "max_tokens", "tool_count"]
ENDS = [
    "request_id", "provider", "model", "mode", "status", "finish_reason", "tool_calls", "duration_s",
    "time_to_first_part_s", "input_tokens", "output_tokens", "total_tokens", "cache_read_tokens", "cache_write_tokens",
    "reasoning_tokens", "cost_usd", "blocked_by", "block_category", "block_reason", "attempt_count", "attempts",
    "error",
]  # fmt: skip
_OWN = {*vars(logging.LogRecord("", 0, "", 0, "", (), None)), "message", "asctime", "taskName"}
_OF_STRUCTLOG = {"event", "level", "logger", "timestamp", "_record", "_from_structlog", "exception", "stack"}
DOWN = ProviderUnavailable("s3cr3t down", provider="openai", model="gpt-4o", retryable=True)


def facts(record):
    """What JSON formatters take of a record."""
    return {name: value for name, value in vars(record).items() if name not in _OWN}


class Kept(logging.Handler):
    """Keeps records; formats each as JSON, so that whatever cannot be is found."""

    def __init__(self):
        super().__init__()
        self.begun, self.ended, self.text = [], [], ""

    def emit(self, record):
        self.text += json.dumps({"message": record.getMessage(), **facts(record)}) + "\n"
        (self.ended if "status" in vars(record) else self.begun).append(record)


@contextmanager
def kept(level="DEBUG", name="neuro_mw.calls", handler=None):
    handler, log = handler or Kept(), logging.getLogger(name)
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
    try:
        yield handler
    finally:
        log.removeHandler(handler)
        log.setLevel("NOTSET")
        log.propagate = True


async def ending(wrapped, mode, prompt="hi", **params):
    """One call; its answer or its error."""
    try:
        return await call(wrapped, mode, prompt, **params)
    except Exception as error:  # noqa: BLE001  # whatever it is
        return error


# --- the two records ---------------------------------------------------------------------------------------------


@both
def test_the_record_at_the_start(mode):
    def named(params, context):
        return {**params, "max_tokens": 7}

    inner = middleware("inner", transform_params=named)
    tools = [{"type": "function", "function": {"name": "look"}}] * 2
    with kept() as log:
        run(call(wrap(ScriptedModel(), Logging(), inner), mode, "s3cr3t", temperature=0.2, max_tokens=5, tools=tools))
        run(call(wrap(ScriptedModel(), Logging()), mode, {"temperature": "s3cr3t", "max_completion_tokens": True}))
        run(call(wrap(ScriptedModel(), Logging()), mode, {"temperature": float("nan"), "tools": 3}))
    first, second, third = map(facts, log.begun)
    assert list(first) == BEGINS
    assert [record.levelname for record in log.begun] == ["DEBUG"] * 3
    assert list(first.values())[1:] == ["openai", "gpt-4o", mode, 1, 0.2, 5, 2]
    assert list(second.values())[1:] == ["openai", "gpt-4o", mode, 0, None, None, 0]
    assert list(third.values())[1:] == list(second.values())[1:]
    assert log.begun[0].getMessage() == f"openai/gpt-4o {mode} begins"
    assert [one.request_id for one in log.begun] == [one.request_id for one in log.ended]
    assert "s3cr3t" not in log.text


@both
def test_the_record_at_the_end(mode):
    calls = [ToolCall("1", "look", '{"at": "s3cr3t"}'), ToolCall("2", "s3cr3t", "{}")]
    answer = Response(text="s3cr3t", finish_reason="tool_calls", tool_calls=calls, usage=Usage(1000, 100, 10))
    tools = [{"type": "function", "function": {"name": "look"}}, "s3cr3t"]
    with kept() as log:
        run(call(wrap(ScriptedModel(answer), Logging()), mode, "s3cr3t", tools=tools, api_key="sk-s3cr3t"))
    (record,) = log.ended
    found = facts(record)
    assert list(found) == ENDS
    assert (record.levelname, record.name, found["status"], found["mode"]) == (
        "INFO",
        "neuro_mw.calls",
        "completed",
        mode,
    )
    assert (found["provider"], found["model"], found["finish_reason"]) == ("openai", "gpt-4o", "tool_calls")
    assert found["tool_calls"] == ["look", "unknown"]
    assert found["duration_s"] > 0
    assert (found["time_to_first_part_s"] is None) == (mode == "generate")
    assert [found[f"{name}_tokens"] for name in ("input", "output", "total", "cache_read")] == [1000, 100, 1100, 10]
    assert found["cost_usd"] == pytest.approx(0.0034875)
    (attempt,) = found["attempts"]
    assert attempt.pop("duration_s") > 0
    assert (attempt, found["attempt_count"]) == ({"model": "openai/gpt-4o", "error": None}, 1)
    assert record.getMessage() == f"openai/gpt-4o {mode} completed in {found['duration_s']:.3f} s"
    assert "s3cr3t" not in log.text


@both
def test_tools_that_are_none_lose_no_record(mode):
    answer = Response(tool_calls=[ToolCall("1", "look", "{}")])
    with kept("INFO") as log:
        run(call(wrap(ScriptedModel(answer), Logging()), mode, tools=7))
    assert log.ended[0].tool_calls == ["unknown"]


@both
def test_names_clash_with_nobody(mode):
    assert _OWN.isdisjoint({*ENDS, *BEGINS, "sent", "answered"})
    assert _OF_STRUCTLOG.isdisjoint({*ENDS, *BEGINS, "sent", "answered"})
    was = logging.getLogRecordFactory()

    def made(*args, **options):
        record = was(*args, **options)
        record.request_id = record.status = "theirs"  # `extra` would refuse to overwrite it
        return record

    logging.setLogRecordFactory(made)
    try:
        with kept() as log:
            layer = Logging()
            run(call(wrap(ScriptedModel(), layer), mode))
    finally:
        logging.setLogRecordFactory(was)
    assert log.ended[-1].request_id.startswith("openai-")
    assert log.ended[-1].status == "completed"


@both
def test_a_name_of_a_model_ends_no_line(mode):
    with kept() as log:
        run(call(wrap(ScriptedModel(model_id="gpt\nERROR forged\ud800"), Logging()), mode))
    for record in [*log.begun, *log.ended]:
        assert "\n" not in record.getMessage()
        record.getMessage().encode()


@both
def test_what_analytics_counted_is_taken_from_there(mode):
    answer = Response(text="x", usage=Usage(10, 20))
    prices = {"gpt-4o": {"input": 1e6, "output": 0}}
    stale = Response(text="x", usage=Usage(1, 2), metadata={"analytics": {"request_id": "of another", "cost_usd": 7}})
    with kept("INFO") as log:
        run(call(wrap(ScriptedModel(answer), Logging(), Analytics(prices=prices)), mode))
        run(call(wrap(ScriptedModel(answer), Logging(), Analytics(collect_token_usage=False)), mode))
        run(call(wrap(ScriptedModel(stale), Logging()), mode))
    assert [(one.input_tokens, one.output_tokens, one.total_tokens) for one in log.ended] == [
        (10, 20, 30), (10, 20, 30), (1, 2, 3)]  # fmt: skip
    assert log.ended[0].cost_usd == 10
    assert log.ended[1].cost_usd == pytest.approx(0.000225)
    assert log.ended[2].cost_usd == pytest.approx(0.0000225)


@both
@pytest.mark.parametrize("usage", [Usage(), Usage("10", True), Usage(-1, 5), Usage(float("nan"), 1)])
def test_a_usage_that_is_none_is_unknown(mode, usage):
    with kept("INFO") as log:
        layer = Logging()
        run(call(wrap(ScriptedModel(Response(text="x", usage=usage)), layer), mode))
    (found,) = map(facts, log.ended)
    assert found["cost_usd"] is None
    assert not isinstance(found["input_tokens"], str)


# --- what becomes of a call --------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("at", [0, 2])
def test_failures(mode, at):
    with kept("INFO") as log:
        wrapped = wrap(ScriptedModel(error=DOWN, error_at=at), Logging(failure_level="WARNING"))
        assert run(ending(wrapped, mode)) is DOWN
    (record,) = log.ended
    found = facts(record)
    assert (record.levelname, found["status"], found["error"]) == ("WARNING", "failed", "ProviderUnavailable")
    assert (found["finish_reason"], found["blocked_by"], found["attempts"][0]["error"]) == (
        None,
        None,
        "ProviderUnavailable",
    )
    assert record.exc_info is None
    assert record.getMessage().endswith(" s: ProviderUnavailable")
    assert "s3cr3t" not in log.text


@both
@pytest.mark.parametrize("on_block", ["respond", "raise"])
def test_blocks(mode, on_block):
    def refuse(params, context):
        raise Blocked("a secret", category="secrets", detail={"what": "s3cr3t"})

    guard = middleware("guard", kind="guard", transform_params=refuse)
    with kept("INFO") as log:
        run(
            ending(
                wrap(ScriptedModel(), Logging(content=True, sample_rate=0.0), guard, on_block=on_block), mode, "s3cr3t"
            )
        )
    (found,) = map(facts, log.ended)
    assert list(found) == ENDS
    assert (found["status"], found["finish_reason"], found["blocked_by"]) == ("blocked", "content_filter", "guard")
    assert (found["block_category"], found["block_reason"]) == ("secrets", "a secret")
    assert (found["attempt_count"], found["cost_usd"], found["total_tokens"]) == (0, 0.0, 0)
    assert log.ended[0].getMessage().endswith(" s by guard")
    assert "s3cr3t" not in log.text


@both
def test_a_short_cut(mode):
    with kept("INFO") as log:
        wrapped = wrap(ScriptedModel(Response(text="x", usage=Usage(5, 5))), Logging(), Cache())

        async def twice():
            await call(wrapped, mode)
            await call(wrapped, mode)

        run(twice())
    first, second = map(facts, log.ended)
    assert (first["attempt_count"], second["attempt_count"]) == (1, 0)
    assert (second["status"], second["provider"], second["model"], second["cost_usd"]) == (
        "completed",
        "openai",
        "gpt-4o",
        0.0,
    )


@both
def test_attempts(mode):
    layers = [Logging(), Fallback(models=["echo/echo"]), Retry(attempts=25, initial_delay_s=0)]
    with kept("INFO") as log:
        run(call(wrap(ScriptedModel(error=DOWN), *layers), mode))
    (found,) = map(facts, log.ended)
    assert (found["provider"], found["model"], found["attempt_count"]) == ("echo", "echo", 26)
    assert [one["error"] for one in found["attempts"]] == ["ProviderUnavailable"] * 19 + [None]
    assert found["attempts"][-1]["model"] == "echo/echo"
    assert found["cost_usd"] is None


@both
@pytest.mark.parametrize("first_ends", [True, False])
def test_each_of_two_passages_tells_its_own_attempts(mode, first_ends):
    """Where something further out calls twice, at once: no token is counted twice."""

    class Model:
        provider, model_id = "openai", "gpt-4o"

        async def generate(self, params):
            number = params["seed"]
            await asyncio.sleep(0.01 if (number == 1) == first_ends else 0)
            return Response(text="x", usage=Usage(10**number, 1))

        async def stream(self, params):
            for part in parts_of(await self.generate(params)):
                yield part

    async def hedged(do_generate, params, context):
        return (await asyncio.gather(*(do_generate({**params, "seed": seed}) for seed in (0, 1))))[0]

    with kept("INFO") as log:
        hedge = middleware("hedge", kind="control", priority=130, wrap_generate=hedged)
        run(call(wrap(Model(), hedge, Logging()), mode))
    assert sorted((one.input_tokens, one.attempt_count) for one in log.ended) == [(1, 1), (10, 1)]


@both
def test_an_attempt_that_was_turned_away_costs_nothing(mode):
    """So that the cost of the call is known, though that one's usage is not."""
    busy = ProviderRateLimited("busy", provider="openai", model="gpt-4o", retryable=True)
    model = FaultyModel(Response(text="x", usage=Usage(10, 20)), faults=[Fault(0, busy)])
    with kept("INFO") as log:
        run(call(wrap(model, Logging(), Retry(initial_delay_s=0)), mode))
    assert log.ended[0].attempt_count == 2
    assert log.ended[0].cost_usd == pytest.approx(0.000225)


@both
def test_a_tool_that_a_layer_offered_is_named(mode):
    """Not one that nobody offered: that is text of the model's."""

    def offering(params, context):
        return {**params, "tools": [{"type": "function", "function": {"name": "look"}}]}

    calls = [ToolCall("1", "look", "{}"), ToolCall("2", "s3cr3t", "{}")]
    model = ScriptedModel(Response(tool_calls=calls, finish_reason="tool_calls"))
    with kept("INFO") as log:
        run(call(wrap(model, Logging(), middleware("offers", transform_params=offering)), mode))
    assert log.ended[0].tool_calls == ["look", "unknown"]


@both
def test_a_cancelled_call(mode):
    model = FaultyModel(faults=[Fault(stall_s=float("inf"))])

    async def main():
        task = asyncio.create_task(call(wrap(model, Logging()), mode))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with kept("INFO") as log:
        run(main())
    (record,) = log.ended
    assert (record.levelname, record.status, record.finish_reason) == ("INFO", "cancelled", None)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_an_abandoned_stream(parts, how):
    async def main():
        stream = wrap(ScriptedModel("hello there"), Logging()).stream("hi")
        for _ in range(parts):
            await anext(stream)
        if how == "closed":
            await stream.aclose()
        del stream
        for _ in range(5):
            await asyncio.sleep(0)

    with kept("INFO") as log:
        run(main())
    assert [record.status for record in log.ended] == ["cancelled"]


def test_a_stream_that_was_never_read_made_no_call():
    async def main():
        async with wrap(ScriptedModel(), Logging()).stream("hi"):
            pass

    with kept() as log:
        run(main())
    assert (log.begun, log.ended) == ([], [])


class Doing:
    """A model that does what the request says."""

    provider, model_id = "openai", "gpt-4o"

    async def generate(self, params):
        return await collect([part async for part in self.stream(params)])

    async def stream(self, params):
        await asyncio.sleep(0)
        yield TextDelta("he")
        if params["what"] == "bad":
            raise DOWN
        if params["what"] == "cancelled":
            await asyncio.Event().wait()
        yield TextDelta("llo")
        yield Finish("stop", Usage(1, 1))


def refuse(params, context):
    if params["what"] == "blocked":
        raise Blocked("no")
    return params


IDS = []
PEEK = middleware("peek", priority=200, on_end=lambda outcome, context: IDS.append(context.request_id))
GUARD = middleware("guard", transform_params=refuse)
BY_RATE = {rate: wrap(Doing(), PEEK, Logging(sample_rate=rate), GUARD) for rate in (0.0, 0.5, 1.0)}


async def one(wrapped, mode, what):
    if what == "left" and mode == "stream":
        async with wrapped.stream("hi", what=what) as stream:
            await anext(stream)
    elif what == "cancelled":
        task = asyncio.create_task(call(wrapped, mode, what=what))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    else:
        await ending(wrapped, mode, what=what)


@given(
    plan=st.lists(
        st.tuples(st.sampled_from(MODES), st.sampled_from(["good", "bad", "blocked", "left", "cancelled"])), max_size=8
    ),
    rate=st.sampled_from(list(BY_RATE)),
)
def test_one_record_for_each_call_at_once(plan, rate):
    """Exactly one end for each, a start with it but for what was only logged because it failed or was refused."""
    IDS.clear()

    async def main():
        await asyncio.gather(*(one(BY_RATE[rate], *each) for each in plan))

    with kept() as log:
        run(main())
    assert len(IDS) == len(plan)
    ended = [record.request_id for record in log.ended]
    assert len(set(ended)) == len(ended)
    always = {record.request_id for record in log.ended if record.status in ("failed", "blocked")}
    assert len(always) == sum(what in ("bad", "blocked") for _, what in plan)
    begun = {record.request_id for record in log.begun}
    assert set(ended) == begun | always
    assert {0.0: begun == set(), 1.0: begun == set(IDS)}.get(rate, begun <= set(IDS))


# --- levels and sampling -----------------------------------------------------------------------------------------


@both
def test_levels(mode):
    with kept("WARNING", name="mine") as log:
        for options in ({}, {"level": "WARNING"}, {"level": "DEBUG"}):
            run(call(wrap(ScriptedModel(), Logging(logger="mine", **options)), mode))
        run(ending(wrap(ScriptedModel(error=DOWN), Logging(logger="mine")), mode))
        run(ending(wrap(ScriptedModel(error=DOWN), Logging(logger="mine", failure_level="INFO")), mode))
    assert [(record.levelname, record.status) for record in log.ended] == [
        ("WARNING", "completed"),
        ("ERROR", "failed"),
    ]
    assert log.begun == []


@both
def test_where_the_level_is_off_nothing_is_made(mode, monkeypatch):
    for name in ("_begins", "_ended", "_sampled"):
        monkeypatch.setattr(Logging, name, None)
    layer = Logging(content=True, sample_rate=0.5)
    with kept("ERROR"):
        factory = MiddlewareFactory(preset=None, plugins=False, middleware=[layer])
        run(call(factory.apply_middleware(ScriptedModel()), mode))
    assert factory.registry.get_aggregated_stats()["logging"].skipped_errors == 0


def test_sampling_is_the_same_in_every_process_and_near_its_rate():
    class Known:
        def __init__(self, request_id):
            self.request_id = request_id

    known = [Known(f"openai-0123456789ab{number:x}") for number in range(20_000)]
    chosen = {}
    for rate in (0.0, 0.01, 0.25, 0.9):
        one, another = Logging(sample_rate=rate), Logging(sample_rate=rate)
        chosen[rate] = [each.request_id for each in known if one._sampled(each)]
        assert chosen[rate] == [each.request_id for each in known if another._sampled(each)]
        assert abs(len(chosen[rate]) / len(known) - rate) < 0.015
    assert set(chosen[0.01]) <= set(chosen[0.25]) <= set(chosen[0.9])
    assert chosen[0.01][:3] == ["openai-0123456789ab4", "openai-0123456789ab53", "openai-0123456789ab70"]


# --- content -----------------------------------------------------------------------------------------------------


SECRETS = {
    "api_key": "s3cr3t", "extra_headers": {"X-Auth": "s3cr3t"}, "base_url": "https://u:s3cr3t@x", "client": "s3cr3t",
    "aws_secret_access_key": "s3cr3t",
    "extra_body": {"deep": [{"accessToken": "s3cr3t", "top_k": 3}], "headers": {"cookie": "s3cr3t"}},
}  # fmt: skip


@both
def test_content_is_what_was_sent_and_what_left_the_guards(mode):
    """The user's text and the model's are masked on their way; only the masked ones are in the log."""
    guard = Guardrails(bad_words=["s3cr3t"])
    with kept("INFO") as log:
        model = ScriptedModel(Response(text="my s3cr3t", usage=Usage(1, 1)))
        wrapped = wrap(model, Logging(content=True), guard)
        response = run(call(wrapped, mode, "hello", **SECRETS))
    (found,) = map(facts, log.ended)
    assert "s3cr3t" not in log.text
    sent, answered = json.loads(found["sent"]), json.loads(found["answered"])
    assert sent["messages"] == [{"role": "user", "content": "hello"}]
    assert sent["extra_body"] == {"deep": [{"accessToken": "***", "top_k": 3}], "headers": "***"}
    assert sent["api_key"] == sent["base_url"] == sent["client"] == "***"
    assert answered == {"text": response.text}


@both
def test_content_shows_what_layers_made_of_the_request(mode):
    def masked(params, context):
        messages = [{**one, "content": one["content"].replace("s3cr3t", "<masked>")} for one in params["messages"]]
        return {**params, "messages": messages}

    calls = [ToolCall("1", "look", '{"a": 1}')]
    model = ScriptedModel(Response(text="é\ud800", reasoning="so", tool_calls=calls))
    with kept("INFO") as log:
        layers = [Logging(content=True), middleware("mask", transform_params=masked)]
        run(call(wrap(model, *layers), mode, "my s3cr3t", thing=object()))
        run(call(wrap(model, Logging(), middleware("mask", transform_params=masked)), mode, "my s3cr3t"))
    found, without = map(facts, log.ended)
    assert json.loads(found["sent"])["messages"][0]["content"] == "my <masked>"
    assert json.loads(found["sent"])["thing"] == "<object>"
    assert json.loads(found["answered"]) == {
        "text": "é?", "reasoning": "so", "tool_calls": [{"name": "look", "arguments": '{"a": 1}'}]
    }  # fmt: skip
    assert "é" in found["answered"]
    assert list(without) == ENDS
    assert "s3cr3t" not in log.text


@both
def test_content_is_shown_to_some_depth_only(mode):
    deep: object = "s3cr3t"
    for _ in range(5000):
        deep = {"a": deep}
    with kept("INFO") as log:
        run(call(wrap(ScriptedModel("x"), Logging(content=True)), mode, "hello", thing=deep))
    (found,) = map(facts, log.ended)
    sent = json.loads(found["sent"])
    assert sent["messages"][0]["content"] == "hello"
    assert "<dict>" in found["sent"]
    assert "s3cr3t" not in log.text


@both
def test_content_of_a_call_that_failed_or_was_left(mode):
    async def left():
        async with wrap(ScriptedModel("hello"), Logging(content=True)).stream("hi") as stream:
            await anext(stream)

    with kept("INFO") as log:
        run(ending(wrap(ScriptedModel(error=DOWN, error_at=1), Logging(content=True)), mode))
        run(left())
    failed, abandoned = map(facts, log.ended)
    assert json.loads(failed["sent"])["messages"][0]["content"] == "hi"
    assert failed["answered"] == ('{"text": "hel"}' if mode == "stream" else None)
    assert abandoned["answered"] == '{"text": "hel"}'


@both
def test_where_a_guard_refuses_the_answer_neither_side_is_in_the_log(mode):
    guard = Guardrails(bad_words=["s3cr3t"], action="block")
    with kept("INFO") as log:
        wrapped = wrap(ScriptedModel("my s3cr3t", cuts=[1]), Logging(content=True), guard)
        response = run(call(wrapped, mode, "the question"))
    assert response.blocked is not None
    (found,) = map(facts, log.ended)
    assert list(found) == ENDS
    assert "s3cr3t" not in log.text
    assert "the question" not in log.text


def test_logging_stands_outside_of_guardrails_whatever_its_priority():
    factory = MiddlewareFactory(
        preset=None, plugins=False, middleware=[Guardrails(bad_words=["x"]), Logging()],
        middleware_config={"logging": {"priority": 5}},
    )  # fmt: skip
    assert factory.apply_middleware("echo/echo").chain == ("logging", "guardrails")


@given(text=st.text(max_size=80), most=st.integers(1, 60))
def test_content_is_cut_in_its_middle(text, most):
    layer = Logging(content=True, max_content_chars=most)
    cut = layer._cut(text)
    if len(text) <= most:
        assert cut == text
    else:
        assert len(cut) == most
        head, tail = cut.split("…", 1) if "…" not in text else (cut[: most - 1 - (most - 1) // 2], "")
        assert text.startswith(head)
        assert text.endswith(tail)
    value = {"messages": [{"role": "user", "content": text}] * 3, "temperature": 1}
    assert len(layer._shown(value)) <= most


# --- handlers that misbehave -------------------------------------------------------------------------------------


class Failing(logging.Handler):
    def emit(self, record):
        raise ValueError("s3cr3t")


class Slow(logging.Handler):
    def emit(self, record):
        time.sleep(0.02)


@both
@pytest.mark.parametrize("handler", [Failing, Slow])
def test_a_handler_that_fails_or_is_slow_is_passed_over(mode, handler, caplog):
    factory = MiddlewareFactory(
        preset=None, plugins=False, middleware=[Logging()], middleware_config={"logging": {"timeout_s": 0.005}}
    )
    with kept(handler=handler()):
        response = run(call(factory.apply_middleware(ScriptedModel()), mode))
    assert response.text == "hello"
    stats = factory.registry.get_aggregated_stats()["logging"]
    assert (stats.skipped_errors, stats.failed_executions) == (2, 0)
    assert response.receipt.layers["logging"]["failures_skipped"] >= 1
    assert "s3cr3t" not in caplog.text


@both
def test_a_handler_that_fails_hides_no_error(mode):
    with kept(handler=Failing()):
        error = ProviderTimeout("x", provider="openai", model="gpt-4o")
        assert run(ending(wrap(ScriptedModel(error=error), Logging()), mode)) is error


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"logger": ""}, "logger"),
        ({"level": "info"}, "level"),
        ({"failure_level": 40}, "failure_level"),
        ({"sample_rate": 1.1}, "sample_rate"),
        ({"sample_rate": -0.1}, "sample_rate"),
        ({"sample_rate": True}, "sample_rate"),
        ({"sample_rate": float("nan")}, "sample_rate"),
        ({"max_content_chars": 0}, "max_content_chars"),
        ({"contents": True}, "contents"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, key):
    with pytest.raises(ConfigError) as caught:
        Logging(**options)
    assert caught.value.key == f"middleware.logging.config.{key}"

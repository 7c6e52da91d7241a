"""tracing: exactly one span for each call, with the attributes of the conventions, whatever becomes of the call."""

import asyncio
from time import time_ns

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from neuro_mw import (
    Blocked,
    ConfigError,
    Finish,
    MiddlewareFactory,
    ProviderTimeout,
    ProviderUnavailable,
    Response,
    StreamInterrupted,
    TextDelta,
    ToolCall,
    Usage,
    middleware,
)
from neuro_mw.builtin.fallback import Fallback
from neuro_mw.builtin.otel import conventions
from neuro_mw.builtin.retry import Retry
from neuro_mw.builtin.timeout import Timeout
from neuro_mw.builtin.tracing import Tracing
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel
from tests.chain.conftest import MODES, call, run, wrap

ANSWER = Response(
    text="hello world", reasoning="well", id="r1", model="gpt-4o-2024", usage=Usage(3, 5, 2, 1, 4),
    tool_calls=[ToolCall("c1", "look", '{"at": "it"}')], finish_reason="tool_calls",
)  # fmt: skip


class Sdk:
    """The real SDK, with exporters that keep what they get."""

    def __init__(self, processor=None):
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(processor or SimpleSpanProcessor(self.exporter))
        self.meter_provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def tracing(self, **options):
        return Tracing(tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options)

    @property
    def spans(self):
        return self.exporter.get_finished_spans()

    @property
    def span(self):
        (span,) = self.spans
        assert span.end_time is not None
        return span

    def events(self, name):
        return [dict(event.attributes) for event in self.span.events if event.name == name]

    def points(self):
        """The histogram points by the name of their metric."""
        data = self.reader.get_metrics_data()
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        return {metric.name: list(metric.data.data_points) for metric in metrics}

    def count(self, name):
        return sum(point.count for point in self.points().get(name, ()))


@pytest.fixture
def sdk():
    return Sdk()


# --- attributes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_call_is_one_client_span_with_the_conventional_attributes(sdk, mode):
    model = wrap(ScriptedModel(ANSWER, provider="azure", model_id="gpt-4o"), sdk.tracing())
    view = model.with_context(session={"session_id": "s1", "user_id": "u1"})
    params = {"temperature": 0, "top_p": 0.5, "top_k": 4, "max_tokens": 7, "stop": "END", "seed": 42}
    params |= {"frequency_penalty": 0.1, "presence_penalty": -0.1, "response_format": {"type": "json_object"}}
    before = time_ns()
    run(call(view, mode, "hi", base_url="http://user:key@localhost:8080/v1", **params))
    span = sdk.span
    assert (span.name, span.kind, span.status.status_code) == ("chat gpt-4o", SpanKind.CLIENT, StatusCode.UNSET)
    assert before <= span.start_time < span.end_time <= time_ns()
    found = dict(span.attributes)
    assert found.pop("neuro_mw.request_id").startswith("azure-")
    if mode == "stream":
        assert found.pop("gen_ai.request.stream") is True
        assert 0 < found.pop("gen_ai.response.time_to_first_chunk") < 60
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.conversation.id": "s1",
        "gen_ai.output.type": "json",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.top_k": 4.0,
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.seed": 42,
        "gen_ai.request.frequency_penalty": 0.1,
        "gen_ai.request.presence_penalty": -0.1,
        "gen_ai.response.id": "r1",
        "gen_ai.response.model": "gpt-4o-2024",
        "gen_ai.response.finish_reasons": ("tool_calls",),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.cache_creation.input_tokens": 1,
        "gen_ai.usage.reasoning.output_tokens": 4,
        "server.address": "localhost",
        "server.port": 8080,
        "neuro_mw.status": "completed",
    }


@pytest.mark.parametrize("mode", MODES)
def test_params_of_no_meaning_are_left_out(sdk, mode):
    odd = {"temperature": "hot", "top_p": True, "max_tokens": 1e9, "seed": 1.5, "stop": [1], "response_format": "json"}
    run(call(wrap(ScriptedModel("x"), sdk.tracing()), mode, "hi", base_url="::", **odd))
    assert not [key for key in sdk.span.attributes if key.startswith(("gen_ai.request.t", "gen_ai.request.s", "server"))
                and key != "gen_ai.request.stream"]  # fmt: skip
    assert "gen_ai.request.max_tokens" not in sdk.span.attributes
    assert "gen_ai.output.type" not in sdk.span.attributes


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("odd", [{"response_format": {"type": []}}, {"temperature": 10**400}])
def test_odd_params_spoil_no_span(sdk, mode, odd):
    run(call(wrap(ScriptedModel(ANSWER), sdk.tracing()), mode, "hi", **odd))
    assert sdk.span.attributes["neuro_mw.status"] == "completed"
    assert sdk.span.attributes["gen_ai.response.id"] == "r1"
    assert not {"gen_ai.output.type", "gen_ai.request.temperature"} & set(sdk.span.attributes)


@pytest.mark.parametrize("mode", MODES)
def test_everything_on_a_span_can_be_sent(mode):
    """Half a surrogate pair, or a number of more than 64 bits, would spoil the export of all spans that go with it."""
    sdk, half = Sdk(), "\ud800"
    model = ScriptedModel(Response(text=half, id=half, model=half, usage=Usage(1 << 70, 1)), model_id=f"m{half}")
    chain = wrap(model, sdk.tracing(capture_content=True, middleware_spans=True))
    chain = chain.with_context(session={"session_id": half})
    run(call(chain, mode, half, stop=half, seed=1 << 63, max_tokens=-(1 << 64), base_url=f"http://a{half}:1"))
    for span in sdk.spans:
        assert span.name.encode("utf-8")
        for value in dict(span.attributes).values():
            assert str(value).encode("utf-8")
            assert not isinstance(value, int) or abs(value) < 1 << 63
    assert sdk.spans[-1].attributes["gen_ai.request.stop_sequences"] == ("?",)
    assert sdk.spans[-1].attributes["gen_ai.conversation.id"] == "?"
    for points in sdk.points().values():
        assert all(str(dict(point.attributes)).encode("utf-8") for point in points)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("refuses", [False, True])
def test_every_name_on_a_span_can_be_sent(sdk, mode, refuses):
    half = "\ud800"

    def refuse(params, context):
        raise Blocked("no", category=f"c{half}")

    layers = [middleware("guard", kind="guard", transform_params=refuse)] if refuses else []
    model = ScriptedModel(Response(text="x", finish_reason=f"f{half}"), provider=f"p{half}")
    run(call(wrap(model, sdk.tracing(middleware_spans=True), *layers), mode))
    for span in sdk.spans:
        assert repr((span.name, dict(span.attributes), [dict(event.attributes) for event in span.events])).isascii()
    found = sdk.spans[-1].attributes
    assert half not in "".join(str(value) for value in found.values())
    assert found["gen_ai.provider.name"] == "p?"
    assert found["neuro_mw.request_id"].startswith("p?-")
    if refuses:
        assert found["neuro_mw.block.category"] == "c?"
    else:
        assert found["gen_ai.response.finish_reasons"] == ("f?",)


@pytest.mark.parametrize("mode", MODES)
def test_what_was_sent_counts_not_what_was_asked(sdk, mode):
    cooler = middleware("cooler", transform_params=lambda params, context: {**params, "temperature": 0.25})
    run(call(wrap(ScriptedModel("x"), sdk.tracing(), cooler), mode, temperature=2.0))
    assert sdk.span.attributes["gen_ai.request.temperature"] == 0.25


@pytest.mark.parametrize("mode", MODES)
def test_usage_that_is_not_known_is_no_attribute(sdk, mode):
    run(call(wrap(ScriptedModel(Response(text="x", usage=Usage(output_tokens=0))), sdk.tracing()), mode))
    assert {key: value for key, value in sdk.span.attributes.items() if ".usage." in key} == {
        "gen_ai.usage.output_tokens": 0
    }


def test_well_known_providers_have_their_conventional_names():
    well_known = {
        "anthropic", "aws.bedrock", "azure.ai.inference", "azure.ai.openai", "cohere", "deepseek", "gcp.gemini",
        "gcp.gen_ai", "gcp.vertex_ai", "groq", "ibm.watsonx.ai", "mistral_ai", "moonshot_ai", "openai", "perplexity",
        "x_ai",
    }  # fmt: skip
    assert set(conventions.PROVIDERS.values()) <= well_known
    assert not set(conventions.PROVIDERS) & well_known


# --- what becomes of a call --------------------------------------------------------------------------------------


def blocking(hook, where=5):
    def refuse(*_):
        raise Blocked("no", category="secrets")

    step = {"transform_params": refuse, "transform_parts": lambda params, context: refuse}
    return middleware("guard", kind="guard", priority=where, **{hook: step[hook]})


@pytest.mark.parametrize("hook", ["transform_params", "transform_parts"])
@pytest.mark.parametrize("mode", MODES)
def test_a_refusal_is_no_error(sdk, mode, hook):
    response = run(call(wrap(ScriptedModel(ANSWER), sdk.tracing(), blocking(hook)), mode))
    assert response.blocked is not None
    found = sdk.span.attributes
    assert sdk.span.status.status_code is StatusCode.UNSET
    assert "error.type" not in found
    assert found["neuro_mw.status"] == "blocked"
    assert (found["neuro_mw.block.middleware"], found["neuro_mw.block.category"]) == ("guard", "secrets")
    assert found["gen_ai.response.finish_reasons"] == ("content_filter",)
    (guard,) = sdk.events("neuro_mw.middleware")
    assert (guard["neuro_mw.middleware.id"], guard["neuro_mw.middleware.status"]) == ("guard", "blocked")
    if hook == "transform_params":
        assert found["neuro_mw.attempts"] == 0
        assert "gen_ai.usage.input_tokens" not in found
        assert sdk.events("neuro_mw.attempt") == []


@pytest.mark.parametrize("mode", MODES)
def test_a_refusal_that_is_raised_is_no_error_either(sdk, mode):
    model = wrap(ScriptedModel(ANSWER), sdk.tracing(), blocking("transform_params"), on_block="raise")
    with pytest.raises(Exception, match="no"):
        run(call(model, mode))
    assert sdk.span.attributes["neuro_mw.status"] == "blocked"
    assert sdk.span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("mode", MODES)
def test_a_failure_is_an_error_without_its_text(sdk, mode, at):
    error = ProviderTimeout("late: the prompt was 'secret'", provider="openai", model="gpt-4o")
    with pytest.raises(ProviderTimeout):
        run(call(wrap(FaultyModel("hello", faults=[Fault(at, error)]), sdk.tracing()), mode))
    span = sdk.span
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert span.attributes["error.type"] == "ProviderTimeout"
    assert span.attributes["neuro_mw.status"] == "failed"
    assert "gen_ai.response.finish_reasons" not in span.attributes
    (attempt,) = sdk.events("neuro_mw.attempt")
    assert attempt["error.type"] == "ProviderTimeout"
    assert "secret" not in span.to_json()


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_without_a_question_is_a_span(sdk, mode):
    async def short(do_generate, params, context):
        return Response(text="kept", usage=Usage(9, 9))

    run(call(wrap(ScriptedModel("x"), sdk.tracing(), middleware("short", wrap_generate=short)), mode))
    found = sdk.span.attributes
    assert (found["neuro_mw.status"], found["neuro_mw.attempts"]) == ("completed", 0)
    assert "gen_ai.usage.input_tokens" not in found
    assert sdk.events("neuro_mw.middleware")[0]["neuro_mw.middleware.status"] == "short_circuited"


@pytest.mark.parametrize("mode", MODES)
def test_a_cancelled_call_has_ended_and_is_no_error(sdk, mode):
    async def main():
        model = wrap(ScriptedModel("x", delay_s=30), sdk.tracing())
        task = asyncio.create_task(call(model, mode))
        await asyncio.sleep(0.01)
        assert sdk.spans == ()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert sdk.span.status.status_code is StatusCode.UNSET
    assert sdk.span.attributes["neuro_mw.status"] == "cancelled"
    assert "error.type" not in sdk.span.attributes
    assert 5_000_000 < sdk.span.end_time - sdk.span.start_time < 30e9
    (attempt,) = sdk.events("neuro_mw.attempt")
    assert "error.type" not in attempt


def test_an_abandoned_stream_has_ended_when_it_is_closed(sdk):
    async def main():
        model = wrap(FaultyModel(ANSWER, cuts=[2]), sdk.tracing())
        async with model.stream("hi") as stream:
            async for part in stream:
                if isinstance(part, TextDelta):
                    break
            assert sdk.spans == ()
            left = time_ns()
        assert sdk.span.end_time >= left

    run(main())
    assert sdk.span.attributes["neuro_mw.status"] == "cancelled"
    assert sdk.span.attributes["gen_ai.response.id"] == "r1"
    assert "gen_ai.response.finish_reasons" not in sdk.span.attributes
    assert len(sdk.events("neuro_mw.attempt")) == 1


def test_a_stream_that_nobody_reads_is_no_call(sdk):
    async def main():
        async with wrap(ScriptedModel("x"), sdk.tracing()).stream("hi"):
            pass

    run(main())
    assert sdk.spans == ()


def test_a_stream_without_an_end_is_a_failure(sdk):
    with pytest.raises(StreamInterrupted):
        run(call(wrap(FaultyModel("hello", faults=[Fault(1, cut=True)]), sdk.tracing()), "stream"))
    assert sdk.span.attributes["error.type"] == "StreamInterrupted"


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
def test_each_call_is_one_span_that_says_how_it_ended(mode, data):
    """Over faults, cuts, and where a reader leaves."""
    sdk = Sdk()
    down = ProviderUnavailable("x", provider="p", model="m")
    fault = data.draw(st.sampled_from([None, Fault(0, down), Fault(2, ValueError("x")), Fault(1, cut=True)]))
    cuts = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    leave = data.draw(st.none() | st.integers(1, 12)) if mode == "stream" else None
    model = wrap(FaultyModel(ANSWER, faults=[fault], cuts=cuts), sdk.tracing())

    async def main():
        if leave is None:
            await call(model, mode)
            return "completed"
        async with model.stream("hi") as stream:
            number = 0
            async for _ in stream:
                number += 1
                if number == leave:
                    return "cancelled" if stream_goes_on(stream) else "completed"
        return "completed"

    def stream_goes_on(stream):
        return not sdk.spans

    try:
        status = run(main())
    except (ProviderUnavailable, ValueError, StreamInterrupted):
        status = "failed"
    assert sdk.span.attributes["neuro_mw.status"] == status
    assert (sdk.span.status.status_code is StatusCode.ERROR) == (status == "failed")
    assert sdk.count("gen_ai.client.operation.duration") == 1


@pytest.mark.parametrize("mode", MODES)
def test_calls_at_once_have_a_span_each(sdk, mode):
    async def main():
        model = wrap(ScriptedModel(ANSWER, delay_s=0.001), sdk.tracing())
        await asyncio.gather(*(call(model.with_context(session={"session_id": str(n)}), mode) for n in range(20)))

    run(main())
    assert sorted(int(span.attributes["gen_ai.conversation.id"]) for span in sdk.spans) == list(range(20))
    assert len({span.attributes["neuro_mw.request_id"] for span in sdk.spans}) == 20
    assert all(len(span.events) == 1 for span in sdk.spans)


# --- what ran ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_each_middleware_is_an_event_with_its_own_time(sdk, mode):
    async def slow(params, context):
        await asyncio.sleep(0.02)
        return params

    outside = middleware("outside", transform_params=slow, priority=200)
    inner = [middleware("slow", transform_params=slow, priority=9), middleware("quick", on_end=lambda *_: None)]
    run(call(wrap(ScriptedModel("x"), outside, sdk.tracing(), *inner), mode))
    found = {one["neuro_mw.middleware.id"]: one["neuro_mw.middleware.self_time"]
             for one in sdk.events("neuro_mw.middleware")}  # fmt: skip
    assert set(found) == {"slow", "quick"}
    assert found["slow"] > 0.015
    assert found["slow"] > found["quick"]
    times = [event.timestamp for event in sdk.span.events]
    assert times == sorted(times)
    assert sdk.span.start_time <= times[0] <= times[-1] <= sdk.span.end_time


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_that_was_passed_over_is_on_the_event(sdk, mode):
    def broken(params, context):
        raise ValueError("x")

    watcher = middleware("watcher", transform_params=broken, kind="observer")
    run(call(wrap(ScriptedModel("x"), sdk.tracing(), watcher), mode))
    assert sdk.events("neuro_mw.middleware")[0]["neuro_mw.middleware.failures_skipped"] == 1


@pytest.mark.parametrize("mode", MODES)
def test_each_attempt_is_an_event(sdk, mode):
    down = ProviderUnavailable("down", provider="openai", model="gpt-4o", retryable=True)
    model = FaultyModel("hello", faults=[Fault(0, down), Fault(0, down)])
    fallback = Fallback(models=["echo/echo"])
    run(call(wrap(model, sdk.tracing(), fallback, Retry(attempts=2, initial_delay_s=0)), mode, "one two"))
    first, second, third = sdk.events("neuro_mw.attempt")
    assert first["error.type"] == second["error.type"] == "ProviderUnavailable"
    assert "gen_ai.request.model" not in first
    assert (third["gen_ai.provider.name"], third["gen_ai.request.model"]) == ("echo", "echo")
    assert "error.type" not in third
    assert third["neuro_mw.attempt.duration"] > 0
    assert ("neuro_mw.attempt.time_to_first_chunk" in third) == (mode == "stream")
    assert sdk.span.attributes["neuro_mw.attempts"] == 3
    assert sdk.span.attributes["gen_ai.usage.input_tokens"] == 2
    assert sdk.span.name == "chat gpt-4o"


@pytest.mark.parametrize("mode", MODES)
def test_what_a_middleware_asks_on_its_own_is_an_event(sdk, mode):
    async def judge(params, context):
        await context.ask("is it fine", model="echo/echo")
        return params

    run(call(wrap(ScriptedModel("x"), sdk.tracing(), middleware("judge", transform_params=judge)), mode))
    (asked,) = sdk.events("neuro_mw.ask")
    assert asked["gen_ai.provider.name"] == "echo"
    assert "neuro_mw.attempts" not in sdk.span.attributes  # one, as in most calls


@pytest.mark.parametrize("mode", MODES)
def test_child_spans_when_asked(sdk, mode):
    down = ProviderUnavailable("down", provider="openai", model="gpt-4o", retryable=True)
    model = FaultyModel("hello", faults=[Fault(0, down)], delay_s=0.01)
    retry, timeout = Retry(initial_delay_s=0.01, jitter=False), Timeout(total_s=9)
    run(call(wrap(model, sdk.tracing(middleware_spans=True), retry, timeout), mode))
    *children, span = sdk.spans
    assert [child.name for child in children] == [
        "middleware timeout", "middleware timeout", "middleware retry", "attempt gpt-4o", "attempt gpt-4o",
    ]  # fmt: skip
    for child in children:
        assert child.parent.span_id == span.context.span_id
        assert child.kind is SpanKind.INTERNAL
        assert span.start_time - 1e6 <= child.start_time <= child.end_time <= span.end_time + 1e6
    first, second = children[3:]
    assert first.end_time <= second.start_time + 1e6
    assert first.attributes["error.type"] == "ProviderUnavailable"
    assert second.end_time - second.start_time >= 9_000_000


def test_child_spans_lie_within_the_call_however_long_a_reader_holds_it(sdk):
    async def main():
        layers = [Retry(), Timeout(total_s=9)]
        model = wrap(FaultyModel("hello", cuts=[1]), sdk.tracing(middleware_spans=True), *layers)
        async with model.stream("hi") as stream:
            async for _ in stream:
                await asyncio.sleep(0.01)

    run(main())
    *children, span = sdk.spans
    assert len(children) == 3
    for child in children:
        assert span.start_time - 1e6 <= child.start_time <= child.end_time <= span.end_time + 1e6
        assert child.end_time - child.start_time > 40_000_000


@pytest.mark.parametrize("mode", MODES)
def test_attempts_that_overlap_have_each_its_own_time(sdk, mode):
    """The second begins and ends while the first one is still at it."""
    waits = [0.03, 0.005]

    class Model:
        provider, model_id = "openai", "gpt-4o"

        async def generate(self, params):
            wait_s = waits[params["seed"]]
            await asyncio.sleep(wait_s)
            return Response(text="x", usage=Usage(1, params["seed"]))

        async def stream(self, params):
            response = await self.generate(params)
            yield TextDelta(response.text)
            yield Finish("stop", response.usage)

    async def hedged(do_generate, params, context):
        return (await asyncio.gather(*(do_generate({**params, "seed": seed}) for seed in (0, 1))))[0]

    run(call(wrap(Model(), sdk.tracing(middleware_spans=True), middleware("hedge", wrap_generate=hedged)), mode))
    *children, span = sdk.spans
    slow, quick = (child for child in children if child.name == "attempt gpt-4o")
    assert slow.start_time - 1e6 <= quick.start_time <= quick.end_time < slow.end_time <= span.end_time + 1e6
    assert slow.end_time - slow.start_time >= 29_000_000
    assert quick.end_time - quick.start_time < slow.end_time - slow.start_time
    events = [event for event in span.events if event.name == "neuro_mw.attempt"]
    assert abs(events[0].timestamp - quick.end_time) < 1e6  # they stand in the order in which they ended
    assert abs(events[1].timestamp - slow.end_time) < 1e6


def test_what_ended_before_the_reader_held_the_stream_was_not_held(sdk):
    """A draft is made and thrown away, then a second answer is read slowly."""

    async def drafts(do_stream, params, context):
        async for _ in do_stream(params):
            pass
        async for part in do_stream(params):
            yield part

    async def main():
        control = middleware("drafts", kind="control", priority=60, wrap_stream=drafts)
        layers = [sdk.tracing(middleware_spans=True), control, Timeout(total_s=9)]
        model = wrap(FaultyModel("hello", cuts=[1]), *layers)
        async with model.stream("hi") as stream:
            async for _ in stream:
                await asyncio.sleep(0.03)

    run(main())
    *children, span = sdk.spans
    names = [child.name for child in children]
    assert names == ["middleware timeout"] * 2 + ["middleware drafts"] + ["attempt gpt-4o"] * 2
    draft, read, drafts_own, first, second = children
    for early in (draft, first):
        assert early.end_time - early.start_time < 30_000_000
        assert early.end_time <= read.start_time + 1e6
    for held in (read, drafts_own, second):
        assert held.end_time - held.start_time > 140_000_000
        assert span.start_time - 1e6 <= held.start_time <= held.end_time <= span.end_time + 1e6


@pytest.mark.parametrize("mode", MODES)
def test_no_child_spans_unless_asked(sdk, mode):
    run(call(wrap(ScriptedModel("x"), sdk.tracing(), Retry()), mode))
    assert len(sdk.spans) == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_second_passage_tells_its_own_only(sdk, mode):
    """Where something further out calls twice, each passage is a span of its own."""
    down = ProviderUnavailable("down", provider="openai", model="gpt-4o", retryable=True)
    model = FaultyModel("hello", faults=[Fault(0, down)])
    layers = [sdk.tracing(), Retry(initial_delay_s=0), middleware("in", on_end=lambda outcome, context: None)]
    model = wrap(model, *layers, middleware_config={"retry": {"priority": 130}})
    run(call(model, mode))
    assert [span.attributes["neuro_mw.status"] for span in sdk.spans] == ["failed", "completed"]
    for span in sdk.spans:
        assert [event.name for event in span.events] == ["neuro_mw.attempt", "neuro_mw.middleware"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("first_ends", ["first", "last", "before the second begins"])
def test_each_of_two_passages_tells_its_own_attempts_and_questions(sdk, mode, first_ends):
    """Also where both run at once, and whichever ends first: no token is counted twice."""

    class Model:
        provider, model_id, asked = "openai", "gpt-4o", 0

        async def generate(self, params):
            self.asked += 1
            number = self.asked
            await asyncio.sleep(0.03 if (number == 1) == (first_ends == "last") else 0.001)
            return Response(text="x", usage=Usage(10**number, number))

        async def stream(self, params):
            response = await self.generate(params)
            yield TextDelta(response.text)
            yield Finish("stop", response.usage)

    async def judge(params, context):
        await context.ask("fine", model="echo/judge")
        return params

    async def twice(do_generate, params, context):
        if first_ends.startswith("before"):
            await do_generate(params)
            return await do_generate(params)
        return (await asyncio.gather(do_generate(params), do_generate(params)))[0]

    layers = [middleware("hedge", kind="control", priority=130, wrap_generate=twice), sdk.tracing(),
              middleware("judge", priority=60, transform_params=judge)]  # fmt: skip
    run(call(wrap(Model(), *layers), mode))
    assert sorted(span.attributes["gen_ai.usage.input_tokens"] for span in sdk.spans) == [10, 100]
    for span in sdk.spans:
        assert [event.name for event in span.events].count("neuro_mw.attempt") == 1
        assert "neuro_mw.attempts" not in span.attributes
    assert sum(event.name == "neuro_mw.ask" for span in sdk.spans for event in span.events) == 2
    tokens = {}
    for point in sdk.points()["gen_ai.client.token.usage"]:
        of = point.attributes["gen_ai.request.model"], point.attributes["gen_ai.token.type"]
        tokens[of] = tokens.get(of, 0) + point.sum
    assert tokens == {("gpt-4o", "input"): 110, ("gpt-4o", "output"): 3, ("judge", "input"): 2, ("judge", "output"): 2}


# --- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [
    {"max_content_chars": 0}, {"max_content_chars": 1.5}, {"spam": True},
    {"spans": "false"}, {"metrics": 1}, {"middleware_spans": "yes"}, {"capture_content": "yes"},
])  # fmt: skip
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ConfigError):
        Tracing(wrong)


@pytest.mark.parametrize("wrong", [{"tracer_provider": 5}, {"meter_provider": object()}])
def test_what_is_no_provider_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"_provider: it is of type (int|object)\. Expected a provider"):
        Tracing(**wrong)


@pytest.mark.parametrize("mode", MODES)
def test_spans_and_metrics_can_be_switched_off(mode):
    for spans, metrics in ((True, False), (False, True), (False, False)):
        sdk = Sdk()
        tracing = sdk.tracing(spans=spans, metrics=metrics)
        run(call(wrap(ScriptedModel(ANSWER), tracing), mode))
        assert len(sdk.spans) == spans
        assert bool(sdk.points()) == metrics
    model = MiddlewareFactory(preset=None, middleware=[tracing]).apply_middleware("echo/echo")
    assert not model.explain()["tracing"].hooks["generate"]

"""tracing: its span is the current one for what runs inside, and for nobody else, however a call is pulled and left."""

import asyncio
import contextvars
import gc
import logging
from contextlib import suppress

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context as otel_context
from opentelemetry.trace import INVALID_SPAN, get_current_span, use_span
from test_tracing import Sdk

from neuro_mw import Finish, MiddlewareContext, Response, TextDelta, middleware
from neuro_mw.builtin.timeout import Timeout
from neuro_mw.providers import OpenAICompatibleModel
from neuro_mw.testing import FaultyModel, ScriptedModel, StubOpenAI
from tests.chain.conftest import MODES, call, run, wrap


@pytest.fixture(autouse=True)
def _no_complaints(caplog):
    """The API logs what it cannot detach; nothing here may give it cause to."""
    with caplog.at_level(logging.WARNING):
        yield
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


def id_of(span):
    return span.get_span_context().span_id


class Seeing:
    """A model that notes which span is current, with each part that it gives."""

    provider, model_id = "openai", "gpt-4o"

    def __init__(self, parts=3):
        self.parts, self.seen = parts, []

    def see(self):
        self.seen.append(id_of(get_current_span()))

    async def generate(self, params):
        self.see()
        await asyncio.sleep(0)
        self.see()
        return Response(text="x" * self.parts)

    async def stream(self, params):
        try:
            for _ in range(self.parts):
                self.see()
                await asyncio.sleep(0)
                self.see()
                yield TextDelta("x")
            yield Finish("stop")
        finally:
            self.see()


@pytest.mark.parametrize("mode", MODES)
def test_the_span_is_current_inside_and_not_outside(mode):
    sdk, model = Sdk(), Seeing()

    async def main():
        with use_span(sdk.tracer_provider.get_tracer("t").start_span("mine")) as mine:
            await call(wrap(model, sdk.tracing()), mode)
            assert get_current_span() is mine
        return mine

    mine = run(main())
    assert set(model.seen) == {sdk.span.context.span_id}
    assert sdk.span.parent.span_id == id_of(mine)


@pytest.mark.parametrize("mode", MODES)
def test_the_span_is_current_inside_of_each_layer_and_of_tasks(mode):
    sdk, seen = Sdk(), []

    async def look(params, context):
        seen.append(id_of(get_current_span()))
        await asyncio.create_task(also())
        return params

    async def also():
        seen.append(id_of(get_current_span()))

    run(
        call(wrap(ScriptedModel("x"), sdk.tracing(), middleware("in", transform_params=look), Timeout(total_s=9)), mode)
    )
    assert seen == [sdk.span.context.span_id] * 2


@given(parts=st.integers(1, 6), leave=st.none() | st.integers(1, 6), how=st.sampled_from(["close", "task", "raise"]))
def test_the_consumers_span_stays_his_between_parts(parts, leave, how):
    """He may change it as he likes, leave where he likes, and close the stream from another task."""
    sdk, model = Sdk(), Seeing(parts)
    tracer = sdk.tracer_provider.get_tracer("t")

    async def main():
        stream = wrap(model, sdk.tracing()).stream("hi")
        iterator, number = aiter(stream), 0
        while True:
            with use_span(tracer.start_span("step"), end_on_exit=False) as step:
                try:
                    await anext(iterator)
                except StopAsyncIteration:
                    break
                assert get_current_span() is step
            assert get_current_span() is INVALID_SPAN
            number += 1
            if number == leave:
                break
        if how == "close":
            await stream.aclose()
        elif how == "task":
            await asyncio.create_task(stream.aclose(), context=contextvars.Context())
        else:
            with pytest.raises(ValueError, match="mine"):
                async with stream:
                    raise ValueError("mine")
        assert get_current_span() is INVALID_SPAN

    run(main())
    assert set(model.seen) == {sdk.span.context.span_id}


def test_each_part_may_be_pulled_in_another_task():
    sdk, model = Sdk(), Seeing(4)

    async def main():
        iterator = aiter(wrap(model, sdk.tracing()).stream("hi"))
        parts = []
        while not parts or not isinstance(parts[-1], Finish):
            parts.append(await asyncio.create_task(anext(iterator), context=contextvars.Context()))
            assert get_current_span() is INVALID_SPAN
        assert await anext(iterator, None) is None

    run(main())
    assert set(model.seen) == {sdk.span.context.span_id}


@pytest.mark.parametrize("mode", MODES)
def test_nested_calls_are_nested_spans(mode):
    sdk, model = Sdk(), Seeing()
    run(call(wrap(wrap(model, sdk.tracing()), sdk.tracing()), mode))
    inner, outer = sdk.spans
    assert set(model.seen) == {inner.context.span_id}
    assert inner.parent.span_id == outer.context.span_id
    assert outer.parent is None


def test_streams_side_by_side_in_one_task_do_not_mix():
    sdk = Sdk()
    models = [Seeing(5), Seeing(5), Seeing(5)]

    async def main():
        iterators = [aiter(wrap(model, sdk.tracing()).stream("hi")) for model in models]
        for _ in range(6):
            for iterator in iterators:
                await anext(iterator)
                assert get_current_span() is INVALID_SPAN
        for iterator in iterators:
            assert await anext(iterator, None) is None

    run(main())
    own = [set(model.seen) for model in models]
    assert [len(one) for one in own] == [1, 1, 1]
    assert len(set.union(*own)) == 3
    assert all(span.parent is None for span in sdk.spans)


@pytest.mark.parametrize("mode", MODES)
def test_calls_at_once_each_see_their_own(mode):
    sdk, models = Sdk(), [Seeing() for _ in range(10)]

    async def main():
        await asyncio.gather(*(call(wrap(model, sdk.tracing()), mode) for model in models))

    run(main())
    assert [len(set(model.seen)) for model in models] == [1] * 10
    assert len({model.seen[0] for model in models}) == 10


@pytest.mark.parametrize("mode", MODES)
def test_a_cancelled_caller_gets_his_span_back(mode):
    sdk = Sdk()

    async def main():
        with use_span(sdk.tracer_provider.get_tracer("t").start_span("mine")) as mine:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await call(wrap(ScriptedModel("x", delay_s=9), sdk.tracing()), mode)
            assert get_current_span() is mine

    run(main())
    assert sdk.span.attributes["neuro_mw.status"] == "cancelled"


def test_a_layer_inside_that_leaks_its_span_leaks_it_to_nobody():
    """As `start_as_current_span` round a `yield` does; and its own detach finds what it expects."""
    sdk = Sdk()
    tracer = sdk.tracer_provider.get_tracer("t")
    seen = []

    async def leaky(do_stream, params, context):
        with tracer.start_as_current_span("leaky"):
            async for part in do_stream(params):
                yield part
                seen.append(id_of(get_current_span()))

    async def main():
        model = wrap(Seeing(3), sdk.tracing(), middleware("leaky", wrap_stream=leaky))
        async with model.stream("hi") as stream:
            async for _ in stream:
                assert get_current_span() is INVALID_SPAN

    run(main())
    leaked, ours = sdk.spans
    assert leaked.name == "leaky"
    assert leaked.parent.span_id == ours.context.span_id
    assert set(seen) == {leaked.context.span_id}


def test_a_call_that_is_thrown_away_touches_no_context():
    """Its coroutine is closed wherever the collector comes by, which is nobody's place."""
    sdk, loop = Sdk(), asyncio.new_event_loop()
    coroutine = wrap(ScriptedModel("x", delay_s=60), sdk.tracing()).generate("hi")
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0.01))
    task._log_destroy_pending = False  # asyncio's own complaint, which is right
    mine = otel_context.set_value("mine", 1)
    token = otel_context.attach(mine)
    coroutine.close()
    assert otel_context.get_current() is mine
    otel_context.detach(token)
    loop.close()
    assert sdk.span.attributes["neuro_mw.status"] == "cancelled"


def test_a_pull_that_is_thrown_away_touches_no_context():
    """The hook alone: some versions of Python throw nothing into a generator that is in the middle of a pull."""

    class Never:
        def __anext__(self):
            return self

        def __await__(self):
            yield

        async def aclose(self):
            pass

    def throw_away():
        context = MiddlewareContext("openai", "gpt-4o", mode="stream")
        pull = sdk.tracing().wrap_stream(lambda params: Never(), {}, context).__anext__()
        pull.send(None)
        mine = otel_context.set_value("mine", 1)
        otel_context.attach(mine)
        with suppress(GeneratorExit):
            pull.throw(GeneratorExit())
        assert otel_context.get_current() is mine

    sdk = Sdk()
    contextvars.copy_context().run(throw_away)
    assert sdk.span.attributes["neuro_mw.status"] == "cancelled"


def test_an_abandoned_stream_is_closed_by_the_loop():
    sdk = Sdk()

    async def main():
        async for part in wrap(FaultyModel("hello", cuts=[1]), sdk.tracing()).stream("hi"):
            if isinstance(part, TextDelta):
                break
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        assert get_current_span() is INVALID_SPAN

    run(main())
    assert sdk.span.attributes["neuro_mw.status"] == "cancelled"


def test_sync_calls_carry_the_callers_span_along():
    sdk, model = Sdk(), Seeing()
    wrapped = wrap(model, sdk.tracing())
    with use_span(sdk.tracer_provider.get_tracer("t").start_span("mine")) as mine:
        wrapped.generate_sync("hi")
        for _ in wrapped.stream_sync("hi"):
            assert get_current_span() is mine
    assert [span.parent.span_id for span in sdk.spans[:2]] == [id_of(mine)] * 2


@pytest.mark.parametrize("mode", MODES)
def test_spans_of_an_instrumented_client_are_children(mode, monkeypatch):
    """A real request; the client is instrumented as OpenTelemetry's own package does it, by a trace config."""
    sdk = Sdk()
    tracer = sdk.tracer_provider.get_tracer("aiohttp")

    async def started(session, context, params):
        context.span = tracer.start_span("POST")

    async def ended(session, context, params):
        context.span.end()

    init = aiohttp.ClientSession.__init__

    def instrumented(self, *args, **options):
        config = aiohttp.TraceConfig()
        config.on_request_start.append(started)
        config.on_request_end.append(ended)
        init(self, *args, trace_configs=[config], **options)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", instrumented)
    with StubOpenAI() as stub:
        stub.reply(text="hello world")
        model = OpenAICompatibleModel("openai", "gpt-4o", base_url=stub.base_url, api_key="x")
        run(call(wrap(model, sdk.tracing(), Timeout(total_s=9)), mode))
    http, ours = sdk.spans
    assert (http.name, http.parent.span_id) == ("POST", ours.context.span_id)

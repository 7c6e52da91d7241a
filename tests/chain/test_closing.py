"""Rules 9 and 10: whatever fails and wherever the consumer leaves, every stream is closed once and on_end runs once."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import (
    Blocked,
    Finish,
    Middleware,
    MiddlewareFactory,
    MiddlewareMetadata,
    NeuroError,
    Response,
    StreamError,
    StreamInterrupted,
    TextDelta,
)
from neuro_mw.testing import ScriptedModel


class Watched(Middleware):
    """Counts its passages and their ends, and the streams that it opened and that were closed."""

    def __init__(self, id: str, fault: Any = None, on_error: str | None = None) -> None:
        self.metadata = MiddlewareMetadata(id=id, on_error=on_error)  # type: ignore[misc]
        self.fault, self.entered, self.outcomes = fault, 0, []
        self.running = 0

    def transform_params(self, params, context):
        self.entered += 1
        return params

    def on_end(self, outcome, context):
        self.outcomes.append(outcome)

    def maybe_fail(self, count: int) -> None:
        if self.fault is not None and count == self.fault[1]:
            raise self.fault[0]


class Careless(Watched):
    """A wrap_stream that never closes its inner stream."""

    async def wrap_stream(self, do_stream, params, context):
        self.running += 1
        try:
            count = 0
            async for part in do_stream(params):
                self.maybe_fail(count)
                count += 1
                yield part
        finally:
            self.running -= 1


class ByHand(Watched):
    """A wrap_stream that opens two streams and pulls by hand."""

    async def wrap_stream(self, do_stream, params, context):
        self.running += 1
        try:
            first = do_stream(params)
            await anext(first)
            second = do_stream(params)
            count = 0
            while True:
                self.maybe_fail(count)
                count += 1
                try:
                    part = await anext(second)
                except StopAsyncIteration:
                    return
                yield part
        finally:
            self.running -= 1


class Buffering(Watched):
    async def wrap_generate(self, do_generate, params, context):
        self.running += 1
        try:
            response = await do_generate(params)
            self.maybe_fail(1)
            return response
        finally:
            self.running -= 1


class Stepping(Watched):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ends: list[str] = []

    def transform_parts(self, params, context):
        me = self

        class Step:
            def __init__(self) -> None:
                self.kept: list[Any] = []
                self.count = 0

            def feed(self, part):
                me.maybe_fail(self.count)
                self.count += 1
                if isinstance(part, TextDelta):
                    self.kept.append(part)
                    return self.kept.pop(0) if len(self.kept) > 1 else None
                return part

            def finish(self):
                me.ends.append("finish")
                kept, self.kept = self.kept, []
                return kept

            def abort(self):
                me.ends.append("abort")

            def held(self):
                return self.kept

        return Step()


FAULTS = st.none() | st.tuples(
    st.sampled_from([lambda: RuntimeError("own"), lambda: Blocked("no"), lambda: asyncio.CancelledError()]),
    st.integers(0, 4),
)
LAYERS = st.lists(
    st.tuples(
        st.sampled_from([Careless, ByHand, Buffering, Stepping, Watched]), FAULTS, st.sampled_from([None, "skip"])
    ),
    min_size=1,
    max_size=5,
)


@given(
    layers=LAYERS,
    model_fault=st.none() | st.integers(0, 6),
    leave=st.sampled_from(["read", "break", "cancel", "aclose"]),
    after=st.integers(0, 5),
)
def test_everything_is_closed_and_told_once(layers, model_fault, leave, after):
    logging.disable(logging.CRITICAL)
    made = [
        kind(f"m{index}", fault and (fault[0](), fault[1]), on_error)
        for index, (kind, fault, on_error) in enumerate(layers)
    ]
    error = None if model_fault is None else RuntimeError("provider")
    model = ScriptedModel("hello world", cuts=(2,), error=error, error_at=model_fault or 0, delay_s=0)
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=made)

    async def consume(stream: Any) -> None:
        count = 0
        async with stream:
            async for _ in stream:
                count += 1
                if count > after and leave == "break":
                    break
                if count > after and leave == "aclose":
                    await stream.aclose()
                    break
                if count > after and leave == "cancel":
                    asyncio.current_task().cancel()
                    await asyncio.sleep(0)

    async def check() -> None:
        task = asyncio.create_task(consume(factory.apply_middleware(model).stream("hi")))
        await asyncio.wait([task], timeout=10)
        assert task.done()
        if not task.cancelled():
            task.exception()
        assert model.opened == model.closed
        for one in made:
            assert one.running == 0
            assert one.entered == len(one.outcomes), one.metadata.id
        assert len(asyncio.all_tasks()) == 1

    try:
        asyncio.run(check())
    finally:
        logging.disable(logging.NOTSET)
    for id, stats in factory.registry.get_aggregated_stats().items():
        one = next(one for one in made if one.metadata.id == id)
        assert stats.total_executions == one.entered
        assert stats.total_executions == (
            stats.successful_executions + stats.failed_executions + stats.cancelled + stats.inner_errors
        )
        statuses = [outcome.status for outcome in one.outcomes]
        assert stats.cancelled == statuses.count("cancelled")
        assert stats.failed_executions + stats.inner_errors == statuses.count("failed")


def wrapped(model: Any, *middlewares: Middleware) -> Any:
    return MiddlewareFactory(preset=None, plugins=False, middleware=list(middlewares)).apply_middleware(model)


def test_a_stream_never_iterated_makes_no_call():
    model, watched = ScriptedModel(), Careless("w")

    async def check() -> None:
        async with wrapped(model, watched).stream("hi"):
            pass
        wrapped(model, Careless("v")).stream("hi")

    asyncio.run(check())
    assert not model.calls
    assert not watched.entered
    assert not watched.outcomes


def test_after_a_bare_break_streams_close_when_the_stream_is_collected():
    model, watched = ScriptedModel("hello world", cuts=(1,)), Careless("w")

    async def check() -> None:
        stream = wrapped(model, watched).stream("hi")
        async for _ in stream:
            break
        assert model.closed == 0
        del stream
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        assert model.closed == 1
        assert [one.status for one in watched.outcomes] == ["cancelled"]

    asyncio.run(check())


def test_closing_happens_in_the_consumers_task():
    tasks: list[Any] = []

    class Seen(ScriptedModel):
        async def stream(self, params):
            try:
                async for part in super().stream(params):
                    yield part
            finally:
                tasks.append(asyncio.current_task())

    async def check() -> None:
        async with wrapped(Seen("hello", cuts=(1,)), Careless("a"), ByHand("b")).stream("hi") as stream:
            async for _ in stream:
                break
        assert tasks
        assert set(tasks) == {asyncio.current_task()}

    asyncio.run(check())


def test_no_read_ahead():
    model = ScriptedModel("x" * 1000, cuts=(1,))

    async def check() -> None:
        async with wrapped(model, Careless("a"), Watched("b")).stream("hi") as stream:
            await anext(aiter(stream))
            assert model.pulled <= 2
            for _ in range(10):
                await asyncio.sleep(0)
            assert model.pulled <= 2

    asyncio.run(check())


def test_consumed_twice_and_closed():
    async def check() -> None:
        stream = wrapped(ScriptedModel(), Watched("a")).stream("hi")
        assert [part async for part in stream][-1].type == "finish"
        with pytest.raises(StreamError, match="already consumed"):
            aiter(stream)
        assert (await stream.response()).text == "hello"
        closed = wrapped(ScriptedModel(), Watched("a")).stream("hi")
        await closed.aclose()
        with pytest.raises(StreamError, match="closed"):
            await closed.response()

    asyncio.run(check())


@pytest.mark.parametrize("layers", [(), (Watched("a"),), (Careless("a"), Stepping("b"))])
def test_a_stream_without_finish_is_interrupted_with_what_was_let_go(layers):
    class Cut(ScriptedModel):
        async def stream(self, params):
            async for part in super().stream(params):
                if not isinstance(part, Finish):
                    yield part

    async def check() -> None:
        seen = []
        stream = wrapped(Cut("hello", cuts=(2,)), Watched("outer"), *layers).stream("hi")

        async def read():
            async for part in stream:
                seen.append(part.text)

        with pytest.raises(StreamInterrupted) as caught:
            await read()
        assert caught.value.partial.text == "".join(seen)
        assert caught.value.partial.finish_reason == "error"

    asyncio.run(check())


def test_partial_is_what_was_let_go_at_the_boundary_never_more():
    inner: list[Any] = []

    class Catcher(Middleware):
        metadata = MiddlewareMetadata(id="catcher", priority=5)

        async def wrap_stream(self, do_stream, params, context):
            try:
                async for part in do_stream(params):
                    yield part
            except RuntimeError as error:
                inner.append(error.partial.text)
                raise

    class Mask(Middleware):
        metadata = MiddlewareMetadata(id="mask", priority=9)

        def transform_parts(self, params, context):
            return lambda part: TextDelta("*" * len(part.text)) if isinstance(part, TextDelta) else part

    async def check() -> None:
        model = ScriptedModel("secret words", cuts=(4,), error=RuntimeError("cut"), error_at=2)
        stream = wrapped(model, Catcher(), Mask()).stream("hi")
        with pytest.raises(RuntimeError) as caught:
            async for _ in stream:
                pass
        assert caught.value.partial.text == "********"

    asyncio.run(check())
    assert inner == ["secret w"]


def test_a_step_may_end_the_stream_early(caplog):
    """Rule 15: held parts leave first, the provider's stream is closed, the outcome is short_circuited."""
    outcomes = []

    class Enough(Middleware):
        metadata = MiddlewareMetadata(id="enough", priority=1)

        def transform_parts(self, params, context):
            kept: list[Any] = []

            class Step:
                def feed(self, part):
                    if not isinstance(part, TextDelta):
                        return part
                    kept.append(part)
                    return Finish("length") if len(kept) == 3 else None

                def finish(self):
                    return kept

                def abort(self):
                    pass

            return Step()

        def on_end(self, outcome, context):
            outcomes.append(outcome.status)

    for mode in ("generate", "stream"):
        model, outer, within = ScriptedModel("a" * 100, cuts=(2,)), Watched("outer"), Watched("within")
        within.metadata = MiddlewareMetadata(id="within", priority=-1)
        outer.metadata = MiddlewareMetadata(id="outer", priority=9)
        chain = wrapped(model, outer, Enough(), within)
        response: Response = asyncio.run(chain.generate("x") if mode == "generate" else _read(chain))
        if mode == "stream":
            assert response.text == "a" * 6
            assert response.finish_reason == "length"
            assert model.pulled < 10
            assert model.closed == 1
            assert within.outcomes[0].status == "cancelled"
        assert outer.outcomes[0].status == "completed"
    assert outcomes[-1] == "short_circuited"


async def _read(chain: Any) -> Response:
    async with chain.stream("x") as stream:
        return await stream.response()


def test_finish_after_finish_and_no_part_are_errors():
    class Double(ScriptedModel):
        async def stream(self, params):
            yield TextDelta("a")
            yield Finish("stop")
            yield TextDelta("b")

    class NoPart(ScriptedModel):
        async def stream(self, params):
            yield "text"

    for model in (Double(), NoPart()):
        with pytest.raises(NeuroError, match="openai/gpt-4o"):
            asyncio.run(_read(wrapped(model, Watched("a"))))

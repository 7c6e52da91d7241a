"""timeout: exact to the tick of a clock that runs only where everyone waits; whoever cancels is told apart."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import (
    ConfigError,
    Finish,
    MiddlewareFactory,
    ProviderDelta,
    ProviderTimeout,
    ReasoningDelta,
    ResponseInfo,
    TextDelta,
    ToolCallDelta,
    Usage,
    collect,
    middleware,
)
from neuro_mw.builtin import retry, timeout
from neuro_mw.builtin.fallback import Fallback
from neuro_mw.builtin.retry import Retry
from neuro_mw.builtin.timeout import Timeout
from tests.chain.conftest import MODES, call, run, wrap

UNSAID = [ResponseInfo("id", "gpt-4o", 1.0), ProviderDelta({"a": 1})]
EMPTY = [TextDelta(""), ReasoningDelta(""), ToolCallDelta(0)]
PARTS = [*UNSAID, ReasoningDelta("so"), TextDelta("he"), TextDelta("llo"), Finish("stop", Usage(3, 2))]


class Ticking(asyncio.SelectorEventLoop):
    """A loop whose time passes only where nothing else is left to do; then it jumps to the next timer."""

    def __init__(self):
        super().__init__()
        self.now, self.timers = 0.0, 0
        select = self._selector.select

        def jump(wait=None):
            assert wait is not None, "everyone waits, and nothing will ever happen"
            self.now += max(wait, 0)
            return select(0)

        self._selector.select = jump

    def time(self):
        return self.now

    def call_at(self, *args, **options):
        self.timers += 1
        return super().call_at(*args, **options)


def ticking(main):
    """Run a coroutine function on such a loop, which it is given."""

    async def with_clock():
        loop = asyncio.get_running_loop()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(timeout, "clock", loop.time)
            return await main(loop)

    with asyncio.Runner(loop_factory=Ticking) as runner:
        return runner.run(with_clock())


class Slow:
    """A model that takes so long before each part; in generate, all of that. Cancelled, it cleans up for a while."""

    provider, model_id = "openai", "gpt-4o"

    def __init__(self, gaps, parts=PARTS, cleanup=0.0, swallow=False):
        self.gaps, self.parts, self.cleanup, self.swallow = gaps, parts, cleanup, swallow
        self.calls = self.opened = self.closed = 0

    async def _wait(self, gap):
        try:
            await asyncio.sleep(gap)
        except asyncio.CancelledError:
            if self.cleanup:
                await asyncio.sleep(self.cleanup)
            if not self.swallow:
                raise

    async def generate(self, params):
        self.calls += 1
        await self._wait(sum(self.gaps))
        return await collect(self.parts)

    async def stream(self, params):
        self.calls, self.opened = self.calls + 1, self.opened + 1
        try:
            for gap, part in zip(self.gaps, self.parts, strict=True):
                if gap:
                    await self._wait(gap)
                yield part
        finally:
            self.closed += 1


async def read(wrapped, got, held=()):
    """Read a stream into `got`, holding each part for a while."""
    held = [*held]
    async with wrapped.stream("hi") as stream:
        async for part in stream:
            got.append(part)
            await asyncio.sleep(held.pop(0) if held else 0)


def reference(gaps, parts, total, first, idle):
    """When waiting ends, how many parts have come, and which limits may be said to have ended it."""
    spent, said = 0, False
    for index, (gap, part) in enumerate(zip(gaps, parts, strict=True)):
        ends = {"total_s": total}
        if first is not None and not said:
            ends["first_part_s"] = first
        elif index:
            ends["idle_s"] = None if idle is None else spent + idle
        set_ends = {name: end for name, end in ends.items() if end is not None}
        end = min(set_ends.values(), default=float("inf"))
        if spent + gap > end:
            return end, index, [name for name, at in set_ends.items() if at == end]
        spent += gap
        said = said or not (isinstance(part, ResponseInfo | ProviderDelta) or part in EMPTY)
    return spent, len(parts), []


ticks = st.integers(0, 9)
limits = st.none() | st.integers(0, 20).map(lambda n: n + 0.5)  # never at a tick, so never a tie


@given(
    gaps=st.lists(ticks, min_size=len(PARTS), max_size=len(PARTS)),
    held=st.lists(ticks, min_size=len(PARTS), max_size=len(PARTS)),
    limits=st.tuples(st.none() | st.integers(0, 40).map(lambda n: n + 0.5), limits, limits),
    unsaid=st.integers(0, 2),
    empty=st.none() | st.tuples(st.sampled_from(EMPTY), st.integers(0, 5), ticks),
)
def test_a_stream_ends_at_the_limit_that_comes_first(gaps, held, limits, unsaid, empty):
    total, first, idle = limits
    if total is not None:
        first, idle = first and min(first, total), idle and min(idle, total)
    if limits == (None, None, None):
        total = 12.5
    parts, gaps = PARTS[unsaid:], gaps[unsaid:]
    if empty is not None:
        part, at, gap = empty
        at = min(at, len(parts) - 1)  # before Finish
        parts, gaps = [*parts[:at], part, *parts[at:]], [*gaps[:at], gap, *gaps[at:]]
    end, count, names = reference(gaps, parts, total, first, idle)
    model, got = Slow(gaps, parts), []

    async def main(loop):
        wrapped = wrap(model, Timeout(total_s=total, first_part_s=first, idle_s=idle))
        try:
            await read(wrapped, got, held)
        except ProviderTimeout as error:
            return error, loop.now, asyncio.current_task().cancelling()
        return None, loop.now, 0

    error, now, cancelling = ticking(main)
    assert got[: len(parts) - 1] == parts[: min(count, len(parts) - 1)]
    assert len(got) == count
    assert now == pytest.approx(end + sum(held[:count]))
    assert cancelling == 0
    assert (model.opened, model.closed) == (1, 1)
    if names:
        values = {"total_s": total, "first_part_s": first, "idle_s": idle}
        assert str(error).startswith("openai/gpt-4o: ")
        assert any(str(error).endswith(f"took longer than {name}={values[name]:g}") for name in names)
        assert (error.retryable, error.provider, error.model) == (True, "openai", "gpt-4o")
    else:
        assert error is None


@given(gap=ticks, total=st.none() | st.integers(0, 10).map(lambda n: n + 0.5))
def test_a_whole_answer_ends_at_total_s_alone(gap, total):
    async def main(loop):
        wrapped = wrap(Slow([gap]), Timeout(total_s=total, first_part_s=0.25, idle_s=0.25))
        if total is not None and gap > total:
            with pytest.raises(ProviderTimeout, match=f"the answer took longer than total_s={total:g}"):
                await wrapped.generate("hi")
            assert loop.now == total
        else:
            assert (await wrapped.generate("hi")).text == "hello"
            assert loop.now == gap

    ticking(main)


@pytest.mark.parametrize("mode", MODES)
@given(
    at=st.integers(0, 12), limit=st.integers(1, 12), cleanup=st.integers(0, 4), gap=st.integers(1, 12),
    swallow=st.booleans(),
)  # fmt: skip
def test_the_callers_cancellation_stays_one(mode, at, limit, cleanup, swallow, gap):
    """Whenever it comes: before the limit, at the same tick, or while the model cleans up after it."""
    model = Slow([0, 0, 0, gap, 0, 0], cleanup=cleanup, swallow=swallow)

    async def main(loop):
        wrapped = wrap(model, Timeout(total_s=limit))
        task = asyncio.create_task(call(wrapped, mode))
        await asyncio.sleep(at)
        accepted = task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        return accepted, ended, task

    accepted, ended, task = ticking(main)
    if accepted and not swallow:
        assert task.cancelled()
    elif not accepted:
        assert task.cancelling() == 0
        if gap != limit:
            assert isinstance(ended, ProviderTimeout) == (gap > limit)
    assert model.opened == model.closed


@pytest.mark.parametrize("mode", MODES)
def test_a_model_that_swallows_the_interruption_is_too_late_all_the_same(mode):
    async def main(loop):
        with pytest.raises(ProviderTimeout, match=r"total_s=2"):
            await call(wrap(Slow([5, 0, 0, 0, 0, 0], cleanup=1, swallow=True), Timeout(total_s=2)), mode)
        assert loop.now == 3
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)  # and no interruption is left over

    ticking(main)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("error", [TimeoutError("its own"), asyncio.CancelledError("its own"), KeyError("x")])
def test_what_the_model_raises_is_its_own(mode, error):
    class Raising(Slow):
        async def _wait(self, gap):
            raise error

    async def main(loop):
        with pytest.raises(type(error)) as caught:
            await call(wrap(Raising([1] * 6), Timeout(total_s=2)), mode)
        assert caught.value is error
        assert asyncio.current_task().cancelling() == 0

    ticking(main)


@pytest.mark.parametrize("mode", MODES)
@given(inner=st.integers(1, 9), outer=st.integers(1, 9), gap=st.integers(1, 9))
def test_within_a_timeout_of_the_caller(mode, inner, outer, gap):
    async def main(loop):
        kind = None
        try:
            async with asyncio.timeout(outer + 0.5):
                await call(wrap(Slow([gap + 0.25, 0, 0, 0, 0, 0]), Timeout(total_s=inner)), mode)
        except (TimeoutError, ProviderTimeout) as error:
            kind = type(error)
        first, wanted = min((gap + 0.25, None), (inner, ProviderTimeout), (outer + 0.5, TimeoutError))
        assert (kind, loop.now) == (wanted, first)
        assert asyncio.current_task().cancelling() == 0

    ticking(main)


@pytest.mark.parametrize("mode", MODES)
def test_the_deadline_of_an_attempt_does_not_kill_the_next(mode, monkeypatch):
    monkeypatch.setattr(retry, "uniform", lambda low, high: high)

    class Recovering(Slow):
        def stream(self, params):
            self.gaps = [0, 1, 50, 0, 0, 0] if self.calls < 2 else [1, 1, 1, 1, 1, 1]
            return super().stream(params)

        def generate(self, params):
            self.gaps = [0, 1, 50, 0, 0, 0] if self.calls < 2 else [1, 1, 1, 1, 1, 1]
            return super().generate(params)

    async def main(loop):
        model = Recovering([])
        response = await call(wrap(model, Retry(initial_delay_s=1), Timeout(total_s=10, first_part_s=4)), mode)
        assert (response.text, model.calls) == ("hello", 3)
        assert loop.now == (4 + 1 + 4 + 2 + 6 if mode == "stream" else 10 + 1 + 10 + 2 + 6)
        assert model.opened == model.closed

    ticking(main)


@pytest.mark.parametrize("mode", MODES)
def test_the_deadline_of_a_model_does_not_kill_the_fallback(mode):
    async def main(loop):
        class Factory(MiddlewareFactory):
            def _resolve(self, name, driver):
                return Slow([20 if name == "openai/gpt-4o" else 5, 0, 0, 0, 0, 0])

        layers = [Fallback(models=["groq/x"]), Timeout(total_s=7)]
        wrapped = Factory(preset=None, plugins=False, middleware=layers).apply_middleware("openai/gpt-4o")
        response = await call(wrapped, mode)
        assert response.metadata["fallback"]["tried"] == [{"model": "openai/gpt-4o", "error": "ProviderTimeout"}]
        assert loop.now == 12

    ticking(main)


def test_each_part_may_be_pulled_by_another_task():
    async def main(loop):
        wrapped = wrap(Slow([0, 1, 1, 1, 9, 0]), Timeout(idle_s=3))
        async with wrapped.stream("hi") as stream:
            for _ in range(4):
                await asyncio.create_task(anext(stream))
                await asyncio.sleep(100)
            with pytest.raises(ProviderTimeout, match="idle_s=3"):
                await asyncio.create_task(anext(stream))
        assert asyncio.current_task().cancelling() == 0
        assert loop.now == 3 + 400 + 3

    ticking(main)


@pytest.mark.parametrize("mode", MODES)
def test_a_cancellation_that_someone_swallowed_before_is_no_matter(mode):
    async def main(loop):
        task = asyncio.current_task()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(1)
        with pytest.raises(ProviderTimeout):
            await call(wrap(Slow([0, 0, 0, 5, 0, 0]), Timeout(total_s=2)), mode)
        assert task.cancelling() == 1
        task.uncancel()

    ticking(main)


@pytest.mark.parametrize("mode", MODES)
def test_an_error_on_the_way_out_is_not_hidden(mode):
    class Failing(Slow):
        async def _wait(self, gap):
            try:
                await asyncio.sleep(gap)
            except asyncio.CancelledError:
                raise KeyError("x") from None

    async def main(loop):
        with pytest.raises(KeyError):
            await call(wrap(Failing([5, 0, 0, 0, 0, 0]), Timeout(total_s=2)), mode)
        assert loop.now == 2
        assert asyncio.current_task().cancelling() == 0

    ticking(main)


@pytest.mark.parametrize("mode", MODES)
def test_who_is_interrupted_may_clean_up_while_others_are_interrupted(mode):
    ends = []

    class Cleaning(Slow):
        async def _wait(self, gap):
            try:
                await super()._wait(gap)
            finally:
                ends.append(asyncio.get_running_loop().time())

    async def main(loop):
        layer = Timeout(total_s=2)

        async def one(start):
            await asyncio.sleep(start)
            await call(wrap(Cleaning([9, 0, 0, 0, 0, 0], cleanup=10), layer), mode)

        ended = await asyncio.gather(one(0), one(1), one(2), return_exceptions=True)
        assert [type(error) for error in ended] == [ProviderTimeout] * 3

    ticking(main)
    assert ends == [12, 13, 14]


@given(calls=st.lists(st.tuples(ticks, ticks), min_size=2, max_size=5), total=st.integers(0, 9).map(lambda n: n + 0.5))
def test_calls_at_once_end_each_at_its_own_time(calls, total):
    starts, gaps = zip(*calls)

    async def main(loop):
        layer = Timeout(total_s=total)

        async def one(start, gap):
            await asyncio.sleep(start)
            mode = "stream" if gap % 2 else "generate"
            try:
                await call(wrap(Slow([0, gap, 0, 0, 0, 0]), layer), mode)
            except ProviderTimeout:
                return start, loop.now, "late"
            return start, loop.now, "in time"

        ended = await asyncio.gather(*map(one, starts, gaps))
        late = [gap > total for gap in gaps]
        at_last = [start + min(gap, total) for start, gap in zip(starts, gaps)]
        assert ended == list(zip(starts, at_last, ["late" if one else "in time" for one in late]))
        assert layer.tally.counts() == ({"total_s": sum(late)} if any(late) else {})
        assert not layer._here.bell.watches

    ticking(main)


def test_a_timer_is_not_set_for_each_part():
    parts = [*[TextDelta("x")] * 1000, Finish("stop", Usage())]

    async def main(loop):
        wrapped = wrap(Slow([0] * 1001, parts), Timeout(total_s=60, first_part_s=30, idle_s=10))
        await read(wrapped, [], [])
        few = loop.timers
        for _ in range(100):
            await wrapped.generate("hi")
        return few, loop.timers - 100  # the model's own

    few, all_together = ticking(main)
    assert few <= 3
    assert all_together <= few + 1


def test_loops_and_threads_have_bells_of_their_own():
    layer, failures = Timeout(total_s=0.02), []

    async def main():
        with pytest.raises(ProviderTimeout):
            await wrap(Slow([5]), layer).generate("hi")
        assert (await wrap(Slow([0]), layer).generate("hi")).text == "hello"

    async def keeps_its_bell():
        await wrap(Slow([0]), layer).generate("hi")
        bell = layer._here.bell
        await asyncio.to_thread(run, main())
        assert layer._here.bell is bell
        assert bell.loop is asyncio.get_running_loop()

    run(keeps_its_bell())

    def twice():
        try:
            run(main())
            run(main())
        except BaseException as error:  # noqa: BLE001  # it is told below
            failures.append(error)

    threads = [threading.Thread(target=twice) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert layer.tally.counts() == {"total_s": 9}


def test_a_stream_that_never_waits_ends_too(monkeypatch):
    """It leaves the loop no chance to ring."""
    seconds = iter(range(10_000))

    parts, got = [*[TextDelta("x")] * 5000, Finish("stop", Usage())], []

    async def main():
        async with wrap(Slow([0] * 5001, parts), Timeout(total_s=1000)).stream("hi") as stream:
            async for part in stream:
                got.append(part)

    monkeypatch.setattr(timeout, "clock", lambda: next(seconds))
    with pytest.raises(ProviderTimeout, match="total_s=1000"):
        run(main())
    assert len(got) == 1000


@pytest.mark.parametrize("mode", MODES)
def test_what_is_inside_is_told_and_closed(mode):
    ends = []
    inner = middleware("inner", on_end=lambda outcome, context: ends.append(outcome.status), priority=1)
    layer = Timeout(total_s=2)

    async def main(loop):
        model = Slow([1, 1, 5, 0, 0, 0])
        wrapped = wrap(model, layer, inner)
        with pytest.raises(ProviderTimeout) as caught:
            await call(wrapped, mode)
        assert model.opened == model.closed
        assert caught.value.__cause__.__class__ is asyncio.CancelledError
        assert wrapped.stats().results["timeout"].error == "ProviderTimeout"

    ticking(main)
    assert ends == ["cancelled"]
    assert layer.tally.counts() == {"total_s": 1}


def test_partial_is_what_had_left():
    async def main(loop):
        got = []
        with pytest.raises(ProviderTimeout) as caught:
            await read(wrap(Slow([0, 0, 0, 0, 9, 0]), Timeout(idle_s=2)), got)
        assert got == PARTS[:4]
        assert (caught.value.partial.text, caught.value.partial.reasoning) == ("he", "so")

    ticking(main)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "total_s"),
        ({"total_s": 0}, "total_s"),
        ({"total_s": -1}, "total_s"),
        ({"total_s": True}, "total_s"),
        ({"first_part_s": "5"}, "first_part_s"),
        ({"total_s": 5, "idle_s": False}, "idle_s"),
        ({"idle_s": float("inf")}, "idle_s"),
        ({"idle_s": "soon"}, "idle_s"),
        ({"total_s": 5, "first_part_s": 6}, "first_part_s"),
        ({"total_s": 5, "first_part_s": 5, "idle_s": 5.1}, "idle_s"),
        ({"total": 5}, "total"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, key):
    with pytest.raises(ConfigError) as caught:
        Timeout(**options)
    assert caught.value.key == f"middleware.timeout.config.{key}"

"""retry: who is asked again, when, and how often; nothing is let go twice."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import (
    AuthenticationFailed,
    BadRequest,
    Blocked,
    BudgetExceeded,
    CircuitOpen,
    ConfigError,
    ContentRefused,
    ContextTooLong,
    Finish,
    MiddlewareError,
    MiddlewareFactory,
    MiddlewareTimeout,
    ProviderDelta,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    ReasoningDelta,
    ResponseInfo,
    StreamInterrupted,
    TextDelta,
    TokenLimitExceeded,
    ToolCallDelta,
    Usage,
    collect,
    middleware,
)
from neuro_mw.builtin import analytics, retry
from neuro_mw.builtin._attempts import says_nothing
from neuro_mw.builtin.circuit_breaker import CircuitBreaker
from neuro_mw.builtin.retry import Retry
from tests.chain.conftest import MODES, call, run, wrap

PARTS = [
    ResponseInfo("id", "gpt-4o", 1.0), ProviderDelta({"a": 1}), ReasoningDelta("so"), TextDelta("he"), TextDelta("llo"),
    ToolCallDelta(0, "c", "f", "{}"), Finish("tool_calls", Usage(3, 2)),
]  # fmt: skip
FIRST_CONTENT = 2


def provider_error(kind=ProviderUnavailable, **more):
    return kind("down", provider="openai", model="gpt-4o", **more)


class Faulty:
    """A model with one fault for each call, then answers: (at, error) fails before part `at`, in generate at once."""

    provider, model_id = "openai", "gpt-4o"

    def __init__(self, *faults, parts=PARTS):
        self.faults, self.parts, self.calls, self.opened, self.closed = list(faults), parts, 0, 0, 0

    def _next(self):
        self.calls += 1
        return self.faults.pop(0) if self.faults else None

    async def generate(self, params):
        fault = self._next()
        if fault is not None:
            raise fault[1]
        return await collect(self.parts)

    async def stream(self, params):
        fault, self.opened = self._next(), self.opened + 1
        try:
            for at, part in enumerate(self.parts):
                if fault is not None and fault[0] == at:
                    if fault[1] is None:
                        return
                    raise fault[1]
                await asyncio.sleep(0)
                yield part
        finally:
            self.closed += 1


@pytest.fixture(autouse=True)
def slept(monkeypatch):
    """The pauses that were made; no time passes."""
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(retry, "sleep", sleep)
    return pauses


async def parts_and_error(wrapped):
    """What a consumer of the stream gets, part by part, and the error that ends it."""
    got = []
    try:
        async with wrapped.stream("hi") as stream:
            async for part in stream:
                got.append(part)
    except Exception as error:  # noqa: BLE001  # which one it is, the tests ask
        return got, error
    return got, None


FAULTS = {
    "rate_limited": lambda: provider_error(ProviderRateLimited),
    "timeout": lambda: provider_error(ProviderTimeout),
    "unavailable": provider_error,
    "authentication": lambda: provider_error(AuthenticationFailed, retryable=True),
    "context_too_long": lambda: provider_error(ContextTooLong),
    "bad_request": lambda: provider_error(BadRequest),
    "refused": lambda: provider_error(ContentRefused),
}


@pytest.mark.parametrize("mode", MODES)
@given(
    kinds=st.lists(st.sampled_from([*FAULTS, "mute", None]), max_size=6),
    at=st.lists(st.integers(0, FIRST_CONTENT), min_size=6, max_size=6),
    on=st.sets(st.sampled_from([*FAULTS]), min_size=1),
    attempts=st.integers(1, 5),
)
def test_asks_as_often_as_it_may_and_lets_go_one_answer(mode, kinds, at, on, attempts):
    made = [kind and (FAULTS[kind]() if kind in FAULTS else provider_error(ProviderError)) for kind in kinds]
    model = Faulty(*(None if error is None else (where, error) for error, where in zip(made, at, strict=False)))
    wrapped = wrap(model, Retry(attempts=attempts, on=sorted(on)))
    wanted, calls = None, 1
    for kind, error in zip(kinds, made, strict=True):
        wanted = error
        if error is None or kind not in on or calls == attempts:
            break
        wanted, calls = None, calls + 1

    if mode == "stream":
        got, error = run(parts_and_error(wrapped))
        assert error is wanted
        assert got[:-1] == ([] if wanted else PARTS[:-1])
        assert model.opened == model.closed == calls
    elif wanted is None:
        assert run(call(wrapped, mode)).text == "hello"
    else:
        with pytest.raises(ProviderError) as caught:
            run(call(wrapped, mode))
        assert caught.value is wanted
    assert model.calls == calls
    if wanted is not None:
        notes = [note for note in getattr(wanted, "__notes__", ()) if "attempts" in note]
        assert notes == ([f"middleware 'retry' made {calls} attempts at openai/gpt-4o"] if calls > 1 else [])


@given(at=st.integers(FIRST_CONTENT + 1, len(PARTS) - 1), cut=st.booleans(), before=st.integers(0, 2))
def test_after_the_first_content_a_failure_is_final(at, cut, before):
    failure = None if cut else provider_error()
    model = Faulty(*[(1, provider_error())] * before, (at, failure))
    got, error = run(parts_and_error(wrap(model, Retry())))
    assert got == PARTS[:at]
    assert error is failure if failure else isinstance(error, StreamInterrupted)
    assert error.partial.text == "".join(part.text for part in PARTS[:at] if isinstance(part, TextDelta))
    assert model.calls == before + 1
    assert model.opened == model.closed


@pytest.mark.parametrize("last", [PARTS[2], PARTS[3], PARTS[5], PARTS[6]])
def test_nothing_is_held_behind_the_first_content(last):
    """Each kind of content lets go what was held, before the next part is asked for."""
    model = Faulty(parts=[*PARTS[:2], last])

    async def first():
        async with wrap(model, Retry()).stream("hi") as stream:
            return [await anext(stream) for _ in range(3)]

    assert [type(part) for part in run(first())] == [ResponseInfo, ProviderDelta, type(last)]


EMPTY = [TextDelta(""), ReasoningDelta(""), ToolCallDelta(0), ToolCallDelta(0, "", "", "")]
UNSAID = st.lists(st.sampled_from([*PARTS[:2], *EMPTY]), max_size=9)
CONTENT = [*PARTS[2:], ToolCallDelta(0, "c"), ToolCallDelta(0, None, "f"), ToolCallDelta(0, None, None, " "),
           TextDelta(" "), ReasoningDelta("\n")]  # fmt: skip


@given(UNSAID)
def test_what_says_nothing_is_held_back(unsaid):
    """So another attempt can still take its place, wherever the failure falls."""
    parts = [*unsaid, *PARTS[2:]]
    model = Faulty((len(unsaid), provider_error()), parts=parts)
    got, error = run(parts_and_error(wrap(model, Retry())))
    assert (error, model.calls, model.opened) == (None, 2, model.closed)
    assert got[:-1] == parts[:-1]  # once


@pytest.mark.parametrize("part", [*PARTS[:2], *EMPTY, *CONTENT], ids=repr)
def test_which_parts_say_nothing(part):
    assert says_nothing(part) is (part not in CONTENT)


@pytest.mark.parametrize("number", [255, 256, 257])
def test_not_more_than_so_many_parts_are_held_back(number):
    """Who sends 256 of them has begun to answer: what comes is let go, and a failure behind it is final."""
    error = provider_error()
    model = Faulty((number, error), parts=[*[TextDelta("")] * number, *PARTS[2:]])
    got, raised = run(parts_and_error(wrap(model, Retry())))
    assert (raised, model.calls) == ((None, 2) if number < 256 else (error, 1))
    assert len(got) == (number + len(PARTS[2:]) if number < 256 else number)


def test_a_cut_stream_is_opened_again():
    model = Faulty((0, None), (2, None))
    got, error = run(parts_and_error(wrap(model, Retry())))
    assert (got[:-1], error, model.calls) == (PARTS[:-1], None, 3)


FINAL = {
    "circuit": CircuitOpen("open", retry_after=0.1),
    "budget": BudgetExceeded("spent"),
    "tokens": TokenLimitExceeded("too long"),
    "middleware": MiddlewareError("broken"),
    "own": TimeoutError("a middleware's own"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FINAL)
def test_limits_and_failures_of_middlewares_are_final(mode, name):
    asked = []

    def refuse(params, context):
        asked.append(1)
        raise FINAL[name]

    on = [*FAULTS, "any"]
    with pytest.raises(type(FINAL[name])):
        run(call(wrap(Faulty(), Retry(on=on), middleware("inner", transform_params=refuse, priority=10)), mode))
    assert len(asked) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fails", [True, False])
def test_a_middlewares_own_failure_is_final_also_behind_an_attempt(mode, fails):
    """That a model was asked, and perhaps failed, does not make the error the model's."""

    async def lose(do_generate, params, context):
        with suppress(ProviderUnavailable):
            await do_generate(params)
        raise ConnectionError("a middleware's own")

    model = Faulty((0, provider_error())) if fails else Faulty()
    layers = Retry(on=["unavailable", "any"]), middleware("inner", wrap_generate=lose, priority=10)
    with pytest.raises(ConnectionError):
        run(call(wrap(model, *layers), mode))
    assert model.calls == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("made", [1, 2])
def test_a_limit_behind_attempts_tells_why(mode, made):
    """The last failure is its cause, and only attempts that were made are counted."""
    errors = [provider_error(), provider_error(ProviderTimeout)][:made]
    model = Faulty(*((0, error) for error in errors))
    breaker = CircuitBreaker(failure_threshold=made)
    with pytest.raises(CircuitOpen) as caught:
        run(call(wrap(model, Retry(), breaker), mode))
    assert caught.value.__cause__ is errors[-1]
    assert f"middleware 'retry' made {made} attempts at openai/gpt-4o" in caught.value.__notes__
    assert model.calls == made
    with pytest.raises(CircuitOpen) as caught:  # nothing was tried
        run(call(wrap(model, Retry(), breaker), mode))
    assert caught.value.__cause__ is None
    assert not [note for note in getattr(caught.value, "__notes__", ()) if "attempts" in note]


@pytest.mark.parametrize("mode", MODES)
def test_a_limit_keeps_a_cause_of_its_own(mode):
    cause, seen = KeyError("its own"), []

    def refuse(params, context):
        seen.append(1)
        if len(seen) > 1:
            raise BudgetExceeded("spent") from cause
        return params

    model = Faulty((0, provider_error()))
    with pytest.raises(BudgetExceeded) as caught:
        run(call(wrap(model, Retry(), middleware("inner", transform_params=refuse, priority=10)), mode))
    assert caught.value.__cause__ is cause


@pytest.mark.parametrize("mode", MODES)
def test_blocks_are_final(mode):
    def refuse(params, context):
        raise Blocked("no")

    model, wanted = Faulty(), []
    layers = Retry(on=["any"], retry_if=wanted.append), middleware("guard", transform_params=refuse, priority=10)
    for layer in (layers[0], Retry(on=["any"])):
        assert run(call(wrap(model, layer, layers[1]), mode)).blocked.middleware == "guard"
    assert (model.calls, wanted) == (0, [])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("error", "on", "again"),
    [
        (TimeoutError(), "timeout", True),
        (ConnectionResetError(), "unavailable", True),
        (ConnectionResetError(), "timeout", False),
        (KeyError("x"), "unavailable", False),
        (KeyError("x"), "any", True),
        (provider_error(ProviderError), "unavailable", False),
        (provider_error(ProviderError, retryable=True), "unavailable", True),
        (provider_error(ProviderError, retryable=True), "timeout", False),
        (provider_error(ProviderError), "any", True),
        (MiddlewareError("of a wrapped model in there"), "any", False),
        (CircuitOpen("of a wrapped model in there"), "any", False),
        (provider_error(BadRequest, retryable=True), "unavailable", False),
    ],
)
def test_what_else_a_model_may_raise(mode, error, on, again):
    model = Faulty((0, error))
    wrapped = wrap(model, Retry(on=[on]))
    if again:
        assert run(call(wrapped, mode)).text == "hello"
    else:
        with pytest.raises(type(error)):
            run(call(wrapped, mode))
    assert model.calls == 1 + again


# --- pauses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_pauses_grow_to_a_bound(mode, slept):
    model = Faulty(*[(0, provider_error())] * 6)
    options = {"attempts": 7, "initial_delay_s": 1, "multiplier": 3, "max_delay_s": 20, "jitter": False}
    run(call(wrap(model, Retry(**options)), mode))
    assert slept == [1, 3, 9, 20, 20, 20]


@pytest.mark.parametrize("mode", MODES)
def test_jitter_draws_from_the_whole_pause(mode, slept, monkeypatch):
    drawn = []
    monkeypatch.setattr(retry, "uniform", lambda low, high: drawn.append((low, high)) or high / 4)
    run(call(wrap(Faulty(*[(0, provider_error())] * 2), Retry(initial_delay_s=2)), mode))
    assert drawn == [(0, 2), (0, 4)]
    assert slept == [0.5, 1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("after", "options", "paused"),
    [
        (7.0, {}, 7.0),
        (0.001, {}, 0.001),
        (30.0, {}, 30.0),
        (0.0, {}, 0.5),
        (None, {}, 0.5),
        ("soon", {}, 0.5),
        ([7.0], {}, 0.5),
        (float("nan"), {}, 0.5),
        (-3.0, {}, 0.5),
        (float("inf"), {}, None),
        (7.0, {"respect_retry_after": False}, 0.5),
        (31.0, {"respect_retry_after": False}, 0.5),
        (31.0, {}, None),
    ],
)
def test_the_provider_says_when(mode, after, options, paused, slept):
    error = provider_error(ProviderRateLimited, retry_after=after)
    model = Faulty((0, error))
    wrapped = wrap(model, Retry(jitter=False, **options))
    if paused is None:  # later than max_delay_s: neither waited for nor tried too early
        with pytest.raises(ProviderRateLimited):
            run(call(wrapped, mode))
        assert (slept, model.calls) == ([], 1)
    else:
        run(call(wrapped, mode))
        assert slept == [paused]


def test_no_pause_overflows(slept):
    run(call(wrap(Faulty(*[(0, provider_error())] * 1200), Retry(attempts=2000, jitter=False)), "generate"))
    assert max(slept) == 30


@pytest.mark.parametrize("mode", MODES)
def test_the_callers_cancellation_is_final_in_a_pause(mode, monkeypatch):
    async def main():
        pausing = asyncio.Event()

        async def sleep(seconds):
            pausing.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(retry, "sleep", sleep)
        model = Faulty(*[(0, provider_error())] * 3)
        task = asyncio.create_task(call(wrap(model, Retry()), mode))
        await pausing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return model

    model = run(main())
    assert (model.calls, model.opened) == (1, model.closed)


# --- answers that are not wanted ---------------------------------------------------------------------------------


def is_short(response):
    return len(response.text) < 3


class Answers(Faulty):
    """A model that gives these texts, one after the other."""

    def __init__(self, *texts):
        super().__init__()
        self.texts = list(texts)

    def _next(self):
        self.parts = [*PARTS[:2], TextDelta(self.texts.pop(0)), Finish("stop", Usage(1, 1))]
        return super()._next()


@pytest.mark.parametrize("mode", MODES)
@given(texts=st.lists(st.sampled_from(["a", "bb", "long"]), min_size=3, max_size=3), is_async=st.booleans())
def test_retry_if_sees_whole_answers(mode, texts, is_async):
    async def later(response):
        return is_short(response)

    wanted = next((text for text in texts if text == "long"), texts[-1])
    model = Answers(*texts)
    response = run(call(wrap(model, Retry(retry_if=later if is_async else is_short)), mode))
    assert response.text == wanted
    assert model.calls == 1 + ([*texts, "long"].index("long") if "long" in texts else 2)
    assert response.finish_reason == "stop"
    assert model.opened == model.closed


def test_retry_if_by_name_and_in_explain():
    entry = {"retry": {"config": {"retry_if": f"{__name__}:is_short"}}}
    factory = MiddlewareFactory(preset=None, plugins=False)
    factory.register(Retry, replace=True)
    model = Answers("a", "long")
    wrapped = factory.apply_middleware(model, middleware_config=entry)
    assert run(call(wrapped, "stream")).text == "long"
    plan = factory.explain(factory.create_context("openai", "gpt-4o"), middleware_config=entry)
    assert plan["retry"].hooks == {"generate": ["wrap_generate"], "stream": ["wrap_generate (buffers the stream)"]}
    assert "buffers" not in str(wrap(model, Retry()).explain())


@pytest.mark.parametrize("mode", MODES)
def test_a_failing_retry_if_is_a_failure_of_this_middleware(mode):
    def fail(response):
        raise TimeoutError

    model = Faulty()
    with pytest.raises(TimeoutError) as caught:
        run(call(wrap(model, Retry(retry_if=fail, on=["any"])), mode))
    assert "'retry' failed in wrap_generate" in caught.value.__notes__[0]
    assert model.calls == 1


# --- what is kept of it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_each_attempt_is_on_the_context_and_paid_for(mode):
    seen = []
    errors = [provider_error(), provider_error(ProviderTimeout)]
    watch = middleware("watch", on_end=lambda outcome, context: seen.extend(context.attempts), priority=90)
    layer, records = Retry(), analytics.Analytics()
    model = Faulty(*((1, error) for error in errors))
    wrapped = wrap(model, watch, records, layer)
    response = run(call(wrapped, mode))
    assert [attempt.error for attempt in seen] == [*errors, None]
    assert [attempt.committed for attempt in seen] == [False, False, True]
    assert [attempt.usage.total_tokens for attempt in seen] == [None, None, 5]
    assert response.metadata["analytics"]["usage"]["total"] == 5
    assert layer.tally.counts() == {"ProviderUnavailable": 1, "ProviderTimeout": 1}
    stats = wrapped.stats().results["retry"]
    assert stats.applied
    assert stats.error is None


@pytest.mark.parametrize("mode", MODES)
def test_unwanted_answers_are_paid_for_too(mode):
    response = run(call(wrap(Answers("a", "b", "c"), analytics.Analytics(), Retry(retry_if=is_short)), mode))
    assert response.metadata["analytics"]["usage"]["total"] == 6


@pytest.mark.parametrize("mode", MODES)
def test_calls_at_once_do_not_share_their_counts(mode):
    async def main():
        wrapped = [Faulty(*[(0, provider_error())] * failures) for failures in (0, 1, 2) * 10]
        layer = Retry()
        calls = [call(wrap(model, layer), mode) for model in wrapped]
        assert {answer.text for answer in await asyncio.gather(*calls)} == {"hello"}
        return [model.calls for model in wrapped]

    assert run(main()) == [1, 2, 3] * 10


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"initial_delay_s": -1}, "initial_delay_s"),
        ({"initial_delay_s": 31}, "initial_delay_s"),
        ({"max_delay_s": float("inf")}, "max_delay_s"),
        ({"multiplier": 0.5}, "multiplier"),
        ({"on": ["circuit_open"]}, "on.0"),
        ({"on": ["timeout", "timeouts"]}, "on.1"),
        ({"on": []}, "on"),
        ({"retry_if": "no.such.module:name"}, "retry_if"),
        ({"retry_if": "math:pi"}, "retry_if"),
        ({"retry_if": 3}, "retry_if"),
        ({"tries": 3}, "tries"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, key):
    with pytest.raises(ConfigError) as caught:
        Retry(**options)
    assert caught.value.key == f"middleware.retry.config.{key}"


@pytest.mark.parametrize("mode", MODES)
def test_timeout_s_of_the_entry_counts_the_pauses(mode, monkeypatch):
    monkeypatch.setattr(retry, "sleep", asyncio.sleep)
    model = Faulty((0, provider_error()))
    config = {"retry": {"timeout_s": 0.02}}
    layer = Retry(initial_delay_s=5, jitter=False)
    with pytest.raises(MiddlewareTimeout, match="'retry' took longer"):
        run(call(wrap(model, layer, middleware_config=config), mode))
    assert model.calls == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_after_unwanted_answers_is_noted_too(mode):
    unwanted = Faulty(None, None, (0, BadRequest("no", provider="openai", model="gpt-4o")))
    with pytest.raises(BadRequest) as caught:
        run(call(wrap(unwanted, Retry(retry_if=lambda response: True)), mode))
    assert "middleware 'retry' made 3 attempts at openai/gpt-4o" in caught.value.__notes__

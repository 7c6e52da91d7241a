"""circuit_breaker: what counts, when it opens, who is let through, in both modes and under threads."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import (
    AuthenticationFailed,
    BadRequest,
    Blocked,
    CircuitOpen,
    ConfigError,
    ContentRefused,
    ContextTooLong,
    Middleware,
    MiddlewareContext,
    MiddlewareFactory,
    MiddlewareMetadata,
    Outcome,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    TextDelta,
    middleware,
)
from neuro_mw.builtin import circuit_breaker
from neuro_mw.builtin.circuit_breaker import CircuitBreaker
from neuro_mw.testing import ScriptedModel

KEY = "openai/gpt-4o"
FAILED = {"provider": "openai", "model": "gpt-4o"}


def down(kind=ProviderUnavailable, **more):
    return kind("down", **FAILED, **more)


@pytest.fixture(params=["generate", "stream"])
def mode(request):
    return request.param


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(circuit_breaker, "clock", clock)
    return clock


def wrap(model, *middlewares):
    return MiddlewareFactory(preset=None, plugins=False, middleware=list(middlewares)).apply_middleware(model)


async def call(wrapped, mode, **params):
    if mode == "generate":
        return (await wrapped.generate("hi", **params)).text
    async with wrapped.stream("hi", **params) as stream:
        return (await stream.response()).text


def outcomes(wrapped, mode, number, **params):
    """How so many calls end: the text, or the name of the error."""

    async def run():
        found = []
        for _ in range(number):
            try:
                found.append(await call(wrapped, mode, **params))
            except Exception as error:  # noqa: BLE001  # whatever it is
                found.append(type(error).__name__)
        return found

    return asyncio.run(run())


# --- opening and closing -----------------------------------------------------------------------------------------


def test_a_name_of_a_model_ends_no_line_of_the_log(mode, clock, caplog):
    model = ScriptedModel(error=down(), model_id="mine\nERROR forged\ud800")
    outcomes(wrap(model, CircuitBreaker(failure_threshold=1)), mode, 1)
    (said,) = (record.getMessage() for record in caplog.records)
    assert "is open for" in said
    assert "\n" not in said
    said.encode()


def test_it_opens_after_so_many_failures_and_the_model_is_left_alone(mode, clock):
    model, breaker = ScriptedModel(error=down()), CircuitBreaker(failure_threshold=3)
    wrapped = wrap(model, breaker)
    assert outcomes(wrapped, mode, 5) == ["ProviderUnavailable"] * 3 + ["CircuitOpen"] * 2
    assert len(model.calls) == 3
    assert breaker.states() == {KEY: {"state": "open", "failures": 0, "probes": 0, "retry_after": 30}}
    assert breaker.tally.counts() == {"opened": 1, "refused": 2}
    clock.now += 10
    with pytest.raises(CircuitOpen, match=r"openai/gpt-4o is open.*3 times within 60 s.*in 20\.0 s") as error:
        asyncio.run(call(wrapped, mode))
    assert error.value.retry_after == 20


def test_after_a_rest_an_answer_closes_it(mode, clock):
    model, breaker = ScriptedModel("fine", errors=[down()] * 2), CircuitBreaker(failure_threshold=2)
    wrapped = wrap(model, breaker)
    outcomes(wrapped, mode, 2)
    clock.now += 29.9
    assert outcomes(wrapped, mode, 1) == ["CircuitOpen"]
    clock.now += 0.1
    assert breaker.states()[KEY]["state"] == "half_open"
    assert outcomes(wrapped, mode, 2) == ["fine"] * 2
    assert breaker.states() == {KEY: {"state": "closed", "failures": 0, "probes": 0, "retry_after": None}}


def test_after_a_rest_a_failure_opens_it_again(mode, clock):
    breaker = CircuitBreaker(failure_threshold=2)
    wrapped = wrap(ScriptedModel(error=down()), breaker)
    outcomes(wrapped, mode, 2)
    clock.now += 30
    assert outcomes(wrapped, mode, 2) == ["ProviderUnavailable", "CircuitOpen"]
    assert breaker.states()[KEY]["retry_after"] == 30


def test_failures_count_within_the_window_only(mode, clock):
    wrapped = wrap(ScriptedModel(error=down()), CircuitBreaker(failure_threshold=2, window_s=10))
    for _ in range(5):
        assert outcomes(wrapped, mode, 1) == ["ProviderUnavailable"]
        clock.now += 10.1
    assert outcomes(wrapped, mode, 3) == ["ProviderUnavailable"] * 2 + ["CircuitOpen"]


@pytest.mark.parametrize("key", ["provider/model", "provider"])
def test_a_whole_answer_clears_the_failures_before_it(mode, clock, key):
    """A few failures among many answers are no trouble, however many calls there are within the window."""
    model = ScriptedModel("fine", errors=[down(), down(), None] * 20 + [down()] * 3)
    breaker = CircuitBreaker(failure_threshold=3, key=key)
    wrapped = wrap(model, breaker)
    assert outcomes(wrapped, mode, 60) == ["ProviderUnavailable", "ProviderUnavailable", "fine"] * 20
    assert [one["failures"] for one in breaker.states().values()] == [0]
    assert outcomes(wrapped, mode, 4) == ["ProviderUnavailable"] * 3 + ["CircuitOpen"]


@pytest.mark.parametrize(("status", "error"), [("cancelled", asyncio.CancelledError()), ("cancelled", None),
                                               ("failed", down(BadRequest)), ("blocked", None)])  # fmt: skip
def test_what_is_no_whole_answer_clears_nothing(clock, status, error):
    breaker = CircuitBreaker(failure_threshold=2)
    _end(breaker, down())
    _end(breaker, error, status=status)
    assert breaker.states()[KEY]["failures"] == 1
    _end(breaker, down())
    assert breaker.states()[KEY]["state"] == "open"


def test_an_answer_of_another_model_clears_nothing(clock):
    breaker = CircuitBreaker(failure_threshold=2)
    _end(breaker, down())
    _end(breaker, None, MiddlewareContext("openai", "gpt-4o-mini"))
    _end(breaker, down())
    assert breaker.states()[KEY]["state"] == "open"


def test_the_end_of_the_window_is_within(clock):
    breaker = CircuitBreaker(failure_threshold=2, window_s=10)
    _end(breaker, down())
    clock.now += 10
    assert breaker.states()[KEY]["failures"] == 1
    _end(breaker, down())
    assert breaker.states()[KEY]["state"] == "open"
    breaker = CircuitBreaker(failure_threshold=2, window_s=10)
    _end(breaker, down())
    clock.now += 10.25
    assert breaker.states()[KEY]["failures"] == 0
    _end(breaker, down())
    assert breaker.states()[KEY]["state"] == "closed"


@given(st.integers(1, 4), st.floats(0.5, 20), st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=40))
def test_it_opens_exactly_when_the_window_is_full_of_failures_in_a_row(threshold, window_s, steps):
    clock, old = Clock(), circuit_breaker.clock
    circuit_breaker.clock = clock
    try:
        breaker = CircuitBreaker(failure_threshold=threshold, window_s=window_s)
        times = []
        for wait_s, fails in steps:
            clock.now += wait_s
            _end(breaker, down() if fails else None)
            times = [*times, clock.now] if fails else []
            full = sum(clock.now - at <= window_s for at in times) >= threshold
            state = breaker.states().get(KEY)
            if full:
                assert state["state"] == "open"
                return
            assert state is None or state["state"] == "closed"
            if state is not None:
                assert state["failures"] == sum(clock.now - at <= window_s for at in times)
    finally:
        circuit_breaker.clock = old


def _begin(breaker, context=None):
    context = context or MiddlewareContext("openai", "gpt-4o")
    breaker.transform_params({}, context)
    return context


def _end(breaker, error, context=None, status=None):
    context = context or _begin(breaker)
    status = status or ("completed" if error is None else "failed")
    breaker.on_end(Outcome(status, error=error), context)


# --- what counts -------------------------------------------------------------------------------------------------


class Odd(ProviderError):
    pass


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (down(ProviderTimeout), True), (down(ProviderRateLimited), True), (down(ProviderUnavailable), True),
        (down(ProviderError, retryable=True), True), (down(ProviderError, status=500), True),
        (down(Odd, status=503), True),
        (down(ProviderError, status=418), False), (down(ProviderError), False),
        (down(BadRequest, status=500), False), (down(AuthenticationFailed), False), (down(ContextTooLong), False),
        (down(ContentRefused, retryable=True), False),
        (ConnectionResetError(), True), (TimeoutError(), True), (ValueError("a bug"), False),
        (CircuitOpen("inner"), False),
    ],
)  # fmt: skip
def test_what_counts(mode, error, counts):
    wrapped = wrap(ScriptedModel(error=error), CircuitBreaker(failure_threshold=1))
    assert outcomes(wrapped, mode, 2) == [type(error).__name__, "CircuitOpen" if counts else type(error).__name__]


@pytest.mark.parametrize(
    ("error", "key", "counts"),
    [(down(ProviderRateLimited), "mine", False), (down(ProviderRateLimited), "", True), (down(), "mine", True),
     (down(ProviderTimeout), "mine", True)],
)  # fmt: skip
def test_a_key_of_the_callers_own_that_is_used_up_does_not_count(mode, clock, error, key, counts):
    model, breaker = ScriptedModel(errors=[error, error]), CircuitBreaker(failure_threshold=1)
    wrapped = wrap(model, breaker)
    name = type(error).__name__
    assert outcomes(wrapped, mode, 2, api_key=key) == [name, "CircuitOpen" if counts else name]


@pytest.mark.parametrize(
    "given",
    [
        {"extra_headers": {"Authorization": "Bearer mine"}},
        {"headers": {"x-api-key": "mine"}},
        {"azure_ad_token": "mine"},
        {"extra_body": {"auth": {"token": "mine"}}},
    ],
)
def test_by_whatever_name(mode, given):
    wrapped = wrap(ScriptedModel(errors=[down(ProviderRateLimited)] * 2), CircuitBreaker(failure_threshold=1))
    assert outcomes(wrapped, mode, 2, **given) == ["ProviderRateLimited"] * 2


def test_a_key_that_a_layer_sets_for_every_call_is_not_the_callers(mode):
    house = middleware("house", transform_params=lambda params, context: {**params, "api_key": "house"}, priority=80)
    wrapped = wrap(ScriptedModel(errors=[down(ProviderRateLimited)] * 2), CircuitBreaker(failure_threshold=1), house)
    assert outcomes(wrapped, mode, 2) == ["ProviderRateLimited", "CircuitOpen"]


def test_a_probe_with_a_used_up_key_decides_nothing(mode, clock):
    model = ScriptedModel(errors=[down(), down(ProviderRateLimited)])
    breaker = CircuitBreaker(failure_threshold=1)
    wrapped = wrap(model, breaker)
    outcomes(wrapped, mode, 1)
    clock.now += 30
    assert outcomes(wrapped, mode, 1, api_key="mine") == ["ProviderRateLimited"]
    assert breaker.states()[KEY] == {"state": "half_open", "failures": 0, "probes": 0, "retry_after": None}


def test_errors_of_middlewares_do_not_count(mode):
    class Bug(Middleware):
        metadata = MiddlewareMetadata(id="bug", priority=10)

        async def transform_params(self, params, context):
            raise TimeoutError

    assert outcomes(wrap(ScriptedModel(), Bug(), CircuitBreaker(failure_threshold=1)), mode, 2) == ["TimeoutError"] * 2


@pytest.mark.parametrize("error", [down(), None])
def test_a_stream_that_breaks_off_counts(error):
    class Broken(ScriptedModel):
        async def stream(self, params):
            yield TextDelta("begun")
            if error is not None:
                raise error

    breaker = CircuitBreaker(failure_threshold=1)
    first, second = outcomes(wrap(Broken(), breaker), "stream", 2)
    assert first in ("ProviderUnavailable", "StreamInterrupted")
    assert second == "CircuitOpen"


def test_blocks_from_inside_count_as_nothing(mode, clock):
    class Guard(Middleware):
        metadata = MiddlewareMetadata(id="inner_guard", priority=10, kind="guard")
        on = False

        async def transform_params(self, params, context):
            if self.on:
                raise Blocked("no")
            return params

    guard, breaker = Guard(), CircuitBreaker(failure_threshold=1)
    wrapped = wrap(ScriptedModel("fine", errors=[down()]), breaker, guard)
    outcomes(wrapped, mode, 1)
    clock.now += 30
    guard.on = True
    assert outcomes(wrapped, mode, 2) == ["no", "no"]
    assert breaker.states()[KEY] == {"state": "half_open", "failures": 0, "probes": 0, "retry_after": None}
    guard.on = False
    assert outcomes(wrapped, mode, 1) == ["fine"]
    assert breaker.states()[KEY]["state"] == "closed"


# --- probes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3])
def test_so_many_probes_at_a_time(clock, most):
    breaker = CircuitBreaker(failure_threshold=1, half_open_max=most)
    _end(breaker, down())
    clock.now += 30
    probes = [_begin(breaker) for _ in range(most)]
    clock.now += 5
    with pytest.raises(CircuitOpen) as error:
        _begin(breaker)
    assert error.value.retry_after == 25
    assert breaker.states()[KEY]["probes"] == most
    _end(breaker, None, probes[0])
    assert breaker.states()[KEY]["state"] == "closed"
    _end(breaker, down(), probes[-1] if most > 1 else None)
    assert breaker.states()[KEY]["state"] == ("closed" if most > 1 else "open")


@pytest.mark.parametrize(("status", "error"), [("cancelled", asyncio.CancelledError()), ("cancelled", None),
                                               ("failed", down(BadRequest)), ("blocked", None)])  # fmt: skip
def test_an_undecided_probe_gives_its_place_back(clock, status, error):
    breaker = CircuitBreaker(failure_threshold=1)
    _end(breaker, down())
    clock.now += 30
    for _ in range(3):
        _end(breaker, error, _begin(breaker), status)
        assert breaker.states()[KEY] == {"state": "half_open", "failures": 0, "probes": 0, "retry_after": None}


def test_a_probe_that_never_ends_keeps_nobody_waiting_for_ever(clock):
    breaker = CircuitBreaker(failure_threshold=1)
    _end(breaker, down())
    clock.now += 30
    slow = _begin(breaker)
    clock.now += 30
    second = _begin(breaker)
    _end(breaker, None, slow)  # late, and yet an answer
    assert breaker.states()[KEY]["state"] == "closed"
    _end(breaker, down(), second)  # of a turn that is over
    assert breaker.states()[KEY]["state"] == "closed"


@pytest.mark.parametrize(("status", "error"), [("cancelled", None), ("failed", down(BadRequest))])
def test_a_probe_that_lost_its_place_gives_none_back(clock, status, error):
    breaker = CircuitBreaker(failure_threshold=1)
    _end(breaker, down())
    clock.now += 30
    slow = _begin(breaker)
    clock.now += 30
    second = _begin(breaker)
    _end(breaker, error, slow, status)
    assert breaker.states()[KEY]["probes"] == 1  # that of the second
    _end(breaker, None, second)
    assert breaker.states()[KEY]["state"] == "closed"


def test_a_probe_of_an_earlier_turn_decides_nothing(clock):
    breaker = CircuitBreaker(failure_threshold=1, half_open_max=2)
    _end(breaker, down())
    clock.now += 30
    first, second = _begin(breaker), _begin(breaker)
    _end(breaker, down(), first)
    clock.now += 30
    _end(breaker, None, second)
    assert breaker.states()[KEY]["state"] == "half_open"


def test_calls_that_began_before_it_opened_decide_nothing(clock):
    breaker = CircuitBreaker(failure_threshold=1)
    early = [_begin(breaker) for _ in range(3)]
    _end(breaker, down(), early[0])
    clock.now += 5
    _end(breaker, down(), early[1])
    _end(breaker, None, early[2])
    assert breaker.states()[KEY] == {"state": "open", "failures": 0, "probes": 0, "retry_after": 25}


def test_a_stream_left_or_cancelled_decides_nothing(clock):
    async def run(leave):
        breaker = CircuitBreaker(failure_threshold=1)
        wrapped = wrap(
            ScriptedModel("a long answer", errors=[down()], delay_s=3600 if leave == "cancel" else None), breaker
        )
        with pytest.raises(ProviderUnavailable):
            await call(wrapped, "stream")
        clock.now += 30
        if leave == "cancel":
            task = asyncio.create_task(call(wrapped, "stream"))
            await asyncio.sleep(0.001)
            assert breaker.states()[KEY]["probes"] == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            async with wrapped.stream("hi") as stream:
                async for _ in stream:
                    break
        assert breaker.states()[KEY] == {"state": "half_open", "failures": 0, "probes": 0, "retry_after": None}

    for leave in ("cancel", "break"):
        asyncio.run(run(leave))


def test_a_cancelled_generate_gives_its_place_back(clock):
    async def run():
        breaker = CircuitBreaker(failure_threshold=1)
        wrapped = wrap(ScriptedModel(errors=[down()], delay_s=0.001), breaker)
        with pytest.raises(ProviderUnavailable):
            await call(wrapped, "generate")
        clock.now += 30
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await call(wrapped, "generate")
        assert breaker.states()[KEY]["probes"] == 0
        assert await call(wrapped, "generate") == "hello"

    asyncio.run(run())


# --- keys --------------------------------------------------------------------------------------------------------


def test_each_model_has_its_own_circuit_also_where_the_call_chooses_it(mode):
    breaker = CircuitBreaker(failure_threshold=1)
    model = ScriptedModel(errors=[down()])
    wrapped = wrap(model, breaker)
    assert outcomes(wrapped, mode, 2, model="gpt-4o-mini") == ["ProviderUnavailable", "CircuitOpen"]
    assert outcomes(wrapped, mode, 1) == ["hello"]
    assert list(breaker.states()) == ["openai/gpt-4o-mini"]


def test_one_for_each_provider(mode):
    breaker = CircuitBreaker(failure_threshold=1, key="provider")
    wrapped = wrap(ScriptedModel(errors=[down()]), breaker)
    assert outcomes(wrapped, mode, 1, model="gpt-4o-mini") == ["ProviderUnavailable"]
    assert outcomes(wrapped, mode, 1) == ["CircuitOpen"]
    assert list(breaker.states()) == ["openai"]


def test_sessions_and_options_share_it(mode):
    factory = MiddlewareFactory(preset=None, plugins=False)
    config = {"circuit_breaker": {"config": {"failure_threshold": 2}}}
    wrapped = factory.apply_middleware(ScriptedModel(error=down()), middleware_config=config)
    outcomes(wrapped, mode, 1)
    outcomes(wrapped.with_context(session={"user_id": "u2"}, options={"tier": "pro"}), mode, 1)
    again = factory.apply_middleware(ScriptedModel(), middleware_config=config)
    assert outcomes(again, mode, 1) == ["CircuitOpen"]


def test_no_more_than_so_many_keys_are_known():
    breaker = CircuitBreaker(failure_threshold=1)
    for number in range(1030):
        _end(breaker, down(), MiddlewareContext("openai", f"m{number}"))
    assert list(breaker.states()) == [f"openai/m{number}" for number in range(6, 1030)]
    with pytest.raises(CircuitOpen):
        _begin(breaker, MiddlewareContext("openai", "m6"))  # used, and so no longer the next to go
    _end(breaker, down(), MiddlewareContext("openai", "new"))
    assert "openai/m6" in breaker.states()
    assert "openai/m7" not in breaker.states()


def test_a_key_that_fails_again_is_no_longer_the_next_to_go():
    breaker = CircuitBreaker(failure_threshold=9)
    for number in range(1024):
        _end(breaker, down(), MiddlewareContext("openai", f"m{number}"))
    _end(breaker, down(), MiddlewareContext("openai", "m0"))
    _end(breaker, down(), MiddlewareContext("openai", "new"))
    assert breaker.states()["openai/m0"]["failures"] == 2
    assert "openai/m1" not in breaker.states()
    assert len(breaker.states()) == 1024


@pytest.mark.parametrize("how", ["reset", "closed"])
def test_a_circuit_that_is_gone_when_its_turn_comes_refuses_nobody(clock, monkeypatch, how):
    """Between the look at a circuit and the lock, another thread may close it or forget all."""
    breaker = CircuitBreaker(failure_threshold=1, half_open_max=2)
    _end(breaker, down())
    clock.now += 30
    first = _begin(breaker)
    admit = breaker._admit

    def raced(circuit):
        breaker.reset() if how == "reset" else _end(breaker, None, first)
        clock.now -= 15  # open, if it were known
        return admit(circuit)

    monkeypatch.setattr(breaker, "_admit", raced)
    _end(breaker, None, _begin(breaker))
    assert [one["state"] for one in breaker.states().values()] == ([] if how == "reset" else ["closed"])
    assert [one["probes"] for one in breaker.states().values() if one["probes"]] == []
    assert "refused" not in breaker.tally.counts()


def test_reset_closes_all_and_forgets_what_is_under_way(clock):
    breaker = CircuitBreaker(failure_threshold=1)
    _end(breaker, down())
    clock.now += 30
    probe = _begin(breaker)
    breaker.reset()
    assert breaker.states() == {}
    _end(breaker, down(), probe)
    assert breaker.states() == {}
    assert breaker.tally.counts() == {"opened": 1}
    _begin(breaker)


# --- threads -----------------------------------------------------------------------------------------------------


def _race(number, run):
    gate, failures = threading.Barrier(number), []

    def racer():
        gate.wait()
        try:
            run()
        except Exception as error:  # noqa: BLE001  # whatever it is
            failures.append(error)

    threads = [threading.Thread(target=racer) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_no_failure_is_lost_under_threads(clock):
    breaker = CircuitBreaker(failure_threshold=8 * 500 + 1)
    context = MiddlewareContext("openai", "gpt-4o")

    def fail():
        for _ in range(500):
            breaker.on_end(Outcome("failed", error=down()), MiddlewareContext("openai", "gpt-4o"))

    assert _race(8, fail) == []
    assert breaker.states()[KEY]["failures"] == 8 * 500
    _begin(breaker, context)
    _end(breaker, down(), context)
    assert breaker.states()[KEY]["state"] == "open"
    assert breaker.tally.counts() == {"opened": 1}


@pytest.mark.parametrize("most", [1, 2])
def test_never_more_probes_than_allowed_under_threads(clock, most):
    breaker = CircuitBreaker(failure_threshold=1, half_open_max=most)
    _end(breaker, down())
    clock.now += 30
    inside, highest, lock, passed = [0], [0], threading.Lock(), [0]

    def probe():
        for _ in range(300):
            try:
                context = _begin(breaker)
            except CircuitOpen:
                continue
            with lock:
                passed[0] += 1
                inside[0] += 1
                highest[0] = max(highest[0], inside[0])
            with lock:
                inside[0] -= 1
            _end(breaker, None, context, "cancelled")

    assert _race(8, probe) == []
    assert highest[0] <= most
    assert passed[0] > 0
    assert breaker.states()[KEY]["probes"] == 0


# --- config ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "key"),
    [({"failure_threshold": 0}, "failure_threshold"), ({"window_s": 0}, "window_s"), ({"open_s": -1}, "open_s"),
     ({"open_s": float("inf")}, "open_s"), ({"half_open_max": 0}, "half_open_max"), ({"key": "model"}, "key"),
     ({"failure_threshold": 10_001}, "failure_threshold"), ({"half_open_max": 10_001}, "half_open_max"),
     ({"failure_threshold": True}, "failure_threshold"), ({"window_s": "60"}, "window_s"), ({"open_s": True}, "open_s"),
     ({"treshold": 3}, "treshold")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options, key):
    with pytest.raises(ConfigError) as error:
        CircuitBreaker(options)
    assert error.value.key == f"middleware.circuit_breaker.config.{key}"


def test_the_bounds_are_within():
    config = CircuitBreaker(failure_threshold=10_000, half_open_max=10_000).config
    assert (config.failure_threshold, config.half_open_max) == (10_000, 10_000)

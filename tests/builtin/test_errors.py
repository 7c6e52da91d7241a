"""errors: what a failure says changes, nothing else does; operators are told off the path, at a bounded rate."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import threading
import traceback
from collections import Counter
from functools import partial

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
    LimitError,
    MiddlewareError,
    MiddlewareFactory,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimitExceeded,
    RequestBlocked,
    StreamInterrupted,
    TokenLimitExceeded,
    middleware,
)
from neuro_mw.builtin import _alerts, errors
from neuro_mw.builtin._alerts import Alert
from neuro_mw.builtin._retelling import saying
from neuro_mw.builtin.circuit_breaker import CircuitBreaker
from neuro_mw.builtin.errors import Errors
from neuro_mw.builtin.fallback import Fallback
from neuro_mw.builtin.retry import Retry
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel
from tests.chain.conftest import MODES, call, run, wrap

RAW = "sk-12345 at 10.0.0.7: quota of org-9"
both = pytest.mark.parametrize("mode", MODES)


def provider(kind, **more):
    return kind(RAW, provider="openai", model="gpt-4o", **more)


class Own(ProviderTimeout):
    """A subclass of a user's, which says what it likes."""

    def __str__(self):
        return f"own: {self.args}"


KINDS = {
    "rate_limited": lambda: provider(ProviderRateLimited, status=429, retryable=True, retry_after=1.2, request_id="r1"),
    "timeout": lambda: provider(ProviderTimeout),
    "unavailable": lambda: provider(ProviderUnavailable, status=503, retryable=True),
    "authentication": lambda: provider(AuthenticationFailed),
    "context_too_long": lambda: provider(ContextTooLong),
    "bad_request": lambda: provider(BadRequest),
    "content_refused": lambda: provider(ContentRefused),
    "limits": lambda: RateLimitExceeded(RAW, retry_after=3),
    "budget": lambda: BudgetExceeded(RAW),
    "circuit_open": lambda: CircuitOpen(RAW, retry_after=3),
    "token_limit": lambda: TokenLimitExceeded(RAW),
    "other": lambda: provider(ProviderError),
}
FOREIGN = {
    "timeout": lambda: TimeoutError(RAW),
    "unavailable": lambda: ConnectionRefusedError(111, RAW),
}
CASES = [*KINDS.items(), *FOREIGN.items(), ("timeout", lambda: provider(Own)),
         ("unavailable", lambda: provider(ProviderError, retryable=True)), ("limits", lambda: LimitError(RAW)),
         ("unavailable", lambda: StreamInterrupted(RAW))]  # fmt: skip


async def failing(wrapped, mode, prompt="hi", **params):
    try:
        await call(wrapped, mode, prompt, **params)
    except Exception as error:  # noqa: BLE001  # whatever it is
        return error
    raise AssertionError("it did not fail")


def attributes(error):
    return {
        name: value for name, value in vars(error).items() if name not in ("detail", "_said", "__notes__", "partial")
    }


# --- what it says ------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize(("kind", "make"), CASES, ids=[f"{kind}-{type(make()).__name__}" for kind, make in CASES])
def test_only_the_text_changes(mode, kind, make, at):
    raised, cause = make(), KeyError("the cause")
    raised.__cause__ = cause
    before, errno = attributes(raised), getattr(raised, "errno", None)
    layer = Errors(messages={kind: "For users: {model}."})
    caught = run(failing(wrap(ScriptedModel(error=raised, error_at=at), layer), mode))
    assert str(caught) == "For users: gpt-4o."
    assert isinstance(caught, type(raised))
    assert (type(caught).__name__, type(caught).__module__) == (type(raised).__name__, type(raised).__module__)
    assert isinstance(raised, OSError) or type(raised) is Own or type(caught) is type(raised)
    assert attributes(caught) == before
    assert getattr(caught, "errno", None) == errno
    assert caught.__cause__ is cause
    assert RAW in caught.detail
    assert any(RAW in note for note in caught.__notes__)
    shown = "".join(traceback.format_exception(caught))
    assert "scripted.py" in shown  # where it came from
    assert "the cause" in shown
    if mode == "stream":
        assert caught.partial.text == ("hello"[: 3 * at] if at else "")
    assert layer.tally.counts() == {kind: 1}


@both
@pytest.mark.parametrize("kind", KINDS)
def test_the_built_in_messages_tell_nothing(mode, kind):
    caught = run(failing(wrap(ScriptedModel(error=KINDS[kind]()), Errors()), mode))
    said = str(caught)
    assert said.endswith(".")
    assert said[0].isupper()
    assert not any(word in said.lower() for word in ("openai", "gpt", "sk-", "10.0", "429", "503", "none", "{"))


@both
@pytest.mark.parametrize(
    "error",
    [ValueError(RAW), KeyError("x"), MiddlewareError(RAW), ExceptionGroup("x", [provider(ProviderTimeout)])],
    ids=lambda error: type(error).__name__,
)
def test_others_pass_as_they_are(mode, error):
    layer = Errors(alert=lambda alert: None, alert_on=["other"])
    said = str(error)
    caught = run(failing(wrap(ScriptedModel(error=error), layer), mode))
    assert caught is error
    assert (str(caught), hasattr(caught, "detail"), layer.tally.counts()) == (said, False, {})


@both
def test_a_timeout_of_a_middleware_is_none_of_the_models(mode):
    def fails(params, context):
        raise TimeoutError(RAW)

    caught = run(failing(wrap(ScriptedModel(), Errors(), middleware("own", transform_params=fails)), mode))
    assert (type(caught), str(caught)) == (TimeoutError, RAW)


@both
@pytest.mark.parametrize("on_block", ["respond", "raise"])
def test_blocks_are_no_failures(mode, on_block):
    def refuse(params, context):
        raise Blocked("no")

    layer = Errors()
    wrapped = wrap(
        ScriptedModel(), layer, middleware("guard", kind="guard", transform_params=refuse), on_block=on_block
    )
    if on_block == "raise":
        assert isinstance(run(failing(wrapped, mode)), RequestBlocked)
    else:
        assert run(call(wrapped, mode)).blocked.reason == "no"
    assert layer.tally.counts() == {}


@both
def test_placeholders(mode):
    layer = Errors(messages={"rate_limited": "{provider}/{model}: {retry_after_s} s, {{{request_id}}}"})
    ids = []
    peek = middleware("peek", on_end=lambda outcome, context: ids.append(context.request_id))

    def said(**more):
        model = ScriptedModel(error=provider(ProviderRateLimited, **more))
        return str(run(failing(wrap(model, layer, peek), mode)))

    assert said(retry_after=1.2) == f"openai/gpt-4o: 2 s, {{{ids[-1]}}}"
    for unknown in (None, float("nan"), float("inf"), "soon"):
        assert said(retry_after=unknown) == f"openai/gpt-4o: a few s, {{{ids[-1]}}}"
    assert said(retry_after=-1).startswith("openai/gpt-4o: 0 s")


@both
def test_limits_stands_for_its_family(mode):
    layer = Errors(messages={"limits": "L", "budget": "B"})
    said = [str(run(failing(wrap(ScriptedModel(error=KINDS[kind]()), layer), mode)))
            for kind in ("limits", "budget", "circuit_open", "token_limit")]  # fmt: skip
    assert said == ["L", "B", "L", "L"]


# --- the same error again ----------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(("kind", "make"), CASES, ids=[f"{kind}-{type(make()).__name__}" for kind, make in CASES])
def test_one_error_in_many_calls_says_to_each_what_is_for_it(mode, kind, make):
    shared, ids = make(), []
    peek = middleware("peek", on_end=lambda outcome, context: ids.append(context.request_id))
    wrapped = wrap(ScriptedModel(error=shared, delay_s=0), Errors(messages={kind: "id {request_id}"}), peek)

    async def main():
        one_after_the_other = [await failing(wrapped, mode) for _ in range(3)]
        return one_after_the_other + await asyncio.gather(*(failing(wrapped, mode) for _ in range(3)))

    caught = run(main())
    assert sorted(str(error) for error in caught) == sorted(f"id {call_id}" for call_id in ids)
    assert [str(error) for error in caught[:3]] == [f"id {call_id}" for call_id in ids[:3]]
    assert len(set(ids)) == 6
    assert len({id(error.__notes__) for error in caught}) == len({id(error) for error in caught}) == 6
    for error in caught:
        assert isinstance(error, type(shared))
        assert RAW in error.detail
        assert sum(note.startswith("it said: ") for note in error.__notes__) == 1


@both
def test_without_what_is_of_one_call_it_stays_the_very_error(mode):
    shared = provider(ProviderTimeout)
    layer = Errors()
    wrapped = wrap(ScriptedModel(error=shared), layer)
    for _ in range(3):
        assert run(failing(wrapped, mode)) is shared
    assert shared.detail == RAW
    stats = layer.tally.counts(), wrapped.stats().results["errors"].error
    assert stats == ({"timeout": 3}, "ProviderTimeout")


@both
def test_a_failure_of_the_providers_is_none_of_this_layers(mode):
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[Errors()])
    wrapped = factory.apply_middleware(ScriptedModel(error=provider(ProviderTimeout)))
    caught = run(failing(wrapped, mode))
    stats = factory.registry.get_aggregated_stats()["errors"]
    assert (stats.total_executions, stats.failed_executions) == (1, 0)
    assert not any("failed in" in note for note in caught.__notes__)


def test_they_can_be_copied_and_pickled():
    for kind, make in CASES:
        caught = run(failing(wrap(ScriptedModel(error=make()), Errors(messages={kind: "U"})), "generate"))
        for again in (pickle.loads(pickle.dumps(caught)), copy.copy(caught)):
            assert isinstance(again, type(make()))
            assert RAW in again.detail
            assert str(again) == "U"


class TwoArguments(ProviderTimeout):
    """Its text needs more than one argument."""

    def __init__(self, text, **more):
        super().__init__(text, **more)
        self.args = (text, "host")

    def __str__(self):
        return f"{self.args[0]} ({self.args[1]})"


class ByKeyword(ProviderTimeout):
    """There is no other one of it without keywords."""

    def __new__(cls, *args, **options):
        if not options:
            raise TypeError("no")
        return super().__new__(cls, *args)

    def __str__(self):
        return RAW


class Childless(ProviderTimeout):
    """There can be no class below it."""

    def __init_subclass__(cls, **options):
        raise TypeError("no")

    def __str__(self):
        return RAW


class NoClasses(type):
    """There can be no class of it outside of this module's own."""

    def __new__(cls, name, bases, body):
        if "allowed" not in body:
            raise TypeError("no")
        return super().__new__(cls, name, bases, body)


class OfAStrangeKind(ProviderTimeout, metaclass=NoClasses):
    allowed = True

    def __str__(self):
        return RAW


class Frozen(ProviderTimeout):
    """Its attributes cannot be set."""

    def __init__(self, text, **more):
        vars(self).update(more, retryable=False, retry_after=None)
        Exception.__init__(self, text)

    def __setattr__(self, name, value):
        raise AttributeError("frozen")


class FrozenText(Frozen):
    def __str__(self):
        return RAW


class Speechless(ProviderTimeout):
    def __str__(self):
        raise ValueError(RAW)


class Locked(ConnectionError):
    """One of the system's with an `__init__` of its own: its number is set afterwards."""

    def __init__(self, text, **more):
        super().__init__(text)
        self.errno, self.strerror = 111, text


class Grouped(ProviderTimeout, ExceptionGroup):
    """Its text is not in its arguments alone."""

    def __new__(cls, text, **more):
        return super().__new__(cls, text, [ValueError("one")])

    def __init__(self, text, **more):
        vars(self).update(more, retryable=False, retry_after=None)


ODD = [TwoArguments, ByKeyword, Childless, OfAStrangeKind, Frozen, FrozenText, Speechless, Locked, Grouped]


@both
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("kind", ODD)
def test_classes_that_say_what_they_like_say_it_to_no_user(mode, kind, at):
    raised = provider(kind)
    before = raised.args, attributes(raised), getattr(raised, "errno", None)
    layer = Errors(messages={"timeout": "id {request_id}", "unavailable": "id {request_id}"})
    wrapped = wrap(ScriptedModel(error=raised, error_at=at), layer)
    try:
        raise KeyError("the context")
    except KeyError as context:
        BaseException.__setattr__(raised, "__context__", context)
    caught = [run(failing(wrapped, mode)) for _ in range(3)]
    assert len({id(error) for error in caught}) == len({str(error) for error in caught}) == 3
    for error in caught:
        assert str(error).startswith("id openai-")
        assert isinstance(error, kind)
        assert error is raised or (attributes(error), getattr(error, "errno", None)) == before[1:]
        assert kind is Speechless or RAW in error.detail
        assert sum(note.startswith("it said: ") for note in error.__notes__) == 1
        assert "the context" in "".join(traceback.format_exception(error))
    assert kind is Frozen or all(error is not raised for error in caught)
    assert kind is Frozen or raised.args == before[0]  # it says what it did
    assert layer.tally.counts() in ({"timeout": 3}, {"unavailable": 3})


@pytest.mark.parametrize("kind", [kind for kind in ODD if kind not in (Frozen, Grouped)])
def test_what_they_say_to_users_survives_pickling_and_copying(kind):
    layer = Errors(messages={"timeout": "U", "unavailable": "U"})
    caught = run(failing(wrap(ScriptedModel(error=provider(kind)), layer), "generate"))
    for again in (pickle.loads(pickle.dumps(caught)), copy.copy(caught), pickle.loads(pickle.dumps(copy.copy(caught)))):
        assert isinstance(again, kind)
        assert (str(again), again.detail, again.args) == ("U", caught.detail, caught.args)


@both
@pytest.mark.parametrize("suppress", [False, True])
def test_a_twin_shows_the_context_where_the_error_did(mode, suppress):
    raised = ConnectionRefusedError(111, RAW)
    raised.__context__, raised.__suppress_context__ = KeyError("the context"), suppress
    caught = run(failing(wrap(ScriptedModel(error=raised), Errors()), mode))
    assert caught is not raised
    assert ("the context" in "".join(traceback.format_exception(caught))) is not suppress
    raised = ConnectionRefusedError(111, RAW)
    raised.__cause__ = KeyError("the cause")  # this sets the other one, too
    raised.__suppress_context__ = suppress
    caught = run(failing(wrap(ScriptedModel(error=raised), Errors()), mode))
    assert (type(caught.__cause__), caught.__suppress_context__) == (KeyError, suppress)


class Detailed(ProviderTimeout):
    def __init__(self, text, **more):
        super().__init__(text, **more)
        self.detail, self.body = "its own", text


class DetailedText(Detailed):
    def __str__(self):
        return self.body


@both
def test_what_of_an_error_may_still_hold_what_it_said(mode):
    """As the docs say it; users get its text alone."""
    twin = run(failing(wrap(ScriptedModel(error=provider(DetailedText)), Errors()), mode))
    own = run(failing(wrap(ScriptedModel(error=provider(Detailed)), Errors()), mode))
    for caught in (own, twin):
        assert (caught.detail, caught.body, caught.__notes__[0]) == ("its own", RAW, f"it said: {RAW}")
    plain = run(failing(wrap(ScriptedModel(error=provider(ProviderTimeout)), Errors()), mode))
    for caught in (own, plain):
        assert RAW not in f"{caught} {caught!r} {caught.args}"
    assert {name for name, value in vars(plain).items() if RAW in str(value)} == {"detail", "__notes__"}
    speaking = run(failing(wrap(ScriptedModel(error=provider(TwoArguments)), Errors()), mode))
    assert RAW not in str(speaking)
    assert RAW in repr(speaking)


class Unchangeable(ProviderTimeout):
    @property
    def __dict__(self):
        raise AttributeError("no")


@both
def test_an_error_that_cannot_be_changed_is_raised_all_the_same(mode):
    raised = provider(Unchangeable)
    assert run(failing(wrap(ScriptedModel(error=raised), Errors()), mode)) is raised


class Raising(ProviderError):
    """Whatever is asked of it raises."""

    def __init__(self, text, **more):
        Exception.__init__(self, text)

    def _raises(self):
        raise ValueError(RAW)

    provider = model = retryable = retry_after = property(_raises)


@both
def test_a_property_that_raises_takes_no_errors_place(mode):
    told = []
    layer = alerting(told, messages={"other": "{provider}/{model}: {retry_after_s}"})
    raised = provider(Raising)

    async def main():
        caught = await failing(wrap(ScriptedModel(error=raised), layer), mode)
        await layer.aclose()
        return caught

    caught = run(main())
    assert (caught is raised, str(caught)) == (True, "openai/gpt-4o: a few")
    assert [(alert.kind, alert.provider, alert.model) for alert in told] == [("other", "openai", "gpt-4o")]
    assert layer.tally.counts() == {"other": 1, "alerts": 1}


@both
def test_a_name_that_cannot_be_read_is_the_models(mode):
    class Nameless:
        def __str__(self):
            raise ValueError(RAW)

    raised = provider(ProviderTimeout)
    raised.model = Nameless()
    caught = run(failing(wrap(ScriptedModel(error=raised), Errors(messages={"timeout": "{model}"})), mode))
    assert (caught is raised, str(caught)) == (True, "gpt-4o")


@both
def test_an_alert_that_fails_at_once_takes_no_errors_place(mode, monkeypatch):
    def breaks(alert):
        raise RuntimeError(RAW)

    layer = Errors(alert=breaks)
    monkeypatch.setattr(layer._alerts, "tell", breaks)
    raised = provider(ProviderTimeout)
    caught = run(failing(wrap(ScriptedModel(error=raised), layer), mode))
    assert (caught is raised, str(caught)) == (True, "The answer took too long. Please try again.")


@both
def test_a_slow_text_holds_up_no_other_failure(mode):
    """Not even one that is told of within it."""
    others, asked = [], []

    class Slow(ProviderTimeout):
        def __str__(self):
            asked.append(1)
            wrapped = wrap(ScriptedModel(error=provider(ProviderTimeout)), Errors())
            thread = threading.Thread(target=lambda: others.append(str(run(failing(wrapped, mode)))), daemon=True)
            thread.start()
            thread.join(30)
            saying(TimeoutError(RAW), "again")  # on this very thread
            return RAW

    def there():
        others.append(str(run(failing(wrap(ScriptedModel(error=provider(Slow)), Errors()), mode))))

    thread = threading.Thread(target=there, daemon=True)
    thread.start()
    thread.join(60)
    assert others == ["The answer took too long. Please try again."] * 2
    assert len(asked) == 1


def test_one_error_on_many_threads_at_once():
    for kind in (ProviderTimeout, Own, TwoArguments):
        shared, said = provider(kind), []
        start = threading.Barrier(8)

        def tell(number, shared=shared, said=said, start=start):
            start.wait()
            said.append((f"text {number % 4}", saying(shared, f"text {number % 4}")))

        threads = [threading.Thread(target=tell, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [str(error) for _, error in said] == [message for message, _ in said]
        assert {error.detail for _, error in said} == {str(provider(kind))}


# --- with retry, fallback and circuit_breaker --------------------------------------------------------------------


@both
@pytest.mark.parametrize("make", [KINDS["unavailable"], *FOREIGN.values()])
@pytest.mark.parametrize("priority", [1, 60, 115])
def test_retry_and_fallback_know_failures_as_before(mode, make, priority):
    """Inside, between and outside of them; a foreign error counts where the model itself raised it."""
    errors_seen = []
    layers = [Fallback(models=["echo/echo"]), Retry(attempts=3, initial_delay_s=0), Errors()]
    factory = MiddlewareFactory(
        preset=None, plugins=False, middleware=layers, middleware_config={"errors": {"priority": priority}}
    )
    model = ScriptedModel(errors=[make(), make(), make()], error=make())
    peek = middleware("peek", priority=200, on_end=lambda outcome, context: errors_seen.extend(context.attempts))
    factory.register(peek, default_enabled=True)
    response = run(call(factory.apply_middleware(model), mode))
    assert response.text == "hi"
    assert len(model.calls) == 3
    assert [attempt.model for attempt in errors_seen] == ["gpt-4o"] * 3 + ["echo"]
    assert response.metadata["fallback"]["tried"] == [{"model": "openai/gpt-4o", "error": type(make()).__name__}]


@both
@pytest.mark.parametrize("priority", [1, 115])
def test_a_circuit_opens_as_before(mode, priority):
    breaker, layer = CircuitBreaker(failure_threshold=2), Errors(messages={"circuit_open": "Later: {retry_after_s}."})
    config = {"errors": {"priority": priority}}
    model = ScriptedModel(error=provider(ProviderTimeout))
    wrapped = wrap(model, breaker, layer, middleware_config=config)
    caught = [run(failing(wrapped, mode)) for _ in range(3)]
    assert [type(error) for error in caught] == [ProviderTimeout, ProviderTimeout, CircuitOpen]
    assert len(model.calls) == 2
    assert priority == 1 or str(caught[2]) == "Later: 30."


@both
def test_one_alert_for_all_attempts(mode):
    told, model = [], ScriptedModel(error=provider(ProviderUnavailable, retryable=True))

    async def alert(event):
        told.append(event)

    layer = Errors(alert=alert, alert_interval_s=0.0)
    wrapped = wrap(model, layer, Retry(attempts=3, initial_delay_s=0))

    async def main():
        caught = await failing(wrapped, mode)
        await layer.aclose()
        return caught

    assert "made 3 attempts" in "".join(run(main()).__notes__)
    assert (len(told), len(model.calls)) == (1, 3)
    model.errors, model.error, told[:] = [model.error], None, []

    async def mended():
        await call(wrapped, mode)
        await layer.aclose()

    run(mended())
    assert told == []


# --- alerts ------------------------------------------------------------------------------------------------------


def alerting(told, **options):
    async def alert(event):
        told.append(event)

    return Errors(alert=alert, **options)


@both
@pytest.mark.parametrize("at", [0, 1])
def test_an_alert_holds_no_text(mode, at):
    told = []
    layer = alerting(told, alert_on=["authentication"])
    wrapped = wrap(ScriptedModel("s3cr3t", error=provider(AuthenticationFailed), error_at=at), layer)

    async def main():
        await failing(wrapped, mode, "s3cr3t")
        await layer.aclose()

    run(main())
    (alert,) = told
    assert isinstance(alert, Alert)
    assert (alert.kind, alert.error, alert.provider, alert.model) == (
        "authentication",
        "AuthenticationFailed",
        "openai",
        "gpt-4o",
    )
    assert alert.request_id.startswith("openai-")
    assert (alert.mode, alert.suppressed) == (mode, 0)
    assert alert.time > 1e9
    assert "s3cr3t" not in repr(alert)
    assert RAW not in repr(alert)
    assert layer.tally.counts() == {"authentication": 1, "alerts": 1}


@both
@pytest.mark.parametrize("kind", KINDS)
def test_alert_on(mode, kind):
    for on in (None, [kind], ["limits"], ["authentication"]):
        told = []
        layer = alerting(told, **({} if on is None else {"alert_on": on}))

        async def main():
            await failing(wrap(ScriptedModel(error=KINDS[kind]()), layer), mode)
            await layer.aclose()

        run(main())
        listed = set(errors._OF_OPERATORS if on is None else on)
        if "limits" in listed:
            listed |= {"budget", "circuit_open", "token_limit"}
        assert bool(told) == (kind in listed)


@given(plan=st.lists(st.tuples(st.integers(0, 40), st.sampled_from("ab"), st.sampled_from(["timeout", "other"]))))
def test_at_most_one_alert_in_an_interval_and_none_is_lost_sight_of(plan):
    told, now, wanted, last = [], [0.0], [], {}
    layer = alerting(told, alert_interval_s=60.0)

    async def main():
        for step, model, kind in plan:
            now[0] += step
            error = provider(type(KINDS[kind]()))
            error.model = model
            await failing(wrap(ScriptedModel(error=error), layer), "generate")
            at, suppressed = last.get((model, kind), (-1e9, 0))
            if now[0] - at >= 60:
                wanted.append((kind, model, suppressed))
                last[model, kind] = now[0], 0
            else:
                last[model, kind] = at, suppressed + 1
        await layer.aclose()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_alerts, "clock", lambda: now[0])
        run(main())
    assert [(alert.kind, alert.model, alert.suppressed) for alert in told] == wanted
    assert layer.tally.counts().get("alerts_suppressed", 0) == len(plan) - len(wanted)


def test_the_table_of_what_was_told_is_bounded_and_so_is_the_rate(monkeypatch):
    now, told = [0.0], []
    monkeypatch.setattr(_alerts, "clock", lambda: now[0])
    monkeypatch.setattr(_alerts, "_MOST_KEYS", 8)
    layer = alerting(told)

    async def main():
        for number in range(100):
            error = provider(ProviderTimeout)
            error.model = f"m{number % 50}"
            await failing(wrap(ScriptedModel(error=error), layer), "generate")
        await layer.aclose()
        assert [alert.model for alert in told] == [*(f"m{number}" for number in range(8)), "m8"]
        assert len(layer._alerts._told) == 9
        now[0] += 60
        error.model = "new"
        await failing(wrap(ScriptedModel(error=error), layer), "generate")
        await layer.aclose()
        assert (told[-1].model, told[-1].suppressed) == ("new", 0)
        assert len(layer._alerts._told) == 1

        for number in range(7):
            error.model = f"m{number}"
            await failing(wrap(ScriptedModel(error=error), layer), "generate")
        for step, model in ((60, "new"), (1, "newer"), (0, "newest")):  # the others are the older ones now
            now[0] += step
            error.model = model
            await failing(wrap(ScriptedModel(error=error), layer), "generate")
        await layer.aclose()
        assert [alert.model for alert in told[-3:]] == ["new", "newer", "newest"]

    run(main())


@both
def test_a_hook_that_hangs_holds_up_no_call(mode):
    hung = []

    async def hangs(event):
        hung.append(event)
        await asyncio.Event().wait()

    layer = Errors(alert=hangs, alert_interval_s=0.0, alert_timeout_s=60.0)
    wrapped = wrap(ScriptedModel(error=provider(ProviderTimeout), delay_s=0), layer)

    async def main():
        for _ in range(200):
            await failing(wrapped, mode)
        assert len(hung) == 4
        assert layer.tally.counts() == {"timeout": 200, "alerts": 200, "alerts_dropped": 96}
        await layer._alerts._background.aclose(0.01)
        assert len(asyncio.all_tasks()) == 1

    run(main())
    assert layer.tally.counts()["alerts_cancelled"] == 104


@both
def test_a_hook_that_hangs_is_ended_after_its_time(mode):
    async def hangs(event):
        await asyncio.Event().wait()

    layer = Errors(alert=hangs, alert_timeout_s=0.01)
    wrapped = wrap(ScriptedModel(error=provider(ProviderTimeout)), layer)

    async def main():
        await failing(wrapped, mode)
        await layer._alerts._background.aclose(30)

    run(main())
    assert layer.tally.counts() == {"timeout": 1, "alerts": 1, "alerts_timed_out": 1}


@both
def test_a_hook_that_raises_is_counted_and_told_without_text(mode, caplog):
    def raises(event):
        raise ValueError(RAW)

    async def raises_too(event):
        raises(event)

    for hook in (raises, raises_too):
        layer = Errors(alert=hook, alert_interval_s=0.0)
        wrapped = wrap(ScriptedModel(error=provider(ProviderTimeout)), layer)

        async def main():
            for _ in range(3):
                assert isinstance(await failing(wrapped, mode), ProviderTimeout)
            await layer.aclose()

        with caplog.at_level(logging.WARNING, "neuro_mw"):
            run(main())
        assert layer.tally.counts() == {"timeout": 3, "alerts": 3, "alerts_failed": 3}
    assert len(caplog.records) == 2
    assert RAW not in caplog.text


@both
@pytest.mark.parametrize("failure", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a_hook_that_wants_to_end_the_process_ends_nothing(mode, failure):
    async def ends(event):
        raise failure

    layer = Errors(alert=ends, alert_interval_s=0.0)
    wrapped = wrap(ScriptedModel(error=provider(ProviderTimeout)), layer)

    async def main():
        for _ in range(2):
            await failing(wrapped, mode)
            await layer.aclose()
        return "alive"

    assert run(main()) == "alive"
    assert layer.tally.counts() == {"timeout": 2, "alerts": 2, "alerts_failed": 2}


@both
def test_a_log_that_raises_takes_no_errors_place(mode, monkeypatch):
    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError("the handler broke")

    async def hangs(event):
        await asyncio.Event().wait()

    layer = Errors(alert=hangs, alert_interval_s=0.0)
    layer._alerts._background._max_pending = 0
    wrapped = wrap(ScriptedModel(error=provider(ProviderTimeout)), layer)

    async def main():
        caught = [await failing(wrapped, mode) for _ in range(6)]
        await layer._alerts._background.aclose(0.01)
        return caught

    monkeypatch.setattr(logging.getLogger("neuro_mw"), "handlers", [Broken()])
    assert {(type(error), str(error)) for error in run(main())} == {
        (ProviderTimeout, "The answer took too long. Please try again.")
    }
    counts = layer.tally.counts()
    assert counts == {"timeout": 6, "alerts": 6, "alerts_dropped": 2, "alerts_cancelled": 4}


@both
def test_a_plain_hook_runs_on_a_thread_and_may_be_slower_than_failures_come(mode):
    go, told = threading.Event(), []

    def slow(event):
        go.wait(30)
        told.append(threading.current_thread() is threading.main_thread())

    layer = Errors(alert=slow, alert_interval_s=0.0)
    wrapped = wrap(ScriptedModel(error=provider(ProviderTimeout)), layer)

    async def main():
        for _ in range(150):
            await failing(wrapped, mode)
        assert told == []
        go.set()
        await layer.aclose()

    run(main())
    assert layer.tally.counts() == {"timeout": 150, "alerts": 150, "alerts_dropped": 46}
    assert told == [False] * 104


class AsyncCall:
    def __init__(self, told):
        self.told = told

    async def __call__(self, event):
        self.told.append(event)

    async def method(self, event):
        await self(event)


@both
@pytest.mark.parametrize(
    "hook_of", [AsyncCall, lambda told: AsyncCall(told).method, lambda told: partial(AsyncCall.method, AsyncCall(told))]
)
def test_an_async_hook_takes_no_thread(mode, hook_of):
    told = []
    layer = Errors(alert=hook_of(told))
    layer._alerts._background._threads = threading.Semaphore(0)  # all of them hang

    async def main():
        await failing(wrap(ScriptedModel(error=provider(ProviderTimeout)), layer), mode)
        await layer.aclose()

    run(main())
    assert (len(told), layer.tally.counts()) == (1, {"timeout": 1, "alerts": 1})


def test_what_was_dropped_is_told_as_suppressed(monkeypatch):
    now, told, go = [0.0], [], []
    monkeypatch.setattr(_alerts, "clock", lambda: now[0])

    async def hook(event):
        if not go:
            await asyncio.Event().wait()
        told.append(event)

    layer = Errors(alert=hook)
    layer._alerts._background._max_pending = 0
    model = ScriptedModel(error=provider(ProviderTimeout))

    async def main():
        for _ in range(7):
            now[0] += 60
            await failing(wrap(model, layer), "generate")
        await layer._alerts._background.aclose(0.01)
        go.append(1)
        now[0] += 60
        await failing(wrap(model, layer), "generate")
        await layer.aclose()

    run(main())
    assert [alert.suppressed for alert in told] == [3]


@both
def test_what_found_no_thread_is_told_as_suppressed(mode, monkeypatch):
    now, told, go = [0.0], [], threading.Event()
    monkeypatch.setattr(_alerts, "clock", lambda: now[0])

    def hook(event):
        told.append(event)
        go.wait(30)

    layer = Errors(alert=hook, alert_timeout_s=0.01)
    background = layer._alerts._background
    background._threads = threading.Semaphore(1)
    wrapped = wrap(ScriptedModel(error=provider(ProviderTimeout)), layer)

    async def main():
        for step in (60, 60, 1, 60):  # one hangs, one is dropped, one comes within its interval, one is dropped
            now[0] += step
            await failing(wrapped, mode)
            await background.aclose(30)
        go.set()
        for thread in threading.enumerate():
            if thread.name == "neuro_mw-alerts":
                thread.join()
        background._timeout_s = now[0] = 1000.0
        await failing(wrapped, mode)
        await background.aclose(30)

    run(main())
    assert [alert.suppressed for alert in told] == [0, 3]
    assert layer.tally.counts() == {
        "timeout": 5, "alerts": 4, "alerts_suppressed": 1, "alerts_dropped": 2, "alerts_timed_out": 1
    }  # fmt: skip


@given(
    plan=st.lists(st.tuples(st.sampled_from([0, 60]), st.sampled_from(["returns", "raises", "hangs"])), max_size=8),
    plain=st.booleans(),
    room=st.integers(0, 2),
)
def test_every_failure_is_accounted_for(plan, plain, room):
    """It is suppressed or due; an alert that is due is dropped, or it is handed over and returns or fails."""
    now, handed, returned = [0.0], [], []
    ends, go, opened = iter([end for _, end in plan]), threading.Event(), asyncio.Event()

    def plain_hook(event):
        handed.append(event)
        end = next(ends)
        if end == "raises":
            raise ValueError(RAW)
        if end == "hangs":
            go.wait(30)
        returned.append(event)

    async def async_hook(event):
        handed.append(event)
        end = next(ends)
        if end == "raises":
            raise ValueError(RAW)
        if end == "hangs":
            await opened.wait()
        returned.append(event)

    layer = Errors(alert=plain_hook if plain else async_hook)
    background = layer._alerts._background
    background._max_pending, background._at_once, background._threads = room, 2, threading.Semaphore(1)
    wrapped = wrap(ScriptedModel(error=provider(ProviderTimeout)), layer)

    async def main():
        for step, _ in plan:
            now[0] += step
            await failing(wrapped, "generate")
            await asyncio.sleep(0)
        go.set()
        opened.set()
        await background.aclose(30)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_alerts, "clock", lambda: now[0])
        run(main())
    counts = Counter(layer.tally.counts())
    assert counts["alerts"] + counts["alerts_suppressed"] == counts["timeout"] == len(plan)
    assert counts["alerts"] == len(handed) + counts["alerts_dropped"]
    assert len(handed) == len(returned) + counts["alerts_failed"]
    untold = sum(suppressed for _, suppressed in layer._alerts._told.values())
    assert sum(alert.suppressed for alert in handed) + untold == counts["alerts_suppressed"] + counts["alerts_dropped"]


@both
def test_calls_of_several_loops_and_the_end_of_one(mode):
    told = []
    layer = alerting(told, alert_interval_s=0.0)
    wrapped = wrap(ScriptedModel(error=provider(ProviderTimeout)), layer)
    run(failing(wrapped, mode))  # this loop ends at once, and takes the alert along

    async def main():
        await failing(wrapped, mode)
        await layer.aclose()

    run(main())
    assert len(told) == 1
    assert layer.tally.counts() == {"timeout": 2, "alerts": 2, "alerts_cancelled": 1}


def test_leaving_a_factory_waits_for_alerts():
    told = []

    async def main():
        layer = alerting(told)
        factory = MiddlewareFactory(preset=None, plugins=False, middleware=[layer])
        async with factory:
            model = factory.apply_middleware(ScriptedModel(error=provider(ProviderTimeout)))
            await failing(model, "generate")

    run(main())
    assert len(told) == 1


# --- leaving early, and at once ----------------------------------------------------------------------------------


@both
def test_cancellations_and_abandoned_streams_are_no_failures(mode):
    told = []
    layer = alerting(told, alert_on=["timeout", "other", "unavailable"])
    model = FaultyModel(faults=[Fault(stall_s=float("inf")), None])
    wrapped = wrap(model, layer)

    async def main():
        task = asyncio.create_task(call(wrapped, mode))
        await asyncio.sleep(0.01)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError, match="why"):
            await task
        if mode == "stream":
            async with wrapped.stream("hi") as stream:
                await anext(stream)
            assert (model.opened, model.closed) == (2, 2)
        await layer.aclose()

    run(main())
    assert (told, layer.tally.counts()) == ([], {})


@both
def test_calls_at_once_keep_their_errors_apart(mode):
    made = {}

    class Many(ScriptedModel):
        def _fail(self, error):
            id = len(made)
            made[id] = ProviderTimeout(f"raw {id}", provider="openai", model=f"m{id}")
            raise made[id]

    wrapped = wrap(Many(delay_s=0), Errors(messages={"timeout": "{model} is slow"}))

    async def main():
        return await asyncio.gather(*(failing(wrapped, mode) for _ in range(20)))

    caught = run(main())
    assert len({id(error) for error in caught}) == 20
    assert all(error.detail == f"raw {error.model[1:]}" for error in caught)
    assert all(str(error) == f"{error.model} is slow" for error in caught)


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"messages": {"rate_limit": "x"}}, "messages.rate_limit"),
        ({"messages": {"timeout": "{modle}"}}, "messages.timeout"),
        ({"messages": {"timeout": "{}"}}, "messages.timeout"),
        ({"messages": {"timeout": "{0}"}}, "messages.timeout"),
        ({"messages": {"timeout": "{model.__class__}"}}, "messages.timeout"),
        ({"messages": {"timeout": "{model[0]}"}}, "messages.timeout"),
        ({"messages": {"timeout": "{retry_after_s:.2f}"}}, "messages.timeout"),
        ({"messages": {"timeout": "{model!r}"}}, "messages.timeout"),
        ({"messages": {"timeout": "{model"}}, "messages.timeout"),
        ({"messages": {"timeout": "}"}}, "messages.timeout"),
        ({"messages": {"timeout": " "}}, "messages.timeout"),
        ({"messages": {"timeout": 3}}, "messages.timeout"),
        ({"alert": "no.such.module:name"}, "alert"),
        ({"alert": "asyncio:no_such_name"}, "alert"),
        ({"alert": "math:pi"}, "alert"),
        ({"alert": "antigravity_that_is_not"}, "alert"),
        ({"alert": 3}, "alert"),
        ({"alert_on": []}, "alert_on"),
        ({"alert_on": ["timeouts"]}, "alert_on.0"),
        ({"alert_interval_s": -1.0}, "alert_interval_s"),
        ({"alert_interval_s": True}, "alert_interval_s"),
        ({"alert_interval_s": float("inf")}, "alert_interval_s"),
        ({"alert_timeout_s": 0.0}, "alert_timeout_s"),
        ({"alerts": None}, "alerts"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, key):
    with pytest.raises(ConfigError) as caught:
        Errors(**options)
    assert caught.value.key == f"middleware.errors.config.{key}"


def test_a_dotted_hook_is_loaded():
    layer = Errors(alert="asyncio:sleep", messages={"timeout": "x {{}} {model}"})
    assert layer.config.alert is asyncio.sleep

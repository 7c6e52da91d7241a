"""fallback: who is asked next, under which guards, and what is said of it."""

import asyncio

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
    MiddlewareFactory,
    ProviderDelta,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimitExceeded,
    ReasoningDelta,
    ResponseInfo,
    StreamInterrupted,
    TextDelta,
    TokenLimitExceeded,
    Usage,
    collect,
    middleware,
)
from neuro_mw.builtin import analytics, retry
from neuro_mw.builtin.fallback import Fallback
from neuro_mw.builtin.token_limit import TokenLimit
from tests.chain.conftest import MODES, call, run

FAULTS = {
    "rate_limited": ProviderRateLimited,
    "timeout": ProviderTimeout,
    "unavailable": ProviderUnavailable,
    "authentication": AuthenticationFailed,
    "context_too_long": ContextTooLong,
    "bad_request": BadRequest,
    "refused": ContentRefused,
}
DEFAULT = {"rate_limited", "timeout", "unavailable", "circuit_open", "authentication", "context_too_long"}


def fault(name, **more):
    return FAULTS[name]("down", provider="openai", model="gpt-4o", **more)


class Models:
    """Every model there is: what each is told to do, and which of them was asked."""

    def __init__(self, **faults):
        self.faults = {name.replace("__", "/"): error for name, error in faults.items()}
        self.asked, self.opened, self.closed = [], 0, 0
        self.silent = self.empty = False  # answers without content; with empty deltas before it

    def of(self, provider, model_id):
        return Model(self, provider, model_id)


class Model:
    def __init__(self, models, provider, model_id):
        self.models, self.provider, self.model_id = models, provider, model_id

    def _parts(self, params):
        name = f"{self.provider}/{params.get('model', self.model_id)}"
        self.models.asked.append(name)
        parts = [ResponseInfo("id", name, 1.0), ProviderDelta({"from": name})]
        if self.models.empty:
            parts += [TextDelta(""), ReasoningDelta("")]
        if not self.models.silent:
            parts += [TextDelta("by "), TextDelta(name)]
        return [*parts, Finish("stop", Usage(3, 2))], *self.models.faults.get(name, (0, None))

    async def generate(self, params):
        parts, _, error = self._parts(params)
        if error is not None:
            raise error
        return await collect(parts)

    async def stream(self, params):
        (parts, at, error), self.models.opened = self._parts(params), self.models.opened + 1
        try:
            for index, part in enumerate(parts):
                if error is not None and index == at:
                    raise error
                await asyncio.sleep(0)
                yield part
        finally:
            self.models.closed += 1


def wrap(models, *layers, config=None):
    """The model openai/one behind these layers; what other names mean is up to `models`."""

    class Factory(MiddlewareFactory):
        def _resolve(self, name, driver):
            return models.of(*name.split("/"))

    factory = Factory(preset=None, plugins=False, middleware=layers, middleware_config=config)
    return factory.apply_middleware("openai/one")


NAMES = ["openai/one", "openai/two", "groq/one", "groq/two", "groq/x"]


@pytest.mark.parametrize("mode", MODES)
@given(
    kinds=st.lists(st.sampled_from([*FAULTS, None]), min_size=5, max_size=5),
    at=st.integers(0, 2),
    names=st.permutations(NAMES),
    size=st.integers(1, 4),
    bare=st.booleans(),
    on=st.sets(st.sampled_from([*FAULTS])) | st.none(),
)
def test_asks_one_after_the_other(mode, kinds, at, names, size, bare, on):
    """Until one answers or fails as none other would not; the answer is its, whole and once.

    A later one that cannot take the request is passed over: the failure before it stays.
    """
    errors = {name: fault(kind) if kind else None for name, kind in zip(NAMES, kinds, strict=True)}
    models = Models(**{name: (at, error) for name, error in errors.items()})
    listed = [name.removeprefix("openai/") if bare else name for name in names[:size]]
    layer = Fallback(models=listed, **({"on": sorted(on)} if on else {}))
    wrapped = wrap(models, layer)
    order, kind_of = ["openai/one", *(name for name in names[:size] if name != "openai/one")], dict(zip(NAMES, kinds))
    asked, last = [], None
    for name in order:
        asked.append(name)
        cannot = len(asked) > 1 and kind_of[name] == "bad_request"
        last = last if cannot else errors[name]
        goes_on = cannot or kind_of[name] in (on or DEFAULT)
        if kind_of[name] is None or not goes_on:
            break
    if last is None:
        response = run(call(wrapped, mode))
        assert (response.text, response.model) == (f"by {asked[-1]}", asked[-1])
        assert response.provider_fields == {"from": asked[-1]}
        tried = [{"model": name, "error": type(errors[name]).__name__} for name in asked[:-1]]
        assert response.metadata == ({"fallback": {"model": asked[-1], "tried": tried}} if tried else {})
        assert layer.tally.counts() == ({asked[-1]: 1} if tried else {})
    else:
        with pytest.raises(ProviderError) as caught:
            run(call(wrapped, mode))
        assert caught.value is last
        said = [f"middleware 'fallback' asked {name}: {type(errors[name]).__name__}" for name in asked]
        alone = ["middleware 'fallback' has no model to go on to: its list names openai/one alone"]
        assert getattr(last, "__notes__", []) == (said if len(asked) > 1 else alone if goes_on else [])
    assert models.asked == asked
    assert models.opened == models.closed


@given(at=st.integers(3, 4), second=st.booleans())
def test_after_the_first_content_a_failure_is_final(at, second):
    error = fault("unavailable")
    models = Models(openai__one=(0, fault("timeout")) if second else (at, error), groq__one=(at, error))

    got = []

    async def read():
        async with wrap(models, Fallback(models=["groq/one", "groq/two"])).stream("hi") as stream:
            async for part in stream:
                got.append(part)

    with pytest.raises(ProviderUnavailable) as caught:
        run(read())
    assert caught.value is error
    name = "groq/one" if second else "openai/one"
    assert [part.text for part in got if isinstance(part, TextDelta)] == ["by ", name][: at - 2]
    assert got[0].model == name
    assert error.partial.text == "".join(["by ", name][: at - 2])
    assert models.asked == ["openai/one", "groq/one"][: 1 + second]
    assert models.opened == models.closed


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("error", "on", "goes_on"),
    [
        (CircuitOpen("open"), None, True),
        (TokenLimitExceeded("too long"), None, True),
        (CircuitOpen("open"), ["timeout"], False),
        (CircuitOpen("open"), ["any"], True),
        (BudgetExceeded("spent"), ["any"], False),
        (RateLimitExceeded("slow down"), ["any", "rate_limited"], False),
        (ValueError("its own"), ["any"], False),
    ],
)
def test_limits_that_hold_for_one_model_alone(mode, error, on, goes_on):
    """And those that hold for the user, and failures of middlewares, which no other model may get round."""

    def refuse(params, context):
        if context.provider == "openai":
            raise error
        return params

    models = Models()
    layers = Fallback(models=["groq/one"], **({"on": on} if on else {})), middleware("limit", transform_params=refuse)
    if goes_on:
        response = run(call(wrap(models, *layers), mode))
        assert response.text == "by groq/one"
        assert response.metadata["fallback"]["tried"] == [{"model": "openai/one", "error": type(error).__name__}]
    else:
        with pytest.raises(type(error)):
            run(call(wrap(models, *layers), mode))
        assert models.asked == []


@pytest.mark.parametrize("mode", MODES)
def test_a_model_of_the_users_own_may_raise_anything(mode):
    models = Models(openai__one=(0, KeyError("x")))
    assert run(call(wrap(models, Fallback(models=["two"], on=["any"])), mode)).text == "by openai/two"
    with pytest.raises(KeyError):
        run(call(wrap(models, Fallback(models=["two"])), mode))


@pytest.mark.parametrize("mode", MODES)
def test_blocks_are_final(mode):
    def refuse(params, context):
        raise Blocked("no")

    models = Models()
    layers = Fallback(models=["groq/one"], on=["any"]), middleware("guard", kind="guard", transform_params=refuse)
    response = run(call(wrap(models, *layers), mode))
    assert response.blocked.middleware == "guard"
    assert (models.asked, response.metadata) == ([], {})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("priority", [90, 10])
def test_no_guard_is_lost(mode, priority):
    """A guard that applies to the other provider only joins, also where it would stand outside of fallback."""

    def refuse(params, context):
        raise Blocked(f"not to {context.provider}")

    guard = middleware("guard", kind="guard", transform_params=refuse, priority=priority)
    models = Models(openai__one=(1, fault("unavailable")))
    config = {"guard": {"conditions": {"providers": ["groq"]}}}
    response = run(call(wrap(models, Fallback(models=["groq/one"]), guard, config=config), mode))
    assert response.blocked.reason == "not to groq"
    assert models.asked == ["openai/one"]


@pytest.mark.parametrize("mode", MODES)
def test_each_model_has_its_own_attempts(mode, monkeypatch):
    async def sleep(seconds):
        await asyncio.sleep(0)

    monkeypatch.setattr(retry, "sleep", sleep)
    errors = fault("unavailable"), fault("rate_limited")
    models = Models(openai__one=(0, errors[0]), groq__one=(2, errors[1]))
    seen, outcomes = [], []

    def end(outcome, context):
        seen.extend(context.attempts)
        outcomes.append((outcome.status, context.provider))

    layers = [
        Fallback(models=["groq/one", "two"]), retry.Retry(attempts=2), analytics.Analytics(),
        middleware("outer", on_end=end, priority=99),
    ]  # fmt: skip
    response = run(call(wrap(models, *layers), mode))
    assert models.asked == ["openai/one"] * 2 + ["groq/one"] * 2 + ["openai/two"]
    assert [(one.model, one.error, one.usage.total_tokens) for one in seen] == [
        ("one", errors[0], None), ("one", errors[0], None), ("one", errors[1], None), ("one", errors[1], None),
        ("two", None, 5),
    ]  # fmt: skip
    assert outcomes == [("completed", "openai")]
    assert response.metadata["analytics"]["model"] == "two"
    assert [one["model"] for one in response.metadata["fallback"]["tried"]] == ["openai/one", "groq/one"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("models", [["one"], ["openai/one"], ["one", "openai/one"]])
def test_the_very_model_that_was_asked_is_not_asked_again(mode, models):
    all_models = Models(openai__one=(0, fault("unavailable")))
    with pytest.raises(ProviderUnavailable) as caught:
        run(call(wrap(all_models, Fallback(models=models)), mode))
    assert all_models.asked == ["openai/one"]
    said = "middleware 'fallback' has no model to go on to: its list names openai/one alone"
    assert caught.value.__notes__ == [said]


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_that_is_final_has_no_note_of_a_list(mode):
    models = Models(openai__one=(0, fault("bad_request")))
    with pytest.raises(BadRequest) as caught:
        run(call(wrap(models, Fallback(models=["one", "groq/one"])), mode))
    assert models.asked == ["openai/one"]
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("cannot", [fault("bad_request"), ConfigError("no key", key="groq")])
def test_a_later_model_that_cannot_be_asked_is_passed_over(mode, answers, cannot):
    """Whether it takes no such request or is not set up: neither is what the caller has to hear of."""
    down, late = fault("unavailable"), fault("timeout")
    models = Models(openai__one=(0, late), openai__two=(0, down), groq__one=(0, cannot))
    if not answers:
        models.faults["groq/two"] = 0, cannot
    wrapped = wrap(models, Fallback(models=["two", "groq/one", "groq/two"]))
    if answers:
        response = run(call(wrapped, mode))
        tried = response.metadata["fallback"]["tried"]
        assert [one["error"] for one in tried] == ["ProviderTimeout", "ProviderUnavailable", type(cannot).__name__]
        return
    with pytest.raises(ProviderUnavailable) as caught:
        run(call(wrapped, mode))
    assert caught.value is down
    assert [note.rpartition(" ")[2] for note in down.__notes__] == [
        "ProviderTimeout", "ProviderUnavailable", *[type(cannot).__name__] * 2
    ]  # fmt: skip
    assert not hasattr(cannot, "__notes__")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("silent", [True, False])
def test_what_is_said_of_it_stands_beside_what_others_say(mode, silent):
    """Also where the answer has no content at all: Finish is then its first and only part."""
    models = Models(openai__one=(0, fault("unavailable")))
    models.silent = silent
    response = run(call(wrap(models, Fallback(models=["groq/mine"]), TokenLimit()), mode))
    assert response.text == ("" if silent else "by groq/mine")
    assert response.metadata["fallback"]["model"] == "groq/mine"
    assert response.metadata["token_limit"]["limit"] is None
    assert len(response.metadata) == 2


@pytest.mark.parametrize("mode", MODES)
def test_a_beginning_that_says_nothing_is_no_content(mode):
    """It is held back, and gone with the model that fails behind it."""
    models = Models(openai__one=(4, fault("unavailable")))
    models.empty = True
    response = run(call(wrap(models, Fallback(models=["groq/one"])), mode))
    assert (response.text, response.model) == ("by groq/one", "groq/one")
    assert models.asked == ["openai/one", "groq/one"]


@pytest.mark.parametrize("mode", MODES)
def test_a_model_under_two_names_is_asked_once(mode):
    models = Models(openai__one=(0, fault("unavailable")), openai__two=(0, fault("timeout")))
    with pytest.raises(ProviderTimeout):
        run(call(wrap(models, Fallback(models=["two", "openai/two"])), mode))
    assert models.asked == ["openai/one", "openai/two"]


@pytest.mark.parametrize("mode", MODES)
def test_the_caller_may_ask_for_another_model(mode):
    """It is that one's name which is left out, and bare names are of its provider."""
    models = Models(groq__x=(0, fault("unavailable")))
    response = run(call(wrap(models, Fallback(models=["x", "one"])), mode, model="groq/x"))
    assert models.asked == ["groq/x", "groq/one"]
    assert response.metadata["fallback"]["model"] == "groq/one"


@pytest.mark.parametrize("mode", MODES)
def test_the_callers_cancellation_is_final(mode):
    async def main():
        models, waiting = Models(openai__one=(1, fault("unavailable"))), asyncio.Event()

        async def stall(params, context):
            if context.provider == "groq":
                waiting.set()
                await asyncio.Event().wait()
            return params

        layers = Fallback(models=["groq/one", "groq/two"]), middleware("stall", transform_params=stall)
        task = asyncio.create_task(call(wrap(models, *layers), mode))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return models

    models = run(main())
    assert (models.asked, models.opened) == (["openai/one"], models.closed)


def test_a_cut_stream_goes_on_elsewhere():
    models = Models(openai__one=(2, StreamInterrupted("cut")))
    assert run(call(wrap(models, Fallback(models=["groq/one"])), "stream")).text == "by groq/one"


@pytest.mark.parametrize("mode", MODES)
def test_the_request_is_the_same_but_for_the_model(mode):
    seen = []
    watch = middleware("watch", transform_params=lambda params, context: seen.append(params) or params)
    models = Models(openai__one=(0, fault("unavailable")))
    run(call(wrap(models, Fallback(models=["groq/one"]), watch), mode, temperature=0.5, custom=[1]))
    first, second = seen
    assert "model" not in first
    assert second == {**first, "model": "one"}


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "models"),
        ({"models": []}, "models"),
        ({"models": ["groq/one", "two", "groq/one"]}, "models.2"),
        ({"models": [""]}, "models.0"),
        ({"models": ["two", " groq/one"]}, "models.1"),
        ({"models": ["two", "groq/one\n"]}, "models.1"),
        ({"models": ["groq/one two"]}, "models.0"),
        ({"models": ["two", "\u2003"]}, "models.1"),
        ({"models": "groq/one"}, "models"),
        ({"models": ["two"], "on": []}, "on"),
        ({"models": ["two"], "on": ["timeout", "slow"]}, "on.1"),
        ({"models": ["two"], "model": "x"}, "model"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, key):
    with pytest.raises(ConfigError) as caught:
        Fallback(**options)
    assert caught.value.key == f"middleware.fallback.config.{key}"


@pytest.mark.parametrize("names", [["openia/gpt-4o"], ["gpt-4o", "openai/gpt-4o", "no_such/model"]])
def test_an_unknown_provider_is_refused_before_any_call(names):
    with pytest.raises(ConfigError) as caught:
        MiddlewareFactory(preset=None, plugins=False, middleware=[Fallback(models=names)])
    assert caught.value.key == f"middleware.fallback.config.models.{len(names) - 1}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("error", [ConfigError("not set up"), BadRequest("no", provider="groq", model="x")])
def test_a_guard_that_fails_at_a_later_model_ends_the_call(mode, error):
    """Only what the model itself cannot do is passed over."""

    def fails(params, context):
        if context.provider == "groq":
            raise error
        return params

    models = Models(**{"openai/one": (0, fault("unavailable")), "groq/x": (0, None), "openai/two": (0, None)})
    guard = middleware("guard", transform_params=fails, kind="guard", priority=1)
    wrapped = wrap(models, Fallback(models=["groq/x", "openai/two"]), guard)
    with pytest.raises(type(error)) as caught:
        run(call(wrapped, mode))
    assert caught.value is error

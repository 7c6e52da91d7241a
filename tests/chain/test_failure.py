"""Rules 7 and 8: whose failure it is, what becomes of it, and how long a hook may take."""

import asyncio
import logging
import time

import pytest

from neuro_mw import (
    Finish,
    Middleware,
    MiddlewareError,
    MiddlewareFactory,
    MiddlewareMetadata,
    MiddlewareTimeout,
    ProviderUnavailable,
    Response,
    TextDelta,
    middleware,
)
from neuro_mw.testing import FaultyModel, ScriptedModel

from .conftest import MODES, call, run, wrap


def boom(*_):
    raise RuntimeError("the prompt's text")


async def boom_async(*_):
    boom()


async def boom_generator(*_):
    boom()
    yield


def boom_step(params, context):
    return boom


async def boom_after(do_generate, params, context):
    response = await do_generate(params)
    response.text = "spoilt"
    boom()


async def boom_mid_stream(do_stream, params, context):
    pulled = 0
    async for part in do_stream(params):
        pulled += 1
        if pulled == 2:
            boom()
        yield part


async def boom_at_end(do_stream, params, context):
    async for part in do_stream(params):
        yield part
    boom()


async def swallowing(do_stream, params, context):
    """Pulls all, yields nothing, fails."""
    async for _ in do_stream(params):
        pass
    boom()
    yield


HOOKS = {
    "transform_params": {"transform_params": boom},
    "transform_params async": {"transform_params": boom_async},
    "wrap_generate": {"wrap_generate": boom_async},
    "wrap_generate after": {"wrap_generate": boom_after},
    "wrap_stream": {"wrap_stream": boom_generator},
    "wrap_stream mid": {"wrap_stream": boom_mid_stream},
    "wrap_stream end": {"wrap_stream": boom_at_end},
    "wrap_stream all pulled": {"wrap_stream": swallowing},
    "transform_parts": {"transform_parts": boom},
    "transform_parts step": {"transform_parts": boom_step},
    "on_end": {"on_end": boom},
    "on_end async": {"on_end": boom_async},
}


@pytest.mark.parametrize("hook", HOOKS)
def test_an_observers_failure_is_passed_over_counted_and_said(ask, caplog, hook):
    observer = middleware("watch", kind="observer", **HOOKS[hook])
    model = ScriptedModel("hello world", cuts=(4,))
    with caplog.at_level(logging.WARNING, logger="neuro_mw"):
        response = ask(model, observer)
    assert response.text == "hello world"
    assert len(model.calls) == 1
    assert response.receipt.layers["watch"]["failures_skipped"] == 1
    said = [record.getMessage() for record in caplog.records if "was skipped" in record.getMessage()]
    assert len(said) == 1
    assert "'watch'" in said[0]
    assert hook.split()[0] in said[0]
    assert "openai/gpt-4o" in said[0]
    assert "the prompt's text" not in caplog.text


@pytest.mark.parametrize("hook", [name for name in HOOKS if not name.startswith("on_end")])
@pytest.mark.parametrize("kind", ["guard", "transform", "control"])
def test_all_others_fail_the_call_with_a_note(ask, hook, kind):
    with pytest.raises(RuntimeError) as caught:
        ask(ScriptedModel("hello world", cuts=(4,)), middleware("bad", kind=kind, **HOOKS[hook]))
    (note,) = caught.value.__notes__
    assert "'bad'" in note
    assert hook.split()[0] in note
    assert "openai/gpt-4o" in note


@pytest.mark.parametrize("hook", HOOKS)
def test_on_error_is_declared_in_metadata_or_config(ask, hook):
    for made, config in (
        (middleware("bad", on_error="skip", **HOOKS[hook]), None),
        (middleware("bad", on_error="raise", **HOOKS[hook]), {"bad": {"on_error": "skip"}}),
    ):
        assert ask(ScriptedModel(), made, config=config).text == "hello"


def test_skipped_failures_are_logged_once_a_minute(caplog):
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[middleware("w", kind="observer", on_end=boom)])
    model = factory.apply_middleware(ScriptedModel())
    for _ in range(5):
        run(model.generate("x"))
    assert len([one for one in caplog.records if "was skipped" in one.getMessage()]) == 1
    assert factory.registry.get_aggregated_stats()["w"].skipped_errors == 5


# --- whose error it is -------------------------------------------------------------------------------------------


async def passing(do_generate, params, context):
    return await do_generate(params)


async def re_raising(do_generate, params, context):
    try:
        return await do_generate(params)
    except ProviderUnavailable as error:
        raise error  # on purpose: the identical exception


async def passing_stream(do_stream, params, context):
    async for part in do_stream(params):
        yield part


async def grouped(do_generate, params, context):
    async with asyncio.TaskGroup() as group:
        group.create_task(do_generate(params))
        group.create_task(do_generate(params))


def provider_down():
    return ProviderUnavailable("down", provider="openai", model="gpt-4o", retryable=True)


@pytest.mark.parametrize("hook", [{"wrap_generate": passing}, {"wrap_generate": re_raising},
                                  {"wrap_stream": passing_stream}])  # fmt: skip
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_providers_error_is_nobodys_failure(mode, hook, on_error):
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[middleware("a", on_error=on_error, **hook)])
    error = provider_down()
    model = ScriptedModel(error=error)
    with pytest.raises(ProviderUnavailable) as caught:
        run(call(factory.apply_middleware(model), mode))
    assert caught.value is error
    assert not getattr(error, "__notes__", None)
    stats = factory.registry.get_aggregated_stats()["a"]
    assert (stats.inner_errors, stats.failed_executions, stats.skipped_errors) == (1, 0, 0)
    assert len(model.calls) == 1


def test_a_group_of_inner_errors_is_inside(mode):
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[middleware("a", wrap_generate=grouped)])
    with pytest.raises(ExceptionGroup):
        run(call(factory.apply_middleware(ScriptedModel(error=provider_down())), mode))
    assert factory.registry.get_aggregated_stats()["a"].inner_errors == 1


def test_another_error_instead_of_the_inner_one_is_own(mode):
    async def other(do_generate, params, context):
        try:
            return await do_generate(params)
        except ProviderUnavailable as error:
            raise KeyError("x") from error

    raising = MiddlewareFactory(preset=None, plugins=False, middleware=[middleware("a", wrap_generate=other)])
    with pytest.raises(KeyError):
        run(call(raising.apply_middleware(ScriptedModel(error=provider_down())), mode))
    assert raising.registry.get_aggregated_stats()["a"].failed_executions == 1
    skipping = wrap(ScriptedModel(error=provider_down()), middleware("a", on_error="skip", wrap_generate=other))
    with pytest.raises(ProviderUnavailable):
        run(call(skipping, mode))


def test_after_several_inward_calls_skip_gives_the_last_answer(mode):
    count = 0

    async def several(do_generate, params, context):
        for seed in range(3):
            await do_generate({**params, "seed": seed})
        boom()

    class Seeded(ScriptedModel):
        async def generate(self, params):
            nonlocal count
            count += 1
            return Response(text=str(params["seed"]))

        async def stream(self, params):
            nonlocal count
            count += 1
            yield TextDelta(str(params["seed"]))
            yield Finish("stop")

    response = run(call(wrap(Seeded(), middleware("a", on_error="skip", wrap_generate=several)), mode))
    assert response.text == "2"
    assert count == 3


# --- a step that fails -------------------------------------------------------------------------------------------


def holding(fail_at, *, with_held, append_first):
    class Step:
        def __init__(self):
            self.kept, self.count = [], 0

        def feed(self, part):
            if append_first:
                self.kept.append(part)
            self.count += 1
            if self.count == fail_at:
                boom()
            if not append_first:
                self.kept.append(part)
            return None if isinstance(part, TextDelta) else self.finish()

        def finish(self):
            kept, self.kept = self.kept, []
            return kept

        def abort(self):
            self.kept = []

    if with_held:
        Step.held = lambda self: self.kept
    return middleware("step", on_error="skip", transform_parts=lambda params, context: Step())


@pytest.mark.parametrize("append_first", [True, False])
@pytest.mark.parametrize("fail_at", [1, 3, 6])
def test_a_skipped_step_loses_and_doubles_nothing(ask, append_first, fail_at):
    model = ScriptedModel("abcdef", cuts=(1,))
    response = ask(model, holding(fail_at, with_held=True, append_first=append_first))
    assert response.text == "abcdef"


def test_a_step_that_holds_without_held_fails_the_call():
    model = ScriptedModel("abcdef", cuts=(1,))
    with pytest.raises(RuntimeError):
        run(call(wrap(model, holding(3, with_held=False, append_first=False)), "stream"))


def test_an_observing_step_without_held_may_fail(ask):
    class Tap:
        def feed(self, part):
            if isinstance(part, TextDelta):
                boom()
            return part

        def finish(self):
            return ()

        def abort(self):
            pass

    tap = middleware("tap", kind="observer", transform_parts=lambda params, context: Tap())
    assert ask(ScriptedModel("abc"), tap).text == "abc"


# --- time --------------------------------------------------------------------------------------------------------


async def slow_async(do, params, context):
    await asyncio.sleep(5)
    return await do(params)


async def slow_stream(do_stream, params, context):
    async for part in do_stream(params):
        await asyncio.sleep(5)
        yield part


def slow_def(*_):
    time.sleep(0.05)
    return _[0]


def slow_feed(params, context):
    return slow_def


SLOW = {
    "wrap_generate": {"wrap_generate": slow_async},
    "wrap_stream": {"wrap_stream": slow_stream},
    "transform_params": {"transform_params": slow_def},
    "transform_parts": {"transform_parts": slow_feed},
}


@pytest.mark.parametrize("hook", SLOW)
def test_a_slow_hook_is_stopped_or_judged(ask, hook):
    with pytest.raises(MiddlewareTimeout, match=r"'slow' took longer than timeout_s=0\.01") as caught:
        ask(ScriptedModel(), middleware("slow", **SLOW[hook]), config={"slow": {"timeout_s": 0.01}})
    assert isinstance(caught.value, MiddlewareError)
    assert caught.value.hook.startswith(hook)


@pytest.mark.parametrize("hook", SLOW)
def test_a_slow_observer_is_passed_over(ask, hook):
    slow = middleware("slow", kind="observer", **SLOW[hook])
    model = ScriptedModel("hello world", cuts=(4,))
    response = ask(model, slow, config={"slow": {"timeout_s": 0.01}})
    assert response.text == "hello world"
    assert response.receipt.layers["slow"]["failures_skipped"] == 1
    assert len(model.calls) == 1


async def slow_at_the_end(do_stream, params, context):
    async for part in do_stream(params):
        yield part
    slow_def(None)


@pytest.mark.parametrize("kind", ["observer", "control"])
def test_what_a_stream_hook_does_behind_its_last_part_is_judged_as_well(ask, kind):
    slow = middleware("slow", kind=kind, wrap_stream=slow_at_the_end)
    config = {"slow": {"timeout_s": 0.01}}
    if kind == "control":
        with pytest.raises(MiddlewareTimeout, match=r"'slow' took longer than timeout_s=0\.01"):
            ask(ScriptedModel("hello"), slow, config=config)
        return
    response = ask(ScriptedModel("hello"), slow, config=config)
    assert response.text == "hello"
    assert response.receipt.layers["slow"]["failures_skipped"] == 1


@pytest.mark.parametrize("waits", [slow_def, None])
def test_the_time_to_close_an_inner_stream_is_not_the_hooks_own(ask, waits):
    """Whether the provider blocks or awaits."""

    class Model:
        provider, model_id = "openai", "gpt-4o"

        async def generate(self, params):
            return Response(text="he")

        async def stream(self, params):
            try:
                yield TextDelta("he")
                yield TextDelta("llo")
                yield Finish("stop")
            finally:
                if waits is None:
                    await asyncio.sleep(0.05)
                else:
                    waits(None)

    async def first_part(do_stream, params, context):
        parts = do_stream(params)
        async for part in parts:
            yield part
            break
        yield Finish("length")
        await parts.aclose()

    made = middleware("first", kind="control", wrap_stream=first_part)
    response = ask(Model(), made, config={"first": {"timeout_s": 0.02}})
    assert response.text == "he"
    assert response.receipt.layers["first"]["self_time"] < 20


@pytest.mark.parametrize("kind", ["observer", "control"])
def test_a_hook_that_hangs_in_mid_stream_is_stopped_and_closes_what_it_pulled(kind):
    async def hangs(do_stream, params, context):
        parts = do_stream(params)
        try:
            yield await anext(parts)
            await asyncio.sleep(60)
        finally:
            await parts.aclose()

    async def main():
        model = ScriptedModel("hello world", cuts=(4,))
        made = middleware("slow", kind=kind, wrap_stream=hangs)
        wrapped = wrap(model, made, middleware_config={"slow": {"timeout_s": 0.02}})
        return await call(wrapped, "stream")

    if kind == "control":
        with pytest.raises(MiddlewareTimeout, match=r"'slow' took longer than timeout_s=0\.02"):
            asyncio.run(main())
    else:
        assert asyncio.run(main()).text == "hello world"


def test_a_slow_on_end_never_reaches_the_caller(ask):
    async def hang(outcome, context):
        await asyncio.sleep(60)

    response = ask(ScriptedModel(), middleware("slow", on_end=hang), config={"slow": {"timeout_s": 0.01}})
    assert response.receipt.layers["slow"]["failures_skipped"] == 1


@pytest.mark.parametrize("hook", [{"wrap_generate": passing}, {"wrap_stream": passing_stream}])
def test_the_inner_calls_time_does_not_count(ask, hook):
    model = ScriptedModel("hello", cuts=(9,), delay_s=0.25)
    config = {"in": {"timeout_s": 0.2}}
    assert ask(model, middleware("in", **hook), config=config).text == "hello"


def test_an_inner_timeout_error_is_not_own(mode):
    factory = MiddlewareFactory(
        preset=None, plugins=False, middleware=[middleware("a", wrap_generate=passing)],
        middleware_config={"a": {"timeout_s": 5}},
    )  # fmt: skip
    with pytest.raises(TimeoutError):
        run(call(factory.apply_middleware(ScriptedModel(error=TimeoutError())), mode))
    assert factory.registry.get_aggregated_stats()["a"].inner_errors == 1


def test_cancellation_is_the_callers_and_not_a_failure():
    class Stuck(ScriptedModel):
        async def generate(self, params):
            await asyncio.sleep(60)

        async def stream(self, params):
            await asyncio.sleep(60)
            yield TextDelta("never")

    ends = []

    class Watch(Middleware):
        metadata = MiddlewareMetadata(id="w", kind="observer")

        async def wrap_generate(self, do_generate, params, context):
            return await do_generate(params)

        def on_end(self, outcome, context):
            ends.append(outcome.status)

    async def check(mode):
        model = wrap(Stuck(), Watch(), middleware_config={"w": {"timeout_s": 5}})
        task = asyncio.create_task(call(model, mode))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for mode in MODES:
        run(check(mode))
    assert ends == ["cancelled", "cancelled"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["raises", "too slow", "too slow in plain code"])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
@pytest.mark.parametrize("closes", [False, True])
def test_a_hook_that_closes_its_inner_stream_and_is_passed_over_loses_nothing(mode, how, at, closes):
    """As observers do that are tidy: what is still to come passes without them."""

    failed = []

    async def fail():
        failed.append(at)
        if how == "raises":
            raise ValueError
        if how == "too slow":
            await asyncio.sleep(5)
        time.sleep(0.06)  # noqa: ASYNC251  # plain code that cannot be interrupted

    async def watch(do_stream, params, context):
        inner, seen = do_stream(params), 0
        try:
            if at == 0:
                await fail()
            async for part in inner:
                seen += 1
                if seen == at:
                    await fail()
                yield part
        finally:
            if closes:
                await inner.aclose()

    observer = middleware("watch", kind="observer", wrap_stream=watch)
    config = {"watch": {"timeout_s": 0.05}}
    model = FaultyModel("abcd", cuts=(1,))
    response = run(call(wrap(model, observer, middleware_config=config), mode))
    assert response.text == "abcd"
    assert response.receipt.layers["watch"]["failures_skipped"] == len(failed) == (at < (5 if mode == "stream" else 3))
    assert [one.closed for one in model.calls] == [mode == "stream"]

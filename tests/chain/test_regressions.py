"""Faults that a hostile reader found: each test failed before its mend."""

import asyncio
import copy
import pickle
import time

import pytest

from neuro_mw import (
    Block,
    Blocked,
    Finish,
    Middleware,
    MiddlewareError,
    MiddlewareFactory,
    MiddlewareMetadata,
    MiddlewareTimeout,
    RequestBlocked,
    Response,
    TextDelta,
    ToolCall,
    Usage,
    collect,
    middleware,
    parts_of,
)
from neuro_mw.testing import FaultyModel, ScriptedModel

from .conftest import MODES, call, run, wrap


def upper(params, context):
    return lambda part: TextDelta(part.text.upper()) if isinstance(part, TextDelta) else part


async def doubtful(do_stream, params, context):
    """Passes some parts on and fails."""
    count = 0
    async for part in do_stream(params):
        count += 1
        if count == 4:
            raise ValueError
        yield part


def test_a_skipped_wrap_inside_of_a_changing_step_doubles_nothing(ask):
    step = middleware("up", priority=9, transform_parts=upper)
    response = ask(ScriptedModel("abcdefgh", cuts=(1,)), step, middleware("w", on_error="skip", wrap_stream=doubtful))
    assert response.text == "ABCDEFGH"
    own_step = middleware("w", on_error="skip", wrap_stream=doubtful, transform_parts=upper)
    assert ask(ScriptedModel("abcdefgh", cuts=(1,)), own_step).text == "ABCDEFGH"


def test_a_skipped_wrap_with_two_inner_streams_gives_the_last(ask):
    async def two(do_stream, params, context):
        async for _ in do_stream(params):
            break
        async for _ in do_stream(params):
            raise ValueError
        yield

    response = ask(ScriptedModel("abcdef", cuts=(2,)), middleware("w", on_error="skip", wrap_stream=two))
    assert response.text == "abcdef"


def test_time_after_an_inner_call_is_own_time(mode):
    async def late(do_generate, params, context):
        response = await do_generate(params)
        time.sleep(0.05)  # noqa: ASYNC251  # the point: code that cannot be interrupted
        return response

    strict = MiddlewareFactory(
        preset=None, plugins=False, middleware=[middleware("a", wrap_generate=late)],
        middleware_config={"a": {"timeout_s": 0.02}},
    )  # fmt: skip
    with pytest.raises(MiddlewareTimeout):
        run(call(strict.apply_middleware(ScriptedModel()), mode))
    patient = MiddlewareFactory(
        preset=None, plugins=False, middleware=[middleware("a", wrap_generate=late)],
        middleware_config={"a": {"timeout_s": 5}},
    )  # fmt: skip
    run(call(patient.apply_middleware(ScriptedModel()), mode))
    assert patient.registry.get_aggregated_stats()["a"].average_execution_time > 40


def test_on_end_after_a_long_inner_call_is_in_time(ask):
    async def passing(do_generate, params, context):
        return await do_generate(params)

    made = middleware("a", wrap_generate=passing, on_end=lambda outcome, context: None)
    response = ask(ScriptedModel("a", delay_s=0.25), made, config={"a": {"timeout_s": 0.2}})
    assert response.receipt.layers["a"]["failures_skipped"] == 0


@pytest.mark.parametrize("slow", ["feed", "finish"])
def test_every_part_of_a_step_is_judged(ask, slow):
    class Step:
        def feed(self, part):
            time.sleep(0.03 if slow == "feed" else 0)
            return part

        def finish(self):
            time.sleep(0.03 if slow == "finish" else 0)
            return ()

        def abort(self):
            pass

    made = middleware("a", transform_parts=lambda params, context: Step())
    with pytest.raises(MiddlewareTimeout):
        ask(ScriptedModel(), made, config={"a": {"timeout_s": 0.01}})


def test_a_changing_steps_time_is_scaled_to_all_its_parts():
    def busy(params, context):
        def step(part):
            until = time.perf_counter() + 2e-5
            while time.perf_counter() < until:
                pass
            return TextDelta(part.text.upper()) if isinstance(part, TextDelta) else part

        return step

    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[middleware("a", transform_parts=busy)])
    run(call(factory.apply_middleware(ScriptedModel("x" * 2000, cuts=(1,))), "stream"))
    assert factory.registry.get_aggregated_stats()["a"].average_execution_time > 20  # ms; 40 in all


def test_a_finish_from_finish_is_refused(ask):
    class Step:
        def feed(self, part):
            return part

        def finish(self):
            return [Finish("length")]

        def abort(self):
            pass

    with pytest.raises(MiddlewareError, match="finish"):
        ask(ScriptedModel(), middleware("a", transform_parts=lambda params, context: Step()))


def test_a_block_cannot_be_taken_away_unseen(ask):
    def refuse(params, context):
        raise Blocked("no")

    async def forgive(do_generate, params, context):
        response = await do_generate(params)
        response.blocked = None
        return response

    guard = middleware("guard", kind="guard", transform_params=refuse)
    response = ask(ScriptedModel(), middleware("out", priority=9, wrap_generate=forgive), guard)
    assert response.receipt.layers["out"]["changed_answer"] is True
    assert response.receipt.layers["guard"]["status"] == "blocked"


def test_a_skipped_observer_leaves_the_answer_as_it_came(ask):
    def refuse(params, context):
        raise Blocked("no")

    async def spoil(do_generate, params, context):
        response = await do_generate(params)
        response.blocked, response.usage, response.metadata["z"] = None, Usage(99, 99), 1
        response.usage.input_tokens = 5
        raise ValueError

    watch = middleware("watch", kind="observer", priority=9, wrap_generate=spoil)
    response = ask(ScriptedModel(), watch, middleware("guard", transform_params=refuse))
    assert response.blocked is not None
    assert response.usage == Usage(0, 0, 0, 0, 0)
    assert response.metadata == {}


def test_what_hooks_do_does_not_reach_the_models_own_objects(ask):
    async def change(do_generate, params, context):
        response = await do_generate(params)
        response.tool_calls[0].arguments = "{}"
        response.usage.input_tokens = 99
        response.provider_fields["x"] = 1
        return response

    given = Response(text="a", tool_calls=[ToolCall("c", "f", '{"a": 1}')], usage=Usage(3, 2), provider_fields={"y": 2})
    before = copy.deepcopy(given)
    ask(ScriptedModel(given), middleware("a", wrap_generate=change))
    assert given == before


def test_one_object_handed_out_twice_is_two_answers(mode):
    canned = Response(text="c")

    async def give(do_generate, params, context):
        await do_generate(params)
        return canned

    model = wrap(ScriptedModel(), middleware("a", wrap_generate=give))
    first, second = run(call(model, mode)), run(call(model, mode))
    assert first is not second
    assert first.receipt.request_id != second.receipt.request_id
    assert canned.receipt is None


def test_on_end_sets_metadata_and_nothing_else(ask):
    def on_end(outcome, context):
        outcome.response.text, outcome.response.usage = "EVIL", Usage(9, 9)
        outcome.response.metadata = {"mine": 1}

    response = ask(ScriptedModel("hello"), middleware("a", on_end=on_end))
    assert (response.text, response.usage, response.metadata) == ("hello", Usage(), {"mine": 1})


def test_a_block_in_a_task_group_is_a_block(mode):
    async def refuse():
        raise Blocked("in a group")

    async def grouped(do_generate, params, context):
        async with asyncio.TaskGroup() as group:
            group.create_task(refuse())
        return await do_generate(params)

    for kind in ("guard", "observer"):
        model = ScriptedModel()
        response = run(call(wrap(model, middleware("g", kind=kind, wrap_generate=grouped)), mode))
        assert response.blocked == Block("g", "in a group")
        assert not model.calls


def test_a_refusal_that_held_everything_keeps_who_answered(mode):
    class Hold:
        def feed(self, part):
            return part if isinstance(part, Finish) else None

        def finish(self):
            raise Blocked("no", message="no")

        def abort(self):
            pass

    model = ScriptedModel(Response(text="a", id="r1", model="m", created=1.0, usage=Usage(3, 2)))
    response = run(call(wrap(model, middleware("g", transform_parts=lambda params, context: Hold())), mode))
    assert (response.text, response.id, response.model, response.created) == ("no", "r1", "m", 1.0)
    assert response.usage == Usage(3, 2)


def test_nothing_withheld_stands_in_partial():
    def refuse(params, context):
        raise Blocked("SECRET")

    async def check():
        model = wrap(ScriptedModel(), middleware("g", transform_params=refuse), on_block="raise")
        stream = model.stream("x")
        with pytest.raises(RequestBlocked) as caught:
            await anext(aiter(stream))
        assert caught.value.partial.text == ""

    run(check())


def test_a_pump_task_left_behind_is_stopped():
    """Rule 9: the provider's stream is closed, even where a middleware's task was in the middle of a pull."""

    async def pump(do_stream, params, context):
        queue: asyncio.Queue = asyncio.Queue(1)

        async def fill():
            async for part in do_stream(params):
                await queue.put(part)

        task = asyncio.create_task(fill())
        try:
            while True:
                yield await queue.get()
        finally:
            del task

    async def check():
        model = ScriptedModel("abcdefgh", cuts=(1,), delay_s=0.01)
        async with wrap(model, middleware("a", wrap_stream=pump)).stream("x") as stream:
            async for _ in stream:
                break
        assert model.opened == model.closed == 1

    run(check())


def test_starting_again_after_the_factory_was_closed():
    log = []

    class Life(Middleware):
        metadata = MiddlewareMetadata(id="life")

        async def startup(self):
            log.append("start")

        async def aclose(self):
            log.append("close")

        def transform_params(self, params, context):
            log.append("run")
            return params

    async def check():
        factory = MiddlewareFactory(preset=None, plugins=False, middleware=[Life()])
        async with factory:
            model = factory.apply_middleware(ScriptedModel())
            await model.generate("x")
        await model.generate("x")

    run(check())
    assert log == ["start", "run", "close", "start", "run"]


def test_a_failed_condition_is_counted_and_seen(mode):
    def broken(context):
        raise ValueError

    for kind, ran in (("guard", 1), ("observer", 0)):
        made = middleware("a", kind=kind, transform_params=lambda params, context: params)
        factory = MiddlewareFactory(
            preset=None, plugins=False, middleware=[made], middleware_config={"a": {"conditions": {"custom": broken}}}
        )
        response = run(call(factory.apply_middleware(ScriptedModel()), mode))
        layer = response.receipt.layers["a"]
        assert layer["ran"] == ran
        assert (layer.get("failures_skipped") == 1) if ran else ("failed (ValueError)" in layer["reason"])
        if ran:
            assert factory.registry.get_aggregated_stats()["a"].skipped_errors == 1


def test_the_model_stays_the_callers_where_a_transform_drops_it(mode):
    def drop(params, context):
        return {key: value for key, value in params.items() if key != "model"}

    model = ScriptedModel()
    run(call(wrap(model, middleware("a", transform_params=drop)), mode, model="gpt-5"))
    assert model.calls[0][1]["model"] == "gpt-5"


def test_answers_and_errors_can_be_pickled(mode):
    response = run(call(wrap(ScriptedModel(), middleware("a", transform_parts=upper)), mode))
    again = pickle.loads(pickle.dumps(response))
    assert again == response
    assert again.receipt.to_dict() == response.receipt.to_dict()


def test_parts_at_hand_are_collected_too():
    response = Response(text="a", reasoning="b")
    assert run(collect(parts_of(response))) == response


def watch(id, told, *, waits=False, priority=0):
    async def end(outcome, context):
        told.append((id, outcome.status, [attempt.usage.total_tokens for attempt in context.attempts]))
        if waits:
            await asyncio.sleep(5)

    return middleware(id, on_end=end, kind="observer", priority=priority)


def test_a_cancellation_within_an_on_end_leaves_no_one_untold():
    told = []
    model = wrap(FaultyModel("hello"), watch("outer", told, priority=2), watch("inner", told, waits=True, priority=1))

    async def leave():
        async with model.stream("hi") as stream:
            async for _ in stream:
                break

    async def cancelled():
        task = asyncio.create_task(leave())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancelled())
    assert [(id, status) for id, status, _ in told] == [("inner", "cancelled"), ("outer", "cancelled")]


def test_what_finish_said_is_kept_where_the_stream_is_cancelled_behind_it():
    told = []
    answer = Response(text="hello", usage=Usage(3, 2))
    model = wrap(FaultyModel(answer, closing_s=5), watch("outer", told))

    async def cancelled():
        task = asyncio.create_task(call(model, "stream"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancelled())
    assert told == [("outer", "cancelled", [5])]


def test_a_whole_answer_that_is_replayed_is_paid_for_however_much_of_it_is_read():
    async def whole(do_stream, params, context):
        async for part in do_stream({**params, "stream": False}):
            yield part

    told = []
    replays = middleware("replays", wrap_stream=whole)
    model = wrap(FaultyModel(Response(text="hello", usage=Usage(3, 2))), watch("outer", told, priority=1), replays)

    async def leave():
        async with model.stream("hi") as stream:
            async for _ in stream:
                break

    run(leave())
    assert told == [("outer", "cancelled", [5])]


@pytest.mark.parametrize("mode", MODES)
def test_a_skipped_failure_does_not_leave_the_cancellation_that_the_hook_asked_for(mode):
    async def limited(do_generate, params, context):
        async with asyncio.timeout(0.01):
            return await do_generate(params)

    limit = middleware("limit", wrap_generate=limited, on_error="skip")
    with pytest.raises(TimeoutError):
        run(call(wrap(ScriptedModel(delay_s=5), limit), mode))


@pytest.mark.parametrize("mode", MODES)
def test_a_skipped_failure_leaves_the_cancellation_of_the_caller(mode):
    async def swallows(do_generate, params, context):
        try:
            return await do_generate(params)
        except asyncio.CancelledError:
            raise RuntimeError("a bug") from None

    async def cancelled():
        model = wrap(ScriptedModel(delay_s=5), middleware("bug", wrap_generate=swallows, on_error="skip"))
        task = asyncio.create_task(call(model, mode))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancelled())

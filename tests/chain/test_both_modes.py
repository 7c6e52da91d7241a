"""Rules 1 to 5: no hook is skipped in a mode, short cuts, order of what an answer passes, wrong types, no cost."""

import asyncio
import logging

import pytest

from neuro_mw import (
    Finish,
    Middleware,
    MiddlewareError,
    MiddlewareFactory,
    MiddlewareMetadata,
    Response,
    TextDelta,
    ToolCall,
    Usage,
    middleware,
)
from neuro_mw.testing import ScriptedModel

from .conftest import MODES, call, run, wrap

FULL = Response(
    text="answer", reasoning="thought", tool_calls=[ToolCall("c1", "f", '{"a": 1}'), ToolCall("c2", "g", "{}")],
    finish_reason="tool_calls", usage=Usage(3, 2, 1, 0, 1), id="r1", model="gpt-4o-x", created=12.5,
    provider_fields={"fingerprint": "fp"},
)  # fmt: skip


@pytest.mark.parametrize("name", ["wrap_generate", "wrap_stream", "transform_parts", "on_end", "transform_params"])
def test_every_hook_runs_in_both_modes_and_loses_nothing(ask, name):
    ran = []

    class One(Middleware):
        metadata = MiddlewareMetadata(id="one")

    async def wrap_generate(self, do_generate, params, context):
        ran.append(name)
        return await do_generate(params)

    async def wrap_stream(self, do_stream, params, context):
        ran.append(name)
        async for part in do_stream():
            yield part

    def transform_parts(self, params, context):
        ran.append(name)
        return lambda part: part

    def note(self, value, context):
        ran.append(name)
        return value

    hooks = {"wrap_generate": wrap_generate, "wrap_stream": wrap_stream, "transform_parts": transform_parts}
    setattr(One, name, hooks.get(name, note))
    assert ask(ScriptedModel(FULL), One()) == FULL
    assert ran == [name]


def test_a_buffering_layer_says_so_once(caplog):
    only = middleware("only", wrap_generate=lambda do, params, context: do(params))
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[only])
    with caplog.at_level(logging.INFO, logger="neuro_mw"):
        for _ in range(3):
            run(call(factory.apply_middleware(ScriptedModel()), "stream"))
    assert [record.getMessage() for record in caplog.records if "buffers streams" in record.getMessage()] != []
    assert len(caplog.records) == 1
    plan = factory.explain(factory.create_context("openai", "gpt-4o"))
    assert "buffers the stream" in plan["only"].hooks["stream"][0]
    assert "buffers the stream" in str(plan)


def test_parts_of_unknown_types_pass_every_layer(mode):
    class Later:
        type = "from_a_later_contract"

    later = Later()
    seen = []

    async def through(do_stream, params, context):
        async for part in do_stream(params):
            yield part

    async def whole(do_generate, params, context):
        return await do_generate(params)

    def tap(params, context):
        def step(part):
            seen.append(part.type)
            return part

        return step

    model = ScriptedModel(Response(text="a", other_parts=[later]))
    wrapped = wrap(model, middleware("a", wrap_stream=through), middleware("b", wrap_generate=whole),
                   middleware("c", transform_parts=tap))  # fmt: skip
    assert run(call(wrapped, mode)).other_parts == [later]
    assert "from_a_later_contract" in seen


def test_do_generate_many_times_and_at_once(ask):
    async def race(do_generate, params, context):
        answers = await asyncio.gather(*(do_generate({**params, "seed": seed}) for seed in range(3)))
        return Response(text=" ".join(one.text for one in answers))

    states = []

    def remember(params, context):
        context.state(inner)["seed"] = params["seed"]
        return params

    def at_end(outcome, context):
        states.append(context.state(inner)["seed"])

    inner = middleware("inner", priority=-1, transform_params=remember, on_end=at_end)
    model = ScriptedModel("a", delay_s=0)
    assert ask(model, middleware("race", wrap_generate=race), inner).text == "a a a"
    assert sorted(params["seed"] for _, params in model.calls) == sorted(states) == [0, 1, 2]


def test_without_argument_the_params_given(ask):
    async def plain(do_generate, params, context):
        return await do_generate()

    model = ScriptedModel()
    ask(model, middleware("plain", wrap_generate=plain), temperature=0.5)
    assert model.calls[0][1]["temperature"] == 0.5


def test_the_answer_passes_wrap_then_step_then_on_end_then_the_next(ask):
    log = []

    def layer(id, priority):
        async def wrap_generate(do_generate, params, context):
            response = await do_generate(params)
            log.append(f"wrap {id}")
            return response

        def transform_parts(params, context):
            return lambda part: (log.append(f"step {id}"), part)[1] if isinstance(part, Finish) else part

        return middleware(id, priority=priority, wrap_generate=wrap_generate, transform_parts=transform_parts,
                          on_end=lambda outcome, context: log.append(f"end {id}"))  # fmt: skip

    ask(ScriptedModel(), layer("out", 2), layer("in", 1))
    assert log == [f"{what} {id}" for id in ("in", "out") for what in ("wrap", "step", "end")]


def bad_generate(value):
    async def wrap_generate(do_generate, params, context):
        return value

    return middleware("bad", wrap_generate=wrap_generate)


def bad_stream(value):
    return middleware("bad", wrap_stream=lambda do_stream, params, context: value)


def bad_yield(value):
    async def wrap_stream(do_stream, params, context):
        yield value

    return middleware("bad", wrap_stream=wrap_stream)


async def _coroutine(do_stream, params, context):
    return None


async def _after_finish(do_stream, params, context):
    async for part in do_stream(params):
        yield part
    yield TextDelta("late")


@pytest.mark.parametrize(
    ("bad", "hook", "came"),
    [
        (middleware("bad", transform_params=lambda params, context: None), "transform_params", "nothing"),
        (middleware("bad", transform_params=lambda params, context: [1]), "transform_params", "list"),
        (bad_generate(None), "wrap_generate", "nothing"),
        (bad_generate("text"), "wrap_generate", "str"),
        (middleware("bad", wrap_generate=lambda do, params, context: 5), "wrap_generate", "int"),
        (bad_stream(None), "wrap_stream", "nothing"),
        (bad_stream("text"), "wrap_stream", "str"),
        (middleware("bad", wrap_stream=_coroutine), "wrap_stream", "nothing"),
        (bad_yield("text"), "wrap_stream", "str"),
        (middleware("bad", wrap_stream=_after_finish), "wrap_stream", "TextDelta after Finish"),
        (middleware("bad", transform_parts=lambda params, context: 5), "transform_parts", "int"),
        (middleware("bad", transform_parts=lambda params, context: lambda part: "text"), "transform_parts", "str"),
        (middleware("bad", transform_parts=lambda params, context: lambda part: 5), "transform_parts", "int"),
        (middleware("bad", transform_parts=lambda params, context: lambda part: [5]), "transform_parts", "int"),
    ],
)
def test_wrong_types_are_named(ask, bad, hook, came):
    with pytest.raises(MiddlewareError) as caught:
        ask(ScriptedModel(), bad)
    text = str(caught.value)
    assert "'bad'" in text
    assert hook in text
    assert came in text


def test_do_generate_takes_params_only(ask):
    with pytest.raises(MiddlewareError, match="dict of params"):
        ask(ScriptedModel(), middleware("bad", wrap_generate=lambda do, params, context: do("text")))


def test_none_is_legal_from_transform_parts_and_from_feed(ask):
    none = middleware("none", transform_parts=lambda params, context: None)
    drop = middleware("drop", transform_parts=lambda params, context: lambda part: None)
    response = ask(ScriptedModel(FULL), none, drop)
    assert (response.text, response.finish_reason) == ("", "tool_calls")


def test_a_layer_without_hooks_stays_in_the_chain_with_no_executions(ask):
    class Idle(Middleware):
        metadata = MiddlewareMetadata(id="idle")

    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[Idle()])
    wrapped = factory.apply_middleware(ScriptedModel())
    assert wrapped.chain == ("idle",)
    for mode in MODES:
        response = run(call(wrapped, mode))
        assert response.receipt.layers["idle"] == {"status": "skipped", "reason": "it has no hooks", "ran": 0}
    assert factory.registry.get_execution_stats("idle") == []
    assert factory.registry.get_aggregated_stats() == {}


def test_where_nothing_applies_the_very_object_comes_back():
    model = ScriptedModel()
    factory = MiddlewareFactory(
        preset=None, plugins=False, middleware=[middleware("a")],
        middleware_config={"a": {"conditions": {"providers": ["azure"]}}},
    )  # fmt: skip
    assert factory.apply_middleware(model) is model
    assert MiddlewareFactory(preset=None, plugins=False).apply_middleware("echo/echo").chain == ()


def test_a_step_that_adds_parts_and_one_that_changes_in_place(ask):
    double = middleware("double", priority=2, transform_parts=lambda params, context: (
        lambda part: [part, TextDelta("!")] if isinstance(part, TextDelta) else part))  # fmt: skip

    def in_place(params, context):
        def step(part):
            if isinstance(part, TextDelta):
                part.text = part.text.upper()
            return part

        return step

    response = ask(ScriptedModel("abc", cuts=(99,)), double, middleware("place", priority=1, transform_parts=in_place))
    assert response.text == "ABC!"
    assert response.receipt.layers["place"]["changed_answer"] is True
    assert response.receipt.layers["double"]["changed_answer"] is True


def test_a_wrap_stream_that_drops_the_last_words_changed_the_answer(ask):
    async def swallow(do_stream, params, context):
        async for part in do_stream(params):
            if not (isinstance(part, TextDelta) and "z" in part.text):
                yield part

    response = ask(ScriptedModel("abcz", cuts=(1,)), middleware("swallow", wrap_stream=swallow))
    assert response.receipt.layers["swallow"]["changed_answer"] is True


def test_a_wrap_stream_that_answers_by_itself_with_many_parts(ask):
    async def own(do_stream, params, context):
        for _ in range(200):
            yield TextDelta("x")
        yield Finish("stop", Usage(0, 0))

    model = ScriptedModel()
    response = ask(model, middleware("own", wrap_stream=own))
    assert response.text == "x" * 200
    assert not model.calls
    assert response.receipt.layers["own"]["status"] == "short_circuited"

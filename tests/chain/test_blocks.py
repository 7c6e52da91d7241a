"""Rule 6: a refusal is an answer; nothing held leaves; on_block."""

import asyncio

import pytest

from neuro_mw import (
    Blocked,
    Finish,
    Middleware,
    MiddlewareFactory,
    MiddlewareMetadata,
    RequestBlocked,
    Response,
    TextDelta,
    Usage,
    middleware,
)
from neuro_mw.testing import ScriptedModel

from .conftest import MODES, call, run, wrap


def refuse(*_):
    raise Blocked("a secret", category="secrets", detail={"rule": "x"}, message="I cannot do that.")


async def refuse_async(*_):
    refuse()


async def refuse_generator(*_):
    refuse()
    yield


async def refuse_after(do_generate, params, context):
    await do_generate(params)
    refuse()


def refusing_step(params, context):
    return lambda part: refuse() if isinstance(part, TextDelta) else part


BEFORE = {
    "transform": middleware("g", transform_params=refuse),
    "async transform": middleware("g", transform_params=refuse_async),
    "wrap_generate": middleware("g", wrap_generate=refuse_async),
    "wrap_stream": middleware("g", wrap_stream=refuse_generator),
    "transform_parts": middleware("g", transform_parts=refuse),
    "both": middleware("g", wrap_generate=refuse_async, wrap_stream=refuse_generator),
}
AFTER = {
    "wrap_generate": middleware("g", wrap_generate=refuse_after),
    "step": middleware("g", transform_parts=refusing_step),
}


@pytest.mark.parametrize("guard", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("kind", ["guard", "observer"])
def test_refused_before_the_model(guard, kind):
    guard.metadata = MiddlewareMetadata(id="g", kind=kind)
    answers, outer = [], []
    for mode in MODES:
        model = ScriptedModel()
        out = middleware("out", priority=9, on_end=lambda outcome, context: outer.append(outcome))
        answers.append(run(call(wrap(model, out, guard), mode)))
        assert not model.calls
    first, second = answers
    assert first == second
    assert first.text == "I cannot do that."
    assert first.finish_reason == "content_filter"
    assert first.usage == Usage(0, 0, 0, 0, 0)
    assert (first.blocked.middleware, first.blocked.category, first.blocked.detail) == ("g", "secrets", {"rule": "x"})
    assert [(one.status, one.response.text) for one in outer] == [("blocked", "I cannot do that.")] * 2
    assert first.receipt.layers["g"]["status"] == "blocked"
    with pytest.raises(RequestBlocked, match="'g': a secret"):
        first.raise_for_block()


@pytest.mark.parametrize("guard", AFTER.values(), ids=AFTER)
def test_refused_before_anything_was_let_go(guard):
    response = Response(text="key sk-1", usage=Usage(3, 2), id="r1", model="m", provider_fields={"secret": 1})
    whole = run(call(wrap(ScriptedModel(response), guard), "generate"))
    streamed = run(call(wrap(ScriptedModel(response), guard), "stream"))
    assert whole.text == streamed.text == "I cannot do that."
    assert whole.blocked == streamed.blocked
    assert whole.usage == Usage(3, 2)
    assert whole.id == streamed.id == "r1"
    assert whole.provider_fields == {}
    assert streamed.usage in (Usage(), Usage(3, 2))  # in mid-stream it is not known


def test_refused_in_mid_stream():
    ended = []

    class Holding(Middleware):
        """Holds one text; what it holds must never leave once a guard outside refuses."""

        metadata = MiddlewareMetadata(id="holding", priority=-1)

        def transform_parts(self, params, context):
            class Step:
                last = None

                def feed(self, part):
                    if not isinstance(part, TextDelta):
                        return part
                    last, self.last = self.last, part
                    return last

                def finish(self):
                    ended.append("finish")
                    return [self.last]

                def abort(self):
                    ended.append("abort")

            return Step()

    def guard(params, context):
        def step(part):
            if isinstance(part, TextDelta) and "c" in part.text:
                refuse()
            return part

        return step

    class Outer(Middleware):
        metadata = MiddlewareMetadata(id="outer", priority=9)

        def transform_parts(self, params, context):
            class Step:
                def feed(self, part):
                    return TextDelta(part.text.upper()) if isinstance(part, TextDelta) else part

                def finish(self):
                    return [TextDelta("(end)")]

                def abort(self):
                    ended.append("outer abort")

            return Step()

    model = ScriptedModel("abcdef", cuts=(1,))
    response = run(call(wrap(model, Outer(), middleware("g", transform_parts=guard), Holding()), "stream"))
    assert response.text == "AB(end)"
    assert response.finish_reason == "content_filter"
    assert response.blocked.middleware == "g"
    assert response.usage == Usage()
    assert ended == ["abort"]
    assert model.closed == 1
    assert model.pulled < 6


@pytest.mark.parametrize("guard", [*BEFORE.values(), *AFTER.values()])
def test_on_block_raise(guard, mode):
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[guard], on_block="raise")
    shown = []

    async def check():
        model = factory.apply_middleware(ScriptedModel())
        if mode == "generate":
            await model.generate("x")
        async with model.stream("x") as stream:
            async for part in stream:
                shown.append(part)

    with pytest.raises(RequestBlocked) as caught:
        asyncio.run(check())
    assert not [part for part in shown if isinstance(part, TextDelta)]
    assert caught.value.block.middleware == "g"
    assert caught.value.response.receipt is not None


def test_on_block_for_one_model(mode):
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[BEFORE["transform"]])
    assert run(call(factory.apply_middleware(ScriptedModel()), mode)).blocked
    with pytest.raises(RequestBlocked):
        run(call(factory.apply_middleware(ScriptedModel(), on_block="raise"), mode))


def test_blocked_in_on_end_is_an_error_like_another(ask):
    response = ask(ScriptedModel(), middleware("g", on_end=refuse))
    assert response.blocked is None
    assert response.receipt.layers["g"]["failures_skipped"] == 1


def test_a_block_from_inside_is_a_normal_answer_for_outer_wraps(ask):
    seen = []

    async def outer(do_generate, params, context):
        seen.append(await do_generate(params))
        return seen[-1]

    response = ask(ScriptedModel(), middleware("o", priority=9, wrap_generate=outer), BEFORE["transform"])
    assert seen[0].blocked.middleware == response.blocked.middleware == "g"


def test_stats_of_blocks(ask):
    factory = MiddlewareFactory(
        preset=None, plugins=False,
        middleware=[BEFORE["transform"], middleware("o", priority=9, on_end=lambda outcome, context: None)],
    )  # fmt: skip
    for mode in MODES:
        run(call(factory.apply_middleware(ScriptedModel()), mode))
    stats = factory.registry.get_aggregated_stats()
    assert (stats["g"].blocked, stats["g"].successful_executions, stats["g"].short_circuited) == (2, 2, 0)
    assert (stats["o"].blocked, stats["o"].successful_executions) == (0, 2)


def test_a_finish_with_a_block_made_by_hand_counts_as_one(ask):
    from neuro_mw import Block

    async def by_hand(do_stream, params, context):
        yield TextDelta("no")
        yield Finish("content_filter", Usage(0, 0), Block("hand", "by hand"))

    response = ask(ScriptedModel(), middleware("hand", wrap_stream=by_hand))
    assert response.blocked.middleware == "hand"
    assert response.receipt.layers["hand"]["status"] == "blocked"

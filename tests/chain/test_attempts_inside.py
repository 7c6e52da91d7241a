"""Which attempts are whose: each layer sees those made further in, in its own passage and in no other."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import (
    Attempt,
    Finish,
    Middleware,
    MiddlewareContext,
    MiddlewareMetadata,
    Response,
    TextDelta,
    middleware,
)

from .conftest import MODES, call, wrap


class Numbered:
    """A model that says which path of inward calls led to it."""

    provider, model_id = "openai", "gpt-4o"

    async def generate(self, params):
        await asyncio.sleep(0.0001 * (params["path"][-1] if params["path"] else 0))
        params["made"].append((params["path"], None))
        return Response(text="x")

    async def stream(self, params):
        response = await self.generate(params)
        yield TextDelta(response.text)
        yield Finish("stop")


class Calls(Middleware):
    """Calls inward as often as it is told, one after the other or at once, under names of its own."""

    def __init__(self, at, times, at_once, other):
        self.metadata = MiddlewareMetadata(id=f"layer{at}", kind="control", priority=100 - at)
        super().__init__()
        self.times, self.at_once, self.other, self.seen = times, at_once, other, {}

    async def wrap_generate(self, do_generate, params, context):
        path = params["path"]

        async def one(number):
            named = {"model": "gpt-4o-mini"} if self.other and number else {}
            return await do_generate({**params, **named, "path": (*path, number)})

        if self.at_once:
            answers = await asyncio.gather(*map(one, range(self.times)))
        else:
            answers = [await one(number) for number in range(self.times)]
        self.seen[path] = context.attempts_inside(self), context
        return answers[0]


@given(
    layers=st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.booleans()), min_size=1, max_size=3),
    named=st.booleans(),
)
@pytest.mark.parametrize("mode", MODES)
def test_each_layer_sees_those_of_its_own_passage(mode, layers, named):
    async def main():
        middlewares = [Calls(at, *how) for at, how in enumerate(layers)]
        made = []
        params = {"path": (), "made": made, **({"model": "gpt-4o-nano"} if named else {})}
        await call(wrap(Numbered(), *middlewares), mode, **params)
        total = 1
        for times, _, _ in layers:
            total *= times
        assert len(made) == total
        for at, one in enumerate(middlewares):
            below = 1
            for times, _, _ in layers[at:]:
                below *= times
            parts = [tuple(map(id, attempts)) for attempts, _ in one.seen.values()]
            assert all(len(ids) == below for ids in parts)  # as many as its own inward calls lead to
            assert len({id for ids in parts for id in ids}) == total  # and no attempt is of two passages
            assert all({*ids} == {*map(id, context.attempts_inside(one))} for ids, (_, context)
                       in zip(parts, one.seen.values(), strict=True))  # fmt: skip

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
def test_a_layer_inside_of_the_first_of_two_calls_does_not_see_the_second(mode):
    """Also where it is told only when both are over, and where another model answered the second."""
    seen = []

    async def twice(do_generate, params, context):
        answer = await do_generate(params)
        await do_generate({**params, "model": "gpt-4o-mini"})
        for layer, inside in seen:
            assert len(inside.attempts_inside(layer)) == 1
        return answer

    class Keeps(Middleware):
        metadata = MiddlewareMetadata(id="keeps", priority=10)

        def transform_parts(self, params, context):
            seen.append((self, context))

    model = wrap(Numbered(), middleware("twice", kind="control", priority=50, wrap_generate=twice), Keeps())
    asyncio.run(call(model, mode, path=(), made=[]))
    (_, first), (_, second) = seen
    assert [one.model for one in first.attempts] == ["gpt-4o", "gpt-4o-mini"]
    assert [one.model for one in second.attempts_inside(seen[1][0])] == ["gpt-4o-mini"]


def test_outside_of_a_call_there_is_none():
    assert MiddlewareContext("openai", "gpt-4o").attempts_inside(middleware("x")) == []


def test_one_that_stands_behind_another_gets_those_beside_it_as_well():
    """It is not in the chain itself, as where a middleware hands on to one that it holds."""
    stranger, found = middleware("stranger"), []

    async def asks(do_generate, params, context):
        for _ in range(2):
            answer = await do_generate(params)
            found.append(len(context.attempts_inside(stranger)))
        return answer

    asyncio.run(wrap(Numbered(), middleware("asks", wrap_generate=asks)).generate("x", path=(), made=[]))
    assert found == [1, 2]


@pytest.mark.parametrize("mode", MODES)
def test_an_attempt_that_a_middleware_noted_itself_spoils_nothing(mode):
    """It belongs to the call, and to no passage that came later."""
    found = []

    async def notes(do_generate, params, context):
        context.attempts.append(Attempt("other", "model"))
        return await do_generate(params)

    async def twice(do_generate, params, context):
        await do_generate(params)
        answer = await do_generate(params)
        found.append([one.model for one in context.attempts_inside(outer)])
        return answer

    outer = middleware("twice", kind="control", priority=90, wrap_generate=twice)
    asyncio.run(call(wrap(Numbered(), outer, middleware("notes", wrap_generate=notes)), mode, path=(), made=[]))
    assert found == [["model", "gpt-4o", "model", "gpt-4o"]]

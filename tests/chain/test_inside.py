"""What a middleware learns of the layers inside of it, for keys that must not be shared."""

import asyncio
from typing import Annotated

import pytest
from pydantic import BaseModel, Field, create_model

from neuro_mw import Middleware, MiddlewareContext, MiddlewareFactory, MiddlewareMetadata, NeuroError, middleware
from neuro_mw.testing import ScriptedModel

from .conftest import MODES, call


class Asking(Middleware):
    """Keeps what is inside of it, call by call."""

    metadata = MiddlewareMetadata(id="asking", priority=50)

    def __init__(self):
        super().__init__()
        self.found = []

    async def wrap_generate(self, do_generate, params, context):
        self.found.append(context.inside(self))
        return await do_generate(params)

    async def wrap_stream(self, do_stream, params, context):
        self.found.append(context.inside(self))
        async for part in do_stream(params):
            yield part


class Marked(Middleware):
    metadata = MiddlewareMetadata(id="marked", priority=10)

    class Config(BaseModel):
        mark: str = "a"

    def transform_params(self, params, context):
        return params


def nothing(params, context):
    return params


def found(mode, *inner, config=None, model=None, session=None, options=None, params=None):
    asking = Asking()
    outer = middleware("outer", priority=90, transform_params=nothing)
    factory = MiddlewareFactory(
        preset=None, plugins=False, middleware=[outer, asking, *inner], middleware_config=config
    )
    wrapped = factory.apply_middleware(model or ScriptedModel()).with_context(session=session, options=options)
    asyncio.run(call(wrapped, mode, **(params or {})))
    (only,) = asking.found
    return [one.metadata.id for one in only.middlewares], only.fingerprint


@pytest.mark.parametrize("mode", MODES)
def test_the_layers_inside_and_no_others(mode):
    ids, _ = found(mode, Marked(), middleware("deep", priority=1, transform_params=nothing))
    assert ids == ["marked", "deep"]


def test_both_modes_have_one_fingerprint():
    assert found("generate", Marked()) == found("stream", Marked())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "other",
    [
        {"inner": [Marked(mark="b")]},
        {"inner": []},
        {"inner": [middleware("marked", priority=10, transform_params=nothing)]},
        {"inner": [Marked()], "config": {"marked": {"on_error": "skip"}}},
        {"inner": [Marked()], "config": {"marked": {"conditions": {"providers": ["groq"]}}}},
        {"inner": [Marked()], "config": {"marked": {"conditions": {"modes": ["other"][:0]}}}},
        {"inner": [Marked()], "config": {"marked": {"conditions": {"options": {"tier": "free"}}}}},
        {"inner": [Marked()], "config": {"marked": {"conditions": {"custom": lambda context: False}}}},
        {"inner": [Marked()], "model": MiddlewareFactory().apply_middleware(ScriptedModel())},
    ],
)
def test_what_differs_tells(mode, other):
    inner = other.pop("inner")
    assert found(mode, *inner, **other)[1] != found(mode, Marked())[1]
    other["inner"] = inner


@pytest.mark.parametrize("mode", MODES)
def test_who_calls_does_not_tell(mode):
    assert found(mode, Marked(), session={"user_id": "u1"}) == found(mode, Marked(), session={"user_id": "u2"})


@pytest.mark.parametrize("mode", MODES)
def test_a_condition_that_holds_for_one_user_only_tells(mode):
    def guarded(context):
        return context.session.user_id != "boss"

    config = {"marked": {"conditions": {"custom": guarded}}}
    boss = found(mode, Marked(), config=config, session={"user_id": "boss"})
    other = found(mode, Marked(), config=config, session={"user_id": "u1"})
    assert (boss[0], other[0]) == ([], ["marked"])
    assert boss[1] != other[1]


@pytest.mark.parametrize("mode", MODES)
def test_behind_a_change_of_model(mode):
    ids, changed = found(mode, Marked(), config={"marked": {"conditions": {"models": ["gpt-4o"]}}},
                         params={"model": "gpt-4o-mini"})  # fmt: skip
    assert ids == []
    assert changed != found(mode, Marked())[1]


@pytest.mark.parametrize("mode", MODES)
def test_a_wrapped_model_further_in_tells_its_layers(mode):
    """Also where it lies behind another one: an answer that no guard saw must not be shared with one that has it."""

    def wrapped(*inner):
        factory = MiddlewareFactory(preset=None, plugins=False, middleware=inner)
        return factory.apply_middleware(factory.apply_middleware(ScriptedModel()))

    def twice(model):
        outer = middleware("outer", priority=5, transform_params=nothing)
        return MiddlewareFactory(preset=None, plugins=False, middleware=[outer]).apply_middleware(model)

    plain, marked = twice(wrapped(middleware("a", transform_params=nothing))), twice(wrapped(Marked()))
    assert found(mode, model=plain)[1] != found(mode, model=marked)[1]
    assert found(mode, model=marked)[1] == found(mode, model=twice(wrapped(Marked())))[1]


@pytest.mark.parametrize("mode", MODES)
def test_failures_that_were_passed_over(mode):
    """By the ids of the chain, as they come."""
    seen = []

    class Half(Middleware):
        metadata = MiddlewareMetadata(id="half", priority=20)

        def transform_params(self, params, context):
            context.passed_over(self)
            return params

        def on_end(self, outcome, context):
            seen.append(context.failures_skipped)

    def broken(params, context):
        seen.append(context.failures_skipped)
        raise ValueError

    factory = MiddlewareFactory(preset=None, plugins=False)
    factory.register(Half, id="other_half")
    factory.register(middleware("broken", priority=5, transform_params=broken, on_error="skip"))
    model = factory.apply_middleware(ScriptedModel(), enabled_middleware=["other_half", "broken"])
    response = asyncio.run(call(model, mode))
    assert seen == [{"other_half"}, {"other_half", "broken"}]
    assert response.receipt.layers["other_half"]["failures_skipped"] == 1
    lonely = MiddlewareContext("openai", "gpt-4o")
    lonely.passed_over(Half())
    assert lonely.failures_skipped == {"half"}


def test_outside_of_a_call():
    with pytest.raises(NeuroError, match="not one of a hook"):
        MiddlewareContext("openai", "gpt-4o").inside(Marked())


@pytest.mark.parametrize("mode", MODES)
def test_one_who_is_not_in_the_chain(mode):
    def ask(params, context):
        with pytest.raises(NeuroError, match="not in the chain"):
            context.inside(Marked())
        return params

    found(mode, middleware("stranger", priority=5, transform_params=ask))


@pytest.mark.parametrize("mode", MODES)
def test_what_was_passed_over_is_on_the_receipt(mode):
    async def half(do_generate, params, context):
        context.passed_over(one)
        return await do_generate(params)

    one = middleware("half", wrap_generate=half)
    model = MiddlewareFactory(preset=None, plugins=False, middleware=[one]).apply_middleware(ScriptedModel())
    response = asyncio.run(call(model, mode))
    assert response.receipt.layers["half"]["failures_skipped"] == 1


class Shaped(Middleware):
    metadata = MiddlewareMetadata(id="shaped", priority=10)

    class Config(BaseModel):
        schema_: object = None

    def transform_params(self, params, context):
        return params


TYPES = [
    list[int], list[str], dict[str, int], int | None, int | str, Annotated[int, Field(ge=0)],
    Annotated[int, Field(ge=10)], create_model("M", a=(int, ...)), create_model("M", b=(int, ...)),
]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_types_are_told_apart_by_what_they_ask_for(mode):
    prints = {found(mode, Shaped(schema_=kind))[1] for kind in TYPES}
    assert len(prints) == len(TYPES)
    assert found(mode, Shaped(schema_=list[int]))[1] in prints

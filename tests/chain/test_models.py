"""Rules 11 to 14: isolation of params, wrapping again, changing the model, one answer in both modes."""

import asyncio
import dataclasses
import gc
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from neuro_mw import (
    BadRequest,
    ConfigError,
    Middleware,
    MiddlewareFactory,
    MiddlewareMetadata,
    Response,
    TextDelta,
    middleware,
)
from neuro_mw.testing import ScriptedModel

from .conftest import MODES, call, run, wrap


def test_what_a_hook_does_to_its_params_shows_nowhere_else(ask):
    def spoil(params, context):
        params["temperature"] = 2
        params["messages"].append({"role": "user", "content": "more"})
        params["messages"][0]["content"] = "spoilt"
        return params

    async def retry(do_generate, params, context):
        await do_generate(params)
        return await do_generate(params)

    given = {"messages": [{"role": "user", "content": "hi"}]}
    model = ScriptedModel()
    ask(model, middleware("retry", priority=9, wrap_generate=retry), middleware("spoil", transform_params=spoil),
        prompt=given)  # fmt: skip
    assert given == {"messages": [{"role": "user", "content": "hi"}]}
    first, second = [params for _, params in model.calls]
    assert first == second
    assert len(first["messages"]) == 2


def test_concurrent_calls_share_nothing(mode):
    seen = []

    def transform(params, context):
        context.state(one)["n"] = params["n_th"]
        context.shared["n"] = params["n_th"]
        return params

    def on_end(outcome, context):
        mark = outcome.response.metadata.setdefault("n", len(seen))
        seen.append((context.state(one)["n"], context.shared["n"], mark))

    one = middleware("one", transform_params=transform, on_end=on_end)
    shared = Response(text="the same object for all")
    model = wrap(ScriptedModel(shared, delay_s=0), one)

    async def check():
        return await asyncio.gather(*(call(model, mode, n_th=n) for n in range(50)))

    answers = run(check())
    assert sorted(left for left, _, _ in seen) == list(range(50))
    assert all(left == right for left, right, _ in seen)
    assert len({answer.metadata["n"] for answer in answers}) == 50
    assert shared.metadata == {}


def test_a_second_inward_call_has_fresh_state_and_the_same_shared(ask):
    states, ids = [], set()

    async def retry(do_generate, params, context):
        await do_generate(params)
        return await do_generate(params)

    def transform(params, context):
        states.append((dict(context.state(inner)), dict(context.shared)))
        context.state(inner)["here"] = context.shared["here"] = True
        ids.add(context.request_id)
        return params

    inner = middleware("inner", transform_params=transform)
    outer = middleware("retry", priority=9, wrap_generate=retry,
                       on_end=lambda outcome, context: states.append(len(context.attempts)))  # fmt: skip
    ask(ScriptedModel(), outer, inner)
    assert states == [({}, {}), ({}, {"here": True}), 2]
    assert len(ids) == 1


def test_sent_is_what_reached_the_provider(ask):
    seen = []
    outer = middleware("log", priority=99, on_end=lambda outcome, context: seen.append(context.sent))
    mask = middleware("mask", transform_params=lambda params, context: {**params, "messages": "masked"})
    ask(ScriptedModel(), outer, mask)
    assert seen[0]["messages"] == "masked"


def test_a_wrapped_model_can_be_wrapped_again(ask):
    upper = middleware("upper", transform_parts=lambda params, context: (
        lambda part: TextDelta(part.text.upper()) if isinstance(part, TextDelta) else part))  # fmt: skip
    mark = middleware("mark", transform_parts=lambda params, context: (
        lambda part: TextDelta(part.text + ".") if isinstance(part, TextDelta) else part))  # fmt: skip
    inner = wrap(ScriptedModel("abc", cuts=(99,)), upper)
    response = ask(inner, mark)
    assert response.text == "ABC."
    assert list(response.receipt.layers) == ["mark"]


@pytest.mark.parametrize("n", [2, 0, "3"])
def test_several_choices_are_refused(ask, n):
    model = ScriptedModel()
    with pytest.raises(BadRequest, match="n="):
        ask(model, middleware("a", transform_params=lambda params, context: params), n=n)
    assert not model.calls
    late = middleware("late", transform_params=lambda params, context: {**params, "n": n})
    with pytest.raises(BadRequest):
        ask(model, late)
    assert not model.calls


# --- rule 13 -----------------------------------------------------------------------------------------------------


def tagging(id, priority=0, kind="transform"):
    return middleware(id, priority=priority, kind=kind, transform_params=lambda params, context: {
        **params, "tags": [*params.get("tags", ()), f"{id}:{context.model}"]})  # fmt: skip


def to_model(name, id="router", priority=50):
    return middleware(id, priority=priority, transform_params=lambda params, context: {**params, "model": name})


def to_model_wrap(name):
    async def wrap_generate(do_generate, params, context):
        return await do_generate({**params, "model": name})

    async def wrap_stream(do_stream, params, context):
        async for part in do_stream({**params, "model": name}):
            yield part

    return middleware("router", priority=50, wrap_generate=wrap_generate, wrap_stream=wrap_stream)


CONFIG = {
    "old": {"conditions": {"models": ["gpt-4o"]}},
    "new": {"conditions": {"models": ["gpt-5*"]}},
    "high": {"conditions": {"models": ["gpt-5*"]}},
}


@pytest.mark.parametrize("router", [to_model("gpt-5-mini"), to_model_wrap("gpt-5-mini"), to_model("openai/gpt-5-mini")])
def test_a_change_of_model_decides_the_inner_chain_anew(mode, router):
    layers = [tagging("high", 99), tagging("outside", 60), router, tagging("old", 10), tagging("new", 20),
              tagging("always", 5)]  # fmt: skip
    model = ScriptedModel()
    wrapped = wrap(model, *layers, middleware_config=CONFIG)
    assert wrapped.chain == ("outside", "router", "old", "always")
    response = run(call(wrapped, mode))
    (params,) = [params for _, params in model.calls]
    assert params["model"] == "gpt-5-mini"
    assert params["tags"] == ["outside:gpt-4o", "high:gpt-5-mini", "new:gpt-5-mini", "always:gpt-5-mini"]
    receipt = response.receipt.layers
    assert receipt["high"]["ran"] == receipt["new"]["ran"] == 1
    assert receipt["old"]["ran"] == 0


def test_the_callers_params_may_change_the_model(mode):
    model = ScriptedModel()
    config = {id: CONFIG[id] for id in ("old", "new")}
    wrapped = wrap(model, tagging("old"), tagging("new"), middleware_config=config)
    run(call(wrapped, mode, model="gpt-5"))
    assert model.calls[0][1]["tags"] == ["new:gpt-5"]


def test_naming_the_same_model_changes_nothing(mode):
    model = ScriptedModel()
    wrapped = wrap(model, tagging("a"))
    for name in ("gpt-4o", "openai/gpt-4o"):
        run(call(wrapped, mode, model=name))
    assert [(params["model"], params["tags"]) for _, params in model.calls] == [("gpt-4o", ["a:gpt-4o"])] * 2


def test_a_model_id_with_slashes_stays_with_the_provider(mode):
    model = ScriptedModel()
    run(call(wrap(model, tagging("a")), mode, model="meta-llama/Llama-3-8b"))
    assert model.calls[0][1]["model"] == "meta-llama/Llama-3-8b"


def test_another_provider_is_resolved_and_no_guard_is_lost(mode):
    model = ScriptedModel()
    config = {"guard": {"conditions": {"providers": ["echo"]}}}
    wrapped = wrap(model, to_model("echo/echo"), tagging("guard", 90, "guard"), middleware_config=config)
    response = run(call(wrapped, mode, "say this"))
    assert response.text == "say this"
    assert response.receipt.layers["guard"]["ran"] == 1
    assert not model.calls


def test_a_guard_for_another_model_keeps_the_wrapper():
    """Rule 5 gives the object back where nothing applies; with a guard waiting for another model that would lose it."""
    model = ScriptedModel()
    wrapped = wrap(model, tagging("new", kind="guard"), middleware_config={"new": CONFIG["new"]})
    assert wrapped is not model
    for mode in MODES:
        run(call(wrapped, mode, model="gpt-5"))
    assert [params["tags"] for _, params in model.calls] == [["new:gpt-5"]] * 2


def test_an_unknown_provider_in_params_is_the_same_provider_and_a_wrong_model_type_is_refused(mode):
    wrapped = wrap(ScriptedModel(), tagging("a"))
    with pytest.raises((ConfigError, BadRequest)):
        run(call(wrapped, mode, model=5))


def test_custom_conditions_are_decided_again_for_another_model(mode):
    asked = []

    def custom(context):
        asked.append(context.model)
        return context.model == "gpt-5"

    model = ScriptedModel()
    wrapped = wrap(model, to_model("gpt-5"), tagging("a"), middleware_config={"a": {"conditions": {"custom": custom}}})
    run(call(wrapped, mode))
    assert asked == ["gpt-4o", "gpt-5"]
    assert model.calls[0][1]["tags"] == ["a:gpt-5"]


def test_fallback_written_by_hand_in_a_stream(mode):
    class Fallback(Middleware):
        metadata = MiddlewareMetadata(id="fallback", priority=50)

        async def wrap_generate(self, do_generate, params, context):
            try:
                return await do_generate(params)
            except RuntimeError:
                return await do_generate({**params, "model": "gpt-5"})

        async def wrap_stream(self, do_stream, params, context):
            started = False
            try:
                async for part in do_stream(params):
                    started = True
                    yield part
            except RuntimeError:
                if started:
                    raise
                async for part in do_stream({**params, "model": "gpt-5"}):
                    yield part

    attempts = []
    model = ScriptedModel(errors=[RuntimeError("down")])
    tap = middleware("tap", priority=99, on_end=lambda outcome, context: attempts.extend(context.attempts))
    wrapped = wrap(model, Fallback(), tagging("new"), tap, middleware_config={"new": CONFIG["new"]})
    response = run(call(wrapped, mode))
    assert response.text == "hello"
    assert model.calls[1][1]["tags"] == ["new:gpt-5"]
    assert [(one.model, type(one.error), one.committed) for one in attempts] == [
        ("gpt-4o", RuntimeError, False), ("gpt-5", type(None), True)]  # fmt: skip


def test_sub_chains_are_cached_and_bounded():
    model = ScriptedModel()
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[tagging("a")])
    wrapped = factory.apply_middleware(model)

    async def check():
        for number in range(300):
            await wrapped.generate("x", model=f"m{number}")

    run(check())
    gc.collect()
    chains = [one for one in gc.get_objects() if type(one).__name__ == "Chain" and one.model is model]
    assert 1 < len(chains) < 200


# --- rule 14 -----------------------------------------------------------------------------------------------------


@given(
    text=st.text("ab .", max_size=20),
    reasoning=st.text("r", max_size=5),
    cuts=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    held=st.integers(0, 5),
)
def test_a_stream_collects_to_what_generate_gives(text, reasoning, cuts, held):
    class Window(Middleware):
        """Holds back the last characters of the text."""

        metadata = MiddlewareMetadata(id="window")

        def transform_parts(self, params, context):
            class Step:
                kept = ""

                def feed(self, part):
                    if not isinstance(part, TextDelta):
                        return part
                    self.kept += part.text
                    cut = max(0, len(self.kept) - held)
                    out, self.kept = self.kept[:cut], self.kept[cut:]
                    return TextDelta(out) if out else None

                def finish(self):
                    return [TextDelta(self.kept)] if self.kept else []

                def abort(self):
                    self.kept = ""

            return Step()

    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[Window()])
    answers = []
    for mode in MODES:
        model = ScriptedModel(Response(text=text, reasoning=reasoning), cuts=cuts)
        response = run(call(factory.apply_middleware(model), mode))
        answers.append(response)
        assert response.receipt.layers["window"]["changed_answer"] is False
    assert answers[0] == answers[1]
    assert answers[0].text == text
    assert factory.registry.get_aggregated_stats()["window"].held_back_max <= max(len(text), held + 6)


@pytest.mark.parametrize("name", ["messages", "model", "n", "stream"])
def test_an_extra_body_cannot_go_round_the_layers(ask, name):
    body = {"extra_body": {name: "x"}}
    with pytest.raises(BadRequest, match=f"extra_body holds '{name}', which no layer would see"):
        ask(ScriptedModel(), middleware("any", on_end=lambda outcome, context: None), **body)
    late = middleware("late", transform_params=lambda params, context: {**params, **body})
    with pytest.raises(BadRequest, match=f"extra_body holds '{name}'"):
        ask(ScriptedModel(), late)


def test_messages_of_an_sdk_are_plain_for_every_layer(ask):
    class Said(BaseModel):
        role: str = "user"
        content: object = "hi"
        name: str | None = None

    @dataclasses.dataclass
    class Part:
        type: str = "text"
        text: str = "hello"

    seen = []
    messages = [Said(), Said(content=[Part(), {"type": "text", "text": "x"}]), {"role": "user", "content": (Part(),)},
                MappingProxyType({"role": "user", "content": "y"})]  # fmt: skip
    look = middleware("look", transform_params=lambda params, context: seen.append(params["messages"]) or params)
    model = ScriptedModel()
    ask(model, look, prompt={"messages": messages})
    part = {"type": "text", "text": "hello"}
    assert seen[0] == [
        {"role": "user", "content": "hi"},
        {"role": "user", "content": [part, {"type": "text", "text": "x"}]},
        {"role": "user", "content": [part]},
        {"role": "user", "content": "y"},
    ]
    assert model.calls[0][1]["messages"] == seen[0]

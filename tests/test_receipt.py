"""The receipt: what every layer did to a call, without a word of its text."""

import copy
import gc
import json
import pickle

import pytest
from pydantic import BaseModel

from neuro_mw import (
    Block,
    Blocked,
    Finish,
    Middleware,
    MiddlewareFactory,
    MiddlewareMetadata,
    Receipt,
    Response,
    TextDelta,
    middleware,
)
from neuro_mw.builtin import Analytics
from neuro_mw.testing import ScriptedModel

from .chain.conftest import MODES, call, run

SECRET = "swordfish"


def factory_of(*middlewares, **options):
    return MiddlewareFactory(preset=None, plugins=False, middleware=list(middlewares), **options)


def receipt_of(mode, *middlewares, model=None, prompt="hi", **options) -> Receipt:
    wrapped = factory_of(*middlewares, **options).apply_middleware(model or ScriptedModel())
    return run(call(wrapped, mode, prompt)).receipt


async def passing(do_generate, params, context):
    return await do_generate(params)


async def short(do_generate, params, context):
    return Response(text="short")


async def twice(do_generate, params, context):
    await do_generate(params)
    return await do_generate(params)


def refuse(params, context):
    raise Blocked("no", category="secrets")


def warm(params, context):
    return {**params, "temperature": 0.1}


def shout(params, context):
    return lambda part: TextDelta(part.text.upper()) if isinstance(part, TextDelta) else part


def broken(outcome, context):
    raise ValueError("mine")


@pytest.mark.parametrize("mode", MODES)
class TestWhatItSays:
    def test_every_layer_outermost_first(self, mode):
        receipt = receipt_of(
            mode, middleware("inner", wrap_generate=passing), middleware("outer", priority=5, transform_parts=shout),
            middleware("mid", priority=2, transform_params=warm),
        )  # fmt: skip
        assert list(receipt.layers)[:3] == ["outer", "mid", "inner"]
        assert {id: receipt.layers[id]["status"] for id in ("outer", "mid", "inner")} == dict.fromkeys(
            ("outer", "mid", "inner"), "completed"
        )
        assert receipt.layers["mid"]["changed_request"] is True
        assert receipt.layers["mid"]["changed_answer"] is False
        assert receipt.layers["outer"]["changed_request"] is False
        assert receipt.layers["outer"]["changed_answer"] is True
        assert receipt.layers["inner"]["ran"] == 1
        assert receipt.layers["inner"]["self_time"] > 0

    def test_short_circuited_and_not_reached(self, mode):
        receipt = receipt_of(
            mode, middleware("cut", priority=5, wrap_generate=short), middleware("in", transform_params=warm)
        )
        assert receipt.layers["cut"]["status"] == "short_circuited"
        assert receipt.layers["in"] == {"status": "skipped", "reason": "not reached", "ran": 0}

    def test_blocked(self, mode):
        receipt = receipt_of(
            mode, middleware("out", priority=5, wrap_generate=passing), middleware("guard", transform_params=refuse)
        )
        assert receipt.layers["guard"]["status"] == "blocked"
        assert receipt.layers["out"]["status"] == "blocked"

    def test_ran_twice(self, mode):
        receipt = receipt_of(
            mode, middleware("twice", priority=5, wrap_generate=twice), middleware("in", transform_params=warm)
        )
        assert (receipt.layers["twice"]["ran"], receipt.layers["in"]["ran"]) == (1, 2)

    def test_failures_that_were_skipped(self, mode):
        receipt = receipt_of(mode, middleware("watch", kind="observer", on_end=broken))
        assert (receipt.layers["watch"]["status"], receipt.layers["watch"]["failures_skipped"]) == ("completed", 1)

    def test_why_layers_were_left_out(self, mode):
        other = MODES[1 - MODES.index(mode)]
        conditions = {
            "provider": {"providers": ["azure"]}, "model": {"models": ["claude*"]}, "option": {"options": {"a": 1}},
            "mode": {"modes": [other]}, "custom": {"custom": lambda context: False},
        }  # fmt: skip
        layers = [middleware(id, transform_params=warm) for id in conditions]
        receipt = receipt_of(
            mode, *layers, middleware("on", transform_params=warm), middleware("off", transform_params=warm),
            middleware_config={id: {"conditions": one} for id, one in conditions.items()}, disabled_middleware=["off"],
        )  # fmt: skip
        reasons = {id: layer["reason"] for id, layer in receipt.layers.items() if layer["status"] == "skipped"}
        assert reasons["provider"] == "provider 'openai' does not match ['azure']"
        assert reasons["model"] == "model 'gpt-4o' does not match ['claude*']"
        assert "'a' is not set" in reasons["option"]
        assert repr(other) in reasons["mode"] or mode in reasons["mode"]
        assert "custom condition does not hold" in reasons["custom"]
        assert "off" not in receipt.layers, "what is not on is no layer"
        assert receipt.layers["on"]["status"] == "completed"

    def test_plain_data(self, mode):
        receipt = receipt_of(mode, middleware("a", transform_params=warm))
        data = json.loads(json.dumps(receipt.to_dict()))
        assert data["request_id"].startswith("openai-")
        assert data["chain"] == receipt.chain
        assert data["layers"][0]["id"] == "a"
        assert "a" in repr(receipt)
        assert receipt.layers is receipt.layers

    def test_one_request_id_everywhere(self, mode):
        seen = []
        tap = middleware("tap", on_end=lambda outcome, context: seen.append(context.request_id))
        assert [receipt_of(mode, tap).request_id] == seen

    def test_without_any_layer(self, mode):
        model = MiddlewareFactory(preset=None, plugins=False).apply_middleware("echo/echo")
        receipt = run(call(model, mode)).receipt
        assert {layer["status"] for layer in receipt.layers.values()} <= {"skipped"}

    def test_no_layer_sees_one(self, mode):
        seen = []
        tap = middleware("tap", on_end=lambda outcome, context: seen.append(outcome.response.receipt))
        receipt_of(mode, tap)
        assert seen == [None]

    # --- no text -----------------------------------------------------------------------------------------------------

    def test_it_never_holds_text(self, mode):
        def fail(outcome, context):
            raise ValueError(SECRET)

        receipt = receipt_of(
            mode, middleware("watch", kind="observer", on_end=fail), middleware("up", transform_parts=shout),
            model=ScriptedModel(f"the {SECRET} answer"), prompt=f"the {SECRET} question",
        )  # fmt: skip
        assert SECRET not in json.dumps(receipt.to_dict()).lower()
        assert SECRET not in repr(receipt).lower()

    def test_it_holds_no_text_in_hidden_places(self, mode):
        """A receipt that is kept must not keep the prompt alive."""
        question = f"the {SECRET} question, {id(self)}"
        model = factory_of(middleware("warm", transform_params=warm)).apply_middleware("echo/echo")
        receipt = run(call(model, mode, question)).receipt
        assert receipt.layers["warm"]["changed_request"] is True
        seen, todo = set(), [receipt]
        while todo:
            one = todo.pop()
            if id(one) in seen or isinstance(one, type) or type(one).__name__ in ("module", "function"):
                continue
            seen.add(id(one))
            assert not (isinstance(one, str) and SECRET in one and one == question)
            todo += gc.get_referents(one)

    def test_a_response_with_its_receipt_can_be_copied_and_pickled(self, mode):
        model = factory_of(middleware("warm", transform_params=warm)).apply_middleware(ScriptedModel(SECRET))
        response = run(call(model, mode, SECRET))
        for again in (copy.copy(response), copy.deepcopy(response), pickle.loads(pickle.dumps(response))):
            assert again == response
            assert again.receipt.to_dict() == response.receipt.to_dict()
        assert SECRET.encode() not in pickle.dumps(response.receipt)


def test_a_streams_receipt_is_there_at_its_end():
    model = factory_of(middleware("warm", transform_params=warm)).apply_middleware(ScriptedModel())

    async def check():
        stream = model.stream("hi")
        async for part in stream:
            if isinstance(part, Finish):
                break
        return (await stream.response()).receipt

    assert run(check()).layers["warm"]["status"] == "completed"


def test_a_block_by_hand_has_one():
    async def by_hand(do_generate, params, context):
        return Response(blocked=Block("hand", "x"), finish_reason="content_filter")

    assert receipt_of("generate", middleware("hand", wrap_generate=by_hand)).layers["hand"]["status"] == "blocked"


# --- the fingerprint -------------------------------------------------------------------------------------------------


class Sized(Middleware):
    metadata = MiddlewareMetadata(id="sized")

    class Config(BaseModel):
        size: int = 1
        table: dict = {}

    def transform_params(self, params, context):
        return params


def fingerprint(*middlewares, mode="generate", **options) -> str:
    return receipt_of(mode, *middlewares, **options).chain


def test_the_fingerprint_stays_over_calls_modes_and_factories():
    a, b = middleware("a", transform_params=warm, priority=1), middleware("b", transform_params=warm)
    prints = {fingerprint(a, b, mode=mode) for mode in MODES for _ in range(2)}
    assert len(prints) == 1
    model = factory_of(a, b).apply_middleware(ScriptedModel())
    prints |= {run(call(model, mode, prompt)).receipt.chain for mode in MODES for prompt in ("x", "y")}
    assert len(prints) == 1


def test_it_changes_with_id_order_and_config():
    a, b = middleware("a", transform_params=warm), middleware("b", transform_params=warm)
    first = fingerprint(a, b)
    sized = {"sized": {"config": {"size": 2}}}
    others = [
        fingerprint(b, a), fingerprint(a), fingerprint(a, middleware("c", transform_params=warm)),
        fingerprint(a, b, Sized), fingerprint(a, b, Sized, middleware_config=sized),
    ]  # fmt: skip
    assert len({first, *others}) == 6


def test_it_changes_with_the_config_of_an_instance():
    assert fingerprint(Sized(size=1)) != fingerprint(Sized(size=2))
    assert fingerprint(Analytics(max_records=1)) != fingerprint(Analytics(max_records=2))


def test_it_is_that_of_the_effective_config():
    """A default that is written out is the same chain."""
    assert fingerprint(Sized) == fingerprint(Sized, middleware_config={"sized": {"config": {"size": 1}}})


@pytest.mark.parametrize("table", [{1: "a", "b": 2}, {(1, 2): "a"}, {"x": {3, 4}}, {"x": object}], ids=repr)
def test_any_config_has_a_fingerprint(table):
    assert fingerprint(Sized, middleware_config={"sized": {"config": {"table": table}}})

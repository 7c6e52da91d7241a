"""A middleware that has nothing to do for now is not in the way of calls, and the user can see that."""

import asyncio

import pytest

from neuro_mw import Middleware, MiddlewareMetadata
from neuro_mw.testing import ScriptedModel

from .conftest import MODES, call, wrap


class Sleepy(Middleware):
    """Marks the text, but where it sleeps."""

    metadata = MiddlewareMetadata(id="sleepy", kind="guard")

    def __init__(self, why=None, error=None):
        super().__init__()
        self.why, self.error = why, error

    def idle(self):
        if self.error is not None:
            raise self.error
        return self.why

    async def wrap_generate(self, do_generate, params, context):
        response = await do_generate(params)
        response.text = f"<{response.text}>"
        return response


@pytest.mark.parametrize("mode", MODES)
def test_an_idle_one_is_passed_by_and_the_receipt_says_why(mode):
    sleepy = Sleepy("nobody listens")
    model = wrap(ScriptedModel("hello"), sleepy)
    response = asyncio.run(call(model, mode))
    assert response.text == "hello"
    assert response.receipt.layers["sleepy"]["ran"] == 0
    assert response.receipt.layers["sleepy"]["reason"] == "nobody listens"
    assert model.stats().results["sleepy"].applied
    assert "passed by for now: nobody listens" in model.explain()["sleepy"].reason
    sleepy.why = None
    response = asyncio.run(call(model, mode))
    assert response.text == "<hello>"
    assert response.receipt.layers["sleepy"]["ran"] == 1
    assert "passed by" not in model.explain()["sleepy"].reason
    sleepy.why = "asleep"
    assert asyncio.run(call(model, mode)).text == "hello"


@pytest.mark.parametrize("mode", MODES)
def test_one_that_cannot_say_runs(mode, caplog):
    sleepy = Sleepy(error=ValueError("a secret"))
    model = wrap(ScriptedModel("hello"), sleepy)
    assert asyncio.run(call(model, mode)).text == "<hello>"
    assert "'sleepy' failed in idle (ValueError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("holds", [True, False])
def test_beside_a_custom_condition(mode, holds):
    """It is not asked for the condition of an idle one."""
    asked = []

    def custom(context):
        asked.append(context.mode)
        return holds

    sleepy = Sleepy("asleep")
    model = wrap(ScriptedModel("hello"), sleepy, middleware_config={"sleepy": {"conditions": {"custom": custom}}})
    assert asyncio.run(call(model, mode)).text == "hello"
    assert asked == []
    sleepy.why = None
    assert asyncio.run(call(model, mode)).text == ("<hello>" if holds else "hello")
    assert asked == [mode]


@pytest.mark.parametrize("mode", MODES)
def test_behind_a_change_of_model(mode):
    sleepy = Sleepy("asleep")
    model = wrap(ScriptedModel("hello"), sleepy)
    assert asyncio.run(call(model, mode, model="another")).text == "hello"
    sleepy.why = None
    assert asyncio.run(call(model, mode, model="another")).text == "<hello>"


def test_calls_at_once_each_go_by_what_held_when_they_began():
    async def main():
        sleepy = Sleepy("asleep")
        model = wrap(ScriptedModel("hello", delay_s=0.01), sleepy)
        first = asyncio.create_task(model.generate("x"))
        await asyncio.sleep(0)
        sleepy.why = None
        second = asyncio.create_task(model.generate("x"))
        await asyncio.sleep(0)
        sleepy.why = "asleep"
        return [(await one).text for one in (first, second)]

    assert asyncio.run(main()) == ["hello", "<hello>"]

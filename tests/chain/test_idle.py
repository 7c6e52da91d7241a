"""A middleware that has nothing to do for now is not in the way of calls, and the user can see that."""

import asyncio

import pytest

from neuro_mw import Blocked, Middleware, MiddlewareFactory, MiddlewareMetadata, RegistrationError, middleware
from neuro_mw.builtin.cache import Cache
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
@pytest.mark.parametrize("error", [ValueError("a secret"), asyncio.CancelledError()])
def test_that_it_cannot_say_is_on_the_receipt(mode, error):
    sleepy = Sleepy(error=error)
    model = wrap(ScriptedModel("hello"), sleepy)
    response = asyncio.run(call(model, mode))
    assert response.text == "<hello>"
    assert response.receipt.layers["sleepy"]["failures_skipped"] == 1
    assert sleepy.tally.counts() == {}


def test_explain_says_that_it_cannot_say_and_counts_nothing():
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[Sleepy(error=ValueError("a secret"))])
    model = factory.apply_middleware(ScriptedModel())
    assert model.explain()["sleepy"].reason.endswith("could not say whether it is idle (ValueError)")
    assert "sleepy" not in factory.registry.get_aggregated_stats()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("said", [False, True, "", 0, [], "coroutine"])
def test_what_is_no_reason_takes_no_guard_out(mode, said, caplog):
    async def nothing():
        return None

    class Odd(Sleepy):
        def idle(self):
            return nothing() if said == "coroutine" else said

        wrap_generate = Sleepy.wrap_generate  # of the class that says it

    response = asyncio.run(call(wrap(ScriptedModel("hello"), Odd()), mode))
    assert response.text == "<hello>"
    assert response.receipt.layers["sleepy"]["failures_skipped"] == 1
    assert "failed in idle (MiddlewareError" in caplog.text


def odd_idle(value):
    made = Sleepy()
    made.idle = value
    return made


async def later():
    return None


@pytest.mark.parametrize("odd", [30, later, lambda context: None])
def test_what_is_no_plain_method_is_refused(odd):
    with pytest.raises(RegistrationError, match=r"'sleepy'.*idle"):
        wrap(ScriptedModel(), odd_idle(odd))


@pytest.mark.parametrize("mode", MODES)
def test_a_later_class_with_hooks_of_its_own_is_not_taken_out_by_what_an_earlier_one_says(mode):
    class Guard(Sleepy):
        def transform_params(self, params, context):
            raise Blocked("no")

    assert asyncio.run(call(wrap(ScriptedModel("hello"), Guard("asleep")), mode)).blocked is not None

    class Same(Sleepy):
        extra = 1

    assert asyncio.run(call(wrap(ScriptedModel("hello"), Same("asleep")), mode)).text == "hello"

    hooked = Sleepy("asleep")
    hooked.transform_params = lambda params, context: {**params, "seed": 1}
    assert asyncio.run(call(wrap(ScriptedModel("hello"), hooked), mode)).text == "<hello>"


@pytest.mark.parametrize("mode", MODES)
def test_it_is_asked_once_in_a_call(mode):
    """So that a guard that ran before is there after a change of model as well."""
    sleepy = Sleepy()

    async def again(do_generate, params, context):
        await do_generate(params)
        sleepy.why = "asleep now"
        return await do_generate({**params, "model": "another"})

    model = wrap(ScriptedModel("hello"), middleware("again", kind="control", priority=50, wrap_generate=again), sleepy)
    assert asyncio.run(call(model, mode)).text == "<hello>"
    assert asyncio.run(call(model, mode)).text == "hello"


@pytest.mark.parametrize("mode", MODES)
def test_a_cache_shares_nothing_over_a_model_whose_guard_may_be_idle(mode):
    """What was answered while it was would be served when it is not."""
    sleepy = Sleepy("asleep")
    model = wrap(wrap(ScriptedModel("hello"), sleepy), Cache())
    assert asyncio.run(call(model, mode)).text == "hello"
    sleepy.why = None
    assert asyncio.run(call(model, mode)).text == "<hello>"


@pytest.mark.parametrize("mode", MODES)
def test_a_layer_that_is_not_for_this_mode_is_not_asked(mode):
    other = "stream" if mode == "generate" else "generate"
    sleepy = Sleepy(error=ValueError())
    model = wrap(ScriptedModel("hello"), sleepy, middleware_config={"sleepy": {"conditions": {"modes": [other]}}})
    response = asyncio.run(call(model, mode))
    assert "mode" in response.receipt.layers["sleepy"]["reason"]
    assert response.receipt.layers["sleepy"].get("failures_skipped", 0) == 0


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

"""A model asked by a middleware itself: past all layers, bounded in time, and accounted for apart."""

import asyncio
import time

import pytest

from neuro_mw import (
    ConfigError,
    Middleware,
    MiddlewareContext,
    MiddlewareFactory,
    MiddlewareMetadata,
    NeuroError,
    ProviderTimeout,
    ProviderUnavailable,
    Response,
    Usage,
    middleware,
)
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel

from .conftest import call, run, wrap


class Asking(Middleware):
    """Asks before the model is called, and keeps what it was told and what was counted."""

    metadata = MiddlewareMetadata(id="asking", priority=10)

    def __init__(self, prompt="is it?", **how):
        super().__init__()
        self.prompt, self.how, self.told, self.asked = prompt, how, [], []

    async def transform_params(self, params, context):
        self.told.append(await context.ask(self.prompt, **self.how))
        return params

    def on_end(self, outcome, context):
        self.asked = context.asked


def down():
    return ProviderUnavailable("down", provider="openai", model="gpt-4o", retryable=True, retry_after=0.0)


def test_no_layer_is_round_it(ask, mode):
    seen = []


    def around(name, priority):
        return middleware(name, priority=priority, transform_params=lambda params, ctx: seen.append(name) or params)

    model, asking = ScriptedModel("yes"), Asking()
    assert ask(model, asking, around("outside", 20), around("inside", 5)).text == "yes"
    assert seen == ["outside", "inside"]
    assert [how for how, _ in model.calls] == ["generate", mode]
    assert model.calls[0][1] == {"messages": [{"role": "user", "content": "is it?"}]}
    assert asking.told[0].text == "yes"


def test_it_is_no_attempt_and_not_what_was_sent(ask):
    attempts, sent = [], []
    last = middleware("last", on_end=lambda outcome, ctx: (attempts.extend(ctx.attempts), sent.append(ctx.sent)))
    asking = Asking()
    ask(ScriptedModel(Response(text="yes", usage=Usage(3, 1))), asking, last)
    assert len(attempts) == 1
    assert sent[0]["messages"][0]["content"] == "hi"
    (one,) = asking.asked
    assert (one.provider, one.model, one.usage) == ("openai", "gpt-4o", Usage(3, 1))
    assert (one.error, one.committed) == (None, True)
    assert one.duration >= 0


@pytest.mark.parametrize(
    ("name", "provider", "model", "told"),
    [
        (None, "openai", "gpt-4o", None),
        ("openai/gpt-4o", "openai", "gpt-4o", None),
        ("gpt-4o-mini", "openai", "gpt-4o-mini", "gpt-4o-mini"),
        ("openai/gpt-4o-mini", "openai", "gpt-4o-mini", "gpt-4o-mini"),
        ("echo/echo", "echo", "echo", None),
    ],
)
def test_which_model_is_asked(name, provider, model, told):
    scripted, asking = ScriptedModel("yes"), Asking(model=name)
    run(wrap(scripted, asking).generate("hi"))
    assert (asking.asked[0].provider, asking.asked[0].model) == (provider, model)
    assert len(scripted.calls) == (1 if provider == "echo" else 2)
    assert asking.told[0].text == ("is it?" if provider == "echo" else "yes")
    if provider == "openai":
        assert scripted.calls[0][1].get("model") == told


def test_the_model_of_a_changed_call_is_the_default():
    asking = Asking()
    elsewhere = middleware("other", priority=20, transform_params=lambda params, ctx: {**params, "model": "echo/echo"})
    scripted = ScriptedModel("yes")
    run(wrap(scripted, elsewhere, asking).generate("hi"))
    assert asking.told[0].text == "is it?"
    assert not scripted.calls


def test_a_limit_in_time():
    asking = Asking(timeout_s=0.05)
    started = time.monotonic()
    with pytest.raises(ProviderTimeout, match=r"openai/gpt-4o did not answer within 0.05 s") as caught:
        run(wrap(ScriptedModel("yes", delay_s=30), asking).generate("hi"))
    assert time.monotonic() - started < 10
    assert caught.value.retryable
    assert isinstance(asking.asked[0].error, asyncio.CancelledError)


def test_tries_again_where_that_may_help():
    asking = Asking(retries=2)
    assert run(wrap(ScriptedModel("yes", errors=[down(), down()]), asking).generate("hi")).text == "yes"
    assert [type(one.error) for one in asking.asked] == [ProviderUnavailable, ProviderUnavailable, type(None)]
    with pytest.raises(ProviderUnavailable):
        run(wrap(ScriptedModel("yes", errors=[down(), down()]), Asking(retries=1)).generate("hi"))
    with pytest.raises(ZeroDivisionError):  # not one that may pass
        run(wrap(ScriptedModel("yes", errors=[ZeroDivisionError(), None]), Asking(retries=1)).generate("hi"))


def test_the_request_is_copied():
    request = {"messages": [{"role": "user", "content": "a"}]}

    class Writing(ScriptedModel):
        async def generate(self, params):
            params["messages"][0]["content"] = "b"
            return await super().generate(params)

    run(wrap(Writing("yes"), Asking(prompt=request)).generate("hi"))
    assert request == {"messages": [{"role": "user", "content": "a"}]}


def test_outside_of_a_call():
    with pytest.raises(NeuroError, match="within a call"):
        run(MiddlewareContext("openai", "gpt-4o").ask("x"))


def test_what_is_asked_is_checked_before_any_call():
    class Declares(Asking):
        asks = {"judge.model": "opnai/gpt-4o"}

    for make in (
        lambda: MiddlewareFactory(preset=None, middleware=[Declares()]),
        lambda: wrap(ScriptedModel(), Declares()),
    ):
        with pytest.raises(ConfigError, match="opnai") as caught:
            make()
        assert (caught.value.key, caught.value.nearest) == ("middleware.asking.config.judge.model", "openai")


def test_concurrent_calls_do_not_mix():
    async def main():
        asking = Asking()
        model = wrap(ScriptedModel("yes", delay_s=0.001), asking)
        await asyncio.gather(*(call(model, mode) for mode in ("generate", "stream") * 20))
        return asking

    assert len(run(main()).told) == 40


@pytest.mark.parametrize(
    ("prompt", "how"),
    [(None, {}), (5, {}), ("x", {"model": 5}), ("x", {"model": ""}), ("x", {"timeout_s": 0}), ("x", {"retries": -1}),
     ("x", {"timeout_s": "1"}), ("x", {"timeout_s": True}), ("x", {"retries": "1"}), ("x", {"retries": 1.5}),
     ("x", {"retries": None}), ({"model": "o1-pro", "messages": []}, {})],
)
def test_arguments_that_make_no_sense(prompt, how):
    with pytest.raises(ConfigError, match=r"^ask\("):
        run(wrap(ScriptedModel(), Asking(prompt=prompt, **how)).generate("hi"))


def test_the_callers_own_address_and_key_hold(ask):
    own = {"base_url": "http://127.0.0.1:1/v1", "api_key": "k", "temperature": 0.5}
    scripted = ScriptedModel("yes")
    ask(scripted, Asking(), **own)
    told = scripted.calls[0][1]
    assert (told["base_url"], told["api_key"]) == (own["base_url"], "k")
    assert "temperature" not in told
    elsewhere = Asking(model="echo/echo")
    ask(ScriptedModel(), elsewhere, **own)
    assert elsewhere.told[0].text == "is it?", "keys go to their own provider only"


class Hearing(Middleware):
    """Is told of questions."""

    metadata = MiddlewareMetadata(id="hearing", priority=5)

    def __init__(self, does=None):
        super().__init__()
        self.does, self.told = does, []

    async def on_asked(self, attempt, context):
        self.told.append((attempt.model, type(attempt.error).__name__, attempt.usage.input_tokens))
        if self.does is not None:
            await self.does()

    def transform_params(self, params, context):
        return params


def test_each_try_is_told_and_given(ask, mode):
    """Also those that failed; to a plain method as well."""
    hearing, tries = Hearing(), []
    model = FaultyModel([Response(text="yes", usage=Usage(3, 1))], faults=[Fault(0, down())])
    ask(model, Asking(retries=1, tries=tries), hearing)
    assert hearing.told == [("gpt-4o", "ProviderUnavailable", None), ("gpt-4o", "NoneType", 3)]
    assert [type(one.error).__name__ for one in tries] == ["ProviderUnavailable", "NoneType"]

    class Plain(Hearing):
        def on_asked(self, attempt, context):
            self.told.append(attempt.model)

    plain = Plain()
    ask(ScriptedModel("yes"), Asking(), plain)
    assert plain.told == ["gpt-4o"]


@pytest.mark.parametrize("does", ["raises", "hangs", "cancels"])
def test_who_is_told_harms_nobody(ask, mode, does, caplog):
    async def raises():
        raise ValueError("a secret")

    async def hangs():
        await asyncio.sleep(60)

    async def cancels():
        raise asyncio.CancelledError

    hearing = Hearing(locals()[does])
    response = ask(ScriptedModel("yes"), Asking(timeout_s=0.5), hearing, config={"hearing": {"timeout_s": 0.02}})
    assert response.text == "yes"
    assert len(hearing.told) == 1
    assert "'hearing' failed in on_asked" in caplog.text
    assert "secret" not in caplog.text


def test_what_it_takes_to_tell_is_no_time_of_the_judge(ask, mode):
    """An answer that came in time is not lost."""

    async def slow():
        await asyncio.sleep(0.1)

    asking = Asking(timeout_s=0.05)
    assert ask(ScriptedModel("yes"), asking, Hearing(slow)).text == "yes"
    assert asking.told[0].text == "yes"


def test_a_caller_who_cancels_is_cancelled_also_while_somebody_is_told(mode):
    async def main():
        begun = asyncio.Event()

        async def hangs():
            begun.set()
            await asyncio.sleep(60)

        model = wrap(ScriptedModel("yes"), Asking(), Hearing(hangs))
        task = asyncio.create_task(call(model, mode))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


@pytest.mark.parametrize("why", ["mode", "custom", "idle"])
def test_who_is_not_in_this_call_is_not_told(ask, mode, why):
    class Idle(Hearing):
        def idle(self):
            return "asleep"

    hearing = Idle() if why == "idle" else Hearing()
    other = "stream" if mode == "generate" else "generate"
    conditions = {"mode": {"modes": [other]}, "custom": {"custom": lambda context: False}, "idle": {}}[why]
    ask(ScriptedModel("yes"), Asking(), hearing, config={"hearing": {"conditions": conditions}})
    assert hearing.told == []


def test_questions_at_once_are_each_told_once(mode):
    """Also where they are noted on one list."""
    hearing, tries = Hearing(), []

    class Twice(Asking):
        async def transform_params(self, params, context):
            await asyncio.gather(*(context.ask("is it?", tries=tries) for _ in range(3)))
            return params

    run(call(wrap(ScriptedModel("yes", delay_s=0.001), Twice(), hearing), mode))
    assert len(hearing.told) == len(tries) == 3

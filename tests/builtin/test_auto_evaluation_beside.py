"""auto_evaluation with others beside it: who asks what, who pays for it, and whose answer is judged by what."""

from __future__ import annotations

import asyncio
import json

import pytest

from neuro_mw import Middleware, MiddlewareMetadata, Response, Usage, middleware, parts_of
from neuro_mw.builtin.auto_evaluation import AutoEvaluation
from neuro_mw.builtin.evaluation.scores import Scores, is_said_in
from tests.builtin.evaluation_models import Judging, shown, verdict
from tests.chain.conftest import MODES, call, run, wrap

TEN = Scores(10, 10, 10, 10)


@pytest.mark.parametrize("said", [
    '{"relevance": 1e0001, "accuracy": 1e0001, "completeness": 1e0001, "overall": 1e0001}',
    '{"relevance": 10, "accuracy": 10, "completeness": 1000000000000000000000000000000000000e-35, "overall": 10}',
    "{" + ", ".join(f'"{name}"{" " * 60}: 10' for name in ("relevance", "accuracy", "completeness", "overall")) + "}",
    json.dumps('{\n"relevance":\n10,\n"accuracy":\n10,\n"completeness":\n10,\n"overall":\n10}'),
    json.dumps(json.dumps('{\n"relevance":\n10,\n"accuracy":\n10,\n"completeness":\n10,\n"overall":\n10}')),
])  # fmt: skip
def test_a_verdict_that_is_copied_is_known_however_it_was_written(said):
    assert is_said_in(TEN, f"x {said}")


@pytest.mark.parametrize("text", ["\\" * 200_000, "relevance" + "_" * 200_000, "relevance 1" + "1" * 200_000])
def test_texts_that_nothing_is_found_in_are_looked_through_in_linear_time(text):
    assert not is_said_in(TEN, text)  # it would take minutes


@pytest.mark.parametrize("blocking", [True, False])
def test_hooks_of_a_later_class_are_kept(blocking):
    seen = []

    class Own(AutoEvaluation):
        def on_end(self, outcome, context):
            seen.append("end")
            return super().on_end(outcome, context)

        async def wrap_generate(self, do_generate, params, context):
            seen.append("wrap")
            return await super().wrap_generate(do_generate, params, context)

    run(call(wrap(Judging(), Own(blocking=blocking)), "generate"))
    assert seen == ["wrap", "end"]


class Asks(Middleware):
    """Asks a model when it is told to, and says when it is at it."""

    metadata = MiddlewareMetadata(id="asks", priority=95)

    def __init__(self):
        super().__init__()
        self.context = None

    def transform_params(self, params, context):
        self.context = context
        return params


@pytest.mark.parametrize("mode", MODES)
def test_what_others_ask_meanwhile_is_not_on_this_bill(mode):
    async def main():
        asks = Asks()

        async def judge(params):
            if "other" in str(params):
                return Response(text="fine", usage=Usage(1000, 1000))
            await asks.context.ask("[BEGIN other")
            return Response(text=verdict(), usage=Usage(100, 10))

        response = await call(wrap(Judging(judge=judge), asks, AutoEvaluation()), mode)
        assert len(asks.context.asked) == 2
        return response.metadata["auto_evaluation"]

    found = run(main())
    assert (found["judge_usage"]["input_tokens"], found["judge_usage"]["output_tokens"]) == (100, 10)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("blocking", [True, False])
def test_an_answer_is_judged_by_its_own_request(mode, blocking):
    """Not by that of another passage of the same call."""
    evaluation = AutoEvaluation(blocking=blocking)

    class Model(Judging):
        async def generate(self, params):
            said = str(params["messages"][-1]["content"])
            if not said.startswith("[BEGIN"):
                await asyncio.sleep(0.001 if said == "A" else 0.01)
                return Response(text=f"to {said}")
            return await super().generate(params)

        async def stream(self, params):
            for part in parts_of(await self.generate(params)):
                yield part

    async def both(do_generate, params, context):
        variants = ({**params, "messages": [{"role": "user", "content": said}]} for said in "AB")
        return (await asyncio.gather(*map(do_generate, variants)))[0]

    async def main():
        model = Model()
        hedge = middleware("hedge", kind="control", priority=95, wrap_generate=both)
        await call(wrap(model, hedge, evaluation), mode)
        await evaluation.aclose()
        return [shown(params) for params in model.judged]

    judged = run(main())
    assert sorted((one["conversation"][-1]["text"], one["answer"]) for one in judged) == [("A", "to A"), ("B", "to B")]


@pytest.mark.parametrize("mode", MODES)
def test_a_further_attempt_that_something_else_cancelled_takes_no_answer_away(mode):
    judge = Judging(judge=[verdict(3)]).judge

    class Model:
        provider, model_id = "openai", "gpt-4o"

        def __init__(self):
            self.answers = 0

        async def generate(self, params):
            if str(params["messages"][-1]["content"]).startswith("[BEGIN"):
                return await judge.generate(params)
            self.answers += 1
            if self.answers == 2:
                raise asyncio.CancelledError
            return Response(text="first")

        async def stream(self, params):
            for part in parts_of(await self.generate(params)):
                yield part

    evaluation = AutoEvaluation()
    response = run(call(wrap(Model(), evaluation), mode))
    assert response.text == "first"
    assert response.metadata["auto_evaluation"]["attempts"] == 2
    assert evaluation.tally.counts()["retries_failed"] == 1


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_that_an_inner_layer_gave_for_a_failed_attempt_is_not_judged(mode):
    async def canned(do_generate, params, context):
        try:
            return await do_generate(params)
        except ValueError:
            return Response(text="Sorry, we are down.")

    class Model(Judging):
        async def generate(self, params):
            raise ValueError

        async def stream(self, params):
            raise ValueError
            yield

    model = Model()
    response = run(call(wrap(model, AutoEvaluation(), middleware("canned", wrap_generate=canned)), mode))
    assert response.text == "Sorry, we are down."
    assert "auto_evaluation" not in response.metadata


def test_a_log_that_fails_fails_no_call(monkeypatch):
    def raises(*args):
        raise ValueError

    monkeypatch.setattr("neuro_mw.builtin.auto_evaluation._log.warning", raises)
    response = run(call(wrap(Judging(judge="nonsense"), AutoEvaluation()), "generate"))
    assert response.metadata["auto_evaluation"]["passed"] is None

"""auto_evaluation without blocking: answers leave as they come, and are judged when the call is over."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time

import pytest

from neuro_mw import (
    Blocked,
    EvaluationFailed,
    Finish,
    MiddlewareFactory,
    ProviderUnavailable,
    Response,
    StreamInterrupted,
    TextDelta,
    Usage,
    middleware,
)
from neuro_mw.builtin.auto_evaluation import AutoEvaluation
from neuro_mw.testing import Fault, FaultyModel
from tests.builtin.evaluation_models import Judging, shown, verdict
from tests.chain.conftest import MODES, call, run, wrap


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


def counts(evaluation):
    return evaluation.tally.counts()


async def over(evaluation):
    await evaluation.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def until(happened):
    for _ in range(1000):
        if happened():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


def test_the_answer_does_not_wait(mode):
    async def main():
        gate = asyncio.Event()

        async def judge(params):
            await gate.wait()
            return verdict(3)

        model = Judging(Response(text="hello", usage=Usage(10, 5), metadata={"own": 1}), judge)
        evaluation = AutoEvaluation(blocking=False)
        found = await call(wrap(model, evaluation), mode, "a question")
        assert (found.text, found.usage) == ("hello", Usage(10, 5))
        assert found.metadata == {"own": 1, "auto_evaluation": {"pending": True}}
        assert evaluation.recent() == []
        gate.set()
        await over(evaluation)
        (said,) = evaluation.recent()
        assert (said["overall"], said["passed"], said["severity"], said["attempts"]) == (3, False, "high", 1)
        assert (said["request_id"], said["judge_usage"]["input_tokens"]) == (found.receipt.request_id, 100)
        assert shown(model.judged[0]) == {"conversation": [{"role": "user", "text": "a question"}], "answer": "hello"}
        assert len(model.answers.calls) == 1
        assert counts(evaluation) == {"evaluated": 1, "below_threshold": 1, "off_topic": 1, "high_severity": 1}
        assert found.metadata["auto_evaluation"] == {"pending": True}

    run(main())


def test_a_stream_is_not_read_ahead_and_comes_as_it_is():
    async def main():
        model = Judging("a b c d e f", cuts=[2])
        evaluation = AutoEvaluation(blocking=False)
        async with wrap(model, evaluation).stream("hi") as stream:
            texts = []
            async for part in stream:
                assert len(model.answers.calls[0].parts) == len(texts) + 1
                assert model.judged == []
                if isinstance(part, TextDelta):
                    texts.append(part.text)
                else:
                    assert part == Finish("stop", Usage(), metadata={"auto_evaluation": {"pending": True}})
        assert texts == ["a ", "b ", "c ", "d ", "e ", "f"]
        await over(evaluation)
        assert shown(model.judged[0])["answer"] == "a b c d e f"

    run(main())


@pytest.mark.parametrize("how", ["break", "cut", "error"])
def test_a_stream_that_does_not_come_to_its_end_is_not_judged(how):
    async def main():
        down = ProviderUnavailable("down", provider="openai", model="gpt-4o")
        fault = {"break": None, "cut": Fault(2, cut=True), "error": Fault(2, down)}[how]
        model, evaluation = Judging(FaultyModel("hello there", faults=[fault])), AutoEvaluation(blocking=False)
        try:
            async with wrap(model, evaluation).stream("hi") as stream:
                async for _ in stream:
                    if how == "break":
                        break
        except (ProviderUnavailable, StreamInterrupted):
            assert how != "break"
        await over(evaluation)
        assert (model.judged, evaluation.recent(), counts(evaluation)) == ([], [], {})

    run(main())


def test_blocks_and_short_cuts_pass_as_they_are(mode):
    def block(params, context):
        raise Blocked("no")

    async def cut(do_generate, params, context):
        return Response(text="kept")

    async def block_later(do_generate, params, context):
        await do_generate(params)
        raise Blocked("no")

    async def main():
        for inner in (
            middleware("inner", transform_params=block),
            middleware("inner", wrap_generate=cut),
            middleware("inner", wrap_generate=block_later),
        ):
            model, evaluation = Judging(), AutoEvaluation(blocking=False)
            assert (await call(wrap(model, evaluation, inner), mode)).metadata == {}
            await over(evaluation)
            assert (model.judged, counts(evaluation)) == ([], {})

    run(main())


def test_an_answer_that_went_through_a_change_inside_is_judged_as_it_left(mode):
    async def upper(do_generate, params, context):
        response = await do_generate(params)
        response.text = response.text.upper()
        return response

    async def main():
        model, evaluation = Judging("hello"), AutoEvaluation(blocking=False)
        await call(wrap(model, evaluation, middleware("upper", wrap_generate=upper)), mode)
        await over(evaluation)
        assert shown(model.judged[0])["answer"] == "HELLO"

    run(main())


def test_what_finds_no_room_is_dropped_and_said(mode):
    async def main():
        gate = asyncio.Event()

        async def judge(params):
            await gate.wait()
            return verdict()

        model, evaluation = Judging(judge=judge), AutoEvaluation(blocking=False)
        wrapped = wrap(model, evaluation)
        found = [(await call(wrapped, mode)).metadata["auto_evaluation"] for _ in range(107)]
        assert found == [{"pending": True}] * 104 + [{"skipped": "dropped"}] * 3
        gate.set()
        await over(evaluation)
        assert counts(evaluation) == {"evaluations_dropped": 3, "evaluated": 104, "passed": 104}
        assert len(evaluation.recent()) == 100

    run(main())


def test_what_is_not_over_when_it_is_closed_is_cancelled(mode):
    async def main():
        model = Judging(judge=FaultyModel(faults=[Fault(0, stall_s=math.inf)] * 2))
        evaluation = AutoEvaluation(blocking=False, timeout_s=30)
        factory = MiddlewareFactory(preset=None, plugins=False, middleware=[evaluation])
        await call(factory.apply_middleware(model), mode)
        await until(lambda: model.judged)
        await evaluation._evaluations.aclose(0.01)
        assert counts(evaluation) == {"evaluations_cancelled": 1}
        assert all(one.over for one in model.judge.calls)

    run(main())


def test_leaving_the_factory_waits_for_what_is_under_way(mode):
    async def main():
        async def judge(params):
            await asyncio.sleep(0.01)
            return verdict()

        told = []

        async def hook(evaluation, context):
            await asyncio.sleep(0.01)
            told.append(evaluation["overall"])

        evaluation = AutoEvaluation(blocking=False, on_evaluation_complete=hook)
        async with MiddlewareFactory(preset=None, plugins=False, middleware=[evaluation]) as factory:
            model = factory.apply_middleware(Judging(judge=judge))
            for _ in range(10):
                await call(model, mode)
        assert (told, counts(evaluation)) == ([9] * 10, {"evaluated": 10, "passed": 10})
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


@pytest.mark.parametrize("verdicts", [["how nice"], FaultyModel(faults=[Fault(0, stall_s=math.inf)] * 9)])
def test_without_a_verdict_there_is_an_evaluation_that_says_so(mode, verdicts):
    async def main():
        evaluation = AutoEvaluation(blocking=False, timeout_s=0.05)
        await call(wrap(Judging(judge=verdicts), evaluation), mode)
        await until(evaluation.recent)
        await over(evaluation)
        (said,) = evaluation.recent()
        assert (said["passed"], said["error"]) in ((None, "VerdictError"), (None, "ProviderTimeout"))
        assert counts(evaluation) == {"not_evaluated": 1}

    run(main())


def test_a_judge_that_wants_to_end_the_process_does_not(mode):
    async def main():
        evaluation = AutoEvaluation(blocking=False)
        await call(wrap(Judging(judge=FaultyModel(faults=[Fault(0, SystemExit(3))])), evaluation), mode)
        await over(evaluation)
        assert (counts(evaluation), evaluation.recent()) == ({"evaluations_failed": 1}, [])

    run(main())


# --- who wants to know -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("kind", ["async", "plain", "object"])
def test_it_is_told_with_the_context_of_the_call(mode, blocking, kind):
    told = []

    def plain(evaluation, context):
        told.append((evaluation, context.request_id, len(context.asked), threading.current_thread()))
        evaluation.clear()

    async def hook(evaluation, context):
        plain(evaluation, context)

    class Object:
        async def __call__(self, evaluation, context):
            plain(evaluation, context)

    async def main():
        given = {"async": hook, "plain": plain, "object": Object()}[kind]
        evaluation = AutoEvaluation(blocking=blocking, on_evaluation_complete=given)
        if kind == "async":
            evaluation._callbacks.in_thread = None  # it takes none: as many as hang are no matter
        found = await call(wrap(Judging(), evaluation), mode)
        await over(evaluation)
        ((said, id, asked, thread),) = told
        assert (said, id, asked) == ({}, found.receipt.request_id, 1)  # what it does to its own copy shows nowhere
        assert (thread is threading.main_thread()) == (kind != "plain")
        assert evaluation.recent()[0]["overall"] == 9
        if blocking:
            assert found.metadata["auto_evaluation"]["overall"] == 9

    run(main())


def test_it_is_told_before_it_is_raised_and_where_nobody_judged(mode):
    told = []

    async def hook(evaluation, context):
        told.append((evaluation["overall"], evaluation["passed"]))

    async def main():
        evaluation = AutoEvaluation(on_failure="raise", on_evaluation_complete=hook)
        wrapped = wrap(Judging(judge=[verdict(3), verdict(2), ""]), evaluation)
        for _ in range(2):
            with pytest.raises(EvaluationFailed):
                await call(wrapped, mode)
        await over(evaluation)
        assert told == [(3, False), (None, None)]

    run(main())


class Odd(Exception):
    pass


async def hangs(evaluation, context):
    await asyncio.Event().wait()


async def fails(evaluation, context):
    raise Odd("with the answer in it")


async def exits(evaluation, context):
    raise SystemExit(3)


def exits_plainly(evaluation, context):
    raise SystemExit(3)


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize(
    ("hook", "count"), [(hangs, "timed_out"), (fails, "failed"), (exits, "failed"), (exits_plainly, "failed")]
)
def test_whatever_it_does_the_call_goes_on(mode, blocking, hook, count, caplog):
    async def main():
        evaluation = AutoEvaluation(
            blocking=blocking, on_evaluation_complete=hook, timeout_s=0.05 if hook is hangs else 5
        )
        wrapped = wrap(Judging(), evaluation)
        for _ in range(3):
            assert (await call(wrapped, mode)).text == "hello"
        await until(lambda: counts(evaluation).get(f"callbacks_{count}") == 3)
        await over(evaluation)
        assert counts(evaluation) == {"evaluated": 3, "passed": 3, f"callbacks_{count}": 3}
        assert "answer in it" not in caplog.text

    run(main())


def test_a_plain_one_that_hangs_holds_up_nothing(mode):
    gate = threading.Event()

    def hook(evaluation, context):
        gate.wait(30)

    async def main():
        evaluation = AutoEvaluation(on_evaluation_complete=hook, timeout_s=0.05)
        began = time.monotonic()
        for _ in range(6):
            await call(wrap(Judging(), evaluation), mode)
        await until(lambda: not len(evaluation._callbacks))
        await over(evaluation)
        assert time.monotonic() - began < 20
        found = counts(evaluation)
        assert (found["evaluated"], found["callbacks_timed_out"] + found.get("callbacks_dropped", 0)) == (6, 6)

    try:
        run(main())
    finally:
        gate.set()


def test_evaluations_are_plain_data(mode):
    async def main():
        evaluation = AutoEvaluation(blocking=False)
        await call(wrap(Judging(), evaluation), mode)
        await over(evaluation)
        first = evaluation.recent()
        json.dumps(first)
        first[0]["judge_usage"].clear()
        assert evaluation.recent()[0]["judge_usage"]

    run(main())


def test_it_goes_on_where_a_loop_is_only_there_for_a_call(mode):
    evaluation = AutoEvaluation(blocking=False, on_evaluation_complete=hangs)
    wrapped = wrap(Judging(judge=FaultyModel(faults=[Fault(0, stall_s=math.inf)])), evaluation)
    run(call(wrapped, mode))  # the loop ends with the call
    assert counts(evaluation) == {"evaluations_cancelled": 1}
    evaluation = AutoEvaluation(blocking=False)
    wrapped = wrap(Judging(), evaluation)
    assert wrapped.generate_sync("hi").metadata["auto_evaluation"] == {"pending": True}
    run(evaluation.aclose())  # from another loop
    assert counts(evaluation) == {"evaluated": 1, "passed": 1}

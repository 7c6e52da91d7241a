"""The great property where someone goes away: at every await, after every part, in every order of the layers.

What holds is asked of each run by itself, without a reference of the chain: guards may stand anywhere here.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_mw import Finish, MiddlewareContext, ProviderUnavailable, Response, StreamInterrupted
from neuro_mw.builtin.circuit_breaker import CircuitBreaker
from neuro_mw.builtin.fallback import Fallback
from neuro_mw.builtin.retry import Retry
from neuro_mw.builtin.simulate_streaming import SimulateStreaming
from neuro_mw.builtin.timeout import Timeout
from neuro_mw.testing import FaultyModel
from tests.builtin.test_resilience import (
    FORBIDDEN,
    MODES,
    PLAN,
    Reference,
    Run,
    World,
    chains,
    check_answer,
    check_beginning,
    check_books,
    check_requests,
    check_stats,
    collected,
    guarded,
    nothing_is_left,
    said,
)

__all__ = ["nothing_is_left"]  # a fixture
FEW = settings().max_examples // 10


class Interrupted:
    """Awaits a coroutine, and cancels the task that does so where it suspends for the n-th time, for each n given."""

    def __init__(self, coroutine: Any, run: Run, at: tuple[int, ...]) -> None:
        self.coroutine, self.run, self.at = coroutine, run, at
        self.count, self.asked = 0, None

    def __await__(self) -> Any:
        steps, error = self.coroutine.__await__(), None
        while True:
            try:
                waits_for = steps.send(None) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            error = None
            self.count += 1
            if self.count in self.at:
                asyncio.current_task().cancel()
                self.run.cancelled += 1
                if self.asked is None:
                    self.asked, self.run.told = len(self.run.asked), "watch.outer" in self.run.ends
            try:
                yield waits_for
            except BaseException as thrown:  # noqa: BLE001  # it is thrown on
                error = thrown


def check_one_answer(run: Run, mode: str) -> None:
    """What holds for every chain: all that left is of the last model call, whole, or its beginning and the error."""
    got = (run.response or Response()) if mode == "generate" else collected(run.got)
    finished = run.response is not None or any(isinstance(part, Finish) for part in run.got)
    assert sum(isinstance(part, Finish) for part in run.got) == (finished and mode == "stream")
    if isinstance(run.error, Exception) and mode == "stream":
        assert said(run.error.partial) == said(got)
    assert got.blocked is None or got.blocked.middleware == "blocking"
    if got.text and got.text[0] not in "ABCD":  # what a refusal says
        assert "blocking" in run.guards
        assert any(FORBIDDEN in text for text in (run.plan.prompt, run.plan.text, run.plan.reasoning))
        assert FORBIDDEN not in got.text
        return
    if not run.asked:
        assert (got.text, got.reasoning) == ("", "")
        return
    wanted = run.plan.response(*run.asked[-1])
    if got.blocked or not finished:
        check_beginning(got, wanted, run.guards)
    else:
        assert said(got) == said(guarded(wanted, run.guards))


def check(world: World, runs: list[tuple[str, Run]]) -> None:
    for mode, run in runs:
        check_one_answer(run, mode)
        check_books(run, mode)
        check_requests(run)
    check_stats(world, [run for _, run in runs])


@settings(max_examples=FEW * 2)
@given(
    chain=chains(anywhere=True), plan=PLAN, steps=st.booleans(), again=st.sampled_from([0, 0, 1, 2]),
    how=st.sampled_from(["", "", "break", "aclose"]), after=st.integers(0, 9),
)  # fmt: skip
def test_cancelled_at_every_await(chain, plan, steps, again, how, after):
    """Also where the consumer has left already; and, with `again`, once more while everything cleans up."""
    world, runs = World(chain, steps=steps), []

    async def cancelled_at(mode, number):
        run = world.begin(f"{mode} {number}", plan)
        runs.append((mode, run))
        interrupted = Interrupted(world.call(run, mode, leave=how, after=after), run, (number, number + again))
        await asyncio.wait([asyncio.ensure_future(until(interrupted))])
        if interrupted.asked is None:
            return False
        assert isinstance(run.error, asyncio.CancelledError)
        assert len(run.asked) == interrupted.asked, "a model was asked after the caller's cancellation"
        return True

    async def until(interrupted):
        await interrupted

    async def main():
        for mode in MODES:
            number = 1
            while await cancelled_at(mode, number):
                number += 1

    world.ticking(main)
    check(world, runs)


@settings(max_examples=FEW * 2)
@given(chain=chains(anywhere=True), plan=PLAN, steps=st.booleans(), how=st.sampled_from(["break", "aclose", "raise"]))
def test_left_after_every_part(chain, plan, steps, how):
    world, runs = World(chain, steps=steps), []

    async def main():
        after = 0
        while not runs or runs[-1][1].left:
            run = world.begin(f"{how} {after}", plan)
            runs.append(("stream", run))
            await world.call(run, "stream", leave=how, after=after)
            if run.left:
                assert len(run.got) == after
                assert (run.error is None) == (how != "raise")
            after += 1

    world.ticking(main)
    assert runs[0][1].asked == []
    check(world, runs)


@settings(max_examples=FEW * 3)
@given(chain=chains(anywhere=False), plans=st.lists(st.tuples(PLAN, st.sampled_from(MODES)), min_size=2, max_size=4))
def test_calls_at_once_do_not_meet(chain, plans):
    """Each is what it is alone. (A circuit is what they share: it is left out.)"""
    chain = [(name, options) for name, options in chain if name != "circuit_breaker"]
    world = World(chain)
    runs = [(mode, world.begin(f"{mode} {at}", plan)) for at, (plan, mode) in enumerate(plans)]

    async def main():
        await asyncio.gather(*(world.call(run, mode) for mode, run in runs))

    world.ticking(main)
    for mode, run in runs:
        check_answer(run, Reference(run.plan, mode, chain).run(), mode)
    check(world, runs)
    assert sum(len(run.entered) for _, run in runs) > 0


@settings(max_examples=FEW * 3)
@given(chain=chains(anywhere=True), plan=PLAN, steps=st.booleans())
def test_whatever_the_order(chain, plan, steps):
    world = World(chain, steps=steps)
    runs = [(mode, world.begin(mode, plan)) for mode in MODES]

    async def main():
        for mode, run in runs:
            for layer in world.layers:
                if isinstance(layer, CircuitBreaker):
                    layer.reset()
            await world.call(run, mode)

    world.ticking(main)
    check(world, runs)


@settings(max_examples=FEW * 3)
@given(chain=chains(anywhere=True), plan=PLAN, number=st.integers(0, 2), asked=st.booleans(), at=st.integers(0, 9))
def test_a_block_is_final(chain, plan, number, asked, at):
    """Wherever the guard stands, and whatever failed before."""
    faults = [*[("unavailable", 0, 0)] * number, None]
    plan = replace(plan, faults=dict.fromkeys(plan.faults, faults), text=f"so {FORBIDDEN}", prompt="hi")
    plan = replace(plan, prompt=FORBIDDEN) if asked else plan
    chain = [one for one in chain if one[0] != "blocking"]
    chain.insert(min(at + 1, len(chain) - 1), ("blocking", {}))
    world = World(chain)
    runs = [(mode, world.begin(mode, plan)) for mode in MODES]

    async def main():
        for mode, run in runs:
            await world.call(run, mode)

    world.ticking(main)
    check(world, runs)
    for _, run in runs:
        assert run.error is not None or run.response.blocked is not None
        assert sum(call.fault is None for call in run.calls) <= 1
        if asked and run.error is None:
            assert (run.asked, run.took) == ([], 0), "it was tried again"


FAULTS = st.none() | st.tuples(
    st.sampled_from(["unavailable", "rate_limited", "authentication", "bad_request", "cut", "stall"]),
    st.integers(0, 2),
    st.sampled_from([0, 2]),
)


@settings(max_examples=FEW * 3)
@given(chain=chains(anywhere=True), plan=PLAN, faults=st.lists(FAULTS, max_size=6))
def test_before_the_first_content_both_modes_are_one(chain, plan, faults):
    """Where time ends nothing: the same models are asked, and the same comes out."""
    chain = [(name, options) for name, options in chain if name != "timeout"]
    plan = plan_with(plan, faults)
    world = World(chain)
    runs = [(mode, world.begin(mode, plan)) for mode in MODES]

    async def main():
        for mode, run in runs:
            for layer in world.layers:
                if isinstance(layer, CircuitBreaker):
                    layer.reset()
            await world.call(run, mode)

    world.ticking(main)
    (_, whole), (_, streamed) = runs
    assert whole.asked == streamed.asked
    assert (whole.error is None) == (streamed.error is None)
    if whole.error is not None:
        kinds = type(whole.error), type(streamed.error)
        assert kinds[0] is kinds[1] or kinds == (ProviderUnavailable, StreamInterrupted)
    elif whole.response.blocked is None:
        assert said(whole.response) == said(streamed.response)
    else:
        assert streamed.response.blocked is not None


def plan_with(plan: Any, faults: Any) -> Any:
    """The plan with these faults, none of them behind the first content, which is part 2 where some are unsaid."""
    first = 2 if plan.unsaid else 0
    made = [fault and (fault[0], min(fault[1], first), fault[2]) for fault in faults]
    return replace(plan, faults={name: made[at::2] for at, name in enumerate(plan.faults)})


LAYERS = [Retry(), Fallback(models=["two"]), Timeout(total_s=9), SimulateStreaming(chunk=1)]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.metadata.id)
@pytest.mark.parametrize("after", [1, 3, 4, 99])
def test_each_layer_closes_what_it_opens(layer, after):
    """By itself, before it is over: the chain would see to it later."""
    model = FaultyModel(Response(text="hello", id="x"), cuts=(2,))

    async def main():
        parts = layer.wrap_stream(model.stream, {}, MiddlewareContext("openai", "gpt-4o", mode="stream"))
        async for part in parts:
            after_this = len(model.calls[0].parts) >= after
            if after_this or isinstance(part, Finish):
                break
        await parts.aclose()
        assert [(call.over, call.closed) for call in model.calls] == [(True, 1)]

    asyncio.run(main())

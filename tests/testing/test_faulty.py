"""FaultyModel: every fault where it was asked for, in both modes, and a record that can be believed."""

import asyncio
from itertools import islice
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import Finish, LanguageModel, ProviderUnavailable, Response, TextDelta, Usage, collect
from neuro_mw.testing import Fault, FaultyModel, random_faults
from tests.builtin.test_timeout import ticking

ANSWER = Response(text="hello", usage=Usage(3, 2))
PARTS = [TextDelta("he"), TextDelta("ll"), TextDelta("o"), Finish("stop", Usage(3, 2))]
MODES = ("generate", "stream")


def model(*faults, **options):
    return FaultyModel(ANSWER, faults=faults, cuts=(2,), **options)


async def read(one, mode, got=None):
    """A whole answer; of a stream, the parts that came before it failed are in `got`."""
    if mode == "generate":
        return await one.generate({"n": 1})
    stream = one.stream({"n": 1})
    got = [] if got is None else got
    try:
        async for part in stream:
            got.append(part)
    finally:
        await stream.aclose()
    return await collect(got)


@pytest.mark.parametrize("mode", MODES)
@given(at=st.integers(0, 6), stall=st.sampled_from([0, 3, inf]), kind=st.sampled_from(["error", "cut", "stall"]))
def test_one_fault_in_one_place(mode, at, stall, kind):
    error = KeyError("x") if kind == "error" else None
    stall = stall or 1 if kind == "stall" else stall
    one, got = model(Fault(at, error, kind == "cut", stall)), []
    reached = at < len(PARTS)

    async def main(loop):
        task = asyncio.create_task(read(one, mode, got))
        await asyncio.wait([task], timeout=10)
        assert task.done() == (not reached or stall < inf)
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        assert loop.now == (0 if not reached else min(stall, 10))
        return ended

    ended, (call,) = ticking(main), one.calls
    if not reached or (kind == "stall" and stall < inf):
        assert ended == ANSWER
        assert (call.parts if mode == "stream" else call.parts[-1:]) == (PARTS if mode == "stream" else PARTS[-1:])
        assert (call.usage, call.error) == (ANSWER.usage, None)
    else:
        if stall == inf:
            assert type(ended) is type(call.error) is asyncio.CancelledError
        elif kind == "error":
            assert ended is call.error is error
        elif mode == "generate":
            assert ended is call.error
            assert type(ended) is ProviderUnavailable
            assert ended.retryable
        else:
            assert "without Finish" in str(ended)
        assert call.usage is None
        if mode == "stream":
            assert call.parts == got == PARTS[:at]
    assert (call.mode, call.params, call.over) == (mode, {"n": 1}, True)
    assert (one.opened, one.closed, one.closed_twice) == ((1, 1, 0) if mode == "stream" else (0, 0, 0))


@given(chance=st.floats(0, 1), seed=st.integers(), parts=st.integers(1, 9))
def test_the_same_seed_gives_the_same_faults(chance, seed, parts):
    def drawn():
        found = islice(random_faults(seed, parts, chance=chance, stall_s=2), 50)
        return [fault and (fault.at, type(fault.error), fault.cut, fault.stall_s) for fault in found]

    faults = drawn()
    assert faults == drawn()
    assert all(fault is None or fault[0] < parts for fault in faults)
    assert all(fault is None or 0 <= fault[3] <= 2 for fault in faults)


def test_random_faults_are_distributed_as_it_says():
    found = [*islice(random_faults(1, 4, chance=0.5), 20_000)]
    faults = [fault for fault in found if fault]
    assert len(faults) / len(found) == pytest.approx(0.5, abs=0.02)
    for kind in ("error", "cut", "stall_s"):
        assert sum(bool(getattr(fault, kind)) for fault in faults) / len(faults) == pytest.approx(1 / 3, abs=0.02)
    for at in range(4):
        assert sum(fault.at == at for fault in faults) / len(faults) == pytest.approx(1 / 4, abs=0.02)
    stalls = [fault.stall_s for fault in faults if fault.stall_s]
    assert sum(stalls) / len(stalls) == pytest.approx(0.005, abs=0.0002)
    assert next(fault for fault in random_faults(1, 1, chance=1, stall_s=inf) if fault.stall_s).stall_s == inf


@pytest.mark.parametrize("mode", MODES)
def test_one_plan_and_one_answer_for_each_call(mode):
    one = FaultyModel(["a", Response(text="b")], faults=[None, Fault(0, KeyError("x"))])

    async def main():
        texts = []
        for _ in range(4):
            try:
                texts.append((await read(one, mode)).text)
            except KeyError:
                texts.append(None)
        return texts

    assert asyncio.run(main()) == ["a", None, "b", "b"]
    assert [bool(call.fault) for call in one.calls] == [False, True, False, False]
    assert isinstance(one, LanguageModel)


def test_streams_that_are_treated_badly():
    async def main():
        one = model(closing_s=0, delay_s=0)
        unread, left, read_late = (one.stream({}) for _ in range(3))
        assert (one.opened, one.closed) == (3, 0)
        await unread.aclose()
        assert (one.closed, one.calls[0].closed, one.calls[0].over) == (1, 1, True)
        await anext(left)
        assert one.closed == 1
        await left.aclose()
        await left.aclose()
        assert (one.closed, one.closed_twice, one.calls[1].closed) == (2, 1, 2)
        await anext(read_late)
        await read_late.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(read_late)
        assert (one.closed, one.read_after_close) == (3, 1)
        assert [len(call.parts) for call in one.calls] == [0, 1, 1]
        assert [call.error for call in one.calls] == [None] * 3

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
def test_waits(mode):
    one = model(delay_s=2, closing_s=5)

    async def main(loop):
        await read(one, mode)
        return loop.now

    assert ticking(main) == (2 if mode == "generate" else 4 * 2 + 5)


def test_what_left_is_kept_as_it_was():
    async def main():
        one = model()
        async for part in one.stream({}):
            if isinstance(part, TextDelta):
                part.text = "changed"
        return one.calls[0].parts

    assert asyncio.run(main()) == PARTS


@pytest.mark.parametrize(
    "options",
    [{}, {"at": -1, "cut": True}, {"stall_s": -1}, {"stall_s": float("nan")}, {"cut": True, "error": KeyError()}],
)
def test_faults_that_make_no_sense(options):
    with pytest.raises(ValueError):  # noqa: PT011  # whatever it says
        Fault(**options)

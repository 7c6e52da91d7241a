"""cache: equal calls at once. One asks, all get the answer, and nobody suffers from what another does."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from contextlib import suppress
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass, field
from math import inf
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_mw import (
    Finish,
    MiddlewareFactory,
    ProviderDelta,
    ProviderUnavailable,
    Response,
    ResponseInfo,
    StreamInterrupted,
    TextDelta,
    ToolCall,
    Usage,
    collect,
    middleware,
)
from neuro_mw.builtin.caching import flights
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel
from tests.builtin.test_cache import MODES, ask, chain, said, told

FEW = settings().max_examples // 2


def down():
    return ProviderUnavailable("down", provider="openai", model="gpt-4o", retryable=True)


def answer(number):
    """No other call's answer is like it."""
    return Response(
        text=f"{number}: so it is", reasoning=f"{number}?", id=f"r{number}", usage=Usage(number, 1),
        tool_calls=[ToolCall(f"c{number}", "f", "{}")], finish_reason="tool_calls", provider_fields={"n": [number]},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_left(caplog):
    yield
    gc.collect()
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR] == []


def run(main):
    """Run it; nothing hangs, and no task is left over."""

    async def alone():
        try:
            return await asyncio.wait_for(main(), 20)
        finally:
            await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert [task for task in left if "wait_for" not in repr(task)] == []

    return asyncio.run(alone())


async def ticks(number):
    for _ in range(number):
        await asyncio.sleep(0)


# --- the great property ------------------------------------------------------------------------------------------


@dataclass
class Caller:
    """One who calls: in which mode, when, how fast it reads, and when and how it goes away."""

    mode: str
    start: int = 0
    pause: int | None = 0  # ticks between two parts; None: it stops reading until all others are done
    leave: int | None = None  # after so many parts
    cancel: int | None = None  # after so many ticks
    got: list = field(default_factory=list)
    response: Response | None = None
    error: BaseException | None = None

    async def call(self, wrapped, others_are_done):
        await ticks(self.start)
        try:
            if self.mode == "generate":
                self.response = await wrapped.generate("hi")
                return
            async with wrapped.stream("hi") as stream:
                async for part in stream:
                    self.got.append(part)
                    if self.leave is not None and len(self.got) > self.leave:
                        return
                    if self.pause is None:
                        await others_are_done.wait()
                    else:
                        await ticks(self.pause)
            self.response = await collect(self.got)
        except (ProviderUnavailable, StreamInterrupted) as error:
            self.error = error


CALLER = st.builds(
    Caller,
    mode=st.sampled_from(MODES),
    start=st.integers(0, 12),
    pause=st.sampled_from([0, 0, 0, 1, 3, None]),
    leave=st.none() | st.none() | st.integers(0, 8),
    cancel=st.none() | st.none() | st.integers(0, 30),
)
FAULT = st.none() | st.tuples(st.integers(0, 9), st.booleans())  # before which part; whether it is cut there


@settings(max_examples=FEW)
@given(
    callers=st.lists(CALLER, min_size=1, max_size=6), faults=st.lists(FAULT, max_size=4),
    cuts=st.lists(st.integers(1, 5), min_size=1, max_size=3), closing=st.booleans(), single=st.sampled_from([1, 1, 0]),
)  # fmt: skip
def test_each_gets_one_answer_or_an_error(callers, faults, cuts, closing, single):
    model = FaultyModel(
        [answer(number) for number in range(9)], cuts=cuts, delay_s=0, closing_s=0 if closing else None,
        faults=[one and Fault(one[0], None if one[1] else down(), cut=one[1]) for one in faults],
    )  # fmt: skip
    cache, wrapped = chain(model, single_flight=bool(single))

    async def main():
        done = asyncio.Event()
        tasks = [asyncio.ensure_future(one.call(wrapped, done)) for one in callers]
        patient = [task for task, one in zip(tasks, callers, strict=True) if one.pause is None]
        cancelling = [asyncio.ensure_future(cancel(task, one.cancel)) for task, one in zip(tasks, callers, strict=True)
                      if one.cancel is not None]  # fmt: skip
        others = [task for task in tasks if task not in patient]
        if others:
            await asyncio.wait(others, timeout=5)
            assert all(task.done() for task in others), "a reader who stopped stops others"
        done.set()
        await asyncio.gather(*tasks, *cancelling, return_exceptions=True)
        for task, one in zip(tasks, callers, strict=True):
            if task.cancelled():
                one.error = asyncio.CancelledError()
            else:
                assert task.exception() is None
        await ticks(2)

    async def cancel(task, after):
        await ticks(after)
        task.cancel()

    run(main)
    answers = [answer(number) for number in range(9)]
    for one in callers:
        if one.response is not None:
            assert said(one.response) in answers
            assert sum(isinstance(part, Finish) for part in one.got) == (one.mode == "stream")
        elif one.got:
            text = "".join(part.text for part in one.got if isinstance(part, TextDelta))
            assert any(whole.text.startswith(text) for whole in answers)
            if isinstance(one.error, Exception):
                assert one.error.partial.text == text
        else:
            assert one.error is not None or one.leave is not None
        assert sum(isinstance(part, ResponseInfo) for part in one.got) <= 1
    assert all(call.over for call in model.calls)
    assert (model.opened, model.closed_twice, model.read_after_close) == (model.closed, 0, 0)
    assert len(cache._flights) == 0
    assert len(model.calls) <= len(callers)
    calm = all(one.leave is None and one.cancel is None for one in callers)
    if single and calm and not any(faults):
        assert len(model.calls) == 1
    if not calm:
        return
    assert sum(one.error is not None for one in callers) <= len(callers) * sum(fault is not None for fault in faults)


# --- one call ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modes", [["generate"], ["stream"], ["generate", "stream"], ["stream", "generate"]])
def test_a_hundred_at_once_are_one_call(modes):
    model = FaultyModel(answer(1), delay_s=0.001)
    cache, wrapped = chain(model)

    async def main():
        return await asyncio.gather(*(ask(wrapped, modes[number % len(modes)]) for number in range(100)))

    responses = run(main)
    assert len(model.calls) == 1
    assert all(said(one) == answer(1) for one in responses)
    assert len({id(one.provider_fields) for one in responses}) == 100
    assert sum(told(one) for one in responses) == 99
    assert cache.tally.counts() == {"misses": 1, "stored": 1, "followed": 99}


def test_followers_of_a_stream_get_its_parts_as_they_come():
    model = FaultyModel("abcdef", cuts=(1,), delay_s=0)
    _, wrapped = chain(model)

    async def main():
        async with wrapped.stream("hi") as leader, wrapped.stream("hi") as follower:
            first = await anext(leader)
            for number in range(5):
                assert (await anext(follower)).text == "abcdef"[number]
                assert len(model.calls[0].parts) <= number + 1, "read ahead"
            rest = [part async for part in leader]
            assert "".join(part.text for part in [first, *rest] if isinstance(part, TextDelta)) == "abcdef"
            assert (await follower.response()).text == "abcdef"
        assert len(model.calls) == 1

    run(main)


def spoil(part):
    for name, value in (("text", "x"), ("arguments", "x"), ("id", "x"), ("reason", "other")):
        if hasattr(part, name):
            setattr(part, name, value)
    getattr(part, "fields", {}).setdefault("n", []).append("x")
    getattr(part, "metadata", {})["x"] = 1
    if isinstance(part, Finish):
        part.usage.input_tokens = 99


def test_what_one_does_to_its_parts_shows_nowhere_else():
    model = FaultyModel([answer(1)], cuts=(2,), delay_s=0)
    _, wrapped = chain(model)

    async def read(parts):
        got = []
        async for part in parts:
            got.append(deepcopy(part))
            spoil(part)
        return await collect(got)

    async def main():
        async with wrapped.stream("hi") as one, wrapped.stream("hi") as two, wrapped.stream("hi") as three:
            responses = await asyncio.gather(read(one), read(two), read(three), ask(wrapped, "generate"))
        return [*responses, await ask(wrapped, "generate")]

    assert [said(one) for one in run(main)] == [answer(1)] * 5
    assert len(model.calls) == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_leader_that_stops_reading_stops_nobody(mode):
    model = FaultyModel("abcdef", cuts=(1,), delay_s=0)
    cache, wrapped = chain(model)

    async def main():
        async with wrapped.stream("hi") as leader:
            await anext(leader)
            assert (await ask(wrapped, mode)).text == "abcdef"  # within its own loop over the parts
            assert (await ask(wrapped, mode)).text == "abcdef"
            assert (await leader.response()).text == "abcdef"
        assert told(await ask(wrapped, mode))

    run(main)
    assert len(model.calls) == 1
    assert cache.tally.counts() == {"misses": 1, "followed": 2, "stored": 1, "hits": 1}


@pytest.mark.parametrize("mode", MODES)
def test_what_a_follower_has_whole_is_kept_whoever_leaves(mode):
    model = FaultyModel("abcdef", cuts=(1,), delay_s=0)
    cache, wrapped = chain(model)

    async def main():
        async with wrapped.stream("hi") as leader:
            await anext(leader)
            assert (await ask(wrapped, mode)).text == "abcdef"
        assert told(await ask(wrapped, mode))

    run(main)
    assert (len(model.calls), model.closed) == (1, 1)
    assert cache.tally.counts() == {"misses": 1, "followed": 1, "stored": 1, "hits": 1}


@pytest.mark.parametrize("mode", MODES)
def test_what_is_not_kept_may_be_shared(mode):
    model = FaultyModel(Response(text="abc", finish_reason="length"), delay_s=0)
    cache, wrapped = chain(model)

    async def main():
        return await asyncio.gather(*(ask(wrapped, mode) for _ in range(3)))

    assert [(one.text, one.finish_reason) for one in run(main)] == [("abc", "length")] * 3
    assert len(model.calls) == 1
    assert cache.tally.counts() == {"misses": 1, "followed": 2, "unstored.truncated": 1}


def test_a_part_is_fetched_as_its_leader_would():
    """Whose task it is shows not in the context variables: spans, users and the like are the leader's."""
    who, seen = ContextVar("who"), []

    def noting(params, context):
        return lambda part: seen.append(who.get()) or part

    _, wrapped = chain(FaultyModel("abcdef", cuts=(1,), delay_s=0), middleware("note", transform_parts=noting))

    async def main():
        who.set("leader")
        async with wrapped.stream("hi") as leader:
            await anext(leader)

            async def follow():
                who.set("follower")
                return (await ask(wrapped, "stream")).text

            assert await asyncio.create_task(follow()) == "abcdef"
        assert seen == ["leader"] * 7

    run(main)


def test_an_answer_that_nobody_fetches_does_not_last_forever(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("neuro_mw.builtin.cache.time", lambda: now[0])
    monkeypatch.setattr("neuro_mw.builtin.caching.flights.time", lambda: now[0])
    model = FaultyModel("abc", cuts=(1,))
    _, wrapped = chain(model, ttl_s=10)

    async def main():
        async with wrapped.stream("hi") as leader:
            await anext(leader)
            await ask(wrapped, "stream")
            now[0] += 4
            assert (await ask(wrapped, "stream")).metadata["cache"] == {"hit": True, "age_s": 4.0}
            now[0] += 7
            assert not told(await ask(wrapped, "stream"))

    run(main)
    assert len(model.calls) == 2


# --- leaders that give nothing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("leader", MODES)
@pytest.mark.parametrize("number", [1, 2, 3, 9])
def test_after_three_leaders_each_asks_for_itself(leader, mode, number):
    model = FaultyModel([answer(n) for n in range(20)], faults=[Fault(0, down()) for _ in range(number)], delay_s=0.001)
    _, wrapped = chain(model)

    async def main():
        modes = [leader, *[mode] * 9]
        return await asyncio.gather(*(ask(wrapped, one) for one in modes), return_exceptions=True)

    results = run(main)
    failed = sum(isinstance(one, ProviderUnavailable) for one in results)
    assert failed == number, "each error is told to the one who asked"
    if number < 3:
        assert len(model.calls) == number + 1
    assert len(model.calls) <= 10


@pytest.mark.parametrize("mode", MODES)
def test_leaders_that_go_away(mode):
    model = FaultyModel("abc", faults=[Fault(0, stall_s=inf)] * 2, delay_s=0)
    _, wrapped = chain(model)

    async def main():
        first, second, third = (asyncio.ensure_future(ask(wrapped, mode)) for _ in range(3))
        await ticks(20)
        assert len(model.calls) == 1
        for number, leader in enumerate((first, second)):
            leader.cancel()
            await ticks(20)
            assert len(model.calls) == number + 2
        return (await third).text

    assert run(main) == "abc"
    assert all(call.over for call in model.calls)


@pytest.mark.parametrize("mode", MODES)
def test_nobody_waits_for_a_fourth_leader(mode):
    model = FaultyModel("abc", faults=[Fault(0, stall_s=inf)] * 3, delay_s=0)
    _, wrapped = chain(model)

    async def main():
        calls = [asyncio.ensure_future(ask(wrapped, mode)) for _ in range(10)]
        for number in range(3):
            await ticks(20)
            assert len(model.calls) == number + 1
            calls[number].cancel()
        assert [(await call).text for call in calls[3:]] == ["abc"] * 7
        assert len(model.calls) == 10

    run(main)


@pytest.mark.parametrize("how", ["leaves", "fails"])
def test_who_had_content_cannot_begin_again(how):
    model = FaultyModel("abc", cuts=(1,), faults=[Fault(2, down())] if how == "fails" else [], delay_s=0)
    _, wrapped = chain(model)

    async def main():
        async with wrapped.stream("hi") as leader, wrapped.stream("hi") as follower:
            await anext(leader)
            assert (await anext(follower)).text == "a"
            if how == "leaves":
                await leader.aclose()
            else:
                await anext(follower)
                with suppress(ProviderUnavailable):
                    await leader.response()
            why = "was left" if how == "leaves" else "ProviderUnavailable"
            with pytest.raises(StreamInterrupted, match=why) as caught:
                async for _ in follower:
                    pass
        assert caught.value.partial.text == ("a" if how == "leaves" else "ab")
        assert len(model.calls) == 1

    run(main)


def test_what_says_nothing_is_held_until_there_is_content():
    model = FaultyModel([answer(0), answer(1)], cuts=(9,), faults=[Fault(2, down())], delay_s=0)
    _, wrapped = chain(model)

    async def main():
        results = await asyncio.gather(ask(wrapped, "stream"), ask(wrapped, "stream"), return_exceptions=True)
        assert isinstance(results[0], ProviderUnavailable)
        assert said(results[1]) == answer(1)
        assert len(model.calls[0].parts) == 2
        assert [type(part) for part in model.calls[0].parts] == [ResponseInfo, ProviderDelta]

    run(main)


@pytest.mark.parametrize("leader", MODES)
@pytest.mark.parametrize("mode", MODES)
def test_a_block_is_shared_with_nobody(leader, mode):
    blocked = []

    async def guard(do_generate, params, context):
        response = await do_generate(params)
        if not blocked:
            blocked.append(1)
            response.finish_reason = "content_filter"
        return response

    model = FaultyModel("abc", delay_s=0)
    cache, wrapped = chain(model, middleware("guard", priority=5, wrap_generate=guard))

    async def main():
        return await asyncio.gather(ask(wrapped, leader), *(ask(wrapped, mode) for _ in range(4)))

    first, *others = run(main)
    assert first.finish_reason == "content_filter"
    assert [one.finish_reason for one in others] == ["stop"] * 4
    assert len(model.calls) == 2
    assert cache.tally.counts() == {"misses": 2, "stored": 1, "followed": 3}


def test_a_follower_that_goes_away_touches_nobody():
    model = FaultyModel("abcdef", cuts=(1,), delay_s=0.001)
    _, wrapped = chain(model)

    async def main():
        async with wrapped.stream("hi") as leader:
            await anext(leader)
            followers = [asyncio.ensure_future(ask(wrapped, mode)) for mode in ("stream", "generate", "stream")]
            await ticks(3)  # the first of them waits for a part in the leader's place
            followers[0].cancel()
            await asyncio.wait([followers[0]])
            followers[2].cancel()
            assert (await followers[1]).text == "abcdef"
            assert (await leader.response()).text == "abcdef"

    run(main)
    assert len(model.calls) == 1


def test_what_a_follower_left_is_not_kept_for_it():
    model = FaultyModel("a" * 100, cuts=(10,), delay_s=0)
    cache, wrapped = chain(model, max_bytes=300)  # 44 without the key

    async def main():
        async with wrapped.stream("hi") as leader:
            await anext(leader)
            (flight,) = next(iter(cache._flights._loops.values())).values()
            async with wrapped.stream("hi") as follower:
                await anext(follower)
                assert flight.followers == 1
            assert flight.followers == 0
            waiting = asyncio.ensure_future(ask(wrapped, "generate"))
            await ticks(2)
            assert flight.followers == 1
            waiting.cancel()
            await asyncio.wait([waiting])
            assert flight.followers == 0
            assert (await leader.response()).text == "a" * 100
            assert flight.kept == []

    run(main)
    assert cache.tally.counts() == {"misses": 1, "followed": 1, "unstored.size": 1}


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_leader_that_goes_away_while_another_waits_in_its_place(times):
    model = FaultyModel("abcdef", cuts=(1,), faults=[Fault(2, stall_s=inf)], closing_s=0.001)
    _, wrapped = chain(model)

    async def main():
        async def lead():
            async with wrapped.stream("hi") as leader:
                await anext(leader)
                await asyncio.Event().wait()

        leader = asyncio.ensure_future(lead())
        await ticks(3)
        follower = asyncio.ensure_future(ask(wrapped, "generate"))
        await ticks(5)
        for _ in range(times):
            leader.cancel()
            await ticks(1)
        await asyncio.wait([leader])
        assert leader.cancelled()
        assert model.closed == 1
        assert (await follower).text == "abcdef"

    run(main)
    assert (len(model.calls), model.closed_twice) == (2, 0)


def test_a_leader_that_is_cancelled_while_it_closes():
    model = FaultyModel("abcdef", cuts=(1,), faults=[Fault(2, stall_s=inf)], closing_s=0.01)
    _, wrapped = chain(model)

    async def main():
        async def lead():
            leader = wrapped.stream("hi")
            await anext(leader)
            await asyncio.sleep(0.005)
            await leader.aclose()

        leader = asyncio.ensure_future(lead())
        await ticks(3)
        follower = asyncio.ensure_future(ask(wrapped, "generate"))
        await asyncio.sleep(0.01)
        leader.cancel()
        await asyncio.wait([leader])
        assert leader.cancelled()
        assert (await follower).text == "abcdef"

    run(main)
    assert all(call.over for call in model.calls)


def test_parts_that_cannot_be_copied_are_for_the_leader_alone():
    class Lock:
        type = "lock"

        def __deepcopy__(self, memo):
            raise TypeError

    lock = Lock()
    model = FaultyModel(Response(text="abc", other_parts=[lock]), cuts=(1,), delay_s=0)
    _, wrapped = chain(model)

    async def main():
        async with wrapped.stream("hi") as leader:
            await anext(leader)
            with pytest.raises(StreamInterrupted, match="cannot be shared"):
                await ask(wrapped, "stream")
            assert (await leader.response()).other_parts == [lock]
        assert (await ask(wrapped, "generate")).other_parts == [lock]

    run(main)


def test_unknown_parts_are_shared_as_copies():
    part = SimpleNamespace(type="later", data=[1])
    model = FaultyModel(Response(text="abc", other_parts=[part]), delay_s=0)
    _, wrapped = chain(model)

    async def main():
        return await asyncio.gather(ask(wrapped, "stream"), ask(wrapped, "generate"), ask(wrapped, "stream"))

    responses = run(main)
    assert all(one.other_parts == [part] for one in responses)
    assert len({id(one.other_parts[0].data) for one in responses}) == 3
    assert len(model.calls) == 1


# --- calls within calls, loops, threads --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("inner", MODES)
@pytest.mark.parametrize("spawned", [False, True])
def test_a_call_within_a_call_waits_for_no_other(mode, inner, spawned):
    """Each asks what the other one is at: they would wait for each other forever."""
    model, depth = FaultyModel("abc", delay_s=0), []

    async def asking(params, context):
        if len(depth) < 2:
            depth.append(1)
            await ticks(5)
            other = "b" if params["messages"][0]["content"] == "a" else "a"
            for prompt in (other, params["messages"][0]["content"]):
                call = ask(wrapped, inner, prompt)
                assert (await (asyncio.ensure_future(call) if spawned else call)).text == "abc"
        return params

    _, wrapped = chain(model, middleware("asking", priority=5, transform_params=asking))

    async def main():
        return await asyncio.gather(ask(wrapped, mode, "a"), ask(wrapped, mode, "b"))

    assert [one.text for one in run(main)] == ["abc", "abc"]


@pytest.mark.parametrize("mode", MODES)
def test_threads_and_loops(mode):
    model = FaultyModel("abc", delay_s=0.001)
    cache, wrapped = chain(model)
    texts, barrier = [], threading.Barrier(4)

    def work():
        async def main():
            barrier.wait()
            for prompt in "abcdefgh":
                responses = await asyncio.gather(*(ask(wrapped, mode, prompt) for _ in range(5)))
                texts.extend(one.text for one in responses)

        run(main)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["abc"] * (4 * 8 * 5)
    assert 8 <= len(model.calls) <= 4 * 8
    assert len(cache._flights) == 0
    run(lambda: ask(wrapped, mode))
    assert len(cache._flights._loops) == 1, "loops that are closed are forgotten"


def test_sync_calls():
    model = FaultyModel("abc", delay_s=0.01)
    _, wrapped = chain(model)
    texts = []
    threads = [threading.Thread(target=lambda: texts.append(wrapped.generate_sync("hi").text)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (texts, len(model.calls)) == (["abc"] * 6, 1)


def test_a_stream_that_nobody_closes():
    model = FaultyModel("abc", cuts=(1,), delay_s=0)
    cache, wrapped = chain(model)

    async def main():
        stream = wrapped.stream("hi")
        await anext(stream)
        del stream
        gc.collect()
        await ticks(5)
        assert len(cache._flights) == 0
        return await ask(wrapped, "generate")

    assert run(main).text == "abc"


def test_where_it_is_switched_off():
    model = FaultyModel("abc", delay_s=0)
    _, wrapped = chain(model, single_flight=False)

    async def main():
        await asyncio.gather(*(ask(wrapped, "stream") for _ in range(5)))
        assert told(await ask(wrapped, "stream"))

    run(main)
    assert len(model.calls) == 5


def test_followers_of_a_hit_get_it_too(tmp_path):
    cache, wrapped = chain(model := ScriptedModel("abc"), store=f"sqlite:///{tmp_path}/x.db")

    async def main():
        await ask(wrapped, "generate")
        real = cache.store.run

        async def slow(*scripts):
            await asyncio.sleep(0.01)
            return await real(*scripts)

        cache.store.run = slow
        responses = await asyncio.gather(*(ask(wrapped, mode) for mode in MODES * 3))
        assert all(told(one) for one in responses)
        assert len({one.metadata["cache"]["age_s"] > 0 for one in responses}) == 1

    run(main)
    assert len(model.calls) == 1
    assert cache.tally.counts() == {"misses": 1, "stored": 1, "hits": 1, "followed": 5}


def test_nothing_of_a_call_is_left_in_the_context_of_its_reader():
    _, wrapped = chain(ScriptedModel("abc", cuts=[1]))

    async def main():
        async for _ in wrapped.stream("hi"):
            assert not flights._within.get()
        await ask(wrapped, "generate", "other")
        assert not flights._within.get()

    run(main)


def test_in_a_chain_of_its_kind():
    """A cache in a cache: the model behind has one of its own."""
    model = FaultyModel("abc", delay_s=0)
    _, behind = chain(model)
    _, wrapped = chain(behind)

    async def main():
        responses = await asyncio.gather(*(ask(wrapped, mode) for mode in MODES * 3))
        assert {one.text for one in responses} == {"abc"}

    run(main)
    assert len(model.calls) == 1


def test_factory_is_closed_in_peace():
    async def main():
        factory = MiddlewareFactory(preset=None, plugins=False, middleware=[chain(ScriptedModel())[0]])
        async with factory:
            response = await ask(factory.apply_middleware(ScriptedModel()), "stream")
        assert response.text == "hello"

    run(main)


# --- cancelled at every await ------------------------------------------------------------------------------------


class Interrupted:
    """Awaits a coroutine, and cancels the task that does so where it suspends for the n-th time, for each n given."""

    def __init__(self, coroutine, *at):
        self.coroutine, self.at, self.count = coroutine, at, 0

    def __await__(self):
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
            try:
                yield waits_for
            except BaseException as thrown:  # noqa: BLE001  # it is thrown on
                error = thrown


@settings(max_examples=FEW // 5)
@given(
    victim=st.integers(0, 2), modes=st.tuples(*[st.sampled_from(MODES)] * 3), again=st.integers(0, 2),
    pauses=st.tuples(*[st.integers(0, 2)] * 3), cuts=st.sampled_from([1, 3, 20]), closing=st.booleans(),
)  # fmt: skip
def test_cancelled_at_every_await(victim, modes, again, pauses, cuts, closing):
    """Whoever it is, it is final, and the others get what they would have got or can say why not."""

    async def main():
        number = 1
        while await cancelled_at(number):
            number += 1

    async def cancelled_at(number):
        model = FaultyModel([answer(n) for n in range(9)], cuts=(cuts,), delay_s=0, closing_s=0 if closing else None)
        cache, wrapped = chain(model)
        callers = [Caller(mode, pause=pause) for mode, pause in zip(modes, pauses, strict=True)]
        calls = [one.call(wrapped, None) for one in callers]
        calls[victim] = interrupted = Interrupted(calls[victim], number, number + again)

        async def until(call):
            await call

        tasks = [asyncio.ensure_future(until(call)) for call in calls]
        await asyncio.wait(tasks)
        was_cancelled = interrupted.count >= number
        assert tasks[victim].cancelled() == was_cancelled
        answers = [answer(n) for n in range(9)]
        for one in callers:
            if one.response is not None:
                assert said(one.response) in answers
            elif one is not callers[victim]:
                assert one.mode == "stream"
                assert isinstance(one.error, StreamInterrupted)
                assert one.error.partial.text == "".join(p.text for p in one.got if isinstance(p, TextDelta))
        assert all(call.over for call in model.calls)
        assert (model.opened, model.closed_twice, model.read_after_close) == (model.closed, 0, 0)
        assert len(cache._flights) == 0
        assert len(model.calls) <= 2
        return was_cancelled

    run(main)

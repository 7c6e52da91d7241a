"""Work off the path of a call: bounded, in the submitter's loop and context, counted whatever becomes of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from contextvars import ContextVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import middleware
from neuro_mw.builtin import _background
from neuro_mw.builtin._background import Background, NoThreadError


def queue(**options):
    owner = middleware("owner")
    return Background(owner, "jobs", **options), owner.tally.counts


async def settled(background, turns=50):
    for _ in range(turns):
        if not len(background):
            return
        await asyncio.sleep(0)


def test_it_never_runs_within_the_call_that_submits():
    for eager in (False, True):
        if eager and not hasattr(asyncio, "eager_task_factory"):
            continue
        background, counts = queue()
        ran = []

        async def job(name):
            ran.append(name)

        async def main():
            if eager:
                asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            assert background.submit(job, "a")
            assert (ran, len(background)) == ([], 1)
            await background.aclose()
            assert (ran, len(background)) == (["a"], 0)

        asyncio.run(main())
        assert counts() == {}


def test_outside_of_a_loop_it_is_refused():
    background, counts = queue()
    with pytest.raises(RuntimeError):
        background.submit(asyncio.sleep, 0)
    assert (len(background), counts()) == (0, {})


@given(jobs=st.integers(0, 12), at_once=st.integers(1, 4), max_pending=st.integers(0, 6))
def test_what_finds_no_room_is_dropped_and_the_rest_runs_in_order(jobs, at_once, max_pending):
    background, counts = queue(at_once=at_once, max_pending=max_pending)
    ran, most = [], [0, 0]

    async def main():
        async def job(number):
            most[0] += 1
            most[1] = max(most)
            await asyncio.sleep(0)
            ran.append(number)
            most[0] -= 1

        taken = [background.submit(job, number) for number in range(jobs)]
        assert taken == [number < at_once + max_pending for number in range(jobs)]
        assert len(background) == sum(taken)
        await settled(background)
        assert ran == [number for number in range(jobs) if taken[number]]
        assert most[1] <= at_once
        assert background.submit(job, -1)  # there is room again
        await background.aclose()
        assert ran[-1] == -1

    asyncio.run(main())
    dropped = max(0, jobs - at_once - max_pending)
    assert counts() == ({"jobs_dropped": dropped} if dropped else {})


def test_each_runs_in_the_context_of_who_submitted_it():
    who: ContextVar[str] = ContextVar("who", default="nobody")
    background, _ = queue(at_once=1)
    seen = []

    async def job():
        await asyncio.sleep(0.001)  # so that the others wait
        seen.append(who.get())
        who.set("a job")

    async def submit(name):
        who.set(name)
        background.submit(job)

    async def main():
        for name in "abc":
            await asyncio.create_task(submit(name))
        await background.aclose()
        assert who.get() == "nobody"

    asyncio.run(main())
    assert seen == ["a", "b", "c"]


def test_errors_are_counted_and_told_once_a_minute_without_their_text(monkeypatch, caplog):
    now = [100.0]
    monkeypatch.setattr(_background, "clock", lambda: now[0])
    background, counts = queue()

    async def job(error):
        raise error

    async def main():
        for step in (0, 1, 58, 1, 5):
            now[0] += step
            background.submit(job, ValueError("s3cr3t"))
            await settled(background)
        background.submit(job, asyncio.CancelledError("s3cr3t: of something it awaited"))
        background.submit(job, TimeoutError("s3cr3t: its own"))
        background.submit(job, ExceptionGroup("s3cr3t", [ValueError()]))
        await settled(background)

    with caplog.at_level(logging.WARNING, "neuro_mw"):
        asyncio.run(main())
    assert counts() == {"jobs_failed": 8}
    assert len(caplog.records) == 2
    assert "middleware 'owner': jobs failed (ValueError at " in caplog.text
    assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_work_that_wants_to_end_the_process_ends_nothing(error):
    background, counts = queue(at_once=1)
    ran = []

    async def ends():
        raise error

    async def good():
        ran.append(1)

    async def main():
        background.submit(ends)
        background.submit(good)
        await background.aclose()
        ran.append(2)

    asyncio.run(main())
    assert (ran, counts()) == ([1, 2], {"jobs_failed": 1})


def test_a_log_that_raises_stops_no_work_and_no_submission(monkeypatch):
    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError("the handler broke")

    background, counts = queue(at_once=1, max_pending=1)
    ran = []

    async def bad():
        raise ValueError

    async def good():
        ran.append(1)

    async def main():
        assert [background.submit(job) for job in (bad, good, good)] == [True, True, False]
        await settled(background)
        assert len(background) == 0
        background.submit(asyncio.Event().wait)
        await background.aclose(0.01)

    monkeypatch.setattr(logging.getLogger("neuro_mw"), "handlers", [Broken()])
    asyncio.run(main())
    assert (ran, counts()) == ([1], {"jobs_dropped": 1, "jobs_failed": 1, "jobs_cancelled": 1})


def test_what_hangs_is_ended_and_makes_room():
    background, counts = queue(at_once=1, timeout_s=0.01)
    ran = []

    async def good():
        ran.append(1)

    async def main():
        background.submit(asyncio.Event().wait)
        background.submit(good)
        await background.aclose()

    asyncio.run(main())
    assert (ran, counts()) == ([1], {"jobs_timed_out": 1})


@pytest.mark.parametrize("swallows", [False, True])
def test_aclose_drains_within_its_limit_and_then_cancels(swallows):
    background, counts = queue(at_once=2)
    ends = []

    async def job(name):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append(name)
            if not swallows:
                raise

    async def main():
        for name in "abcde":
            background.submit(job, name)
        await background.aclose(0.01)
        assert len(background) == 0
        assert len(asyncio.all_tasks()) == 1
        background.submit(asyncio.sleep, 0)  # it may be used again
        await background.aclose(5)

    asyncio.run(main())
    assert sorted(ends) == ["a", "b"]
    assert counts() == {"jobs_cancelled": 3 if swallows else 5}


def test_aclose_waits_for_other_loops_and_cancels_there():
    background, counts = queue(at_once=1)
    loop, ran = asyncio.new_event_loop(), []
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def slow():
        await asyncio.sleep(0.02)
        ran.append(asyncio.get_running_loop())

    async def submit(*jobs):
        for job in jobs:
            background.submit(job)

    def there(*jobs):
        asyncio.run_coroutine_threadsafe(submit(*jobs), loop).result()

    there(slow, slow)
    asyncio.run(background.aclose())
    assert ran == [loop, loop]
    there(asyncio.Event().wait, slow)
    asyncio.run(background.aclose(0.01))
    assert len(background) == 0
    assert counts() == {"jobs_cancelled": 2}
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.parametrize("begun", [False, True])
def test_a_loop_that_ends_takes_its_work_along(begun):
    background, counts = queue(at_once=2)

    async def main():
        for _ in range(5):
            background.submit(asyncio.Event().wait)
        if begun:
            await asyncio.sleep(0.001)
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(main())
    assert (len(background), counts()) == (0, {"jobs_cancelled": 5})
    gc.collect()
    assert loop() is None
    asyncio.run(background.aclose())
    assert counts() == {"jobs_cancelled": 5}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize("by", ["submit", "aclose"])
def test_a_loop_that_was_closed_over_its_work_is_let_go(by):
    background, counts = queue(at_once=1)

    async def job():
        await asyncio.Event().wait()

    async def main():
        background.submit(job)
        background.submit(job)

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    loop.run_until_complete(main())
    loop.close()
    assert len(background) == 2

    async def submit():
        background.submit(asyncio.sleep, 0)
        await settled(background)

    asyncio.run(background.aclose() if by == "aclose" else submit())
    assert (len(background), counts()) == (0, {"jobs_cancelled": 2})
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None


@given(plan=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["good", "bad", "hangs"])), max_size=12))
def test_everything_submitted_is_accounted_for(plan):
    """Run, failed, dropped or cancelled: each piece is exactly one of these, whatever loops it came from."""
    background, counts = queue(at_once=1, max_pending=2)
    ran = []

    async def job(kind):
        await asyncio.sleep(0)
        if kind == "bad":
            raise ValueError
        if kind == "hangs":
            await asyncio.Event().wait()
        ran.append(kind)

    async def main(kinds):
        for kind in kinds:
            background.submit(job, kind)
            await asyncio.sleep(0)

    for number in range(4):
        asyncio.run(main([kind for loop, kind in plan if loop == number]))
        assert len(background) == 0
    found = counts()
    assert set(found) <= {"jobs_failed", "jobs_dropped", "jobs_cancelled"}
    assert len(ran) + sum(found.values()) == len(plan)


# --- plain functions ---------------------------------------------------------------------------------------------


def test_a_plain_function_runs_on_a_thread_and_what_it_gives_may_be_awaited():
    background, counts = queue()
    threads, results = [], []

    def plain(number):
        threads.append(threading.current_thread())
        return number + 1

    async def twice(number):
        return number * 2

    async def job():
        results.append(await background.in_thread(plain, 1))
        results.append(await background.in_thread(lambda: twice(4)))

    async def main():
        background.submit(job)
        await background.aclose()

    asyncio.run(main())
    assert results == [2, 8]
    assert threads[0] is not threading.main_thread()
    assert threads[0].daemon
    assert counts() == {}


@pytest.mark.parametrize("error", [ValueError("x"), StopIteration("x"), SystemExit(3), KeyboardInterrupt()])
def test_what_a_thread_raises_is_a_failure_and_nothing_else(error):
    background, counts = queue()

    def plain():
        raise error

    async def main():
        background.submit(background.in_thread, plain)
        await background.aclose()

    asyncio.run(main())
    assert counts() == {"jobs_failed": 1}


def test_who_finds_no_thread_learns_of_it(caplog):
    background, counts = queue(max_threads=0)
    called, learned = [], []

    async def job():
        try:
            await background.in_thread(called.append, 1)
        except NoThreadError:
            learned.append(1)
            raise

    async def main():
        background.submit(job)
        background.submit(background.in_thread, called.append, 1)
        await background.aclose()

    with caplog.at_level(logging.WARNING, "neuro_mw"):
        asyncio.run(main())
    assert (called, learned, counts()) == ([], [1], {"jobs_dropped": 2})
    assert [record.getMessage() for record in caplog.records] == [
        "middleware 'owner': jobs dropped (there is no thread for it)"
    ]  # once a minute


def test_a_process_that_can_have_no_more_threads_gives_the_places_back(monkeypatch):
    background, counts = queue(max_threads=1)
    called = []

    async def main():
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_more)
            for _ in range(3):
                background.submit(background.in_thread, called.append, 1)
            await background.aclose()
        background.submit(background.in_thread, called.append, 2)
        await background.aclose()

    def no_more(thread):
        raise RuntimeError("can't start new thread")

    asyncio.run(main())
    assert counts() == {"jobs_dropped": 3}
    assert called == [2]


def test_threads_that_hang_are_bounded_and_hold_up_no_loop():
    background, counts = queue(timeout_s=0.01, max_threads=2)
    go, ran = threading.Event(), []

    def hangs():
        go.wait(30)
        ran.append(1)

    async def main():
        for _ in range(5):
            background.submit(background.in_thread, hangs)
        await background.aclose()

    asyncio.run(main())
    assert counts() == {"jobs_timed_out": 2, "jobs_dropped": 3}
    go.set()  # they give their threads back, and tell no loop that is gone
    for thread in threading.enumerate():
        if thread.name == "neuro_mw-jobs":
            thread.join()
    assert ran == [1, 1]

    async def again():
        background.submit(background.in_thread, ran.append, 2)
        await background.aclose()

    asyncio.run(again())
    assert ran == [1, 1, 2]

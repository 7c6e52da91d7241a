"""budget: nothing that was spent is forgotten or booked twice, whatever becomes of the store and of the caller."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from contextlib import contextmanager
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_mw import (
    BadRequest,
    BudgetExceeded,
    MiddlewareFactory,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    Response,
    Usage,
    middleware,
    parts_of,
)
from neuro_mw.builtin import _keeping, _owed
from neuro_mw.builtin import budget as module
from neuro_mw.builtin._owed import Owed, owed_to
from neuro_mw.builtin.budget import Budget
from neuro_mw.builtin.cache import Cache
from neuro_mw.builtin.rate_limit import RateLimit
from neuro_mw.builtin.retry import Retry
from neuro_mw.state import Peek, Release, Reserve, Settle, Spending, StoreUnavailable, Take, open_store
from neuro_mw.state.connections import Connections
from neuro_mw.state.memory import MemoryStore
from neuro_mw.testing import FaultyModel, ScriptedModel
from tests.state.conftest import mortal, redis_url, valkey

__all__ = ["mortal", "redis_url", "valkey"]  # fixtures
MODES = ["generate", "stream"]
FEW = settings().max_examples // 5
PER_TOKEN = {"gpt-4o": {"input": 0.0, "output": 1000.0}}  # a token out costs a tenth of a cent, one in nothing
MILLI = 1_000_000  # what such a token costs
BOOKS = "budget:budget:None:ever:global"


def said(out=2, into=3, text="hello"):
    return Response(text=text, usage=Usage(into, out))


def late():
    return ProviderTimeout("late", provider="openai", model="gpt-4o", retryable=True)


def busy():
    return ProviderRateLimited("busy", provider="openai", model="gpt-4o", status=429, retryable=True)


def budget_of(tokens=1000, **more):
    return Budget(limit_usd=f"{tokens / 1000:.3f}", window=None, prices=PER_TOKEN, **more)


async def call(model, mode="generate", prompt="hello", **params):
    if mode == "generate":
        return await model.generate(prompt, **{"max_tokens": 10, **params})
    return await model.stream(prompt, **{"max_tokens": 10, **params}).response()


class Far:
    """A store over a network, as far as that shows: it can be away, slow to say that it did it, or cut off."""

    remote = True

    def __init__(self, inner=None):
        self.inner, self.trips = inner or MemoryStore(), []
        self.url = self.inner.url
        self.away = ""  # "before" it was done, or "behind" that
        self.stops = None  # an event: it waits for that, before or behind what it did
        self.early = False

    async def run(self, *scripts):
        self.trips.append([one.name for one in scripts])
        await asyncio.sleep(0)
        if self.away == "before":
            raise StoreUnavailable("gone", url=self.url)
        if self.stops is not None and self.early:
            await self.stops.wait()
        found = await self.inner.run(*scripts)
        if self.stops is not None:
            await self.stops.wait()
        if self.away == "behind":
            raise StoreUnavailable("too slow", url=self.url, sent=True)
        return found

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.fixture
def far():
    return Far()


@pytest.fixture
def at_once(monkeypatch):
    """A store that was away is asked again by the next call."""
    monkeypatch.setattr(_keeping, "_REST_S", 0.0)


def chain_of(store, model, *layers):
    for layer in layers:
        if layer.uses_store:
            layer.store = store
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=layers)
    return factory.apply_middleware(model)


async def standing(store, key=BOOKS):
    [found] = await getattr(store, "inner", store).run(Peek(key))
    return found or Spending(True, 0, 0)


class Gated(ScriptedModel):
    """Its first calls answer when they are let go."""

    def __init__(self, response, held=99):
        super().__init__(response)
        self.held, self.go = held, asyncio.Event()

    async def _wait(self):
        if len(self.calls) <= self.held:
            await self.go.wait()


async def until(holds):
    """Let others run until this holds; nobody tells when."""
    for _ in range(10_000):
        found = holds()
        if await found if asyncio.iscoroutine(found) else found:
            return
        await asyncio.sleep(0.0001)
    raise AssertionError("it never came to that")


async def reserved(store):
    return (await standing(store)).reserved


# --- what is owed to a store that was away -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("when", ["before", "behind"])
def test_what_calls_cost_while_the_store_was_away_is_written_with_the_next_question(far, mode, when, at_once):
    """Also where the first try had arrived, and only its answer had not: then it is not booked again."""
    budget = budget_of()

    async def main():
        model = Gated(said(4), 3)
        wrapped = chain_of(far, model, budget)
        tasks = [asyncio.ensure_future(call(wrapped, mode, prompt)) for prompt in "abc"]
        await until(lambda: len(model.calls) == 3)
        assert await standing(far) == (True, 0, 30 * MILLI)
        far.away = when
        model.go.set()
        answers = await asyncio.gather(*tasks)
        assert [one.text for one in answers] == ["hello"] * 3
        assert all(one.receipt.layers["budget"]["failures_skipped"] == 1 for one in answers)
        assert budget.tally.counts() == {"owed": 3}
        far.away = ""
        await call(wrapped, mode)
        assert far.trips[-2:] == [["settle"] * 3 + ["reserve"], ["settle"]]
        assert await standing(far) == (True, 16 * MILLI, 0)
        assert len(owed_to(far)) == 0

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("when", ["before", "behind"])
def test_or_when_the_factory_is_closed(far, mode, when, at_once):
    budget = budget_of()
    budget.store = far

    async def main():
        factory = MiddlewareFactory(preset=None, plugins=False, middleware=[budget])
        async with factory:
            model = Gated(said(4))
            wrapped = factory.apply_middleware(model)
            tasks = [asyncio.ensure_future(call(wrapped, mode)) for _ in range(2)]
            await until(lambda: len(model.calls) == 2)
            far.away = when
            model.go.set()
            await asyncio.gather(*tasks)
            far.away = ""
        assert await standing(far) == (True, 8 * MILLI, 0)

    asyncio.run(main())


def test_more_than_fits_into_one_question_is_written_at_the_end_too(far):
    owed = owed_to(far)
    for at in range(200):
        assert owed.add(Settle(BOOKS, f"{at}", 1), tried=False)
    budget = budget_of()
    budget.store = far
    asyncio.run(budget.aclose())
    assert asyncio.run(standing(far)) == (True, 200, 0)
    assert max(map(len, far.trips)) <= 64


def test_what_is_owed_at_the_end_to_a_store_that_stays_away_is_counted(far):
    budget = budget_of()
    budget.store, far.away = far, "before"
    for at in range(3):
        owed_to(far).add(Settle(BOOKS, f"{at}", 1), tried=False)
    asyncio.run(budget.aclose())
    assert budget.tally.counts() == {"not_written": 3}


def test_what_is_owed_is_bounded(far, monkeypatch):
    """What is beyond is counted as lost, and said."""
    assert _owed._MOST == 10_000
    monkeypatch.setattr(_owed, "_MOST", 2)
    budget, held = budget_of(), []

    async def main():
        model = Gated(said(4))
        wrapped = chain_of(far, model, budget)
        held.extend(asyncio.ensure_future(call(wrapped)) for _ in range(3))
        await until(lambda: len(model.calls) == 3)
        far.away = "before"
        model.go.set()
        await asyncio.gather(*held)

    asyncio.run(main())
    assert budget.tally.counts() == {"owed": 2, "not_written": 1}


def test_only_ends_of_leases_are_owed():
    """What is taken or reserved is not done later, when nobody waits for it."""
    owed = Owed()
    for script in (Take("a", 1, 1, 1.0), Reserve("a", "b", 1, 1, 1.0, 1.0), Peek("a")):
        assert not owed.add(script, tried=False)
    assert owed.add(Release("a", "b"), tried=True)
    assert owed.add(Settle("a", "b", 1), tried=True)
    assert list(owed._scripts) == [Release("a", "b"), Settle("a", "b", 1, True)]


class Broken(Far):
    """One of its keys holds what is none of ours."""

    broken = "corrupt"

    async def run(self, *scripts):
        for script in scripts:
            if script.key == self.broken:
                self.trips.append("corrupt")
                raise StoreUnavailable("a key holds an entry that is none of ours", url=self.url, key=script.key)
        return await super().run(*scripts)


def test_a_broken_entry_among_what_is_owed_stops_nothing_else():
    store = Broken()
    owed = owed_to(store)
    for key in (BOOKS, "corrupt", BOOKS, "corrupt", "other"):
        owed.add(Settle(key, "", 1), tried=False)
    budget = budget_of()
    wrapped = chain_of(store, ScriptedModel(said(4)), budget)
    asyncio.run(call(wrapped))
    assert asyncio.run(standing(store)) == (True, 2 + 4 * MILLI, 0)
    assert asyncio.run(standing(store, "other")) == (True, 1, 0)
    assert len(owed) == 0
    assert budget.tally.counts() == {"not_written": 2}  # the two of the broken entry


@pytest.mark.parametrize("mode", MODES)
def test_what_was_spent_without_a_lease_is_not_forgotten(far, mode, at_once):
    """With "open" a call passes while the store is away; it is away still when the call has ended, and then comes back.

    That it is owed was counted.
    """
    budget = budget_of(on_store_failure="open")
    wrapped = chain_of(far, ScriptedModel(said(4)), budget)

    async def main():
        far.away = "before"
        await call(wrapped, mode)
        assert budget.tally.counts() == {"store_away": 1, "owed": 1}
        far.away = ""
        await budget.aclose()
        assert await standing(far) == (True, 4 * MILLI, 0)

    asyncio.run(main())


HOW = st.sampled_from(["", "", "before", "behind", "cancel", "cancel early"])
OUTAGES = st.lists(st.tuples(HOW, HOW, st.integers(0, 10), st.sampled_from(MODES)), min_size=1, max_size=20)


@settings(max_examples=FEW)
@given(OUTAGES, st.sampled_from(["open", "closed", "local"]))
def test_all_that_was_spent_is_in_the_books_once(steps, policy):
    """Whether the store goes before or behind what it did, at the question or at the end, or the caller goes then.

    With "open" an attempt may be made without a lease; it is booked in the end nevertheless, but where its booking was
    cut off: then nobody can say whether it arrived, and it is not done again.
    """
    was, _keeping._REST_S = _keeping._REST_S, 0.0
    far, local, spent, at_end = Far(), 0, 0, ""
    budget = budget_of(10**6, on_store_failure=policy)

    def becomes(how):
        cancelled = how.startswith("cancel")
        far.away = "" if cancelled else how
        far.stops, far.early = asyncio.Event() if cancelled else None, how == "cancel early" and policy != "open"

    class Model(ScriptedModel):
        async def generate(self, params):
            becomes(at_end)
            return await super().generate(params)

        async def stream(self, params):
            becomes(at_end)
            async for part in super().stream(params):
                yield part

    model = Model()
    wrapped = chain_of(far, model, budget)

    async def main():
        nonlocal at_end, spent, local
        for at_start, at_end, tokens, mode in steps:
            becomes(at_start)
            model.response = said(tokens)
            before, trips = len(model.calls), len(far.trips)
            task = asyncio.ensure_future(call(wrapped, mode))
            while not task.done():
                await asyncio.sleep(0)
                if far.stops is not None and len(far.trips) > trips:
                    for _ in range(3):
                        await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.sleep(0)
                    far.stops.set()
                    await asyncio.wait([task])
            if not task.cancelled() and task.exception() is not None:
                assert isinstance(task.exception(), StoreUnavailable)
                assert policy == "closed"
            if len(model.calls) > before:
                if policy == "local" and at_start in ("before", "behind"):
                    local += tokens
                else:
                    spent += tokens
        becomes("")
        await budget.aclose()
        assert await standing(far) == (True, spent * MILLI, 0)
        if budget._local is not None:
            assert await standing(budget._local) == (True, local * MILLI, 0)

    try:
        asyncio.run(main())
    finally:
        _keeping._REST_S = was
    assert "not_written" not in budget.tally.counts()


# --- callers that go away while it is written --------------------------------------------------------------------


@contextmanager
def locked(path):
    """Another process writes, and takes its time."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_caller_that_goes_away_while_the_file_is_locked_is_booked_once(tmp_path, mode):
    path = tmp_path / "state.db"
    budget = budget_of(store=f"sqlite:///{path}?timeout_s=5")
    lock = locked(path)

    class Model(ScriptedModel):
        """Somebody locks the file when it is asked."""

        def _fail(self, error):
            if len(self.calls) == 1 and self.opened + (self.calls[0][0] == "generate") and not self.pulled:
                lock.__enter__()
                self.pulled = 1

    async def main():
        wrapped = MiddlewareFactory(preset=None, plugins=False, middleware=[budget]).apply_middleware(Model(said(4)))
        await budget.store.ping()
        task = asyncio.ensure_future(call(wrapped, mode))
        await asyncio.sleep(0.1)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        lock.__exit__(None, None, None)
        assert await standing(budget.store) == (True, 0, 10 * MILLI)
        await call(wrapped, mode)
        assert await standing(budget.store) == (True, 8 * MILLI, 0)
        await budget.aclose()

    asyncio.run(main())


@contextmanager
def paused(server):
    """It accepts what is sent, and answers when it goes on."""
    pid = server._process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("goes", ["cancelled", "too slow"])
def test_a_server_that_is_slow_to_say_that_it_was_written(mortal, mode, goes, at_once):
    """The settlement arrived, and its second try too; it is booked once."""
    budget = budget_of(store=f"redis://127.0.0.1:{mortal.port}/0?timeout_s=0.2&connect_timeout_s=0.2")

    async def main():
        go = asyncio.Event()

        class Model(ScriptedModel):
            async def _wait(self):
                asked.set()
                await go.wait()

        asked = asyncio.Event()
        wrapped = MiddlewareFactory(preset=None, plugins=False, middleware=[budget]).apply_middleware(Model(said(4)))
        task = asyncio.ensure_future(call(wrapped, mode))
        await asked.wait()
        with paused(mortal):
            go.set()
            if goes == "cancelled":
                await asyncio.sleep(0.05)
                task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() is (goes == "cancelled")
        await call(wrapped, mode)
        assert await standing(budget.store) == (True, 8 * MILLI, 0)
        await budget.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
def test_a_call_cancelled_in_its_first_question_gives_back_what_was_foreseen(far, mode):
    """The store had reserved already; nobody waited for its answer any more."""
    budget = budget_of(15)
    wrapped = chain_of(far, ScriptedModel(said(4)), RateLimit(limits=["100/day"]), budget)

    async def main():
        far.stops = asyncio.Event()
        task = asyncio.ensure_future(call(wrapped, mode))
        await until(lambda: reserved(far))
        task.cancel()
        await asyncio.sleep(0)
        far.stops.set()
        await asyncio.wait([task])
        far.stops = None
        await call(wrapped, mode)
        assert await standing(far) == (True, 4 * MILLI, 0)

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
def test_a_call_that_is_cancelled_while_the_server_is_asked_is_cancelled(mortal, mode, at_once):
    """It does not go on to the model as where the store is away."""
    budget = budget_of(store=f"redis://127.0.0.1:{mortal.port}/0?timeout_s=0.2&connect_timeout_s=0.2",
                       on_store_failure="open")  # fmt: skip
    scripted = ScriptedModel(said(4))

    async def main():
        wrapped = MiddlewareFactory(preset=None, plugins=False, middleware=[budget]).apply_middleware(scripted)
        await call(wrapped, mode)
        with paused(mortal):
            for pauses in range(1, 4):
                task = asyncio.ensure_future(call(wrapped, mode))
                for _ in range(pauses):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait_for(asyncio.wait([task]), 10)
                assert task.cancelled(), pauses
        await budget.aclose()

    asyncio.run(main())
    assert len(scripted.calls) == 1


def test_a_call_cancelled_as_the_answer_comes_is_cancelled(redis_url):
    """Wherever the cancellation falls: below Python 3.12 a timeout of the driver's may take it for its own."""
    store = open_store(redis_url)

    async def one():
        for _ in range(3):
            await store.run(Peek("nothing"))
        await asyncio.sleep(60)

    async def main():
        await store.ping()
        for pauses in range(40):
            task = asyncio.ensure_future(one())
            for _ in range(pauses):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=2)
            assert done, pauses
            assert task.cancelled(), pauses
        await store.aclose()

    asyncio.run(main())


# --- attempts ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "far"])
def store(request):
    return MemoryStore() if request.param == "memory" else Far()


@pytest.mark.parametrize("mode", MODES)
def test_an_attempt_that_goes_on_behind_its_passage_costs_what_was_reserved(store, mode):
    """Its answer comes when the books of this passage are closed."""
    left = []

    async def first_of(do, params, context):
        async def one():
            if mode == "generate":
                return await do(params)
            return [part async for part in do(params)]

        left.append(asyncio.ensure_future(one()))
        await until(lambda: context.attempts)
        if mode == "generate":
            return said(0, text="instead")
        return None

    async def generate(do_generate, params, context):
        return await first_of(do_generate, params, context)

    async def stream(do_stream, params, context):
        await first_of(do_stream, params, context)
        for part in parts_of(said(0, text="instead")):
            yield part

    hook = {"wrap_generate": generate} if mode == "generate" else {"wrap_stream": stream}
    budget = budget_of()
    model = Gated(said(3))

    async def main():
        wrapped = chain_of(store, model, budget, middleware("leaves", priority=10, **hook))
        assert (await call(wrapped, mode)).text == "instead"
        assert await standing(store) == (True, 10 * MILLI, 0)
        model.go.set()
        await asyncio.gather(*left, return_exceptions=True)
        assert await standing(store) == (True, 10 * MILLI, 0)

    asyncio.run(main())
    assert budget.tally.counts() == {"usage_unknown": 1}


def hedge(number, wait_for_all):
    """So many calls side by side; the others are cancelled when the first has answered, or waited for."""

    async def hedged(do_generate, params, context):
        tasks = [asyncio.ensure_future(do_generate({**params, "seed": at})) for at in range(number)]
        done, rest = await asyncio.wait(tasks, return_when="ALL_COMPLETED" if wait_for_all else "FIRST_COMPLETED")
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest)
        return min(done, key=tasks.index).result()

    return hedged


@settings(max_examples=FEW)
@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=4), st.booleans(), st.booleans(), st.integers(1, 3),
    st.booleans(),
)  # fmt: skip
def test_attempts_side_by_side_are_paid_for_by_their_own_passages(ticks, outside, wait_for_all, tries, remote):
    """Around the budget or inside of it; several times in one call; each model call is in the books once."""
    store = Far() if remote else MemoryStore()
    budget = budget_of(10**6)

    class Model(FaultyModel):
        tokens = count(1)

        async def generate(self, params):
            at = params["seed"]
            for _ in range(ticks[at] * 3):
                await asyncio.sleep(0)
            number = next(self.tokens)
            call, _ = self._begin("generate", params)
            call.usage = Usage(3, number)
            await asyncio.sleep(0)
            call.over = True
            return said(number)

    model = Model()

    async def again(do_generate, params, context):
        for _ in range(tries):
            response = await do_generate(params)
        return response

    side = middleware("hedge", wrap_generate=hedge(len(ticks), wait_for_all), priority=60 if outside else 10)
    wrapped = chain_of(store, model, middleware("again", wrap_generate=again, priority=80), side, budget)

    async def main():
        await call(wrapped)
        await budget.aclose()  # who was cancelled while it was written owes it
        found = await standing(store)
        assert found.reserved == 0
        told = sum(one.usage.output_tokens for one in model.calls if one.over)
        assert found.spent >= told * MILLI
        if wait_for_all:
            assert found.spent == told * MILLI
        else:
            most = told + 10 * (len(ticks) * tries - sum(one.over for one in model.calls))
            assert found.spent <= most * MILLI

    asyncio.run(main())


FAILURES = {
    "answer too large": (ProviderError("large", provider="openai", model="gpt-4o", status=200), 0, 10),
    "no status": (ProviderError("odd", provider="openai", model="gpt-4o"), 0, 10),
    "refused": (ProviderError("no", provider="openai", model="gpt-4o", status=404), 0, 0),
    "broken server": (ProviderError("no", provider="openai", model="gpt-4o", status=500), 0, 0),
    "busy": (busy(), 0, 0),
    "late": (late(), 0, 10),
    "late with a status": (ProviderTimeout("late", provider="openai", model="gpt-4o", status=504), 0, 10),
    "refused behind a part": (ProviderError("no", provider="openai", model="gpt-4o", status=500), 1, 10),
    "busy behind a part": (busy(), 1, 10),
}


@pytest.mark.parametrize(("name", "mode"), [
    (name, mode) for name, (_, at, _) in FAILURES.items() for mode in MODES if not at or mode == "stream"
])  # fmt: skip
def test_what_an_attempt_costs_that_failed(store, mode, name):
    error, at, tokens = FAILURES[name]
    wrapped = chain_of(store, ScriptedModel(said(4), error=error, error_at=at), budget_of())

    async def main():
        with pytest.raises(ProviderError):
            await call(wrapped, mode)
        assert await standing(store) == (True, tokens * MILLI, 0)

    asyncio.run(main())


def test_calls_of_one_request_id_have_leases_of_their_own(far):
    """A middleware gives all of them the id of the job they belong to."""

    def name(params, context):
        context.metadata.request_id = "job-1"
        return params

    model = Gated(said(4), 3)
    wrapped = chain_of(far, model, middleware("name", transform_params=name, priority=200), budget_of(30))

    async def main():
        tasks = [asyncio.ensure_future(call(wrapped, prompt=prompt)) for prompt in "abc"]
        await until(lambda: len(model.calls) == 3)
        assert await standing(far) == (True, 0, 30 * MILLI)
        with pytest.raises(BudgetExceeded):
            await call(wrapped)
        model.go.set()
        await asyncio.gather(*tasks)
        assert await standing(far) == (True, 12 * MILLI, 0)

    asyncio.run(main())


def test_a_request_id_may_be_as_long_as_it_likes(far):
    def name(params, context):
        context.metadata.request_id = "j" * 100_000
        return params

    naming = middleware("name", transform_params=name, priority=200)
    wrapped = chain_of(far, ScriptedModel(said(4)), naming, budget_of())
    seen, run = [], far.run

    async def noting(*scripts):
        seen.extend(one.arguments[0] for one in scripts)
        return await run(*scripts)

    far.run = noting
    asyncio.run(call(wrapped))
    assert seen
    assert all(len(lease) < 200 for lease in seen)


# --- what was foreseen -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modes", [["generate"], ["stream"], ["generate", "stream"]])
def test_who_follows_holds_no_reservation(far, modes):
    """Ten calls for one answer, and room for two calls: another question passes at once."""
    budget = budget_of(20)
    model = Gated(said(4), 1)
    wrapped = chain_of(far, model, RateLimit(limits=["1000/day"]), Cache(), budget)

    async def main():
        tasks = [asyncio.ensure_future(call(wrapped, modes[at % len(modes)])) for at in range(2)]
        await until(lambda: model.calls)
        for _ in range(30):
            await asyncio.sleep(0)
        assert not (await call(wrapped, prompt="another")).metadata["cache"]["hit"]
        model.go.set()
        answers = await asyncio.gather(*tasks)
        assert [one.metadata["cache"]["hit"] for one in answers] == [False, True]
        assert await standing(far) == (True, 8 * MILLI, 0)

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
def test_who_waits_for_a_limit_holds_no_reservation_and_finds_the_answer(far, mode):
    """It waits for its turn; what further ones will ask is asked when that has come: then the answer is there."""
    budget, scripted = budget_of(10), ScriptedModel(said(4))
    limit = RateLimit(limits=["1/0.2s"], on_exceeded="wait")
    wrapped = chain_of(far, scripted, limit, Cache(), budget)

    async def main():
        tasks = [asyncio.ensure_future(call(wrapped, mode)) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert len(scripted.calls) == 1
        assert await standing(far) == (True, 4 * MILLI, 0)
        answers = await asyncio.gather(*tasks)
        assert [one.metadata["cache"]["hit"] for one in answers] == [False, True, True]

    asyncio.run(main())
    assert len(scripted.calls) == 1


def test_stores_of_their_own_are_asked_apart(far):
    """What is further in and keeps its books elsewhere is not asked for here."""
    there, budget = Far(), budget_of()
    limit = RateLimit(limits=["100/day"])
    limit.store, budget.store = far, there
    wrapped = MiddlewareFactory(preset=None, plugins=False, middleware=[limit, budget]).apply_middleware(
        ScriptedModel(said(4)))  # fmt: skip
    asyncio.run(call(wrapped))
    assert (far.trips, there.trips) == ([["take"]], [["reserve"], ["settle"]])
    assert asyncio.run(standing(there)) == (True, 4 * MILLI, 0)
    assert asyncio.run(standing(far)) == (True, 0, 0)


def test_what_was_foreseen_is_used_once(far):
    """The second attempt asks anew; the reservation of the first one is not its own."""
    scripted = ScriptedModel(said(4), errors=[late()])
    wrapped = chain_of(far, scripted, RateLimit(limits=["100/day"]), Retry(initial_delay_s=0), budget_of())
    asyncio.run(call(wrapped))
    assert far.trips == [["take", "reserve"], ["settle", "reserve"], ["settle"]]
    assert asyncio.run(standing(far)) == (True, 14 * MILLI, 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("when", ["before", "behind"])
def test_a_settlement_that_failed_beside_a_question_is_not_written_twice(far, mode, when, at_once):
    """[Settle, Reserve] of the second attempt fails; that of the first is booked once."""
    scripted = ScriptedModel(said(4), errors=[late()])
    wrapped = chain_of(far, scripted, RateLimit(limits=["100/day"]), Retry(initial_delay_s=0), budget_of())
    trips = far.trips

    async def main():
        run, far.away = far.inner.run, ""

        async def failing(*scripts):
            if len(trips) == 2 and when == "before":
                raise StoreUnavailable("gone", url=far.url)
            found = await run(*scripts)
            if len(trips) == 2:
                raise StoreUnavailable("too slow", url=far.url, sent=True)
            return found

        far.inner.run = failing
        with pytest.raises(StoreUnavailable):
            await call(wrapped, mode)
        del far.inner.run
        await call(wrapped, mode)
        assert await standing(far) == (True, 14 * MILLI, 0)

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("outside", [False, True])
def test_what_was_spent_before_the_store_went_away_is_in_its_books(far, mode, outside, at_once):
    """With "local" the second attempt is booked here; the first one there, as soon as it is back."""
    budget = budget_of(on_store_failure="local")

    class Model(ScriptedModel):
        def _fail(self, error):
            far.away = "before"
            super()._fail(error)

    layers = [RateLimit(limits=["100/day"], on_store_failure="open")] if outside else []
    model = Model(said(4), errors=[late()])
    wrapped = chain_of(far, model, *layers, Retry(initial_delay_s=0), budget)

    async def main():
        await call(wrapped, mode)
        assert await standing(budget._local) == (True, 4 * MILLI, 0)
        far.away = ""
        await budget.aclose()
        assert await standing(far) == (True, 10 * MILLI, 0)

    asyncio.run(main())


# --- many calls, other clocks, other ids -------------------------------------------------------------------------


def test_eight_thousand_at_once_are_all_answered(redis_url):
    """None is refused since the connections are all in use: each waits for one, as long as answers come."""
    store = open_store(f"{redis_url}&max_connections=16&timeout_s=30&connect_timeout_s=30")

    async def main():
        found = await asyncio.gather(*(store.run(Settle("k", "", 1)) for _ in range(8000)), return_exceptions=True)
        assert [one for one in found if isinstance(one, BaseException)] == []
        assert (await store.run(Peek("k")))[0].spent == 8000
        await store.aclose()

    asyncio.run(main())


def test_who_waits_for_a_connection_waits_longer_than_for_an_answer(redis_url, monkeypatch):
    """As long as answers come: here for four times as long, each of them on the one connection there is."""
    store = open_store(f"{redis_url}&max_connections=1&timeout_s=0.4&connect_timeout_s=0.4")
    execute = Connections.execute

    async def slowly(self, *words, **target):
        await asyncio.sleep(0.04)
        return await execute(self, *words, **target)

    async def main():
        await store.ping()
        monkeypatch.setattr(Connections, "execute", slowly)
        await asyncio.gather(*(store.run(Settle("k", "", 1)) for _ in range(75)))
        assert (await store.run(Peek("k")))[0].spent == 75
        await store.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("window", [None, "month"])
def test_a_clock_that_steps_days_ahead_and_back_keeps_the_budget(tmp_path, mode, window, monkeypatch):
    """Rows that seemed to have ended meanwhile are not thrown away, however much is written."""
    now = [1_700_000_000.0]
    monkeypatch.setattr(module, "clock", lambda: 1_700_000_000.0)
    budget = Budget(limit_usd="0.05", window=window, prices=PER_TOKEN, lease_s=1,
                    store=f"sqlite:///{tmp_path}/state.db")  # fmt: skip
    budget.store._clock = lambda: now[0]

    async def main():
        wrapped = MiddlewareFactory(preset=None, plugins=False, middleware=[budget]).apply_middleware(
            ScriptedModel(said(10)))  # fmt: skip
        for _ in range(5):
            await call(wrapped, mode)
        [found] = await budget.store.run(Peek(key := budget._opened()[0] + "global"))
        assert found.spent == 50 * MILLI
        now[0] += 35 * 86_400.0 if window is None else 20 * 86_400.0
        for at in range(100):
            await budget.store.run(Settle(f"other {at}", "", 1))
        now[0] = 1_700_000_000.0
        assert (await budget.store.run(Peek(key)))[0].spent == 50 * MILLI
        with pytest.raises(BudgetExceeded):
            await call(wrapped, mode)
        await budget.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
def test_two_budgets_under_two_ids_say_each_its_own(mode):
    factory = MiddlewareFactory(preset=None, plugins=False)
    for id, tokens in (("day", 5), ("ever", 3)):
        config = {"limit_usd": tokens / 1000, "prices": PER_TOKEN, "on_exceeded": "warn"}
        factory.register(Budget, id=id, default_enabled=True, global_config=config)
    wrapped = factory.apply_middleware(ScriptedModel(said(2)))

    async def main():
        async with factory:
            await call(wrapped, mode, max_tokens=2)
            await call(wrapped, mode, max_tokens=2)
            return (await call(wrapped, mode, max_tokens=2)).metadata

    metadata = asyncio.run(main())
    assert {id: said["limit_usd"] for id, said in metadata.items()} == {"day": 0.005, "ever": 0.003}
    assert all(said["over_limit"] for said in metadata.values())


# --- arguments that make no sense --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["n", "best_of"])
def test_several_answers_are_refused_before_anything_is_asked(mode, name):
    """All of them are paid for, and one is counted."""
    budget, scripted = budget_of(), ScriptedModel(said(4))
    store = MemoryStore()
    with pytest.raises((BadRequest, ValueError), match=name):
        asyncio.run(call(chain_of(store, scripted, budget), mode, **{name: 2}))
    assert scripted.calls == []
    asyncio.run(call(chain_of(store, scripted, budget), mode, **{name: 1}))


@pytest.mark.parametrize("usage", [Usage(3, 1e305), Usage(1e305, 1e305), Usage(2**53, 2**60)])
@pytest.mark.parametrize("price", [1.0, 1e308])
@pytest.mark.parametrize("mode", MODES)
def test_numbers_that_are_too_large_are_the_most_there_is(usage, price, mode):
    budget = Budget(limit_usd="0.001", window=None, prices={"gpt-4o": {"input": price, "output": price}},
                    on_exceeded="warn")  # fmt: skip
    store = MemoryStore()
    wrapped = chain_of(store, ScriptedModel(Response(text="hello", usage=usage)), budget)
    for _ in range(2):
        assert asyncio.run(call(wrapped, mode)).text == "hello"
    assert asyncio.run(standing(store)) == (True, 2**53 - 1, 0)


def test_a_call_before_a_model_was_asked_gives_everything_back(store):
    """It is cancelled further in."""

    async def wait(params, context):
        await asyncio.Event().wait()
        return params

    budget = budget_of(10)
    limit = RateLimit(limits=["1/day", "100 tokens/day"])
    scripted = ScriptedModel(said(4))
    stuck = chain_of(store, scripted, limit, budget, middleware("stuck", transform_params=wait, priority=10))

    async def main():
        task = asyncio.ensure_future(call(stuck))
        await until(lambda: reserved(store))
        task.cancel()
        await asyncio.wait([task])
        assert await standing(store) == (True, 0, 0)
        for key in (limit._key("global", one) for one in limit._limits):
            assert (await getattr(store, "inner", store).run(Peek(key))) == [None]

    asyncio.run(main())
    assert scripted.calls == []

"""rate_limit: what passes, what is refused, what waits, and what is given back; in both modes."""

from __future__ import annotations

import asyncio
import threading
import time
from math import inf, isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_mw import (
    ConfigError,
    Middleware,
    MiddlewareError,
    MiddlewareFactory,
    MiddlewareMetadata,
    ProviderRateLimited,
    ProviderUnavailable,
    RateLimitExceeded,
    Response,
    Usage,
    middleware,
    parts_of,
)
from neuro_mw.builtin._size import output_limit, size_of
from neuro_mw.builtin.cache import Cache
from neuro_mw.builtin.limits.rates import read_limit
from neuro_mw.builtin.rate_limit import RateLimit
from neuro_mw.builtin.retry import Retry
from neuro_mw.state import Peek
from neuro_mw.state.memory import MemoryStore
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel, random_faults
from neuro_mw.tokens import count_tokens_sync

MODES = ["generate", "stream"]
FEW = settings().max_examples // 5


class Clock:
    def __init__(self, now=1_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


def limited(model, *layers, clock=None, session=None):
    """A wrapped model; the stores of its limits go by this clock."""
    for layer in layers:
        if isinstance(layer, RateLimit) and clock is not None:
            layer.store = MemoryStore(clock=clock)
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=layers)
    context = factory.create_context(model.provider, model.model_id, session=session)
    return factory.apply_middleware(model, context)


async def call(model, mode, prompt="hello", **params):
    if mode == "generate":
        return await model.generate(prompt, **params)
    return await model.stream(prompt, **params).response()


def used(limit, at, whose="global"):
    """What the store says is used of the limit with this number."""
    [rate] = asyncio.run(limit.store.run(Peek(limit._key(whose, limit._limits[at]))))
    return rate.used if rate else 0.0


def said(tokens_in=3, tokens_out=2, text="hello"):
    return Response(text=text, usage=Usage(tokens_in, tokens_out))


# --- config ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "key", "words"), [
    ({"limits": []}, "limits", "at least 1"),
    ({}, "limits", "required"),
    ({"limits": ["60/minute", "5/fortnight"]}, "limits.1", "'fortnight'"),
    ({"limits": ["5/minut"]}, "limits.0", "Did you mean 'minute'?"),
    ({"limits": ["5 tokns/minute"]}, "limits.0", "Did you mean 'tokens'?"),
    ({"limits": ["0/minute"]}, "limits.0", "not above 0"),
    ({"limits": ["-5/minute"]}, "limits.0", "is no limit"),
    ({"limits": ["5/0s"]}, "limits.0", "too short"),
    ({"limits": ["60"]}, "limits.0", "is no limit"),
    ({"limits": ["60/minute", "70 requests/60 s"]}, "limits.1", "limits the same as '60/minute'"),
    ({"limits": ["60/minute"], "key": "usr"}, "key", "Did you mean 'user'?"),
    ({"limits": ["60/minute"], "key": "nowhere.to_be:found"}, "key", "cannot be loaded"),
    ({"limits": ["60/minute"], "key": 3}, "key", "type int"),
    ({"limits": ["60/minute"], "max_wait_s": 3}, "max_wait_s", "nothing waits"),
    ({"limits": ["60/minute"], "on_exceeded": "wait", "max_wait_s": 0}, "max_wait_s", "greater than 0"),
    ({"limits": ["60/minute"], "store": "reddis://x"}, "store", "Did you mean 'redis'?"),
    ({"limits": ["60/minute"], "limit": 3}, "limit", "unknown key"),
])  # fmt: skip
def test_what_makes_no_sense_is_said(options, key, words):
    with pytest.raises(ConfigError) as caught:
        RateLimit(**options)
    assert caught.value.key == f"middleware.rate_limit.config.{key}"
    assert words in str(caught.value)


UNITS = st.sampled_from([("", "requests"), (" request", "requests"), (" Tokens", "tokens"), ("tokens ", "tokens")])
PERIODS = st.sampled_from(
    [("s", 1), ("second", 1), ("min", 60), ("minutes", 60), ("h", 3600), ("Hour", 3600), ("d", 86400)]
)


@given(st.integers(1, 10**9), UNITS, st.sampled_from(["/", " / ", " per "]), st.integers(1, 30) | st.none(), PERIODS)
def test_limits_are_read_as_they_are_written(amount, unit, between, number, period):
    limit = read_limit(f"{amount}{unit[0]}{between}{number or ''}{period[0]}")
    assert limit[:3] == (amount, unit[1], (number or 1) * period[1])


# --- what passes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_more_is_refused_and_says_why(mode):
    clock, limit = Clock(), RateLimit(limits=["2/minute"], key="user")
    model = limited(ScriptedModel("hello"), limit, clock=clock, session={"user_id": "ada"})
    for _ in range(2):
        assert asyncio.run(call(model, mode)).text == "hello"
    with pytest.raises(RateLimitExceeded) as caught:
        asyncio.run(call(model, mode))
    assert isclose(caught.value.retry_after, 30.0)
    assert "'2/minute' (key: user)" in str(caught.value)
    assert "ada" not in str(caught.value)
    clock.now += 30
    assert asyncio.run(call(model, mode)).text == "hello"
    assert limit.tally.counts() == {"rejected": 1}


def test_each_user_has_a_limit_and_those_without_an_id_share_one():
    limit = RateLimit(limits=["1/hour"], key="user")
    factory = MiddlewareFactory(preset=None, middleware=[limit])
    model = factory.apply_middleware(ScriptedModel("hello"))
    for session in ({"user_id": "ada"}, {"user_id": "bob"}, {}):
        view = model.with_context(session=session)
        asyncio.run(view.generate("hi"))
        with pytest.raises(RateLimitExceeded):
            asyncio.run(view.generate("hi"))
    assert limit.tally.counts() == {"rejected": 3, "unknown_user": 2}


def test_each_model_has_a_limit():
    limit = RateLimit(limits=["1/hour"], key="model")
    model = MiddlewareFactory(preset=None, middleware=[limit]).apply_middleware(ScriptedModel("hello"))
    asyncio.run(model.generate("hi"))
    asyncio.run(model.generate("hi", model="gpt-4o-mini"))
    with pytest.raises(RateLimitExceeded):
        asyncio.run(model.generate("hi", model="gpt-4o-mini"))


def by_tier(context):
    return context.session.extra.get("tier")


async def by_tier_later(context):
    await asyncio.sleep(0)
    return context.session.extra["tier"]


@pytest.mark.parametrize("key", [by_tier, by_tier_later, f"{__name__}:by_tier", f"{__name__}:by_tier_later"])
def test_a_function_says_whose_it_is(key):
    limit = RateLimit(limits=["1/hour"], key=key)
    model = MiddlewareFactory(preset=None, middleware=[limit]).apply_middleware(ScriptedModel("hello"))
    for tier in ("pro", "free"):
        asyncio.run(model.with_context(session={"tier": tier}).generate("hi"))
        with pytest.raises(RateLimitExceeded, match=r"key: by_tier"):
            asyncio.run(model.with_context(session={"tier": tier}).generate("hi"))


@pytest.mark.parametrize(("key", "error"), [(by_tier, MiddlewareError), (by_tier_later, KeyError)])
def test_a_function_that_says_nothing_is_a_failure_and_no_limit_vanishes(key, error):
    limit, scripted = RateLimit(limits=["1/hour"], key=key), ScriptedModel("hello")
    with pytest.raises(error):
        asyncio.run(limited(scripted, limit).generate("hi"))
    assert scripted.calls == []


# --- tokens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_tokens_are_settled_by_what_was_used(mode):
    clock, limit = Clock(), RateLimit(limits=["1000 tokens/minute"])
    model = limited(ScriptedModel(said(10, 20)), limit, clock=clock)
    asyncio.run(call(model, mode, max_tokens=500))
    assert used(limit, 0) == 30


@pytest.mark.parametrize("mode", MODES)
def test_the_estimate_stands_where_nobody_says_how_much_was_used(mode):
    clock, limit = Clock(), RateLimit(limits=["1000 tokens/minute"])
    model = limited(ScriptedModel("hello"), limit, clock=clock)
    asyncio.run(call(model, mode, max_tokens=500))
    assert 500 < used(limit, 0) < 520


@pytest.mark.parametrize("mode", MODES)
def test_all_attempts_count_and_what_was_turned_away_does_not(mode):
    busy = ProviderRateLimited("busy", provider="openai", model="gpt-4o", status=429, retryable=True)
    down = ProviderUnavailable("down", provider="openai", model="gpt-4o", retryable=True)
    clock, limit = Clock(), RateLimit(limits=["10/minute", "10000 tokens/minute"])
    retry = Retry(initial_delay_s=0)
    model = limited(ScriptedModel(said(10, 20), errors=[busy, down]), limit, retry, clock=clock)
    asyncio.run(call(model, mode, max_tokens=500))
    estimate = size_of({"messages": [{"role": "user", "content": "hello"}]}, "gpt-4o").about + 500
    assert (used(limit, 0), used(limit, 1)) == (1, estimate + 30)


@pytest.mark.parametrize("mode", MODES)
def test_a_call_that_asked_no_model(mode):
    """An answer from further in used no tokens; a call that failed before took nothing at all."""
    async def answers(do_generate, params, context):
        return said(50, 50)

    def fails(params, context):
        raise RuntimeError("no")

    kinds = (middleware("inner", wrap_generate=answers), 1), (middleware("inner", transform_params=fails), 0)
    for inner, requests in kinds:
        limit = RateLimit(limits=["10/minute", "1000 tokens/minute"])
        model = limited(ScriptedModel(said()), limit, inner, clock=Clock())
        if requests:
            asyncio.run(call(model, mode))
        else:
            with pytest.raises(RuntimeError):
                asyncio.run(call(model, mode))
        assert (used(limit, 0), used(limit, 1)) == (requests, 0)


def test_a_call_above_the_whole_limit_can_never_pass():
    limit = RateLimit(limits=["100 tokens/minute"])
    model = limited(ScriptedModel(said()), limit, clock=Clock())
    with pytest.raises(RateLimitExceeded, match=r"can never let this call pass.*Lower max_tokens") as caught:
        asyncio.run(model.generate("hello", max_tokens=200))
    assert caught.value.retry_after is None
    text = "supercalifragilistic " * 19  # 400 bytes: an estimate above 100, counted it is not
    params = {"messages": [{"role": "user", "content": text}]}
    assert size_of(params, "gpt-4o").about > 100 > count_tokens_sync("a " * 60, "openai", "gpt-4o").tokens
    wide = {"messages": [{"role": "user", "content": "          " * 60}]}
    assert size_of(wide, "gpt-4o").about > 100 > count_tokens_sync(wide, "openai", "gpt-4o").tokens
    asyncio.run(model.generate(messages=wide["messages"]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("first_ends", [True, False])
def test_passages_side_by_side_take_each_their_own_tokens(mode, first_ends):
    """Where something further out calls twice, at once."""

    class Model:
        provider, model_id = "openai", "gpt-4o"

        async def generate(self, params):
            await asyncio.sleep(0.01 if (params["seed"] == 0) == first_ends else 0)
            return said(10 * 10 ** params["seed"], 0)

        async def stream(self, params):
            for part in parts_of(await self.generate(params)):
                yield part

    async def hedged(do_generate, params, context):
        return (await asyncio.gather(*(do_generate({**params, "seed": seed}) for seed in (0, 1))))[0]

    limit = RateLimit(limits=["1000 tokens/minute"])
    hedge = middleware("hedge", kind="control", priority=130, wrap_generate=hedged)
    asyncio.run(call(limited(Model(), hedge, limit, clock=Clock()), mode, max_tokens=50))
    assert isclose(used(limit, 0), 110)


def test_a_cached_answer_uses_no_tokens():
    limit = RateLimit(limits=["10/minute", "1000 tokens/minute"])
    model = limited(ScriptedModel(said(10, 20)), limit, Cache(), clock=Clock())
    for _ in range(3):
        asyncio.run(model.generate("hello"))
    assert (used(limit, 0), used(limit, 1)) == (3, 30)


@given(st.dictionaries(st.sampled_from(["max_tokens", "max_completion_tokens", "extra_body"]),
       st.none() | st.integers(-5, 10**6) | st.booleans() | st.floats() | st.text(max_size=3)))  # fmt: skip
def test_any_limit_of_the_answer_is_read(params):
    found = output_limit(params)
    assert found is None or (type(found) is int and found >= 0)


# --- the plain reference -----------------------------------------------------------------------------------------


class Bucket:
    """A leaky bucket, as plainly as it can be written."""

    def __init__(self, limit, period_s):
        self.limit, self.period_s, self.used, self.at = limit, period_s, 0.0, 0.0

    def drain(self, now):
        self.used, self.at = max(0.0, self.used - (now - self.at) * self.limit / self.period_s), now

    def has_room(self, amount):
        return self.used + amount <= self.limit * (1 + 1e-9)

    def add(self, amount):
        self.used = max(0.0, self.used + amount)


STEPS = st.lists(st.tuples(
    st.sampled_from([0.0, 0.125, 1.0, 20.0, 300.0]),
    st.sampled_from(["answer", "answer", "silent", "busy", "down", "before"]),
    st.sampled_from([1, 50, 200]), st.integers(0, 100), st.sampled_from(MODES),
), min_size=1, max_size=30)  # fmt: skip


@settings(max_examples=FEW)
@given(STEPS, st.integers(1, 6), st.integers(250, 900))
def test_as_a_plain_reference_has_it(steps, requests, tokens):
    """All or nothing of two limits; settled and given back exactly; no window sees more than it may."""
    clock = Clock(1024.0)
    limit = RateLimit(limits=[f"{requests}/10s", f"{tokens} tokens/minute"])
    answers = []

    def before(params, context):
        if params.get("seed") == 1:
            raise RuntimeError("before any model")
        return params

    class Model(ScriptedModel):
        async def generate(self, params):
            answer = answers[-1]
            if isinstance(answer, Exception):
                raise answer
            return answer

        async def stream(self, params):
            self.response = await self.generate(params)
            async for part in super().stream(params):
                yield part

    model = limited(Model(), limit, middleware("before", transform_params=before), clock=clock)
    buckets = Bucket(requests, 10.0), Bucket(tokens, 60.0)
    about = size_of({"messages": [{"role": "user", "content": "hello"}]}, "gpt-4o").about
    passed = []

    async def main():
        for pause_s, kind, most, real, mode in steps:
            clock.now += pause_s
            for bucket in buckets:
                bucket.drain(clock.now)
            estimate = about + most
            answers.append({
                "answer": said(real, 5), "silent": Response(text="hello"),
                "busy": ProviderRateLimited("busy", provider="openai", model="gpt-4o", status=429),
                "down": ProviderUnavailable("down", provider="openai", model="gpt-4o"),
            }.get(kind))  # fmt: skip
            fits = buckets[0].has_room(1) and buckets[1].has_room(estimate)
            try:
                await call(model, mode, max_tokens=most, seed=int(kind == "before"))
                refused = False
            except RateLimitExceeded as error:
                refused = error.retry_after > 0
            except (RuntimeError, ProviderRateLimited, ProviderUnavailable):
                refused = False
            assert refused is not fits
            if fits and kind != "before":
                passed.append(clock.now)
                buckets[0].add(1)
                buckets[1].add({"answer": real + 5, "busy": 0}.get(kind, estimate))
            for at, bucket in enumerate(buckets):
                [rate] = await limit.store.run(Peek(limit._key("global", limit._limits[at])))
                assert isclose(rate.used if rate else 0.0, bucket.used, abs_tol=1e-6)

    asyncio.run(main())
    for first, begun in enumerate(passed):
        for last, end in enumerate(passed[first:], first):
            assert last - first + 1 <= requests * (1 + (end - begun) / 10.0) + 1e-6


# --- concurrency -------------------------------------------------------------------------------------------------


@settings(max_examples=FEW)
@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.sampled_from(MODES), st.none() | st.integers(0, 8)), min_size=1, max_size=12),
)
def test_after_all_is_over_exactly_what_was_used_is_taken(seed, calls):
    """Both modes at once, failures, stalls, calls that are cancelled and streams that are left."""
    clock, limit = Clock(), RateLimit(limits=["100000/day", "100000000 tokens/day"])
    faulty = FaultyModel(said(3, 2), faults=random_faults(seed, 4, stall_s=0.001), delay_s=0.0)
    model = limited(faulty, limit, clock=clock)

    async def one(mode, leave):
        try:
            if mode == "generate":
                await model.generate("hello", max_tokens=100)
                return
            async with model.stream("hello", max_tokens=100) as stream:
                at = 0
                async for _ in stream:
                    at += 1
                    if at == leave:
                        return
        except Exception:  # noqa: BLE001  # what went wrong is in faulty.calls
            return

    async def main():
        tasks = [asyncio.create_task(one(*each)) for each in calls]
        await asyncio.sleep(0)
        for (_, leave), task in zip(calls, tasks, strict=True):
            for _ in range(leave or 0):
                await asyncio.sleep(0)
            if leave is not None and leave % 2:
                task.cancel()
        await asyncio.wait(tasks)

    asyncio.run(main())
    about = size_of({"messages": [{"role": "user", "content": "hello"}]}, "gpt-4o").about + 100

    def tokens_of(one):
        if one.usage is not None:
            return 5
        turned_away = isinstance(one.error, ProviderRateLimited) and (one.mode == "generate" or not one.parts)
        return 0 if turned_away else about

    tokens = sum(map(tokens_of, faulty.calls))
    assert used(limit, 0) == len(faulty.calls)
    assert used(limit, 1) == tokens


def test_threads_share_a_limit_exactly():
    limit, passed = RateLimit(limits=["500/day"]), []
    model = limited(ScriptedModel("hello"), limit, clock=Clock())

    def worker():
        async def main():
            for _ in range(200):
                try:
                    await model.generate("hi")
                    passed.append(1)
                except RateLimitExceeded:
                    pass

        asyncio.run(main())

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 500


# --- waiting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_calls_wait_for_their_turn_in_the_order_of_coming(mode):
    limit, order = RateLimit(limits=["2/0.1s", "1000 tokens/second"], on_exceeded="wait"), []

    class Model(ScriptedModel):
        async def generate(self, params):
            order.append((params["seed"], time.monotonic()))
            return await super().generate(params)

        async def stream(self, params):
            order.append((params["seed"], time.monotonic()))
            async for part in super().stream(params):
                yield part

    model = limited(Model(said(1, 1)), limit)

    async def main():
        await asyncio.gather(*(call(model, mode, seed=number) for number in range(8)))

    asyncio.run(main())
    assert [number for number, _ in order] == list(range(8))
    times = [at for _, at in order]
    for first, begun in enumerate(times):
        for last, end in enumerate(times[first:], first):
            assert last - first + 1 <= 2 * (1 + (end - begun) / 0.1) + 0.2
    assert limit.tally.counts() == {"waited": 6}
    assert not limit._lines._lines


@pytest.mark.parametrize("mode", MODES)
def test_who_would_wait_too_long_is_refused_at_once(mode):
    limit = RateLimit(limits=["1/second"], on_exceeded="wait", max_wait_s=1.5)
    model = limited(ScriptedModel("hello"), limit)

    async def main():
        begun = time.monotonic()
        await call(model, mode)
        waiting = asyncio.create_task(call(model, mode))
        await asyncio.sleep(0.01)
        with pytest.raises(RateLimitExceeded, match=r"max_wait_s") as caught:
            await call(model, mode)
        assert time.monotonic() - begun < 0.5
        assert 1.5 < caught.value.retry_after <= 2
        await waiting
        assert 0.9 < time.monotonic() - begun < 1.4

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
def test_who_is_cancelled_while_waiting_takes_nothing(mode):
    limit = RateLimit(limits=["1/0.2s", "10000 tokens/day"], on_exceeded="wait")
    scripted = ScriptedModel(said(1, 1))
    model = limited(scripted, limit)

    async def main():
        await call(model, mode)
        tasks = [asyncio.create_task(call(model, mode)) for _ in range(4)]
        await asyncio.sleep(0.02)
        begun = time.monotonic()
        for task in tasks[:3]:
            task.cancel()
        await asyncio.gather(*tasks[:3], return_exceptions=True)
        assert time.monotonic() - begun < 0.1
        assert all(task.cancelled() for task in tasks[:3])
        await tasks[3]
        assert time.monotonic() - begun < 0.35

    asyncio.run(main())
    assert len(scripted.calls) == 2
    assert isclose(used(limit, 1), 4, abs_tol=0.1)


def test_what_was_given_back_lets_the_next_one_go_early():
    limit = RateLimit(limits=["100 tokens/minute"], on_exceeded="wait", max_wait_s=120)
    model = limited(FaultyModel(said(1, 1), delay_s=0.05), limit)

    async def main():
        begun = time.monotonic()
        await asyncio.gather(*(model.generate("hi", max_tokens=80) for _ in range(3)))
        assert time.monotonic() - begun < 2

    asyncio.run(main())


def test_a_stalled_stream_holds_nobody_up():
    limit = RateLimit(limits=["2/hour"], on_exceeded="wait", max_wait_s=1)
    model = limited(FaultyModel("hello", faults=[Fault(1, stall_s=inf)]), limit)

    async def main():
        async with model.stream("hi") as stream:
            await anext(stream)
            assert (await model.generate("hi")).text == "hello"

    asyncio.run(main())


# --- its place ---------------------------------------------------------------------------------------------------


def test_the_numbers_of_a_limit_may_change_without_forgetting_what_was_used():
    clock = Clock()
    first, second = RateLimit(limits=["5/hour"]), RateLimit(limits=["6/hour"])
    first.store = second.store = MemoryStore(clock=clock)
    for limit, more in ((first, 5), (second, 1)):
        model = MiddlewareFactory(preset=None, middleware=[limit]).apply_middleware(ScriptedModel("hello"))
        for _ in range(more):
            asyncio.run(model.generate("hi"))
        with pytest.raises(RateLimitExceeded):
            asyncio.run(model.generate("hi"))


def test_a_guard_that_blocks_gives_back_the_tokens():
    class Guard(Middleware):
        metadata = MiddlewareMetadata(id="no", priority=90, kind="guard")

        def transform_params(self, params, context):
            from neuro_mw import Blocked

            raise Blocked("no")

    limit = RateLimit(limits=["10/minute", "1000 tokens/minute"])
    model = limited(ScriptedModel(said()), limit, Guard(), clock=Clock())
    assert asyncio.run(model.generate("hi")).blocked
    assert (used(limit, 0), used(limit, 1)) == (1, 0)


@pytest.mark.parametrize("mode", MODES)
def test_a_small_call_does_not_overtake_a_large_one_that_waits(mode):
    limit, order = RateLimit(limits=["1000 tokens/s"], on_exceeded="wait"), []

    def seen(outcome, context):
        order.append(context.shared["most"])

    def note(params, context):
        context.shared["most"] = params["max_tokens"]
        return params

    watch = middleware("watch", transform_params=note, on_end=seen, priority=200)
    model = limited(ScriptedModel("hello"), limit, watch)

    async def main():
        await call(model, mode, max_tokens=700)
        large = asyncio.create_task(call(model, mode, max_tokens=600))
        await asyncio.sleep(0.01)
        await call(model, mode, max_tokens=10)
        await large

    asyncio.run(main())
    assert order == [700, 600, 10]


def test_threads_wait_in_one_line():
    limit, passed = RateLimit(limits=["20/0.1s"], on_exceeded="wait"), []
    model = limited(ScriptedModel("hello"), limit)

    def worker():
        async def main():
            async def one():
                await model.generate("hi")
                passed.append(time.monotonic())

            await asyncio.gather(*(one() for _ in range(20)))

        asyncio.run(main())

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed.sort()
    assert len(passed) == 80
    assert passed[-1] - passed[0] > 0.25
    assert not limit._lines._lines


@pytest.mark.parametrize("mode", MODES)
def test_while_the_store_is_away_this_process_goes_on_alone(mode):
    """What was taken of the store in this process is given back there."""
    away = "redis://127.0.0.1:1/0?connect_timeout_s=0.2"
    limit = RateLimit(limits=["10/hour", "1000 tokens/hour"], store=away)
    model = limited(ScriptedModel(said(10, 20)), limit)

    async def main():
        for _ in range(3):
            await call(model, mode, max_tokens=800)
        key = limit._key("global", limit._limits[1])
        [rate] = await limit._local.run(Peek(key))
        assert 89 < rate.used <= 90
        with pytest.raises(RateLimitExceeded):
            await call(model, mode, max_tokens=950)

    asyncio.run(main())
    assert limit.tally.counts() == {"store_away": 4, "rejected": 1}

"""Stats: exact under threads, bounded, and without a word of any prompt."""

import asyncio
import gc
import itertools
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import (
    Blocked,
    MiddlewareFactory,
    MiddlewareStats,
    ProviderUnavailable,
    Response,
    TextDelta,
    middleware,
)
from neuro_mw.histogram import buckets_of, middle_of, start_of
from neuro_mw.stats import (
    FAILED,
    Extra,
    Head,
    LayerStats,
    aggregate,
    clear,
    last_executions,
)
from neuro_mw.testing import ScriptedModel

from .chain.conftest import MODES, call, run

ENDED = itertools.count(1.0)


def factory_of(*middlewares, **options):
    return MiddlewareFactory(preset=None, plugins=False, middleware=list(middlewares), **options)


def keep(stats, *nanoseconds, model="m", extra=None):
    """Keep executions that took so long, and twice as long with all that was inside."""
    head = Head("x", "h", model, stats)
    for ns in nanoseconds:
        head.keep((head, ns / 1e9, 2 * ns / 1e9, extra, next(ENDED)))


def recorder_of(*nanoseconds, model="m"):
    stats = LayerStats()
    keep(stats, *nanoseconds, model=model)
    return stats


def noop(id="noop", **metadata):
    async def wrap_generate(do_generate, params, context):
        return await do_generate(params)

    return middleware(id, wrap_generate=wrap_generate, **metadata)


def exact(stats: MiddlewareStats) -> None:
    parts = stats.successful_executions + stats.failed_executions + stats.cancelled + stats.inner_errors
    assert stats.total_executions == parts
    assert stats.short_circuited + stats.blocked <= stats.successful_executions


# --- the histogram ---------------------------------------------------------------------------------------------------


@given(st.floats(1e-9, 1e6))
def test_a_bucket_holds_its_times(seconds):
    (bucket,) = buckets_of([seconds])
    assert start_of(bucket) <= seconds < start_of(bucket + 1)
    assert abs(middle_of(bucket) - seconds) <= seconds / 32


def test_buckets_are_few():
    """An hour is about 700 buckets away from a nanosecond, so what is kept stays small."""
    first, last = buckets_of([1e-9, 3600.0])
    assert 0 < last - first < 700
    assert [middle_of(bucket) for bucket in buckets_of([0.0, -1e-9])] == [pytest.approx(0, abs=1e-12)] * 2


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=300))
def test_percentiles_within_one_part_in_32(times):
    stats = aggregate([recorder_of(*times)])
    ordered = sorted(times)
    for q, got in ((0.50, stats.p50), (0.95, stats.p95), (0.99, stats.p99)):
        rank = next(index for index in range(1, len(ordered) + 1) if index >= q * len(ordered))
        wanted = ordered[rank - 1] / 1e6
        assert abs(got - wanted) <= wanted / 32 * (1 + 1e-9)
    assert stats.average_execution_time == pytest.approx(sum(times) / len(times) / 1e6)
    assert stats.total_time == pytest.approx(2 * sum(times) / 1e6)
    assert stats.last_execution_time == pytest.approx(times[-1] / 1e6)


@given(st.lists(st.lists(st.integers(1, 10**9), max_size=30), min_size=1, max_size=5))
def test_several_instances_add_up(groups):
    whole = aggregate([recorder_of(*(ns for group in groups for ns in group))])
    parted = aggregate([recorder_of(*group) for group in groups])
    assert (parted.total_executions, parted.p50, parted.p99) == (whole.total_executions, whole.p50, whole.p99)
    assert parted.total_time == pytest.approx(whole.total_time)
    assert parted.average_execution_time == pytest.approx(whole.average_execution_time)
    assert parted.by_model == whole.by_model


def test_nothing_yet():
    stats = aggregate([LayerStats()])
    assert stats == MiddlewareStats()
    assert stats.to_dict()["by_model"] == {}
    assert last_executions([LayerStats()]) == []


# --- exactness -------------------------------------------------------------------------------------------------------


@pytest.fixture
def restless():
    """Threads change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_exact_under_8_threads_while_being_read():
    """Also while chains come and go: their last records are counted too."""
    per_thread, threads = 400, 8
    stats = LayerStats()
    shared = Head("x", "h", "m", stats)
    done, seen, failures = threading.Event(), [], []

    def read():
        while not done.is_set():
            try:
                seen.append(aggregate([stats]).total_executions)
            except Exception as error:  # noqa: BLE001  # whatever a reader gets is a failure of the test
                failures.append(error)

    def record(number):
        for index in range(per_thread):
            extra = Extra(FAILED) if index % 10 == 0 else None
            own = Head("x", "h", f"m{number}", stats)
            for head in (shared, shared, own):
                head.keep((head, 1e-9, 2e-9, extra, next(ENDED)))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(record, range(threads)))
    done.set()
    for reader in readers:
        reader.join()
    gc.collect()
    result = aggregate([stats])
    assert not failures
    assert result.total_executions == per_thread * threads * 3
    assert result.failed_executions == per_thread * threads * 3 // 10
    assert result.total_time == pytest.approx(per_thread * threads * 3 * 2 / 1e6)
    assert sum(result.by_model.values()) == result.total_executions
    exact(result)


@pytest.mark.usefixtures("restless")
def test_stats_can_be_read_while_chains_are_made():
    factory = factory_of(noop())
    model = factory.apply_middleware(ScriptedModel())
    done = threading.Event()

    def make(first):
        for number in range(400):
            run(model.with_context(options={"n": first + number}).generate("x"))
        done.set()

    threads = [threading.Thread(target=make, args=(first,)) for first in (0, 1000, 2000, 3000)]
    for thread in threads:
        thread.start()
    while not done.is_set():
        factory.registry.get_aggregated_stats()
    for thread in threads:
        thread.join()
    assert factory.registry.get_aggregated_stats()["noop"].total_executions == 1600


def test_calls_from_8_threads_are_all_counted():
    passing = {"transform_parts": lambda params, context: lambda part: part}
    factory = factory_of(middleware("a", priority=1, **passing), middleware("b", **passing))
    model = factory.apply_middleware(ScriptedModel(cuts=(1,)))

    async def some():
        await asyncio.gather(*(call(model, MODES[index % 2]) for index in range(40)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: asyncio.run(some()), range(8)))
    for stats in factory.registry.get_aggregated_stats().values():
        assert stats.total_executions == stats.successful_executions == 320
        assert stats.parts == 160 * 6
        exact(stats)


ENDINGS = {
    "completed": ({}, {"successful_executions": 1}),
    "failed": ({"raises": RuntimeError("mine")}, {"failed_executions": 1}),
    "blocked": ({"raises": Blocked("no")}, {"successful_executions": 1, "blocked": 1}),
    "short": ({"short": True}, {"successful_executions": 1, "short_circuited": 1}),
    "inner": ({"model": ScriptedModel(error=ProviderUnavailable("x", provider="p", model="m"))}, {"inner_errors": 1}),
    "cancelled": ({"model": ScriptedModel(error=asyncio.CancelledError())}, {"cancelled": 1}),
    "skipped": (
        {"raises": RuntimeError("mine"), "kind": "observer"},
        {"successful_executions": 1, "skipped_errors": 1},
    ),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_is_counted_once(mode, ending):
    how, wanted = ENDINGS[ending]

    async def wrap_generate(do_generate, params, context):
        if "raises" in how:
            raise how["raises"]
        return Response(text="short") if how.get("short") else await do_generate(params)

    made = middleware("x", wrap_generate=wrap_generate, kind=how.get("kind", "transform"))
    factory = factory_of(made)
    model = factory.apply_middleware(how.get("model") or ScriptedModel())

    async def one():
        with suppress(Exception, asyncio.CancelledError):
            await call(model, mode)

    run(one())
    stats = factory.registry.get_aggregated_stats()["x"]
    counted = {name: value for name, value in stats.to_dict().items() if name in {
        "successful_executions", "failed_executions", "blocked", "short_circuited", "inner_errors", "cancelled",
        "skipped_errors"} and value}  # fmt: skip
    assert counted == wanted
    assert stats.total_executions == 1
    exact(stats)


def test_an_error_of_another_layer_is_an_inner_error():
    def bad(params, context):
        raise RuntimeError("mine")

    factory = factory_of(noop("outer", priority=1), middleware("inner", transform_params=bad))
    for mode in MODES:
        with pytest.raises(RuntimeError):
            run(call(factory.apply_middleware(ScriptedModel()), mode))
    stats = factory.registry.get_aggregated_stats()
    assert (stats["outer"].inner_errors, stats["outer"].failed_executions) == (2, 0)
    assert (stats["inner"].inner_errors, stats["inner"].failed_executions) == (0, 2)


def test_a_stream_that_fails_midway_is_a_failure():
    def step(params, context):
        seen = []

        def feed(part):
            seen.append(part)
            if len(seen) == 3:
                raise RuntimeError("late")
            return part

        return feed

    factory = factory_of(middleware("x", transform_parts=step))
    with pytest.raises(RuntimeError):
        run(call(factory.apply_middleware(ScriptedModel("abcdef", cuts=(1,))), "stream"))
    stats = factory.registry.get_aggregated_stats()["x"]
    assert (stats.failed_executions, stats.successful_executions, stats.parts) == (1, 0, 2)


def test_an_abandoned_stream_is_cancelled():
    factory = factory_of(noop("x"), middleware("y", transform_parts=lambda params, context: lambda part: part))
    model = factory.apply_middleware(ScriptedModel("abcdef", cuts=(1,)))

    async def leave():
        async with model.stream("hi") as stream:
            async for _ in stream:
                break

    run(leave())
    stats = factory.registry.get_aggregated_stats()
    assert stats["x"].cancelled == 1
    exact(stats["x"])


def test_one_call_is_one_execution_whatever_hooks_ran():
    async def wrap_generate(do_generate, params, context):
        return await do_generate(params)

    made = middleware(
        "x", transform_params=lambda params, context: params, wrap_generate=wrap_generate,
        transform_parts=lambda params, context: lambda part: part, on_end=lambda outcome, context: None,
    )  # fmt: skip
    factory = factory_of(made)
    for mode in MODES:
        run(call(factory.apply_middleware(ScriptedModel()), mode))
    stats = factory.registry.get_aggregated_stats()["x"]
    assert stats.total_executions == 2
    assert {"transform_params", "wrap_generate", "transform_parts", "on_end"} <= set(stats.by_hook)
    assert all(ms >= 0 for ms in stats.by_hook.values())


def test_by_hook_adds_up_to_self_time():
    factory = factory_of(middleware("x", transform_params=lambda params, context: params,
                                    on_end=lambda outcome, context: None))  # fmt: skip
    for _ in range(5):
        run(call(factory.apply_middleware(ScriptedModel()), "generate"))
    stats = factory.registry.get_aggregated_stats()["x"]
    assert 0 < sum(stats.by_hook.values()) <= stats.average_execution_time * 5 * 1.000001


def test_held_back_at_most():
    class Hold:
        def __init__(self):
            self.parts = []

        def feed(self, part):
            self.parts.append(part)

        def finish(self):
            return self.parts

        def abort(self):
            pass

    factory = factory_of(middleware("x", transform_parts=lambda params, context: Hold()))
    run(call(factory.apply_middleware(ScriptedModel("abcdef", cuts=(2,))), "stream"))
    assert factory.registry.get_aggregated_stats()["x"].held_back_max == 6


def test_the_self_time_is_not_the_inner_time():
    async def slow(do_generate, params, context):
        await asyncio.sleep(0.02)
        return await do_generate(params)

    factory = factory_of(noop("outer", priority=1), middleware("slow", wrap_generate=slow))
    run(call(factory.apply_middleware(ScriptedModel()), "generate"))
    stats = factory.registry.get_aggregated_stats()
    assert stats["slow"].last_execution_time >= 19
    assert stats["outer"].total_time >= stats["slow"].total_time >= 19
    assert stats["outer"].last_execution_time + stats["slow"].total_time <= stats["outer"].total_time * 1.000001


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_by_model_is_bounded():
    stats = LayerStats()
    for number in range(1000):
        keep(stats, 1000, model=f"model-{number}")
        aggregate([stats])
    by_model = aggregate([stats]).by_model
    assert len(by_model) == 65
    assert by_model["other"] == 1000 - 64
    assert sum(by_model.values()) == 1000


@pytest.mark.parametrize("mode", MODES)
def test_names_of_models_can_be_sent(mode):
    factory = factory_of(noop())
    model = factory.apply_middleware("echo/echo")
    for name in ("m\ud800", "m\udfff", "m?"):
        run(call(model, mode, model=name))
    assert factory.registry.get_aggregated_stats()["noop"].by_model == {"m?": 3}


def test_counts_of_several_instances_stay_within_63_bits():
    recorders = [LayerStats(), LayerStats()]
    for recorder in recorders:
        recorder.tally.add("x", 1 << 70)
    assert aggregate(recorders).counts == {"x": (1 << 63) - 1}


def test_no_time_is_below_0():
    """What is inside is subtracted from the whole: rounding may leave a hair less than nothing."""
    stats = recorder_of(-1e-9)
    times = aggregate([stats])
    assert times.total_executions == 1
    assert (times.last_execution_time, times.average_execution_time, times.total_time) == (0, 0, 0)
    assert times.by_hook == {"h": 0}


def test_by_model_of_several_instances_is_bounded():
    recorders = [recorder_of(1, model=f"m{number}") for number in range(200)]
    by_model = aggregate(recorders).by_model
    assert len(by_model) <= 65
    assert sum(by_model.values()) == 200


def test_by_model_counts_the_models_that_a_call_went_to():
    factory = factory_of(noop())
    model = factory.apply_middleware(ScriptedModel())
    for mode in MODES:
        run(call(model, mode))
        run(call(model, mode, model="gpt-4o-mini"))
    assert sum(factory.registry.get_aggregated_stats()["noop"].by_model.values()) == 4


def test_the_last_100_are_kept_oldest_first():
    stats = recorder_of(*range(1, 251))
    kept = last_executions([stats])
    assert [round(one.execution_time * 1e6) for one in kept] == list(range(151, 251))
    kept[0].execution_time = -1
    assert round(last_executions([stats])[0].execution_time * 1e6) == 151
    assert aggregate([stats]).total_executions == 250


def test_the_last_100_over_several_instances_are_the_last_ones():
    """Two configs of one middleware are two instances; the last execution of the id is the last of both."""
    factory = MiddlewareFactory(plugins=False)
    other = {"analytics": {"config": {"max_records": 7}}}
    one = factory.apply_middleware(ScriptedModel())
    two = factory.apply_middleware(ScriptedModel(), middleware_config=other)
    failing = factory.apply_middleware(ScriptedModel(error=KeyError("x")))
    for _ in range(3):
        run(one.generate("x"))
    for _ in range(120):
        run(two.generate("x"))
    with pytest.raises(KeyError):
        run(failing.generate("x"))
    kept = factory.registry.get_execution_stats("analytics")
    assert len(kept) == 100
    assert kept[-1].error == "KeyError"


@pytest.mark.parametrize("last", MODES)
def test_the_last_execution_is_the_last_one_whatever_its_mode(last):
    """One instance, two modes, two models: what was last stays last."""
    first = MODES[1 - MODES.index(last)]
    models = [ScriptedModel(), ScriptedModel(error=KeyError("x"))]
    factory = factory_of(noop("x"))
    good, bad = (factory.apply_middleware(model) for model in models)
    for _ in range(5):
        run(call(good, first))
        run(call(good, last))
    with pytest.raises(KeyError):
        run(call(bad, last))
    run(call(good, first))
    with pytest.raises(KeyError):
        run(call(bad, first))
    kept = [one.error for one in factory.registry.get_execution_stats("x")]
    assert kept == [None] * 10 + ["KeyError", None, "KeyError"]


def test_memory_is_constant():
    stats = LayerStats()

    def many(count):
        keep(stats, *(index * 1000 for index in range(count)))
        aggregate([stats])

    many(20_000)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    many(20_000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 64_000
    assert aggregate([stats]).total_executions == 40_000


# --- clearing --------------------------------------------------------------------------------------------------------


def test_clearing_one_and_all():
    factory = factory_of(noop("a", priority=1), noop("b"))
    model = factory.apply_middleware(ScriptedModel())
    run(model.generate("x"))
    registry = factory.registry
    registry.clear_stats("a")
    assert set(registry.get_aggregated_stats()) == {"b"}
    assert registry.get_execution_stats("a") == []
    assert len(registry.get_execution_stats("b")) == 1
    run(model.generate("x"))
    registry.clear_stats()
    assert registry.get_aggregated_stats() == {}
    run(model.generate("x"))
    assert registry.get_aggregated_stats()["a"].total_executions == 1


def test_clearing_forgets_also_what_was_not_folded_yet():
    stats = recorder_of(1, 2, 3)
    clear([stats])
    assert aggregate([stats]) == MiddlewareStats()


# --- no text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_nothing_of_a_prompt_or_an_answer_is_kept(mode):
    def fail(outcome, context):
        raise ValueError(f"it was {context.sent}")

    def upper(params, context):
        return lambda part: TextDelta(part.text.upper()) if isinstance(part, TextDelta) else part

    async def refuse(do_generate, params, context):
        if "refuse" in str(params):
            raise ValueError(params["messages"][-1]["content"])
        return await do_generate(params)

    factory = factory_of(
        middleware("observer", kind="observer", on_end=fail),
        middleware("upper", transform_parts=upper),
        middleware("refuse", wrap_generate=refuse),
    )
    model = factory.apply_middleware(ScriptedModel("swordfish out"))
    run(call(model, mode, "swordfish in"))
    with pytest.raises(ValueError, match="swordfish"):
        run(call(model, mode, "swordfish refuse"))
    registry = factory.registry
    told = repr([registry.get_execution_stats(id) for id in registry]) + repr(registry.get_aggregated_stats())
    told += repr(model.stats())
    assert "swordfish" not in told.lower()
    assert registry.get_execution_stats("refuse")[-1].error == "ValueError"


def test_chain_stats_are_plain_data():
    factory = factory_of(noop("a"), noop("off"), disabled_middleware=["off"])
    model = factory.apply_middleware(ScriptedModel())
    run(model.generate("x"))
    data = model.stats().to_dict()
    assert (data["total_middleware"], data["applied_middleware"]) == (len(factory.registry), 1)
    assert set(data["results"]) == set(factory.registry)
    assert data["results"]["a"]["applied"] is True
    assert data["results"]["a"]["execution_time"] == pytest.approx(data["total_execution_time"])
    assert data["results"]["off"] == {
        "applied": False, "execution_time": 0.0, "error": None, "reason": "named in disabled_middleware",
    }  # fmt: skip

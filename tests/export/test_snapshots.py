"""Snapshots: what the registry says, as data; many as one, exactly; nothing else is taken for one."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from export_workers import SECRET, calls, factory_of
from hypothesis import example, given
from hypothesis import strategies as st

import neuro_mw.export
from neuro_mw import ConfigError, MiddlewareFactory, MiddlewareStats, NeuroError, middleware
from neuro_mw.export import SnapshotError, StatsRecorder, merge, parse_snapshot, snapshot, stats_of
from neuro_mw.export.figures import figures_of
from neuro_mw.export.snapshots import ADDED, ADDED_BY_NAME
from neuro_mw.histogram import buckets_of, middle_of, percentiles
from neuro_mw.stats import CANCELLED, COMPLETED, FAILED, INNER_ERROR, SHORT_CIRCUITED, Extra, Head
from neuro_mw.testing import ScriptedModel

ENDED = itertools.count(1.0)
COMPUTED = {"average_execution_time", "last_execution_time", "p50", "p95", "p99"}


def noop(id: str) -> Any:
    return middleware(id, wrap_generate=lambda do_generate, params, context: do_generate(params))


def filled(*executions: tuple[float, int], id: str = "x") -> MiddlewareFactory:
    """A factory whose one middleware took so long and ended so."""
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[noop(id)])
    live = factory.registry.lookup(id, key="id").instances()[0]
    head = Head(id, "wrap_generate", "m", live.stats)
    for self_s, status in executions:
        extra = Extra(status, parts=2, held=status) if status != COMPLETED else None
        head.keep((head, self_s, 2 * self_s, extra, next(ENDED)))
    factory.head = head  # type: ignore[attr-defined]  # kept alive
    return factory


EXECUTIONS = st.lists(
    st.tuples(st.floats(0, 100), st.sampled_from([COMPLETED, SHORT_CIRCUITED, FAILED, INNER_ERROR, CANCELLED])),
    max_size=40,
)


def without_last(stats: MiddlewareStats) -> dict[str, Any]:
    """All but the time of the last one, flat."""
    found: dict[str, Any] = {}
    for name, value in stats.to_dict().items():
        found |= {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    del found["last_execution_time"]
    return found


# --- one -------------------------------------------------------------------------------------------------------------


def test_it_says_what_the_registry_says() -> None:
    factory = factory_of()
    asyncio.run(calls(factory, 20))
    taken = snapshot(factory)
    assert stats_of(taken) == factory.registry.get_aggregated_stats()
    assert list(taken["middleware"]) == ["analytics", "counting", "guard"]
    for entry in taken["middleware"].values():
        assert sum(count for _, count in entry["buckets"]) == entry["stats"]["total_executions"] == 20
    assert taken["middleware"]["guard"]["stats"]["blocked"] == 4
    assert taken["middleware"]["counting"]["stats"]["counts"] == {"calls": 20}
    assert set(taken["middleware"]["guard"]["stats"]["by_model"]) == {"model-0", "model-1", "model-2"}


def test_it_is_json_and_comes_back() -> None:
    factory = factory_of()
    asyncio.run(calls(factory, 20))
    taken = snapshot(factory)
    text = json.dumps(taken, allow_nan=False)
    assert parse_snapshot(text) == parse_snapshot(text.encode()) == taken


def test_it_holds_no_prompt_and_no_user() -> None:
    factory = factory_of()
    asyncio.run(calls(factory, 20))
    text = json.dumps(snapshot(factory))
    assert SECRET not in text
    assert "SECRET" not in text


def test_what_did_not_run_is_left_out_but_its_failures_are_not() -> None:
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[noop("idle"), noop("skipping")])
    assert snapshot(factory)["middleware"] == {}
    factory.registry.lookup("skipping", key="id").instances()[0].stats.skip()
    assert snapshot(factory)["middleware"]["skipping"]["stats"]["skipped_errors"] == 1


def test_several_factories_are_one() -> None:
    first, second = filled((0.1, COMPLETED), (0.2, FAILED)), filled((0.3, COMPLETED))
    both = snapshot(first, second, first)
    assert stats_of(both)["x"].total_executions == 3
    assert len(both["processes"]) == 1
    assert without_last(stats_of(both)["x"]) == pytest.approx(
        without_last(stats_of(merge([snapshot(first), snapshot(second)]))["x"])
    )


def test_an_instance_of_two_factories_counts_once() -> None:
    """Its executions are each factory's, but what it counts itself is in one tally."""
    shared = noop("shared")
    factories = [MiddlewareFactory(preset=None, plugins=False, middleware=[shared]) for _ in range(2)]
    shared.count("seen")
    for factory in factories:
        asyncio.run(factory.apply_middleware(ScriptedModel("a")).generate("hi"))
    found = stats_of(snapshot(*factories))["shared"]
    assert (found.total_executions, found.counts) == (2, {"seen": 1})


def test_clear_stats_starts_anew() -> None:
    factory = filled((0.1, COMPLETED))
    factory.registry.clear_stats()
    assert snapshot(factory)["middleware"] == {}


@given(EXECUTIONS)
def test_each_execution_has_one_status(executions: list[tuple[float, int]]) -> None:
    (found,) = figures_of([filled(*executions)]).values()
    assert sum(found.statuses.values()) == len(executions)
    assert found.statuses["inner_error"] == sum(status == INNER_ERROR for _, status in executions)


@given(st.lists(st.lists(st.floats(0, 1e4), max_size=3), max_size=20))
@example([[0.3], [0.0], [0.0]])
def test_the_self_time_never_shrinks(batches: list[list[float]]) -> None:
    """It is added up over two instances, and folded at each reading."""
    factories, before = [filled(), filled()], 0.0
    for number, batch in enumerate(batches):
        head: Head = factories[number % 2].head  # type: ignore[attr-defined]  # see `filled`
        for self_s in batch:
            head.keep((head, self_s, self_s, None, next(ENDED)))
        (found,) = figures_of(factories).values()
        assert found.self_s >= before
        before = found.self_s
    assert before == pytest.approx(sum(map(sum, batches)))


# --- many as one -----------------------------------------------------------------------------------------------------


@given(st.lists(EXECUTIONS, max_size=5))
def test_merged_is_as_if_all_had_run_in_one(groups: list[list[tuple[float, int]]]) -> None:
    merged = merge(snapshot(filled(*group)) for group in groups)
    whole = snapshot(filled(*(one for group in groups for one in group)))
    assert set(merged["middleware"]) == set(whole["middleware"])
    for id, entry in whole["middleware"].items():
        assert merged["middleware"][id]["buckets"] == entry["buckets"]
        got, wanted = stats_of(merged)[id], stats_of(whole)[id]
        assert (got.p50, got.p95, got.p99) == (wanted.p50, wanted.p95, wanted.p99)
        assert without_last(got) == pytest.approx(without_last(wanted))


@given(st.lists(EXECUTIONS, min_size=3, max_size=3))
def test_in_any_order_and_in_any_groups(groups: list[list[tuple[float, int]]]) -> None:
    one, two, three = (snapshot(filled(*group)) for group in groups)
    left, right = merge([merge([three, one]), two]), merge([one, merge([two, three])])
    assert sorted(map(str, left["processes"])) == sorted(map(str, right["processes"]))
    for id, entry in left["middleware"].items():
        assert entry["buckets"] == right["middleware"][id]["buckets"]
        assert without_last(stats_of(left)[id]) == pytest.approx(without_last(stats_of(right)[id]))


def test_every_field_has_its_rule() -> None:
    """A new field of MiddlewareStats must not be lost when snapshots are merged."""
    names = {one.name for one in dataclasses.fields(MiddlewareStats)}
    assert names == {*ADDED, *ADDED_BY_NAME, *COMPUTED, "held_back_max"}


def test_the_last_time_is_that_of_the_latest_which_ran() -> None:
    old, new, idle = snapshot(filled((0.5, COMPLETED))), snapshot(filled((0.25, COMPLETED))), snapshot(filled())
    old["taken_at"], new["taken_at"], idle["taken_at"] = 1.0, 2.0, 3.0
    merged = merge([idle, new, old])
    assert (merged["taken_at"], stats_of(merged)["x"].last_execution_time) == (3.0, 250.0)
    counting = filled()
    counting.registry.lookup("x", key="id").instances()[0].middleware.count("seen")
    assert snapshot(counting)["middleware"]["x"]["stats"]["total_executions"] == 0
    assert stats_of(merge([old, new, snapshot(counting)]))["x"].last_execution_time == 250.0


def test_merging_changes_nothing_that_was_given() -> None:
    given_ = snapshot(filled((0.5, COMPLETED)))
    before = json.dumps(given_)
    merge([given_, given_])
    assert json.dumps(given_) == before


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_percentiles_as_counted_one_by_one(times: list[float], shares: list[float]) -> None:
    buckets = Counter(buckets_of(times))
    middles = sorted(middle_of(bucket) for bucket in buckets_of(times))
    wanted = [next(time for n, time in enumerate(middles, 1) if n >= share * len(middles)) for share in shares]
    assert percentiles(buckets, *shares) == wanted


def test_times_that_rounding_made_negative_are_the_smallest() -> None:
    factory = filled((-1e-12, COMPLETED), (0.0, COMPLETED), (1.0, COMPLETED))
    entry = snapshot(factory)["middleware"]["x"]
    assert entry["buckets"] == [[0.0, 2], [1.0, 1]]
    merged = merge([parse_snapshot(json.dumps({**snapshot(filled((1.0, COMPLETED)))}))])
    assert stats_of(merged)["x"].p50 == pytest.approx(1000, rel=1 / 16)


# --- what a middleware or a caller may do ----------------------------------------------------------------------------


def odd(id: str = "odd", **counts: Any) -> MiddlewareFactory:
    """A factory with an odd middleware, called in both modes with an odd model."""
    made = noop(id)
    factory = MiddlewareFactory(plugins=False, middleware=[made])
    live = factory.registry.lookup(id, key="id").instances()[0].middleware
    for number in (-1, 1.5, float("nan"), 1 << 70):
        live.count(f"{number}"[:3], number)
    for name in ("a\ud800", 5, None, ("x", "y")):
        live.count(name)
    model = factory.apply_middleware("echo/echo")
    request = {"model": "m\ud800", "messages": [{"role": "user", "content": "hi"}]}

    async def both() -> None:
        await model.generate(request)
        async with model.stream(request) as parts:
            await parts.response()

    asyncio.run(both())
    return factory


def test_what_is_written_can_be_read() -> None:
    """Else the whole process, with all its other middlewares, would be missing where they are shown."""
    factory = odd("i" * 300)
    taken = snapshot(factory)
    text = orjson.dumps(taken)
    assert parse_snapshot(text) == taken
    found = stats_of(parse_snapshot(json.dumps(taken)))
    assert found["analytics"].by_model == found["i" * 300].by_model == {"m?": 2}
    assert found["i" * 300].counts == {"-1": 0, "1.5": 2, "nan": 0, "118": (1 << 63) - 1, "a?": 1, "5": 1, "None": 1,
                                       "('x', 'y')": 1}  # fmt: skip


@given(st.lists(st.tuples(st.floats(-1e-12, 1e-12), st.just(COMPLETED)), min_size=1, max_size=5))
def test_times_a_hair_below_0_can_be_read(executions: list[tuple[float, int]]) -> None:
    taken = snapshot(filled(*executions))
    assert parse_snapshot(json.dumps(taken)) == taken


@pytest.mark.parametrize("what", ["nope", None, MiddlewareFactory])
def test_only_factories_are_taken(what: Any) -> None:
    observe, collector, recorder = neuro_mw.export.observe_stats, neuro_mw.export.StatsCollector, StatsRecorder
    takes: list[Callable[[], Any]] = [
        lambda: snapshot(what), lambda: snapshot(MiddlewareFactory(plugins=False), what), lambda: observe(what),
        lambda: collector(what), lambda: collector(shop=what), lambda: recorder(what, "sqlite:///x.db"),
    ]  # fmt: skip
    for take in takes:
        with pytest.raises(ConfigError, match="Expected a MiddlewareFactory"):
            take()


# --- what somebody else wrote ----------------------------------------------------------------------------------------

GOOD = json.loads(json.dumps(snapshot(filled((0.5, COMPLETED), (0.25, FAILED)))))


def damaged(*path: Any, value: Any) -> str:
    data: Any = json.loads(json.dumps(GOOD))
    at = data
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return json.dumps(data)


STATS = ("middleware", "x", "stats")


@pytest.mark.parametrize(
    "text",
    [
        "", "no json", b"\xff\xfe", "[]", "1", "{}", "null", "[" * 100_000, '{"schema": 1}', '{"schema": true}',
        damaged("schema", value=2), damaged("schema", value="1"), damaged("schema", value=10**400),
        damaged("taken_at", value=None), damaged("taken_at", value=float("nan")), damaged("taken_at", value=10**400),
        damaged("processes", value={}), damaged("processes", value=[{}]), damaged("processes", value=["x"]),
        damaged("processes", 0, "id", value="a\x1b[31m"), damaged("middleware", value=[]),
        damaged("middleware", "bad id\n", value=GOOD["middleware"]["x"]), damaged("middleware", "x", value=None),
        damaged(*STATS, value=[]), damaged(*STATS, "total_executions", value=3),
        damaged(*STATS, "total_executions", value=2.0), damaged(*STATS, "parts", value=-1),
        damaged(*STATS, "parts", value=True), damaged(*STATS, "parts", value=1 << 63),
        damaged(*STATS, "total_time", value=float("inf")), damaged(*STATS, "total_time", value="1"),
        damaged(*STATS, "by_model", value={"m": "1"}), damaged(*STATS, "counts", value=[1]),
        damaged(*STATS, "blocked", value=2), damaged("middleware", "x", "buckets", value=[[0.5, 1], [0.5, 1]]),
        damaged("middleware", "x", "buckets", value=[[0.5, 1], [0.51, 1]]),
        damaged("middleware", "x", "buckets", value=[[0.5, 2.0]]), damaged("middleware", "x", "buckets", value=[0.5]),
        damaged("middleware", "x", "buckets", value=[[0.5, 1]]),
    ],
)  # fmt: skip
def test_what_is_no_snapshot_is_refused(text: str | bytes) -> None:
    with pytest.raises(SnapshotError) as caught:
        parse_snapshot(text)
    assert isinstance(caught.value, NeuroError)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 100


@given(st.data())
def test_a_damaged_one_is_refused_or_harmless(data: st.DataObject) -> None:
    text = bytearray(json.dumps(GOOD).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = parse_snapshot(bytes(text[: data.draw(st.integers(0, len(text)))]))
    except SnapshotError:
        return
    json.dumps(merge([found, GOOD]), allow_nan=False)


def test_one_middleware_may_be_skipped() -> None:
    data = json.loads(json.dumps(GOOD))
    data["middleware"]["y"] = {**data["middleware"]["x"], "buckets": []}
    data["middleware"]["bad id"] = data["middleware"]["x"]
    skipped: list[str] = []
    assert parse_snapshot(json.dumps(data), skipped) == parse_snapshot(json.dumps(GOOD))
    assert skipped == ["the figures of one middleware are damaged"] * 2
    with pytest.raises(SnapshotError):
        parse_snapshot(json.dumps(data))
    with pytest.raises(SnapshotError):
        parse_snapshot(damaged("middleware", value=[]), skipped)


def test_names_that_somebody_else_wrote_can_be_sent() -> None:
    text = damaged(*STATS, "counts", value={"a\ud800": 1})
    assert stats_of(parse_snapshot(text))["x"].counts == {"a?": 1}


def test_fields_of_later_and_earlier_versions() -> None:
    """What this version does not know it leaves out, and what it misses is 0: both run side by side in an update."""
    data = json.loads(json.dumps(GOOD))
    data["middleware"]["x"]["stats"]["of_tomorrow"] = data["of_tomorrow"] = {"a": 1}
    del data["middleware"]["x"]["stats"]["parts"]
    found = stats_of(parse_snapshot(json.dumps(data)))["x"]
    assert (found.parts, found.total_executions) == (0, 2)


# --- names -----------------------------------------------------------------------------------------------------------


def test_public_names() -> None:
    assert sorted(neuro_mw.export.__all__) == sorted(neuro_mw.export._HOME)
    for name in neuro_mw.export.__all__:
        assert callable(getattr(neuro_mw.export, name))
        assert getattr(neuro_mw.export, name).__doc__
        assert name in dir(neuro_mw.export)
    with pytest.raises(AttributeError, match="no attribute 'snapshots_of'"):
        _ = neuro_mw.export.snapshots_of


def test_the_extras_are_loaded_where_they_are_used() -> None:
    code = (
        "import sys; from neuro_mw.export import snapshot, merge, StatsRecorder, recorded\n"
        "assert not {'prometheus_client', 'opentelemetry', 'sqlite3', 'redis', 'rich'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "missing", "extra"),
    [("StatsCollector", "prometheus_client", "prometheus"), ("observe_stats", "opentelemetry", "otel")],
)
def test_a_missing_extra_is_named(name: str, missing: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"try:\n from neuro_mw.export import {name}\nexcept ImportError as error:\n print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert f"pip install 'neuro-mw[{extra}]'" in done.stdout


@pytest.mark.parametrize(
    "missing", [(), ("prometheus_client",), ("opentelemetry",), ("prometheus_client", "opentelemetry")]
)
def test_all_names_at_once_without_an_extra(missing: tuple[str, ...]) -> None:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\nimport neuro_mw.export\n"
        "from neuro_mw.export import *\nprint(*set(globals()) & set(neuro_mw.export._HOME))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    gone = {"prometheus_client": "StatsCollector", "opentelemetry": "observe_stats"}
    assert set(done.stdout.split()) == set(neuro_mw.export._HOME) - {gone[one] for one in missing}

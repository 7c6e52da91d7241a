"""The observable instruments, read by the real SDK."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Iterable
from typing import Any

import pytest
from export_workers import SECRET, calls, factory_of
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from test_snapshots import filled, odd

from neuro_mw import MiddlewareFactory
from neuro_mw.export import observe_stats
from neuro_mw.export.figures import figures_of
from neuro_mw.stats import COMPLETED

Points = dict[tuple[str, tuple[tuple[str, Any], ...]], float]


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> Any:
    provider = MeterProvider([reader])
    yield provider
    provider.shutdown()


def collected(reader: InMemoryMetricReader) -> Points:
    data = reader.get_metrics_data()
    return {
        (metric.name.removeprefix("neuro_mw.middleware."), tuple(sorted(point.attributes.items()))): point.value
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def of(points: Points, name: str, /, **attributes: Any) -> float:
    return points[name, tuple(sorted(attributes.items()))]


def test_all_is_there(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    factory = factory_of()
    observe_stats(factory, meter_provider=provider)
    asyncio.run(calls(factory, 20))
    points = collected(reader)
    assert SECRET not in str(points)
    for id, one in factory.registry.get_aggregated_stats().items():
        self_s = one.average_execution_time * one.total_executions / 1e3
        assert of(points, "self_time", middleware=id) == pytest.approx(self_s)
        assert of(points, "blocked", middleware=id) == one.blocked
        assert of(points, "skipped_errors", middleware=id) == one.skipped_errors
        assert of(points, "parts", middleware=id) == one.parts
        assert of(points, "self_time.quantile", middleware=id, quantile=0.95) == pytest.approx(one.p95 / 1e3)
        statuses = [value for (name, labels), value in points.items()
                    if name == "executions" and ("middleware", id) in labels]  # fmt: skip
        assert (len(statuses), sum(statuses)) == (6, 20)
        for model, executions in one.by_model.items():
            assert of(points, "model_executions", middleware=id, model=model) == executions
    assert of(points, "counts", middleware="counting", name="calls") == 20


def test_read_anew_at_each_collection(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    factory = factory_of()
    observe_stats(factory, meter_provider=provider)
    for number in (1, 2):
        asyncio.run(calls(factory, 1))
        assert of(collected(reader), "executions", middleware="counting", status="completed") == number


def test_read_once_for_each_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """So all instruments are of one moment, also where calls end while they are collected."""
    factory, read = factory_of(), []

    def reading(factories: Iterable[MiddlewareFactory]) -> Any:
        read.append(1)
        found = figures_of(factories)
        asyncio.run(calls(factory, 1))
        return found

    monkeypatch.setattr("neuro_mw.export.otel.figures_of", reading)
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    provider = MeterProvider(readers)
    observe_stats(factory, meter_provider=provider)
    asyncio.run(calls(factory, 1))
    for number, reader in enumerate((readers[0], readers[0], readers[1], readers[0]), 1):
        points = collected(reader)
        assert len(read) == number
        assert of(points, "counts", middleware="counting", name="calls") == number
        for name in ("executions", "model_executions"):
            assert sum(value for (one, labels), value in points.items()
                       if one == name and ("middleware", "counting") in labels) == number  # fmt: skip
    provider.shutdown()


def test_a_collection_that_was_broken_off_leaves_nothing_old(
    monkeypatch: pytest.MonkeyPatch, reader: InMemoryMetricReader, provider: MeterProvider
) -> None:
    factory = factory_of()

    def slow(factories: Iterable[MiddlewareFactory]) -> Any:
        time.sleep(0.01)
        return figures_of(factories)

    observe_stats(factory, meter_provider=provider)
    monkeypatch.setattr("neuro_mw.export.otel.figures_of", slow)
    with pytest.raises(Exception, match="Timed out"):
        reader.collect(timeout_millis=5)
    asyncio.run(calls(factory, 1))
    points = collected(reader)
    assert of(points, "counts", middleware="counting", name="calls") == 1
    assert of(points, "executions", middleware="counting", status="completed") == 1


def test_several_factories_add_up(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    one, two = filled((0.5, COMPLETED)), filled((0.25, COMPLETED))
    observe_stats(one, two, meter_provider=provider)
    points = collected(reader)
    assert of(points, "executions", middleware="x", status="completed") == 2
    assert of(points, "self_time", middleware="x") == pytest.approx(0.75)


def test_the_sum_is_what_was_added_up(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    factory = filled((0.3, COMPLETED), (0.0, COMPLETED), (0.0, COMPLETED))
    observe_stats(factory, meter_provider=provider)
    assert of(collected(reader), "self_time", middleware="x") == 0.3, "a counter that is less than before began anew"


def test_odd_names_can_be_sent(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    factory = odd()
    observe_stats(factory, meter_provider=provider)
    points = collected(reader)
    assert of(points, "model_executions", middleware="analytics", model="m?") == 2
    assert of(points, "counts", middleware="odd", name="a?") == 1
    str(points).encode()


def test_nothing_ran_yet(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    factory = filled()
    observe_stats(factory, meter_provider=provider)
    points = collected(reader)
    assert of(points, "executions", middleware="x", status="failed") == 0
    assert not [name for name, _ in points if name == "self_time.quantile"], "there is no time to tell"


def test_a_factory_may_go(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    factory = filled((0.5, COMPLETED))
    gone = weakref.ref(factory)
    observe_stats(factory, meter_provider=provider)
    assert collected(reader)
    del factory
    gc.collect()
    assert gone() is None
    assert collected(reader) == {}


def test_without_an_sdk_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*factories: Any) -> Any:
        raise AssertionError("nobody collects")

    monkeypatch.setattr("neuro_mw.export.otel.figures_of", fail)
    observe_stats(factory_of())

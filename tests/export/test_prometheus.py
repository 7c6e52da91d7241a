"""The collector, scraped by prometheus_client itself and read back by its parser."""

from __future__ import annotations

import asyncio
import threading
import urllib.request
from itertools import pairwise
from typing import Any

import pytest
from export_workers import SECRET, calls, factory_of
from hypothesis import given
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from test_snapshots import EXECUTIONS, filled, noop, odd

from neuro_mw import MiddlewareFactory
from neuro_mw.export import StatsCollector, snapshot
from neuro_mw.export.prometheus import _BOUNDS
from neuro_mw.stats import COMPLETED

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def registry_of(*factories: Any, **named: Any) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(StatsCollector(*factories, **named))
    return registry


def scraped(registry: CollectorRegistry) -> Series:
    return series_of(generate_latest(registry).decode())


def series_of(text: str) -> Series:
    found: Series = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, "a series twice is no valid exposition"
            found[key] = sample.value
    return found


def of(series: Series, name: str, /, **labels: str) -> float:
    return series[f"neuro_mw_middleware_{name}", tuple(sorted(labels.items()))]


def test_all_is_there() -> None:
    factory = factory_of()
    asyncio.run(calls(factory, 20))
    series, stats = scraped(registry_of(factory)), factory.registry.get_aggregated_stats()
    for id, one in stats.items():
        assert of(series, "executions_total", middleware=id, status="inner_error") == one.inner_errors
        assert of(series, "blocked_total", middleware=id) == one.blocked
        assert of(series, "skipped_errors_total", middleware=id) == one.skipped_errors
        assert of(series, "parts_total", middleware=id) == one.parts
        for model, executions in one.by_model.items():
            assert of(series, "model_executions_total", middleware=id, model=model) == executions
        by_status = [value for (_, labels), value in series.items()
                     if "status" in dict(labels) and ("middleware", id) in labels]  # fmt: skip
        assert sum(by_status) == of(series, "self_seconds_count", middleware=id) == one.total_executions == 20
        self_s = one.average_execution_time * one.total_executions / 1e3
        assert of(series, "self_seconds_sum", middleware=id) == pytest.approx(self_s)
        assert of(series, "self_seconds_bucket", middleware=id, le="+Inf") == 20
    assert of(series, "counts_total", middleware="counting", name="calls") == 20
    assert of(series, "executions_total", middleware="guard", status="blocked") == 4
    assert {name for name, _ in series} == {
        f"neuro_mw_middleware_{name}" for name in (
            "self_seconds_bucket", "self_seconds_count", "self_seconds_sum", "executions_total", "blocked_total",
            "skipped_errors_total", "parts_total", "counts_total", "model_executions_total",
        )
    }  # fmt: skip


@given(EXECUTIONS)
def test_buckets_count_what_was_below(executions: list[tuple[float, int]]) -> None:
    series = scraped(registry_of(filled(*executions)))
    for bound in _BOUNDS:
        below = sum(self_s < bound for self_s, _ in executions)
        assert of(series, "self_seconds_bucket", middleware="x", le=repr(bound)) == below
    assert of(series, "self_seconds_bucket", middleware="x", le="+Inf") == len(executions)


def test_in_the_format_of_openmetrics() -> None:
    factory = factory_of()
    asyncio.run(calls(factory, 5))
    families = list(parse_openmetrics(openmetrics.generate_latest(registry_of(factory)).decode()))
    assert {family.type for family in families} == {"histogram", "counter"}


def test_no_prompt_and_no_user() -> None:
    factory = factory_of()
    asyncio.run(calls(factory, 20))
    text = generate_latest(registry_of(factory)).decode()
    assert "executions_total" in text
    assert SECRET not in text
    assert "SECRET" not in text


def test_what_is_on_and_did_not_run_yet_is_0() -> None:
    """A series that appears with its first event loses that event for whoever asks how much it grew."""
    series = scraped(registry_of(MiddlewareFactory(preset=None, plugins=False, middleware=[noop("idle")])))
    assert of(series, "executions_total", middleware="idle", status="failed") == 0
    assert of(series, "self_seconds_count", middleware="idle") == 0


def test_several_factories_add_up() -> None:
    one, two = filled((0.5, COMPLETED)), filled((0.5, COMPLETED), (0.25, COMPLETED))
    series = scraped(registry_of(one, two, one))
    assert of(series, "self_seconds_count", middleware="x") == 3
    assert of(series, "self_seconds_sum", middleware="x") == pytest.approx(1.25)


def test_factories_by_name_are_apart() -> None:
    series = scraped(registry_of(shop=filled((0.5, COMPLETED)), support=filled()))
    assert of(series, "self_seconds_count", factory="shop", middleware="x") == 1
    assert of(series, "self_seconds_count", factory="support", middleware="x") == 0
    mixed = scraped(registry_of(filled((0.5, COMPLETED)), shop=filled()))
    assert of(mixed, "self_seconds_count", middleware="x") == 1


def test_a_second_one_is_refused() -> None:
    registry = registry_of(filled())
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(StatsCollector(filled()))


def test_clear_stats_and_what_comes_after() -> None:
    factory = filled((0.5, COMPLETED))
    registry = registry_of(factory)
    assert of(scraped(registry), "self_seconds_count", middleware="x") == 1
    factory.registry.clear_stats()
    series = scraped(registry)
    assert (of(series, "self_seconds_count", middleware="x"), of(series, "self_seconds_sum", middleware="x")) == (0, 0)


def test_names_are_escaped() -> None:
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[noop("odd")])
    factory.registry.lookup("odd", key="id").instances()[0].middleware.count('a "quoted"\nname\\')
    assert of(scraped(registry_of(factory)), "counts_total", middleware="odd", name='a "quoted"\nname\\') == 1


def test_odd_names_do_not_end_a_scrape() -> None:
    """One scrape has all collectors of a process: what one cannot say, none of them says."""
    factory = odd()
    series = scraped(registry_of(factory, **{"sh\ud800p": factory}))
    for more in ({}, {"factory": "sh?p"}):
        assert of(series, "model_executions_total", middleware="analytics", model="m?", **more) == 2
        assert of(series, "counts_total", middleware="odd", name="a?", **more) == 1
        assert of(series, "counts_total", middleware="odd", name="-1", **more) == 0


def test_the_sum_is_what_was_added_up() -> None:
    """The average times the executions is a last bit less: to Prometheus, less than before is a restart."""
    series = scraped(registry_of(filled((0.3, COMPLETED), (0.0, COMPLETED), (0.0, COMPLETED))))
    assert of(series, "self_seconds_sum", middleware="x") == 0.3


def test_a_time_that_rounding_made_negative_is_below_every_bound() -> None:
    series = scraped(registry_of(filled((-1e-12, COMPLETED), (1e9, COMPLETED))))
    assert {of(series, "self_seconds_bucket", middleware="x", le=repr(bound)) for bound in _BOUNDS} == {1}


def test_over_http_while_calls_go_on() -> None:
    """As Prometheus does it: from a thread of the server, again and again; no count is ever less than before."""
    factory = factory_of()
    server, serving = start_http_server(0, "127.0.0.1", registry=registry_of(factory))
    seen: list[Series] = []
    done = threading.Event()

    def scrape() -> None:
        while not done.is_set():
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as answer:
                seen.append(series_of(answer.read().decode()))

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        asyncio.run(calls(factory, 400))
    finally:
        done.set()
        thread.join()
        server.shutdown()
        server.server_close()
        serving.join()
    for before, after in pairwise(seen):
        assert all(after[key] >= value for key, value in before.items())
    found = scraped(registry_of(factory))
    assert (
        of(found, "self_seconds_count", middleware="counting")
        == 400
        == snapshot(factory)["middleware"]["counting"]["stats"]["total_executions"]
    )

"""What reading the stats costs: a scrape by Prometheus, a snapshot as it is recorded, many snapshots as one.

20 middlewares that ran for 10 models, their times spread over the buckets. A scrape is prometheus_client's own
`generate_latest` over a registry that holds the collector alone. "By hand" is the same number of series in that
library's own counters and histograms, into which each call would have had to write. "After 1,000 calls" has to fold
the records of those calls first, which is a part of what the benchmark "stats" says an execution costs; no budget is
on that.
"""

from __future__ import annotations

import asyncio
import random
from time import thread_time_ns as clock
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from neuro_mw import MiddlewareFactory
from neuro_mw.export import StatsCollector, merge, parse_snapshot, snapshot
from neuro_mw.stats import COMPLETED, FAILED, Extra

from .chain import NoOp, Ready
from .measure import Pace, Row, Slice, calling, measure, row

MIDDLEWARES, MODELS, CALLS = 20, 10, 1000
SCRAPE_US = 5000.0


def rows(pace: Pace) -> list[Row]:
    return asyncio.run(_rows(pace))


async def _rows(pace: Pace) -> list[Row]:
    factory, models = _factory()
    for number in range(CALLS):
        await models[number % MODELS].generate("hello")
    _spread(factory)
    registry = CollectorRegistry()
    registry.register(StatsCollector(factory))
    text = orjson.dumps(snapshot(factory))
    series = len(_series(generate_latest(registry)))
    found = await measure(
        {
            "by hand": calling(generate_latest, _by_hand(series)),
            "scrape": calling(generate_latest, registry),
            "after": _after_calls(models, registry),
            "snapshot": calling(lambda one: orjson.dumps(snapshot(one)), factory),
            "read": calling(parse_snapshot, text),
            "merge": calling(merge, [parse_snapshot(text) for _ in range(10)]),
        },
        pace,
    )
    base = found["by hand"]
    of = f"{MIDDLEWARES} x {MODELS}"
    return [
        row(f"{series} series of prometheus_client's own, by hand", base),
        row(f"a scrape of {of}", found["scrape"], base, "by hand", max_value=SCRAPE_US),
        row(f"the same after {CALLS:,} calls", found["after"], base, "by hand"),
        row(f"a snapshot of {of}, as JSON ({len(text) >> 10} KiB)", found["snapshot"]),
        row("reading and checking it", found["read"]),
        row("ten of them as one", found["merge"]),
    ]


class _Named(Ready):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.model_id = f"model-{number}"


def _factory() -> tuple[MiddlewareFactory, list[Any]]:
    layers = [NoOp(number) for number in range(MIDDLEWARES)]
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=layers)
    return factory, [factory.apply_middleware(_Named(number)) for number in range(MODELS)]


def _spread(factory: MiddlewareFactory) -> None:
    """Times of each middleware about one of its own, 2 us to 20 ms; some failures; a name that is counted."""
    chance = random.Random(7)
    for one in factory.registry.registrations():
        for live in one.instances():
            own_s = 10 ** chance.uniform(-5.7, -1.7)
            for head in list(live.stats.heads):
                for _ in range(200):
                    self_s = own_s * chance.lognormvariate(0, 1)
                    extra = Extra(FAILED if chance.random() < 0.05 else COMPLETED, parts=3)
                    head.keep((head, self_s, self_s, extra, 0.0))
            live.middleware.count("something")


def _after_calls(models: list[Any], registry: CollectorRegistry) -> Slice:
    async def run(times: int) -> int:
        spent = 0
        for _ in range(times):
            for number in range(CALLS):
                await models[number % MODELS].generate("hello")
            started = clock()
            generate_latest(registry)
            spent += clock() - started
        return spent

    return run


def _series(text: bytes) -> list[bytes]:
    return [line for line in text.splitlines() if not line.startswith(b"#")]


def _by_hand(series: int) -> CollectorRegistry:
    """So many series, most of them those of histograms."""
    registry, bounds = CollectorRegistry(), [2.0**power for power in range(-18, 5, 2)]
    times = Histogram("seconds", "Times.", ["middleware"], registry=registry, buckets=bounds)
    for number in range(MIDDLEWARES):
        times.labels(f"noop-{number}").observe(0.1)
    counts = Counter("counts", "Counts.", ["middleware", "name"], registry=registry)
    for number in range(max(0, series - len(_series(generate_latest(registry))))):
        counts.labels(f"noop-{number % MIDDLEWARES}", str(number)).inc()
    return registry

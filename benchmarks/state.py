"""What state costs: an answer from the cache, a limit, a budget; in memory, in a sqlite file, on a Valkey server.

The cache: a question of 100 characters, an answer of 2 KB; in a stream the model gives it in 512 parts, a hit in one.
"The whole call" is one through a chain that holds the cache alone; the budget is on that. "It adds" is what the cache
adds to the same call through one other layer: a hit spares the model's parts, so in a stream that is less than nothing.
A miss asks the model and keeps the answer; each is another question.

rate_limit and budget: one `generate` whose tokens are known in the end, so that what was taken is settled. "To an empty
layer" is the difference to a layer with the same hooks, async where theirs are, which do nothing. The budgets are
declared on that. "To no layer" is the difference to the chain without it: what a user pays who switches it on.

In memory it is the thread's CPU time that counts, as in the other benchmarks. On sqlite and Valkey it is the time that
passes, since what is waited for (the disk, the server, which is on this machine) is part of the price.

Round trips are counted by the server, for requests one after another, half of them streams: how often it had something
to read from its connections, less the times when it was asked for that number. (Its numbers of commands hold those
inside of scripts too.) The first figure is the most that a request took, the second the least. The ratio is to the
calls of EVALSHA that the server counted meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns, thread_time_ns
from typing import Any

from neuro_mw import Middleware, Response, middleware
from neuro_mw.builtin import Cache

from .measure import Pace, Row, Series, Slice, each, measure, row
from .resilience import outermost
from .state_chains import SAME, Answering, Place, calls, empty, limits, others, same, sound, valkey

HIT_US, LAYER_US, MOST_TRIPS = 15.0, 3.0, 1


def rows(pace: Pace) -> list[Row]:
    with TemporaryDirectory() as folder, valkey() as port:
        return asyncio.run(_rows(pace, Path(folder), port))


async def _rows(pace: Pace, folder: Path, port: int | None) -> list[Row]:
    sqlite, redis = f"sqlite:///{folder}/{{}}.db", f"redis://127.0.0.1:{port}/0?prefix={{}}:"
    places = [Place("memory", "memory", thread_time_ns, "us"), Place("sqlite", sqlite, perf_counter_ns, "us wall")]
    if port is not None:
        places.append(Place("valkey", redis, perf_counter_ns, "us wall"))
    table = []
    for measured in (_cache, _limits):
        for place in places:
            async with AsyncExitStack() as stack:
                table += await measured(pace, place, stack)
    if port is not None:
        async with AsyncExitStack() as stack:
            table += await _trips(places[-1], port, stack)
    return table


async def _cache(pace: Pace, place: Place, stack: AsyncExitStack) -> list[Row]:
    contestants: dict[str, Slice] = {}
    model, caches = Answering(), {}
    for mode in ("generate", "stream"):
        without = await place.chain(stack, model, outermost())
        for kind, requests in (("hit", same), ("miss", others)):
            what = f"{mode}, cache {kind}"
            contestants[f"{what}: without"] = await calls(without, requests, place, mode)
            for how, more in (("alone", ()), ("with", (outermost(),))):
                cache = caches[f"{what}: {how}"] = Cache()
                chain = await place.chain(stack, model, *more, cache)
                contestants[f"{what}: {how}"] = await calls(chain, requests, place, mode)
    found = await measure(contestants, pace)
    for name, cache in caches.items():
        sound(f"{place.name}: {name}", cache, hits="hit" in name)
    table = []
    for what in dict.fromkeys(name.partition(":")[0] for name in contestants):
        most = HIT_US if (place.name, what) == ("memory", "generate, cache hit") else None
        adds = each(found[f"{what}: with"], found[f"{what}: without"], 1)
        table.append(_row(place, f"{what}, the whole call", found[f"{what}: alone"], most))
        table.append(_row(place, f"{what}, it adds", adds))
    return table


async def _limits(pace: Pace, place: Place, stack: AsyncExitStack) -> list[Row]:
    model, with_them = Answering(), limits()
    without = await place.chain(stack, model, outermost())
    contestants = {"without": await calls(without, same, place, "generate")}
    for name, layer in with_them.items():
        for how, one in (("with", layer), ("empty", empty(layer))):
            chain = await place.chain(stack, model, outermost(), one)
            contestants[f"{name}: {how}"] = await calls(chain, same, place, "generate")
    found = await measure(contestants, pace)
    most = LAYER_US if place.name == "memory" else None
    table = [_row(place, "generate, without any of them", found["without"])]
    for name, layer in with_them.items():
        sound(f"{place.name}: {name}", layer)
        series = found[f"{name}: with"]
        table.append(_row(place, f"{name}, to an empty layer", each(series, found[f"{name}: empty"], 1), most))
        table.append(_row(place, f"{name}, to no layer", each(series, found["without"], 1)))
    return table


def _row(place: Place, what: str, series: Series, max_value: float | None = None) -> Row:
    return row(f"{place.name}: {what}", series, unit=place.unit, max_value=max_value)


# --- round trips -------------------------------------------------------------------------------------------------

Trips = tuple[int, int]
"""What a server counted: how often it read, and calls of EVALSHA."""


class Watched(Answering):
    """A model that looks at the server when it is asked."""

    def __init__(self, server: Any) -> None:
        super().__init__()
        self._server, self._last = server, (0, 0)
        self.before: Trips | None = None

    def since(self) -> Trips:
        """What the server counted since it was looked at the last time, this look apart."""
        info = self._server.info("all")
        reads, scripts = self._last
        self._last = info["total_reads_processed"], info.get("cmdstat_evalsha", {}).get("calls", 0)
        return self._last[0] - reads - 1, self._last[1] - scripts

    def probe(self) -> Middleware:
        """A layer around the cache: where the model is not asked, it looks when the answer is there."""

        def on_end(outcome: Any, context: Any) -> None:
            if self.before is None:
                self.before = self.since()

        return middleware("probe", priority=Cache.metadata.priority + 1, on_end=on_end)

    async def generate(self, params: dict[str, Any]) -> Response:
        self.before = self.since()
        return self.response

    def stream(self, params: dict[str, Any]) -> AsyncIterator[Any]:
        self.before = self.since()
        return super().stream(params)


async def _trips(place: Place, port: int, stack: AsyncExitStack) -> list[Row]:
    import redis

    model = Watched(stack.enter_context(redis.Redis(port=port, protocol=2)))
    limit, three = "rate_limit, requests and tokens", "rate_limit, cache and budget"
    table = []
    for what, names, requests in (
        (limit, [limit], others),
        ("budget", ["budget"], others),
        ("cache miss", ["cache"], others),
        ("cache hit", ["cache"], same),
        (f"{three}, miss", [limit, "cache", "budget"], others),
        (f"{three}, hit", [limit, "cache", "budget"], same),
    ):
        made = {**limits(), "cache": Cache()}
        layers = [made[name] for name in names]
        chain = await place.chain(stack, model, model.probe(), *layers)
        await chain.generate(SAME)  # it connects, and has an answer to keep
        before, after = await _counted(chain, model, requests(50))
        for name, layer in zip(names, layers, strict=True):
            sound(f"round trips, {what}", layer, hits=requests is same if name == "cache" else None)
        until = "answer" if requests is same else "model"
        table.append(_trips_row(f"{what}, before the {until}", before, MOST_TRIPS))
        table.append(_trips_row(f"{what}, after the {until}", after))
    return table


async def _counted(chain: Any, model: Watched, requests: list[dict[str, Any]]) -> tuple[list[Trips], list[Trips]]:
    """What each request sent until the model was asked or the answer was there, and what it sent after that."""
    counted: list[tuple[Trips, Trips]] = []
    model.since()
    for number, params in enumerate(requests):
        model.before = None
        await (chain.stream(params).response() if number % 2 else chain.generate(params))
        assert model.before is not None
        counted.append((model.before, model.since()))
    return [before for before, _ in counted], [after for _, after in counted]


def _trips_row(what: str, counted: list[Trips], max_value: float | None = None) -> Row:
    reads, scripts = [one for one, _ in counted], sum(scripts for _, scripts in counted)
    ratio, against = (sum(reads) / scripts, "EVALSHA calls") if scripts else (None, "")
    return Row(f"trips: {what}", max(reads), min(reads), ratio, against, max_value=max_value, unit="trips")

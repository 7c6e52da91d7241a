"""A snapshot of all stats as plain data, and many of them as one, exactly.

A snapshot is a dict that JSON can hold::

    {"schema": 1, "taken_at": seconds since 1970, "processes": [{"id", "pid", "taken_at"}],
     "middleware": {id: {"stats": MiddlewareStats.to_dict(), "buckets": [[start of the bucket in s, executions], ...]}}}

It holds ids of middlewares, names of models, and what the middlewares count by name; never a prompt, a key or a user.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..histogram import buckets_of, percentiles, start_of
from ..stats import MiddlewareStats
from .figures import Figures, check_factories, figures_of

if TYPE_CHECKING:
    from ..factory import MiddlewareFactory

SCHEMA = 1

# how each field of MiddlewareStats is merged; the others are computed anew
ADDED = (
    "total_executions", "successful_executions", "failed_executions", "total_time", "short_circuited", "blocked",
    "skipped_errors", "cancelled", "inner_errors", "parts",
)  # fmt: skip
ADDED_BY_NAME = ("by_hook", "by_model", "counts")

_STARTED = os.urandom(8).hex()


def snapshot(*factories: MiddlewareFactory) -> dict[str, Any]:
    """All executions of these factories since start or `clear_stats`, as plain data (``json.dumps`` takes it).

    The same id in several factories is one entry. What has not run is left out. Raises ConfigError for no factory.

    >>> from neuro_mw import MiddlewareFactory
    >>> factory = MiddlewareFactory()
    >>> factory.apply_middleware("echo/echo").generate_sync("hello").text
    'hello'
    >>> taken = snapshot(factory)
    >>> taken["schema"], list(taken["middleware"])
    (1, ['analytics'])
    >>> sum(executions for start_s, executions in taken["middleware"]["analytics"]["buckets"])
    1
    """
    check_factories(factories)
    now = time.time()
    return {
        "schema": SCHEMA,
        "taken_at": now,
        "processes": [{"id": process_id(), "pid": os.getpid(), "taken_at": now}],
        "middleware": {id: _entry(one) for id, one in figures_of(factories).items() if _says_something(one.stats)},
    }


def merge(snapshots: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Several snapshots as one. Numbers and buckets are added, averages and percentiles computed from the sums.

    So the percentiles are those of all executions together. ``last_execution_time`` is that of the latest snapshot.
    A snapshot must not be among them twice. For what somebody else wrote: `parse_snapshot` first.

    >>> from neuro_mw import MiddlewareFactory
    >>> factory = MiddlewareFactory()
    >>> factory.apply_middleware("echo/echo").generate_sync("hello").text
    'hello'
    >>> both = merge([snapshot(factory), snapshot(factory)])  # as if of two processes
    >>> stats_of(both)["analytics"].total_executions
    2
    """
    ordered = sorted(snapshots, key=lambda one: float(one["taken_at"]))
    entries: dict[str, list[Mapping[str, Any]]] = {}
    for one in reversed(ordered):  # the order of the chain as it is now comes first
        for id, entry in one["middleware"].items():
            entries.setdefault(id, []).append(entry)
    return {
        "schema": SCHEMA,
        "taken_at": float(ordered[-1]["taken_at"]) if ordered else 0.0,
        "processes": [process for one in ordered for process in one["processes"]],
        "middleware": {id: _entry(_merged(reversed(some))) for id, some in entries.items()},
    }


def stats_of(taken: Mapping[str, Any]) -> dict[str, MiddlewareStats]:
    """The `MiddlewareStats` of a snapshot by id, as ``registry.get_aggregated_stats()`` gives those of a factory.

    >>> stats_of(merge([]))
    {}
    """
    return {id: MiddlewareStats(**entry["stats"]) for id, entry in taken["middleware"].items()}


def process_id() -> str:
    """A name for this process that no other has, and that says nothing of the machine or the user."""
    return f"{_STARTED}-{os.getpid()}"  # a forked process is another one


def _says_something(stats: MiddlewareStats) -> bool:
    return bool(stats.total_executions or stats.skipped_errors or stats.counts)


def _entry(figures: Figures) -> dict[str, Any]:
    starts: Counter[float] = Counter()
    for bucket, executions in figures.buckets.items():
        starts[0.0 if bucket >> 15 else start_of(bucket)] += executions  # rounding makes some a little negative
    return {"stats": figures.stats.to_dict(), "buckets": [[start, starts[start]] for start in sorted(starts)]}


def _merged(entries: Iterable[Mapping[str, Any]]) -> Figures:
    """The entries of one middleware, oldest first, as one."""
    found = Figures(MiddlewareStats(), Counter())
    stats, self_ms = found.stats, 0.0
    for entry in entries:
        one = MiddlewareStats(**entry["stats"])
        self_ms += one.average_execution_time * one.total_executions
        found.buckets.update(_buckets(entry["buckets"]))
        for name in ADDED:
            setattr(stats, name, getattr(stats, name) + getattr(one, name))
        for name in ADDED_BY_NAME:
            sums = getattr(stats, name)
            for what, number in getattr(one, name).items():
                sums[what] = sums.get(what, 0) + number
        stats.held_back_max = max(stats.held_back_max, one.held_back_max)
        if one.total_executions:
            stats.last_execution_time = one.last_execution_time
    total = stats.total_executions
    stats.average_execution_time = self_ms / total if total else 0.0
    stats.p50, stats.p95, stats.p99 = (time * 1e3 for time in percentiles(found.buckets, 0.50, 0.95, 0.99))
    return found


def _buckets(pairs: Iterable[tuple[float, int]]) -> dict[int, int]:
    starts, executions = [start for start, _ in pairs], [count for _, count in pairs]
    return dict(zip(buckets_of(starts), executions, strict=True))

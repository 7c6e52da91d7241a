"""Execution stats: one record for each passage through a layer, exact under threads, in constant memory.

A record is a plain tuple (the cheapest thing that can be kept), appended to the list of its layer in one chain, which
is atomic; the lists are folded into the aggregates by the hundred, or when stats are read. Times are seconds of
`time.perf_counter`, whose resolution is a nanosecond (floats are subtracted at a third of the price of large integers);
percentiles come from a histogram.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from operator import itemgetter
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakSet

from .histogram import buckets_of, percentiles
from .tally import Tally, sendable, whole

# How a passage ended. A block is the layer's own (raised here) or an inner one's that passed through.
COMPLETED, SHORT_CIRCUITED, BLOCKED_INSIDE, BLOCKED, FAILED, INNER_ERROR, CANCELLED = range(7)
STATUS_NAMES = ("completed", "short_circuited", "blocked", "blocked", "failed", "failed", "cancelled")
CHANGED_REQUEST, CHANGED_ANSWER = 1, 2

FOLD_AT = 256  # records of one head


class Head:
    """A layer in one chain and mode, and its records that are not folded yet.

    ``hook`` is the name of its only hook, None where it has several; then ``laps`` has the seconds of each.
    """

    __slots__ = ("__weakref__", "hook", "id", "laps", "model", "records", "stats")

    def __init__(self, id: str, hook: str | None, model: str, stats: LayerStats) -> None:
        self.id, self.hook, self.model, self.stats = id, hook, model, stats
        self.records: list[Record] = []
        self.laps: Laps = {}
        with stats.lock:
            stats.heads.add(self)

    def keep(self, record: Record) -> None:
        """Take one record. Safe from any thread, and from a finalizer."""
        self.records.append(record)
        if len(self.records) >= FOLD_AT:
            self.fold()

    def fold(self) -> None:
        """Take the records into the aggregates, unless another thread is at it."""
        if self.stats.lock.acquire(blocking=False):
            try:
                self.stats.take(self)
            finally:
                self.stats.lock.release()

    def __del__(self) -> None:
        if getattr(self, "records", None):  # the chain is gone: what is left is folded soon
            self.stats.leave_behind(self.hook, self.model, self.records, self.laps)


class Extra(NamedTuple):
    """What most executions do not have: they completed and changed nothing."""

    status: int = COMPLETED
    parts: int = 0  # let go
    held: int = 0  # characters held back at most
    skipped: int = 0  # failures passed over
    changed: int = 0  # CHANGED_* bits
    error: str | None = None  # the type of the error that left


Record = tuple[Head, float, float, Extra | None, float]  # self time, total time, ..., clock at the end; in seconds
Laps = dict[str, list[float]]  # seconds of each hook, of the passages that are not folded yet
PLAIN = Extra()

_KEPT = 100
_MODELS = 64


@dataclass(slots=True)
class MiddlewareExecutionResult:
    """One execution. ``execution_time`` is self time in ms; ``error`` the type of what left, never its text."""

    applied: bool
    execution_time: float
    error: str | None = None
    reason: str | None = None


@dataclass(slots=True)
class MiddlewareStats:
    """All executions of a middleware since start or `clear_stats`. Times in ms, self time unless said otherwise.

    ``total_time`` is inclusive of what ran inside. ``by_hook`` is ms for each hook, ``by_model`` executions for each
    model, ``counts`` what the middleware counted itself (the guardrails: matches by rule).
    total = successful + failed + cancelled + inner_errors.
    """

    total_executions: int = 0
    successful_executions: int = 0
    failed_executions: int = 0
    average_execution_time: float = 0.0
    last_execution_time: float = 0.0
    total_time: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    short_circuited: int = 0
    blocked: int = 0
    skipped_errors: int = 0
    cancelled: int = 0
    inner_errors: int = 0
    parts: int = 0
    held_back_max: int = 0
    by_hook: dict[str, float] = field(default_factory=dict)
    by_model: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The stats as plain data."""
        return asdict(self)


@dataclass(slots=True)
class MiddlewareChainStats:
    """Stats of one chain; ``results`` has every registered middleware, with the reason where it is not applied."""

    total_middleware: int
    applied_middleware: int
    total_execution_time: float
    results: dict[str, MiddlewareExecutionResult]

    def to_dict(self) -> dict[str, Any]:
        """The stats as plain data."""
        return asdict(self)


class LayerStats:
    """The aggregates of one live middleware instance."""

    def __init__(self, tally: Tally | None = None) -> None:
        self.tally = tally or Tally()
        self.heads: WeakSet[Head] = WeakSet()
        self.left_behind: list[tuple[str | None, str, list[Record], Laps]] = []
        self.lock = Lock()
        self.reset()

    def reset(self) -> None:
        """Start anew."""
        self.last: list[Record] = []
        self.statuses: Counter[int] = Counter()
        self.buckets: Counter[int] = Counter()
        self.hooks: dict[str, float] = {}
        self.models: dict[str, int] = {}
        self.parts = self.skipped = self.held = 0
        self.self_s = self.total_s = 0.0

    def skip(self) -> None:
        """Count a failure that was passed over outside of any passage."""
        with self.lock:
            self.skipped += 1

    def take_all(self) -> None:
        """Take in the records of all heads (under the lock)."""
        for head in list(self.heads):
            self.take(head)
        while self.left_behind:
            self._take(*self.left_behind.pop())

    def leave_behind(self, hook: str | None, model: str, records: list[Record], laps: Laps) -> None:
        """Take the last records of a head that is gone, now or later: a finalizer must not wait for a lock."""
        self.left_behind.append((hook, model, records, laps))
        if len(self.left_behind) > 32 and self.lock.acquire(blocking=False):
            try:
                self.take_all()
            finally:
                self.lock.release()

    def take(self, head: Head) -> None:
        """Take in the records of one head (under the lock)."""
        batch = head.records[:]
        del head.records[: len(batch)]  # what other threads append meanwhile comes after these
        if batch:
            self._take(head.hook, head.model, batch, head.laps)

    def _take(self, hook: str | None, model: str, records: list[Record], laps: Laps) -> None:
        _, selfs, totals, extras, _ = zip(*records, strict=True)
        spent = sum(selfs)
        self.self_s += spent
        self.total_s += sum(totals)
        self.buckets.update(buckets_of(selfs))
        _count_model(self.models, model, len(records))
        plain = extras.count(None)
        self.statuses[COMPLETED] += plain
        if hook is not None:
            self.hooks[hook] = self.hooks.get(hook, 0.0) + spent
        for name, lap in list(laps.items()):
            seconds = lap[:]
            del lap[: len(seconds)]
            self.hooks[name] = self.hooks.get(name, 0.0) + sum(seconds)
        if plain != len(records):
            for extra in extras:
                if extra is not None:
                    self._take_extra(extra)
        self.last += records[-_KEPT:]
        if len(self.last) > 3 * _KEPT:
            self.last = self.newest()

    def newest(self) -> list[Record]:
        """The last records in the order in which they ended."""
        return sorted(self.last, key=itemgetter(4))[-_KEPT:]

    def _take_extra(self, extra: Extra) -> None:
        self.statuses[extra.status] += 1
        self.parts += extra.parts
        self.held = max(self.held, extra.held)
        self.skipped += extra.skipped


def clear(recorders: Iterable[LayerStats]) -> None:
    """Forget the executions of these instances."""
    for recorder in recorders:
        with recorder.lock:
            recorder.take_all()
            recorder.reset()
            recorder.tally.clear()


def last_executions(recorders: Iterable[LayerStats]) -> list[MiddlewareExecutionResult]:
    """The last 100 executions of these instances, oldest first."""
    kept: list[Record] = []
    for recorder in recorders:
        with recorder.lock:
            recorder.take_all()
            kept += recorder.newest()
    results = []
    for _, self_s, _, extra, _ in sorted(kept, key=itemgetter(4))[-_KEPT:]:
        status, error = (extra or PLAIN).status, (extra or PLAIN).error
        results.append(MiddlewareExecutionResult(True, self_s * 1e3, error, STATUS_NAMES[status]))
    return results


def aggregate(recorders: Iterable[LayerStats], buckets: Counter[int] | None = None) -> MiddlewareStats:
    """The stats of one middleware over all its live instances; its histogram of self times is added to `buckets`."""
    stats = MiddlewareStats()
    statuses: Counter[int] = Counter()
    buckets = Counter() if buckets is None else buckets
    tallies: dict[int, Tally] = {}  # an instance given to several factories has one
    self_s = total_s = ended = 0.0
    for recorder in recorders:
        with recorder.lock:
            recorder.take_all()
            statuses.update(recorder.statuses)
            buckets.update(recorder.buckets)
            self_s += recorder.self_s
            total_s += recorder.total_s
            stats.parts += recorder.parts
            stats.skipped_errors += recorder.skipped
            stats.held_back_max = max(stats.held_back_max, recorder.held)
            for hook, spent in recorder.hooks.items():
                stats.by_hook[hook] = stats.by_hook.get(hook, 0.0) + spent * 1e3
            for model, executions in recorder.models.items():
                _count_model(stats.by_model, sendable(model), executions)
            tallies[id(recorder.tally)] = recorder.tally
            for record in recorder.newest()[-1:]:
                if record[4] >= ended:
                    stats.last_execution_time, ended = max(0.0, record[1] * 1e3), record[4]
    for tally in tallies.values():
        for what, number in tally.counts().items():
            stats.counts[what] = whole(stats.counts.get(what, 0) + number)
    stats.total_executions = total = sum(statuses.values())
    stats.failed_executions, stats.inner_errors = statuses[FAILED], statuses[INNER_ERROR]
    stats.cancelled, stats.short_circuited = statuses[CANCELLED], statuses[SHORT_CIRCUITED]
    stats.blocked = statuses[BLOCKED]
    stats.successful_executions = total - stats.failed_executions - stats.inner_errors - stats.cancelled
    if total:
        # rounding makes some times a hair negative
        stats.average_execution_time, stats.total_time = max(0.0, self_s / total * 1e3), max(0.0, total_s * 1e3)
        stats.by_hook = {hook: max(0.0, ms) for hook, ms in stats.by_hook.items()}
        stats.p50, stats.p95, stats.p99 = (time * 1e3 for time in percentiles(buckets, 0.50, 0.95, 0.99))
    return stats


def _count_model(models: dict[str, int], model: str, executions: int) -> None:
    name = model if model in models or len(models) < _MODELS else "other"
    models[name] = models.get(name, 0) + executions

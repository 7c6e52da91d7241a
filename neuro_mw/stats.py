"""Execution stats: one record for each passage through a layer, exact under threads, in constant memory.

A record is a plain tuple (the cheapest thing that can be kept); it is appended to a list, which is atomic, and folded
into the aggregates in batches, so that the path of a call pays for an append only. Times are kept in nanoseconds and
percentiles come from a histogram with 16 linear steps in each power of two (the scheme of HdrHistogram), which bounds
their error to 1/32.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any

# How a passage ended. A block is the layer's own (raised here) or an inner one's that passed through.
COMPLETED, SHORT_CIRCUITED, BLOCKED_INSIDE, BLOCKED, FAILED, INNER_ERROR, CANCELLED = range(7)
STATUS_NAMES = ("completed", "short_circuited", "blocked", "blocked", "failed", "failed", "cancelled")
CHANGED_REQUEST, CHANGED_ANSWER = 1, 2

Extra = tuple[
    int,  # parts let go
    int,  # most characters held back
    int,  # failures skipped
    int,  # CHANGED_* bits
    str | None,  # type of the error that left
]
Record = tuple[
    str,  # layer id
    int,  # status
    int,  # self time, ns
    int,  # total time, ns
    str,  # model
    Any,  # the only hook's name, or ((hook, ns), ...)
    Extra | None,  # None where all of it would be zero
]
NO_EXTRA: Extra = (0, 0, 0, 0, None)

FOLD_AT = 1024
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
    model. total = successful + failed + cancelled + inner_errors.
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

    def to_dict(self) -> dict[str, Any]:
        """These stats as plain data."""
        return asdict(self)


@dataclass(slots=True)
class MiddlewareChainStats:
    """Stats of one chain; ``results`` has every registered middleware, with the reason where it is not applied."""

    total_middleware: int
    applied_middleware: int
    total_execution_time: float
    results: dict[str, MiddlewareExecutionResult]

    def to_dict(self) -> dict[str, Any]:
        """These stats as plain data."""
        return asdict(self)


def bucket_of(ns: int) -> int:
    """The histogram bucket of a time: exact below 32, then 16 for each power of two."""
    if ns < 32:
        return ns if ns > 0 else 0
    shift = ns.bit_length() - 5
    return (shift << 4) + (ns >> shift)


def start_of(bucket: int) -> int:
    """The smallest time in a bucket, in ns."""
    if bucket < 32:
        return bucket
    shift = (bucket >> 4) - 1
    return (bucket - (shift << 4)) << shift


def middle_of(bucket: int) -> float:
    """The time in the middle of a bucket, in ns."""
    return float(bucket) if bucket < 32 else (start_of(bucket) + start_of(bucket + 1)) / 2


class LayerStats:
    """The recorder of one live middleware instance."""

    def __init__(self) -> None:
        self.buffer: list[Record] = []
        self._fold_lock = Lock()
        self._reset()

    def _reset(self) -> None:
        self._last: deque[Record] = deque(maxlen=_KEPT)
        self._statuses: Counter[int] = Counter()
        self._buckets: Counter[int] = Counter()
        self._hooks: dict[str, int] = {}
        self._models: dict[str, int] = {}
        self._self_ns = self._total_ns = self._parts = self._skipped = self._held = 0

    def record(self, record: Record) -> None:
        """Take one execution. Safe from any thread, and from a finalizer.

        The path of a call does the same by hand: append to `buffer` (which is atomic), `fold` past FOLD_AT.
        """
        self.buffer.append(record)
        if len(self.buffer) >= FOLD_AT:
            self.fold()

    def fold(self) -> None:
        """Take the buffer into the aggregates, unless another thread is at it."""
        if self._fold_lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._fold_lock.release()

    def _fold(self) -> None:
        batch = self.buffer[:]
        del self.buffer[: len(batch)]  # what other threads append meanwhile comes after these
        if not batch:
            return
        _, statuses, selfs, totals, models, hooks, extras = zip(*batch, strict=True)
        self._statuses.update(statuses)
        spent = sum(selfs)
        self._self_ns += spent
        self._total_ns += sum(totals)
        self._count_buckets(sorted(selfs))
        for model, executions in _counted(models):
            _count_model(self._models, model, executions)
        if isinstance(hooks[0], str) and hooks.count(hooks[0]) == len(hooks):
            self._hooks[hooks[0]] = self._hooks.get(hooks[0], 0) + spent
        else:
            for hook, ns in zip(hooks, selfs, strict=True):
                for name, part in ((hook, ns),) if isinstance(hook, str) else hook or ():
                    self._hooks[name] = self._hooks.get(name, 0) + part
        for extra in extras:
            if extra is not None:
                self._parts += extra[0]
                self._held = max(self._held, extra[1])
                self._skipped += extra[2]
        self._last.extend(batch[-_KEPT:])

    def _count_buckets(self, ordered: list[int]) -> None:
        start, buckets = 0, self._buckets
        while start < len(ordered):
            bucket = bucket_of(ordered[start])
            end = bisect_left(ordered, start_of(bucket + 1), start)
            buckets[bucket] += end - start
            start = end

    def clear(self) -> None:
        """Forget everything."""
        with self._fold_lock:
            self.buffer.clear()
            self._reset()

    def last(self) -> list[MiddlewareExecutionResult]:
        """The last 100 executions, oldest first."""
        with self._fold_lock:
            self._fold()
            kept = list(self._last)
        return [
            MiddlewareExecutionResult(True, r[2] / 1e6, (r[6] or NO_EXTRA)[4], STATUS_NAMES[r[1]]) for r in kept
        ]


def aggregate(recorders: Iterable[LayerStats]) -> MiddlewareStats:
    """The stats of one middleware over all its live instances."""
    stats = MiddlewareStats()
    statuses: Counter[int] = Counter()
    buckets: Counter[int] = Counter()
    self_ns = total_ns = 0
    for recorder in recorders:
        with recorder._fold_lock:
            recorder._fold()
            statuses.update(recorder._statuses)
            buckets.update(recorder._buckets)
            self_ns += recorder._self_ns
            total_ns += recorder._total_ns
            stats.parts += recorder._parts
            stats.skipped_errors += recorder._skipped
            stats.held_back_max = max(stats.held_back_max, recorder._held)
            for hook, ns in recorder._hooks.items():
                stats.by_hook[hook] = stats.by_hook.get(hook, 0.0) + ns / 1e6
            for model, executions in recorder._models.items():
                _count_model(stats.by_model, model, executions)
            if recorder._last:
                stats.last_execution_time = recorder._last[-1][2] / 1e6
    stats.total_executions = total = sum(statuses.values())
    stats.failed_executions, stats.inner_errors = statuses[FAILED], statuses[INNER_ERROR]
    stats.cancelled, stats.short_circuited = statuses[CANCELLED], statuses[SHORT_CIRCUITED]
    stats.blocked = statuses[BLOCKED]
    stats.successful_executions = total - stats.failed_executions - stats.inner_errors - stats.cancelled
    if total:
        stats.average_execution_time, stats.total_time = self_ns / total / 1e6, total_ns / 1e6
        stats.p50, stats.p95, stats.p99 = (_percentile(buckets, total, q) / 1e6 for q in (0.50, 0.95, 0.99))
    return stats


def _counted(values: tuple[str, ...]) -> Iterable[tuple[str, int]]:
    """Values with their counts; mostly there is only one."""
    if values.count(values[0]) == len(values):
        return ((values[0], len(values)),)
    return Counter(values).items()


def _count_model(models: dict[str, int], model: str, executions: int) -> None:
    name = model if model in models or len(models) < _MODELS else "other"
    models[name] = models.get(name, 0) + executions


def _percentile(buckets: Counter[int], total: int, q: float) -> float:
    wanted, seen = q * total, 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= wanted:
            return middle_of(bucket)
    return 0.0

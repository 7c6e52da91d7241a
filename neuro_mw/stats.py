"""Execution stats: one record for each passage through a layer, exact under threads, in constant memory.

A record is a plain tuple (the cheapest thing that can be kept); it is appended to a deque, which is atomic, and folded
into the aggregates in batches, so that the path of a call pays for an append only. Times are kept in nanoseconds and
percentiles come from a histogram with 16 linear steps in each power of two (the scheme of HdrHistogram), which bounds
their error to 1/32.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any

# How a passage ended. A block is the layer's own (raised here) or an inner one's that passed through.
COMPLETED, SHORT_CIRCUITED, BLOCKED_INSIDE, BLOCKED, FAILED, INNER_ERROR, CANCELLED = range(7)
STATUS_NAMES = ("completed", "short_circuited", "blocked", "blocked", "failed", "failed", "cancelled")
CHANGED_REQUEST, CHANGED_ANSWER = 1, 2

Record = tuple[
    str,  # layer id
    int,  # status
    int,  # self time, ns
    int,  # total time, ns
    int,  # parts let go
    int,  # most characters held back
    int,  # failures skipped
    str,  # model
    int,  # CHANGED_* bits
    str | None,  # type of the error that left
    Any,  # the only hook's name, or ((hook, ns), ...)
]

_FOLD_AT = 256
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


def middle_of(bucket: int) -> float:
    """The time in the middle of a bucket, in ns."""
    if bucket < 32:
        return float(bucket)
    shift = (bucket >> 4) - 1
    return ((bucket - (shift << 4)) + 0.5) * (1 << shift)


class LayerStats:
    """The recorder of one live middleware instance."""

    def __init__(self) -> None:
        self._buffer: deque[Record] = deque()
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
        """Take one execution. Safe from any thread, and from a finalizer."""
        buffer = self._buffer
        buffer.append(record)
        if len(buffer) >= _FOLD_AT and self._fold_lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._fold_lock.release()

    def _fold(self) -> None:
        batch: list[Record] = []
        try:
            while True:
                batch.append(self._buffer.popleft())
        except IndexError:
            pass
        if not batch:
            return
        _, statuses, selfs, totals, parts, held, skipped, models, _, _, hooks = zip(*batch, strict=True)
        self._statuses.update(statuses)
        self._buckets.update(map(bucket_of, selfs))
        self._self_ns += sum(selfs)
        self._total_ns += sum(totals)
        self._parts += sum(parts)
        self._skipped += sum(skipped)
        self._held = max(self._held, *held)
        for model, executions in Counter(models).items():
            _count_model(self._models, model, executions)
        for hook, ns in zip(hooks, selfs, strict=True):
            for name, spent in ((hook, ns),) if isinstance(hook, str) else hook or ():
                self._hooks[name] = self._hooks.get(name, 0) + spent
        self._last.extend(batch[-_KEPT:])

    def clear(self) -> None:
        """Forget everything."""
        with self._fold_lock:
            self._buffer.clear()
            self._reset()

    def last(self) -> list[MiddlewareExecutionResult]:
        """The last 100 executions, oldest first."""
        with self._fold_lock:
            self._fold()
            kept = list(self._last)
        return [MiddlewareExecutionResult(True, r[2] / 1e6, r[9], STATUS_NAMES[r[1]]) for r in kept]


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

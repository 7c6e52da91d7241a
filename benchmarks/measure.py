"""Interleaved measuring: in every round each contestant runs one slice, so that all of them meet the same machine.

A figure of a round is comparable with the other figures of that round only. Ratios are therefore taken round by round
and their median is reported; a machine that slows down for a while slows down both sides of a ratio. Slices are taken
by the thread's CPU time, so that what other processes run meanwhile does not count (how they crowd caches still does).
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import repeat
from statistics import median
from time import thread_time_ns as clock
from typing import Any

Slice = Callable[[int], Awaitable[int]]
"""Runs a number of repetitions and gives the nanoseconds that count."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to measure: rounds, and the time that one slice of one contestant should take."""

    rounds: int = 21
    slice_ms: float = 16.0


FULL, QUICK = Pace(), Pace(rounds=3, slice_ms=1.0)


@dataclass(frozen=True, slots=True)
class Series:
    """Microseconds for one operation, one figure for each round; `least` is the undisturbed figure."""

    rounds: list[float]
    least: float

    @property
    def median(self) -> float:
        return median(self.rounds)

    def over(self, other: Series) -> float:
        """The median of the ratios of each round."""
        return median(mine / theirs for mine, theirs in zip(self.rounds, other.rounds, strict=True) if theirs > 0)


def each(more: Series, fewer: Series, count: int) -> Series:
    """What one of `count` added things costs: the difference of two series, round by round."""
    rounds = [(high - low) / count for high, low in zip(more.rounds, fewer.rounds, strict=True)]
    return Series(rounds, (more.least - fewer.least) / count)


@dataclass(slots=True)
class Row:
    """One line of the report. A budget may bound the median, the ratio, or both."""

    what: str
    median: float
    least: float
    ratio: float | None = None
    against: str = ""
    max_value: float | None = None
    max_ratio: float | None = None
    unit: str = "us"

    @property
    def budget(self) -> str:
        parts = [f"<= {self.max_value:g} {self.unit}"] if self.max_value is not None else []
        parts += [f"<= {self.max_ratio:g}x"] if self.max_ratio is not None else []
        return ", ".join(parts)

    @property
    def verdict(self) -> str:
        if not self.budget:
            return ""
        slow = self.max_value is not None and self.median > self.max_value
        dear = self.max_ratio is not None and (self.ratio is None or self.ratio > self.max_ratio)
        return "MISSED" if slow or dear else "met"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "budget": self.budget, "verdict": self.verdict}


def row(what: str, series: Series, base: Series | None = None, against: str = "", **budget: Any) -> Row:
    """The line for one series; `base` is what its ratio is taken to."""
    ratio = None if base is None else series.over(base)
    return Row(what, series.median, series.least, ratio, against if base is not None else "", **budget)


def awaiting(call: Callable[[Any], Awaitable[Any]], argument: Any) -> Slice:
    """A slice that awaits ``call(argument)`` again and again."""

    async def run(times: int) -> int:
        started = clock()
        for _ in repeat(None, times):
            await call(argument)
        return clock() - started

    return run


def calling(call: Callable[[Any], Any], argument: Any) -> Slice:
    """A slice that calls ``call(argument)`` again and again."""

    async def run(times: int) -> int:
        started = clock()
        for _ in repeat(None, times):
            call(argument)
        return clock() - started

    return run


async def measure(contestants: Mapping[str, Slice], pace: Pace, *, per: int = 1) -> dict[str, Series]:
    """Run all contestants in turn, in every round beginning with another one.

    ``per`` is the number of operations in one repetition. The collector of garbage stays on, as it does for users; it
    runs before each round, so that no contestant pays for the heap of the one before.
    """
    times = {name: await _repetitions(run, pace.slice_ms) for name, run in contestants.items()}
    names, figures = list(contestants), {name: [] for name in contestants}
    for turn in range(pace.rounds):
        gc.collect()
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            spent = await contestants[name](times[name])
            figures[name].append(spent / times[name] / per / 1e3)
    return {name: Series(rounds, min(rounds)) for name, rounds in figures.items()}


async def _repetitions(run: Slice, slice_ms: float) -> int:
    """How often a contestant runs in one slice; finding out warms it up as well."""
    times = 1
    while (spent := await run(times)) < slice_ms * 1e6 / 2:
        times *= 2
    return max(1, round(times * slice_ms * 1e6 / spent))

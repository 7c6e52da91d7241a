"""The figures of factories, read where they are kept: nothing of this is in the path of a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import fsum
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ConfigError
from ..factory import MiddlewareFactory
from ..stats import MiddlewareStats, aggregate

if TYPE_CHECKING:
    from ..stats import LayerStats


class Figures(NamedTuple):
    """What there is of one middleware: its stats, and how many executions are in each bucket of the histogram.

    ``self_s`` is the self time of all executions together, as it was added up: it never shrinks, as counters must not.
    The average times the executions would, by a last bit.
    """

    stats: MiddlewareStats
    buckets: Counter[int]
    self_s: float = 0.0

    @property
    def statuses(self) -> dict[str, int]:
        """Executions by status. Each has one; what passed on the block of an inner layer is "completed"."""
        stats = self.stats
        return {
            "completed": stats.successful_executions - stats.short_circuited - stats.blocked,
            "short_circuited": stats.short_circuited,
            "blocked": stats.blocked,
            "failed": stats.failed_executions,
            "inner_error": stats.inner_errors,
            "cancelled": stats.cancelled,
        }


def check_factories(factories: Iterable[object]) -> None:
    """Raise ConfigError unless all are factories: told where they are given, not when somebody reads."""
    for one in factories:
        if not isinstance(one, MiddlewareFactory):
            raise ConfigError(f"it is of the type {type(one).__name__}", key="factory", expected="a MiddlewareFactory")


def figures_of(factories: Iterable[MiddlewareFactory]) -> dict[str, Figures]:
    """The figures by id, in chain order; the same id in several factories is one. What never lived is left out."""
    recorders: dict[str, list[LayerStats]] = {}
    for factory in dict.fromkeys(factories):
        for one in factory.registry.registrations():
            for live in one.instances():
                recorders.setdefault(one.id, []).append(live.stats)
    found = {}
    for id, some in recorders.items():
        buckets: Counter[int] = Counter()
        stats = aggregate(some, buckets)
        found[id] = Figures(stats, buckets, fsum(one.self_s for one in some))
    return found

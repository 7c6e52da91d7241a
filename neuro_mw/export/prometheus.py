"""Stats for Prometheus, read when it scrapes (extra "prometheus")."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING

from ..histogram import buckets_of
from ..tally import sendable
from .figures import Figures, check_factories, figures_of

try:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector
    from prometheus_client.samples import Sample
except ImportError as error:
    raise ImportError("StatsCollector needs prometheus-client: pip install 'neuro-mw[prometheus]'") from error

if TYPE_CHECKING:
    from ..factory import MiddlewareFactory

# Powers of two are where our own buckets begin, so that none of them is split: 4 us to 16 s. Each costs a scrape 4 us.
_BOUNDS = [2.0**power for power in range(-18, 5, 2)]
_FIRST = list(buckets_of(_BOUNDS))
_LE = [*map(repr, _BOUNDS), "+Inf"]
_NAME = "neuro_mw_middleware_"
_BUCKET, _COUNT, _SUM = (f"{_NAME}self_seconds_{end}" for end in ("bucket", "count", "sum"))

_Row = tuple[dict[str, str], Figures]


class StatsCollector(Collector):
    """What all middlewares of some factories did, for a registry of prometheus_client; calls pay nothing for it.

    The same id in several factories is one series; factories given by name have the label ``factory``.
    Raises ConfigError for what is no factory.

    >>> from prometheus_client import CollectorRegistry, generate_latest
    >>> from neuro_mw import MiddlewareFactory
    >>> factory = MiddlewareFactory()
    >>> factory.apply_middleware("echo/echo").generate_sync("hello").text
    'hello'
    >>> registry = CollectorRegistry()
    >>> registry.register(StatsCollector(factory))
    >>> lines = generate_latest(registry).decode().splitlines()
    >>> [line for line in lines if line.startswith("neuro_mw_middleware_executions_total") and line.endswith(" 1.0")]
    ['neuro_mw_middleware_executions_total{middleware="analytics",status="completed"} 1.0']
    """

    def __init__(self, *factories: MiddlewareFactory, **named: MiddlewareFactory) -> None:
        check_factories((*factories, *named.values()))
        self._groups: list[tuple[dict[str, str], Sequence[MiddlewareFactory]]] = [({}, factories)] if factories else []
        self._groups += [({"factory": sendable(name)}, [factory]) for name, factory in named.items()]

    def describe(self) -> Iterable[Metric]:
        """The names, so that a registry refuses a second collector that would give them again."""
        return _families([])

    def collect(self) -> Iterable[Metric]:
        """The series as they are now."""
        rows = [
            ({**more, "middleware": id}, one) for more, some in self._groups for id, one in figures_of(some).items()
        ]
        return _families(rows)


def _families(rows: list[_Row]) -> Iterator[Metric]:
    """Samples are made here, not by the library's families: those take three times as long."""
    yield _family("self_seconds", "Time in its own code, by execution.", "histogram", chain.from_iterable(
        _histogram(labels, one) for labels, one in rows
    ))  # fmt: skip
    yield _counter("executions", "Executions by how they ended.", (
        ({**labels, "status": status}, number) for labels, one in rows for status, number in one.statuses.items()
    ))  # fmt: skip
    yield _counter("blocked", "Calls that it refused.", ((labels, one.stats.blocked) for labels, one in rows))
    yield _counter("skipped_errors", "Failures of its own that were passed over.", (
        (labels, one.stats.skipped_errors) for labels, one in rows
    ))  # fmt: skip
    yield _counter("parts", "Parts of streams that it let go.", ((labels, one.stats.parts) for labels, one in rows))
    yield _counter("counts", "What it counts itself, by name.", (
        ({**labels, "name": name}, number) for labels, one in rows for name, number in one.stats.counts.items()
    ))  # fmt: skip
    yield _counter("model_executions", "Executions by model.", (
        ({**labels, "model": model}, number) for labels, one in rows for model, number in one.stats.by_model.items()
    ))  # fmt: skip


def _counter(name: str, help: str, values: Iterable[tuple[dict[str, str], int]]) -> Metric:
    sample = f"{_NAME}{name}_total"
    return _family(name, help, "counter", (Sample(sample, labels, number) for labels, number in values))


def _histogram(labels: dict[str, str], figures: Figures) -> Iterator[Sample]:
    counts = cumulative(figures)
    for le, number in zip(_LE, counts, strict=True):
        yield Sample(_BUCKET, {**labels, "le": le}, number)
    yield Sample(_COUNT, labels, counts[-1])
    yield Sample(_SUM, labels, figures.self_s)


def _family(name: str, help: str, kind: str, samples: Iterable[Sample]) -> Metric:
    family = Metric(_NAME + name, help, kind)
    family.samples = list(samples)
    return family


def cumulative(figures: Figures) -> list[int]:
    """How many executions took less than each bound: exact, since the bounds are where buckets begin."""
    slots = [0] * len(_LE)
    for bucket, executions in figures.buckets.items():
        slots[0 if bucket >> 15 else bisect_right(_FIRST, bucket)] += executions
    return list(accumulate(slots))

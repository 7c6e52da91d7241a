"""Stats as OpenTelemetry instruments, read when the SDK collects (extra "otel"; the SDK is the user's)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING
from weakref import ref

from .figures import Figures, check_factories, figures_of

try:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter
except ImportError as error:
    raise ImportError("observe_stats needs opentelemetry-api: pip install 'neuro-mw[otel]'") from error

if TYPE_CHECKING:
    from ..factory import MiddlewareFactory

_Read = Callable[[Figures], Iterable[tuple[dict[str, str | float], float]]]

_COUNTERS: tuple[tuple[str, str, str, _Read], ...] = (
    ("executions", "{execution}", "Executions by how they ended.",
     lambda one: [({"status": status}, number) for status, number in one.statuses.items()]),
    ("self_time", "s", "Time in its own code.", lambda one: [({}, one.self_s)]),
    ("blocked", "{call}", "Calls that it refused.", lambda one: [({}, one.stats.blocked)]),
    ("skipped_errors", "{error}", "Failures of its own that were passed over.",
     lambda one: [({}, one.stats.skipped_errors)]),
    ("parts", "{part}", "Parts of streams that it let go.", lambda one: [({}, one.stats.parts)]),
    ("counts", "{count}", "What it counts itself, by name.",
     lambda one: [({"name": name}, number) for name, number in one.stats.counts.items()]),
    ("model_executions", "{execution}", "Executions by model.",
     lambda one: [({"model": model}, number) for model, number in one.stats.by_model.items()]),
)  # fmt: skip


def observe_stats(*factories: MiddlewareFactory, meter_provider: MeterProvider | None = None) -> None:
    """Create observable instruments that give what all middlewares of some factories did; calls pay nothing.

    ``neuro_mw.middleware.executions``, ``self_time``, ``blocked``, ``skipped_errors``, ``parts``, ``counts`` and
    ``model_executions`` are counters; ``self_time.quantile`` is a gauge with the 0.5, 0.95 and 0.99 quantiles, since
    OpenTelemetry has no observable histogram. Call it once: instruments cannot be taken back. They do not keep a
    factory alive. Without an SDK nothing is read. Raises ConfigError for what is no factory.

    >>> from neuro_mw import MiddlewareFactory
    >>> factory = MiddlewareFactory()
    >>> observe_stats(factory)
    """
    check_factories(factories)
    meter = get_meter("neuro_mw", meter_provider=meter_provider)
    alive = [ref(factory) for factory in factories]
    figures: dict[str, Figures] = {}
    served: set[_Read] = set()  # the instruments that have these figures

    def callback(read: _Read) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def observe(options: CallbackOptions) -> Iterator[Observation]:
            nonlocal figures
            if not served or read in served:  # its turn again: that is all that tells a new collection
                figures = figures_of(factory for factory in (one() for one in alive) if factory is not None)
                served.clear()
            served.add(read)
            for id, one in figures.items():
                for attributes, value in read(one):
                    yield Observation(value, {"middleware": id, **attributes})

        return observe

    for name, unit, description, read in _COUNTERS:
        meter.create_observable_counter(f"neuro_mw.middleware.{name}", [callback(read)], unit, description)
    meter.create_observable_gauge(
        "neuro_mw.middleware.self_time.quantile", [callback(_quantiles)], "s", "Quantiles of the time in its own code."
    )


def _quantiles(figures: Figures) -> list[tuple[dict[str, str | float], float]]:
    stats = figures.stats
    if not stats.total_executions:
        return []
    times = ((0.5, stats.p50), (0.95, stats.p95), (0.99, stats.p99))
    return [({"quantile": quantile}, value_ms / 1e3) for quantile, value_ms in times]

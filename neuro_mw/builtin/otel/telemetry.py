"""Who listens: the tracer and the instruments, from the moment on in which an SDK is set up."""

from __future__ import annotations

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Tracer, TracerProvider

from neuro_mw import __version__

from .metrics import Instruments

_SCOPE = "neuro_mw"


class Telemetry:
    """The tracer and the instruments of one tracing layer; None of them as long as nobody listens.

    The providers are the global ones unless some are given. Those that the API itself puts in their place record
    nothing; so they are left alone, and looked at again with the next call.
    """

    def __init__(
        self,
        *,
        spans: bool,
        metrics: bool,
        middleware_spans: bool,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
    ) -> None:
        self.tracer: Tracer | None = None
        self.instruments: Instruments | None = None
        self.middleware_spans = middleware_spans
        self._given = tracer_provider, meter_provider
        self._no_tracer, self._no_meter = spans, metrics  # wanted, and not there yet

    def listens(self) -> bool:
        """Whether anybody does."""
        if self._no_tracer:
            provider = self._given[0] or trace.get_tracer_provider()
            if not _of_the_api(provider):
                self.tracer, self._no_tracer = provider.get_tracer(_SCOPE, __version__), False
        if self._no_meter:
            meters = self._given[1] or metrics.get_meter_provider()
            if not _of_the_api(meters):
                self.instruments, self._no_meter = Instruments(meters.get_meter(_SCOPE, __version__)), False
        return self.tracer is not None or self.instruments is not None


def _of_the_api(provider: object) -> bool:
    return type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))

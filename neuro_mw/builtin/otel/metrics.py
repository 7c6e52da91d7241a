"""The client metrics of the GenAI semantic conventions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.metrics import Histogram, Meter

from neuro_mw import Attempt

from . import conventions as name
from .attributes import Attributes, tokens_of, who

_KINDS = (("input_tokens", name.INPUT), ("output_tokens", name.OUTPUT))


class Instruments:
    """The four histograms of one meter, with the buckets that the conventions advise."""

    __slots__ = ("_duration", "_tokens", "first_chunk", "per_chunk")

    def __init__(self, meter: Meter) -> None:
        def seconds(metric: str, description: str) -> Histogram:
            return meter.create_histogram(
                metric, "s", description, explicit_bucket_boundaries_advisory=name.SECONDS_BUCKETS
            )

        self._duration = seconds(name.DURATION, "GenAI operation duration.")
        self.first_chunk = seconds(
            name.TIME_TO_FIRST_CHUNK, "Time from the request to the first chunk of a streamed answer."
        )
        self.per_chunk = seconds(
            name.TIME_PER_OUTPUT_CHUNK, "Time from one chunk of a streamed answer to the next, after the first one."
        )
        self._tokens = meter.create_histogram(
            name.TOKEN_USAGE, "{token}", "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=name.TOKEN_BUCKETS,
        )  # fmt: skip

    def ended(self, duration_s: float, attributes: Attributes, context: Any) -> None:
        """A call has ended. With its context, a backend can lead from the figure to the span."""
        self._duration.record(duration_s, attributes, context)

    def used(self, attempts: Sequence[Attempt], context: Any, model: str | None = None) -> None:
        """The tokens that each attempt used, of those that are known; `model` is what answered the last one."""
        for attempt in attempts:
            attributes = who(attempt.provider, attempt.model)
            if model is not None and attempt is attempts[-1]:
                attributes[name.RESPONSE_MODEL] = model
            for field, kind in _KINDS:
                tokens = tokens_of(attempt, field)
                if tokens is not None:
                    self._tokens.record(tokens, {**attributes, name.TOKEN_TYPE: kind}, context)

"""tracing: a span of OpenTelemetry and the client metrics for every call, by the GenAI semantic conventions."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, StrictBool

from neuro_mw import ConfigError, Middleware, MiddlewareContext, Params, Part, Response

from ._catalog import CATALOG
from .otel.content import Content
from .otel.conventions import CAPTURE_CONTENT, CAPTURING

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from .otel.call import TracedCall

_log = logging.getLogger("neuro_mw")
_LOG_EVERY_S = 60.0
_MEND = "pip install 'neuro-mw[otel]', and set up an SDK of OpenTelemetry"


@cache
def _say_missing(id: str) -> None:
    """Once, however many instances there are."""
    _log.warning("middleware '%s' does nothing: opentelemetry is not installed; %s", id, _MEND)


class Tracing(Middleware):
    """One CLIENT span ``chat {model}`` for each call, and the client metrics; you bring the SDK of OpenTelemetry.

    Spans have the attributes of the GenAI semantic conventions, an event for each middleware with its own time and one
    for each attempt. A failure is an ERROR with ``error.type``; a refusal is none, ``neuro_mw.status`` says "blocked".
    Neither holds a word of a request or of an answer, unless content is asked for. Then spans have the messages that
    were last sent to the provider, and what left this layer; where a guard refused, nothing.

    The span is the current one for all that runs inside, as the spans of an instrumented HTTP client, and never for
    who consumes a stream. Where opentelemetry is not installed this layer has no hooks, and the log says so; where no
    SDK is set up calls do not pass it, and one that is set up later is found.

    ``tracer_provider`` and ``meter_provider`` take the place of the global ones; ConfigError where they are none.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> from opentelemetry.sdk.trace import TracerProvider
    >>> from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    >>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    >>> exporter, provider = InMemorySpanExporter(), TracerProvider()
    >>> provider.add_span_processor(SimpleSpanProcessor(exporter))
    >>> tracing = Tracing(tracer_provider=provider, metrics=False)
    >>> model = MiddlewareFactory(preset=None, middleware=[tracing]).apply_middleware("echo/echo")
    >>> response = asyncio.run(model.generate("hello", temperature=0.5))
    >>> (span,) = exporter.get_finished_spans()
    >>> span.name, span.attributes["gen_ai.request.temperature"], span.attributes["gen_ai.usage.input_tokens"]
    ('chat echo', 0.5, 1)
    """

    metadata = CATALOG["tracing"]

    class Config(BaseModel):
        """Options of tracing."""

        spans: StrictBool = True
        metrics: StrictBool = True
        middleware_spans: StrictBool = False
        """A child span for each middleware and each attempt, beside the events."""
        capture_content: StrictBool | None = None
        """Whether spans hold messages; None is what OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT says."""
        max_content_chars: int = Field(default=32_768, ge=1, strict=True)
        """Characters of a request, and of an answer, at most; of a longer request the latest messages stay.

        Texts, names, ids and addresses count; what has none of these, as an empty message, counts as one character.
        """

    config: Config

    def __init__(
        self,
        config: Any = None,
        /,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        **options: Any,
    ) -> None:
        super().__init__(config, **options)
        _check("tracer_provider", tracer_provider, "get_tracer")
        _check("meter_provider", meter_provider, "get_meter")
        self._next_log = 0.0
        wanted = self.config.capture_content
        if wanted is None:
            wanted = os.environ.get(CAPTURE_CONTENT, "").strip().lower() in CAPTURING
        self._content_chars = self.config.max_content_chars if wanted else None
        try:
            from .otel import call, telemetry
        except ImportError:
            _say_missing(self.metadata.id)
            self._step_aside()
            return
        if not (self.config.spans or self.config.metrics):
            self._step_aside()
        self._call_type = call.TracedCall
        self._telemetry = telemetry.Telemetry(
            spans=self.config.spans, metrics=self.config.metrics, middleware_spans=self.config.middleware_spans,
            tracer_provider=tracer_provider, meter_provider=meter_provider,
        )  # fmt: skip

    def _step_aside(self) -> None:
        """Have no hooks, but those of a later class: what is not there costs nothing."""
        if type(self).wrap_generate is Tracing.wrap_generate:
            self.wrap_generate = super().wrap_generate  # type: ignore[method-assign]
        if type(self).wrap_stream is Tracing.wrap_stream:
            self.wrap_stream = super().wrap_stream  # type: ignore[method-assign]
        self.idle = super().idle  # type: ignore[method-assign]

    def idle(self) -> str | None:
        """Why nobody listens."""
        return None if self._telemetry.listens() else "no SDK of OpenTelemetry is set up"

    async def wrap_generate(self, do_generate: Any, params: Params, context: MiddlewareContext) -> Response:
        """The answer, with the span around it."""
        call = self._begin(params, context, streams=False)
        if call is None:
            untraced: Response = await do_generate(params)
            return untraced
        response: Response | None = None
        outside = call.enter()
        try:
            response = await do_generate(params)
        except BaseException as error:
            call.leave(outside, error)
            call.broke_off(error)
            raise
        else:
            call.leave(outside)
        finally:
            self._end(call, context, response)
        return response

    async def wrap_stream(self, do_stream: Any, params: Params, context: MiddlewareContext) -> AsyncIterator[Part]:
        """The parts, with the span around each wait for one, and ended when no more can come."""
        parts, call = do_stream(params), self._begin(params, context, streams=True)
        if call is None:
            async for part in parts:
                yield part
            return
        pull = parts.__anext__
        try:
            while True:
                outside = call.enter()
                try:
                    part = await pull()
                except BaseException as error:
                    call.leave(outside, error)
                    raise
                call.leave(outside)
                self._saw(call, part, context)
                yield part
        except StopAsyncIteration:
            pass
        except BaseException as error:
            call.broke_off(error)
            raise
        finally:
            outside = call.enter()
            try:
                await parts.aclose()  # so that what is inside has ended before the span does
            finally:
                call.leave(outside)
                self._end(call, context)

    # --- what goes wrong here stays here -------------------------------------------------------------------------

    def _begin(self, params: Params, context: MiddlewareContext, *, streams: bool) -> TracedCall | None:
        """The call, if anybody listens."""
        try:
            if not self._telemetry.listens():
                return None
            content = None if self._content_chars is None else Content(self._content_chars)
            call = self._call_type(self._telemetry, self, params, context, content, streams=streams)
            if call.failed is not None:
                self._failed(call.failed, context)
            return call
        except Exception as error:  # noqa: BLE001  # of an SDK or a processor: no call fails for it
            self._failed(error, context)
            return None

    def _saw(self, call: TracedCall, part: Part, context: MiddlewareContext) -> None:
        try:
            call.saw(part)
        except Exception as error:  # noqa: BLE001  # as above
            self._failed(error, context)

    def _end(self, call: TracedCall, context: MiddlewareContext, response: Response | None = None) -> None:
        try:
            call.end(response)
        except Exception as error:  # noqa: BLE001  # as above
            self._failed(error, context)

    def _failed(self, error: Exception, context: MiddlewareContext) -> None:
        """Count it, put it on the receipt, and log it once a minute."""
        self.count("failures")
        if self.metadata.id not in context.failures_skipped:  # a stream may fail with each part
            context.passed_over(self)
        if monotonic() >= self._next_log:
            self._next_log = monotonic() + _LOG_EVERY_S
            _log.warning(
                "middleware '%s': opentelemetry failed (%s); the call goes on", self.metadata.id, type(error).__name__
            )


def _check(option: str, provider: object, makes: str) -> None:
    if provider is not None and not callable(getattr(provider, makes, None)):
        raise ConfigError(
            f"it is of type {type(provider).__name__}", key=option, expected=f"a provider, with a method {makes}()"
        )

"""One call as a span: when it began, what came, how it ended. It is the current span for what runs inside."""

from __future__ import annotations

from time import perf_counter as clock
from time import time_ns
from typing import Any

from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from neuro_mw import (
    Attempt,
    Collector,
    Finish,
    Middleware,
    MiddlewareContext,
    Params,
    Part,
    ProviderDelta,
    RequestBlocked,
    Response,
    ResponseInfo,
    TextDelta,
)

from . import conventions as name
from .attributes import (
    Attributes,
    request_attributes,
    response_attributes,
    sendable,
    server_attributes,
    usage_attributes,
    who,
)
from .content import Content
from .events import add_events, add_spans, executions
from .questions import Questions
from .telemetry import Telemetry

_ERROR = Status(StatusCode.ERROR)  # no description: what an error says may quote the request
_NO_CHUNKS = (ResponseInfo, ProviderDelta, Finish)


class TracedCall:
    """One passage of a call through tracing.

    ``enter`` and ``leave`` stand around whatever runs inside. They put one context of OpenTelemetry in the place of the
    other, and use no tokens: a stream may be pulled and closed in different tasks, where a token would be of no use.
    """

    __slots__ = (
        "_began", "_chunk", "_collector", "_content", "_context", "_executions", "_inside", "_last_s", "_layer",
        "_left", "_params", "_questions", "_refused", "_span", "_started", "_streams", "_telemetry", "_who", "error",
        "failed", "finish", "first_s", "info", "status", "waited_s",
    )  # fmt: skip

    def __init__(
        self,
        telemetry: Telemetry,
        layer: Middleware,
        params: Params,
        context: MiddlewareContext,
        content: Content | None,
        *,
        streams: bool,
    ) -> None:
        self._telemetry, self._layer = telemetry, layer
        self._params, self._context, self._content = params, context, content
        self._questions = Questions(context, layer.metadata.id)
        self._executions = len(context.executions)
        self._who = who(context.provider, context.model)
        self._span: Any = None
        self.failed: Exception | None = None
        self._inside: Context | None = None
        if telemetry.tracer is not None:
            self._start(telemetry.tracer)
        self.status, self.error, self._refused = "completed", "", False
        self.info: ResponseInfo | None = None
        self.finish: Finish | None = None
        self._streams = streams
        self._collector = Collector() if streams and content is not None else None
        self._chunk: Attributes | None = None  # of the metric of chunks, made with the first one
        self.first_s: float | None = None
        self.waited_s = self._last_s = 0.0
        self._left: float | None = None  # since when a consumer may hold the stream
        self._started = self._began = clock()

    def _start(self, tracer: Any) -> None:
        called = f"{name.CHAT} {self._who[name.REQUEST_MODEL]}"
        try:
            self._span = tracer.start_span(called, kind=SpanKind.CLIENT, attributes=self._who)
            self._inside = set_span_in_context(self._span)
        except Exception as error:  # noqa: BLE001  # a processor's: there is no span, and yet there are metrics
            self.failed = error

    # --- inside and outside --------------------------------------------------------------------------------------

    def enter(self) -> Context | None:
        """What comes runs inside; the context that stood outside."""
        outside = None
        if self._inside is not None:
            outside = get_current()
            attach(self._inside)
        self._began = clock()
        return outside

    def leave(self, outside: Context | None, error: BaseException | None = None) -> None:
        """What ran inside has returned, or raised: outside, all is as it was."""
        now = clock()
        self.waited_s += now - self._began
        if self._left is None:
            self._left = now
        if outside is None:
            return
        current = get_current()
        # Who throws a coroutine away may do so from anywhere, where our context has no place.
        if not isinstance(error, GeneratorExit) or current is self._inside:
            self._inside = current  # a generator inside may have set one of its own, and will want it back
            attach(outside)

    # --- what comes ----------------------------------------------------------------------------------------------

    def saw(self, part: Part) -> None:
        """A part of a stream came."""
        if type(part) is TextDelta or not isinstance(part, _NO_CHUNKS):
            waited_s = self.waited_s
            if self.first_s is None:
                self.first_s = waited_s
            elif self._telemetry.instruments is not None:
                if self._chunk is None:
                    self._chunk = self._answered_by(self.info)
                self._telemetry.instruments.per_chunk.record(waited_s - self._last_s, self._chunk, self._inside)
            self._last_s = waited_s
        elif isinstance(part, ResponseInfo):
            self.info = part
        elif isinstance(part, Finish):
            self.finish = part
        if self._collector is not None:
            self._collector.add(part)

    def broke_off(self, error: BaseException) -> None:
        """An error leaves this layer. (It is not kept: it holds the frame that holds this.)"""
        if isinstance(error, Exception):
            self.status, self.error = "failed", type(error).__name__
            self._refused = isinstance(error, RequestBlocked)  # by a guard of a model that is a chain itself
        else:
            self.status = "cancelled"

    def _streamed(self) -> Response:
        """What of a streamed answer was let go; without its texts where they are not asked for."""
        if self._collector is not None:
            return self._collector.response()
        info, finish = self.info or ResponseInfo(), self.finish
        response = Response(id=info.id, model=info.model)
        if finish is not None:
            response.finish_reason, response.blocked = finish.reason, finish.blocked
        return response

    # --- the end -------------------------------------------------------------------------------------------------

    def end(self, response: Response | None = None) -> None:
        """Tell what is known, and end the span, whatever goes wrong in that."""
        now, context = clock(), self._context
        attempts, asked = context.attempts_inside(self._layer), self._questions.answered()
        sent = context.sent if attempts else None
        server: Attributes = {}
        try:
            if self._streams:
                response = self._streamed()
            if response is not None and response.blocked is not None and self.status == "completed":
                self.status, self._refused = "blocked", True
            request = self._params if sent is None else sent
            server = server_attributes(request)
            if self._span is not None and self._span.is_recording():
                self._describe(response, attempts, asked, {**request_attributes(request), **server}, now)
                if self._content is not None and not self._refused:
                    self._tell(self._content, response, sent)
        finally:
            try:
                if self._span is not None:
                    self._span.end()
            finally:
                if self._telemetry.instruments is not None:
                    self._measure(response, attempts, asked, server)

    def _describe(self, response: Response | None, attempts: list[Attempt], asked: list[Attempt],
                  attributes: Attributes, now: float) -> None:  # fmt: skip
        span, context, now_ns = self._span, self._context, time_ns()
        attributes |= usage_attributes(attempts)
        attributes[name.STATUS], attributes[name.REQUEST_ID] = self.status, sendable(context.request_id)
        if len(attempts) != 1:
            attributes[name.ATTEMPTS] = len(attempts)
        if self._streams:
            attributes[name.REQUEST_STREAM] = True
            if self.first_s is not None:
                attributes[name.RESPONSE_TIME_TO_FIRST_CHUNK] = self.first_s
        if isinstance(context.session.session_id, str):
            attributes[name.CONVERSATION_ID] = sendable(context.session.session_id)
        if response is not None:
            attributes |= response_attributes(response, finished=self.status in ("completed", "blocked"))
        if self.error:
            attributes[name.ERROR_TYPE] = self.error
            span.set_status(_ERROR)
        span.set_attributes(attributes)
        ran = executions(context, self._executions)
        held_s = max(0.0, now - self._started - self.waited_s)
        add_events(span, context, ran, attempts, asked, now=now, now_ns=now_ns)
        if self._telemetry.middleware_spans:
            add_spans(self._telemetry.tracer, set_span_in_context(span), ran, attempts,
                      began=self._started, held_since=self._left, held_s=held_s, now=now, now_ns=now_ns)  # fmt: skip

    def _tell(self, content: Content, response: Response | None, sent: Params | None) -> None:
        """What was sent to a model, if any was, and what was let go: last of all, where a span has all else."""
        try:
            if sent is not None:
                self._span.set_attribute(name.INPUT_MESSAGES, content.input(sent.get("messages")))
                stop = content.stop_sequences(sent.get("stop"))
                if stop:
                    self._span.set_attribute(name.REQUEST_STOP_SEQUENCES, stop)
        finally:
            if response is not None:
                self._span.set_attribute(name.OUTPUT_MESSAGES, content.output(response))
            if content.truncated:
                self._span.set_attribute(name.CONTENT_TRUNCATED, True)

    def _measure(
        self, response: Response | None, attempts: list[Attempt], asked: list[Attempt], server: Attributes
    ) -> None:
        instruments = self._telemetry.instruments
        assert instruments is not None
        answered = self._answered_by(response)
        attributes = {**answered, **server}
        if self.status != "completed":
            attributes[name.STATUS] = self.status
        if self.error:
            attributes[name.ERROR_TYPE] = self.error
        instruments.ended(self.waited_s, attributes, self._inside)
        if self.first_s is not None:
            instruments.first_chunk.record(self.first_s, answered, self._inside)
        instruments.used(asked, self._inside)
        instruments.used(attempts, self._inside, answered.get(name.RESPONSE_MODEL))

    def _answered_by(self, answer: Response | ResponseInfo | None) -> Attributes:
        """The attributes of a metric, with the model that answered where it is known."""
        model = None if answer is None else answer.model
        return {**self._who, name.RESPONSE_MODEL: sendable(model)} if isinstance(model, str) else self._who

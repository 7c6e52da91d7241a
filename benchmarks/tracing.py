"""What watching calls costs: for a call, and for a part of a stream.

As in `resilience`, "its own" is the difference to an empty layer with the same hooks, "in all" the difference to the
chain without it, which is what a user pays who switches it on; each chain has one other layer. Where a layer is off it
is not in the chain, and costs 0.

tracing is measured with the SDK of OpenTelemetry: a batch processor whose exporter takes all spans at once, and a
reader of metrics that nobody reads. The thread that exports is not counted. The answers have a usage, so that three
histograms are recorded for a call, and one more for each part of a stream, and the span has an event for the other
layer and one for the attempt.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from neuro_mw import Finish, Middleware, Usage, middleware
from neuro_mw.builtin.otel import conventions as name
from neuro_mw.builtin.tracing import Tracing

from .chain import wrapped
from .measure import Pace, Row, Slice, awaiting, each, measure, row
from .resilience import Answering, empty, wrap_generate, wrap_stream
from .stream import reading

PARTS = 2000
TRACING_US = 60.0


def rows(pace: Pace) -> list[Row]:
    return asyncio.run(_tracing(pace))


# --- tracing -----------------------------------------------------------------------------------------------------


def open_sdk() -> dict[str, Any]:
    """Providers as they would be set up, by the names that tracing has for them."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Taking(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # it would say that a full queue drops spans
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(BatchSpanProcessor(Taking()))
    meter_provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    return {"tracer_provider": tracer_provider, "meter_provider": meter_provider}


def tracings(sdk: dict[str, Any]) -> dict[str, Middleware]:
    """What is measured of tracing, each made anew."""
    return {
        "installed, no SDK": Tracing(),
        "on": Tracing(**sdk),
        "spans only": Tracing(metrics=False, **sdk),
        "metrics only": Tracing(spans=False, **sdk),
        "with content": Tracing(capture_content=True, **sdk),
        "with middleware_spans": Tracing(middleware_spans=True, **sdk),
    }


def by_hand(sdk: dict[str, Any]) -> Callable[[Any], Awaitable[None]]:
    """What the SDK itself takes for the same: called with what tracing tells it of such a call, all of it at hand."""
    from opentelemetry.trace import SpanKind, set_span_in_context

    tracer, meter = sdk["tracer_provider"].get_tracer("by hand"), sdk["meter_provider"].get_meter("by hand")
    duration, tokens = meter.create_histogram("by_hand.duration"), meter.create_histogram("by_hand.tokens")
    asked = {name.OPERATION_NAME: name.CHAT, name.PROVIDER_NAME: "openai", name.REQUEST_MODEL: "gpt-4o"}
    told = {
        name.REQUEST_MAX_TOKENS: 500, "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1,
        name.STATUS: "completed", name.REQUEST_ID: "openai-50deeb1d6a4e2", name.RESPONSE_FINISH_REASONS: ("stop",),
    }  # fmt: skip

    async def call(_: Any) -> None:
        span = tracer.start_span("chat gpt-4o", kind=SpanKind.CLIENT, attributes=asked)
        span.set_attributes(told)
        span.add_event(name.MIDDLEWARE_EVENT, {name.MIDDLEWARE_ID: "inner", name.MIDDLEWARE_SELF_TIME: 1e-6})
        span.add_event(name.ATTEMPT_EVENT, {name.ATTEMPT_DURATION: 1e-6})
        span.end()
        context = set_span_in_context(span)
        duration.record(0.1, asked, context)
        for kind in (name.INPUT, name.OUTPUT):
            tokens.record(1, {**asked, name.TOKEN_TYPE: kind}, context)

    return call


async def _tracing(pace: Pace) -> list[Row]:
    sdk = open_sdk()
    table, layers = [], tracings(sdk)
    for what, words, stream in (("generate", 1, False), ("short stream", 1, True), ("part", PARTS, True)):
        model = Answering(words)
        model.response.usage = Usage(10, words)
        model.parts[-1] = Finish("stop", Usage(10, words))
        contestants = {
            "without": _slice(model, [], stream=stream),
            "empty": _slice(model, [empty(0, next(iter(layers.values())))], stream=stream),
            "by hand": awaiting(by_hand(sdk), None),
        }
        contestants |= {kind: _slice(model, [layer], stream=stream) for kind, layer in layers.items()}
        found = await measure(contestants, pace, per=words)
        table.append(row(f"{what}, without tracing", found["without"]))
        if words == 1:
            table.append(row(f"{what}, the SDK called by hand with the same", found["by hand"]))
        for kind in layers:
            budget = {"max_value": TRACING_US} if kind == "on" and words == 1 else {}
            in_all = each(found[kind], found["without"], 1)
            hand = found["by hand"] if kind == "on" and words == 1 else None
            table.append(row(f"{what}, tracing {kind}: its own", each(found[kind], found["empty"], 1)))
            table.append(row(f"{what}, tracing {kind}: in all", in_all, hand, "by hand", **budget))
    return table


def _slice(model: Answering, layers: Sequence[Middleware], *, stream: bool) -> Slice:
    params = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 500}
    inner = middleware("inner", wrap_generate=wrap_generate, wrap_stream=wrap_stream)
    chain = wrapped(model, [*layers, inner])
    return reading(chain.stream, params) if stream else awaiting(chain.generate, params)

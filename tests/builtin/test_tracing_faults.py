"""tracing: without opentelemetry, without an SDK, and with one that fails: no call ever suffers from it."""

import asyncio
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from test_tracing import Sdk

from neuro_mw import MiddlewareFactory
from neuro_mw.builtin.tracing import Tracing
from neuro_mw.testing import FaultyModel, ScriptedModel
from tests.chain.conftest import MODES, call, run, wrap

ROOT = Path(__file__).parents[2]


def fresh(program):
    """What a program prints in a process of its own."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True,
                          timeout=60, env={"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_without_opentelemetry_there_are_no_hooks_and_one_warning():
    out, err = fresh("""
import logging, sys
logging.basicConfig(format="%(name)s %(levelname)s %(message)s")
sys.modules["opentelemetry"] = None
from neuro_mw import MiddlewareFactory
from neuro_mw.builtin.tracing import Tracing
model = MiddlewareFactory(preset=None, plugins=False, middleware=[Tracing()]).apply_middleware("echo/echo")
for _ in range(3):
    assert model.generate_sync("hello").text == "".join(model.stream_sync("hello").text()) == "hello"
print(model.chain, model.explain()["tracing"].hooks, model.stats().results["tracing"].applied)
""")
    assert out.startswith("('tracing',) {'generate': [], 'stream': []}")
    (line,) = err.splitlines()
    assert line.startswith("neuro_mw WARNING middleware 'tracing' does nothing: opentelemetry is not installed")
    assert "pip install 'neuro-mw[otel]'" in line


def test_without_an_sdk_nothing_is_done_and_one_that_comes_later_is_found():
    out, err = fresh("""
from opentelemetry import metrics, trace
from neuro_mw import MiddlewareFactory
from neuro_mw.builtin.otel import call
from neuro_mw.builtin.tracing import Tracing
made = []
init = call.TracedCall.__init__
call.TracedCall.__init__ = lambda self, *args, **options: made.append(1) or init(self, *args, **options)
tracing = Tracing()
model = MiddlewareFactory(preset=None, plugins=False, middleware=[tracing]).apply_middleware("echo/echo")
model.generate_sync("hello"), "".join(model.stream_sync("hello").text())
print(len(made))

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter, reader, provider = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
model.generate_sync("hello"), "".join(model.stream_sync("hello").text())
print(len(made), len(exporter.get_finished_spans()))
metrics.set_meter_provider(MeterProvider([reader]))
model.generate_sync("hello")
print(sum(len(m.data.data_points) for m in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics))
""")
    assert out.split() == ["0", "2", "2", "3"]
    assert err == ""


def test_importing_the_middleware_imports_no_opentelemetry():
    out, _ = fresh("""
import sys
import neuro_mw.builtin.tracing
print("opentelemetry" in sys.modules)
from neuro_mw.builtin.tracing import Tracing
Tracing()
print("opentelemetry" in sys.modules, any(name.startswith("opentelemetry.sdk") for name in sys.modules))
""")
    assert out.split() == ["False", "True", "False"]


@pytest.mark.parametrize("mode", MODES)
def test_what_is_not_sampled_is_not_described(mode, monkeypatch):
    sdk = Sdk()
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(sdk.exporter))
    tracing = Tracing(tracer_provider=provider, meter_provider=sdk.meter_provider)
    monkeypatch.setattr("neuro_mw.builtin.otel.call.TracedCall._describe", None)
    response = run(call(wrap(ScriptedModel("x"), tracing), mode))
    assert response.receipt.layers["tracing"]["failures_skipped"] == 0
    assert sdk.spans == ()
    assert sdk.count("gen_ai.client.operation.duration") == 1


class Broken(SpanProcessor):
    def __init__(self, at):
        self.at = at

    def on_start(self, span, parent_context=None):
        if self.at == "start":
            raise ConnectionError("secret")

    def on_end(self, span):
        if self.at == "end":
            raise ConnectionError("secret")


@pytest.mark.parametrize("at", ["start", "end"])
@pytest.mark.parametrize("mode", MODES)
def test_a_processor_that_raises_fails_no_call(mode, at, caplog):
    sdk = Sdk(Broken(at))
    tracing = sdk.tracing()
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[tracing])
    model = factory.apply_middleware(ScriptedModel("x"))
    with caplog.at_level(logging.WARNING, "neuro_mw"):
        for _ in range(3):
            assert run(call(model, mode)).text == "x"
    (record,) = caplog.records
    assert record.getMessage() == "middleware 'tracing': opentelemetry failed (ConnectionError); the call goes on"
    stats = factory.registry.get_aggregated_stats()["tracing"]
    assert (stats.total_executions, stats.successful_executions, stats.counts) == (3, 3, {"failures": 3})
    layer = run(call(model, mode)).receipt.layers["tracing"]
    assert (layer["status"], layer["failures_skipped"]) == ("completed", 1)
    assert sdk.count("gen_ai.client.operation.duration") == 4  # spans and metrics are two promises


class BrokenMeter:
    """The meter provider of someone else's, whose instruments raise."""

    def get_meter(self, *args):
        return self

    def create_histogram(self, *args, **options):
        return self

    def record(self, *args):
        raise ConnectionError("secret")


@pytest.mark.parametrize("mode", MODES)
def test_instruments_that_raise_fail_no_call_and_end_its_span(mode):
    sdk = Sdk()
    tracing = Tracing(tracer_provider=sdk.tracer_provider, meter_provider=BrokenMeter())
    response = run(call(wrap(FaultyModel("hello", cuts=[1]), tracing), mode))
    assert response.text == "hello"
    assert sdk.span.attributes["neuro_mw.status"] == "completed"
    assert response.receipt.layers["tracing"]["failures_skipped"] == 1


class Down(SpanExporter):
    def export(self, spans):
        raise ConnectionError("down")


class Hanging(SpanExporter):
    """An exporter whose backend takes the connection and says nothing, until `go`; then it is down."""

    def __init__(self):
        self.began, self.go, self.batches = threading.Event(), threading.Event(), 0

    def export(self, spans):
        self.began.set()
        self.go.wait(60)
        self.batches += 1
        raise ConnectionError("down")


@pytest.mark.parametrize("mode", MODES)
def test_an_exporter_that_hangs_and_then_is_down_holds_up_and_fails_no_call(mode, caplog):
    exporter = Hanging()
    sdk = Sdk(BatchSpanProcessor(exporter, max_queue_size=4, max_export_batch_size=2, schedule_delay_millis=1))
    model = wrap(ScriptedModel("x"), sdk.tracing())

    async def main():
        return await asyncio.gather(*(call(model, mode) for _ in range(50)))

    try:
        assert [response.text for response in run(main())] == ["x"] * 50
        assert exporter.began.wait(60)
        assert [response.text for response in run(main())] == ["x"] * 50
        assert exporter.batches == 0, "it hung all the while"
    finally:
        exporter.go.set()
        sdk.tracer_provider.shutdown()
    assert exporter.batches > 0


@pytest.mark.parametrize("mode", MODES)
def test_an_exporter_that_raises_in_the_path_fails_no_call(mode):
    sdk = Sdk(SimpleSpanProcessor(Down()))
    assert run(call(wrap(ScriptedModel("x"), sdk.tracing()), mode)).text == "x"


@pytest.mark.parametrize("mode", MODES)
def test_a_provider_that_was_shut_down_fails_no_call(mode, caplog):
    sdk = Sdk()
    sdk.tracer_provider.shutdown()
    sdk.meter_provider.shutdown()
    assert run(call(wrap(ScriptedModel("x"), sdk.tracing()), mode)).text == "x"

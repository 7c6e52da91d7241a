"""tracing: the client metrics, with the buckets that the conventions advise."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_tracing import ANSWER, Sdk, blocking

from neuro_mw import (
    Finish,
    ProviderDelta,
    ProviderUnavailable,
    Response,
    ResponseInfo,
    Usage,
    middleware,
    parts_of,
)
from neuro_mw.builtin.fallback import Fallback
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel
from tests.chain.conftest import MODES, call, run, wrap

DURATION, TOKENS = "gen_ai.client.operation.duration", "gen_ai.client.token.usage"
FIRST, PER_CHUNK = "gen_ai.client.operation.time_to_first_chunk", "gen_ai.client.operation.time_per_output_chunk"
WHO = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024",
}
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
COUNTS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)


@pytest.fixture
def sdk():
    return Sdk()


@pytest.mark.parametrize("mode", MODES)
def test_a_call_is_measured_by_the_conventions(sdk, mode):
    run(call(wrap(ScriptedModel(ANSWER), sdk.tracing()), mode))
    points = sdk.points()
    assert set(points) == {DURATION, TOKENS} | ({FIRST, PER_CHUNK} if mode == "stream" else set())
    (duration,) = points[DURATION]
    assert dict(duration.attributes) == WHO
    assert (duration.count, duration.explicit_bounds) == (1, SECONDS)
    assert 0 < duration.sum < 60
    tokens = {point.attributes["gen_ai.token.type"]: point for point in points[TOKENS]}
    assert {kind: point.sum for kind, point in tokens.items()} == {"input": 3, "output": 5}
    for point in tokens.values():
        assert point.explicit_bounds == COUNTS
        assert {**WHO, "gen_ai.token.type": point.attributes["gen_ai.token.type"]} == dict(point.attributes)
    if mode == "stream":
        for name in (FIRST, PER_CHUNK):
            (point,) = points[name]
            assert dict(point.attributes) == WHO
            assert point.explicit_bounds == SECONDS


def test_units_and_exemplars(sdk):
    run(call(wrap(ScriptedModel(ANSWER), sdk.tracing()), "stream"))
    data = sdk.reader.get_metrics_data().resource_metrics[0].scope_metrics
    assert [scope.scope.name for scope in data] == ["neuro_mw"]
    assert {m.name: m.unit for m in data[0].metrics} == {
        DURATION: "s", FIRST: "s", PER_CHUNK: "s", TOKENS: "{token}",
    }  # fmt: skip
    for metric in data[0].metrics:
        for point in metric.data.data_points:
            assert {exemplar.span_id for exemplar in point.exemplars} == {sdk.span.context.span_id}


@given(cuts=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_chunks_are_those_with_content(cuts):
    """Each chunk after the first one, however the answer is cut; what says nothing of it is no chunk."""
    sdk = Sdk()
    model = FaultyModel(replace(ANSWER, provider_fields={"refusal": None}), cuts=cuts)
    run(call(wrap(model, sdk.tracing()), "stream"))
    silent = (ResponseInfo, ProviderDelta, Finish)
    chunks = [part for part in model.calls[0].parts if not isinstance(part, silent)]
    assert sdk.count(PER_CHUNK) == len(chunks) - 1
    assert sdk.count(FIRST) == 1


def test_an_answer_without_content_has_no_first_chunk(sdk):
    class Silent:
        provider, model_id = "openai", "gpt-4o"

        async def stream(self, params):
            yield ResponseInfo("r1", "gpt-4o")
            yield Finish("stop", Usage(1, 0))

        async def generate(self, params):
            raise AssertionError

    run(call(wrap(Silent(), sdk.tracing()), "stream"))
    assert set(sdk.points()) == {DURATION, TOKENS}
    assert "gen_ai.response.time_to_first_chunk" not in sdk.span.attributes


def test_the_consumers_time_is_in_no_metric_and_in_the_span(sdk):
    async def main():
        async with wrap(FaultyModel("hello", cuts=[1]), sdk.tracing()).stream("hi") as stream:
            async for _ in stream:
                await asyncio.sleep(0.03)

    run(main())
    points, held_s = sdk.points(), 0.03 * 5 - 0.005
    span_s = (sdk.span.end_time - sdk.span.start_time) / 1e9
    assert span_s > held_s
    assert points[DURATION][0].sum < span_s - held_s
    assert points[FIRST][0].sum + points[PER_CHUNK][0].sum < span_s - held_s


@pytest.mark.parametrize("mode", MODES)
def test_waits_are_measured(sdk, mode):
    run(call(wrap(FaultyModel("hello", cuts=[1], delay_s=0.02), sdk.tracing()), mode))
    points = sdk.points()
    assert points[DURATION][0].sum > 0.019 * (6 if mode == "stream" else 1)
    if mode == "stream":
        assert 0.019 < points[FIRST][0].sum < points[DURATION][0].sum
        assert points[PER_CHUNK][0].count == 4
        assert points[PER_CHUNK][0].min > 0.015


def test_the_waits_for_chunks_add_up(sdk):
    """None of them is counted twice."""
    run(call(wrap(FaultyModel("hello", cuts=[1], delay_s=0.01), sdk.tracing()), "stream"))
    points = sdk.points()
    assert points[FIRST][0].sum + points[PER_CHUNK][0].sum <= points[DURATION][0].sum


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("params", [
    {"base_url": "http://localhost:8080/v1"}, {"base_url": "", "api_base": "http://localhost:8080/v1"},
])  # fmt: skip
def test_the_server_is_told_with_the_duration(sdk, mode, params):
    run(call(wrap(ScriptedModel("x"), sdk.tracing()), mode, **params))
    for attributes in (sdk.points()[DURATION][0].attributes, sdk.span.attributes):
        assert (attributes["server.address"], attributes["server.port"]) == ("localhost", 8080)


@pytest.mark.parametrize("mode", MODES)
def test_the_model_that_answered_is_told_of_the_last_attempt_only(sdk, mode):
    """An attempt before it may have been answered by whomever."""

    class Model:
        provider, model_id = "openai", "gpt-4o"

        async def generate(self, params):
            return Response(text="x", model=params["answers"], usage=Usage(10, 1))

        async def stream(self, params):
            for part in parts_of(await self.generate(params)):
                yield part

    async def twice(do_generate, params, context):
        await do_generate({**params, "answers": "gpt-4o-first"})
        return await do_generate({**params, "answers": "gpt-4o-second"})

    run(call(wrap(Model(), sdk.tracing(), middleware("twice", wrap_generate=twice)), mode, "x"))
    points = [point for point in sdk.points()[TOKENS] if point.attributes["gen_ai.token.type"] == "input"]
    models = {point.attributes.get("gen_ai.response.model"): point.sum for point in points}
    assert models == {None: 10, "gpt-4o-second": 10}


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_is_told_apart(sdk, mode):
    error = ProviderUnavailable("x", provider="openai", model="gpt-4o")
    with pytest.raises(ProviderUnavailable):
        run(call(wrap(FaultyModel("x", faults=[Fault(0, error)]), sdk.tracing()), mode))
    points = sdk.points()
    assert set(points) == {DURATION}
    attributes = points[DURATION][0].attributes
    assert (attributes["error.type"], attributes["neuro_mw.status"]) == ("ProviderUnavailable", "failed")


@pytest.mark.parametrize("mode", MODES)
def test_a_refusal_is_told_apart_and_is_no_error(sdk, mode):
    run(call(wrap(ScriptedModel(ANSWER), sdk.tracing(), blocking("transform_params")), mode))
    points = sdk.points()
    assert TOKENS not in points
    assert points[DURATION][0].attributes["neuro_mw.status"] == "blocked"
    assert "error.type" not in points[DURATION][0].attributes


@pytest.mark.parametrize("mode", MODES)
def test_tokens_belong_to_the_model_that_used_them(sdk, mode):
    async def judge(params, context):
        await context.ask("is it fine so", model="echo/judge")
        return params

    down = ProviderUnavailable("x", provider="openai", model="gpt-4o", retryable=True)
    layers = [middleware("judge", transform_params=judge, priority=60), Fallback(models=["echo/spare"])]
    run(call(wrap(FaultyModel("x", faults=[Fault(0, down)]), sdk.tracing(), *layers), mode, "one two three"))
    found = {
        (point.attributes["gen_ai.request.model"], point.attributes["gen_ai.token.type"]): point.sum
        for point in sdk.points()[TOKENS]
    }
    assert found == {("judge", "input"): 4, ("judge", "output"): 4, ("spare", "input"): 3, ("spare", "output"): 3}


@pytest.mark.parametrize("mode", MODES)
def test_two_layers_of_one_provider_share_their_instruments(sdk, mode):
    for _ in range(2):
        run(call(wrap(ScriptedModel(ANSWER), sdk.tracing()), mode))
    assert sdk.count(DURATION) == 2
    assert len(sdk.points()[DURATION]) == 1

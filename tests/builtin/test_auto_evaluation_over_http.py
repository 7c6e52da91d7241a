"""auto_evaluation over the native drivers: what is asked again and what is judged goes out as these APIs take it."""

from __future__ import annotations

import pytest

from neuro_mw import MiddlewareFactory
from neuro_mw.builtin.auto_evaluation import AutoEvaluation
from neuro_mw.providers import AnthropicModel, OpenAICompatibleModel
from neuro_mw.testing import StubAnthropic, StubOpenAI
from tests.builtin.evaluation_models import verdict
from tests.chain.conftest import MODES, call, run


def wrapped(stub, **options):
    if isinstance(stub, StubAnthropic):
        model = AnthropicModel("claude-sonnet-4-5", base_url=stub.base_url, api_key="x")
    else:
        model = OpenAICompatibleModel("openai", "gpt-4o", base_url=stub.base_url, api_key="x")
    evaluation = AutoEvaluation(**options)
    return MiddlewareFactory(preset=None, plugins=False, middleware=[evaluation]).apply_middleware(model), evaluation


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [StubOpenAI, StubAnthropic])
def test_an_answer_that_is_asked_for_again(mode, kind):
    with kind() as stub:
        for text in ("It is blue.", verdict(3, feedback="Say why."), "Air scatters blue light.", verdict(9)):
            stub.reply(text=text)
        model, _ = wrapped(stub)
        found = run(call(model, mode, "Why is the sky blue?", max_tokens=100))
        assert found.text == "Air scatters blue light."
        assert (found.metadata["auto_evaluation"]["attempts"], found.metadata["auto_evaluation"]["overall"]) == (2, 9)
        first, judged, again, last = (one.body for one in stub.requests)
    assert [one["role"] for one in again["messages"]] == ["user", "assistant", "user"]
    assert "Say why." in str(again["messages"][2]["content"])
    assert [bool(one.get("stream")) for one in (first, judged, again, last)] == [mode == "stream", False] * 2
    assert (judged["temperature"], last["temperature"]) == (0, 0)
    assert "Air scatters blue light." in str(last["messages"])


@pytest.mark.parametrize("mode", MODES)
def test_a_judge_that_is_down_and_one_that_takes_no_temperature(mode):
    with StubOpenAI() as stub:
        stub.reply(text="It is blue.")
        stub.reply(
            status=400, error={"message": "Unsupported value: 'temperature' does not support 0 with this model."}
        )
        stub.reply(text=verdict(9))
        stub.reply(text="It is red.")
        stub.reply(status=503, headers={"Retry-After": "0"})
        stub.reply(status=503, headers={"Retry-After": "0"})
        model, _ = wrapped(stub)
        found = [run(call(model, mode, "Why?")).metadata["auto_evaluation"] for _ in range(2)]
        assert [one["passed"] for one in found] == [True, None]
        assert found[1]["error"] == "ProviderUnavailable"
        assert len(stub.requests) == 6
        assert ["temperature" in one.body for one in stub.requests] == [False, True, False, False, False, False]

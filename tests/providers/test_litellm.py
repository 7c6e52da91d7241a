"""litellm as a driver: what it alone can do, and what it alone has to be kept from."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from asked import ASK, MODES, Ask

from neuro_mw.errors import BadRequest, StreamInterrupted
from neuro_mw.providers import resolve
from neuro_mw.testing import StubOpenAI
from neuro_mw.types import (
    LanguageModel,
    ToolCallDelta,
    Usage,
)

OPENAI = resolve("openai/gpt-4o-mini", driver="litellm")


def test_a_fresh_process_is_quiet(stub: StubOpenAI) -> None:
    """First calls at once, loaded once, off the loop; no warning, nothing printed, nothing left open."""
    code = """
import asyncio, sys, time
from neuro_mw.errors import BadRequest, StreamInterrupted
from neuro_mw.providers import resolve
model = resolve("openai/gpt-4o-mini", driver="litellm")
assert "litellm" not in sys.modules
ask = {"messages": [{"role": "user", "content": "hi"}]}
async def stream():
    return [part async for part in model.stream(ask)]
async def tick(gaps):
    while True:
        begin = time.perf_counter()
        await asyncio.sleep(0.01)
        gaps.append(time.perf_counter() - begin)
async def run():
    gaps = []
    ticking = asyncio.create_task(tick(gaps))
    await asyncio.gather(model.generate(ask), model.generate(ask), stream())
    ticking.cancel()
    assert len(gaps) > 20, gaps
asyncio.run(run())
asyncio.run(stream())
import litellm
assert litellm.disable_hf_tokenizer_download and litellm.suppress_debug_info
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_protocol_and_repr() -> None:
    assert isinstance(OPENAI, LanguageModel)
    assert repr(OPENAI) == "LiteLLMModel('openai', 'gpt-4o-mini')"
    assert ToolCallDelta(0).arguments == ""


@pytest.mark.parametrize("mode", ["generate", "stream"])
@pytest.mark.parametrize("name", ["openai/gpt-4o-mini", "anthropic/claude-x"])
def test_litellms_own_mock(keys: None, name: str, mode: str, ask: Ask) -> None:
    found = ask(resolve(name, driver="litellm"), mode, {**ASK, "mock_response": "made up here"})
    assert (found.text, found.finish_reason) == ("made up here", "stop")


def test_parameters_litellm_does_not_take_are_named(keys: None, ask: Ask) -> None:
    with pytest.raises(BadRequest, match="litellm does not take logit_bias for this model"):
        ask(resolve("anthropic/claude-x", driver="litellm"), "generate", {**ASK, "logit_bias": {"1": 1}})


def test_a_provider_of_the_older_completions_api(stub: StubOpenAI, ask: Ask) -> None:
    def event(text: str, reason: str | None = None, **more: Any) -> bytes:
        choices = [{"index": 0, "text": text, "finish_reason": reason, "logprobs": None}]
        one = {"id": "x", "object": "text_completion", "created": 5, "model": "m", "choices": choices, **more}
        return b"data: " + json.dumps(one).encode() + b"\n\n"

    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    stub.reply(raw=[event("one"), event(" two"), event("", "length", usage=usage), b"data: [DONE]\n\n"])
    found = ask(resolve("text-completion-openai/m", driver="litellm"), "stream", {**ASK, "api_base": stub.base_url})
    assert (found.text, found.finish_reason) == ("one two", "length")
    assert (found.usage.input_tokens, found.usage.output_tokens) == (1, 2)


# pytest sets the filters anew for each test, so the driver's own, set when litellm was loaded, no longer holds: litellm
# loads the module of a provider at its first use, and pydantic remarks on the types there
readonly = pytest.mark.filterwarnings("ignore:.* on TypedDict class .* using the `ReadOnly` qualifier:UserWarning")


def lines(*events: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


@readonly
def test_chunks_of_another_shape_go_through_litellms_wrapper(stub: StubOpenAI, ask: Ask) -> None:
    said = [{"type": "content-delta", "delta": {"message": {"content": {"text": text}}}} for text in ("one", " two")]
    tokens = {"tokens": {"input_tokens": 3, "output_tokens": 4}}
    end = {"event": "message-end", "data": {"delta": {"finish_reason": "MAX_TOKENS", "usage": tokens}}}
    cohere, params = resolve("cohere/command-r", driver="litellm"), {**ASK, "api_base": stub.base_url, "api_key": "k"}
    stub.reply(raw=lines({"type": "message-start"}, *said, end))
    found = ask(cohere, "stream", params)
    assert (found.text, found.finish_reason, found.usage) == ("one two", "length", Usage(3, 4))
    stub.reply(raw=lines({"type": "message-start"}, *said))
    with pytest.raises(StreamInterrupted):
        ask(cohere, "stream", params)


@readonly
def test_a_last_chunk_of_another_shape(stub: StubOpenAI, ask: Ask) -> None:
    said = [{"model": "x", "response": text, "done": False} for text in ("one", " two")]
    end = {"model": "x", "response": "", "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4}
    stub.reply(raw=lines(*said, end))
    found = ask(resolve("ollama/x", driver="litellm"), "stream", {**ASK, "api_base": stub.base_url})
    assert (found.text, found.finish_reason, found.usage, found.model) == ("one two", "stop", Usage(3, 4), "x")


@readonly
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["openai/gpt-4o-mini", "mistral/mistral-large-latest"])
def test_litellm_writes_into_copies(stub: StubOpenAI, ask: Ask, name: str, mode: str) -> None:
    """For its logs it adds times to `metadata`, which may be the caller's from one call to the next."""
    own = {"metadata": {"a": "b"}, "extra_body": {"c": {"d": 1}}}
    params = {**ASK, **copy.deepcopy(own), "api_base": stub.base_url, "api_key": "k"}
    ask(resolve(name, driver="litellm"), mode, params)
    assert {key: params[key] for key in own} == own

"""Requests, early leaving and event loops, of both drivers."""

from __future__ import annotations

import asyncio
import copy
import gc

import pytest
from asked import ASK, MESSAGES, Ask

from neuro_mw.errors import (
    AuthenticationFailed,
)
from neuro_mw.parts import collect
from neuro_mw.testing import StubOpenAI
from neuro_mw.types import (
    LanguageModel,
    Response,
    TextDelta,
)

# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["generate", "stream"])
def test_params_reach_the_body(stub: StubOpenAI, model: LanguageModel, mode: str, ask: Ask) -> None:
    more = {
        "temperature": 0.5,
        "seed": 3,
        "stop": ["x"],
        "unheard_of": {"deep": [1, None]},
        "top_k": 4,
        "metadata": {"user": "u"},
        "extra_body": {"also": 1},
    }
    ask(model, mode, {**ASK, **more})
    body = stub.requests[0].body
    assert {key: body.get(key) for key in more if key != "extra_body"} == {
        key: value for key, value in more.items() if key != "extra_body"
    }
    assert body["also"] == 1
    assert body["model"] == model.model_id
    assert not {"max_retries", "num_retries", "extra_body"} & set(body)


@pytest.mark.parametrize("mode", ["generate", "stream"])
def test_model_of_the_params(stub: StubOpenAI, model: LanguageModel, mode: str, ask: Ask) -> None:
    found = ask(model, mode, {**ASK, "model": "an/other"})
    assert stub.requests[0].body["model"] == "an/other"
    assert found.model == "an/other"


@pytest.mark.parametrize("mode", ["generate", "stream"])
def test_params_stay_as_they_are(stub: StubOpenAI, model: LanguageModel, mode: str, ask: Ask) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    stub.reply(text="a")
    params = {**ASK, "messages": copy.deepcopy(MESSAGES), "tools": tools, "metadata": {"a": "b"}, "odd": [1]}
    before = copy.deepcopy(params)
    ask(model, mode, params)
    assert params == before
    assert stub.requests[0].body["tools"] == tools
    assert not [key for key in stub.requests[0].body if key.startswith("_")]


def test_key_and_address_of_the_params(
    openai: LanguageModel, stub: StubOpenAI, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL")
    ask(openai, "generate", {**ASK, "api_key": "sk-own", "api_base": stub.base_url})
    assert stub.requests[0].headers["authorization"] == "Bearer sk-own"


@pytest.mark.parametrize("mode", ["generate", "stream"])
def test_missing_key(
    openai: LanguageModel, stub: StubOpenAI, monkeypatch: pytest.MonkeyPatch, mode: str, ask: Ask
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(AuthenticationFailed, match="set the environment variable OPENAI_API_KEY") as caught:
        ask(openai, mode)
    assert (caught.value.retryable, caught.value.provider, caught.value.model) == (False, "openai", "gpt-4o-mini")
    assert stub.requests == []


# --- leaving ----------------------------------------------------------------------------------------------------------


async def _left(stub: StubOpenAI) -> None:
    for _ in range(200):
        if stub.closed_early:
            return
        await asyncio.sleep(0.01)


def test_closing_early_closes_the_http_stream(stub: StubOpenAI, model: LanguageModel) -> None:
    async def run() -> None:
        stream = model.stream(ASK)
        async for part in stream:
            if isinstance(part, TextDelta):
                break
        await stream.aclose()
        await _left(stub)

    stub.reply(text="a b", chunk_delay_s=0.2)
    asyncio.run(run())
    assert stub.closed_early == 1


@pytest.mark.parametrize("mode", ["generate", "stream"])
def test_cancellation_passes_through(stub: StubOpenAI, model: LanguageModel, mode: str) -> None:
    async def run() -> None:
        await model.generate(ASK)  # litellm is loaded
        task = asyncio.create_task(model.generate(ASK) if mode == "generate" else collect(model.stream(ASK)))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await _left(stub)

    stub.reply(text="first")
    stub.reply(text="a b", delay_s=0 if mode == "stream" else 30, chunk_delay_s=30)
    asyncio.run(run())
    assert stub.closed_early == 1


def test_errors_of_the_consumer_are_not_the_providers(openai: LanguageModel, stub: StubOpenAI) -> None:
    async def run() -> None:
        stream = openai.stream(ASK)
        await anext(stream)
        with pytest.raises(KeyError):
            await stream.athrow(KeyError("mine"))

    asyncio.run(run())


# --- event loops and processes ----------------------------------------------------------------------------------------


def test_one_model_in_several_loops(stub: StubOpenAI, model: LanguageModel, ask: Ask) -> None:
    for _ in range(3):
        assert ask(model).text == MESSAGES[0]["content"]
        assert ask(model, "stream").text == MESSAGES[0]["content"]
        gc.collect()  # an unclosed socket would warn here, and a warning is an error


def test_concurrent_calls(stub: StubOpenAI, model: LanguageModel) -> None:
    async def run() -> list[Response]:
        said = [{"messages": [{"role": "user", "content": f"number {n}"}]} for n in range(20)]
        calls = [model.generate(one) if n % 2 else collect(model.stream(one)) for n, one in enumerate(said)]
        return await asyncio.gather(*calls)

    assert [found.text for found in asyncio.run(run())] == [f"number {n}" for n in range(20)]

"""Guardrails over the native drivers: real HTTP and SSE, cut at any byte, with secrets in every place of an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from neuro_mw import MiddlewareFactory, Response
from neuro_mw.providers import OpenAICompatibleModel
from neuro_mw.testing import StubOpenAI

KEY = "sk-proj-" + "9f3a7c51e2b84d60aa17"
SAID = f"The key is {KEY}, keep it \u00e4nd \U0001f600 safe."
SAFE = "The key is [REDACTED], keep it \u00e4nd \U0001f600 safe."


@pytest.fixture(scope="module")
def stub() -> Iterator[StubOpenAI]:
    with StubOpenAI() as running:
        yield running


@pytest.fixture(params=["generate", "stream"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def chunk(delta: dict[str, Any], **choice: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": None, **choice}]}  # fmt: skip


def pieces(text: str, size: int = 3) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def answer() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One answer, as events and whole, with the key in its text, reasoning, tool call, refusal and transcript."""
    arguments = json.dumps({"note": SAID})
    events = [chunk({"role": "assistant", "reasoning_content": piece}) for piece in pieces(SAID)]
    events += [chunk({"content": piece}) for piece in pieces(SAID)]
    call = {"index": 0, "id": "call", "type": "function", "function": {"name": "f", "arguments": ""}}
    events.append(chunk({"tool_calls": [call]}))
    for piece in pieces(arguments):
        events.append(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
    events += [chunk({"refusal": piece}) for piece in pieces(SAID)]
    events.append(chunk({}, finish_reason="tool_calls"))
    message = {
        "role": "assistant", "content": SAID, "reasoning_content": SAID, "refusal": SAID,
        "tool_calls": [{"id": "call", "type": "function", "function": {"name": "f", "arguments": arguments}}],
    }  # fmt: skip
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return events, {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def ask(stub: StubOpenAI, mode: str, **how: Any) -> tuple[Response, list[Any]]:
    events, whole = answer()
    if mode == "generate":
        stub.reply(raw=json.dumps(whole).encode(), **how)
    else:
        lines = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
        stub.reply(raw=b"".join([*lines, b"data: [DONE]\n\n"]), **how)
    model = MiddlewareFactory(preset="all", plugins=False).apply_middleware(
        OpenAICompatibleModel("openai", "m", base_url=stub.base_url, api_key="x")
    )

    async def run() -> tuple[Response, list[Any]]:
        if mode == "generate":
            return await model.generate("hello"), []
        async with model.stream("hello") as stream:
            parts = [part async for part in stream]
            return await stream.response(), parts

    return asyncio.run(run())


@pytest.mark.parametrize("split", [None, 1, 7])
def test_the_key_leaves_in_no_place(stub: StubOpenAI, mode: str, split: int | None) -> None:
    found, parts = ask(stub, mode, split_bytes=split)
    assert found.text == found.reasoning == SAFE
    assert json.loads(found.tool_calls[0].arguments) == {"note": SAFE}
    assert found.provider_fields["refusal"] == SAFE
    assert KEY[:16] not in json.dumps(found.to_dict(), ensure_ascii=False)
    assert KEY[:16] not in "".join(map(repr, parts))
    assert found.metadata["guardrails"] == {
        "output": {"secrets.openai_key": 2},
        "reasoning": {"secrets.openai_key": 1},
        "tool_arguments": {"secrets.openai_key": 1},
    }


def test_both_modes_give_the_same(stub: StubOpenAI) -> None:
    whole, streamed = (ask(stub, mode)[0].to_dict() for mode in ("generate", "stream"))
    for name in ("text", "reasoning", "tool_calls", "provider_fields", "finish_reason"):
        assert whole[name] == streamed[name]


def test_a_request_leaves_without_its_secrets(stub: StubOpenAI, mode: str) -> None:
    stub.reply(text="ok")
    model = MiddlewareFactory(preset="all", plugins=False).apply_middleware(
        OpenAICompatibleModel("openai", "m", base_url=stub.base_url, api_key="x")
    )
    stub.requests.clear()
    if mode == "generate":
        model.generate_sync(SAID)
    else:
        model.stream_sync(SAID).response()
    (request,) = stub.requests
    assert request.body["messages"] == [{"role": "user", "content": SAFE}]

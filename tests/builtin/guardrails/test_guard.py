"""The middleware in a chain: both modes, every message, every channel."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from neuro_mw import ConfigError, MiddlewareFactory, Response, ToolCall, collect
from neuro_mw.builtin.guardrails.guard import Guardrails
from neuro_mw.testing import ScriptedModel

WORDS = {"bad_words": ["secret plan"]}


def wrapped(model: Any, **options: Any) -> Any:
    return MiddlewareFactory(preset=None, middleware=[Guardrails(**options)], plugins=False).apply_middleware(model)


@pytest.fixture(params=["generate", "stream"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def call(model: Any, mode: str, **params: Any) -> Response:
    async def run() -> Response:
        if mode == "generate":
            found: Response = await model.generate(**params)
            return found
        return await collect(model.stream(**params))

    return asyncio.run(run())


def test_the_answer_in_every_channel(mode: str) -> None:
    arguments = json.dumps({"to": "the secret plan", "n": 1})
    call_of_f = ToolCall("c", "f", arguments)
    origin = ScriptedModel(
        Response(text="a secret plan", reasoning="so: secret plan", tool_calls=[call_of_f]), cuts=(1,)
    )
    found = call(wrapped(origin, **WORDS), mode, messages=[])
    assert found.text == "a [REDACTED]"
    assert found.reasoning == "so: [REDACTED]"
    assert json.loads(found.tool_calls[0].arguments) == {"to": "the [REDACTED]", "n": 1}
    assert found.metadata["guardrails"] == {
        "output": {"bad_words": 1}, "reasoning": {"bad_words": 1}, "tool_arguments": {"bad_words": 1},
    }  # fmt: skip


def test_every_message_is_judged_and_stays_what_it_was(mode: str) -> None:
    origin = ScriptedModel("ok")
    image = {"type": "image_url", "image_url": {"url": "data:secret plan"}}
    messages = [
        {"role": "system", "content": "keep the secret plan"},
        {"role": "user", "content": [{"type": "text", "text": "a secret plan"}, image]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x": "secret plan"}'}}]},
        {"role": "tool", "tool_call_id": "c", "content": "secret plan"},
        {"role": "user", "content": "hello"},
    ]  # fmt: skip
    before = json.dumps(messages)
    call(wrapped(origin, **WORDS), mode, messages=messages)
    sent = origin.calls[0][1]["messages"]
    assert json.dumps(messages) == before
    assert [one["content"] for one in sent] == [
        "keep the secret plan", [{"type": "text", "text": "a [REDACTED]"}, image], None, "[REDACTED]", "hello",
    ]  # fmt: skip
    assert sent[2]["tool_calls"][0]["function"]["arguments"] == '{"x": "[REDACTED]"}'
    call(wrapped(origin, **WORDS), mode, messages=[*messages, {"role": "user", "content": "more"}])
    assert origin.calls[1][1]["messages"][:5] == sent, "the same beginning is the same: a provider's cache stays valid"


def test_a_blocked_request_never_reaches_the_model(mode: str) -> None:
    origin = ScriptedModel("ok")
    model = wrapped(origin, **WORDS, action={"input": "block"})
    found = call(model, mode, messages=[{"role": "user", "content": "the Secret Plan"}])
    assert found.blocked is not None
    assert (found.blocked.category, found.blocked.detail["channel"]) == ("bad_words", "input")
    assert "ecret" not in json.dumps(found.to_dict())
    assert origin.calls == []


def test_a_blocked_answer(mode: str) -> None:
    origin = ScriptedModel("well, the secret plan is", cuts=(2,))
    found = call(wrapped(origin, **WORDS, action={"bad_words": {"output": "block"}}), mode, messages=[])
    assert found.blocked is not None
    assert found.finish_reason == "content_filter"
    assert "secret" not in found.text


@pytest.mark.parametrize(
    ("action", "expected"),
    [("redact", "[REDACTED] ok"), ("mask", "****** **** ok"), ("warn", "secret plan ok")],
)
def test_actions(mode: str, action: str, expected: str) -> None:
    found = call(wrapped(ScriptedModel("secret plan ok", cuts=(3,)), **WORDS, action=action), mode, messages=[])
    assert found.text == expected
    assert found.metadata["guardrails"] == {"output": {"bad_words": 1}}


def test_hashes_are_the_same_for_the_same(mode: str) -> None:
    found = call(wrapped(ScriptedModel("a@b.co c@d.co a@b.co"), pii=["email"], action="hash"), mode, messages=[])
    first, second, third = found.text.split()
    assert first == third != second
    assert first.startswith("<EMAIL:")


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"bad_words": [" "]}, "bad_words"),
        ({"bad_wrods": ["x"]}, "bad_wrods"),
        ({"action": "remove"}, "action"),
        ({"action": {"pi": "warn"}}, "action"),
        ({"action": {"pii": {"outputs": "warn"}}}, "action"),
        ({"apply_to": ["outputs"]}, "apply_to"),
    ],
)
def test_options_that_are_wrong(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        Guardrails(**options)

"""A provider that does not speak OpenAI: litellm translates once, we translate once more, and nothing gets lost."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
from asked import Ask

from neuro_mw.errors import BadRequest, ProviderRateLimited, ProviderUnavailable, StreamInterrupted
from neuro_mw.providers import resolve
from neuro_mw.testing import StubOpenAI
from neuro_mw.types import ToolCall, Usage

CLAUDE = resolve("anthropic/claude-x", driver="litellm")
COUNTED = {"input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2}
WHOLE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [
        {"type": "thinking", "thinking": "hm ok", "signature": "sig"},
        {"type": "text", "text": "Hello you"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": COUNTED,
}


def _block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


EVENTS = [
    {"type": "message_start", "message": {**WHOLE, "content": [], "usage": {**COUNTED, "output_tokens": 1}}},
    *_block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "hm "},
        {"type": "thinking_delta", "thinking": "ok"},
        {"type": "signature_delta", "signature": "sig"},
    ),
    *_block(
        1,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "Hello"},
        {"type": "text_delta", "text": " you"},
    ),
    *_block(
        2,
        {"type": "tool_use", "id": "t1", "name": "f", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"a"'},
        {"type": "input_json_delta", "partial_json": ": 1}"},
    ),
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 20}},
    {"type": "message_stop"},
]


def sse(events: list[dict[str, Any]]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (one["type"].encode(), json.dumps(one).encode()) for one in events)


def test_both_modes(stub: StubOpenAI, ask: Ask) -> None:
    stub.reply(raw=json.dumps(WHOLE).encode())
    whole = ask(CLAUDE)
    stub.reply(raw=sse(EVENTS))
    streamed = ask(CLAUDE, "stream")
    streamed.id, streamed.created = whole.id, whole.created  # litellm makes both up
    streamed.provider_fields["thinking_blocks"][0].pop("index", None)  # litellm 1.109 says which block it was
    assert streamed == whole
    assert (whole.text, whole.reasoning) == ("Hello you", "hm ok")
    assert whole.tool_calls == [ToolCall("t1", "f", '{"a": 1}')]
    assert whole.finish_reason == "tool_calls"
    assert whole.usage == Usage(16, 20, cache_read_tokens=4, cache_write_tokens=2, reasoning_tokens=2)
    assert whole.provider_fields == {
        "thinking_blocks": [{"type": "thinking", "signature": "sig", "length": 5, "digest": "5c4fe771c5d91be3"}],
    }
    assert {request.path for request in stub.requests} == {"/v1/messages"}


def test_streams_that_end_badly(stub: StubOpenAI, ask: Ask) -> None:
    stub.reply(raw=sse(EVENTS[:-2]))
    with pytest.raises(StreamInterrupted):
        ask(CLAUDE, "stream")
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "PROMPT-SECRET"}}
    stub.reply(raw=sse([*EVENTS[:3], overloaded]))
    with pytest.raises(ProviderUnavailable) as caught:
        ask(CLAUDE, "stream")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("mode", ["generate", "stream"])
@pytest.mark.parametrize(
    ("status", "kind"), [(413, BadRequest), (429, ProviderRateLimited), (529, ProviderUnavailable)]
)
def test_status_is_the_providers(stub: StubOpenAI, ask: Ask, mode: str, status: int, kind: type[Exception]) -> None:
    body = {"type": "error", "error": {"type": "some_error", "message": "PROMPT-SECRET"}}
    stub.reply(status=status, raw=json.dumps(body).encode(), headers={"retry-after": "3"})
    with pytest.raises(kind) as caught:
        ask(CLAUDE, mode)
    assert (caught.value.status, caught.value.retry_after) == (status, 3.0)
    assert "SECRET" not in str(caught.value)


def test_several_loops_leave_nothing_open(stub: StubOpenAI, ask: Ask) -> None:
    for _ in range(3):  # litellm streams this provider through one client for all loops
        stub.reply(raw=sse(EVENTS))
        assert ask(CLAUDE, "stream").finish_reason
        gc.collect()  # what was left open would warn here, and a warning is an error

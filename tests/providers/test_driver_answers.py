"""Answers in both modes and of both drivers, over HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from asked import ASK, MESSAGES, Ask, Both

from neuro_mw.testing import StubOpenAI
from neuro_mw.types import (
    Finish,
    LanguageModel,
    Part,
    ResponseInfo,
    TextDelta,
    ToolCall,
    Usage,
)


async def _parts(model: LanguageModel, params: dict[str, Any]) -> list[Part]:
    return [part async for part in model.stream(params)]


def test_text(stub: StubOpenAI, model: LanguageModel, both: Both) -> None:
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 7,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    found = both(model, {"chunks": ["one", " two"], "usage": usage, "model": "m-2024"})
    assert found.text == "one two"
    assert found.usage == Usage(5, 7, cache_read_tokens=3, reasoning_tokens=2)
    assert (found.id, found.model, found.created) == ("chatcmpl-stub-1", "m-2024", 1_700_000_000)
    assert (found.finish_reason, found.provider_fields) == ("stop", {})
    assert stub.requests[0].body["messages"] == MESSAGES
    assert stub.requests[0].path == "/v1/chat/completions"


def test_parts_of_a_stream(openai: LanguageModel, stub: StubOpenAI) -> None:
    stub.reply(chunks=["on", "e ", "two"])
    found = asyncio.run(_parts(openai, ASK))
    assert isinstance(found[0], ResponseInfo)
    assert [part.text for part in found if isinstance(part, TextDelta)] == ["on", "e ", "two"]
    assert found[-1] == Finish("stop", Usage(2, 2))
    assert stub.requests[0].body["stream_options"] == {"include_usage": True}


def test_usage_is_none_where_the_provider_sends_none(stub: StubOpenAI, model: LanguageModel, both: Both) -> None:
    assert both(model, {"text": "a b c", "usage": None}).usage == Usage()


def test_stream_options_of_the_caller_stand(openai: LanguageModel, stub: StubOpenAI, ask: Ask) -> None:
    found = ask(openai, "stream", {**ASK, "stream_options": {"include_usage": False}})
    assert found.usage == Usage()
    assert stub.requests[0].body["stream_options"] == {"include_usage": False}


def test_reasoning(stub: StubOpenAI, model: LanguageModel, both: Both) -> None:
    found = both(model, {"text": "so", "reasoning": ["th", "ink"]})
    assert (found.reasoning, found.text) == ("think", "so")


CALLS = [
    {"id": "c1", "name": "look", "arguments": '{"where": "here", "deep": {"a": [1, 2]}}'},
    {"id": "c2", "name": "wait", "arguments": "{}"},
    {"id": "c3", "name": "look", "arguments": '{"where": "there"}'},
]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("reason", ["tool_calls", "stop"])
def test_parallel_tool_calls(stub: StubOpenAI, model: LanguageModel, size: int, reason: str, both: Both) -> None:
    script = {"tool_calls": CALLS, "argument_chars": size, "finish_reason": reason}
    found = both(model, script)
    assert found.tool_calls == [ToolCall(**call) for call in CALLS]
    assert found.finish_reason == "tool_calls"


def test_calls_that_all_have_index_0(openai: LanguageModel, stub: StubOpenAI, ask: Ask) -> None:
    def event(id: str | None, arguments: str) -> bytes:
        call = {"index": 0, "id": id, "function": {"name": "f", "arguments": arguments}}
        chunk = {"id": "x", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    end = b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n'
    stub.reply(raw=[event("a", "1"), event(None, "2"), event("b", "3"), end])
    assert ask(openai, "stream").tool_calls == [ToolCall("a", "f", "12"), ToolCall("b", "f", "3")]


def test_fields_beyond_the_vocabulary_are_kept(openai: LanguageModel, stub: StubOpenAI, both: Both) -> None:
    script = {
        "chunks": ["a", "b", "c"],
        "fields": {"system_fingerprint": "fp", "service_tier": "flex", "list": [1, 2]},
        "message_fields": {
            "refusal": "no",
            "annotations": [
                {"type": "url_citation", "url_citation": {"start_index": 0, "end_index": 1, "url": "u", "title": "t"}}
            ],
            "odd": {"deep": [1]},
        },
        "logprobs": {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}], "refusal": None},
        "usage": {
            "prompt_tokens": 1,
            "completion_tokens": 2,
            "total_tokens": 3,
            "completion_tokens_details": {"accepted_prediction_tokens": 4},
        },
    }
    found = both(openai, script)
    assert found.provider_fields == {
        "system_fingerprint": "fp",
        "service_tier": "flex",
        "list": [1, 2],
        "refusal": "no",
        "annotations": script["message_fields"]["annotations"],
        "odd": {"deep": [1]},
        "logprobs": {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]},
        "usage": {"completion_tokens_details": {"accepted_prediction_tokens": 4}},
    }


def test_refusal_in_pieces(openai: LanguageModel, stub: StubOpenAI, ask: Ask) -> None:
    lines = [
        f'data: {{"id":"x","choices":[{{"index":0,"delta":{{"refusal":"{word}"}}}}]}}\n\n'
        for word in ("I ", "can", "can")
    ]
    end = 'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    stub.reply(raw="".join([*lines, end]).encode())
    assert ask(openai, "stream").provider_fields["refusal"] == "I cancan"


@pytest.mark.parametrize(
    ("given", "expected"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("function_call", "tool_calls")],
)
def test_finish_reasons(stub: StubOpenAI, model: LanguageModel, given: str, expected: str, both: Both) -> None:
    assert both(model, {"text": "a", "finish_reason": given}).finish_reason == expected


@pytest.mark.parametrize(("given", "expected"), [("eos", "stop"), ("error", "error"), ("strange", "other")])
def test_finish_reasons_that_openai_does_not_have(
    openai: LanguageModel, stub: StubOpenAI, given: str, expected: str, both: Both
) -> None:
    assert both(openai, {"text": "a", "finish_reason": given}).finish_reason == expected


def test_more_than_one_choice(openai: LanguageModel, stub: StubOpenAI, ask: Ask) -> None:
    one = '{"index":%d,"delta":{"content":"%s"},"finish_reason":%s}'
    lines = [one % (0, "a", "null"), one % (1, "B", "null"), one % (0, "c", '"stop"'), one % (1, "", '"length"')]
    stub.reply(
        raw="".join(f'data: {{"id":"x","choices":[{line}]}}\n\n' for line in lines).encode() + b"data: [DONE]\n\n"
    )
    found = ask(openai, "stream")
    assert (found.text, found.finish_reason) == ("ac", "stop")
    assert [choice["index"] for choice in found.provider_fields["choices"]] == [1, 1]


def test_many_equal_chunks_are_an_answer(stub: StubOpenAI, model: LanguageModel, ask: Ask) -> None:
    stub.reply(chunks=["equal "] * 300)
    assert ask(model, "stream").text == "equal " * 300


@pytest.mark.parametrize("size", [1, 5])
def test_events_cut_anywhere(stub: StubOpenAI, model: LanguageModel, size: int, ask: Ask) -> None:
    stub.reply(text="äöü \U0001f600 end", split_bytes=size, tool_calls=CALLS[:1])
    found = ask(model, "stream")
    assert (found.text, found.tool_calls) == ("äöü \U0001f600 end", [ToolCall(**CALLS[0])])


def test_comments_before_the_first_event(stub: StubOpenAI, model: LanguageModel, ask: Ask) -> None:
    event = b'data: {"id":"x","created":5,"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    stub.reply(raw=[b": PROCESSING\n\n", b": PROCESSING\n\n", event, b"data: [DONE]\n\n"])
    found = ask(model, "stream")
    assert (found.text, found.created, found.finish_reason) == ("a", 5, "stop")

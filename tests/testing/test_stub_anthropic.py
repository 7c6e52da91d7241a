"""The Anthropic dialect of the stub, asked by a plain HTTP client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_mw.testing import AnthropicReply, StubAnthropic
from neuro_mw.testing.anthropic_wire import events_of, message_of

HELLO = {
    "model": "m",
    "max_tokens": 100,
    "system": "be kind",
    "messages": [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [{"type": "text", "text": "how are "}, {"type": "text", "text": "you"}]},
    ],
}
STREAM = {**HELLO, "stream": True}
CALLS = [{"id": "t1", "name": "f", "input": {"x": [1, "ü"]}}, {"id": "t2", "name": "g", "input": {}}]


@pytest.fixture(scope="module")
def anthropic() -> Iterator[StubAnthropic]:
    with StubAnthropic() as server:
        yield server


def events(raw: bytes) -> list[dict[str, Any]]:
    """The events of a body, each of which must be exactly an event line, a data line and an empty one."""
    found = []
    *texts, rest = raw.decode().split("\n\n")
    assert rest == ""
    for text in texts:
        name, data = text.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def collected(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a stream adds up to, as the documentation says; nothing of the stub is used."""
    found = [event for event in found if event["type"] != "ping"]
    message = found[0]["message"]
    assert [event["type"] for event in (found[0], *found[-2:])] == ["message_start", "message_delta", "message_stop"]
    assert (message["content"], message["stop_reason"], message["stop_sequence"]) == ([], None, None)
    blocks: list[dict[str, Any]] = message["content"]
    arguments = ""
    for event in found[1:-2]:
        kind = event["type"]
        if kind == "content_block_start":
            assert event["index"] == len(blocks)
            blocks.append(event["content_block"])
            arguments = ""
            continue
        assert event["index"] == len(blocks) - 1
        block = blocks[-1]
        if kind == "content_block_stop":
            if arguments:
                block["input"] = json.loads(arguments)
            continue
        assert kind == "content_block_delta"
        delta = event["delta"]
        if delta["type"] == "text_delta":
            block["text"] += delta["text"]
        elif delta["type"] == "thinking_delta":
            block["thinking"] += delta["thinking"]
        elif delta["type"] == "signature_delta":
            block["signature"] = delta["signature"]
        elif delta["type"] == "citations_delta":
            block["citations"].append(delta["citation"])
        else:
            assert delta["type"] == "input_json_delta"
            arguments += delta["partial_json"]
    message.update(found[-2]["delta"])
    if "usage" in message:
        message["usage"].update(found[-2]["usage"])
    else:
        assert "usage" not in found[-2]
    return message


def test_echo_by_default(anthropic: StubAnthropic, ask: Any) -> None:
    assert anthropic.base_url == f"http://127.0.0.1:{anthropic.port}"
    status, headers, raw = ask(anthropic, HELLO)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    answer = json.loads(raw)
    assert answer.pop("id").startswith("msg_stub_")
    assert answer == {
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "how are you"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 7,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 3,
        },
    }
    assert (anthropic.requests[-1].path, anthropic.requests[-1].body) == ("/v1/messages", HELLO)


def test_a_stream_event_by_event(anthropic: StubAnthropic, ask: Any) -> None:
    anthropic.reply(chunks=["Hel", "lo"], tool_calls=CALLS[:1], argument_chars=6)
    _, headers, raw = ask(anthropic, STREAM)
    assert headers["Content-Type"] == "text/event-stream"
    started, *found = events(raw)
    assert started["message"]["usage"]["output_tokens"] == 1
    assert found == [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "t1", "name": "f", "input": {}},
        },
        *(
            {
                "type": "content_block_delta",
                "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": piece},
            }
            for piece in ("", '{"x":[', '1,"ü"]', "}")
        ),
        {"type": "content_block_stop", "index": 1},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 1},
        },
        {"type": "message_stop"},
    ]


def test_scripted_reply_in_both_modes(anthropic: StubAnthropic, ask: Any) -> None:
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 4,
        "output_tokens": 20,
        "service_tier": "batch",
    }
    script: dict[str, Any] = {
        "thinking": ["hm ", "ok"],
        "signature": "sig",
        "redacted_thinking": "SECRET==",
        "text": "Hello you",
        "tool_calls": CALLS,
        "usage": usage,
        "model": "other",
        "fields": {"id": "msg_mine", "container": {"id": "c"}},
    }
    anthropic.reply(**script)
    whole = json.loads(ask(anthropic, HELLO)[2])
    assert whole["content"] == [
        {"type": "thinking", "thinking": "hm ok", "signature": "sig"},
        {"type": "redacted_thinking", "data": "SECRET=="},
        {"type": "text", "text": "Hello you"},
        *({"type": "tool_use", **call} for call in CALLS),
    ]
    assert (whole["model"], whole["id"], whole["container"]) == ("other", "msg_mine", {"id": "c"})
    assert (whole["usage"], whole["stop_reason"]) == (usage, "tool_use")
    anthropic.reply(**script)
    found = events(ask(anthropic, STREAM)[2])
    assert collected(found) == whole
    pieces = [event["delta"] for event in found if event["type"] == "content_block_delta"]
    assert [piece["thinking"] for piece in pieces if "thinking" in piece] == ["hm ", "ok"]
    assert [piece["text"] for piece in pieces if "text" in piece] == ["Hello", " you"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({"text": "a"}, "end_turn"),
        ({"tool_calls": CALLS}, "tool_use"),
        ({"blocks": [{"type": "tool_use", **CALLS[0]}]}, "tool_use"),
        ({"blocks": [{"type": "server_tool_use", **CALLS[0]}]}, "end_turn"),
        ({"text": "a", "stop_sequence": "END"}, "stop_sequence"),
        ({"text": "a", "stop_reason": "refusal"}, "refusal"),
        ({"text": "a", "stop_reason": None}, None),
    ],
)
def test_stop_reasons(anthropic: StubAnthropic, ask: Any, script: dict[str, Any], reason: str | None) -> None:
    expected = {"stop_reason": reason, "stop_sequence": script.get("stop_sequence")}
    anthropic.reply(**script)
    whole = json.loads(ask(anthropic, HELLO)[2])
    assert {key: whole[key] for key in expected} == expected
    anthropic.reply(**script)
    assert events(ask(anthropic, STREAM)[2])[-2]["delta"] == expected


def test_without_usage_and_signature(anthropic: StubAnthropic, ask: Any) -> None:
    script: dict[str, Any] = {"thinking": "hm", "signature": None, "usage": None}
    anthropic.reply(**script)
    whole = json.loads(ask(anthropic, HELLO)[2])
    assert "usage" not in whole
    assert whole["content"] == [{"type": "thinking", "thinking": "hm"}]
    anthropic.reply(**script)
    assert collected(events(ask(anthropic, STREAM)[2]))["content"] == whole["content"]


def test_blocks_without_deltas_start_complete(anthropic: StubAnthropic, ask: Any) -> None:
    block = {"type": "of_tomorrow", "input": {"a": 1}, "more": [1]}
    anthropic.reply(blocks=[block])
    found = events(ask(anthropic, STREAM)[2])[1:-2]
    assert [event["type"] for event in found] == ["content_block_start", "content_block_stop"]
    assert found[0]["content_block"] == block


def test_pings(anthropic: StubAnthropic, ask: Any) -> None:
    anthropic.reply(text="a b", ping_every=1)
    kinds = [event["type"] for event in events(ask(anthropic, STREAM)[2])]
    assert kinds[1::2] == ["ping"] * 6
    assert "ping" not in kinds[::2]
    anthropic.reply(text="a b", ping_every=3)
    kinds = [event["type"] for event in events(ask(anthropic, STREAM)[2])]
    assert [index for index, kind in enumerate(kinds) if kind == "ping"] == [3, 7]


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (429, "rate_limit_error"), (500, "api_error")]
)
def test_errors(anthropic: StubAnthropic, ask: Any, body: dict[str, Any], status: int, kind: str) -> None:
    anthropic.reply(status=status, headers={"Retry-After": "7"})
    got, headers, raw = ask(anthropic, body)
    assert (got, headers["Retry-After"], headers["Content-Type"]) == (status, "7", "application/json")
    answer = json.loads(raw)
    assert answer.pop("request_id") == headers["request-id"]
    assert answer == {"type": "error", "error": {"type": kind, "message": f"stub error {status}"}}


def test_scripted_errors(anthropic: StubAnthropic, ask: Any) -> None:
    anthropic.reply(status=529, error="busy")
    assert json.loads(ask(anthropic, HELLO)[2])["error"] == {"type": "overloaded_error", "message": "busy"}
    anthropic.reply(status=418, error={"type": "teapot", "message": "no", "details": 1})
    assert json.loads(ask(anthropic, HELLO)[2])["error"] == {"type": "teapot", "message": "no", "details": 1}


def test_error_in_mid_stream(anthropic: StubAnthropic, ask: Any) -> None:
    anthropic.reply(text="a b", error_after=3, error={"type": "overloaded_error", "message": "late"})
    status, _, raw = ask(anthropic, STREAM)
    found = events(raw)
    assert (status, len(found)) == (200, 4)
    assert found[-1] == {"type": "error", "error": {"type": "overloaded_error", "message": "late"}}


def test_cut_after_counts_events(anthropic: StubAnthropic, read: Any) -> None:
    anthropic.reply(text="a b", cut_after=2)
    raw = b"".join(read(anthropic, stream=True))
    assert raw.count(b"event: ") == 2
    assert not raw.endswith(b"0\r\n\r\n")


def test_models(anthropic: StubAnthropic) -> None:
    async def run() -> tuple[str, dict[str, Any]]:
        async with aiohttp.ClientSession() as session, session.get(anthropic.base_url + "/v1/models") as answer:
            return answer.headers["request-id"], await answer.json()

    id, page = asyncio.run(run())
    assert id.startswith("req_")
    assert [model["id"] for model in page["data"]] == [page["first_id"]] == [page["last_id"]]


# --- what is streamed adds up to what is answered whole ----------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
INPUTS = st.dictionaries(TEXTS, VALUES, max_size=3)


def block(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind), **fields})


BLOCKS = st.one_of(
    block("text", text=TEXTS),
    block("text", text=TEXTS, citations=st.lists(INPUTS, max_size=3)),
    block("thinking", thinking=TEXTS),
    block("thinking", thinking=TEXTS, signature=TEXTS),
    block("redacted_thinking", data=TEXTS),
    *(block(kind, id=TEXTS, name=TEXTS, input=INPUTS) for kind in ("tool_use", "server_tool_use", "mcp_tool_use")),
    block("web_search_tool_result", tool_use_id=TEXTS, content=st.lists(INPUTS, max_size=2)),
    block("of_tomorrow", input=INPUTS),
)
CALL = st.fixed_dictionaries({"id": TEXTS, "name": TEXTS, "input": INPUTS})
SCRIPTS = st.fixed_dictionaries(
    {
        "argument_chars": st.integers(1, 40),
        "ping_every": st.none() | st.integers(1, 4),
        "stop_sequence": st.none() | TEXTS,
        "stop_reason": st.sampled_from(["auto", "end_turn", "refusal", None]),
        "usage": st.sampled_from(["auto", None, {"input_tokens": 3, "output_tokens": 9, "server_tool_use": {"n": 1}}]),
    },
    optional={
        "text": TEXTS,
        "chunks": st.lists(TEXTS, max_size=4),
        "thinking": TEXTS | st.lists(TEXTS, max_size=4),
        "signature": st.none() | TEXTS,
        "redacted_thinking": TEXTS,
        "tool_calls": st.lists(CALL, max_size=3),
        "blocks": st.lists(BLOCKS, max_size=4),
    },
)


@given(script=SCRIPTS)
def test_a_stream_adds_up_to_the_whole(script: dict[str, Any]) -> None:
    whole = message_of(AnthropicReply(**script), HELLO, "msg_1")
    assert collected(events(b"".join(events_of(AnthropicReply(**script), STREAM, "msg_1")))) == whole


@settings(max_examples=40)
@given(script=SCRIPTS, cuts=st.none() | st.lists(st.integers(0, 1500), max_size=6))
def test_so_it_does_over_the_wire(
    anthropic: StubAnthropic, ask: Any, script: dict[str, Any], cuts: list[int] | None
) -> None:
    anthropic.reply(**script, fields={"id": "msg_1"})
    whole = json.loads(ask(anthropic, HELLO)[2])
    anthropic.reply(**script, fields={"id": "msg_1"}, cuts=cuts)
    assert collected(events(ask(anthropic, STREAM)[2])) == whole

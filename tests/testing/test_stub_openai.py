"""The stub server itself, asked by a plain HTTP client."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest

from neuro_mw import testing
from neuro_mw.testing import Reply, StubOpenAI

HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello you there"}]}
STREAM = {**HELLO, "stream": True}


async def post(stub: StubOpenAI, body: Any, path: str = "/chat/completions") -> tuple[int, dict[str, str], bytes]:
    async with aiohttp.ClientSession() as session, session.post(stub.base_url + path, json=body) as answer:
        return answer.status, dict(answer.headers), await answer.read()


def ask(stub: StubOpenAI, body: Any = HELLO) -> tuple[int, dict[str, str], bytes]:
    return asyncio.run(post(stub, body))


def events(raw: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in raw.decode().split("\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def deltas(raw: bytes) -> list[dict[str, Any]]:
    return [event["choices"][0]["delta"] for event in events(raw) if event["choices"]]


def test_echo_by_default() -> None:
    with StubOpenAI() as stub:
        status, _, raw = ask(stub)
        answer = json.loads(raw)
        assert status == 200
        assert answer["choices"][0]["message"]["content"] == "hello you there"
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
        assert (answer["model"], answer["object"]) == ("m", "chat.completion")
        assert stub.requests[0].body == HELLO
        assert stub.requests[0].path == "/v1/chat/completions"
        assert stub.requests[0].headers["content-type"] == "application/json"


def test_stream_without_and_with_usage() -> None:
    with StubOpenAI() as stub:
        plain = ask(stub, STREAM)[2]
        assert "".join(delta.get("content", "") for delta in deltas(plain)) == "hello you there"
        assert all("usage" not in event for event in events(plain))
        counted = events(ask(stub, {**STREAM, "stream_options": {"include_usage": True}})[2])
        assert counted[-1]["choices"] == []
        assert counted[-1]["usage"]["total_tokens"] == 6
        assert counted[-2]["choices"][0]["finish_reason"] == "stop"
        assert all(event["usage"] is None for event in counted[:-1])


def test_scripted_reply_in_both_modes() -> None:
    script = {
        "chunks": ["a", "b c"],
        "reasoning": ["th", "ink"],
        "tool_calls": [
            {"id": "1", "name": "f", "arguments": '{"x": 12345}'},
            {"id": "2", "name": "g", "arguments": ""},
        ],
        "argument_chars": 5,
        "fields": {"system_fingerprint": "fp"},
        "message_fields": {"refusal": "no"},
        "model": "other",
        "usage": {"prompt_tokens": 1},
    }
    with StubOpenAI() as stub:
        stub.reply(**script)
        answer = json.loads(ask(stub)[2])
        message = answer["choices"][0]["message"]
        assert (answer["model"], answer["system_fingerprint"], answer["usage"]) == ("other", "fp", {"prompt_tokens": 1})
        assert (message["content"], message["reasoning_content"], message["refusal"]) == ("ab c", "think", "no")
        assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x": 12345}'}
        assert answer["choices"][0]["finish_reason"] == "tool_calls"

        stub.reply(**script)
        found = deltas(ask(stub, STREAM)[2])
        assert [d["content"] for d in found if d.get("content")] == ["a", "b c"]
        assert [d["reasoning_content"] for d in found if "reasoning_content" in d] == ["th", "ink"]
        calls = [d["tool_calls"][0] for d in found if "tool_calls" in d]
        assert [call["index"] for call in calls] == [0, 0, 0, 0, 1]
        assert [call["function"]["arguments"] for call in calls] == ["", '{"x":', " 1234", "5}", ""]
        assert found[0]["refusal"] == "no"


def test_replies_are_a_queue() -> None:
    with StubOpenAI() as stub:
        stub.reply(text="one")
        stub.reply(text="two", finish_reason="length", usage=None)
        texts = [json.loads(ask(stub)[2])["choices"][0]["message"]["content"] for _ in range(3)]
        assert texts == ["one", "two", "hello you there"]


def test_errors_and_headers() -> None:
    with StubOpenAI() as stub:
        stub.reply(status=429, headers={"Retry-After": "7"}, error={"message": "slow", "code": "x"})
        status, headers, raw = ask(stub, STREAM)
        assert (status, headers["Retry-After"]) == (429, "7")
        assert json.loads(raw) == {"error": {"message": "slow", "code": "x"}}
        stub.reply(status=500, error="broken")
        assert json.loads(ask(stub)[2])["error"]["message"] == "broken"
        stub.reply(text="a b c", error_after=2, error="late")
        raw = ask(stub, STREAM)[2]
        assert raw.count(b"data: ") == 3
        assert b'"late"' in raw
        assert b"[DONE]" not in raw


@pytest.mark.parametrize("body", [HELLO, STREAM])
def test_cut_connection(body: dict[str, Any]) -> None:
    with StubOpenAI() as stub:
        stub.reply(text="a b c", cut_after=2)
        with pytest.raises(aiohttp.ClientError):
            ask(stub, body)
        assert stub.closed_early == 0  # the server cut, not the client


def test_no_finish_reason() -> None:
    with StubOpenAI() as stub:
        stub.reply(text="a", finish_reason=None)
        assert all(event["choices"][0]["finish_reason"] is None for event in events(ask(stub, STREAM)[2]))


def test_raw_and_split_bytes() -> None:
    with StubOpenAI() as stub:
        stub.reply(raw=b"<html>", status=502)
        assert ask(stub)[0::2] == (502, b"<html>")
        stub.reply(raw=[b"data: x\n", b"\n"])
        assert ask(stub, STREAM)[2] == b"data: x\n\n"
        stub.reply(text="äöü ß", split_bytes=1)
        assert deltas(ask(stub, STREAM)[2])[1]["content"] == "äöü"


def test_delays() -> None:
    with StubOpenAI() as stub:
        stub.reply(text="a b", delay_s=0.05, chunk_delay_s=0.02)
        begin = time.perf_counter()
        ask(stub, STREAM)
        assert time.perf_counter() - begin >= 0.09


@pytest.mark.parametrize("body", [HELLO, STREAM])
def test_clients_that_leave_are_counted(body: dict[str, Any]) -> None:
    async def leave(stub: StubOpenAI) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await post(stub, body)
        for _ in range(100):
            if stub.closed_early:
                return
            await asyncio.sleep(0.01)

    with StubOpenAI() as stub:
        stub.reply(text="a b", delay_s=0 if body is STREAM else 30, chunk_delay_s=30)
        asyncio.run(leave(stub))
        assert stub.closed_early == 1


def test_leaving_the_block_does_not_wait_for_slow_answers() -> None:
    async def hang(stub: StubOpenAI) -> None:
        task = asyncio.create_task(post(stub, HELLO))
        await asyncio.sleep(0.2)
        assert stub.requests
        await asyncio.to_thread(stub.__exit__, None, None, None)
        with pytest.raises(aiohttp.ClientError):
            await task

    stub = StubOpenAI().__enter__()
    stub.reply(text="a", delay_s=60)
    begin = time.perf_counter()
    asyncio.run(hang(stub))
    assert time.perf_counter() - begin < 10
    assert stub.closed_early == 0


def test_not_json_and_models() -> None:
    async def run(stub: StubOpenAI) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session:
            async with session.post(stub.base_url + "/chat/completions", data=b"{") as answer:
                assert answer.status == 200
            async with session.get(stub.base_url + "/models") as answer:
                return await answer.json()

    with StubOpenAI() as stub:
        assert asyncio.run(run(stub))["object"] == "list"
        assert stub.requests[0].body is None


def test_exports() -> None:
    assert isinstance(Reply(text="x"), testing.Reply)
    assert set(testing.__all__) <= set(dir(testing))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = testing.nothing

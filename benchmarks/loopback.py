"""A server on loopback that costs next to nothing, and processes that are told over pipes what to do.

``python -m benchmarks.loopback`` is the server: every answer is bytes that were made before. The prompt says how many
words the answer shall have and whether a stream comes slowly, the body whether it is streamed, the path which dialect.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any

WHOLE_WORDS = 100  # of an answer that is not streamed: about 400 characters
_SEGMENT = 1400  # bytes of a stream that are written at once; chunks are cut anywhere, as on the way from afar
_PAUSE_S = 0.001  # between two chunks that come slowly: longer than any client needs for one, so each comes alone
_WORDS = ("The", " quick", " brown", " fox", " jumps", " over", " the", " lazy", " dog", ",", " then", " naps", ".")
_HEAD = re.compile(rb"^POST (\S+) .*?^content-length: *(\d+)\r?$", re.IGNORECASE | re.MULTILINE | re.DOTALL)
_ASKED = re.compile(rb"in (\d+) words( slowly)?")
_LAST = b", then close."  # an idle connection makes every turn of a loop dearer, so those of a crowd are closed
_STREAMED = re.compile(rb'"stream": *true')


class Canned(asyncio.Protocol):
    """One connection: requests in, one after the other, bytes out."""

    def connection_made(self, transport: Any) -> None:
        self._transport, self._buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = _HEAD.match(self._buffer[: end + 1])
            if head is None:
                self._transport.abort()
                return
            whole = end + 4 + int(head[2])
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            asked, anthropic = _ASKED.search(body), head[1].endswith(b"/messages")
            if asked is None:
                self._transport.abort()
                return
            stream = _STREAMED.search(body) is not None
            if _LAST in body and not stream:
                whole_answer = answer(anthropic, False, int(asked[1]))[0]
                self._transport.write(whole_answer.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
                self._transport.close()
                return
            self._write(iter(answer(anthropic, stream, int(asked[1]), bool(asked[2]))), bool(asked[2]))

    def _write(self, segments: Iterator[bytes], slowly: bool) -> None:
        for segment in segments:
            if self._transport.is_closing():
                return
            self._transport.write(segment)
            if slowly:
                asyncio.get_running_loop().call_later(_PAUSE_S, self._write, segments, slowly)
                return


def prompt(words: int, *, slowly: bool = False, last: bool = False) -> str:
    """What to ask the server; `last`: the connection closes with the whole answer."""
    return f"Tell a story in {words} words{' slowly' if slowly else ''}{_LAST.decode() if last else '.'}"


def said(words: int) -> list[str]:
    """The words of an answer."""
    return list(islice(cycle(_WORDS), words))


@functools.cache
def answer(anthropic: bool, stream: bool, words: int, slowly: bool = False) -> list[bytes]:
    """The segments of one answer."""
    text = said(words)
    if not stream:
        body = _json(_message(text) if anthropic else _completion(text))
        return [_head("application/json", f"content-length: {len(body)}") + body]
    events = _anthropic_events(text) if anthropic else _openai_events(text)
    head = _head("text/event-stream; charset=utf-8", "transfer-encoding: chunked")
    chunks = [head, *(b"%x\r\n%b\r\n" % (len(event), event) for event in [*events, b""])]
    if slowly:
        return [*chunks[:-2], b"".join(chunks[-2:])]  # who stops reading at the last event finds the connection free
    data = b"".join(chunks)
    return [data[at : at + _SEGMENT] for at in range(0, len(data), _SEGMENT)]


def _head(kind: str, length: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{length}\r\nx-request-id: req_0123456789abcdef\r\n\r\n".encode()


def _json(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


# --- what OpenAI and Anthropic send ------------------------------------------------------------------------------

_OPENAI = {"id": "chatcmpl-CkJh2vVZ4Kq0wYb1m3TtX8nRsEo5d", "created": 1_760_000_000, "model": "gpt-4o-mini-2024-07-18"}
_TIER = {"service_tier": "default", "system_fingerprint": "fp_560af6e559"}


def _openai_usage(words: int) -> dict[str, Any]:
    return {
        "prompt_tokens": 31, "completion_tokens": words, "total_tokens": 31 + words,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    }  # fmt: skip


def _completion(text: list[str]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(text), "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**_OPENAI, "object": "chat.completion", "choices": [choice], "usage": _openai_usage(len(text)), **_TIER}


def _openai_events(text: list[str]) -> list[bytes]:
    first = _chunk({"role": "assistant", "content": "", "refusal": None})
    words = [_chunk({"content": word}) for word in text]
    counted = {**_chunk({}), "choices": [], "usage": _openai_usage(len(text))}
    chunks = [first, *words, _chunk({}, "stop"), counted]
    return [*(b"data: %b\n\n" % _json(chunk) for chunk in chunks), b"data: [DONE]\n\n"]


def _chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    padding = "x7Kq2mZ9vT4w"[: 12 - len(delta.get("content") or "")]  # against the guessing of texts by their lengths
    named = {**_OPENAI, "object": "chat.completion.chunk", **_TIER}
    return {**named, "choices": [choice], "usage": None, "obfuscation": padding}


_ANTHROPIC = {"id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant", "model": "claude-sonnet-5"}


def _anthropic_usage(words: int) -> dict[str, Any]:
    return {
        "input_tokens": 31, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": words, "service_tier": "standard",
    }  # fmt: skip


def _message(text: list[str]) -> dict[str, Any]:
    content = [{"type": "text", "text": "".join(text)}]
    end = {"stop_reason": "end_turn", "stop_sequence": None, "usage": _anthropic_usage(len(text))}
    return {**_ANTHROPIC, "content": content, **end}


def _anthropic_events(text: list[str]) -> list[bytes]:
    end = {"stop_reason": None, "stop_sequence": None}
    begun: dict[str, Any] = {**_ANTHROPIC, "content": [], **end, "usage": _anthropic_usage(1)}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in text),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": len(text)},
        },
        {"type": "message_stop"},
    ]
    return [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _json(event)) for event in events]


# --- processes ---------------------------------------------------------------------------------------------------


class Process:
    """``python -m module arguments``, which says a line of JSON when it is ready and one for every line it is sent."""

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._name = " ".join((module, *arguments))
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            env=None if environment is None else {**os.environ, **environment},
        )

    def hear(self) -> Any:
        """The next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} ended with exit code {self._process.wait()}; its reason stands above")
        return json.loads(line)

    def ask(self, question: Any) -> Any:
        """Say a line and hear the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self.hear()

    def close(self) -> None:
        """Close its input, at which it ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def stay_on_core() -> None:
    """Keep this process on one core, the same for all: whether two that talk share one changes a call by a third."""
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


async def serve() -> None:
    """Say the port and serve until the input ends."""
    stay_on_core()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Canned, "127.0.0.1", 0)
    for anthropic in (False, True):  # not while somebody waits
        answer(anthropic, False, WHOLE_WORDS)
    print(json.dumps(server.sockets[0].getsockname()[1]), flush=True)
    over = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), over.set)
    await over.wait()


if __name__ == "__main__":
    asyncio.run(serve())

"""What an OpenAI server sends: the scripted reply of a test as bodies and events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .stub_reply import AUTO, StubReply
from .wire_text import asked_words, words

CREATED = 1_700_000_000  # fixed, so that answers can be compared


@dataclass(slots=True, kw_only=True)
class Reply(StubReply):
    """What :class:`~neuro_mw.testing.StubOpenAI` answers to one request.

    The fields of :class:`~neuro_mw.testing.stub_reply.StubReply` say what every stub can do. Those of this dialect:
    ``reasoning`` is a text or its pieces. ``tool_calls`` are dicts with ``id``, ``name``, ``arguments`` (a string).
    ``finish_reason`` None ends a stream without one. ``fields`` are keys of the answer and of each chunk
    (``system_fingerprint``), ``message_fields`` of the message, or of the first delta (``refusal``), ``logprobs`` of
    the choice.

    >>> Reply(text="hello", cut_after=2, headers={"Retry-After": "7"}).reason
    'stop'
    """

    reasoning: str | Sequence[str] | None = None
    tool_calls: Sequence[Mapping[str, str]] = ()
    finish_reason: str | None = AUTO
    message_fields: Mapping[str, Any] = field(default_factory=dict)
    logprobs: Mapping[str, Any] | None = None

    @property
    def reason(self) -> str | None:
        """The finish reason as it is sent."""
        if self.finish_reason == AUTO:
            return "tool_calls" if self.tool_calls else "stop"
        return self.finish_reason


def error_of(reply: Reply) -> dict[str, Any]:
    if isinstance(reply.error, Mapping):
        return dict(reply.error)
    return {"message": reply.error or f"stub error {reply.status}", "type": "stub_error", "param": None, "code": None}


def _usage(reply: Reply, body: dict[str, Any]) -> dict[str, Any] | None:
    if reply.usage != AUTO:
        return dict(reply.usage) if reply.usage is not None else None
    asked, said = asked_words(body), len((reply.content or "").split())
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def completion_of(reply: Reply, body: dict[str, Any], id: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.content, **reply.message_fields}
    if reply.reasoning is not None:
        message["reasoning_content"] = "".join(reply.reasoning)
    if reply.tool_calls:
        message["tool_calls"] = [_call(call, call["arguments"]) for call in reply.tool_calls]
    choice = {"index": 0, "message": message, "logprobs": reply.logprobs, "finish_reason": reply.reason}
    answer = {**_head(reply, body, id), "object": "chat.completion", "choices": [choice]}
    usage = _usage(reply, body)
    return answer if usage is None else {**answer, "usage": usage}


def _head(reply: Reply, body: dict[str, Any], id: str) -> dict[str, Any]:
    return {"id": id, "created": CREATED, "model": reply.model or body.get("model"), **reply.fields}


def _call(call: Mapping[str, str], arguments: str) -> dict[str, Any]:
    return {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": arguments}}


def events_of(reply: Reply, body: dict[str, Any], id: str) -> Iterator[bytes]:
    import orjson

    head = {**_head(reply, body, id), "object": "chat.completion.chunk"}
    with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    if with_usage:
        head["usage"] = None  # so does OpenAI, on every chunk but the last
    for sent, choice in enumerate(_choices(reply)):
        if reply.error_after is not None and sent >= reply.error_after:
            yield b"data: " + orjson.dumps({"error": error_of(reply)}) + b"\n\n"
            return
        yield b"data: " + orjson.dumps({**head, "choices": [{"index": 0, **choice}]}) + b"\n\n"
    usage = _usage(reply, body)
    if with_usage and usage is not None:
        yield b"data: " + orjson.dumps({**head, "choices": [], "usage": usage}) + b"\n\n"
    yield b"data: [DONE]\n\n"


def _choices(reply: Reply) -> Iterator[dict[str, Any]]:
    def of(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"delta": delta, "logprobs": None, "finish_reason": reason}

    yield of({"role": "assistant", "content": "" if reply.content is not None else None, **reply.message_fields})
    pieces = [reply.reasoning] if isinstance(reply.reasoning, str) else reply.reasoning or ()
    yield from (of({"reasoning_content": piece}) for piece in pieces)
    texts = reply.chunks if reply.chunks is not None else words(reply.text or "")
    for number, text in enumerate(texts):
        yield {**of({"content": text}), "logprobs": reply.logprobs if number == 0 else None}
    for index, call in enumerate(reply.tool_calls):
        yield of({"tool_calls": [{"index": index, **_call(call, "")}]})
        arguments, size = call["arguments"], reply.argument_chars
        for start in range(0, len(arguments), size):
            piece = {"index": index, "function": {"arguments": arguments[start : start + size]}}
            yield of({"tool_calls": [piece]})
    if reply.reason is not None:
        yield of({}, reply.reason)

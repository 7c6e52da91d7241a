"""What an Anthropic server sends: the scripted reply of a test as messages and events.

The shapes are those of https://platform.claude.com/docs/en/api/messages and its page on streaming.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .anthropic_blocks import stream_of
from .stub_reply import AUTO, StubReply
from .wire_text import asked_words, text_of

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass(slots=True, kw_only=True)
class AnthropicReply(StubReply):
    """What :class:`~neuro_mw.testing.StubAnthropic` answers to one request.

    The fields of :class:`~neuro_mw.testing.stub_reply.StubReply` say what every stub can do. Those of this dialect:
    ``thinking`` is a text or its pieces, signed with ``signature`` (None leaves it out). ``redacted_thinking`` is the
    data of such a block. ``tool_calls`` are dicts with ``id``, ``name``, ``input`` (a dict). The answer has these
    blocks, where given, in the order thinking, redacted thinking, text, tool calls; ``blocks`` is the whole list of
    content blocks in place of them, of any kinds, also unknown ones. ``stop_reason`` "auto" is "stop_sequence" with a
    ``stop_sequence``, "tool_use" with a tool call, else "end_turn". ``ping_every`` puts a ping after each so many
    events; pings count as events elsewhere.

    >>> AnthropicReply(text="hi", tool_calls=[{"id": "t1", "name": "f", "input": {}}]).reason
    'tool_use'
    """

    thinking: str | Sequence[str] | None = None
    signature: str | None = "stub-signature"
    redacted_thinking: str | None = None
    tool_calls: Sequence[Mapping[str, Any]] = ()
    blocks: Sequence[Mapping[str, Any]] | None = None
    stop_reason: str | None = AUTO
    stop_sequence: str | None = None
    ping_every: int | None = None

    @property
    def reason(self) -> str | None:
        """The stop reason as it is sent."""
        if self.stop_reason != AUTO:
            return self.stop_reason
        if self.stop_sequence is not None:
            return "stop_sequence"
        return "tool_use" if any(block.get("type") == "tool_use" for block, _ in _blocks(self)) else "end_turn"


def message_of(reply: AnthropicReply, body: dict[str, Any], id: str) -> dict[str, Any]:
    message = {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": reply.model or body.get("model"),
        "content": [block for block, _ in _blocks(reply)],
        "stop_reason": reply.reason,
        "stop_sequence": reply.stop_sequence,
        **reply.fields,
    }
    usage = _usage(reply, body)
    return message if usage is None else {**message, "usage": usage}


def error_of(reply: AnthropicReply) -> dict[str, Any]:
    if isinstance(reply.error, Mapping):
        return dict(reply.error)
    kind = ERROR_TYPES.get(reply.status, "api_error")
    return {"type": kind, "message": reply.error or f"stub error {reply.status}"}


def events_of(reply: AnthropicReply, body: dict[str, Any], id: str) -> Iterator[bytes]:
    for sent, event in enumerate(_with_pings(_events(reply, body, id), reply.ping_every)):
        if reply.error_after is not None and sent >= reply.error_after:
            yield _encoded({"type": "error", "error": error_of(reply)})
            return
        yield _encoded(event)


def _encoded(event: dict[str, Any]) -> bytes:
    import orjson

    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(event))


def _with_pings(events: Iterator[dict[str, Any]], every: int | None) -> Iterator[dict[str, Any]]:
    for number, event in enumerate(events):
        if every is not None and number and number % every == 0:
            yield {"type": "ping"}
        yield event


def _events(reply: AnthropicReply, body: dict[str, Any], id: str) -> Iterator[dict[str, Any]]:
    message = message_of(reply, body, id)
    started = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    ended = {key: message[key] for key in ("stop_reason", "stop_sequence")}
    usage = message.get("usage")
    if usage is not None:
        started["usage"] = {**usage, "output_tokens": 1}  # the API counts the first token here, all of them at the end
    yield {"type": "message_start", "message": started}
    for index, (block, pieces) in enumerate(_blocks(reply)):
        start, deltas = stream_of(block, pieces, reply.argument_chars)
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    counted = {} if usage is None else {"usage": {"output_tokens": usage.get("output_tokens", 0)}}
    yield {"type": "message_delta", "delta": ended, **counted}
    yield {"type": "message_stop"}


def _blocks(reply: AnthropicReply) -> Iterator[tuple[dict[str, Any], Sequence[str] | None]]:
    """Each content block, with the pieces into which a stream cuts its text; None cuts word by word."""
    if reply.blocks is not None:
        yield from ((dict(block), None) for block in reply.blocks)
        return
    if reply.thinking is not None:
        block = {"type": "thinking", "thinking": "".join(reply.thinking)}
        signed = {} if reply.signature is None else {"signature": reply.signature}
        yield {**block, **signed}, None if isinstance(reply.thinking, str) else reply.thinking
    if reply.redacted_thinking is not None:
        yield {"type": "redacted_thinking", "data": reply.redacted_thinking}, None
    if reply.content is not None:
        yield {"type": "text", "text": reply.content}, reply.chunks
    yield from (({"type": "tool_use", **call}, None) for call in reply.tool_calls)


def _usage(reply: AnthropicReply, body: dict[str, Any]) -> dict[str, Any] | None:
    if reply.usage != AUTO:
        return dict(reply.usage) if reply.usage is not None else None
    return {
        "input_tokens": len(text_of(body.get("system")).split()) + asked_words(body),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": len(text_of([block for block, _ in _blocks(reply)]).split()),
    }

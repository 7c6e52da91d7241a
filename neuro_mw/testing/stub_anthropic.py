"""A scriptable Anthropic server on loopback: real HTTP, real SSE, no key, no network.

It speaks the Messages API in both modes. Run it by hand with ``python -m neuro_mw.testing.stub_anthropic --port 8123``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .anthropic_wire import AnthropicReply, error_of, events_of, message_of
from .stub_server import StubServer, serve


class StubAnthropic(StubServer[AnthropicReply]):
    """An Anthropic server in a thread of its own, for the length of a ``with`` block.

    ``base_url`` is without ``/v1``, as ANTHROPIC_BASE_URL is; the messages are at ``/v1/messages``. The replies are
    :class:`AnthropicReply`; :class:`~neuro_mw.testing.stub_server.StubServer` has the rest. Where no reply is queued
    the answer is the text of the last user message.

    >>> with StubAnthropic() as stub:
    ...     reply = stub.reply(thinking="hm", text="hello", chunks=["hel", "lo"])
    ...     (stub.base_url == f"http://127.0.0.1:{stub.port}", reply.reason)
    (True, 'end_turn')
    """

    reply_type = AnthropicReply
    request_id_header = "request-id"
    prefix = ""

    def whole(self, reply: AnthropicReply, body: dict[str, Any], number: int) -> dict[str, Any]:
        """A message."""
        return message_of(reply, body, f"msg_stub_{number}")

    def events(self, reply: AnthropicReply, body: dict[str, Any], number: int) -> Iterator[bytes]:
        """The events of a message."""
        return events_of(reply, body, f"msg_stub_{number}")

    def failure(self, reply: AnthropicReply, request_id: str) -> dict[str, Any]:
        """An error object with the request's id."""
        return {"type": "error", "error": error_of(reply), "request_id": request_id}

    def models(self) -> dict[str, Any]:
        """A page of one model."""
        model = {"type": "model", "id": "stub", "display_name": "Stub", "created_at": "2023-11-14T22:13:20Z"}
        return {"data": [model], "has_more": False, "first_id": "stub", "last_id": "stub"}


if __name__ == "__main__":
    serve(StubAnthropic)

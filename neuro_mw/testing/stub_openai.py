"""A scriptable OpenAI server on loopback: real HTTP, real SSE, no key, no network.

It speaks chat completions in both modes. Run it by hand with ``python -m neuro_mw.testing.stub_openai --port 8123``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .openai_wire import CREATED, Reply, completion_of, error_of, events_of
from .stub_server import StubServer, serve


class StubOpenAI(StubServer[Reply]):
    """An OpenAI server in a thread of its own, for the length of a ``with`` block.

    ``base_url`` ends in ``/v1``. ``requests`` holds what arrived, ``closed_early`` counts clients that left before
    their answer was complete; :class:`~neuro_mw.testing.stub_server.StubServer` has the rest. Where no reply is queued
    the answer is the text of the last user message.

    >>> with StubOpenAI() as stub:
    ...     _ = stub.reply(text="hello", chunks=["hel", "lo"])
    ...     stub.base_url.startswith("http://127.0.0.1:")
    True
    """

    reply_type = Reply
    request_id_header = "x-request-id"
    prefix = "/v1"

    def whole(self, reply: Reply, body: dict[str, Any], number: int) -> dict[str, Any]:
        """A chat completion."""
        return completion_of(reply, body, f"chatcmpl-stub-{number}")

    def events(self, reply: Reply, body: dict[str, Any], number: int) -> Iterator[bytes]:
        """The chunks of a chat completion."""
        return events_of(reply, body, f"chatcmpl-stub-{number}")

    def failure(self, reply: Reply, request_id: str) -> dict[str, Any]:
        """An object with the error."""
        return {"error": error_of(reply)}

    def models(self) -> dict[str, Any]:
        """A list of one model."""
        return {"object": "list", "data": [{"id": "stub", "object": "model", "created": CREATED}]}


if __name__ == "__main__":
    serve(StubOpenAI)

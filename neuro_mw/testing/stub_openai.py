"""A scriptable OpenAI server on loopback: real HTTP, real SSE, no key, no network.

It speaks chat completions in both modes. Run it by hand with ``python -m neuro_mw.testing.stub_openai --port 8123``.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .openai_wire import CREATED, Reply, completion_of, error_of, events_of, last_user_text

if TYPE_CHECKING:
    from types import TracebackType

    from aiohttp import web


@dataclass(slots=True, frozen=True)
class Recorded:
    """One request as it arrived. Header names are in lower case; ``body`` is the JSON, None where it was none."""

    path: str
    headers: dict[str, str]
    body: Any


class StubOpenAI:
    """An OpenAI server in a thread of its own, for the length of a ``with`` block.

    ``base_url`` ends in ``/v1``. ``requests`` holds what arrived, ``closed_early`` counts clients that left before
    their answer was complete. Where no reply is queued the answer is the text of the last user message.

    >>> with StubOpenAI() as stub:
    ...     _ = stub.reply(text="hello", chunks=["hel", "lo"])
    ...     stub.base_url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.requests: list[Recorded] = []
        self.closed_early = 0
        self._replies: deque[Reply] = deque()
        self._served = 0
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave: asyncio.Event | None = None

    @property
    def base_url(self) -> str:
        """What goes into OPENAI_BASE_URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def reply(self, **script: Any) -> Reply:
        """Queue the answer to the next request; the fields are those of :class:`Reply`."""
        reply = Reply(**script)
        self._replies.append(reply)
        return reply

    def __enter__(self) -> StubOpenAI:
        self._thread = threading.Thread(target=self._run, name="stub-openai", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._leave is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._leave.set)
            self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  # handed to the thread that entered
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        from aiohttp import web

        self._loop, self._leave = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=1 << 28)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/{path:.*}", self._answer)  # any path: with `raw` a test can speak another protocol
        # handler_cancellation: a client that left is noticed at once, also between two chunks
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            self.port = runner.addresses[0][1]
            self._ready.set()
            await self._leave.wait()
        finally:
            await runner.cleanup()

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return _json({"object": "list", "data": [{"id": "stub", "object": "model", "created": CREATED}]})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        import orjson

        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            body = None
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(Recorded(request.path, headers, body))
        reply = self._replies.popleft() if self._replies else Reply(text=last_user_text(body))
        self._served += 1
        number = self._served
        try:
            await asyncio.sleep(reply.delay_s)
            return await self._send(request, reply, body if isinstance(body, dict) else {}, f"chatcmpl-stub-{number}")
        except (ConnectionError, asyncio.CancelledError) as error:
            if reply.cut_after is None and self._leave is not None and not self._leave.is_set():
                self.closed_early += 1
            if isinstance(error, asyncio.CancelledError):
                raise
            return _json(None)  # nobody reads it: aiohttp logs an exception of a handler, but not a failed write

    async def _send(self, request: web.Request, reply: Reply, body: dict[str, Any], id: str) -> web.StreamResponse:
        from aiohttp import web

        stream = bool(body.get("stream"))
        if reply.raw is None and reply.status != 200:
            return _json({"error": error_of(reply)}, reply)
        if reply.raw is None and not stream:
            if reply.cut_after is not None:
                _cut(request)
            return _json(completion_of(reply, body, id), reply)
        kind = "text/event-stream" if stream else "application/json"
        response = web.StreamResponse(status=reply.status, headers={"Content-Type": kind, **reply.headers})
        await response.prepare(request)
        if isinstance(reply.raw, bytes):
            events: Sequence[bytes] | Iterator[bytes] = [reply.raw]
        else:
            events = reply.raw if reply.raw is not None else events_of(reply, body, id)
        async for piece in _paced(events, reply):
            await response.write(piece)
        if reply.cut_after is not None:
            _cut(request)
        else:
            await response.write_eof()
        return response


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


async def _paced(events: Sequence[bytes] | Iterator[bytes], reply: Reply) -> AsyncIterator[bytes]:
    for number, event in enumerate(events):
        if reply.cut_after is not None and number >= reply.cut_after:
            return
        if number and reply.chunk_delay_s:
            await asyncio.sleep(reply.chunk_delay_s)
        size = reply.split_bytes or len(event) or 1
        for start in range(0, len(event), size):
            yield event[start : start + size]
            if reply.split_bytes:
                await asyncio.sleep(0)


def _json(data: Any, reply: Reply | None = None) -> web.Response:
    import orjson
    from aiohttp import web

    status, headers = (reply.status, dict(reply.headers)) if reply else (200, {})
    return web.Response(body=orjson.dumps(data), status=status, headers=headers, content_type="application/json")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    import argparse
    import sys

    parser = argparse.ArgumentParser(description="An OpenAI stub server on loopback that echoes.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    with StubOpenAI(parser.parse_args(arguments).port) as stub, contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(stub.base_url + "\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()

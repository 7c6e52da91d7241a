"""A scriptable HTTP server on loopback, in a thread of its own; a dialect says what it answers."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .stub_reply import StubReply
from .stub_sending import close_connection, send
from .wire_text import last_user_text

if TYPE_CHECKING:
    import ssl
    from types import TracebackType
    from typing import Self

    from aiohttp import web
    from multidict import CIMultiDict

BACKLOG = 4096  # connections that may wait to be accepted; the kernel may allow fewer
SHUTDOWN_S = 0.2  # how long answers that are under way may take to end when the block is left

AnyReply = TypeVar("AnyReply", bound=StubReply)


@dataclass(slots=True, frozen=True)
class Recorded:
    """One request as it arrived. Header names are in lower case; ``body`` is the JSON, None where it was none."""

    path: str
    headers: dict[str, str]
    body: Any
    query: dict[str, str]


class StubServer(ABC, Generic[AnyReply]):
    """A server for the length of a ``with`` block, which may be entered again and then has the same port.

    ``port`` 0 takes a free one; an ``ssl_context`` makes it https, on the name ``localhost``. Any POST path is
    answered, with the next queued reply, or else with the text of the last user message.

    - ``requests``: what arrived, in order.
    - ``connections``: how many TCP connections were accepted so far.
    - ``active``, ``peak``: how many requests are being answered, and the most that ever were at once.
    - ``closed_early``: how many clients left before their answer was complete.

    A dialect names its ``reply_type``, the header in which it says ``request_id_header``, and the ``prefix`` of its
    paths that stands in ``base_url``.
    """

    reply_type: type[AnyReply]
    request_id_header: str
    prefix: str

    def __init__(self, port: int = 0, *, ssl_context: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.requests: list[Recorded] = []
        self.connections = self.active = self.peak = self.closed_early = 0
        self._ssl_context = ssl_context
        self._replies: deque[AnyReply] = deque()
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()

    @property
    def base_url(self) -> str:
        """What goes into the environment variable of the dialect's clients."""
        origin = "http://127.0.0.1" if self._ssl_context is None else "https://localhost"
        return f"{origin}:{self.port}{self.prefix}"

    def reply(self, **script: Any) -> AnyReply:
        """Queue the answer to the next request; the fields are those of the dialect's reply."""
        reply = self.reply_type(**script)
        self._replies.append(reply)
        return reply

    def wait_requests(self, timeout_s: float, count: int = 1) -> bool:
        """Block until so many requests arrived; False where they did not in time. From a loop: asyncio.to_thread."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.requests) >= count, timeout_s)

    def wait_closed_early(self, timeout_s: float, count: int = 1) -> bool:
        """Block until so many clients left early; False where they did not in time. From a loop: asyncio.to_thread."""
        with self._changed:
            return self._changed.wait_for(lambda: self.closed_early >= count, timeout_s)

    @abstractmethod
    def whole(self, reply: AnyReply, body: dict[str, Any], number: int) -> dict[str, Any]:
        """The answer in one piece."""

    @abstractmethod
    def events(self, reply: AnyReply, body: dict[str, Any], number: int) -> Iterator[bytes]:
        """The answer as the events of a stream."""

    @abstractmethod
    def failure(self, reply: AnyReply, request_id: str) -> dict[str, Any]:
        """The body of an answer whose status is an error."""

    @abstractmethod
    def models(self) -> dict[str, Any]:
        """The body of the list of models."""

    def __enter__(self) -> Self:
        ready, failures = threading.Event(), list[BaseException]()

        def run() -> None:
            try:
                asyncio.run(self._serve(ready))
            except BaseException as error:  # noqa: BLE001  # handed to the thread that entered
                failures.append(error)
            finally:
                ready.set()

        self._thread = threading.Thread(target=run, name=type(self).__name__, daemon=True)
        self._thread.start()
        ready.wait()
        if failures:
            raise failures[0]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join()

    async def _serve(self, ready: threading.Event) -> None:
        from aiohttp import web

        self._loop, self._leave = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=1 << 28)
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_post("/{path:.*}", self._handle)  # any path: with `raw` a test can speak another protocol
        # handler_cancellation: a client that left is noticed at once, also between two chunks
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        server = runner.server
        assert server is not None  # `setup` made it
        try:
            with contextlib.closing(await self._listen(server)):
                ready.set()
                await self._leave.wait()
        finally:
            transports = [one.transport for one in server.connections if one.transport is not None]
            await runner.cleanup()
            for transport in transports:
                transport.abort()  # a TLS peer may never answer the goodbye
            await asyncio.sleep(0)  # the turn of the loop in which they are closed

    async def _listen(self, server: web.Server) -> asyncio.Server:
        def accept() -> asyncio.Protocol:
            self.connections += 1
            return server()

        listener = await self._loop.create_server(
            accept, "127.0.0.1", self.port, ssl=self._ssl_context, backlog=BACKLOG
        )
        self.port = listener.sockets[0].getsockname()[1]
        return listener

    async def _list_models(self, request: web.Request) -> web.StreamResponse:
        reply = self.reply_type(raw=_dump(self.models()))
        return await send(request, reply, *self._content(reply, {}, next(self._numbers)))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            return await self._answer(request)
        except (ConnectionError, asyncio.CancelledError) as error:
            if not self._leave.is_set():
                with self._changed:
                    self.closed_early += 1
                    self._changed.notify_all()
            if isinstance(error, asyncio.CancelledError):
                raise
            return web.Response()  # nobody reads it: aiohttp logs an exception of a handler, but not a failed write
        finally:
            self.active -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        body = _load(await request.read())
        number = next(self._numbers)
        with self._changed:
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.requests.append(Recorded(request.path, headers, body, dict(request.query)))
            self._changed.notify_all()
        reply = self._replies.popleft() if self._replies else self.reply_type(text=last_user_text(body))
        await asyncio.sleep(reply.delay_s)
        if reply.hang:
            await asyncio.Event().wait()
        asked = body if isinstance(body, dict) else {}
        if reply.drop or (reply.cut_after is not None and not _in_pieces(reply, asked)):
            close_connection(request)
            return web.Response()  # it does not leave any more
        return await send(request, reply, *self._content(reply, asked, number))

    def _content(self, reply: AnyReply, body: dict[str, Any], number: int) -> tuple[Iterable[bytes], CIMultiDict[str]]:
        """The events of the answer, and its headers."""
        from multidict import CIMultiDict

        streamed = bool(body.get("stream")) and _in_pieces(reply, body)
        headers = CIMultiDict({"Content-Type": "text/event-stream" if streamed else "application/json"})
        headers[self.request_id_header] = request_id = f"req_stub_{number}"
        headers.update(reply.headers)
        if reply.garbage is not None:
            return [reply.garbage], headers
        if reply.raw is not None:
            return [reply.raw] if isinstance(reply.raw, bytes) else reply.raw, headers
        if streamed:
            return self.events(reply, body, number), headers
        whole = self.failure(reply, request_id) if reply.status != 200 else self.whole(reply, body, number)
        content = _dump(whole)
        if "Transfer-Encoding" not in headers:
            headers.setdefault("Content-Length", str(len(content)))
        return [content], headers


def _in_pieces(reply: StubReply, body: dict[str, Any]) -> bool:
    return reply.raw is not None or (reply.status == 200 and bool(body.get("stream")))


def _load(body: bytes) -> Any:
    import orjson

    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _dump(value: Any) -> bytes:
    import orjson

    return orjson.dumps(value)


def serve(stub: type[StubServer[Any]], arguments: Sequence[str] | None = None) -> None:
    """Print where a stub of this kind is, and serve until interrupted: the main program of each dialect."""
    parser = argparse.ArgumentParser(description=f"{stub.__name__}: a stub server on loopback that echoes.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    with stub(parser.parse_args(arguments).port) as running, contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(running.base_url + "\n")
        sys.stdout.flush()
        threading.Event().wait()

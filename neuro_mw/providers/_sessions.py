"""One pooled aiohttp session for each event loop, with the proxies and certificates that the environment names."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import select
import ssl
import threading
import urllib.request
import weakref
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from neuro_mw.errors import ConfigError

MAX_LINE = 8190  # bytes of one line of an answer's head, and of one header
_CA_FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

_sessions: dict[asyncio.AbstractEventLoop, Session] = {}
_contexts: dict[tuple[str, str, str], ssl.SSLContext] = {}
_lock, _making = threading.Lock(), threading.Lock()  # of the sessions, of the contexts


class Session:
    """The connections of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # limit=0: how many calls run at once is for the user's own limits to say
        connector = _Connector(limit=0, ssl=False)
        self.http = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=True,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            headers={"User-Agent": _user_agent()},
        )
        self._loop, self.clock = loop, loop.time
        self._proxies: dict[str, str | None] = {}
        self.keeper = self._keep()

    def proxy_for(self, url: str) -> str | None:
        """The proxy that ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` name for `url`."""
        origin = url[: url.find("/", 8)]
        if origin not in self._proxies:
            self._proxies[origin] = _proxy_of(url)
        return self._proxies[origin]

    async def _keep(self) -> AsyncGenerator[None]:
        """Left open for as long as the loop runs: `asyncio.run` closes the generators that are open at its end."""
        try:
            yield
        finally:
            _sessions.pop(self._loop, None)
            await self.http.close()
            await asyncio.sleep(0)  # transports close in the loop's next turn


class _Connector(aiohttp.TCPConnector):
    """Takes no connection from the pool that its server has closed while nobody looked.

    A POST is not sent twice, so one on a dead connection would fail. The event loop may not have read the end yet; the
    socket knows.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._pooled: weakref.WeakSet[Any] = weakref.WeakSet()

    async def connect(self, *args: Any, **options: Any) -> Any:
        while True:
            connection = await super().connect(*args, **options)
            if connection.protocol not in self._pooled:
                self._pooled.add(connection.protocol)
                return connection
            if not _has_news(connection.transport):
                return connection
            connection.close()

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:
        """A new connection, names, proxy and TLS included, within the limit that aiohttp has for the socket alone."""
        async with asyncio.timeout(timeout.sock_connect):
            return await super()._create_connection(req, traces, timeout)


def _has_news(transport: Any) -> bool:
    """Whether there is something to read on a connection on which nothing is to come: its end."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


async def current() -> Session:
    """The session of the running loop, opened at its first call."""
    loop = asyncio.get_running_loop()
    session = _sessions.get(loop)
    if session is None or session.http.closed:
        _forget_closed_loops()
        with _lock:
            session = _sessions[loop] = Session(loop)
        await anext(session.keeper)
    return session


def _forget_closed_loops() -> None:
    """Let go the connections of loops that were closed without their generators."""
    with _lock:
        left = [_sessions.pop(loop) for loop in list(_sessions) if loop.is_closed()]
    for session in left:
        closing = session.http.close()  # on a loop that is closed there is nothing it waits for
        with suppress(StopIteration, RuntimeError):
            for _ in range(4):
                closing.send(None)


atexit.register(_forget_closed_loops)


async def tls() -> ssl.SSLContext:
    """The TLS settings: those of the system, or the certificates that the environment names."""
    named = next(((name, os.environ[name]) for name in _CA_FILES if os.environ.get(name)), ("", ""))
    key = (*named, os.environ.get("SSL_CERT_DIR", ""))
    if key not in _contexts:
        await asyncio.to_thread(_context, *key)  # tens of milliseconds: off the loop
    return _contexts[key]


def _context(variable: str, file: str, folder: str) -> None:
    key = (variable, file, folder)
    with _making:  # connections are pooled by context: all have to get the same
        if key not in _contexts:
            _contexts[key] = _made(*key)


def _made(variable: str, file: str, folder: str) -> ssl.SSLContext:
    named = file or folder
    try:
        if file and os.path.isdir(file):  # requests takes a folder in this variable, too
            file, folder = "", file
        context = ssl.create_default_context(cafile=file or None, capath=folder or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the certificates cannot be read ({type(error).__name__})",
            key=variable or "SSL_CERT_DIR",
            expected="a file or folder of certificates in PEM form",
        ) from error
    if not named and not context.get_ca_certs():
        _trust_certifi(context)
    return context


def _trust_certifi(context: ssl.SSLContext) -> None:
    """Where the system has no certificates (a slim container), those of certifi, which comes with litellm."""
    try:
        import certifi
    except ImportError:
        return
    context.load_verify_locations(certifi.where())


def _proxy_of(url: str) -> str | None:
    parts = urlsplit(url)
    proxies = urllib.request.getproxies_environment()
    name = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy = proxies.get(name)
    bypass = urllib.request.proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed has it for some systems
    if not proxy or bypass(parts.netloc, proxies):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    key, expected = f"{name.upper()}_PROXY", "http://host:port, or https://"
    try:
        found = urlsplit(proxy)
        usable = bool(found.hostname) and (found.port is None or found.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError("it is no address of a proxy", key=key, expected=expected)
    if found.scheme not in ("http", "https"):
        raise ConfigError(f"a proxy of the kind {found.scheme!r} is not supported", key=key, expected=expected)
    return proxy


@functools.cache
def _user_agent() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"neuro_mw/{version('neuro-mw')}"
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "neuro_mw"

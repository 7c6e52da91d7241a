"""One pooled aiohttp session for each event loop, with the proxies and certificates that the environment names."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import ssl
import threading
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import suppress
from urllib.parse import urlsplit

import aiohttp

from neuro_mw.errors import ConfigError

MAX_LINE = 8190  # bytes of one line of an answer's head, and of one header
_CA_FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_IDLE = 0.005  # seconds after which a pooled connection may have been closed without the loop having seen it

_sessions: dict[asyncio.AbstractEventLoop, Session] = {}
_contexts: dict[tuple[str, str, str], ssl.SSLContext] = {}
_lock = threading.Lock()


class Session:
    """The connections of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # limit=0: how many calls run at once is for the user's own limits to say
        connector = aiohttp.TCPConnector(limit=0, ssl=False)
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
        self._used = loop.time()
        self.keeper = self._keep()

    def proxy_for(self, url: str) -> str | None:
        """The proxy that ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` name for `url`."""
        origin = url[: url.find("/", 8)]
        if origin not in self._proxies:
            self._proxies[origin] = _proxy_of(url)
        return self._proxies[origin]

    async def settle(self) -> None:
        """Let the loop see which connections were closed while nobody looked.

        A POST is not sent twice, so one on a dead connection fails. The first turn of the loop reads the end of the
        connection, the second is ours again.
        """
        now = self._loop.time()
        if now - self._used > _IDLE:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        self._used = now

    async def _keep(self) -> AsyncGenerator[None]:
        """Left open for as long as the loop runs: `asyncio.run` closes the generators that are open at its end."""
        try:
            yield
        finally:
            _sessions.pop(self._loop, None)
            await self.http.close()
            await asyncio.sleep(0)  # transports close in the loop's next turn


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
    try:
        context = ssl.create_default_context(cafile=file or None, capath=folder or None)
        if file and os.path.isdir(file):  # requests takes a folder in this variable, too
            context.load_verify_locations(capath=file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the certificates cannot be read ({type(error).__name__})",
            key=variable or "SSL_CERT_DIR",
            expected="a file or folder of certificates in PEM form",
        ) from error
    if not (file or folder) and not context.get_ca_certs():
        _trust_certifi(context)
    _contexts[variable, file, folder] = context


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
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass_environment(parts.netloc, proxies):  # type: ignore[attr-defined]
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    scheme = urlsplit(proxy).scheme
    if scheme not in ("http", "https"):
        raise ConfigError(f"a proxy of the kind {scheme!r} is not supported", key=f"{parts.scheme.upper()}_PROXY",
                          expected="an http:// or https:// proxy")  # fmt: skip
    return proxy


@functools.cache
def _user_agent() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"neuro_mw/{version('neuro-mw')}"
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "neuro_mw"

"""One POST to a provider, its answer read within limits, and every failure of the connection as a provider error."""

from __future__ import annotations

import asyncio
import functools
import io
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import aiohttp
from aiohttp import hdrs

from neuro_mw.errors import ProviderError, ProviderTimeout, ProviderUnavailable

from . import _sessions
from ._call_options import Timeouts
from ._errors import provider_error

MAX_ERROR = 1 << 16  # bytes of the body of a failure that are read
_LARGE = 1 << 20  # bytes of a request; aiohttp sends more than that in steps if it is a file
_DRAIN = 0.05  # seconds to wait for the end of a body after its last event, so that the connection can be used again


class Call(NamedTuple):
    """One request, ready to be sent."""

    provider: str
    model: str
    url: str
    key: str | None
    headers: Mapping[str, str]
    body: bytes
    undo: Any
    timeouts: Timeouts
    max_bytes: int

    def __repr__(self) -> str:
        return f"Call({self.provider}/{self.model})"  # the rest holds the key and the prompt

    @property
    def secrets(self) -> str:
        """What no error may show: the key, and whatever stands in the headers."""
        return " ".join([self.key or "", *map(str, self.headers.values())])

    def failed(self, error: BaseException) -> ProviderError:
        """A failure of the connection as a provider error."""
        name = type(error).__name__
        if isinstance(error, TimeoutError):
            return self.error(ProviderTimeout, detail=name)
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
            return self.error(ProviderUnavailable, more=": its certificate cannot be verified", detail=name)
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return self.error(ProviderUnavailable, more=": the proxy refused to connect", status=error.status)
        if isinstance(error, ValueError):  # what yarl and aiohttp say of an address or of a header may quote it
            return self.error(ProviderUnavailable, more=": its address or a header cannot be used")
        if isinstance(error, aiohttp.ClientResponseError):
            return self.error(ProviderUnavailable, more=": what it sent is not HTTP, or its headers are too large")
        return self.error(ProviderUnavailable, detail=name)

    def error(self, wanted: type[ProviderError], **more: Any) -> ProviderError:
        """A provider error of this call."""
        return provider_error(self.provider, self.model, wanted=wanted, key=self.secrets, **more)


class Answer:
    """An answer whose head is there; its body is read piece by piece. Close it, whatever happened."""

    __slots__ = ("_call", "_clock", "_content", "_left", "_response", "_room", "headers", "status")

    def __init__(self, call: Call, response: aiohttp.ClientResponse, clock: Callable[[], float], left: float) -> None:
        self._call, self._response, self._content, self._clock = call, response, response.content, clock
        self._room, self._left = call.max_bytes, left
        self.status, self.headers = response.status, response.headers

    async def piece(self) -> bytes:
        """What has come since; empty at the end. Raises ProviderError where nothing more comes, or too much.

        The limit for the whole call counts the time spent here. aiohttp's limit for a silence ends with any byte, also
        with one of the framing.
        """
        begun, failure = self._clock(), None
        try:
            if self._left == math.inf or self._content.is_eof():
                data = await self._content.readany()
            else:
                async with asyncio.timeout(self._left):
                    data = await self._content.readany()
        except TimeoutError as error:
            failure = self._late() if self._clock() - begun >= self._left else self._call.failed(error)
            cause: BaseException | None = None
        except (aiohttp.ClientError, OSError) as error:
            failure, cause = self._call.failed(error), _safe(error)
        if failure is not None:
            raise failure from cause
        self._left -= self._clock() - begun
        if self._left < 0.0:
            raise self._late()
        self._room -= len(data)
        if self._room < 0:
            limit = f": its answer is larger than {self._call.max_bytes} bytes"
            raise self._call.error(ProviderUnavailable, more=limit, status=self.status)
        return data

    async def whole(self) -> bytes:
        """The rest of the body, within the limit for the whole call."""
        if self._content.is_eof():  # it came with the head, as most do
            return await self.piece()
        pieces = []
        while data := await self.piece():
            pieces.append(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _late(self) -> ProviderError:
        return self._call.error(ProviderTimeout, more=f": its answer took more than {self._call.timeouts.total:g} s")

    async def beginning(self) -> bytes:
        """The body of a failure: its first bytes, or what could be read of them."""
        pieces, size = [], 0
        with suppress(ProviderError):
            while size < MAX_ERROR and (data := await self.piece()):
                pieces.append(data)
                size += len(data)
        return b"".join(pieces)

    async def drain(self) -> None:
        """Take in the end of a body behind its last event. A connection that lags is not kept."""
        if not self._content.is_eof():
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with asyncio.timeout(_DRAIN):
                    await self._content.readany()

    def close(self) -> None:
        """Close the connection at once, unless the body was read to its end: then it is in the pool again already."""
        self._response.close()


async def post(call: Call) -> Answer:
    """Send `call`; the answer's head. Raises ProviderError where none came."""
    session = await _sessions.current()
    total = call.timeouts.total
    failure, clock = None, session.clock
    begun = clock()
    try:
        async with asyncio.timeout(total):
            response = await session.http.request(
                hdrs.METH_POST,
                call.url,
                data=call.body if len(call.body) < _LARGE else io.BytesIO(call.body),
                headers=call.headers,
                allow_redirects=False,  # a key goes nowhere but where it was sent
                proxy=session.proxy_for(call.url),
                ssl=await _sessions.tls() if call.url.startswith("https:") else True,
                timeout=_limits(call.timeouts),
            )
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        failure, cause = call.failed(error), _safe(error)
    if failure is not None:
        raise failure from cause
    return Answer(call, response, clock, math.inf if total is None else total - (clock() - begun))


@functools.lru_cache(64)
def _limits(timeouts: Timeouts) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(sock_connect=timeouts.connect, sock_read=timeouts.read)


def _safe(error: BaseException) -> BaseException | None:
    """What may stand as the cause of an error: nothing that holds the request with its key, or a proxy's password."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error
    return None if isinstance(error, aiohttp.ClientResponseError | ValueError) else error

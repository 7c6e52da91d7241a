"""Both dialects' stubs, and clients that are not ours: aiohttp, and a plain socket that shows each read."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from neuro_mw.testing import StubAnthropic, StubOpenAI

CERTIFICATE = Path(__file__).with_name("localhost.pem")
PATHS = {StubOpenAI: "/chat/completions", StubAnthropic: "/v1/messages"}
HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello you there"}]}


@pytest.fixture(params=[StubOpenAI, StubAnthropic])
def kind(request: pytest.FixtureRequest) -> type[Any]:
    return request.param


@pytest.fixture
def stub(kind: type[Any]) -> Iterator[Any]:
    with kind() as server:
        yield server


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def body(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {**HELLO, "stream": request.param}


@pytest.fixture(scope="session")
def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@pytest.fixture(scope="session")
def client_tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CERTIFICATE)


@pytest.fixture(scope="session")
def ask() -> Callable[..., tuple[int, Mapping[str, str], bytes]]:
    """One request in a session of its own: status, headers, body."""

    async def post(stub: Any, body: Any, tls: Any) -> tuple[int, Mapping[str, str], bytes]:
        try:
            async with aiohttp.ClientSession() as session:
                async with session.post(stub.base_url + PATHS[type(stub)], json=body, ssl=tls) as answer:
                    return answer.status, answer.headers, await answer.read()
        finally:
            if stub.base_url.startswith("https"):
                await asyncio.sleep(0.1)  # aiohttp's client closes TLS connections behind the session

    return lambda stub, body=HELLO, tls=True: asyncio.run(post(stub, body, tls))


@pytest.fixture(scope="session")
def read() -> Callable[..., list[bytes]]:
    """One request over a plain socket: what each read until the end of the connection gave."""

    def call(stub: Any, stream: bool = False) -> list[bytes]:
        body = b'{"stream": true, "messages": []}' if stream else b'{"messages": []}'
        with socket.create_connection(("127.0.0.1", stub.port), timeout=20) as client:
            client.sendall(b"POST /v1/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n")
            client.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)
            return list(iter(lambda: client.recv(1 << 16), b""))

    return call

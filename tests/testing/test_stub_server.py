"""What both stubs are as servers: who connected, who left, on which port, with or without TLS."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
import subprocess
import sys
import time
from typing import Any

import aiohttp
import pytest

ENDLESS = 30.0  # seconds; longer than any test waits
WAITS: dict[str, dict[str, Any]] = {
    "before the answer": {"delay_s": ENDLESS},
    "between events": {"text": "a b", "chunk_delay_s": ENDLESS, "cuts": [9]},
    "between bytes": {"text": "a", "byte_delay_s": ENDLESS},
    "never": {"hang": True},
    "in garbage": {"garbage": b"ab", "byte_delay_s": ENDLESS},
    "before a cut": {"raw": [b"a", b"b"], "chunk_delay_s": ENDLESS, "cut_after": 2},
    "in a full pipe": {"raw": (b"x" * (1 << 20) for _ in range(1000))},
}


def connect(stub: Any, body: bytes = b'{"stream": true}', length: int | None = None) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", stub.port), timeout=20)
    client.sendall(b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (length or len(body)) + body)
    return client


@pytest.mark.parametrize("wait", WAITS)
def test_a_client_that_leaves_is_noticed_at_once(stub: Any, wait: str) -> None:
    stub.reply(**WAITS[wait])
    client = connect(stub)
    assert stub.wait_requests(20)
    assert not stub.wait_closed_early(0.1)
    assert stub.active == 1
    client.close()
    begin = time.perf_counter()
    assert stub.wait_closed_early(20)
    assert time.perf_counter() - begin < ENDLESS / 3
    assert stub.closed_early == 1


def test_a_client_that_leaves_in_its_own_request(stub: Any) -> None:
    client = connect(stub, b"{", length=100)
    assert not stub.wait_requests(0.1)
    client.close()
    assert stub.wait_closed_early(20)
    assert stub.requests == []


def test_clients_that_leave_are_counted(stub: Any) -> None:
    for _ in range(3):
        stub.reply(hang=True)
    clients = [connect(stub) for _ in range(3)]
    assert stub.wait_requests(20, count=3)
    for client in clients:
        client.close()
    assert stub.wait_closed_early(20, count=3)
    assert not stub.wait_closed_early(0, count=4)


def test_a_wait_in_a_loop(stub: Any) -> None:
    async def run() -> bool:
        stub.reply(hang=True)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), session.post(stub.base_url + "/x", json={}):
                    pass
            return await asyncio.to_thread(stub.wait_closed_early, 20)

    assert asyncio.run(run())


def test_those_who_stay_are_not_counted(kind: type[Any], ask: Any, body: dict[str, Any]) -> None:
    with kind() as stub:
        for _ in range(20):  # a client that has all may leave at once
            stub.reply(text="a b", cuts=range(0, 400, 40))
            ask(stub, body)
    assert (stub.closed_early, stub.active, stub.peak) == (0, 0, 1)


def test_connections_show_pooling(stub: Any, body: dict[str, Any]) -> None:
    async def run(times: int) -> None:
        async with aiohttp.ClientSession() as session:
            for _ in range(times):
                async with session.post(stub.base_url + "/x", json=body) as answer:
                    await answer.read()

    asyncio.run(run(3))
    assert (len(stub.requests), stub.connections) == (3, 1)
    asyncio.run(run(1))
    assert stub.connections == 2
    for _ in range(2):
        stub.reply(headers={"Connection": "close"})
    asyncio.run(run(3))
    assert stub.connections == 5
    connect(stub).close()
    assert stub.wait_requests(20, count=8)
    assert stub.connections == 6


def test_a_connection_that_asks_nothing_counts(stub: Any, ask: Any) -> None:
    with socket.create_connection(("127.0.0.1", stub.port)):
        ask(stub)
        assert stub.connections == 2


def test_peak_is_how_many_at_once(stub: Any) -> None:
    async def run() -> list[int]:
        async with aiohttp.ClientSession() as session:

            async def one() -> int:
                async with session.post(stub.base_url + "/x", json={}) as answer:
                    return answer.status

            return await asyncio.gather(*(one() for _ in range(5)))

    for _ in range(5):
        stub.reply(delay_s=0.3)
    assert asyncio.run(run()) == [200] * 5
    assert stub.peak == 5


def test_a_thousand_at_once(kind: type[Any]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2500  # both ends of each connection are in this process
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this process may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))

    async def run(stub: Any) -> list[bytes]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one() -> bytes:
                async with session.post(stub.base_url + "/x", json={"stream": True}) as answer:
                    return await answer.read()

            return await asyncio.gather(*(one() for _ in range(1000)))

    try:
        with kind() as stub:
            for _ in range(1000):
                stub.reply(raw=[b"a", b"b"], chunk_delay_s=3)
            assert asyncio.run(run(stub)) == [b"ab"] * 1000
            assert stub.connections == len(stub.requests) == 1000
            assert stub.peak > 300  # all of them, were this machine not busy
            assert stub.closed_early == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_same_port_again(kind: type[Any], ask: Any) -> None:
    stub = kind()
    with stub:
        port = stub.port
        stub.reply(hang=True)
        client = connect(stub)
        assert stub.wait_requests(20)
    assert client.recv(1) == b""
    client.close()
    assert stub.closed_early == 0  # the server left, not the client
    with pytest.raises(aiohttp.ClientConnectorError):
        ask(stub)
    with stub:
        assert (stub.port, ask(stub)[0]) == (port, 200)
    with kind(port) as another:
        assert (another.port, ask(another)[0]) == (port, 200)
    assert len(stub.requests) == 2


def test_a_port_that_is_taken(kind: type[Any]) -> None:
    with kind() as stub, pytest.raises(OSError, match="address"):
        kind(stub.port).__enter__()


def test_tls(
    kind: type[Any], ask: Any, body: dict[str, Any], server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    with kind(ssl_context=server_tls) as stub:
        assert stub.base_url.startswith(f"https://localhost:{stub.port}")
        stub.reply(text="some more words", cuts=[1, 2, 50], split_bytes=7)
        assert ask(stub, body, client_tls)[0] == 200
        stub.reply(text="some words", cut_after_bytes=20)
        with pytest.raises(aiohttp.ClientPayloadError):
            ask(stub, body, client_tls)
        stub.reply(garbage=b"no answer")
        with pytest.raises(aiohttp.ClientError):
            ask(stub, body, client_tls)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            ask(stub, body)
        assert (len(stub.requests), stub.connections) == (3, 4)


def test_tls_clients_that_leave(kind: type[Any], server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    with kind(ssl_context=server_tls) as stub:
        stub.reply(text="a b", chunk_delay_s=ENDLESS)
        with client_tls.wrap_socket(connect_only(stub), server_hostname="localhost") as client:
            client.sendall(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n\r\n" + b'{"stream": true}')
            assert stub.wait_requests(20)
        assert stub.wait_closed_early(20)


def test_tls_clients_that_stay_are_let_go(
    kind: type[Any], server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """Nothing stays open when the block is left; what did would warn, and a warning is an error."""
    with kind(ssl_context=server_tls) as stub:
        stub.reply(hang=True)
        client = client_tls.wrap_socket(connect_only(stub), server_hostname="localhost")
        client.sendall(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        assert stub.wait_requests(20)
        idle = client_tls.wrap_socket(connect_only(stub), server_hostname="localhost")
    for one in (client, idle):
        assert one.recv(1) == b""
        one.close()
    assert stub.closed_early == 0


def connect_only(stub: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", stub.port), timeout=20)


def test_leaving_the_block_does_not_wait_for_slow_answers(kind: type[Any]) -> None:
    with kind() as stub:
        stub.reply(text="a b", chunk_delay_s=ENDLESS)
        client = connect(stub)
        assert stub.wait_requests(20)
        begin = time.perf_counter()
    assert time.perf_counter() - begin < ENDLESS / 3
    client.close()


@pytest.mark.parametrize("module", ["stub_openai", "stub_anthropic"])
def test_runs_as_a_module(module: str) -> None:
    command = [sys.executable, "-W", "error", "-m", f"neuro_mw.testing.{module}", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.terminate()


@pytest.mark.parametrize("name", ["StubOpenAI", "StubAnthropic", "Reply", "AnthropicReply"])
def test_importing_loads_neither_aiohttp_nor_orjson(name: str) -> None:
    code = f"import sys; from neuro_mw.testing import {name}; assert not {{'aiohttp', 'orjson'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

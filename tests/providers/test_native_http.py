"""The native drivers' HTTP: pooling, limits, timeouts, proxies, certificates, secrets, and servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import logging
import os
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neuro_mw.errors import (
    BadRequest,
    ConfigError,
    NeuroError,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    StreamInterrupted,
)
from neuro_mw.parts import collect
from neuro_mw.providers import resolve
from neuro_mw.providers.anthropic import AnthropicModel
from neuro_mw.providers.openai_compatible import OpenAICompatibleModel
from neuro_mw.testing import StubAnthropic, StubOpenAI
from neuro_mw.types import Params, Response, TextDelta

KEY, SECRET = "sk-KEY-SECRET", "PROMPT-SECRET"
ASK = {"messages": [{"role": "user", "content": f"hello {SECRET}"}]}
CERTIFICATE = Path(__file__).parents[1] / "testing" / "localhost.pem"
DIALECTS = {"openai": (StubOpenAI, OpenAICompatibleModel), "anthropic": (StubAnthropic, AnthropicModel)}
Ask = Callable[..., Response]


@pytest.fixture(params=["openai", "anthropic"])
def dialect(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    return str(request.param)


@pytest.fixture
def server(dialect: str) -> Iterator[Any]:
    with DIALECTS[dialect][0]() as stub:
        yield stub


def model_of(dialect: str, url: str, **more: Any) -> Any:
    first = (dialect, "m") if dialect == "openai" else ("m",)
    return DIALECTS[dialect][1](*first, base_url=url, **more)


@pytest.fixture
def native(dialect: str, server: Any) -> Any:
    return model_of(dialect, server.base_url)


@pytest.fixture(params=["generate", "stream"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def call(model: Any, mode: str, params: Params = ASK) -> Response:
    found: Response = await (model.generate(params) if mode == "generate" else collect(model.stream(params)))
    return found


# --- pooling, loops, threads -----------------------------------------------------------------------------------


def test_calls_one_after_another_share_a_connection(native: Any, server: Any) -> None:
    async def run() -> None:
        for mode in ("generate", "stream") * 5:
            await call(native, mode)

    asyncio.run(run())
    assert (len(server.requests), server.connections) == (10, 1)


def test_a_thousand_concurrent_calls(native: Any, server: Any) -> None:
    async def run() -> list[Response]:
        said = [{"messages": [{"role": "user", "content": f"number {n}"}]} for n in range(1000)]
        return await asyncio.gather(*(call(native, ("generate", "stream")[n % 2], one) for n, one in enumerate(said)))

    assert [found.text for found in asyncio.run(run())] == [f"number {n}" for n in range(1000)]


def test_threads_with_loops_of_their_own(native: Any) -> None:
    found: list[str] = []

    def work() -> None:
        for mode in ("generate", "stream"):
            found.append(asyncio.run(call(native, mode)).text)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [ASK["messages"][0]["content"]] * 12
    gc.collect()  # what was left open would warn, and a warning is an error


@pytest.mark.parametrize("ending", ["asyncio.run(model.generate(ask))", "plain_loop()", "wrapped.generate_sync('hi')"])
def test_a_process_ends_quietly(dialect: str, server: Any, ending: str) -> None:
    """Nothing printed, nothing left open: after `asyncio.run`, a loop closed by hand, and a sync call."""
    code = f"""
import asyncio, sys
from neuro_mw import MiddlewareFactory
from neuro_mw.providers import resolve
model = resolve("{dialect}/m")
wrapped = MiddlewareFactory().apply_middleware("{dialect}/m")
assert not set(sys.modules) & {{"aiohttp", "orjson", "litellm"}}
ask = {{"messages": [{{"role": "user", "content": "hi"}}]}}
def plain_loop():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(model.generate(ask))
    loop.close()
{ending}
{ending}
assert "litellm" not in sys.modules
"""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        f"{dialect.upper()}_BASE_URL": server.base_url,
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_first_call_loads_off_the_loop(server: Any, dialect: str) -> None:
    code = f"""
import asyncio, time
from neuro_mw.providers import resolve
async def tick(gaps):
    while True:
        begun = time.perf_counter()
        await asyncio.sleep(0.001)
        gaps.append(time.perf_counter() - begun)
async def run():
    gaps = []
    ticking = asyncio.create_task(tick(gaps))
    model = resolve("{dialect}/m")
    await asyncio.gather(*(model.generate({{"messages": [{{"role": "user", "content": "hi"}}]}}) for _ in range(3)))
    ticking.cancel()
    print(len(gaps))
asyncio.run(run())
"""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        f"{dialect.upper()}_BASE_URL": server.base_url,
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 10  # the import takes a tenth of a second; on the loop it would be one gap


def test_a_server_that_restarts(dialect: str, mode: str) -> None:
    async def run() -> None:
        for _ in range(3):
            with server:
                model = model_of(dialect, server.base_url)
                assert (await call(model, mode)).text == ASK["messages"][0]["content"]
                assert (await call(model, mode)).text  # on the connection of the one before
            with pytest.raises(ProviderUnavailable) as caught:
                await call(model, mode)
            assert caught.value.retryable

    server = DIALECTS[dialect][0]()
    asyncio.run(run())


# --- leaving -----------------------------------------------------------------------------------------------------


def test_cancellation_closes_the_connection_at_once(native: Any, server: Any, mode: str) -> None:
    async def run() -> None:
        task = asyncio.create_task(call(native, mode))
        assert await asyncio.to_thread(server.wait_requests, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.wait_closed_early, 5)

    server.reply(hang=True)
    asyncio.run(run())
    assert server.closed_early == 1


def test_leaving_in_mid_stream_closes_the_connection(native: Any, server: Any) -> None:
    async def run() -> None:
        stream = native.stream(ASK)
        async for part in stream:
            if isinstance(part, TextDelta):
                break
        await stream.aclose()
        assert await asyncio.to_thread(server.wait_closed_early, 5)
        assert (await call(native, "generate")).text  # the next call has a connection of its own

    server.reply(text="a b c", chunk_delay_s=0.05)
    asyncio.run(run())
    assert server.connections == 2


# --- limits ------------------------------------------------------------------------------------------------------


def chunks(size: int, piece: bytes) -> Iterator[bytes]:
    return itertools.repeat(piece, size // len(piece))


@pytest.mark.parametrize("declared", [True, False])
def test_an_answer_of_100_mb_is_bounded(native: Any, server: Any, mode: str, declared: bool) -> None:
    size = 100 << 20
    headers = {"Content-Length": str(size)} if declared else {"Transfer-Encoding": "chunked"}
    server.reply(raw=chunks(size, b"x" * (1 << 16)), headers=headers)
    with pytest.raises(ProviderUnavailable, match="larger than 67108864 bytes") as caught:
        asyncio.run(call(native, mode))
    assert caught.value.status == 200


def test_the_bound_can_be_set(dialect: str, server: Any, mode: str) -> None:
    model = model_of(dialect, server.base_url, max_answer_bytes=100)
    server.reply(text="x" * 200)
    with pytest.raises(ProviderUnavailable, match="larger than 100 bytes"):
        asyncio.run(call(model, mode))


def test_headers_are_bounded(native: Any, server: Any, mode: str) -> None:
    server.reply(text="a", headers={"X-Large": "x" * 20_000})
    with pytest.raises(ProviderUnavailable, match="headers are too large"):
        asyncio.run(call(native, mode))


def test_an_error_of_100_mb_is_an_error(native: Any, server: Any, mode: str) -> None:
    server.reply(status=500, raw=chunks(100 << 20, b"x" * (1 << 16)))
    with pytest.raises(ProviderUnavailable, match="HTTP 500"):
        asyncio.run(call(native, mode))


def test_a_request_of_some_megabytes(native: Any, server: Any) -> None:
    params = {"messages": [{"role": "user", "content": "x" * (3 << 20)}]}
    server.reply(text="read")
    assert asyncio.run(call(native, "generate", params)).text == "read"


# --- timeouts ----------------------------------------------------------------------------------------------------


def test_slow_loris(native: Any, server: Any, mode: str) -> None:
    """A byte now and then keeps a connection alive, but not beyond the limit for the whole call."""
    server.reply(text="a b c d e f", byte_delay_s=0.02)
    begun = time.monotonic()
    with pytest.raises(ProviderTimeout) as caught:
        asyncio.run(call(native, mode, {**ASK, "timeout": {"total": 0.5, "read": 5}}))
    assert time.monotonic() - begun < 5
    assert (caught.value.retryable, caught.value.status) == (True, None)


@pytest.mark.parametrize("script", [{"chunk_delay_s": 60, "cuts": [20]}, {"hang": True}, {"delay_s": 60}], ids=str)
def test_the_limit_for_the_whole_bounds_silence(native: Any, server: Any, mode: str, script: dict[str, Any]) -> None:
    server.reply(text="a b c", **script)
    begun = time.monotonic()
    with pytest.raises(ProviderTimeout):
        asyncio.run(call(native, mode, {**ASK, "timeout": {"total": 0.4}}))
    assert time.monotonic() - begun < 10  # and not the 600 s between two pieces


@pytest.mark.parametrize("status", [b"200 OK", b"500 Oops"])
def test_bytes_that_are_no_body_keep_nothing_alive(dialect: str, mode: str, status: bytes) -> None:
    import socket

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 " + status + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(400):  # of a chunk's length, which is part of the framing
                connection.sendall(b"0")
                time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=drip, args=(listening,), daemon=True).start()
        model = model_of(dialect, f"http://127.0.0.1:{listening.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(ProviderError):
            asyncio.run(call(model, mode, {**ASK, "timeout": {"total": 0.4}}))
        assert time.monotonic() - begun < 5


def test_the_body_of_a_failure_is_bounded_too(native: Any, server: Any, mode: str) -> None:
    server.reply(status=429, raw=[b"{", b"}"], chunk_delay_s=60)
    begun = time.monotonic()
    with pytest.raises(ProviderRateLimited):
        asyncio.run(call(native, mode, {**ASK, "timeout": {"total": 0.4}}))
    assert time.monotonic() - begun < 10


def test_silence_in_mid_answer(native: Any, server: Any, mode: str) -> None:
    server.reply(text="a b c", chunk_delay_s=60, cuts=[20])
    with pytest.raises(ProviderTimeout):
        asyncio.run(call(native, mode, {**ASK, "timeout": {"read": 0.2}}))


def test_the_consumers_time_does_not_count(native: Any, server: Any) -> None:
    async def run() -> int:
        count = 0
        async for _ in native.stream({**ASK, "timeout": {"total": 0.4}}):
            await asyncio.sleep(0.1)
            count += 1
        return count

    server.reply(chunks=list("abcdefgh"))
    assert asyncio.run(run()) >= 8


def test_a_proxy_that_says_nothing(dialect: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`connect` holds for all that comes before the request: addresses, proxies, TLS."""
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(ProviderTimeout):
            asyncio.run(call(model_of(dialect, "https://provider.invalid"), mode, {**ASK, "timeout": {"connect": 0.3}}))
        assert time.monotonic() - begun < 10


def test_a_proxy_that_refuses(dialect: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def refuse() -> None:
            connection, _ = proxy.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:PROXY-SECRET@127.0.0.1:{proxy.getsockname()[1]}")
        with pytest.raises(ProviderUnavailable, match="the proxy refused to connect") as caught:
            asyncio.run(call(model_of(dialect, "https://provider.invalid"), mode))
    assert caught.value.status == 407
    assert "SECRET" not in shown(caught.value)


def test_no_connection_in_time(dialect: str, mode: str) -> None:
    import socket

    with socket.socket() as full:  # a server that accepts nobody: its queue is full
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for one in others:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        model = model_of(dialect, f"http://127.0.0.1:{full.getsockname()[1]}")
        with pytest.raises(ProviderTimeout):
            asyncio.run(call(model, mode, {**ASK, "timeout": {"connect": 0.2}}))
        for one in others:
            one.close()


@pytest.mark.parametrize("value", [0, -1, True, "5", {"total": "x"}, {"all": 1}, [1]])
def test_timeouts_that_are_none(native: Any, server: Any, value: Any) -> None:
    with pytest.raises(ConfigError, match="timeout"):
        asyncio.run(call(native, "generate", {**ASK, "timeout": value}))
    assert server.requests == []


# --- servers that misbehave --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        {"drop": True},
        {"garbage": b"\x16\x03\x01\x00 not HTTP at all\r\n\r\n"},
        {"garbage": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"},
        {"garbage": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"},
        {"raw": b"<html>"},
        {"raw": b"\xff\xfe\x00"},
        {"raw": b"[]"},
        {"raw": b"{}"},
        {"raw": b'{"detail": "x"}'},
        {"raw": b'{"choices": []}'},
        {"raw": b'{"choices": null}'},
        {"raw": b'{"choices": [{}]}'},
        {"raw": b'data: {"choices":[{"delta":{},"finish_reason":5}]}\n\ndata: [DONE]\n\n'},
        {"raw": b'data: {"error": {"code": "' + b"9" * 5000 + b'"}, "type": "error"}\n\n'},
        {"raw": b'"text"'},
        {"raw": b"null"},
        {"raw": b'{"choices": 5, "content": 5}'},
        {"raw": b'{"choices": [5], "content": [5]}'},
        {"raw": b"[" * 100_000},
        {"raw": b"data: {oops}\n\n"},
        {"raw": b'data: "text"\n\n'},
        {"raw": b"data: [5]\n\n"},
        {"raw": b'data: {"choices": 5, "type": 5}\n\n'},
        {"raw": b'data: {"choices": [5], "type": "content_block_delta"}\n\n'},
        {"raw": b'data: {"choices": [{"delta": 5}], "type": "content_block_delta", "index": 9, "delta": 5}\n\n'},
        {"text": "a b c", "cut_after_bytes": 0},
        {"text": "a b c", "cut_after_bytes": 60},
    ],
    ids=str,
)
def test_garbage(native: Any, server: Any, mode: str, script: dict[str, Any]) -> None:
    server.reply(**script)
    with pytest.raises((ProviderUnavailable, StreamInterrupted)) as caught:
        asyncio.run(call(native, mode))
    assert isinstance(caught.value, StreamInterrupted) or caught.value.retryable
    assert asyncio.run(call(native, mode)).text  # the model is as good as before


def test_one_set_of_certificates_for_a_burst_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are pooled by it."""
    from neuro_mw.providers import _sessions

    monkeypatch.setattr(_sessions, "_contexts", {})

    async def run() -> list[Any]:
        return await asyncio.gather(*(_sessions.tls() for _ in range(50)))

    assert len(set(map(id, asyncio.run(run())))) == 1


def test_servers_that_close_after_each_answer(dialect: str, mode: str) -> None:
    """Without saying so: a pooled connection looks alive until its end was read."""
    import socket

    whole = {
        "openai": b'{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}',
        "anthropic": b'{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}',
    }[dialect]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(whole)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(head + whole)

        threading.Thread(target=serve, daemon=True).start()
        model = model_of(dialect, f"http://127.0.0.1:{listening.getsockname()[1]}")

        async def run() -> list[str]:
            found = []
            for _ in range(20):
                found.append((await call(model, mode)).text)
                time.sleep(0.01)  # noqa: ASYNC251  # the loop sees nothing meanwhile: that is the point
            return found

        assert asyncio.run(run()) == ["hi"] * 20


def test_an_answer_is_over_when_it_says_so(native: Any, server: Any, dialect: str) -> None:
    """A gateway may keep the body open behind the last event."""
    end = {
        "openai": b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE] \n\n',
        "anthropic": b'data: {"type":"message_start","message":{}}\n\n'
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\ndata: {"type":"message_stop"}\n\n',
    }
    server.reply(raw=[end[dialect], b": still here\n\n"], chunk_delay_s=60)
    begun = time.monotonic()
    assert asyncio.run(call(native, "stream")).finish_reason == "stop"
    assert time.monotonic() - begun < 10


def test_a_redirect_gets_no_key(native: Any, server: Any, mode: str) -> None:
    server.reply(status=307, raw=b"", headers={"Location": f"{server.base_url}/elsewhere"})
    with pytest.raises(ProviderError, match="redirects to another address") as caught:
        asyncio.run(call(native, mode))
    assert (caught.value.status, caught.value.retryable, len(server.requests)) == (307, False, 1)


def test_a_server_that_does_not_stream(native: Any, server: Any, dialect: str) -> None:
    whole = {
        "openai": b'{"id":"x","model":"m","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}',
        "anthropic": b'{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}',
    }
    server.reply(raw=whole[dialect], headers={"Content-Type": "application/json"})
    found = asyncio.run(call(native, "stream"))
    assert (found.text, found.finish_reason) == ("hi", "stop")


def test_compressed_answers(native: Any, server: Any, mode: str, dialect: str) -> None:
    import gzip

    async def body(stub: Any) -> bytes:
        import aiohttp

        path = "/chat/completions" if dialect == "openai" else "/v1/messages"
        asked = {**ASK, "model": "m", "stream": mode == "stream"}
        async with aiohttp.ClientSession() as http, http.post(stub.base_url + path, json=asked) as response:
            return await response.read()

    plain = asyncio.run(body(server))
    kind = "text/event-stream" if mode == "stream" else "application/json"
    server.reply(raw=gzip.compress(plain), headers={"Content-Encoding": "gzip", "Content-Type": kind})
    assert asyncio.run(call(native, mode)).text == ASK["messages"][0]["content"]


# --- proxies and certificates --------------------------------------------------------------------------------------


def test_the_environments_proxy(dialect: str, server: Any, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub stands in for the proxy: a request to it names the whole address, and comes there and nowhere else."""
    proxy = server.base_url.removesuffix("/v1")
    monkeypatch.setenv("HTTP_PROXY", proxy)
    model = model_of(dialect, "http://provider.invalid")
    asyncio.run(call(model, mode))
    assert server.requests[0].headers["host"] == "provider.invalid"
    monkeypatch.setenv("NO_PROXY", "provider.invalid")
    with pytest.raises(ProviderUnavailable):
        asyncio.run(call(model, mode))
    assert len(server.requests) == 1


@pytest.mark.parametrize("proxy", ["http://user:PROXY-SECRET@host:abc", "user:PROXY-SECRET", "http://[::1"])
def test_a_proxy_that_is_none(dialect: str, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(ConfigError, match="HTTP_PROXY") as caught:
        asyncio.run(call(model_of(dialect, "http://provider.invalid"), "generate"))
    assert "SECRET" not in shown(caught.value)


def test_a_proxy_of_another_kind(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks5://user:PROXY-SECRET@127.0.0.1:1")
    with pytest.raises(ConfigError, match="HTTP_PROXY: a proxy of the kind 'socks5'") as caught:
        asyncio.run(call(model_of(dialect, "http://provider.invalid"), "generate"))
    assert "SECRET" not in str(caught.value)


def test_a_proxy_that_refuses_shows_no_password(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:PROXY-SECRET@127.0.0.1:1")
    with pytest.raises(ProviderUnavailable) as caught:
        asyncio.run(call(model_of(dialect, "http://provider.invalid"), "generate"))
    assert "SECRET" not in shown(caught.value)


@pytest.fixture
def secure(dialect: str) -> Iterator[Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with DIALECTS[dialect][0](ssl_context=context) as stub:
        yield stub


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_of_ones_own(
    dialect: str, secure: Any, mode: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    model = model_of(dialect, secure.base_url)
    with pytest.raises(ProviderUnavailable, match="certificate cannot be verified"):
        asyncio.run(call(model, mode))
    monkeypatch.setenv(variable, str(CERTIFICATE))
    assert asyncio.run(call(model, mode)).text == ASK["messages"][0]["content"]
    folder = tmp_path / "certificates"
    folder.mkdir()
    (folder / "one.pem").write_bytes(CERTIFICATE.read_bytes())
    subprocess.run(["openssl", "rehash", str(folder)], check=True, capture_output=True)
    monkeypatch.setenv(variable, str(folder))
    assert asyncio.run(call(model, mode)).text == ASK["messages"][0]["content"]
    monkeypatch.setenv(variable, str(CERTIFICATE) + ".gone")
    with pytest.raises(ConfigError, match=f"{variable}: the certificates cannot be read"):
        asyncio.run(call(model, mode))


# --- secrets -----------------------------------------------------------------------------------------------------


def shown(error: BaseException | None) -> str:
    """All that a log, a repr or a crash report may show of an error, of its causes and of what hangs on them."""
    seen, texts = set(), []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        texts += [str(one), repr(one), repr(one.__dict__), repr(one.args)]
        waiting += [one.__cause__, one.__context__]
    return "\n".join([*texts, *(traceback.format_exception(error) if error else ())])


@pytest.mark.parametrize(
    "script",
    [
        {"status": 401, "error": f"wrong key {KEY} for {SECRET}"},
        {"status": 400, "error": {"message": f"{KEY} {SECRET}", "type": f"{KEY} said", "code": [SECRET]}},
        {"status": 500, "raw": f"{KEY} {SECRET}".encode()},
        {"drop": True},
        {"garbage": f"HTTP/1.1 9999 {KEY}\r\n\r\n".encode()},
        {"text": "a", "headers": {"X-Large": SECRET * 2000}},
        {"raw": f"data: {SECRET}\n\n".encode()},
        {"text": "a b", "error_after": 1, "error": f"{KEY} {SECRET}"},
        {"text": "a b", "cut_after_bytes": 40},
        {"hang": True},
    ],
    ids=str,
)
def test_no_key_and_no_prompt_in_errors(
    native: Any, server: Any, mode: str, script: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.reply(**script)
    error = None
    try:
        asyncio.run(call(native, mode, {**ASK, "timeout": {"read": 0.3}}))
    except NeuroError as caught:
        error = caught
    assert error is not None or (mode == "generate" and "error_after" in script)  # a whole answer has no events
    assert "SECRET" not in shown(error) + caplog.text


def test_no_key_in_reprs(dialect: str) -> None:
    model = model_of(dialect, "http://127.0.0.1:1", api_key=KEY, headers={"X-Key": KEY})
    assert "SECRET" not in repr(model) + str(model)


# --- what is sent --------------------------------------------------------------------------------------------------


def test_keys_and_headers(dialect: str, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def sent(model: Any, **params: Any) -> dict[str, str]:
        asyncio.run(call(model, "generate", {**ASK, **params}))
        headers: dict[str, str] = server.requests[-1].headers
        return headers

    name, prefix = ("authorization", "Bearer ") if dialect == "openai" else ("x-api-key", "")
    model = model_of(dialect, server.base_url)
    assert sent(model)[name] == prefix + KEY
    assert sent(model_of(dialect, server.base_url, api_key="own"))[name] == f"{prefix}own"
    assert sent(model_of(dialect, server.base_url, api_key="own"), api_key="call")[name] == f"{prefix}call"
    headers = sent(model_of(dialect, server.base_url, headers={"X-A": "1", "X-B": "1"}), extra_headers={"x-b": "2"})
    assert (headers["x-a"], headers["x-b"]) == ("1", "2")
    assert sent(model, extra_headers={name.upper(): "mine"})[name] == "mine"
    assert headers["user-agent"].startswith("neuro_mw")
    asyncio.run(call(model, "generate", {**ASK, "extra_query": {"a": "b c"}, "extra_body": {"odd": {"x": [1]}}}))
    assert server.requests[-1].body["odd"] == {"x": [1]}
    assert "extra_body" not in server.requests[-1].body


def test_what_only_litellm_knows_is_refused(native: Any, server: Any) -> None:
    litellms = (
        "mock_response", "drop_params", "client_secret", "azure_password", "caching", "ssl_verify",
        "litellm_metadata", "s3_secret_access_key", "langfuse_secret", "aws_access_key_id", "model_list",
        "oci_key", "signoz_ingestion_key", "hf_token",
    )  # fmt: skip
    for params in ({"num_retries": 2}, {"max_retries": 1}, *({name: "x"} for name in litellms)):
        with pytest.raises(ConfigError, match=f"{next(iter(params))}: .*driver='litellm'"):
            asyncio.run(call(native, "generate", {**ASK, **params}))
    asyncio.run(call(native, "generate", {**ASK, "max_retries": 0, "num_retries": 0, "drop_params": False}))
    assert not {"max_retries", "num_retries", "drop_params"} & set(server.requests[0].body)
    empty = {"mock_response": "", "caching": {}, "organization": "", "azure_ad_token": "", "api_version": ""}
    asyncio.run(call(native, "generate", {**ASK, **empty, "top_k": 3}))
    assert server.requests[1].body["top_k"] == 3
    assert not set(empty) & set(server.requests[1].body)


def test_values_that_are_no_json(native: Any, server: Any, dialect: str) -> None:
    from pydantic import BaseModel

    class Point(BaseModel):
        x: int

    server.reply(text="read")
    said = {"messages": [{"role": "user", "content": "half a pair \ud83d"}]}
    assert asyncio.run(call(native, "generate", said)).text == "read"
    asyncio.run(call(native, "generate", {**ASK, "odd": {1: "a"}, "p": Point(x=1)}))
    assert (server.requests[1].body["odd"], server.requests[1].body["p"]) == ({"1": "a"}, {"x": 1})
    asyncio.run(call(native, "generate", {**ASK, "big": 2**70}))
    with pytest.raises(BadRequest, match=r"no JSON .*object"):
        asyncio.run(call(native, "generate", {**ASK, "odd": object()}))


@pytest.mark.parametrize(
    ("params", "key"),
    [
        ({"base_url": 5}, "base_url"),
        ({"model": 5}, "model"),
        ({"api_key": 5}, "api_key"),
        ({"extra_headers": "x"}, "extra_headers"),
        ({"extra_body": [1]}, "extra_body"),
        ({"timeout": float("inf")}, "timeout"),
        ({"timeout": {"connect": 10**400}}, "timeout"),
        ({"azure_ad_token": "x"}, "azure_ad_token"),
        ({"api_version": "x"}, "api_version"),
    ],
    ids=str,
)
def test_options_that_are_none(native: Any, server: Any, params: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        asyncio.run(call(native, "generate", {**ASK, **params}))
    assert server.requests == []


def test_keys_with_line_ends(native: Any, server: Any) -> None:
    asyncio.run(call(native, "generate", {**ASK, "api_key": f"{KEY}\n"}))
    with pytest.raises(ProviderUnavailable, match="a header cannot be used") as caught:
        asyncio.run(call(native, "generate", {**ASK, "api_key": f"{KEY}\nX-More: 1"}))
    assert "SECRET" not in shown(caught.value)
    assert len(server.requests) == 1


def test_a_key_that_the_provider_echoes(native: Any, server: Any) -> None:
    key = "gsk_" + "a1b2" * 8
    server.reply(status=401, error={"message": "x", "code": key, "type": key[:20]},
                 headers={"x-request-id": key, "request-id": key})  # fmt: skip
    with pytest.raises(ProviderError) as caught:
        asyncio.run(call(native, "generate", {**ASK, "api_key": key}))
    assert "a1b2a1b2" not in shown(caught.value)
    assert caught.value.request_id is None
    server.reply(status=401, error={"message": "x", "code": key})
    with pytest.raises(ProviderError) as caught:
        asyncio.run(call(native, "generate", {**ASK, "api_key": "k", "headers": {"X-Key": key}}))
    assert "a1b2a1b2" not in shown(caught.value)


def test_headers_and_queries_that_are_not_given(native: Any, server: Any) -> None:
    more = {"extra_headers": {"X-A": None, "X-B": 1}, "extra_query": {"a": ["x", "y"], "b": None}}
    asyncio.run(call(native, "generate", {**ASK, **more}))
    assert "x-a" not in server.requests[0].headers
    assert server.requests[0].headers["x-b"] == "1"
    assert set(server.requests[0].query) == {"a"}


def test_messages_of_an_sdk(native: Any, server: Any) -> None:
    from pydantic import BaseModel

    class Message(BaseModel):
        role: str
        content: str
        tool_calls: list[Any] | None = None

    asyncio.run(call(native, "generate", {"messages": [Message(role="user", content="hi")]}))
    sent = server.requests[0].body["messages"][0]
    assert sent["role"] == "user"
    assert "tool_calls" not in sent


def test_integers_of_any_length(dialect: str, native: Any, server: Any, mode: str) -> None:
    """JSON decoders that are fast make floats of them."""
    block = b'{"type":"tool_use","id":"t","name":"f","input":{"id":12345678901234567890123}}'
    if dialect == "openai":
        server.reply(tool_calls=[{"id": "t", "name": "f", "arguments": '{"id": 12345678901234567890123}'}])
    elif mode == "generate":
        server.reply(raw=b'{"type":"message","content":[%b],"stop_reason":"tool_use"}' % block)
    else:
        server.reply(raw=b'data: {"type":"content_block_start","index":0,"content_block":%b}\n\n'
                     b'data: {"type":"content_block_stop","index":0}\n\n'
                     b'data: {"type":"message_delta","delta":{"stop_reason":"tool_use"}}\n\n'
                     b'data: {"type":"message_stop"}\n\n' % block)  # fmt: skip
    found = asyncio.run(call(native, mode)).tool_calls[0].arguments
    assert json.loads(found) == {"id": 12345678901234567890123}


def test_request_ids_of_failures(native: Any, server: Any, mode: str) -> None:
    server.reply(status=503, headers={"x-request-id": "req_17", "request-id": "req_17"})
    with pytest.raises(ProviderUnavailable, match="request id req_17") as caught:
        asyncio.run(call(native, mode))
    assert caught.value.request_id == "req_17"


def test_drivers_by_name(dialect: str) -> None:
    assert type(resolve(f"{dialect}/m")) is DIALECTS[dialect][1]

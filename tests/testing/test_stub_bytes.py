"""How the bytes of a stub's answer leave, in both dialects, as a plain socket and a plain HTTP client see it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_mw.testing import StubAnthropic, StubOpenAI
from neuro_mw.testing.stub_reply import StubReply
from neuro_mw.testing.stub_sending import _pieces

RAW = bytes(range(97, 123))


def payload(reads: list[bytes]) -> list[bytes]:
    """What the reads have beyond the headers; the body must not be in chunks."""
    head, _, rest = b"".join(reads).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    sizes = [len(one) for one in reads]
    sizes[0] -= len(head) + 4
    return [rest[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes)) if sizes[i]]


def test_each_stretch_between_cuts_is_a_read(stub: Any, read: Any) -> None:
    for _ in range(5):  # a busy machine may join two reads; it does not do so five times
        stub.reply(raw=[RAW[:10], RAW[10:]], headers={"Content-Length": "26"}, cuts=[3, 20, 12, 3, 0, 99])
        got = payload(read(stub))
        assert b"".join(got) == RAW
        if got == [RAW[:3], RAW[3:12], RAW[12:20], RAW[20:]]:
            return
    pytest.fail(f"cut otherwise: {got}")


def test_no_cuts_join_all(stub: Any, read: Any) -> None:
    stub.reply(raw=[b"a", b"b", b"c"], cuts=[])
    assert b"3\r\nabc\r\n" in b"".join(read(stub))


@given(
    pieces=st.lists(st.binary(max_size=9), max_size=5),
    cuts=st.lists(st.integers(-2, 50), max_size=5),
    limit=st.none() | st.integers(0, 50),
    count=st.none() | st.integers(0, 6),
)
def test_cuts_are_where_they_are_said(
    pieces: list[bytes], cuts: list[int], limit: int | None, count: int | None
) -> None:
    found = list(_pieces(StubReply(cuts=cuts, cut_after_bytes=limit, cut_after=count), pieces))
    whole = b"".join(pieces[:count])[:limit]
    assert b"".join(found) == whole
    ends = [len(b"".join(found[: index + 1])) for index in range(len(found))]
    assert set(ends) == {*(cut for cut in cuts if 0 < cut <= len(whole)), *([len(whole)] if whole else [])}


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 900), max_size=6), size=st.none() | st.integers(1, 400), stream=st.booleans())
@pytest.mark.parametrize("shared", [StubOpenAI, StubAnthropic], indirect=True)
def test_cuts_change_nothing_else(shared: Any, ask: Any, cuts: list[int], size: int | None, stream: bool) -> None:
    body = {"messages": [{"role": "user", "content": "hällo"}], "stream": stream, "model": "m"}
    shared.reply(text="one two ü", fields={"id": "same"})
    plain = ask(shared, body)[2]
    shared.reply(text="one two ü", fields={"id": "same"}, cuts=cuts, split_bytes=size)
    assert ask(shared, body)[2] == plain


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[Any]:
    with request.param() as server:
        yield server


def test_split_bytes(stub: Any, body: dict[str, Any], ask: Any) -> None:
    stub.reply(text="äöü", split_bytes=1)
    assert "äöü".encode() in ask(stub, body)[2]
    stub.reply(raw=[RAW], split_bytes=10)
    assert ask(stub, body)[2] == RAW


def test_split_bytes_frames_each_piece(stub: Any, read: Any) -> None:
    stub.reply(raw=[RAW[:3], RAW[3:6]], split_bytes=2)
    assert b"2\r\nab\r\n1\r\nc\r\n2\r\nde\r\n1\r\nf\r\n0\r\n" in b"".join(read(stub))


def test_one_byte_at_a_time(stub: Any, read: Any) -> None:
    stub.reply(raw=[RAW[:6], RAW[6:8]], byte_delay_s=0.02)
    begin = time.perf_counter()
    assert b"1\r\nf\r\n1\r\ng\r\n1\r\nh\r\n0\r\n" in b"".join(read(stub))
    assert time.perf_counter() - begin >= 0.14


def test_delays(stub: Any, body: dict[str, Any], ask: Any) -> None:
    stub.reply(raw=[b"a", b"b"], delay_s=0.05, chunk_delay_s=0.05)
    begin = time.perf_counter()
    ask(stub, body)
    assert time.perf_counter() - begin >= 0.1


@pytest.mark.parametrize("count", [0, 1, 30])
def test_cut_after_bytes(stub: Any, read: Any, ask: Any, body: dict[str, Any], count: int) -> None:
    stub.reply(text="some words", cut_after_bytes=count, headers={"Content-Length": "1000"})
    head, _, rest = b"".join(read(stub, body["stream"])).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(rest) == count
    stub.reply(text="some words", cut_after_bytes=count)
    with pytest.raises(aiohttp.ClientPayloadError):
        ask(stub, body)
    assert stub.closed_early == 0  # the server cut, not the client


def test_cut_after_all_bytes_is_a_whole_answer(stub: Any, ask: Any) -> None:
    """A connection that dies unannounced behind a complete answer: what a pool finds stale."""
    stub.reply(text="some", cut_after_bytes=1 << 20)
    status, headers, raw = ask(stub)
    assert (status, headers["Content-Length"]) == (200, str(len(raw)))


def test_cut_after_events(stub: Any, read: Any) -> None:
    stub.reply(text="a b", cut_after=1)
    assert read(stub) == []  # a whole answer is cut before its headers
    stub.reply(text="a b", cut_after=0)
    head, _, rest = b"".join(read(stub, stream=True)).partition(b"\r\n\r\n")
    assert (head[:15], rest) == (b"HTTP/1.1 200 OK", b"")
    stub.reply(raw=[b"a", b"b", b"c"], cut_after=2)
    assert b"".join(read(stub)).endswith(b"1\r\na\r\n1\r\nb\r\n")


def test_end_after_events(stub: Any, ask: Any) -> None:
    stub.reply(raw=[b"a", b"b", b"c"], end_after=2)
    assert ask(stub)[2] == b"ab"
    stub.reply(text="a b c", end_after=2)
    assert ask(stub, {"stream": True})[2].count(b"data: ") == 2


def test_drop(stub: Any, read: Any, ask: Any, body: dict[str, Any]) -> None:
    stub.reply(drop=True)
    assert read(stub, body["stream"]) == []
    stub.reply(drop=True)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        ask(stub, body)
    assert (len(stub.requests), stub.closed_early) == (2, 0)


def test_garbage(stub: Any, read: Any, ask: Any, body: dict[str, Any]) -> None:
    stub.reply(garbage=b"\x00\xffSSH-2.0", cuts=[2])
    assert b"".join(read(stub, body["stream"])) == b"\x00\xffSSH-2.0"
    stub.reply(garbage=b"no answer")
    with pytest.raises(aiohttp.ClientError):
        ask(stub, body)
    stub.reply(garbage=b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
    assert ask(stub, body)[0::2] == (200, b"until the end")


def test_raw_is_taken_as_it_is_sent(stub: Any, ask: Any, body: dict[str, Any]) -> None:
    ahead = []

    def pieces() -> Iterator[bytes]:
        for number in range(1000):
            ahead.append(number)
            yield b"x" * (1 << 20)  # more in all than the sockets hold

    stub.reply(raw=pieces())
    with socket.create_connection(("127.0.0.1", stub.port)) as client:
        client.sendall(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert stub.wait_requests(20)
        client.recv(1)
        assert not stub.wait_closed_early(0.1)
    assert stub.wait_closed_early(20)
    assert 0 < len(ahead) < 1000

    stub.reply(raw=(b"%d " % number for number in range(3)))
    assert ask(stub, body)[2] == b"0 1 2 "


def test_a_large_answer_arrives(stub: Any, ask: Any) -> None:
    stub.reply(raw=(b"x" * 100_000 for _ in range(200)))
    assert len(ask(stub)[2]) == 20_000_000


def test_headers_decide_on_framing(stub: Any, ask: Any, body: dict[str, Any]) -> None:
    stub.reply(text="a", headers={"Transfer-Encoding": "chunked"})
    status, headers, _ = ask(stub, body)
    assert (status, headers.get("Content-Length")) == (200, None)
    assert headers["Transfer-Encoding"] == "chunked"
    stub.reply(raw=RAW, headers={"content-length": "26"})
    assert ask(stub, body)[1]["Content-Length"] == "26"
    stub.reply(raw=RAW, headers={"Content-Length": "100"})
    with pytest.raises(aiohttp.ClientPayloadError):  # it is cut, not waited for
        ask(stub, body)
    stub.reply(text="some", headers={"Content-Length": "5"})
    assert len(ask(stub, body)[2]) == 5


def test_scripted_headers_replace(stub: Any, ask: Any, body: dict[str, Any]) -> None:
    assert ask(stub, body)[1][stub.request_id_header] == "req_stub_1"
    stub.reply(status=500)
    assert ask(stub, body)[1][stub.request_id_header] == "req_stub_2"
    name = stub.request_id_header.upper()
    stub.reply(headers={name: "req_mine", "content-type": "text/html", "X-More": "1"}, text="a")
    headers = ask(stub, body)[1]
    assert {key.lower(): headers[key] for key in headers if key.lower() in ("x-more", "content-type")} == {
        "x-more": "1",
        "content-type": "text/html",
    }
    assert [headers[key] for key in headers if key.lower() == stub.request_id_header] == ["req_mine"]

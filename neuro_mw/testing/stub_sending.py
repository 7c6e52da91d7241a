"""How the bytes of a scripted answer leave: as they come, cut, slowly, or not to the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from .stub_reply import StubReply

if TYPE_CHECKING:
    from aiohttp import web
    from multidict import CIMultiDict

CUT_PAUSE_S = 0.0005  # long enough for a client in another thread to read: each stretch arrives by itself


async def send(
    request: web.Request, reply: StubReply, events: Iterable[bytes], headers: CIMultiDict[str]
) -> web.StreamResponse:
    """Send the events as the reply says, as the body of an answer or in place of one."""
    from aiohttp import web

    # a Response sends its headers together with the first bytes, a StreamResponse at once
    kind = web.Response if "Content-Length" in headers else web.StreamResponse
    response = kind(status=reply.status, headers=headers)
    if headers.get("Connection", "").lower() == "close":
        response.force_close()
    if reply.garbage is None:
        await response.prepare(request)
    sent = await _write(request, reply, _pieces(reply, events))
    promised = response.content_length
    complete = reply.garbage is None and reply.cut_after is None and reply.cut_after_bytes is None
    if complete and (promised is None or sent >= promised):
        await response.write_eof()
    else:
        close_connection(request)
    return response


def close_connection(request: web.Request) -> None:
    """Close what the request came in on; bytes that were written still leave."""
    if request.transport is not None:
        request.transport.close()


async def _write(request: web.Request, reply: StubReply, pieces: Iterable[bytes]) -> int:
    apart = reply.cuts is not None or bool(reply.split_bytes) or reply.byte_delay_s is not None
    if apart and request.transport is not None:
        # `drain` then waits for each write to be with the kernel; with high=0 a TLS transport would wait for ever
        request.transport.set_write_buffer_limits(high=1, low=0)
    sent = 0
    for number, piece in enumerate(pieces):
        if number and reply.chunk_delay_s:
            await asyncio.sleep(reply.chunk_delay_s)
        size = 1 if reply.byte_delay_s is not None else reply.split_bytes or len(piece) or 1
        for start in range(0, len(piece) or 1, size):  # a piece of no bytes still sends the headers
            if sent and apart:  # not behind the last write: a client that has all may leave
                await request.writer.drain()
                await asyncio.sleep(reply.byte_delay_s or (0 if reply.cuts is None else CUT_PAUSE_S))
            part = piece[start : start + size]
            await request.writer.write(part)
            sent += len(part)
    return sent


def _pieces(reply: StubReply, events: Iterable[bytes]) -> Iterator[bytes]:
    limits = [limit for limit in (reply.cut_after, reply.end_after) if limit is not None]
    pieces: Iterator[bytes] = islice(events, min(limits, default=None))
    if reply.cut_after_bytes is not None:
        pieces = _first_bytes(pieces, reply.cut_after_bytes)
    return pieces if reply.cuts is None else _recut(pieces, reply.cuts)


def _first_bytes(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece[:count]
        count -= len(piece)
        if count <= 0:
            return


def _recut(pieces: Iterator[bytes], cuts: Sequence[int]) -> Iterator[bytes]:
    """The same bytes, cut at these offsets only."""
    held, offset = bytearray(), 0  # `offset` is where `held` begins in the body
    ends = sorted({cut for cut in cuts if cut > 0})
    for piece in pieces:
        held += piece
        while ends and ends[0] <= offset + len(held):
            size = ends.pop(0) - offset
            yield bytes(held[:size])
            del held[:size]
            offset += size
    if held:
        yield bytes(held)

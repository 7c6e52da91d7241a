"""What a stub server can be told in either dialect: what to say, how the bytes leave, and how it goes wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

AUTO: Literal["auto"] = "auto"


@dataclass(slots=True, kw_only=True)
class StubReply:
    """What a stub answers to one request: the fields that both dialects have.

    An *event* is one event of a stream, or one piece of ``raw``. Counts are of what leaves before: 0 is at once, None
    never. Offsets are bytes of the body, without headers and chunk framing. Delays are in seconds.

    What it says:

    - ``text`` is the answer; ``chunks`` says how a stream cuts it (else word by word).
    - ``argument_chars``: a stream cuts the arguments of tool calls every so many characters.
    - ``usage`` is sent as given; "auto" counts words, None sends none.
    - ``fields`` are further keys of the answer; ``model`` is the request's where None.
    - ``raw`` is a whole body, or its pieces, in place of all this. Pieces are taken as they are sent, so that a
      generator can make a body that no memory holds; it must not block.
    - ``headers`` are added, or replace what would be sent. ``Transfer-Encoding: chunked`` sends a whole answer in
      chunks, ``Content-Length`` frames a stream. Where it promises more than comes the connection is cut; what is
      above it is not sent.

    How the bytes leave:

    - ``delay_s`` before the answer, ``chunk_delay_s`` between events.
    - ``cuts``: the body leaves in one write for each stretch between these offsets, and not event by event; an empty
      sequence joins all. ``chunk_delay_s`` then is between these stretches.
    - ``split_bytes``: each event, or stretch, leaves in writes of so many bytes.
    - ``byte_delay_s``: a write for each byte, with so much time between.

    How it goes wrong:

    - ``status`` other than 200 answers with ``error``: an object, or the message.
    - ``error_after`` sends ``error`` as an event, after so many, and ends the stream.
    - ``end_after`` ends the stream after so many events, properly as far as HTTP is concerned.
    - ``cut_after`` cuts the connection after so many events; an answer that is no stream, before its headers.
    - ``cut_after_bytes`` cuts it after so many bytes of the body; 0, after the headers.
    - ``drop`` closes the connection without a byte.
    - ``garbage`` is written to the socket in place of an HTTP answer, and the connection closed. It may also be an
      HTTP answer that no server would frame so. ``cuts`` and delays hold for it.
    - ``hang`` never answers; it waits until the client leaves.
    """

    text: str | None = None
    chunks: Sequence[str] | None = None
    argument_chars: int = 8
    usage: Mapping[str, Any] | Literal["auto"] | None = AUTO
    fields: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    raw: bytes | Iterable[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    cuts: Sequence[int] | None = None
    split_bytes: int | None = None
    byte_delay_s: float | None = None
    status: int = 200
    error: Mapping[str, Any] | str | None = None
    error_after: int | None = None
    end_after: int | None = None
    cut_after: int | None = None
    cut_after_bytes: int | None = None
    drop: bool = False
    garbage: bytes | None = None
    hang: bool = False

    @property
    def content(self) -> str | None:
        """The whole text."""
        return "".join(self.chunks) if self.chunks is not None else self.text

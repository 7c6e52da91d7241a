"""Server-sent events, read as the WHATWG HTML standard says (section 9.2.6, "Interpreting an event stream")."""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


class SSEReader:
    r"""Bytes in, cut anywhere; (event name, data) of each complete event out.

    Lines end in LF, CR or CRLF; several ``data`` lines are joined by LF; comments, ``id``, ``retry`` and events without
    data are skipped. It works on bytes, so a character that is cut between two reads is whole again.

    >>> reader = SSEReader()
    >>> reader.feed(b"event: ping\ndata: {}\n\nda")
    [(b'ping', b'{}')]
    >>> reader.feed(b"ta: 1\r\ndata: 2\r\n\r\n")
    [(b'', b'1\n2')]
    """

    __slots__ = ("_cr", "_data", "_event", "_first", "_line")

    def __init__(self) -> None:
        self._line: list[bytes] = []  # pieces of a line whose end is still to come
        self._data: list[bytes] = []
        self._event = b""
        self._cr = False  # the last byte was CR: an LF that follows belongs to it
        self._first = True

    def feed(self, piece: bytes) -> list[tuple[bytes, bytes]]:
        """The events that `piece` completes."""
        if self._cr and piece[:1] == b"\n":
            piece = piece[1:]
            self._cr = False
        if b"\r" in piece:
            self._cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        elif piece:
            self._cr = False
        lines = piece.split(b"\n")
        if len(lines) == 1:
            self._line.append(piece)
            return []
        if self._line:
            lines[0] = b"".join(self._line) + lines[0]
        rest = lines.pop()
        self._line = [rest] if rest else []
        return self._events(lines)

    def end(self) -> list[tuple[bytes, bytes]]:
        """The event that stood there when the stream ended, although its blank line is missing: servers forget it."""
        return self.feed(b"\n\n")

    def _events(self, lines: list[bytes]) -> list[tuple[bytes, bytes]]:
        if self._first:
            self._first = False
            lines[0] = lines[0].removeprefix(_BOM)
        events = []
        data = self._data
        for line in lines:
            if not line:
                if data:
                    events.append((self._event, data[0] if len(data) == 1 else b"\n".join(data)))
                    data.clear()
                self._event = b""
            elif line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif line.startswith(b"event:"):
                self._event = line[6:].removeprefix(b" ")
            elif line == b"data":
                data.append(b"")
            elif line == b"event":
                self._event = b""
        return events

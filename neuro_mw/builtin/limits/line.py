"""Who waits for a limit, in the order of coming: from any number of threads and event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock


class Ticket:
    """A place in a line, and how much its owner wants of each limit."""

    __slots__ = ("_loop", "_told", "amounts")

    def __init__(self, amounts: Sequence[float]) -> None:
        self.amounts = amounts
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Event()

    @property
    def gone(self) -> bool:
        """Whether its event loop was closed under it."""
        return self._loop.is_closed()

    def tell(self) -> None:
        """Wake its owner, from any thread."""
        with suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(self._told.set)

    async def sleep(self, seconds: float) -> None:
        """Until the time is over or something has changed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._told.wait()
        self._told.clear()


class Lines:
    """A line for each key at which someone waits."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._lines: dict[str, list[Ticket]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._lines

    def join(self, key: str, amounts: Sequence[float]) -> Ticket:
        """A place at the end."""
        ticket = Ticket(amounts)
        with self._lock:
            self._lines.setdefault(key, []).append(ticket)
        return ticket

    def leave(self, key: str, ticket: Ticket) -> None:
        """Out of the line, from wherever; the first is told."""
        with self._lock:
            line = [one for one in self._lines.get(key, ()) if one is not ticket and not one.gone]
            if line:
                self._lines[key] = line
            else:
                self._lines.pop(key, None)
        if line:
            line[0].tell()

    def ahead(self, key: str, ticket: Ticket) -> list[Sequence[float]]:
        """What those want who are before this one; nothing where it is the first."""
        with self._lock:
            line = [one for one in self._lines[key] if not one.gone or one is ticket]
            return [one.amounts for one in line[: line.index(ticket)]]

    def tell(self, key: str) -> None:
        """Something was given back: the first may try again."""
        with self._lock:
            first = next((one for one in self._lines.get(key, ()) if not one.gone), None)
        if first is not None:
            first.tell()

"""The connections of one event loop to a Redis server: how many are in use, and how they are closed at its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any


class Connections:
    """The connections of one event loop."""

    def __init__(self, connect: Callable[[], Any], room: int) -> None:
        self._connect = connect
        self._redis = connect()
        self.room = asyncio.Semaphore(room)
        self._answered_at = 0.0
        self.keeper = self._keep()

    def primaries(self) -> list[Any]:
        return [] if self._redis is None else list(self._redis.get_primaries())

    async def enter(self, within_s: float) -> None:
        """Wait for a connection, as long as answers come within this time; else raise TimeoutError."""
        if not self.room.locked():
            await self.room.acquire()
            return
        clock = asyncio.get_running_loop().time
        began, entering = clock(), asyncio.ensure_future(self.room.acquire())  # one place in the line, all the time
        try:
            while not (await asyncio.wait({entering}, timeout=within_s))[0]:
                if clock() - self._answered_at > within_s:
                    raise TimeoutError
            if clock() - began > within_s / 2 and self._answered_at < began:  # free, since another one gave up
                raise TimeoutError
        except BaseException:
            if not entering.cancel():
                self.room.release()
            raise

    async def execute(self, *words: Any, **target: Any) -> Any:
        if self._redis is not None:
            reply = await self._redis.execute_command(*words, **target)
            self._answered_at = asyncio.get_running_loop().time()
            return reply
        redis = self._connect()  # the loop is ending; who settles now gets a connection of his own
        try:
            return await redis.execute_command(*words, **target)
        finally:
            await redis.aclose()

    async def _keep(self) -> AsyncGenerator[None]:
        """Left open for as long as the loop runs: `asyncio.run` closes the generators that are open at its end."""
        try:
            yield
        finally:
            redis, self._redis = self._redis, None
            await redis.aclose()
            await asyncio.sleep(0)  # transports close in the loop's next turn

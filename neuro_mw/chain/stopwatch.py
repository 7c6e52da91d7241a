"""The clock of one passage: self time, which stands still while an inner call is under way, and ``timeout_s`` on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import perf_counter as clock
from typing import TYPE_CHECKING, Any

from ..errors import MiddlewareTimeout

if TYPE_CHECKING:
    from ..layer import Layer


# Bits of `special`: inner calls tell their beginning too; its record is not a plain one; it is over.
TOLD, MARKED, ENDED = 1, 2, 4


class Stopwatch:
    """Counts the time in which no inner call is under way, also when inner calls overlap.

    Self time is what has passed since ``started`` less ``inner_s``. A plain passage books an inner call when that is
    over (`left`, `end_pull`); where ``timeout_s`` has to be kept, or there is more than one inner call, it is told of
    their beginnings too (`pause`, `resume`).

    What every passage touches lies in slots (half the price of an instance dict); the rest are class attributes that
    shine through until a passage sets its own. ``special`` tells the fast path of generate mode that it must look.
    """

    __slots__ = ("__dict__", "calls", "inner_at", "inner_s", "link", "special", "started")

    link: Any  # what lies inside, and whose passage it is
    started: float
    inner_s: float  # the time in which an inner call was under way
    inner_at: float  # when the only inner call began, 0 before that and when it is over
    calls: int  # inward calls made
    special: int
    depth = 0  # inward calls under way, where it is told of their beginning
    paused_at = 0.0
    timer: asyncio.Timeout | None = None
    hook_started_s = 0.0  # self time when the hook under way began
    laps: list[tuple[str, float]] | None = None
    lapped_s = 0.0

    @property
    def layer(self) -> Layer:
        """The layer that is passed."""
        return self.link.layer  # type: ignore[no-any-return]  # a Link, which lives one floor up

    def pause(self, now: float) -> None:
        """An inward call begins."""
        if not self.depth:
            self.paused_at = now
            if self.timer is not None and not self.timer.expired():
                self.timer.reschedule(None)
        self.depth += 1

    def resume(self, now: float) -> None:
        """An inward call is over."""
        self.depth -= 1
        if not self.depth:
            self.inner_s += now - self.paused_at
            if self.timer is not None and not self.timer.expired():
                self._set_timer()

    def left(self, started: float, now: float) -> None:
        """An inward call is over."""
        if self.special & TOLD:
            self.resume(now)
        else:
            self.inner_s += now - started
            self.inner_at = 0.0

    def be_told(self) -> None:
        """A further inner call is to come: from here on each tells its beginning; the first may still be under way."""
        if not self.special & TOLD:
            self.special |= TOLD
            if self.inner_at:
                self.depth, self.paused_at = 1, self.inner_at

    def begin_pull(self, now: float) -> bool:
        """A part of an inner stream is asked for. True where only its end has to be told (`end_pull`)."""
        if self.special & TOLD:
            self.pause(now)
            return False
        self.inner_at = now
        return True

    def end_pull(self, began: float, now: float, plain: bool) -> None:
        """The part has come."""
        if plain and not self.special & TOLD:
            self.inner_s += now - began
            self.inner_at = 0.0
        else:
            self.resume(now)

    def own_s(self) -> float:
        """Self time until now."""
        return self.stands_at(clock()) - self.started - self.inner_s

    def stands_at(self, now: float) -> float:
        """Now, or since when it has been standing still."""
        if self.special & TOLD:
            return self.paused_at if self.depth else now
        return self.inner_at or now

    def lap(self, hook: str) -> None:
        """Book the self time since the last lap to a hook."""
        own = self.own_s()
        if self.laps is None:
            self.laps = []
        self.laps.append((hook, own - self.lapped_s))
        self.lapped_s = own

    def _set_timer(self) -> None:
        assert self.timer is not None
        assert self.link.timeout_s is not None
        left = self.link.timeout_s - (self.own_s() - self.hook_started_s)
        self.timer.reschedule(asyncio.get_running_loop().time() + left)

    async def within(self, awaitable: Awaitable[Any], hook: str) -> Any:
        """Await under the layer's ``timeout_s`` of self time, if it has one."""
        if self.link.timeout_s is None:
            return await awaitable
        try:
            self.special |= TOLD
            async with asyncio.timeout(None) as self.timer:
                self._set_timer()
                result = await awaitable
        except TimeoutError as error:
            if self.timer is not None and self.timer.expired():
                raise self.too_slow(hook) from error
            raise
        finally:
            timer, self.timer = self.timer, None
        if timer is not None and timer.expired():  # the hook swallowed its cancellation
            raise self.too_slow(hook)
        return result

    def begin(self) -> None:
        """A hook begins: its ``timeout_s`` counts from here."""
        if self.link.timeout_s is not None:
            self.hook_started_s = self.own_s()

    def judge(self, hook: str) -> None:
        """A hook has returned: raise where its own time, which nothing could interrupt, was too long."""
        limit = self.link.timeout_s
        if limit is not None and self.own_s() - self.hook_started_s > limit:
            raise self.too_slow(hook)

    def too_slow(self, hook: str) -> MiddlewareTimeout:
        return MiddlewareTimeout(
            f"middleware '{self.layer.id}' took longer than timeout_s={self.link.timeout_s} in {hook}",
            middleware=self.layer.id, hook=hook,
        )  # fmt: skip

"""The clock of one passage: self time, which stands still while an inner call is under way, and ``timeout_s`` on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import perf_counter_ns as clock
from typing import TYPE_CHECKING, Any

from ..errors import MiddlewareTimeout

if TYPE_CHECKING:
    from ..layer import Layer


class Stopwatch:
    """Counts the time in which no inner call is under way, also when inner calls overlap.

    What every passage touches lies in slots (half the price of an instance dict); the rest are class attributes that
    shine through until a passage sets its own. ``special`` is set with the first of those, so that the fast path of
    generate mode has one flag to look at.
    """

    __slots__ = ("depth", "layer", "mark", "self_ns", "special")

    layer: Layer
    mark: int  # when it last began to run
    depth: int  # inward calls under way
    self_ns: int
    special: bool
    timer: asyncio.Timeout | None = None
    hook_started_ns = 0  # self time when the hook under way began
    laps: list[tuple[str, int]] | None = None
    lapped_ns = 0

    def pause(self, now: int) -> None:
        """An inward call begins."""
        if not self.depth:
            self.self_ns += now - self.mark
            if self.timer is not None:
                self.timer.reschedule(None)
        self.depth += 1

    def resume(self, now: int) -> None:
        """An inward call is over."""
        self.depth -= 1
        if not self.depth:
            self.mark = now
            if self.timer is not None:
                self._set_timer()

    def own_ns(self) -> int:
        """Self time until now."""
        return self.self_ns if self.depth else self.self_ns + clock() - self.mark

    def lap(self, hook: str) -> None:
        """Book the self time since the last lap to a hook."""
        own = self.own_ns()
        if self.laps is None:
            self.laps = []
        self.laps.append((hook, own - self.lapped_ns))
        self.lapped_ns = own

    def _set_timer(self) -> None:
        assert self.timer is not None
        left = self.layer.timeout_s - (self.own_ns() - self.hook_started_ns) / 1e9  # type: ignore[operator]
        self.timer.reschedule(asyncio.get_running_loop().time() + left)

    async def within(self, awaitable: Awaitable[Any], hook: str) -> Any:
        """Await under the layer's ``timeout_s`` of self time, if it has one."""
        if self.layer.timeout_s is None:
            return await awaitable
        try:
            self.special = True
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
        if self.layer.timeout_s is not None:
            self.hook_started_ns = self.own_ns()

    def judge(self, hook: str) -> None:
        """A hook has returned: raise where its own time, which nothing could interrupt, was too long."""
        limit = self.layer.timeout_s
        if limit is not None and self.own_ns() - self.hook_started_ns > limit * 1e9:
            raise self.too_slow(hook)

    def too_slow(self, hook: str) -> MiddlewareTimeout:
        return MiddlewareTimeout(
            f"middleware '{self.layer.id}' took longer than timeout_s={self.layer.timeout_s} in {hook}",
            middleware=self.layer.id, hook=hook,
        )  # fmt: skip

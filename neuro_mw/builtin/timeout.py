"""timeout: how long one attempt may take: all of it, until its first part, and between two parts."""

from __future__ import annotations

import asyncio
import threading
from asyncio import current_task
from collections.abc import AsyncIterator
from math import inf
from time import perf_counter as clock
from typing import Any

from pydantic import BaseModel, Field, model_validator

from neuro_mw import (
    ConfigError,
    Finish,
    Middleware,
    MiddlewareContext,
    Params,
    Part,
    ProviderTimeout,
    Response,
)

from ._attempts import says_nothing
from ._catalog import CATALOG

_LIMITS = ("total_s", "first_part_s", "idle_s")
_WHAT = {"total_s": "the answer", "first_part_s": "the first part", "idle_s": "the next part"}


class Timeout(Middleware):
    """Ends an attempt that takes too long with ProviderTimeout, which retry and fallback may mend.

    Only the time counts in which this layer waits for what is inside, never the time that the consumer of a stream
    takes between two parts. The caller's own cancellation stays one, and a TimeoutError of the model's is not touched.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory, ProviderTimeout
    >>> from neuro_mw.testing import ScriptedModel
    >>> factory = MiddlewareFactory(preset=None, middleware=[Timeout(total_s=0.01)])
    >>> try:
    ...     asyncio.run(factory.apply_middleware(ScriptedModel(delay_s=5)).generate("hi"))
    ... except ProviderTimeout as error:
    ...     print(error)
    openai/gpt-4o: the answer took longer than total_s=0.01
    """

    metadata = CATALOG["timeout"]

    class Config(BaseModel):
        """Options of timeout, in seconds; None is no limit, and one has to be set."""

        total_s: float | None = Field(default=None, gt=0, allow_inf_nan=False, strict=True)
        """For the whole answer; in streams from the call to Finish."""
        first_part_s: float | None = Field(default=None, gt=0, allow_inf_nan=False, strict=True)
        """In streams, from the call to the first content of the answer."""
        idle_s: float | None = Field(default=None, gt=0, allow_inf_nan=False, strict=True)
        """In streams, from one part to the next."""

        @model_validator(mode="after")
        def _consistent(self) -> Any:
            if self.total_s is None and self.first_part_s is None and self.idle_s is None:
                raise ConfigError("it sets no limit", key="total_s", expected=f"one of {', '.join(_LIMITS)}")
            for name in _LIMITS[1:]:
                value = getattr(self, name)
                if self.total_s is not None and value is not None and value > self.total_s:
                    said = f"it is {value:g}, and total_s is {self.total_s:g}"
                    raise ConfigError(said, key=name, expected="at most total_s")
            return self

    config: Config

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        self._total_s, self._first_s, self._idle_s = (getattr(self.config, name) or inf for name in _LIMITS)
        self._here = _Here()

    async def wrap_generate(self, do_generate: Any, params: Params, context: MiddlewareContext) -> Response:
        """Wait for the answer, ``total_s`` at most."""
        if self._total_s == inf:
            response: Response = await do_generate(params)
            return response
        watch = self._watch()
        try:
            watch.begin(self._total_s)
            response = await do_generate(params)
            if watch.rang and watch.ended_it():
                raise self._too_late("total_s", context)
        except BaseException as error:
            if watch.rang and watch.ended_it(error):
                raise self._too_late("total_s", context) from error
            raise
        finally:
            watch.stop()
        return response

    async def wrap_stream(self, do_stream: Any, params: Params, context: MiddlewareContext) -> AsyncIterator[Part]:
        """Wait for each part until the limit that comes first: until `spent_s`, the time waited so far, is `end_s`."""
        parts, idle_s, watch = do_stream(params), self._idle_s, self._watch()
        bell, loop = watch.bell, watch.bell.loop
        opening, spent_s, end_s = True, 0.0, min(self._total_s, self._first_s)
        look_from_s = 0.0  # as long as the end is before that, it is idle_s that sets it
        try:
            began = watch.begin(end_s)
            async for part in parts:
                if watch.rang and watch.ended_it():
                    break
                watch.task = None
                spent_s += clock() - began
                if type(part) is Finish:
                    yield part
                    return
                yield part
                end_s = spent_s + idle_s
                if end_s > look_from_s:
                    if opening:
                        opening = says_nothing(part)
                        look_from_s = 0.0 if opening else self._total_s
                        end_s = self._first_s if opening and self._first_s < inf else end_s
                    end_s = min(end_s, self._total_s)
                    if spent_s >= end_s:
                        break
                # `watch.begin`, without its frame: this runs for every part
                watch.task = task = current_task(loop)
                watch.cancelling = task.cancelling()  # type: ignore[union-attr]  # as there
                began = clock()
                watch.deadline = deadline = began + end_s - spent_s
                if deadline < bell.rings_at:
                    bell.set(deadline, began)
            else:
                return
            raise self._too_late(self._limit_at(end_s, opening), context)
        except BaseException as error:
            if watch.rang and watch.ended_it(error):
                raise self._too_late(self._limit_at(end_s, opening), context) from error
            raise
        finally:
            watch.stop()
            await parts.aclose()

    def _limit_at(self, end_s: float, opening: bool) -> str:
        """The name of the limit that set this end."""
        if end_s == self._total_s:
            return "total_s"
        return "first_part_s" if opening and end_s == self._first_s else "idle_s"

    def _too_late(self, limit: str, context: MiddlewareContext) -> ProviderTimeout:
        self.count(limit)
        provider, model = context.provider, context.model
        said = f"{provider}/{model}: {_WHAT[limit]} took longer than {limit}={getattr(self.config, limit):g}"
        return ProviderTimeout(said, provider=provider, model=model, retryable=True)

    def _watch(self) -> _Watch:
        """A watch for one call, on the bell of the loop that is running."""
        loop, bell = asyncio.get_running_loop(), self._here.bell
        if bell is None or bell.loop is not loop:
            bell = self._here.bell = _Bell(loop)
        return _Watch(bell)


class _Watch:
    """The wait of one call: who waits, and until when."""

    __slots__ = ("bell", "cancelling", "deadline", "rang", "task")

    def __init__(self, bell: _Bell) -> None:
        self.bell = bell
        self.task: asyncio.Task[Any] | None = None  # who waits; no one while the consumer of a stream is at work
        self.deadline = inf  # by `clock`
        self.cancelling = 0  # cancellations of the task that were asked for before it waited
        self.rang = False  # the deadline came, and the task was cancelled for it
        bell.watches[self] = None

    def begin(self, left_s: float) -> float:
        """The task at work is about to wait, for so long at most; since when."""
        self.task = task = current_task(self.bell.loop)
        self.cancelling = task.cancelling()  # type: ignore[union-attr]  # the loop runs, so it runs a task
        began = clock()
        self.deadline = deadline = began + left_s
        if deadline < self.bell.rings_at:
            self.bell.set(deadline, began)
        return began

    def ended_it(self, error: BaseException | None = None) -> bool:
        """Whether a wait that ended so, after the bell rang, was ended by the bell and by no one else."""
        if self.task is None:
            return False
        self.rang, alone = False, self.task.uncancel() <= self.cancelling
        return alone and isinstance(error, asyncio.CancelledError | None)

    def stop(self) -> None:
        """Nothing is waited for any more."""
        self.task = None
        self.bell.watches.pop(self, None)


class _Bell:
    """The timer of all watches on one loop; it interrupts who waits past a deadline.

    Setting a timer and taking it back costs more than a whole layer. So there is one, for the deadline that came first
    when it was set; when it rings, it is set to the deadline that then comes first, if anyone waits at all.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.rings_at = loop, inf
        self.watches: dict[_Watch, None] = {}
        self.timer: asyncio.TimerHandle | None = None

    def set(self, deadline: float, now: float) -> None:
        """Ring at this deadline, which is earlier than the one at which it would ring."""
        if self.timer is not None:
            self.timer.cancel()
        self.rings_at = deadline
        self.timer = self.loop.call_later(deadline - now, self._ring)

    def _ring(self) -> None:
        self.timer, self.rings_at, now = None, inf, clock()
        earliest = inf
        for watch in list(self.watches):
            if watch.task is None or watch.rang:
                continue
            if watch.deadline <= now:
                watch.rang = True
                watch.task.cancel()
            else:
                earliest = min(earliest, watch.deadline)
        if earliest < inf:
            self.set(earliest, now)


class _Here(threading.local):
    """The bell of this thread's loop, of the last one it ran."""

    bell: _Bell | None = None

"""Work off the path of a call: a bounded queue on the caller's own event loop, for alerts and for evaluations.

Whoever submits never waits. What finds no room is dropped, what fails or takes too long is over; each is counted by the
middleware that owns the queue, and told at most once a minute, without the text of any error.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from asyncio import AbstractEventLoop, Task
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context, copy_context
from time import monotonic as clock
from traceback import extract_tb
from typing import Any

from neuro_mw import Middleware

_log = logging.getLogger("neuro_mw")
_SAY_AGAIN_S = 60.0
_LAST_WISH_S = 1.0  # how long `aclose` waits for what it cancelled

_Job = tuple[Context, Callable[..., Awaitable[Any]], tuple[Any, ...]]


class NoThreadError(Exception):
    """All threads of a queue hang, or there is none to be had; work that ends with it counts as dropped."""


class _Lane:
    """The work of one event loop; `tasks` is touched on that loop only, the rest under the lock."""

    __slots__ = ("busy", "tasks", "waiting")

    def __init__(self) -> None:
        self.tasks: set[Task[None]] = set()
        self.waiting: deque[_Job] = deque()
        self.busy = 0  # tasks begun and not yet over

    def cancel(self) -> None:
        for task in [*self.tasks]:
            task.cancel()


class Background:
    """A queue of work for one middleware, `owner`, which counts under the name of the work.

    Work runs on the event loop from which it was submitted, in the context variables of whoever submitted it, at most
    ``at_once`` of it on one loop and each for ``timeout_s`` seconds at most (None: no limit). At most ``max_pending``
    wait, of all loops together. With ``what="alerts"`` it counts ``alerts_dropped`` (no room, or no thread),
    ``alerts_failed``, ``alerts_timed_out``, and ``alerts_cancelled`` (by `aclose`, or with their loop).

    >>> from neuro_mw import middleware
    >>> async def main() -> None:
    ...     background = Background(middleware("judge"), "evaluations")
    ...     print(background.submit(asyncio.sleep, 0), len(background))
    ...     await background.aclose()
    ...     print(len(background))
    >>> asyncio.run(main())
    True 1
    0
    """

    def __init__(
        self,
        owner: Middleware,
        what: str,
        *,
        max_pending: int = 100,
        at_once: int = 4,
        timeout_s: float | None = None,
        max_threads: int = 4,
    ) -> None:
        self._owner, self._what = owner, what
        self._max_pending, self._at_once, self._timeout_s = max_pending, at_once, timeout_s
        self._lock = threading.Lock()
        self._lanes: dict[AbstractEventLoop, _Lane] = {}  # only those at work: nothing else holds on to a loop
        self._waiting = 0
        self._idle: list[Future[None]] = []
        self._threads = threading.Semaphore(max_threads)
        self._said: dict[str, float] = {}

    def __len__(self) -> int:
        """How much is under way or waits."""
        with self._lock:
            return self._waiting + sum(lane.busy for lane in self._lanes.values())

    def submit(self, work: Callable[..., Awaitable[Any]], *arguments: Any) -> bool:
        """Run ``work(*arguments)`` in its turn, never within this call; False where there was no room.

        Raises RuntimeError where no event loop is running.
        """
        loop, job, room = asyncio.get_running_loop(), (copy_context(), work, arguments), True
        with self._lock:
            lane = self._lanes.get(loop)
            if lane is None:
                self._forget_closed()
                lane = self._lanes[loop] = _Lane()
            starts = lane.busy < self._at_once
            if starts:
                lane.busy += 1
            elif self._waiting < self._max_pending:
                lane.waiting.append(job)
                self._waiting += 1
            else:
                room = False
        if starts:
            self._start(loop, lane, job)
        elif not room:
            self._tell("dropped", "the queue is full")
        return room

    async def in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What a plain function returns, run on a thread of its own; awaited, where it is awaitable.

        A function that hangs holds up nothing, neither the end of the loop nor that of the process. It keeps its
        thread: where all are taken, this raises `NoThreadError`, and nothing is called.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def hand_over(result: Any, error: BaseException | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

        def run() -> None:
            result, error = None, None
            try:
                result = call(*arguments)
            except Exception as failure:  # noqa: BLE001  # it is raised on the loop
                error = failure
                if isinstance(failure, StopIteration):  # no future takes it
                    error = RuntimeError("StopIteration")
            except BaseException as failure:  # noqa: BLE001  # SystemExit is for its thread, not for the loop
                error = RuntimeError(type(failure).__name__)
            finally:
                self._threads.release()
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(hand_over, result, error)

        if not self._threads.acquire(blocking=False):
            raise NoThreadError
        thread = threading.Thread(target=copy_context().run, args=(run,), name=f"neuro_mw-{self._what}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the process can have no more
            self._threads.release()
            raise NoThreadError from None
        result = await done
        return await result if hasattr(result, "__await__") else result

    async def aclose(self, limit_s: float = 5.0) -> None:
        """Wait for all work, on whatever loop it is, `limit_s` seconds at most, and cancel what is left then.

        The queue can be used again.
        """
        if await self._quiet(limit_s):
            return
        with self._lock:
            lanes, lost = [*self._lanes.items()], self._waiting
            for _, lane in lanes:
                lane.waiting.clear()
            self._waiting = 0
        self._tell("cancelled", "no time was left at the end", lost)
        for loop, lane in lanes:
            with suppress(RuntimeError):  # it was closed in the meantime
                loop.call_soon_threadsafe(lane.cancel)
        await self._quiet(_LAST_WISH_S)

    # --- the life of one piece of work ---------------------------------------------------------------------------

    def _start(self, loop: AbstractEventLoop, lane: _Lane, job: _Job) -> None:
        context, work, arguments = job
        task = loop.create_task(self._run(loop, lane, work, arguments), context=context)
        lane.tasks.add(task)
        task.add_done_callback(lambda task: self._never_begun(loop, lane, task))

    async def _run(
        self, loop: AbstractEventLoop, lane: _Lane, work: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...]
    ) -> None:
        task: Task[Any] = asyncio.current_task()  # type: ignore[assignment]  # this is one
        lost = 0
        try:
            await asyncio.sleep(0)  # a loop with an eager task factory would begin within `submit`
            await self._work(task, work, arguments)
        except asyncio.CancelledError:
            lost = 1
            raise
        finally:  # not in a callback: a loop that is being closed cancels what follows only where it is there by then
            self._over(loop, lane, task, lost)

    async def _work(self, task: Task[Any], work: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...]) -> None:
        timer = asyncio.timeout(self._timeout_s)
        try:
            async with timer:
                await work(*arguments)
        except asyncio.CancelledError as error:
            if task.cancelling():
                raise
            self._failed(error)  # of something that it awaited
        except TimeoutError as error:
            if timer.expired():
                self._tell("timed_out", f"took longer than {self._timeout_s:g} s")
            else:
                self._failed(error)
        except NoThreadError:
            self._tell("dropped", "there is no thread for it")
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  # nobody waits for it
            self._failed(error)  # the last two would end the loop

    def _never_begun(self, loop: AbstractEventLoop, lane: _Lane, task: Task[Any]) -> None:
        if task in lane.tasks:
            self._over(loop, lane, task, 1)

    def _over(self, loop: AbstractEventLoop, lane: _Lane, task: Task[Any], lost: int) -> None:
        lane.tasks.discard(task)
        following: _Job | None = None
        with self._lock:
            if task.cancelling():  # the loop is being closed, or this queue is: nothing new begins
                lost += len(lane.waiting)
                self._waiting -= len(lane.waiting)
                lane.waiting.clear()
            if lane.waiting:
                following = lane.waiting.popleft()
                self._waiting -= 1
            else:
                lane.busy -= 1
                self._forget(loop, lane)
        self._tell("cancelled", "no time was left at the end", lost)
        if following is not None:
            self._start(loop, lane, following)

    def _forget(self, loop: AbstractEventLoop, lane: _Lane) -> None:
        """Under the lock: let go a loop that has nothing to do, and tell those who wait for the last one."""
        if not lane.busy and self._lanes.get(loop) is lane:
            del self._lanes[loop]
        if not self._lanes:
            idle, self._idle = self._idle, []
            for one in idle:
                if one.set_running_or_notify_cancel():
                    one.set_result(None)

    def _forget_closed(self) -> None:
        """Under the lock: let go loops that were closed over their work."""
        for loop, lane in [*self._lanes.items()]:
            if loop.is_closed():
                self._waiting -= len(lane.waiting)
                self._owner.count(f"{self._what}_cancelled", lane.busy + len(lane.waiting))
                lane.busy = 0
                lane.waiting.clear()
                self._forget(loop, lane)

    async def _quiet(self, limit_s: float) -> bool:
        """Wait until nothing is left; False where that takes longer."""
        idle: Future[None] = Future()
        with self._lock:
            self._forget_closed()
            if not self._lanes:
                return True
            self._idle.append(idle)
        try:
            await asyncio.wait_for(asyncio.wrap_future(idle), limit_s)
        except TimeoutError:
            return False
        finally:
            with self._lock, suppress(ValueError):
                self._idle.remove(idle)
        return True

    # --- telling -------------------------------------------------------------------------------------------------

    def _failed(self, error: BaseException) -> None:
        frames = extract_tb(error.__traceback__)
        where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        self._tell("failed", f"{type(error).__name__}{where}")

    def _tell(self, how: str, why: str, number: int = 1) -> None:
        if not number:
            return
        self._owner.count(f"{self._what}_{how}", number)
        now = clock()
        if now >= self._said.get(how, now):
            self._said[how] = now + _SAY_AGAIN_S
            id = self._owner.metadata.id
            with suppress(Exception):  # a handler that raises: who submits, or the next in the queue, must not know
                _log.warning("middleware '%s': %s %s (%s)", id, self._what, how.replace("_", " "), why)

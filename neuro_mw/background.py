"""One event loop on a thread of its own, for the sync calls."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _forget() -> None:
    global _loop  # a forked child has no such thread
    _loop = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _stop() -> None:
    """At the end of the process: let the generators that are open close, so that connections are closed properly."""
    if _loop is None or _loop.is_closed():
        return
    with contextlib.suppress(Exception):  # nothing that fails now is of interest to anybody
        asyncio.run_coroutine_threadsafe(_loop.shutdown_asyncgens(), _loop).result(timeout=1)


atexit.register(_stop)


def loop() -> asyncio.AbstractEventLoop:
    """The background loop, started at the first need."""
    global _loop  # one for the process
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_serve, args=(_loop,), name="neuro_mw-sync", daemon=True).start()
        return _loop


def _serve(background: asyncio.AbstractEventLoop) -> None:
    """Run the loop for all, also where a task of somebody's raises SystemExit, which ends `run_forever`."""
    while not background.is_closed():
        with contextlib.suppress(BaseException):  # it is that task's own; others wait for theirs
            background.run_forever()
            return


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop, in the caller's context variables, and wait for it."""
    background = loop()
    if threading.current_thread().name == "neuro_mw-sync" and asyncio._get_running_loop() is background:
        work.close()
        raise RuntimeError("a sync call inside of a middleware would wait for itself: use the async one")
    result: Future[T] = Future()
    tasks: list[asyncio.Task[None]] = []

    def begin() -> None:
        task = background.create_task(done(), context=copy_context_of_caller)
        tasks.append(task)
        task.add_done_callback(end)

    async def done() -> None:
        try:
            result.set_result(await work)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # SystemExit is for who called, not for the loop
            result.set_exception(error)

    def end(task: asyncio.Task[None]) -> None:
        work.close()  # where it never began
        if task.cancelled():
            result.cancel()

    copy_context_of_caller = copy_context()
    background.call_soon_threadsafe(begin)
    try:
        return result.result()
    except BaseException:
        background.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
        raise

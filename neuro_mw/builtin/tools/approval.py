"""Whoever approves calls: found by name, asked for one call, and not waited for beyond the limit."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from neuro_mw import ConfigError, MiddlewareContext, ToolCall

from .._dotted import named

Approve = Callable[[ToolCall, MiddlewareContext], Awaitable[Any]]
_KEY, _EXPECTED = "approve", "an async function of a ToolCall and a context, or 'package.module:name'"
_left: set[asyncio.Task[Any]] = set()  # a loop itself keeps no task alive

LATE = object()
"""What is said where nobody said anything in time."""


def approver(value: Any) -> Any:
    """What the option ``approve`` stands for. Raises ConfigError where that cannot be asked."""
    if value is None:
        return value
    if isinstance(value, str):
        value = named(value, key=_KEY, expected=_EXPECTED)
    is_async = inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(getattr(value, "__call__", None))  # noqa: B004
    if inspect.isclass(value) or not is_async:
        raise ConfigError("it is no async function", key=_KEY, expected=_EXPECTED)
    try:
        inspect.signature(value).bind(None, None)
    except (TypeError, ValueError):
        raise ConfigError("it does not take two arguments", key=_KEY, expected=_EXPECTED) from None
    return value


async def answer_of(approve: Approve, call: ToolCall, context: MiddlewareContext, limit_s: float) -> Any:
    """What it says of a call; `LATE` where it took longer than so many seconds, whatever it says then.

    Raises what it raises, also CancelledError that it made up itself. One that goes on when it is cancelled is left
    behind, and not heard.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + limit_s
    task = loop.create_task(_heard(approve, call, context))
    try:
        await asyncio.wait((task,), timeout=limit_s)
    except asyncio.CancelledError:
        await _leave(task)
        raise
    if not task.done():
        await _leave(task)
        return LATE
    said, error, at = task.result()
    if at > until and (error is None or isinstance(error, Exception)):
        return LATE
    if error is not None:
        raise error
    return said


async def _heard(
    approve: Approve, call: ToolCall, context: MiddlewareContext
) -> tuple[Any, BaseException | None, float]:
    """What it says or raises, and when: so nothing is left that nobody looks at, and SystemExit ends no loop."""
    try:
        said = await approve(call, context)
    except BaseException as error:  # noqa: BLE001  # who waits for it raises it
        return None, error, asyncio.get_running_loop().time()
    return said, None, asyncio.get_running_loop().time()


async def _leave(task: asyncio.Task[Any]) -> None:
    _left.add(task)
    task.add_done_callback(_left.discard)
    task.cancel()
    await asyncio.sleep(0)  # it is told before the call goes on

"""Alerts: an operator is told of failures, off the path of the call and at a bounded rate."""

from __future__ import annotations

import inspect
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Annotated, Any

from pydantic import BeforeValidator, ImportString, TypeAdapter

from neuro_mw import ConfigError, Middleware

from ._background import Background, NoThreadError

clock = time.monotonic
_MOST_KEYS = 1024


@dataclass(frozen=True, slots=True)
class Alert:
    """What an alert hook is told of a failure: never a text.

    ``error`` is the name of its class, ``time`` is in seconds since 1970, ``suppressed`` the number of failures of this
    kind, provider and model since the last alert that was not dropped.
    """

    kind: str
    error: str
    provider: str
    model: str
    request_id: str
    mode: str
    time: float
    suppressed: int = 0


def _load(value: Any) -> Any:
    if value is None or callable(value):
        return value
    expected = "a function of an Alert, or 'package.module:name'"
    try:
        found = TypeAdapter(ImportString[Any]).validate_python(value)
    except Exception as error:  # a module may raise anything
        said = f"{value!r} cannot be loaded ({type(error).__name__})"
        raise ConfigError(said, key="alert", expected=expected) from error
    if not callable(found):
        raise ConfigError(f"{value!r} is not callable", key="alert", expected=expected)
    return found


Hook = Annotated[Callable[..., Any], BeforeValidator(_load)]
"""A function of an `Alert`, async or plain, or where it is: "package.module:name"."""


class Alerts:
    """Calls a hook for the failures of one middleware, at most once in ``interval_s`` for a kind, provider and model.

    An async hook runs on the loop of the call, a plain one on a thread; each for ``timeout_s`` seconds at most, 4 at a
    time, and 100 wait. The last 1,024 kinds, providers and models are known; those that come on top of as many within
    one interval share one place for each kind.
    """

    def __init__(self, owner: Middleware, hook: Callable[..., Any], interval_s: float, timeout_s: float) -> None:
        self._owner, self._hook, self._interval_s, self._timeout_s = owner, hook, interval_s, timeout_s
        self._is_async = inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(type(hook).__call__)
        self._background = Background(owner, "alerts", timeout_s=timeout_s)
        self._told: OrderedDict[tuple[str, str, str], tuple[float, int]] = OrderedDict()  # last time, suppressed since
        self._lock = threading.Lock()

    def tell(self, alert: Alert) -> None:
        """Tell it, unless another one of its kind was told within the interval; never within this call."""
        now = clock()
        with self._lock:
            key = self._key(alert, now)
            last, suppressed = self._told.get(key, (-inf, 0))
            due = now - last >= self._interval_s
            self._told[key] = (now, 0) if due else (last, suppressed + 1)
            if due:
                self._told.move_to_end(key)
        if not due:
            self._owner.count("alerts_suppressed")
            return
        self._owner.count("alerts")
        alert = replace(alert, suppressed=suppressed)
        if not self._background.submit(self._send, key, alert):
            self._dropped(key, alert)

    async def aclose(self) -> None:
        """Wait for those under way, ``timeout_s`` at most."""
        await self._background.aclose(self._timeout_s)

    def _key(self, alert: Alert, now: float) -> tuple[str, str, str]:
        """Under the lock: under which key an alert counts."""
        key, told = (alert.kind, alert.provider, alert.model), self._told
        if key not in told and len(told) >= _MOST_KEYS:
            while told and now - next(iter(told.values()))[0] >= self._interval_s:
                told.popitem(last=False)
            if len(told) >= _MOST_KEYS:
                return alert.kind, "other", "other"
        return key

    def _dropped(self, key: tuple[str, str, str], alert: Alert) -> None:
        """Nobody was told of it, nor of those that it told of."""
        with self._lock:
            last, more = self._told.get(key, (clock(), 0))
            self._told[key] = (last, more + alert.suppressed + 1)

    async def _send(self, key: tuple[str, str, str], alert: Alert) -> None:
        if self._is_async:
            await self._hook(alert)
            return
        try:
            await self._background.in_thread(self._hook, alert)
        except NoThreadError:
            self._dropped(key, alert)
            raise

"""The state of one process, in its memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import RLock
from typing import Any

from .protocol import MAX_VALUE_BYTES, StoreUnavailable, check_size, lifetime
from .scripts import Script, stops
from .steps import STEPS, Corrupt, State

_SWEEP_EACH_S = 1.0  # where it is full: looking at all of them takes some milliseconds
_SWEEP_FROM = 1024  # limits and budgets, before those that have ended are looked for


class MemoryStore:
    """Values, limits and budgets of this process; a `Store` that is never away. Nothing suspends.

    Of the values the ones used least recently go: `max_entries` and `max_bytes` (keys included) bound them. Limits and
    budgets do not go before they have ended, since that would grant what is used up; more than `max_meters` of them
    are refused with StoreUnavailable.

    >>> import asyncio
    >>> from neuro_mw.state.scripts import Take
    >>> store = MemoryStore()
    >>> asyncio.run(store.run(Take("requests", 1, limit=1, period_s=60.0)))
    [Rate(granted=True, retry_after_s=0.0, used=1.0, limit=1)]
    """

    url = "memory://"
    remote = False

    def __init__(
        self,
        *,
        max_entries: int = 10_000,
        max_bytes: int = 64 << 20,
        max_value_bytes: int = MAX_VALUE_BYTES,
        max_meters: int = 100_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.max_entries, self.max_bytes, self.max_value_bytes = max_entries, max_bytes, max_value_bytes
        self.max_meters, self._clock = max_meters, clock
        self._lock = RLock()
        self._values: OrderedDict[str, tuple[bytes, float, float]] = OrderedDict()  # value, when it was set, ttl
        self._bytes = 0
        self._states: dict[str, State] = {}
        self._sweep_at = min(_SWEEP_FROM, max_meters)
        self._swept_at = 0.0

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._values)} values, {self._bytes} bytes, {len(self._states)} meters)"

    async def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        return self.value(key)

    def value(self, key: str) -> bytes | None:
        """The same without a coroutine."""
        with self._lock:
            return self._value(key, self._clock())

    async def set(self, key: str, value: bytes, *, ttl_s: float | None = None) -> bool:
        """Keep a value; False where it is too large."""
        ttl_s = lifetime(ttl_s)
        with self._lock:
            return self._put(key, value, ttl_s, self._clock())

    async def delete(self, key: str) -> None:
        """Forget a key."""
        self.discard(key)

    def discard(self, key: str) -> None:
        """The same without a coroutine."""
        with self._lock:
            self._forget(key)
            self._states.pop(key, None)

    async def keys(self, prefix: str) -> list[str]:
        """The keys of values that begin with `prefix`; all are looked at, and none counts as used."""
        with self._lock:
            now, values = self._clock(), self._values.items()
            return sorted(
                key for key, (_, at, ttl_s) in values if key.startswith(prefix) and at <= now < at + ttl_s
            )

    async def run(self, *scripts: Script) -> list[Any]:
        """Run scripts in order, up to the first that stops."""
        for script in scripts:
            if script.name == "write":
                check_size(script.arguments[0], self.max_value_bytes)
        results: list[Any] = []
        with self._lock:
            now = self._clock()
            for name, key, arguments in scripts:
                if name == "read":
                    result: Any = self._value(key, now)
                elif name == "write":
                    value, ttl_s = arguments
                    self._put(key, value, ttl_s, now)
                    result = None
                else:
                    result = self.decide(name, key, *arguments)
                results.append(result)
                if stops(result):
                    break
        return results

    def decide(self, name: str, key: str, *arguments: Any) -> Any:
        """Run one script that decides (no Read, no Write), without a coroutine.

        >>> MemoryStore().decide("take", "requests", 1, 60, 60.0).remaining
        59.0
        """
        states = self._states
        with self._lock:
            now = self._clock()
            old = states.get(key)
            if old is None and len(states) >= self._sweep_at and not (name == "return" and arguments[0] >= 0):
                self._sweep(key, now)
            try:
                state, result = STEPS[name](old, now, *arguments)
            except Corrupt:
                raise StoreUnavailable("a key holds an entry of another kind", url=self.url, key=key) from None
            if state is None:
                states.pop(key, None)
            elif state is not old:
                states[key] = state
        return result

    async def ping(self) -> None:
        """It is always there."""

    async def aclose(self) -> None:
        """Nothing is open; what is kept stays."""

    def _put(self, key: str, value: bytes, ttl_s: float, now: float) -> bool:
        self._forget(key)
        size = len(key) + len(value)
        if len(value) > self.max_value_bytes or size > self.max_bytes:
            return False
        self._values[key] = value, now, ttl_s
        self._bytes += size
        while len(self._values) > self.max_entries or self._bytes > self.max_bytes:
            self._forget(next(iter(self._values)))
        return True

    def _value(self, key: str, now: float) -> bytes | None:
        kept = self._values.get(key)
        if kept is None:
            return None
        value, at, ttl_s = kept
        if not at <= now < at + ttl_s:  # where the clock went back, its age is not known
            self._forget(key)
            return None
        self._values.move_to_end(key)
        return value

    def _forget(self, key: str) -> None:
        kept = self._values.pop(key, None)
        if kept is not None:
            self._bytes -= len(key) + len(kept[0])

    def _sweep(self, key: str, now: float) -> None:
        """Let go the limits and budgets that have ended; the next sweep is when as many again have come."""
        if len(self._states) < self.max_meters or not self._swept_at <= now < self._swept_at + _SWEEP_EACH_S:
            for key in [key for key, state in self._states.items() if now >= state.ends]:
                del self._states[key]
            self._swept_at = now
            self._sweep_at = min(max(_SWEEP_FROM, 2 * len(self._states)), self.max_meters)
        if len(self._states) >= self.max_meters:
            text = f"it is full: {self.max_meters} limits and budgets (max_meters)"
            raise StoreUnavailable(text, url=self.url, key=key)  # with a key: those that it has go on

"""What a store is still owed: ends of leases that could not be written. They go with the next question to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from neuro_mw.state import Script, Store, StoreUnavailable

_MOST = 10_000
_AT_ONCE = 64


class Owed:
    """Of one store, for all who use it. What is too much is refused, so that who owes it can count it."""

    def __init__(self) -> None:
        self._scripts: deque[Script] = deque()
        self.rests_until = 0.0
        """Until then the store is not asked, by `time.monotonic`: it was away just now."""
        self.lost = 0
        """How many could not be written, since their entry was broken, and are not counted yet."""

    def __len__(self) -> int:
        return len(self._scripts)

    def add(self, script: Script, *, tried: bool) -> bool:
        """Keep what ends a lease; False for what is none, and where there is no room. ``tried``: it may be done."""
        if script.name not in ("settle", "release") or len(self._scripts) >= _MOST:
            return False
        self._scripts.append(_again(script) if tried else script)
        return True

    async def send(self, store: Store, scripts: Sequence[Script] = ()) -> list[Any]:
        """Run scripts, and before them some of what is owed; the results of the scripts. Raises as `Store.run`."""
        if not self._scripts:
            return await store.run(*scripts)
        owed = self._some()
        while True:
            try:
                results = await store.run(*owed, *scripts)
            except StoreUnavailable as error:
                left = [script for script in owed if script.key != error.key]
                if len(left) == len(owed):
                    self._keep(owed, tried=error.sent)
                    raise
                self.lost += len(owed) - len(left)  # the entry of that key is none of ours any more
                owed = [_again(script) for script in left] if error.sent else left
            except BaseException:
                self._keep(owed, tried=True)
                raise
            else:
                return results[len(owed) :]

    def forget(self) -> int:
        """Nobody will ask any more: let it go, and say how much it was."""
        number = len(self._scripts)
        self._scripts.clear()
        return number

    def _some(self) -> list[Script]:
        some: list[Script] = []
        with suppress(IndexError):  # another thread may take them, too
            while len(some) < _AT_ONCE:
                some.append(self._scripts.popleft())
        return some

    def _keep(self, scripts: Sequence[Script], *, tried: bool) -> None:
        for script in scripts:
            self.add(script, tried=tried)


def _again(script: Script) -> Script:
    """The same where it may be done already: a settlement counts once."""
    if script.name != "settle" or not script.arguments[0]:
        return script
    lease, amount, _ = script.arguments
    return Script("settle", script.key, (lease, amount, True))


_of: WeakKeyDictionary[Store, Owed] = WeakKeyDictionary()


def owed_to(store: Store) -> Owed:
    """What this store is owed."""
    return _of.setdefault(store, Owed())

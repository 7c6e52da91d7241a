"""The table of a session in a store, which calls at once, in several processes, add to.

Who adds to it writes what he read and added, only if nobody else wrote meanwhile; else he reads again. Stores have no
such operation, but budgets: the number of writes so far is what a budget has spent, and one more may be spent only
where that number is the one that was read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from hashlib import sha256
from random import uniform
from time import time
from typing import Any, TypeVar

from neuro_mw.state import Peek, Read, Reserve, Settle, Spending, Store, StoreUnavailable, Write

from .table import Table, Value, decoded

T = TypeVar("T")

_TRIES = 40
_LEASE_S = 10.0  # a write takes one trip; on a cluster some, and who breaks off in between blocks others so long


def key_of(id: str, session_id: object) -> str:
    """The key of a session's table: it does not tell the session. Ids that read alike, as 1 and "1", are one.

    >>> key_of("pseudonymize", "s1")
    'pseudonymize:e8bc163c82eee18733288c7d4ac636db'
    """
    return f"{id}:{sha256(str(session_id).encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


class Sessions:
    """The tables of sessions in one store. ``count`` gets names of what happens, and how often."""

    def __init__(self, ttl_s: float, max_values: int, count: Callable[..., None]) -> None:
        self._ttl_s, self._max_values, self._count = ttl_s, max_values, count

    async def update(self, store: Store, key: str, values: Collection[Value], name: Callable[[Table], T]) -> T:
        """What `name` makes of the session's table, once what it changed there is kept. Raises StoreUnavailable."""
        pause_s = 0.001
        for _ in range(_TRIES):
            standing, data = await store.run(Peek(key), Read(key))
            table = None if data is None else decoded(data)
            if data is not None and table is None:
                self._count("corrupt_tables")
            table = table or Table()
            made, now = name(table), time()
            if not table.is_new and abs(now - table.used) < self._ttl_s / 2:
                return made
            before = len(table.numbers)
            data = table.encoded(values, now, self._max_values, store.max_value_bytes)
            if len(data) > store.max_value_bytes:
                raise StoreUnavailable("max_value_bytes is too little for a session", url=store.url)
            if await self._written(store, key, standing, data):
                if before > len(table.numbers):
                    self._count("forgotten", before - len(table.numbers))
                return made
            await asyncio.sleep(uniform(0, pause_s))
            pause_s = min(2 * pause_s, 0.1)
        raise StoreUnavailable("other calls of the session wrote each time", url=store.url)

    async def _written(self, store: Store, key: str, standing: Any, data: bytes) -> bool:
        """Whether nobody had written since: then it is kept."""
        writes, lease = standing.spent if type(standing) is Spending else 0, os.urandom(8).hex()
        results = await store.run(
            Reserve(key, lease, 1, writes + 1, _LEASE_S, self._ttl_s + _LEASE_S),
            Write(key, data, self._ttl_s),
            Settle(key, lease, 1),
        )
        return bool(results[0].granted)

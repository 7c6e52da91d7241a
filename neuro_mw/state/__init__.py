"""State that outlives a call: caches, rate limits and budgets, in memory, in a sqlite file, on Redis or Valkey.

`open_store` makes a store of a URL. A store keeps bytes under keys, and runs scripts: what has to be decided
atomically, where the numbers lie. The scripts mean the same everywhere.

>>> import asyncio
>>> store = open_store("memory")
>>> async def call() -> None:
...     cached, taken, reserved = await store.run(
...         Read("answer"), Take("requests", 1, limit=60, period_s=60.0),
...         Reserve("budget", "call-1", 5_000_000, limit=10**9, lease_s=600.0, ttl_s=86_400.0),
...     )
...     print(taken.remaining, reserved)
...     print(*await store.run(Settle("budget", "call-1", 4_200_000)))
>>> asyncio.run(call())
59.0 Spending(granted=True, spent=0, reserved=5000000)
Spending(granted=True, spent=4200000, reserved=0)
"""

from .address import open_store
from .protocol import Store, StoreUnavailable
from .scripts import Peek, Rate, Read, Release, Reserve, Return, Script, Settle, Spending, Take, Write

__all__ = [
    "Peek",
    "Rate",
    "Read",
    "Release",
    "Reserve",
    "Return",
    "Script",
    "Settle",
    "Spending",
    "Store",
    "StoreUnavailable",
    "Take",
    "Write",
    "open_store",
]

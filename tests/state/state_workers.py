"""What other processes do to a store; apart, since they import this module and none of the tests."""

from __future__ import annotations

import asyncio
import os
import signal
from multiprocessing.synchronize import Barrier
from typing import Any

from neuro_mw.state import Reserve, Settle, Take, open_store


def spend(url: str, start: Barrier, worker: int, attempts: int, limit: int, granted: Any) -> None:
    """Reserve 1 as often as it is granted, settle half of it; say how often that was."""

    async def main() -> int:
        store, count = open_store(url + ("&" if "?" in url else "?") + "timeout_s=20"), 0
        await store.ping()
        start.wait()
        for i in range(attempts):
            lease = f"{worker}-{i}"
            (spending,) = await store.run(Reserve("budget", lease, 1, limit, 600.0, 600.0))
            count += spending.granted
            if spending.granted and i % 2:
                await store.run(Settle("budget", lease, 1))
        await store.aclose()
        return count

    granted.put(asyncio.run(main()))


def write(url: str, start: Barrier, worker: int, rounds: int, granted: Any) -> None:
    """Set, get and take, and say how often something else came back than was put in."""

    async def main() -> int:
        store, wrong = open_store(url + "?timeout_s=20"), 0
        start.wait()
        for i in range(rounds):
            value = f"{worker} {i}".encode() * 100
            await store.set(f"key-{worker}-{i % 7}", value, ttl_s=60)
            wrong += await store.get(f"key-{worker}-{i % 7}") != value
            await store.run(Take("all", 1, 10**6, 10**8))
        await store.aclose()
        return wrong

    granted.put(asyncio.run(main()))


def die_between(url: str, amount: int, limit: int, lease_s: float) -> None:
    """Reserve, and be killed before anything is settled."""

    async def main() -> None:
        (spending,) = await open_store(url).run(Reserve("budget", "dead", amount, limit, lease_s, 600.0))
        assert spending.granted
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())

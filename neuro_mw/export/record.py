"""Snapshots in a store, one key for each process, where other processes find them."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from itertools import count
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from weakref import WeakKeyDictionary

from ..errors import ConfigError
from ..state import Store, StoreUnavailable, open_store
from ..state.protocol import MAX_TTL_S
from .figures import check_factories
from .folder import default_state, is_default, state_folder
from .schema import SnapshotError, parse_snapshot
from .snapshots import process_id, snapshot

if TYPE_CHECKING:
    from ..factory import MiddlewareFactory

PREFIX = "neuro_mw/stats/"  # '/' is in no id of a middleware: nothing that a chain keeps begins so
TTL_S = 86_400.0
_LOG_EACH_S = 60.0
_LOGGER = logging.getLogger("neuro_mw")
_factories: WeakKeyDictionary[MiddlewareFactory, int] = WeakKeyDictionary()
_next = count().__next__
_lock = Lock()


class Recorded(NamedTuple):
    """What was found in a store: ``snapshots`` for `merge`, and why others, or single middlewares, were ``skipped``."""

    snapshots: list[dict[str, Any]]
    skipped: list[str]


def shared_store(url: str | None = None, *, key: str = "store") -> Store:
    """The store of a URL, or of `default_state`. Raises ConfigError, also for memory: no other process sees it.

    Nothing is opened before its first use. `key` says where the URL was written, for errors.

    >>> shared_store("memory")
    Traceback (most recent call last):
    neuro_mw.errors.ConfigError: store: memory is of one process alone, so no stats of others can be there. \
Expected sqlite:///file or the URL of a Redis server
    """
    if url is None:
        url, key = default_state(), "NEURO_MW_STATE"
    store = open_store(url, key=key)
    if store.url.startswith("memory:"):
        said = "memory is of one process alone, so no stats of others can be there"
        raise ConfigError(said, key=key, expected="sqlite:///file or the URL of a Redis server")
    return store


async def recorded(store: Store) -> Recorded:
    """The snapshots that processes recorded in a store and that have not ended yet.

    A file that is not there has none, and is not made. Raises StoreUnavailable. For the example see `StatsRecorder`.
    """
    found = Recorded([], [])
    for key in [] if _is_missing(store) else await store.keys(PREFIX):
        value = await store.get(key)
        if value is None:
            continue  # it has ended meanwhile
        try:
            found.snapshots.append(parse_snapshot(value, found.skipped))
        except SnapshotError as error:
            found.skipped.append(str(error))
    return found


async def clear_recorded(store: Store) -> int:
    """Forget what was recorded; how many entries that were. Processes that go on recording come back.

    A file that is not there has none, and is not made. Raises StoreUnavailable.
    """
    keys = [] if _is_missing(store) else await store.keys(PREFIX)
    for key in keys:
        await store.delete(key)
    return len(keys)


def _is_missing(store: Store) -> bool:
    """Whether it is a file that is not there: to look for it must not make it."""
    if not store.url.startswith("sqlite:"):
        return False
    from ..state.sqlite import SqliteStore

    return isinstance(store, SqliteStore) and not os.path.exists(store.path)


class StatsRecorder:
    """Records the stats of a factory into a store, every `every_s` seconds and at the end, from one background task.

    `store` is a `Store`, the URL of one, or None: what `default_state` says. Each snapshot takes the place of the one
    before; it stays for `ttl_s` seconds, also that of a process that was killed. A write may take `timeout_s` seconds.
    A store that is away harms nothing else: it is logged, at most once a minute, and counted in ``failures``
    (``records`` counts those that were kept). ``is_default`` says that nobody named the place.

    Raises ConfigError where an option cannot be; RuntimeError where it is entered twice at once.

    >>> import asyncio, tempfile
    >>> from neuro_mw import MiddlewareFactory
    >>> from neuro_mw.export import merge, stats_of
    >>> async def main(url):
    ...     factory = MiddlewareFactory()
    ...     async with StatsRecorder(factory, url, every_s=10):
    ...         await factory.apply_middleware("echo/echo").generate("hello")
    ...     store = open_store(url)  # as another process does it
    ...     found = await recorded(store)
    ...     await store.aclose()
    ...     return stats_of(merge(found.snapshots))["analytics"].total_executions
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(main(f"sqlite:///{folder}/stats.db"))
    1
    """

    def __init__(
        self,
        factory: MiddlewareFactory,
        store: Store | str | None = None,
        every_s: float = 10.0,
        *,
        ttl_s: float = TTL_S,
        timeout_s: float = 5.0,
    ) -> None:
        check_factories([factory])
        if not (store is None or isinstance(store, str) or callable(getattr(store, "set", None))):
            raise ConfigError(f"it is of the type {type(store).__name__}", key="store", expected="a Store or its URL")
        for name, seconds in (("every_s", every_s), ("ttl_s", ttl_s), ("timeout_s", timeout_s)):
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_TTL_S:
                raise ConfigError("it is no number of seconds above 0, up to ten years", key=name)
        if ttl_s <= every_s:
            raise ConfigError(f"it ends before the next record, {every_s:g} s later", key="ttl_s",
                              expected=f"more than every_s, such as {TTL_S:g}")  # fmt: skip
        self._factory, self.every_s, self.ttl_s, self.timeout_s = factory, every_s, ttl_s, timeout_s
        self.is_default = store is None and is_default()
        self._folder = state_folder() if self.is_default else None
        self._opened = store is None or isinstance(store, str)
        self.store: Store = shared_store(store) if store is None or isinstance(store, str) else store
        self.records = self.failures = 0
        self._task: asyncio.Task[None] | None = None
        self._logged_at = float("-inf")

    @property
    def key(self) -> str:
        """The key of this process and factory: another recorder of the same factory writes the same figures there."""
        with _lock:
            number = _factories.get(self._factory)
            if number is None:
                number = _factories[self._factory] = _next()
        return f"{PREFIX}{process_id()}/{number}"

    async def record(self) -> None:
        """Record now. Raises StoreUnavailable where the store is away, or keeps no entry of that size."""
        import orjson

        store = self.store
        value = orjson.dumps(snapshot(self._factory))  # json would hold up the event loop ten times as long
        try:
            if self._folder is not None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            async with asyncio.timeout(self.timeout_s):
                kept = await store.set(self.key, value, ttl_s=self.ttl_s)
        except TimeoutError as error:
            raise StoreUnavailable(f"no answer within {self.timeout_s:g} s", url=store.url) from error
        except OSError as error:
            raise StoreUnavailable(f"the folder cannot be made ({type(error).__name__})", url=store.url) from error
        if not kept:
            raise StoreUnavailable(f"it keeps no {len(value)} bytes (max_value_bytes)", url=store.url)
        self.records += 1

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("this StatsRecorder records already: each event loop needs one of its own")
        self._task = asyncio.create_task(self._go_on(), name="neuro_mw-stats")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        try:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
            await self._try()
        finally:
            if self._opened:
                await self.store.aclose()

    async def _go_on(self) -> None:
        await asyncio.sleep(0)  # an eager task begins before it is known as self._task
        while asyncio.current_task() is self._task:  # should a driver swallow the cancellation, it ends here
            await self._try()
            await asyncio.sleep(self.every_s)

    async def _try(self) -> None:
        """Record; what fails is told, and harms nobody."""
        try:
            await self.record()
        except (Exception, asyncio.CancelledError) as error:  # a store of the user's own may raise anything
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            self.failures += 1
            now = time.monotonic()
            if now - self._logged_at >= _LOG_EACH_S:
                self._logged_at = now
                why = str(error) if isinstance(error, StoreUnavailable) else type(error).__name__
                with suppress(Exception):  # a handler of the user's own
                    _LOGGER.warning("stats were not recorded: %s", why)


def _is_cancelled() -> bool:
    """Whether somebody asked this task to end; else a CancelledError is the store's own."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0

"""The state of one host: a sqlite file that several processes share."""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from asyncio import sleep
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import uniform
from threading import Lock, Thread
from typing import Any, TypeVar

from .listing import live_keys
from .protocol import MAX_VALUE_BYTES, StoreUnavailable, check_size, lifetime
from .records import decoded, encoded
from .scripts import Script, stops
from .steps import STEPS, Corrupt

T = TypeVar("T")

_APPLICATION = 0x6E6D7731  # "nmw1": says in the file's head whose it is
_VERSION = 1
_SCHEMA = """
CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, ends REAL NOT NULL, ttl_s REAL NOT NULL);
CREATE INDEX entries_ends ON entries (ends);
CREATE TABLE states (key BLOB PRIMARY KEY, state TEXT NOT NULL, ends REAL NOT NULL);
CREATE INDEX states_ends ON states (ends);
"""
_SLACK_S = 1.0  # an entry may be that much younger than the time it is read: another process wrote it meanwhile
_PURGE_EACH, _PURGE_ROWS = 16, 32  # after so many writes, at most so many rows that have ended
_STEP_S = 7 * 86_400.0  # limits and budgets stay as much longer, in case the clock had stepped ahead
_CHECKPOINT_BYTES = 2 << 20  # of what was written, roughly; sqlite's own checkpoint is left as a safety net at 40 MB
_ROW_BYTES = 4096  # a small write is a page or two


class SqliteStore:
    """Values, limits and budgets in a file, for all processes of one host; a `Store`.

    All runs on the event loop: some 10 to 30 us, where a hop to a thread and back costs more. What could take longer
    does not happen there. A file that another process has locked is not waited for; the call sleeps and tries again,
    up to `timeout_s`. The log of writes goes into the file (a sync to the disk) in a thread. A value of 1 MB costs a
    millisecond or more.

    Times are the host's clock. The file is made readable for its owner only, as it holds answers.

    >>> import asyncio, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = SqliteStore(f"{folder}/state.db")
    ...     async def main():
    ...         await store.set("greeting", b"hello", ttl_s=60)
    ...         return await store.get("greeting"), await store.aclose()
    ...     asyncio.run(main())
    (b'hello', None)
    """

    remote = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        timeout_s: float = 1.0,
        max_value_bytes: int = MAX_VALUE_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = os.path.abspath(path)
        self.url = f"sqlite:///{self.path}"
        self.timeout_s, self.max_value_bytes, self._clock = timeout_s, max_value_bytes, clock
        self._lock = Lock()  # held for one transaction, never while waiting for the file
        self._connection: sqlite3.Connection | None = None
        self._closing: weakref.finalize[..., Any] | None = None
        self._pid = 0
        self._writes = self._written = 0
        self._checkpoint: Thread | None = None

    def __repr__(self) -> str:
        return f"SqliteStore({self.path!r})"

    async def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        return await self._do(lambda connection: self._value(connection, key))

    async def set(self, key: str, value: bytes, *, ttl_s: float | None = None) -> bool:
        """Keep a value; False where it is too large."""
        ttl_s = lifetime(ttl_s)
        if len(value) > self.max_value_bytes:
            await self._do(lambda connection: connection.execute("DELETE FROM entries WHERE key = ?", (_raw(key),)))
            return False
        await self._do(lambda connection: self._put(connection, key, value, ttl_s))
        return True

    async def delete(self, key: str) -> None:
        """Forget a key."""

        def forget(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM entries WHERE key = ?", (_raw(key),))
            connection.execute("DELETE FROM states WHERE key = ?", (_raw(key),))

        await self._do(forget)

    async def keys(self, prefix: str) -> list[str]:
        """The keys of values that begin with `prefix`."""
        return await self._do(lambda connection: live_keys(connection, _raw(prefix), self._clock(), _SLACK_S))

    async def run(self, *scripts: Script) -> list[Any]:
        """Run scripts in order, up to the first that stops. What only reads does not lock the file."""
        for script in scripts:
            if script.name == "write":
                check_size(script.arguments[0], self.max_value_bytes)
        return await self._do(lambda connection: self._run(connection, scripts))

    async def ping(self) -> None:
        """Open the file, or raise StoreUnavailable."""
        await self._do(lambda connection: connection.execute("SELECT count(*) FROM states").fetchone())

    async def aclose(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()

    # --- one transaction ---------------------------------------------------------------------------------------------

    def _run(self, connection: sqlite3.Connection, scripts: tuple[Script, ...]) -> list[Any]:
        results: list[Any] = []
        try:
            for script in scripts:
                if script.name == "read":
                    result: Any = self._value(connection, script.key)
                elif script.name == "write":
                    self._put(connection, script.key, *script.arguments)
                    result = None
                else:
                    result = self._step(connection, script)
                results.append(result)
                if stops(result):
                    break
            if connection.in_transaction:
                connection.execute("COMMIT")
        except Corrupt:
            text = "a key holds an entry that is none of ours, or of another kind"
            raise StoreUnavailable(text, url=self.url, key=script.key) from None
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return results

    def _step(self, connection: sqlite3.Connection, script: Script) -> Any:
        if script.name != "peek" and not connection.in_transaction:
            connection.execute("BEGIN IMMEDIATE")  # the time is read behind it, so that it goes on in order
        key, now = _raw(script.key), self._clock()
        row = connection.execute("SELECT state FROM states WHERE key = ?", (key,)).fetchone()
        old = None if row is None else decoded(row[0])
        state, result = STEPS[script.name](old, now, *script.arguments)
        if script.name == "peek":
            return result
        if state is not None:
            row = key, encoded(state), state.ends
            connection.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?)", row)
        elif old is not None:
            connection.execute("DELETE FROM states WHERE key = ?", (key,))
        self._wrote(connection, 0)
        return result

    def _value(self, connection: sqlite3.Connection, key: str) -> bytes | None:
        row = connection.execute("SELECT value, ends, ttl_s FROM entries WHERE key = ?", (_raw(key),)).fetchone()
        if row is None:
            return None
        value, ends, ttl_s = row
        if type(value) is not bytes or type(ends) is not float or type(ttl_s) is not float:
            return None  # somebody else's
        now = self._clock()
        return value if now < ends <= now + ttl_s + _SLACK_S else None  # from the future: its age is not known

    def _put(self, connection: sqlite3.Connection, key: str, value: bytes, ttl_s: float) -> None:
        row = _raw(key), value, self._clock() + ttl_s, ttl_s
        connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", row)
        self._wrote(connection, len(value))

    def _wrote(self, connection: sqlite3.Connection, size: int) -> None:
        """Let go what has ended, now and then, and have the log of writes put into the file."""
        self._writes += 1
        self._written += size + _ROW_BYTES
        if self._writes % _PURGE_EACH == 0:
            for table, slack_s in (("entries", 0.0), ("states", _STEP_S)):
                ended = f"SELECT rowid FROM {table} WHERE ends <= ? LIMIT {_PURGE_ROWS}"
                connection.execute(f"DELETE FROM {table} WHERE rowid IN ({ended})", (self._clock() - slack_s,))
        if self._written > _CHECKPOINT_BYTES and (self._checkpoint is None or not self._checkpoint.is_alive()):
            self._written = 0
            self._checkpoint = Thread(target=_checkpoint, args=(self.path,), daemon=True)
            self._checkpoint.start()

    # --- the file ----------------------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` now; where the file is locked, again after a pause (those of sqlite's own busy handler)."""
        waited_s, attempt = 0.0, 0
        while True:
            with self._lock:
                try:
                    return work(self._opened())
                except sqlite3.Error as error:
                    if not _is_locked(error):
                        self._close()  # the next call opens it anew
                        raise StoreUnavailable(f"the file cannot be used ({_named(error)})", url=self.url) from error
                    if waited_s >= self.timeout_s:
                        text = f"the file was locked by another process for {self.timeout_s:g} s"
                        raise StoreUnavailable(text, url=self.url) from error
                except (OSError, UnicodeDecodeError) as error:  # the latter: a schema that is no text
                    text = f"the file cannot be opened ({type(error).__name__})"
                    raise StoreUnavailable(text, url=self.url) from error
            pause_s = uniform(0.5, 1.5) * (0.001, 0.002, 0.005, 0.010, 0.020)[min(attempt, 4)]
            pause_s = min(pause_s, self.timeout_s - waited_s)
            await sleep(pause_s)
            waited_s, attempt = waited_s + pause_s, attempt + 1

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None and self._pid == os.getpid():
            return self._connection
        if self._closing is not None:  # a forked process must not touch the connection of its parent
            self._closing.detach()
            _inherited.append(self._connection)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = _connect(self.path)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._pid = connection, os.getpid()
        self._closing = weakref.finalize(self, connection.close)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if not self._is_ours(connection):
            connection.execute("BEGIN IMMEDIATE")
            if not self._is_ours(connection):  # nor has another process made it meanwhile
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 10000")

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """Whether it has our tables; False where it is empty."""
        owner, version, tables = (
            connection.execute(query).fetchone()[0]
            for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        )
        if owner == _APPLICATION and version == _VERSION:
            return True
        if owner == _APPLICATION:
            text = f"the file was made by another version of neuro_mw (schema {version}, known is {_VERSION})"
            raise StoreUnavailable(text, url=self.url)
        if tables or owner or version:
            raise StoreUnavailable("the file is the database of another program", url=self.url)
        return False

    def _close(self) -> None:
        if self._closing is not None and self._pid == os.getpid():
            self._closing()
            self._connection = self._closing = None


_inherited: list[sqlite3.Connection | None] = []  # kept, since closing them would touch the parent's locks


def _connect(path: str) -> sqlite3.Connection:
    """A connection that never waits for a lock."""
    uri = f"{Path(path).as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)


def _checkpoint(path: str) -> None:
    """Put the log of writes into the file; readers and writers go on meanwhile."""
    try:
        with closing(_connect(path)) as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except sqlite3.Error:
        return  # locked, or gone: the next one, or sqlite's own at 40 MB


def _raw(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _is_locked(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _named(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", type(error).__name__))

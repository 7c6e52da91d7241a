"""The state of many hosts: Redis or Valkey, one server or a cluster."""

from __future__ import annotations

import asyncio
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any

from .connections import Connections
from .listing import glob_of, texts_of
from .protocol import MAX_VALUE_BYTES, StoreUnavailable, check_size, lifetime
from .scripts import Rate, Script, Spending, stops

PREFIX = "neuro_mw:"
_VERSION = 1  # of what is kept under a key
_PAGE = 1000  # keys that the server looks at before it answers


class RedisStore:
    """Values, limits and budgets on a Redis or Valkey server; a `Store`. The server's time decides.

    `run` is one round trip: one Lua script for all operations. On a cluster that holds where all keys are in one slot
    (a `prefix` with a hash tag, "{app}:", puts them there); else the operations go one after another.

    A connection is made within `connect_timeout_s` and a command takes `timeout_s`; together that is the longest that
    a command takes. Nothing is sent twice: a limit would be taken twice. Each event loop has its own connections, up to
    `max_connections`, which are closed at its end or by `aclose`; where all are in use, a command waits for one as long
    as answers come. `tls` trusts the certificates of the system, or of `ca_file`.

    All that is written ends by itself. A server that evicts keys (``maxmemory-policy``) may evict budgets with them.

    >>> RedisStore("cache.internal", username="app", password="secret", db=2)
    RedisStore('redis://cache.internal:6379/2')
    """

    remote = True

    def __init__(
        self,
        host: str = "localhost",
        port: int = 6379,
        *,
        db: int = 0,
        username: str | None = None,
        password: str | None = None,
        tls: bool = False,
        ca_file: str | None = None,
        cluster: bool = False,
        prefix: str = PREFIX,
        connect_timeout_s: float = 1.0,
        timeout_s: float = 1.0,
        max_connections: int = 64,
        max_value_bytes: int = MAX_VALUE_BYTES,
    ) -> None:
        import redis.asyncio.retry  # the extra "redis"
        import redis.backoff
        import redis.crc
        import redis.exceptions

        self._driver, self._errors, self._slot = redis.asyncio, redis.exceptions, redis.crc.key_slot
        scheme = ("rediss" if tls else "redis") + ("+cluster" if cluster else "")
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{scheme}://{shown}:{port}" + ("" if cluster else f"/{db}")
        self.prefix, self.max_value_bytes, self._cluster = prefix, max_value_bytes, cluster
        self._within_s, self._room = connect_timeout_s + timeout_s, max_connections
        self._options: dict[str, Any] = {
            "host": host,
            "port": port,
            "username": username,
            "password": password,
            "socket_connect_timeout": connect_timeout_s,
            "socket_timeout": None,  # `_command` has one; the driver's may swallow a cancellation below Python 3.12
            "max_connections": max_connections,
            "protocol": 2,  # the server sends nothing by itself, so that a dead connection is seen as one
        }
        self._options["retry"] = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)
        if not cluster:
            self._options["db"] = db
        if tls:
            self._options |= {"ssl": True, "ssl_ca_certs": ca_file}
        self._clients: dict[asyncio.AbstractEventLoop, Connections] = {}

    def __repr__(self) -> str:
        return f"RedisStore({self.url!r})"

    async def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        try:
            found = await self._command("GET", self._key("value", key))
        except StoreUnavailable as error:
            if _code(error) != "WRONGTYPE":
                raise
            return None  # somebody else's
        return found if isinstance(found, bytes) else None

    async def set(self, key: str, value: bytes, *, ttl_s: float | None = None) -> bool:
        """Keep a value; False where it is too large."""
        ttl_ms = max(1, round(lifetime(ttl_s) * 1000))
        if len(value) > self.max_value_bytes:
            await self._command("DEL", self._key("value", key))
            return False
        await self._command("SET", self._key("value", key), value, "PX", ttl_ms)
        return True

    async def delete(self, key: str) -> None:
        """Forget a key."""
        for keys in self._together([self._key("value", key), self._key("state", key)]):
            await self._command("DEL", *keys)

    async def keys(self, prefix: str) -> list[str]:
        """The keys of values that begin with `prefix`: every node looks through all of its keys, page by page."""
        words = ("MATCH", glob_of(self._key("value", prefix)), "COUNT", _PAGE, "TYPE", "string")
        found: list[bytes] = []
        for target in await self._targets():
            cursor = None
            while cursor != 0:
                reply = await self._command("SCAN", cursor or 0, *words, **target)
                try:
                    at, page = reply
                    (cursor,) = at.values() if self._cluster else [at]  # by the name of the node
                    found += page
                except (AttributeError, TypeError, ValueError) as error:
                    raise StoreUnavailable("it does not answer as Redis does", url=self.url) from error
        return texts_of(found, skip=len(self._key("value", "")))

    async def run(self, *scripts: Script) -> list[Any]:
        """Run scripts in order, up to the first that stops."""
        for script in scripts:
            if script.name == "write":
                check_size(script.arguments[0], self.max_value_bytes)
        keys = [self._key("value" if script.name in ("read", "write") else "state", script.key) for script in scripts]
        results: list[Any] = []
        for some in self._together(keys):
            try:
                results += await self._eval(scripts[len(results) : len(results) + len(some)], some)
            except StoreUnavailable as error:
                error.sent = error.sent or bool(results)  # on a cluster, what came before is done
                raise
            if stops(results[-1]):
                break
        return results

    async def ping(self) -> None:
        """Ask the server whether it is there; raises StoreUnavailable."""
        await self._command("PING")

    async def aclose(self) -> None:
        """Close the connections of the running loop. Those of other loops close at their end."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.keeper.aclose()

    # --- commands ----------------------------------------------------------------------------------------------------

    def _key(self, kind: str, key: str) -> bytes:
        return f"{self.prefix}{kind}:{_VERSION}:{key}".encode("utf-8", "surrogatepass")

    def _together(self, keys: list[bytes]) -> list[list[bytes]]:
        """The keys in groups that one command may have."""
        if self._cluster and len({self._slot(key) for key in keys}) > 1:
            return [[key] for key in keys]
        return [keys] if keys else []

    async def _eval(self, scripts: tuple[Script, ...], keys: list[bytes]) -> list[Any]:
        source, digest = _lua()
        words: list[Any] = [len(keys), *keys]
        for script in scripts:
            words += [script.name, len(script.arguments), *map(_argument, script.arguments)]
        try:
            try:
                replies = await self._command("EVALSHA", digest, *words)
            except StoreUnavailable as error:
                if not isinstance(error.__cause__, self._errors.NoScriptError):
                    raise
                replies = await self._command("EVAL", source, *words)
            return [_result(reply) for reply in replies]
        except StoreUnavailable as error:
            if _code(error) != "CORRUPT":
                raise
            key = scripts[int(str(error.__cause__).split()[1]) - 1].key
            text = "a key holds an entry that is none of ours, or of another kind"
            raise StoreUnavailable(text, url=self.url, key=key) from None
        except (LookupError, TypeError, ValueError) as error:
            raise StoreUnavailable("it does not answer as Redis does", url=self.url, sent=True) from error

    async def _targets(self) -> list[dict[str, Any]]:
        """For each node with keys of its own, what names it to the driver."""
        if not self._cluster:
            return [{}]
        await self.ping()  # now the driver knows the nodes
        nodes = (await self._client()).primaries()
        if not nodes:
            raise StoreUnavailable("its nodes are not known: this event loop is ending", url=self.url)
        return [{"target_nodes": node} for node in nodes]

    async def _command(self, *words: Any, **target: Any) -> Any:
        sent = False
        try:
            client = await self._client()
            await client.enter(self._within_s)
            sent = True
            try:
                async with asyncio.timeout(self._within_s):
                    return await client.execute(*words, **target)
            finally:
                client.room.release()
        except Exception as error:  # noqa: BLE001 - what a broken protocol ends in is not only the driver's own errors
            text = f"it failed ({type(error).__name__}{_word(error)})"
            if isinstance(error, TimeoutError | self._errors.TimeoutError):
                text = "no answer in time (the options connect_timeout_s and timeout_s)"
            # servers that do not know a command repeat what it was called with: a password, a value
            cause = None if "with args beginning" in str(error) else error
            sent = sent and not isinstance(error.__context__, ConnectionRefusedError)
            raise StoreUnavailable(text, url=self.url, sent=sent) from cause

    # --- connections -------------------------------------------------------------------------------------------------

    async def _client(self) -> Connections:
        """The connections of the running loop."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            for old in [loop for loop in list(self._clients) if loop.is_closed()]:
                self._clients.pop(old, None)
            client = self._clients[loop] = Connections(self._connected, self._room)
            await anext(client.keeper)
        return client

    def _connected(self) -> Any:
        """A client of the driver. It connects at its first command."""
        kind = self._driver.RedisCluster if self._cluster else self._driver.Redis
        return kind(**self._options)


@cache
def _lua() -> tuple[str, str]:
    """The script and its name."""
    source = Path(__file__).with_name("run.lua").read_text("utf-8")
    return source, sha1(source.encode(), usedforsecurity=False).hexdigest()


def _argument(value: Any) -> Any:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return int(value) if isinstance(value, int) else repr(float(value))


def _result(reply: Any) -> Any:
    if reply is None or isinstance(reply, bytes):
        return reply
    kind, granted, *numbers = reply
    if kind == b"spending":
        spent, reserved = map(int, numbers)
        return Spending(granted == b"1", spent, reserved)
    retry_after_s, used, limit = numbers
    return Rate(granted == b"1", float(retry_after_s) if retry_after_s else None, float(used), float(limit))


def _code(error: StoreUnavailable) -> str:
    """The code of the error that the server sent: its first word."""
    return str(error.__cause__).partition(" ")[0]


def _word(error: Exception) -> str:
    code = str(error).partition(" ")[0]
    return f" {code}" if code.isalpha() and code.isupper() else ""

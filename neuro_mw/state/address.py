"""From the URL of a store to the store. Nothing of a URL is repeated in an error but the names that are known."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ..errors import ConfigError
from ..names import nearest
from .protocol import Store

_REDIS = ("redis", "rediss", "redis+cluster", "rediss+cluster")
_SCHEMES = ("memory", "sqlite", *_REDIS)
_EXPECTED = "memory, sqlite:///file, redis://host:6379/0, rediss://, redis+cluster:// or rediss+cluster://"
_NAME = re.compile(r"[a-z][a-z_]{0,30}")

Refuse = Callable[..., NoReturn]


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number <= 3600:
        raise ValueError
    return number


_EXPECT = {_whole: "a whole number above 0", _seconds: "seconds, above 0 and at most 3600", str: "a text"}
_Options = Mapping[str, Callable[[str], Any]]
_OF_MEMORY: _Options = {"max_entries": _whole, "max_bytes": _whole, "max_value_bytes": _whole, "max_meters": _whole}
_OF_SQLITE: _Options = {"timeout_s": _seconds, "max_value_bytes": _whole}
_OF_REDIS: _Options = {
    "prefix": str,
    "connect_timeout_s": _seconds,
    "timeout_s": _seconds,
    "max_connections": _whole,
    "max_value_bytes": _whole,
    "ca_file": str,
}


def open_store(url: str, *, key: str | None = "state") -> Store:
    """The store of a URL. Nothing is opened before its first use; its `ping` says whether it is there.

    ``memory`` (or ``memory://``); ``sqlite:///relative/file`` or ``sqlite:////absolute/file``;
    ``redis://user:password@host:port/db``, ``rediss://`` for TLS, ``redis+cluster://`` and ``rediss+cluster://``.
    Options are in the query:

    - all: ``max_value_bytes`` (1 MiB), above which values are not kept;
    - memory: ``max_entries`` (10,000 values), ``max_bytes`` (64 MiB of values), ``max_meters`` (100,000 limits and
      budgets);
    - sqlite: ``timeout_s`` (1), how long a locked file is waited for;
    - Redis and Valkey: ``connect_timeout_s`` (1), ``timeout_s`` (1), ``max_connections`` (64 for each event loop),
      ``prefix`` of all keys ("neuro_mw:"), ``ca_file`` with certificates for TLS.

    Users, passwords and paths are percent-encoded. `key` says where the URL was written, for errors.

    Raises ConfigError where the scheme or an option is not known, a value cannot be read, or the extra "redis" is
    missing.

    >>> open_store("redis://app:secret@cache.internal/2?timeout_s=0.5")
    RedisStore('redis://cache.internal:6379/2')
    >>> open_store("reddis://cache.internal")
    Traceback (most recent call last):
    neuro_mw.errors.ConfigError: state: the scheme is not known. Expected memory, sqlite:///file, \
redis://host:6379/0, rediss://, redis+cluster:// or rediss+cluster://. Did you mean 'redis'?
    """
    refuse = partial(_refuse, key)
    if url == "memory":
        url = "memory://"
    scheme, mark, _ = url.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in _SCHEMES:
        said = "the scheme is not known" if mark else "it is not the URL of a store"
        refuse(said, expected=_EXPECTED, nearest=nearest(scheme, _SCHEMES))
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        refuse("the host or the port cannot be read", expected="scheme://user:password@host:port")
    if parts.fragment or (scheme in _REDIS and "@" in parts.path + parts.query):
        refuse("there is a '#', or an '@' behind the host", expected="users, passwords and paths percent-encoded")
    if scheme == "memory":
        return _memory(parts, refuse)
    return _sqlite(parts, refuse) if scheme == "sqlite" else _redis(parts, refuse)


def _refuse(key: str | None, message: str, **more: str | None) -> NoReturn:
    raise ConfigError(message, key=key, **more) from None


def _options(parts: SplitResult, known: _Options, refuse: Refuse) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        read = known.get(name)
        if read is None:
            shown = f"the option {name!r}" if _NAME.fullmatch(name) else "an option"
            refuse(f"{shown} is not known", expected=", ".join(known), nearest=nearest(name, known))
        try:
            found[name] = read(text)
        except (ValueError, OverflowError):
            refuse(f"the option {name!r} cannot be read", expected=_EXPECT[read])
    return found


def _memory(parts: SplitResult, refuse: Refuse) -> Store:
    from .memory import MemoryStore

    if parts.netloc or parts.path.strip("/"):
        refuse("there is something behind memory://", expected="memory, or memory://?option=value")
    return MemoryStore(**_options(parts, _OF_MEMORY, refuse))


def _sqlite(parts: SplitResult, refuse: Refuse) -> Store:
    path = unquote(parts.path[1:])
    if parts.netloc or not path or "\0" in path or path == ":memory:":
        refuse("there is no file", expected="sqlite:///relative/file or sqlite:////absolute/file")
    options = _options(parts, _OF_SQLITE, refuse)
    try:
        from .sqlite import SqliteStore
    except ImportError:
        refuse("this Python was built without sqlite3")
    return SqliteStore(path, **options)


def _redis(parts: SplitResult, refuse: Refuse) -> Store:
    from .redis import RedisStore

    cluster = parts.scheme.endswith("+cluster")
    path = parts.path.strip("/")
    if path and (cluster or not re.fullmatch(r"\d{1,9}", path, re.ASCII)):
        refuse("the path is no number of a database", expected="redis://host:port/0; a cluster has no databases")
    options = _options(parts, _OF_REDIS, refuse)
    if "ca_file" in options and not (parts.scheme.startswith("rediss") and os.path.isfile(options["ca_file"])):
        refuse("the option 'ca_file' needs rediss:// and a file that is there")
    try:
        return RedisStore(
            unquote(parts.hostname or "localhost"),
            6379 if parts.port is None else parts.port,
            db=int(path or 0),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=parts.scheme.startswith("rediss"),
            cluster=cluster,
            **options,
        )
    except ImportError:
        refuse("the package redis is not installed", expected="pip install neuro-mw[redis]")

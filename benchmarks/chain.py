"""One `generate` through no-op ``wrap_generate`` layers, against hand-written onions that do the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter_ns as clock
from typing import Any

from neuro_mw import Middleware, MiddlewareFactory, MiddlewareMetadata, Response

from .measure import Pace, Row, Slice, awaiting, each, measure, row

LAYERS = (0, 1, 5, 10, 20)


class Ready:
    """A model whose answer is there already, so that only the chain takes time."""

    provider, model_id = "bench", "ready"

    def __init__(self) -> None:
        self.response = Response(text="hello")

    async def generate(self, params: dict[str, Any]) -> Response:
        return self.response

    def stream(self, params: dict[str, Any]) -> Any:
        raise NotImplementedError


class Named(Middleware):
    """A middleware without hooks, numbered."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.metadata = MiddlewareMetadata(id=f"{type(self).__name__}{number}", priority=-number)


class NoOp(Named):
    async def wrap_generate(self, do_generate: Any, params: Any, context: Any) -> Response:
        return await do_generate(params)


def wrapped(model: Any, layers: Sequence[Middleware]) -> Any:
    """The model behind these layers and nothing else."""
    return MiddlewareFactory(preset=None, plugins=False, middleware=layers).apply_middleware(model)


# --- by hand -----------------------------------------------------------------------------------------------------


def closures(model: Ready, count: int) -> Any:
    """The least that a layer can cost: one closure, no stats."""
    call: Any = model.generate
    for _ in range(count):
        call = _closure(call)
    return call


def _closure(inner: Any) -> Any:
    async def call(params: Any) -> Response:
        return await inner(params)

    return call


class Timed:
    """A layer with its own stats in one frame: a count and the total time from two readings of the clock."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.count, self.total_ns = inner, 0, 0

    async def generate(self, params: Any) -> Response:
        started = clock()
        try:
            return await self.inner.generate(params)
        finally:
            self.count += 1
            self.total_ns += clock() - started


class TimedHook(Timed):
    """The same for a middleware of someone else's: the layer times, the middleware's hook calls inward."""

    def __init__(self, inner: Any, middleware: NoOp) -> None:
        super().__init__(inner)
        self.middleware = middleware

    async def generate(self, params: Any) -> Response:
        started = clock()
        try:
            return await self.middleware.wrap_generate(self.inner.generate, params, None)
        finally:
            self.count += 1
            self.total_ns += clock() - started


def objects(model: Ready, count: int) -> Any:
    inner: Any = model
    for _ in range(count):
        inner = Timed(inner)
    return inner.generate


def hooked(model: Ready, count: int) -> Any:
    inner: Any = model
    for number in range(count):
        inner = TimedHook(inner, NoOp(number))
    return inner.generate


# --- the table ---------------------------------------------------------------------------------------------------


def rows(pace: Pace) -> list[Row]:
    return asyncio.run(_rows(pace))


async def _rows(pace: Pace) -> list[Row]:
    model, params = Ready(), {"messages": [{"role": "user", "content": "hello"}]}
    contestants: dict[str, Slice] = {}
    for count in LAYERS:
        chain = wrapped(model, [NoOp(number) for number in range(count)])
        contestants[f"closures {count}"] = awaiting(closures(model, count), params)
        contestants[f"objects {count}"] = awaiting(objects(model, count), params)
        contestants[f"hooked {count}"] = awaiting(hooked(model, count), params)
        contestants[f"chain {count}"] = awaiting(chain.generate, params)
    idle = wrapped(model, [NoOp(0), *(Named(number) for number in range(100))])
    contestants["chain 1 and 100 without hooks"] = awaiting(idle.generate, params)
    default = MiddlewareFactory(plugins=False).apply_middleware(model)
    await default.generate(params)  # it loads the price list, which is no part of a call
    contestants["preset default"] = awaiting(default.generate, params)
    found = await measure(contestants, pace)

    table = []
    for count in LAYERS:
        base = found[f"hooked {count}"]
        table.append(row(f"closures, no timers: {count}", found[f"closures {count}"], base, "hooked objects"))
        table.append(row(f"objects, two timers, one frame: {count}", found[f"objects {count}"], base, "hooked objects"))
        table.append(row(f"objects, two timers, calling a hook: {count}", base))
        limit = {"max_ratio": 2.4} if count == 10 else {}
        chain = found[f"chain {count}"]
        table.append(row(f"neuro_mw: {count} wrap_generate", chain, base, "hooked objects", **limit))
        if count == 10:
            one_frame = found["objects 10"]
            table.append(row("neuro_mw: 10 wrap_generate", chain, one_frame, "one-frame objects", **limit))
    one, twenty = found["chain 1"], found["chain 20"]
    hand = each(found["hooked 20"], found["hooked 1"], 19)
    table.append(row("neuro_mw: each further layer", each(twenty, one, 19), hand, "hooked objects"))
    idle_cost = each(found["chain 1 and 100 without hooks"], found["chain 1"], 100)
    table.append(row("neuro_mw: a layer without hooks", idle_cost, max_value=0.01))
    table.append(row("neuro_mw: preset default (analytics)", found["preset default"]))
    return table

"""Building a chain of 20, and finding one that was built before."""

from __future__ import annotations

import asyncio
from itertools import repeat
from time import thread_time_ns as clock
from typing import Any

from neuro_mw import MiddlewareContext, MiddlewareFactory, Response, middleware

from .chain import NoOp, Ready
from .measure import Pace, Row, Slice, calling, measure, row

LAYERS = 20


def rows(pace: Pace) -> list[Row]:
    return asyncio.run(_rows(pace))


async def _rows(pace: Pace) -> list[Row]:
    layers = [NoOp(number) for number in range(LAYERS)]
    factory, model = MiddlewareFactory(preset=None, plugins=False, middleware=layers), Ready()
    wrapped = factory.apply_middleware(model)
    enabled = {layer.metadata.id: {} for layer in layers}
    context = MiddlewareContext("bench", "ready")
    contestants = {
        "by hand": calling(_by_hand, layers),
        "another model": _another_model(factory),
        "changed registry": _changed_registry(factory, model),
        "cached": calling(factory.apply_middleware, model),
        "view": calling(lambda session: wrapped.with_context(session=session), {"user_id": "u1"}),
        "registry": calling(lambda config: factory.registry.build_chain(context, config), enabled),
    }
    found = await measure(contestants, pace)
    by_hand = found["by hand"]
    table = [row("20 objects, linked by hand", by_hand)]
    for name, what, limit in (
        ("another model", "neuro_mw: chain of 20, another model object, both modes", 150.0),
        ("changed registry", "neuro_mw: chain of 20, changed registry, both modes", 150.0),
        ("registry", "neuro_mw: registry.build_chain of 20", 150.0),
        ("cached", "neuro_mw: apply_middleware of 20, cached", None),
        ("view", "neuro_mw: with_context of 20, cached", None),
    ):
        table.append(row(what, found[name], by_hand, "by hand", max_value=limit))
    return table


class _Linked:
    def __init__(self, layer: Any, inner: Any) -> None:
        self.layer, self.inner = layer, inner
        self.count = self.total_ns = 0


def _by_hand(layers: list[NoOp]) -> Any:
    inner: Any = None
    for layer in sorted(layers, key=lambda one: one.metadata.priority):
        inner = _Linked(layer, inner)
    return inner


def _compiled(model: Any) -> None:
    """What the first call of each mode does once."""
    chain = model._chain
    chain._compile_generate()
    chain._compile_stream()


def _another_model(factory: MiddlewareFactory) -> Slice:
    """Each repetition wraps a model object that was never seen; making it is not counted."""

    async def run(times: int) -> int:
        models = [Ready() for _ in range(times)]
        started = clock()
        for model in models:
            _compiled(factory.apply_middleware(model))
        return clock() - started

    return run


def _changed_registry(factory: MiddlewareFactory, model: Ready) -> Slice:
    """Each repetition finds the registry changed, so that everything is decided again; the change is not counted."""
    passing = middleware("passing", wrap_generate=_pass)

    async def run(times: int) -> int:
        spent = 0
        for _ in repeat(None, times):
            factory.registry.register(passing)
            factory.registry.unregister("passing")
            started = clock()
            _compiled(factory.apply_middleware(model))
            spent += clock() - started
        return spent

    return run


async def _pass(do_generate: Any, params: Any, context: Any) -> Response:
    return await do_generate(params)

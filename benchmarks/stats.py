"""Keeping executions in the stats: the record, its call's list, its layer's list, folding that into aggregates."""

from __future__ import annotations

import asyncio
from time import thread_time_ns as clock
from typing import Any

from neuro_mw import Response
from neuro_mw.stats import FOLD_AT

from .chain import Named, NoOp, Ready, wrapped
from .measure import Pace, Row, Slice, measure, row

LAYERS, CALLS = 10, 512

Facts = list[tuple[Any, ...]]
"""The records of one call."""


def rows(pace: Pace) -> list[Row]:
    return asyncio.run(_rows(pace))


async def _rows(pace: Pace) -> list[Row]:
    one = await _calls()
    found = await measure(
        {
            "by hand": _by_hand(one),
            "append": _recording(one, give=False),
            "one model": _recording(one),
            "five models": _recording(await _calls(models=5)),
            "two hooks": _recording(await _calls(hook=_TwoHooks)),
        },
        pace,
        per=LAYERS * CALLS,
    )
    base = found["by hand"]
    table = [
        row("count and total, by hand", base),
        row("the record, in its call's list", found["append"], base, "by hand"),
    ]
    for name, what in (
        ("one model", "the same, kept and folded, one model, one hook"),
        ("five models", "the same, five models, one hook"),
        ("two hooks", "the same, one model, two hooks"),
    ):
        table.append(row(what, found[name], base, "by hand", max_value=0.3))
    return table


async def _calls(*, models: int = 1, hook: type[NoOp] = NoOp) -> list[Facts]:
    """Records that real calls left behind, so that they look and spread as real ones do."""
    made: list[Facts] = []
    layers = [_Tap(made), *(hook(number) for number in range(LAYERS))]
    calls = [wrapped(_named(f"model-{number}"), layers).generate for number in range(models)]
    for number in range(CALLS):
        await calls[number % models]("hello")
    return made


class _Tap(Named):
    """Takes the records of the layers inside of it."""

    def __init__(self, made: list[Facts]) -> None:
        super().__init__(-1)
        self.made = made

    async def wrap_generate(self, do_generate: Any, params: Any, context: Any) -> Response:
        response = await do_generate(params)
        self.made.append(context._call.executions[:])
        return response


class _TwoHooks(NoOp):
    async def transform_params(self, params: Any, context: Any) -> Any:
        return params


def _named(model_id: str) -> Ready:
    model = Ready()
    model.model_id = model_id
    return model


def _recording(calls: list[Facts], *, give: bool = True) -> Slice:
    async def run(times: int) -> int:
        started = clock()
        for _ in range(times):
            for facts in calls:
                executions: list[Any] = []
                for head, self_s, total_s, extra, ended in facts:
                    record = (head, self_s, total_s, extra, ended)
                    executions.append(record)
                    if give:  # as the path of a call does it
                        if head.hook is None:
                            for hook in ("transform_params", "wrap_generate"):
                                head.laps.setdefault(hook, []).append(self_s)
                        head.records.append(record)
                        if len(head.records) >= FOLD_AT:
                            head.fold()
        return clock() - started

    return run


class _Simple:
    def __init__(self) -> None:
        self.count, self.total_s = 0, 0.0

    def record(self, total_s: float) -> None:
        self.count += 1
        self.total_s += total_s


def _by_hand(calls: list[Facts]) -> Slice:
    layers = [_Simple() for _ in range(LAYERS)]

    async def run(times: int) -> int:
        started = clock()
        for _ in range(times):
            for facts in calls:
                for layer, (_head, _self_s, total_s, _extra, _ended) in zip(layers, facts, strict=True):
                    layer.record(total_s)
        return clock() - started

    return run

"""Keeping one execution in the stats: taking in its record and, every so many records, folding them together."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns as clock
from typing import Any

from neuro_mw import Response
from neuro_mw.stats import LayerStats

from .chain import Named, NoOp, Ready, wrapped
from .measure import Pace, Row, Slice, measure, row

RECORDS = 4096  # a multiple of the batches that are folded


def rows(pace: Pace) -> list[Row]:
    return asyncio.run(_rows(pace))


async def _rows(pace: Pace) -> list[Row]:
    one = await _records()
    found = await measure(
        {
            "by hand": _by_hand(one),
            "append": _appending(one),
            "one model": _recording(one),
            "five models": _recording(await _records(models=5)),
            "two hooks": _recording(await _records(hook=_TwoHooks)),
        },
        pace,
        per=RECORDS,
    )
    base = found["by hand"]
    table = [row("count and total, by hand", base), row("list.append of the record", found["append"], base, "by hand")]
    for name, what in (
        ("one model", "LayerStats.record, one model, one hook"),
        ("five models", "LayerStats.record, five models, one hook"),
        ("two hooks", "LayerStats.record, one model, two hooks"),
    ):
        table.append(row(what, found[name], base, "by hand", max_value=0.3))
    return table


async def _records(*, models: int = 1, hook: type[NoOp] = NoOp) -> list[Any]:
    """Records that real calls left behind, so that they look and spread as real ones do."""
    made: list[Any] = []
    calls = [wrapped(_named(f"model-{number}"), [_Tap(made), hook(0)]).generate for number in range(models)]
    for number in range(RECORDS):
        await calls[number % models]("hello")
    return made


class _Tap(Named):
    """Takes the record of the layer inside of it."""

    def __init__(self, made: list[Any]) -> None:
        super().__init__(-1)
        self.made = made

    async def wrap_generate(self, do_generate: Any, params: Any, context: Any) -> Response:
        response = await do_generate(params)
        self.made.append(context._call.executions[-1])
        return response


class _TwoHooks(NoOp):
    async def transform_params(self, params: Any, context: Any) -> Any:
        return params


def _named(model_id: str) -> Ready:
    model = Ready()
    model.model_id = model_id
    return model


def _recording(records: list[Any]) -> Slice:
    stats = LayerStats()

    async def run(times: int) -> int:
        started = clock()
        for _ in range(times):
            for record in records:
                stats.record(record)
        return clock() - started

    return run


def _appending(records: list[Any]) -> Slice:
    async def run(times: int) -> int:
        started = clock()
        for _ in range(times):
            kept: list[Any] = []
            for record in records:
                kept.append(record)
        return clock() - started

    return run


class _Simple:
    def __init__(self) -> None:
        self.count = self.total_ns = 0

    def record(self, record: Any) -> None:
        self.count += 1
        self.total_ns += record[2]


def _by_hand(records: list[Any]) -> Slice:
    stats = _Simple()

    async def run(times: int) -> int:
        started = clock()
        for _ in range(times):
            for record in records:
                stats.record(record)
        return clock() - started

    return run

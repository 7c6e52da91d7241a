"""What extract_reasoning costs for a chunk of a stream: one without tags, one within reasoning, and tags cut anywhere.

Each is measured in a chain under one other layer, next to the same chain without it and to the same chain with a step
in its place that passes every part on. "Its own" is the difference to that step, "in all" the difference to the chain
without any. The budget is declared on "in all". What leaves a layer as another part than it came is compared, for the
receipt; that is the chain's work, and it is in both figures.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from neuro_mw import Finish, Middleware, Response, TextDelta, Usage, middleware
from neuro_mw.builtin.extract_reasoning import ExtractReasoning

from .chain import wrapped
from .measure import Pace, Row, Slice, each, measure, row
from .resilience import outermost
from .stream import reading

CHUNKS = 2000
PER_CHUNK_US = 5.0

TEXTS = {
    "words, no tag": ["word "] * CHUNKS,
    "words with a '<' in each, no tag": ["a < b"] * CHUNKS,
    "words, nine tenths of them reasoning": ["<think>", *["word "] * (CHUNKS * 9 // 10), "</think>",
                                             *["word "] * (CHUNKS // 10 - 2)],
    "tags in chunks of one character": list("<think>a</think>b" * (CHUNKS // 17 + 1))[:CHUNKS],
}  # fmt: skip


class Streaming:
    """A model whose stream is there already, in these pieces."""

    provider, model_id = "openai", "gpt-4o"

    def __init__(self, pieces: list[str]) -> None:
        self.parts: list[Any] = [*map(TextDelta, pieces), Finish("stop", Usage())]

    async def generate(self, params: dict[str, Any]) -> Response:
        raise NotImplementedError

    async def stream(self, params: dict[str, Any]) -> AsyncIterator[Any]:
        for part in self.parts:
            yield part


def rows(pace: Pace) -> list[Row]:
    return asyncio.run(_rows(pace))


async def _rows(pace: Pace) -> list[Row]:
    contestants: dict[str, Slice] = {}
    for name, pieces in TEXTS.items():
        model, passing = Streaming(pieces), middleware("passing", transform_parts=lambda params, context: _pass)
        contestants[f"{name}: without"] = _slice(model)
        contestants[f"{name}: empty"] = _slice(model, passing)
        contestants[f"{name}: with"] = _slice(model, ExtractReasoning())
    found = await measure(contestants, pace, per=CHUNKS)
    table = []
    for name in TEXTS:
        own = each(found[f"{name}: with"], found[f"{name}: empty"], 1)
        in_all = each(found[f"{name}: with"], found[f"{name}: without"], 1)
        table.append(row(f"{name}: its own", own))
        table.append(row(f"{name}: in all", in_all, max_value=PER_CHUNK_US))
    return table


def _pass(part: Any) -> Any:
    return part


def _slice(model: Streaming, *layers: Middleware) -> Slice:
    chain = wrapped(model, [outermost(), *layers])
    return reading(chain.stream, {"messages": [{"role": "user", "content": "hello"}]})

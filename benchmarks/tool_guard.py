"""What tool_guard costs: for a tool call, once for an answer with calls, and for a part that is none.

Each is measured in a chain under one other layer, next to the same chain without it and to the same chain with an
empty layer in its place: a step that holds the calls and lets them go before Finish, and judges nothing. "Its own" is
the difference to the empty layer, "in all" to the chain without. A call is a tenth of the difference between answers
with 11 calls and with one. "An answer with one call" is such an answer against the same chains, with what is done once
for it: on that, its own, the budget is declared. The schemas are those of OpenAI's guide (weather) and of a tool as
agents have it (search: nine properties, one of them a list or null); "by jsonschema" is one that leaves the quick way.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from neuro_mw import Finish, Middleware, Response, TextDelta, ToolCall, ToolCallDelta, Usage, middleware, parts_of
from neuro_mw.builtin.tool_guard import ToolGuard

from .chain import wrapped
from .measure import Pace, Row, Slice, awaiting, each, measure, row
from .resilience import PARTS, outermost
from .stream import reading

MORE = 10
PER_ANSWER_US, PER_PART_US = 20.0, 0.3

SCHEMAS: dict[str, Any] = {
    "weather": {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "City and country, as in Bogotá, Colombia"},
            "units": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "The units."},
        },
        "required": ["location", "units"],
        "additionalProperties": False,
    },
    "search": {
        "type": "object",
        "properties": {
            "query": {"type": "string", "minLength": 1, "maxLength": 500},
            "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
            "offset": {"type": "integer", "minimum": 0},
            "sort": {"enum": ["newest", "oldest", "best"]},
            "exact": {"type": "boolean"},
            "score": {"type": "number", "exclusiveMinimum": 0},
            "tags": {"anyOf": [{"type": "array", "items": {"type": "string"}, "maxItems": 20}, {"type": "null"}]},
            "path": {"type": ["string", "null"]},
            "range": {
                "type": "object",
                "properties": {
                    "from": {"type": "string", "format": "date"},
                    "to": {"type": "string", "format": "date"},
                },
                "required": ["from"],
            },
        },
        "required": ["query"],
        "additionalProperties": False,
    },
}
ARGUMENTS = {
    "weather": {"location": "Paris, France", "units": "celsius"},
    "search": {
        "query": "tool calls", "limit": 20, "offset": 0, "sort": "best", "exact": False, "score": 0.5,
        "tags": ["a", "b"], "path": None, "range": {"from": "2026-11-22", "to": "2026-11-23"},
    },
}  # fmt: skip


class Answering:
    """A model whose answer is there already, whole and in parts."""

    provider, model_id = "openai", "gpt-4o"

    def __init__(self, response: Response, parts: list[Any] | None = None) -> None:
        self.response, self.parts = response, parts or list(parts_of(response))

    async def generate(self, params: dict[str, Any]) -> Response:
        return self.response

    async def stream(self, params: dict[str, Any]) -> Any:
        for part in self.parts:
            yield part


def rows(pace: Pace) -> list[Row]:
    return asyncio.run(_rows(pace))


async def _rows(pace: Pace) -> list[Row]:
    table = []
    for stream in (False, True):
        mode = "stream" if stream else "generate"
        for name in SCHEMAS:
            table += await _of_calls(pace, f"{mode}, {name}", name, {}, stream=stream)
        by_jsonschema = {"$comment": "x", "allOf": [SCHEMAS["weather"]]}
        table += await _of_calls(pace, f"{mode}, weather by jsonschema", "weather", by_jsonschema, stream=stream)
        nothing = Answering(Response(text="word"))
        found = await measure(_chains(nothing, {}, stream=stream), pace)
        table.append(row(f"{mode}, an answer without calls: its own", each(found["with"], found["empty"], 1)))
        table.append(row(f"{mode}, an answer without calls: in all", each(found["with"], found["without"], 1)))
    long = Answering(Response(), [*(TextDelta("word ") for _ in range(PARTS)), Finish("stop", Usage())])
    found = await measure(_chains(long, {}, stream=True), pace, per=PARTS)
    table.append(row("a part of text: in all", each(found["with"], found["without"], 1), max_value=PER_PART_US))
    return table


async def _of_calls(pace: Pace, what: str, name: str, schema: dict[str, Any], *, stream: bool) -> list[Row]:
    names = (name, "other")
    tools = [{"type": "function", "function": {"name": one, "parameters": schema or SCHEMAS[name]}} for one in names]
    params = {"messages": [{"role": "user", "content": "hi"}], "tools": tools}
    text = json.dumps(ARGUMENTS[name])
    contestants: dict[str, Slice] = {}
    for number in (1, 1 + MORE):
        calls = [ToolCall(f"call_{at}", name, text) for at in range(number)]
        model = Answering(Response(tool_calls=calls, finish_reason="tool_calls"))
        contestants |= {f"{number} {which}": one for which, one in _chains(model, params, stream=stream).items()}
    for one in contestants.values():
        await one(1)  # the schema is compiled at the first call, which says nothing of how long the others take
    found = await measure(contestants, pace)
    rows = []
    for said, against in (("its own", "empty"), ("in all", "without")):
        one = each(found["1 with"], found[f"1 {against}"], 1)
        many = each(found[f"{1 + MORE} with"], found[f"{1 + MORE} {against}"], 1)
        budget = PER_ANSWER_US if said == "its own" and not schema else None
        rows.append(row(f"{what}, an answer with one call: {said}", one, max_value=budget))
        rows.append(row(f"{what}, a further call: {said}", each(many, one, MORE)))
    return rows


class Holding:
    """The step of the empty layer."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def feed(self, part: Any) -> Any:
        if isinstance(part, ToolCallDelta):
            self.kept.append(part)
            return None
        return [*self.kept, part] if isinstance(part, Finish) and self.kept else part

    def finish(self) -> list[Any]:
        return []

    def abort(self) -> None:
        self.kept = []


def _chains(model: Answering, params: dict[str, Any], *, stream: bool) -> dict[str, Slice]:
    """The chain with the guard, with the empty layer, and with neither."""
    empty = middleware("empty", priority=88, transform_parts=lambda params, context: Holding())
    made: dict[str, Slice] = {}
    layers: dict[str, list[Middleware]] = {"with": [ToolGuard()], "empty": [empty], "without": []}
    for which, inner in layers.items():
        chain = wrapped(model, [outermost(), *inner])
        made[which] = reading(chain.stream, params) if stream else awaiting(chain.generate, params)
    return made

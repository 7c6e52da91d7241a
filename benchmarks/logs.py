"""What the middleware `logging` costs for a call: its record made, formatted as JSON and written nowhere; and off.

It is measured as those of `benchmarks/resilience.py` are: under one other layer, next to the same chain without it and
to the same chain with an empty layer in its place. "on" is a logger that takes INFO and whose handler formats with
orjson, which is part of the figure; "off" one that takes warnings only. "plain" is the empty layer with a bare
``logger.info(...)`` of ready-made facts in its `on_end`, through the same handler: what the standard library takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson

from neuro_mw import Finish, Middleware, Usage, pricing
from neuro_mw.builtin.logging import Logging

from .chain import wrapped
from .measure import Pace, Row, Slice, awaiting, calling, each, measure, row
from .resilience import Answering, empty, outermost
from .stream import reading

PER_CALL_US = 15.0
PARTS = 2000
_ON, _OFF = "benchmarks.calls.on", "benchmarks.calls.off"
_OWN = {*vars(logging.LogRecord("", 0, "", 0, "", (), None)), "message", "asctime"}


class JsonFormatter(logging.Formatter):
    """As python-json-logger's one with orjson: all that is not the record's own."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {name: value for name, value in vars(record).items() if name not in _OWN}
        return orjson.dumps({"level": record.levelname, "message": record.getMessage(), **facts}).decode()


class Nowhere:
    """A stream that takes all."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


def rows(pace: Pace) -> list[Row]:
    """The table."""
    with _loggers():
        return asyncio.run(_rows(pace))


async def _rows(pace: Pace) -> list[Row]:
    table = []
    pricing.price_of("openai", "gpt-4o")  # the first question reads the list
    for what, words, stream in (("generate", 1, False), ("short stream", 1, True), ("part", PARTS, True)):
        model, per_call = _model(words), words == 1
        layers: dict[str, list[Middleware]] = {
            "without": [],
            "empty": [empty(0, Logging())],
            "plain": [_plain(await _a_record())],
            "off": [Logging(logger=_OFF)],
            "on": [Logging(logger=_ON)],
        }
        if per_call:
            layers["content"] = [Logging(logger=_ON, content=True)]
            layers["sampled out"] = [Logging(logger=_ON, sample_rate=0.0)]
        contestants = {name: _slice(model, some, stream=stream) for name, some in layers.items()}
        found = await measure(contestants, pace, per=words)
        for name in layers:
            if name not in ("without", "empty"):
                limit = PER_CALL_US if per_call and name == "on" else None
                in_all, own = each(found[name], found["without"], 1), each(found[name], found["empty"], 1)
                table.append(row(f"{what}, logging {name}: its own", own, max_value=limit))
                table.append(row(f"{what}, logging {name}: in all", in_all))
        if per_call:
            table.append(row(f"{what}, logging on: beyond plain", each(found["on"], found["plain"], 1)))
    alone = await measure({"json": calling(JsonFormatter().format, await _a_record())}, pace)
    table.append(row("logging: the JSON formatter alone", alone["json"]))
    return table


def _model(words: int) -> Answering:
    model = Answering(words)
    model.response.usage = Usage(100, words)
    model.parts[-1] = Finish("stop", Usage(100, words))
    return model


async def _a_record() -> logging.LogRecord:
    kept: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = kept.append  # for one record
    logging.getLogger(_ON).addHandler(handler)
    await wrapped(_model(1), [Logging(logger=_ON)]).generate("hello")
    logging.getLogger(_ON).removeHandler(handler)
    return kept[0]


def _plain(record: logging.LogRecord) -> Middleware:
    """An empty layer that only logs, as anybody would by hand."""
    facts = {name: value for name, value in vars(record).items() if name not in _OWN}
    log, values = logging.getLogger(_ON), record.args or ()

    def on_end(outcome: Any, context: Any) -> None:
        log.info(record.msg, *values, extra=facts)

    layer = empty(1, Logging())
    layer.on_end = on_end  # type: ignore[method-assign]  # as `middleware(...)` does
    return layer


def _slice(model: Answering, layers: Sequence[Middleware], *, stream: bool) -> Slice:
    params: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 500}
    chain = wrapped(model, [outermost(), *layers])
    return reading(chain.stream, params) if stream else awaiting(chain.generate, params)


@contextmanager
def _loggers() -> Iterator[None]:
    handler = logging.StreamHandler(Nowhere())  # type: ignore[type-var]  # it has what a handler uses
    handler.setFormatter(JsonFormatter())
    on, off = logging.getLogger(_ON), logging.getLogger(_OFF)
    on.propagate = off.propagate = False
    on.setLevel(logging.INFO)
    off.setLevel(logging.WARNING)
    on.addHandler(handler)
    try:
        yield
    finally:
        on.removeHandler(handler)

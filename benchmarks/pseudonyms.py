"""What pseudonymize costs: each chunk of an answer on its way back, by style, and a request on its way out.

A chunk is 4 characters of a text of 4,096. The budget is declared on answers of words, code, numbers and HTML without a
placeholder, and on such that have one in every line of 80; "nothing else" shows the price of a placeholder itself.
Where nothing was found in the request there is no step, and a chunk costs nothing. Requests are a `transform_params`,
to that of guardrails which redact the same; those of a session begin and end with a store in memory.
"""

from __future__ import annotations

import asyncio
from inspect import isawaitable
from itertools import repeat
from time import thread_time_ns as clock
from typing import Any

from neuro_mw import MiddlewareContext, TextDelta
from neuro_mw.builtin.guardrails.guard import Guardrails
from neuro_mw.builtin.pseudonymize import Pseudonymize
from neuro_mw.state import open_store

from . import guardrails_texts as texts
from .measure import Pace, Row, Series, Slice, measure, row

SIZE, CHUNK, LINE = 4096, 4, 80
PER_CHUNK_US = 5.0
STYLES = ("type_index", "fake", "hash")
ASKED = "Write to jane@acme.org, or call +1 212 555 7788."


def rows(pace: Pace) -> list[Row]:
    """The figures."""
    return asyncio.run(_rows(pace))


async def _rows(pace: Pace) -> list[Row]:
    chunks: dict[str, Slice] = {}
    for style in STYLES:
        one, context, placeholders = _asked(style)
        for what, text in _answers(placeholders).items():
            chunks[f"{style}, {what}"] = _stepping(one, context, text)
    found = await measure(chunks, pace, per=SIZE // CHUNK)
    table = [
        row(f"each chunk, {what}", series, max_value=None if "nothing else" in what else PER_CHUNK_US)
        for what, series in found.items()
    ]
    return [*table, *_requests(await measure(_sending(), pace))]


def _asked(style: Any) -> tuple[Pseudonymize, MiddlewareContext, list[str]]:
    """A middleware, the context of a call that had personal data, and the placeholders in it."""
    one, context = Pseudonymize(style=style), MiddlewareContext("bench", "model", mode="stream")
    sent: Any = one.transform_params({"prompt": "jane@acme.org|+1 212 555 7788"}, context)
    return one, context, sent["prompt"].split("|")


def _answers(placeholders: list[str]) -> dict[str, str]:
    prose = texts.prose(SIZE)
    lines = [prose[at : at + LINE] for at in range(0, SIZE, LINE)]
    some = "".join(f"{line} {placeholders[at % 2]} " for at, line in enumerate(lines))
    return {
        "prose": prose,
        "code": texts.source(SIZE),
        "prose full of numbers": texts.numbered(SIZE),
        "HTML": ("<ul><li>An <em>example</em> of it</li><li>x &amp; y</li></ul>" * SIZE)[:SIZE],
        "prose with one in every line": some[:SIZE],
        "nothing else": (" ".join([*placeholders, ""]) * SIZE)[:SIZE],
    }


def _stepping(one: Pseudonymize, context: MiddlewareContext, text: str) -> Slice:
    """A stream of a text through the step, from its beginning to its end."""
    parts = [TextDelta(text[at : at + CHUNK]) for at in range(0, len(text), CHUNK)]

    async def run(times: int) -> int:
        started = clock()
        for _ in repeat(None, times):
            step: Any = one.transform_parts({}, context)
            for part in parts:
                step.feed(part)
            step.finish()
        return clock() - started

    return run


# --- requests ----------------------------------------------------------------------------------------------------


def _sending() -> dict[str, Slice]:
    session = Pseudonymize(scope="session")
    session.store = open_store("memory")
    plain = texts.prose(SIZE)
    some = f"{plain} {ASKED}"
    guardrails = Guardrails(pii=True, apply_to=["input"])
    return {
        "4 KB of prose, nothing found, guardrails": _request(guardrails, plain),
        "4 KB of prose, nothing found": _request(Pseudonymize(), plain),
        "4 KB of prose, two values, guardrails": _request(guardrails, some),
        "4 KB of prose, two values": _request(Pseudonymize(), some),
        "4 KB of prose, two values of a session": _request(session, some),
    }


def _request(one: Any, text: str) -> Slice:
    params = {"messages": [{"role": "user", "content": text}]}
    asking = MiddlewareContext("bench", "model", session={"session_id": "s1"})

    async def run(times: int) -> int:
        started = clock()
        for _ in repeat(None, times):
            made = one.transform_params(params, asking.for_call("generate"))
            if isawaitable(made):
                await made
        return clock() - started

    return run


def _requests(found: dict[str, Series]) -> list[Row]:
    table = []
    for what, series in found.items():
        base = next(
            (found[name] for name in found if name == f"{what.removesuffix(' of a session')}, guardrails"), None
        )
        table.append(row(what, series, base, "guardrails"))
    return table

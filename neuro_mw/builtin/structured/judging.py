"""Whether an answer is the value that is wanted, and what a model is told where its answer is not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from neuro_mw import Params, Response

from ..tools.offers import Offers
from .finding import values_in
from .mending import BrokenError, mended
from .problems import Problem, UnfitError, of_all
from .schemas import Schema

_CUT = "it was cut off: the limit of tokens was reached (finish_reason 'length')"


def is_on_the_way(called: Iterable[Any], params: Params) -> bool:
    """Whether an answer calls a tool of its request: then another answer will follow. No tool that it made up counts.

    >>> is_on_the_way(["look"], {}), is_on_the_way(["look"], {"tools": [{"name": "look"}]})
    (False, True)
    """
    names = [name for name in called if isinstance(name, str)]
    offers = Offers(params) if names else None
    return offers is not None and any(offers.find(name) is not None for name in names)


def judged(schema: Schema, texts: Iterable[str], finish_reason: str) -> tuple[Any, str]:
    """The value of the first of these texts that has one, and that text. Raises UnfitError for the first of them."""
    if finish_reason == "length":  # what is there may be a part of the value that looks like one
        raise UnfitError([Problem("", _CUT, f"{_CUT}; make it shorter")])
    first: UnfitError | None = None
    for text in texts:
        try:
            return schema.value(text), text
        except UnfitError as error:
            first = first or error
    raise first or of_all("there is no JSON")


def mended_value(schema: Schema, text: str) -> tuple[Any, str] | None:
    """The value of a text that is not quite JSON, and it as JSON; None where it cannot be read. Raises UnfitError."""
    try:
        texts = [json.dumps(value, ensure_ascii=False) for value in mended(text, schema.kinds)]
    except (BrokenError, ValueError, RecursionError):  # of numbers that are too long, of a depth that is too much
        return None
    return judged(schema, texts, "stop") if texts else None


def value_of(schema: Schema, response: Response, *, mend: bool) -> tuple[Any, str, bool]:
    """The value of an answer, its JSON, and whether that was mended. Raises UnfitError."""
    text = response.text or ""
    try:
        return *judged(schema, values_in(text, schema.kinds), response.finish_reason), False
    except UnfitError:
        found = mended_value(schema, text) if mend and response.finish_reason != "length" else None
        if found is None:
            raise
    return *found, True


def asked_again(schema: Schema, params: Params, response: Response, problems: list[Problem]) -> Params:
    """The request once more, behind it the answer and what is wrong with it."""
    said = ["Your answer is not what is wanted:", *(f"- {one.told}" for one in problems)]
    if schema.json is not None:
        said += ["It has to be valid for this JSON schema:", json.dumps(schema.json, ensure_ascii=False)]
    said.append("Answer again: with the whole JSON value, corrected, and nothing else.")
    messages = params.get("messages")
    turns = [*(messages if isinstance(messages, list | tuple) else ())]
    if response.text and response.tool_calls:  # made up: there are no results, without which providers refuse calls
        turns.append({"role": "assistant", "content": response.text})
    elif response.text:  # there are providers that refuse a message without any
        turns.append(response.to_message())
    return {**params, "messages": [*turns, {"role": "user", "content": "\n".join(said)}]}

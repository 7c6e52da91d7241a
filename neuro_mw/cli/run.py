"""``neuro-mw run``: one prompt through a chain."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import typer

from neuro_mw import ConfigError, MiddlewareFactory, RequestBlocked, Response, TextDelta, WrappedModel

from .failure import BLOCKED, OK, complain
from .options import Config, Debug, Disable, Enable, Json, Preset, factory_of
from .output import is_plain, show, show_json, write
from .stats import record_run


def run(
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT|-", show_default=False, help="'-' or nothing reads it from stdin.")
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", metavar="PROVIDER/MODEL", help="The model.")] = "echo/echo",
    preset: Preset = None,
    config: Config = None,
    enable: Enable = None,
    disable: Disable = None,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Ask for the whole answer at once.")] = False,
    as_json: Json = False,
    stats: Annotated[bool, typer.Option("--stats", help="Show what each middleware did, after the answer.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show the chain and why, before the answer.")] = False,
    no_record: Annotated[bool, typer.Option("--no-record", help="Do not record stats for 'neuro-mw stats'.")] = False,
    debug: Debug = False,
) -> int:
    """Send a prompt through a chain and stream the answer to stdout."""
    factory, options = factory_of(config, preset, enable, disable)
    wrapped = factory.apply_middleware(model, **options)
    text = prompt_of(prompt)
    if explain and not as_json:
        show_plan(wrapped)
    record = None if no_record else record_run(factory)
    try:
        answer = ask(factory, wrapped, text, stream=not no_stream, live=not as_json)
    finally:  # a call that failed counts too
        if record is not None:
            record()
    if as_json:
        show_json(document(factory, wrapped, answer, plan=explain))
    elif stats:
        show_stats(factory, wrapped)
    if answer.blocked is None:
        return OK
    complain(f"blocked by middleware '{answer.blocked.middleware}': {answer.blocked.reason}")
    return BLOCKED


def prompt_of(given: str | None) -> str:
    """The prompt: as given, or all of stdin without the line break at its end."""
    text = given
    if given == "-" or (given is None and sys.stdin is not None and not sys.stdin.isatty()):
        text = sys.stdin.read().removesuffix("\n").removesuffix("\r") if sys.stdin is not None else None
    if not text:
        raise ConfigError("there is no prompt: give one in quotes, or '-' to read it from stdin")
    return text


def ask(factory: MiddlewareFactory, model: WrappedModel, prompt: str, *, stream: bool, live: bool) -> Response:
    """The answer; `live` writes its text to stdout as it comes. A refusal is an answer, however it is told."""
    shown = _Shown(live)
    try:
        return asyncio.run(_ask(factory, model, prompt, stream, shown))
    except RequestBlocked as error:
        return error.response
    finally:
        shown.end()


class _Shown:
    """The text written so far: it must end in a line break, also when the answer breaks off."""

    def __init__(self, live: bool) -> None:
        self._live, self._last = live, ""

    def __call__(self, text: str) -> None:
        if self._live and text:
            self._last = ""  # should this write fail, nothing is to follow it
            write(text)
            self._last = text[-1]

    def end(self) -> None:
        if self._last not in ("", "\n"):
            write("\n")


async def _ask(factory: MiddlewareFactory, model: WrappedModel, prompt: str, stream: bool, shown: _Shown) -> Response:
    async with factory:
        if not stream:
            response = await model.generate(prompt)
            shown(response.text)
        else:
            async with model.stream(prompt) as parts:
                async for part in parts:
                    if isinstance(part, TextDelta):
                        shown(part.text)
                response = await parts.response()
        for call in response.tool_calls:
            shown(f"\n[tool call] {call.name} {call.arguments}")
        return response


def document(factory: MiddlewareFactory, model: WrappedModel, response: Response, *, plan: bool) -> dict[str, Any]:
    """All there is to know of a call, as plain data."""
    found: dict[str, Any] = {
        "response": response.to_dict(),
        "receipt": response.receipt.to_dict() if response.receipt else None,
        "stats": model.stats().to_dict(),
        "middleware": {id: one.to_dict() for id, one in factory.registry.get_aggregated_stats().items()},
    }
    return {"plan": model.explain().to_dict(), **found} if plan else found


def show_plan(model: WrappedModel) -> None:
    """The chain with its reasons: a tree for eyes, lines for a pipe."""
    plan = model.explain()
    show(str(plan) if is_plain() else plan)


def show_stats(factory: MiddlewareFactory, model: WrappedModel) -> None:
    """The table of what each layer did."""
    from neuro_mw.display import stats_table

    show("", stats_table(factory.registry.get_aggregated_stats(), model.stats(), plain=is_plain()))

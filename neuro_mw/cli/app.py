"""The commands brought together, and the frame in which one of them runs."""

from __future__ import annotations

import os
import sys
from asyncio import CancelledError
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from neuro_mw import __version__

from .demo import demo
from .explain import explain
from .failure import OK, report, warnings_as_lines
from .listing import list_middleware, list_plugins, list_presets
from .models import models
from .options import Debug
from .output import OutputError, discard, write
from .run import run
from .stats import stats

app = typer.Typer(
    name="neuro-mw",
    help="Middleware for LLM calls that cannot be bypassed.",
    epilog="Exit codes: 0 done, 1 the call failed, 2 wrong usage or configuration, 3 blocked by a middleware.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo)
app.command("run")(run)
app.command("list")(list_middleware)
app.command("presets")(list_presets)
app.command("explain")(explain)
app.command("plugins")(list_plugins)
app.command("models")(models)
app.command("stats")(stats)


def _version(wanted: bool) -> None:
    if wanted:
        write(f"neuro-mw {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Debug = False,
) -> None:
    if context.invoked_subcommand is None:
        write(context.get_help() + "\n")


def execute(argv: Sequence[str] | None) -> int:
    """Run the command that `argv` names; its exit code."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a character gets '?', not a traceback
            stream.reconfigure(errors="replace")
    eyes = sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    app.rich_markup_mode = "rich" if eyes else None
    settings: dict[str, Any] = {"debug": False}
    arguments = None if argv is None else list(argv)
    try:
        with warnings_as_lines():
            code = app(arguments, prog_name="neuro-mw", standalone_mode=False, obj=settings)
    except (Exception, CancelledError, KeyboardInterrupt) as error:  # noqa: BLE001  # each becomes one line and an exit code
        if isinstance(error, OutputError):
            discard()
        return report(error, debug=bool(settings["debug"]))
    return code if isinstance(code, int) else OK

"""What goes wrong: one line on stderr and an exit code, and never a prompt's text."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import Iterator

import typer

from neuro_mw.errors import ConfigError, NeuroError, PluginError, RegistrationError, RequestBlocked

from .output import OutputError

OK, CALL_FAILED, WRONG_USAGE, BLOCKED, INTERRUPTED, READER_LEFT = 0, 1, 2, 3, 130, 141

# typer carries a copy of click of its own since 0.20-odd and depended on click before: both are reached by this name
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def code_of(error: BaseException) -> int:
    """The exit code for an error that ended a command."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return INTERRUPTED
    if isinstance(error, OutputError) and error.reader_left:
        return READER_LEFT
    if isinstance(error, RequestBlocked):
        return BLOCKED
    if isinstance(error, ConfigError | RegistrationError | PluginError | UsageError):
        return WRONG_USAGE
    return CALL_FAILED


def line_of(error: BaseException) -> str:
    """One line for an error: its message where it is ours, else its type (its message may quote the prompt); notes."""
    if isinstance(error, UsageError):
        message = _usage(error)
    elif isinstance(error, NeuroError | OutputError):
        message = str(error) or type(error).__name__
    else:
        message = f"{type(error).__name__} (its message may quote the prompt: see it with --debug)"
    notes = getattr(error, "__notes__", ())
    return one_line(message + "".join(f" [{note}]" for note in notes))


def one_line(text: str) -> str:
    """`text` without line breaks and control characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _usage(error: Exception) -> str:
    message: str = error.format_message()  # type: ignore[attr-defined]  # click's own
    if message.startswith("Got unexpected extra argument"):
        message = "too many arguments: put a prompt of several words in quotes"
    context = getattr(error, "ctx", None)
    return f"{message.rstrip('.')}. See '{context.command_path} --help'" if context else message


def complain(line: str) -> None:
    """One line on stderr."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"neuro-mw: {one_line(line)}", file=sys.stderr, flush=True)


def report(error: BaseException, *, debug: bool) -> int:
    """Tell an error and return its exit code."""
    code = code_of(error)
    if debug:
        traceback.print_exception(error)
    if code not in (INTERRUPTED, READER_LEFT):
        complain(line_of(error))
    return code


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(f"{record.levelname.lower()}: {record.getMessage()}")


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Show what the package logs as one line each, while a command runs."""
    logger, handler = logging.getLogger("neuro_mw"), _Lines(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Leave out the warnings for plugins that fail: the command shows them itself."""
    logger = logging.getLogger("neuro_mw")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)

"""What goes to stdout: text as it comes, tables and trees, JSON."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_NO_WRAP = 10_000  # columns: what is piped on must not be cut to the width of a terminal that is not there


class OutputError(Exception):
    """Stdout takes no more; ``reader_left`` = it is a pipe whose reader has gone, which is no fault."""

    def __init__(self, error: OSError) -> None:
        self.reader_left = error.errno == errno.EPIPE
        super().__init__(f"the output cannot be written: {error.strerror or type(error).__name__}")


def write(text: str) -> None:
    """Write to stdout and flush; OutputError where that fails, so that no error of a provider is taken for it."""
    if sys.stdout is None:  # started with stdout closed
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        raise OutputError(error) from None


def discard() -> None:
    """Send what is still buffered nowhere: the interpreter would try, and complain, once more at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_plain() -> bool:
    """Whether stdout is for a file, a pipe or a program rather than for eyes."""
    return not _console().is_terminal


def show(*things: Any) -> None:
    """Print strings and rich renderables: in colour on a terminal, else as plain lines of any length."""
    console = _console()
    with console.capture() as captured:
        for thing in things:
            console.print(thing)
    text = captured.get()
    write(text if console.is_terminal else "".join(f"{line.rstrip()}\n" for line in text.splitlines()))


@contextlib.contextmanager
def live() -> Iterator[Callable[..., None]]:
    """Give what shows things in the place of those before, on a terminal; elsewhere one below the other."""
    console = _console()
    if not console.is_terminal:
        yield show
        return
    from rich.console import Group
    from rich.live import Live

    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as screen:
        yield lambda *things: screen.update(Group(*things), refresh=True)


def show_json(document: Any) -> None:
    """Print one JSON document. ASCII only, so that it survives any encoding on the way."""
    write(json.dumps(document, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def _console() -> Console:
    from rich.console import Console

    # rich keeps bold and dim under NO_COLOR; who sets it wants no escape codes at all
    system: Any = None if os.environ.get("NO_COLOR") else "auto"
    console = Console(color_system=system, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _NO_WRAP
    return console

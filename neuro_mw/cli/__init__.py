"""The command line ``neuro-mw``: run a prompt through a chain, and see what the chain is and what it did.

Exit codes: 0 done, 1 the call failed, 2 wrong usage or configuration, 3 blocked by a middleware, 130 interrupted,
141 the reader of the output left.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` is without the program's name (None: that of the process).

    >>> main(["run", "hello"])
    hello
    0
    """
    try:
        from .app import execute  # what it loads takes time in which a user may press Ctrl-C

        return execute(argv)
    except KeyboardInterrupt:
        return 130

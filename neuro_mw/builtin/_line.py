"""A name within a line of a log."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(256)
def in_line(name: str) -> str:
    r"""The name, which may be a caller's, as it can stand within a line: it neither ends it nor breaks its encoding.

    >>> in_line("gpt-4o"), in_line("gpt\n4o")
    ('gpt-4o', "'gpt\\n4o'")
    """
    return name if name.isprintable() else ascii(name)

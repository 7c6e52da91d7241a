"""The patterns of JSON schemas, in linear time: RE2's."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from .errors import UnusableError

_MEMORY = 8 << 20  # bytes that one pattern may take
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)


@lru_cache(1024)
def compiled(pattern: str) -> Any:
    """A pattern as RE2 runs it. Raises UnusableError where it does not."""
    import re2

    options = re2.Options()
    options.log_errors, options.max_mem = False, _MEMORY
    # a character by its number is written otherwise there
    written = _ESCAPE.sub(lambda found: f"\\x{{{found[1][1:]}}}" if len(found[1]) > 1 else found[0], pattern)
    try:
        return re2.compile(written, options)
    except (re2.error, UnicodeError) as error:
        reason = error.args[0] if isinstance(error, re2.error) else "half of a surrogate pair"
        said = reason.decode() if isinstance(reason, bytes) else reason
        detail = f"{pattern!r}: {said}"
        raise UnusableError("it has a pattern that RE2 cannot run in linear time", detail) from None


def found(pattern: str, text: str) -> bool:
    """Whether a pattern is found in a text; with half of a surrogate pair it is none, and has nothing in it."""
    try:
        return compiled(pattern).search(text) is not None
    except UnicodeError:
        return False

"""What somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that comes closest, or None where nothing is close.

    >>> nearest("minut", ["second", "minute"])
    'minute'
    """
    import difflib  # only ever needed on the way to an error

    found = difflib.get_close_matches(name, list(known), n=1)
    return found[0] if found else None

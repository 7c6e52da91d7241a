"""The known name that somebody meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that comes closest to `name`, or None where nothing is close.

    >>> nearest("secuirty", ["default", "security"])
    'security'
    """
    import difflib  # only ever needed on the way to an error

    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return found[0] if found else None

"""What a middleware counts on its own account: rules that matched, texts that were cut."""

from __future__ import annotations

from collections import Counter
from threading import Lock

_NAMES = 256


class Tally:
    """Counts by name, exact under threads; of more than 256 names the further ones are counted as "other".

    >>> tally = Tally()
    >>> tally.add("pii.email", 2); tally.add("pii.email")
    >>> tally.counts()
    {'pii.email': 3}
    """

    __slots__ = ("_counts", "_lock")

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    def add(self, what: str, number: int = 1) -> None:
        """Count."""
        with self._lock:
            known = what in self._counts or len(self._counts) < _NAMES
            self._counts[what if known else "other"] += number

    def counts(self) -> dict[str, int]:
        """A copy of the counts."""
        with self._lock:
            return dict(self._counts)

    def clear(self) -> None:
        """Start anew."""
        with self._lock:
            self._counts.clear()

"""What a middleware counts on its own account: rules that matched, texts that were cut."""

from __future__ import annotations

from collections import Counter
from threading import Lock

_NAMES = 256
_MOST = (1 << 63) - 1


def sendable(name: object) -> str:
    """A name as every exporter takes it: a str with a ``?`` for each character that UTF-8 cannot encode."""
    return str(name).encode("utf-8", "replace").decode()


def whole(number: float) -> int:
    """A count as every exporter takes it: an int from 0 to 2**63 - 1; 0 for what is no number."""
    try:
        return min(max(round(number), 0), _MOST)
    except (TypeError, ValueError, OverflowError):  # nan, infinity
        return 0


class Tally:
    """Counts by name, exact under threads; of more than 256 names the further ones are counted as "other".

    What others cannot take is made so when it is read, not when it is counted: see `sendable` and `whole`.

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
            kept = dict(self._counts)
        counts: Counter[str] = Counter()
        for what, number in kept.items():
            counts[sendable(what)] += whole(number)
        return dict(counts)

    def clear(self) -> None:
        """Start anew."""
        with self._lock:
            self._counts.clear()

"""A histogram of times with 16 linear steps in each power of two (the scheme of HdrHistogram): error at most 1/32.

The bucket of a time is the upper 16 of the 64 bits of a double: sign, exponent and first four bits of the mantissa.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate
from sys import byteorder

_UPPER = 3 if byteorder == "little" else 0  # of the four 16-bit words of a double


def buckets_of(times: Sequence[float]) -> Sequence[int]:
    """The histogram bucket of each time: a double's sign, exponent and first four bits of its mantissa."""
    return array("H", array("d", times).tobytes())[_UPPER::4]


@cache  # of some hundreds of buckets, each asked for whenever stats are read
def start_of(bucket: int) -> float:
    """The smallest time in a bucket."""
    words = array("H", [0, 0, 0, 0])
    words[_UPPER] = bucket
    return array("d", words.tobytes())[0]


def middle_of(bucket: int) -> float:
    """The time in the middle of a bucket; 0 for none, and for times that rounding made negative."""
    return 0.0 if bucket >> 15 or not bucket else (start_of(bucket) + start_of(bucket + 1)) / 2


def percentiles(buckets: Mapping[int, int], *shares: float) -> list[float]:
    """For each share (0 to 1) the time that so many are not above, as the middle of its bucket; 0 where there are none.

    >>> percentiles({bucket: 1 for bucket in buckets_of([0.001, 0.002, 0.003])}, 0.5, 0.99)
    [0.00201416015625, 0.00299072265625]
    """
    ordered = sorted(buckets)
    negative = bisect_left(ordered, 1 << 15)
    ordered = ordered[negative:] + ordered[:negative]
    if not ordered:
        return [0.0] * len(shares)
    below = list(accumulate(map(buckets.__getitem__, ordered)))
    return [middle_of(ordered[bisect_left(below, share * below[-1])]) for share in shares]

"""A histogram of times with 16 linear steps in each power of two (the scheme of HdrHistogram): error at most 1/32.

The bucket of a time is the upper 16 of the 64 bits of a double: sign, exponent and first four bits of the mantissa.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from sys import byteorder

_UPPER = 3 if byteorder == "little" else 0  # of the four 16-bit words of a double


def buckets_of(times: Sequence[float]) -> Sequence[int]:
    """The histogram bucket of each time: a double's sign, exponent and first four bits of its mantissa."""
    return array("H", array("d", times).tobytes())[_UPPER::4]


def start_of(bucket: int) -> float:
    """The smallest time in a bucket."""
    words = array("H", [0, 0, 0, 0])
    words[_UPPER] = bucket
    return array("d", words.tobytes())[0]


def middle_of(bucket: int) -> float:
    """The time in the middle of a bucket; 0 for none, and for times that rounding made negative."""
    return 0.0 if bucket >> 15 or not bucket else (start_of(bucket) + start_of(bucket + 1)) / 2

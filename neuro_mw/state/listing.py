"""Which keys a store has, where keys are kept as bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite3 import Connection

_LIVE = """
SELECT key FROM entries
WHERE key >= ? AND key < ? AND typeof(value) = 'blob' AND typeof(ttl_s) = 'real' AND ends > ? AND ends <= ? + ttl_s
"""


def live_keys(connection: Connection, prefix: bytes, now: float, slack_s: float) -> list[str]:
    """The keys of the values in a sqlite file that begin with `prefix`, and that `now` a reader would be given."""
    end = prefix + b"\xff"  # no byte of a text is as high
    return texts_of(key for (key,) in connection.execute(_LIVE, (prefix, end, now, now + slack_s)))


def glob_of(prefix: bytes) -> bytes:
    r"""The pattern by which Redis finds what begins with `prefix`.

    >>> glob_of(b"a*b")
    b'a\\*b*'
    """
    return re.sub(rb"([*?\[\\])", rb"\\\1", prefix) + b"*"


def texts_of(found: Iterable[bytes], skip: int = 0) -> list[str]:
    """The keys behind `skip` bytes as texts, each once, sorted; without those that are none: somebody else's."""
    texts = set()
    for raw in found:
        try:
            texts.add(raw[skip:].decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            continue
    return sorted(texts)

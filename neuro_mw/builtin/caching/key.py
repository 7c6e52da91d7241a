"""The key of a request: equal where the requests mean the same as JSON, and nowhere else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Set
from math import isfinite
from typing import Any

import orjson

LEFT_OUT = frozenset({"stream", "timeout", "max_retries", "num_retries"})
"""Params that say how an answer is fetched, and nothing of what it is."""

_OPTIONS = (
    orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)  # fmt: skip


def key_of(head: list[str], params: dict[str, Any], left_out: Set[str] = LEFT_OUT) -> str | None:
    """A hash of canonical JSON; None where the params hold what JSON cannot say exactly.

    ``head`` is what the key holds beside the params. Numbers of another type differ, tuples are lists, and the order of
    names tells nothing.

    >>> key_of(["a"], {"seed": 1, "stop": ["x"]}) == key_of(["a"], {"stop": ("x",), "seed": 1})
    True
    >>> key_of([], {"seed": 1}) == key_of([], {"seed": True}), key_of([], {"seed": object()})
    (False, None)
    """
    if not left_out.isdisjoint(params) or "stream_options" in params:
        params = {name: value for name, value in params.items() if name not in left_out}
        if params.get("stream_options") == {"include_usage": True}:  # what drivers ask for anyway
            del params["stream_options"]
    text = _text(head, params)
    return None if text is None else hashlib.sha256(text).hexdigest()


def _text(head: list[str], params: dict[str, Any]) -> bytes | None:
    try:
        text = orjson.dumps([head, params], option=_OPTIONS)
        if orjson.loads(text)[1] == params:  # so nothing was turned into something else on the way
            return text
    except Exception:  # noqa: BLE001  # a foreign __eq__ may raise anything; the exact way decides
        pass
    try:
        said = [head, _plain(params)]
    except (TypeError, ValueError, RecursionError):
        return None
    try:
        return orjson.dumps(said, option=_OPTIONS)
    except TypeError:  # an integer of more than 64 bits, a lone surrogate
        pass
    try:
        return b"json" + json.dumps(said, sort_keys=True).encode()
    except (ValueError, RecursionError):  # an integer of more than 4,300 digits
        return None


def _plain(value: Any) -> Any:
    """The same of the types that JSON has. Raises TypeError where it is not the same.

    >>> _plain({"stop": ("a", None)})
    {'stop': ['a', None]}
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__getitem__(value, slice(None))  # of a subclass, what it is as a string
    if isinstance(value, int):
        return int.__pos__(value)
    if isinstance(value, float) and isfinite(value):
        return float.__pos__(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        said = {_plain(name): _plain(one) for name, one in value.items()}
        if len(said) == len(value):
            return said
    raise TypeError

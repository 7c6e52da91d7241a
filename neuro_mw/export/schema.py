"""Reading a snapshot that somebody else wrote: what is taken is as the schema says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from math import isfinite
from typing import Any, NoReturn

from ..contract import check_id
from ..errors import NeuroError, RegistrationError
from ..histogram import buckets_of, start_of
from ..stats import MiddlewareStats
from ..tally import sendable
from .snapshots import ADDED_BY_NAME, SCHEMA

_MOST = 1 << 63
_DAMAGE = (KeyError, TypeError, ValueError, OverflowError, RegistrationError)
_FRESH = MiddlewareStats().to_dict()
_TIMES = tuple(one.name for one in fields(MiddlewareStats) if type(_FRESH[one.name]) is float)


class SnapshotError(NeuroError):
    """What was read is no snapshot, or one of a schema that this version does not know. It quotes nothing of it."""


def parse_snapshot(text: str | bytes, skipped: list[str] | None = None) -> dict[str, Any]:
    """The snapshot of a JSON text. Fields that this version does not know are left out, those that miss are 0.

    Raises SnapshotError where it is none: broken off, of another schema, with numbers that cannot be. With a list as
    `skipped` a middleware with such numbers is left out, a line for it added to the list, and the others are taken.

    >>> from neuro_mw.export import merge
    >>> parse_snapshot(json.dumps(merge([]))) == merge([])
    True
    >>> parse_snapshot('{"schema": 2}')
    Traceback (most recent call last):
    neuro_mw.export.schema.SnapshotError: it is of schema 2, this version reads 1
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise SnapshotError("it is no JSON") from None
    if not isinstance(data, dict) or "schema" not in data:
        raise SnapshotError("it is no snapshot of stats")
    if data["schema"] != SCHEMA or isinstance(data["schema"], bool):
        number = data["schema"] if type(data["schema"]) is int and abs(data["schema"]) < 1000 else "another kind"
        raise SnapshotError(f"it is of schema {number}, this version reads {SCHEMA}")
    try:
        return {
            "schema": SCHEMA,
            "taken_at": _number(data["taken_at"]),
            "processes": [_process(one) for one in _list(data["processes"])],
            "middleware": _entries(data["middleware"], skipped),
        }
    except _DAMAGE:
        raise SnapshotError("it is no snapshot of stats, or a damaged one") from None


def _entries(data: Any, skipped: list[str] | None) -> dict[str, Any]:
    found = {}
    for id, entry in _dict(data).items():
        try:
            found[_id(id)] = _entry(entry)
        except _DAMAGE:
            if skipped is None:
                raise
            skipped.append("the figures of one middleware are damaged")
    return found


def _process(data: Any) -> dict[str, Any]:
    return {"id": _id(data["id"]), "pid": _whole(data["pid"]), "taken_at": _number(data["taken_at"])}


def _entry(data: Any) -> dict[str, Any]:
    stats = {**_FRESH, **{name: value for name, value in _dict(data["stats"]).items() if name in _FRESH}}
    for name, value in stats.items():
        if name in ADDED_BY_NAME:
            of = _number if name == "by_hook" else _whole
            stats[name] = {sendable(what): of(number) for what, number in _dict(value).items()}
        else:
            stats[name] = _number(value) if name in _TIMES else _whole(value)
    buckets = [[_start(start), _whole(count)] for start, count in _list(data["buckets"])]
    parts = ("successful_executions", "failed_executions", "cancelled", "inner_errors")
    total = stats["total_executions"]
    inside = stats["short_circuited"] + stats["blocked"]
    if not total == sum(stats[name] for name in parts) == sum(count for _, count in buckets):
        _no()
    if inside > stats["successful_executions"] or len({start for start, _ in buckets}) < len(buckets):
        _no()
    return {"stats": stats, "buckets": buckets}


def _start(value: Any) -> float:
    """Where a bucket starts, to the last bit: else what is merged would not be exact."""
    start = _number(value)
    if start_of(buckets_of([start])[0]) != start:
        _no()
    return start


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not isfinite(value) or not 0 <= value < _MOST:
        _no()
    return float(value)


def _whole(value: Any) -> int:
    return value if type(value) is int and 0 <= value < _MOST else _no()


def _id(value: Any) -> str:
    check_id(value)
    return str(value)


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _no()


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else _no()


def _no() -> NoReturn:
    raise ValueError

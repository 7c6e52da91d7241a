"""The order of layers: by priority, then by registration, and above both by ``before``, ``after``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from .contract import MiddlewareMetadata
from .errors import OrderError


class Ordered(Protocol):
    """What can be put in order."""

    @property
    def id(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def metadata(self) -> MiddlewareMetadata: ...


T = TypeVar("T", bound=Ordered)


def sort_layers(items: Sequence[T]) -> list[T]:
    """`items` (in the order of registration) outermost first. Raises OrderError naming the cycle, if there is one.

    Who declares moves: with ``before`` an item is pulled out to where the other one is, with ``after`` it sinks.
    """
    ordered = sorted(items, key=lambda item: -item.priority)
    outer_of = _constraints(ordered)
    if not outer_of:
        return ordered
    pulled = _pulled_out(ordered)
    ordered.sort(key=lambda item: -pulled[item.id])
    result: list[T] = []
    placed: set[str] = set()
    while ordered:
        for index, item in enumerate(ordered):
            if outer_of.get(item.id, set()) <= placed:
                result.append(ordered.pop(index))
                placed.add(item.id)
                break
        else:
            raise OrderError(f"before/after form a cycle: {' -> '.join(_cycle(ordered[0].id, outer_of, placed))}")
    return result


def _pulled_out(items: Sequence[T]) -> dict[str, float]:
    """For each id its priority, or that of the highest one that it has to stand before."""
    pulled: dict[str, float] = {item.id: item.priority for item in items}
    for _ in items:  # as often as the longest chain of befores could need
        for item in items:
            pulled[item.id] = max([pulled[item.id], *(pulled[one] for one in item.metadata.before if one in pulled)])
    return pulled


def _constraints(items: Sequence[T]) -> dict[str, set[str]]:
    """For each id the ids that must stand further out."""
    known = {item.id for item in items}
    outer_of: dict[str, set[str]] = {}
    for item in items:
        for inner in item.metadata.before:
            if inner in known:
                outer_of.setdefault(inner, set()).add(item.id)
        outers = {outer for outer in item.metadata.after if outer in known}
        if outers:
            outer_of.setdefault(item.id, set()).update(outers)
    return outer_of


def _cycle(start: str, outer_of: dict[str, set[str]], placed: set[str]) -> list[str]:
    path = [start]
    while True:
        step = min(outer_of[path[-1]] - placed)
        if step in path:
            return [*path[path.index(step) :], step]
        path.append(step)


def check_requirements(items: Iterable[T]) -> None:
    """Raise OrderError where one of them requires another that is not among them."""
    items = list(items)
    known = {item.id for item in items}
    for item in items:
        for wanted in item.metadata.requires:
            if wanted not in known:
                raise OrderError(f"middleware {item.id!r} requires {wanted!r}, which is not switched on: enable it too")

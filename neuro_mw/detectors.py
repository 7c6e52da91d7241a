"""Detectors that plugins bring: what a guard that a factory builds can switch on by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from .errors import PluginError

_NAME = re.compile(r"[a-z][a-z0-9_]*")

Detector = Callable[[Mapping[str, Any]], Iterable[Any]]
"""Makes the rules of a detector (`neuro_mw.builtin.guardrails.Rule`, `Terms` or `Spans`) from its options."""

_known: ContextVar[Mapping[str, Detector]] = ContextVar("neuro_mw_detectors", default=MappingProxyType({}))


def add_detectors(known: dict[str, Detector], offered: Mapping[str, Detector]) -> None:
    """Add what a plugin offers; PluginError, and nothing is added, for a name that is taken or none."""
    for name, make in offered.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PluginError(f"invalid name of a detector {name!r}: use lower-case letters, digits and '_'")
        if not callable(make):
            raise PluginError(f"detector {name!r} is {type(make).__name__}, not a callable that makes rules")
        if name in known:
            raise PluginError(f"detector {name!r} already exists")
    known.update(offered)


def known_detectors() -> Mapping[str, Detector]:
    """The detectors by name, while a factory builds a middleware; none for an instance that a user makes.

    >>> known_detectors()
    mappingproxy({})
    """
    return _known.get()


@contextmanager
def offering(detectors: Mapping[str, Detector]) -> Iterator[None]:
    """Make detectors known to what is built inside."""
    token = _known.set(MappingProxyType(dict(detectors)))
    try:
        yield
    finally:
        _known.reset(token)

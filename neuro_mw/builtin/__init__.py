"""The built-in middlewares. They enter by the same door as a third party's: an entry of hooks, off until named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neuro_mw import hookimpl

if TYPE_CHECKING:
    from .analytics import Analytics as Analytics
    from .guardrails import Guardrails as Guardrails

_CLASSES = {"Analytics": "analytics", "Guardrails": "guardrails"}

__all__ = ["Analytics", "Guardrails"]


@hookimpl
def register_middleware(register: Any) -> None:
    """Offer every built-in."""
    for name in _CLASSES:
        register(__getattr__(name))


def __getattr__(name: str) -> Any:
    module = _CLASSES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{module}"), name)

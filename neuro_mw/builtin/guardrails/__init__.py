"""Guardrails: detectors of what must not pass, in whole texts and in streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .guard import Guardrails

if TYPE_CHECKING:
    from .rules import Match, Rule, Spans, Terms
    from .ruleset import RuleSet

__all__ = ["Guardrails", "Match", "Rule", "RuleSet", "Spans", "Terms"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = "ruleset" if name == "RuleSet" else "rules"
    return getattr(import_module(f".{module}", __name__), name)

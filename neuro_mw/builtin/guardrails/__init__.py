"""Guardrails: detectors of what must not pass, in whole texts and in streams."""

from __future__ import annotations

from .rules import Match, Rule, Terms
from .ruleset import RuleSet

__all__ = ["Match", "Rule", "RuleSet", "Terms"]

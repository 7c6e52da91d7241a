"""The options of the guardrails, and what they mean for one rule in one channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from .actions import Action
from .channels import CHANNELS, DIRECTIONS, Channel
from .judge_settings import ModelFilter, PrecallEvaluation
from .rules import AnyRule

ActionTable = dict[str, Action | dict[str, Action]]


def _but_system() -> list[Channel]:
    return [name for name in CHANNELS if name != "system"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", defer_build=True)


class BadWords(_Strict):
    """Words and phrases, and whether they may be parts of longer words."""

    list: list[str]
    match: Literal["word", "substring"] = "word"


class NER(_Strict):
    """An engine that finds names and places, for which there is no form."""

    engine: str | Callable[..., Any] = "presidio"
    """ "presidio" (the extra of that name), or a callable, also as "package.module:name": gets a line of text, gives
    (start, end, type) of what it finds."""
    types: list[str] = Field(default_factory=lambda: ["PERSON", "LOCATION"], min_length=1)
    language: str = "en"
    model: str | None = None
    """The spaCy pipeline of Presidio: an installed package, or a folder."""


class PII(_Strict):
    """Which personal data, and an engine for what has no form."""

    types: list[str] | None = None
    """Those that rules find; all where it is not set."""
    ner: NER | str | None = None
    """What finds the others; a string is short for the engine alone."""


class Secrets(_Strict):
    """Where rules for secrets come from, beside those that ship."""

    rules_file: str | None = None
    """A gitleaks TOML file."""


class Settings(_Strict):
    """Options of the guardrails."""

    bad_words: list[str] | BadWords = Field(default_factory=list)
    regex_patterns: list[str] | dict[str, str] = Field(default_factory=list)
    """RE2 patterns; by name, the name is told in blocks and stats."""
    max_match_chars: int = Field(default=256, ge=1, le=16_384)
    """The longest match of a pattern that nothing bounds."""
    pii: bool | list[str] | PII = False
    secrets: bool | Secrets = False
    injection: bool = False
    """Phrases of prompt injection. They are tripwires: who knows them writes others."""
    invisible: bool = False
    """Characters that nobody sees: zero-width, bidirectional controls, tags."""
    detectors: dict[str, Any] = Field(default_factory=dict)
    """Detectors of plugins by name: true, or a table of the detector's own options. In Python also a function."""
    normalize: bool = True
    """Read texts in the compatibility forms that characters stand for (NFKC), and without those of no width."""
    confusables: bool = False
    """Read letters that look like Latin ones as these, when looking for bad words."""
    action: Action | ActionTable = "redact"
    """One for all, or by detector, by rule ("pii.email") and by direction ("input", "output")."""
    replacement_text: str = Field(default="[REDACTED]", max_length=1000)
    apply_to: list[Channel] = Field(default_factory=_but_system)
    precall_evaluation: PrecallEvaluation | None = None
    """A model judges what a user says, before the model that is asked sees it."""
    model_filter: ModelFilter | None = None
    """A model judges the whole answer, before anyone sees it."""

    _rules: list[AnyRule] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _make_rules(self) -> Settings:
        from .chosen import check, rules_of

        self._rules = rules_of(self)
        check(self, self._rules)
        return self

    @property
    def rules(self) -> list[AnyRule]:
        """The rules that are switched on."""
        return self._rules

    def action_of(self, rule: str, channel: Channel) -> Action:
        """What is done with a match: said for the rule, for its detector, for the direction, for all.

        >>> Settings(action={"pii": {"output": "warn"}, "input": "block"}).action_of("pii.email", "output")
        'warn'
        """
        if not isinstance(self.action, dict):
            return self.action
        for name in names_of(rule):
            said = self.action.get(name)
            if isinstance(said, dict):
                said = said.get(channel) or said.get(DIRECTIONS[channel])
            if said is not None:
                return said
        said = self.action.get(DIRECTIONS[channel])
        return said if isinstance(said, str) else "redact"


def names_of(rule: str) -> Iterator[str]:
    """The names that mean a rule, the narrowest first.

    >>> list(names_of("pii.ip.v6"))
    ['pii.ip.v6', 'pii.ip', 'pii']
    """
    while rule:
        yield rule
        rule = rule.rpartition(".")[0]

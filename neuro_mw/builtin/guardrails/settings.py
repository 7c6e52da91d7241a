"""The options of the guardrails, and what they mean for one rule in one channel."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .actions import ACTIONS, Action

Channel = Literal["input", "system", "history", "tool_results", "output", "reasoning", "tool_arguments"]
CHANNELS: tuple[Channel, ...] = get_args(Channel)
DIRECTIONS: dict[str, str] = {name: "input" if at < 4 else "output" for at, name in enumerate(CHANNELS)}
DETECTORS = ("bad_words", "regex_patterns", "pii", "secrets", "injection", "invisible")


def _but_system() -> list[Channel]:
    return [name for name in CHANNELS if name != "system"]


_BY_CHANNEL = frozenset({"input", "output", *CHANNELS})

ActionTable = dict[str, Action | dict[str, Action]]


class BadWords(BaseModel):
    """Words and phrases, and whether they may be parts of longer words."""

    model_config = ConfigDict(extra="forbid")

    list: list[str]
    match: Literal["word", "substring"] = "word"


class Secrets(BaseModel):
    """Where rules for secrets come from, beside those that ship."""

    model_config = ConfigDict(extra="forbid")

    rules_file: str | None = None
    """A gitleaks TOML file."""


class Settings(BaseModel):
    """Options of the guardrails."""

    model_config = ConfigDict(extra="forbid")

    bad_words: list[str] | BadWords = Field(default_factory=list)
    regex_patterns: list[str] | dict[str, str] = Field(default_factory=list)
    """RE2 patterns; by name, the name is told in blocks and stats."""
    max_match_chars: int = Field(default=256, ge=1, le=16_384)
    """The longest match of a pattern that nothing bounds."""
    pii: bool | list[str] = False
    secrets: bool | Secrets = False
    injection: bool = False
    invisible: bool = False
    normalize: bool = True
    confusables: bool = False
    action: Action | ActionTable = "redact"
    """One for all, or by detector, by rule ("pii.email") and by direction ("input", "output")."""
    replacement_text: str = "[REDACTED]"
    apply_to: list[Channel] = Field(default_factory=_but_system)

    @field_validator("bad_words")
    @classmethod
    def _no_blank_term(cls, value: Any) -> Any:
        terms = value.list if isinstance(value, BadWords) else value
        for at, term in enumerate(terms):
            if not term.strip():
                raise ValueError(f"term {at} is blank: it would match everywhere")
        return value

    @model_validator(mode="after")
    def _known_actions(self) -> Settings:
        if isinstance(self.action, dict):
            for name, value in self.action.items():
                if name in ("input", "output"):
                    if isinstance(value, dict):
                        raise ValueError(f"action.{name} is one of {', '.join(ACTIONS)}, not a table")
                elif name.partition(".")[0] not in DETECTORS:
                    raise ValueError(f"action.{name}: no such detector; there are {', '.join(DETECTORS)}")
                for channel in value if isinstance(value, dict) else ():
                    if channel not in _BY_CHANNEL:
                        raise ValueError(f"action.{name}.{channel}: no such channel; there are {', '.join(CHANNELS)}")
        return self

    def action_of(self, rule: str, channel: Channel) -> Action:
        """What is done with a match: said for the rule, for its detector, for the direction, for all.

        >>> Settings(action={"pii": {"output": "warn"}, "input": "block"}).action_of("pii.email", "output")
        'warn'
        """
        if not isinstance(self.action, dict):
            return self.action
        for name in (rule, rule.partition(".")[0]):
            said = self.action.get(name)
            if isinstance(said, dict):
                said = said.get(channel) or said.get(DIRECTIONS[channel])
            if said is not None:
                return said
        said = self.action.get(DIRECTIONS[channel])
        return said if isinstance(said, str) else "redact"

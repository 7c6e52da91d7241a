"""The options of pseudonymize, and the detectors that they switch on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from neuro_mw import ConfigError, known_detectors, nearest

from ..guardrails import pii
from ..guardrails.rules import AnyRule
from ..guardrails.settings import NER, PII, Secrets, Settings

Style = Literal["type_index", "fake", "hash"]
_OF_SESSIONS = ("store", "ttl_s", "max_values")
_NAMES = (*pii.TYPES, "pii", "secrets")


class Detectors(BaseModel):
    """Detectors with their options, as guardrails have them; every other name is that of a plugin's detector."""

    model_config = ConfigDict(extra="allow", defer_build=True)

    pii: bool | list[str] | PII | None = None
    """Personal data that has a form: all types, some, or a table of ``types`` and ``ner``."""
    types: list[str] | None = None
    """Short for ``pii = {types = ...}``."""
    ner: NER | str | None = None
    """Short for ``pii = {ner = ...}``."""
    secrets: bool | Secrets = False
    regex_patterns: list[str] | dict[str, str] = Field(default_factory=list)
    """RE2 patterns; the name of one is the type in its placeholders."""

    @model_validator(mode="after")
    def _says_it_once(self) -> Detectors:
        if self.pii is not None and (self.types is not None or self.ner is not None):
            raise ConfigError("it is said twice: types and ner are short for what is in it", key="detectors.pii")
        return self


class PseudonymizeOptions(BaseModel):
    """Options of pseudonymize."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    detectors: list[str] | Detectors | None = None
    """What is replaced: types of personal data ("email", "phone", ...), "secrets" and names of plugins' detectors, or a
    table of these with options. All types of personal data that have a form where it is not set."""
    style: Style = "type_index"
    """What stands there: ``<EMAIL_1>``, a value of the same type that is nobody's, or ``<EMAIL_3f9a1c2b7d04>``."""
    scope: Literal["call", "session"] = "call"
    """How long a value keeps its placeholder: for one call, or for all calls of a session."""
    store: Annotated[str | None, Field(repr=False)] = None
    """The URL of a store of its own for sessions, instead of the factory's ``state``; "" is the factory's, too."""
    ttl_s: float = Field(default=86_400.0, gt=0, allow_inf_nan=False, strict=True)
    """How long a session that is not used keeps its placeholders, in seconds."""
    max_values: int = Field(default=2_000, ge=1, le=100_000, strict=True)
    """How many values a session keeps; of more, those that were not used for longest are forgotten."""

    _rules: list[AnyRule] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _make_rules(self) -> PseudonymizeOptions:
        if self.scope == "call":
            for name in _OF_SESSIONS:
                if name in self.model_fields_set and getattr(self, name):
                    raise ConfigError("nothing is kept beyond a call", key=name, expected='scope = "session" with it')
        self._rules = _rules_of(self.detectors)
        if not self._rules:
            raise ConfigError("none is on: nothing would be replaced", key="detectors", expected="types of data")
        return self

    @property
    def rules(self) -> list[AnyRule]:
        """What the detectors look for."""
        return self._rules


def _rules_of(chosen: list[str] | Detectors | None) -> list[AnyRule]:
    if not isinstance(chosen, Detectors):
        return _settings(**_named(chosen)).rules
    given: Any = {"types": chosen.types, "ner": chosen.ner}
    data = PII(**given) if any(given.values()) else chosen.pii
    if data is None and not chosen.model_fields_set:
        data = not chosen.model_extra
    others = dict(chosen.model_extra or {})
    for name in pii.TYPES:
        if name in others:
            said = "a type of personal data is named in a list"
            raise ConfigError(said, key=f"detectors.{name}", expected=f'pii = ["{name}"]')
    return _settings(
        pii=data or False, secrets=chosen.secrets, regex_patterns=chosen.regex_patterns, detectors=others
    ).rules


def _named(names: Iterable[str] | None) -> dict[str, Any]:
    """The settings that a list of names means."""
    if names is None:
        return {"pii": True}
    types: list[str] = []
    said: dict[str, Any] = {"detectors": {}}
    for at, name in enumerate(names):
        if name in pii.TYPES:
            types.append(name)
        elif name in _NAMES:
            said[name] = True
        elif name in known_detectors():
            said["detectors"][name] = True
        else:
            known = (*_NAMES, *known_detectors())
            raise ConfigError(f"no detector {name!r}", key=f"detectors.{at}", expected=f"one of {', '.join(known)}",
                              nearest=nearest(name, known))  # fmt: skip
    return {"pii": types, **said}


def _settings(**given: Any) -> Settings:
    try:
        return Settings(**given)
    except ConfigError as error:
        said = (error.key or "").removeprefix("detectors.")
        error.key = f"detectors.{said}".strip(".")
        raise

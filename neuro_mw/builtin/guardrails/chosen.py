"""The rules that the settings switch on, each checked: what is wrong is said with the key that it stands under."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from neuro_mw import ConfigError, known_detectors

from .channels import CHANNELS
from .filters import INVISIBLE
from .rules import AnyRule, Rule, Spans, Terms
from .settings import NER, PII, BadWords, Secrets, Settings, names_of

DETECTORS = ("bad_words", "regex_patterns", "pii", "secrets", "injection", INVISIBLE)


def rules_of(settings: Settings) -> list[AnyRule]:
    """The rules that are switched on. Raises ConfigError."""
    made = (_bad_words, _patterns, _pii, _secrets, _injection, _detectors)
    return [rule for make in made for rule in make(settings)]


def check(settings: Settings, rules: Iterable[AnyRule]) -> None:
    """Raise ConfigError for what can have no effect: an unknown name, or detectors that look nowhere."""
    ids = {rule.id for rule in rules}
    if (ids or settings.invisible) and not settings.apply_to:
        raise ConfigError("it is empty: no detector would look at anything", key="apply_to", expected="channels")
    table = settings.action if isinstance(settings.action, Mapping) else {}
    detectors = (*DETECTORS, *settings.detectors)
    on = {detector for detector in detectors if any(id.partition(".")[0] == detector for id in ids)}
    for name, said in table.items():
        key, detector = f"action.{name}", name.partition(".")[0]
        if name in ("input", "output"):
            if isinstance(said, Mapping):
                raise ConfigError("it is a table", key=key, expected="the name of an action")
            continue
        if detector not in detectors:
            raise _unknown("detector", name, ("input", "output", *detectors), key)
        known = {one for id in ids for one in names_of(id)}
        if name != detector and detector in on and name not in known:
            raise _unknown("rule", name, sorted(one for one in known if one.startswith(f"{detector}.")), key)
        for channel in said if isinstance(said, Mapping) else ():
            if channel not in CHANNELS:
                raise _unknown("channel", channel, CHANNELS, f"{key}.{channel}")


def _bad_words(settings: Settings) -> Iterator[Terms]:
    words = settings.bad_words
    terms, match = (words.list, words.match) if isinstance(words, BadWords) else (words, "word")
    _refuse_blank(terms, "bad_words.list" if isinstance(words, BadWords) else "bad_words")
    if terms:
        yield Terms("bad_words", tuple(terms), match)


def _refuse_blank(terms: Sequence[str], key: str) -> None:
    from .view import Reading, View

    for at, term in enumerate(terms):
        if not View(term, Reading()).norm.strip():
            raise ConfigError("the term is blank: it would match everywhere", key=f"{key}.{at}")


def _patterns(settings: Settings) -> Iterator[Rule]:
    given = settings.regex_patterns
    named: Iterable[tuple[Any, str]] = given.items() if isinstance(given, Mapping) else enumerate(given)
    for name, pattern in named:
        if name == "":
            raise ConfigError("a pattern needs a name", key="regex_patterns")
        if settings.normalize and (never := _never_read(pattern)):
            reason = f"with normalize, no text holds {never!r} as patterns see it"
            raise ConfigError(reason, key=f"regex_patterns.{name}", expected="its NFKC form, or normalize = false")
        rule = Rule(f"regex_patterns.{name}", pattern, max_chars=settings.max_match_chars)
        yield _compiled(rule, f"regex_patterns.{name}")


def _never_read(pattern: str) -> str:
    """A character of a pattern that normalization takes out of every text."""
    from .view import Reading, View

    return next((char for char in pattern if not char.isascii() and View(char, Reading()).norm != char), "")


def _pii(settings: Settings) -> Iterator[AnyRule]:
    if not settings.pii:
        return
    from . import pii

    chosen = settings.pii.types if isinstance(settings.pii, PII) else settings.pii
    types = pii.TYPES if chosen is None or chosen is True else chosen
    key = "pii.types" if isinstance(settings.pii, PII) else "pii"
    for at, name in enumerate(types):
        if name not in pii.TYPES:
            raise _unknown("type of personal data", name, pii.TYPES, f"{key}.{at}")
    yield from pii.rules(types)
    if isinstance(settings.pii, PII) and settings.pii.ner is not None:
        ner = settings.pii.ner
        yield from _ner(NER(engine=ner) if isinstance(ner, str) else ner)


def _ner(ner: NER) -> Iterator[Spans]:
    key, find = "pii.ner", ner.engine
    if find == "presidio":
        from . import presidio

        try:
            find = presidio.engine(language=ner.language, types=ner.types, model=ner.model)
        except ConfigError as error:
            error.key = f"{key}.{error.key}" if error.key else key
            raise
    elif isinstance(find, str):
        find = _loaded(find, f"{key}.engine")
    for name in ner.types:
        yield Spans(f"pii.{name.lower()}", find, name.upper())


def _secrets(settings: Settings) -> Iterator[AnyRule]:
    if not settings.secrets:
        return
    from . import gitleaks, secrets

    yield from secrets.rules()
    if isinstance(settings.secrets, Secrets) and settings.secrets.rules_file is not None:
        try:
            yield from gitleaks.rules_from(settings.secrets.rules_file)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError(f"it cannot be used: {reason}", key="secrets.rules_file") from error


def _injection(settings: Settings) -> Iterator[AnyRule]:
    if settings.injection:
        from . import injection

        yield from injection.rules()


def _detectors(settings: Settings) -> Iterator[AnyRule]:
    known = known_detectors()
    for name, options in settings.detectors.items():
        key = f"detectors.{name}"
        if name in DETECTORS:
            raise ConfigError(f"{name!r} is an option of its own", key=key)
        if options is False:
            continue
        make = options if callable(options) else known.get(name)
        if make is None:
            hint = "" if known else "; only a factory, with the plugin that offers it, can build a guard that has it"
            raise _unknown("detector", name, tuple(known), key, hint)
        if not callable(options) and options is not True and not isinstance(options, Mapping):
            raise ConfigError(f"it is of type {type(options).__name__}", key=key, expected="true, false or a table")
        yield from _made(name, make, options if isinstance(options, Mapping) else {}, key)


def _made(
    name: str, make: Callable[[Mapping[str, Any]], Iterable[Any]], options: Mapping[str, Any], key: str
) -> Iterator[AnyRule]:
    try:
        rules = list(make(options))
    except ConfigError as error:
        error.key = f"{key}.{error.key}" if error.key else key
        raise
    except Exception as error:
        raise ConfigError(f"it cannot be made: {type(error).__name__}: {error}", key=key) from error
    for rule in rules:
        if not isinstance(rule, Rule | Terms | Spans):
            raise ConfigError(f"it gave {type(rule).__name__}", key=key, expected="Rule, Terms or Spans")
        if rule.detector != name:
            raise ConfigError(f"it gave a rule {rule.id!r}", key=key, expected=f"{name!r}, or {name!r} and a dot first")
        if isinstance(rule, Terms):
            _refuse_blank(rule.terms, f"{key}.{rule.id}")
        yield _compiled(rule, key) if isinstance(rule, Rule) else rule


def _compiled(rule: Rule, key: str) -> Rule:
    from .patterns import Pattern

    try:
        Pattern(rule)
    except ValueError as error:
        raise ConfigError(f"the pattern cannot be used: {error}", key=key) from None
    return rule


def _loaded(path: str, key: str) -> Any:
    """What "package.module:name" names."""
    from importlib import import_module

    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{path!r} cannot be loaded: {error}", key=key,
                          expected='"presidio" or "package.module:name"') from error  # fmt: skip
    if not callable(found):
        raise ConfigError(f"{path!r} is not callable", key=key)
    return found


def _unknown(what: str, name: Any, known: Iterable[str], key: str, hint: str = "") -> ConfigError:
    there = list(known)
    near = difflib.get_close_matches(str(name), there, 1)
    expected = f"one of {', '.join(there)}" if there else None
    return ConfigError(f"no {what} {name!r}{hint}", key=key, expected=expected, nearest=near[0] if near else None)

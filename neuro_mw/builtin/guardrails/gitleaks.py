"""Rules out of a gitleaks configuration (https://github.com/gitleaks/gitleaks#configuration).

Go's regular expressions are RE2's, so they are taken as they are. Four things differ, since here are texts of a model
and no files, and a match begins where its pattern begins:

- what stands before the secret in a pattern, such as the name in an assignment, is a part of the match; what stands
  behind the secret, such as a closing quote, is not. ``secretGroup`` decides what the secret is, else the first group.
- a keyword has to be in the match, not somewhere in the same file.
- a rule that depends on a file's path, on commits, on other rules nearby or on the whole line cannot be judged; it is
  left out, with a reason (`read`). An allowlist of that kind allows nothing.
- a match is at most `MAX_CHARS` long.
"""

from __future__ import annotations

import logging
import math
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, NamedTuple

from .rules import Rule

MAX_BYTES = 4 << 20
"""How large a configuration may be; that of gitleaks itself has 0.1 MB."""
MAX_CHARS = 4096

_log = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """What was read: the rules, and for each rule that was left out its id and why."""

    rules: list[Rule]
    skipped: dict[str, str]


class _Allowed(NamedTuple):
    """Texts that are no secrets: with ``all``, where every condition holds."""

    secret: tuple[Any, ...]
    match: tuple[Any, ...]
    stopwords: tuple[str, ...]
    all: bool

    def holds(self, secret: str, match: str) -> bool:
        groups = []
        if self.secret or self.match:
            found = any(one.search(secret) for one in self.secret) or any(one.search(match) for one in self.match)
            groups.append(found)
        if self.stopwords:
            groups.append(any(word in secret.lower() for word in self.stopwords))
        return bool(groups) and (all(groups) if self.all else any(groups))


def rules_from(path: str | PathLike[str]) -> list[Rule]:
    """The rules of a gitleaks configuration; what is left out is logged.

    Args:
        path: a TOML file of at most `MAX_BYTES`.

    Raises:
        ValueError: the file is too large or not in gitleaks' format, it extends another one, or RE2 refuses a regular
            expression of it; the message names the rule and says why.
        OSError: the file cannot be read.

    """
    loaded = read(path)
    for name, reason in loaded.skipped.items():
        _log.info("gitleaks rule %s is left out: %s", name, reason)
    return loaded.rules


def read(path: str | PathLike[str]) -> Loaded:
    """As `rules_from`, with what is left out, and why."""
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path}: larger than {MAX_BYTES} bytes")
    try:
        config = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no TOML: {error}") from None
    extend = config.get("extend") or {}
    if extend.get("useDefault") or extend.get("path") or extend.get("url"):
        raise ValueError(f"{path}: it extends another configuration; give one that has all its rules in it")
    tables = config.get("rules")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{path}: no [[rules]] in it, as gitleaks has them")
    return _loaded(tables, _tables(config, "allowlist"))


def _loaded(tables: list[dict[str, Any]], everywhere: list[Mapping[str, Any]]) -> Loaded:
    rules: list[Rule] = []
    skipped: dict[str, str] = {}
    seen: set[str] = set()
    for number, table in enumerate(tables, 1):
        name = table.get("id")
        if not isinstance(name, str) or not name:
            raise ValueError(f"gitleaks rule number {number} has no id")
        if name in seen:
            raise ValueError(f"gitleaks rule {name!r} is there twice")
        seen.add(name)
        if reason := _unfit(table):
            skipped[name] = reason
        else:
            general = [one for one in everywhere if name in one.get("targetRules", [name])]
            rules.append(_rule(name, table, [*_tables(table, "allowlist"), *general]))
    return Loaded(rules, skipped)


def _unfit(table: Mapping[str, Any]) -> str:
    if not table.get("regex"):
        return "it looks at paths only" if table.get("path") else "it has no regex"
    if table.get("required"):
        return "it needs other rules to match nearby"
    return "it only serves other rules (skipReport)" if table.get("skipReport") else ""


def _rule(name: str, table: Mapping[str, Any], allowlists: list[Mapping[str, Any]]) -> Rule:
    pattern = _compiled(name, table["regex"])
    group, entropy = table.get("secretGroup", 0), table.get("entropy", 0)
    if type(group) is not int or not 0 <= group <= pattern.groups:
        raise ValueError(f"gitleaks rule {name!r}: secretGroup {group!r}, and its regex has {pattern.groups} groups")
    if isinstance(entropy, bool) or not isinstance(entropy, int | float):
        raise ValueError(f"gitleaks rule {name!r}: entropy {entropy!r} is not a number")
    allowed = [one for one in (_allowed(name, table) for table in allowlists) if one is not None]
    keywords = tuple(word.lower() for word in _texts(name, table, "keywords") if word)
    return Rule(
        f"secrets.gitleaks.{name}",
        table["regex"],
        type=name.upper().replace("-", "_"),
        check=_check(pattern, group, float(entropy), keywords, allowed),
        keywords=keywords,
        max_chars=MAX_CHARS,
    )


def _check(
    pattern: Any, group: int, entropy: float, keywords: tuple[str, ...], allowed: list[_Allowed]
) -> Callable[[str], int]:
    def check(text: str) -> int:
        found = pattern.match(text)
        if found is None or (keywords and not any(word in text.lower() for word in keywords)):
            return 0
        chosen = group or next((one for one in range(1, pattern.groups + 1) if found.group(one)), 0)
        secret = found.group(chosen)
        if not secret or (entropy and shannon_entropy(secret) <= entropy):
            return 0
        if any(one.holds(secret, found.group(0)) for one in allowed):
            return 0
        return int(found.end(chosen))

    return check


def shannon_entropy(text: str) -> float:
    """Bits for each character, as gitleaks counts them.

    >>> shannon_entropy("aaaa"), shannon_entropy("abcd")
    (0.0, 2.0)
    """
    return sum(-count / len(text) * math.log2(count / len(text)) for count in Counter(text).values()) + 0.0


def _allowed(name: str, table: Mapping[str, Any]) -> _Allowed | None:
    regexes = tuple(_compiled(name, regex) for regex in _texts(name, table, "regexes"))
    stopwords = tuple(word.lower() for word in _texts(name, table, "stopwords") if word)
    every = str(table.get("condition", "OR")).upper() in ("AND", "&&")
    target = table.get("regexTarget", "secret")
    beyond = table.get("paths") or table.get("commits") or (regexes and target == "line")
    if beyond and every:
        return None  # what it asks for besides is never seen here
    if target == "line":
        regexes = ()
    inside, whole = ((), regexes) if target == "match" else (regexes, ())
    return _Allowed(inside, whole, stopwords, every) if regexes or stopwords else None


def _tables(table: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """``[allowlist]`` as it was until gitleaks 8.24, and ``[[allowlists]]``."""
    found = [table.get(name) or {}, *(table.get(f"{name}s") or [])]
    if not all(isinstance(one, dict) for one in found):
        raise ValueError(f"{name} has to be a table, in gitleaks' format")
    return [one for one in found if one]


def _texts(name: str, table: Mapping[str, Any], key: str) -> list[str]:
    texts = table.get(key, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"gitleaks rule {name!r}: {key} has to be a list of texts")
    return texts


def _compiled(name: str, regex: Any) -> Any:
    import re2

    if not isinstance(regex, str):
        raise ValueError(f"gitleaks rule {name!r}: a regex has to be a text")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(regex, options)
    except re2.error as error:
        reason = error.args[0]
        reason = reason.decode() if isinstance(reason, bytes) else reason
        raise ValueError(f"gitleaks rule {name!r}: RE2 refuses {regex!r}: {reason}") from None

"""The placeholder of a value, by style, and the rules that find placeholders in answers."""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterable

from ..guardrails.rules import AnyRule, Rule
from .fakes import HEADS, PATTERNS, fake
from .options import Style

FAKE = "pseudonymize.fake."
"""What the ids of rules for fakes begin with."""
_HASH_CHARS = 12
_OPENING = "(?:<|&lt;)/? ?"
_GAP = r"(?:\\?[ _-])?"  # escaped as in Markdown, too
_OTHER = re.compile(r"[^A-Z0-9]+")


def kind_of(rule: AnyRule) -> str:
    """The type that a placeholder says: that of the rule, in capitals, digits and low lines.

    >>> kind_of(Rule("pii.ip.v6", "x", type="IP")), kind_of(Rule("secrets.github-pat", "x"))
    ('IP', 'SECRET')
    """
    if rule.detector == "secrets":
        return "SECRET"  # what it is a secret of is nobody's business
    kind = _OTHER.sub("_", rule.type.upper()).strip("_")
    return kind if kind[:1].isalpha() else "VALUE"


def placeholder(style: Style, kind: str, number: int, original: str, key: bytes) -> str:
    """What stands for a value; with another number it is another one.

    >>> placeholder("type_index", "EMAIL", 2, "x@y.org", b""), len(placeholder("hash", "EMAIL", 0, "x@y.org", b"k"))
    ('<EMAIL_2>', 20)
    """
    if style == "hash":
        return f"<{kind}_{digest(key, 'hash', kind, str(number), original)[:_HASH_CHARS]}>"
    made = fake(kind, number, original) if style == "fake" else ""
    return made or f"<{kind}_{number}>"


def digest(key: bytes, *said: str) -> str:
    """A keyed hash in hex digits."""
    return hmac.digest(key, "\0".join(said).encode("utf-8", "surrogatepass"), "sha256").hex()


def rules_for(style: Style, kinds: Collection[str]) -> list[AnyRule]:
    """Rules that find every placeholder of these types, and what a model may make of one: another case or number,
    spaces, a closing tag, one that is escaped as in HTML or Markdown.

    >>> from neuro_mw.builtin.guardrails import RuleSet
    >>> RuleSet(rules_for("type_index", ["EMAIL"])).redact("<EMAIL_12>, </email 1>, <EMAIL:2>, EMAIL_1", "!")
    '!, !, <EMAIL:2>, EMAIL_1'
    """
    numbers = rf"[0-9a-f]{{1,{_HASH_CHARS + 4}}}" if style == "hash" else "[0-9]{1,9}"
    found: list[AnyRule] = [Rule("pseudonymize.placeholder", _tag(kinds, numbers))]
    if style == "fake":
        found += [Rule(f"{FAKE}{kind.lower()}", PATTERNS[kind], kind) for kind in kinds if kind in PATTERNS]
    return found


def _tag(kinds: Iterable[str], numbers: str) -> str:
    words = "|".join(kind.replace("_", _GAP) for kind in sorted(kinds))
    return rf"(?i){_OPENING}(?:{words}){_GAP}{numbers} ?/?(?:\\?>|&gt;)"


def heads(style: Style, kinds: Collection[str]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What is in each text that holds a placeholder of these types; and that, or the end of a text that begins one
    (then the last group is "end").

    >>> head, begun = heads("fake", ["PHONE"])
    >>> [(bool(head.search(text)), bool(begun.search(text))) for text in ("no. 1 <b>", "call +", "a <b</p", "<phones>")]
    [(False, False), (False, True), (False, True), (True, True)]
    """
    words = sorted({kind.partition("_")[0] for kind in kinds})
    tag, cut_tag = f"/? ?(?i:{'|'.join(words)})", f"/? ?(?i:{'|'.join(_cut(words))})?"
    by_first = {"<": ([tag], [cut_tag]), "&": ([f"lt;{tag}"], ["l?", "lt", f"lt;{cut_tag}"])}
    for head in [head for kind in kinds for head in HEADS.get(kind, ())] if style == "fake" else ():
        whole, cut = by_first.setdefault(head[0], ([], [""]))
        whole.append(re.escape(head[1:]))
        cut += _cut([head[1:]])
    # the one set of first characters is what `re` can look for fast
    first = f"[{re.escape(''.join(by_first))}]"
    found, ended = (
        "|".join(f"(?<={re.escape(char)})(?:{'|'.join(rests[at])})" for char, rests in by_first.items())
        for at in (0, 1)
    )  # fmt: skip
    return re.compile(f"{first}(?:{found})"), re.compile(rf"{first}(?:{found}|(?P<end>(?:{ended})\Z))")


def _cut(words: Iterable[str]) -> list[str]:
    """Their beginnings."""
    return sorted({re.escape(word[:size]) for word in words for size in range(1, len(word))})

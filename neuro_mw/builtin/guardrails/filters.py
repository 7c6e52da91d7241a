"""The rules that hold for one channel, and one text under them: whole, or as it comes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from neuro_mw import Blocked

from .actions import Action, Replacement
from .rules import AnyRule
from .ruleset import RuleSet
from .stream import RuleStream
from .view import IGNORABLE, RANGES

_INVISIBLE = re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in RANGES)}]")
_JOINERS = "\u200c\u200d"
INVISIBLE = "invisible"
_WATCHED_AT_ONCE = 256  # characters: a scan has a price of its own


class Leaving(NamedTuple):
    """What leaves for so many characters that came: they themselves (``same``), or something in their place."""

    text: str
    size: int
    same: bool


@dataclass(frozen=True, slots=True)
class Filter:
    """What is done with the texts of one channel.

    Rules that block, that change the text, and that only watch are searched apart: none hides another's match.
    """

    blocking: RuleSet
    changing: RuleSet
    watching: RuleSet
    replace: Replacement
    invisible: Action | None = None
    channel: str = "output"

    def run(self, counts: Counter[str]) -> FilterRun:
        """One text in pieces."""
        return FilterRun(self, counts)

    def whole(self, text: str, counts: Counter[str]) -> str:
        """A whole text after all rules. Raises Blocked; adds to `counts` what each rule found."""
        run = self.run(counts)
        return "".join([piece.text for piece in (*run.feed(text), *run.finish())])

    @property
    def acts(self) -> bool:
        """Whether any text may leave otherwise than it came."""
        return bool(self.blocking or self.changing or self.invisible not in (None, "warn"))

    def withheld(self, text: str) -> str:
        """The same beside a refusal: a text that may not leave is redacted as a whole. Counts nothing."""
        try:
            return self.whole(text, Counter())
        except Blocked:
            return "[REDACTED]"


def filter_of(
    rules: Iterable[AnyRule],
    actions: Mapping[str, Action],
    *,
    text: str,
    invisible: Action | None = None,
    normalize: bool = True,
    confusables: bool = False,
) -> Filter:
    """A filter, from rules and their actions by id.

    Where invisible characters are taken out, texts are read without them, normalized or not: what is left must not be
    what a rule looks for.
    """
    groups: dict[str, list[AnyRule]] = {"block": [], "warn": [], "": []}
    for rule in rules:
        groups[actions[rule.id] if actions[rule.id] in groups else ""].append(rule)
    reads = normalize or invisible not in (None, "warn", "block")
    sets = {name: RuleSet(some, normalize=reads, confusables=confusables) for name, some in groups.items()}
    return Filter(sets["block"], sets[""], sets["warn"], Replacement(text, actions), invisible)


class FilterRun:
    """One text under a filter, whole or in pieces."""

    __slots__ = ("_before", "_blocking", "_changing", "_counts", "_filter", "_unwatched", "_watching")

    def __init__(self, plan: Filter, counts: Counter[str]) -> None:
        self._filter, self._counts = plan, counts
        self._blocking = RuleStream(plan.blocking) if plan.blocking else None
        self._changing = RuleStream(plan.changing, plan.replace) if plan.changing else None
        self._watching = RuleStream(plan.watching) if plan.watching else None
        self._before = ""
        self._unwatched = ""  # it has left, or was held by others: nothing waits for the rules that only watch

    def feed(self, text: str, *, final: bool = False) -> list[Leaving]:
        """What leaves now that `text` has come. Raises Blocked."""
        if self._watching is not None:
            self._unwatched += text
            if final or len(self._unwatched) >= _WATCHED_AT_ONCE:
                self.watch(final=final)
        text = self._cleared(text, final=final)
        if self._changing is None:
            return self._seen(text) if text else []
        leaving = []
        for piece, match in self._changing.pieces(text, final=final):
            if match is None:
                leaving += self._seen(piece)
            else:
                self._counts[match.rule.id] += 1
                if self._filter.invisible != "block":  # it has looked before this
                    self._before = ""
                leaving.append(Leaving(piece, match.end - match.start, same=False))
        return leaving

    def _cleared(self, text: str, *, final: bool) -> str:
        """The text that nothing blocks. Raises Blocked for the leftmost that does, seen whole or in pieces."""
        refuses = self._filter.invisible == "block"
        if self._blocking is None:
            return self._without_invisible(text) if refuses else text
        cleared = []
        for piece, match in self._blocking.pieces(text, final=final):
            if match is not None:
                self._counts[match.rule.id] += 1
                raise self._refusal(match.rule.id, match.rule.detector)
            cleared.append(self._without_invisible(piece) if refuses else piece)
        return "".join(cleared)

    def _without_invisible(self, text: str) -> str:
        if any(True for _ in self._unneeded(text)):
            self._counts[INVISIBLE] += 1
            raise self._refusal(INVISIBLE, INVISIBLE)
        return text

    def finish(self) -> list[Leaving]:
        """What was held, now that nothing more comes."""
        return self.feed("", final=True)

    def passed(self, char: str) -> None:
        """The last character of what has left unseen, while nothing is held: what is replaced may depend on it."""
        if self._changing is not None:
            self._changing.passed(char)

    def watch(self, *, final: bool = False) -> None:
        """Count what the rules that only watch find in all that has come."""
        if self._watching is not None:
            text, self._unwatched = self._unwatched, ""
            for _, match in self._watching.pieces(text, final=final):
                if match is not None:
                    self._counts[match.rule.id] += 1

    def _seen(self, text: str) -> list[Leaving]:
        """The text without what nobody sees."""
        action = self._filter.invisible
        leaving, at = [], 0
        for start in self._unneeded(text) if action not in (None, "block") else ():
            self._counts[INVISIBLE] += 1
            if action != "warn":
                leaving += [Leaving(text[at:start], start - at, same=True), Leaving("", 1, same=False)]
                at = start + 1
        return [*leaving, Leaving(text[at:], len(text) - at, same=True)]

    def _unneeded(self, text: str) -> Iterator[int]:
        """Where characters stand that nobody sees; joiners are needed where a script or an emoji has them."""
        before, self._before = self._before, text[-1:] or self._before
        if not text.isascii():
            for found in _INVISIBLE.finditer(text):
                at = found.start()
                if not needed(found[0], text[at - 1] if at else before):
                    yield at

    def _refusal(self, rule: str, detector: str) -> Blocked:
        detail = {"detector": detector, "rule": rule, "channel": self._filter.channel}
        return Blocked(f"{self._filter.channel} matches {rule}", category=detector, detail=detail)


def needed(char: str, before: str) -> bool:
    """Whether an invisible character has a meaning behind `before`.

    Joiners do behind letters of other scripts and emoji, variation selectors of emoji behind a symbol, soft hyphens
    never. Latin text needs none.
    """
    if char in _JOINERS or char in "\ufe0e\ufe0f":
        return (before > "\u02ff" and before not in IGNORABLE) or (before in "\ufe0e\ufe0f" and before != "")
    return False

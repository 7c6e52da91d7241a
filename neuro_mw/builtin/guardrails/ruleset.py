"""Rules compiled into one plan: for whole texts, and for streams cut anywhere, with the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .patterns import Beginnings, Pattern, union
from .rules import Match, Rule, Terms
from .terms import TermIndex
from .view import Reading, View

if TYPE_CHECKING:
    from .stream import RuleStream

Replace = Callable[[Match, str], str]
"""What stands for a match: gets the match and its text."""


class RuleSet:
    r"""What several detectors look for, as one plan.

    Where matches overlap, the leftmost stands, and of those that begin together the longest. The price does not depend
    on the number of terms: they are found in one pass, and patterns run where one of their keywords occurs.
    Raises ValueError, with the rule's id, for a pattern that cannot be used.

    >>> rules = RuleSet([Terms("bad_words", ("secret plan",)), Rule("pii.ssn", r"\b\d{3}-\d{2}-\d{4}\b")])
    >>> rules.redact("the Secret plan of 123-45-6789")
    'the [REDACTED] of [REDACTED]'
    >>> [(match.rule.id, match.start, match.end) for match in rules.scan("a secret plan")]
    [('bad_words', 2, 13)]
    >>> stream = rules.stream()
    >>> [stream.feed(piece) for piece in ("the sec", "ret pl", "an is")], stream.finish()
    (['the ', '', '[REDACTED] is'], '')
    """

    def __init__(self, rules: Iterable[Rule | Terms], *, normalize: bool = True, confusables: bool = False) -> None:
        self.rules = tuple(rules)
        self.reading = Reading(normalize, confusables)
        lists = [rule for rule in self.rules if isinstance(rule, Terms)]
        self._terms = TermIndex(lists, confusables) if any(rule.terms for rule in lists) else None
        self._patterns = patterns = [_pattern(rule) for rule in self.rules if isinstance(rule, Rule)]
        self._beginnings = Beginnings(patterns) if patterns else None
        self._free = [index for index, one in enumerate(patterns) if not one.rule.keywords]
        self._any_free = union([patterns[index].whole for index in self._free]) if self._free else []
        by_keyword: dict[str, list[int]] = {}
        for index, one in enumerate(patterns):
            for word in one.rule.keywords:
                by_keyword.setdefault(word, []).append(index)
        self._by_keyword = list(by_keyword.values())
        self._keyword_automaton: Any = None
        if by_keyword:
            from ahocorasick_rs import AhoCorasick

            self._keyword_automaton = AhoCorasick(list(by_keyword))

    def __bool__(self) -> bool:
        return self._terms is not None or self._beginnings is not None

    def scan(self, text: str) -> list[Match]:
        """Every match in a whole text, in order; none overlap."""
        view = View(text, self.reading)
        return [Match(view.raw(begin), view.end(end), rule) for begin, end, rule in self.matches(view, 0, len(view))]

    def redact(self, text: str, replace: Replace | str = "[REDACTED]") -> str:
        """A whole text with every match replaced: by a text, or by what `replace` makes of it."""
        pieces, at = [], 0
        for match in self.scan(text):
            start = max(match.start, at)  # two may share a character that stands for several
            pieces += [text[at:start], replace if isinstance(replace, str) else replace(match, text[start : match.end])]
            at = match.end
        return "".join([*pieces, text[at:]])

    def stream(self, replace: Replace | str = "[REDACTED]") -> RuleStream:
        """A text that comes in pieces: feed them, and take what is decided."""
        from .stream import RuleStream

        return RuleStream(self, replace)

    # --- for streams --------------------------------------------------------------------------------------------

    def hold(self, view: View, start: int) -> int:
        """The first place from `start` on that more text could make the beginning of a match."""
        held = len(view)
        if self._terms is not None:
            held = self._terms.hold(view, start)
        if self._beginnings is not None:
            held = min(held, self._beginnings.hold(view, start))
        return held

    def matches(self, view: View, start: int, stop: int) -> Iterator[tuple[int, int, Rule | Terms]]:
        """The matches that begin from `start` on and before `stop`, in positions of the view."""
        terms = self._terms.find(view, start) if self._terms is not None else []
        terms.reverse()  # the next one last
        rule: Rule | Terms | None
        patterns = [(one, span) for one in self._active(view, start) if (span := one.find(view, start)) is not None]
        while terms or patterns:
            begin, end, rule = terms[-1] if terms else (len(view) + 1, 0, None)
            for one, (at, to) in patterns:
                if at < begin or (at == begin and to > end):
                    begin, end, rule = at, to, one.rule
            if rule is None or begin >= stop:
                return
            yield begin, end, rule
            end = view.after(view.end(end))  # behind the whole of a character that stands for several
            while terms and terms[-1][0] < end:
                terms.pop()
            patterns = [
                (one, following)
                for one, span in patterns
                if (following := span if span[0] >= end else one.find(view, end)) is not None
            ]

    def _active(self, view: View, start: int) -> list[Pattern]:
        """The patterns that may match: where their keywords are, or, for those without, where any of them does."""
        active: set[int] = set()
        place = view.byte(start)
        if any(one.search(view.data, place) is not None for one in self._any_free):
            active.update(self._free)
        if self._keyword_automaton is not None:
            for hit in self._keyword_automaton.find_matches_as_indexes(view.folded, overlapping=True):
                active.update(self._by_keyword[hit[0]])
        return [self._patterns[index] for index in sorted(active)]  # of equals, the rule that was given first stands


def _pattern(rule: Rule) -> Pattern:
    try:
        return Pattern(rule)
    except ValueError as error:
        raise ValueError(f"{rule.id}: {error}") from None

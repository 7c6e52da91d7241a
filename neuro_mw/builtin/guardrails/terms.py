"""Thousands of words and phrases at once, at a price that their number does not change."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

from .rules import Terms
from .view import Reading, View, fold, is_word


class TermIndex:
    """All lists of terms of a rule set: where they occur, and what at the end of a text can still become one.

    Occurrences come from an Aho-Corasick automaton (ahocorasick_rs). Beginnings are looked up in the sorted list.
    """

    def __init__(self, lists: Iterable[tuple[int, Terms]], confusables: bool) -> None:
        from ahocorasick_rs import AhoCorasick

        rules: dict[str, tuple[int, Terms]] = {}
        for order, rule in lists:
            for at, term in enumerate(rule.terms):
                if not View(term, Reading()).norm.strip():
                    raise ValueError(f"{rule.id}: term {at} is blank: it would match everywhere")
                for form in _forms(term, confusables):
                    before = rules.get(form)  # one that holds in more places goes before
                    if before is None or (before[1].match == "word" and rule.match == "substring"):
                        rules[form] = order, rule
        self._terms = sorted(rules)
        self._orders = [rules[term][0] for term in self._terms]
        self._in_words = [rules[term][1].match == "substring" for term in self._terms]
        self._starts = frozenset(term[0] for term in self._terms)
        self._inside = any(self._in_words)
        self._longest = max(map(len, self._terms))
        self._automaton: Any = AhoCorasick(self._terms)

    def find(self, view: View, start: int) -> list[tuple[int, int, int]]:
        """Every occurrence that begins at or behind `start`: where, its end, and the place of its rule in the set."""
        text, orders, in_words = view.folded, self._orders, self._in_words
        return [
            (begin, end, orders[index])
            for index, begin, end in self._automaton.find_matches_as_indexes(text, overlapping=True)
            if begin >= start and (in_words[index] or _is_whole(text, begin, end))
        ]

    def hold(self, view: View, start: int) -> int:
        """The first place from `start` on where what follows is the beginning of a term; the end if there is none."""
        text, size = view.folded, len(view)
        starts, inside = self._starts, self._inside
        for at in range(max(start, size - self._longest), size):
            begins = text[at] in starts and (inside or at == 0 or _edge(text, at))
            if begins and self._may_become_one(text[at:]):
                return at
        return size

    def _may_become_one(self, begun: str) -> bool:
        terms = self._terms
        index = bisect_left(terms, begun)
        if index == len(terms) or not terms[index].startswith(begun):
            return False
        if terms[index] != begun:
            return True
        # it is one already: it stays open where the next character decides, or where a longer one begins like it
        longer = index + 1 < len(terms) and terms[index + 1].startswith(begun)
        return longer or not self._in_words[index]


def _edge(text: str, at: int) -> bool:
    """Whether a word can begin or end between two characters of a text."""
    return not (is_word(text[at - 1]) and is_word(text[at]))


def _is_whole(text: str, begin: int, end: int) -> bool:
    return (begin == 0 or _edge(text, begin)) and (end == len(text) or _edge(text, end))


def _forms(term: str, confusables: bool) -> set[str]:
    """A term as texts may write it: composed or not, and with what its case folds to."""
    normal = View(term, Reading()).norm
    forms = {unicodedata.normalize(form, one) for form in ("NFC", "NFD") for one in (normal, normal.casefold())}
    folded = {fold(one, confusables) for one in forms}
    return folded | {one.replace("ss", "\u00df") for one in folded}  # which folds to two letters, and stays one

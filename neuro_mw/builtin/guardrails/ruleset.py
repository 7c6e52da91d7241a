"""Rules compiled into one plan: for whole texts, and for streams cut anywhere, with the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Any

from neuro_mw import MiddlewareError, NeuroError

from .patterns import Beginnings, Pattern, Search, union
from .rules import AnyRule, Match, Rule, Spans, Terms
from .terms import TermIndex
from .view import Reading, View

if TYPE_CHECKING:
    from .stream import RuleStream

Replace = Callable[[Match, str], str]
"""What stands for a match: gets the match and its text."""


class RuleSet:
    r"""What several detectors look for, as one plan.

    Where matches overlap, the leftmost stands, of those that begin together the longest, and of equals the one whose
    rule was given first. The price does not depend on the number of terms: they are found in one pass, and patterns run
    where one of their keywords occurs. `Spans` are found line by line; so with them a stream holds back whole lines.
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

    def __init__(self, rules: Iterable[AnyRule], *, normalize: bool = True, confusables: bool = False) -> None:
        self.rules = tuple(rules)
        self.reading = Reading(normalize, confusables)
        ordered = list(enumerate(self.rules))
        lists = [(order, rule) for order, rule in ordered if isinstance(rule, Terms) and rule.terms]
        self._terms = TermIndex(lists, confusables) if lists else None
        self._patterns = patterns = [_pattern(rule, order) for order, rule in ordered if isinstance(rule, Rule)]
        engines: dict[Any, _Engine] = {}
        for order, rule in ordered:
            if isinstance(rule, Spans):
                engines.setdefault(rule.find, _Engine(rule.find)).add(rule, order)
        self._engines = list(engines.values())
        self.by_line = bool(engines)  # whether whole lines decide, because an engine has to see them
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
        return self._terms is not None or self._beginnings is not None or self.by_line

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
        return min(held, view.norm.rfind("\n") + 1) if self._engines else held

    def matches(
        self, view: View, start: int, stop: int, skips: dict[int, int] | None = None
    ) -> Iterator[tuple[int, int, AnyRule]]:
        """The matches that begin from `start` on and before `stop`, in positions of the view.

        ``skips`` says before which position a rule has none, by the rule's place in the set; what the checks say about
        that is added.
        """
        skips = {} if skips is None else skips
        unknown = -len(view) - 1  # stands before all that begins there: a pattern has to be searched from there on
        # where it begins, its end (negative: the longest first), the rule's place, and the search if it goes on
        found: list[tuple[int, int, int, Search | None]] = []
        if self._terms is not None:
            found = [(begin, -end, order, None) for begin, end, order in self._terms.find(view, start)]
        for engine in self._engines:
            found += [(begin, -end, order, None) for begin, end, order in engine.find(view.norm, start, stop)]
        if self._patterns:
            for pattern in self._active(view, start):
                place = max(start, skips.get(pattern.order, 0))
                found.append((place, unknown, pattern.order, Search(pattern, view)))
        heapify(found)
        while found and found[0][0] < stop:
            begin, back, order, one = found[0]
            if one is not None and back == unknown:
                span = one.find(begin)
                if span is None:
                    heappop(found)
                else:
                    heapreplace(found, (span[0], -span[1], order, one))
                continue
            end = -back if one is None else begin + one.pattern.checked(view, begin, -back)
            if end != -back:
                rest = begin + 1
                if end < begin:  # to the end of a character that stands for several
                    rest = skips[order] = view.after(view.end(min(begin + begin - end, -back)))
                heapreplace(found, (rest, unknown, order, one))
                if end > begin:
                    heappush(found, (begin, -end, order, None))
                continue
            yield begin, end, self.rules[order]
            start = view.after(view.end(end))  # behind the whole of a character that stands for several
            while found and found[0][0] < start:
                _, _, order, one = found[0]
                if one is None:
                    heappop(found)
                else:
                    heapreplace(found, (start, unknown, order, one))

    def _active(self, view: View, start: int) -> Iterator[Pattern]:
        """The patterns that may match: where their keywords are, or, for those without, where any of them does."""
        active: set[int] = set()
        place = view.byte(start)
        if any(one.search(view.data, place) is not None for one in self._any_free):
            active.update(self._free)
        if self._keyword_automaton is not None:
            for hit in self._keyword_automaton.find_matches_as_indexes(view.folded, overlapping=True):
                active.update(self._by_keyword[hit[0]])
        return map(self._patterns.__getitem__, active)


class _Engine:
    """What finds spans in lines, and the rules that take its types."""

    def __init__(self, find: Callable[[str], Iterable[tuple[int, int, str]]]) -> None:
        self._find = find
        self._rules: dict[str, tuple[int, str]] = {}

    def add(self, rule: Spans, order: int) -> None:
        """Take one more type; the rule that was given first has it."""
        self._rules.setdefault(rule.type.lower(), (order, rule.id))

    def find(self, text: str, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """The spans that begin from `start` on, in lines that begin before `stop`: where, their end, the rule's place.

        Raises ValueError for one that is none, or not within its line, and MiddlewareError where the engine fails.
        """
        at = text.rfind("\n", 0, start) + 1
        while at < stop:
            end = text.find("\n", at)
            line = text[at : end if end >= 0 else len(text)]
            for span in self._found(line) if line else ():
                match span:
                    case (int(first), int(last), str(kind)) if 0 <= first < last <= len(line):
                        taken = self._rules.get(kind.lower())
                    case _:
                        names = ", ".join(name for _, name in self._rules.values())
                        raise ValueError(f"the engine of {names} gave what is no span of its line (start, end, type)")
                if taken is not None and at + first >= start:
                    yield at + first, at + last, taken[0]
            at += len(line) + 1

    def _found(self, line: str) -> list[tuple[int, int, str]]:
        try:
            return list(self._find(line))
        except NeuroError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, its text may quote the line
            names = ", ".join(name for _, name in self._rules.values())
            raise MiddlewareError(f"the engine of {names} failed ({type(error).__name__})") from None


def _pattern(rule: Rule, order: int) -> Pattern:
    try:
        return Pattern(rule, order)
    except ValueError as error:
        raise ValueError(f"{rule.id}: {error}") from None

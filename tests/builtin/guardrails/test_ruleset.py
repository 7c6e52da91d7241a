# ruff: noqa: RUF001  # look-alikes and wide letters are tried here
"""Streamed is whole: for any rules, any text and any cut. A naive matcher says what whole is."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neuro_mw.builtin.guardrails import Rule, RuleSet, Terms

MARK = "[REDACTED]"
# few letters, so that terms and patterns meet often; what is zero-width, wide, composed or not, and unspaced among them
LETTERS = "aab b-1.@\u200b\uff21e\u0301\u00e9\u4e2d\ufb01 "
texts = st.text(alphabet=LETTERS, max_size=40)
words = st.text(alphabet="ab1-eé中fi", min_size=1, max_size=5).filter(lambda word: not word.isspace())
atoms = st.sampled_from(["a", "b", "1", "[ab]", "[^a]", ".", r"\d", r"\w", "@", "-", "é", r"\b", "(?:a|bb)", "(?:1-)"])
counts = st.sampled_from(["", "", "", "?", "{2}", "{1,3}", "*", "+", "{0,2}", "{2,}"])
patterns = st.lists(st.tuples(atoms, counts), min_size=1, max_size=4).map(
    lambda items: "".join(atom + (count if atom != r"\b" else "") for atom, count in items)
)


CHECKS: list[Callable[[str], int] | None] = [
    None,
    None,
    lambda text: len(text) // 2 * 2,
    lambda text: len(text.rstrip("b1")),
    lambda text: 0 if text[0] == "a" else len(text),
    lambda text: -2 if text[0] == "a" else len(text),
    lambda text: -len(text) if "1" in text else len(text) // 2 * 2,
    lambda text: -9,
]


def usable(pattern: str, check: Callable[[str], int] | None = None) -> Rule | None:
    rule = Rule("test.rule", pattern, check=check, max_chars=6)
    try:
        RuleSet([rule])
    except ValueError:
        return None
    return rule


rules = st.lists(
    st.one_of(
        st.builds(
            lambda some, how: Terms("test.terms", tuple(some), how),
            st.lists(words, min_size=1, max_size=4),
            st.sampled_from(["word", "substring"]),
        ),
        st.builds(usable, patterns, st.sampled_from(CHECKS)).filter(bool),
    ),
    min_size=1,
    max_size=3,
)
cuts = st.lists(st.integers(0, 50), max_size=12)


def pieces_of(text: str, places: list[int]) -> list[str]:
    ends = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(ends)]


def streamed(plan: RuleSet, pieces: list[str]) -> str:
    stream = plan.stream(MARK)
    return "".join([*map(stream.feed, pieces), stream.finish()])


def check_what_left_is_final(plan: RuleSet, pieces: list[str]) -> None:
    """What has left is the beginning of the result, whatever comes."""
    stream, left, whole = plan.stream(MARK), "", plan.redact("".join(pieces), MARK)
    for piece in pieces:
        left += stream.feed(piece)
        assert whole.startswith(left)
    assert left + stream.finish() == whole
    assert [(one.start, one.end) for one in stream.matches] == [
        (one.start, one.end) for one in plan.scan("".join(pieces))
    ]


@given(some=rules, text=texts, places=cuts, normalize=st.booleans())
@example(some=[Terms("t", ("ab",))], text="\u200bab", places=[1], normalize=True)
@example(some=[Rule("r", "a{2,}", max_chars=3)], text="aaaaaaa", places=[1, 2, 3, 4, 5], normalize=True)
def test_streamed_is_whole(some: list[Rule | Terms], text: str, places: list[int], normalize: bool) -> None:
    plan = RuleSet(some, normalize=normalize)
    check_what_left_is_final(plan, pieces_of(text, places))
    check_what_left_is_final(plan, list(text))


@given(some=rules, text=st.text(alphabet="ab1-@ .", max_size=25))
def test_whole_is_what_a_naive_matcher_finds(some: list[Rule | Terms], text: str) -> None:
    """Every place, every length: the leftmost, of these the longest, none over another."""

    none_before = [0] * len(some)  # by rule: where its check lets it begin again

    def longest_at(start: int, rule: Rule | Terms, place: int) -> int:
        ends = range(len(text), start, -1)
        if isinstance(rule, Terms):
            return max((end for end in ends if is_term(rule, start, end)), default=start)
        pattern = re.compile(rule.pattern)
        ends = [end for end in ends if end - start <= rule.max_chars]
        # the edges at the end see what follows: the pattern is matched in front of exactly that
        end = max((end for end in ends if re.compile(f"(?:{rule.pattern})(?<=^.{{{end}}})", re.S).match(text, start)),
                  default=start) if pattern else start  # fmt: skip
        if not rule.check or end == start or start < none_before[place]:
            return end if start >= none_before[place] else start
        size = rule.check(text[start:end])
        none_before[place] = min(start - size, end)
        return start + max(0, size)

    def is_term(rule: Terms, start: int, end: int) -> bool:
        if text[start:end] not in rule.terms:
            return False
        word = re.compile(r"\w")
        before = start > 0 and word.match(text[start - 1]) and word.match(text[start])
        after = end < len(text) and word.match(text[end - 1]) and word.match(text[end])
        return rule.match == "substring" or not (before or after)

    expected, at = [], 0
    while at < len(text):
        end = max(longest_at(at, rule, place) for place, rule in enumerate(some))
        if end > at:
            expected.append((at, end))
        at = max(end, at + 1)
    assert [(one.start, one.end) for one in RuleSet(some).scan(text)] == expected


def test_held_is_no_more_than_what_can_become_a_match() -> None:
    plan = RuleSet([Terms("t", ("secret plan",)), Rule("r", r"\b\d{3}-\d{4}\b")])
    stream = plan.stream()
    held = []
    for char in "a secre secret plans 123-45 12a 555-1234.":
        stream.feed(char)
        held.append(stream.held)
    assert held == [
        "", "", "s", "se", "sec", "secr", "secre", "", "s", "se", "sec", "secr", "secre", "secret", "secret ",
        "secret p", "secret pl", "secret pla", "secret plan", "", "", "1", "12", "123", "123-", "123-4", "123-45", "",
        "1", "12", "", "", "5", "55", "555", "555-", "555-1", "555-12", "555-123", "555-1234", "",
    ]  # fmt: skip


# --- teeth: what others do fails the same property --------------------------------------------------------------------


class PerChunk:
    """Redacts each piece by itself."""

    def __init__(self, plan: RuleSet) -> None:
        self._plan = plan

    def run(self, pieces: list[str]) -> str:
        return "".join(self._plan.redact(piece, MARK) for piece in pieces)


class FixedWindow:
    """Holds the last characters back, whatever they are."""

    def __init__(self, plan: RuleSet, size: int = 5) -> None:
        self._plan, self._size = plan, size

    def run(self, pieces: list[str]) -> str:
        left, held = "", ""
        for piece in pieces:
            held = self._plan.redact(held + piece, MARK)
            left, held = left + held[: -self._size], held[-self._size :]
        return left + self._plan.redact(held, MARK)


@pytest.mark.parametrize("kind", [PerChunk, FixedWindow])
def test_a_naive_redactor_fails(kind: Callable[[RuleSet], PerChunk | FixedWindow]) -> None:
    plan = RuleSet([Terms("t", ("abcdefgh",), "substring")])
    texts = ["xx abcdefgh yy", "abcdefg abcdefgh", "abcdefghabcdefgh"]
    wrong = [text for text in texts if kind(plan).run(list(text)) != plan.redact(text, MARK)]
    assert wrong
    assert [streamed(plan, list(text)) for text in texts] == [plan.redact(text, MARK) for text in texts]


# --- single properties ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "text", "expected"),
    [
        (("ab cd", "cd ef"), "ab cd ef", f"{MARK} ef"),
        (("foo", "foo bar"), "foo bar", MARK),
        (("foo", "foo bar"), "foo barn", f"{MARK} barn"),
        (("ass",), "class assignment ass.", f"class assignment {MARK}."),
        (("c++",), "c++ and c+++", f"{MARK} and {MARK}+"),
        (("Straße",), "STRASSE straße", f"{MARK} {MARK}"),
        (("café",), "cafe\u0301 CAFÉ cafe", f"{MARK} {MARK} cafe"),
        (("ano",), "año ano", f"año {MARK}"),
        (("bad",), "b\u200ba\u200dd ｂａｄ", f"{MARK} {MARK}"),
        (("敏感",), "这是敏感词", f"这是{MARK}词"),
        (("find",), "ﬁnd it", f"{MARK} it"),
        (("İx",), "İx", MARK),
        (("σας",), "ΣΑΣ σας", f"{MARK} {MARK}"),
    ],
)
def test_terms(terms: tuple[str, ...], text: str, expected: str) -> None:
    plan = RuleSet([Terms("t", terms)])
    assert plan.redact(text) == expected
    assert streamed(plan, list(text)) == expected


def test_terms_in_words() -> None:
    plan = RuleSet([Terms("t", ("ass", "abcd", "cdef"), "substring")])
    assert plan.redact("class") == f"cl{MARK}"
    assert plan.redact("abcdef") == f"{MARK}ef"


def test_without_normalization_a_text_is_what_it_is() -> None:
    plan = RuleSet([Terms("t", ("bad",))], normalize=False)
    assert plan.redact("b\u200bad BAD") == f"b\u200bad {MARK}"


def test_confusables() -> None:
    text = "раураl"  # Cyrillic but for the l
    assert RuleSet([Terms("t", ("paypal",))]).redact(text) == text
    assert RuleSet([Terms("t", ("paypal",))], confusables=True).redact(text) == MARK


def test_a_check_decides_and_shortens() -> None:
    seen = []

    def even(text: str) -> int:
        seen.append(text)
        return len(text) // 2 * 2 if int(text[0]) % 2 == 0 else 0

    plan = RuleSet([Rule("r", r"\d{1,5}", check=even)])
    for text, expected in (("12345", f"1{MARK}"), ("2345 35", f"{MARK} 35"), ("35", "35"), ("24681", f"{MARK}1")):
        assert plan.redact(text) == expected
        assert streamed(plan, list(text)) == expected


@pytest.mark.parametrize("normalize", [True, False])
def test_a_check_says_how_far_there_is_none(normalize: bool) -> None:
    """And that holds where a stream is cut within, and where other rules still wait for what follows."""
    seen = []

    def check(text: str) -> int:
        seen.append(text)
        return -len(text) if "." in text else len(text)

    rules = [Rule("r", r"(?:\d\.)?\d{3,5}", check=check), Terms("t", ("23-4",), "substring")]
    plan = RuleSet(rules, normalize=normalize)
    for text, expected in (("0.123-5 678", f"0.123-5 {MARK}"), ("0.123-4", f"0.1{MARK}"), ("0.1234567", "0.1234567")):
        assert plan.redact(text) == expected
        assert streamed(plan, list(text)) == expected
    seen.clear()
    plan.scan("0.12345 123")
    assert seen == ["0.12345", "123"]


def test_how_far_there_is_none_ends_with_the_match_or_the_character() -> None:
    plan = RuleSet([Rule("r", r"\d\d", check=lambda text: -9 if text[0] == "1" else 2)])
    assert plan.redact("1122") == f"11{MARK}"
    three = RuleSet([Rule("r", r"\d{3}", check=lambda text: -3 if text[0] == "1" else 3)])
    text = "12\u246b345"  # the third character stands for 12, of which the 1 belongs to what is none
    assert three.redact(text) == streamed(three, list(text)) == "12\u246b" + MARK


def test_replacements_see_the_match() -> None:
    plan = RuleSet([Rule("pii.ssn", r"\d{3}-\d{2}", type="SSN")])
    assert plan.redact("a 123-45", lambda match, text: f"<{match.rule.type}:{len(text)}>") == "a <SSN:6>"


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "missing"),
        (r"(?=a)", "invalid perl operator"),
        (r"(a)\1", "invalid escape"),
        (r"\b", "empty text"),
        (r"(?:^|$){2}", "empty text"),
        ("a{300}", "shortest match has 300"),
        (r"a\C", "byte"),
        ("a)", "unexpected"),
        ("[a", "missing"),
    ],
)
def test_patterns_that_cannot_be_used(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"regex.mine: .*{why}"):
        RuleSet([Rule("regex.mine", pattern)])


def test_unbounded_patterns_are_bounded() -> None:
    plan = RuleSet([Rule("r", "<.*>", max_chars=10)])
    for text in ("<a>", "<a> <b>", "<" + "x" * 20 + ">", "<a>" + "x" * 20 + ">", "<<<<<<<<<<<<<<<<>"):
        assert streamed(plan, list(text)) == plan.redact(text)
    assert plan.redact("<123456789>") == "<123456789>"
    assert plan.redact("<12345678>") == MARK


@pytest.mark.parametrize("pattern", ["a{1,6}", "ab|a{1,6}", "a{1,5}b?"])
def test_long_texts_are_searched_in_windows_as_if_there_were_none(pattern: str) -> None:
    plan = RuleSet([Rule("r", pattern)])
    for size in range(4084, 4102):
        for text in ("-" * size + "a" * 13 + "b" + "-" * 50, "a" * size + "-" * 50, "-a" * size, "a" * 9 + "b" * size):
            expected = [found.span() for found in re.finditer(pattern, text)]
            assert [(one.start, one.end) for one in plan.scan(text)] == expected
            assert plan.redact("é" + text) == "é" + plan.redact(text)


def test_patterns_with_names_flags_and_classes() -> None:
    plan = RuleSet([
        Rule("a", r"(?i)key(?P<n>\d)"), Rule("b", r"(?P<n>[[:upper:]]{3})-\pN"), Rule("c", r"\Qa.b\E"),
    ])  # fmt: skip
    text = "KEY1 key2 ABC-1 abc-1 a.b axb"
    assert plan.redact(text) == f"{MARK} {MARK} {MARK} abc-1 {MARK} axb"
    assert streamed(plan, list(text)) == plan.redact(text)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*a){5}", "([a-zA-Z]+)*$", "^(([a-z])+.)+[A-Z]([a-z])+$"])
@pytest.mark.parametrize("text", ["a" * 50_000, "a" * 50_000 + "!", "ab" * 25_000])
def test_patterns_that_explode_elsewhere(pattern: str, text: str) -> None:
    plan = RuleSet([Rule("r", pattern)])
    assert isinstance(plan.scan(text), list)  # a backtracking engine would not come back


def test_flags_hold_for_all_branches_that_follow() -> None:
    for pattern in ("(?i)ab|cd", "xy|(?i)ab|cd", "(?:(?i)ab|cd)", "(?i)ab|(?-i)cd"):
        plan = RuleSet([Rule("r", pattern)])
        for text in ("AB CD", "ab cd", "XY xy CD"):
            assert streamed(plan, list(text)) == plan.redact(text), pattern
    assert RuleSet([Rule("r", "(?i)ab|cd")]).redact("CD") == MARK


def test_of_equals_the_rule_that_was_given_first_stands() -> None:
    keyed = [Rule("a.one", r"\bab\d{2}", keywords=("ab",)), Rule("a.two", r"\bab\d\d", keywords=("b",))]
    plan = RuleSet([*keyed, Rule("a.free", r"ab\d\d")])
    assert [match.rule.id for match in plan.scan("ab12 ab34")] == ["a.one", "a.one"]
    stream = plan.stream()
    for char in "ab12 ab34":
        stream.feed(char)
    stream.finish()
    assert [match.rule.id for match in stream.matches] == ["a.one", "a.one"]


def test_an_empty_plan() -> None:
    plan = RuleSet([])
    assert not plan
    assert plan.redact("a") == "a"
    assert streamed(plan, ["a", "b"]) == "ab"

"""Engines that are no pattern: asked line by line, with the same result for whole texts and for any cut."""

import re
import sys
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neuro_mw import MiddlewareError
from neuro_mw.builtin.guardrails import Rule, RuleSet, Spans, Terms, stream
from neuro_mw.builtin.guardrails.view import Reading, View

MARK = "[REDACTED]"
NAME = re.compile(r"B[a-z]*")
texts = st.text(alphabet="aabB@ \n\n\u200b\uff22e\u0301\u00e9\ufb01\u2028\x85", max_size=40)
plain = st.text(alphabet="aabB@ \n\n", max_size=40)
cuts = st.lists(st.integers(0, 50), max_size=12)


def engine(line):
    """Names, only in a line with an @ somewhere; all of them together too; and what nobody asked for."""
    assert "\n" not in line
    if "@" in line:
        names = list(NAME.finditer(line))
        yield from ((one.start(), one.end(), "Person") for one in names)
        if len(names) > 1:
            yield names[0].start(), names[-1].end(), "GROUP"
        yield 0, len(line), "line"


PERSON, GROUP = Spans("pii.person", engine), Spans("pii.group", engine)
OTHERS = [
    Terms("t.in_words", ("ab", "B b", "\nb", "a\n"), "substring"),
    Terms("t.words", ("a", "fi", "é a")),
    Rule("r.in_lines", r"b+@?"),
    Rule("r.end", r"a\b"),
    Rule("r.over_lines", r"a\s{1,4}B"),
    Rule("r.head", r"a\s@ ?"),  # without it the engine would find nothing in the rest of the line
    Rule("r.open", r"[^@]+b", max_chars=4),
]
sets = st.tuples(st.sampled_from([[PERSON], [PERSON, GROUP], [GROUP]]), st.lists(st.sampled_from(OTHERS), max_size=3))
sets = sets.flatmap(lambda some: st.permutations([*some[0], *some[1]]))


def pieces_of(text, places):
    ends = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(ends)]


def check_stream(plan, pieces):
    """What has left is final, and the end is what becomes of the whole."""
    text = "".join(pieces)
    run, left, whole, seen = plan.stream(MARK), "", plan.redact(text, MARK), 0
    for piece in pieces:
        left += run.feed(piece)
        seen += len(piece)
        assert whole.startswith(left)
        assert text[:seen].endswith(run.held)
    assert left + run.finish() == whole
    assert run.held == ""
    assert run.matches == plan.scan(text)


@given(some=sets, text=texts, places=cuts, normalize=st.booleans())
@example(some=[PERSON, OTHERS[4]], text="a\nBa Bb @\n", places=[3], normalize=True)
@example(some=[PERSON, OTHERS[4]], text="a\nBa@ a\n\n\nB B@", places=[8, 9, 10, 11], normalize=False)
@example(some=[PERSON, OTHERS[5]], text="a\n@ B bB\n", places=[1, 5], normalize=True)
@example(some=[PERSON], text="B\u200b\n\u200bB\uff20\u200b\nB", places=[2, 3, 4, 5], normalize=True)
def test_streamed_is_whole(some, text, places, normalize):
    plan = RuleSet(some, normalize=normalize)
    check_stream(plan, pieces_of(text, places))
    check_stream(plan, list(text))


@given(some=sets, text=plain)
def test_whole_is_leftmost_longest_and_first_given(some, text):
    """Every match that each rule has by itself at a place; of all the leftmost, the longest, the first rule."""
    begins = {}
    for order, rule in enumerate(some):
        if isinstance(rule, Spans):
            at = 0
            for line in text.split("\n"):
                for begin, end, kind in engine(line):
                    if kind.upper() == rule.type:
                        begins.setdefault(at + begin, []).append((-at - end, order))
                at += len(line) + 1
        else:
            for at in range(len(text)):
                # a set of this rule alone, searched from there on
                alone, view = RuleSet([rule]), View(text, Reading())
                for begin, end, _ in alone.matches(view, at, at + 1):
                    begins.setdefault(begin, []).append((-end, order))
    expected, at = [], 0
    while at < len(text):
        if at in begins:
            back, order = min(begins[at])
            expected.append((at, -back, some[order].id))
            at = -back
        else:
            at += 1
    assert [(one.start, one.end, one.rule.id) for one in RuleSet(some).scan(text)] == expected


@given(text=plain, places=cuts, some=st.sampled_from([[], OTHERS[2:4], [OTHERS[1]]]))
def test_no_more_is_held_than_the_line_under_way(text, places, some):
    run, came = RuleSet([PERSON, GROUP, *some]).stream(), ""
    for piece in pieces_of(text, places):
        run.feed(piece)
        came += piece
        assert run.held == came.rpartition("\n")[2]


@given(text=plain)
def test_over_lines_no_more_is_held_than_a_match_may_have(text):
    run, came = RuleSet([PERSON, *OTHERS[:6]]).stream(), ""
    for char in text:
        run.feed(char)
        came += char
        assert len(run.held) <= len(came.rpartition("\n")[2]) + 6


@given(text=texts, places=cuts)
def test_the_engine_runs_once_a_line(text, places):
    asked = []

    def asking(line):
        asked.append(line)
        return engine(line)

    plan = RuleSet([Spans("a.person", asking), Spans("a.group", asking), Spans("a.other", asking), Terms("t", ("b",))])
    lines = [line for line in View(text, Reading()).norm.split("\n") if line]
    plan.scan(text)
    assert asked == lines
    asked.clear()
    run = plan.stream()
    for piece in pieces_of(text, places):
        run.feed(piece)
    run.finish()
    assert asked == lines


def test_a_line_that_a_match_ends_in_is_seen_whole():
    asked = []

    def asking(line):
        asked.append(line)
        return [(found.start(), found.end(), "NAME") for found in re.finditer("Bob", line)]

    plan = RuleSet([Spans("a.name", asking), Rule("r", r"x\nB")])
    check_stream(plan, list("x\nBob and Bob\n"))  # the first Bob begins behind the beginning of another match
    assert plan.redact("x\nBob and Bob\n") == f"{MARK}ob and {MARK}\n"
    assert set(asked) == {"x", "Bob and Bob"}


def test_while_a_line_grows_nothing_is_read(monkeypatch):
    views = []

    def viewing(text, reading):
        views.append(len(text))
        return View(text, reading)

    monkeypatch.setattr(stream, "View", viewing)
    run = RuleSet([PERSON, Terms("t", ("a",))]).stream()
    for _ in range(1000):
        assert run.pieces("ab ") == []
    assert (views, run.held) == ([], "ab " * 1000)
    assert run.feed("B@\nB") == "ab " * 1000 + f"{MARK}@\n"
    assert run.finish() == "B"
    assert views == [3004, 2]


def test_types_are_compared_without_case():
    def finds(line):
        return [(0, 1, "person"), (2, 3, "Loc"), (4, 5, "date")]

    assert Spans("pii.person", finds).type == "PERSON"
    assert Spans("pii.person", finds).detector == "pii"
    plan = RuleSet([Spans("pii.person", finds), Spans("pii.place", finds, "LOC"), Spans("pii.again", finds, "Person")])
    assert [(one.start, one.rule.id) for one in plan.scan("a b c")] == [(0, "pii.person"), (2, "pii.place")]
    assert plan.redact("a b c", lambda match, text: f"<{match.rule.type}>") == "<PERSON> <LOC> c"


def test_of_equals_the_rule_that_was_given_first_stands():
    def finds(line):
        return [(0, 2, "x")] * 2

    rules = [Spans("s.x", finds), Rule("r", "a."), Terms("t", ("ab",))]
    for some in (rules, rules[::-1], [rules[1], rules[0], rules[2]]):
        assert [one.rule for one in RuleSet(some).scan("ab")] == [some[0]]


BAD = [
    (0, 0, "P"), (2, 1, "P"), (-1, 1, "P"), (0, 9, "P"), ("0", 1, "P"), (0.0, 1, "P"), (0, 1, None), (0, 1), 7, "012",
    (0, 9, "not asked for"),
]  # fmt: skip


@pytest.mark.parametrize("span", BAD)
def test_a_bad_span_is_refused_by_the_name_of_its_rule(span):
    plan = RuleSet([Spans("mine.p", lambda line: [span])])
    with pytest.raises(ValueError, match=r"mine\.p") as caught:
        plan.scan("a secret\n")
    assert "secret" not in str(caught.value)
    run = plan.stream()
    assert run.feed("a sec") == ""
    with pytest.raises(ValueError, match=r"mine\.p"):
        run.feed("ret\n")
    assert (run.held, run.matches) == ("a secret\n", [])


def test_an_engine_that_fails_lets_nothing_go():
    def fails(line):
        if "bad" in line:
            raise RuntimeError(f"no model for {line}")
        return [(0, 1, "X")]

    plan = RuleSet([Spans("mine.x", fails), Terms("t", ("good",))])
    said = r"^the engine of mine\.x failed \(RuntimeError\)$"
    with pytest.raises(MiddlewareError, match=said) as caught:
        plan.scan("good\nbad")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    run = plan.stream(MARK)
    assert run.feed("good\nba") == MARK + "\n"
    with pytest.raises(MiddlewareError, match=said):
        run.feed("d good\ngood\n")
    assert run.held == "bad good\ngood\n"
    with pytest.raises(MiddlewareError, match=said):
        run.finish()


def test_nothing_else_becomes_the_end_of_a_line():
    """Streams cut lines in the text, detectors in what it reads as: both are at the same places."""
    ends = [code for code in range(sys.maxunicode + 1) if "\n" in unicodedata.normalize("NFKC", chr(code))]
    assert ends == [ord("\n")]
    assert View("\n", Reading()).norm == "\n"


def test_a_set_of_spans_alone_is_one():
    assert RuleSet([PERSON])
    assert RuleSet([PERSON]).by_line
    assert not RuleSet(OTHERS).by_line

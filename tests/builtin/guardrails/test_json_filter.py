"""Tool arguments under a filter: JSON stays JSON, what is none is text, and no cut makes a difference."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neuro_mw.builtin.guardrails import Rule, Terms, pii
from neuro_mw.builtin.guardrails.filters import Filter, filter_of
from neuro_mw.builtin.guardrails.json_filter import JSONRun, whole_json

RULES = [*pii.rules(), Terms("bad_words", ("secret plan", "ab")), Rule("n", r"\d{6,9}")]
PLAN: Filter = filter_of(RULES, dict.fromkeys([rule.id for rule in RULES], "redact"), text="[X]", invisible="redact")


def run(pieces: list[str]) -> tuple[str, bool, Counter[str]]:
    counts: Counter[str] = Counter()
    one = JSONRun(PLAN, counts)
    left = [piece for text in pieces for piece in one.feed(text)] + one.finish()
    assert sum(piece.size for piece in left) == len("".join(pieces))
    return "".join([piece.text for piece in left]), one.invalid, counts


TEXT = st.text(alphabet='{}[],:" \\u0e9\u00e9\u200bntrfalsab1234+-.@ecrpl\ud83d', max_size=40)


@given(text=TEXT, sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4))
@example(text='{"a":"\\u00e91\\u200b  "}', sizes=[1])
@example(text='{"a":"\\u00e91\u200b  "}', sizes=[1])
@example(text="4111 1111 1111 1111", sizes=[1])
@example(text='{"a" "b"}', sizes=[3])
def test_no_cut_makes_a_difference(text: str, sizes: list[int]) -> None:
    pieces, at = [], 0
    while at < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[at : at + size])
        at += size
    assert run(pieces) == run([text])


values = st.recursive(
    st.one_of(
        TEXT, st.integers(-(10**8), 10**8), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)


@given(value=values, ascii=st.booleans(), indent=st.sampled_from([None, 1]))
def test_json_stays_json_with_its_strings_filtered(value: Any, ascii: bool, indent: Any) -> None:
    text = json.dumps(value, ensure_ascii=ascii, indent=indent)
    changed, valid = whole_json(text, PLAN, Counter())
    assert valid

    def filtered(one: Any) -> Any:
        if isinstance(one, dict):
            return {PLAN.whole(key, Counter()): filtered(inner) for key, inner in one.items()}
        if isinstance(one, list):
            return [filtered(inner) for inner in one]
        if isinstance(one, str):
            return PLAN.whole(one, Counter())
        if isinstance(one, int | float) and not isinstance(one, bool):
            said = json.dumps(one)
            new = PLAN.whole(said, Counter())
            return one if new == said else new
        return one

    assert json.loads(changed) == filtered(json.loads(text))


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("4111 1111 1111 1111", "[X]"),
        ('{"c": 4111 1111 1111 1111}', '{"c": [X]}'),
        ("+49 30 12345678", "[X]"),
        ('{"to": 5551234@example.org}', '{"to": [X]}'),
        ("e.e@example.org", "[X]"),
        ("trueman@example.org", "[X]"),
        ('{"a": nullab ab}', '{"a": nullab [X]}'),
        ('{"a": "x" ab}', '{"a": "x" [X]}'),
        ('{"a": 1 "ab"}', '{"a": 1 "[X]"}'),
        ("{'a': secret plan", "{'a': [X]"),
        ("0123456", "[X]"),
    ],
)
def test_what_is_no_json_is_text_from_where_it_goes_wrong(text: str, after: str) -> None:
    assert run([text])[:2] == run(list(text))[:2] == (after, True)


@pytest.mark.parametrize(
    "text", ['{"a": "x', '{"a": [1', "tru", "-", '{"a": 1.}', "[1, 2", '"', "{} {}", "1 2", "[1 2]"]
)
def test_what_breaks_off_is_said(text: str) -> None:
    assert run([text])[:2] == (text, True)


@pytest.mark.parametrize("text", ["", " ", "{}", "[]", "1", "-0.5e+3", "true", ' {"a": [1, null, "x"]} ', '""'])
def test_what_is_json_is_not_said(text: str) -> None:
    assert run([text])[:2] == run(list(text))[:2] == (text, False)


@pytest.mark.parametrize(
    "text", ["1" * 200_000, " " * 200_000, '"' + "\\n" * 100_000 + '"', "[" * 100_000, '"a",' * 50_000]
)
def test_large_arguments_in_small_pieces(text: str) -> None:
    head = text[: len(text) // 4]
    assert run([head[at : at + 4] for at in range(0, len(head), 4)]) == run([head])

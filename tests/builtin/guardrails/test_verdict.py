"""Verdicts in a judge's reply: strict, and of several the strictest."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw.builtin.guardrails.verdict import MAX_CHARS, OVERALL, Verdict, VerdictError, parse

noise = st.text(alphabet='{}[]":,\\/ \n\'`safeunovrlSAFE_0189.é\ud800', max_size=60)
scores = st.one_of(st.integers(-5, 15), st.floats(-5, 15), st.integers(0, 10).map(lambda n: f"{n}/10"))
overall_keys = st.sampled_from(["overall", "Overall", "OVERALL", "verdict", "rating", "over_all"])
safety_keys = st.sampled_from(["safety_score", "safetyScore", "SAFETY-SCORE", "SafetyScore", "safety score"])
cases = st.sampled_from([str.upper, str.lower, str.title])


@st.composite
def verdicts(draw: Any, words: Any = st.sampled_from(OVERALL)) -> dict[str, Any]:
    found: dict[str, Any] = {draw(overall_keys): draw(cases)(draw(words))}
    if draw(st.booleans()):
        found[draw(safety_keys)] = draw(scores)
    if draw(st.booleans()):
        found["appropriatenessScore"] = draw(scores)
    return dict(draw(st.permutations(list(found.items()))))


def held_in(inner: Any) -> Any:
    """JSON that holds `inner` somewhere."""
    names = st.text(alphabet='ab"\\:{, ', max_size=8)
    return st.one_of(st.lists(inner, min_size=1, max_size=3), st.dictionaries(names, inner, min_size=1, max_size=3))


def written(value: Any, indent: int | None, escaped: bool) -> str:
    """JSON; with `escaped`, each letter that may be written as its number is."""
    text = json.dumps(value, indent=indent)
    return text if not escaped else "".join(f"\\u{ord(char):04x}" if char in "ouv" else char for char in text)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"overall": "safe", "safety_score": 9, "appropriateness_score": 8}', Verdict("safe", 9, 8)),
        ('{"overall": "safe", "safetyScore": 0}', Verdict("safe", 0)),
        ('{"Overall": "UNSAFE", "safety_score": 10}', Verdict("unsafe", 10)),
        ('{"VERDICT": "Suspicious"}', Verdict("suspicious")),
        ('{"rating": " inappropriate. "}', Verdict("inappropriate")),
        ('{"safety_score": "3/10", "appropriateness-score": "4"}', Verdict(None, 3, 4)),
        ('{"safety_score": 3.5e0}', Verdict(None, 3.5)),
        ('{"safety_score": -3, "appropriateness_score": 99}', Verdict(None, 0, 10)),
        ('Here you are:\n```json\n{\n "overall" : "safe"\n}\n``` Bye {', Verdict("safe")),
        ('I think {this} is it: {"overall": "safe"}', Verdict("safe")),
        ('{"result": [{"verdict": "safe", "safety_score": 8}], "reason": "{"}', Verdict("safe", 8)),
        ('{"reason": "it says {\\"overall\\": \\"unsafe\\"}", "overall": "suspicious"}', Verdict("suspicious")),
        ('{"\\q": 1, "overall": "safe"}', Verdict("safe")),
        ("unsafe\nS2", Verdict("unsafe")),
        ("SAFE.", Verdict("safe")),
        ("\n\n  **Safe**\n\nNothing is wrong with it.", Verdict("safe")),
        ('"unsafe"', Verdict("unsafe")),
        ('safe\n{"overall": "unsafe"}', Verdict("unsafe")),
        ('{"overall": "safe", "safety_score": 9}\nunsafe', Verdict("unsafe", 9)),
        ('{"overall": "safe", "overall": "unsafe"}', Verdict("unsafe")),
        ('{"overall": "safe", "safety_score": 9} {"safety_score": 1}', Verdict("safe", 1)),
        ('{"overall": "banana"} {"overall": "unsafe"}', Verdict("unsafe")),
        ('{"overall": "unsafe", "safety_score": NaN}', Verdict("unsafe")),
        ('{"foo": "{"overall": "unsafe"}"}', Verdict("unsafe")),
    ],
)
def test_read(reply: str, expected: Verdict) -> None:
    assert parse(reply) == expected


@pytest.mark.parametrize(
    "reply",
    [
        "", " \n", "{", "{}", "[]", "null", "I cannot judge that.", "this is safe", "not safe", "not unsafe", "!safe",
        "safe?", "un safe", "Verdict: safe", "safe or unsafe", "7", "The text is unsafe.",
        '{"overall": "dangerous"}', '{"overall": "not safe"}', '{"overall": "safe|unsafe"}', '{"overall": ""}',
        '{"overall": null}', '{"overall": true}', '{"overall": 1}', '{"overall": ["safe"]}',
        '{"overall": "\\q"}', '{"\\q": 1}', '{"overall": {"x": "safe"}}', '[[{"overall": []}]]',
        '{"overall": "safe', '{"overall": "safe"', '{"overall": "safe" or "unsafe"}', "{'overall': 'safe'}",
        '{"overall": "safe", "safety_score": 9', '{"overall": "safe", "safety_score": }',
        '{"overall": "safe"} {"overall": "banana"}', '{"overall": "safe", "appropriateness_score": "good"}',
        '{"appropriateness_score": 9}', "safe" + " " * MAX_CHARS, '{"overall": "safe"}' + "x" * MAX_CHARS,
        " " * MAX_CHARS + '{"overall": "safe"}', "safe\n" + "x" * MAX_CHARS + '{"overall": "unsafe"}',
    ],
)  # fmt: skip
def test_not_read(reply: str) -> None:
    with pytest.raises(ValueError, match="the reply "):
        parse(reply)


@pytest.mark.parametrize(
    "score",
    [
        "NaN", "Infinity", "-Infinity", "1e999", "true", "false", "null", "[9]", '{"value": 9}', "9 9", "0x9", "1_0",
        "", '"high"', '""', '"3/5"', '"9 of 10"', '"\u0663"', '"NaN"', '"inf"', '"' + "9" * 61 + '"',
    ],
)  # fmt: skip
def test_scores_that_are_none(score: str) -> None:
    with pytest.raises(ValueError, match="the reply "):
        parse(f'{{"overall": "safe", "safety_score": {score}}}')


@given(st.one_of(st.text(), noise, st.lists(st.one_of(noise, verdicts().map(json.dumps))).map("".join)))
def test_whatever_comes_is_a_verdict_or_a_value_error(reply: str) -> None:
    try:
        found = parse(reply)
    except ValueError:
        return
    assert found.overall in (None, *OVERALL)
    assert found.overall is not None or found.safety_score is not None
    for score in (found.safety_score, found.appropriateness_score):
        assert score is None or (isinstance(score, float) and 0 <= score <= 10 and math.isfinite(score))


@given(
    st.recursive(verdicts(st.just("unsafe")), held_in, max_leaves=4),
    st.lists(verdicts().map(json.dumps), max_size=2).map(" ".join),
    noise, noise, st.sampled_from([None, 1]), st.booleans(),
)  # fmt: skip
def test_what_holds_an_unsafe_verdict_is_unsafe(
    value: Any, others: str, before: str, after: str, indent: int | None, escaped: bool
) -> None:
    assert parse(before + others + written(value, indent, escaped) + after).overall == "unsafe"


@given(st.lists(verdicts(), min_size=1, max_size=4), st.randoms())
def test_of_several_the_strictest_of_each(found: list[dict[str, Any]], order: Any) -> None:
    alone = [parse(json.dumps(one)) for one in found]
    order.shuffle(found)
    both = parse("then: ".join(map(json.dumps, found)))
    assert both.overall == max((one.overall for one in alone if one.overall), key=OVERALL.index)
    for name in ("safety_score", "appropriateness_score"):
        given_scores = [score for one in alone if (score := getattr(one, name)) is not None]
        assert getattr(both, name) == min(given_scores, default=None)


@pytest.mark.parametrize("piece", ["[", "{", '{"a":', '{"overall":', '"', '\\"', '"overall":"', '\\u0061"'])
def test_no_depth_is_too_deep(piece: str) -> None:
    with pytest.raises(ValueError, match="the reply "):
        parse(piece * (MAX_CHARS // len(piece)))
    deep = piece * (5000 // len(piece))
    assert parse(f'{deep} {{"overall": "unsafe"}}').overall == "unsafe"


def test_a_judge_that_says_unsafe_and_cannot_stop() -> None:
    assert parse("unsafe\n" + "because " * MAX_CHARS).overall == "unsafe"


@given(st.text(alphabet="xyz", min_size=3, max_size=9))
def test_errors_hold_nothing_of_the_reply(word: str) -> None:
    for reply in (word, json.dumps({"overall": word}), json.dumps({"overall": "safe", "safety_score": word})):
        with pytest.raises(ValueError, match="the reply ") as caught:
            parse(reply)
        assert word not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        'verdict: unsafe\n{"overall": "safe"}',
        '{"overall": "safe"} but really unsafe',
        "safe.\n\nNote: it is UNSAFE.",
        "safe, not unsafe",
    ],
)
def test_a_milder_verdict_beside_the_word_unsafe_is_none(text: str) -> None:
    with pytest.raises(VerdictError):
        parse(text)


def test_the_word_in_a_reason_is_no_verdict() -> None:
    assert parse('{"overall": "safe", "reason": "nothing \\"unsafe\\" here, it is not unsafe"}').overall == "safe"


@pytest.mark.parametrize(
    ("text", "overall"),
    [('{"unsafe": true, "overall": "safe"}', "unsafe"), ('{"safe": false}', "unsafe"), ('{"unsafe": false}', "safe")],
)
def test_switches(text: str, overall: str) -> None:
    assert parse(text).overall == overall

"""auto_evaluation: how a verdict is read, what a judge is told, and which options make sense."""

from __future__ import annotations

import json
import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import ConfigError, MiddlewareFactory
from neuro_mw.builtin.auto_evaluation import AutoEvaluation
from neuro_mw.builtin.evaluation import prompt
from neuro_mw.builtin.evaluation.scores import NAMES, Scores, is_said_in, parse
from neuro_mw.builtin.guardrails.verdict import VerdictError
from tests.builtin.evaluation_models import Judging, verdict
from tests.chain.conftest import call, run, wrap

SCORE = st.one_of(st.integers(0, 10), st.floats(0, 10))


@given(scores=st.tuples(SCORE, SCORE, SCORE, SCORE), feedback=st.text(max_size=50), indent=st.sampled_from([None, 2]))
def test_what_is_written_is_read(scores, feedback, indent):
    data = {**dict(zip(NAMES, scores, strict=True)), "feedback": feedback}
    for text in (json.dumps(data, indent=indent), f"Well:\n```json\n{json.dumps({'verdict': [data]})}\n```\nDone."):
        found = parse(text)
        assert tuple(getattr(found, name) for name in NAMES) == scores
        assert found.feedback == feedback.strip()


@given(st.lists(st.lists(st.integers(0, 10), min_size=4, max_size=4), min_size=1, max_size=5))
def test_of_several_the_strictest_counts(several):
    text = " or ".join(
        json.dumps({**dict(zip(NAMES, one, strict=True)), "feedback": f"{one[3]}"}) for one in several
    )  # fmt: skip
    found = parse(text)
    assert [getattr(found, name) for name in NAMES] == [min(column) for column in zip(*several, strict=True)]
    assert found.feedback == str(found.overall)


@pytest.mark.parametrize(
    "value",
    ["NaN", "Infinity", "-Infinity", "-1", "10.1", "1e400", "true", "null", '"9"', '"9/10"', '"high"', "[9]", "{}"],
)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_score_is_no_verdict(name, value):
    text = verdict(9).replace(f'"{name}": 9', f'"{name}": {value}')
    with pytest.raises(VerdictError) as raised:
        parse(text)
    assert "9" not in str(raised.value)
    with pytest.raises(VerdictError):
        parse(f"{verdict(9)} {text}")  # neither beside one that is


@pytest.mark.parametrize("name", NAMES)
def test_all_scores_have_to_be_there(name):
    data = json.loads(verdict(9))
    del data[name]
    with pytest.raises(VerdictError):
        parse(json.dumps(data))
    with pytest.raises(VerdictError):
        parse(json.dumps(data) + json.dumps({name: 9}))  # in one object


def test_a_score_that_stands_twice_is_the_lower_one():
    assert parse(verdict(9)[:-1] + ', "overall": 2, "overall": 3}').overall == 2
    assert parse(verdict(9)[:-1] + ', "Overall": 1}').overall == 1
    assert parse(verdict(9)[:-1] + ', "overall ": 1}').overall == 1
    assert parse(verdict(9) + ' and {"overall": 1}').overall == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9",
        "overall: 9",
        "[]",
        "{}",
        '{"a": ' * 5_000,
        "[" * 10_000,
        verdict(9) + " " * 20_000,
        '{"a":' * 60 + verdict(9),
        verdict(9) + '{"a',
        json.dumps(verdict(9)),
        json.dumps({"said": verdict(9)}),
        verdict(9)[:-1],
        "{'relevance': 9, 'accuracy': 9, 'completeness': 9, 'overall': 9}",
        verdict(2).replace("more", f'"{verdict(9)}"'),  # quoted as it stands: the object around it is no JSON
        "9" * 10_000,
        '{"overall": ' + "9" * 5000 + "}",
        "\ud800",
        "\x00",
    ],
)
def test_what_is_no_verdict(text):
    with pytest.raises(VerdictError):
        parse(text)


def test_other_objects_beside_it_do_not_matter():
    assert parse('{"a": 1} ' * 1000 + verdict(9)).overall == 9
    assert parse(verdict(9, more={"deep": [[{"a": [1]}]]})).overall == 9


@given(st.text(alphabet='{}[]":,0123456789.eE+- overallscy\\\n', max_size=200))
def test_whatever_comes_it_is_a_verdict_or_none(text):
    try:
        found = parse(text)
    except VerdictError:
        return
    assert all(0 <= getattr(found, name) <= 10 for name in NAMES)


def test_feedback_is_text_that_can_be_sent():
    assert parse(verdict(9, feedback=["no", "text"])).feedback == ""
    assert parse(verdict(9, feedback="a\ud800" + "b" * 5000)).feedback == "a?" + "b" * 3998


@pytest.mark.parametrize(
    "form", ['"{}": {}', "{}={}", '\\"{}\\": {}', "{} - {}/10", "{}_score: {}", "{}Score {}.0", "{}: {}e0"]
)
def test_scores_that_a_text_says_itself(form):
    scores = Scores(9, 8, 7, 6)
    text = "; ".join(form.format(name.upper(), getattr(scores, name)) for name in NAMES)
    assert is_said_in(scores, text)
    for name in NAMES:
        assert not is_said_in(Scores(**{**{one: getattr(scores, one) for one in NAMES}, name: 3}), text)
    assert not is_said_in(scores, "relevance, accuracy, completeness, overall: 9, 8, 7, 6 and more")


# --- what the judge is told --------------------------------------------------------------------------------------


def test_a_prompt_of_ones_own_with_criteria():
    model = Judging()
    evaluation = AutoEvaluation(
        prompt="Mind {{this}}: {criteria}\n{verdict} {threshold}", criteria=["Be {kind}.", "Rhyme."]
    )
    run(call(wrap(model, evaluation), "generate"))
    told = model.judged[0]["messages"][0]["content"]
    assert told.startswith(f"Mind {{this}}: - Be {{kind}}.\n- Rhyme.\n{prompt.VERDICT} 7")
    assert prompt.DEFAULT not in told
    run(call(wrap(model, AutoEvaluation(prompt="{default} {criteria}", criteria="Rhyme.")), "generate"))
    assert model.judged[1]["messages"][0]["content"].startswith(f"{prompt.DEFAULT} Rhyme.")
    run(call(wrap(model, AutoEvaluation(prompt="{default} {criteria}", criteria="\ud800")), "generate"))
    assert model.judged.pop()["messages"][0]["content"].startswith(f"{prompt.DEFAULT} ?")  # as it can be sent
    run(call(wrap(model, AutoEvaluation()), "generate"))
    assert model.judged[2]["messages"][0]["content"].startswith(prompt.DEFAULT)


def given_or(params, context):
    """For dotted names."""


WRONG = [
    ({"threshold": 11}, "threshold"),
    ({"threshold": -1}, "threshold"),
    ({"threshold": "7"}, "threshold"),
    ({"threshold": True}, "threshold"),
    ({"threshold": math.nan}, "threshold"),
    ({"off_topic_threshold": 10.5}, "off_topic_threshold"),
    ({"high_severity_threshold": 8}, "high_severity_threshold"),
    ({"high_severity_threshold": 5, "threshold": 4}, "high_severity_threshold"),
    ({"max_retries": -1}, "max_retries"),
    ({"max_retries": 1.0}, "max_retries"),
    ({"on_failure": "block"}, "on_failure"),
    ({"blocking": "no"}, "blocking"),
    ({"blocking": False, "max_retries": 2}, "max_retries"),
    ({"blocking": False, "on_failure": "raise"}, "on_failure"),
    ({"timeout_s": 0}, "timeout_s"),
    ({"timeout_s": math.inf}, "timeout_s"),
    ({"max_chars": 99}, "max_chars"),
    ({"model": ""}, "model"),
    ({"model": "gpt 4"}, "model"),
    ({"tresholds": 1}, "tresholds"),
    ({"criteria": "be kind"}, "criteria"),
    ({"criteria": [], "prompt": "{default} {criteria}"}, "criteria"),
    ({"criteria": " ", "prompt": "{default} {criteria}"}, "criteria"),
    ({"criteria": ["a", ""], "prompt": "{default} {criteria}"}, "criteria"),
    ({"criteria": 3, "prompt": "{default} {criteria}"}, "criteria"),
    ({"criteria": "be kind", "prompt": "{default}"}, "prompt"),
    ({"prompt": "{default} {criteria}"}, "prompt"),
    ({"prompt": "judge it"}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": "{verdict} {answer}"}, "prompt"),
    ({"prompt": "{verdict} {}"}, "prompt"),
    ({"prompt": "{verdict!r}"}, "prompt"),
    ({"prompt": "{verdict:>9}"}, "prompt"),
    ({"prompt": "{verdict.x}"}, "prompt"),
    ({"prompt": "{verdict} {"}, "prompt"),
    ({"on_evaluation_complete": "no.such.module:name"}, "on_evaluation_complete"),
    ({"on_evaluation_complete": "json:nothing"}, "on_evaluation_complete"),
    ({"on_evaluation_complete": "json:__name__"}, "on_evaluation_complete"),
    ({"on_evaluation_complete": "tests.builtin.module_that_exits:hook"}, "on_evaluation_complete"),
    ({"on_evaluation_complete": 3}, "on_evaluation_complete"),
    ({"on_evaluation_complete": lambda evaluation: None}, "on_evaluation_complete"),
]


@pytest.mark.parametrize(("options", "key"), WRONG)
def test_options_that_make_no_sense(options, key, monkeypatch):
    class Exits:
        def find_spec(self, name, *rest):
            if name.endswith("module_that_exits"):
                raise SystemExit(3)

    monkeypatch.setattr(sys, "meta_path", [Exits(), *sys.meta_path])
    with pytest.raises(ConfigError) as raised:
        AutoEvaluation(**options)
    assert raised.value.key.startswith(f"middleware.auto_evaluation.config.{key}")


def test_options_that_make_sense():
    AutoEvaluation(blocking=False, max_retries=0, on_failure="allow")
    AutoEvaluation(threshold=3)
    AutoEvaluation(threshold=10, high_severity_threshold=10)
    hook = AutoEvaluation(on_evaluation_complete=f"{__name__}:given_or").config.on_evaluation_complete
    assert hook is given_or
    assert AutoEvaluation({"on_evaluation_complete": given_or}).config.threshold == 7
    defaults = AutoEvaluation().config.model_dump()
    assert defaults == {
        "model": None, "threshold": 7, "blocking": True, "max_retries": 1, "on_failure": "allow", "criteria": None,
        "prompt": None, "off_topic_threshold": 5, "high_severity_threshold": 4, "on_evaluation_complete": None,
        "timeout_s": 30, "max_chars": 40_000,
    }  # fmt: skip


def test_a_judge_that_cannot_be_resolved_is_said_before_any_call():
    with pytest.raises(ConfigError) as raised:
        wrap(Judging(), AutoEvaluation(model="nobody/knows"))
    assert raised.value.key == "middleware.auto_evaluation.config.model"
    assert MiddlewareFactory(preset=None, middleware=[AutoEvaluation(model="echo/echo")])

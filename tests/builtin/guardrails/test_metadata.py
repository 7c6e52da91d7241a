"""What layers further in attach to an answer passes the guard as its text does: nothing leaks beside it."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import Response, middleware
from neuro_mw.builtin.guardrails import Guardrails
from neuro_mw.builtin.structured_output import StructuredOutput
from neuro_mw.testing import ScriptedModel
from tests.chain.conftest import MODES, call, wrap

SAID = '{"city": "Bern", "n": 134000, "Bern": [true, "in Bern", 7]}'


@given(cuts=st.lists(st.integers(1, 9), min_size=1, max_size=4), inside=st.sampled_from(["validate", "repair"]))
@pytest.mark.parametrize("mode", MODES)
def test_the_value_of_an_answer_says_no_more_than_its_text(mode, cuts, inside):
    guard = Guardrails(bad_words=["Bern"], regex_patterns={"number": "134000"})
    shape = StructuredOutput(schema={"type": "object"}, mode=inside)
    response = asyncio.run(call(wrap(ScriptedModel(SAID, cuts=cuts), guard, shape), mode))
    assert response.metadata["structured_output"]["value"] == {
        "city": "[REDACTED]", "n": "[REDACTED]", "[REDACTED]": [True, "in [REDACTED]", 7],
    }  # fmt: skip
    assert response.metadata["guardrails"]["output"] == {"bad_words": 3, "regex_patterns.number": 1}
    assert "Bern" not in str(response.to_dict())


def noting(text):
    async def note(do_generate, params, context):
        response = await do_generate(params)
        response.metadata["note"] = {"feedback": text, "list": [text, 134000], "scores": {"overall": 134000}}
        return response

    return middleware("note", priority=50, wrap_generate=note)


@pytest.mark.parametrize("mode", MODES)
def test_texts_of_any_layer_are_looked_at_and_figures_are_left(mode):
    guard = Guardrails(bad_words=["Bern"], regex_patterns={"number": "134000"})
    response = asyncio.run(call(wrap(ScriptedModel("fine"), guard, noting("of Bern")), mode))
    note = response.metadata["note"]
    assert note == {"feedback": "of [REDACTED]", "list": ["of [REDACTED]", 134000], "scores": {"overall": 134000}}


@pytest.mark.parametrize("mode", MODES)
def test_what_may_not_leave_blocks_beside_the_text_as_well(mode):
    guard = Guardrails(bad_words=["Bern"], action="block")
    response = asyncio.run(call(wrap(ScriptedModel("fine"), guard, noting("of Bern")), mode))
    assert response.blocked is not None
    assert "Bern" not in str(response.to_dict())


@pytest.mark.parametrize("mode", MODES)
def test_where_output_is_not_looked_at_neither_is_this(mode):
    guard = Guardrails(bad_words=["Bern"], apply_to=["input"])
    response = asyncio.run(call(wrap(ScriptedModel(Response(text="Bern")), guard, noting("of Bern")), mode))
    assert response.metadata["note"]["feedback"] == "of Bern"

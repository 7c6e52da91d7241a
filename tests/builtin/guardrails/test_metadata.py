"""What layers further in attach to an answer passes the guard as its text does: nothing leaks beside it."""

import asyncio
from collections import Counter, OrderedDict, deque, namedtuple
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from neuro_mw import Blocked, Response, ToolCall, middleware
from neuro_mw.builtin.guardrails import Guardrails
from neuro_mw.builtin.structured_output import StructuredOutput
from neuro_mw.builtin.tool_guard import ToolGuard
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


# --- of any kind ----------------------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "a b")
CARD = 4111111111111111


class Model(BaseModel):
    said: Any
    hidden: str = Field(default="Bern", exclude=True)


@dataclass
class Note:
    said: Any


class Wild:
    def __init__(self, said):
        self.said = said

    def model_dump(self, **options):
        raise LookupError(self.said)


class Mute(Exception):
    def __str__(self):
        raise LookupError


def attaching(value):
    async def note(do_generate, params, context):
        response = await do_generate(params)
        response.metadata["note"] = value
        return response

    return middleware("note", priority=50, wrap_generate=note)


def attached(value, mode, **options):
    guard = Guardrails(**(options or {"bad_words": ["Bern"], "pii": ["credit_card"]}))
    response = asyncio.run(call(wrap(ScriptedModel("fine"), guard, attaching(value)), mode))
    return response.metadata.get("note"), response.metadata.get("guardrails", {}).get("left_out")


KINDS = [
    ({"Bern": 1, "in Bern": {"Bern": 2}}, {"[REDACTED]": 1, "in [REDACTED]": {"[REDACTED]": 2}}),
    ({"Bern": 1, "[REDACTED]": 2}, {"[REDACTED]": 1, "[REDACTED] (2)": 2}),
    (OrderedDict(a="Bern"), {"a": "[REDACTED]"}), (Counter(["Bern"]), {"[REDACTED]": 1}),
    (MappingProxyType({"a": "Bern"}), {"a": "[REDACTED]"}),
    ({"Bern"}, ["[REDACTED]"]), (frozenset({"Bern"}), ["[REDACTED]"]), (deque(["Bern"]), ["[REDACTED]"]),
    (("Bern", 1), ("[REDACTED]", 1)), (Pair("Bern", 1), Pair("[REDACTED]", 1)),
    ({("Bern", 1): 2}, {("[REDACTED]", 1): 2}),
    (b"in Bern", "in [REDACTED]"), (bytearray(b"Bern"), "[REDACTED]"),
    (Model(said="Bern"), {"said": "[REDACTED]"}), (Note(["Bern"]), {"said": ["[REDACTED]"]}),
    (Model(said="fine"), {"said": "fine"}), (ValueError("no Bern"), "ValueError: no [REDACTED]"),
    ({"card": CARD}, {"card": CARD}), ({"value": CARD}, {"value": "[REDACTED]"}),
    ({"value": {CARD: [1.5]}}, {"value": {"[REDACTED]": [1.5]}}),
]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("value", "said"), KINDS)
def test_texts_are_found_in_values_of_any_kind(mode, value, said):
    got, left_out = attached(value, mode)
    assert (got, left_out) == (said, None)
    assert type(got) is type(said)


def deep(levels, value="Bern"):
    for _ in range(levels):
        value = [value]
    return value


UNREADABLE = [
    object(), {"a": object()}, [Wild("Bern")], {"a": b"\xff Bern"}, {Wild("Bern"): 1}, {"value": 10**5000},
    Mute("Bern"), {"a": memoryview(b"Bern")}, {"a": Model}, [lambda: "Bern"], deep(3000),
    {frozenset({"Bern"}): 1},  # its plain form is no name
]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", UNREADABLE)
def test_what_nobody_can_read_is_left_out_and_counted(mode, value):
    got, left_out = attached(value, mode)
    assert not got
    assert left_out == {"note": 1}


@pytest.mark.parametrize("mode", MODES)
def test_what_holds_nothing_stays_the_very_object(mode):
    value = {"a": [1, 2.5, None, True, "fine"], "t": Pair(1, {"fine"}), "at": datetime.now(UTC), "b": b"fine"}
    got, left_out = attached(value, mode)
    assert (got, left_out) == (value, None)
    assert got["a"] is value["a"]
    assert got["t"] is value["t"]


@pytest.mark.parametrize("mode", MODES)
def test_rules_that_only_warn_take_nothing_away(mode):
    value = {"a": object(), "b": Model(said="Bern"), "c": {"Bern"}}
    got, left_out = attached(value, mode, bad_words=["Bern"], action="warn")
    assert got is value
    assert left_out is None


@pytest.mark.parametrize("mode", MODES)
def test_invisible_characters_are_taken_out_of_all_texts(mode):
    assert attached({"a\u200b": {"b\u200b"}}, mode, invisible=True) == ({"a": ["b"]}, None)


@pytest.mark.parametrize("mode", MODES)
def test_a_circle_is_left_out(mode):
    circle: list[Any] = []
    circle.append(circle)
    assert attached(circle, mode) == (None, {"note": 1})


# --- blocks ---------------------------------------------------------------------------------------------------------


def refusing(**more):
    async def refuse(do_generate, params, context):
        await do_generate(params)
        raise Blocked("Bern is not offered", **more)

    return middleware("refusing", priority=10, kind="guard", wrap_generate=refuse)


@pytest.mark.parametrize("mode", MODES)
def test_a_block_from_further_in_says_no_more_than_its_text(mode):
    guard = Guardrails(bad_words=["Bern"])
    model = wrap(ScriptedModel("x"), guard, refusing(detail={"Bern": [{"tool": "Bern", "n": 1}]}))
    response = asyncio.run(call(model, mode))
    assert (response.blocked.middleware, response.blocked.category) == ("refusing", "policy")
    assert response.blocked.reason == response.text == "[REDACTED] is not offered"
    assert response.blocked.detail == {"[REDACTED]": [{"tool": "[REDACTED]", "n": 1}]}


@pytest.mark.parametrize("mode", MODES)
def test_a_block_stays_the_block_it_was_where_its_words_may_not_leave(mode):
    guard = Guardrails(bad_words=["Bern"], action="block")
    inner = refusing(message="no", detail={"tool": "Bern", "rule": "unknown"})
    response = asyncio.run(call(wrap(ScriptedModel("x"), guard, inner, noting("of Bern")), mode))
    assert (response.text, response.blocked.middleware) == ("no", "refusing")
    assert response.blocked.reason == "[REDACTED]"
    assert response.blocked.detail == {"tool": "[REDACTED]", "rule": "unknown"}
    assert "Bern" not in str(response.to_dict())


@pytest.mark.parametrize("mode", MODES)
def test_a_refused_tool_is_not_named_if_it_may_not_be(mode):
    model = ScriptedModel(Response(tool_calls=[ToolCall("c", "jane@acme.org", "{}")], finish_reason="tool_calls"))
    response = asyncio.run(call(wrap(model, Guardrails(pii=["email"]), ToolGuard()), mode))
    assert response.blocked.middleware == "tool_guard"
    assert response.blocked.detail["violations"] == [{"tool": "[REDACTED]", "rule": "unknown"}]
    assert "jane" not in str(response.to_dict())


@pytest.mark.parametrize("mode", MODES)
def test_a_detail_that_cannot_be_read_is_left_out(mode):
    model = wrap(ScriptedModel("x"), Guardrails(bad_words=["Bern"]), refusing(detail={"a": object(), "b": 1}))
    response = asyncio.run(call(model, mode))
    assert response.blocked.detail == {"b": 1}
    assert response.metadata["guardrails"]["left_out"] == {"blocked": 1}


@pytest.mark.parametrize("mode", MODES)
def test_a_reason_that_is_no_text_is_left_out(mode):
    async def refuse(do_generate, params, context):
        raise Blocked(object(), message="no")

    guard = middleware("refusing", priority=10, kind="guard", wrap_generate=refuse)
    response = asyncio.run(call(wrap(ScriptedModel("x"), Guardrails(bad_words=["Bern"]), guard), mode))
    assert (response.text, response.blocked.reason) == ("no", "")
    assert response.metadata["guardrails"]["left_out"] == {"reason": 1}

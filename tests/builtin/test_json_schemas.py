"""What structured_output and tool_guard have in common: both read the same JSON, and run schemas in the same way."""

import json

import pytest
from hypothesis import given

from neuro_mw import ConfigError
from neuro_mw.builtin.json_schemas.compiled import CompiledSchema
from neuro_mw.builtin.json_schemas.errors import TooMuchError, UnusableError
from neuro_mw.builtin.json_schemas.plain_schemas import plain_check
from neuro_mw.builtin.json_schemas.reading import read
from neuro_mw.builtin.structured.problems import UnfitError
from neuro_mw.builtin.structured.schemas import schema_of
from neuro_mw.builtin.tools.arguments import object_in
from neuro_mw.builtin.tools.schemas import Schema
from tests.builtin.test_tool_guard_schemas import SCHEMAS, VALUES

ROWS = {"items": {"$ref": "#/$defs/row"}, "$defs": {"row": {"not": {"type": "null"}}}}


def fits_answer(schema, text):
    try:
        schema_of(schema).value(text)
    except UnfitError:
        return False
    return True


@given(SCHEMAS.filter(lambda schema: isinstance(schema, dict) and "format" not in json.dumps(schema)), VALUES)
def test_both_say_the_same(schema, value):
    assert fits_answer(schema, json.dumps(value)) is Schema(schema).fits(value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1, "a": 1}', "a name stands twice"),
        ('{"a": {"b": 1, "b": 2}}', "a name stands twice"),
        ('{"a": [NaN]}', "NaN"),
        ('{"a": 1e999}', "too large"),
        ('{"a": ' + "9" * 309 + "}", "too long"),
        ('{"a": ' * 65 + "1" + "}" * 65, "too deep"),
        ('{"a": ' * 100_000, "too deep"),
        ('{"a": [' + "0," * 100_000 + "0]}", "too many values"),
        ('{"a": 1} {}', "more behind"),
        ('{"secret": ', ""),
    ],
    ids=range(10),
)
def test_what_neither_reads(text, why):
    assert object_in(text) is None
    for schema in ({}, dict):
        with pytest.raises(UnfitError) as caught:
            schema_of(schema).value(text)
        (problem,) = caught.value.problems
        assert why in problem.message
        assert "secret" not in problem.message


@pytest.mark.parametrize("text", ['"\\ud800"', '"\ud800"', '{"\\ud800": 1}'])
def test_half_of_a_surrogate_pair_is_no_text_of_an_answer(text):
    with pytest.raises(UnfitError, match="1 problem") as caught:
        schema_of({}).value(text)
    assert "surrogate" in caught.value.problems[0].message
    assert schema_of({}).value('"\\ud83d\\ude00"') == "\U0001f600"


@pytest.mark.parametrize(("text", "most"), [("[1, 2]", 3), ("1", 1), ("[" * 64 + "]" * 64, 64)])
def test_the_bounds_are_the_last_that_pass(text, most):
    assert read(text, most) == json.loads(text)
    long = json.dumps([",,"] * 100)
    assert read(long, 101) == [",,"] * 100
    with pytest.raises(ValueError, match="too many"):
        read(long, 100)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {"a": {"$ref": "#/$defs/secret"}}}, "leads nowhere"),
        ({"properties": {"a": {"pattern": "(?=secret)"}}}, "RE2 cannot run"),
        ({"$defs": {"a": {"patternProperties": {"(secret": {}}}}}, "RE2 cannot run"),
        ({"$defs": {"a": {"pattern": "a{5000}"}}, "title": "secret"}, "RE2 cannot run"),
    ],
)
def test_what_no_value_has_reached_yet_is_looked_at_as_well(schema, said):
    with pytest.raises(UnusableError, match=said) as caught:
        Schema(schema)
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match=said):
        schema_of(schema)


def test_names_of_properties_are_no_words():
    schema = {"properties": {"patternProperties": {"type": "null"}, "unevaluatedProperties": {}}}
    assert Schema(schema).fits({"patternProperties": None})
    assert fits_answer(schema, '{"patternProperties": null}')


def test_patterns_are_those_of_re2():
    for schema in ({"pattern": r"^\p{L}+$"}, {"patternProperties": {r"^\p{L}+$": {}}}):
        assert fits_answer(schema, '"é"')


@pytest.mark.parametrize(("step", "fine", "wrong"), [(0.01, 1e300, 1e-300), (0.01, 19.99, 19.995), (7, 7e22, 1e22)])
def test_multiples_are_exact(step, fine, wrong):
    assert fits_answer({"multipleOf": step}, json.dumps(fine))
    assert not fits_answer({"multipleOf": step}, json.dumps(wrong))


def test_each_value_may_be_referred_to():
    """A list of rows as pydantic writes it, of as many as arguments may have."""
    assert Schema(ROWS).fits([1] * 19_998)
    assert fits_answer(ROWS, json.dumps([1] * 19_998))
    with pytest.raises(TooMuchError):
        CompiledSchema(ROWS).errors([1] * 20_001, 1)


def test_formats_are_judged_for_answers_only():
    schema = {"type": "string", "format": "date"}
    assert plain_check(schema, formats=True) is None
    assert not fits_answer(schema, '"secret"')
    assert Schema(schema).fits("secret")


def test_a_draft_that_is_not_known():
    schema = {"$schema": "urn:unknown", "type": "string"}
    with pytest.raises(UnusableError, match="no draft"):
        CompiledSchema(schema)
    assert CompiledSchema(schema, any_draft=True).errors(1, 1)


def test_what_is_told_of_names_leaves_out_those_of_patterns():
    schema = {"properties": {"a": {}}, "patternProperties": {"^x": {}}, "additionalProperties": False}
    with pytest.raises(UnfitError) as caught:
        schema_of(schema).value('{"a": 1, "x1": 2, "b": 3}')
    assert caught.value.problems[0].told == "the value: it has properties that are not allowed: b"
    assert Schema(schema).faults({"x1": 2, "b": 3, "c": 4}, 5) == ["at $: these properties are not known: 'b', 'c'"]

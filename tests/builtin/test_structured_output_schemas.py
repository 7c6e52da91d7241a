"""structured_output: JSON schemas are run with an end, whatever the model answers, and nothing is fetched."""

import json
import socket
from contextlib import suppress

import pytest
from pydantic import BaseModel

from neuro_mw import ConfigError
from neuro_mw.builtin.structured.finding import Finder, values_in
from neuro_mw.builtin.structured.json_schema import JSONSchema
from neuro_mw.builtin.structured.kinds import Kinds
from neuro_mw.builtin.structured.problems import UnfitError
from neuro_mw.builtin.structured.schemas import schema_of


def fits(schema, value):
    try:
        return schema_of(schema).value(json.dumps(value)) == value
    except UnfitError:
        return False


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"pattern": "^a+$"}, "aa", "ab"),
        ({"pattern": "\\u00e4$"}, "ä", "a"),
        ({"pattern": "^\\d{2}$"}, "12", "1x"),
        ({"patternProperties": {"^x": {"type": "integer"}}}, {"xa": 1, "b": "c"}, {"xa": "1"}),
        ({"patternProperties": {"^x": {}}, "additionalProperties": False}, {"x1": 1}, {"y": 1}),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "null"}}, {"a": 1, "b": None}, {"b": 1}),
        ({"uniqueItems": True}, [1, True, "1", [1], [2], {"a": 1}], [{"a": [1]}, {"a": [1.0]}]),
        ({"unevaluatedProperties": False, "properties": {"a": {}}}, {"a": 1}, {"b": 1}),
        ({"format": "date"}, "2026-11-22", "22.11.2026"),
        ({"format": "date-time"}, "2026-11-22T10:00:00Z", "2026-11-22 10:00"),
        ({"format": "email"}, "a@b", "ab"),
        ({"format": "uuid"}, "12345678-1234-5678-1234-567812345678", "1234"),
        ({"format": "ipv4"}, "1.2.3.4", "1.2.3"),
        ({"format": "hostname"}, "not a host name", None),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "dependencies": {"a": ["b"]}}, {"b": 1}, {"a": 1}),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 3, "exclusiveMaximum": True}, 2, 3),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, {"type": "object"}, {"type": "nope"}),
        ({"$id": "https://example.com/a", "$ref": "a#/$defs/x", "$defs": {"x": {"type": "null"}}}, None, 1),
        ({"properties": {"$ref": {"type": "integer"}}}, {"$ref": 1}, {"$ref": "#/nowhere"}),
        ({"multipleOf": 0.1}, 0.3, 0.35),
        ({"multipleOf": 0.01}, 19.99, 19.999),
        ({"multipleOf": 7}, 10**20 // 7 * 7, 10**20),
    ],
)  # fmt: skip
def test_what_fits(schema, right, wrong):
    assert fits(schema, right)
    if wrong is not None:
        assert not fits(schema, wrong)


def test_patterns_of_the_schema_take_linear_time():
    """With `re` each of these would take longer than the universe has."""
    value = "a" * 5000 + "!"
    assert not fits({"pattern": "^(a+)+$"}, value)
    assert not fits({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, {value: 1})
    assert fits({"patternProperties": {"^(a+)+$": False}}, {value: 1})


def test_many_items_take_linear_time():
    assert fits({"uniqueItems": True}, [{"a": n} for n in range(20_000)])


def test_a_schema_that_branches_without_end():
    """Each level asks for two of the next: 2 ** 60 references for a value of 60 levels."""
    value = None
    for _ in range(60):
        value = [value]
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"items": {"$ref": "#/$defs/a"}}] * 2}}}
    with pytest.raises(UnfitError) as error:
        schema_of(schema).value(json.dumps(value))
    assert "cannot be applied" in error.value.problems[0].message


@pytest.mark.parametrize("depth", [150, 199])
def test_deep_values(depth):
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"items": {"$ref": "#/$defs/a"}, "type": "array"}]}}}
    with suppress(UnfitError):  # on the depth that Python has left for it depends whether it can be told
        assert schema_of(schema).value("[" * depth + "]" * depth)


def test_nothing_is_fetched(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for ref in ("http://localhost:1/a.json", "file:///etc/hostname", "other.json"):
        with pytest.raises(ConfigError, match="never fetched"):
            schema_of({"properties": {"a": {"$ref": ref}}})
    hidden = {"$ref": "#/components/a", "components": {"a": {"$ref": "http://localhost:1/a.json"}}}
    with pytest.raises(ConfigError, match="never fetched"):
        schema_of(hidden)


def test_a_large_answer():
    rows = [{"id": n, "text": "x" * 80} for n in range(10_000)]
    text = f"so: {json.dumps(rows)} that is all"

    class Row(BaseModel):
        id: int
        text: str

    schema = {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}}}}
    for given in (list[Row], schema):
        found = schema_of(given)
        assert found.value(next(values_in(text, found.kinds))) == rows


@pytest.mark.parametrize(
    "text",
    ["{" * 300_000, "{ " * 150_000, "{" + " " * 300_000, '{"' + "\\" * 300_000, "[{}" * 100_000, "{} " * 100_000],
)
@pytest.mark.parametrize("size", [1, 4096])
def test_no_text_takes_long_to_look_through(text, size):
    """With quadratic time this would take minutes."""
    finder = Finder("{[")
    for at in range(0, len(text), size):
        finder.feed(text[at : at + size])
    assert len(list(values_in(text, Kinds("{[", scalar=True)))) <= 17


def test_of_many_names_that_are_missing_a_few_are_told():
    schema = {"type": "object", "required": [f"n{number}" for number in range(12)]}
    with pytest.raises(UnfitError) as caught:
        JSONSchema(schema).value("{}")
    assert [one.path for one in caught.value.problems] == [f"n{number}" for number in range(8)]

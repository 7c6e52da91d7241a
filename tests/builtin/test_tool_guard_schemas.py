"""What tool_guard knows of tools, schemas and arguments: exact, bounded, and never on the network."""

import json
import socket
from threading import Thread
from time import thread_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator

from neuro_mw.builtin.json_schemas.errors import UnusableError
from neuro_mw.builtin.json_schemas.plain_schemas import plain_check
from neuro_mw.builtin.tools.arguments import object_in
from neuro_mw.builtin.tools.offers import Offers
from neuro_mw.builtin.tools.schemas import Schema, Schemas

VALUES = st.recursive(
    st.sampled_from([None, True, False, 0, 1, -1, 1.0, 2.5, "", "a", "ab", "1", "é"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])
SMALL = st.sampled_from([0, 1, 2, 1.5])


def _schemas(inner):
    words = {
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "const": VALUES,
        "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
        "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
        "additionalProperties": st.booleans() | inner,
        "items": inner,
        "anyOf": st.lists(inner, min_size=1, max_size=2),
        "not": inner,
        "uniqueItems": st.booleans(),
        "pattern": st.sampled_from(["a", "^b", r"\d"]),
        "patternProperties": st.dictionaries(st.sampled_from(["a", "^b"]), inner, max_size=1),
        "format": st.just("email"),
        "title": st.just("t"),
        **{word: st.integers(0, 2) for word in ("minLength", "maxLength", "minItems", "maxItems")},
        **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), SMALL),
    }
    names = st.lists(st.sampled_from(sorted(words)), max_size=3, unique=True)
    return names.flatmap(lambda names: st.fixed_dictionaries({name: words[name] for name in names}))


SCHEMAS = st.recursive(st.booleans() | st.just({}), _schemas, max_leaves=4)


REFERRING = st.builds(
    lambda schema, inner: {**schema, "$defs": {"a": inner, "b": {"items": {"$ref": "#/$defs/a"}}}},
    _schemas(
        SCHEMAS | st.sampled_from([{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}, {"$ref": "#/$defs/b", "type": "null"}])
    ),
    SCHEMAS,
)


@given(SCHEMAS | REFERRING, VALUES)
def test_the_verdict_is_that_of_jsonschema(schema, value):
    for dialect, kind in (("", Draft202012Validator), ("http://json-schema.org/draft-07/schema#", Draft7Validator)):
        if dialect and isinstance(schema, dict):
            schema = {**schema, "$schema": dialect}
        fits, found = kind(schema).is_valid(value), Schema(schema)
        assert found.fits(value) is fits
        assert (not found.faults(value, 3)) is fits
        quick = plain_check(schema)
        if quick is not None and quick(value):
            assert fits


LIMITS = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
]


@pytest.mark.parametrize("schema", [
    *({word: 2} for word in LIMITS), {"enum": [1, "a", None]}, {"enum": [True]}, {"const": 1}, {"const": "a"},
    *({"type": name} for name in ("integer", "number", "boolean", "string", ["null", "array"])),
])  # fmt: skip
def test_the_quick_yes_is_never_wrong(schema):
    values = [
        None,
        True,
        False,
        0,
        1,
        1.0,
        2,
        2.0,
        2.5,
        3,
        "",
        "a",
        "aa",
        "aaa",
        [],
        [1],
        [1, 2],
        [1, 2, 3],
        {},
        {"a": 1},
    ]
    fitting = [value for value in values if plain_check(schema)(value)]
    judge = Draft202012Validator(schema)
    assert all(judge.is_valid(value) for value in fitting)
    said = [value for value in values if judge.is_valid(value) and type(value) not in (bool, float)]
    assert fitting or not any(isinstance(value, str) for value in said)


def test_most_tools_have_plain_schemas():
    from benchmarks.tool_guard import SCHEMAS

    for schema in SCHEMAS.values():
        assert plain_check(schema) is not None


@pytest.mark.parametrize(
    ("schema", "fine", "wrong"),
    [
        ({"pattern": r"^[A-Z]{2}\d+$"}, "AB1", "AB"),
        ({"pattern": "^\\u00e9$"}, "é", "u00e9"),
        ({"pattern": r"^\\u00e9$"}, "\\u00e9", "é"),
        ({"pattern": "^a$"}, "a", "a\n"),
        ({"pattern": r"^\p{L}+$"}, "é", "1"),
        ({"pattern": "a"}, "a", "\ud800a"),
        ({"patternProperties": {"^x": {"type": "string"}}, "additionalProperties": False}, {"xa": ""}, {"y": ""}),
        ({"patternProperties": {"^x": {"type": "string"}}, "additionalProperties": {"type": "null"}},
         {"xa": "", "y": None}, {"xa": 1}),
        ({"uniqueItems": True}, [1, True, "1", [1], [True], {"a": 1}, {"a": True}], [1, 1.0]),
        ({"uniqueItems": True}, [[1, 2], [2, 1]], [{"a": [1], "b": 2}, {"b": 2.0, "a": [1]}]),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, 1, "x"),
        ({"type": "integer"}, 1.0, 1.5),
        ({"maximum": 2**70}, 2**70, 2**70 + 1),
        ({"multipleOf": 0.5}, 10**308 - 1, 0.75),
        ({"multipleOf": 0.01}, 19.99, 19.995),
        ({"multipleOf": 0.01}, 1e300, 1e-300),
        ({"multipleOf": 3}, "x", 10),
        ({"multipleOf": 2}, True, 1),
        (False, None, 1),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 3, "exclusiveMaximum": True}, 2, 3),
        ({"$schema": "http://json-schema.org/draft-03/schema#", "properties": {"a": {"required": True}}}, {"a": 1}, {}),
        ({"$schema": "https://json-schema.org/draft/2019-09/schema", "unevaluatedProperties": False}, {}, {"a": 1}),
        ({"$schema": "urn:unknown", "type": "string"}, "x", 1),
    ],
)  # fmt: skip
def test_words_that_are_run_here(schema, fine, wrong):
    found = Schema(schema)
    assert found.fits(fine) is (schema is not False)
    assert not found.fits(wrong)


@pytest.mark.parametrize(
    ("schema", "value", "why"),
    [
        ({"pattern": "(?=a)"}, "a", "linear time"),
        ({"pattern": r"(a)\1"}, "a", "linear time"),
        ({"pattern": "a{5000}"}, "a", "linear time"),
        ({"pattern": "\ud800"}, "a", "linear time"),
        ({"patternProperties": {"(": {}}}, {"a": 1}, "linear time"),
        ({"$ref": "https://example.com/schema.json"}, 1, "not in it"),
        ({"$ref": "#/$defs/none"}, 1, "not in it"),
        ({"$ref": "file:///etc/hostname"}, 1, "not in it"),
        ({"patternProperties": {}, "unevaluatedProperties": False}, {}, "both"),
        ({"type": "sesame"}, 1, r"at \$.type it breaks the rule"),
        (["a"], 1, "of type list"),
        (None, 1, "of type NoneType"),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "$ref": 5}, 1, "cannot be run"),
        ({"$schema": 5}, 1, "cannot be read|breaks the rule"),
    ],
)
def test_what_cannot_be_used_says_why_and_nothing_else(schema, value, why, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("nothing is ever fetched"))
    with pytest.raises(UnusableError, match=why) as caught:
        Schema(schema).fits(value)
    assert "sesame" not in str(caught.value)


def nested(depth, leaf):
    for _ in range(depth):
        leaf = {"a": leaf}
    return leaf


SELF = {"$ref": "#"}
BRANCHING = {"anyOf": [{"properties": {"a": SELF}, "required": ["x"]}, {"properties": {"a": SELF}, "required": ["y"]}]}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (SELF, 1),
        ({"anyOf": [SELF, SELF]}, 1),
        (BRANCHING, nested(40, {})),  # 2 ** 40 ways
        ({"pattern": "^(a+)+$"}, "a" * 50_000 + "b"),
        ({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, {"a" * 50_000 + "b": 1}),
        ({"uniqueItems": True}, [{"a": number} for number in range(10_000)] + [{"a": 1}]),
    ],
)
def test_it_comes_to_an_end(schema, value):
    """Without the bounds each would take minutes, hours, or for ever: the limit is not a matter of speed."""
    began = thread_time()
    assert not Schema(schema).fits(value)
    assert thread_time() - began < 60


def test_references_as_pydantic_writes_them_are_plain():
    from pydantic import BaseModel

    class Inner(BaseModel):
        n: int

    class Outer(BaseModel):
        inner: list[Inner] | None = None
        other: Inner

    check = plain_check(Outer.model_json_schema())
    assert check is not None
    assert check({"inner": [{"n": 1}], "other": {"n": 2}})
    assert not check({"inner": [{"n": "1"}], "other": {"n": 2}})
    looping = {"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}
    assert plain_check(looping) is None
    for path in ("#", "#/$defs", "#/$defs/none", "#/$defs/a/items", "#/properties/a", "x#/$defs/a", 5):
        assert plain_check({"$ref": path, "$defs": {"a": {"items": {}}}}) is None


def test_what_is_wrong_is_told_with_its_place():
    schema = Schema({"properties": {"a": {"items": {"type": "integer"}}, "b": {"maxLength": 2}}})
    faults = schema.faults({"a": [1, "x", "y"], "b": "abc"}, 2)
    assert faults == ["at $.a[1]: 'x' is not of type 'integer'", "at $.a[2]: 'y' is not of type 'integer'"]
    assert len(schema.faults({"b": "x" * 1_000_000}, 5)[0]) == 200


# --- arguments --------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=4))
def test_an_object_is_read_as_json_reads_it(value):
    assert object_in(json.dumps(value)) == value
    assert object_in(json.dumps(value, ensure_ascii=False, indent=1)) == value


@given(st.text(st.sampled_from('{}[]",:\\ua1e+-. tn\ud800'), max_size=12))
def test_whatever_the_text_it_is_an_object_or_none(text):
    value = object_in(text)
    if value is None:
        return
    assert value == (json.loads(text) if text.strip() else {})


@pytest.mark.parametrize("text", [5, True, ["{}"], {"a": 1}, b"{}"])
def test_arguments_that_are_no_text(text):
    assert object_in(text) is None


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 1}', '{"b": {"a": 1, "a": 2}}', '{"a": ' + "9" * 309 + "}", '{"a": 1e999}', '{"a": -Infinity}'],
)
def test_what_not_all_readers_read_alike(text):
    assert object_in(text) is None


@pytest.mark.parametrize("depth", [2, 63, 64, 65, 66, 500, 990, 100_000])
def test_how_deep_it_may_be(depth):
    """The object itself is the first level."""
    text = '{"a": [' + "[" * (depth - 2) + "]" * (depth - 2) + "]}"
    assert (object_in(text) is None) is (depth > 64)
    text = '{"a": ' * depth + "0" + "}" * depth
    assert (object_in(text) is None) is (depth > 64)


@pytest.mark.parametrize(("most", "fits"), [(19_998, True), (19_999, False)])
def test_how_many_values_it_may_have(most, fits):
    assert (object_in(json.dumps({"a": [0] * most})) is not None) is fits


# --- compiled once ----------------------------------------------------------------------------------------------------


def test_a_schema_is_compiled_once_and_is_a_copy():
    schemas, schema = Schemas(), {"required": ["a"], "patternProperties": {}}
    first = schemas.of(schema)
    assert schemas.of({"required": ["a"], "patternProperties": {}}) is first
    schema["required"].append("b")
    assert first.fits({"a": 1})
    assert schemas.of(schema) is not first
    assert not schemas.of(schema).fits({"a": 1})


def test_the_number_of_schemas_is_bounded():
    schemas = Schemas()
    first = schemas.of({"title": "0"})
    for number in range(1, 257):
        schemas.of({"title": str(number)})
    assert len(schemas._compiled) == 256
    assert schemas.of({"title": "0"}) is not first
    with pytest.raises(UnusableError) as once:
        schemas.of({"type": "x"})
    with pytest.raises(UnusableError) as twice:
        schemas.of({"type": "x"})
    assert (once.value is not twice.value, str(once.value)) == (True, str(twice.value))


@pytest.mark.parametrize("schema", [{"a": object()}, {"a": {1, 2}}, nested(5000, 1)])
def test_a_schema_that_is_no_plain_data(schema):
    with pytest.raises(UnusableError):
        Schemas().of(schema)


def test_threads_do_not_share_what_is_left_of_a_search():
    schemas, wrong = Schemas(), []
    tree = {"properties": {"n": {"type": "integer"}, "next": SELF}}

    def work():
        for _ in range(20):
            if not schemas.of(tree).fits(json.loads('{"n": 1, "next": {"n": 2, "next": {"x": 1}}}')):
                wrong.append(1)

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- offers -----------------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(["tools", "functions", "tool_choice", "function_call", "extra_body"]),
                       st.recursive(st.sampled_from([None, "none", "auto", 5, "x"]),
                                    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
                                        st.sampled_from(["type", "name", "function", "tools", "custom", "tool_choice",
                                                         "allowed_tools", "input_schema", "parameters"]),
                                        inner, max_size=3), max_leaves=8)))  # fmt: skip
def test_whatever_a_request_offers_it_can_be_read(params):
    offers = Offers(params)
    for name in offers.names:
        assert offers.find(name) is not None
    assert offers.chosen is None or all(isinstance(one, str) for one in offers.chosen)


def test_the_choice_of_the_older_form():
    functions = [{"name": "a"}, {"name": "b"}]
    assert Offers({"functions": functions, "function_call": {"name": "a"}}).chosen == {"a"}
    assert Offers({"functions": functions, "function_call": "none"}).chosen == frozenset()
    assert Offers({"functions": functions, "function_call": "auto"}).chosen is None
    assert Offers({"functions": functions}).names == ["a", "b"]

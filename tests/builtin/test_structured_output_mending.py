"""structured_output: JSON that is not quite JSON is mended where it is clear what was meant, and only there."""

import json
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neuro_mw.builtin.structured.kinds import Kinds, kinds_of
from neuro_mw.builtin.structured.mending import BrokenError, mended
from neuro_mw.builtin.structured_output import StructuredOutput
from neuro_mw.testing import ScriptedModel
from tests.chain.conftest import MODES, call, run, wrap

BOTH = Kinds("{[", scalar=False)
OBJECT = Kinds("{", scalar=False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1,}', {"a": 1}),
        ('{"a": [1, 2,], }', {"a": [1, 2]}),
        ("{'a': 'b'}", {"a": "b"}),
        ("{'a': 'it\\'s'}", {"a": "it's"}),
        ("{“a”: “b”, ‘c’: 1}", {"a": "b", "c": 1}),  # noqa: RUF001  # as a model writes them
        ("{a: 1, b_c: 2, d-e: 3, ä: 4}", {"a": 1, "b_c": 2, "d-e": 3, "ä": 4}),
        ('{"a": True, "b": False, "c": None, "d": TRUE}', {"a": True, "b": False, "c": None, "d": True}),
        ('{"a": 1, // one\n "b": 2 # two\n /* and * so */ }', {"a": 1, "b": 2}),
        ('{"a": "http://x # /* y */"}', {"a": "http://x # /* y */"}),
        ('{"a": 1 "b": 2\n"c": [1 2 "x"]}', {"a": 1, "b": 2, "c": [1, 2, "x"]}),
        ('{"a": "line\nend\ttab"}', {"a": "line\nend\ttab"}),
        ('{"a": "C:\\dir \\( \\\\ \\x41 \\u00e4 \\"q\\""}', {"a": 'C:\\dir \\( \\ A ä "q"'}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ('{"a": +1, "b": .5, "c": 5., "d": -0.5e+2}', {"a": 1, "b": 0.5, "c": 5.0, "d": -50.0}),
        ('{"a": [1, {"b": 2', {"a": [1, {"b": 2}]}),
        ('{"a": [1, {"b": 2,\n', {"a": [1, {"b": 2}]}),
        ('```json\n{"a": [1\n```\nThat is all.', {"a": [1]}),
        ('{"a": [1, 2}', {"a": [1, 2]}),
        ('[{"a": 1, {"b": 2}]', None),
        ('[{"a": {"b": 1]', [{"a": {"b": 1}}]),
        ("Here [it] is: {a: 1} and more", {"a": 1}),
        ("{}", {}),
        ('{"a": {}, "b": [],}', {"a": {}, "b": []}),
        ('{"a"\n:\n1}', {"a": 1}),
    ],
)
def test_what_is_clear_is_mended(text, value):
    if value is None:
        with pytest.raises(BrokenError):
            list(mended(text, BOTH))
    else:
        assert next(mended(text, BOTH if text.startswith("[") else OBJECT)) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"a": }',
        '{"a": ',
        '{"a"',
        '{"a": "cut in the mid',
        '{"a": yes}',
        '{"a": 1, ...}',
        '{"a": 1,, "b": 2}',
        '{"a": 007}',
        '{"a": 1,234}',
        '{"a": "he said "hi" to me"}',
        '{"a": "x""y"}',
        '{"a": 1"b": 2}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": 0x1F}',
        '{"a": 1_000}',
        '{"a": 12abc}',
        '{"a": undefined}',
        '{"a": (1, 2)}',
        '{"a": 1; "b": 2}',
        '{"a" = 1}',
        '{"a": b"x"}',
        '{"a": 1 + 1}',
        '{"a": `x`}',
        '{"a": -}',
        '{"a": .}',
        "{'a': 'it's'}",
        '{"a": 2024-01-01}',
        '{"a": 1.2.3}',
        '{"a": 1, "a": 2}',
        "{'b': {a: 1, 'a': 1}}",
    ],
)
def test_nothing_is_guessed(text):
    with suppress(BrokenError):
        assert list(mended(text, OBJECT)) == []


def test_what_lies_within_something_broken_is_not_the_value():
    with pytest.raises(BrokenError):
        list(mended('{"a": what, "b": {"c": 1}}', OBJECT))
    assert list(mended("[no], {x}, {y: 1}", BOTH)) == [{"y": 1}]


@pytest.mark.parametrize("text", ["{", "[", "so {", "so [ ", "{ // and", "[ /* and"])
def test_a_bracket_with_nothing_in_it_is_no_value(text):
    assert list(mended(text, BOTH)) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=4) | st.lists(JSON, max_size=4))
@example({"\U0001f600": "\x07\x9f'\"\\"})
def test_json_and_the_literals_of_python_are_read_as_they_are(value):
    assert next(mended(json.dumps(value), BOTH)) == value
    assert next(mended(json.dumps(value, ensure_ascii=False, indent=1), BOTH)) == value
    assert next(mended(repr(value), BOTH)) == value


@given(st.text(st.sampled_from("{}[]\"'\\:,`#/*aT1-. \n\u201c\ud800"), max_size=60))
def test_any_text_is_read_or_is_not(text):
    with suppress(BrokenError):
        assert all(isinstance(value, dict | list) for value in mended(text, BOTH))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "{'" * 100_000,
        "/*" * 100_000,
        '{"a": "' + "\\" * 100_000,
        "[1," + " " * 300_000,
        "{ " * 100_000,
        '{"a": "' + "x" * 1_000_000,
        "[x" * 100_000,
        "{/*" * 50_000,
        "[" + "1 " * 100_000,
        "[" + "9" * 300_000,
    ],
    ids=range(12),
)
def test_no_text_takes_long(text):
    found = []
    with suppress(BrokenError):
        found = list(mended(text, BOTH))  # with quadratic time this would take minutes
    assert sum(map(len, map(str, found))) <= 2 * len(text)  # and nothing is made that was not there


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("strip", [True, False])
def test_in_a_chain(mode, size, strip):
    text = "So: {city: 'Zürich', size: 1, // about\n}"
    schema = {"type": "object", "required": ["city"], "additionalProperties": {"type": ["string", "integer"]}}
    layer = StructuredOutput(schema=schema, mode="repair", strip_fences=strip)
    response = run(call(wrap(ScriptedModel(text, cuts=[size]), layer), mode))
    assert response.metadata["structured_output"] == {"value": {"city": "Zürich", "size": 1}, "reasks": 0}
    assert response.text == ('{"city": "Zürich", "size": 1}' if strip else text)
    assert layer.tally.counts() == {"repaired": 1}


@pytest.mark.parametrize(
    ("schema", "kinds"),
    [
        ({}, ("{[", True)),
        (None, ("{[", True)),
        ({"type": "object"}, ("{", False)),
        ({"type": ["array", "null"]}, ("[", True)),
        ({"type": "integer"}, ("", True)),
        ({"properties": {}}, ("{", False)),
        ({"required": ["a"]}, ("{", False)),
        ({"items": {}}, ("[", False)),
        ({"enum": [1, "a", None]}, ("", True)),
        ({"const": {"a": 1}}, ("{", False)),
        ({"anyOf": [{"type": "object"}, {"items": {}}]}, ("{[", False)),
        ({"oneOf": [{"type": "object"}, {"type": "string"}]}, ("{", True)),
        ({"allOf": [{"type": ["object", "array"]}, {"type": ["array", "null"]}]}, ("[", False)),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "object"}}}, ("{", False)),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, ("{[", True)),
        ({"$ref": "https://example.com"}, ("{[", True)),
    ],
)
def test_kinds(schema, kinds):
    assert kinds_of(schema) == kinds

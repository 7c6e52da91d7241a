"""structured_output: what fits leaves with its value, what does not is mended, asked for again, or an error."""

import asyncio
import dataclasses
import json
import sys
import types
from typing import Annotated, Any, Literal
from uuid import UUID

import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from neuro_mw import (
    Blocked,
    ConfigError,
    Finish,
    MiddlewareError,
    MiddlewareFactory,
    ProviderDelta,
    ProviderUnavailable,
    ReasoningDelta,
    Response,
    StructuredOutputError,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    collect,
    middleware,
)
from neuro_mw.builtin.extract_reasoning import ExtractReasoning
from neuro_mw.builtin.structured_output import StructuredOutput
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel
from tests.chain.conftest import MODES, call, run, wrap

CITY = {"type": "object", "properties": {"city": {"type": "string"}, "size": {"type": "integer"}}, "required": ["city"]}
GOOD = '{"city": "Bern"}'
LOOK = [{"type": "function", "function": {"name": "look"}}]
WAYS = ("validate", "repair", "reask")


class City(BaseModel):
    city: str
    size: int | None = Field(default=None, alias="inhabitants")
    tags: set[str] = set()


def answer(text, **more):
    return Response(text=text, usage=Usage(3, 2), **more)


def ask(mode, responses, /, *, cuts=(3,), config=None, prompt="hi", tools=None, **options):
    responses = [one if isinstance(one, Response) else answer(one) for one in _list(responses)]
    model = FaultyModel(responses, cuts=cuts)
    layer = StructuredOutput(**{"schema": CITY, **options})
    params = {"tools": tools} if tools else {}
    response = run(call(wrap(model, layer, middleware_config=config), mode, prompt, **params))
    return response, model, layer


def _list(value):
    return value if isinstance(value, list) else [value]


def said(response):
    return response.metadata["structured_output"]


def failing(mode, responses, /, **options):
    with pytest.raises(StructuredOutputError) as error:
        ask(mode, responses, **options)
    return error.value


# --- what fits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("strip", [True, False])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"\n {GOOD} \n",
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}```",
        f"Here [it] is, as {{asked}}: {GOOD} Anything else?",
        f"Sure!\n\n```json\n{GOOD}\n```\nSo {{it}} is.",
        '{ "city" : "Bern" }',
        '{"city": "a \\"b\\" } ] {"}',
        '{"city": "```"}',
        '{"city": "}\\"}"}',
        '{"city": "B", "size": 12, "more": [{"a": [1, [2]]}, {}]}',
        '{"city": "\\ud83d\\ude00 \U0001f600"}',
    ],
)
def test_json_is_found_and_is_the_value(mode, way, strip, size, text):
    response, model, _ = ask(mode, text, mode=way, strip_fences=strip, cuts=[size])
    inner = text[text.index('{"c') if '{"c' in text else text.index("{ ") :]
    value, end = json.JSONDecoder().raw_decode(inner)
    assert said(response) == {"value": value, "reasks": 0}
    assert response.text == (inner[:end] if strip else text)
    assert len(model.calls) == 1
    assert response.usage == Usage(3, 2)


PIECES = st.lists(
    st.sampled_from([
        "{", "}", "[", "]", '"', "\\", ":", ",", '{"city": "x"}', "```json\n", "```", " ", "\n", "a", "1", '{"', "city",
        "{}",
    ]),
    max_size=12,
)  # fmt: skip


@given(
    pieces=PIECES, cuts=st.lists(st.integers(1, 9), min_size=1, max_size=12), strip=st.booleans(),
    way=st.sampled_from(WAYS), schema=st.sampled_from([CITY, {}, {"type": ["object", "array"]}, {"type": "string"}]),
)  # fmt: skip
@example(pieces=["a{ ", "a", '{"city": "x"}'], cuts=[1], strip=True, way="validate", schema=CITY)
def test_a_stream_is_the_same_as_the_whole_for_every_cut(pieces, cuts, strip, way, schema):
    results = []
    for mode in MODES:
        try:
            response, _, _ = ask(mode, "".join(pieces), cuts=cuts, strip_fences=strip, mode=way, schema=schema)
        except StructuredOutputError as error:
            results.append((str(error), error.errors))
        else:
            results.append(response)
    assert results[0] == results[1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=9,
)


@given(JSON, st.integers(1, 5), st.booleans())
def test_any_json_is_its_own_value(value, size, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
        value = json.loads(text)
    for mode in MODES:
        response, _, _ = ask(mode, f"```json\n{text}\n```", cuts=[size], schema={})
        assert (said(response)["value"], response.text) == (value, text)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("strip", [True, False])
def test_of_several_the_first_that_fits_is_the_value(mode, way, strip):
    text = f'Not {{"town": 1}}, but {GOOD}, or {{"city": "Basel"}}.'
    if way == "validate" and strip:  # the first has left by then
        assert failing(mode, text).errors == [{"path": "city", "message": "it is missing"}]
        return
    response, model, _ = ask(mode, text, mode=way, strip_fences=strip)
    assert said(response) == {"value": {"city": "Bern"}, "reasks": 0}
    assert (response.text, len(model.calls)) == (GOOD if strip else text, 1)


@pytest.mark.parametrize("way", WAYS)
def test_where_none_fits_the_error_is_of_the_first(way):
    error = failing("generate", '{"city": 1} {"town": 2} {"city": 1, "size": "x"}', mode=way)
    assert [one["path"] for one in error.errors] == ["city"]


@pytest.mark.parametrize("mode", MODES)
def test_prose_alone_is_no_json(mode):
    for way in WAYS:
        assert failing(mode, "prose alone", mode=way).errors == [{"path": "", "message": "there is no JSON"}]


def test_the_text_flows_as_it_comes():
    """Prose is held, as it may be all there is; what is behind it leaves at once, the rest is dropped."""
    step = StructuredOutput(schema=CITY).transform_parts({}, None)
    pieces = ["So {a}: ``", "`json\n", "{ ", "\n", '"ci', 'ty": "B', 'ern"', "}", "\n```", " {"]
    left = [step.feed(TextDelta(piece)) for piece in pieces]
    flat = [one if isinstance(one, list) else [one] for one in left]
    assert ["".join(part.text for part in one) for one in flat] == [
        "", "", "", "", '{ \n"ci', 'ty": "B', 'ern"', "}", "", "",
    ]  # fmt: skip


def test_text_that_is_all_json_passes_as_it_is():
    step = StructuredOutput(schema=CITY).transform_parts({}, None)
    for part in (TextDelta('{"city"'), TextDelta(': "B'), TextDelta('"}')):
        assert step.feed(part) is part


@pytest.mark.parametrize("way", WAYS)
def test_what_explain_says(way):
    plan = wrap(ScriptedModel(), StructuredOutput(schema=CITY, mode=way)).explain()["structured_output"]
    assert ("buffers" in str(plan.hooks["stream"])) == (way != "validate")


# --- what a schema may be ------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (City, '{"city": "B", "inhabitants": 3, "tags": ["a"]}', {"city": "B", "inhabitants": 3, "tags": ["a"]}),
        (f"{__name__}:City", GOOD, {"city": "Bern", "inhabitants": None, "tags": []}),
        (f"{__name__}.City", GOOD, {"city": "Bern", "inhabitants": None, "tags": []}),
        (f"{__name__}:CITY", GOOD, {"city": "Bern"}),
        (list[City], f"so: [{GOOD}] and", [{"city": "Bern", "inhabitants": None, "tags": []}]),
        (Point, '{"x": "1"}', {"x": 1, "y": 0}),
        (dict[int, str], '{"1": "a"}', {"1": "a"}),
        (int, "```\n42\n```", 42),
        (int | None, " null ", None),
        (str, '"a ``` b"', "a ``` b"),
        (Any, "[1]", [1]),
        ({"type": "integer"}, "42", 42),
        ({"enum": ["a", 1]}, '"a"', "a"),
        ({}, "so: [1, 2]", [1, 2]),
        ({"type": "array"}, "[note]: [ true, null] [1]", [True, None]),
        ({"type": "array"}, "as in [to do], [1]", [1]),
        ({"type": "array"}, "as [n] [f] [nul]: [false]", [False]),
        ({"anyOf": [{"type": "array"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "object"}}}, "x [1] y", [1]),
    ],
)
def test_schemas(mode, schema, text, value):
    response, _, _ = ask(mode, text, schema=schema, cuts=[2])
    assert said(response) == {"value": value, "reasks": 0}
    assert Response.from_dict(json.loads(json.dumps(response.to_dict()))).metadata == response.metadata


def test_a_value_can_be_validated_again():
    response, _, _ = ask("generate", '{"city": "B", "inhabitants": 3, "tags": ["a"]}', schema=City)
    assert City.model_validate(said(response)["value"]) == City(city="B", inhabitants=3, tags={"a"})


class Undefined(BaseModel):
    x: "Nowhere"  # noqa: F821


@pytest.mark.parametrize(
    ("schema", "match"),
    [
        (None, "of type NoneType"),
        (5, "of type int"),
        ([1], "of type list"),
        ("nothing", "names nothing"),
        ("", "names nothing"),
        ("json:", "names nothing"),
        ("no_such_package:Model", "cannot be loaded: ModuleNotFoundError"),
        ("json:Nope", "cannot be loaded: AttributeError"),
        ("json.decoder", "it is 'json.decoder'"),
        ("json:dumps", "it is 'json:dumps'"),
        (object(), "pydantic cannot validate"),
        (City(city="x"), "of type City"),
        (Undefined, "Nowhere"),
        ({"type": "strin"}, "no JSON schema"),
        ({"properties": []}, "no JSON schema"),
        ({"$ref": "https://example.com/schema.json"}, "leads nowhere"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "leads nowhere"),
        ({"$ref": "#"}, "without end"),
        ({"$schema": "https://example.com/draft"}, "no draft"),
        ({"properties": {"a": {"pattern": "(?=a)b"}}}, "RE2 cannot run"),
        ({"patternProperties": {"(a)\\1": {}}}, "RE2 cannot run"),
        ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "both"),
        ({"const": float("nan")}, "no JSON"),
        ({"const": {1, 2}}, "no JSON"),
    ],
    ids=repr,
)
def test_a_schema_that_is_none_is_refused(schema, match):
    with pytest.raises(ConfigError, match=match) as error:
        StructuredOutput(schema=schema)
    assert error.value.key.startswith("middleware.structured_output.config.schema")


def test_a_schema_that_holds_itself_is_refused():
    schema: dict[str, Any] = {}
    schema["not"] = schema
    with pytest.raises(ConfigError, match="no JSON"):
        StructuredOutput(schema=schema)


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(3)])
def test_a_module_that_fails_as_it_is_imported(monkeypatch, error):
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "fails_as_it_is_imported":
                raise error

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(ConfigError, match=type(error).__name__):
        StructuredOutput(schema="fails_as_it_is_imported:Model")


@pytest.mark.parametrize(
    ("options", "key"),
    [({}, "schema"), ({"schema": CITY, "mode": "guess"}, "mode"), ({"schema": CITY, "max_reasks": -1}, "max_reasks"),
     ({"schema": CITY, "max_reasks": True}, "max_reasks"), ({"schema": CITY, "strip_fences": "no"}, "strip_fences"),
     ({"schema": CITY, "shema": CITY}, "shema"), ({"schema": CITY, "request": 1}, "request")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options, key):
    with pytest.raises(ConfigError) as error:
        StructuredOutput(options)
    assert error.value.key == f"middleware.structured_output.config.{key}"


def test_later_changes_of_the_schema_do_not_show():
    schema = {"type": "object", "required": ["city"]}
    layer = StructuredOutput(schema=schema)
    schema["required"].append("nope")
    assert run(call(wrap(ScriptedModel(GOOD), layer), "generate")).text == GOOD


# --- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("schema", [CITY, City])
@pytest.mark.parametrize(
    "text",
    [
        "", "no JSON here", "{", "{}", '{"city": "Bern"', '{"town": "secret"}', '{"city": 5}', "[]", "null", "NaN",
        '{"city": "secret\ud800"}', '{"city": "\\ud800"}', '{"city": "x", "size": "secret", "inhabitants": "secret"}',
        "[" * 10_000, '{"a":' * 10_000, '{"city": "x", "secret": ' + "[" * 300 + "]" * 300 + "}", '{"city": "a\nb"}}',
    ],
    ids=lambda text: repr(text)[:20] if isinstance(text, str) else "",
)  # fmt: skip
def test_what_does_not_fit_is_an_error(mode, way, schema, text):
    if way == "repair" and text in ('{"city": "Bern"', '{"city": "a\nb"}}', '{"city": "\\ud800"}'):
        return
    error = failing(mode, text, mode=way, schema=schema)
    assert isinstance(error, MiddlewareError)
    assert error.errors
    assert all(set(one) == {"path", "message"} for one in error.errors)
    assert error.reasks == (1 if way == "reask" else 0)
    assert "secret" not in str(error) + repr(error.errors)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert error.middleware == "structured_output"
    assert any("structured_output" in note for note in error.__notes__)


def test_the_error_says_where_and_what():
    schema = {
        "type": "object", "additionalProperties": False, "required": ["a", "b"],
        "properties": {"a": {"type": "array", "items": {"enum": ["x"]}}, "b": {"additionalProperties": {"minimum": 3}}},
    }  # fmt: skip
    text = '{"a": ["x", "secret"], "b": {"Bob": 1}, "zip": 4}'
    assert failing("generate", text, schema=schema).errors == [
        {"path": "", "message": "it has properties that are not allowed"},
        {"path": "a.1", "message": 'it does not fit enum: ["x"]'},
        {"path": "b.*", "message": "it does not fit minimum: 3"},
    ]
    assert failing("generate", '{"a": [], "zip": 1}', schema=schema).errors[-1] == {
        "path": "b", "message": "it is missing",
    }  # fmt: skip

    class Model(BaseModel):
        a: list[int]
        b: dict[str, int]
        c: int | list[int]
        d: int

        @field_validator("a", mode="after")
        @classmethod
        def _check(cls, value: Any) -> Any:
            raise ValueError(f"secret {value}")

    text = '{"a": [1], "b": {"secret": "x"}, "c": ["secret"]}'
    assert failing("generate", text, schema=Model).errors == [
        {"path": "a", "message": "a validator refuses it"},
        {"path": "b.*", "message": "Input should be a valid integer"} | {
            "message": "Input should be a valid integer, unable to parse string as an integer"},
        {"path": "c", "message": "Input should be a valid integer"},
        {"path": "c.0", "message": "Input should be a valid integer, unable to parse string as an integer"},
        {"path": "d", "message": "Field required"},
    ]  # fmt: skip


def test_what_pydantic_says_of_the_answer_is_left_out():
    class Cat(BaseModel):
        kind: Literal["cat"]

    class Dog(BaseModel):
        kind: Literal["dog"]

    class Model(BaseModel):
        pet: Annotated[Cat | Dog, Field(discriminator="kind")]
        id: UUID

    error = failing("generate", '{"pet": {"kind": "secret"}, "id": "Q"}', schema=Model)
    assert error.errors == [
        {"path": "pet", "message": "'kind' should be one of 'cat', 'dog'"},
        {"path": "id", "message": "Input should be a valid UUID"},
    ]
    _, model, _ = ask("generate", ['{"pet": {"kind": "bird"}, "id": "Q"}', GOOD], mode="reask", schema=dict[str, str])
    told = model.calls[1].params["messages"][-1]["content"]
    assert "- pet: Input should be a valid string" in told


def test_only_so_many_problems_are_told():
    error = failing("generate", json.dumps(["x"] * 100), schema=list[int])
    assert len(error.errors) == 9
    assert error.errors[-1]["message"] == "and 92 more problems"
    assert len(failing("generate", json.dumps(["x"] * 100), schema={"items": {"type": "integer"}}).errors) == 8


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("error", [KeyError("secret"), RecursionError(), ZeroDivisionError("secret")])
def test_a_validator_that_raises_anything(mode, error):
    class Model(BaseModel):
        a: int

        @field_validator("a", mode="after")
        @classmethod
        def _check(cls, value: Any) -> Any:
            raise error

    found = failing(mode, '{"a": 1}', schema=Model)
    assert found.errors == [{"path": "", "message": f"a validator of the schema raised {type(error).__name__}"}]
    assert "secret" not in repr(found)


def test_a_value_that_cannot_be_written_as_json():
    class Odd:
        pass

    class Model(BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        a: Odd = Field(default_factory=Odd)

    assert "cannot be written as JSON" in str(failing("generate", "{}", schema=Model))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", [GOOD, '{"city": "Be', "12"])
def test_an_answer_that_was_cut_does_not_fit(mode, way, text):
    schema = CITY if "{" in text else {"type": "integer"}
    error = failing(mode, answer(text, finish_reason="length"), mode=way, schema=schema)
    assert "finish_reason 'length'" in error.errors[0]["message"]


@pytest.mark.parametrize("number", ["1e999", "-1E+400", "9" * 400 + ".0", "9" * 5000])
@pytest.mark.parametrize("way", WAYS)
def test_numbers_beyond_all_range(number, way):
    assert failing("generate", f"[{number}]", mode=way, schema=list[float]).errors
    assert failing("generate", f"[{number}]", mode=way, schema={"type": "array"}).errors


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_with_skip_the_answer_passes_as_it_came(mode, way):
    config = {"structured_output": {"on_error": "skip"}}
    for text in ("prose", 'so {"town": 1}', '{"city"'):
        response, _, _ = ask(mode, text, mode=way, config=config)
        assert response.metadata == {}
        assert response.text == ('{"town": 1}' if way == "validate" and "{" in text and "so" in text else text)


# --- asking again --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_the_model_is_told_what_is_wrong(mode):
    first = answer('I think {"city": 5, "size": "big"}', reasoning="hm")
    response, model, layer = ask(mode, [first, f"```json\n{GOOD}\n```"], mode="reask")
    assert (response.text, said(response)) == (GOOD, {"value": {"city": "Bern"}, "reasks": 1})
    assert response.usage == Usage(6, 4)
    asked, again = (one.params["messages"] for one in model.calls)
    assert asked == [{"role": "user", "content": "hi"}]
    assert again[:2] == [*asked, first.to_message()]
    told = again[2]
    assert (len(again), told["role"]) == (3, "user")
    assert '- city: it does not fit type: "string"' in told["content"]
    assert '- size: it does not fit type: "integer"' in told["content"]
    assert json.dumps(CITY) in told["content"]
    assert layer.tally.counts() == {"reasks": 1}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("most", [0, 1, 3])
def test_it_is_asked_as_often_as_it_may_be(mode, most):
    layer = StructuredOutput(schema=CITY, mode="reask", max_reasks=most)
    model = FaultyModel("no")
    with pytest.raises(StructuredOutputError) as error:
        run(call(wrap(model, layer), mode))
    assert (len(model.calls), error.value.reasks) == (most + 1, most)
    assert len(model.calls[-1].params["messages"]) == 1 + 2 * most
    assert layer.tally.counts() == {"invalid": 1} | ({"reasks": most} if most else {})
    response, model, _ = ask(mode, ["no"] * most + [GOOD], mode="reask", max_reasks=most)
    assert said(response)["reasks"] == most
    assert response.usage == Usage(3 * (most + 1), 2 * (most + 1))


def test_an_empty_answer_is_no_message():
    _, model, _ = ask("generate", ["", GOOD], mode="reask")
    assert [one["role"] for one in model.calls[1].params["messages"]] == ["user", "user"]


@pytest.mark.parametrize("mode", MODES)
def test_a_request_without_messages_can_be_asked_again(mode):
    _, model, _ = ask(mode, ["", GOOD], mode="reask", prompt={"prompt": "x"})
    assert [one["role"] for one in model.calls[1].params["messages"]] == ["user"]


@pytest.mark.parametrize("mode", MODES)
def test_the_callers_params_stay_what_they_are(mode):
    params = {"messages": [{"role": "user", "content": "hi"}], "seed": 1}
    before = json.dumps(params)
    _, model, _ = ask(mode, ["no", GOOD], mode="reask", prompt=params)
    assert json.dumps(params) == before
    assert [one.params["seed"] for one in model.calls] == [1, 1]


@pytest.mark.parametrize("mode", MODES)
def test_what_ends_the_asking(mode):
    """A refusal of the provider's, a refusal further in, tool calls: none of them is asked for again."""
    model = FaultyModel(answer("sorry", finish_reason="content_filter"))
    with pytest.raises(StructuredOutputError):
        run(call(wrap(model, StructuredOutput(schema=CITY, mode="reask")), mode))
    assert len(model.calls) == 1
    calls = answer("so", tool_calls=[ToolCall("c", "look", "{}")], finish_reason="tool_calls")
    response, model, _ = ask(mode, ["no", calls], mode="reask", tools=LOOK)
    assert (response.tool_calls, response.text, response.metadata) == (calls.tool_calls, "so", {})
    assert response.usage == Usage(6, 4)

    asked = []

    async def refuse(do_generate, params, context):
        asked.append(params)
        if len(asked) == 2:
            raise Blocked("no more")
        return await do_generate(params)

    guard = middleware("guard", priority=10, kind="guard", wrap_generate=refuse)
    model = ScriptedModel(answer("no"))
    response = run(call(wrap(model, guard, StructuredOutput(schema=CITY, mode="reask")), mode))
    assert (response.blocked.middleware, response.text, len(asked)) == ("guard", "no more", 2)


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_while_asking_again_is_the_providers(mode):
    down = ProviderUnavailable("down", provider="openai", model="gpt-4o")
    model = FaultyModel("no", faults=[None, Fault(0, down)])
    with pytest.raises(ProviderUnavailable):
        run(call(wrap(model, StructuredOutput(schema=CITY, mode="reask")), mode))


# --- what passes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("schema", [CITY, {}])
@pytest.mark.parametrize("text", ["", "I shall look."])
def test_answers_with_tool_calls_pass(mode, way, schema, text):
    calls = [ToolCall("c1", "look", '{"a": 1}'), ToolCall("", "", "not json")]
    whole = Response(
        text=text, reasoning="so", tool_calls=calls, finish_reason="tool_calls", usage=Usage(3, 2), id="i", model="m",
        created=1.5, provider_fields={"a": 1}, metadata={"inner": 1},
    )  # fmt: skip
    response, model, _ = ask(mode, whole, mode=way, schema=schema, tools=LOOK)
    assert response == whole
    assert len(model.calls) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", ["no, not this", "", "see {this"])
def test_refusals_from_further_in_pass(mode, way, text):
    async def refuse(do_generate, params, context):
        raise Blocked("no", message=text)

    guard = middleware("guard", priority=10, kind="guard", wrap_generate=refuse)
    model = ScriptedModel()
    response = run(call(wrap(model, guard, StructuredOutput(schema=CITY, mode=way)), mode))
    assert (response.text, response.blocked.middleware, response.metadata) == (text or "no", "guard", {})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("strip", [True, False])
def test_nothing_else_of_an_answer_is_lost(mode, way, strip):
    whole = Response(
        text=f"so {GOOD}", reasoning='{"not": "this"}', usage=Usage(3, 2), id="i", model="m", created=1.5,
        provider_fields={"a": 1}, metadata={"inner": 1}, other_parts=[types.SimpleNamespace(type="odd", x=1)],
    )  # fmt: skip
    response, _, _ = ask(mode, whole, mode=way, strip_fences=strip, cuts=[1])
    assert response.metadata.pop("structured_output") == {"value": {"city": "Bern"}, "reasks": 0}
    assert response.text == (GOOD if strip else whole.text)
    response.text = whole.text
    assert response == whole


def test_parts_keep_their_order_behind_what_is_held():
    class Parts:
        provider, model_id = "openai", "gpt-4o"
        parts = [
            TextDelta("so "), ReasoningDelta("r"), ToolCallDelta(0, "c", "look", "{}"), TextDelta("is"),
            ProviderDelta({"a": 1}), Finish("stop", Usage()),
        ]  # fmt: skip

        async def generate(self, params):
            return await collect(self.parts)

        async def stream(self, params):
            for part in self.parts:
                yield part

    async def read():
        async with wrap(Parts(), StructuredOutput(schema=CITY)).stream("hi", tools=LOOK) as stream:
            return [part async for part in stream][:-1]

    parts = Parts.parts
    assert run(read()) == [parts[0], parts[3], parts[1], parts[2], parts[4]]
    assert run(call(wrap(Parts(), StructuredOutput(schema=CITY)), "generate", tools=LOOK)).text == "so is"


def test_parts_behind_prose_leave_before_the_json():
    step = StructuredOutput(schema=CITY).transform_parts({}, None)
    reasoning, fields = ReasoningDelta("r"), ProviderDelta({"a": 1})
    assert [step.feed(part) for part in (TextDelta("so {"), reasoning, fields)] == [[], [], []]
    assert step.feed(TextDelta('"city"')) == [reasoning, fields, TextDelta('{"city"')]
    assert step.feed(reasoning) is reasoning


def test_a_stream_that_breaks_off_lets_nothing_go_that_was_held():
    down = ProviderUnavailable("down", provider="openai", model="gpt-4o")
    for at, partial in ((1, ""), (3, '{"cit')):
        model = FaultyModel(f"prose {GOOD}", faults=[Fault(at, down)], cuts=[6, 5, 3])
        with pytest.raises(ProviderUnavailable) as error:
            run(call(wrap(model, StructuredOutput(schema=CITY)), "stream"))
        assert error.value.partial.text == (partial if at == 1 else '{"city":')
        assert model.opened == model.closed


@pytest.mark.parametrize("way", WAYS)
def test_leaving_early_closes_the_stream(way):
    async def leave():
        model = ScriptedModel(GOOD, cuts=[1], delay_s=0)
        async with wrap(model, StructuredOutput(schema=CITY, mode=way)).stream("hi") as stream:
            await anext(stream)
        return model.opened, model.closed

    assert run(leave()) == (1, 1)


@pytest.mark.parametrize("mode", MODES)
def test_calls_at_once_share_nothing(mode):
    layer = StructuredOutput(schema=CITY, mode="reask")

    async def one(number):
        model = FaultyModel(["no"] * (number % 2) + [f'{{"city": "{number}"}}'], cuts=[number % 5 + 1], delay_s=0)
        response = await call(wrap(model, layer), mode)
        return said(response) == {"value": {"city": str(number)}, "reasks": number % 2}

    async def all_of_them():
        return await asyncio.gather(*(one(number) for number in range(30)))

    assert all(run(all_of_them()))


# --- with others ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, 4, 1000])
def test_reasoning_between_tags_and_a_fence(mode, way, size):
    text = f'<think>Is it {{"city": "Basel"}}?</think>\n```json\n{GOOD}\n```\n<think>Yes.</think>'
    model = ScriptedModel(text, cuts=[size])
    response = run(call(wrap(model, StructuredOutput(schema=CITY, mode=way), ExtractReasoning()), mode))
    assert (response.text, response.reasoning) == (GOOD, 'Is it {"city": "Basel"}?\nYes.')
    assert said(response) == {"value": {"city": "Bern"}, "reasks": 0}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("schema", [City, CITY])
def test_the_provider_is_asked_for_the_schema_where_it_is_wanted(mode, way, schema):
    _, model, _ = ask(mode, GOOD, mode=way, schema=schema, request=True)
    wanted = model.calls[0].params["response_format"]
    name = "City" if schema is City else "answer"
    json_schema = City.model_json_schema() if schema is City else CITY
    assert wanted == {"type": "json_schema", "json_schema": {"name": name, "schema": json_schema}}
    own = {"type": "json_object"}
    _, model, _ = ask(mode, GOOD, mode=way, request=True, prompt={"messages": [], "response_format": own})
    assert model.calls[0].params["response_format"] == own
    _, model, _ = ask(mode, GOOD, mode=way)
    assert "response_format" not in model.calls[0].params


def test_what_a_driver_does_to_the_format_shows_nowhere_else():
    layer, model = StructuredOutput(schema=CITY, request=True, mode="reask"), FaultyModel(["no", GOOD, GOOD])
    for _ in range(2):
        run(call(wrap(model, layer), "generate"))
        model.calls[-1].params["response_format"]["json_schema"]["schema"].clear()
    assert model.calls[2].params["response_format"]["json_schema"]["schema"] == {}
    assert json.dumps(CITY) in model.calls[1].params["messages"][-1]["content"]
    run(call(wrap(model, layer), "generate"))
    assert model.calls[3].params["response_format"]["json_schema"]["schema"] == CITY


def test_a_type_without_json_schema_cannot_be_asked_for():
    class Model(BaseModel):
        a: Any = None

        @classmethod
        def __get_pydantic_json_schema__(cls, core_schema, handler):
            raise RuntimeError("none")

    assert said(ask("generate", '{"a": 1}', schema=Model)[0])["value"] == {"a": 1}
    _, model, _ = ask("generate", ["no", '{"a": 1}'], schema=Model, mode="reask")
    assert "JSON schema" not in model.calls[1].params["messages"][-1]["content"]
    with pytest.raises(ConfigError, match="no JSON schema") as error:
        StructuredOutput(schema=Model, request=True)
    assert error.value.key == "middleware.structured_output.config.request"


@pytest.mark.parametrize("schema", [CITY, f"{__name__}:City"])
def test_as_data(schema):
    """As in a file: its options from a config."""
    factory = MiddlewareFactory(preset=None, plugins=False)
    config = {"structured_output": {"config": {"mode": "reask", "schema": schema}}}
    model = factory.apply_middleware(ScriptedModel(GOOD), middleware_config=config)
    assert said(run(call(model, "stream")))["value"]["city"] == "Bern"
    assert model.explain()["structured_output"].config["schema"] == schema
    again = factory.apply_middleware(ScriptedModel(GOOD), middleware_config=config)
    assert again.chain == model.chain == ("structured_output",)
    with pytest.raises(ConfigError, match=r"structured_output\.config\.schema"):
        factory.apply_middleware(ScriptedModel(), middleware_config={"structured_output": {}})


def test_importing_it_loads_no_jsonschema():
    import subprocess

    program = (
        "import sys; from neuro_mw.builtin.structured_output import StructuredOutput as S; "
        "S(schema=dict[str, int]); print([m for m in ('jsonschema', 're2', 'referencing') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"

"""structured_output: which answers pass without a value, and as they came; subclasses; what no error may hold."""

import json
from fractions import Fraction
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ByteSize, Field, ImportString, Json, field_validator
from pydantic_core import PydanticCustomError

from neuro_mw import (
    Block,
    Blocked,
    ConfigError,
    Finish,
    Response,
    StructuredOutputError,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    collect,
    middleware,
    parts_of,
)
from neuro_mw.builtin.structured_output import StructuredOutput
from neuro_mw.builtin.tool_guard import ToolGuard
from neuro_mw.testing import FaultyModel, ScriptedModel
from tests.builtin.tool_calls import Parts
from tests.chain.conftest import MODES, call, run, wrap

WAYS = ("validate", "repair", "reask")
LOOK = [{"type": "function", "function": {"name": "look"}}]
CITY = {"type": "object", "required": ["city"]}
GOOD = '{"city": "Bern"}'
both = pytest.mark.parametrize("mode", MODES)
every_way = pytest.mark.parametrize("way", WAYS)


def calling(text, *names):
    calls = [ToolCall(f"c{at}", name, "{}") for at, name in enumerate(names)]
    return Response(text=text, tool_calls=calls, finish_reason="tool_calls")


# --- calls that the model made up ------------------------------------------------------------------------------------


@both
@every_way
@pytest.mark.parametrize("name", ["made_up", "", None, 5])
@pytest.mark.parametrize("text", ["I just say no", ""])
def test_a_call_of_no_tool_lets_nothing_past(mode, way, name, text):
    for layers in ([], [ToolGuard(on_violation="drop")]):
        model = Parts([*([TextDelta(text)] if text else []), ToolCallDelta(0, "c", name, "{}"), Finish("tool_calls")])
        with pytest.raises(StructuredOutputError):
            run(call(wrap(model, *layers, StructuredOutput(schema=CITY, mode=way)), mode, tools=LOOK))


@both
@every_way
def test_one_that_fits_leaves_with_its_value_and_the_calls(mode, way):
    found = run(call(wrap(ScriptedModel(calling(GOOD, "made_up")), StructuredOutput(schema=CITY, mode=way)), mode))
    assert found.metadata["structured_output"]["value"] == {"city": "Bern"}
    assert [one.name for one in found.tool_calls] == ["made_up"]


@both
def test_asked_again_without_the_calls_that_were_made_up(mode):
    model = FaultyModel([calling("no", "made_up"), GOOD])
    run(call(wrap(model, StructuredOutput(schema=CITY, mode="reask")), mode, tools=LOOK))
    assert model.calls[1].params["messages"][1] == {"role": "assistant", "content": "no"}


@both
@every_way
def test_one_call_of_a_tool_is_enough(mode, way):
    answer = calling("so", "made_up", "look")
    found = run(call(wrap(ScriptedModel(answer), StructuredOutput(schema=CITY, mode=way)), mode, tools=LOOK))
    assert (found.text, found.metadata, found.tool_calls) == ("so", {}, answer.tool_calls)


# --- what passes, passes as it came ----------------------------------------------------------------------------------

SCALARS = ({"type": ["object", "string"]}, {"type": "integer"}, {})
TEXTS = ("```\n42\n```", "Sorry, 7", " 42 ", '"x"', "so\n")


@both
@every_way
@pytest.mark.parametrize("schema", SCALARS)
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("cut", [1, 4, 100])
def test_where_scalars_fit_all_of_it_is_left_alone(mode, way, schema, text, cut):
    layer = StructuredOutput(schema=schema, mode=way)
    for answer in (calling(text, "look"), Response(text=text, blocked=Block("inner", "no"))):
        found = run(call(wrap(Whole(answer, cut), layer), mode, tools=LOOK))
        assert (found.text, found.tool_calls, found.metadata) == (text, answer.tool_calls, {})


@both
@pytest.mark.parametrize("cut", [1, 4, 100])
def test_what_a_stream_may_have_stripped(mode, cut):
    """Where nothing is before the JSON, what is behind it leaves, too; else the JSON alone, which has left by then."""
    for text, left in ((f"{GOOD}\nI look.", None), (f"{GOOD}```", None), ("I look", None), ("see {this", None),
                       (f"I look {GOOD} up", GOOD), (f"```json\n{GOOD}\n```", GOOD)):  # fmt: skip
        for answer in (calling(text, "look"), Response(text=text, blocked=Block("inner", "no"))):
            found = run(call(wrap(Whole(answer, cut), StructuredOutput(schema=CITY)), mode, tools=LOOK))
            assert found.text == (left or text)
    fits = run(call(wrap(Whole(Response(text=f"{GOOD}\nmore"), cut), StructuredOutput(schema=CITY)), mode))
    assert fits.text == GOOD


class Whole:
    """An answer, also one that was refused, in pieces of so many characters."""

    provider, model_id = "openai", "gpt-4o"

    def __init__(self, answer, cut):
        self.answer, self.cut = answer, cut

    async def generate(self, params):
        return self.answer

    async def stream(self, params):
        for part in parts_of(self.answer):
            if isinstance(part, TextDelta):
                for at in range(0, len(part.text), self.cut):
                    yield TextDelta(part.text[at : at + self.cut])
            else:
                yield part


PIECES = st.lists(st.sampled_from(["so ", "{", '{"', 'city": "Be', GOOD, "}", "[1]", "42", '"x"', "```", "\n", " "]))


@given(PIECES, st.sampled_from([CITY, *SCALARS]), st.booleans(), st.sampled_from(["", "look", "made_up"]),
       st.booleans(), st.data())  # fmt: skip
def test_a_stream_is_what_generate_gives(pieces, schema, strip, name, is_blocked, data):
    text = "".join(pieces)
    answer = Response(text=text, tool_calls=[ToolCall("c", name, "{}")] if name else [], finish_reason="stop",
                      blocked=Block("inner", "no") if is_blocked else None)  # fmt: skip
    parts, cut = [], text
    while cut:
        at = data.draw(st.integers(1, len(cut)))
        parts.append(TextDelta(cut[:at]))
        cut = cut[at:]
    if name:
        parts.insert(data.draw(st.integers(0, len(parts))), ToolCallDelta(0, "c", name, "{}"))
    found = []
    for ones in (parts_of(answer), [*parts, Finish("stop", blocked=answer.blocked)]):
        step = StructuredOutput(schema=schema, strip_fences=strip).transform_parts(
            {"tools": LOOK}, SimpleNamespace(provider="p", model="m")
        )
        leaving = []
        try:
            for part in ones:
                if isinstance(part, Finish):
                    leaving += step.finish()
                out = step.feed(part)
                leaving += out if isinstance(out, list) else [out]
        except StructuredOutputError as error:
            found.append(
                (error.errors, "".join(one.text for one in (*leaving, *step.held()) if isinstance(one, TextDelta)))
            )
        else:
            found.append(run(collect(leaving)))
    assert found[0] == found[1]


# --- subclasses, options ---------------------------------------------------------------------------------------------


class Own(StructuredOutput):
    def transform_params(self, params, context):
        self.count("params")
        return super().transform_params(params, context)

    def transform_parts(self, params, context):
        self.count("parts")
        return super().transform_parts(params, context)

    async def wrap_generate(self, do_generate, params, context):
        self.count("generate")
        return await super().wrap_generate(do_generate, params, context)


@both
@every_way
def test_the_hooks_of_a_subclass_are_called(mode, way):
    layer = Own(schema=CITY, mode=way)
    model = FaultyModel(f"so {GOOD}")
    found = run(call(wrap(model, layer), mode))
    assert (found.text, found.metadata["structured_output"]) == (GOOD, {"value": {"city": "Bern"}, "reasks": 0})
    assert layer.tally.counts() == {"params": 1, "parts": 1, "generate": 1}
    assert "response_format" not in model.calls[0].params
    with pytest.raises(StructuredOutputError):
        run(call(wrap(ScriptedModel("no"), Own(schema=CITY, mode=way)), mode))


@pytest.mark.parametrize("way", ["validate", "repair"])
def test_reasks_without_asking_again_are_a_mistake(way):
    with pytest.raises(ConfigError, match="nothing is asked again") as caught:
        StructuredOutput(schema=CITY, mode=way, max_reasks=2)
    assert caught.value.key == "middleware.structured_output.config.max_reasks"
    StructuredOutput(schema=CITY, mode="reask", max_reasks=2)


# --- errors and values -----------------------------------------------------------------------------------------------


class Spoken(BaseModel):
    own: str = ""
    known: str = ""
    known_with: str = ""

    @field_validator("own")
    @classmethod
    def _own(cls, value):
        raise PydanticCustomError("bad_name", "the name {name} is bad", {"name": value})

    @field_validator("known")
    @classmethod
    def _known(cls, value):
        raise PydanticCustomError("missing", "{name} is missing", {"name": value})

    @field_validator("known_with")
    @classmethod
    def _known_with(cls, value):
        raise PydanticCustomError("string_type", "Input {name}", {"name": value})


class Quoting(BaseModel):
    zone: ZoneInfo | None = None
    size: ByteSize | None = None
    name: ImportString[Any] | None = None
    part: Fraction | None = None
    address: IPv4Address | None = None
    inner: Json[Any] | None = None


@both
@every_way
@pytest.mark.parametrize("kind", [Spoken, Quoting])
def test_no_error_holds_what_the_answer_says(mode, way, kind):
    text = json.dumps(dict.fromkeys(kind.model_fields, "SECRET(7"))
    model = FaultyModel(text)
    with pytest.raises(StructuredOutputError) as caught:
        run(call(wrap(model, StructuredOutput(schema=kind, mode=way)), mode))
    assert "SECRET" not in f"{caught.value} {caught.value.errors} {caught.value.args}"
    assert {one["message"] for one in caught.value.errors} <= {
        "a validator refuses it", "Invalid JSON", "Input is not a valid IPv4 address", "Input is not a valid fraction",
    }  # fmt: skip
    if way == "reask" and kind is Spoken:
        assert "the name SECRET(7 is bad" in model.calls[1].params["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (list[int], '["x"]', "Input should be a valid integer, unable to parse string as an integer"),
        (list[set[int]], "[5]", "Input should be a valid array"),
        (list[Annotated[int, Field(gt=3)]], "[1]", "Input should be greater than 3"),
        (list[Annotated[str, Field(max_length=1)]], '["SECRET"]', "String should have at most 1 character"),
        (list[Quoting], "[5]", "Input should be an object"),
    ],
)
def test_what_the_schema_says_is_told(kind, text, message):
    with pytest.raises(StructuredOutputError) as caught:
        run(call(wrap(ScriptedModel(text), StructuredOutput(schema=kind)), "generate"))
    assert [one["message"] for one in caught.value.errors] == [message]


class Number(BaseModel):
    f: float
    more: Any = 0


@both
@every_way
@pytest.mark.parametrize("text", ['"inf"', '"-Infinity"', '"NaN"'])
def test_a_value_is_json(mode, way, text):
    with pytest.raises(StructuredOutputError, match="cannot be written as JSON"):
        run(call(wrap(FaultyModel(f'{{"f": {text}}}'), StructuredOutput(schema=Number, mode=way)), mode))
    found = run(call(wrap(FaultyModel('{"f": "1.5"}'), StructuredOutput(schema=Number, mode=way)), mode))
    assert json.dumps(found.to_dict(), allow_nan=False)


@both
@every_way
def test_a_refusal_with_json_in_it_passes(mode, way):
    async def refuse(do_generate, params, context):
        raise Blocked("no", message="42")

    guard = middleware("guard", priority=10, kind="guard", wrap_generate=refuse)
    layer = StructuredOutput(schema={"type": "integer"}, mode=way)
    found = run(call(wrap(ScriptedModel(), guard, layer), mode))
    assert (found.text, found.metadata) == ("42", {})

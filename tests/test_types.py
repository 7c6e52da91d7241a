"""The vocabulary: usage adds up, answers go to plain data and back, and can be copied."""

import copy
import json
import pickle
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import (
    Attempt,
    Block,
    Finish,
    FinishReason,
    LanguageModel,
    ProviderDelta,
    ReasoningDelta,
    RequestBlocked,
    Response,
    ResponseInfo,
    Session,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from neuro_mw.providers.echo import EchoModel
from neuro_mw.testing import ScriptedModel
from neuro_mw.types import no_usage

counts = st.none() | st.integers(0, 10**12)
usages = st.builds(Usage, counts, counts, counts, counts, counts)
texts = st.text(max_size=20)
plain = st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)), max_leaves=6)  # fmt: skip
tables = st.dictionaries(texts, plain, max_size=3)
responses = st.builds(
    Response,
    text=texts,
    reasoning=texts,
    tool_calls=st.lists(st.builds(ToolCall, texts, texts, texts), max_size=3),
    finish_reason=st.sampled_from(get_args(FinishReason)),
    usage=usages,
    id=st.none() | texts,
    model=st.none() | texts,
    created=st.none() | st.floats(0, 1e10),
    blocked=st.none() | st.builds(Block, texts, texts, texts, tables),
    metadata=tables,
    provider_fields=tables,
)


@dataclass
class Later:
    """A part of a later contract, as a dataclass."""

    value: int
    type: str = "later"


class Slotted:
    """A part of a later contract that has no ``__dict__``."""

    __slots__ = ("value",)
    type = "slotted"

    def __init__(self, value: int) -> None:
        self.value = value


# --- usage -----------------------------------------------------------------------------------------------------------


def test_nothing_said_is_not_zero():
    assert Usage().total_tokens is None
    assert Usage() != no_usage()
    assert no_usage().total_tokens == 0
    assert Usage(input_tokens=3).total_tokens == Usage(output_tokens=3).total_tokens == 3
    assert Usage(1, 2, 50, 60, 70).total_tokens == 3


@given(usages, usages, usages)
def test_usage_adds_field_by_field(one, two, three):
    assert one + Usage() == one
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    for field in fields(Usage):
        known = [value for value in (getattr(one, field.name), getattr(two, field.name)) if value is not None]
        assert getattr(one + two, field.name) == (sum(known) if known else None)


def test_usage_adds_to_usage_only():
    with pytest.raises(TypeError):
        Usage(1) + 1
    assert Usage(1) != 1


def test_adding_changes_neither():
    one, two = Usage(1, 2), Usage(3)
    _ = one + two
    assert (one, two) == (Usage(1, 2), Usage(3))


# --- answers ---------------------------------------------------------------------------------------------------------


def test_no_field_is_shared_between_answers():
    one, two = Response(), Response()
    one.tool_calls.append(ToolCall("a", "b", "c"))
    one.metadata["x"] = one.provider_fields["x"] = 1
    one.other_parts.append(1)
    one.usage.input_tokens = 3
    assert two == Response()


def test_an_answer_takes_keywords_only_and_no_unknown_ones():
    with pytest.raises(TypeError):
        Response("hello")
    with pytest.raises(TypeError):
        Response(txt="hello")
    with pytest.raises(AttributeError):
        Response().txt = "hello"


@given(responses)
def test_plain_data_and_back(response):
    data = response.to_dict()
    before = copy.deepcopy(data)
    assert Response.from_dict(data) == response
    assert data == before, "from_dict changed what it was given"
    assert Response.from_dict(json.loads(json.dumps(data))) == response
    assert "receipt" not in data


@pytest.mark.parametrize(
    "part", [Later(3), SimpleNamespace(type="loose", value=3), Slotted(3)], ids=lambda part: part.type
)
def test_parts_of_unknown_types_go_to_plain_data(part):
    response = Response(text="a", other_parts=[part])
    data = json.loads(json.dumps(response.to_dict()))
    assert data["other_parts"] == [{"type": part.type, "value": 3}]
    again = Response.from_dict(data)
    assert (again.other_parts[0].type, again.other_parts[0].value) == (part.type, 3)
    assert again.to_dict() == data


def test_from_little_data():
    assert Response.from_dict({}) == Response()
    assert Response.from_dict({"text": "a", "usage": None, "tool_calls": None, "blocked": None}) == Response(text="a")
    with pytest.raises(TypeError, match="txt"):
        Response.from_dict({"txt": "a"})


def test_what_to_dict_gave_is_not_the_answer_itself():
    response = Response(
        metadata={"a": 1}, provider_fields={"b": 1}, tool_calls=[ToolCall("i", "n", "{}")], usage=Usage(1)
    )
    data = response.to_dict()
    data["metadata"]["a"] = data["provider_fields"]["b"] = data["usage"]["input_tokens"] = 9
    data["tool_calls"][0]["name"] = "x"
    assert response.to_dict()["metadata"] == {"a": 1}
    assert (response.provider_fields, response.usage.input_tokens) == ({"b": 1}, 1)
    assert response.tool_calls[0].name == "n"


@given(responses)
def test_copies_and_pickles(response):
    assert copy.deepcopy(response) == response
    assert pickle.loads(pickle.dumps(response)) == response


def test_raise_for_block():
    Response(text="fine", finish_reason="content_filter").raise_for_block()
    refused = Response(blocked=Block("guard", "no"))
    with pytest.raises(RequestBlocked, match="'guard': no") as caught:
        refused.raise_for_block()
    assert caught.value.response is refused
    assert caught.value.block is refused.blocked


def test_receipt_takes_no_part_in_equality_and_repr():
    assert Response(receipt=object()) == Response()
    assert "receipt" not in repr(Response(receipt=object()))


def test_blocks_share_nothing():
    one = Block("a", "b")
    one.detail["x"] = 1
    assert Block("a", "b") == Block("a", "b", "policy", {})


# --- parts -----------------------------------------------------------------------------------------------------------


def test_parts_are_positional_in_this_order():
    assert TextDelta("a").text == ReasoningDelta("a").text == "a"
    call = ToolCallDelta(1, "i", "n", "{}")
    assert (call.index, call.id, call.name, call.arguments) == (1, "i", "n", "{}")
    info = ResponseInfo("i", "m", 2.0)
    assert (info.id, info.model, info.created) == ("i", "m", 2.0)
    assert ProviderDelta({"a": 1}).fields == {"a": 1}
    block = Block("a", "b")
    finish = Finish("stop", Usage(1), block, {"k": 1})
    assert (finish.reason, finish.usage, finish.blocked, finish.metadata) == ("stop", Usage(1), block, {"k": 1})
    assert Finish("stop") == Finish("stop", Usage(), None, {})


def test_every_part_has_its_own_type_and_no_dict():
    parts = [TextDelta("a"), ReasoningDelta("a"), ToolCallDelta(0), ResponseInfo(), ProviderDelta({}), Finish("stop")]
    names = [part.type for part in parts]
    assert names == ["text_delta", "reasoning_delta", "tool_call_delta", "response_info", "provider_delta", "finish"]
    for part in parts:
        assert type(part).type == part.type
        assert not hasattr(part, "__dict__")
        assert copy.deepcopy(part) == pickle.loads(pickle.dumps(part)) == part


# --- who asks --------------------------------------------------------------------------------------------------------


def test_sessions_and_attempts():
    one = Session(user_id="u")
    one.extra["a"] = 1
    assert Session(user_id="u").extra == {}
    attempt = Attempt("openai", "gpt-4o")
    assert (attempt.error, attempt.duration, attempt.committed, attempt.usage) == (None, None, False, Usage())
    assert attempt.time_to_first_part is None


def test_what_is_a_language_model():
    assert isinstance(ScriptedModel(), LanguageModel)
    assert isinstance(EchoModel(), LanguageModel)
    assert not isinstance(object(), LanguageModel)


def test_an_answer_as_a_message() -> None:
    assert Response(text="hi", reasoning="hm").to_message() == {"role": "assistant", "content": "hi"}
    calls = [ToolCall("a", "f", "{}"), ToolCall("b", "sql", "select")]
    found = Response(reasoning="hm", tool_calls=calls, provider_fields={"tool_call_fields": {"b": {"type": "custom"}}})
    assert found.to_message() == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "b", "type": "custom", "custom": {"name": "sql", "input": "select"}},
        ],
    }


def test_signed_reasoning_goes_into_the_message() -> None:
    fields = {"thinking_blocks": [{"type": "thinking", "signature": "s", "length": 2, "digest": "d"}], "id": 1}
    found = Response(text="a", reasoning="hm", provider_fields=fields).to_message()
    assert (found["reasoning_content"], found["provider_fields"]) == ("hm", fields)
    assert found["provider_fields"] is not fields

"""Params of another shape than chat completions have: refused by name before anything is sent."""

from __future__ import annotations

import asyncio
import copy
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_mw.errors import BadRequest
from neuro_mw.pricing import listed_models
from neuro_mw.providers._anthropic_facts import facts_of
from neuro_mw.providers._anthropic_requests import _warn, body_of, renamed_of
from neuro_mw.providers.anthropic import AnthropicModel

SONNET, OPUS, OLD = "claude-sonnet-4-5", "claude-opus-4-8", "claude-3-5-haiku-20241022"
SECRET = "PROMPT-SECRET"
USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def says(**message: Any) -> dict[str, Any]:
    return {"messages": [USER, {"role": "assistant", "content": "a", **message}]}


def calls(call: Any) -> dict[str, Any]:
    return says(tool_calls=[call])


def asks(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def tool(**function: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": function}]}


def form(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"messages": SECRET}, "messages is of type str; give a list of dicts"),
    ({"messages": [SECRET]}, r"messages\[0\] is of type str; give a dict"),
    ({"messages": [USER, 5]}, r"messages\[1\] is of type int; give a dict"),
    ({"messages": (one for one in [USER])}, "messages is of type generator"),
    (asks(5), r"messages\[0\]: content is of type int"),
    (asks(True), r"messages\[0\]: content is of type bool"),
    (asks({"type": "text", "text": SECRET}), r"messages\[0\]: content is of type dict"),
    (asks([SECRET]), r"messages\[0\]: content\[0\] is of type str"),
    (asks([{"type": "text", "text": 5}]), r"messages\[0\]: the text of a part is of type int"),
    (asks([{"type": "file", "file": SECRET}]), r"messages\[0\]: 'file' is of type str"),
    (asks([{"type": "file", "file": {"file_id": "f", "format": [SECRET]}}]), r"messages\[0\]: 'format' is of type"),
    (asks([{"type": "image_url", "image_url": {"url": "https://a", "format": 5}}]), r"messages\[0\]: 'format'"),
    ({"messages": [USER, {"role": "tool", "tool_call_id": 5, "content": ""}]}, r"messages\[1\]: 'tool_call_id'"),
    ({"messages": [USER, {"role": "tool", "tool_call_id": "c", "content": 5}]}, r"messages\[1\]: content"),
    (calls(SECRET), r"messages\[1\]: tool_calls\[0\] is of type str"),
    (calls({**CALL, "id": 5}), r"messages\[1\]: the id of tool_calls\[0\]"),
    (calls({"id": "c", "function": SECRET}), r"messages\[1\]: the function of tool_calls\[0\]"),
    (calls({"id": "c", "function": {"name": [SECRET]}}), r"messages\[1\]: the name of tool_calls\[0\]"),
    (calls({"id": "c", "function": {"name": "f", "arguments": 5}}), r"messages\[1\]: the arguments of tool_calls\[0\]"),
    (says(function_call=SECRET), r"messages\[1\]: 'function_call'"),
    (says(provider_fields=SECRET), r"messages\[1\]: 'provider_fields' is of type str"),
    (says(provider_specific_fields=[SECRET]), r"messages\[1\]: 'provider_specific_fields'"),
    (says(provider_fields={"tool_call_fields": SECRET}), r"messages\[1\]: 'tool_call_fields'"),
    (says(provider_fields={"compaction_blocks": [SECRET]}), r"messages\[1\]: compaction_blocks\[0\]"),
    (says(provider_fields={"content_order": [5]}), r"messages\[1\]: content_order"),
    (says(provider_fields={"content_order": [{"length": 1}]}), r"messages\[1\]: content_order"),
    (says(thinking_blocks=SECRET), r"messages\[1\]: thinking_blocks is of type str"),
    (
        says(thinking_blocks=[{"type": "thinking", "digest": SECRET}], reasoning_content="a"),
        r"messages\[1\]: thinking_blocks\[0\] has a digest and no length",
    ),
    (says(reasoning_content=5, thinking_blocks=[]), r"messages\[1\]: 'reasoning_content'"),
    ({"tools": SECRET}, "tools is of type str; give a list of dicts"),
    ({"tools": [SECRET]}, r"tools\[0\] is of type str; give a dict"),
    ({"tools": [TOOL, 5]}, r"tools\[1\] is of type int; give a dict"),
    ({"tools": [{"type": "function", "function": SECRET}]}, r"the function of tools\[0\]"),
    ({"tools": [{"type": [SECRET], "name": "f"}]}, r"the type of tools\[0\]"),
    (tool(name=5), r"the name of tools\[0\]"),
    (tool(name="f", parameters=SECRET), r"parameters of tools\[0\]"),
    ({"tools": [TOOL], "tool_choice": {}}, "'tool_choice'; it has auto"),
    ({"tools": [TOOL], "tool_choice": 5}, "'tool_choice' is of type int"),
    ({"tools": [TOOL], "tool_choice": {"type": [SECRET]}}, "'tool_choice'; it has auto"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": [SECRET]}}, "the name in 'tool_choice'"),
    ({"response_format": SECRET}, "'response_format' is of type str"),
    (form(SECRET), "'json_schema' is of type str"),
    (form({"schema": SECRET}), "the schema of 'response_format' is of type str"),
    ({"max_tokens": "100"}, "'max_tokens' is of type str; give a whole number"),
    ({"max_tokens": SECRET}, "'max_tokens' is of type str"),
    ({"max_tokens": float("nan")}, "'max_tokens' is no finite number"),
    ({"max_completion_tokens": True}, "'max_completion_tokens' is of type bool"),
    ({"thinking": True}, "'thinking' is of type bool; give a dict"),
    ({"thinking": "enabled"}, "'thinking' is of type str; give a dict"),
    ({"thinking": {"type": "enabled", "budget_tokens": SECRET}}, "'budget_tokens' is of type str"),
    ({"reasoning_effort": [SECRET]}, "'reasoning_effort' is of type list"),
    ({"reasoning_effort": "low", "output_config": SECRET}, "'output_config' is of type str"),
    ({"stop": 5}, "'stop' is of type int; give a string or a list of strings"),
    ({"stop": ["a", 5]}, r"'stop'\[1\] is of type int"),
    ({"metadata": SECRET}, "'metadata' is of type str"),
    ({"web_search_options": True}, "'web_search_options' is of type bool"),
    ({"web_search_options": {"user_location": SECRET}}, "'user_location'"),
    ({"web_search_options": {"user_location": {"approximate": SECRET}}}, "'approximate'"),
    ({"web_search_options": {"search_context_size": [SECRET]}}, "'search_context_size'"),
    ({"system": 5}, "system is of type int"),
    ({"system": [SECRET]}, r"system\[0\] is of type str"),
    ({"betas": 5}, "'betas' is of type int"),
    ({"context_management": SECRET}, "'context_management' is of type str"),
    ({"context_management": {"edits": [SECRET]}}, r"edits of context_management\[0\]"),
]


@pytest.mark.parametrize("model", [SONNET, OPUS])
@pytest.mark.parametrize(("params", "named"), REFUSED)
def test_another_shape_is_refused_by_its_name(model: str, params: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequest, match=f"^anthropic/{model}: .*{named}") as caught:
        body_of({"messages": [USER], **params}, model, stream=False)
    assert SECRET not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_model_is_a_string() -> None:
    with pytest.raises(BadRequest, match="'model' is of type int"):
        body_of({"messages": [USER]}, 5, stream=False)  # type: ignore[arg-type]  # it is what a caller did


def test_what_no_check_names_is_refused_all_the_same() -> None:
    """A schema within itself, and a name that no dict takes."""
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    schema["properties"]["a"] = schema
    with pytest.raises(BadRequest, match="the params are not of the shape") as caught:
        body_of({"messages": [USER], **form({"schema": schema})}, SONNET, stream=False)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


KEYS = ["type", "text", "function", "name", "id", "role", "content", "length", "digest", "schema"]
odd = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.sampled_from(["", "a", "text", "tool", SECRET]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
WHOLE: dict[str, Any] = {
    "model": "x",
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "s"}], "cache_control": {"type": "ephemeral"}},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a"}}]},
        {
            "role": "assistant",
            "content": "a",
            "tool_calls": [CALL],
            "reasoning_content": "hm",
            "thinking_blocks": [{"type": "thinking", "signature": "s", "length": 2, "digest": "b82e2178ecf4d0c5"}],
            "provider_fields": {
                "tool_call_fields": {"c1": {"caller": {"type": "direct"}}},
                "content_order": ["thinking_blocks", {"length": 1, "digest": "ca978112ca1bbdca"}, "tool_calls"],
                "citations": [[{"url": "u"}]],
            },
        },
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
    ],
    "tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": True,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "metadata": {"user_id": "u"},
    "stop": ["x"],
    "system": "s",
    "max_tokens": 5000,
    "betas": ["b"],
    "web_search_options": {"user_location": {"approximate": {"city": "Bern"}}},
    "context_management": {"edits": [{"type": "compact_20260112"}]},
    "output_config": {"effort": "low"},
    "container": {"skills": []},
}


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in `value`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [one for key, inner in items for one in ((*way, key), *places(inner, (*way, key)))]


@settings(max_examples=400, deadline=None)
@given(place=st.sampled_from(places(WHOLE)), value=odd, model=st.sampled_from([SONNET, OPUS, OLD, "claude-opus-4-6"]))
def test_whatever_is_odd_and_wherever(place: tuple[Any, ...], value: Any, model: str) -> None:
    """A body or a BadRequest, and nothing else; where there is a body, the answer can be undone."""
    params = copy.deepcopy(WHOLE)
    if model == OLD:
        del params["thinking"]
    holder: Any = params
    for key in place[:-1]:
        holder = holder.get(key, {}) if isinstance(holder, dict) else holder[key]
    holder[place[-1]] = value
    try:
        body_of(params, model, stream=True)
    except BadRequest as error:
        said = str(error)
    else:
        said = ""
        renamed_of(params, model)
    assert SECRET not in said


# --- what is taken in more than one form -------------------------------------------------------------------------


def test_one_beta_may_be_a_string() -> None:
    headers = body_of({"messages": [USER], "betas": "context-1m"}, SONNET, stream=False)[1]
    assert headers == {"anthropic-beta": "context-1m"}


def test_objects_of_an_sdk_are_dicts() -> None:
    class Model:
        def __init__(self, **data: Any) -> None:
            self.data = data

        def model_dump(self, **_: Any) -> dict[str, Any]:
            return self.data

    objects = {"messages": [USER, {"role": "assistant", "tool_calls": [Model(**CALL)]}], "tools": [Model(**TOOL)]}
    plain = {"messages": [USER, {"role": "assistant", "tool_calls": [CALL]}], "tools": [TOOL]}
    assert body_of(objects, SONNET, stream=False) == body_of(plain, SONNET, stream=False)
    with pytest.raises(BadRequest, match=r"tools\[0\] is of type type"):
        body_of({"messages": [USER], "tools": [Model]}, SONNET, stream=False)


# --- who says so -------------------------------------------------------------------------------------------------


def test_the_provider_is_the_one_that_was_asked(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BadRequest, match=f"^my_gw/{SONNET}: ") as caught:
        body_of({"messages": [USER], "seed": 1}, SONNET, stream=False, provider="my_gw")
    assert (caught.value.provider, caught.value.model) == ("my_gw", SONNET)
    _warn.cache_clear()
    with caplog.at_level(logging.WARNING, "neuro_mw"):
        body_of({"messages": [USER], "metadata": {"x": 1}}, SONNET, stream=False, provider="my_gw")
    assert caplog.records[0].getMessage().startswith(f"my_gw/{SONNET}: ")


def test_a_model_says_which_provider_it_is_of() -> None:
    model = AnthropicModel(SONNET, provider="my_gw", base_url="http://127.0.0.1:1", api_key="k")
    with pytest.raises(BadRequest, match=r"^my_gw/") as caught:
        asyncio.run(model.generate({"messages": [SECRET]}))
    assert caught.value.provider == "my_gw"


# --- the table of limits -----------------------------------------------------------------------------------------


def test_the_most_tokens_are_those_of_the_price_list() -> None:
    most = {
        name: window.max_output_tokens
        for name, _, window in listed_models("anthropic")
        if name.startswith("claude-") and window.max_output_tokens
    }
    assert len(most) > 10
    assert {name: facts_of(name).max_tokens for name in most} == most

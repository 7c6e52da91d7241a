"""Requests to the Messages API where litellm is no measure: what is refused, what the log says, signed turns."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest

from neuro_mw.errors import BadRequest
from neuro_mw.providers._anthropic_messages import NOTE
from neuro_mw.providers._anthropic_requests import _warn, body_of, renamed_of
from neuro_mw.providers._anthropic_tools import supported
from neuro_mw.providers._thinking import sealed

SONNET, OPUS, OLD = "claude-sonnet-4-5", "claude-opus-4-8", "claude-3-5-haiku-20241022"
USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "r"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
SIGNED = {"type": "thinking", "thinking": "hm", "signature": "s"}
HIDDEN = {"type": "redacted_thinking", "data": "d"}
THINK = {"thinking": {"type": "enabled", "budget_tokens": 2000}}


@pytest.fixture(autouse=True)
def _nothing_was_warned_of_yet() -> None:
    _warn.cache_clear()


def sent(model: str = SONNET, **params: Any) -> dict[str, Any]:
    params = {"messages": [USER], **params}
    before = copy.deepcopy(params)
    body, _ = body_of(params, model, stream=False)
    assert params == before
    return body


def turn(*content: Any, role: str = "user") -> dict[str, Any]:
    """The first turn of a request with one message."""
    found: dict[str, Any] = sent(messages=[{"role": role, "content": list(content)}])["messages"][0]
    return found


def test_streams_say_so() -> None:
    body, headers = body_of({"messages": [USER], "stream_options": {"include_usage": True}}, SONNET, stream=True)
    assert body == {
        "model": SONNET,
        "max_tokens": 64_000,
        "stream": True,
        "messages": [turn({"type": "text", "text": "hi"})],
    }
    assert headers == {}


# --- refused before anything is sent -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"seed": "SECRET"}, "'seed'"),
        ({"functions": ["SECRET"]}, "'functions'; say it as tools"),
        ({"n": 2}, "'n'; make several calls"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": "SECRET"}}, "'tool_choice'"),
        ({"tool_choice": "SECRET"}, "'tool_choice'"),
        ({"tools": [{"type": "custom", "custom": {"name": "SECRET"}}]}, "tools"),
        ({"reasoning_effort": "SECRET"}, "'reasoning_effort'"),
        ({"response_format": int}, "'response_format' is of type type; give a dict"),
        ({"messages": []}, "messages"),
        ({"messages": [USER, {"role": "SECRET"}]}, r"messages\[1\]: the role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "SECRET"}]}]}, r"messages\[0\]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, r"messages\[0\]"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "file_data"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "'input_audio'"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "function": {"arguments": "SECRET"}}]}]},
            r"messages\[0\]: the arguments of tool_calls\[0\]",
        ),
    ],
)
def test_refusals_name_the_place_and_not_the_value(params: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequest, match=named) as caught:
        sent(**params)
    assert (caught.value.provider, caught.value.model, caught.value.retryable) == ("anthropic", SONNET, False)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("model", "params"),
    [
        (OPUS, {"temperature": 0.5}),
        (OPUS, {"top_k": 1}),
        (OLD, THINK),
        (OLD, {"reasoning_effort": "low"}),
        (SONNET, {"speed": "fast"}),
        ("claude-opus-4-6", {"reasoning_effort": "xhigh"}),
        ("claude-opus-5-5", {"tools": [TOOL], "tool_choice": "required"}),
    ],
)
def test_what_a_model_does_not_take(model: str, params: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="this model"):
        sent(model, **params)


# --- said in the log, since nothing is left out in silence -------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "params", "missing"),
    [
        (SONNET, {"response_format": {"type": "json_object"}}, "output_format"),
        (SONNET, {"user": "a@b.co"}, "metadata"),
        (SONNET, {"user": "+41 44 123 45 67"}, "metadata"),
        (SONNET, {"metadata": {"trace": "t"}}, "metadata"),
        (OLD, {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}, "strict"),
        (SONNET, {"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
        (SONNET, {"thinking": {"type": "adaptive"}, "max_tokens": 100}, "thinking"),
        ("claude-opus-5-5", {"thinking": {"type": "disabled"}}, "thinking"),
    ],
)
def test_what_is_left_out_is_said(
    caplog: pytest.LogCaptureFixture, model: str, params: dict[str, Any], missing: str
) -> None:
    assert missing not in sent(model, **params)
    assert [(one.name, one.levelno) for one in caplog.records] == [("neuro_mw", logging.WARNING)]
    assert "a@b.co" not in caplog.text


# --- signed turns ------------------------------------------------------------------------------------------------


def thought(**assistant: Any) -> dict[str, Any]:
    return {"messages": [USER, {"role": "assistant", "tool_calls": [CALL], **assistant}, RESULT], "tools": [TOOL]}


SEALED = [sealed(SIGNED), HIDDEN]
FULL = [SIGNED, HIDDEN]


@pytest.mark.parametrize(
    "assistant",
    [
        {"thinking_blocks": SEALED, "reasoning_content": "hm"},
        {"thinking_blocks": FULL, "reasoning_content": "hm"},
        {"thinking_blocks": FULL},
        {"thinking_blocks": [{**block, "index": number} for number, block in enumerate(FULL)]},
        {"provider_fields": {"thinking_blocks": SEALED}, "reasoning": "hm"},
        {"provider_specific_fields": {"thinking_blocks": FULL}, "reasoning_content": "hm"},
        {"content": FULL, "thinking_blocks": FULL, "reasoning_content": "hm"},
    ],
)
def test_signed_turns_go_back_as_they_came(caplog: pytest.LogCaptureFixture, assistant: dict[str, Any]) -> None:
    body = sent(**THINK, **thought(**assistant))
    assert body["messages"][1]["content"] == [
        *({**block} for block in FULL),
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
    ]
    assert "thinking" in body
    assert not caplog.records


@pytest.mark.parametrize(
    "assistant",
    [
        {},
        {"thinking_blocks": SEALED},
        {"thinking_blocks": SEALED, "reasoning_content": "[redacted]"},
        {"thinking_blocks": FULL, "reasoning_content": ""},
    ],
)
def test_a_turn_that_lost_its_signature_is_not_refused(
    caplog: pytest.LogCaptureFixture, assistant: dict[str, Any]
) -> None:
    before = {"role": "assistant", "content": "a", "thinking_blocks": FULL}
    params = thought(**assistant)
    body = sent(**THINK, **{**params, "messages": [USER, before, *params["messages"]]})
    assert "thinking" not in body
    assert {one["type"] for turn in body["messages"] for one in turn["content"]} == {"text", "tool_use", "tool_result"}
    assert len(caplog.records) == 1


def test_it_matters_only_amid_calls_and_with_a_budget() -> None:
    answered = {"messages": [USER, {"role": "assistant", "content": "a"}, USER]}
    assert "thinking" in sent(**THINK, **answered)
    assert sent(OPUS, thinking={"type": "adaptive"}, **thought())["thinking"] == {"type": "adaptive"}
    assert "thinking" not in sent(reasoning_effort="low", **thought())


# --- messages ----------------------------------------------------------------------------------------------------


def test_native_blocks_pass_untouched() -> None:
    blocks = [
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        {"type": "search_result", "content": [], "x": 1},
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    assert turn(*blocks) == {"role": "user", "content": blocks}
    refused = turn({"type": "refusal", "refusal": "no"}, {"type": "text", "text": " "}, role="assistant")
    assert refused["content"] == [{"type": "text", "text": "no"}]


def test_messages_may_be_objects_of_an_sdk() -> None:
    class Message:
        def model_dump(self, **_: Any) -> dict[str, Any]:
            return {**USER}

    body, _ = body_of({"messages": [Message()]}, SONNET, stream=False)
    assert body == sent()


def test_web_search_needs_no_options() -> None:
    assert sent(web_search_options={})["tools"] == [{"type": "web_search_20250305", "name": "web_search"}]


def test_files_need_a_header() -> None:
    inner = {"role": "tool", "tool_call_id": "c1", "content": [{"type": "file", "file": {"file_id": "f"}}]}
    for messages in ([{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}], [USER, inner]):
        headers = body_of({"messages": messages}, SONNET, stream=False)[1]
        assert headers == {"anthropic-beta": "files-api-2025-04-14"}


def test_cache_control_of_a_message_with_parts_is_that_of_the_last() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "a"}] * 2, "cache_control": {"type": "ephemeral"}}
    assert [("cache_control" in one) for one in sent(messages=[message])["messages"][0]["content"]] == [False, True]


def test_later_system_messages_never_part_a_call_from_its_result() -> None:
    messages = [USER, {"role": "assistant", "tool_calls": [CALL]}, {"role": "system", "content": "S"}, RESULT]
    body = sent(messages=messages, tools=[TOOL])
    assert [one["type"] for one in body["messages"][2]["content"]] == ["tool_result", "text", "text"]
    assert body["messages"][2]["content"][1:] == [{"type": "text", "text": NOTE}, {"type": "text", "text": "S"}]
    assert [one["role"] for one in sent(OPUS, messages=messages, tools=[TOOL])["messages"]] == [
        "user",
        "assistant",
        "user",
        "system",
    ]


def test_the_native_system_prompt_comes_first() -> None:
    messages = [{"role": "system", "content": "b"}, USER]
    texts = [{"type": "text", "text": one} for one in "ab"]
    assert sent(messages=messages, system="a")["system"] == sent(messages=messages, system=texts[:1])["system"] == texts


def test_the_older_function_messages() -> None:
    call = {"role": "assistant", "function_call": {"name": "f", "arguments": ""}}
    body = sent(messages=[USER, call, {"role": "function", "name": "f", "content": "r"}], tools=[TOOL])
    assert body["messages"][1]["content"][0]["id"] == body["messages"][2]["content"][0]["tool_use_id"] == "call_f"


# --- tools and formats -------------------------------------------------------------------------------------------


def test_what_the_answer_has_to_undo() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("a.b", "a_b", "a/b", "x" * 130)]
    schema = {"response_format": {"type": "json_schema", "json_schema": {"schema": {"properties": {}}}}}
    renamed = renamed_of({"tools": tools, **schema}, OLD)
    assert renamed == {"a_b_2": "a.b", "a_b_3": "a/b", "x" * 128: "x" * 130, "json_tool_call": None}
    names = [tool["name"] for tool in sent(OLD, tools=tools, **schema)["tools"]]
    assert names == ["json_tool_call", "a_b_2", "a_b", "a_b_3", "x" * 128]
    assert renamed_of({"tools": [TOOL], **schema}, SONNET) == {}


def test_a_json_answer_is_forced_unless_the_model_thinks() -> None:
    schema = {"response_format": {"type": "json_schema", "json_schema": {"schema": {"properties": {}}}}}
    model = "claude-sonnet-4-0"
    assert sent(model, **schema)["tool_choice"] == {"type": "tool", "name": "json_tool_call"}
    assert "tool_choice" not in sent(model, **schema, **THINK)


def test_strict_is_kept_where_the_model_can_be_held_to_it(caplog: pytest.LogCaptureFixture) -> None:
    strict = [{"type": "function", "function": {**TOOL["function"], "strict": True}}]
    assert sent(tools=strict)["tools"][0]["strict"] is True
    assert sent(tools=strict)["tools"][0]["input_schema"]["additionalProperties"] is False
    assert not caplog.records
    assert "strict" not in sent(OLD, tools=strict)["tools"][0]
    assert "'strict'" in caplog.text


def test_schemas_keep_what_the_api_compiles() -> None:
    schema = {
        "type": "object",
        "description": "A thing.",
        "minProperties": 1,
        "properties": {
            "minimum": {"type": "array", "items": {"type": "number", "minimum": 0}, "uniqueItems": False},
            "either": {"anyOf": [{"type": "null"}], "oneOf": [{"type": "string", "maxLength": 3}]},
        },
        "$defs": {"D": {"type": "object"}},
        "additionalProperties": True,
    }
    assert supported(schema) == {
        "type": "object",
        "description": "A thing. (minProperties: 1)",
        "properties": {
            "minimum": {"type": "array", "items": {"type": "number", "description": "(minimum: 0)"}},
            "either": {"anyOf": [{"type": "null"}, {"type": "string", "description": "(maxLength: 3)"}]},
        },
        "$defs": {"D": {"type": "object", "additionalProperties": False}},
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("model", "most", "thinking"),
    [
        ("claude-opus-4-1-20250805", 4096, {"type": "enabled", "budget_tokens": 4096}),
        ("claude-3-7-sonnet-20250219", 4096, {"type": "enabled", "budget_tokens": 4096}),
        ("claude-haiku-4-5-20251001", 64_000, {"type": "enabled", "budget_tokens": 4096}),
        ("us.anthropic.claude-sonnet-4-6-v1", 128_000, {"type": "adaptive", "display": "summarized"}),
        ("claude-mythos-preview", 128_000, {"type": "adaptive", "display": "summarized"}),
        ("claude-fable-5", 128_000, {"type": "adaptive", "display": "summarized"}),
        ("my-alias", 4096, {"type": "enabled", "budget_tokens": 4096}),
    ],
)
def test_a_model_is_known_by_the_version_in_its_name(model: str, most: int, thinking: dict[str, Any]) -> None:
    assert sent(model)["max_tokens"] == most
    assert sent(model, reasoning_effort="high")["thinking"] == thinking

"""The native translation beside litellm's: what each sends for the same params, and makes of the same answer.

Where they differ the tables here say so, and why; a difference that is listed and is none any more fails.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any
from urllib.request import urlopen

import pytest
from test_anthropic_answers import events_of, streamed

from neuro_mw.errors import NeuroError
from neuro_mw.parts import collect
from neuro_mw.providers._anthropic_answers import response_of
from neuro_mw.providers._anthropic_requests import body_of, renamed_of
from neuro_mw.providers.litellm import LiteLLMModel
from neuro_mw.testing import StubOpenAI
from neuro_mw.types import Response

SONNET = "claude-sonnet-4-5"
OPUS = "claude-opus-4-8"
OLD = "claude-3-5-haiku-20241022"
CACHED = {"cache_control": {"type": "ephemeral"}}
PNG = "data:image/png;base64,QQ=="
PDF = "data:application/pdf;base64,QQ=="
USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "r"}
SIGNED = {"type": "thinking", "thinking": "hm", "signature": "s"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}
TOOL_TURNS = [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, RESULT]
DONE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": SONNET,
    "content": [{"type": "text", "text": "a"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def said(*content: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(content), **more}]}


def text(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


def schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}


def turns(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"messages": list(messages)}


def called(call: dict[str, Any], result: dict[str, Any] = RESULT, **more: Any) -> dict[str, Any]:
    assistant = {"role": "assistant", "content": None, "tool_calls": [call], **more}
    return {"tools": [TOOL], **turns(USER, assistant, result)}


def asks(arguments: str, name: str = "f") -> dict[str, Any]:
    return {**CALL, "function": {"name": name, "arguments": arguments}}


def image(url: Any, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": url, **more}


def file(**file: Any) -> dict[str, Any]:
    return {"type": "file", "file": file}


THINK = {"thinking": {"type": "enabled", "budget_tokens": 2000}}

REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    # sampling and limits
    "plain": (SONNET, {}),
    "plain, opus": (OPUS, {}),
    "unknown model": ("claude-x", {}),
    "old model": (OLD, {}),
    "untold model": ("claude-opus-4-9", {}),
    "max_tokens": (SONNET, {"max_tokens": 7}),
    "max_completion_tokens": (SONNET, {"max_completion_tokens": 7, "max_tokens": 9}),
    "sampling": (SONNET, {"temperature": 0.2, "top_p": 0.3, "top_k": 4}),
    "temperature, opus": (OPUS, {"temperature": 0.2}),
    "temperature 1, opus": (OPUS, {"temperature": 1}),
    "top_k, opus": (OPUS, {"top_k": 4}),
    "stop": (SONNET, {"stop": "x"}),
    "stops": (SONNET, {"stop": ["x", "y"]}),
    "no stops": (SONNET, {"stop": []}),
    "none": (SONNET, {"temperature": None, "seed": None, "foo": None}),
    "n 1": (SONNET, {"n": 1}),
    # what the API has no word for
    "n": (SONNET, {"n": 2}),
    "seed": (SONNET, {"seed": 1}),
    "functions": (SONNET, {"functions": [{"name": "f", "parameters": {}}]}),
    "logprobs": (SONNET, {"logprobs": True}),
    "logit_bias": (SONNET, {"logit_bias": {"1": 1}}),
    "presence_penalty": (SONNET, {"presence_penalty": 0.1}),
    "frequency_penalty": (SONNET, {"frequency_penalty": 0}),
    "modalities": (SONNET, {"modalities": ["text"]}),
    "verbosity": (SONNET, {"verbosity": "low"}),
    "store": (SONNET, {"store": True}),
    "prompt_cache_key": (SONNET, {"prompt_cache_key": "k"}),
    "prompt_cache_retention": (SONNET, {"prompt_cache_retention": "24h"}),
    "service_tier": (SONNET, {"service_tier": "auto"}),
    # what it knows beyond OpenAI, and nobody knows
    "unknown keys": (SONNET, {"foo": {"a": 1}, "inference_geo": "us", "container": "c"}),
    "user": (SONNET, {"user": "u1"}),
    "user with a mail address": (SONNET, {"user": "a@b.co"}),
    "metadata": (SONNET, {"user": "u1", "metadata": {"user_id": "u2", "trace": "t"}}),
    "betas": (SONNET, {"betas": ["b-1"]}),
    "cache_control": (SONNET, CACHED),
    "context_management": (SONNET, {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}),
    "mcp_servers": (SONNET, {"mcp_servers": [{"type": "url", "url": "https://a", "name": "n"}]}),
    "skills": (SONNET, {"container": {"skills": [{"type": "anthropic", "skill_id": "x"}]}}),
    "speed": ("claude-opus-4-6", {"speed": "fast"}),
    "speed, sonnet": (SONNET, {"speed": "fast"}),
    # system
    "system first": (SONNET, turns({"role": "developer", "content": "D"}, {"role": "system", "content": "S"}, USER)),
    "system parts": (SONNET, turns({"role": "system", "content": [text("S", **CACHED), text("T")]}, USER)),
    "system cached": (SONNET, turns({"role": "system", "content": "S", **CACHED}, USER)),
    "system later": (SONNET, turns(USER, {"role": "system", "content": "S"}, {"role": "assistant", "content": "x "})),
    "system later, opus": (
        OPUS,
        turns(
            USER,
            {"role": "system", "content": "S"},
            {"role": "assistant", "content": "x "},
            {"role": "system", "content": "T"},
            USER,
        ),
    ),
    "system amid tools, opus": (
        OPUS,
        {"tools": [TOOL], **turns(*TOOL_TURNS[:2], {"role": "system", "content": "S"}, RESULT)},
    ),
    "system only": (SONNET, turns({"role": "system", "content": "S"})),
    # content
    "merging": (SONNET, turns(USER, USER, *[{"role": "assistant", "content": "a"}] * 2)),
    "cached message": (SONNET, turns({**USER, **CACHED})),
    "cached part": (SONNET, said(text("a", **CACHED), text("b"))),
    "empty": (SONNET, turns(USER, {"role": "assistant", "content": "a"}, {"role": "user", "content": ""})),
    "images": (SONNET, said(image("https://a/b.png"), image({"url": PNG, "detail": "low"}, **CACHED))),
    "pdf as image": (SONNET, said(image({"url": PDF}))),
    "files": (
        SONNET,
        said(
            file(file_data=PDF),
            file(file_id="file_1", format="application/pdf"),
            file(file_id="file_1", format="image/png"),
            file(file_id="https://a/b.pdf"),
            file(file_id="file_2"),
        ),
    ),
    "file with a name": (SONNET, said(file(file_data=PDF, filename="a.pdf"))),
    "document": (SONNET, said({"type": "document", "source": {"type": "url", "url": "https://a/b"}, "title": "t"})),
    "native image": (SONNET, said({"type": "image", "source": {"type": "url", "url": "https://a/b"}}, text("a"))),
    "audio": (SONNET, said(text("a"), {"type": "input_audio", "input_audio": {"data": "QQ", "format": "wav"}})),
    "prefill": (SONNET, turns(USER, {"role": "assistant", "content": "so \n"})),
    # tools
    "tools": (SONNET, {"tools": [TOOL]}),
    "tool cached": (SONNET, {"tools": [{**TOOL, **CACHED}]}),
    "tool without parameters": (SONNET, {"tools": [{"type": "function", "function": {"name": "g"}}]}),
    "tool deferred": (
        SONNET,
        {"tools": [{**TOOL, "defer_loading": True, "allowed_callers": ["code_execution_20250825"]}]},
    ),
    "strict tool": (SONNET, {"tools": [{"type": "function", "function": {**TOOL["function"], "strict": True}}]}),
    "tool with a rich schema": (
        SONNET,
        {"tools": [{"type": "function", "function": {"name": "g", "parameters": {**SCHEMA, "title": "G"}}}]},
    ),
    "native tool": (SONNET, {"tools": [{"name": "g", "description": "d", "input_schema": SCHEMA}]}),
    "hosted tools": (
        SONNET,
        {
            "tools": [
                {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
                {"type": "code_execution_20250825", "name": "code_execution"},
                {"type": "memory_20250818", "name": "memory"},
                {"type": "web_fetch_20250910", "name": "web_fetch"},
                {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
            ]
        },
    ),
    "computer": (
        SONNET,
        {
            "tools": [
                {
                    "type": "computer_20250124",
                    "function": {"name": "computer", "parameters": {"display_width_px": 1, "display_height_px": 2}},
                }
            ]
        },
    ),
    "web_search_options": (
        SONNET,
        {
            "web_search_options": {
                "search_context_size": "low",
                "user_location": {"type": "approximate", "approximate": {"city": "Bern"}},
            }
        },
    ),
    "odd names": (
        SONNET,
        {
            **called(asks("", "a/b")),
            "tools": [{"type": "function", "function": {"name": name}} for name in ("a/b", "a_b", "a.b")],
            "tool_choice": {"type": "function", "function": {"name": "a.b"}},
        },
    ),
    "choice auto": (SONNET, {"tools": [TOOL], "tool_choice": "auto"}),
    "choice none": (SONNET, {"tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": False}),
    "choice required": (SONNET, {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": True}),
    "choice named": (SONNET, {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}}),
    "choice native": (SONNET, {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}}),
    "choice forced": ("claude-opus-5-5", {"tools": [TOOL], "tool_choice": "required"}),
    "parallel": (SONNET, {"tools": [TOOL], "parallel_tool_calls": False}),
    # tool turns
    "tool turns": (SONNET, {"tools": [TOOL], **turns(*TOOL_TURNS)}),
    "tool turns without tools": (SONNET, turns(*TOOL_TURNS)),
    "tool results in parts": (
        SONNET,
        called(CALL, {**RESULT, **CACHED, "content": [text("r"), image({"url": PNG}), image({"url": PDF})]}),
    ),
    "tool error": (SONNET, called(CALL, {**RESULT, "is_error": True})),
    "call cached": (SONNET, called({**CALL, **CACHED})),
    "odd ids": (SONNET, called({**CALL, "id": "c:1"}, {**RESULT, "tool_call_id": "c:1"})),
    "no arguments": (SONNET, called(asks(""))),
    "broken arguments": (SONNET, called(asks("{x"))),
    "cut arguments": (SONNET, called(asks('{"a": 1'))),
    # formats
    "json schema": (SONNET, schema(SCHEMA)),
    "json schema, opus": (OPUS, schema(SCHEMA)),
    "json schema, old": (OLD, schema(SCHEMA)),
    "json schema and tools, old": (OLD, {**schema(SCHEMA), "tools": [TOOL]}),
    "json schema, untold model": ("claude-opus-4-9", schema(SCHEMA)),
    "json schema of choices": (
        SONNET,
        schema({"type": "object", "properties": {"a": {"oneOf": [{"type": "string"}, {"type": "null"}]}}}),
    ),
    "json schema with constraints": (
        SONNET,
        schema({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1, "description": "A."}}}),
    ),
    "json schema with references": (
        SONNET,
        schema({"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "integer"}}}),
    ),
    "json object": (SONNET, {"response_format": {"type": "json_object"}}),
    "text format": (SONNET, {"response_format": {"type": "text"}}),
    # thinking
    "thinking": (SONNET, THINK),
    "thinking, opus": (OPUS, {"thinking": {"type": "enabled", "budget_tokens": 5000}}),
    "thinking, 4.6": ("claude-opus-4-6", {"thinking": {"type": "enabled", "budget_tokens": 5000}}),
    "thinking, old": (OLD, THINK),
    "thinking, unknown model": ("claude-x", THINK),
    "thinking adaptive": (OPUS, {"thinking": {"type": "adaptive"}}),
    "thinking adaptive, sonnet": (SONNET, {"thinking": {"type": "adaptive"}}),
    "thinking adaptive, little room": (SONNET, {"thinking": {"type": "adaptive"}, "max_tokens": 1500}),
    "thinking adaptive, no room": (SONNET, {"thinking": {"type": "adaptive"}, "max_tokens": 500}),
    "thinking disabled": (SONNET, {"thinking": {"type": "disabled"}}),
    "thinking disabled, always on": ("claude-opus-5-5", {"thinking": {"type": "disabled"}}),
    **{f"effort {one}": (SONNET, {"reasoning_effort": one}) for one in ("none", "minimal", "low", "max", "odd")},
    **{f"effort {one}, opus": (OPUS, {"reasoning_effort": one}) for one in ("none", "minimal", "high", "xhigh", "odd")},
    "effort xhigh, 4.6": ("claude-opus-4-6", {"reasoning_effort": "xhigh"}),
    "effort with a summary": (OPUS, {"reasoning_effort": {"effort": "low", "summary": "concise"}}),
    "effort, unknown model": ("claude-x", {"reasoning_effort": "low"}),
    "effort in output_config": ("claude-opus-4-5", {"output_config": {"effort": "low"}}),
    "signed turns": (SONNET, {**THINK, **called(CALL, reasoning_content="hm", thinking_blocks=[SIGNED])}),
    "unsigned turns": (SONNET, {**THINK, **called(CALL, reasoning_content="hm")}),
    "unsigned blocks": (SONNET, called(CALL, thinking_blocks=[{"type": "thinking", "thinking": "hm"}])),
}

NO_SUCH_TOOL = "the wording of a tool that stands in where there are calls but no tools"
WORDING = "the same in other words"
PASSES = "litellm refuses what the API takes; here it passes"
KNOWS_VERSIONS = "a model that litellm's list does not have is known by the version in its name"

# case -> the keys of the body that differ ("raises": one refuses, the other sends), and why
DIFFERENT: dict[str, tuple[set[str], str]] = {
    "untold model": ({"max_tokens"}, KNOWS_VERSIONS),
    "json schema, untold model": (
        {"max_tokens", "tools", "tool_choice", "output_format", "anthropic-beta"},
        KNOWS_VERSIONS,
    ),
    "thinking, unknown model": ({"raises"}, "an alias may stand for a model that thinks: the API decides"),
    "effort, unknown model": ({"raises"}, "as above"),
    "service_tier": ({"raises"}, PASSES),
    "choice native": ({"raises"}, PASSES),
    "native image": ({"raises"}, PASSES),
    "audio": ({"raises"}, "litellm leaves the part out in silence"),
    "cut arguments": ({"raises"}, "litellm closes the brackets, and the call says what nobody said"),
    "betas": ({"betas", "anthropic-beta"}, "the SDK's key for the header, which the API does not take in the body"),
    "system later": ({"messages"}, WORDING),
    "empty": ({"messages"}, WORDING),
    "json schema with constraints": ({"output_format"}, WORDING),
    "json schema with references": ({"output_format"}, "the API reads references; litellm inlines them"),
    "tool turns without tools": ({"tools"}, NO_SUCH_TOOL),
    "pdf as image": ({"messages"}, "litellm sends an image of a type that the API refuses"),
    "file with a name": ({"messages"}, "litellm leaves out the name"),
    "tool error": ({"messages"}, "litellm leaves out is_error"),
    "strict tool": ({"tools"}, "litellm leaves out strict"),
    "tool with a rich schema": ({"tools"}, "litellm leaves out keys at the top of a schema"),
    "unsigned turns": ({"thinking"}, "the API refuses what litellm sends, unless its modify_params is set"),
}


@pytest.fixture(scope="module")
def stub() -> Iterator[StubOpenAI]:
    with StubOpenAI() as server:
        yield server


@pytest.mark.parametrize("case", REQUESTS)
def test_requests(stub: StubOpenAI, case: str) -> None:
    model, params = REQUESTS[case]
    params = {"messages": [USER], **params}
    ours, theirs = sent_by_us(model, params), sent_by_litellm(stub, model, params)
    if "raises" in {*ours, *theirs} and ours != theirs:
        differs = {"raises"}
    else:
        differs = {name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)}
    assert differs == DIFFERENT.get(case, (set(), ""))[0]


def test_the_table_of_differences_is_about_these_cases() -> None:
    assert set(DIFFERENT) <= set(REQUESTS)
    assert set(OTHERWISE) <= set(ANSWERS)


def sent_by_us(model: str, params: dict[str, Any]) -> dict[str, Any]:
    before = copy.deepcopy(params)
    try:
        body, headers = body_of(params, model, stream=False)
    except NeuroError:
        return {"raises": True}
    finally:
        assert params == before
    return {**body, "anthropic-beta": betas_of(headers)}


def sent_by_litellm(stub: StubOpenAI, model: str, params: dict[str, Any]) -> dict[str, Any]:
    count = len(stub.requests)
    stub.reply(raw=json.dumps(DONE).encode())
    asked = {**copy.deepcopy(params), "api_base": stub.base_url.removesuffix("/v1"), "api_key": "k"}
    try:
        asyncio.run(LiteLLMModel("anthropic", model).generate(asked))
    except NeuroError:
        assert len(stub.requests) == count
        urlopen(f"{stub.base_url}/", data=b"{}").close()  # takes the answer that nobody asked for
        stub.requests.pop()
        return {"raises": True}
    return {**stub.requests[-1].body, "anthropic-beta": betas_of(stub.requests[-1].headers)}


def betas_of(headers: dict[str, str]) -> set[str]:
    return {one.strip() for one in headers.get("anthropic-beta", "").split(",") if one.strip()}


# --- answers -----------------------------------------------------------------------------------------------------


def answer(*content: dict[str, Any], reason: str = "end_turn", **more: Any) -> dict[str, Any]:
    return {**DONE, "content": list(content), "stop_reason": reason, "usage": COUNTS, **more}


COUNTS = {
    "input_tokens": 10,
    "output_tokens": 20,
    "cache_read_input_tokens": 4,
    "cache_creation_input_tokens": 2,
    "output_tokens_details": {"thinking_tokens": 3},
}
USED = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
ANSWERS: dict[str, dict[str, Any]] = {
    "text": answer(text("Hello you")),
    "length": answer(text("a"), reason="max_tokens"),
    "text and call": answer(text("a"), USED, reason="tool_use"),
    "calls": answer(USED, {**USED, "id": "t2"}, reason="tool_use"),
    "call with a caller": answer({**USED, "caller": {"type": "direct"}}, reason="tool_use"),
    "thinking": answer(SIGNED, {"type": "redacted_thinking", "data": "d"}, text("a"), USED, reason="tool_use"),
    "container": answer(text("a"), container={"id": "c"}),
    "more usage": answer(
        text("a"), usage={**COUNTS, "server_tool_use": {"web_search_requests": 1}, "inference_geo": "us"}
    ),
    "call without input": answer({**USED, "input": {}}, reason="tool_use"),
    "call with letters": answer({**USED, "input": {"ü": 1}}, reason="tool_use"),
    "stop sequence": answer(text("a"), reason="stop_sequence", stop_sequence="X"),
    "refusal": answer(text("a"), reason="refusal"),
    "paused": answer(text("a"), reason="pause_turn"),
    "window": answer(text("a"), reason="model_context_window_exceeded"),
    "few counts": answer(text("a"), usage={"input_tokens": 1, "output_tokens": 2}),
    "cache lifetimes": answer(text("a"), usage={**COUNTS, "cache_creation": {"ephemeral_5m_input_tokens": 2}}),
    "compacted": answer(text("a"), usage={"input_tokens": 1, "output_tokens": 2, "iterations": [COUNTS, COUNTS]}),
    "citations": answer(text("a", citations=[{"url": "u"}])),
    "search": answer(
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"url": "u"}]},
        text("a"),
    ),
    "context": answer(text("a"), context_management={"applied_edits": []}),
    "unknown": answer({"type": "of_the_future", "x": 1}, text("a"), y=2),
}
NATIVE_WORD = "the provider's word is kept where ours says less"

# case -> the fields of the answer that differ, in generate and in stream, and why
OTHERWISE: dict[str, tuple[set[str], set[str], str]] = {
    "call without input": (set(), {"tool_calls"}, "litellm streams no arguments, which are no JSON"),
    "call with letters": (
        {"tool_calls"},
        set(),
        "litellm escapes them: a guard that looks for a word does not find it",
    ),
    "stop sequence": ({"provider_fields"}, {"provider_fields"}, NATIVE_WORD + ", and the sequence"),
    "refusal": ({"provider_fields"}, {"provider_fields"}, NATIVE_WORD),
    "paused": ({"finish_reason", "provider_fields"}, {"finish_reason", "provider_fields"}, "litellm: stop"),
    "window": ({"finish_reason", "provider_fields"}, {"finish_reason", "provider_fields"}, "litellm: stop"),
    "few counts": ({"usage"}, {"usage"}, "litellm counts 0 where the provider said nothing"),
    "cache lifetimes": ({"provider_fields"}, {"provider_fields"}, "litellm renames them"),
    "compacted": ({"provider_fields"}, {"provider_fields"}, "litellm leaves out the provider's own totals"),
    "citations": (
        {"provider_fields"},
        {"provider_fields"},
        "litellm adds the text they stand by, which no guard sees, and streams the last one only",
    ),
    "search": (
        {"tool_calls", "provider_fields", "finish_reason"},
        {"tool_calls", "provider_fields", "finish_reason"},
        "litellm takes what the server did for calls that the caller has to do",
    ),
    "context": (set(), {"provider_fields"}, "litellm loses it in streams"),
    "unknown": ({"provider_fields"}, {"provider_fields"}, "litellm loses it"),
}


@pytest.mark.parametrize("mode", ["generate", "stream"])
@pytest.mark.parametrize("case", ANSWERS)
def test_answers(stub: StubOpenAI, case: str, mode: str) -> None:
    message = ANSWERS[case]
    asked = {"messages": [USER], "api_base": stub.base_url.removesuffix("/v1"), "api_key": "k"}
    model = LiteLLMModel("anthropic", SONNET)
    if mode == "generate":
        stub.reply(raw=json.dumps(message).encode())
        ours, theirs = response_of(message), asyncio.run(model.generate(asked))
    else:
        events = list(events_of(message, [3]))
        stub.reply(raw=b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in events))
        ours, theirs = streamed(events), asyncio.run(collected(model, asked))
    theirs.id, theirs.created = ours.id, ours.created  # litellm makes both up
    differs = {one.name for one in fields(ours) if one.compare and getattr(ours, one.name) != getattr(theirs, one.name)}
    whole, in_stream, _ = OTHERWISE.get(case, (set(), set(), ""))
    assert differs == (whole if mode == "generate" else in_stream)


async def collected(model: LiteLLMModel, params: dict[str, Any]) -> Response:
    return await collect(model.stream(params))


@pytest.mark.parametrize("mode", ["generate", "stream"])
def test_a_json_answer_of_a_model_without_schemas(stub: StubOpenAI, mode: str) -> None:
    """The forced call is undone alike."""
    params = {"messages": [USER], **schema(SCHEMA)}
    message = answer({**USED, "name": "json_tool_call"}, reason="tool_use")
    asked = {**params, "api_base": stub.base_url.removesuffix("/v1"), "api_key": "k"}
    renamed, model = renamed_of(params, OLD), LiteLLMModel("anthropic", OLD)
    if mode == "generate":
        stub.reply(raw=json.dumps(message).encode())
        ours, theirs = response_of(message, renamed), asyncio.run(model.generate(asked))
    else:
        events = list(events_of(message, [3]))
        stub.reply(raw=b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in events))
        ours, theirs = streamed(events, renamed), asyncio.run(collected(model, asked))
    assert (ours.text, ours.tool_calls, ours.finish_reason) == ('{"a": 1}', [], "stop")
    assert (theirs.text, theirs.tool_calls, theirs.finish_reason) == (ours.text, [], "stop")

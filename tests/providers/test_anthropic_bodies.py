"""What is sent to the Messages API for each of many requests: the whole table of our own side, for which no other
driver is needed. `test_anthropic_differential` sends the same requests through litellm.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from neuro_mw.errors import BadRequest
from neuro_mw.providers._anthropic_requests import body_of

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
    "thinking, little room": (SONNET, {**THINK, "max_tokens": 1500}),  # with interleaved thinking it may be so
    "effort, little room": (SONNET, {"reasoning_effort": "high", "max_tokens": 2000}),
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

HI = {"role": "user", "content": [text("hi")]}
F = {"type": "custom", "name": "f", "description": "d", "input_schema": SCHEMA}
ASKED = {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}]}
TOLD = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "r"}]}
TOLD_TURNS = [HI, ASKED, TOLD]

# case -> what is sent beside the model: the keys that are others than in a plain request; None where it is refused
SENT: dict[str, dict[str, Any] | None] = {
    "plain": {},
    "plain, opus": {"max_tokens": 128000},
    "unknown model": {"max_tokens": 4096},
    "old model": {"max_tokens": 4096},
    "untold model": {"max_tokens": 128000},
    "max_tokens": {"max_tokens": 7},
    "max_completion_tokens": {"max_tokens": 7},
    "sampling": {"temperature": 0.2, "top_p": 0.3, "top_k": 4},
    "temperature, opus": None,
    "temperature 1, opus": {"temperature": 1, "max_tokens": 128000},
    "top_k, opus": None,
    "stop": {"stop_sequences": ["x"]},
    "stops": {"stop_sequences": ["x", "y"]},
    "no stops": {},
    "none": {},
    "n 1": {},
    "n": None,
    "seed": None,
    "functions": None,
    "logprobs": None,
    "logit_bias": None,
    "presence_penalty": None,
    "frequency_penalty": None,
    "modalities": None,
    "verbosity": None,
    "store": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": {},
    "service_tier": {"service_tier": "auto"},
    "unknown keys": {"foo": {"a": 1}, "inference_geo": "us", "container": "c"},
    "user": {"metadata": {"user_id": "u1"}},
    "user with a mail address": {},
    "metadata": {"metadata": {"user_id": "u2"}},
    "betas": {"anthropic-beta": "b-1"},
    "cache_control": {**CACHED},
    "context_management": {
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "anthropic-beta": "context-management-2025-06-27",
    },
    "mcp_servers": {
        "mcp_servers": [{"type": "url", "url": "https://a", "name": "n"}],
        "anthropic-beta": "mcp-client-2025-04-04",
    },
    "skills": {
        "container": {"skills": [{"type": "anthropic", "skill_id": "x"}]},
        "anthropic-beta": "skills-2025-10-02",
    },
    "speed": {"speed": "fast", "max_tokens": 128000, "anthropic-beta": "fast-mode-2026-02-01"},
    "speed, sonnet": None,
    "system first": {"system": [text("D"), text("S")]},
    "system parts": {"system": [text("S", **CACHED), text("T")]},
    "system cached": {"system": [text("S", **CACHED)]},
    "system later": {
        "messages": [
            {
                "role": "user",
                "content": [
                    text("hi"),
                    text("[What follows is a system message that was sent at this point of the conversation.]"),
                    text("S"),
                ],
            },
            {"role": "assistant", "content": [text("x")]},
        ]
    },
    "system later, opus": {
        "max_tokens": 128000,
        "messages": [
            HI,
            {"role": "system", "content": [text("S")]},
            {"role": "assistant", "content": [text("x ")]},
            HI,
            {"role": "system", "content": [text("T")]},
        ],
    },
    "system amid tools, opus": {
        "max_tokens": 128000,
        "tools": [F],
        "messages": [HI, ASKED, TOLD, {"role": "system", "content": [text("S")]}],
    },
    "system only": None,
    "merging": {
        "messages": [
            {"role": "user", "content": [text("hi"), text("hi")]},
            {"role": "assistant", "content": [text("a"), text("a")]},
        ]
    },
    "cached message": {"messages": [{"role": "user", "content": [text("hi", **CACHED)]}]},
    "cached part": {"messages": [{"role": "user", "content": [text("a", **CACHED), text("b")]}]},
    "empty": {
        "messages": [
            HI,
            {"role": "assistant", "content": [text("a")]},
            {"role": "user", "content": [text("(empty message)")]},
        ]
    },
    "images": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="},
                        **CACHED,
                    },
                ],
            }
        ]
    },
    "pdf as image": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="}}
                ],
            }
        ]
    },
    "files": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="}},
                    {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
                    {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
                    {"type": "document", "source": {"type": "url", "url": "https://a/b.pdf"}},
                    {"type": "container_upload", "file_id": "file_2"},
                ],
            }
        ],
        "anthropic-beta": "files-api-2025-04-14",
    },
    "file with a name": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "document",
                        "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="},
                        "title": "a.pdf",
                    }
                ],
            }
        ]
    },
    "document": {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "document", "source": {"type": "url", "url": "https://a/b"}, "title": "t"}],
            }
        ]
    },
    "native image": {
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://a/b"}}, text("a")]}
        ]
    },
    "audio": None,
    "prefill": {"messages": [HI, {"role": "assistant", "content": [text("so")]}]},
    "tools": {"tools": [F]},
    "tool cached": {"tools": [{**F, **CACHED}]},
    "tool without parameters": {
        "tools": [{"type": "custom", "name": "g", "input_schema": {"properties": {}, "type": "object"}}]
    },
    "tool deferred": {
        "tools": [{**F, "defer_loading": True, "allowed_callers": ["code_execution_20250825"]}],
        "anthropic-beta": "advanced-tool-use-2025-11-20",
    },
    "strict tool": {
        "tools": [
            {
                "type": "custom",
                "name": "f",
                "input_schema": {
                    "properties": {"a": {"type": "integer"}},
                    "type": "object",
                    "required": ["a"],
                    "additionalProperties": False,
                },
                "description": "d",
                "strict": True,
            }
        ]
    },
    "tool with a rich schema": {
        "tools": [
            {
                "type": "custom",
                "name": "g",
                "input_schema": {
                    "properties": {"a": {"type": "integer"}},
                    "type": "object",
                    "required": ["a"],
                    "title": "G",
                },
            }
        ]
    },
    "native tool": {
        "tools": [
            {
                "name": "g",
                "description": "d",
                "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            }
        ]
    },
    "hosted tools": {
        "tools": [
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
            {"type": "code_execution_20250825", "name": "code_execution"},
            {"type": "memory_20250818", "name": "memory"},
            {"type": "web_fetch_20250910", "name": "web_fetch"},
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        ],
        "anthropic-beta": "code-execution-2025-08-25,context-management-2025-06-27,web-fetch-2025-09-10",
    },
    "computer": {
        "tools": [{"type": "computer_20250124", "name": "computer", "display_width_px": 1, "display_height_px": 2}],
        "anthropic-beta": "computer-use-2025-01-24",
    },
    "web_search_options": {
        "tools": [
            {
                "type": "web_search_20250305",
                "name": "web_search",
                "user_location": {"city": "Bern", "type": "approximate"},
                "max_uses": 1,
            }
        ]
    },
    "odd names": {
        "tools": [
            {"type": "custom", "name": "a_b_2", "input_schema": {"properties": {}, "type": "object"}},
            {"type": "custom", "name": "a_b", "input_schema": {"properties": {}, "type": "object"}},
            {"type": "custom", "name": "a_b_3", "input_schema": {"properties": {}, "type": "object"}},
        ],
        "tool_choice": {"type": "tool", "name": "a_b_3"},
        "messages": [
            HI,
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "a_b_2", "input": {}}]},
            TOLD,
        ],
    },
    "choice auto": {"tools": [F], "tool_choice": {"type": "auto"}},
    "choice none": {"tools": [F], "tool_choice": {"type": "none"}},
    "choice required": {"tools": [F], "tool_choice": {"type": "any", "disable_parallel_tool_use": False}},
    "choice named": {"tools": [F], "tool_choice": {"type": "tool", "name": "f"}},
    "choice native": {"tools": [F], "tool_choice": {"type": "tool", "name": "f"}},
    "choice forced": None,
    "parallel": {"tools": [F], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    "tool turns": {"tools": [F], "messages": TOLD_TURNS},
    "tool turns without tools": {
        "tools": [{"name": "dummy_tool", "type": "custom", "input_schema": {"type": "object", "properties": {}}}],
        "messages": TOLD_TURNS,
    },
    "tool results in parts": {
        "tools": [F],
        "messages": [
            HI,
            ASKED,
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c1",
                        "content": [
                            text("r"),
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="}},
                            {
                                "type": "document",
                                "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="},
                            },
                        ],
                        **CACHED,
                    }
                ],
            },
        ],
    },
    "tool error": {
        "tools": [F],
        "messages": [
            HI,
            ASKED,
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "r", "is_error": True}],
            },
        ],
    },
    "call cached": {
        "tools": [F],
        "messages": [
            HI,
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}, **CACHED}],
            },
            TOLD,
        ],
    },
    "odd ids": {
        "tools": [F],
        "messages": [
            HI,
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c_1", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c_1", "content": "r"}]},
        ],
    },
    "no arguments": {
        "tools": [F],
        "messages": [
            HI,
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {}}]},
            TOLD,
        ],
    },
    "broken arguments": None,
    "cut arguments": None,
    "json schema": {
        "output_format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"a": {"type": "integer"}},
                "required": ["a"],
                "additionalProperties": False,
            },
        },
        "anthropic-beta": "structured-outputs-2025-11-13",
    },
    "json schema, opus": {
        "max_tokens": 128000,
        "output_format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"a": {"type": "integer"}},
                "required": ["a"],
                "additionalProperties": False,
            },
        },
        "anthropic-beta": "structured-outputs-2025-11-13",
    },
    "json schema, old": {
        "max_tokens": 4096,
        "tools": [
            {
                "name": "json_tool_call",
                "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            }
        ],
        "tool_choice": {"type": "tool", "name": "json_tool_call"},
    },
    "json schema and tools, old": {
        "max_tokens": 4096,
        "tools": [
            {
                "name": "json_tool_call",
                "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            },
            F,
        ],
        "tool_choice": {"type": "tool", "name": "json_tool_call"},
    },
    "json schema, untold model": {
        "max_tokens": 128000,
        "output_format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"a": {"type": "integer"}},
                "required": ["a"],
                "additionalProperties": False,
            },
        },
        "anthropic-beta": "structured-outputs-2025-11-13",
    },
    "json schema of choices": {
        "output_format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
                "additionalProperties": False,
            },
        },
        "anthropic-beta": "structured-outputs-2025-11-13",
    },
    "json schema with constraints": {
        "output_format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"a": {"type": "integer", "description": "A. (minimum: 1)"}},
                "additionalProperties": False,
            },
        },
        "anthropic-beta": "structured-outputs-2025-11-13",
    },
    "json schema with references": {
        "output_format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"a": {"$ref": "#/$defs/A"}},
                "$defs": {"A": {"type": "integer"}},
                "additionalProperties": False,
            },
        },
        "anthropic-beta": "structured-outputs-2025-11-13",
    },
    "json object": {},
    "text format": {},
    "thinking": {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 6096},
    "thinking, opus": {"output_config": {"effort": "high"}, "thinking": {"type": "adaptive"}, "max_tokens": 128000},
    "thinking, 4.6": {"thinking": {"type": "enabled", "budget_tokens": 5000}, "max_tokens": 9096},
    "thinking, old": None,
    "thinking, unknown model": {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 6096},
    "thinking adaptive": {"thinking": {"type": "adaptive"}, "max_tokens": 128000},
    "thinking adaptive, sonnet": {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 6144},
    "thinking adaptive, little room": {"thinking": {"type": "enabled", "budget_tokens": 1499}, "max_tokens": 1500},
    "thinking adaptive, no room": {"max_tokens": 500},
    "thinking, little room": {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 1500},
    "effort, little room": {"thinking": {"type": "enabled", "budget_tokens": 1999}, "max_tokens": 2000},
    "thinking disabled": {"thinking": {"type": "disabled"}},
    "thinking disabled, always on": {"max_tokens": 128000},
    "effort none": {},
    "effort minimal": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 5120},
    "effort low": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 5120},
    "effort max": {"thinking": {"type": "enabled", "budget_tokens": 16384}, "max_tokens": 20480},
    "effort odd": None,
    "effort none, opus": {"max_tokens": 128000},
    "effort minimal, opus": {
        "output_config": {"effort": "low"},
        "thinking": {"type": "adaptive", "display": "summarized"},
        "max_tokens": 128000,
    },
    "effort high, opus": {
        "output_config": {"effort": "high"},
        "thinking": {"type": "adaptive", "display": "summarized"},
        "max_tokens": 128000,
    },
    "effort xhigh, opus": {
        "output_config": {"effort": "xhigh"},
        "thinking": {"type": "adaptive", "display": "summarized"},
        "max_tokens": 128000,
    },
    "effort odd, opus": None,
    "effort xhigh, 4.6": None,
    "effort with a summary": {
        "output_config": {"effort": "low"},
        "thinking": {"type": "adaptive", "display": "summarized"},
        "max_tokens": 128000,
    },
    "effort, unknown model": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 5120},
    "effort in output_config": {"output_config": {"effort": "low"}, "anthropic-beta": "effort-2025-11-24"},
    "signed turns": {
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "max_tokens": 6096,
        "tools": [F],
        "messages": [
            HI,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
                ],
            },
            TOLD,
        ],
    },
    "unsigned turns": {"max_tokens": 6096, "tools": [F], "messages": TOLD_TURNS},
    "unsigned blocks": {"tools": [F], "messages": TOLD_TURNS},
}


def sent_for(model: str, params: dict[str, Any], *, stream: bool) -> dict[str, Any] | None:
    before = copy.deepcopy(params)
    try:
        body, headers = body_of(params, model, stream=stream)
    except BadRequest:
        return None
    finally:
        assert params == before
    assert body.pop("model") == model
    assert body.pop("stream", False) is stream
    assert headers.keys() <= {"anthropic-beta"}
    plain = {"max_tokens": 64_000, "messages": [HI]}
    return {name: value for name, value in {**body, **headers}.items() if value != plain.get(name)}


@pytest.mark.parametrize("stream", [False, True], ids=["generate", "stream"])
@pytest.mark.parametrize("case", REQUESTS)
def test_body(case: str, stream: bool) -> None:
    model, params = REQUESTS[case]
    assert sent_for(model, {"messages": [USER], **params}, stream=stream) == SENT[case]


def test_each_case_is_in_the_table() -> None:
    assert SENT.keys() == REQUESTS.keys()

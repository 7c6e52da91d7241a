"""Bodies of chat-completions requests: what is said otherwise for a provider, and that all else is passed on."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from chat_cases import CASES, SAID_OTHERWISE, every_request, expected_body, is_meant
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw.providers._chat_requests import body_of

USER = {"role": "user", "content": "hello"}
MARK = {"cache_control": {"type": "ephemeral"}}
PDF = {"type": "file", "file": {"file_id": "file-1"}}
CLOUDS = ["openai", "azure", "groq", "mistral", "deepseek", "together", "fireworks", "openrouter", "xai", "perplexity"]
PROVIDERS = [*CLOUDS, "vllm", "lm_studio", "llama_cpp", "ollama", "my_server"]

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "file", "odd"])},
    optional={"text": st.text(), "image_url": json, "file": json, "cache_control": json},
)
messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
        "content": st.none() | st.text() | st.lists(parts, max_size=3),
    },
    optional={"name": st.text(), "tool_calls": json, "cache_control": json, "reasoning_content": json, "odd": json},
)
tools = st.fixed_dictionaries({}, optional={"type": st.text(), "function": json, "cache_control": json, "strict": json})
requests = st.fixed_dictionaries(
    {"messages": st.lists(messages, max_size=4)},
    optional={
        "tools": st.lists(tools, max_size=2),
        "tool_choice": json,
        "max_tokens": json,
        "max_completion_tokens": json,
        "reasoning_effort": st.sampled_from(["none", "low", None]),
        "seed": json,
        "odd": json,
    },
)


def one(provider: str, message: dict[str, Any], model: str = "m") -> Any:
    sent = body_of(provider, model, {"messages": [USER, message]}, stream=False)["messages"][1:]
    return sent[0] if sent else None


def sent(provider: str, model: str = "m", **params: Any) -> dict[str, Any]:
    body = body_of(provider, model, params, stream=False)
    assert body.pop("model") == model
    return body


@given(provider=st.sampled_from(PROVIDERS), params=requests, stream=st.booleans())
def test_params_stay_as_they_are(provider: str, params: dict[str, Any], stream: bool) -> None:
    before = copy.deepcopy(params)
    body = body_of(provider, "gpt-5", params, stream=stream)
    assert params == before
    assert body.get("odd") == params.get("odd")
    again = body_of(provider, "gpt-5", body, stream=stream)  # what is said in the provider's words is not said again
    assert again == body


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_usual_request_is_passed_on(provider: str) -> None:
    params = {"messages": [{"role": "system", "content": "x"}, USER], "temperature": 0, "odd": {"deep": [1, None]}}
    body = body_of(provider, "accounts/a/models/m", params, stream=False)
    assert body == {**params, "model": "accounts/a/models/m"}
    assert body["messages"][1] is USER


def test_unknown_servers_get_what_was_said() -> None:
    message = {"role": "assistant", "content": [{"type": "text", "text": "a", **MARK}], **MARK, "thinking_blocks": []}
    assert one("my_server", message) == message
    assert sent("my_server", "gpt-5", max_tokens=5, reasoning_effort="none") == {
        "max_tokens": 5, "reasoning_effort": "none"
    }  # fmt: skip


def test_streams_ask_for_their_usage() -> None:
    def options(provider: str, **params: Any) -> Any:
        body = body_of(provider, "m", params, stream=True)
        assert body["stream"] is True
        return body.get("stream_options")

    assert options("openai") == {"include_usage": True}
    assert options("openai", stream_options={"include_usage": False}) == {"include_usage": False}
    assert options("mistral") is options("perplexity") is None
    assert options("mistral", stream_options={"x": 1}) == {"x": 1}
    assert sent("openai", stream=True, stream_options={"include_usage": True}) == {}


def test_nothing_is_none() -> None:
    assert sent("openai", tools=None, tool_choice=None, odd=None) == {}
    message = {"role": "assistant", "content": None, "tool_calls": [1], "refusal": None, "odd": {"deep": None}}
    assert one("openai", message) == {
        "role": "assistant", "content": None, "tool_calls": [1], "odd": {"deep": None}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("o1", "max_completion_tokens"),
        ("o3-mini", "max_completion_tokens"),
        ("openai/o4-mini", "max_completion_tokens"),
        ("gpt-5-mini", "max_completion_tokens"),
        ("openai/gpt-5.1", "max_completion_tokens"),
        ("gpt-5-chat-latest", "max_tokens"),
        ("gpt-4o", "max_tokens"),
        ("ft:gpt-4o-mini:x::y", "max_tokens"),
        ("phi-o1", "max_tokens"),
    ],
)
def test_the_limit_of_reasoning_models(model: str, name: str) -> None:
    assert sent("openai", model, max_tokens=5) == {name: 5}
    both = {"max_tokens": 5, "max_completion_tokens": 6}
    assert sent("openai", model, **both) == ({name: 6} if name == "max_completion_tokens" else both)
    assert sent("openrouter", model, max_tokens=5) == {"max_tokens": 5}  # OpenRouter knows what its models take


@pytest.mark.parametrize("model", ["my-o3", "team-gpt-5-chat", "o1"])
def test_the_limit_of_deployments(model: str) -> None:
    assert sent("azure", model, max_tokens=5) == {"max_completion_tokens": 5}


@pytest.mark.parametrize("provider", ["mistral", "xai"])
def test_the_limit_has_one_name(provider: str) -> None:
    assert sent(provider, max_completion_tokens=6, max_tokens=5) == {"max_tokens": 6}
    assert sent(provider, max_tokens=5) == {"max_tokens": 5}


@pytest.mark.parametrize(
    ("provider", "params", "expected"),
    [
        ("mistral", {"seed": 3}, {"random_seed": 3}),
        ("mistral", {"seed": 3, "random_seed": 4}, {"random_seed": 4}),
        ("mistral", {"tool_choice": "required"}, {"tool_choice": "any"}),
        ("mistral", {"tool_choice": {"type": "function"}}, {"tool_choice": {"type": "function"}}),
        ("openrouter", {"reasoning_effort": "max"}, {"reasoning_effort": "xhigh"}),
        ("deepseek", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        ("deepseek", {"reasoning_effort": "none", "thinking": {"type": "enabled"}}, {"thinking": {"type": "enabled"}}),
        ("deepseek", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ("together", {"reasoning_effort": "none"}, {"reasoning": {"enabled": False}}),
        ("openai", {"reasoning_effort": "none"}, {"reasoning_effort": "none"}),
    ],
)
def test_other_words(provider: str, params: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sent(provider, **params) == expected


@pytest.mark.parametrize(
    ("provider", "message", "expected"),
    [
        ("groq", {"role": "developer", "content": "x"}, {"role": "system", "content": "x"}),
        ("mistral", {**USER, "name": "u"}, USER),
        ("mistral", {"role": "tool", "content": "x", "name": "f"}, {"role": "tool", "content": "x", "name": "f"}),
        ("xai", {**USER, "name": "u"}, {**USER, "name": "u"}),
        ("xai", {"role": "assistant", "content": "x", "name": "a"}, {"role": "assistant", "content": "x"}),
        ("mistral", {"role": "assistant", "content": ""}, None),
        ("openai", {"role": "assistant", "content": ""}, {"role": "assistant", "content": ""}),
        (
            "mistral",
            {"role": "user", "content": [PDF]},
            {"role": "user", "content": [{"type": "file", "file_id": "file-1"}]},
        ),
        ("openai", {"role": "user", "content": [PDF]}, {"role": "user", "content": [PDF]}),
        ("deepseek", {"role": "user", "content": []}, {"role": "user", "content": ""}),
        ("deepseek", {"role": "user", "content": [PDF]}, {"role": "user", "content": [PDF]}),
        ("openai", {"role": "user", "content": ["odd"]}, {"role": "user", "content": ["odd"]}),
    ],
)
def test_messages(provider: str, message: dict[str, Any], expected: Any) -> None:
    assert one(provider, message) == expected


def test_developers_of_the_o_series() -> None:
    message = {"role": "developer", "content": "x"}
    assert one("openai", message, "o3-mini") == message
    assert one("openai", message, "gpt-5") == {"role": "system", "content": "x"}


@pytest.mark.parametrize(
    ("provider", "key"),
    [("mistral", "reasoning_content"), *((name, "thinking_blocks") for name in ("together", "fireworks", "vllm"))],
)
def test_keys_of_answers_that_are_not_taken_back(provider: str, key: str) -> None:
    assert one(provider, {"role": "assistant", "content": "x", key: "y"}) == {"role": "assistant", "content": "x"}
    assert one("deepseek", {"role": "assistant", "content": "x", key: "y"})[key] == "y"


def test_marks_for_caching() -> None:
    marked = {"role": "system", "content": [{"type": "text", "text": "x", **MARK}], **MARK}
    plain = {"role": "system", "content": [{"type": "text", "text": "x"}]}
    assert one("groq", marked) == one("openrouter", marked) == plain
    assert one("openai", marked) == marked
    assert body_of("openai", "m", {"messages": [marked]}, stream=False, at_openai=True)["messages"] == [plain]
    inside = {"role": "system", "content": plain["content"] + [{"type": "text", "text": "y", **MARK}]}
    outside = {"role": "system", "content": plain["content"] + [{"type": "text", "text": "y"}], **MARK}
    assert one("openrouter", outside, "anthropic/claude-3.7-sonnet") == inside
    text = {"role": "system", "content": "x", **MARK}
    assert one("openrouter", text, "google/gemini-2") == {
        "role": "system",
        "content": [{"type": "text", "text": "x", **MARK}],
    }
    tool = {"type": "function", "function": {"name": "f"}, **MARK}
    assert sent("groq", tools=[tool])["tools"] == [{"type": "function", "function": {"name": "f"}}]
    assert sent("openai", tools=[tool])["tools"] == [tool]


def test_strict_tools() -> None:
    tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {}}}
    bare = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert sent("xai", tools=[tool])["tools"] == [bare]
    assert sent("openai", tools=[tool])["tools"] == [tool]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("deepseek-v3p1", "accounts/fireworks/models/deepseek-v3p1"),
        ("models/x", "accounts/fireworks/models/x"),
        ("routers/x", "accounts/fireworks/routers/x"),
        ("glm-fast", "accounts/fireworks/routers/glm-fast"),
        ("firerouter/x", "accounts/fireworks/routers/firerouter/x"),
        ("auto", "accounts/fireworks/routers/auto"),
        ("automatic", "accounts/fireworks/models/automatic"),
        ("accounts/me/models/x", "accounts/me/models/x"),
        ("x#deployment", "x#deployment"),
    ],
)
def test_names_of_fireworks(model: str, expected: str) -> None:
    assert body_of("fireworks", model, {}, stream=False) == {"model": expected}


@pytest.mark.parametrize(
    ("provider", "same"),
    [("together_ai", "together"), ("fireworks_ai", "fireworks"), ("hosted_vllm", "vllm"), ("llamafile", "llama_cpp")],
)
def test_other_names_of_a_provider(provider: str, same: str) -> None:
    params = {
        "messages": [{"role": "assistant", "content": "x", "thinking_blocks": [1], **MARK}],
        "max_completion_tokens": 5,
        "reasoning_effort": "none",
    }
    assert body_of(provider, "m", params, stream=True) == body_of(same, "m", params, stream=True)


def test_messages_of_other_types_are_passed_on() -> None:
    odd = object()
    assert body_of("mistral", "m", {"messages": [odd]}, stream=False)["messages"] == [odd]


@pytest.mark.parametrize(("name", "case", "mode"), [pytest.param(*one, id="-".join(one)) for one in every_request()])
def test_what_is_sent_is_what_was_said(name: str, case: str, mode: str) -> None:
    provider, _, model = name.partition("/")
    before = copy.deepcopy(CASES[case])
    assert body_of(provider, model, CASES[case], stream=mode == "stream") == expected_body(name, case, mode)
    assert CASES[case] == before


def test_every_entry_of_the_table_says_something() -> None:
    """Without it another body would be expected somewhere."""
    for entry in SAID_OTHERWISE:
        met = [one for one in every_request() if one[1] in entry.cases.split("|") and is_meant(one[0], entry.where)]
        others = [one for one in SAID_OTHERWISE if one is not entry]
        assert any(expected_body(*one) != expected_body(*one, others) for one in met), entry

"""Requests of every kind, each model they are tried with, and what the native driver sends for them.

`test_chat_requests` holds the table to the translation, `test_differential` to what arrives over HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from asked import MODES

USER = {"role": "user", "content": "hello"}
SYSTEM = {"role": "system", "content": "be brief"}
SAID = {"role": "assistant", "content": "hi"}
MARK = {"cache_control": {"type": "ephemeral"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}
STRICT = {"type": "function", "function": {"name": "g", "strict": True, "parameters": SCHEMA}}
SQL = {"type": "custom", "custom": {"name": "sql"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": "b"}'}}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}}
PDF = {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}


def text(said: str = "hello", **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def says(*parts: dict[str, Any]) -> dict[str, Any]:
    return talk({"role": "user", "content": [text(), *parts]})


def talk(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def image(url: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": url}


def ask(**more: Any) -> dict[str, Any]:
    return talk(USER, **more)


CASES: dict[str, dict[str, Any]] = {
    "plain": ask(),
    "sampling": ask(temperature=0.5, top_p=0.9, presence_penalty=0.1, frequency_penalty=0.2),
    "zeros": ask(temperature=0, presence_penalty=0.0),
    "nulls": ask(temperature=None, tools=None, unheard_of=None),
    "max_tokens": ask(max_tokens=5),
    "max_completion_tokens": ask(max_completion_tokens=5),
    "both limits": ask(max_tokens=5, max_completion_tokens=6),
    "reasoning_effort": ask(reasoning_effort="low"),
    "reasoning_effort none": ask(reasoning_effort="none"),
    "reasoning_effort max": ask(reasoning_effort="max"),
    "stop": ask(stop="x"),
    "stops": ask(stop=["x", "y"]),
    "seed": ask(seed=3),
    "n": ask(n=2),
    "user": ask(user="u"),
    "logprobs": ask(logprobs=True, top_logprobs=2),
    "logit_bias": ask(logit_bias={"1": 1}),
    "tools": ask(tools=[TOOL, STRICT], tool_choice="auto", parallel_tool_calls=False),
    "tool_choice none": ask(tools=[TOOL], tool_choice="none"),
    "tool_choice required": ask(tools=[TOOL], tool_choice="required"),
    "tool_choice function": ask(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "f"}}),
    "tool_choice alone": ask(tool_choice="auto"),
    "marked tool": ask(tools=[{**TOOL, **MARK}]),
    "custom tool": ask(tools=[TOOL, SQL]),
    "tool result": talk(
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "done"},
        tools=[TOOL],
    ),
    "tool result in parts": talk(
        USER,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": [text("a"), text("b")]},
    ),
    "image": says(image({"url": "https://x.test/a.png", "detail": "low"})),
    "image as string": says(image("https://x.test/a.png")),
    "image data": says(image({"url": "data:image/png;base64,iVBORw0KGgo="})),
    "audio part": says({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
    "file data": says({"type": "file", "file": PDF}),
    "file id": says({"type": "file", "file": {"file_id": "file-1"}}),
    "json_object": ask(response_format={"type": "json_object"}),
    "json_schema": ask(response_format=JSON_SCHEMA),
    "json_schema and tools": ask(response_format=JSON_SCHEMA, tools=[TOOL]),
    "system": talk(SYSTEM, USER),
    "developer": talk({"role": "developer", "content": "be brief"}, USER),
    "several systems": talk(SYSTEM, SYSTEM, USER),
    "system in the middle": talk(USER, SAID, SYSTEM, USER),
    "names": talk({**SYSTEM, "name": "s"}, {**USER, "name": "u"}, {**SAID, "name": "a"}, USER),
    "prefill": talk(USER, {"role": "assistant", "content": "I"}),
    "marked prefill": talk(USER, {"role": "assistant", "content": "I", "prefix": True}),
    "text parts": talk({"role": "system", "content": [text("s")]}, {"role": "user", "content": [text("a"), text("b")]}),
    "assistant in parts": talk(USER, {"role": "assistant", "content": [text("a"), text("b")]}, USER),
    "empty assistant": talk(USER, {"role": "assistant", "content": ""}, USER),
    "marked part": talk({"role": "system", "content": [text("s", **MARK)]}, USER),
    "marked message": talk({**SYSTEM, **MARK}, USER),
    "reasoning_content": talk(USER, {**SAID, "reasoning_content": "hm"}, USER),
    "reasoning_details": talk(USER, {**SAID, "reasoning": "hm", "reasoning_details": [{"text": "hm"}]}, USER),
    "thinking_blocks": talk(USER, {**SAID, "thinking_blocks": [THOUGHT]}, USER),
    "nulls in messages": talk(USER, {**SAID, "refusal": None, "tool_calls": None}, USER),
    "unknown keys": ask(unheard_of={"deep": [1, None]}, top_k=4, min_p=0.1, repetition_penalty=1.1),
    "unknown keys in messages": talk({**USER, "unheard_of": 1}, {**SAID, "unheard_of": {"deep": None}}, USER),
    "metadata": ask(metadata={"a": "b"}),
    "store": ask(store=True),
    "service_tier": ask(service_tier="flex"),
    "prediction": ask(prediction={"type": "content", "content": "x"}),
    "modalities": ask(modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"}),
    "stream_options": ask(stream_options={"include_usage": False}),
    "safety_identifier": ask(safety_identifier="s", prompt_cache_key="k"),
    "verbosity": ask(verbosity="low"),
    "web_search_options": ask(web_search_options={"search_context_size": "low"}),
    "thinking": ask(thinking={"type": "enabled"}),
    "thinking off": ask(thinking={"type": "disabled"}),
    "thinking and history": talk(USER, SAID, USER, thinking={"type": "enabled"}),
    "functions": ask(functions=[TOOL["function"]], function_call="auto"),
    "of openrouter": ask(
        provider={"order": ["x"]}, route="fallback", transforms=["middle-out"], models=["a/b"], usage={"include": False}
    ),
    "of groq": ask(reasoning_format="parsed", include_reasoning=True),
    "of mistral": ask(safe_prompt=True, random_seed=7, prompt_mode="reasoning"),
    "of xai": ask(search_parameters={"mode": "auto"}),
    "of perplexity": ask(search_domain_filter=["x.test"], return_images=True),
    "of vllm": ask(guided_json=SCHEMA, chat_template_kwargs={"enable_thinking": False}),
}

MODELS = {
    "openai": "gpt-4o-mini",
    "groq": "llama-3.3-70b-versatile",
    "mistral": "mistral-large-latest",
    "deepseek": "deepseek-chat",
    "together": "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "fireworks": "accounts/fireworks/models/deepseek-v3p1",
    "openrouter": "meta-llama/llama-3.3-70b-instruct",
    "xai": "grok-3",
    "perplexity": "sonar",
    "vllm": "some/model",
    "lm_studio": "some-model",
    "llama_cpp": "some-model",
    "ollama": "some-model",
    "azure": "gpt-4o-mini",
}
LIMITS = ["plain", "max_tokens", "max_completion_tokens", "both limits"]
REASONING = [*LIMITS, "sampling", "zeros", "reasoning_effort", "reasoning_effort none", "system", "developer", "tools"]
MARKED = ["plain", "marked part", "marked message", "marked tool"]
EFFORTS = ["reasoning_effort", "reasoning_effort none", "thinking"]
# models that a provider treats in a way of their own, each with the cases that could show it
OTHERS: dict[str, list[str]] = {
    **{
        f"openai/{model}": [*REASONING, "json_schema", "verbosity", "stop"]
        for model in ("o1", "o3-mini", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.1", "gpt-5-chat-latest", "gpt-4.1")
    },
    **{f"openai/{model}": REASONING for model in ("openai/gpt-5", "openai/o3-mini", "some-model", "o1-mini")},
    **{f"azure/{model}": REASONING for model in ("o1", "o3-mini", "my-o3", "gpt-5", "my-gpt-5", "gpt-5-chat")},
    **{f"openrouter/{model}": [*MARKED, "max_tokens", "both limits"] for model in ("openai/gpt-5", "x/auto")},
    "openrouter/anthropic/claude-3.7-sonnet": MARKED,
    **{f"mistral/{model}-latest": EFFORTS for model in ("magistral-medium", "mistral-medium")},
    "deepseek/deepseek-reasoner": [*EFFORTS, "thinking and history", "image"],
    **{f"groq/{model}": ["json_schema", "web_search_options"] for model in ("openai/gpt-oss-120b", "compound")},
    **{f"together/{model}": EFFORTS for model in ("openai/gpt-oss-120b", "Qwen/Qwen3.5-9B")},
    **{f"fireworks/{model}": ["plain", "max_tokens"] for model in ("deepseek-v3p1", "glm-fast", "models/x", "auto")},
    "fireworks/accounts/me/models/x": ["plain"],
    **{f"xai/{model}": ["plain", "stop", "sampling", "max_tokens"] for model in ("grok-4", "grok-3-mini")},
}
REQUESTS = [
    *((f"{provider}/{model}", case) for provider, model in MODELS.items() for case in CASES),
    *((model, case) for model, cases in OTHERS.items() for case in cases),
]


def is_meant(name: str, where: str) -> bool:
    """Whether a model, "provider/model", is among those that `where` names.

    These are providers (with their model in MODELS), single models, all other models of a provider ("*provider"), or
    all of all ("*").
    """
    provider, _, model = name.partition("/")
    group = provider if MODELS[provider] == model else f"*{provider}"
    return not {name, group, "*"}.isdisjoint(where.split())


# --- what the native driver sends ---------------------------------------------------------------------------------

GONE = object()


class Sent(NamedTuple):
    """What is not sent as it was given: values of the body, or GONE. ``cases`` are cut by "|"; later entries count."""

    cases: str
    where: str
    body: dict[str, Any]
    modes: str = "generate stream"


EVERY_CASE = "|".join(CASES)
O_SERIES = " ".join(
    [
        *(f"openai/{model}" for model in ("o1", "o3-mini", "o4-mini", "o1-mini", "openai/o3-mini")),
        *(f"azure/{model}" for model in ("o1", "o3-mini", "my-o3")),
    ]
)
REASONERS = " ".join(
    [
        O_SERIES,
        *(f"openai/{model}" for model in ("gpt-5", "gpt-5-mini", "gpt-5.1", "openai/gpt-5")),
        *(f"azure/{model}" for model in ("gpt-5", "my-gpt-5", "gpt-5-chat")),
    ]
)
ALL_BUT_STREAM_OPTIONS = "|".join(case for case in CASES if case != "stream_options")
PLAIN_STRICT = {"type": "function", "function": {"name": "g", "parameters": SCHEMA}}
SAID_OTHERWISE = [
    Sent("nulls", "*", {"temperature": GONE, "tools": GONE, "unheard_of": GONE}),
    Sent("stream_options", "*", {"stream_options": GONE}, "generate"),
    Sent(
        ALL_BUT_STREAM_OPTIONS,
        "*",
        {"stream_options": {"include_usage": True}},
        "stream",
    ),
    Sent(
        ALL_BUT_STREAM_OPTIONS,
        "mistral *mistral perplexity",
        {"stream_options": GONE},
    ),
    Sent("max_tokens", REASONERS, {"max_tokens": GONE, "max_completion_tokens": 5}),
    Sent("both limits", REASONERS, {"max_tokens": GONE}),
    Sent("max_completion_tokens", "mistral fireworks xai", {"max_tokens": 5, "max_completion_tokens": GONE}),
    Sent("both limits", "mistral fireworks xai", {"max_tokens": 6, "max_completion_tokens": GONE}),
    Sent("seed", "mistral", {"seed": GONE, "random_seed": 3}),
    Sent("tool_choice required", "mistral fireworks", {"tool_choice": "any"}),
    Sent("reasoning_effort max", "openrouter", {"reasoning_effort": "xhigh"}),
    Sent(
        "reasoning_effort none",
        "deepseek *deepseek",
        {"reasoning_effort": GONE, "thinking": {"type": "disabled"}},
    ),
    Sent("reasoning_effort none", "together *together", {"reasoning_effort": GONE, "reasoning": {"enabled": False}}),
    Sent("tools", "fireworks xai", {"tools": [TOOL, PLAIN_STRICT]}),
    Sent("developer", "*", talk(SYSTEM, USER)),
    Sent("developer", O_SERIES, CASES["developer"]),
    Sent("image as string", "*", says(image({"url": "https://x.test/a.png"}))),
    Sent("nulls in messages", "*", talk(USER, SAID, USER)),
    Sent("thinking_blocks", "groq mistral together fireworks vllm", talk(USER, SAID, USER)),
    Sent("reasoning_content", "groq mistral", talk(USER, SAID, USER)),
    Sent(
        "tool result",
        "xai",
        talk(*CASES["tool result"]["messages"][:2], {"role": "tool", "tool_call_id": "c1", "content": "done"}),
    ),
    Sent("names", "xai", talk(SYSTEM, {**USER, "name": "u"}, SAID, USER)),
    Sent("names", "mistral", talk(SYSTEM, USER, SAID, USER)),
    Sent("empty assistant", "mistral", talk(USER, USER)),
    Sent("file id", "mistral", says({"type": "file", "file_id": "file-1"})),
    Sent("text parts", "deepseek", talk({"role": "system", "content": "s"}, {"role": "user", "content": "ab"})),
    Sent("assistant in parts", "deepseek", talk(USER, {"role": "assistant", "content": "ab"}, USER)),
    Sent(
        "tool result in parts",
        "deepseek",
        talk(*CASES["tool result in parts"]["messages"][:2], {"role": "tool", "tool_call_id": "c1", "content": "ab"}),
    ),
]
_UNMARKED = " ".join([name for name in MODELS if name not in ("openai", "azure")] + ["*openrouter"])
SAID_OTHERWISE += [
    Sent("marked tool", _UNMARKED, {"tools": [TOOL]}),
    Sent("marked message", _UNMARKED, talk(SYSTEM, USER)),
    Sent("marked part", _UNMARKED, talk({"role": "system", "content": [text("s")]}, USER)),
    Sent("marked part", "deepseek", talk({"role": "system", "content": "s"}, USER)),
]
_CLAUDE = "openrouter/anthropic/claude-3.7-sonnet"
SAID_OTHERWISE += [
    Sent("marked message", _CLAUDE, talk({"role": "system", "content": [text("be brief", **MARK)]}, USER)),
    *(Sent(case, _CLAUDE, CASES[case]) for case in ("marked part", "marked tool")),
    *(
        Sent(EVERY_CASE, f"fireworks/{given}", {"model": f"accounts/fireworks/{sent}"})
        for given, sent in {
            "deepseek-v3p1": "models/deepseek-v3p1",
            "models/x": "models/x",
            "glm-fast": "routers/glm-fast",
            "auto": "routers/auto",
        }.items()
    ),
]


def expected_body(name: str, case: str, mode: str, table: Sequence[Sent] = SAID_OTHERWISE) -> dict[str, Any]:
    """What the native driver has to send: the params, but for what SAID_OTHERWISE says."""
    body = {**CASES[case], "model": name.partition("/")[2], **({"stream": True} if mode == "stream" else {})}
    for one in table:
        if case in one.cases.split("|") and mode in one.modes.split() and is_meant(name, one.where):
            body |= one.body
    return {key: value for key, value in body.items() if value is not GONE}


def every_request() -> list[tuple[str, str, str]]:
    """Each model with each of its cases in both modes."""
    return [(name, case, mode) for name, case in REQUESTS for mode in MODES]

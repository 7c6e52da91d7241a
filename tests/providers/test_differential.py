"""What litellm sends and answers against what we send and answer, over real HTTP: equal, or listed here with a reason.

The lists are exact. A difference that does not occur any more fails as well as one that is not listed.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from typing import Any, NamedTuple

import orjson
import pytest

from neuro_mw.errors import ConfigError, NeuroError
from neuro_mw.parts import collect
from neuro_mw.providers import resolve
from neuro_mw.providers._chat_requests import body_of
from neuro_mw.providers.litellm import LiteLLMModel
from neuro_mw.testing import StubOpenAI
from neuro_mw.types import LanguageModel, Response

MODES = ["generate", "stream"]
PREFIXES = (
    "OPENAI GROQ MISTRAL DEEPSEEK TOGETHER_AI FIREWORKS OPENROUTER XAI PERPLEXITY HOSTED_VLLM LM_STUDIO LLAMAFILE"
)


@pytest.fixture(scope="module")
def server() -> Iterator[StubOpenAI]:
    logging.disable(logging.WARNING)  # litellm's remarks on what it drops
    with pytest.MonkeyPatch.context() as patch, StubOpenAI() as stub:
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        for name in PREFIXES.split():
            patch.setenv(f"{name}_BASE_URL", stub.base_url)
            patch.setenv(f"{name}_API_KEY", "sk-KEY-SECRET")
        patch.setenv("AZURE_API_BASE", stub.base_url.removesuffix("/v1"))
        patch.setenv("AZURE_API_KEY", "sk-KEY-SECRET")
        patch.setenv("AZURE_API_VERSION", "2024-10-21")
        yield stub
    logging.disable(logging.NOTSET)


async def answer_of(model: LanguageModel, mode: str, params: dict[str, Any]) -> Response:
    return await (model.generate(params) if mode == "generate" else collect(model.stream(params)))


# --- requests -----------------------------------------------------------------------------------------------------

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
UNREACHABLE = {("xai", "web_search_options")}  # litellm takes another way, and wants the package `mcp` for it
ALL = [
    *((f"{provider}/{model}", case) for provider, model in MODELS.items() for case in CASES),
    *((model, case) for model, cases in OTHERS.items() for case in cases),
]
REQUESTS = [(model, case) for model, case in ALL if (model.partition("/")[0], case) not in UNREACHABLE]


class Different(NamedTuple):
    """Keys of the body that differ from litellm's, and why.

    ``cases`` are cut by "|"; ``where`` names providers (with their model in MODELS), single models, or all other models
    of a provider ("*provider").
    """

    cases: str
    where: str
    keys: str
    why: str
    modes: str = "generate stream"


EVERYWHERE = " ".join(MODELS)
DIFFERENT = [
    # what litellm drops without a word, and we send
    Different(
        "user",
        " ".join(name for name in MODELS if name not in ("openai", "azure", "fireworks", "xai")),
        "user",
        "dropped for models that are not in OpenAI's catalog",
    ),
    Different(
        "tool_choice alone",
        " ".join(name for name in MODELS if name != "perplexity"),
        "tool_choice",
        "dropped where no tools are given: what went wrong is for the provider to say",
    ),
    Different("tool_choice function", "mistral", "tool_choice", "dropped; Mistral takes it"),
    Different("tool result", EVERYWHERE.replace("perplexity", ""), "messages", "null content, OpenAI's own form"),
    Different("metadata", "mistral", "metadata", "dropped"),
    Different("audio part", "mistral deepseek", "messages", "dropped: the model would not know that it was there"),
    Different("image", "deepseek deepseek/deepseek-reasoner", "messages", "dropped, as above"),
    Different("image as string|image data|file data|file id", "deepseek", "messages", "dropped, as above"),
    Different("custom tool", "deepseek", "tools", "dropped"),
    Different("json_schema and tools", "fireworks", "response_format", "dropped"),
    Different("of groq", "fireworks", "include_reasoning", "dropped"),
    Different("web_search_options", "groq/compound", "web_search_options", "dropped"),
    Different("thinking off", "vllm", "thinking", "dropped"),
    Different("stream_options", "mistral perplexity", "stream_options", "dropped", "stream"),
    # what litellm says in other words that mean something else
    Different("system", "openai/o3-mini openai/o4-mini openai/openai/o3-mini", "messages", "made a user's message"),
    Different("system", "azure/o3-mini azure/my-o3", "messages", "made a user's message"),
    Different("reasoning_effort", "mistral/magistral-medium-latest", "messages reasoning_effort", "a prompt instead"),
    Different("thinking", "mistral/magistral-medium-latest", "messages thinking", "a prompt instead"),
    Different(
        "reasoning_effort none", "mistral/magistral-medium-latest", "messages reasoning_effort", "the same prompt"
    ),
    Different("reasoning_effort", "mistral/mistral-medium-latest", "reasoning_effort", "low is made high"),
    Different(
        "reasoning_effort|reasoning_effort max",
        "deepseek deepseek/deepseek-reasoner",
        "reasoning_effort thinking",
        "the effort is lost; DeepSeek has the parameter now",
    ),
    Different("reasoning_effort none", "together/openai/gpt-oss-120b", "reasoning reasoning_effort", "low instead"),
    Different("thinking and history", "deepseek/deepseek-reasoner", "messages", "blank reasoning is made up"),
    Different("thinking|thinking and history", "vllm", "reasoning_effort thinking", "Anthropic's word, translated"),
    Different(
        "of vllm", "fireworks", "chat_template_kwargs guided_json reasoning_effort response_format", "translated"
    ),
    Different("json_schema", "groq groq/compound", "response_format tool_choice tools", "a tool instead"),
    Different("web_search_options", "groq/openai/gpt-oss-120b", "tools web_search_options", "a tool instead"),
    Different("max_completion_tokens|both limits", "groq", "max_completion_tokens max_tokens", "Groq's older name"),
    Different(
        "tools|tool_choice none|tool_choice required|tool_choice function|tool result|json_schema and tools"
        "|marked tool|custom tool",
        "vllm",
        "tools",
        "additionalProperties and strict are removed, custom tools rewritten; vLLM takes them",
    ),
    Different("text parts|assistant in parts|tool result in parts", "mistral", "messages", "joined; a list is taken"),
    Different("marked part", "mistral", "messages", "joined; a list is taken"),
    Different("assistant in parts", "vllm", "messages", "joined with line ends; a list is taken"),
    Different("max_tokens", "openai/o1-mini", "max_tokens max_completion_tokens", "not in its price list"),
    Different("both limits", "openai/o1-mini", "max_tokens", "as above"),
    Different("developer", "openai/o1-mini", "messages", "as above"),
    # streams
    Different("reasoning_content", "groq", "messages", "sent, and refused by Groq"),
    Different("json_object|json_schema", "groq", "stream", "a whole answer, cut up afterwards", "stream"),
    Different("json_schema", "groq/compound groq/openai/gpt-oss-120b", "stream", "as above", "stream"),
    Different("|".join(REASONING), "azure/o1", "stream stream_options", "as above", "stream"),
    Different(
        "stream_options",
        "groq deepseek together fireworks openrouter xai vllm azure",
        "stream_options",
        "sent without a stream, which OpenAI refuses",
        "generate",
    ),
    # more
    Different(
        "|".join(case for case in CASES if case != "of openrouter"),
        "openrouter *openrouter",
        "usage",
        "asks for token counts, which OpenRouter always sends now",
    ),
]


@pytest.fixture(scope="module")
def sent(server: StubOpenAI) -> dict[tuple[str, str, str], Any]:
    """The body litellm sends, or the exception for which it sends none."""
    recorded: dict[tuple[str, str, str], Any] = {}

    async def run() -> None:
        for name, case in REQUESTS:
            provider, _, model = name.partition("/")
            for mode in MODES:
                before, failure = len(server.requests), None
                server.reply(text='{"a": "b"}')
                try:
                    await answer_of(LiteLLMModel(provider, model), mode, copy.deepcopy(CASES[case]))
                except Exception as error:  # noqa: BLE001  # of litellm: the answer is of no interest here
                    failure = error.__cause__
                bodies = [request.body for request in server.requests[before:]]
                assert len(bodies) <= 1
                recorded[name, case, mode] = bodies[0] if bodies else failure
                server._replies.clear()

    asyncio.run(run())
    return recorded


def listed(name: str, case: str, mode: str) -> list[Different]:
    found = [one for one in DIFFERENT if case in one.cases.split("|") and mode in one.modes.split()]
    provider, _, model = name.partition("/")
    group = provider if MODELS[provider] == model else f"*{provider}"
    return [one for one in found if not {name, group}.isdisjoint(one.where.split())]


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> set[str]:
    gone = object()
    return {key for key in {*ours, *theirs} if ours.get(key, gone) != theirs.get(key, gone)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "case"), REQUESTS, ids=[f"{name}-{case}" for name, case in REQUESTS])
def test_request(sent: dict[tuple[str, str, str], Any], name: str, case: str, mode: str) -> None:
    provider, _, model = name.partition("/")
    params = copy.deepcopy(CASES[case])
    ours = body_of(provider, model, params, stream=mode == "stream")
    assert params == CASES[case]
    theirs = sent[name, case, mode]
    if isinstance(theirs, Exception):  # it does not take the parameter: the provider decides
        assert {key for key, value in params.items() if value is not None} - set(ours) <= {
            "stream_options",
            "seed",
            "max_tokens",
            "max_completion_tokens",
            "reasoning_effort",
        }
        assert type(theirs).__name__ in ("UnsupportedParamsError", "BadRequestError")
        return
    if theirs.get("stream") is False:  # says what the API does anyway
        del theirs["stream"]
    expected = {key for one in listed(name, case, mode) for key in one.keys.split()}
    assert differing(orjson.loads(orjson.dumps(ours)), theirs) == expected


def test_every_listed_difference_is_one(sent: dict[tuple[str, str, str], Any]) -> None:
    seen = {
        one for (name, case, mode), body in sent.items() if isinstance(body, dict) for one in listed(name, case, mode)
    }
    assert [one for one in DIFFERENT if one not in seen] == []


# --- answers ------------------------------------------------------------------------------------------------------

HEAD = {"id": "a1", "created": 1_700_000_000, "model": "m-1"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
DETAILED = {
    **USAGE,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 3, "accepted_prediction_tokens": 1},
}
LOGPROBS = {"content": [{"token": "a", "bytes": [97], "logprob": -0.1, "top_logprobs": []}]}
CITED = {
    "type": "url_citation",
    "url_citation": {"start_index": 0, "end_index": 1, "url": "https://x.test", "title": "t"},
}
SAFE = {"hate": {"filtered": False, "severity": "safe"}}
CALLED = {"id": "c1", "name": "f", "arguments": '{"a": "some longer text"}'}


class Sent(NamedTuple):
    """What a provider really sends, as a script for either mode: a whole body, or chunks."""

    message: dict[str, Any]
    deltas: list[dict[str, Any]]
    top: dict[str, Any] = {}
    choice: dict[str, Any] = {}
    usage: dict[str, Any] | None = USAGE
    last: dict[str, Any] = {}  # of the last chunk, where the usage is
    apart: bool = True  # the usage has a chunk of its own, without choices
    done: bool = True
    reason: str | None = "stop"
    other: str | None = None  # the text of a second choice

    def script(self, mode: str) -> dict[str, Any]:
        return {"raw": self.whole() if mode == "generate" else self.events()}

    def whole(self) -> bytes:
        message = {"role": "assistant", **self.message}
        choice = {"index": 0, "message": message, "finish_reason": self.reason, **self.choice}
        choices = [choice]
        if self.other:
            choices.append({**choice, "index": 1, "message": {**message, "content": self.other}})
        answer = {**HEAD, "object": "chat.completion", "choices": choices, "usage": self.usage, **self.top, **self.last}
        return orjson.dumps({key: value for key, value in answer.items() if value is not None})

    def events(self) -> list[bytes]:
        head = {**HEAD, "object": "chat.completion.chunk", **self.top}
        first, *rest = self.deltas
        choices = [{"delta": {"role": "assistant", **first}}, *({"delta": delta} for delta in rest)]
        choices.append({"delta": {}, "finish_reason": self.reason, **self.choice})
        if self.other:
            choices.insert(1, {"index": 1, "delta": {"content": self.other}, "finish_reason": "stop"})
        chunks = [{**head, "choices": [{"index": 0, "finish_reason": None, **choice}]} for choice in choices]
        if self.apart:
            chunks.append({**head, "choices": []})
        chunks[-1] |= {**({"usage": self.usage} if self.usage else {}), **self.last}
        ends = [b"[DONE]"] if self.done else []
        return [b"data: " + line + b"\n\n" for line in [*map(orjson.dumps, chunks), *ends]]


def reply(name: str = "openai/gpt-4o-mini", **script: Any) -> tuple[str, dict[str, Any]]:
    return name, {"text": "one two", "usage": USAGE, **script, "fields": {**HEAD, **script.get("fields", {})}}


REPLIES: dict[str, tuple[str, dict[str, Any] | Sent]] = {
    "text": reply(),
    "chunks": reply(text=None, chunks=["o", "ne", " two", "\n", "é😀"]),
    "empty": reply(text=""),
    "no content": reply(text=None),
    "reasoning": reply("deepseek/deepseek-chat", reasoning=["hm", " yes"]),
    "reasoning of vllm": reply("vllm/m", reasoning="hm"),
    "tool call": reply(text=None, tool_calls=[CALLED]),
    "tool calls and text": reply(tool_calls=[CALLED, {**CALLED, "id": "c2"}]),
    "tool calls of vllm": reply("vllm/m", text=None, tool_calls=[CALLED]),
    "tool calls that stop": reply(text=None, tool_calls=[CALLED], finish_reason="stop"),
    "no usage": reply(usage=None),
    "usage in detail": reply(usage=DETAILED),
    "usage with more": reply(usage={**USAGE, "cost": 0.5, "deep": {"a": 1}}),
    "length": reply(finish_reason="length"),
    "content_filter": reply(finish_reason="content_filter"),
    "an unknown reason": reply("vllm/m", finish_reason="repetition"),
    "eos": reply("together/m", finish_reason="eos"),
    "system_fingerprint": reply(fields={"system_fingerprint": "fp", "service_tier": "default"}),
    "unknown fields": reply(fields={"unheard_of": {"deep": [1, {"a": None}]}, "more": "x"}),
    "refusal": reply(text=None, message_fields={"refusal": "no"}),
    "annotations": reply(message_fields={"annotations": [CITED]}),
    "audio": reply(text=None, message_fields={"audio": {"id": "a", "data": "AA", "transcript": "t", "expires_at": 1}}),
    "unknown fields of a message": reply(message_fields={"unheard_of": {"a": 1}}),
    "logprobs": reply(logprobs=LOGPROBS),
    "groq": (
        "groq/llama-3.3-70b-versatile",
        Sent(
            {"content": "hi", "reasoning": "hm"},
            [{"content": ""}, {"reasoning": "hm"}, {"content": "hi"}],
            top={"system_fingerprint": "fp", "service_tier": "auto"},
            usage={**USAGE, "queue_time": 0.1, "total_time": 0.3},
            last={"x_groq": {"id": "req_1"}},
            apart=False,
        ),
    ),
    "groq, usage in x_groq": (
        "groq/llama-3.3-70b-versatile",
        Sent(
            {"content": "hi"},
            [{"content": "hi"}],
            top={"service_tier": "auto"},
            usage=None,
            last={"x_groq": {"usage": USAGE}},
            apart=False,
        ),
    ),
    "deepseek": (
        "deepseek/deepseek-reasoner",
        Sent(
            {"content": "hi", "reasoning_content": "hm"},
            [{"content": None, "reasoning_content": "hm"}, {"content": "hi", "reasoning_content": None}],
            top={"system_fingerprint": "fp"},
            usage={**DETAILED, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 3},
            apart=False,
        ),
    ),
    "openrouter": (
        "openrouter/m/x",
        Sent(
            {"content": "hi", "reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
            [
                {"content": "", "reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
                {"content": "hi"},
            ],
            top={"provider": "P"},
            choice={"native_finish_reason": "end_turn"},
            usage={**DETAILED, "cost": 0.95, "cost_details": {"upstream_inference_cost": 1.5}},
            apart=False,
        ),
    ),
    "perplexity": (
        "perplexity/sonar",
        Sent(
            {"content": "hi"},
            [{"content": "hi"}],
            top={"citations": ["https://x.test"], "search_results": [{"title": "t", "url": "https://x.test"}]},
            usage={**USAGE, "search_context_size": "low", "cost": {"total_cost": 0.5}},
            apart=False,
        ),
    ),
    "mistral": (
        "mistral/magistral-medium-latest",
        Sent(
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, text("hi")]},
            [
                {"content": ""},
                {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
                {"content": [text("hi")]},
            ],
            apart=False,
        ),
    ),
    "mistral, the usual": ("mistral/mistral-large-latest", Sent({"content": "hi"}, [{"content": "hi"}], apart=False)),
    "xai": (
        "xai/grok-3-mini",
        Sent(
            {"content": "hi", "reasoning_content": "hm", "refusal": None},
            [{"reasoning_content": "hm"}, {"content": "hi"}],
            top={"system_fingerprint": "fp"},
            usage={**DETAILED, "num_sources_used": 2},
        ),
    ),
    "together": (
        "together/m/x",
        Sent(
            {"content": "hi", "tool_calls": []},
            [{"content": "hi", "token_id": 5}],
            choice={"seed": 9},
            reason="eos",
            apart=False,
        ),
    ),
    "fireworks": ("fireworks/m", Sent({"content": "hi"}, [{"content": "hi"}], apart=False)),
    "filter results of azure": (
        "openai/gpt-4o-mini",
        Sent(
            {"content": "hi"},
            [{"content": "hi"}],
            top={"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}]},
            choice={"content_filter_results": SAFE},
        ),
    ),
    "no [DONE]": ("openai/gpt-4o-mini", Sent({"content": "hi"}, [{"content": "hi"}], done=False)),
    "no [DONE] of vllm": ("vllm/m", Sent({"content": "hi"}, [{"content": "hi"}], done=False)),
    "no finish reason": reply(finish_reason=None),
    "the older function_call": (
        "vllm/m",
        Sent(
            {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
            [{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}}],
            reason="function_call",
        ),
    ),
    "two choices": ("vllm/m", Sent({"content": "hi"}, [{"content": "hi"}], other="hello")),
    "no choices": ("openai/gpt-4o-mini", {"raw": orjson.dumps({**HEAD, "choices": []})}),
    "html": ("openai/gpt-4o-mini", {"raw": b"<html>"}),
    "html of vllm": ("vllm/m", {"raw": b"<html>"}),
    "nothing": ("vllm/m", {"raw": b""}),
    "an error in a good answer": (
        "openrouter/m/x",
        {
            "raw": orjson.dumps({"error": {"message": "x", "code": 502}}),
            "headers": {"Content-Type": "application/json"},
        },
    ),
    **{
        f"{kind} at once": reply("openai/gpt-4o-mini", error_after=0, error=error)
        for kind, error in (
            ("an error event", {"message": "x", "type": "server_error", "code": "overloaded"}),
            ("an error event with a status", {"message": "x", "code": 429}),
        )
    },
    "an error event": reply(error_after=2, error={"message": "x", "type": "server_error", "code": "overloaded"}),
    "an error event with a status": reply(error_after=2, error={"message": "x", "code": 429}),
    "an error event of vllm": reply("vllm/m", error_after=2, error={"message": "x", "code": 400}),
    "an error event of openrouter": reply("openrouter/m", error_after=2, error={"message": "x", "code": 502}),
    "an error event of groq": reply("groq/m", error_after=2, error={"message": "x", "code": 503}),
    "a cut stream": reply(cut_after=2),
    "a cut stream of vllm": reply("vllm/m", cut_after=2),
}


def streamed(name: str, *chunks: Any, end: str = "\n", done: bool = True) -> tuple[str, dict[str, Any]]:
    """Lines of a stream as they are: chunks are JSON, strings are sent as they stand."""
    lines = [one if isinstance(one, str) else "data: " + orjson.dumps(one).decode() for one in chunks]
    return name, {"raw": (end * 2).join([*lines, *(["data: [DONE]"] if done else [])]).encode() + (end * 2).encode()}


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
    return {**HEAD, "object": "chat.completion.chunk", "choices": choices, **more}


def called(index: int | None, id: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    call = {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"tool_calls": [{key: value for key, value in call.items() if value is not None}]}


HI = chunk({"role": "assistant", "content": "hi"})
STOP = chunk({}, "stop")
for where in ("openai/gpt-4o-mini", "vllm/m", "openrouter/m"):
    name = where.partition("/")[0]
    REPLIES |= {
        f"{name}, comments": streamed(where, ": PROCESSING", HI, ": PROCESSING", STOP),
        f"{name}, CRLF": streamed(where, HI, STOP, end="\r\n"),
        f"{name}, bytes": reply(where, text="é😀 two", split_bytes=1),
        f"{name}, the reason with the text": streamed(where, HI, chunk({"content": " you"}, "stop")),
        f"{name}, the usage with the reason": streamed(where, HI, chunk({}, "length", usage=USAGE)),
        f"{name}, usage that grows": streamed(
            where,
            chunk({"content": "hi"}, usage={**USAGE, "completion_tokens": 1}),
            chunk({}, "stop", usage=USAGE),
        ),
        f"{name}, nulls": streamed(where, chunk({"content": None, "tool_calls": None}), HI, {**STOP, "usage": None}),
        f"{name}, two calls": streamed(
            where,
            chunk(called(0, "c1", "f", "")),
            chunk(called(0, None, None, "{}")),
            chunk(called(1, "c2", "g", '{"a"')),
            chunk(called(1, None, None, ": 1}")),
            chunk({}, "tool_calls"),
        ),
        f"{name}, a whole call": streamed(where, chunk(called(0, "c1", "f", "{}")), chunk({}, "tool_calls")),
        f"{name}, two calls with one index": streamed(
            where, chunk(called(0, "c1", "f", "{}")), chunk(called(0, "c2", "g", "{}")), chunk({}, "stop")
        ),
        f"{name}, a broken line": streamed(where, HI, "data: {", STOP),
        f"{name}, the end of the last line is missing": (where, {"raw": streamed(where, HI, STOP)[1]["raw"].rstrip()}),
    }

STATUSES = [400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529]
BODIES: dict[str, bytes] = {
    "openai": orjson.dumps({"error": {"message": "m", "type": "some_type", "param": None, "code": "some_code"}}),
    "string": orjson.dumps({"error": "m"}),
    "html": b"<html><h1>Bad Gateway</h1></html>",
}
FAILURES: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"{name} {status} {kind}": (f"{name}/gpt-4o-mini", {"status": status, "raw": body})
        for name in ("openai", "vllm")
        for status in STATUSES
        for kind, body in BODIES.items()
    },
    **{
        f"retry after {said}": (name, {"status": 429, "headers": headers, "error": "m"})
        for name in ("openai/gpt-4o-mini",)
        for said, headers in {
            "seconds": {"Retry-After": "7"},
            "fractions": {"Retry-After": "0.5"},
            "milliseconds": {"retry-after-ms": "1500", "retry-after": "2"},
            "nonsense": {"Retry-After": "soon"},
            "less than nothing": {"Retry-After": "-1"},
            "a date": {"Retry-After": formatdate(time.time() + 600, usegmt=True)},
        }.items()
    },
    "retry after of groq": ("groq/m", {"status": 429, "headers": {"Retry-After": "7"}, "error": "m"}),
    "retry after of a server": ("vllm/m", {"status": 503, "headers": {"Retry-After": "7"}, "error": "m"}),
}


def failed(where: str, status: int, error: Any, *, key: str = "error") -> tuple[str, dict[str, Any]]:
    return where, {"status": status, "raw": orjson.dumps({key: error} if key else error)}


FAILURES |= {
    "quota": failed(
        "openai/gpt-4o-mini", 429, {"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}
    ),
    "too long for openai": failed(
        "openai/gpt-4o-mini",
        400,
        {
            "message": "This model's maximum context length is 8192 tokens. However, you asked for 9000 tokens.",
            "type": "invalid_request_error",
            "code": "context_length_exceeded",
        },
    ),
    "too long for groq": failed(
        "groq/m", 400, {"message": "Please reduce the length of the messages", "code": "context_length_exceeded"}
    ),
    "too long for deepseek": failed(
        "deepseek/m",
        400,
        {"message": "This model's maximum context length is 65536 tokens. However, you requested 70000"},
    ),
    "too long for together": failed(
        "together/m", 422, {"message": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097"}
    ),
    "too long for fireworks": failed(
        "fireworks/m", 400, {"message": "The prompt is too long: 140000, model maximum context length: 131071"}
    ),
    "too long for mistral": failed(
        "mistral/m",
        400,
        {"message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"},
        key="",
    ),
    "too long for openrouter": failed(
        "openrouter/m", 400, {"message": "This endpoint's maximum context length is 8192 tokens.", "code": 400}
    ),
    "too long for xai": failed(
        "xai/m", 400, "This model's maximum prompt length is 131072 but the request contains 200000"
    ),
    "too long for vllm": failed(
        "vllm/m",
        400,
        {"message": "This model's maximum context length is 2048 tokens. However, you requested 3000", "code": 400},
        key="",
    ),
    "too long for llama_cpp": failed(
        "llama_cpp/m",
        400,
        {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error"},
    ),
    "refused by openai": failed(
        "openai/gpt-4o-mini", 400, {"message": "Your request was rejected", "code": "content_policy_violation"}
    ),
    "refused by azure": failed(
        "openai/gpt-4o-mini",
        400,
        {
            "message": "The response was filtered: the prompt triggered Azure OpenAI's content management policy.",
            "code": "content_filter",
            "innererror": {"code": "ResponsibleAIPolicyViolation"},
        },
    ),
    "mistral says detail": failed("mistral/m", 422, {"detail": [{"type": "extra_forbidden", "msg": "m"}]}, key=""),
    "fastapi says detail": failed("vllm/m", 404, {"detail": "Not Found"}, key=""),
    "xai says code": failed("xai/m", 400, {"code": "Client specified an invalid argument", "error": "m"}, key=""),
    "google says a list": failed("openai/m", 400, [{"error": {"code": 400, "message": "m", "status": "x"}}], key=""),
}
ANSWERS: dict[str, tuple[str, Any]] = {**REPLIES, **FAILURES}

FIELDS_LOST = "litellm drops what its chunks have no field for"
NATIVE_REASON = 'litellm calls what it does not know "stop"'
NO_STATUS = "litellm loses the status of an error in an answer that says 200"
TOO_LONG = ["groq", "fireworks", "mistral", "openrouter", "xai"]
OWN_WORDS = "litellm looks for the words of a few providers only"
# Attributes of an answer or an error that differ, or "outcome": an answer or an error, or errors of different types.
# One mode, or both.
ANSWERED_OTHERWISE: dict[tuple[str, str], tuple[str, str]] = {
    ("an unknown reason", "stream"): ("finish_reason provider_fields", NATIVE_REASON),
    ("eos", "stream"): ("provider_fields", NATIVE_REASON),
    ("together", "stream"): ("provider_fields", NATIVE_REASON),
    ("no finish reason", "generate"): ("finish_reason", 'litellm makes up a "stop"'),
    ("groq", "stream"): ("provider_fields", FIELDS_LOST),
    ("groq, usage in x_groq", "stream"): ("provider_fields", FIELDS_LOST),
    ("deepseek", "stream"): ("provider_fields", FIELDS_LOST),
    ("openrouter", "stream"): ("provider_fields", FIELDS_LOST),
    ("xai", "stream"): ("provider_fields", FIELDS_LOST),
    ("two choices", ""): ("provider_fields", "litellm adds empty fields of its own"),
    ("mistral", "stream"): ("provider_fields", "litellm makes up a signature of Anthropic's kind"),
    ("vllm, a broken line", "stream"): ("outcome", "litellm skips what it cannot read"),
    ("openrouter, a broken line", "stream"): ("outcome", "litellm skips what it cannot read"),
    ("an error in a good answer", ""): ("status", NO_STATUS),
    ("an error event of openrouter", "stream"): ("status", NO_STATUS),
    ("an error event of groq", "generate"): ("outcome", "litellm fails where Groq names no service_tier"),
    **{(f"too long for {name}", ""): ("outcome", OWN_WORDS) for name in TOO_LONG},
}


class Outcome(NamedTuple):
    response: Response | None = None
    error: NeuroError | None = None


ATTRIBUTES = ("text", "reasoning", "tool_calls", "finish_reason", "usage", "id", "model", "created", "provider_fields")


def unlike(ours: Outcome, theirs: Outcome) -> set[str]:
    if type(ours.error) is not type(theirs.error):
        return {"outcome"}
    if ours.response is not None and theirs.response is not None:
        return {name for name in ATTRIBUTES if getattr(ours.response, name) != getattr(theirs.response, name)}
    found = {name for name in ("status", "retryable") if getattr(ours.error, name, 0) != getattr(theirs.error, name, 0)}
    waits = [getattr(one.error, "retry_after", None) for one in (ours, theirs)]
    return found | ({"retry_after"} if waits[0] != pytest.approx(waits[1], abs=2) else set())


@pytest.fixture
def outcomes(server: StubOpenAI) -> Callable[[str, str], dict[str, Outcome]]:
    def call(name: str, mode: str) -> dict[str, Outcome]:
        model, script = ANSWERS[name]
        found: dict[str, Outcome] = {}
        for driver in ("native", "litellm"):
            try:
                resolved = resolve(model, driver=driver)
            except ConfigError:
                pytest.skip(f"no native driver for {model}")
            server._replies.clear()
            server.reply(**(script.script(mode) if isinstance(script, Sent) else script))
            try:
                found[driver] = Outcome(asyncio.run(answer_of(resolved, mode, ask())))
            except NeuroError as error:
                found[driver] = Outcome(error=error)
        return found

    return call


def test_what_is_answered_otherwise_exists() -> None:
    assert {name for name, _ in ANSWERED_OTHERWISE} <= set(ANSWERS)
    assert {mode for _, mode in ANSWERED_OTHERWISE} <= {*MODES, ""}


# What the native driver should read and does not, yet: strict, so it has to go from here with the fault.
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ANSWERS)
def test_answer(outcomes: Callable[[str, str], dict[str, Outcome]], name: str, mode: str) -> None:
    found = outcomes(name, mode)
    keys, _why = ANSWERED_OTHERWISE.get((name, mode)) or ANSWERED_OTHERWISE.get((name, "")) or ("", "")
    assert unlike(found["native"], found["litellm"]) == set(keys.split()), found

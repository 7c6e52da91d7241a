"""What providers answer, whole and streamed, and how they fail: scripts for the stub server."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any, NamedTuple

import orjson
from chat_cases import text

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


class Scripted(NamedTuple):
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


REPLIES: dict[str, tuple[str, dict[str, Any] | Scripted]] = {
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
        Scripted(
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
        Scripted(
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
        Scripted(
            {"content": "hi", "reasoning_content": "hm"},
            [{"content": None, "reasoning_content": "hm"}, {"content": "hi", "reasoning_content": None}],
            top={"system_fingerprint": "fp"},
            usage={**DETAILED, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 3},
            apart=False,
        ),
    ),
    "openrouter": (
        "openrouter/m/x",
        Scripted(
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
        Scripted(
            {"content": "hi"},
            [{"content": "hi"}],
            top={"citations": ["https://x.test"], "search_results": [{"title": "t", "url": "https://x.test"}]},
            usage={**USAGE, "search_context_size": "low", "cost": {"total_cost": 0.5}},
            apart=False,
        ),
    ),
    "mistral": (
        "mistral/magistral-medium-latest",
        Scripted(
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, text("hi")]},
            [
                {"content": ""},
                {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
                {"content": [text("hi")]},
            ],
            apart=False,
        ),
    ),
    "mistral, the usual": (
        "mistral/mistral-large-latest",
        Scripted({"content": "hi"}, [{"content": "hi"}], apart=False),
    ),
    "xai": (
        "xai/grok-3-mini",
        Scripted(
            {"content": "hi", "reasoning_content": "hm", "refusal": None},
            [{"reasoning_content": "hm"}, {"content": "hi"}],
            top={"system_fingerprint": "fp"},
            usage={**DETAILED, "num_sources_used": 2},
        ),
    ),
    "together": (
        "together/m/x",
        Scripted(
            {"content": "hi", "tool_calls": []},
            [{"content": "hi", "token_id": 5}],
            choice={"seed": 9},
            reason="eos",
            apart=False,
        ),
    ),
    "fireworks": ("fireworks/m", Scripted({"content": "hi"}, [{"content": "hi"}], apart=False)),
    "filter results of azure": (
        "openai/gpt-4o-mini",
        Scripted(
            {"content": "hi"},
            [{"content": "hi"}],
            top={"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}]},
            choice={"content_filter_results": SAFE},
        ),
    ),
    "azure": reply("azure/gpt-4o-mini", fields={"system_fingerprint": "fp"}),
    "azure, filter results": (
        "azure/gpt-4o-mini",
        Scripted(
            {"content": "hi"},
            [{"content": "hi"}],
            top={"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}]},
            choice={"content_filter_results": SAFE},
        ),
    ),
    "an error event of azure": reply("azure/m", error_after=2, error={"message": "x", "code": 429}),
    "a cut stream of azure": reply("azure/m", cut_after=2),
    "no [DONE]": ("openai/gpt-4o-mini", Scripted({"content": "hi"}, [{"content": "hi"}], done=False)),
    "no [DONE] of vllm": ("vllm/m", Scripted({"content": "hi"}, [{"content": "hi"}], done=False)),
    "no finish reason": reply(finish_reason=None),
    "the older function_call": (
        "vllm/m",
        Scripted(
            {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
            [{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}}],
            reason="function_call",
        ),
    ),
    "two choices": ("vllm/m", Scripted({"content": "hi"}, [{"content": "hi"}], other="hello")),
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
        for name in ("openai", "vllm", "azure")
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
    "retry after of azure": ("azure/m", {"status": 429, "headers": {"retry-after-ms": "1500"}, "error": "m"}),
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
    "azure has no such deployment": failed(
        "azure/m",
        404,
        {"message": "The API deployment for this resource does not exist.", "code": "DeploymentNotFound"},
    ),
    "azure refuses the key": failed("azure/m", 401, {"message": "Access denied", "code": "401"}),
    "azure knows no such resource": failed(
        "azure/m", 404, {"statusCode": 404, "message": "Resource not found"}, key=""
    ),
    "too long for azure": failed(
        "azure/m",
        400,
        {"message": "This model's maximum context length is 8192 tokens.", "code": "context_length_exceeded"},
    ),
    "refused by azure": failed(
        "azure/gpt-4o-mini",
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

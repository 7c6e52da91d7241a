"""The native driver beside litellm's, over HTTP and in both modes: requests, answers and failures.

Where they differ the tables here say so, and why. They are exact for one version of litellm; `comparing` says which,
and what becomes of them with another. What our own side does is tested without litellm: `test_anthropic_bodies`,
`test_anthropic_answers`, and here the failures.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from asked import MODES, answer_of
from comparing import same_differences
from test_anthropic_answers import events_of
from test_anthropic_bodies import OLD, REQUESTS, SCHEMA, SIGNED, SONNET, USER, schema, text

from neuro_mw.bundled import litellm_folder
from neuro_mw.errors import (
    AuthenticationFailed,
    BadRequest,
    ContextTooLong,
    NeuroError,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    StreamInterrupted,
)
from neuro_mw.providers import resolve
from neuro_mw.testing import StubAnthropic
from neuro_mw.types import Response, ToolCall

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


beside_litellm = pytest.mark.skipif(litellm_folder() is None, reason="litellm is not installed")


@pytest.fixture(scope="module")
def stub() -> Iterator[StubAnthropic]:
    logging.disable(logging.WARNING)  # litellm's remarks on what it drops
    with pytest.MonkeyPatch.context() as patch, StubAnthropic() as server:
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        patch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
        patch.setenv("ANTHROPIC_API_KEY", "sk-KEY-SECRET")
        patch.setenv("ANTHROPIC_BASE_URL", server.base_url)
        yield server
    logging.disable(logging.NOTSET)


class Outcome(NamedTuple):
    response: Response | None = None
    error: NeuroError | None = None


def ask(
    stub: StubAnthropic, driver: str, mode: str, script: dict[str, Any], model: str = SONNET, **params: Any
) -> Outcome:
    """One call in an event loop of its own."""
    stub.requests.clear()
    stub._replies.clear()
    stub.reply(**script)
    asked = {"messages": [USER], **copy.deepcopy(params)}
    before = copy.deepcopy(asked)

    try:
        return Outcome(asyncio.run(answer_of(resolve(f"anthropic/{model}", driver=driver), mode, asked)))
    except NeuroError as error:
        return Outcome(error=error)
    finally:
        assert driver == "litellm" or asked == before
        stub._replies.clear()


# --- requests ----------------------------------------------------------------------------------------------------

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
    "effort, little room": ({"thinking"}, "litellm leaves the budget above max_tokens, which the API refuses"),
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


@beside_litellm
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", REQUESTS)
def test_requests(stub: StubAnthropic, case: str, mode: str) -> None:
    ours, theirs = (sent(stub, driver, mode, *REQUESTS[case]) for driver in ("native", "litellm"))
    if "raises" in {*ours, *theirs} and ours != theirs:
        differs = {"raises"}
    else:
        differs = {name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)}
    same_differences(differs, DIFFERENT.get(case, (set(), ""))[0], case)


def test_the_tables_of_differences_are_about_these_cases() -> None:
    assert set(DIFFERENT) <= set(REQUESTS)
    assert set(OTHERWISE) <= set(ANSWERS)
    assert {name for name, _ in FAILS_OTHERWISE} <= set(FAILURES)


def sent(stub: StubAnthropic, driver: str, mode: str, model: str, params: dict[str, Any]) -> dict[str, Any]:
    """What arrives: the body, and of the path and the headers what is Anthropic's."""
    found = ask(stub, driver, mode, {"text": "a"}, model, **params)
    if not stub.requests:
        assert found.error is not None
        return {"raises": True}
    assert found.error is None
    [request] = stub.requests
    named = {name: request.headers.get(name) for name in ("anthropic-version", "x-api-key", "authorization")}
    betas = {one.strip() for one in request.headers.get("anthropic-beta", "").split(",") if one.strip()}
    return {**request.body, **named, "path": request.path, "anthropic-beta": betas}


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


ATTRIBUTES = ("text", "reasoning", "tool_calls", "finish_reason", "usage", "model", "provider_fields")


def scripted(message: dict[str, Any], mode: str) -> dict[str, Any]:
    """The answer as the body of a reply, a stream cut after three letters."""
    if mode == "generate":
        return {"raw": json.dumps(message).encode()}
    events = events_of(message, [3])
    return {
        "raw": b"".join(b"event: %s\ndata: %s\n\n" % (one["type"].encode(), json.dumps(one).encode()) for one in events)
    }


@beside_litellm
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ANSWERS)
def test_answers(stub: StubAnthropic, case: str, mode: str) -> None:
    script = scripted(ANSWERS[case], mode)
    ours, theirs = (ask(stub, driver, mode, script).response for driver in ("native", "litellm"))
    assert ours is not None
    assert theirs is not None
    assert (ours.id, ours.created) == ("m", None)  # litellm makes up both
    differs = {name for name in ATTRIBUTES if getattr(ours, name) != getattr(theirs, name)}
    whole, in_stream, _ = OTHERWISE.get(case, (set(), set(), ""))
    same_differences(differs, whole if mode == "generate" else in_stream, case)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("driver", ["native", pytest.param("litellm", marks=beside_litellm)])
def test_a_json_answer_of_a_model_without_schemas(stub: StubAnthropic, driver: str, mode: str) -> None:
    """The forced call is undone alike."""
    message = answer({**USED, "name": "json_tool_call"}, reason="tool_use")
    found = ask(stub, driver, mode, scripted(message, mode), OLD, **schema(SCHEMA)).response
    assert found is not None
    assert (found.text, found.tool_calls, found.finish_reason) == ('{"a": 1}', [], "stop")


@pytest.mark.parametrize("mode", MODES)
def test_integers_of_any_size_come_as_they_were_sent(stub: StubAnthropic, mode: str) -> None:
    """Those beyond 64 bits too, of which a fast JSON parser makes floats."""
    used = {**USED, "input": {"id": 12345678901234567890123, "next": -(2**63) - 1}}
    found = ask(stub, "native", mode, scripted(answer(used, reason="tool_use"), mode)).response
    assert found is not None
    assert found.tool_calls == [ToolCall("t1", "f", '{"id": 12345678901234567890123, "next": -9223372036854775809}')]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "message",
    [answer(text("a"), reason=["PROMPT-SECRET"]), answer({"type": 5}), answer({**USED, "name": ["PROMPT-SECRET"]})],
    ids=["stop_reason", "type", "name"],
)
def test_garbage_is_the_providers_failure(stub: StubAnthropic, message: dict[str, Any], mode: str) -> None:
    error = ask(stub, "native", mode, scripted(message, mode)).error
    assert type(error) is ProviderUnavailable
    assert "SECRET" not in str(error)


# --- failures ----------------------------------------------------------------------------------------------------


class Failure(NamedTuple):
    """A reply that goes wrong, and what has to be raised for it."""

    script: dict[str, Any]
    kind: type[NeuroError]
    status: int | None = None
    retryable: bool | None = False
    retry_after: float | None = None


def refusal(
    status: int, type: str, kind: type[ProviderError], message: str = "m PROMPT-SECRET", *, retryable: bool = False
) -> Failure:
    return Failure({"status": status, "error": {"type": type, "message": message}}, kind, status, retryable)


def event(type: str, kind: type[ProviderError], after: int = 3, *, retryable: bool = True) -> Failure:
    script = {"text": "a b c", "error_after": after, "error": {"type": type, "message": "m PROMPT-SECRET"}}
    return Failure(script, kind, None, retryable)


SLOW = {"type": "rate_limit_error", "message": "This request would exceed your rate limit."}
FAILURES: dict[str, Failure] = {
    "400": refusal(400, "invalid_request_error", BadRequest),
    "400, too long": refusal(
        400, "invalid_request_error", ContextTooLong, "prompt is too long: 210000 tokens > 200000 maximum"
    ),
    "400, no credit": refusal(400, "invalid_request_error", BadRequest, "Your credit balance is too low"),
    "401": refusal(401, "authentication_error", AuthenticationFailed),
    "403": refusal(403, "permission_error", AuthenticationFailed),
    "404": refusal(404, "not_found_error", BadRequest),
    "413": refusal(413, "request_too_large", BadRequest),
    "429": refusal(429, "rate_limit_error", ProviderRateLimited, retryable=True),
    "429, retry-after": Failure(
        {"status": 429, "error": SLOW, "headers": {"retry-after": "7"}}, ProviderRateLimited, 429, True, 7.0
    ),
    "500": refusal(500, "api_error", ProviderUnavailable, retryable=True),
    "504": refusal(504, "timeout_error", ProviderTimeout, retryable=True),
    "529": refusal(529, "overloaded_error", ProviderUnavailable, retryable=True),
    "529, retry-after": Failure(
        {"status": 529, "error": {"type": "overloaded_error", "message": "m"}, "headers": {"retry-after": "3"}},
        ProviderUnavailable, 529, True, 3.0,
    ),
    "502 of a gateway": Failure({"status": 502, "raw": b"<html>Bad Gateway</html>"}, ProviderUnavailable, 502, True),
    "overloaded": event("overloaded_error", ProviderUnavailable),
    "overloaded at once": event("overloaded_error", ProviderUnavailable, 0),
    "failing": event("api_error", ProviderUnavailable),
    "slow down": event("rate_limit_error", ProviderRateLimited),
    "timed out": event("timeout_error", ProviderTimeout),
    "refused": event("invalid_request_error", BadRequest, retryable=False),
    "cut": Failure({"text": "a b c", "cut_after": 4}, ProviderUnavailable, None, True),
    "ended": Failure({"text": "a b c", "end_after": 4}, StreamInterrupted, None, None),
    "ended without message_stop": Failure({"text": "a", "end_after": 5}, StreamInterrupted, None, None),
    "empty": Failure({"raw": b""}, StreamInterrupted, None, None),
    "no JSON": Failure({"raw": b"data: {x\n\n"}, ProviderUnavailable, None, True),
}  # fmt: skip
IN_STREAMS = [name for name, one in FAILURES.items() if one.status is None]
CASES = [(name, mode) for name in FAILURES for mode in MODES if mode == "stream" or name not in IN_STREAMS]

NO_KIND = "litellm makes a failure of the server of every error event, whatever its type says"

# (case, mode or "" for both) -> what differs of type, status, retryable, retry_after ("outcome": an answer), and why
FAILS_OTHERWISE: dict[tuple[str, str], tuple[set[str], str]] = {
    ("slow down", "stream"): ({"type"}, NO_KIND),
    ("timed out", "stream"): ({"type"}, NO_KIND),
    ("refused", "stream"): ({"type", "retryable"}, NO_KIND),
    ("ended without message_stop", "stream"): ({"outcome"}, "litellm takes the message for whole"),
    ("no JSON", "stream"): ({"type", "retryable"}, "litellm skips what it cannot read, and has no answer then"),
}


def told(found: Outcome) -> dict[str, Any]:
    error = found.error
    assert isinstance(error, (ProviderError, StreamInterrupted)), found
    assert str(error).startswith(f"anthropic/{SONNET}: ")
    assert "SECRET" not in str(error)
    names = ("status", "retryable", "retry_after")
    return {"type": type(error), **{name: getattr(error, name, None) for name in names}}


@pytest.mark.parametrize(("case", "mode"), CASES)
def test_failures(stub: StubAnthropic, case: str, mode: str) -> None:
    script, *expected = FAILURES[case]
    assert list(told(ask(stub, "native", mode, script)).values()) == expected


@beside_litellm
@pytest.mark.parametrize(("case", "mode"), CASES)
def test_failures_beside_litellm(stub: StubAnthropic, case: str, mode: str) -> None:
    script = FAILURES[case].script
    ours, theirs = (ask(stub, driver, mode, script) for driver in ("native", "litellm"))
    if theirs.response is not None:
        differs = {"outcome"}
    else:
        ours_told, theirs_told = told(ours), told(theirs)
        differs = {name for name in ours_told if ours_told[name] != theirs_told[name]}
    same_differences(
        differs, (FAILS_OTHERWISE.get((case, mode)) or FAILS_OTHERWISE.get((case, "")) or (set(), ""))[0], case
    )

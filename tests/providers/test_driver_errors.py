"""Failures, of both drivers, over HTTP."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate

import pytest
from asked import ASK, SECRET, Ask

from neuro_mw.errors import (
    AuthenticationFailed,
    BadRequest,
    ContentRefused,
    ContextTooLong,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    StreamInterrupted,
)
from neuro_mw.parts import collect
from neuro_mw.providers import LiteLLMModel
from neuro_mw.testing import StubOpenAI
from neuro_mw.types import (
    LanguageModel,
)

# --- errors -----------------------------------------------------------------------------------------------------------

BY_STATUS = [
    (400, BadRequest, False),
    (401, AuthenticationFailed, False),
    (402, BadRequest, False),
    (403, AuthenticationFailed, False),
    (404, BadRequest, False),
    (408, ProviderTimeout, True),
    (409, ProviderUnavailable, True),
    (413, BadRequest, False),
    (422, BadRequest, False),
    (429, ProviderRateLimited, True),
    (500, ProviderUnavailable, True),
    (502, ProviderUnavailable, True),
    (503, ProviderUnavailable, True),
    (504, ProviderTimeout, True),
    (529, ProviderUnavailable, True),
]


@pytest.mark.parametrize("mode", ["generate", "stream"])
@pytest.mark.parametrize(("status", "kind", "retryable"), BY_STATUS)
def test_errors_by_status(
    stub: StubOpenAI, model: LanguageModel, mode: str, status: int, kind: type[ProviderError], retryable: bool, ask: Ask
) -> None:
    error = {"message": f"you said {SECRET} with sk-KEY-SECRET", "type": "some_type", "code": "some_code"}
    stub.reply(status=status, error=error, headers={"Retry-After": "7"})
    with pytest.raises(ProviderError) as caught:
        ask(model, mode)
    found = caught.value
    assert type(found) is kind
    assert (found.status, found.retryable, found.retry_after) == (status, retryable, 7.0)
    assert (found.provider, found.model) == (model.provider, model.model_id)
    assert "SECRET" not in str(found)
    assert f"HTTP {status}" in str(found)
    if isinstance(model, LiteLLMModel):
        assert type(found.__cause__).__module__.startswith("litellm")
    assert len(stub.requests) == 1  # no silent retry


def test_type_and_code_are_named(openai: LanguageModel, stub: StubOpenAI, ask: Ask) -> None:
    stub.reply(status=400, error={"message": "x", "type": "bad_type", "code": "bad_code"})
    with pytest.raises(BadRequest, match="type bad_type, code bad_code"):
        ask(openai)
    stub.reply(status=400, error={"message": "x", "type": f"{SECRET} in a sentence", "code": None})
    with pytest.raises(BadRequest) as caught:
        ask(openai)
    assert SECRET not in str(caught.value)


def test_retry_after_as_date_and_in_milliseconds(openai: LanguageModel, stub: StubOpenAI, ask: Ask) -> None:
    stub.reply(status=429, headers={"Retry-After": formatdate(time.time() + 60, usegmt=True)})
    with pytest.raises(ProviderRateLimited) as caught:
        ask(openai)
    assert caught.value.retry_after == pytest.approx(60, abs=5)
    for headers, expected in (({"retry-after-ms": "1500"}, 1.5), ({"Retry-After": "soon"}, None), ({}, None)):
        stub.reply(status=429, headers=headers)
        with pytest.raises(ProviderRateLimited) as caught:
            ask(openai)
        assert caught.value.retry_after == expected


def test_quota_is_not_retryable(openai: LanguageModel, stub: StubOpenAI, ask: Ask) -> None:
    stub.reply(status=429, error={"message": "pay", "type": "insufficient_quota", "code": "insufficient_quota"})
    with pytest.raises(ProviderRateLimited) as caught:
        ask(openai)
    assert caught.value.retryable is False


def test_context_and_content_policy(openai: LanguageModel, stub: StubOpenAI, ask: Ask) -> None:
    stub.reply(
        status=400, error={"message": "This model's maximum context length is 8", "code": "context_length_exceeded"}
    )
    with pytest.raises(ContextTooLong):
        ask(openai)
    stub.reply(status=400, error={"message": "no", "code": "content_policy_violation"})
    with pytest.raises(ContentRefused):
        ask(openai)


@pytest.mark.parametrize("mode", ["generate", "stream"])
def test_connection_refused(keys: None, model: LanguageModel, mode: str, ask: Ask) -> None:
    with StubOpenAI() as gone:
        address = gone.base_url
    with pytest.raises(ProviderUnavailable) as caught:
        ask(model, mode, {**ASK, "api_base": address})
    assert (caught.value.status, caught.value.retryable) == (None, True)


@pytest.mark.parametrize("mode", ["generate", "stream"])
def test_timeout(stub: StubOpenAI, model: LanguageModel, mode: str, ask: Ask) -> None:
    stub.reply(text="a", delay_s=30)
    with pytest.raises(ProviderTimeout) as caught:
        ask(model, mode, {**ASK, "timeout": 0.2})
    assert (caught.value.status, caught.value.retryable) == (None, True)


def test_timeout_in_mid_stream(stub: StubOpenAI, model: LanguageModel, ask: Ask) -> None:
    stub.reply(text="a b", chunk_delay_s=30)
    with pytest.raises(ProviderTimeout):
        ask(model, "stream", {**ASK, "timeout": 0.3})


def test_answers_that_are_none(stub: StubOpenAI, model: LanguageModel, ask: Ask) -> None:
    stub.reply(raw=b"<html>")
    with pytest.raises(ProviderUnavailable):
        ask(model)


# --- streams that end badly -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 3])
def test_cut_stream(stub: StubOpenAI, model: LanguageModel, after: int, ask: Ask) -> None:
    stub.reply(text="a b c d", cut_after=after)
    with pytest.raises((ProviderUnavailable, StreamInterrupted)):
        ask(model, "stream")


def test_stream_without_a_finish_reason(stub: StubOpenAI, model: LanguageModel, ask: Ask) -> None:
    stub.reply(text="a b", finish_reason=None)
    with pytest.raises(StreamInterrupted, match="without a finish reason"):
        ask(model, "stream")
    stub.reply(raw=b"")
    with pytest.raises(StreamInterrupted):
        ask(model, "stream")


@pytest.mark.parametrize("after", [0, 2])
def test_error_event(openai: LanguageModel, stub: StubOpenAI, after: int, ask: Ask) -> None:
    stub.reply(
        text="a b", error_after=after, error={"message": f"{SECRET}", "type": "server_error", "code": "overloaded"}
    )
    with pytest.raises(ProviderUnavailable, match="code overloaded") as caught:
        ask(openai, "stream")
    assert SECRET not in str(caught.value)
    stub.reply(text="a b", error_after=after, error={"message": "slow", "code": 429})
    with pytest.raises(ProviderRateLimited) as limited:
        ask(openai, "stream")
    assert limited.value.status == 429


def test_what_the_caller_handles_is_not_this_error(openai: LanguageModel, stub: StubOpenAI) -> None:
    """A retry calls while it handles the error before: Python makes that one the context of the next."""

    async def again(mode: str, first: BaseException) -> None:
        gone = {**ASK, "api_base": "http://127.0.0.1:9/v1"}
        try:
            raise first
        except type(first):
            await (openai.generate(gone) if mode == "generate" else collect(openai.stream(gone)))

    stub.reply(status=429, headers={"Retry-After": "7"})
    with pytest.raises(ProviderRateLimited) as limited:
        asyncio.run(openai.generate(ASK))
    for mode in ("generate", "stream"):
        for first in filter(None, (limited.value, limited.value.__cause__)):
            with pytest.raises(ProviderUnavailable) as caught:
                asyncio.run(again(mode, first))
            assert (caught.value.status, caught.value.retry_after) == (None, None)

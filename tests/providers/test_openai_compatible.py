"""What the native driver for chat completions says beside the body: headers, query, address; and signed reasoning."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from asked import ASK, MODES, answered

from neuro_mw.errors import ConfigError
from neuro_mw.providers import AnthropicModel, OpenAICompatibleModel, resolve
from neuro_mw.testing import StubAnthropic, StubOpenAI
from neuro_mw.testing.stub_server import Recorded
from neuro_mw.types import LanguageModel, Response

OURS = ("OPENAI_", "OPENROUTER_", "OR_", "ANTHROPIC_")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable that names a key, an address or a header."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)


@pytest.fixture
def stub() -> Iterator[StubOpenAI]:
    with StubOpenAI() as server:
        yield server


def sent(stub: StubOpenAI, provider: str = "openai", mode: str = "generate", **params: Any) -> Recorded:
    model = OpenAICompatibleModel(provider, "m", base_url=stub.base_url, api_key="k")
    answered(model, mode, {**ASK, **params})
    return stub.requests[-1]


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("provider", "variable", "header"),
    [
        ("openai", "OPENAI_ORGANIZATION", "openai-organization"),
        ("openai", "OPENAI_ORG_ID", "openai-organization"),
        ("openai", "OPENAI_PROJECT_ID", "openai-project"),
        ("openrouter", "OR_SITE_URL", "http-referer"),
        ("openrouter", "OR_APP_NAME", "x-title"),
    ],
)
def test_variables_that_become_headers(
    stub: StubOpenAI, monkeypatch: pytest.MonkeyPatch, provider: str, variable: str, header: str, mode: str
) -> None:
    assert header not in sent(stub, provider, mode).headers
    monkeypatch.setenv(variable, "of the environment")
    assert sent(stub, provider, mode).headers[header] == "of the environment"
    assert header not in sent(stub, "groq", mode).headers  # who may be another company
    assert sent(stub, provider, mode, extra_headers={header.title(): "own"}).headers[header] == "own"


@pytest.mark.parametrize("mode", MODES)
def test_organization(stub: StubOpenAI, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("OPENAI_ORGANIZATION", "of the environment")
    found = sent(stub, mode=mode, organization="own")
    assert found.headers["openai-organization"] == "own"
    assert "organization" not in found.body


def test_headers_of_the_model_and_of_the_call(stub: StubOpenAI) -> None:
    headers = {"X-Team": "a", "X-More": "b", "authorization": "Bearer other"}
    model = OpenAICompatibleModel("my_server", "m", base_url=stub.base_url, api_key="k", headers=headers)
    answered(model, params={**ASK, "headers": {"x-team": "c"}, "extra_headers": {"X-MORE": "d"}})
    found = stub.requests[0].headers
    assert (found["x-team"], found["x-more"], found["authorization"]) == ("c", "d", "Bearer other")
    assert not {"headers", "extra_headers"} & set(stub.requests[0].body)


def test_no_key_no_header(stub: StubOpenAI) -> None:
    answered(OpenAICompatibleModel("vllm", "m", base_url=stub.base_url))
    assert "authorization" not in stub.requests[0].headers


# --- the address ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_extra_query(stub: StubOpenAI, mode: str) -> None:
    found = sent(stub, mode=mode, extra_query={"a": "b c", "d": 1})
    assert (found.path, found.query) == ("/v1/chat/completions", {"a": "b c", "d": "1"})
    assert "extra_query" not in found.body
    model = resolve("azure/m", driver="native")
    params = {**ASK, "base_url": stub.base_url.removesuffix("/v1"), "api_key": "k", "api_version": "2024-10-21"}
    answered(model, mode, {**params, "extra_query": {"a": "b"}})
    assert stub.requests[-1].query == {"api-version": "2024-10-21", "a": "b"}


@pytest.mark.parametrize("end", ["", "/", "/chat/completions"])
def test_base_urls_with_a_path_are_taken_as_they_are(stub: StubOpenAI, end: str) -> None:
    for provider in ("openai", "together", "groq", "vllm", "my_server"):
        model = OpenAICompatibleModel(provider, "m", base_url=f"{stub.base_url}/api{end}", api_key="k")
        answered(model)
        assert stub.requests[-1].path == "/v1/api/chat/completions"


@pytest.mark.parametrize("provider", ["mistral", "vllm", "ollama", "lm_studio", "llama_cpp", "openai", "groq"])
def test_v1_where_a_server_of_ones_own_has_no_path(stub: StubOpenAI, provider: str) -> None:
    answered(OpenAICompatibleModel(provider, "m", base_url=stub.base_url.removesuffix("/v1"), api_key="k"))
    clouds = ("openai", "groq")
    assert stub.requests[0].path == ("/chat/completions" if provider in clouds else "/v1/chat/completions")


def test_a_server_of_ones_own_needs_an_address() -> None:
    with pytest.raises(ConfigError, match="base_url"):
        answered(OpenAICompatibleModel("my_server", "m", api_key="k"))


@pytest.mark.parametrize(
    ("address", "marked"), [("http://api.openai.com/v1", False), ("http://gateway.example/v1", True)]
)
def test_the_mark_for_caching_is_not_for_openai(
    stub: StubOpenAI, monkeypatch: pytest.MonkeyPatch, address: str, marked: bool
) -> None:
    """A gateway may lead to Anthropic. The proxy is the stub, so that no name is looked up."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, stub.base_url.removesuffix("/v1"))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    text = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
    model = OpenAICompatibleModel("openai", "m", base_url=address, api_key="k")
    answered(model, params={"messages": [{"role": "user", "content": [text]}]})
    part = stub.requests[0].body["messages"][0]["content"][0]
    assert ("cache_control" in part) is marked


# --- Anthropic, beside it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_betas_are_joined(mode: str) -> None:
    with StubAnthropic() as stub:
        own = {"headers": {"anthropic-beta": "of-the-model"}, "api_key": "k"}
        model = AnthropicModel("claude-sonnet-4-5", base_url=stub.base_url, **own)
        params = {**ASK, "betas": ["of-the-params"], "extra_headers": {"Anthropic-Beta": "of-the-call"}}
        answered(model, mode, params)
        names = [one.strip() for one in stub.requests[0].headers["anthropic-beta"].split(",")]
        assert names == ["of-the-params", "of-the-model", "of-the-call"]


@pytest.mark.parametrize("mode", MODES)
def test_a_token_of_anthropic(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    with StubAnthropic() as stub:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", stub.base_url)
        monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token")
        model = resolve("anthropic/claude-sonnet-4-5", driver="native")
        answered(model, mode)
        assert stub.requests[0].headers["authorization"] == "Bearer token"
        assert "x-api-key" not in stub.requests[0].headers
        monkeypatch.setenv("ANTHROPIC_API_KEY", "key")  # stands above it
        answered(model, mode)
        assert stub.requests[1].headers["x-api-key"] == "key"
        assert "authorization" not in stub.requests[1].headers


# --- signed reasoning -------------------------------------------------------------------------------------------------

DETAILS = [
    {"type": "reasoning.text", "text": "hm ", "signature": "s1", "format": "anthropic-claude-v1", "index": 0},
    {"type": "reasoning.text", "text": "yes", "signature": "s2", "format": "anthropic-claude-v1", "index": 1},
    {"type": "reasoning.encrypted", "data": "d", "format": "anthropic-claude-v1", "index": 2},
]


def first_answer(stub: StubOpenAI, mode: str) -> tuple[LanguageModel, Response]:
    stub.reply(text="4", message_fields={"reasoning": "hm yes", "reasoning_details": DETAILS})
    model = OpenAICompatibleModel("openrouter", "m", base_url=stub.base_url, api_key="k")
    return model, answered(model, mode)


@pytest.mark.parametrize("mode", MODES)
def test_openrouters_signed_reasoning_goes_back(stub: StubOpenAI, mode: str) -> None:
    model, first = first_answer(stub, mode)
    assert (first.text, first.reasoning) == ("4", "hm yes")
    assert "hm" not in str(first.provider_fields)  # what a guard changes is changed everywhere
    answered(model, mode, {"messages": [*ASK["messages"], first.to_message(), *ASK["messages"]]})
    again = stub.requests[-1].body["messages"][1]
    assert again["reasoning_details"] == DETAILS
    assert (again["content"], "provider_fields" in again) == ("4", False)


@pytest.mark.parametrize("mode", MODES)
def test_the_signature_of_changed_reasoning_does_not(stub: StubOpenAI, mode: str) -> None:
    model, first = first_answer(stub, mode)
    first.reasoning = "[redacted]"
    answered(model, mode, {"messages": [*ASK["messages"], first.to_message(), *ASK["messages"]]})
    again = stub.requests[-1].body["messages"][1]
    assert not {"reasoning_details", "provider_fields"} & set(again)
    assert "hm" not in str(again)


@pytest.mark.parametrize("mode", MODES)
def test_signed_reasoning_is_for_the_provider_that_signed(stub: StubOpenAI, mode: str) -> None:
    _, first = first_answer(stub, mode)
    found = sent(stub, "openai", mode, messages=[*ASK["messages"], first.to_message(), *ASK["messages"]])
    assert not {"reasoning_details", "provider_fields"} & set(found.body["messages"][1])

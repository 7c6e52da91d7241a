"""Azure OpenAI: where litellm and the native driver send their requests, and with what."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

import pytest

from neuro_mw.errors import AuthenticationFailed, ConfigError
from neuro_mw.parts import collect
from neuro_mw.providers import resolve
from neuro_mw.providers.azure import AzureModel
from neuro_mw.providers.openai_compatible import OpenAICompatibleModel
from neuro_mw.testing import StubOpenAI

ASK = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
VARIABLES = ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_AD_TOKEN", "AZURE_API_BASE", "AZURE_API_VERSION")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubOpenAI]:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with StubOpenAI() as server:
        monkeypatch.setenv("AZURE_API_BASE", server.base_url.removesuffix("/v1"))
        monkeypatch.setenv("AZURE_API_KEY", "k")
        yield server


def sent(stub: StubOpenAI, driver: str, mode: str, model: str, params: dict[str, Any]) -> dict[str, Any]:
    async def call() -> None:
        asked = resolve(f"azure/{model}", driver=driver)
        await (asked.generate({**ASK, **params}) if mode == "generate" else collect(asked.stream({**ASK, **params})))

    asyncio.run(call())
    request = stub.requests[-1]
    names = ("api-key", "authorization")
    headers = {name: request.headers[name] for name in names if name in request.headers}
    body = {name: value for name, value in request.body.items() if (name, value) != ("stream", False)}  # the default
    return {"path": request.path, "query": request.query, **headers, "body": body}


@pytest.mark.parametrize("mode", ["generate", "stream"])
@pytest.mark.parametrize(
    ("model", "params", "environment"),
    [
        ("my-gpt", {}, {}),
        ("my-gpt", {"api_version": "2024-06-01"}, {}),
        ("my-gpt", {}, {"AZURE_API_VERSION": "2024-10-21"}),
        ("my-gpt", {"api_version": "v1"}, {}),
        ("my-gpt", {"api_key": "own"}, {}),
        ("my-gpt", {"azure_ad_token": "token"}, {"AZURE_API_KEY": ""}),
        ("my-gpt", {}, {"AZURE_API_KEY": "", "AZURE_OPENAI_API_KEY": "other"}),
        ("team-o3", {"reasoning_effort": "low"}, {}),
        ("my-gpt", {"tools": [{"type": "function", "function": {"name": "f"}}], "seed": 1, "unheard_of": 2}, {}),
    ],
)
def test_both_drivers_ask_the_same(
    stub: StubOpenAI,
    mode: str,
    model: str,
    params: dict[str, Any],
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    assert sent(stub, "native", mode, model, params) == sent(stub, "litellm", mode, model, params)


@pytest.mark.parametrize(
    ("end", "params", "path", "version"),
    [
        ("/openai/deployments/other", {}, "/openai/deployments/other/chat/completions", "2025-02-01-preview"),
        ("/openai/deployments/x/chat/completions?api-version=1", {}, "/openai/deployments/x/chat/completions", "1"),
        ("/openai/deployments/x/chat/completions?api-version=1", {"api_version": "2"},
         "/openai/deployments/x/chat/completions", "2"),
        ("/openai/", {"extra_query": {"api-version": "3"}}, "/openai/deployments/a%2Fb%3F/chat/completions", "3"),
        ("/openai/v1", {}, "/openai/v1/chat/completions", None),
        ("/openai/v1?api-version=preview", {}, "/openai/v1/chat/completions", "preview"),
        ("/openai/deployments/d", {"api_version": "v1"}, "/openai/v1/chat/completions", None),
        ("/openai/deployments/", {}, "/openai/deployments/a%2Fb%3F/chat/completions", "2025-02-01-preview"),
    ],
)  # fmt: skip
def test_addresses(stub: StubOpenAI, end: str, params: dict[str, str], path: str, version: str | None) -> None:
    base = stub.base_url.removesuffix("/v1") + end
    found = sent(stub, "native", "generate", "a/b?", {"base_url": base, **params})
    assert found["query"] == ({"api-version": version} if version else {})
    assert quote(found["path"]) == quote(unquote(path))


def test_a_token_goes_to_azure_only(stub: StubOpenAI) -> None:
    model = OpenAICompatibleModel("groq", "m", base_url=stub.base_url, api_key="own")
    with pytest.raises(ConfigError, match="azure_ad_token"):
        asyncio.run(model.generate({**ASK, "azure_ad_token": "AZ"}))
    assert stub.requests == []


def test_the_query_of_an_address_is_kept(stub: StubOpenAI) -> None:
    base = stub.base_url.removesuffix("/v1") + "/gateway?subscription-key=abc"
    found = sent(stub, "native", "generate", "my-gpt", {"base_url": base})
    assert found["query"] == {"subscription-key": "abc", "api-version": "2025-02-01-preview"}


def test_a_token_of_the_environment(stub: StubOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_API_KEY")
    monkeypatch.setenv("AZURE_AD_TOKEN", "token\n")
    assert sent(stub, "native", "generate", "my-gpt", {})["authorization"] == "Bearer token"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="AZURE_API_BASE"):
        asyncio.run(AzureModel("azure", "x").generate(ASK))
    with pytest.raises(AuthenticationFailed, match="AZURE_API_KEY or AZURE_OPENAI_API_KEY"):
        asyncio.run(AzureModel("azure", "x", base_url="http://127.0.0.1:1").generate(ASK))

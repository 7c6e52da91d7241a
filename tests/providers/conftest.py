"""Both drivers over real HTTP against the stub server: nothing in litellm is patched."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from asked import Ask, Both, answered

from neuro_mw.providers import resolve
from neuro_mw.testing import StubOpenAI
from neuro_mw.types import LanguageModel, Response

# litellm reads the streams of "openai" with the OpenAI SDK, those of the others with readers of its own
MODELS = [
    ("litellm", "openai/gpt-4o-mini"),
    ("litellm", "vllm/some/model"),
    ("litellm", "deepseek/chat"),
    ("native", "openai/gpt-4o-mini"),
    ("native", "vllm/some/model"),
]


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    for name in ("OPENAI", "DEEPSEEK", "ANTHROPIC"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-KEY-SECRET")


@pytest.fixture
def stub(keys: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubOpenAI]:
    with StubOpenAI() as server:
        for name in ("OPENAI", "DEEPSEEK", "HOSTED_VLLM"):
            monkeypatch.setenv(f"{name}_BASE_URL", server.base_url)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url.removesuffix("/v1"))
        yield server


@pytest.fixture(params=MODELS, ids=" ".join)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    driver, name = request.param
    return resolve(name, driver=driver)


@pytest.fixture(params=["litellm", "native"])
def openai(request: pytest.FixtureRequest) -> LanguageModel:
    return resolve("openai/gpt-4o-mini", driver=request.param)


@pytest.fixture
def ask() -> Ask:
    """One call in an event loop of its own."""
    return answered


@pytest.fixture
def both(stub: StubOpenAI, ask: Ask) -> Both:
    """The answer to one script in both modes, which must not differ."""

    def call(model: LanguageModel, script: dict[str, Any]) -> Response:
        stub.reply(**script)
        whole = ask(model)
        stub.reply(**script)
        streamed = ask(model, "stream")
        streamed.id = whole.id  # each call has its own
        assert streamed == whole
        return whole

    return call


PREFIXES = (
    "OPENAI GROQ MISTRAL DEEPSEEK TOGETHER_AI FIREWORKS OPENROUTER XAI PERPLEXITY HOSTED_VLLM LM_STUDIO LLAMAFILE"
    " OLLAMA"
)


@pytest.fixture(scope="module")
def server() -> Iterator[StubOpenAI]:
    """One server in the place of every provider that speaks chat completions, for a whole module."""
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

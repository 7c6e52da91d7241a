"""Both drivers over real HTTP against the stub server: nothing in litellm is patched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from neuro_mw.parts import collect
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
def ask() -> Callable[..., Response]:
    """One call in an event loop of its own."""

    def call(model: LanguageModel, mode: str = "generate", params: dict[str, Any] | None = None) -> Response:
        async def run() -> Response:
            asked = {"messages": [{"role": "user", "content": "hello PROMPT-SECRET"}]} if params is None else params
            return await (model.generate(asked) if mode == "generate" else collect(model.stream(asked)))

        return asyncio.run(run())

    return call


@pytest.fixture
def both(stub: StubOpenAI, ask: Callable[..., Response]) -> Callable[[LanguageModel, dict[str, Any]], Response]:
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

"""Model strings to drivers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from neuro_mw.errors import ConfigError
from neuro_mw.providers import (
    DRIVERS,
    base_url,
    known_provider,
    known_providers,
    missing_key,
    provider_info,
    resolve,
    split_model,
)
from neuro_mw.providers.echo import EchoModel
from neuro_mw.providers.litellm import LiteLLMModel


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("openai/gpt-4o", ("openai", "gpt-4o")),
        ("openrouter/meta-llama/x", ("openrouter", "meta-llama/x")),
        ("openrouter/openrouter/auto", ("openrouter", "openrouter/auto")),
        ("meta-llama/x", (None, "meta-llama/x")),
        ("gpt-4o", (None, "gpt-4o")),
        ("openai", (None, "openai")),
        ("echo", ("echo", "echo")),
        ("", (None, "")),
        ("/x", (None, "/x")),
    ],
)
def test_split(model: str, expected: tuple[str | None, str]) -> None:
    assert split_model(model) == expected


def test_split_with_registered() -> None:
    assert split_model("mine/a/b", registered={"mine"}) == ("mine", "a/b")
    assert split_model("mine", registered=["mine"]) == ("mine", "mine")


@pytest.mark.parametrize(
    "name", ["together", "fireworks_ai", "vllm", "lm_studio", "nano-gpt", "bedrock", "watsonx", "poe"]
)
def test_known(name: str) -> None:
    assert known_provider(name)
    assert name in known_providers()


def test_registered_are_known() -> None:
    assert not known_provider("mine")
    assert known_provider("mine", ["mine"])
    assert "mine" in known_providers(["mine"])


def test_every_provider_of_litellm_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the import asks the network
    import litellm  # the one place where the list that was read as text meets the real one

    assert {one.value for one in litellm.LlmProviders} <= set(known_providers())
    assert set(litellm.openai_compatible_providers) <= set(known_providers())


def test_resolving_loads_neither_litellm_nor_a_client() -> None:
    code = """
import sys
from neuro_mw.providers import known_providers, resolve
resolve("openai/gpt-4o")
heavy = {"litellm", "openai", "aiohttp", "orjson", "httpx"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert len(known_providers()) > 100
resolve("watsonx/ibm/granite")
assert "litellm" not in sys.modules
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_unknown_provider_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'opnai' is not a known provider") as caught:
        resolve("opnai/gpt-4o")
    assert caught.value.nearest == "openai"
    assert "provider/model" in str(caught.value)


def test_bare_model_names_its_provider() -> None:
    with pytest.raises(ConfigError, match="no known provider") as caught:
        resolve("gpt-4o")
    assert caught.value.nearest == "openai/gpt-4o"


@pytest.mark.parametrize("model", ["", "zzzzqqqq", "openai/", "meta-llama/x"])
def test_no_provider(model: str) -> None:
    with pytest.raises(ConfigError, match="provider/model"):
        resolve(model)


def test_unknown_driver() -> None:
    with pytest.raises(ConfigError, match="litelm") as caught:
        resolve("openai/x", driver="litelm")
    assert caught.value.nearest == "litellm"


def test_native_driver_does_not_exist_yet() -> None:
    with pytest.raises(ConfigError, match="no native driver exists for provider 'openai'"):
        resolve("openai/x", driver="native")


@pytest.mark.parametrize("driver", ["auto", "litellm"])
def test_litellm_serves_the_rest(driver: str) -> None:
    model = resolve("openrouter/meta-llama/x", driver=driver)
    assert isinstance(model, LiteLLMModel)
    assert (model.provider, model.model_id) == ("openrouter", "meta-llama/x")


@pytest.mark.parametrize("driver", DRIVERS)
def test_registered_factories_go_first(driver: str) -> None:
    model = resolve("openai/tiny", driver=driver, registered={"openai": lambda id: EchoModel(id + "!")})
    assert model.model_id == "tiny!"


def test_key_and_base_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "POE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert missing_key("openai", {}) == ("OPENAI_API_KEY",)
    assert missing_key("openai", {"api_key": "sk"}) == ()
    assert missing_key("poe", {}) == ("POE_API_KEY",)  # from litellm's own list
    assert missing_key("ollama", {}) == ()
    assert missing_key("nobody", {}) == ()
    assert provider_info("nobody").keys == ()
    assert base_url("openai") is None
    monkeypatch.setenv("OPENAI_API_BASE", "http://b")
    assert base_url("openai") == "http://b"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://a")
    assert base_url("openai") == "http://a"
    monkeypatch.setenv("OPENAI_API_KEY", "sk")
    assert missing_key("openai", {}) == ()

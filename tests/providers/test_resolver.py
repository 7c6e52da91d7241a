"""Model strings to drivers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from neuro_mw.errors import ConfigError
from neuro_mw.providers import (
    DRIVERS,
    driver_of,
    known_provider,
    known_providers,
    provider_info,
    resolve,
    split_model,
)
from neuro_mw.providers.anthropic import AnthropicModel
from neuro_mw.providers.catalog import PROVIDERS, base_url, endpoint_of, key_of, missing_key
from neuro_mw.providers.echo import EchoModel
from neuro_mw.providers.litellm import LiteLLMModel
from neuro_mw.providers.openai_compatible import OpenAICompatibleModel


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


def test_no_native_driver_names_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="no native driver exists for provider 'bedrock'") as caught:
        resolve("bedrock/x", driver="native")
    assert "openai" in str(caught.value)


@pytest.mark.parametrize("driver", ["auto", "native"])
def test_native_where_there_is_a_dialect(driver: str) -> None:
    model = resolve("openrouter/meta-llama/x", driver=driver)
    assert isinstance(model, OpenAICompatibleModel)
    assert (model.provider, model.model_id) == ("openrouter", "meta-llama/x")
    assert isinstance(resolve("anthropic/claude-x", driver=driver), AnthropicModel)


@pytest.mark.parametrize(
    ("name", "driver"),
    [("bedrock/x", "auto"), ("openai/x", "litellm"), ("anthropic/x", "litellm"), ("openai/o3-pro", "auto")],
)
def test_litellm_serves_the_rest(name: str, driver: str) -> None:
    assert isinstance(resolve(name, driver=driver), LiteLLMModel)


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_the_driver_that_is_named_is_the_one_that_is_taken(provider: str) -> None:
    kind = type(resolve(f"{provider}/x")).__module__.rpartition(".")[2]
    named = {"openai_compatible": "native", "anthropic": "native", "azure": "native"}.get(kind, kind)
    assert driver_of(provider) == named


def test_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE", "HOSTED_VLLM_BASE_URL", "HOSTED_VLLM_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    assert endpoint_of("openai") == ("https://api.openai.com/v1", "")
    assert endpoint_of("openai", " http://127.0.0.1:1/ ") == ("http://127.0.0.1:1", "")
    assert endpoint_of("vllm", "http://127.0.0.1:1/") == ("http://127.0.0.1:1/v1", "")
    assert endpoint_of("openai", "http://a/v1/?b=c") == ("http://a/v1", "?b=c")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://a/b")
    assert endpoint_of("openai") == ("http://a/b", "")
    with pytest.raises(ConfigError, match="HOSTED_VLLM_BASE_URL"):
        endpoint_of("vllm")


@pytest.mark.parametrize(
    "wrong",
    ["localhost:8000", "ftp://x", "http://", "file:///x", "http://a:99999", "http://a:b", "http://[::1/v1", "http://a..b",
     "http://user:URL-SECRET@host/v1", "http://a/v1#f"],
)  # fmt: skip
def test_addresses_that_are_none(wrong: str) -> None:
    with pytest.raises(ConfigError, match="base URL") as caught:
        endpoint_of("openai", wrong)
    assert "SECRET" not in f"{caught.value}{caught.value.__cause__}"


def test_optional_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOSTED_VLLM_API_KEY", raising=False)
    assert key_of("vllm", "m") is None
    monkeypatch.setenv("HOSTED_VLLM_API_KEY", " k\n")
    assert key_of("vllm", "m") == "k"


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

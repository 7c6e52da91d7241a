"""Model strings to drivers: ``resolve("openai/gpt-4o-mini")`` gives a model that answers.

Nothing is loaded here before it is used: a driver when a model of it is resolved, litellm at its first call.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from neuro_mw.errors import ConfigError, nearest
from neuro_mw.types import LanguageModel

__all__ = ["DRIVERS", "ProviderInfo", "known_provider", "known_providers", "provider_info", "resolve", "split_model"]

DRIVERS = ("auto", "litellm", "native")
FORM = "the form 'provider/model', such as 'openai/gpt-4o-mini'"


class ProviderInfo(NamedTuple):
    """What is known of a provider without asking litellm.

    ``keys`` are the environment variables that may hold its key (empty: none is needed, or none is known), ``bases``
    those that may hold its base URL, ``litellm`` the name litellm knows it by.
    """

    keys: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    litellm: str = ""


def _usual(prefix: str, *more_keys: str, litellm: str = "") -> ProviderInfo:
    return ProviderInfo((f"{prefix}_API_KEY", *more_keys), (f"{prefix}_BASE_URL", f"{prefix}_API_BASE"), litellm)


def _local(prefix: str, litellm: str = "") -> ProviderInfo:
    return ProviderInfo((), (f"{prefix}_BASE_URL", f"{prefix}_API_BASE"), litellm)


_TOGETHER = _usual("TOGETHER_AI", "TOGETHER_API_KEY", "TOGETHERAI_API_KEY", "TOGETHER_AI_TOKEN", litellm="together_ai")
_FIREWORKS = _usual(
    "FIREWORKS", "FIREWORKS_AI_API_KEY", "FIREWORKSAI_API_KEY", "FIREWORKS_AI_TOKEN", litellm="fireworks_ai"
)
_VLLM = _local("HOSTED_VLLM", "hosted_vllm")

_PROVIDERS: dict[str, ProviderInfo] = {
    "echo": ProviderInfo(),
    "openai": _usual("OPENAI"),
    "anthropic": _usual("ANTHROPIC", "ANTHROPIC_AUTH_TOKEN"),
    "groq": _usual("GROQ"),
    "mistral": _usual("MISTRAL"),
    "deepseek": _usual("DEEPSEEK"),
    "together_ai": _TOGETHER,
    "together": _TOGETHER,
    "fireworks_ai": _FIREWORKS,
    "fireworks": _FIREWORKS,
    "openrouter": _usual("OPENROUTER", "OR_API_KEY"),
    "xai": _usual("XAI"),
    "perplexity": _usual("PERPLEXITY", "PERPLEXITYAI_API_KEY"),
    "gemini": ProviderInfo(("GEMINI_API_KEY", "GOOGLE_API_KEY")),
    "azure": ProviderInfo(("AZURE_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_AD_TOKEN"), ("AZURE_API_BASE",)),
    "cohere": ProviderInfo(("COHERE_API_KEY", "CO_API_KEY")),
    "cerebras": _usual("CEREBRAS"),
    "deepinfra": _usual("DEEPINFRA"),
    "bedrock": ProviderInfo(),  # AWS has many ways to sign: litellm and boto3 look for them
    "vertex_ai": ProviderInfo(),  # as above, with Google's default credentials
    "huggingface": ProviderInfo(),
    "ollama": _local("OLLAMA"),
    "ollama_chat": _local("OLLAMA"),
    "vllm": _VLLM,  # a server: litellm's own "vllm" would load the model into this process
    "hosted_vllm": _VLLM,
    "lm_studio": _local("LM_STUDIO"),
    "llamafile": _local("LLAMAFILE"),
    "llama_cpp": _local("LLAMAFILE", "llamafile"),  # the same server: OpenAI-compatible on port 8080
    "litellm_proxy": ProviderInfo((), ("LITELLM_PROXY_API_BASE",)),
}


def resolve(
    model: str,
    *,
    driver: str = "auto",
    registered: Mapping[str, Callable[[str], LanguageModel]] | None = None,
) -> LanguageModel:
    """The driver for a model string.

    `model` is ``"provider/model"`` (or ``"echo"``), `driver` one of "auto", "litellm", "native". `registered` maps
    further provider names to factories that take the model id; they go before the built-in ones.
    Raises ConfigError where the provider or the driver is not known. No key is looked at before the first call.

    >>> resolve("echo/echo").provider
    'echo'
    """
    if driver not in DRIVERS:
        raise ConfigError(
            f"unknown driver {driver!r}",
            key="driver",
            expected=f"one of {', '.join(DRIVERS)}",
            nearest=nearest(str(driver), DRIVERS),
        )
    provider, model_id = split_model(model, registered=registered or ())
    if provider is None:
        raise _unknown(model, registered or ())
    if not model_id:
        raise ConfigError(f"model {model!r} names a provider but no model", expected=FORM)
    if registered and provider in registered:
        return registered[provider](model_id)
    if provider == "echo":
        from .echo import EchoModel

        return EchoModel(model_id)
    if driver == "native":
        raise ConfigError(
            f"no native driver exists for provider {provider!r}; driver='auto' uses litellm", key="driver"
        )
    from .litellm import LiteLLMModel

    return LiteLLMModel(provider, model_id)


def split_model(model: str, *, registered: Collection[str] = ()) -> tuple[str | None, str]:
    """Provider and model id of a model string; the provider is None where the first segment is not a known one.

    >>> split_model("openrouter/meta-llama/x"), split_model("meta-llama/x")
    (('openrouter', 'meta-llama/x'), (None, 'meta-llama/x'))
    """
    first, slash, rest = model.partition("/")
    if slash and known_provider(first, registered):
        return first, rest
    if not slash and (model == "echo" or model in registered):
        return model, model
    return None, model


def known_provider(name: str, registered: Collection[str] = ()) -> bool:
    """Whether `name` is a provider: registered, in the table here, or one that litellm knows."""
    return name in registered or name in _PROVIDERS or name in _litellm_providers()


def known_providers(registered: Collection[str] = ()) -> tuple[str, ...]:
    """The names of all providers, sorted."""
    return tuple(sorted({*_PROVIDERS, *_litellm_providers(), *registered}))


def provider_info(name: str) -> ProviderInfo:
    """Key and base-URL variables of a provider; those of litellm's own list where the table here has none."""
    if name in _PROVIDERS:
        return _PROVIDERS[name]
    return _litellm_providers().get(name, ProviderInfo())


def missing_key(provider: str, params: Mapping[str, Any]) -> tuple[str, ...]:
    """The variables of which one has to be set before `provider` can be called; empty where nothing is missing."""
    keys = provider_info(provider).keys
    if any(params.get(name) for name in ("api_key", "azure_ad_token", "azure_ad_token_provider")):
        return ()
    return () if any(os.environ.get(key) for key in keys) else keys


def base_url(provider: str) -> str | None:
    """The base URL that the environment names for `provider`."""
    return next((os.environ[name] for name in provider_info(provider).bases if os.environ.get(name)), None)


def _unknown(model: str, registered: Collection[str]) -> ConfigError:
    first, slash, _ = model.partition("/")
    if slash:
        reason = f"model {model!r}: {first!r} is not a known provider"
        return ConfigError(reason, expected=FORM, nearest=nearest(first.lower(), known_providers(registered)))
    provider = _provider_of(model)
    near = f"{provider}/{model}" if provider else nearest(model.lower(), known_providers(registered))
    return ConfigError(f"model {model!r} names no known provider", expected=FORM, nearest=near)


# --- what litellm knows, read from its files: importing it takes seconds ------------------------------------------


PRICES = "model_prices_and_context_window_backup.json"


def _litellm_file(*path: str) -> bytes:
    found = importlib.util.find_spec("litellm")  # finds a top-level package without running it
    places = found.submodule_search_locations if found else None
    file = Path(next(iter(places)), *path) if places else None
    return file.read_bytes() if file is not None and file.is_file() else b""


@functools.cache
def _litellm_providers() -> Mapping[str, ProviderInfo]:
    import orjson

    source = _litellm_file("types", "utils.py")
    block = re.search(rb"class LlmProviders\(.*?(?=\n\S)", source, re.DOTALL)
    names = set(re.findall(rb'^    [A-Z0-9_]+ = "([^"]+)"', block[0], re.MULTILINE)) if block else set()
    names |= set(re.findall(rb'"litellm_provider":\s*"([^"/ ]+)"', _litellm_file(PRICES)))
    support = orjson.loads(_litellm_file("provider_endpoints_support_backup.json") or b"{}")
    names |= {name.encode() for name in support.get("providers") or () if "/" not in name}
    known = {name.decode(): ProviderInfo() for name in names}
    like_openai = orjson.loads(_litellm_file("llms", "openai_like", "providers.json") or b"{}")
    for name, entry in like_openai.items():
        base = (entry["api_base_env"],) if entry.get("api_base_env") else ()
        known[name] = ProviderInfo((entry["api_key_env"],) if entry.get("api_key_env") else (), base)
    return known


def _provider_of(model: str) -> str | None:
    """The provider under which litellm's price list has a bare model name; only ever asked on the way to an error."""
    import orjson

    entry = orjson.loads(_litellm_file(PRICES) or b"{}").get(model)
    return entry.get("litellm_provider") if isinstance(entry, dict) else None

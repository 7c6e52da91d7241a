"""Model strings to drivers: ``resolve("openai/gpt-4o-mini")`` gives a model that answers.

Nothing is loaded here before it is used: a driver when a model of it is resolved, aiohttp or litellm at its first call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from neuro_mw.errors import ConfigError
from neuro_mw.names import nearest
from neuro_mw.types import LanguageModel

from .catalog import (
    PROVIDERS,
    ProviderInfo,
    driver_of,
    known_provider,
    known_providers,
    provider_info,
    provider_of,
    speaks_chat,
)

if TYPE_CHECKING:
    from .anthropic import AnthropicModel
    from .azure import AzureModel
    from .litellm import LiteLLMModel
    from .openai_compatible import OpenAICompatibleModel

__all__ = [
    "DRIVERS",
    "AnthropicModel",
    "AzureModel",
    "LiteLLMModel",
    "OpenAICompatibleModel",
    "ProviderInfo",
    "driver_of",
    "known_provider",
    "known_providers",
    "provider_info",
    "resolve",
    "split_model",
]

DRIVERS = ("auto", "litellm", "native")
FORM = "the form 'provider/model', such as 'openai/gpt-4o-mini'"
_CLASSES = {
    "AnthropicModel": "anthropic",
    "AzureModel": "azure",
    "LiteLLMModel": "litellm",
    "OpenAICompatibleModel": "openai_compatible",
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
    dialect = provider_info(provider).dialect
    if driver == "native" and not dialect:
        native = ", ".join(sorted(name for name, info in PROVIDERS.items() if info.dialect))
        raise ConfigError(
            f"no native driver exists for provider {provider!r}; driver='auto' uses litellm",
            key="driver",
            expected=f"with driver='native' one of {native}",
        )
    if driver == "litellm" or not dialect or (driver == "auto" and not speaks_chat(provider, model_id)):
        from .litellm import LiteLLMModel

        return LiteLLMModel(provider, model_id)
    if dialect == "anthropic":
        from .anthropic import AnthropicModel

        return AnthropicModel(model_id)
    if dialect == "azure":
        from .azure import AzureModel

        return AzureModel(provider, model_id)
    from .openai_compatible import OpenAICompatibleModel

    return OpenAICompatibleModel(provider, model_id)


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


def _unknown(model: str, registered: Collection[str]) -> ConfigError:
    first, slash, _ = model.partition("/")
    if slash:
        reason = f"model {model!r}: {first!r} is not a known provider"
        return ConfigError(reason, expected=FORM, nearest=nearest(first.lower(), known_providers(registered)))
    provider = provider_of(model)
    near = f"{provider}/{model}" if provider else nearest(model.lower(), known_providers(registered))
    return ConfigError(f"model {model!r} names no known provider", expected=FORM, nearest=near)


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_CLASSES[name]}", __name__), name)

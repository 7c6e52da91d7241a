"""What is known of each provider: which dialect it speaks, where, and which variables hold its key and base URL."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from neuro_mw.bundled import PRICES, find_prices, litellm_file
from neuro_mw.errors import AuthenticationFailed, ConfigError

Dialect = Literal["openai", "anthropic", "azure", ""]


class ProviderInfo(NamedTuple):
    """What is known of a provider without asking litellm.

    ``keys`` are the environment variables that may hold its key (empty: none is needed, or none is known), ``bases``
    those that may hold its base URL, ``litellm`` the name litellm knows it by. ``dialect`` is what the native driver
    speaks with it ("": there is none), ``url`` the base URL where nobody names another. ``optional_keys`` hold a key
    that a server of one's own may ask for.
    """

    keys: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    litellm: str = ""
    dialect: Dialect = ""
    url: str = ""
    optional_keys: tuple[str, ...] = ()


def _cloud(prefix: str, url: str = "", *more_keys: str, litellm: str = "", dialect: Dialect = "openai") -> ProviderInfo:
    bases = (f"{prefix}_BASE_URL", f"{prefix}_API_BASE")
    return ProviderInfo((f"{prefix}_API_KEY", *more_keys), bases, litellm, dialect if url else "", url)


def _local(prefix: str, url: str = "", litellm: str = "", dialect: Dialect = "openai") -> ProviderInfo:
    bases = (f"{prefix}_BASE_URL", f"{prefix}_API_BASE")
    return ProviderInfo((), bases, litellm, dialect, url, (f"{prefix}_API_KEY",))


_TOGETHER = _cloud(
    "TOGETHER_AI", "https://api.together.ai/v1",
    "TOGETHER_API_KEY", "TOGETHERAI_API_KEY", "TOGETHER_AI_TOKEN", litellm="together_ai",
)  # fmt: skip
_FIREWORKS = _cloud(
    "FIREWORKS", "https://api.fireworks.ai/inference/v1",
    "FIREWORKS_AI_API_KEY", "FIREWORKSAI_API_KEY", "FIREWORKS_AI_TOKEN", litellm="fireworks_ai",
)  # fmt: skip
_VLLM = _local("HOSTED_VLLM", litellm="hosted_vllm")
_OLLAMA = _local("OLLAMA", "http://localhost:11434/v1")

PROVIDERS: dict[str, ProviderInfo] = {
    "echo": ProviderInfo(),
    "openai": _cloud("OPENAI", "https://api.openai.com/v1"),
    "anthropic": _cloud("ANTHROPIC", "https://api.anthropic.com", "ANTHROPIC_AUTH_TOKEN", dialect="anthropic"),
    "groq": _cloud("GROQ", "https://api.groq.com/openai/v1"),
    "mistral": _cloud("MISTRAL", "https://api.mistral.ai/v1"),
    "deepseek": _cloud("DEEPSEEK", "https://api.deepseek.com/beta"),
    "together_ai": _TOGETHER,
    "together": _TOGETHER,
    "fireworks_ai": _FIREWORKS,
    "fireworks": _FIREWORKS,
    "openrouter": _cloud("OPENROUTER", "https://openrouter.ai/api/v1", "OR_API_KEY"),
    "xai": _cloud("XAI", "https://api.x.ai/v1"),
    "perplexity": _cloud("PERPLEXITY", "https://api.perplexity.ai", "PERPLEXITYAI_API_KEY"),
    "gemini": ProviderInfo(("GEMINI_API_KEY", "GOOGLE_API_KEY")),
    "azure": ProviderInfo(
        ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_AD_TOKEN"), ("AZURE_API_BASE",), dialect="azure"
    ),
    "cohere": ProviderInfo(("COHERE_API_KEY", "CO_API_KEY")),
    "cerebras": _cloud("CEREBRAS"),
    "deepinfra": _cloud("DEEPINFRA"),
    "bedrock": ProviderInfo(),  # AWS has many ways to sign: litellm and boto3 look for them
    "vertex_ai": ProviderInfo(),  # as above, with Google's default credentials
    "huggingface": ProviderInfo(),
    "ollama": _OLLAMA,
    "ollama_chat": _OLLAMA._replace(dialect=""),  # the name of litellm's driver for Ollama's own protocol
    "vllm": _VLLM,  # a server: litellm's own "vllm" would load the model into this process
    "hosted_vllm": _VLLM,
    "lm_studio": _local("LM_STUDIO", "http://localhost:1234/v1"),
    "llamafile": _local("LLAMAFILE", "http://localhost:8080/v1"),
    "llama_cpp": _local("LLAMAFILE", "http://localhost:8080/v1", "llamafile"),  # the same server, the same port
    "litellm_proxy": ProviderInfo((), ("LITELLM_PROXY_API_BASE",)),
}
_RESPONSES_ONLY = re.compile(r"codex|deep-research|^(?:.*/)?(?:o\d|gpt-[56][\w.]*)-pro(?:-|$)|^gpt-daybreak")
LOCAL = frozenset(name for name, info in PROVIDERS.items() if info.optional_keys)


def known_provider(name: str, registered: Collection[str] = ()) -> bool:
    """Whether `name` is a provider: registered, in the table here, or one that litellm knows."""
    return name in registered or name in PROVIDERS or name in _litellm_providers()


def known_providers(registered: Collection[str] = ()) -> tuple[str, ...]:
    """The names of all providers, sorted."""
    return tuple(sorted({*PROVIDERS, *_litellm_providers(), *registered}))


def provider_info(name: str) -> ProviderInfo:
    """Key and base-URL variables of a provider; those of litellm's own list where the table here has none."""
    if name in PROVIDERS:
        return PROVIDERS[name]
    return _litellm_providers().get(name, ProviderInfo())


def driver_of(provider: str) -> str:
    """The driver that "auto" takes for a provider: "native", "litellm" or "echo".

    >>> driver_of("openai"), driver_of("bedrock")
    ('native', 'litellm')
    """
    if provider == "echo":
        return "echo"
    return "native" if provider_info(provider).dialect else "litellm"


def speaks_chat(provider: str, model: str) -> bool:
    """Whether a model answers chat completions. OpenAI's codex, pro and research models have the Responses API only.

    >>> speaks_chat("openai", "gpt-5-mini"), speaks_chat("openai", "o3-pro")
    (True, False)
    """
    return provider not in ("openai", "azure") or not _RESPONSES_ONLY.search(model)


def missing_key(provider: str, params: Mapping[str, Any]) -> tuple[str, ...]:
    """The variables of which one has to be set before `provider` can be called; empty where nothing is missing."""
    keys = provider_info(provider).keys
    if any(params.get(name) for name in ("api_key", "azure_ad_token", "azure_ad_token_provider")):
        return ()
    return () if any(os.environ.get(key) for key in keys) else keys


def key_of(provider: str, model: str) -> str | None:
    """The key that the environment holds for `provider`, None where it needs none.

    Raises AuthenticationFailed where it needs one and no variable is set.
    """
    info = provider_info(provider)
    for name in info.keys or info.optional_keys:
        if key := os.environ.get(name, "").strip():
            return key
    if not info.keys:
        return None
    raise no_key(provider, model, info.keys)


def no_key(provider: str, model: str, variables: Collection[str]) -> AuthenticationFailed:
    """What a call without a key raises, before any request."""
    return AuthenticationFailed(
        f"{provider}/{model}: no API key; set the environment variable {' or '.join(variables)}",
        provider=provider,
        model=model,
    )


def base_url(provider: str) -> str | None:
    """The base URL that the environment names for `provider`."""
    return next((os.environ[name] for name in provider_info(provider).bases if os.environ.get(name)), None)


def endpoint_of(provider: str, given: str | None = None) -> tuple[str, str]:
    """The base URL of a native call: `given`, the environment's, or the provider's own; and its query, if it has one.

    The URL has no slash at its end. Raises ConfigError where there is none, or where it is no http(s) URL.

    >>> endpoint_of("ollama", "http://127.0.0.1:11434")  # servers of one's own serve this dialect under /v1
    ('http://127.0.0.1:11434/v1', '')
    """
    info = provider_info(provider)
    url = given or base_url(provider) or info.url
    if not url:
        variables = f" or set {info.bases[0]}" if info.bases else ""
        raise ConfigError(f"provider {provider!r} has no base URL of its own", key="base_url",
                          expected=f"give base_url{variables}")  # fmt: skip
    return _checked(provider, url.strip())


@functools.lru_cache(256)
def _checked(provider: str, url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        usable = usable and bool((parts.hostname or "").encode("idna"))
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"the base URL of {provider!r} is not one", key="base_url", expected="http(s)://host/...")
    if parts.username is not None or parts.fragment:
        raise ConfigError(f"the base URL of {provider!r} holds a user or a fragment", key="base_url",
                          expected="a URL without; credentials go into api_key or headers")  # fmt: skip
    path = parts.path.rstrip("/")
    if not path and (provider in LOCAL or provider == "mistral"):
        path = "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}", f"?{parts.query}" if parts.query else ""


# --- what litellm knows, read from its files: importing it takes seconds ------------------------------------------


@functools.cache
def _litellm_providers() -> Mapping[str, ProviderInfo]:
    import orjson

    source = litellm_file("types", "utils.py")
    block = re.search(rb"class LlmProviders\(.*?(?=\n\S)", source, re.DOTALL)
    names = set(re.findall(rb'^    [A-Z0-9_]+ = "([^"]+)"', block[0], re.MULTILINE)) if block else set()
    names |= set(re.findall(rb'"litellm_provider":\s*"([^"/ ]+)"', litellm_file(PRICES)))
    support = orjson.loads(litellm_file("provider_endpoints_support_backup.json") or b"{}")
    names |= {name.encode() for name in support.get("providers") or () if "/" not in name}
    known = {name.decode(): ProviderInfo() for name in names}
    like_openai = orjson.loads(litellm_file("llms", "openai_like", "providers.json") or b"{}")
    for name, entry in like_openai.items():
        base = (entry["api_base_env"],) if entry.get("api_base_env") else ()
        known[name] = ProviderInfo((entry["api_key_env"],) if entry.get("api_key_env") else (), base)
    return known


def provider_of(model: str) -> str | None:
    """The provider under which litellm's price list has a bare model name; only ever asked on the way to an error."""
    return next((entry.get("litellm_provider") for entry in find_prices(model)), None)

"""What the name of a param says about it: a setting, an address or key, or a word of litellm's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

SETTINGS = frozenset({
    "model", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "max_output_tokens",
    "temperature", "top_p", "top_k", "min_p", "seed", "stop", "stop_sequences", "frequency_penalty",
    "presence_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs", "user", "metadata",
    "service_tier", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort",
    "reasoning", "thinking", "verbosity", "modalities", "audio", "parallel_tool_calls", "tool_choice", "function_call",
    "betas", "cache_control", "api_key", "api_base", "api_version", "azure_ad_token", "base_url", "headers",
    "extra_headers", "extra_query", "timeout", "max_retries", "num_retries", "organization", "additional_drop_params",
    "allowed_openai_params", "context_window_fallback_dict", "custom_llm_provider", "drop_params", "mock_response",
    "mock_timeout", "mock_tool_calls",
})  # fmt: skip
"""Of a request, what is for the transport, for litellm or for the sampling: no model reads it."""
_OF_DRIVERS = re.compile(
    r"(?:litellm|mock|langfuse|langsmith|arize|posthog|newrelic|wandb|aws|azure|vertex|s3|gcs|dd|input_cost|output_cost)_.*"
    r"|(?:.*_)?(?:secret|password|passwd|credentials?|api_key|access_key|private_key|key_id|identity_token)(?:_.*)?"
    r"|.*_(?:key|token)"
    r"|additional_drop_params|allowed_openai_params|base_model|cache|caching|client|client_id|context_window_fallback_dict"
    r"|cooldown_time|custom_llm_provider|custom_prompt_dict|drop_params|force_timeout|logger_fn|max_budget"
    r"|max_fallbacks|model_info|model_list|no-log|request_timeout|retry_policy|retry_strategy|rpm|shared_session"
    r"|ssl_verify|stream_timeout|tenant_id|tpm|turn_off_message_logging|use_client|use_litellm_proxy|verbose"
)
_NO_SECRETS = frozenset({"prompt_cache_key", "bos_token", "eos_token", "pad_token", "stop_token"})  # of providers
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SECRET = re.compile(
    r"(?:.*[_-])?(?:secrets?|passwords?|passwd|pwd|credentials?|api_?key|access_?key|private_?key|key_id|authorization|auth"
    r"|cookies?|bearer|jwt|signature|identity_token)(?:[_-].*)?|(?:.*[_-])?(?:key|token)"
)
_ADDRESS = frozenset({
    "base_url", "api_base", "api_version", "organization", "project", "headers", "extra_headers", "default_headers",
    "extra_query", "default_query", "client", "client_id", "tenant_id", "data_sources",
})  # fmt: skip
_OF_ONE = ("aws_", "azure_", "vertex_", "s3_", "gcs_", "watsonx_", "sagemaker_", "oci_", "openai_organization")
OUTPUT = ("max_completion_tokens", "max_tokens")
"""Two names of one setting; where both are given, the first one goes to the provider."""


@lru_cache(1024)
def of_drivers(name: str) -> bool:
    """Whether a param is for litellm or its proxy, and for no provider; keys and secrets by any name are.

    Sent on, such a one would be refused with an error that explains nothing, or tell a provider what is none of its
    business.

    >>> of_drivers("aws_secret_access_key"), of_drivers("prompt_cache_key")
    (True, False)
    """
    return name not in _NO_SECRETS and _OF_DRIVERS.fullmatch(name) is not None


@lru_cache(1024)
def is_secret(name: str) -> bool:
    """Whether a param or a header by this name is a key, a password or the like.

    >>> is_secret("X-Auth"), is_secret("accessToken"), is_secret("max_tokens"), is_secret("eos_token")
    (True, True, False, False)
    """
    name = _CAMEL.sub("_", name).lower()
    return name not in _NO_SECRETS and _SECRET.fullmatch(name) is not None


@lru_cache(1024)
def is_address(name: str) -> bool:
    """Whether a param says where a call goes and in whose name: it is meant for one provider alone.

    >>> is_address("api_key"), is_address("base_url"), is_address("temperature")
    (True, True, False)
    """
    return name.lower() in _ADDRESS or name.lower().startswith(_OF_ONE) or is_secret(name)


def holds_secret(value: Any) -> bool:
    """Whether there is a name of a secret in plain data, at any depth.

    >>> holds_secret([{"authentication": {"key": "k"}}]), holds_secret({"top_k": 3})
    (True, False)
    """
    if isinstance(value, Mapping):
        return any(is_secret(str(name)) or holds_secret(inner) for name, inner in value.items())
    return isinstance(value, list | tuple) and any(map(holds_secret, value))

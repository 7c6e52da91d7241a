"""What each provider's chat-completions API takes otherwise than OpenAI's: data, for `_chat_requests` to apply.

Each entry rests on public documentation, on an error that the provider answers (beside it, in quotes), or on what
litellm does for this provider. A parameter that is not here goes out as the caller gave it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from neuro_mw.bundled import LITELLM_NAMES

MAX_COMPLETION_TOKENS = "max_completion_tokens"
_NOTHING: Mapping[str, Any] = {}


class Dialect(NamedTuple):
    """How one provider's requests differ from what an OpenAI-compatible server takes.

    ``limit``: the one name it has for the output limit, else either is passed. ``renames``: keys it knows by another
    name. ``values``: values it knows by another name, by key. ``no_reasoning``: what to send for
    ``reasoning_effort="none"``. ``usage_in_streams``: whether a stream has to be asked for its token counts, and may
    be. ``developer``: whether it knows that role. ``names``: the roles whose messages may have a name, None for all.
    ``foreign``: keys of assistant messages that it refuses. ``strict_tools``: whether a tool may say ``strict``.
    ``text_parts``: whether a content that is text only may be a list. ``file_parts``: whether a file part has its id
    in ``file``. ``empty_answers``: whether an assistant message may be empty. ``cache_control``: what to do with
    Anthropic's mark, "content" for moving it from a message to its last part.
    """

    limit: str | None = None
    renames: Mapping[str, str] = _NOTHING
    values: Mapping[str, Mapping[Any, Any]] = _NOTHING
    no_reasoning: Mapping[str, Any] = _NOTHING
    usage_in_streams: bool = True
    developer: bool = False
    names: frozenset[str] | None = None
    foreign: frozenset[str] = frozenset()
    strict_tools: bool = True
    text_parts: bool = True
    file_parts: bool = True
    empty_answers: bool = True
    cache_control: Literal["drop", "keep", "content"] = "drop"


_THINKING_BLOCKS = frozenset({"thinking_blocks"})  # Anthropic's, signed: no other API takes them

_DIALECTS: dict[str, Dialect] = {
    # "property 'reasoning_content' is unsupported"; litellm 1.109 leaves out both
    "groq": Dialect(foreign=_THINKING_BLOCKS | {"reasoning_content"}),
    "mistral": Dialect(  # its schema forbids every key it does not name: 422 extra_forbidden
        limit="max_tokens",
        renames={"seed": "random_seed"},
        values={"tool_choice": {"required": "any"}},
        usage_in_streams=False,  # refused, and not needed: the last chunk has the usage
        names=frozenset({"tool"}),
        foreign=_THINKING_BLOCKS | {"reasoning_content"},
        file_parts=False,
        empty_answers=False,  # litellm leaves them out, too
    ),
    "deepseek": Dialect(
        no_reasoning={"thinking": {"type": "disabled"}},  # api-docs.deepseek.com/guides/thinking_mode
        text_parts=False,  # "messages[1]: invalid type: sequence, expected a string"
    ),
    "together": Dialect(
        no_reasoning={"reasoning": {"enabled": False}},  # its hybrid models have a switch
        foreign=_THINKING_BLOCKS,
    ),
    "fireworks": Dialect(
        limit="max_tokens",
        values={"tool_choice": {"required": "any"}},
        foreign=_THINKING_BLOCKS | {"provider_specific_fields"},  # "Extra inputs are not permitted"
        strict_tools=False,
    ),
    "openrouter": Dialect(values={"reasoning_effort": {"max": "xhigh"}}),
    "xai": Dialect(
        limit="max_tokens",
        names=frozenset({"user"}),  # "Only messages of role 'user' can have a name."
        strict_tools=False,
    ),
    "perplexity": Dialect(usage_in_streams=False),  # each chunk has the usage; litellm does not ask, either
    "vllm": Dialect(foreign=_THINKING_BLOCKS),
    "lm_studio": Dialect(),
    "llama_cpp": Dialect(),
    "ollama": Dialect(),
}
_SAME = {theirs: ours for ours, theirs in LITELLM_NAMES.items()}
_ANY = Dialect(cache_control="keep")  # openai, azure and the rest: behind a base URL may stand a gateway to Anthropic

# OpenAI refuses max_tokens with these: "... is not supported with this model. Use 'max_completion_tokens' instead."
_REASONING_MODELS = {
    "openai": re.compile(r"(?:.*/)?(?:o\d|gpt-[56](?!-chat))"),
    "azure": re.compile(r".*(?:o[134]|gpt-[56])"),  # deployments have names of their own: "my-o3", "team-gpt-5-chat"
}
_O_SERIES = {"openai": re.compile(r"(?:.*/)?o\d"), "azure": re.compile(r".*o[134]")}
# openrouter.ai/docs/features/prompt-caching; elsewhere the mark is no more than a word the provider does not know
_CACHING_MODELS = re.compile(r"claude|gemini|minimax|glm|z-ai", re.IGNORECASE)
_FIREWORKS_ROUTERS = re.compile(r".*-fast$|firerouter(?:/|$)|auto$|auto-instant$")


@functools.lru_cache(maxsize=1024)
def dialect_of(provider: str, model: str, at_openai: bool = False) -> tuple[Dialect, str]:
    """The ways of a provider with a model, and the model's id as the provider spells it.

    `at_openai`: the request goes to OpenAI's own address, where no gateway reads Anthropic's words.

    >>> dialect_of("fireworks", "deepseek-v3p1")[1]
    'accounts/fireworks/models/deepseek-v3p1'
    """
    provider = _SAME.get(provider, provider)
    dialect = _DIALECTS.get(provider, _ANY)
    if provider in _REASONING_MODELS and _REASONING_MODELS[provider].match(model):
        dialect = dialect._replace(limit=MAX_COMPLETION_TOKENS, developer=_O_SERIES[provider].match(model) is not None)
    if at_openai:
        dialect = dialect._replace(cache_control="drop")
    if provider == "openrouter" and _CACHING_MODELS.search(model):
        dialect = dialect._replace(cache_control="content")
    return dialect, _fireworks_name(model) if provider == "fireworks" else model


def _fireworks_name(model: str) -> str:
    """The resource name of a Fireworks model; "#" names a deployment."""
    if model.startswith("accounts/") or "#" in model:
        return model
    if model.startswith(("routers/", "models/")):
        return f"accounts/fireworks/{model}"
    kind = "routers" if _FIREWORKS_ROUTERS.match(model) else "models"
    return f"accounts/fireworks/{kind}/{model}"

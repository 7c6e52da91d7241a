"""What a call costs and how much a model can read: litellm's bundled price list, under rules that never guess.

    >>> from neuro_mw import Usage, pricing
    >>> pricing.price_of("openai", "gpt-4o").input  # US dollars for one million tokens
    2.5
    >>> pricing.cost_of(Usage(input_tokens=1000, output_tokens=100), "openai", "gpt-4o")
    0.0035
    >>> pricing.cost_of(Usage(1000, 100), "openai", "no-such-model") is None
    True

Nothing is loaded before the first question. An answer is kept (the last 1,024 models), so that only the first question
for a model reads the file, which takes about 2 ms (docs/performance.md).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from .bundled import LITELLM_NAMES, find_prices, price_entries

if TYPE_CHECKING:
    from .types import Usage

__all__ = ["ContextWindow", "Price", "context_window", "cost_of", "listed_models", "price_of"]

_TEXT_MODES = frozenset({"chat", "responses", "completion"})
_TIER = re.compile(r"(?:input|output)_cost_per_token_above_(\d+)(k?)_tokens")
_NOT_TOKENS = ("input_cost_per_second", "output_cost_per_second", "input_cost_per_character", "cost_per_second")
# Who serves what the list writes under another provider's name; "vertex_ai-..." and the like are told by their prefix.
_OWNERS = {
    "bedrock_converse": "bedrock", "cohere_chat": "cohere", "text-completion-openai": "openai", "azure_text": "azure",
    "amazon-nova": "amazon_nova",
}  # fmt: skip
_FIREWORKS_CACHE_READ = 0.5  # of the input price where none is listed, as litellm has it


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for one million tokens.

    ``cache_read`` and ``cache_write`` are the prices of input tokens read from and written to the provider's cache
    (None: the input price), ``reasoning`` that of reasoning tokens (None: the output price). ``cache_write_1h`` is
    the price of a cache write that lives one hour; usage does not tell such writes apart, so `cost` never uses it.
    ``request`` is in US dollars for each call. ``tiers`` are (tokens, price) in rising order: a prompt of *more* than
    so many input tokens pays that price for all tokens of the call. ``source`` is where the figures come from.

    >>> from neuro_mw import Usage
    >>> Price(3, 15, cache_read=0.3).cost(Usage(1_000_000, 0, cache_read_tokens=500_000))
    1.65
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    reasoning: float | None = None
    request: float = 0.0
    tiers: tuple[tuple[int, Price], ...] = ()
    source: str = ""

    def at(self, input_tokens: int) -> Price:
        """The price that a prompt of so many tokens pays."""
        found = self
        for above, price in self.tiers:
            if input_tokens > above:
                found = price
        return found

    def cost(self, usage: Usage) -> float | None:
        """US dollars for `usage`; None where it does not say how many tokens went in or came out.

        The counts are what a model or a middleware wrote down. One that is no count, such as ``"10"``, is unknown, and
        so is the cost.
        """
        tokens_in, tokens_out = usage.input_tokens, usage.output_tokens
        if tokens_in is None or tokens_out is None:
            return None
        parts = (usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens)
        if not all(map(_is_count, (tokens_in, tokens_out, *(part for part in parts if part is not None)))):
            return None
        price = self.at(tokens_in)
        read = min(usage.cache_read_tokens or 0, tokens_in)  # a provider's counts may contradict each other
        written = min(usage.cache_write_tokens or 0, tokens_in - read)
        reasoning = min(usage.reasoning_tokens or 0, tokens_out)
        spent = (
            (tokens_in - read - written) * price.input
            + read * _first(price.cache_read, price.input)
            + written * _first(price.cache_write, price.input)
            + (tokens_out - reasoning) * price.output
            + reasoning * _first(price.reasoning, price.output)
        )
        return spent / 1e6 + self.request


class ContextWindow(NamedTuple):
    """How many tokens a model can read and write; None where the list does not say."""

    max_input_tokens: int | None
    max_output_tokens: int | None


def price_of(provider: str, model: str) -> Price | None:
    """The listed price of a model; None where it is not listed or not priced by token.

    `provider` and `model` are the two halves of a model string. The list is asked for "provider/model", then for the
    bare model where that entry is the provider's own; another provider's price is never taken.

    >>> price_of("anthropic", "gpt-4o") is None
    True
    """
    return _known(provider, model)[0]


def context_window(provider: str, model: str) -> ContextWindow | None:
    """How much a model can read and write, by the same list and rules; None where it is not listed.

    >>> context_window("openai", "gpt-4o")
    ContextWindow(max_input_tokens=128000, max_output_tokens=16384)
    """
    return _known(provider, model)[1]


def cost_of(
    usage: Usage, provider: str, model: str, prices: Mapping[str, Price | Mapping[str, Any]] | None = None
) -> float | None:
    """US dollars for one call; None where price or usage is unknown, which is never 0.

    `prices` go before the list: by "provider/model" or by model, a `Price` or a mapping with "input" and "output" and
    any of "cache_read" and "cache_write" (the input price where they are left out).

    >>> from neuro_mw import Usage
    >>> cost_of(Usage(10, 10), "vllm", "mine", {"vllm/mine": {"input": 1.0, "output": 2.0}})
    3e-05
    """
    own = (prices.get(f"{provider}/{model}") or prices.get(model)) if prices else None
    price = price_of(provider, model) if own is None else own if isinstance(own, Price) else Price(**own)
    return None if price is None else price.cost(usage)


def listed_models(provider: str) -> Iterator[tuple[str, Price | None, ContextWindow]]:
    """Every model that the list has for a provider, in its order: model id, price, context window. Takes 20 ms."""
    name, seen = _litellm_name(provider), set()
    for entry in price_entries().values():
        if _is_text(entry) and _owner(entry) == name:
            model = entry["name"].removeprefix(f"{name}/")
            if model not in seen and "*" not in model:
                seen.add(model)
                yield model, _price(entry), _window(entry)


# --- reading an entry ----------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _known(provider: str, model: str) -> tuple[Price | None, ContextWindow | None]:
    if provider == "echo":  # within this process, and in no list: not worth reading one
        return None, None
    name = _litellm_name(provider)
    for entry in find_prices(f"{name}/{model}", model):
        if _is_text(entry) and _owner(entry) == name:
            return _price(entry), _window(entry)
    return None, None


def _litellm_name(provider: str) -> str:
    return "ollama" if provider == "ollama_chat" else LITELLM_NAMES.get(provider, provider)  # one server, two protocols


def _is_text(entry: Mapping[str, Any]) -> bool:
    return entry.get("mode") in _TEXT_MODES


def _owner(entry: Mapping[str, Any]) -> str:
    named = str(entry.get("litellm_provider", ""))
    for family in ("vertex_ai", "fireworks_ai"):  # such as vertex_ai-anthropic_models
        if named.startswith(f"{family}-"):
            return family
    return _OWNERS.get(named, named)


def _window(entry: Mapping[str, Any]) -> ContextWindow:
    most_out = entry.get("max_output_tokens") or entry.get("max_tokens")  # the latter is the former's older name
    return ContextWindow(_count(entry.get("max_input_tokens")), _count(most_out))


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and value > 0 else None


def _price(entry: Mapping[str, Any]) -> Price | None:
    if any(entry.get(name) for name in _NOT_TOKENS):
        return None
    rows = entry.get("tiered_pricing")
    if isinstance(rows, list) and rows:
        return _from_rows(entry, sorted(rows, key=lambda row: row["range"][0]))
    price = _flat(entry)
    if price is None:
        return None
    if _owner(entry) == "fireworks_ai" and price.cache_read is None:
        price = replace(price, cache_read=price.input * _FIREWORKS_CACHE_READ)
    tiers, current = [], price
    for above, suffix in _thresholds(entry):
        current = _flat(entry, suffix, current) or current
        # xAI charges the higher price from the threshold on, all others above it (litellm has it so)
        tiers.append((above - (_owner(entry) == "xai"), current))
    return replace(price, tiers=tuple(tiers))


def _flat(entry: Mapping[str, Any], suffix: str = "", default: Price | None = None) -> Price | None:
    """The price in an entry's keys with `suffix`; a price that is not there is that of `default`."""
    input, output = (_dollars(entry.get(f"{way}_cost_per_token{suffix}")) for way in ("input", "output"))
    if default is not None:
        input, output = _first(input, default.input), _first(output, default.output)
    if input is None or output is None:
        return None
    more: dict[str, Any] = {
        "cache_read": _dollars(entry.get(f"cache_read_input_token_cost{suffix}")),
        "cache_write": _dollars(entry.get(f"cache_creation_input_token_cost{suffix}")),
        "cache_write_1h": _dollars(entry.get(f"cache_creation_input_token_cost_above_1hr{suffix}")),
        "reasoning": _dollars(entry.get(f"output_cost_per_reasoning_token{suffix}")),
    }
    if default is not None:
        more = {name: getattr(default, name) if value is None else value for name, value in more.items()}
    request = float(entry.get("input_cost_per_request") or 0)
    return Price(input, output, **more, request=request, source=f"litellm: {entry['name']}")


def _from_rows(entry: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> Price | None:
    """The price of an entry with a table of ranges (Alibaba's models): each row stands alone."""
    known = []
    for row in rows:
        output = {} if "output_cost_per_token" in row else {
            name: entry[name] for name in ("output_cost_per_token", "output_cost_per_reasoning_token") if name in entry
        }  # fmt: skip
        price = _flat({**output, **row, "name": entry["name"]})
        if price is None:
            return None
        known.append((int(row["range"][0]), price))
    return replace(known[0][1], tiers=tuple(known[1:]))


def _thresholds(entry: Mapping[str, Any]) -> list[tuple[int, str]]:
    """(tokens, suffix of the keys) of each tier, rising."""
    found = {match for name in entry if (match := _TIER.fullmatch(name)) and entry[name] is not None}
    tiers = {(int(one[1]) * (1000 if one[2] else 1), f"_above_{one[1]}{one[2]}_tokens") for one in found}
    return sorted(tiers)


def _dollars(per_token: Any) -> float | None:
    """For one million tokens, without the noise of the multiplication: 1.5e-07 is 0.15."""
    return None if per_token is None else float(f"{float(per_token) * 1e6:.12g}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _first(value: float | None, default: float) -> float:
    return default if value is None else value

"""What a call may cost at most, before it is made; and what an attempt did cost. In nano-dollars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuro_mw import Attempt, Params, Usage, pricing

from .._size import Size, output_limit
from .._usage import told, unused
from .money import whole

_MODELS = 1024


class Rates:
    """What a model costs, and how much it reads and writes at most (None: not known).

    >>> Rates(pricing.Price(2.5, 10.0), None, 16384).longest({})
    16384
    """

    __slots__ = ("_dearest", "_flat", "max_input", "max_output", "price")

    def __init__(self, price: pricing.Price, max_input: int | None, max_output: int | None) -> None:
        self.price, self.max_input, self.max_output = price, max_input, max_output
        self._dearest = _dearest(price)
        self._flat = not price.tiers

    def longest(self, params: Params) -> int | None:
        """How many tokens an answer can have; None where neither the request nor the model says."""
        asked, most = output_limit(params), self.max_output
        if asked is None or (most is not None and most < asked):
            return most
        return asked

    def at_most(self, tokens: int, size: Size, output: int) -> tuple[int, int]:
        """The most that a call can cost, and how much of it for the input.

        Tokens may go through the provider's cache or be reasoning: each counts at the dearest of its prices. Where
        files or sounds go in, which nobody can count, it is all that the model reads.
        """
        if size.uncounted:
            tokens = max(tokens, self.max_input or 0)
        of_input, of_output, request = self._dearest if self._flat else _dearest(self.price.at(tokens))
        inward = tokens * of_input
        return whole(inward + output * of_output + request), whole(inward)

    def cost(self, usage: Usage) -> int | None:
        """What this usage costs; None where it does not say."""
        if self._flat and not (usage.cache_read_tokens or usage.cache_write_tokens or usage.reasoning_tokens):
            price = self.price  # as `Price.cost` has it, at a third of its time
            dollars = (usage.input_tokens * price.input + usage.output_tokens * price.output) / 1e6 + price.request  # type: ignore[operator]
            return whole(dollars * 1e9)
        exact = self.price.cost(usage)
        return None if exact is None else whole(exact * 1e9)


def _dearest(price: pricing.Price) -> tuple[float, float, float]:
    """Nano-dollars for a token in, a token out, and a call."""
    of_input = max(price.input, price.cache_read or 0.0, price.cache_write or 0.0)
    return of_input * 1e3, max(price.output, price.reasoning or 0.0) * 1e3, price.request * 1e9


class Prices:
    """The rates of models: by prices of one's own, then by `neuro_mw.pricing`.

    >>> Prices({}).rates("openai", "gpt-4o").max_output, Prices({}).rates("echo", "echo")
    (16384, None)
    """

    def __init__(self, own: Mapping[str, Any]) -> None:
        self._own = {name: pricing.Price(**dict(price)) for name, price in own.items()}
        self._known: dict[tuple[str, str], Rates | None] = {}

    def rates(self, provider: str, model: str) -> Rates | None:
        """What a model costs; None where that is not known."""
        try:
            return self._known[provider, model]
        except KeyError:
            pass
        price = self._own.get(f"{provider}/{model}") or self._own.get(model) or pricing.price_of(provider, model)
        window = pricing.context_window(provider, model) or pricing.ContextWindow(None, None)
        rates = None if price is None else Rates(price, *window)
        if len(self._known) >= _MODELS:
            self._known.clear()
        self._known[provider, model] = rates
        return rates

    def cost(self, attempt: Attempt, otherwise: int) -> tuple[int, str | None]:
        """What an attempt cost: `otherwise` where nobody said how much was used, 0 where the price is not known.

        Which of the two it is comes with it: "usage_unknown", "unpriced", else None.
        """
        usage = told(attempt)
        if usage is None:
            return (0, None) if unused(attempt) else (otherwise, "usage_unknown")
        rates = self.rates(attempt.provider, attempt.model)
        cost = None if rates is None else rates.cost(usage)
        return (0, "unpriced") if cost is None else (cost, None)

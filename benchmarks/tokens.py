"""Counting tokens and finding prices: what docs/costs.md says of their time, and of the encodings beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import repeat
from time import thread_time_ns as clock
from typing import Any

from neuro_mw import Usage, bundled, pricing, tokens
from neuro_mw.tokens import count_tokens_sync

from .measure import Pace, Row, Series, calling, measure, row

SENTENCE = "Everyone has the right to life, liberty and security of person. It isn't long, is it?\n"
_WARM = "the cost of a call, its price known"
MODELS = {"cl100k_base": "gpt-4", "o200k_base": "gpt-4o"}


def rows(pace: Pace) -> list[Row]:
    contestants = {name: calling(_call, call) for name, call in _calls(pace).items()}
    found = asyncio.run(measure({**contestants, _WARM: _warm}, pace))
    warm = found.pop(_WARM)
    timed = [row(name, _milliseconds(series), unit="ms CPU") for name, series in found.items()]
    return [*timed, row(_WARM, warm, unit="us CPU"), *ratios()]


def _calls(pace: Pace) -> dict[str, Callable[[], Any]]:
    calls: dict[str, Callable[[], Any]] = {f"loading {name}": partial(tokens._build, name) for name in tokens.ENCODINGS}
    texts = {"4 KB of prose": _prose(4096), "100 KB of prose": _prose(102_400), "20,000 times 'a'": "a" * 20_000}
    long = 4_000_000 if pace.rounds > 3 else 400_000  # --quick is quick
    texts[f"{long:,} times 'a'"] = "a" * long
    for what, text in texts.items():
        for name, model in MODELS.items():
            calls[f"{what}, {name}"] = partial(count_tokens_sync, text, "openai", model)
    usage = Usage(1000, 100)
    calls["the first price of a model"] = partial(_first_price, usage)
    calls["the first price of one that is not listed"] = partial(_first_price, usage, "no-such-model")
    calls["parsing the whole price list"] = bundled.price_entries
    return calls


async def _warm(times: int) -> int:
    """`cost_of` once the price is known; another contestant forgets it in every round."""
    usage = Usage(1000, 100)
    pricing.cost_of(usage, "openai", "gpt-4o")
    started = clock()
    for _ in repeat(None, times):
        pricing.cost_of(usage, "openai", "gpt-4o")
    return clock() - started


def _call(call: Callable[[], Any]) -> None:
    call()


def _first_price(usage: Usage, model: str = "gpt-4o") -> None:
    pricing._known.cache_clear()
    pricing.cost_of(usage, "openai", model)


def _prose(size: int) -> str:
    return (SENTENCE * (size // len(SENTENCE) + 1))[:size]


def _milliseconds(series: Series) -> Series:
    return Series([one / 1e3 for one in series.rounds], series.least / 1e3)


def ratios() -> list[Row]:
    """The sample texts of tests/test_tokens.py (which needs the test extra) in three tokenizers."""
    from tokenizers import Tokenizer  # comes with litellm

    from tests.test_tokens import TEXTS

    claude2 = Tokenizer.from_str(bundled.litellm_file(*bundled.TOKENIZERS, "anthropic_tokenizer.json").decode())
    table = []
    for language, text in TEXTS.items():
        old, new = (count_tokens_sync(text, "openai", MODELS[name]).tokens for name in ("cl100k_base", "o200k_base"))
        theirs, estimate = len(claude2.encode(text).ids), count_tokens_sync(text, "mistral", "m").tokens
        table += [
            _tokens(f"{language}: cl100k_base", old, new, "o200k_base"),
            _tokens(f"{language}: Claude 2", theirs, new, "o200k_base"),
            _tokens(f"{language}: Claude 2", theirs, old, "cl100k_base"),
            _tokens(f"{language}: the estimate, 1.3 x cl100k_base", estimate, theirs, "Claude 2"),
        ]
    return table


def _tokens(what: str, count: int, other: int, against: str) -> Row:
    return Row(what, count, count, count / other, against, unit="tokens")

"""Prices and context windows: what is found, what is not, and that litellm counts the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import Usage, bundled, pricing
from neuro_mw.pricing import ContextWindow, Price, context_window, cost_of, listed_models, price_of
from neuro_mw.providers.catalog import PROVIDERS

ENTRIES = bundled.price_entries()
MILLION = 1_000_000


@pytest.fixture
def price_list(monkeypatch: pytest.MonkeyPatch):
    """Replaces the list: with entries, each a chat model of "acme" unless it says otherwise."""

    def replace(indent: int | None = 4, **entries: dict) -> None:
        whole = {name: {"mode": "chat", "litellm_provider": "acme", **one} for name, one in entries.items()}
        text = json.dumps({"sample_spec": {}, **whole}, indent=indent).encode()
        monkeypatch.setattr(bundled, "litellm_file", lambda *path: text)
        pricing._known.cache_clear()

    yield replace
    pricing._known.cache_clear()


def both(price: float, **more: object) -> dict:
    return {"input_cost_per_token": price / MILLION, "output_cost_per_token": 2 * price / MILLION, **more}


# --- the bundled list ------------------------------------------------------------------------------------------------


def test_every_entry_is_found_as_a_whole_parse_has_it() -> None:
    text = bundled.litellm_file(bundled.PRICES)
    odd = {name for name in ENTRIES if f'\n    "{name}": {{'.encode() not in text}
    names = [name for number, name in enumerate(ENTRIES) if number % 40 == 0 or name in odd]
    assert len(names) > 80
    names = [name for name in names if "litellm_provider" in ENTRIES[name]]
    assert {name: next(bundled.find_prices(name)) for name in names} == {name: ENTRIES[name] for name in names}


@pytest.mark.parametrize("name", ["", "gpt", "mode", "litellm_provider", 'gpt-4o": {', "\ud800", "gpt-4o\n", "GPT-4O"])
def test_what_is_no_name_is_not_found(name: str) -> None:
    assert list(bundled.find_prices(name)) == []
    assert price_of("openai", name) is None


@pytest.mark.parametrize("indent", [None, 2, 4])
def test_a_list_in_another_layout_is_read_too(price_list, indent: int | None) -> None:
    price_list(indent, small=both(1), big=both(9))
    assert price_of("acme", "big") == Price(9, 18, source="litellm: big")
    assert price_of("acme", "bi") is None


def test_an_entry_that_was_edited_by_hand_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = '{"litellm_provider": "acme", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 0%s}'
    odd = (
        '{\n"left": %s,\n    "x": {"y": "right", "right": {"z": {}}}, "right" :{\n  "mode":"chat",'
        '"litellm_provider":"acme","input_cost_per_token":3e-6,"output_cost_per_token":0}\n,\n\t"tab": %s\n}'
    )
    text = (odd % (entry % "", entry % "\n    ")).encode()
    assert set(json.loads(text)) == {"left", "x", "right", "tab"}
    monkeypatch.setattr(bundled, "litellm_file", lambda *path: text)
    for name, wanted in {"left": 1e-6, "right": 3e-6, "tab": 1e-6}.items():
        assert [one["input_cost_per_token"] for one in bundled.find_prices(name)] == [wanted], name
    assert list(bundled.find_prices("z", "y", "mode")) == []


def test_without_litellm_there_is_no_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "litellm_folder", lambda: None)
    pricing._known.cache_clear()
    assert price_of("openai", "gpt-4o") is None
    assert list(listed_models("openai")) == []
    pricing._known.cache_clear()


def test_the_names_litellm_uses_are_those_of_the_providers() -> None:
    theirs = {name: info.litellm for name, info in PROVIDERS.items() if info.litellm and info.litellm != name}
    assert {name: theirs.get(name) for name in bundled.LITELLM_NAMES} == dict(bundled.LITELLM_NAMES)
    assert {name: other for name, other in theirs.items() if bundled.LITELLM_NAMES.get(name, other) != other} == {}


def test_a_lookup_loads_neither_litellm_nor_a_client() -> None:
    code = (
        "import sys\nfrom neuro_mw import Usage, pricing\nassert 'orjson' not in sys.modules\n"
        "assert pricing.cost_of(Usage(1, 1), 'echo', 'echo') is None and 'orjson' not in sys.modules\n"
        "assert pricing.cost_of(Usage(1, 1), 'openai', 'gpt-4o')\n"
        "heavy = {'litellm', 'openai', 'aiohttp', 'tiktoken', 'pydantic'} & set(sys.modules)\nassert not heavy, heavy"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


# --- which entry is a model's ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model", "entry"),
    [
        ("openai", "gpt-4o", "gpt-4o"), ("openai", "gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("groq", "openai/gpt-oss-20b", "groq/openai/gpt-oss-20b"), ("azure", "gpt-4o", "azure/gpt-4o"),
        ("gemini", "gemini-2.5-pro", "gemini/gemini-2.5-pro"), ("vertex_ai", "gemini-2.5-pro", "gemini-2.5-pro"),
        ("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5"), ("ollama_chat", "llama3", "ollama/llama3"),
        ("bedrock", "anthropic.claude-opus-4-6-v1", "anthropic.claude-opus-4-6-v1"),
        ("cohere", "command-a-03-2025", "command-a-03-2025"),
    ],
)  # fmt: skip
def test_the_entry_of_a_model(provider: str, model: str, entry: str) -> None:
    price, wanted = price_of(provider, model), ENTRIES[entry]
    assert price is not None
    assert price.source == f"litellm: {entry}"
    assert price.input == pytest.approx(wanted["input_cost_per_token"] * MILLION)
    assert price.output == pytest.approx(wanted["output_cost_per_token"] * MILLION)


@pytest.mark.parametrize("ours", ["together", "together_ai", "fireworks", "fireworks_ai"])
def test_our_names_for_litellms_providers(ours: str) -> None:
    theirs = bundled.LITELLM_NAMES.get(ours, ours)
    name = next(name for name, one in ENTRIES.items() if name.startswith(f"{theirs}/") and one.get("mode") == "chat")
    price = price_of(ours, name.removeprefix(f"{theirs}/"))
    assert price is not None
    assert price.source == f"litellm: {name}"


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "gpt-4o"), ("openai", "claude-sonnet-4-5"), ("azure", "my-deployment"), ("vllm", "gpt-4o"),
        ("openai", "gpt-4o-1999-01-01"), ("openai", "no-such-model"), ("nobody", "gpt-4o"), ("openai", "sample_spec"),
        ("openrouter", "groq/openai/gpt-oss-20b"), ("echo", "echo"), ("echo", "gpt-4o"), ("", ""), ("", "gpt-4o"),
        ("openai", "text-embedding-3-small"), ("openai", "dall-e-3"), ("openai", "whisper-1"),
        ("bedrock", "*/1-month-commitment/cohere.command-text-v14"),
    ],
)  # fmt: skip
def test_no_price_rather_than_a_wrong_one(provider: str, model: str) -> None:
    assert price_of(provider, model) is None
    assert cost_of(Usage(10, 10), provider, model) is None


def test_no_price_is_ever_that_of_another_provider() -> None:
    families = {"vertex_ai", "bedrock", "cohere", "openai", "azure", "fireworks_ai", "amazon_nova"}
    for name in [*ENTRIES][::97]:
        for provider in ("openai", "groq", "openrouter", "vertex_ai"):
            price = price_of(provider, name)
            if price is not None:
                owner = ENTRIES[price.source.removeprefix("litellm: ")]["litellm_provider"]
                assert owner == provider or provider in families, (provider, name, owner)


def test_listed_with_zero_is_free_and_listed_without_a_price_is_unknown(price_list) -> None:
    price_list(
        free=both(0), bare={}, half={"input_cost_per_token": 1e-6}, image=both(1, mode="image_generation"),
        second=both(0, input_cost_per_second=0.1), character=both(0, input_cost_per_character=1e-6),
    )  # fmt: skip
    assert cost_of(Usage(5, 5), "acme", "free") == 0.0
    for model in ("bare", "half", "image", "second", "character"):
        assert cost_of(Usage(5, 5), "acme", model) is None


# --- the cost --------------------------------------------------------------------------------------------------------

AMOUNT = st.integers(0, 3_000_000)
USAGE = st.builds(Usage, AMOUNT, AMOUNT, AMOUNT, AMOUNT, AMOUNT)
DOLLARS = st.floats(0, 1000, allow_nan=False)
MAYBE = st.none() | DOLLARS
PRICE = st.builds(Price, DOLLARS, DOLLARS, cache_read=MAYBE, cache_write=MAYBE, reasoning=MAYBE)


def test_each_kind_of_token_has_its_price() -> None:
    price = Price(1, 10, cache_read=0.1, cache_write=2, reasoning=20, request=0.5)
    assert price.cost(Usage(1000, 100, 300, 200, 40)) == pytest.approx((500 + 30 + 400 + 600 + 800) / MILLION + 0.5)
    assert Price(1, 10).cost(Usage(1000, 100, 300, 200, 40)) == pytest.approx((1000 + 1000) / MILLION)
    assert Price(1, 1, cache_read=0.0).cost(Usage(10, 0, 10)) == 0.0


@pytest.mark.parametrize("usage", [Usage(), Usage(1, None), Usage(None, 1), Usage(None, None, 1, 1, 1)])
def test_unknown_counts_have_no_cost(usage: Usage) -> None:
    assert Price(1, 1).cost(usage) is None
    assert cost_of(usage, "openai", "gpt-4o") is None


@pytest.mark.parametrize("wrong", ["10", True, -1, float("nan"), float("inf"), [1], {}, object(), 1j], ids=repr)
@pytest.mark.parametrize("place", range(5))
def test_what_is_no_count_has_no_cost(wrong: object, place: int) -> None:
    counts: list = [10, 10, 1, 1, 1]
    usage = Usage(*counts)
    assert Price(1, 1, tiers=((5, Price(2, 2)),)).cost(usage) is not None
    counts[place] = wrong
    assert Price(1, 1, tiers=((5, Price(2, 2)),)).cost(Usage(*counts)) is None
    assert cost_of(Usage(*counts), "openai", "gpt-4o") is None


def test_the_price_of_a_long_prompt_is_that_of_all_its_tokens() -> None:
    price = Price(1, 2, tiers=((200, Price(10, 20)), (400, Price(100, 200))))
    assert [price.at(tokens).input for tokens in (0, 200, 201, 400, 401)] == [1, 1, 10, 10, 100]
    assert price.cost(Usage(201, 1)) == pytest.approx((2010 + 20) / MILLION)


def test_tiers_of_the_list(price_list) -> None:
    above = {"input_cost_per_token_above_200k_tokens": 5e-6, "cache_read_input_token_cost_above_200k_tokens": 1e-6,
             "input_cost_per_token_above_200k_tokens_priority": 1.0}  # fmt: skip
    price_list(
        one=both(1, cache_read_input_token_cost=5e-7, cache_creation_input_token_cost=3e-6, **above),
        grok=both(1, litellm_provider="xai", **above),
        rows={"tiered_pricing": [{**both(9), "range": [1000, 5000]}, {**both(1), "range": [0, 1000]}]},
        fire=both(2, litellm_provider="fireworks_ai"),
    )  # fmt: skip
    price = price_of("acme", "one")
    assert price is not None
    assert price.tiers == ((200_000, Price(5, 2, cache_read=1, cache_write=3, source="litellm: one")),)
    grok = price_of("xai", "grok")
    assert grok is not None
    assert (grok.at(199_999).input, grok.at(200_000).input) == (1, 5)  # xAI charges from the threshold on
    rows = price_of("acme", "rows")
    assert rows is not None
    assert [rows.at(tokens).input for tokens in (1, 1000, 1001, 9999)] == [1, 1, 9, 9]
    assert price_of("fireworks", "fire") == Price(2, 4, cache_read=1, source="litellm: fire")


@given(PRICE, USAGE, USAGE)
def test_cost_is_additive_and_never_negative(price: Price, one: Usage, two: Usage) -> None:
    def valid(usage: Usage) -> Usage:
        read = min(usage.cache_read_tokens or 0, usage.input_tokens or 0)
        written = min(usage.cache_write_tokens or 0, (usage.input_tokens or 0) - read)
        reasoning = min(usage.reasoning_tokens or 0, usage.output_tokens or 0)
        return Usage(usage.input_tokens, usage.output_tokens, read, written, reasoning)

    one, two = valid(one), valid(two)
    apart = [price.cost(one), price.cost(two)]
    assert all(cost is not None and cost >= 0 for cost in apart)
    assert price.cost(one + two) == pytest.approx(sum(apart), abs=1e-9)


@given(PRICE, USAGE)
def test_counts_that_contradict_each_other_cost_no_more_than_the_dearest_token(price: Price, usage: Usage) -> None:
    most_in = max(one for one in (price.input, price.cache_read, price.cache_write) if one is not None)
    most_out = max(one for one in (price.output, price.reasoning) if one is not None)
    cost = price.cost(usage)
    assert cost is not None
    assert 0 <= cost <= (usage.input_tokens * most_in + usage.output_tokens * most_out) / MILLION * (1 + 1e-9) + 1e-9


# --- prices of one's own ---------------------------------------------------------------------------------------------


@given(DOLLARS, DOLLARS, MAYBE, MAYBE)
def test_own_prices_go_first(input: float, output: float, read: float | None, write: float | None) -> None:
    usage, own = Usage(1000, 100, 200, 100), Price(input, output, read, write)
    given = {key: value for key, value in (("cache_read", read), ("cache_write", write)) if value is not None}
    table = {"gpt-4o": {"input": input, "output": output, **given}}
    assert cost_of(usage, "openai", "gpt-4o", table) == own.cost(usage)
    both_names = {"vllm/gpt-4o": own, "gpt-4o": {"input": 99, "output": 99}}
    assert cost_of(usage, "vllm", "gpt-4o", both_names) == own.cost(usage)
    assert cost_of(usage, "openai", "gpt-4o", {"groq/gpt-4o": own}) == cost_of(usage, "openai", "gpt-4o")


def test_a_misspelled_key_of_a_price_is_an_error() -> None:
    with pytest.raises(TypeError, match="cached"):
        cost_of(Usage(1, 1), "x", "y", {"y": {"input": 1, "output": 1, "cached": 1}})


# --- context windows -------------------------------------------------------------------------------------------------


def test_context_windows(price_list) -> None:
    assert context_window("openai", "gpt-4o") == ContextWindow(128_000, 16_384)
    assert context_window("anthropic", "gpt-4o") is None
    assert context_window("echo", "echo") is None
    price_list(old={"max_tokens": 4096}, none=both(1), odd={"max_input_tokens": "many", "max_output_tokens": 0})
    assert context_window("acme", "old") == ContextWindow(None, 4096)  # no price, and yet a window
    assert context_window("acme", "none") == ContextWindow(None, None)
    assert context_window("acme", "odd") == ContextWindow(None, None)


@pytest.mark.parametrize("provider", ["openai", "groq", "vertex_ai", "together", "ollama", "anthropic"])
def test_listed_models_are_those_that_can_be_looked_up(provider: str) -> None:
    found = list(listed_models(provider))
    assert len({model for model, *_ in found}) == len(found) > 5
    for model, price, window in found[::7]:
        assert context_window(provider, model) == window, model
        assert price_of(provider, model) == price, model


def test_nobodys_models() -> None:
    assert list(listed_models("nobody")) == []


# --- litellm counts the same -----------------------------------------------------------------------------------------

USAGES = [
    (1000, 100, 0, 0, 0), (1000, 100, 400, 0, 0), (1000, 100, 400, 300, 0), (1000, 500, 0, 0, 300), (0, 0, 0, 0, 0),
    (128_001, 10, 0, 0, 0), (200_000, 2000, 50_000, 0, 0), (200_001, 2000, 50_000, 20_000, 700),
    (272_001, 10, 10, 10, 10), (700_000, 2000, 350_000, 0, 100),
]  # fmt: skip
COUNT = """
import json, sys
import litellm
from litellm.types.utils import CompletionTokensDetailsWrapper, PromptTokensDetailsWrapper, Usage
costs = []
for provider, model, counts in json.load(sys.stdin):
    tokens_in, tokens_out, read, written, reasoning = counts
    usage = Usage(
        prompt_tokens=tokens_in, completion_tokens=tokens_out, total_tokens=tokens_in + tokens_out,
        prompt_tokens_details=PromptTokensDetailsWrapper(cached_tokens=read, cache_creation_tokens=written),
        completion_tokens_details=CompletionTokensDetailsWrapper(reasoning_tokens=reasoning),
    )
    try:
        costs.append(sum(litellm.cost_per_token(model=model, custom_llm_provider=provider, usage_object=usage)))
    except Exception as error:
        costs.append(type(error).__name__)
print("\\n" + json.dumps(costs))
"""


def reason_for_a_difference(provider: str, entry: dict, theirs: object, read: int) -> str | None:
    """Why litellm's figure may be another; docs/costs.md says the same to users."""
    if isinstance(theirs, str):
        return "litellm does not find the entry"  # of completion models, Cohere's, and several of vertex_ai
    if "off_peak_pricing" in entry:
        return "litellm takes the hour of the day into account"
    if provider == "perplexity" and entry.get("input_cost_per_request"):
        return "litellm leaves the price of a request out"
    if provider == "perplexity" and entry["name"].startswith("perplexity/perplexity/"):
        return "litellm takes a doubled provider for a mistake"
    if provider == "perplexity" and read:
        return "litellm leaves Perplexity's cache prices out"
    return None


def test_litellm_counts_the_same(tmp_path: Path) -> None:
    """Each provider's first 8 models and every 12th of all, with caches, reasoning and long prompts."""
    seen: Counter[str] = Counter()
    asked: list[tuple[str, dict, str]] = []
    for number, (name, entry) in enumerate(ENTRIES.items()):
        provider = pricing._owner(entry)
        model = name.removeprefix(f"{provider}/")
        tiers = any("_above_" in key or key == "tiered_pricing" for key in entry)
        if price_of(provider, model) is None if (seen[provider] < 8 or number % 12 == 0 or tiers) else True:
            continue
        seen[provider] += 1
        asked.append((provider, entry, model))
    assert len(asked) > 500
    calls = [(provider, model, counts) for provider, _, model in asked for counts in USAGES]
    done = subprocess.run(
        [sys.executable, "-c", COUNT], input=json.dumps(calls), capture_output=True, text=True, check=True, timeout=180,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}, cwd=tmp_path,
    )  # fmt: skip
    costs = iter(json.loads(done.stdout.splitlines()[-1]))
    wrong, reasons = [], Counter[str]()
    for provider, entry, model in asked:
        for counts in USAGES:
            theirs, ours = next(costs), cost_of(Usage(*counts), provider, model)
            if isinstance(theirs, str) or ours != pytest.approx(theirs, rel=1e-9, abs=1e-12):
                reason = reason_for_a_difference(provider, entry, theirs, counts[2] + counts[3] + counts[4])
                reasons[reason or "none"] += 1
                if reason is None:
                    wrong.append((provider, model, counts, ours, theirs))
    assert wrong == []
    assert sum(reasons.values()) < len(calls) / 10, reasons

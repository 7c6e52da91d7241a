"""docs/providers.md says of each provider what the table in the code says, and litellm agrees on the addresses."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from neuro_mw.bundled import LITELLM_NAMES
from neuro_mw.providers.catalog import PROVIDERS

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text("utf-8")
NATIVE = [name for name, info in PROVIDERS.items() if info.dialect and name not in LITELLM_NAMES.values()]
# where litellm goes by another way, or to another of the names of this host
LITELLMS_OWN = {
    "ollama": "http://localhost:11434",  # Ollama's own protocol
    "llama_cpp": "http://127.0.0.1:8080/v1",
}
CODE = re.compile(r"`([^`]+)`")


def rows_under(first: str) -> list[list[str]]:
    """The cells of the rows of the table whose heading has `first` in its first cell."""
    lines = PAGE[PAGE.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_of_providers() -> None:
    told = {}
    for provider, keys, bases, url in rows_under("provider | key variables (the first that is set)"):
        optional = keys.startswith("none; ")
        names = tuple(CODE.findall(keys))
        found = CODE.findall(url)
        told[CODE.findall(provider)[0]] = (
            () if optional else names,
            names if optional else (),
            tuple(CODE.findall(bases)),
            found[0] if found else "",
        )
        assert found or url == "none"
    expected = {
        name: (info.keys, info.optional_keys, info.bases, info.url)
        for name, info in PROVIDERS.items()
        if name in NATIVE
    }
    assert told == expected


def test_the_native_driver_is_said_to_have_them() -> None:
    row = next(row for row in rows_under("driver") if row[0] == "native")
    assert sorted(name for name in CODE.findall(row[1]) if name != "base_url") == sorted(NATIVE)


@pytest.mark.parametrize(("ours", "litellms"), LITELLM_NAMES.items())
def test_litellms_names_mean_the_same(ours: str, litellms: str) -> None:
    assert PROVIDERS[ours]._replace(litellm="") == PROVIDERS[litellms]._replace(litellm="")
    assert f"`{litellms}`" in PAGE


def test_the_variables_that_become_headers_are_named() -> None:
    for name in ("OPENAI_ORGANIZATION", "OPENAI_PROJECT_ID", "OR_SITE_URL", "OR_APP_NAME"):
        assert f"`{name}`" in PAGE


def litellms_address(provider: str) -> str | None:
    import litellm

    found: str | None = litellm.get_llm_provider(f"{LITELLM_NAMES.get(provider, provider)}/m")[3]
    return found


@pytest.mark.filterwarnings("ignore:.* on TypedDict class .* using the `ReadOnly` qualifier:UserWarning")
def test_litellm_goes_to_the_same_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    for name in [name for name in os.environ if name.endswith(("_API_BASE", "_BASE_URL", "_API_KEY"))]:
        monkeypatch.delenv(name)
    asked = {name: litellms_address(name) for name in NATIVE}
    found = {name: url for name, url in asked.items() if url is not None}  # None: it says so at the call only
    assert {"together", "groq", "mistral", "deepseek", "fireworks", "xai", "perplexity"} <= set(found)
    assert found == {name: LITELLMS_OWN.get(name, PROVIDERS[name].url) for name in found}

"""`models`: the providers, what is set for them, and the models of one."""

from __future__ import annotations

import json

import pytest

from neuro_mw.cli import main
from neuro_mw.pricing import price_of
from neuro_mw.providers import known_providers
from neuro_mw.providers.catalog import PROVIDERS

SECRET = "sk-not-to-be-shown"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for info in PROVIDERS.values():
        for name in (*info.keys, *info.optional_keys, *info.bases):
            monkeypatch.delenv(name, raising=False)


def read(capsys, *arguments: str):
    assert main(["models", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_providers_of_the_table_come_first(capsys) -> None:
    few, every = read(capsys), read(capsys, "--all")
    assert [row["provider"] for row in few] == list(PROVIDERS)
    assert every[: len(few)] == few
    assert sorted(row["provider"] for row in every) == list(known_providers())
    drivers = {row["provider"]: row["driver"] for row in every}
    assert (drivers["echo"], drivers["openai"], drivers["bedrock"]) == ("echo", "native", "litellm")


@pytest.mark.parametrize("arguments", [[], ["--provider", "openai"]])
def test_a_key_is_looked_for_and_never_shown(capsys, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    def state() -> dict:
        rows = read(capsys, *arguments)
        return next(row for row in (rows if isinstance(rows, list) else [rows]) if row["provider"] == "openai")

    assert (state()["key"], state()["key_variables"]) == ("missing", {"OPENAI_API_KEY": False})
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_BASE_URL", f"https://user:{SECRET}@x.org")
    assert (state()["key"], state()["key_variables"]) == ("set", {"OPENAI_API_KEY": True})
    assert state()["base_url_variables"] == {"OPENAI_BASE_URL": True, "OPENAI_API_BASE": False}
    assert SECRET not in json.dumps(state())
    assert main(["models", *arguments]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("openai "))
    assert row.split()[1:5] == ["native", "set", "OPENAI_API_KEY", "(set)"]
    assert "OPENAI_BASE_URL (set), OPENAI_API_BASE" in row
    assert SECRET not in out


def test_the_models_of_a_provider(capsys) -> None:
    found = read(capsys, "--provider", "gemini")
    models = {row["model"]: row for row in found["models"]}
    assert list(models) == sorted(models)
    price = price_of("gemini", "gemini-2.5-pro")
    assert price is not None
    assert models["gemini-2.5-pro"] == {
        "model": "gemini-2.5-pro", "input": price.input, "output": price.output, "cache_read": price.cache_read,
        "cache_write": None, "tiers": [200_000], "max_input_tokens": 1_048_576, "max_output_tokens": 65_536,
    }  # fmt: skip
    assert main(["models", "--provider", "gemini"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("gemini-2.5-pro "))
    assert row.split()[1:5] == [f"{price.input:g}+", f"{price.output:g}+", f"{price.cache_read:g}+", "-"]


def test_a_provider_that_is_not_listed(capsys) -> None:
    assert read(capsys, "--provider", "echo")["models"] == []
    assert main(["models", "--provider", "echo"]) == 0
    assert "The price list has no models of it." in capsys.readouterr().out


def test_all_beside_a_provider_is_an_error(capsys) -> None:
    for more in ([], ["--json"]):
        assert main(["models", "--provider", "openai", "--all", *more]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "--all" in shown.err
        assert "--provider" in shown.err


def test_an_unknown_provider_names_the_nearest(capsys) -> None:
    assert main(["models", "--provider", "opnai"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "'opnai' is not a known provider" in shown.err
    assert "'openai'" in shown.err


def test_colours_on_a_terminal(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["models", "--provider", "openai"]) == 0
    out = capsys.readouterr().out
    assert "\x1b[" in out
    assert "gpt-4o" in out

"""`list`, `presets`, `plugins`, `explain`, and the program itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import neuro_mw
from neuro_mw.cli import main
from neuro_mw.explain import ChainPlan


def test_version(capsys) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"neuro-mw {neuro_mw.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_names_every_command(capsys, arguments: list[str]) -> None:
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("demo", "run", "list", "presets", "explain", "plugins"))


def test_list_as_text(capsys) -> None:
    assert main(["list"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["id", "priority", "kind", "origin", "hooks", "description"]
    row = next(row for row in rows if row.startswith("analytics"))
    assert row.split()[:5] == ["analytics", "100", "observer", "built-in", "on_end"]
    assert row.endswith("Usage, timing and cost of every call.")


def test_list_holds_those_of_plugins_and_builds_none(neuro, site: Path) -> None:
    done = neuro("list", "--json", site=site)
    found = {one["id"]: one for one in json.loads(done.stdout)}
    assert found["life"] == {
        "id": "life", "priority": 0, "kind": "observer", "origin": "cliplug 1.2", "description": "notes [its] life",
        "hooks": ["on_end"],
    }  # fmt: skip
    assert found["needs_option"]["hooks"] == ["wrap_generate"]
    assert found["refuse"]["hooks"] == ["transform_params"]
    assert "notes [its] life" in neuro("list", site=site).stdout


def test_list_with_the_ids_of_a_file(capsys, tmp_path: Path) -> None:
    (tmp_path / "mw.toml").write_text('[middleware.second]\nuse = "analytics"\n')
    assert main(["list", "--json", "--config", str(tmp_path / "mw.toml")]) == 0
    assert "second" in [one["id"] for one in json.loads(capsys.readouterr().out)]


def test_presets(capsys) -> None:
    assert main(["presets"]) == 0
    assert "default" in capsys.readouterr().out
    assert main(["presets", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["default"]["middleware"] == ["analytics"]
    assert found["default"]["description"]


def test_no_plugins(neuro) -> None:
    done = neuro("plugins", NEURO_MW_PLUGINS="")
    assert (done.stdout, done.returncode) == ("No plugins are installed.\n", 0)
    assert json.loads(neuro("plugins", "--json", NEURO_MW_PLUGINS="").stdout) == []


def test_plugins_and_what_is_wrong_with_one(neuro, broken: Path) -> None:
    done = neuro("plugins", "--json", site=broken)
    assert (done.stderr, done.returncode) == ("", 0)
    bad, good = (one for one in json.loads(done.stdout) if one["name"].startswith("cli_"))
    assert good == {
        "name": "cli_plug", "distribution": "cliplug", "version": "1.2", "entry_point": "cli_plug",
        "middleware": ["refuse", "refuse_late", "fail", "life", "needs_option"], "error": None,
    }  # fmt: skip
    assert (bad["distribution"], bad["middleware"]) == ("brokenplug", [])
    assert "RuntimeError: it is [broken]" in bad["error"]


def test_plugins_as_text(neuro, broken: Path) -> None:
    done = neuro("plugins", site=broken)
    assert done.returncode == 0
    rows = {row.split()[0]: row for row in done.stdout.splitlines()}
    assert "RuntimeError: it is [broken]" in rows["cli_broken"]
    assert "life" in rows["cli_plug"]


@pytest.mark.parametrize("named", [["--provider", "openai", "--model", "gpt-4o"], ["--model", "openai/gpt-4o"]])
def test_explain(capsys, named: list[str]) -> None:
    assert main(["explain", *named]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "openai/gpt-4o"
    assert [line for line in lines if line.startswith("  + ")] == [
        "  + analytics (priority 100, built-in): preset 'default'"
    ]
    assert main(["explain", *named, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["provider"], found["model"]) == ("openai", "gpt-4o")
    entries = {entry["id"]: entry for entry in found["entries"]}
    assert entries["analytics"]["config"]["max_records"] == 1000
    assert set(found) == set(ChainPlan("", "", []).to_dict())


def test_explain_with_conditions_of_a_file(capsys, tmp_path: Path) -> None:
    (tmp_path / "mw.toml").write_text('[middleware.analytics.conditions]\nproviders = ["anthropic"]\n')
    file = ["--config", str(tmp_path / "mw.toml"), "--json"]
    applied = []
    for model in ("openai/gpt-4o", "anthropic/claude"):
        assert main(["explain", "--model", model, *file]) == 0
        entry = next(e for e in json.loads(capsys.readouterr().out)["entries"] if e["id"] == "analytics")
        applied.append(entry["applied"])
    assert applied == [False, True]


def test_what_json_does_not_know_becomes_text(capsys) -> None:
    from neuro_mw.cli.output import show_json

    show_json({"set": {"b", "a"}, "path": Path("x")})
    assert json.loads(capsys.readouterr().out) == {"set": ["a", "b"], "path": "x"}

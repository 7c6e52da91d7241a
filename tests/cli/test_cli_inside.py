"""The same commands within this process, where their branches can be measured and their world replaced."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from neuro_mw import NeuroError
from neuro_mw.cli import main
from neuro_mw.cli.demo import SECRET


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))


@pytest.mark.parametrize("mode", [[], ["--no-stream"]])
def test_refused(capsys, installed: None, tmp_path: Path, mode: list[str]) -> None:
    (tmp_path / "raise.toml").write_text('on_block = "raise"\n[middleware.refuse]\n')
    for options in (["--enable", "refuse"], ["--config", str(tmp_path / "raise.toml")]):
        assert main(["run", "x", *options, *mode]) == 3
        assert capsys.readouterr().err == "neuro-mw: blocked by middleware 'refuse': no thanks\n"


def test_plugins(capsys, installed: None) -> None:
    assert main(["plugins", "--json"]) == 0
    assert "cliplug" in [one["distribution"] for one in json.loads(capsys.readouterr().out)]
    assert main(["plugins"]) == 0
    assert "needs_option" in capsys.readouterr().out
    assert main(["list"]) == 0
    assert "needs_option" in capsys.readouterr().out


def test_tool_calls(capsys, installed: None) -> None:
    assert main(["run", "x", "--model", "odd/tools"]) == 0
    assert "[tool call] weather" in capsys.readouterr().out


@pytest.mark.parametrize("mode", [[], ["--no-stream"]])
def test_run(capsys, mode: list[str]) -> None:
    assert main(["run", "hello", "--stats", "--explain", *mode]) == 0
    plan, answer, table = capsys.readouterr().out.partition("hello\n")
    assert "analytics" in plan
    assert answer
    assert "avg ms" in table


def test_run_as_json(capsys) -> None:
    assert main(["run", "hello", "--json", "--explain"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"plan", "response", "receipt", "stats", "middleware"}


@pytest.mark.parametrize(
    ("text", "prompt"), [("one\n", "one"), ("two\r\n", "two"), ("a\n\n", "a\n"), ("\ttab", "\ttab")]
)
def test_the_prompt_loses_one_line_break(capsys, monkeypatch: pytest.MonkeyPatch, text: str, prompt: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main(["run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["response"]["text"] == prompt


def test_demo(capsys) -> None:
    assert main(["demo"]) == 0
    assert "It is [REDACTED]," in capsys.readouterr().out
    assert main(["demo", "--json"]) == 0
    assert SECRET not in capsys.readouterr().out


def test_debug_and_an_error_while_a_command_runs(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object, **__: object) -> None:
        error = NeuroError("this happened")
        error.add_note("there")
        raise error

    monkeypatch.setattr("neuro_mw.cli.run.ask", ask)
    assert main(["run", "x"]) == 1
    assert capsys.readouterr().err == "neuro-mw: this happened [there]\n"
    assert main(["run", "x", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_no_streams_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}", None)
    assert main(["run"]) == 2
    assert main(["run", "x"]) == 0


def test_forced_colour_into_a_pipe(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["presets"]) == 0
    assert "\x1b[" in capsys.readouterr().out

"""What goes wrong: one line on stderr, the exit code, no traceback, no text of a prompt."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest
import typer

from neuro_mw import ConfigError, PluginError, RegistrationError, RequestBlocked, Response
from neuro_mw.cli import main
from neuro_mw.cli.failure import code_of, line_of, report
from neuro_mw.cli.output import OutputError
from neuro_mw.types import Block


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "x", "--preset", "defualt"], "Did you mean 'default'?"),
        (["run", "x", "--enable", "analitycs"], "Did you mean 'analytics'?"),
        (["run", "x", "--disable", "analitycs"], "Did you mean 'analytics'?"),
        (["run", "x", "--model", "opneai/gpt-4o"], "Did you mean 'openai'?"),
        (["run", "x", "--model", "nothing"], "'provider/model'"),
        (["run", "x", "--config", "/no/such/file.toml"], "/no/such/file.toml: cannot be read: No such file"),
        (["run", "x", "--bogus"], "No such option: --bogus. See 'neuro-mw run --help'"),
        (["run", "some", "PROMPT-SECRET"], "too many arguments: put a prompt of several words in quotes"),
        (["explain", "--provider", "openai"], "--model: it is missing"),
        (["explain", "--model", "gpt-4o"], "--provider: it is missing"),
        (["explain", "--model", "x", "--provider", "y", "--preset", "defualt"], "Did you mean 'default'?"),
        (["nothing"], "No such command 'nothing'"),
    ],
)
def test_usage_and_configuration_are_2(capsys, arguments: list[str], told: str) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert len(err.splitlines()) == 1
    assert "PROMPT-SECRET" not in err


@pytest.mark.parametrize("text", ["not = = toml", "unknown = 1", "[middleware.analytics.config]\nmax_recrods = 3"])
def test_a_wrong_file_is_named(neuro, tmp_path: Path, text: str) -> None:
    (tmp_path / "mw.toml").write_text(text)
    done = neuro("run", "x", "--config", str(tmp_path / "mw.toml"))
    assert (done.stdout, done.returncode) == ("", 2)
    assert "mw.toml" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_provider_that_fails_is_1(neuro, site: Path) -> None:
    done = neuro("run", "PROMPT-SECRET", "--model", "odd/down", site=site)
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.startswith("neuro-mw: odd/down is [31m not there")
    assert "\x1b" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_stream_that_breaks_off_leaves_a_whole_line(neuro, site: Path) -> None:
    done = neuro("run", "x", "--model", "odd/breaks", site=site)
    assert (done.stdout, done.stderr, done.returncode) == ("first\n", "neuro-mw: it broke off\n", 1)


@pytest.mark.parametrize("mode", [[], ["--no-stream"]])
def test_a_middleware_that_fails_is_named_without_its_message(neuro, site: Path, mode: list[str]) -> None:
    done = neuro("run", "x", "--enable", "fail", *mode, site=site)
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.startswith("neuro-mw: ValueError")
    assert "middleware 'fail' failed in transform_params (echo/echo)" in done.stderr
    assert "SECRET" not in done.stderr


def test_debug_shows_the_traceback(neuro, site: Path) -> None:
    for arguments in (["run", "x", "--enable", "fail", "--debug"], ["--debug", "run", "x", "--enable", "fail"]):
        done = neuro(*arguments, site=site)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "about PROMPT-SECRET" in done.stderr


def test_a_model_that_cancels_is_a_failed_call(neuro, site: Path) -> None:
    assert neuro("run", "x", "--model", "odd/cancel", "--no-stream", site=site).returncode == 1


def test_ctrl_c_closes_everything_and_is_130(command, environment, site: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    process = subprocess.Popen(
        command("run", "x", "--model", "odd/slow", "--enable", "life"), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(site, CLI_NOTES=str(notes)),
    )
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 5) == b"first"  # it came while the model was still at work
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"\n", b"")
    assert set(notes.read_text().split("\n")) >= {"stream closed", "end cancelled", "aclose"}


@pytest.mark.parametrize("arguments", [["run", "word " * 20_000], ["demo"], ["list", "--json"], ["--version"]])
def test_a_reader_that_leaves_is_no_fault(command, environment, arguments: list[str]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run(command(*arguments), stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE,
                              env=environment(), timeout=60, check=False)  # fmt: skip
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told(command, environment) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(command("run", "hello"), stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
                              env=environment(), timeout=60, check=False)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(b"neuro-mw: the output cannot be written:")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("redirect", "code"), [(">&-", 0), ("2>&-", 0), ("<&-", 0), ("--bogus 2>&-", 2)])
def test_streams_that_are_closed(command, environment, redirect: str, code: int) -> None:
    line = " ".join(command("run", "hello")) + " " + redirect
    done = subprocess.run(line, shell=True, env=environment(), capture_output=True, timeout=60, check=False)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


def test_what_cannot_be_shown_becomes_a_question_mark(neuro) -> None:
    done = neuro("run", "hé", "--stats", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.stdout.startswith("h?")
    assert done.returncode == 0


def test_a_broken_plugin_is_one_line_and_the_call_goes_on(neuro, broken: Path) -> None:
    done = neuro("run", "hello", site=broken)
    assert (done.stdout, done.returncode) == ("hello\n", 0)
    assert done.stderr.startswith("neuro-mw: warning: plugin 'cli_broken'")
    assert len(done.stderr.splitlines()) == 1


def refused() -> RequestBlocked:
    return RequestBlocked(Response(blocked=Block("guard", "no")))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (typer.Abort(), 130),
        (ConfigError("x"), 2),
        (RegistrationError("x"), 2),
        (PluginError("x"), 2),
        (typer.BadParameter("x"), 2),
        (refused(), 3),
        (OutputError(BrokenPipeError(32, "Broken pipe")), 141),
        (OutputError(OSError(28, "No space left")), 1),
        (BrokenPipeError(32, "of a provider's socket"), 1),
        (asyncio.CancelledError(), 1),
    ],
)
def test_codes(error: BaseException, code: int) -> None:
    assert code_of(error) == code


def test_an_error_without_a_message_has_its_type() -> None:
    assert line_of(PluginError("")) == "PluginError"


def test_an_interrupt_is_not_told(capsys) -> None:
    assert report(KeyboardInterrupt(), debug=False) == 130
    assert capsys.readouterr().err == ""


def test_an_interrupt_while_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(argv: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("neuro_mw.cli.app.execute", interrupted)
    assert main([]) == 130

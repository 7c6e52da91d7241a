"""`neuro-mw stats` as a process: what `run` and other processes recorded, or where it was looked for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuro_mw import MiddlewareFactory
from neuro_mw.export import StatsRecorder
from neuro_mw.export.record import PREFIX
from neuro_mw.state import open_store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the default place is that of Linux")


@pytest.fixture
def cli(neuro: Callable[..., Any], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``neuro-mw`` with a home of its own."""
    return lambda *arguments, **env: neuro(*arguments, **{"XDG_STATE_HOME": str(tmp_path), "NEURO_MW_STATE": "", **env})


def store_of(folder: Path) -> str:
    return f"sqlite:///{folder}/neuro_mw/stats.db"


def put(url: str, key: str, value: bytes) -> None:
    async def main() -> None:
        store = open_store(url)
        await store.set(PREFIX + key, value)
        await store.aclose()

    asyncio.run(main())


def test_nothing_was_recorded_and_where_it_looked(cli, tmp_path: Path) -> None:
    done = cli("stats")
    assert (done.stderr, done.returncode) == ("", 0)
    assert f"No stats were recorded in {store_of(tmp_path)}." in done.stdout
    assert list(tmp_path.iterdir()) == [], "to look makes nothing"


def test_nothing_as_json(cli, tmp_path: Path) -> None:
    found = json.loads(cli("stats", "--json").stdout)
    assert (found["state"], found["processes"], found["middleware"]) == (store_of(tmp_path), [], {})


def test_what_runs_recorded(cli, tmp_path: Path) -> None:
    for mode in ([], ["--no-stream"]):
        done = cli("run", "PROMPT-SECRET", *mode)
        assert (done.stdout, done.stderr, done.returncode) == ("PROMPT-SECRET\n", "", 0)
    done = cli("stats")
    header, row, source = done.stdout.splitlines()
    assert header.split()[:2] == ["middleware", "runs"]
    assert row.split()[:2] == ["analytics", "2"]
    assert source.startswith("2 processes, the last recorded ")
    assert source.endswith(f" s ago, in {store_of(tmp_path)}")
    found = json.loads(cli("stats", "--json").stdout)
    assert (found["schema"], len(found["processes"]), found["skipped"]) == (1, 2, [])
    assert found["middleware"]["analytics"]["stats"]["by_model"] == {"echo": 2}
    assert b"SECRET" not in (tmp_path / "neuro_mw" / "stats.db").read_bytes()


def test_a_run_that_failed_counts(cli, site: Path) -> None:
    assert cli("run", "x", "--model", "odd/down", site=site).returncode == 1
    found = json.loads(cli("stats", "--json").stdout)
    assert found["middleware"]["analytics"]["stats"]["inner_errors"] == 1


def test_no_record(cli, tmp_path: Path) -> None:
    assert cli("run", "x", "--no-record").returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_state_by_option_and_by_environment(cli, tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/mine.db"
    assert cli("run", "x", NEURO_MW_STATE=place).returncode == 0
    for done in (cli("stats", "--state", place), cli("stats", NEURO_MW_STATE=place)):
        assert f"in {place}" in done.stdout
        assert "analytics" in done.stdout
    assert "No stats" in cli("stats").stdout


def test_clear(cli, tmp_path: Path) -> None:
    cli("run", "x")
    put(store_of(tmp_path), "corrupt", b"x")
    assert cli("stats", "--clear").stdout == f"Forgot 2 recorded entries in {store_of(tmp_path)}.\n"
    assert "No stats" in cli("stats").stdout
    assert json.loads(cli("stats", "--clear", "--json").stdout)["cleared"] == 0


def test_what_is_none_is_skipped_and_said(cli, tmp_path: Path) -> None:
    cli("run", "x")
    put(store_of(tmp_path), "corrupt", b"x")
    put(store_of(tmp_path), "later", b'{"schema": 9}')
    done = cli("stats")
    assert done.returncode == 0
    assert "analytics" in done.stdout
    assert "1 entry was skipped: it is no JSON" in done.stderr
    assert "1 entry was skipped: it is of schema 9, this version reads 1" in done.stderr
    assert len(json.loads(cli("stats", "--json").stdout)["skipped"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--interval", "1"], "--interval"), (["--watch", "--interval", "0"], "--interval"),
        (["--watch", "--interval", "nan"], "--interval"), (["--watch", "--json"], "--watch"),
        (["--watch", "--clear"], "--watch"), (["--state", "memory"], "--state"),
        (["--state", "reddis://x"], "--state"), (["--state"], "--state"), (["more"], "too many arguments"),
    ],
)  # fmt: skip
def test_wrong_usage(cli, arguments: list[str], said: str) -> None:
    done = cli("stats", *arguments)
    assert (done.stdout, done.returncode) == ("", 2)
    assert said in done.stderr


def test_a_store_that_is_away(cli, tmp_path: Path) -> None:
    done = cli("stats", "--state", "redis://127.0.0.1:1/0")
    assert (done.stdout, done.returncode) == ("", 1)
    assert "redis://127.0.0.1:1/0" in done.stderr
    (tmp_path / "other.db").write_bytes(b"no database" * 100)
    assert cli("stats", "--state", f"sqlite:///{tmp_path}/other.db").returncode == 1


def test_a_run_never_fails_by_its_record(cli, tmp_path: Path) -> None:
    """A default place that cannot be used is nobody's fault; one that the user named is told."""
    (tmp_path / "neuro_mw").write_text("a file")
    done = cli("run", "x")
    assert (done.stdout, done.stderr, done.returncode) == ("x\n", "", 0)
    done = cli("run", "x", NEURO_MW_STATE=f"sqlite:///{tmp_path}/no/where.db")
    assert (done.stdout, done.returncode) == ("x\n", 0)
    assert "the stats of this run were not recorded" in done.stderr
    done = cli("run", "x", NEURO_MW_STATE="memory")
    assert (done.stdout, done.stderr, done.returncode) == ("x\n", "", 0)


@pytest.mark.parametrize("mode", [[], ["--no-stream"]])
def test_what_nobody_expected_is_one_line(cli, tmp_path: Path, mode: list[str]) -> None:
    """The answer is there: whatever the store then raises is told, and that is all."""
    site = tmp_path / "broken"
    site.mkdir()
    for error in ("TypeError('PROMPT-SECRET')", "__import__('asyncio').CancelledError()"):
        (site / "sitecustomize.py").write_text(
            "from neuro_mw.state.sqlite import SqliteStore\n"
            f"async def fail(*args, **kwargs): raise {error}\nSqliteStore.set = fail\n"
        )
        done = cli("run", "x", *mode, site=site)
        assert (done.stdout, done.returncode) == ("x\n", 0)
        (line,) = done.stderr.splitlines()
        assert "the stats of this run were not recorded" in line
        assert "SECRET" not in line


def test_a_place_that_is_wrong(cli, tmp_path: Path) -> None:
    """The chain keeps its own state there, unless that is somewhere else: then only the record has no place."""
    done = cli("run", "x", NEURO_MW_STATE="nosuch://x")
    assert (done.stdout, done.returncode) == ("", 2)
    assert "NEURO_MW_STATE" in done.stderr
    assert cli("run", "x", "--no-record", NEURO_MW_STATE="nosuch://x").returncode == 2, "it is not the record"
    config = tmp_path / "mw.toml"
    config.write_text('state = "memory://"\n')
    done = cli("run", "x", "--config", str(config), NEURO_MW_STATE="nosuch://x")
    assert (done.stdout, done.returncode) == ("x\n", 0)
    (line,) = done.stderr.splitlines()
    assert "the stats of this run were not recorded: NEURO_MW_STATE" in line


def test_watch_shows_what_a_service_records(command, environment, tmp_path: Path) -> None:
    factory, place = MiddlewareFactory(plugins=False), f"sqlite:///{tmp_path}/live.db"
    model = factory.apply_middleware("echo/echo")

    async def once() -> None:
        async with StatsRecorder(factory, place):
            await model.generate("x")

    env = environment()
    env["PYTHONUNBUFFERED"] = "1"
    watching = subprocess.Popen(
        command("stats", "--watch", "--interval", "0.1", "--state", place), env=env, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stdout is not None
    try:
        deadline, seen = time.monotonic() + 30, set()
        asyncio.run(once())
        for line in watching.stdout:
            if line.startswith("analytics"):
                runs = int(line.split()[1])
                if runs not in seen and runs < 3:
                    asyncio.run(once())
                seen.add(runs)
            if {1, 2, 3} <= seen or time.monotonic() > deadline:
                break
        assert {1, 2, 3} <= seen
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=30) == 130
    finally:
        watching.kill()
        _, errors = watching.communicate()
    assert "Traceback" not in errors


def test_watch_on_a_terminal(command, environment, tmp_path: Path) -> None:
    import pty

    place = f"sqlite:///{tmp_path}/live.db"
    asyncio.run(_recorded(place))
    leader, follower = pty.openpty()
    watching = subprocess.Popen(
        command("stats", "--watch", "--interval", "0.1", "--state", place), env=environment(), stdout=follower,
        stderr=follower, stdin=follower, close_fds=True,
    )  # fmt: skip
    os.close(follower)
    try:
        text, deadline = b"", time.monotonic() + 30
        while text.count(b"analytics") < 3 and time.monotonic() < deadline:
            text += os.read(leader, 4096)
        assert text.count(b"analytics") >= 3
        assert "█" in text.decode(errors="replace"), "bars for the times"
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=30) == 130
    finally:
        watching.kill()
        watching.wait()
        os.close(leader)


async def _recorded(place: str) -> None:
    factory = MiddlewareFactory(plugins=False)
    async with StatsRecorder(factory, place):
        await factory.apply_middleware("echo/echo").generate("x")

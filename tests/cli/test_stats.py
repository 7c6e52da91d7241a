"""`neuro-mw stats` as a process: what `run` and other processes recorded, or where it was looked for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from neuro_mw import ConfigError, MiddlewareFactory
from neuro_mw.cli import stats
from neuro_mw.export import StatsRecorder, shared_store
from neuro_mw.export.record import PREFIX
from neuro_mw.state import open_store
from neuro_mw.state.sqlite import SqliteStore

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


@contextmanager
def watching(command, env: dict[str, str], place: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """``neuro-mw stats --watch`` as it runs, for a minute at most: then whoever reads from it finds the end."""
    arguments = command("stats", "--watch", "--interval", "0.1", "--state", place)
    more["preexec_fn"] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # ignored where tests run behind a '&'
    process = subprocess.Popen(arguments, env={**env, "PYTHONUNBUFFERED": "1"}, text=True, **more)
    timer = Timer(60, process.kill)
    timer.start()
    try:
        yield process
    finally:
        timer.cancel()
        process.kill()
        process.communicate()


def interrupted(process: subprocess.Popen[str]) -> str:
    """What it still says once Ctrl-C was pressed."""
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    return out


PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def test_watch_shows_what_a_service_records(command, environment, tmp_path: Path) -> None:
    place, seen = f"sqlite:///{tmp_path}/live.db", set()
    asyncio.run(_recorded(place))
    with watching(command, environment(), place, **PIPES) as process:
        for line in process.stdout or ():
            if line.startswith("analytics"):
                runs = int(line.split()[1])
                if runs not in seen and runs < 3:
                    asyncio.run(_recorded(place))
                seen.add(runs)
            if {1, 2, 3} <= seen:
                break
        assert {1, 2, 3} <= seen
        interrupted(process)


def test_watch_says_once_what_it_skips(command, environment, tmp_path: Path) -> None:
    place, shown, said = f"sqlite:///{tmp_path}/live.db", 0, []
    asyncio.run(_recorded(place))
    put(place, "corrupt", b"x")
    with watching(command, environment(), place, **PIPES) as process:
        for line in process.stdout or ():
            said += [line] if "skipped" in line else []
            shown += line.startswith("analytics")
            if shown == 3 and line.startswith("analytics"):
                put(place, "another", b"x")
            if len(said) >= 2 and shown >= 6:
                break
        interrupted(process)
    assert said == ["1 entry was skipped: it is no JSON\n", "2 entries were skipped: it is no JSON\n"]


def test_watch_waits_for_a_store_that_is_away(command, environment, tmp_path: Path) -> None:
    place, file = f"sqlite:///{tmp_path}/live.db", tmp_path / "live.db"
    file.write_bytes(b"no database" * 100)
    before: list[str] = []
    with watching(command, environment(), place, **PIPES) as process:
        for line in process.stdout or ():
            if line.startswith("analytics"):
                break
            before.append(line)
            if len(before) == 2:
                file.unlink()
                asyncio.run(_recorded(place))
        interrupted(process)
    assert all("cannot be used" in line for line in before[:2])
    assert len(before) >= 2


def test_watch_on_a_terminal(command, environment, tmp_path: Path) -> None:
    import pty

    place, text = f"sqlite:///{tmp_path}/live.db", b""
    asyncio.run(_recorded(place))
    leader, follower = pty.openpty()
    ends = dict.fromkeys(("stdin", "stdout", "stderr"), follower)
    with open(leader, "rb", buffering=0) as screen, watching(command, environment(), place, **ends) as process:
        os.close(follower)
        with suppress(OSError):  # it was killed
            while text.count(b"analytics") < 3:
                text += screen.read(4096)
        assert text.count(b"analytics") >= 3
        assert "█" in text.decode(errors="replace"), "bars for the times"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130


@pytest.mark.parametrize("more", [{}, {"as_json": True}, {"clear": True}, {"watch": True}], ids=str)
def test_the_store_is_closed(more: dict[str, bool], tmp_path: Path, monkeypatch, capsys) -> None:
    place, closed = f"sqlite:///{tmp_path}/stats.db", []
    asyncio.run(_recorded(place))
    _count_closed(monkeypatch, closed)

    @contextmanager
    def live() -> Iterator[Callable[..., None]]:
        def update(*things: Any) -> None:
            raise KeyboardInterrupt

        yield update

    monkeypatch.setattr(stats, "live", live)
    if more.get("watch"):
        with pytest.raises(KeyboardInterrupt):
            stats.stats(state=place, **more)
    else:
        stats.stats(state=place, **more)
        assert place in capsys.readouterr().out
    assert closed == [place]


def test_the_store_of_a_run_is_closed(tmp_path: Path, monkeypatch) -> None:
    place, closed = f"sqlite:///{tmp_path}/stats.db", []
    monkeypatch.setenv("NEURO_MW_STATE", place)
    record = stats.record_run(MiddlewareFactory(plugins=False))
    _count_closed(monkeypatch, closed)
    assert record is not None
    record()
    assert closed == [place]


def test_without_a_home_a_run_is_not_recorded_and_nothing_is_said(monkeypatch, capsys) -> None:
    def home() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", home)
    assert stats.record_run(MiddlewareFactory(plugins=False)) is None
    assert capsys.readouterr().err == ""
    with pytest.raises(ConfigError, match="the home folder is not known"):
        shared_store()


def _count_closed(monkeypatch: pytest.MonkeyPatch, closed: list[str]) -> None:
    close = SqliteStore.aclose

    async def aclose(self: SqliteStore) -> None:
        closed.append(self.url)
        await close(self)

    monkeypatch.setattr(SqliteStore, "aclose", aclose)


async def _recorded(place: str) -> None:
    factory = MiddlewareFactory(plugins=False)
    async with StatsRecorder(factory, place):
        await factory.apply_middleware("echo/echo").generate("x")

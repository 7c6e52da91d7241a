"""`neuro-mw run` as a process: what it prints where, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuro_mw.testing import StubOpenAI


def test_the_answer_is_all_there_is_on_stdout(neuro) -> None:
    done = neuro("run", "hello  there")
    assert (done.stdout, done.stderr, done.returncode) == ("hello  there\n", "", 0)


def test_no_stream_gives_the_same(neuro) -> None:
    assert neuro("run", "hello there", "--no-stream").stdout == "hello there\n"


@pytest.mark.parametrize("arguments", [["-"], []])
def test_the_prompt_from_stdin(neuro, arguments: list[str]) -> None:
    assert neuro("run", *arguments, stdin="one\ntwo ü\n").stdout == "one\ntwo ü\n"


def test_a_prompt_given_goes_before_stdin(neuro) -> None:
    assert neuro("run", "given", stdin="piped").stdout == "given\n"


@pytest.mark.parametrize(("arguments", "stdin"), [(["-"], ""), ([], None), ([""], None), (["-"], "\n")])
def test_no_prompt_is_wrong_usage(neuro, arguments: list[str], stdin: str | None) -> None:
    done = neuro("run", *arguments, stdin=stdin)
    assert (done.stdout, done.returncode) == ("", 2)
    assert "there is no prompt" in done.stderr


@pytest.mark.parametrize("mode", [[], ["--no-stream"]])
def test_json_is_one_document(neuro, mode: list[str]) -> None:
    done = neuro("run", "hé there", "--json", "--stats", *mode)
    found = json.loads(done.stdout)
    assert (done.stderr, done.returncode) == ("", 0)
    assert found["response"]["text"] == "hé there"
    assert found["response"]["metadata"]["analytics"]["mode"] == ("generate" if mode else "stream")
    assert found["receipt"]["layers"][0]["id"] == "analytics"
    assert found["receipt"]["request_id"] == found["response"]["metadata"]["analytics"]["request_id"]
    assert found["stats"]["applied_middleware"] == 1
    assert found["middleware"]["analytics"]["total_executions"] == 1
    assert "plan" not in found


def test_json_with_the_plan_if_asked(neuro) -> None:
    found = json.loads(neuro("run", "hello", "--json", "--explain").stdout)
    reasons = {entry["id"]: entry["reason"] for entry in found["plan"]["entries"]}
    assert reasons["analytics"] == "preset 'default'"


def test_plan_before_and_stats_after(neuro) -> None:
    done = neuro("run", "the-answer", "--stats", "--explain")
    plan, _, table = done.stdout.partition("the-answer\n")
    assert "preset 'default'" in plan
    header, row = table.strip().splitlines()
    assert header.split()[:3] == ["middleware", "runs", "parts"]
    assert row.split()[:3] == ["analytics", "1", "3"]


def test_enable_and_disable(neuro, site: Path) -> None:
    done = neuro("run", "x", "--json", "--explain", "--enable", "life", "--disable", "analytics", site=site)
    reasons = {one["id"]: (one["applied"], one["reason"]) for one in json.loads(done.stdout)["plan"]["entries"]}
    assert reasons["life"] == (True, "named in enabled_middleware")
    assert reasons["analytics"] == (False, "named in disabled_middleware")


FILE = """
preset = []
[middleware.life]
[presets.mine.middleware.analytics]
[presets.other.middleware.life]
enabled = false
"""


@pytest.mark.parametrize(
    ("options", "chain"),
    [
        ([], {"life"}),
        (["--preset", "mine"], {"life", "analytics"}),
        (["--preset", "mine", "--preset", "other", "--disable", "life"], {"analytics"}),
    ],
)
def test_a_file_and_what_goes_on_top_of_it(neuro, site: Path, tmp_path: Path, options: list[str], chain: set) -> None:
    (tmp_path / "mw.toml").write_text(FILE)
    done = neuro("run", "x", "--json", "--config", str(tmp_path / "mw.toml"), *options, site=site)
    receipt = json.loads(done.stdout)["receipt"]
    assert {layer["id"] for layer in receipt["layers"] if layer["ran"]} == chain


def test_middlewares_are_started_and_closed_round_the_call(neuro, site: Path, tmp_path: Path) -> None:
    neuro("run", "x", "--enable", "life", site=site, CLI_NOTES=str(tmp_path / "notes"))
    assert (tmp_path / "notes").read_text().split("\n")[:-1] == ["startup", "end completed", "aclose"]


def test_tool_calls_are_told(neuro, site: Path) -> None:
    assert neuro("run", "x", "--model", "odd/tools", site=site).stdout.strip() == '[tool call] weather {"in": "Rome"}'


@pytest.mark.parametrize("mode", [[], ["--no-stream"]])
def test_no_second_line_break(neuro, site: Path, mode: list[str]) -> None:
    assert neuro("run", "x", "--model", "odd/line", *mode, site=site).stdout == "line\n"


# --- refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [[], ["--no-stream"]])
def test_blocked_is_3(neuro, site: Path, mode: list[str]) -> None:
    done = neuro("run", "PROMPT-SECRET", "--enable", "refuse", *mode, site=site)
    assert (done.stdout, done.returncode) == ("no\nthanks\n", 3)
    assert done.stderr == "neuro-mw: blocked by middleware 'refuse': no thanks\n"


def test_blocked_in_mid_stream(neuro, site: Path) -> None:
    done = neuro("run", "good BAD worse", "--enable", "refuse_late", site=site)
    assert (done.stdout, done.returncode) == ("good\n", 3)
    assert "blocked by middleware 'refuse_late': bad word" in done.stderr


def test_blocked_with_json(neuro, site: Path) -> None:
    done = neuro("run", "x", "--json", "--enable", "refuse", site=site)
    assert json.loads(done.stdout)["response"]["blocked"]["category"] == "test"
    assert done.returncode == 3


@pytest.mark.parametrize("mode", [[], ["--no-stream"]])
def test_a_block_that_is_raised_is_the_same(neuro, site: Path, tmp_path: Path, mode: list[str]) -> None:
    (tmp_path / "raise.toml").write_text('on_block = "raise"\n[middleware.refuse]\n')
    done = neuro("run", "x", "--json", "--config", str(tmp_path / "raise.toml"), *mode, site=site)
    found = json.loads(done.stdout)
    assert (done.returncode, found["response"]["blocked"]["middleware"]) == (3, "refuse")
    assert found["receipt"]["layers"]


# --- a real provider over HTTP -----------------------------------------------------------------------------------


@pytest.fixture
def openai():
    with StubOpenAI() as stub:
        yield stub, {"OPENAI_BASE_URL": stub.base_url, "OPENAI_API_KEY": "sk-KEY-SECRET",
                     "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # fmt: skip


def test_a_model_over_http(neuro, openai) -> None:
    stub, env = openai
    stub.reply(text="over the wire", chunks=["over ", "the ", "wire"])
    done = neuro("run", "hello", "--model", "openai/gpt-4o", **env)
    assert (done.stdout, done.returncode) == ("over the wire\n", 0)
    assert stub.requests[0].body["stream"] is True


def test_a_failing_model_over_http_is_1(neuro, openai) -> None:
    stub, env = openai
    stub.reply(status=500)
    done = neuro("run", "PROMPT-SECRET", "--model", "openai/gpt-4o", **env)
    assert (done.stdout, done.returncode) == ("", 1)
    assert len(done.stderr.splitlines()) == 1
    assert "SECRET" not in done.stderr


def test_a_missing_key_is_named(neuro, openai) -> None:
    done = neuro("run", "hello", "--model", "openai/gpt-4o", **{**openai[1], "OPENAI_API_KEY": ""})
    assert done.returncode == 1
    assert "OPENAI_API_KEY" in done.stderr

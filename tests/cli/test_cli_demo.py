"""`neuro-mw demo`, and what a terminal gets."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess
import time

import pytest

from neuro_mw import MiddlewareFactory, TextDelta
from neuro_mw.cli.demo import ANSWER, CARD, PROMPT, SECRET, LeakyModel

SAFE = ANSWER.replace(SECRET, "[REDACTED]")
SENT = PROMPT.replace(CARD, "[REDACTED]")


def test_it_shows_answer_chain_stats_and_receipt(neuro) -> None:
    done = neuro("demo")
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.split("live\n")[1].splitlines()[0] == SAFE
    assert done.stdout.split("was sent\n")[1].splitlines()[0] == SENT
    assert done.stdout.count("preset 'all'") == 2
    assert "{'input': {'pii.credit_card': 1}, 'output': {'secrets.openai_key': 1}}" in done.stdout
    assert re.search(r"^middleware +runs +parts +held back", done.stdout, re.MULTILINE)
    assert re.search(r"^guardrails +completed +request and answer", done.stdout, re.MULTILINE)
    assert re.search(r"^request echo-\w+, chain \w+$", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout


def test_json(neuro) -> None:
    found = json.loads(neuro("demo", "--json").stdout)
    assert found["response"]["text"] == SAFE
    assert len(SECRET) > found["middleware"]["guardrails"]["held_back_max"] >= len(SECRET) - 3
    assert found["middleware"]["guardrails"]["counts"] == {"pii.credit_card": 1, "secrets.openai_key": 1}
    assert [one["id"] for one in found["plan"]["entries"] if one["applied"]] == ["analytics", "guardrails"]
    assert SECRET not in json.dumps(found)


def test_the_pieces_it_tells_of_are_those_of_the_model(neuro) -> None:
    async def pieces() -> list[str]:
        parts = [part async for part in LeakyModel(chunk_chars=3).stream({"messages": []})]
        return [part.text for part in parts if isinstance(part, TextDelta)]

    told = re.search(r"The model sent the key as (.*): the guardrails", neuro("demo").stdout)
    assert told is not None
    assert told[1] in " ".join(map(repr, asyncio.run(pieces())))
    assert SECRET in "".join(re.findall(r"'(.*?)'", told[1]))


def test_without_the_chain_it_does_leak() -> None:
    model = MiddlewareFactory(preset="default", plugins=False).apply_middleware(LeakyModel())
    assert SECRET in asyncio.run(model.generate(PROMPT)).text


# --- a terminal --------------------------------------------------------------------------------------------------


@pytest.fixture
def on_terminal(command, environment):
    """What a terminal of 100 columns gets, and when each piece came."""

    def run(*arguments: str, **env: str) -> tuple[str, list[float]]:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs,
                                   env=environment(COLUMNS="100", **env))  # fmt: skip
        os.close(theirs)
        got, times = b"", []
        try:
            while piece := os.read(ours, 4096):
                got += piece
                times.append(time.monotonic())
        except OSError:  # how Linux tells the end of a terminal
            pass
        finally:
            os.close(ours)
            process.wait(timeout=20)
        assert process.returncode == 0
        return got.decode(), times

    return run


def test_a_terminal_gets_colours_bars_and_a_tree(on_terminal) -> None:
    text, _ = on_terminal("run", "hello", "--stats", "--explain")
    assert "\x1b[1;32manalytics" in text
    assert "└──" in text
    assert "█" in text


def test_no_color_means_no_escape_codes(on_terminal) -> None:
    text, _ = on_terminal("run", "hello", "--stats", "--explain", NO_COLOR="1")
    assert "\x1b" not in text
    assert "└──" in text


def test_help_on_a_terminal_without_colour(on_terminal) -> None:
    assert "\x1b" not in on_terminal("run", "--help", NO_COLOR="1")[0]


def test_the_demo_on_a_terminal_is_live(on_terminal) -> None:
    text, times = on_terminal("demo", NO_COLOR="1")
    assert SAFE in text.replace("\r\n", "\n")
    assert times[-1] - times[0] > 1.0  # seconds: the model takes 1.5 for its pieces
    assert len(times) > 20


def test_without_a_prompt_at_a_terminal(on_terminal) -> None:
    with pytest.raises(AssertionError):  # it is wrong usage, not a wait for input
        on_terminal("run")

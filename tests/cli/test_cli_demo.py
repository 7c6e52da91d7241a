"""`neuro-mw demo`, its example middleware, and what a terminal gets."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import MiddlewareFactory, TextDelta
from neuro_mw.cli.demo import PROMPT, SECRET, DemoMask
from neuro_mw.providers.echo import EchoModel

MASKED = PROMPT.replace("ada@example.org", "[masked]").replace(SECRET, "[masked]")


def test_it_shows_answer_chain_stats_and_receipt(neuro) -> None:
    done = neuro("demo")
    assert (done.stderr, done.returncode) == ("", 0)
    answer = done.stdout.split("live\n")[1].splitlines()[0]
    assert answer == MASKED
    assert "given in middleware=" in done.stdout
    assert "preset 'default'" in done.stdout
    assert re.search(r"^middleware +runs +parts +held back", done.stdout, re.MULTILINE)
    assert re.search(r"^demo_mask +completed +answer", done.stdout, re.MULTILINE)
    assert re.search(r"^request echo-\w+, chain \w+$", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout


def test_json(neuro) -> None:
    found = json.loads(neuro("demo", "--json").stdout)
    assert found["response"]["text"] == MASKED
    assert found["middleware"]["demo_mask"]["held_back_max"] >= len(SECRET) - 3
    assert [one["id"] for one in found["plan"]["entries"] if one["applied"]] == ["analytics", "demo_mask"]
    assert SECRET not in json.dumps(found)


def test_the_pieces_it_tells_of_are_those_of_the_model(neuro) -> None:
    async def pieces() -> list[str]:
        model = EchoModel(chunk_chars=3)
        parts = [part async for part in model.stream({"messages": [{"role": "user", "content": PROMPT}]})]
        return [part.text for part in parts if isinstance(part, TextDelta)]

    told = re.search(r"The model sent the key as (.*): demo_mask", neuro("demo").stdout)
    assert told is not None
    assert told[1] in " ".join(map(repr, asyncio.run(pieces())))
    assert SECRET in "".join(re.findall(r"'(.*?)'", told[1]))


@given(st.lists(st.sampled_from(["a ", "ada@exam", "ple.org", "sk-de", "mo-", "7f3a", "\n", " ", "x"]), max_size=12))
def test_the_mask_does_not_depend_on_the_cut(pieces: list[str]) -> None:
    text = "".join(pieces)

    def masked(cut: list[str]) -> str:
        step = DemoMask().transform_parts({}, None)  # type: ignore[arg-type]  # it does not look at the context
        left = [step.feed(TextDelta(piece)) for piece in cut]
        return "".join(part.text for part in [*left, *step.finish()] if part is not None)

    assert masked(pieces) == masked([text]) == masked(list(text))


@pytest.mark.parametrize("chunk_chars", [1, 3, 7, 1000])
def test_the_mask_holds_in_both_modes(chunk_chars: int) -> None:
    echo = EchoModel(chunk_chars=chunk_chars)
    assert asyncio.run(MiddlewareFactory(plugins=False).apply_middleware(echo).generate(PROMPT)).text == PROMPT
    model = MiddlewareFactory(middleware=[DemoMask()], plugins=False).apply_middleware(echo)

    async def streamed() -> str:
        async with model.stream(PROMPT) as stream:
            return "".join([text async for text in stream.text()])

    assert asyncio.run(model.generate(PROMPT)).text == asyncio.run(streamed()) == MASKED


def test_an_answer_that_is_left_drops_what_was_held() -> None:
    step = DemoMask().transform_parts({}, None)  # type: ignore[arg-type]  # it does not look at the context
    step.feed(TextDelta("sk-demo"))
    step.abort()
    assert list(step.finish()) == []


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
    assert MASKED in text.replace("\r\n", "\n")
    assert times[-1] - times[0] > 1.0  # seconds: the model takes 1.5 for its pieces
    assert len(times) > 20


def test_without_a_prompt_at_a_terminal(on_terminal) -> None:
    with pytest.raises(AssertionError):  # it is wrong usage, not a wait for input
        on_terminal("run")

"""Signed reasoning: the signature without the text, and the text put back where it is still the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw.providers._thinking import lacks_thinking, opened, sealed, without_thinking

THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}
HIDDEN = {"type": "redacted_thinking", "data": "d"}
# how Anthropic and OpenRouter write it: kind, the key of the text
KINDS = [("thinking", "thinking"), ("reasoning.text", "text"), ("reasoning.summary", "summary")]

words = st.text(max_size=8)


def written(kind: str, key: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda text: {"type": kind, key: text, "signature": "s", "index": 0}, words)


encrypted = st.sampled_from([HIDDEN, {"type": "reasoning.encrypted", "data": "d", "format": "f"}])
blocks = st.lists(st.one_of(encrypted, *(written(kind, key) for kind, key in KINDS)), max_size=4)


def text_of(blocks: list[dict[str, Any]]) -> str:
    keys = dict(KINDS)
    return "".join(one[keys[one["type"]]] for one in blocks if one["type"] in keys)


@given(blocks=blocks)
def test_what_is_sealed_opens_with_its_text(blocks: list[dict[str, Any]]) -> None:
    seals = [sealed(block) for block in blocks]
    assert opened(seals, text_of(blocks)) == blocks
    assert opened(blocks, text_of(blocks)) == blocks  # litellm's convention
    assert opened(blocks, None) == blocks
    assert json.loads(json.dumps(seals)) == seals


@given(blocks=blocks, other=words)
def test_what_was_changed_stays_shut(blocks: list[dict[str, Any]], other: str) -> None:
    if text_of(blocks) and other != text_of(blocks):
        assert opened([sealed(block) for block in blocks], other) == []
        assert opened(blocks, other) == []
    signs = any(block["type"] in dict(KINDS) for block in blocks)  # what is encrypted stands by no text
    assert opened([sealed(block) for block in blocks], text_of(blocks) + "!") == ([] if signs else blocks)


def test_a_seal_holds_no_text() -> None:
    secret = sealed({**THOUGHT, "thinking": "the password is 1234"})
    assert "1234" not in json.dumps(secret)
    assert secret == {"type": "thinking", "signature": "s", "length": 20, "digest": secret["digest"]}
    assert sealed(HIDDEN) == HIDDEN


def test_all_or_none() -> None:
    seals = [sealed(THOUGHT), HIDDEN, sealed({**THOUGHT, "thinking": "so"})]
    assert opened(seals, "hmso") == [THOUGHT, HIDDEN, {**THOUGHT, "thinking": "so"}]
    assert opened(seals, "hm..") == []
    assert opened(seals, None) == []
    assert opened([HIDDEN], None) == [HIDDEN]


def test_a_blank_thought_opens_without_reasoning() -> None:
    """Claude gives signatures without text where it is told to leave the text out."""
    blank = {**THOUGHT, "thinking": ""}
    assert opened([sealed(blank)], None) == opened([sealed(blank)], "") == [blank]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (["tool_use"], ["tool_result"], True),
        (["thinking", "tool_use"], ["tool_result"], False),
        (["redacted_thinking", "tool_use"], ["tool_result", "text"], False),
        (["text", "tool_use"], ["text", "tool_result"], True),
        (["text"], ["text"], False),
    ],
)
def test_who_lacks_thinking(before: list[str], after: list[str], expected: bool) -> None:
    turns = [
        {"role": "assistant", "content": [{"type": one} for one in before]},
        {"role": "user", "content": [{"type": one} for one in after]},
    ]
    assert lacks_thinking(turns) is expected
    assert lacks_thinking(turns[:1]) is lacks_thinking([]) is False


def test_turns_without_thinking() -> None:
    turns = [{"role": "assistant", "content": [THOUGHT]}, {"role": "assistant", "content": [HIDDEN, {"type": "text"}]}]
    assert without_thinking(turns) == [{"role": "assistant", "content": [{"type": "text"}]}]

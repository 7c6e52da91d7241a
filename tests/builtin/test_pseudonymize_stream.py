"""The way back in streams: for every cut what it is for the whole answer, and nothing held that need not be."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_mw import (
    Finish,
    MiddlewareContext,
    MiddlewareFactory,
    ProviderDelta,
    ProviderUnavailable,
    ReasoningDelta,
    Response,
    StreamInterrupted,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    collect,
    parts_of,
)
from neuro_mw.builtin.pseudonymize import Pseudonymize
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel
from neuro_mw.testing.scripted import cut

ORIGINALS = ["jane@acme.org", "bob@acme.org", "+1 212 555 7788", 'Ada "Countess" Lovelace']
PROMPT = {"messages": [{"role": "user", "content": "; ".join(ORIGINALS)}]}
DETECTORS = {"pii": True, "regex_patterns": {"name": r'[A-Z]\w+ "\w+" [A-Z]\w+'}}
STYLES = ["type_index", "fake", "hash"]
ONES = {style: Pseudonymize(style=style, detectors=DETECTORS) for style in STYLES}


def asked(style: str) -> tuple[MiddlewareContext, list[str]]:
    """The context of a call, and the placeholders in it."""
    context = MiddlewareContext("openai", "gpt-4o", mode="stream")
    sent: Any = ONES[style].transform_params(PROMPT, context)
    return context, sent["messages"][0]["content"].split("; ")


def fed(style: str, context: MiddlewareContext, parts: Any) -> list[Any]:
    """What leaves the step for these parts."""
    step: Any = ONES[style].transform_parts(PROMPT, context)
    left: list[Any] = []
    for part in parts:
        if isinstance(part, Finish):
            left += step.finish()
        out = step.feed(part)
        left += out if isinstance(out, list) else [out]
    return left


def naive(text: str, placeholders: Sequence[str]) -> str:
    """Each exact placeholder by what it stands for; all are found at once, the longest first."""
    by_name = dict(zip(placeholders, ORIGINALS, strict=True))
    longest = sorted(map(re.escape, placeholders), key=len, reverse=True)
    return re.sub("|".join(longest), lambda found: by_name[found[0]], text)


PIECES = [
    "0", "1", "2", "3", "<", ">", "</", "&lt;", "&gt;", "&", "<EMAIL_", "_1>", "EMAIL_1", "<email_1>", "<EMAIL_12>",
    "<EMAIL_3f9a1c2b7d04>", "jo.", "j", "+1 202", "+", " ", "x", "\n", "é", "\ud800", "<b>", ">>", "<<",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12)
CUTS = st.lists(st.integers(1, 7), min_size=1, max_size=6)


def said(pieces: list[str], placeholders: list[str]) -> str:
    return "".join(placeholders[int(one)] if one in "0123" else one for one in pieces)


@pytest.mark.parametrize("style", STYLES)
@given(texts=st.tuples(TEXTS, TEXTS, TEXTS), cuts=CUTS, deep=st.booleans())
@settings(max_examples=150)
def test_every_cut_gives_what_the_whole_gives(style: str, texts: Any, cuts: list[int], deep: bool) -> None:
    context, placeholders = asked(style)
    text, reasoning, argument = (said(one, placeholders) for one in texts)
    arguments = json.dumps({"a": [argument, 1], argument: None} if deep else argument, ensure_ascii=len(text) % 2 == 0)
    answer = Response(text=text, reasoning=reasoning, tool_calls=[ToolCall("c", "f", arguments)])
    whole = asyncio.run(collect(fed(style, context, parts_of(answer))))
    unknown = set(context.state(ONES[style])["originals"].unknown)
    context, _ = asked(style) if style != "hash" else (context, None)
    pieces = asyncio.run(collect(fed(style, context, cut(parts_of(answer), cuts))))
    assert pieces == whole
    assert context.state(ONES[style])["originals"].unknown == unknown
    if style == "fake":
        return  # a digit that follows a telephone number makes another one of it
    assert (whole.text, whole.reasoning) == (naive(text, placeholders), naive(reasoning, placeholders))
    expected = naive(argument, placeholders)
    assert json.loads(whole.tool_calls[0].arguments) == ({"a": [expected, 1], expected: None} if deep else expected)


@pytest.mark.parametrize("style", STYLES)
@given(
    order=st.permutations([0, 1, 2, 3] * 2),
    gaps=st.lists(st.sampled_from([" ", ", ", "\n", "; x "]), min_size=9),
    cuts=CUTS,
)
@settings(max_examples=100)
def test_fakes_and_tags_between_words_are_all_found(style: str, order: Any, gaps: list[str], cuts: list[int]) -> None:
    context, placeholders = asked(style)
    text = "".join(f"{gap}{placeholders[at]}" for at, gap in zip(order, gaps, strict=False)) + "."
    found = asyncio.run(collect(fed(style, context, cut(parts_of(Response(text=text)), cuts))))
    assert found.text == naive(text, placeholders)


@given(cuts=st.lists(st.integers(1, 5), min_size=1, max_size=20), seed=st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_interleaved_tool_calls(cuts: list[int], seed: Any) -> None:
    context, placeholders = asked("type_index")
    calls = [ToolCall(f"c{at}", "f", json.dumps({"to": f"a {one} b"})) for at, one in enumerate(placeholders)]
    queues = [
        [ToolCallDelta(index, None, None, part.arguments) for part in cut(parts_of(Response(tool_calls=[one])), cuts)
         if isinstance(part, ToolCallDelta)]
        for index, one in enumerate(calls)
    ]  # fmt: skip
    parts: list[Any] = [ToolCallDelta(index, one.id, one.name, "") for index, one in enumerate(calls)]
    while any(queues):
        parts.append(seed.choice([queue for queue in queues if queue]).pop(0))
    found = asyncio.run(collect(fed("type_index", context, [*parts, Finish("tool_calls")])))
    assert [json.loads(one.arguments)["to"] for one in found.tool_calls] == [f"a {one} b" for one in ORIGINALS]
    assert [one.id for one in found.tool_calls] == ["c0", "c1", "c2", "c3"]


HELD = [
    (["to <EMAIL_1>"], ["to jane@acme.org"]),
    (["to <", "EMAIL_", "1", ">", "!"], ["to ", "", "", "jane@acme.org", "!"]),
    (["a <", "b> c"], ["a ", "<b> c"]),
    (["<EM", "U"], ["", "<EMU"]),
    (["<EMAIL_1", "0"], ["", ""]),
    (["<EMAIL_1", "x"], ["", "<EMAIL_1x"]),
    (["<EMAIL_123456789", "0"], ["", "<EMAIL_1234567890"]),
    (["&", "amp; &lt;", "p>", "&lt;EMAIL_1&gt;"], ["", "&amp; ", "&lt;p>", "&lt;EMAIL_1&gt;"]),
    (["<<EMAIL_1>", "<EMAIL_", "<EMAIL_2>"], ["<jane@acme.org", "", "<EMAIL_bob@acme.org"]),
    (["x" * 100_000 + "<EMAIL_2", ">"], ["x" * 100_000, "bob@acme.org"]),
]


@pytest.mark.parametrize("channel", [TextDelta, ReasoningDelta])
@pytest.mark.parametrize(("came", "left"), HELD)
def test_only_what_may_be_a_placeholder_is_held(channel: Any, came: list[str], left: list[str]) -> None:
    context, _ = asked("type_index")
    step: Any = ONES["type_index"].transform_parts(PROMPT, context)
    found = []
    for text in came:
        out = step.feed(channel(text))
        found.append("".join(part.text for part in (out if isinstance(out, list) else [out])))
    assert found == left
    assert "".join(found + [part.text for part in step.finish()]).endswith(left[-1] or came[-1])


@pytest.mark.parametrize("channel", [TextDelta, ReasoningDelta])
def test_what_is_passed_by_is_the_very_part(channel: Any) -> None:
    context, _ = asked("type_index")
    step: Any = ONES["type_index"].transform_parts(PROMPT, context)
    part = channel("a word > 1")
    assert step.feed(part) is part
    finish = Finish("stop", metadata={"x": 1})
    assert step.feed(finish) is finish


@pytest.mark.parametrize("text", ["<EMA", "to <EMAIL_1"])
def test_what_is_held_is_told_and_dropped(text: str) -> None:
    context, _ = asked("type_index")
    step: Any = ONES["type_index"].transform_parts(PROMPT, context)
    step.feed(TextDelta(text))
    assert [part.text for part in step.held()] == [text.removeprefix("to ")]
    step.abort()
    assert [*step.held(), *step.finish()] == []


@pytest.mark.parametrize("begun", ["<EMA", "<EMAIL_1"])
def test_another_channel_waits_behind_what_is_held(begun: str) -> None:
    context, _ = asked("type_index")
    call = ToolCallDelta(0, "c", "f", '"<EMA')
    for parts in ([ReasoningDelta(begun), TextDelta("so"), call], [TextDelta(begun), call, ReasoningDelta("so")]):
        assert fed("type_index", context, [*parts, Finish("stop")]) == [*parts, Finish("stop")]


def test_metadata_in_a_circle_is_left_alone() -> None:
    context, _ = asked("type_index")
    step: Any = ONES["type_index"].transform_parts(PROMPT, context)
    circle: dict[str, Any] = {"x": "<EMAIL_1>"}
    circle["circle"] = circle
    finish = step.feed(Finish("stop", metadata=circle))
    assert finish.metadata["x"] == "jane@acme.org"
    assert finish.metadata["circle"] is circle


# --- fakes at the end of longer values -------------------------------------------------------------------------------

FAKES = ["jo.carter1@example.com", "+1 202-555-0101", "203.0.113.1", "4000000000000010"]
BEFORE = ["", " ", ":", "<", "x", "9", "mr.", "é", "+", "-", "no. ", "\n", "_", "(", "a+"]
BEHIND = ["", " ", ".", ". ", ".au", "-foo", ".5", "-1", ":80", ",", "x", ")"]


def is_whole(fake: str, before: str, behind: str) -> bool:
    """Whether a fake is a value by itself."""
    within = {"j": ".+%-", "+": "+", "2": ".", "4": ".-"}[fake[0]]
    cut = before[-1:].isalnum() or before[-1:] == "_" or (before != "" and before[-1] in within)
    goes_on = {"j": r"[.-]?\w", "+": r"\w|-\d", "2": r"\.?\d|x", "4": r"\w|[.-]\d"}[fake[0]]
    return not cut and re.match(goes_on, behind) is None


@given(
    said=st.lists(st.tuples(st.sampled_from(BEFORE), st.sampled_from(FAKES), st.sampled_from(BEHIND)), max_size=3),
    channel=st.sampled_from([TextDelta, ReasoningDelta]), cuts=CUTS, others=st.lists(st.booleans(), min_size=5),
)  # fmt: skip
@settings(max_examples=200)
def test_a_fake_within_a_value_of_the_models_own_is_left_alone(
    said: Any, channel: Any, cuts: list[int], others: list[bool]
) -> None:
    pseudonymize = Pseudonymize(style="fake")
    context = MiddlewareContext("openai", "gpt-4o", mode="stream")
    values = ["jane@acme.org", "+1 212 555 7788", "92.168.10.20", "4111111111111111"]
    sent: Any = pseudonymize.transform_params({"prompt": "; ".join(values)}, context)
    assert sent["prompt"].split("; ") == FAKES
    by_fake = dict(zip(FAKES, values, strict=True))
    text = " | ".join(f"{before}{fake}{behind}" for before, fake, behind in said)
    wanted = " | ".join(
        f"{before}{by_fake[fake] if is_whole(fake, before, behind) else fake}{behind}" for before, fake, behind in said
    )
    step: Any = pseudonymize.transform_parts({}, context)
    left: list[Any] = []
    for at, part in enumerate(cut([channel(text)], cuts)):
        for one in [part, ProviderDelta({"n": at})] if others[at % len(others)] else [part]:
            out = step.feed(one)
            left += out if isinstance(out, list) else [out]
    left += step.finish()
    assert "".join(part.text for part in left if isinstance(part, channel)) == wanted
    unknown = context.state(pseudonymize)["originals"].unknown
    assert not unknown or any(not is_whole(fake, before, behind) for before, fake, behind in said)


@pytest.mark.parametrize("between", ["j", "jo.carter1@example.com", "fine", ""])
@pytest.mark.parametrize(("one", "other"), [(TextDelta, ReasoningDelta), (ReasoningDelta, TextDelta)])
def test_where_a_value_began_is_known_behind_another_channel(one: Any, other: Any, between: str) -> None:
    context, _ = asked("fake")
    parts = [one("see mr."), other(between), one("jo.carter1@example.com "), one("jo.carter1@example.com")]
    left = fed("fake", context, [*parts, Finish("stop")])
    assert "".join(part.text for part in left if isinstance(part, one)) == "see mr.jo.carter1@example.com jane@acme.org"


MODES = ["generate", "stream"]


def wrapped(model: Any) -> Any:
    return MiddlewareFactory(preset=None, middleware=[Pseudonymize()], plugins=False).apply_middleware(model)


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_that_breaks_off(mode: str) -> None:
    model = FaultyModel("to <EMAIL_1>, <EMAIL_1> now", faults=[Fault(5, cut=True)], cuts=[6])

    async def run() -> Any:
        if mode == "generate":
            return await wrapped(model).generate("jane@acme.org")
        return await wrapped(model).stream("jane@acme.org").response()

    with pytest.raises(ProviderUnavailable if mode == "generate" else StreamInterrupted) as caught:
        asyncio.run(run())
    if mode == "stream":
        assert caught.value.partial is not None
        assert caught.value.partial.text == "to jane@acme.org, jane@acme.org now"[: len(caught.value.partial.text)]


def test_a_reader_who_leaves_early() -> None:
    origin = ScriptedModel("<EMAIL_1> " * 50)
    factory = MiddlewareFactory(preset=None, middleware=[Pseudonymize()], plugins=False)

    async def run() -> str:
        async with factory.apply_middleware(origin).stream("jane@acme.org") as stream:
            async for part in stream:
                return str(getattr(part, "text", ""))
        return ""

    assert asyncio.run(run()) == "jane@acme.org"
    assert (origin.opened, origin.closed) == (1, 1)
    assert factory.registry.get_aggregated_stats()["pseudonymize"].cancelled == 1

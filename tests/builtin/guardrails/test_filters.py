"""One text under mixed actions: whole, in pieces, as JSON, and broken off."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import Blocked, ConfigError, Finish, MiddlewareFactory, Response, StreamInterrupted, ToolCall, collect
from neuro_mw.builtin import Guardrails
from neuro_mw.builtin.guardrails import Rule, Spans, Terms
from neuro_mw.builtin.guardrails.actions import ACTIONS, Action
from neuro_mw.builtin.guardrails.filters import INVISIBLE, Filter, FilterRun, filter_of, needed
from neuro_mw.builtin.guardrails.json_filter import JSONRun
from neuro_mw.builtin.guardrails.rules import AnyRule
from neuro_mw.builtin.guardrails.view import IGNORABLE
from neuro_mw.parts import parts_of
from neuro_mw.testing import ScriptedModel, cut

EMOJI, MEEM, ZWJ, ZWNJ, ZERO = "\U0001f468", "\u0645", "\u200d", "\u200c", "\u200b"


def names(line: str) -> list[tuple[int, int, str]]:
    return [(at, at + 1, "NAME") for at, char in enumerate(line) if char in "s\ud83d"]


CATALOG: dict[str, AnyRule] = {
    rule.id: rule
    for rule in (
        Terms("words", ("secret plan", "ab")),
        Terms("part", ("ba", "b s"), "substring"),
        Terms("arab", (MEEM + "\u0646",), "substring"),
        Terms("emoji", (EMOJI,), "substring"),
        Rule("n.long", r"\d{2,4}"),
        Rule("n.dash", r"\b\d-\d\b"),
        Rule("keyed", r"k=[ab1]+", keywords=("k=",)),
        Rule("checked", r"[abs]{2,5}", check=lambda text: len(text) if "s" in text else -1),
        Rule("literal", "true|null"),
        Spans("names", names),
    )
}


@functools.cache
def plan_of(actions: tuple[tuple[str, Action], ...], invisible: Action | None, normalize: bool) -> Filter:
    rules = [CATALOG[id] for id, _ in actions]
    return filter_of(rules, dict(actions), text="[{type}]", invisible=invisible, normalize=normalize)


def made(text: str, sizes: list[int]) -> list[str]:
    """The text in pieces of these sizes, over and over."""
    pieces: list[str] = []
    at = 0
    while at < len(text):
        pieces.append(text[at : at + sizes[len(pieces) % len(sizes)]])
        at += len(pieces[-1])
    return pieces


class Run:
    """What becomes of pieces: what left, what was counted, and which rule refused."""

    def __init__(self, make: Any, plan: Filter, pieces: list[str]) -> None:
        self.counts, self.text, self.size, self.refused = Counter[str](), "", 0, ""
        run = make(plan, self.counts)
        try:
            for piece in (*pieces, None):
                leaving = run.finish() if piece is None else run.feed(piece)
                self.text += "".join([one.text for one in leaving])
                self.size += sum([one.size for one in leaving])
        except Blocked as error:
            self.refused = (error.detail or {})["rule"]
        self.invalid = getattr(run, "invalid", False)

    @property
    def end(self) -> Any:
        return self.refused or (self.text, self.counts, self.invalid)


# --- mixed actions ---------------------------------------------------------------------------------------------------

TEXT = st.text(f"aabbs 11-k=\n{ZERO}{ZWJ}{ZWNJ}\ufe0f\u00ad{MEEM}\u0646{EMOJI}\ud83d\ude00\u00e9", max_size=30)
SNIPPETS = st.sampled_from(["secret plan", "ab", "k=ab", EMOJI + ZWJ, "true", "11"])
TEXTS = st.lists(st.one_of(TEXT, SNIPPETS), max_size=4).map("".join)
SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=4)
PLANS = st.builds(
    plan_of,
    st.dictionaries(st.sampled_from([*CATALOG]), st.sampled_from(ACTIONS), max_size=5).map(lambda one: (*one.items(),)),
    st.sampled_from([None, *ACTIONS]),
    st.booleans(),
)


def found(text: str, plan: Filter) -> Any:
    """The reference, each kind of rule over the whole text: where and by what it is refused, or its end and counts."""
    hidden = [at for at, char in enumerate(text) if char in IGNORABLE and not needed(char, text[:at][-1:])]
    refused = [(match.start, match.rule.id) for match in plan.blocking.scan(text)]
    refused += [(at, INVISIBLE) for at in hidden if plan.invisible == "block"]
    if refused:
        return (*min(refused), Counter())
    counts = Counter([match.rule.id for match in plan.watching.scan(text)])
    left, ends, looks = "", 0, plan.invisible not in (None, "block")
    for match in [*plan.changing.scan(text), None]:
        start = len(text) if match is None else match.start
        for at in range(ends, start):
            if looks and text[at] in IGNORABLE and not needed(text[at], text[ends:at][-1:]):
                counts[INVISIBLE] += 1
                left += text[at] if plan.invisible == "warn" else ""
            else:
                left += text[at]
        if match is not None:
            left, ends = left + plan.replace(match, text[start : match.end]), match.end
            counts[match.rule.id] += 1
    return None, left, counts


@given(plan=PLANS, text=TEXTS, sizes=SIZES)
def test_streamed_is_whole_under_mixed_actions(plan: Filter, text: str, sizes: list[int]) -> None:
    whole, streamed = Run(FilterRun, plan, [text]), Run(FilterRun, plan, made(text, sizes))
    refused_at, wanted, counts = found(text, plan)
    if refused_at is None:
        assert streamed.end == whole.end == (wanted, counts, False)
        assert streamed.size == len(text)
    else:
        assert whole.refused == streamed.refused == wanted
        assert whole.size <= refused_at, "nothing of it has left"
        assert streamed.size <= refused_at
        assert whole.counts[wanted] == streamed.counts[wanted] == 1


VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(-(10**4), 10**4), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)


@given(plan=PLANS, value=VALUES, ascii=st.booleans(), sizes=SIZES)
def test_streamed_arguments_are_whole_under_mixed_actions(
    plan: Filter, value: Any, ascii: bool, sizes: list[int]
) -> None:
    text = json.dumps(value, ensure_ascii=ascii)
    whole, streamed = Run(JSONRun, plan, [text]), Run(JSONRun, plan, made(text, sizes))
    assert streamed.end == whole.end
    if not whole.refused:
        json.loads(whole.text)
        assert not whole.invalid
    else:
        assert whole.counts[whole.refused] == streamed.counts[whole.refused] == 1


def test_literals_of_json_are_no_words() -> None:
    plan = filter_of([Terms("bad_words", ("true", "false", "null", "1"))], {"bad_words": "redact"}, text="[X]")
    text = '{"a": true, "b": [false, null, 1], "c": "so true"}'
    end = Run(JSONRun, plan, [text]).end
    assert end == ('{"a": true, "b": [false, null, "[X]"], "c": "so [X]"}', {"bad_words": 2}, False)
    assert Run(JSONRun, plan, [*text]).end == end


# --- invisible characters --------------------------------------------------------------------------------------------


def test_what_is_invisible_blocks() -> None:
    plan = filter_of([], {}, text="", invisible="block")
    run = plan.run(counts := Counter[str]())
    assert [one.text for one in run.feed("visible")] == ["visible"]
    with pytest.raises(Blocked, match="output matches invisible") as caught:
        run.feed(f"x{ZERO}y")
    assert caught.value.detail == {"detector": "invisible", "rule": "invisible", "channel": "output"}
    assert counts == {"invisible": 1}


def test_what_is_invisible_is_counted_by_warn_and_stays() -> None:
    plan = filter_of([], {}, text="", invisible="warn")
    text = f"a{ZERO}{ZERO}b\u202e"
    assert Run(FilterRun, plan, [text]).end == Run(FilterRun, plan, [*text]).end == (text, {"invisible": 3}, False)


@pytest.mark.parametrize("invisible", [one for one in ACTIONS if one != "warn"])
@pytest.mark.parametrize("rules", [[], ["n.long"]])
@pytest.mark.parametrize("before", [EMOJI, MEEM, "\u0915", EMOJI + "\ufe0f"])
@pytest.mark.parametrize("joiner", [ZWJ, ZWNJ, "\ufe0f"])
def test_a_joiner_behind_a_cut_is_needed_as_within_a_text(
    before: str, joiner: str, rules: list[str], invisible: Action
) -> None:
    plan = filter_of([CATALOG[id] for id in rules], dict.fromkeys(rules, "redact"), text="[X]", invisible=invisible)
    assert not needed(joiner, ZERO)
    for pieces in ([before, joiner, "x"], [before, "", joiner + "x"], [f"x{before}{joiner}x"]):
        assert Run(FilterRun, plan, pieces).end == ("".join(pieces), {}, False)
    for pieces in (["e", joiner, "x"], ["e", "", joiner + "x"], [f"e{joiner}x"], [MEEM, "e", joiner, "x"]):
        end = Run(FilterRun, plan, pieces).end
        text = "".join(pieces).replace(joiner, "")
        assert end == ("invisible" if invisible == "block" else (text, {"invisible": 1}, False))


@pytest.mark.parametrize(("match", "rule"), [(MEEM + "\u0646", "arab"), ("12", "n.long")])
@pytest.mark.parametrize("before", ["", "x", MEEM, EMOJI])
def test_behind_a_match_no_joiner_is_needed(before: str, match: str, rule: str) -> None:
    plan = filter_of([CATALOG[rule]], {rule: "redact"}, text="[X]", invisible="redact")
    text = f"{before}{match}{ZWNJ}{MEEM}"
    for pieces in ([text], [*text], [text[:-2], text[-2:]]):
        assert Run(FilterRun, plan, pieces).end == (f"{before}[X]{MEEM}", {rule: 1, "invisible": 1}, False)


@pytest.mark.parametrize("invisible", [None, *ACTIONS])
@pytest.mark.parametrize("char", [ZERO, ZWJ])
def test_not_normalized_is_read_as_what_leaves(invisible: Action | None, char: str) -> None:
    mama = "\u043c\u0430\u043c\u0430"  # Cyrillic: joiners may stay there
    plan = filter_of([Terms("word", (mama,))], {"word": "redact"}, text="[X]", invisible=invisible, normalize=False)
    text = mama[:2] + char + mama[2:]
    run = Run(FilterRun, plan, [text])
    if invisible == "block" and char == ZERO:
        assert run.refused == "invisible"
    else:
        assert run.text == (text if invisible in (None, "warn", "block") else "[X]")


def test_a_match_between_makes_no_joiner_block() -> None:
    plan = filter_of([CATALOG["words"]], {"words": "redact"}, text="[X]", invisible="block")
    for pieces in ([f"ab {EMOJI}{ZWJ}"], [f"ab {EMOJI}", ZWJ]):
        assert Run(FilterRun, plan, pieces).end == (f"[X] {EMOJI}{ZWJ}", {"words": 1}, False)


# --- actions ---------------------------------------------------------------------------------------------------------

HASHED = """
from collections import Counter
from neuro_mw.builtin.guardrails import Rule, filters
print(filters.filter_of([Rule("a", "abc")], {"a": "hash"}, text="").whole("abc", Counter()))
"""


def test_hashes_differ_from_process_to_process() -> None:
    done = [subprocess.run([sys.executable, "-c", HASHED], capture_output=True, text=True, check=True) for _ in "ab"]
    first, second = [one.stdout.strip() for one in done]
    assert re.fullmatch("<A:[0-9a-f]{8}>", first)
    assert first != second


def test_a_rule_that_merely_begins_with_the_detectors_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="'ticketsx'") as caught:
        Guardrails(detectors={"tickets": lambda options: [Rule("ticketsx", "x")]})
    assert str(caught.value.key).endswith("detectors.tickets")
    Guardrails(detectors={"tickets": lambda options: [Rule("tickets", "x"), Rule("tickets.x", "y")]})


# --- streams that break off ------------------------------------------------------------------------------------------

LEAKY = Response(text="a secret plan is", tool_calls=[ToolCall("c", "f", '{"to": "a secret plan is", "n": 1234}')])
CUTS = (3, 1, 4, 2)


class Cut(ScriptedModel):
    """Its streams end without Finish behind so many parts."""

    async def stream(self, params: Any) -> AsyncIterator[Any]:
        at = 0
        async for part in super().stream(params):
            if at == self.error_at or isinstance(part, Finish):
                return
            yield part
            at += 1


def partial_of(kind: type[ScriptedModel], at: int, action: Action) -> Response:
    error = ConnectionError("down") if kind is ScriptedModel else None
    guard = Guardrails(bad_words=["secret plan"], regex_patterns=[r"\d{4}"], action=action)
    factory = MiddlewareFactory(preset=None, middleware=[guard], plugins=False)
    model: Any = factory.apply_middleware(kind(LEAKY, cuts=CUTS, error=error, error_at=at))
    with pytest.raises((ConnectionError, StreamInterrupted)) as caught:
        asyncio.run(collect(model.stream("hello")))
    return getattr(caught.value, "partial", None) or Response()


@pytest.mark.parametrize("kind", [ScriptedModel, Cut])
@pytest.mark.parametrize("action", ["redact", "mask"])
def test_what_is_held_is_dropped_where_a_stream_breaks_off(kind: type[ScriptedModel], action: Action) -> None:
    hides = {"redact": ("[REDACTED]", "[REDACTED]"), "mask": ("****** ****", "****")}[action]
    text, arguments = f"a {hides[0]} is", f'{{"to": "a {hides[0]} is", "n": "{hides[1]}"}}'
    partials = set()
    for at in range(len([*cut(parts_of(LEAKY), CUTS)]) - 1):
        partial = partial_of(kind, at, action)
        told = "".join([one.arguments for one in partial.tool_calls])
        assert text.startswith(partial.text)
        assert arguments.startswith(told)
        assert not told or partial.text == text
        partials |= {partial.text, told}
    assert partials > {"", "a ", text, '{"to": "a '}

"""An answer in parts under filters: each channel as if it were whole, in order, and tool arguments stay JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import Blocked, Collector, Finish, Part, ProviderDelta, ReasoningDelta, TextDelta, ToolCallDelta
from neuro_mw.builtin.guardrails import Rule, Terms
from neuro_mw.builtin.guardrails.answer import AnswerStep
from neuro_mw.builtin.guardrails.filters import Filter, filter_of
from neuro_mw.testing import cut

RULES = [
    Terms("bad_words", ("secret plan", "ab")),
    Rule("pii.ssn", r"\b\d{3}-\d{2}-\d{4}\b"),
    Rule("n.long", r"\d{6,9}"),
]
REDACT = {"bad_words": "redact", "pii.ssn": "redact", "n.long": "redact"}
CHANNELS = ("output", "reasoning", "tool_arguments")


def filters(actions: Any = None, **more: Any) -> dict[str, Filter]:
    return {
        name: replace(filter_of(RULES, {**REDACT, **(actions or {})}, text="[{type}]", **more), channel=name)
        for name in CHANNELS
    }


def step_of(plan: dict[str, Filter], counts: Counter[str] | None = None, **more: Counter[str]) -> AnswerStep:
    found = Counter() if counts is None else counts
    apart = {"invalid_json": Counter[str](), "left_out": Counter[str](), **more}
    return AnswerStep(plan, {**dict.fromkeys(CHANNELS, found), **apart})


def run(parts: list[Part], plan: dict[str, Filter] | None = None) -> list[Part]:
    step = step_of(plan or filters())
    left = [one for part in parts for one in step.feed(part)]
    return [*left, *step.finish()]


def collected(parts: list[Part]) -> Any:
    collector = Collector()
    for part in [*parts, Finish("stop")]:
        collector.add(part)
    return collector.response()


texts = st.text(alphabet='ab secrtpln123-"\\{}\u00e9\u200b', max_size=30)
values = st.recursive(
    st.one_of(texts, st.integers(-(10**8), 10**8), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
lengths = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(text=texts, reasoning=texts, value=values, ascii=st.booleans(), sizes=lengths, order=st.randoms())
def test_streamed_is_whole_in_every_channel(
    text: str, reasoning: str, value: Any, ascii: bool, sizes: list[int], order: Any
) -> None:
    arguments = json.dumps(value, ensure_ascii=ascii)
    parts: list[Part] = [ReasoningDelta(reasoning), TextDelta(text), ToolCallDelta(0, "c", "f", arguments)]
    alone = [collected(run([part])) for part in parts]
    pieces = [list(cut([part], sizes)) for part in parts]
    mixed = []
    while any(pieces):  # in any order between the channels, in order within each
        mixed.append(order.choice([some for some in pieces if some]).pop(0))
    found = collected(run(mixed))
    assert found.reasoning == alone[0].reasoning
    assert found.text == alone[1].text
    assert found.tool_calls == alone[2].tool_calls
    json.loads(found.tool_calls[0].arguments)


@given(value=values, ascii=st.booleans())
def test_arguments_are_redacted_as_what_they_say(value: Any, ascii: bool) -> None:
    def redacted(one: Any) -> Any:
        if isinstance(one, str):
            return plan.whole(one, Counter())
        if isinstance(one, bool) or one is None:
            return one
        if isinstance(one, int):
            said = plan.whole(str(one), Counter())
            return one if said == str(one) else said
        if isinstance(one, list):
            return [redacted(inner) for inner in one]
        return {redacted(name): redacted(inner) for name, inner in one.items()}

    plan = filters()["tool_arguments"]
    found = collected(run([ToolCallDelta(0, "c", "f", json.dumps(value, ensure_ascii=ascii))]))
    assert json.loads(found.tool_calls[0].arguments) == redacted(value)


@given(text=st.text(alphabet='ab{}[]":,123 \\truefalsn', max_size=30), sizes=lengths)
def test_arguments_that_are_no_json_are_text(text: str, sizes: list[int]) -> None:
    whole = collected(run([ToolCallDelta(0, "c", "f", text)])).tool_calls[0].arguments
    pieces = run(list(cut([ToolCallDelta(0, "c", "f", text)], sizes)))
    assert collected(pieces).tool_calls[0].arguments == whole


def test_what_is_no_json_is_read_and_counted() -> None:
    invalid: Counter[str] = Counter()
    step = step_of(filters(), invalid_json=invalid)
    left = [*step.feed(ToolCallDelta(0, "c", "f", 'run the secret plan, "123-45-6789"')), *step.finish()]
    assert collected(left).tool_calls[0].arguments == 'run the [BAD_WORDS], "[SSN]"'
    assert invalid == {"tool_arguments": 1}


def test_unchanged_arguments_stay_as_they_were_written() -> None:
    arguments = '{ "a\\u00e9\\/" : [1.50e3, -0, true,null], "b":"\\ud83d\\ude00 secret plan \\n"}'
    found = collected(run([ToolCallDelta(0, "c", "f", arguments)])).tool_calls[0].arguments
    assert found == arguments.replace("secret plan", "[BAD_WORDS]")


def test_order_between_channels() -> None:
    other = ProviderDelta({"x": 1})
    parts: list[Part] = [TextDelta("go secret"), ToolCallDelta(0, "c", "f", "{}"), other, TextDelta(" plan on")]
    call = ToolCallDelta(0, "c", "f", "{}")
    assert run(parts) == [TextDelta("go "), TextDelta("[BAD_WORDS]"), call, other, TextDelta(" on")]


def test_what_is_held_does_not_stop_the_others_for_ever() -> None:
    step = step_of(filters())
    left = step.feed(ReasoningDelta("so: secret"))
    assert left == [ReasoningDelta("so: ")]
    for _ in range(300):
        left += step.feed(TextDelta("hello "))
    assert sum(isinstance(part, TextDelta) for part in left) > 250
    end = collected([*left, *step.finish()])
    assert (end.text, end.reasoning) == ("hello " * 300, "so: secret")


def test_a_block_lets_nothing_of_the_match_out() -> None:
    step = step_of(filters({"bad_words": "block"}))
    left = [part for char in "the secret plan" for part in step.feed(TextDelta(char))]
    with pytest.raises(Blocked, match="output matches bad_words") as caught:
        step.feed(TextDelta(" is"))
    assert collected(left).text == "the "
    assert caught.value.detail == {"detector": "bad_words", "rule": "bad_words", "channel": "output"}
    step.abort()
    assert step.held() == []


def test_warnings_change_nothing_and_hide_nothing() -> None:
    counts: Counter[str] = Counter()
    plan = filters({"n.long": "warn"})
    step = step_of(plan, counts)
    text = "1234567 of ab, 123-45-6789"
    left = [*step.feed(TextDelta(text)), *step.finish()]
    assert collected(left).text == "1234567 of [BAD_WORDS], [SSN]"
    assert counts == {"n.long": 1, "bad_words": 1, "pii.ssn": 1}


def test_invisible_characters_are_stripped() -> None:
    plan = filters(invisible="redact")
    hidden, needed = "a\u200bb\u202e x\U000e0041y", "\u0645\u200c\u0646 \U0001f468\u200d\U0001f469"
    found = collected(run([TextDelta(hidden), TextDelta(f" {needed}")], plan))
    assert found.text == f"[BAD_WORDS] xy {needed}"


# --- provider fields -------------------------------------------------------------------------------------------------


def grown(text: str, sizes: list[int]) -> list[Part]:
    """A refusal as drivers send it: the whole of what has come so far, each time."""
    ends = [0]
    while ends[-1] < len(text):
        ends.append(ends[-1] + sizes[len(ends) % len(sizes)])
    return [ProviderDelta({"refusal": text[:end], "audio": {"transcript": text[:end], "id": "ab"}}) for end in ends[1:]]


@given(text=texts, sizes=lengths)
def test_fields_that_grow_are_filtered_as_the_whole(text: str, sizes: list[int]) -> None:
    plan, counts = filters(), Counter[str]()
    step = step_of(plan, counts)
    collector = Collector()
    whole_counts = Counter[str]()
    whole = plan["output"].whole(text, whole_counts)
    for part in [*(one for part in grown(text, sizes) for one in step.feed(part)), *step.finish()]:
        assert isinstance(part, ProviderDelta)
        for shown in (part.fields.get("refusal", ""), part.fields.get("audio", {}).get("transcript", "")):
            assert whole.startswith(shown), "nothing leaves that the whole would not hold"
        collector.add(part)
    if text:
        fields = collector.response().provider_fields
        assert fields == {"refusal": whole, "audio": {"transcript": whole, "id": "ab"}}
        assert counts == whole_counts + whole_counts


def test_fields_in_lists_are_filtered_and_tokens_left_out() -> None:
    left_out = Counter[str]()
    step = step_of(filters(), left_out=left_out)
    tokens = {"content": [{"token": "secret"}, {"token": " plan"}]}
    fields = {"annotations": [{"title": "a secret plan", "url": "secret plan"}], "logprobs": tokens, "n": 123456}
    (part,) = step.feed(ProviderDelta(fields))
    assert part == ProviderDelta({"annotations": [{"title": "a [BAD_WORDS]", "url": "secret plan"}], "n": 123456})
    assert step.finish() == []
    assert left_out == {"logprobs": 1}


def test_tokens_stay_where_nothing_is_changed() -> None:
    step = step_of(filters(dict.fromkeys(REDACT, "warn")))
    part = ProviderDelta({"logprobs": {"content": [{"token": "secret"}]}})
    assert step.feed(part) == [part]


def test_fields_that_block() -> None:
    step = step_of(filters({"bad_words": "block"}))
    step.feed(ProviderDelta({"refusal": "the secret"}))
    with pytest.raises(Blocked):
        step.feed(ProviderDelta({"refusal": "the secret plan is"}))


@given(text=texts, sizes=lengths)
def test_what_only_watches_counts_as_in_the_whole_and_holds_nothing(text: str, sizes: list[int]) -> None:
    plan, whole, counts = filters(dict.fromkeys(REDACT, "warn")), Counter[str](), Counter[str]()
    plan["output"].whole(text * 20, whole)
    step = step_of(plan, counts)
    left = [one for part in cut([TextDelta(text * 20)], sizes) for one in step.feed(part)]
    assert collected(left).text == text * 20
    step.finish()
    assert counts == whole


def test_what_has_left_is_counted_also_where_the_stream_breaks_off() -> None:
    counts = Counter[str]()
    step = step_of(filters(dict.fromkeys(REDACT, "warn")), counts)
    step.feed(TextDelta("the secret plan is"))
    step.feed(ToolCallDelta(0, "c", "f", '{"a": "the secret plan is'))
    step.abort()
    assert counts == {"bad_words": 2}


@given(text=texts, reasoning=texts, sizes=lengths, order=st.randoms(), stop=st.integers(0, 30))
def test_what_left_and_what_is_held_is_what_came(
    text: str, reasoning: str, sizes: list[int], order: Any, stop: int
) -> None:
    plan = filters({**dict.fromkeys(REDACT, "warn"), "bad_words": "redact"})
    text, reasoning = text.replace("a", "s"), reasoning.replace("a", "s")  # it begins terms, and is none
    pieces = [list(cut([part], sizes)) for part in (ReasoningDelta(reasoning), TextDelta(text))]
    step, came, left = step_of(plan), [], []
    while any(pieces) and len(came) < stop:
        came.append(order.choice([some for some in pieces if some]).pop(0))
        left += step.feed(came[-1])
    found, wanted = collected([*left, *step.held()]), collected(came)
    assert (found.text, found.reasoning) == (wanted.text, wanted.reasoning)


def test_what_is_held_to_the_end_of_one_channel_delays_others_only_for_a_while() -> None:
    step = step_of(filters())
    left = step.feed(ReasoningDelta("so it is 42 sec"))
    sent = [TextDelta(piece) for piece in ["some "] * 40]
    waited = [len(step.feed(part)) for part in sent]
    assert sum(waited[:12]) == 0
    assert sum(waited) == 40
    assert waited[13:] == [1] * 27
    assert collected([*left, *step.finish()]).reasoning == "so it is 42 sec"


@given(st.lists(st.sampled_from([ReasoningDelta, TextDelta]), max_size=60), st.lists(texts, min_size=60, max_size=60))
def test_channels_on_their_own_keep_their_order(kinds: list[Any], said: list[str]) -> None:
    parts = [kind(text) for kind, text in zip(kinds, said, strict=False)]
    found, wanted = collected(run(parts)), collected(parts)
    plan = filters()["output"]
    assert found.text == plan.whole(wanted.text, Counter())
    assert found.reasoning == plan.whole(wanted.reasoning, Counter())


def test_parts_without_text_do_not_wait_for_ever() -> None:
    step = step_of(filters())
    assert step.feed(TextDelta("a sec")) == [TextDelta("a ")]
    left = [one for number in range(4000) for one in step.feed(ProviderDelta({"n": number}))]
    assert len(left) == 4000
    assert step.feed(TextDelta("ret plan.")) == [TextDelta("[BAD_WORDS]"), TextDelta(".")]


def test_fields_that_change_their_kind_leave_nothing_behind() -> None:
    step = step_of(filters())
    step.feed(ProviderDelta({"x": "a secret"}))
    assert step.feed(ProviderDelta({"x": ["b"]})) == [ProviderDelta({"x": ["b"]})]
    assert step.finish() == []


def test_tokens_are_left_out_at_any_depth_and_own_data_has_no_exempt_names() -> None:
    left_out = Counter[str]()
    step = step_of(filters(), left_out=left_out)
    use = {"type": "server_tool_use", "id": "secret plan", "input": {"url": "secret plan", "id": 123456}}
    choice = {"logprobs": {"content": [{"token": "secret"}]}, "n": 1}
    (part,) = step.feed(ProviderDelta({"choices": [choice], "u": [use]}))
    assert isinstance(part, ProviderDelta)
    assert part.fields["choices"] == [{"n": 1}]
    assert part.fields["u"][0]["input"] == {"url": "[BAD_WORDS]", "id": "[LONG]"}
    assert part.fields["u"][0]["id"] == "secret plan"
    assert left_out == {"logprobs": 1}


def test_the_name_of_a_tool_is_the_models_word_too() -> None:
    step = step_of(filters())
    assert step.feed(ToolCallDelta(0, "c", "secret plan", "{}"))[0] == ToolCallDelta(0, "c", "[BAD_WORDS]", "{}")


@pytest.mark.parametrize("name", ["data", "container", "status", "id"])
def test_names_are_exempt_for_strings_only(name: str) -> None:
    step = step_of(filters())
    (part,) = step.feed(ProviderDelta({name: {"text": "secret plan "}, "list": [{name: {"text": "secret plan"}}]}))
    assert part == ProviderDelta({name: {"text": "[BAD_WORDS] "}, "list": [{name: {"text": "[BAD_WORDS]"}}]})
    assert step.finish() == [], "what has left is not sent again"


def test_what_a_tool_was_given_is_text_under_every_name_also_while_it_grows() -> None:
    step = step_of(filters())
    for end in ("a sec", "a secret pl", "a secret plan."):
        (part,) = step.feed(ProviderDelta({"tool": {"input": {"url": end, "n": 123456, "name": ["secret plan"]}}}))
        assert isinstance(part, ProviderDelta)
        assert part.fields["tool"]["input"]["url"] in ("a ", "a [BAD_WORDS].")
        assert part.fields["tool"]["input"]["n"] == "[LONG]"
        assert part.fields["tool"]["input"]["name"] == ["[BAD_WORDS]"]


@pytest.mark.parametrize(
    "fields",
    [
        {"audio": {"id": "x", "data": "secret plan"}},
        {"thinking_blocks": [{"type": "redacted_thinking", "data": "secret plan"}]},
        {"image": "data:image/png;base64,iVBOR123456/+w=="},
        {"images": [{"src": "data:image/svg+xml;charset=utf-8;base64,123456"}]},
        {"inline": [{"mimeType": "image/png", "data": "secret plan"}]},
    ],
)
def test_what_is_sealed_or_media_stays(fields: dict[str, Any]) -> None:
    step = step_of(filters())
    assert step.feed(ProviderDelta(fields)) == [ProviderDelta(fields)]
    assert step.finish() == []


@pytest.mark.parametrize(
    "fields",
    [
        {"refusal": "data:;base64, secret plan"},
        {"refusal": "data:image/png;base64,123456"},
        {"image": "data:image/png;base64,123456 "},
        {"image": "data:;base64,123456"},
        {"image": "data:image/png;base64, secret plan"},
        {"image": "data: see ;base64, secret plan"},
        {"notes": [{"said": "data:text/plain;base64,123456"}]},
    ],
)
def test_what_begins_as_a_file_does_is_text_all_the_same(fields: dict[str, Any]) -> None:
    step = step_of(filters())
    said = str([*step.feed(ProviderDelta(fields)), *step.finish()])
    assert "123456" not in said
    assert "secret plan" not in said


def test_numbers_too_long_and_fields_too_deep_are_left_out_and_counted() -> None:
    left_out = Counter[str]()
    step = step_of(filters(), left_out=left_out)
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert step.feed(ProviderDelta({"input": [10**5000, 5]})) == [ProviderDelta({"input": [None, 5]})]
    assert step.feed(ProviderDelta({"refusal": "a sec"})) == [ProviderDelta({"refusal": "a "})]
    assert step.feed(ProviderDelta({"a": deep, "refusal": "a secret pl"})) == [ProviderDelta({})]
    assert step.finish() == []
    assert left_out == {"number": 1, "a": 1, "refusal": 1}


def test_keys_that_are_redacted_are_counted_once_however_often_their_value_grows() -> None:
    counts = Counter[str]()
    step = step_of(filters(), counts)
    for end in ("a", "a b", "a b c"):
        step.feed(ProviderDelta({"input": {"secret plan": end}}))
    step.finish()
    assert counts == {"bad_words": 1}

"""Answers of the Messages API: whole, and in every way of cutting them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_mw.parts import Collector
from neuro_mw.providers._anthropic_answers import reason_of, response_of, usage_of
from neuro_mw.providers._anthropic_events import ErrorEvent, EventTranslator
from neuro_mw.providers._anthropic_history import blocks_of
from neuro_mw.providers._anthropic_messages import conversation_of
from neuro_mw.providers._anthropic_shapes import Untranslatable
from neuro_mw.types import Finish, ProviderDelta, ReasoningDelta, Response, ResponseInfo, TextDelta, ToolCall, Usage

JSON = {"json_tool_call": None}
STREAMED = {"text": "text", "thinking": "thinking"}  # kinds of which the text comes in deltas, and its key


def pieces(text: str, places: list[int]) -> list[str]:
    ends = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(ends)]


def events_of(message: dict[str, Any], places: list[int]) -> Iterator[dict[str, Any]]:
    """The stream of a whole answer, its texts cut at `places`."""
    late = {name: message[name] for name in ("stop_reason", "stop_sequence", "container") if name in message}
    context = {"context_management": message["context_management"]} if "context_management" in message else {}
    usage = message.get("usage") or {}
    early = {name: value for name, value in message.items() if name not in late and name not in context}
    started = {name: 1 if name == "output_tokens" else value for name, value in usage.items()}
    yield {"type": "message_start", "message": {**early, "content": [], "stop_reason": None, "usage": started}}
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        yield from block_events(index, block, places)
    counts = {name: value for name, value in usage.items() if name != "cache_read_input_tokens"}
    yield {"type": "message_delta", "delta": late, "usage": counts, **context}
    yield {"type": "of_the_future", "index": 0}
    yield {"type": "message_stop"}


def block_events(index: int, block: dict[str, Any], places: list[int]) -> Iterator[dict[str, Any]]:
    kind = block.get("type")
    start, deltas = dict(block), []
    if kind in STREAMED:
        key = STREAMED[kind]
        start[key] = ""
        deltas += [{"type": f"{kind}_delta", key: piece} for piece in pieces(block[key], places)]
    if "signature" in start:
        deltas.append({"type": "signature_delta", "signature": start.pop("signature")})
    if kind == "text":
        deltas += [{"type": "citations_delta", "citation": one} for one in start.pop("citations", None) or ()]
    if kind in ("tool_use", "server_tool_use") and block["input"]:
        start["input"] = {}
        asked = json.dumps(block["input"], ensure_ascii=False)
        deltas += [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(asked, places)]
    yield {"type": "content_block_start", "index": index, "content_block": start}
    yield from ({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
    yield {"type": "content_block_stop", "index": index}


def streamed(events: Any, renamed: Any = None) -> Response:
    translator, collector = EventTranslator(renamed or {}), Collector()
    for event in events:
        for part in translator.feed(event):
            collector.add(part)
    reason, usage, fields = translator.end()
    collector.add(ProviderDelta(fields))
    collector.add(Finish(reason, usage))
    return collector.response()


# --- every cut of every answer -----------------------------------------------------------------------------------

words = st.text(max_size=12)
ids = st.just("") | st.text(max_size=6).map(lambda rest: f"t{rest}")
things = st.dictionaries(st.sampled_from(["x", "y"]), st.none() | st.integers() | words, max_size=2)
more = st.dictionaries(st.sampled_from(["x_one", "x_two"]), words | things | st.lists(words, max_size=2), max_size=2)


def block(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda rest, **known: {**rest, "type": kind, **known}, more, **fields)


texts = st.one_of(
    block("text", text=words), block("text", text=words, citations=st.lists(things, min_size=1, max_size=2))
)
blocks = st.one_of(
    texts,
    block("thinking", thinking=words, signature=words),
    block("redacted_thinking", data=words),
    block("tool_use", id=ids, name=words, input=things),
    block("server_tool_use", id=words, name=words, input=things),
    block("web_search_tool_result", tool_use_id=words, content=st.lists(things, max_size=2)),
    block("bash_code_execution_tool_result", tool_use_id=words, content=things),
    block("compaction", content=words),
    block("of_the_future"),
)
counts = st.dictionaries(
    st.sampled_from(["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]),
    st.integers(0, 9),
)
messages = st.builds(
    lambda rest, **known: {**rest, "type": "message", "role": "assistant", **known},
    more,
    id=words,
    model=words,
    content=st.lists(blocks, max_size=6, unique_by=lambda one: (one["type"] == "tool_use" and one["id"]) or id(one)),
    stop_reason=st.sampled_from(["end_turn", "tool_use", "max_tokens", "refusal", "pause_turn", "of_the_future"]),
    stop_sequence=st.none() | words,
    container=st.none() | things,
    context_management=st.none() | things,
    usage=st.builds(lambda one, rest: {**one, **rest}, counts, more),
)


@settings(max_examples=100, deadline=None)
@given(message=messages, places=st.lists(st.integers(0, 30), max_size=4))
def test_every_cut_collects_to_the_whole(message: dict[str, Any], places: list[int]) -> None:
    before = copy.deepcopy(message)
    whole = response_of(message)
    assert streamed(events_of(message, places)) == whole
    assert message == before


@settings(max_examples=100, deadline=None)
@given(message=messages)
def test_what_goes_back_is_what_came(message: dict[str, Any]) -> None:
    """The assistant's turn, from text, reasoning, calls and fields, is made of the very blocks of the answer."""
    user = {"role": "user", "content": "hi"}
    sent = [user, response_of(message).to_message(), user]
    back = conversation_of(sent, system_inside=False, names={})[1]
    expected = [one for one in expected_back(message["content"]) if one["type"] != "text" or one["text"].strip()]
    assert back[1:-1] == ([{"role": "assistant", "content": expected}] if expected else [])


def expected_back(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks as they have to come back: adjoining texts may be one, ids are in the letters of the API."""
    found: list[dict[str, Any]] = []
    kinds = [one["type"] for one in content]
    plain = response_of({"content": content}).provider_fields.get("content_order") is None
    for one, kind in zip(content, kinds, strict=True):
        if kind == "thinking" and not one["signature"]:
            continue
        if kind == "tool_use":
            letters = "".join(
                char if char.isascii() and (char.isalnum() or char in "_-") else "_" for char in one["id"]
            )
            one = {name: value for name, value in one.items() if value is not None} | {"id": letters}
        if kind == "text" and plain and found and found[-1]["type"] == "text":
            found[-1] = {"type": "text", "text": found[-1]["text"] + one["text"]}
        else:
            found.append({name: value for name, value in one.items() if value is not None} if kind == "text" else one)
    return found


# --- what goes where ---------------------------------------------------------------------------------------------


def answer(*content: dict[str, Any], reason: str = "end_turn", **more: Any) -> dict[str, Any]:
    return {"id": "m", "model": "claude-x", "content": list(content), "stop_reason": reason, **more}


def test_a_plain_answer() -> None:
    found = response_of(answer({"type": "text", "text": "a"}, {"type": "text", "text": "b"}, stop_sequence=None))
    assert found == Response(text="ab", id="m", model="claude-x")


def test_the_usual_order_needs_no_record_of_it() -> None:
    found = response_of(
        answer(
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "d"},
            {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"ä": 1}, "caller": {"type": "direct"}},
            reason="tool_use",
        )
    )
    assert (found.text, found.reasoning, found.tool_calls) == ("a", "hm", [ToolCall("t", "f", '{"ä": 1}')])
    assert found.provider_fields == {
        "thinking_blocks": [
            {"type": "thinking", "signature": "s", "length": 2, "digest": "b82e2178ecf4d0c5"},
            {"type": "redacted_thinking", "data": "d"},
        ],
        "tool_call_fields": {"t": {"caller": {"type": "direct"}}},
    }


SEARCHED = answer(
    {"type": "thinking", "thinking": "one", "signature": "s1"},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"url": "u"}]},
    {"type": "thinking", "thinking": "two", "signature": "s2"},
    {"type": "text", "text": "It is "},
    {"type": "text", "text": "so", "citations": [{"cited_text": "so", "url": "u"}]},
    {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    reason="tool_use",
    container={"id": "c"},
)


def test_other_orders_and_kinds() -> None:
    found = response_of(SEARCHED)
    assert (found.text, found.reasoning, found.tool_calls) == ("It is so", "onetwo", [ToolCall("t", "f", "{}")])
    fields = found.provider_fields
    assert fields["web_search_results"] == [SEARCHED["content"][2]]
    assert fields["server_tool_use"] == [SEARCHED["content"][1]]
    assert fields["citations"] == [[{"cited_text": "so", "url": "u"}]]
    assert fields["container"] == {"id": "c"}
    names = [one if isinstance(one, str) else one["length"] for one in fields["content_order"]]
    assert names == ["thinking_blocks", "server_tool_use", "web_search_results", "thinking_blocks", 6, 2, "tool_calls"]


def test_an_answer_that_was_changed_goes_back_changed() -> None:
    message = response_of(SEARCHED).to_message()
    message["content"] = "It is [redacted]"
    back = conversation_of([message], system_inside=False, names={})[1][0]["content"]
    kinds = [one["type"] for one in back]
    assert kinds == ["thinking", "server_tool_use", "web_search_tool_result", "thinking", "text", "tool_use"]
    assert back[4] == {"type": "text", "text": "It is [redacted]"}
    message["reasoning_content"] = "[redacted]"
    assert "thinking" not in {
        one["type"] for one in conversation_of([message], system_inside=False, names={})[1][0]["content"]
    }
    assert "onetwo" not in json.dumps(message["provider_fields"])


def test_a_forced_call_is_a_json_answer() -> None:
    forced = {"type": "tool_use", "id": "t", "name": "json_tool_call", "input": {"a": "ü"}}
    message = answer(forced, reason="tool_use")
    found = response_of(message, JSON)
    assert (found.text, found.tool_calls, found.finish_reason) == ('{"a": "ü"}', [], "stop")
    for places in ([], [1, 3, 5]):
        assert streamed(events_of(message, places), JSON) == found
    empty = answer({**forced, "input": {}}, reason="tool_use")
    assert streamed(events_of(empty, []), JSON) == response_of(empty, JSON)
    assert response_of(empty, JSON).text == "{}"


def test_renamed_tools_get_their_names_back() -> None:
    message = answer({"type": "tool_use", "id": "t", "name": "a_b", "input": {"x": 1}}, reason="tool_use")
    found = response_of(message, {"a_b": "a.b"})
    assert found.tool_calls == [ToolCall("t", "a.b", '{"x": 1}')]
    assert streamed(events_of(message, [2]), {"a_b": "a.b"}) == found


@pytest.mark.parametrize(
    ("given", "has_calls", "expected"),
    [
        (None, False, "error"),
        ("end_turn", False, "stop"),
        ("stop_sequence", False, "stop"),
        ("tool_use", True, "tool_calls"),
        ("tool_use", False, "stop"),
        ("max_tokens", True, "length"),
        ("model_context_window_exceeded", False, "length"),
        ("refusal", False, "content_filter"),
        ("pause_turn", False, "other"),
        ("of_the_future", False, "other"),
    ],
)
def test_reasons(given: str | None, has_calls: bool, expected: str) -> None:
    assert reason_of(given, has_calls) == expected


@pytest.mark.parametrize(
    ("data", "usage", "rest"),
    [
        (None, Usage(), {}),
        ({"input_tokens": 3, "output_tokens": 0}, Usage(3, 0), {}),
        (
            {"input_tokens": 3, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 5, "service_tier": None},
            Usage(12, None, 4, 5),
            {},
        ),
        (
            {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4, "x": 1}, "server_tool_use": {"n": 1}},
            Usage(None, 9, reasoning_tokens=4),
            {"output_tokens_details": {"x": 1}, "server_tool_use": {"n": 1}},
        ),
        (
            {"output_tokens": 2, "iterations": [{"input_tokens": 1, "output_tokens": 5}, {"output_tokens": 2}]},
            Usage(1, 7),
            {"output_tokens": 2, "iterations": [{"input_tokens": 1, "output_tokens": 5}, {"output_tokens": 2}]},
        ),
    ],
)
def test_usage(data: Any, usage: Usage, rest: dict[str, Any]) -> None:
    assert usage_of(data) == (usage, rest)


# --- streams -----------------------------------------------------------------------------------------------------


def test_parts_leave_as_they_come() -> None:
    translator = EventTranslator()
    parts = [translator.feed(event) for event in events_of(SEARCHED, [1])]
    flat = [part for some in parts for part in some]
    assert flat[0] == ResponseInfo("m", "claude-x")
    assert flat[1:3] == [ReasoningDelta("o"), ReasoningDelta("ne")]
    assert [part.text for part in flat if isinstance(part, TextDelta)] == ["I", "t is ", "s", "o"]
    assert translator.reason == "tool_use"


def test_the_reason_counts_at_the_end_only() -> None:
    translator = EventTranslator()
    for event in [*events_of(SEARCHED, [])][:-1]:
        translator.feed(event)
        assert translator.reason is None
    translator = EventTranslator()
    translator.feed({"type": "message_stop"})
    assert translator.reason is None


def test_errors_are_for_the_driver() -> None:
    with pytest.raises(ErrorEvent) as caught:
        EventTranslator().feed({"type": "error", "error": {"type": "overloaded_error", "message": "PROMPT-SECRET"}})
    assert caught.value.error["type"] == "overloaded_error"
    assert "SECRET" not in str(caught.value)


def test_a_block_that_comes_whole_at_its_start() -> None:
    content = [
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": "b", "signature": "s"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
    ]
    events = [
        one
        for index, block in enumerate(content)
        for one in (
            {"type": "content_block_start", "index": index, "content_block": block},
            {"type": "content_block_stop", "index": index},
        )
    ]
    found = streamed(
        [*events, {"type": "message_delta", "delta": {"stop_reason": "tool_use"}}, {"type": "message_stop"}]
    )
    assert found == response_of({"content": content, "stop_reason": "tool_use"})


def test_what_the_server_was_asked_may_be_cut_off() -> None:
    start = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    events = [
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"q'}},
    ]
    assert streamed(events).provider_fields["server_tool_use"] == [{**start, "input": '{"q'}]


def test_deltas_of_the_future_join_what_they_continue() -> None:
    events = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "new", "a": "x", "b": [1], "c": None}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "new_delta", "a": "y", "b": [2], "c": "z"}},
    ]
    assert streamed(events).provider_fields["other_blocks"] == [{"type": "new", "a": "xy", "b": [1, 2], "c": "z"}]


def test_broken_arguments_do_not_go_back() -> None:
    call = {"id": "t", "function": {"name": "f", "arguments": '{"PROMPT-SECRET'}}
    with pytest.raises(Untranslatable, match=r"tool_calls\[0\]") as caught:
        blocks_of({"tool_calls": [call]}, [], {})
    assert "SECRET" not in str(caught.value)


def test_arguments_that_are_no_text_pass() -> None:
    call = {"id": "t", "function": {"name": "f", "arguments": {"x": 1}}, "index": 0}
    assert blocks_of({"tool_calls": [call]}, [], {}) == [
        {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}
    ]


def test_a_call_that_litellm_made_of_the_servers_own() -> None:
    message = {
        "tool_calls": [{"id": "srvtoolu_1", "function": {"name": "web_search", "arguments": '{"query": "q"}'}}],
        "provider_specific_fields": {
            "web_search_results": [{"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1"}]
        },
    }
    assert [one["type"] for one in blocks_of(message, [], {})] == ["server_tool_use", "web_search_tool_result"]


# --- odd answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "usage", "rest"),
    [
        ({"input_tokens": "10", "output_tokens": 2}, Usage(None, 2), {"input_tokens": "10"}),
        ({"input_tokens": 3, "cache_read_input_tokens": [4]}, Usage(3), {"cache_read_input_tokens": [4]}),
        ({"output_tokens": True, "input_tokens": 1.5}, Usage(), {"output_tokens": True, "input_tokens": 1.5}),
        ({"output_tokens": 2, "iterations": 3}, Usage(None, 2), {"iterations": 3}),
        ({"output_tokens": 2, "iterations": [3]}, Usage(None, 2), {"iterations": [3]}),
        ({"output_tokens": 2, "iterations": []}, Usage(None, 2), {"iterations": []}),
        ({"output_tokens_details": "x"}, Usage(), {"output_tokens_details": "x"}),
        (
            {"output_tokens_details": {"thinking_tokens": "4"}},
            Usage(),
            {"output_tokens_details": {"thinking_tokens": "4"}},
        ),
    ],
)
def test_what_is_no_count_is_kept_and_not_counted(data: Any, usage: Usage, rest: dict[str, Any]) -> None:
    assert usage_of(data) == (usage, rest)
    message = answer({"type": "text", "text": "a"}, usage=data)
    found = response_of(message)
    assert (found.usage, found.provider_fields["usage"]) == (usage, rest)
    assert streamed(events_of(message, [])).provider_fields["usage"].keys() >= rest.keys()


@pytest.mark.parametrize(
    ("kind", "key", "start"),
    [
        ("text_delta", "text", {"type": "text", "text": None}),
        ("thinking_delta", "thinking", {"type": "thinking", "thinking": None}),
        ("input_json_delta", "partial_json", {"type": "tool_use", "id": "t", "name": "f", "input": None}),
    ],
)
def test_null_where_text_is_to_come_is_no_text(kind: str, key: str, start: dict[str, Any]) -> None:
    def events(*pieces: Any) -> list[dict[str, Any]]:
        return [
            {"type": "content_block_start", "index": 0, "content_block": start},
            *({"type": "content_block_delta", "index": 0, "delta": {"type": kind, key: one}} for one in pieces),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
            {"type": "message_stop"},
        ]

    assert streamed(events("{", None, "}")) == streamed(events("{}"))
    assert streamed(events(None)) == response_of({"content": [start], "stop_reason": "end_turn"})
    translator = EventTranslator()
    translator.feed(events()[0])
    with pytest.raises(TypeError):  # before it gets anywhere; the driver makes an error of its own of it
        translator.feed(events(5)[1])


def test_the_answer_is_over_with_its_last_event() -> None:
    translator = EventTranslator()
    for event in events_of(SEARCHED, []):
        assert not translator.over
        translator.feed(event)
    assert translator.over


# --- the further fields of calls ---------------------------------------------------------------------------------


def test_fields_of_a_call_go_by_its_id() -> None:
    uses = [{"type": "tool_use", "id": id, "name": "f", "input": {}, "caller": id or "none"} for id in ("a", "", "c")]
    fields = response_of(answer(*uses, reason="tool_use")).provider_fields["tool_call_fields"]
    assert fields == {"a": {"caller": "a"}, "1": {"caller": "none"}, "c": {"caller": "c"}}
    calls = [{"id": id, "function": {"name": "f", "arguments": ""}} for id in ("c", "a")]
    back = blocks_of({"tool_calls": calls, "provider_fields": {"tool_call_fields": fields}}, [], {})
    assert [(one["id"], one["caller"]) for one in back] == [("c", "c"), ("a", "a")]


def test_fields_of_a_call_stay_with_it_where_a_middleware_drops_another() -> None:
    uses = [{"type": "tool_use", "id": id, "name": "f", "input": {}, "caller": id} for id in "ab"]
    found = response_of(answer(*uses, {"type": "of_the_future"}, reason="tool_use"))
    del found.tool_calls[0]
    back = conversation_of([found.to_message()], system_inside=False, names={})[1][0]["content"]
    assert [(one["id"], one["caller"]) for one in back if one["type"] == "tool_use"] == [("b", "b")]


def test_fields_of_a_call_by_its_index_are_taken_where_it_is_no_id() -> None:
    def back(*ids: str) -> list[Any]:
        calls = [{"id": id, "function": {"name": "f", "arguments": ""}} for id in ids]
        fields = {"tool_call_fields": {"1": {"caller": "x"}}}
        return [one.get("caller") for one in blocks_of({"tool_calls": calls, "provider_fields": fields}, [], {})]

    assert back("a", "b") == [None, "x"]
    assert back("1", "b") == ["x", None]

"""`collect` and `parts_of` are inverse, for every cut; nothing of an unknown type is lost."""

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import (
    Collector,
    Finish,
    ProviderDelta,
    ReasoningDelta,
    Response,
    ResponseInfo,
    StreamError,
    StreamInterrupted,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    collect,
    parts_of,
)
from neuro_mw.parts import merge_fields
from neuro_mw.testing import cut

from .test_types import responses, tables

LATER = SimpleNamespace(type="later")


async def stream_of(parts):
    for part in parts:
        yield part


def collected(parts):
    return asyncio.run(collect(stream_of(parts)))


@given(responses, st.booleans())
def test_there_and_back(response, later):
    response.other_parts = [LATER] * later
    parts = list(parts_of(response))
    assert collected(parts) == response
    assert collected(parts_of(collected(parts))) == response


@given(responses, st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_however_it_is_cut(response, lengths):
    assert collected(cut(parts_of(response), lengths)) == response


@given(responses)
def test_the_grammar(response):
    kinds = [type(part) for part in parts_of(response)]
    assert kinds.count(Finish) == 1
    assert kinds[-1] is Finish
    assert ResponseInfo not in kinds[1:]


@pytest.mark.parametrize("field", [{"id": "x"}, {"model": "x"}, {"created": 0.0}])
def test_any_known_field_makes_an_info(field):
    first, *_ = parts_of(Response(**field))
    assert type(first) is ResponseInfo
    assert collected(parts_of(Response(**field))) == Response(**field)


def test_an_empty_answer_is_one_finish():
    assert list(parts_of(Response())) == [Finish("stop")]


def test_setting_metadata_of_the_parts_leaves_the_answer_alone():
    response = Response(metadata={"a": 1})
    *_, finish = parts_of(response)
    finish.metadata["b"] = 2
    assert response.metadata == {"a": 1}


def test_a_stream_without_finish_is_interrupted():
    with pytest.raises(StreamInterrupted, match="without Finish") as caught:
        collected([ResponseInfo("i"), TextDelta("he"), TextDelta("l"), ToolCallDelta(0, "c", "f", "{")])
    partial = caught.value.partial
    assert (partial.id, partial.text, partial.finish_reason) == ("i", "hel", "error")
    assert partial.tool_calls == [ToolCall("c", "f", "{")]
    assert isinstance(caught.value, StreamError)


def test_interrupted_before_anything():
    with pytest.raises(StreamInterrupted) as caught:
        collected([])
    assert caught.value.partial == Response(finish_reason="error")


def test_tool_calls_are_put_together_by_index():
    parts = [
        ToolCallDelta(1, "b", None, '{"x"'), ToolCallDelta(0, "a", "f"), ToolCallDelta(1, None, "g", ": 1}"),
        ToolCallDelta(0, None, None, "{}"), ToolCallDelta(7), Finish("tool_calls"),
    ]  # fmt: skip
    assert collected(parts).tool_calls == [
        ToolCall("a", "f", "{}"),
        ToolCall("b", "g", '{"x": 1}'),
        ToolCall("", "", ""),
    ]


def test_the_first_id_and_name_of_a_call_stand():
    parts = [ToolCallDelta(0, "a", "f"), ToolCallDelta(0, "z", "z"), Finish("tool_calls")]
    assert collected(parts).tool_calls == [ToolCall("a", "f", "")]


def test_subclasses_of_parts_are_what_they_are():
    class Loud(TextDelta):
        pass

    class Thought(ReasoningDelta):
        pass

    answer = collected([Loud("a"), Thought("b"), TextDelta("c"), Finish("stop")])
    assert (answer.text, answer.reasoning, answer.other_parts) == ("ac", "b", [])


def test_unknown_parts_are_kept_in_order():
    one, two = SimpleNamespace(type="x"), SimpleNamespace(type="y")
    answer = collected([one, TextDelta("a"), two, Finish("stop")])
    assert answer.other_parts == [one, two]


def test_the_last_finish_tells_of_usage_and_metadata():
    answer = collected([TextDelta("a"), Finish("length", Usage(1, 2), metadata={"k": 1})])
    assert (answer.finish_reason, answer.usage, answer.metadata) == ("length", Usage(1, 2), {"k": 1})


def test_a_collector_can_be_asked_in_between():
    collector = Collector()
    collector.add(TextDelta("a"))
    collector.add(LATER)
    early = collector.response()
    collector.add(TextDelta("b"))
    collector.add(LATER)
    collector.add(ProviderDelta({"x": [1]}))
    collector.add(Finish("stop"))
    assert (early.text, early.finish_reason, len(early.other_parts), early.provider_fields) == ("a", "error", 1, {})
    assert (collector.response().text, len(collector.response().other_parts)) == ("ab", 2)


def test_provider_fields_of_chunks_merge():
    parts = [ProviderDelta({"a": {"x": 1}, "l": [1], "s": 1}), ProviderDelta({"a": {"y": 2}, "l": [2], "s": 2})]
    answer = collected([*parts, Finish("stop")])
    assert answer.provider_fields == {"a": {"x": 1, "y": 2}, "l": [1, 2], "s": 2}
    assert parts[0].fields == {"a": {"x": 1}, "l": [1], "s": 1}, "the first part was changed"


@given(tables, tables)
def test_merging_forgets_no_key_and_changes_nothing(old, new):
    before = repr((old, new))
    merged: dict = {}
    for one in (old, new):
        merge_fields(merged, one)
    assert set(merged) == set(old) | set(new)
    merge_fields(merged, new)
    assert repr((old, new)) == before, "what was merged was changed"
    alone: dict = {}
    merge_fields(alone, new)
    merge_fields(alone, {})
    assert alone == new

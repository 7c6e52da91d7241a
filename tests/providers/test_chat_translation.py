"""The translation itself: shapes that no server here sends, and every way of cutting an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw.parts import collect
from neuro_mw.providers._chat_answers import reason_of, response_of, usage_of
from neuro_mw.providers._chat_chunks import ChunkTranslator
from neuro_mw.providers._errors import ErrorEvent
from neuro_mw.types import Finish, Part, ProviderDelta, Response, ToolCall, Usage


def collected(chunks: list[Any], usages: list[Any] | None = None) -> Response:
    async def parts() -> AsyncIterator[Part]:
        translator = ChunkTranslator()
        for chunk in chunks:
            for part in translator.feed(chunk):
                yield part
        if usages is not None:
            translator.recount(usages)
        reason, usage, fields = translator.end()
        yield ProviderDelta(fields)
        yield Finish(reason, usage)

    return asyncio.run(collect(parts()))


def chunk(reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "x", "created": 5, "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def whole(reason: str = "stop", **message: Any) -> Response:
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return response_of({"id": "x", "created": 5, "model": "m", "choices": [choice]})


def cut(text: str, places: list[int]) -> list[str]:
    ends = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(ends)]


@given(
    text=st.text(),
    reasoning=st.text(),
    arguments=st.lists(st.text(), max_size=3),
    places=st.lists(st.integers(0, 50), max_size=4),
    reason=st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
)
def test_every_cut_collects_to_the_whole(
    text: str, reasoning: str, arguments: list[str], places: list[int], reason: str
) -> None:
    calls = [{"id": f"c{n}", "function": {"name": "f", "arguments": one}} for n, one in enumerate(arguments)]
    chunks = [chunk(role="assistant")]
    chunks += [chunk(reasoning_content=piece) for piece in cut(reasoning, places)]
    chunks += [chunk(content=piece) for piece in cut(text, places)]
    for n, one in enumerate(arguments):
        chunks.append(chunk(tool_calls=[{"index": n, "id": f"c{n}", "function": {"name": "f"}}]))
        chunks += [chunk(tool_calls=[{"index": n, "function": {"arguments": piece}}]) for piece in cut(one, places)]
    expected = whole(reason, content=text, reasoning_content=reasoning, tool_calls=calls)
    assert collected([*chunks, chunk(reason)]) == expected


def test_the_older_function_call() -> None:
    expected = [ToolCall("", "f", "{}")]
    assert whole("function_call", function_call={"name": "f", "arguments": "{}"}).tool_calls == expected
    found = collected(
        [chunk(function_call={"name": "f", "arguments": "{"}), chunk(function_call={"arguments": "}"}), chunk("stop")]
    )
    assert (found.tool_calls, found.finish_reason) == (expected, "tool_calls")


def test_custom_calls_and_what_providers_add_to_a_call() -> None:
    call = {"id": "c", "type": "custom", "custom": {"name": "sql", "input": "select"}}
    signed = {"id": "d", "function": {"name": "f", "arguments": ""}, "provider_specific_fields": {"signature": "s"}}
    found = whole("tool_calls", tool_calls=[call, signed])
    assert found.tool_calls == [ToolCall("c", "sql", "select"), ToolCall("d", "f", "")]
    assert found.provider_fields == {"tool_call_fields": {"c": {"type": "custom"}, "d": {"signature": "s"}}}
    assert (
        collected([chunk(tool_calls=[{"index": 0, **call}]), chunk("stop", tool_calls=[{"index": 1, **signed}])])
        == found
    )


def test_content_in_parts() -> None:
    """Mistral's reasoning models answer with a list; parts of other kinds are kept."""
    image, link = {"type": "image", "data": "x"}, {"type": "reference", "reference_ids": [1]}
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}, link]}
    content = [thought, {"type": "text", "text": "a"}, image, {"type": "text", "text": "b"}]
    for found in (whole(content=content), collected([chunk("stop", content=content)])):
        assert (found.text, found.reasoning) == ("ab", "hm")
        assert found.provider_fields == {"content": [link, image]}


def test_content_of_another_shape() -> None:
    odd = {"deep": 1}
    for found in (whole(content=odd, reasoning=odd), collected([chunk("stop", content=odd, reasoning=odd)])):
        assert (found.text, found.reasoning) == ("", "")
        assert found.provider_fields == {"content": odd, "reasoning": odd}


def test_no_choices_and_more_than_one() -> None:
    assert response_of({"choices": []}).finish_reason == "error"
    many = response_of(
        {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}, {"index": 1, "message": {}}]}
    )
    assert many.text == "a"
    assert many.provider_fields == {"choices": [{"index": 1, "message": {}}]}


def test_fields_that_every_chunk_repeats_and_lists_that_grow() -> None:
    first = {**chunk(content="a"), "citations": ["one"], "tier": "x", "deep": {"list": [1]}}
    second = {**chunk("stop"), "citations": ["one", "two"], "tier": "x", "deep": {"list": [1], "more": None}}
    assert collected([first, second]).provider_fields == {
        "citations": ["one", "two"],
        "tier": "x",
        "deep": {"list": [1]},
    }


def test_strings_of_a_delta_go_on_but_names_do_not() -> None:
    chunks = [chunk(audio={"id": "a1", "transcript": "he"}), chunk("stop", audio={"id": "a1", "transcript": "llo"})]
    assert collected(chunks).provider_fields == {"audio": {"id": "a1", "transcript": "hello"}}


def test_generic_chunks_among_the_usual() -> None:
    generic = {
        "text": "b",
        "is_finished": False,
        "finish_reason": "",
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    tool = {
        "text": "",
        "is_finished": True,
        "tool_use": {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}},
    }
    found = collected([chunk(content="a"), generic, tool, chunk("stop")])
    assert (found.text, found.tool_calls, found.usage) == ("ab", [ToolCall("c", "f", "{}")], Usage(1, 2))
    last = {"text": "", "is_finished": True, "finish_reason": "length", "usage": {"prompt_tokens": 1}}
    assert collected([chunk(content="a"), last]).finish_reason == "length"


def test_usage_in_pieces_and_recounted() -> None:
    counts = [{"prompt_tokens": 7, "completion_tokens": 1}, {"prompt_tokens": 0, "completion_tokens": 9}]
    assert collected([{**chunk(), "usage": counts[0]}, {**chunk("stop"), "usage": counts[1]}]).usage == Usage(7, 9)
    assert collected([{**chunk("stop"), "usage": counts[0]}], usages=[]).usage == Usage()
    assert collected([chunk("stop")], usages=counts).usage == Usage(7, 9)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, (Usage(), {})),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, (Usage(), {})),
        ({"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.5}, (Usage(1, 2), {"cost": 0.5})),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4}, (Usage(9, None, cache_read_tokens=4), {})),
        ({"prompt_tokens": 9, "cache_creation_input_tokens": 0}, (Usage(9, None, cache_write_tokens=0), {})),
    ],
)
def test_usage(data: Any, expected: tuple[Usage, dict[str, Any]]) -> None:
    assert usage_of(data) == expected


@pytest.mark.parametrize(
    ("given", "native", "has_calls", "expected"),
    [
        (None, None, False, "error"),
        ("stop", None, True, "tool_calls"),
        ("stop", "end_turn", False, "stop"),
        ("stop", "nobody knows", False, "other"),
        ("content_filter", "IMAGE_SAFETY", False, "content_filter"),
        ("stop", "error", False, "error"),
        ("length", None, True, "length"),
    ],
)
def test_reasons(given: str | None, native: str | None, has_calls: bool, expected: str) -> None:
    assert reason_of(given, native, has_calls) == expected


def pieces(*calls: dict[str, Any]) -> list[ToolCall]:
    return collected([*(chunk(tool_calls=[call]) for call in calls), chunk("tool_calls")]).tool_calls


def piece(name: str | None = None, arguments: str = "", **more: Any) -> dict[str, Any]:
    return {**more, "function": {"name": name, "arguments": arguments}}


def test_calls_without_ids_that_share_an_index() -> None:
    whole = [piece("f", '{"a":1}', index=0, id=""), piece("g", '{"b":2}', index=0, id="")]
    assert pieces(*whole) == [ToolCall("", "f", '{"a":1}'), ToolCall("", "g", '{"b":2}')]
    cut = [piece("f", '{"a"', index=0), piece("f", ":1}", index=0), piece("g", "{}", index=0)]
    assert pieces(*cut) == [ToolCall("", "f", '{"a":1}'), ToolCall("", "g", "{}")]
    assert pieces(piece("f", "{}"), piece("g", "{}")) == [ToolCall("", "f", "{}"), ToolCall("", "g", "{}")]


def test_calls_that_are_told_apart_by_their_ids_alone() -> None:
    begun = [piece("f", '{"a"', id="A"), piece("g", '{"b"', id="B")]
    mixed = [*begun, piece(None, ":1}", id="A"), piece(None, ":2}", id="B")]
    assert pieces(*mixed) == [ToolCall("A", "f", '{"a":1}'), ToolCall("B", "g", '{"b":2}')]
    following = [piece("f", "{", id="A"), piece(None, "}"), piece("g", "{", id="B"), piece(None, "}")]
    assert pieces(*following) == [ToolCall("A", "f", "{}"), ToolCall("B", "g", "{}")]


def test_arguments_that_are_an_object() -> None:
    call = {"id": "a", "index": 0, "function": {"name": "f", "arguments": {"a": "é"}}}
    assert whole("tool_calls", tool_calls=[call]).tool_calls == [ToolCall("a", "f", '{"a": "é"}')]
    assert pieces(call) == [ToolCall("a", "f", '{"a": "é"}')]


def test_counts_that_are_no_numbers() -> None:
    odd = {"prompt_tokens": "10", "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": True}}
    assert usage_of(odd)[0] == Usage(None, 3)


def test_an_error_beside_a_choice() -> None:
    """OpenRouter's way of saying that a stream failed."""
    failed = {**chunk("error", content=""), "error": {"code": 502, "message": "x"}}
    with pytest.raises(ErrorEvent) as caught:
        collected([chunk(content="a"), failed])
    assert caught.value.error["code"] == 502


def test_many_pieces_of_a_list_take_linear_time() -> None:
    one = {"content": [{"token": "a", "logprob": -0.5}]}
    many = [{"id": "x", "choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": one}]} for _ in range(20_000)]
    assert len(collected([*many, chunk("stop")]).provider_fields["logprobs"]["content"]) == 20_000


def test_calls_that_are_told_apart_by_their_index() -> None:
    """Seen of servers: one id for all calls, and an id of its own for each piece of one call."""
    same = [piece("f", '{"a":1}', index=0, id="x"), piece("f", '{"a":2}', index=1, id="x")]
    assert pieces(*same) == [ToolCall("x", "f", '{"a":1}'), ToolCall("x", "f", '{"a":2}')]
    rest = [piece(None, '{"a"', index=0, id="x2"), piece(None, ":1}", index=0, id="x3")]
    assert pieces(piece("f", index=0, id="x1"), *rest) == [ToolCall("x1", "f", '{"a":1}')]
    closing = [piece("f", '{"a":1}', index=0), piece("f", "", index=0)]
    assert pieces(*closing) == [ToolCall("", "f", '{"a":1}')]
    assert pieces(piece("f", index=0), piece("g", index=0)) == [ToolCall("", "f", ""), ToolCall("", "g", "")]


def test_an_error_in_a_choice() -> None:
    failed = chunk("error", content="")
    failed["choices"][0]["error"] = {"message": "x", "code": 502}
    with pytest.raises(ErrorEvent):
        collected([chunk(content="a"), failed])

"""The echo model: what it answers, how it cuts, what it counts."""

from __future__ import annotations

import asyncio
import copy
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw.parts import collect
from neuro_mw.providers import resolve
from neuro_mw.providers.echo import EchoModel
from neuro_mw.types import Finish, LanguageModel, Params, Part, ResponseInfo, TextDelta, Usage


def ask(text: object, **more: object) -> Params:
    return {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}], **more}


def generate(model: LanguageModel, params: Params):
    return asyncio.run(model.generate(params))


def parts(model: LanguageModel, params: Params) -> list[Part]:
    async def run() -> list[Part]:
        return [part async for part in model.stream(params)]

    return asyncio.run(run())


def pieces(found: list[Part]) -> list[str]:
    return [part.text for part in found if isinstance(part, TextDelta)]


def test_answers_the_last_user_message() -> None:
    params = {
        "messages": [
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "first"},
            {"role": "user", "content": "the second"},
            {"role": "assistant", "content": "prefill"},
        ]
    }
    response = generate(EchoModel(), params)
    assert response.text == "the second"
    assert response.usage == Usage(input_tokens=5, output_tokens=2)
    assert response.finish_reason == "stop"
    assert response.model == "echo"
    assert response.id is not None
    assert response.created == pytest.approx(time.time(), abs=60)


def test_content_parts_are_joined_and_others_ignored() -> None:
    content = [
        {"type": "text", "text": "a "},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "text", "text": "b"},
    ]
    assert generate(EchoModel(), ask(content)).text == "a b"


@pytest.mark.parametrize("params", [{}, {"messages": []}, {"messages": [{"role": "user", "content": None}]}])
def test_nothing_to_say(params: Params) -> None:
    response = generate(EchoModel(), params)
    assert (response.text, response.usage.output_tokens) == ("", 0)
    found = parts(EchoModel(), params)
    assert isinstance(found[0], ResponseInfo)
    assert isinstance(found[-1], Finish)


def test_streams_word_by_word() -> None:
    found = parts(EchoModel(), ask("  one two\n three "))
    assert pieces(found) == ["  one", " two", "\n three", " "]
    assert isinstance(found[0], ResponseInfo)
    assert found[-1] == Finish("stop", Usage(input_tokens=5, output_tokens=3))


def test_streams_by_characters() -> None:
    assert pieces(parts(EchoModel(chunk_chars=3), ask("abcdefgh"))) == ["abc", "def", "gh"]


def test_chunk_chars_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        EchoModel(chunk_chars=0)


@given(text=st.text(), chunk_chars=st.none() | st.integers(1, 9), limit=st.none() | st.integers(0, 5))
def test_stream_collects_to_generate(text: str, chunk_chars: int | None, limit: int | None) -> None:
    async def run() -> None:
        model, params = EchoModel(chunk_chars=chunk_chars), ask(text)
        if limit is not None:
            params["max_tokens"] = limit
        whole, streamed = await model.generate(params), await collect(model.stream(params))
        streamed.id, streamed.created = whole.id, whole.created  # each call has its own
        assert streamed == whole
        assert limit is not None or whole.text == text

    asyncio.run(run())


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_cuts(name: str) -> None:
    response = generate(EchoModel(), ask("one two three", **{name: 2}))
    assert (response.text, response.finish_reason, response.usage.output_tokens) == ("one two", "length", 2)
    assert generate(EchoModel(), ask("one two", **{name: 2})).finish_reason == "stop"


@pytest.mark.parametrize(("asked", "reported"), [("other", "other"), ("echo/other", "other"), (None, "mine")])
def test_model_of_the_params(asked: str | None, reported: str) -> None:
    assert generate(EchoModel("mine"), ask("x", model=asked)).model == reported


def test_params_stay_as_they_are() -> None:
    params = ask([{"type": "text", "text": "a b c"}], max_tokens=1, unknown={"k": [1]})
    before = copy.deepcopy(params)
    generate(EchoModel(), params)
    parts(EchoModel(), params)
    assert params == before


def test_latency_comes_before_the_answer() -> None:
    begin = time.perf_counter()
    generate(EchoModel(latency=0.05), ask("a b"))
    assert time.perf_counter() - begin >= 0.045


def test_latency_in_a_stream_is_spread() -> None:
    async def run() -> list[float]:
        begin = time.perf_counter()
        return [time.perf_counter() - begin async for _ in EchoModel(latency=0.06).stream(ask("a b c"))]

    times = asyncio.run(run())  # info, three words, finish
    assert times[0] >= 0.055
    assert times[2] - times[1] >= 0.015
    assert times[3] - times[2] >= 0.015


def test_resolve() -> None:
    model = resolve("echo/echo")
    assert isinstance(model, EchoModel)
    assert isinstance(model, LanguageModel)
    assert resolve("echo").model_id == "echo"
    assert resolve("echo/slow").model_id == "slow"
    assert repr(model) == "EchoModel('echo')"

"""simulate_streaming: the answer of `generate`, in pieces, for models without a stream."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import (
    Blocked,
    ConfigError,
    Middleware,
    MiddlewareFactory,
    MiddlewareMetadata,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    ReasoningDelta,
    Response,
    TextDelta,
    ToolCall,
    Usage,
)
from neuro_mw.builtin import simulate_streaming
from neuro_mw.builtin.simulate_streaming import SimulateStreaming, pieces_of
from neuro_mw.builtin.timeout import Timeout
from neuro_mw.testing import ScriptedModel

MODES = ("generate", "stream")
WHOLE = Response(
    text="Hello there. How are you?", reasoning="well then", tool_calls=[ToolCall("c1", "look", '{"at": "you"}')],
    finish_reason="tool_calls", usage=Usage(3, 2), id="r1", model="m", created=1.5, provider_fields={"a": 1},
)  # fmt: skip


class WithoutStream(ScriptedModel):
    def stream(self, params):
        raise AssertionError("this model cannot stream")


def wrap(model, *middlewares):
    return MiddlewareFactory(preset=None, plugins=False, middleware=list(middlewares)).apply_middleware(model)


async def answer(wrapped, mode, **params):
    if mode == "generate":
        return await wrapped.generate("hi", **params)
    async with wrapped.stream("hi", **params) as stream:
        return await stream.response()


async def texts(wrapped, **params):
    async with wrapped.stream("hi", **params) as stream:
        return [part.text async for part in stream if isinstance(part, TextDelta)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("delay_s", [0, 1e-9])
def test_a_model_without_a_stream_gives_the_same_in_both_modes(mode, delay_s):
    model = WithoutStream(WHOLE)
    assert asyncio.run(answer(wrap(model, SimulateStreaming(delay_s=delay_s)), mode)) == WHOLE
    assert [mode for mode, _ in model.calls] == ["generate"]


def test_the_model_is_asked_as_by_generate():
    model = WithoutStream("hi")
    seen = []

    class Watch(Middleware):
        metadata = MiddlewareMetadata(id="watch", priority=120)

        def on_end(self, outcome, context):
            seen.append((context.sent, context.attempts[0].committed, context.attempts[0].usage))

    asyncio.run(answer(wrap(model, Watch(), SimulateStreaming()), "stream", temperature=1))
    params = {"messages": [{"role": "user", "content": "hi"}], "temperature": 1}
    assert model.calls == [("generate", params)]
    assert seen == [(params, True, Usage())]


@pytest.mark.parametrize("stream", [True, False])
def test_what_a_caller_says_about_streaming_changes_nothing(stream):
    model = ScriptedModel("one two three")
    assert len(asyncio.run(texts(wrap(model, _noop()), stream=stream))) > 1
    assert [mode for mode, _ in model.calls] == ["stream"]


def _noop():
    class NoOp(Middleware):
        metadata = MiddlewareMetadata(id="noop")

        def transform_parts(self, params, context):
            return lambda part: part

    return NoOp()


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        ("word", ["Hello", " there.", " How", " are", " you?"]),
        ("sentence", ["Hello there. ", "How are you?"]),
        (10, ["Hello ther", "e. How are", " you?"]),
    ],
)
def test_how_it_is_cut(chunk, expected):
    assert asyncio.run(texts(wrap(WithoutStream(WHOLE), SimulateStreaming(chunk=chunk)))) == expected


@pytest.mark.parametrize(
    ("chunk", "expected"), [("word", ["well", " then"]), ("sentence", ["well then"]), (4, ["well", " the", "n"])]
)
def test_reasoning_is_cut_too(chunk, expected):
    async def read():
        async with wrap(WithoutStream(WHOLE), SimulateStreaming(chunk=chunk)).stream("hi") as stream:
            return [part.text async for part in stream if isinstance(part, ReasoningDelta)]

    assert asyncio.run(read()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('He said "One." Then two. End', ['He said "One." ', "Then two. ", "End"]),
        ("(A first one.) 'And?' Yes!", ["(A first one.) ", "'And?' ", "Yes!"]),
        ("[So.]) It is", ["[So.]) ", "It is"]),
        ("a line\nanother\n\nlast", ["a line\n", "another\n\n", "last"]),
        ("3.5 of them. v1.2", ["3.5 of them. ", "v1.2"]),
        ("一。二！三", ["一。", "二！", "三"]),  # noqa: RUF001  # the full stops of Chinese
        ("Well\u2026 yes", ["Well\u2026 ", "yes"]),
    ],
)
def test_where_sentences_end(text, expected):
    assert list(pieces_of(text, "sentence")) == expected


LETTERS = st.sampled_from("ab .!?\"')\n\t…。！？é\u2028")  # noqa: RUF001  # the full stops of Chinese


@given(st.text(LETTERS), st.sampled_from(["word", "sentence", 1, 2, 7]))
def test_the_pieces_are_the_text(text, chunk):
    pieces = list(pieces_of(text, chunk))
    assert "".join(pieces) == text
    assert all(pieces)
    if isinstance(chunk, int):
        assert [len(piece) for piece in pieces[:-1]] == [chunk] * (len(pieces) - 1)
    if chunk == "word":
        assert all(len(piece.split()) <= 1 for piece in pieces)


@pytest.mark.parametrize("chunk", ["word", "sentence"])
@pytest.mark.parametrize("text", [" " * 200_000, "." * 200_000, "." + '"' * 200_000, "\n" * 200_000])
def test_no_text_takes_long_to_cut(chunk, text):
    assert "".join(pieces_of(text, chunk)) == text  # with quadratic time this would take minutes


def test_a_pause_before_each_piece_but_the_first(monkeypatch):
    pauses, left = [], []

    async def sleep(delay_s):
        pauses.append((delay_s, len(left)))

    monkeypatch.setattr(simulate_streaming, "sleep", sleep)

    async def read():
        async with wrap(WithoutStream("a b c"), SimulateStreaming(delay_s=0.5)).stream("hi") as stream:
            async for part in stream:
                if isinstance(part, TextDelta):
                    left.append(part.text)

    asyncio.run(read())
    assert (pauses, left) == ([(0.5, 1), (0.5, 2)], ["a", " b", " c"])


def test_the_pause_is_made_between_reasoning_and_text_too(monkeypatch):
    """But for the first piece of all, whatever it is."""
    order = []

    async def sleep(delay_s):
        order.append("pause")

    monkeypatch.setattr(simulate_streaming, "sleep", sleep)

    async def read():
        whole = Response(text="a b", reasoning="so so", tool_calls=[ToolCall("c1", "look", "{}")])
        async with wrap(WithoutStream(whole), SimulateStreaming(delay_s=0.5)).stream("hi") as stream:
            async for part in stream:
                if isinstance(part, TextDelta | ReasoningDelta):
                    order.append(part.text)

    asyncio.run(read())
    assert order == ["so", "pause", " so", "pause", "a", "pause", " b"]


def test_whoever_leaves_during_a_pause_is_gone_at_once():
    async def read():
        wrapped = wrap(WithoutStream("a b c"), SimulateStreaming(delay_s=3600))
        seen = []

        async def reading():
            async with wrapped.stream("hi") as stream:
                async for part in stream:
                    seen.append(part)

        task = asyncio.create_task(reading())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return seen

    assert asyncio.run(read()) == [TextDelta("a")]


def test_the_inner_stream_is_closed_with_it():
    closed = []

    async def do_stream(params):
        try:
            yield TextDelta("a b c")
        finally:
            closed.append(params)

    async def leave():
        parts = SimulateStreaming().wrap_stream(do_stream, {"seed": 1}, None)
        assert await anext(parts) == TextDelta("a")
        await parts.aclose()
        return list(closed)

    assert asyncio.run(leave()) == [{"seed": 1, "stream": False}]


@pytest.mark.parametrize("mode", MODES)
def test_failures_and_blocks_pass(mode):
    down = ProviderUnavailable("down", provider="openai", model="gpt-4o")
    with pytest.raises(ProviderUnavailable):
        asyncio.run(answer(wrap(WithoutStream(error=down), SimulateStreaming()), mode))

    class Guard(Middleware):
        metadata = MiddlewareMetadata(id="inner_guard", priority=10, kind="guard")

        async def wrap_generate(self, do_generate, params, context):
            raise Blocked("no, not this")

    response = asyncio.run(answer(wrap(WithoutStream(), Guard(), SimulateStreaming()), mode))
    assert (response.blocked.middleware, response.text) == ("inner_guard", "no, not this")


def test_generate_is_not_delayed(monkeypatch):
    monkeypatch.setattr(simulate_streaming, "sleep", None)
    assert asyncio.run(answer(wrap(WithoutStream(WHOLE), SimulateStreaming(delay_s=3600)), "generate")) == WHOLE


@pytest.mark.parametrize(
    ("options", "key"),
    [({"chunk": 0}, "chunk"), ({"chunk": "line"}, "chunk"), ({"delay_s": -1}, "delay_s"),
     ({"delay_s": float("inf")}, "delay_s"), ({"delay_s": True}, "delay_s"), ({"pause": 1}, "pause")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options, key):
    with pytest.raises(ConfigError) as error:
        SimulateStreaming(options)
    assert error.value.key == f"middleware.simulate_streaming.config.{key}"


@pytest.mark.parametrize("chunk", [0, -1, True, False, "x", "4", "", 1.5, 4.0, None, ["word"], {}], ids=repr)
def test_a_wrong_chunk_says_what_is_expected(chunk):
    with pytest.raises(ConfigError) as error:
        SimulateStreaming(chunk=chunk)
    assert error.value.key == "middleware.simulate_streaming.config.chunk"
    assert str(error.value).endswith("Expected 'word', 'sentence' or a number of characters")


@pytest.mark.parametrize("chunk", ["word", "sentence", 1, 10**9])
def test_a_right_one_is_taken_as_it_is(chunk):
    assert SimulateStreaming(chunk=chunk).config.chunk == chunk


def test_a_model_without_a_stream_says_so_with_none():
    """Whoever has no such attribute may be something else altogether."""

    class Whole:
        provider, model_id = "openai", "gpt-4o"

        async def generate(self, params):
            return WHOLE

    with pytest.raises(ConfigError, match="Whole has no 'stream'"):
        wrap(Whole(), SimulateStreaming())
    Whole.stream = None
    for mode in MODES:
        assert asyncio.run(answer(wrap(Whole(), SimulateStreaming()), mode)) == WHOLE


def test_a_pause_above_idle_s_of_a_timeout_is_too_long():
    layers = SimulateStreaming(delay_s=0.2), Timeout(idle_s=0.02)
    with pytest.raises(ProviderTimeout, match=r"idle_s=0\.02"):
        asyncio.run(answer(wrap(WithoutStream("one two"), *layers), "stream"))


def test_a_model_without_streams_says_what_to_do():
    class Whole(ScriptedModel):
        stream = None

    with pytest.raises(ProviderError, match="openai/gpt-4o has no stream: switch on simulate_streaming"):
        asyncio.run(answer(wrap(Whole(), Timeout(total_s=60)), "stream"))
    assert asyncio.run(answer(wrap(Whole(), SimulateStreaming()), "stream")).text == "hello"

"""Server-sent events: what the standard says, for any cut."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw.parts import Collector
from neuro_mw.providers._sse import SSEReader
from neuro_mw.providers.openai_compatible import OpenAICompatibleModel
from neuro_mw.testing import StubOpenAI
from neuro_mw.types import Response


def read(stream: bytes, cuts: list[int] | None = None, *, ended: bool = False) -> list[tuple[bytes, bytes]]:
    reader, events = SSEReader(), []
    ends = [0, *sorted(cut % (len(stream) + 1) for cut in cuts or ()), len(stream)]
    for start, end in pairwise(ends):
        events += reader.feed(stream[start:end])
    return events + reader.end() if ended else events


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [(b"", b"a")]),
        (b"data:a\n\n", [(b"", b"a")]),
        (b"data:  a \n\n", [(b"", b" a ")]),  # one space goes, and one only
        (b"data: a\r\ndata: b\r\n\r\n", [(b"", b"a\nb")]),
        (b"data: a\rdata: b\r\r", [(b"", b"a\nb")]),
        (b"data\ndata\n\n", [(b"", b"\n")]),
        (b"data\n\n", [(b"", b"")]),
        (b": comment\ndata: a\n: more\n\n", [(b"", b"a")]),
        (b"event: ping\ndata: a\n\ndata: b\n\n", [(b"ping", b"a"), (b"", b"b")]),
        (b"event: ping\n\ndata: b\n\n", [(b"", b"b")]),  # an event without data is none, and its name is forgotten
        (b"event: a\nevent\ndata: b\n\n", [(b"", b"b")]),
        (b"id: 1\nretry: 5\nunknown: x\ndatax: y\ndata: a\n\n", [(b"", b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
        (b"\n\n\n", []),
        (b"data: a\n", []),
        (b"data: a: b\n\n", [(b"", b"a: b")]),
    ],
)
def test_the_standard_for_every_cut(stream: bytes, expected: list[tuple[bytes, bytes]]) -> None:
    assert read(stream) == expected
    for cut in range(len(stream) + 1):
        assert read(stream, [cut]) == expected, cut
    assert read(stream, list(range(len(stream)))) == expected


def test_an_end_without_its_blank_line() -> None:
    assert read(b"data: a\n\ndata: b", ended=True) == [(b"", b"a"), (b"", b"b")]
    assert read(b"data: a\r", ended=True) == [(b"", b"a")]
    assert read(b"data: a\n\n", ended=True) == [(b"", b"a")]


line = st.text(alphabet=st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)))
event = st.tuples(line, st.lists(line, min_size=1, max_size=3), st.lists(line.map(lambda text: f":{text}"), max_size=2))


@given(events=st.lists(event, max_size=5), newline=st.sampled_from(["\n", "\r\n", "\r"]), cuts=st.lists(st.integers(0)))
def test_what_is_written_is_read(
    events: list[tuple[str, list[str], list[str]]], newline: str, cuts: list[int]
) -> None:
    written = ""
    for name, data, comments in events:
        lines = [f"event: {name}", *comments, *(f"data: {one}" for one in data), "", ""]
        written += newline.join(lines)
    stream = written.encode()
    expected = [(name.encode(), "\n".join(data).encode()) for name, data, _ in events]
    assert read(stream, cuts) == expected
    assert read(stream, list(range(len(stream)))) == expected


def test_a_long_line_in_many_pieces_takes_linear_time() -> None:
    reader, piece = SSEReader(), b"x" * 64
    assert reader.feed(b"data: ") == []
    for _ in range(100_000):  # quadratic copying would move hundreds of gigabytes
        reader.feed(piece)
    (_, data), = reader.feed(b"\n\n")
    assert len(data) == 6_400_000


ANSWER = (
    b': hello\r\n\r\ndata: {"id":"x","created":5,"model":"m","choices":[{"index":0,"delta":{"role":"assistant",'
    b'"content":"\xc3\xa4"}}]}\n\nevent: message\nid: 7\ndata: {"id":"x","created":5,"model":"m",\r\n'
    b'data: "choices":[{"index":0,"delta":{"content":"\xf0\x9f\x98\x80b"},"finish_reason":null}]}\r\n\r\n'
    b'data: {"id":"x","created":5,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c",'
    b'"function":{"name":"f","arguments":"{\\"a\\": 1}"}}]},"finish_reason":"tool_calls"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
)


def test_every_byte_cut_of_a_stream_gives_the_same_answer() -> None:
    """Over HTTP, one connection, one request for each place at which the body can be cut."""

    async def answers(model: OpenAICompatibleModel) -> list[Response]:
        found = []
        for cut in range(len(ANSWER)):
            stub.reply(raw=ANSWER, cuts=[cut] if cut else range(1, len(ANSWER)))
            collector = Collector()
            async for part in model.stream({"messages": []}):
                collector.add(part)
            found.append(collector.response())
        return found

    with StubOpenAI() as stub:
        found = asyncio.run(answers(OpenAICompatibleModel("mine", "m", base_url=stub.base_url)))
        assert stub.connections == 1
    assert found[0].text == "ä\U0001f600b"
    assert found[0].tool_calls[0].arguments == '{"a": 1}'
    assert (found[0].finish_reason, found[0].usage.output_tokens) == ("tool_calls", 2)
    assert all(one == found[0] for one in found)

"""Stream.partial_object: what can be read so far of the JSON in a stream's text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import Blocked, RequestBlocked, Response, TextDelta, middleware
from neuro_mw.testing import ScriptedModel

from .chain.conftest import run, wrap


def passing():
    return middleware("pass", transform_parts=lambda params, context: lambda part: part)


async def seen(text, cuts=(1,), **options):
    """What can be read at each part of a stream, and at its end."""
    response = text if isinstance(text, Response) else Response(text=text)
    async with wrap(ScriptedModel(response, cuts=cuts), passing(), **options).stream("hi") as stream:
        found = [stream.partial_object()]
        async for part in stream:
            if isinstance(part, TextDelta):
                found.append(stream.partial_object())
        return [*found, stream.partial_object()]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"a": [1, "xy"]}', [None, {}, {}, {}, {}, {}, {}, {"a": []}, {"a": [1]}, {"a": [1]}, {"a": [1]},
                              {"a": [1, ""]}, {"a": [1, "x"]}, {"a": [1, "xy"]}]),
        ("[true", [None, [], [], [], [], [True]]),
        ('"ab"', [None, "", "a", "ab"]),
        ("42", [None, 4, 42]),
        ("nul", [None] * 4),
        ("so {x} {} {", [None] * 4 + [{}, None, None, None, {}]),
        ("[note] [t", [None, [], [], None, None, None, None, None, [], []]),
        ("[see] [1]", [None, [], None, None, None, None, None, [], [1]]),
        ("", [None, None]),
    ],
)  # fmt: skip
def test_the_latest_prefix(text, wanted):
    got = run(seen(text))
    assert got[: len(wanted)] == wanted
    assert all(one == wanted[-1] for one in got[len(wanted) :])


@pytest.mark.parametrize("text", ['```json\n{"a": 1}\n```', 'Here: {"a": 1} [2]', '\n {"a": 1}'])
def test_behind_prose_and_fences(text):
    assert run(seen(text, cuts=[3]))[-1] == {"a": 1}


@pytest.mark.parametrize(
    "text",
    ['{"a": NaN}', "[" * 10_000, '{"a": "\ud800', '{"a": "\\ud800"}', '{"a" 1}', '{"a": 1,,}', "plain prose", "{"],
)
def test_what_cannot_be_read_raises_nothing(text):
    assert run(seen(text, cuts=[1000]))[-1] in (None, {})


@given(st.dictionaries(st.text(), st.lists(st.text() | st.integers()), max_size=3), st.integers(1, 7))
def test_at_the_end_it_is_the_value_and_before_a_part_of_it(value, size):
    *before, last = run(seen(json.dumps(value), cuts=[size]))
    assert last == value
    for one in before[1:]:
        assert set(one or {}) <= set(value)


def test_text_alone_counts():
    response = Response(text='{"a": 1}', reasoning='{"b": 2}')
    assert run(seen(response))[-1] == {"a": 1}


def test_a_sync_stream_has_it_too():
    wrapped = wrap(ScriptedModel('{"a": "bcd"}', cuts=[8]), passing())
    with wrapped.stream_sync("hi") as stream:
        assert [stream.partial_object(), *(stream.partial_object() for _ in stream)] == [
            None, {"a": "b"}, {"a": "bcd"}, {"a": "bcd"},
        ]  # fmt: skip
        assert stream.partial_object() == {"a": "bcd"}


def test_what_is_withheld_is_not_shown():
    """With on_block="raise" the consumer gets no refusal's text."""

    async def refuse(do_generate, params, context):
        raise Blocked("no", message='{"secret": 1}')

    async def read():
        guard = middleware("guard", kind="guard", wrap_generate=refuse)
        async with wrap(ScriptedModel(), guard, on_block="raise").stream("hi") as stream:
            with pytest.raises(RequestBlocked):
                await stream.response()
            return stream.partial_object()

    assert run(read()) is None


def test_it_loads_pydantic_core_when_it_is_called():
    import subprocess
    import sys

    program = "import sys, neuro_mw.model; print('pydantic_core' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"

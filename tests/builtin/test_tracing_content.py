"""tracing: no word of a call on a span, unless it is asked for; then what was sent and what left the guards."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import StatusCode
from test_tracing import ANSWER, Sdk, blocking

from neuro_mw import Blocked, ProviderTimeout, RequestBlocked, Response, TextDelta, ToolCall, middleware
from neuro_mw.builtin.guardrails import Guardrails
from neuro_mw.builtin.otel.content import Content
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel
from tests.chain.conftest import MODES, call, run, wrap

VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
INPUT, OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"
STOP = "gen_ai.request.stop_sequences"


@pytest.fixture
def sdk(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    return Sdk()


def told(span):
    """Everything that a span says."""
    return span.to_json()


def messages(span, which):
    return json.loads(span.attributes[which])


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_told_unless_asked_for(sdk, mode):
    error = ProviderTimeout("not XANADU", provider="openai", model="gpt-4o")
    for model in (
        ScriptedModel(Response(text="answer XANADU", reasoning="XANADU")),
        FaultyModel(faults=[Fault(0, error)]),
    ):
        chain = wrap(model, sdk.tracing(middleware_spans=True), middleware("in", on_end=lambda outcome, context: None))
        with contextlib.suppress(ProviderTimeout):
            run(call(chain, mode, "prompt XANADU", user="XANADU", api_key="XANADU"))
    assert len(sdk.spans) == 6
    assert not any("XANADU" in told(span) for span in sdk.spans)
    assert "XANADU" not in sdk.reader.get_metrics_data().to_json()


@pytest.mark.parametrize(("value", "option", "wanted"), [
    ("true", None, True), ("True ", None, True), ("SPAN_ONLY", None, True), ("span_and_event", None, True),
    ("false", None, False), ("", None, False), ("event_only", None, False), ("1", None, False),
    ("true", False, False), ("false", True, True),
])  # fmt: skip
def test_who_asks_for_content(sdk, monkeypatch, value, option, wanted):
    monkeypatch.setenv(VARIABLE, value)
    run(call(wrap(ScriptedModel("x"), sdk.tracing(capture_content=option)), "generate"))
    assert (INPUT in sdk.span.attributes) is wanted
    assert (OUTPUT in sdk.span.attributes) is wanted


@pytest.mark.parametrize("mode", MODES)
def test_messages_in_the_form_of_the_conventions(sdk, mode):
    asked = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"type": "file", "file": {"file_data": "AAAA"}},
        ]},
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}},
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]  # fmt: skip
    run(call(wrap(FaultyModel(ANSWER, cuts=[2]), sdk.tracing(capture_content=True)), mode, None, messages=asked))
    assert messages(sdk.span, INPUT) == [
        {"role": "system", "parts": [{"type": "text", "content": "be brief"}]},
        {"role": "user", "parts": [
            {"type": "text", "content": "look"},
            {"type": "uri", "modality": "image", "uri": "https://example.org/a.png"},
            {"type": "blob", "modality": "image", "content": ""},
            {"type": "blob", "modality": "audio", "content": ""},
            {"type": "file"},
        ]},
        {"role": "assistant", "parts": [
            {"type": "reasoning", "content": "hm"},
            {"type": "tool_call", "id": "c1", "name": "look", "arguments": {"at": "it"}},
        ]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rain"}]},
    ]  # fmt: skip
    assert messages(sdk.span, OUTPUT) == [{
        "role": "assistant",
        "parts": [
            {"type": "reasoning", "content": "well"},
            {"type": "text", "content": "hello world"},
            {"type": "tool_call", "id": "c1", "name": "look", "arguments": {"at": "it"}},
        ],
        "finish_reason": "tool_call",
    }]  # fmt: skip
    assert "neuro_mw.content_truncated" not in sdk.span.attributes


@pytest.mark.parametrize("mode", MODES)
@given(cuts=st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_what_was_sent_and_what_left_the_guards(mode, cuts):
    """Never the raw prompt, and never the raw answer, for any cut of it."""
    sdk = Sdk()
    guard = Guardrails(bad_words=["swordfish"], action="redact")
    model = FaultyModel("it is swordfish, yes", cuts=cuts)
    run(call(wrap(model, sdk.tracing(capture_content=True), guard), mode, "is it swordfish?"))
    assert "swordfish" not in told(sdk.span)
    assert messages(sdk.span, INPUT)[0]["parts"][0]["content"].startswith("is it ")
    assert messages(sdk.span, OUTPUT)[0]["parts"][0]["content"].endswith(", yes")


@pytest.mark.parametrize("hook", ["transform_params", "transform_parts"])
@pytest.mark.parametrize("mode", MODES)
def test_nothing_where_a_guard_refused(sdk, mode, hook):
    run(call(wrap(ScriptedModel("x"), sdk.tracing(capture_content=True), blocking(hook)), mode, "prompt XANADU"))
    assert sdk.span.attributes["neuro_mw.status"] == "blocked"
    assert INPUT not in sdk.span.attributes
    assert OUTPUT not in sdk.span.attributes
    assert "XANADU" not in told(sdk.span)


def test_nothing_where_a_guard_refused_in_mid_stream(sdk):
    def late(params, context):
        def check(part):
            if isinstance(part, TextDelta) and "c" in part.text:
                raise Blocked("no")
            return part

        return check

    guard = middleware("guard", kind="guard", transform_parts=late)
    response = run(call(wrap(FaultyModel("aabbcc", cuts=[2]), sdk.tracing(capture_content=True), guard), "stream"))
    assert (response.text, response.blocked is not None) == ("aabb", True)
    assert OUTPUT not in sdk.span.attributes
    assert INPUT not in sdk.span.attributes


@pytest.mark.parametrize("mode", MODES)
def test_nothing_where_a_guard_of_the_model_refused(sdk, mode):
    """A wrapped model inside raises its refusal, before its first part or in mid-stream."""

    def late(params, context):
        def check(part):
            if isinstance(part, TextDelta) and "c" in part.text:
                raise Blocked("no")
            return part

        return check

    guard = middleware("guard", kind="guard", transform_parts=late)
    inner = wrap(FaultyModel("aabbcc", cuts=[2]), guard, on_block="raise")
    with pytest.raises(RequestBlocked):
        run(call(wrap(inner, sdk.tracing(capture_content=True)), mode, "prompt XANADU", stop=["XANADU"]))
    assert not {INPUT, OUTPUT, STOP} & set(sdk.span.attributes)
    assert "XANADU" not in told(sdk.span)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("content", [False, True])
def test_texts_that_end_an_answer_are_content(sdk, mode, content):
    hide = middleware("hide", transform_params=lambda params, context: {**params, "stop": ["sent", "\ud800"]})
    chain = wrap(ScriptedModel("x"), sdk.tracing(capture_content=content), hide)
    run(call(chain, mode, "hi", stop="XANADU"))
    assert sdk.span.attributes.get(STOP) == (("sent", "?") if content else None)
    sdk.exporter.clear()
    run(call(wrap(ScriptedModel("x"), sdk.tracing(capture_content=content), blocking("transform_params")), mode, "hi",
             stop="XANADU"))  # fmt: skip
    assert STOP not in sdk.span.attributes
    assert "XANADU" not in told(sdk.span)


HOLDS_ITSELF = []
HOLDS_ITSELF.append(HOLDS_ITSELF)
ODD = {
    "deep": {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[" * 30_000}}]},
    "deep and whole": {"role": "assistant", "tool_calls": [{"function": {"arguments": "[" * 900 + "]" * 900}}]},
    "keys": {"role": "tool", "content": [{1: 2, ("x",): 3}], "tool_call_id": object()},
    "holds itself": {"role": "tool", "content": HOLDS_ITSELF},
    "no number": {"role": "assistant", "tool_calls": [{"function": {"arguments": "[NaN, 1e999]"}}]},
    "arguments": {"role": "assistant", "tool_calls": [{"id": object(), "function": {"arguments": {("a",): object()}}}]},
    "role": {"role": ["user"], "content": [{"type": {}}, {"type": [], "image_url": 5}]},
}


def no_constant(name):
    raise AssertionError(name)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("mode", MODES)
def test_odd_messages_spoil_no_span(sdk, mode, odd, fails):
    """Of whatever call: a span says how it ended, and what it used."""
    error = ProviderTimeout("late", provider="openai", model="gpt-4o")
    model = FaultyModel(ANSWER, faults=[Fault(0, error)] if fails else [])
    chain = wrap(model, sdk.tracing(capture_content=True))
    with pytest.raises(ProviderTimeout) if fails else contextlib.nullcontext():
        run(call(chain, mode, None, messages=[{"role": "user", "content": "hi"}, odd]))
    found = sdk.span.attributes
    assert found["neuro_mw.status"] == ("failed" if fails else "completed")
    assert found.get("gen_ai.usage.input_tokens") == (None if fails else 3)
    assert len(sdk.events("neuro_mw.attempt")) == 1
    first, _ = json.loads(found[INPUT], parse_constant=no_constant)
    assert first["parts"] == [{"type": "text", "content": "hi"}]


@pytest.mark.parametrize("mode", MODES)
def test_odd_answers_spoil_no_span(sdk, mode):
    answer = Response(tool_calls=[ToolCall("c1", "look", "[" * 30_000)], finish_reason="tool_calls")
    run(call(wrap(FaultyModel(answer), sdk.tracing(capture_content=True)), mode))
    assert sdk.span.attributes["neuro_mw.status"] == "completed"
    assert messages(sdk.span, OUTPUT)[0]["parts"][0]["arguments"] == "[" * 30_000


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_content_that_cannot_be_told_leaves_all_else(sdk, mode, fails, monkeypatch):
    def broken(self, messages):
        raise ValueError("odd")

    monkeypatch.setattr(Content, "input", broken)
    error = ProviderTimeout("late", provider="openai", model="gpt-4o")
    chain = wrap(FaultyModel(ANSWER, faults=[Fault(0, error)] if fails else []), sdk.tracing(capture_content=True))
    with pytest.raises(ProviderTimeout) if fails else contextlib.nullcontext():
        run(call(chain, mode))
    found = sdk.span.attributes
    assert (sdk.span.status.status_code is StatusCode.ERROR) is fails
    assert found["neuro_mw.status"] == ("failed" if fails else "completed")
    assert (OUTPUT in found) is (not fails or mode == "stream")
    assert len(sdk.events("neuro_mw.attempt")) == 1
    assert sdk.count("gen_ai.client.operation.duration") == 1


@pytest.mark.parametrize("mode", MODES)
def test_no_input_where_nothing_was_sent(sdk, mode):
    async def short(do_generate, params, context):
        return Response(text="kept")

    chain = wrap(ScriptedModel("x"), sdk.tracing(capture_content=True), middleware("short", wrap_generate=short))
    run(call(chain, mode, "raw XANADU"))
    assert "XANADU" not in told(sdk.span)
    assert messages(sdk.span, OUTPUT)[0]["parts"] == [{"type": "text", "content": "kept"}]


@pytest.mark.parametrize("mode", MODES)
def test_no_input_where_this_passage_asked_nobody(sdk, mode):
    """Though another one of the same call did."""

    async def twice(do_generate, params, context):
        await do_generate(params)
        return await do_generate({**params, "short": True})

    async def short(do_generate, params, context):
        return Response(text="kept") if "short" in params else await do_generate(params)

    layers = [middleware("hedge", kind="control", priority=130, wrap_generate=twice),
              sdk.tracing(capture_content=True), middleware("short", wrap_generate=short)]  # fmt: skip
    run(call(wrap(ScriptedModel("asked"), *layers), mode, "hello"))
    asked, not_asked = sdk.spans
    assert "hello" in asked.attributes["gen_ai.input.messages"]
    assert "gen_ai.input.messages" not in not_asked.attributes
    assert "kept" in not_asked.attributes["gen_ai.output.messages"]


def test_of_an_abandoned_stream_what_was_let_go(sdk):
    async def main():
        async with wrap(FaultyModel("abcdef", cuts=[2]), sdk.tracing(capture_content=True)).stream("hi") as stream:
            async for part in stream:
                if isinstance(part, TextDelta):
                    break

    run(main())
    (message,) = messages(sdk.span, OUTPUT)
    assert message == {"role": "assistant", "parts": [{"type": "text", "content": "ab"}], "finish_reason": "error"}


@pytest.mark.parametrize("mode", MODES)
def test_long_content_is_cut_and_says_so(sdk, mode):
    history = [{"role": "user", "content": "x" * 50}, {"role": "user", "content": "y" * 8}]
    chain = wrap(ScriptedModel("z" * 30), sdk.tracing(capture_content=True, max_content_chars=10))
    run(call(chain, mode, None, messages=history))
    assert messages(sdk.span, INPUT)[-1]["parts"][0]["content"] == "y" * 8
    assert messages(sdk.span, OUTPUT)[0]["parts"][0]["content"] == "z" * 10
    assert sdk.span.attributes["neuro_mw.content_truncated"] is True


KEYS = st.sampled_from(
    ["role", "content", "text", "type", "tool_calls", "function", "arguments", "image_url", "url", "custom", "name"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(history=ANYTHING, limit=st.integers(1, 40))
def test_whatever_the_messages_are_it_is_json_within_the_limit(history, limit):
    content = Content(limit)
    found = json.loads(content.input(history))
    assert isinstance(found, list)
    texts = [part.get("content") for message in found for part in message["parts"] if part["type"] == "text"]
    assert sum(map(len, texts)) <= limit


MANY = {
    "parts": [{"role": "user", "content": [{"type": "text", "text": "abc"}] * 5000}],
    "empty parts": [{"role": "user", "content": [{"type": "text", "text": ""}] * 5000}],
    "unknown parts": [{"role": "user", "content": [{"type": "x" * 500}] * 5000}],
    "data": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA"}}] * 5000}],
    "empty messages": [{"role": "user", "content": ""}] * 5000,
    "messages without anything": [{"role": "u" * 5000}] * 5000,
    "calls": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": ""}}] * 5000}],
    "names": [{"role": "assistant", "tool_calls": [{"id": "i" * 5000, "function": {"name": "n" * 5000}}] * 50}],
    "answers": [{"role": "tool", "tool_call_id": "i" * 5000, "content": ""}] * 50,
}


@pytest.mark.parametrize("many", MANY.values(), ids=MANY)
def test_the_limit_bounds_what_is_no_text_as_well(many):
    content = Content(8)
    assert len(content.input(many)) < 8 * (64 + 60)
    assert content.truncated


def test_the_limit_bounds_an_answer_and_what_ends_it():
    content = Content(8)
    calls = [ToolCall("i" * 500, "n" * 500, "{}"), *[ToolCall("", "", "")] * 5000]
    assert len(content.output(Response(text="x", tool_calls=calls, finish_reason="y" * 500))) < 500
    assert content.truncated
    assert content.stop_sequences(["abc"] * 5000) == ("abc", "abc", "ab")
    assert len(content.stop_sequences([""] * 5000)) == 8


def test_half_a_surrogate_pair_is_replaced():
    text = Content(99).input([{"role": "user", "content": "a\ud800b"}])
    assert text.encode("utf-8")
    assert json.loads(text)[0]["parts"][0]["content"] == "a?b"

"""tool_guard: which calls leave an answer, alike in both modes, for every cut and every order of deltas."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_mw import (
    Block,
    ConfigError,
    Finish,
    MiddlewareError,
    MiddlewareFactory,
    ProviderDelta,
    ReasoningDelta,
    Response,
    ResponseInfo,
    StreamInterrupted,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    collect,
    middleware,
)
from neuro_mw.builtin.tool_guard import ToolGuard
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel
from tests.builtin.tool_calls import PARIS, TOOLS, WEATHER, Parts, calling, function, kinds, read
from tests.chain.conftest import MODES, call, run, wrap

both = pytest.mark.parametrize("mode", MODES)


def guarded(response, mode, guard=None, *, cuts=(3,), tools=TOOLS, **params):
    """The answer that leaves the guard."""
    model = ScriptedModel(response, cuts=cuts) if isinstance(response, Response) else response
    if tools is not None:
        params["tools"] = tools
    return run(call(wrap(model, guard or ToolGuard()), mode, **params))


def rules(response):
    """The rules that are told of, in a refusal or on the answer."""
    told = response.blocked.detail if response.blocked else response.metadata["tool_guard"]
    return [one["rule"] for one in told["violations"]]


# --- the rules --------------------------------------------------------------------------------------------------------


@both
def test_calls_that_fit_leave_as_they_came(mode):
    answer = calling("weather", ("file_read", "{}"), text="let me see", id="r1", model="m", created=1.0,
                     provider_fields={"a": 1, "tool_call_fields": {"c1": {"caller": "x"}}}, reasoning="hm")  # fmt: skip
    found = guarded(answer, mode)
    assert found.metadata.pop("tool_guard") == {"judged": 2, "dropped": 0, "violations": [], "reasks": 0}
    assert found == answer


@both
def test_an_answer_without_calls_is_not_touched(mode):
    answer = Response(text="hello", reasoning="hm", usage=Usage(1, 1), provider_fields={"a": [1]})
    guard = ToolGuard(allow=[], max_calls=0)
    assert guarded(answer, mode, guard) == answer
    assert guarded(Response(), mode, guard) == Response()
    assert guard.tally.counts() == {}


BROKEN = [
    ("unknown", "format_disk", {}, {}),
    ("unknown", "Weather", {}, {}),
    ("unknown", "", {}, {}),
    ("unknown", "weather", {}, {"tools": None}),
    ("unknown", "weather", {}, {"tools": []}),
    ("unknown", "weather", {}, {"tools": {"weather": 1}}),
    ("denied", "file_delete", {"deny": ["file_d*"]}, {}),
    ("denied", "file_delete", {"allow": ["file_*"], "deny": ["*delete"]}, {}),
    ("denied", "weather", {"allow": ["file_?ead"]}, {}),
    ("denied", "weather", {"allow": []}, {}),
    ("not_chosen", "weather", {}, {"tool_choice": "none"}),
    ("not_chosen", "weather", {}, {"tool_choice": {"type": "none"}}),
    ("not_chosen", "weather", {}, {"tool_choice": {"type": "function", "function": {"name": "file_read"}}}),
    ("not_chosen", "weather", {}, {"tool_choice": {"type": "tool", "name": "file_read"}}),
    ("not_chosen", "weather", {}, {"extra_body": {"tool_choice": "none"}}),
    ("not_chosen", "weather", {}, {"tool_choice": {
        "type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [function("file_read")]}}}),
    ("unknown", "weather", {}, {"extra_body": {"tools": [function("other")]}}),
    ("arguments", ("weather", "{}"), {}, {}),
    ("arguments", ("weather", '{"city": 5}'), {}, {}),
    ("arguments", ("weather", '{"city": "Paris", "planet": "Mars"}'), {}, {}),
    ("arguments", ("weather", '{"city": "Paris", "days": 11}'), {}, {}),
    ("arguments", ("weather", '{"city": "Par'), {}, {}),
    ("arguments", ("weather", ""), {}, {}),
    ("arguments", ("file_read", "null"), {}, {}),
    ("arguments", ("file_read", "[]"), {}, {}),
    ("arguments", ("file_read", '"{}"'), {}, {}),
    ("arguments", ("file_read", "{} {}"), {}, {}),
    ("arguments", ("file_read", '{"a": 1, "a": 2}'), {}, {}),
    ("arguments", ("file_read", '{"a": NaN}'), {}, {}),
    ("arguments", ("file_read", '{"a": 1e999}'), {}, {}),
    ("arguments", ("file_read", '{"a": ' + "9" * 5000 + "}"), {}, {}),
    ("arguments", ("file_read", '{"a": ' + "[" * 10_000 + "]" * 10_000 + "}"), {}, {}),
    ("arguments", ("file_read", '{"a": ' + "[" * 100 + "]" * 100 + "}"), {}, {}),
    ("arguments", ("file_read", '{"a": [' + "0," * 20_001 + "0]}"), {}, {}),
    ("max_calls", "weather", {"max_calls": 0}, {}),
]  # fmt: skip


@both
@pytest.mark.parametrize(("rule", "broken", "options", "params"), BROKEN)
def test_what_breaks_a_rule(mode, rule, broken, options, params):
    params = {"tools": TOOLS, **params}
    guard = ToolGuard(**options)
    found = guarded(calling(broken), mode, guard, **params)
    assert (found.blocked.middleware, found.blocked.category) == ("tool_guard", "tool")
    assert (found.text, found.tool_calls) == (f"a tool call was refused: {rule}", [])
    assert found.finish_reason == "content_filter"
    assert found.usage == Usage(5, 3)
    name = broken if isinstance(broken, str) else broken[0]
    assert found.blocked.detail == {
        "judged": 1, "dropped": 0, "violations": [{"tool": name, "rule": rule}], "reasks": 0,
    }  # fmt: skip
    assert guard.tally.counts() == {"judged": 1, rule: 1}

    guard = ToolGuard(**options, on_violation="drop")
    found = guarded(calling(broken, text="so"), mode, guard, **params)
    assert (found.text, found.tool_calls, found.finish_reason, found.blocked) == ("so", [], "stop", None)
    assert found.metadata["tool_guard"]["violations"] == [{"tool": name, "rule": rule}]
    assert guard.tally.counts() == {"judged": 1, rule: 1, "dropped": 1}


FINE = [
    ("weather", {"allow": ["w*"]}, {}),
    ("file_delete", {"deny": ["File_*", "file"]}, {}),
    (("file_read", ""), {}, {}),
    (("file_read", "  "), {}, {}),
    (("file_read", '{"a": ' + "[" * 60 + "]" * 60 + "}"), {}, {}),
    (("file_read", '{"a": "' + "[,{" * 30_000 + '"}'), {}, {}),
    (("file_read", '{"a": "' + "x" * 1_000_000 + '"}'), {}, {}),
    (("file_read", r'{"a": "\ud800"}'), {}, {}),
    (("file_read", '{"a": "\ud800"}'), {}, {}),
    ("weather", {"max_calls": 1}, {}),
    ("weather", {}, {"tool_choice": "auto"}),
    ("weather", {}, {"tool_choice": "required"}),
    ("weather", {}, {"tool_choice": {"type": "any"}}),
    ("weather", {}, {"tool_choice": {"type": "function", "function": {"name": "weather"}}}),
    ("weather", {}, {"tools": None, "functions": [{"name": "weather", "parameters": WEATHER}]}),
    ("weather", {}, {"tools": [{"name": "weather", "input_schema": WEATHER}]}),
    ("weather", {}, {"tools": [{"type": "custom", "name": "weather", "input_schema": WEATHER}]}),
    ("weather", {}, {"tools": [{"type": "function", "name": "weather", "parameters": WEATHER}]}),
    ("weather", {}, {"extra_body": {"tools": [function("weather")]}, "tools": []}),
    (("bash", '{"command": "ls"}'), {}, {"tools": [{"type": "bash_20250124", "name": "bash"}]}),
    (("computer", '{"x": 1}'), {}, {"tools": [
        {"type": "computer_20250124", "function": {"name": "computer", "parameters": {"minimum": "1 px"}}}]}),
    (("run", "rm: no JSON at all"), {}, {"tools": [{"type": "custom", "custom": {"name": "run"}}]}),
    (("free", '{"x": 1}'), {}, {"tools": [{"type": "function", "function": {"name": "free"}}, {"googleSearch": {}}]}),
    (("free", '{"x": 1}'), {}, {"tools": [function("free", None)]}),
    (("free", '{"x": 1}'), {}, {"tools": [function("free", True)]}),
    (("weather", "nothing"), {"validate_arguments": False}, {}),
]  # fmt: skip


@both
@pytest.mark.parametrize(("fine", "options", "params"), FINE)
def test_what_breaks_none(mode, fine, options, params):
    answer = calling(fine)
    found = guarded(answer, mode, ToolGuard(**options), **{"tools": TOOLS, **params}, cuts=(50_000,))
    assert found.blocked is None
    assert found.tool_calls == answer.tool_calls
    assert found.finish_reason == "tool_calls"


@both
def test_tools_as_objects_and_what_is_no_tool(mode):
    class Tool:
        def model_dump(self, **_):
            return function("weather")

    tools = [Tool(), None, 5, "weather", {"type": "function", "function": "x"}, {"name": 5}, Tool]
    assert guarded(calling("weather"), mode, tools=tools).blocked is None
    assert rules(guarded(calling("x"), mode, tools=tools)) == ["unknown"]


@both
def test_the_limit_counts_those_that_may_leave(mode):
    answer = calling(("x", "{}"), "weather", ("weather", "{}"), "weather", "weather")
    found = guarded(answer, mode, ToolGuard(on_violation="drop", max_calls=2))
    assert [one.id for one in found.tool_calls] == ["c1", "c3"]
    assert rules(found) == ["unknown", "arguments", "max_calls"]
    assert found.finish_reason == "tool_calls"


@both
def test_an_id_that_another_call_has(mode):
    answer = calling(("weather", PARIS, "same"), ("weather", PARIS, "same"), ("weather", PARIS, ""),
                     ("weather", PARIS, ""))  # fmt: skip
    found = guarded(answer, mode, ToolGuard(on_violation="drop"))
    assert [one.id for one in found.tool_calls] == ["same", "", ""]
    assert rules(found) == ["duplicate"]


@both
def test_many_calls_are_judged_and_some_told(mode):
    answer = calling(*[("format_disk", "{}", "c")] * 3000)
    guard = ToolGuard(on_violation="drop")
    found = guarded(answer, mode, guard)
    said = found.metadata["tool_guard"]
    assert (said["judged"], said["dropped"], len(said["violations"])) == (3000, 3000, 20)
    assert guard.tally.counts() == {"judged": 3000, "unknown": 3000, "dropped": 3000}


@both
def test_a_name_made_up_by_the_model_is_cut_and_printable(mode):
    name = "ignore\n\x1b[2J\u202e\ud800" + "x" * 10_000
    guard = ToolGuard()
    found = guarded(calling(name), mode, guard)
    (told,) = found.blocked.detail["violations"]
    assert told["tool"].isprintable()
    assert len(told["tool"]) == 64
    assert told["tool"].startswith(r"ignore\n\x1b[2J\u202e\ud800xx")
    assert name[:6] not in found.text
    assert set(guard.tally.counts()) == {"judged", "unknown"}


@both
@pytest.mark.parametrize("reason", ["stop", "length", "content_filter", "error", "other"])
def test_only_the_reason_that_calls_give_becomes_another(mode, reason):
    found = guarded(calling("x", reason=reason), mode, ToolGuard(on_violation="drop"))
    assert (found.finish_reason, found.tool_calls) == (reason, [])


@both
def test_fields_of_calls_go_where_the_calls_go(mode):
    fields = {"c0": {"a": 0}, "1": {"a": 1}, "2": {"a": 2}, "c3": {"a": 3}, "other": {"a": 4}}
    answer = calling(("x", "{}", "c0"), ("x", "{}", ""), ("weather", PARIS, ""), ("weather", PARIS, "c3"),
                     provider_fields={"b": 1, "tool_call_fields": fields})  # fmt: skip
    found = guarded(answer, mode, ToolGuard(on_violation="drop"))
    kept = {"0": {"a": 2}, "c3": {"a": 3}, "other": {"a": 4}}
    assert found.provider_fields == {"b": 1, "tool_call_fields": kept}
    none = guarded(calling(("x", "{}"), provider_fields={"tool_call_fields": {"c0": {"a": 0}}}), mode,
                   ToolGuard(on_violation="drop"))  # fmt: skip
    assert none.provider_fields == {}


ASTRAY = [
    {"choices": [{"index": 1, "message": {"tool_calls": [{"id": "c9", "function": {"name": "x"}}]}}]},
    {"choices": [{"index": 1, "delta": {"function_call": {"name": "x"}}}]},
    {"choices": {"tool_calls": [1]}},
    {"function_call": {"name": "x"}},
    {"tool_calls": [{"id": "c9"}]},
    {"message": {"tool_calls": [1]}},
    {"delta": {"function_call": {"name": "x"}}},
    {"choices": {"0": {"message": {"tool_calls": [1]}}}},
    {"content": [{"type": "text"}, {"type": "tool_use", "name": "x", "input": {}}]},
    {"output": ({"type": "function_call", "name": "x"},)},
    {"far": [[[{"in": {"it": [{"type": "tool_use"}]}}]]]},
]


@both
@pytest.mark.parametrize("fields", ASTRAY)
@pytest.mark.parametrize("on_violation", ["block", "drop", "reask"])
def test_calls_among_the_fields_of_the_provider(mode, fields, on_violation):
    answer = calling("weather", text="so", provider_fields={**fields, "a": 1})
    found = guarded(answer, mode, ToolGuard(on_violation=on_violation))
    assert rules(found)[0] == "astray"
    if on_violation == "drop":
        assert found.provider_fields == {"a": 1}
        assert [one.name for one in found.tool_calls] == ["weather"]
    else:
        assert found.blocked is not None
    harmless = {"choices": [{"message": {"content": "x"}}, None], "tool_calls": [], "function_call": None}
    answer = calling("weather", provider_fields=harmless)
    assert guarded(answer, mode, ToolGuard(on_violation=on_violation)).provider_fields == harmless


@both
@pytest.mark.parametrize("on_violation", ["block", "drop", "reask"])
def test_an_answer_that_was_refused_inside_has_no_calls(mode, on_violation):
    block = Block("inner", "no")
    answer = calling("weather", text="no", reason="content_filter", blocked=block)
    found = guarded(answer, mode, ToolGuard(on_violation=on_violation))
    assert (found.text, found.tool_calls, found.blocked, found.metadata) == ("no", [], block, {})


# --- schemas ----------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "schema", [{"type": "strnig"}, {"properties": []}, 5, "object", {"pattern": "("}, [], {1: {2}}]
)
def test_a_schema_that_is_none_fails_closed(mode, schema):
    tools = [function("odd", schema), function("weather")]
    if schema == {"pattern": "("}:
        schema = tools[0]["function"]["parameters"] = {"properties": {"city": schema}}
    assert guarded(calling("weather"), mode, tools=tools).blocked is None
    for on_violation in ("block", "drop", "reask"):
        with pytest.raises(MiddlewareError, match=r"the schema of the tool 'odd' cannot be used") as caught:
            guarded(calling("odd"), mode, ToolGuard(on_violation=on_violation), tools=tools)
        assert caught.value.middleware == "tool_guard"
        assert "strnig" not in str(caught.value)


@both
def test_with_skip_a_failure_lets_the_calls_pass(mode):
    answer = calling("odd", ("weather", "{}"), text="so")
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[ToolGuard()],
                                middleware_config={"tool_guard": {"on_error": "skip"}})  # fmt: skip
    model = factory.apply_middleware(ScriptedModel(answer))
    found = run(call(model, mode, tools=[function("odd", 5), function("weather")]))
    assert (found.tool_calls, found.text) == (answer.tool_calls, "so")
    assert factory.registry.get_aggregated_stats()["tool_guard"].skipped_errors == 1


# --- streams ----------------------------------------------------------------------------------------------------------


def test_text_passes_at_once_and_calls_leave_together_before_finish():
    parts = [ResponseInfo("r"), TextDelta("a"), ToolCallDelta(0, "c0", "weather", '{"city"'), TextDelta("b"),
             ToolCallDelta(3, "c3", "weather", PARIS), ReasoningDelta("r"), ToolCallDelta(0, None, None, ': "Paris"}'),
             TextDelta("c"), Finish("tool_calls")]  # fmt: skip
    seen = []

    async def main():
        async def watched(do_stream, params, context):
            async for part in do_stream(params):
                seen.append(f"in {kinds([part])[0]}")
                yield part

        inner = middleware("inner", wrap_stream=watched, priority=1)
        async with wrap(Parts(parts), ToolGuard(), inner).stream("hi", tools=TOOLS) as stream:
            out = []
            async for part in stream:
                seen.append(f"out {kinds([part])[0]}")
                out.append(part)
            return out

    out = run(main())
    assert [one for one in out if isinstance(one, ToolCallDelta)] == [
        ToolCallDelta(0, "c0", "weather", PARIS), ToolCallDelta(1, "c3", "weather", PARIS),
    ]  # fmt: skip
    assert kinds(out)[-3:] == ["call", "call", "finish"]
    for index, one in enumerate(seen):
        if one == "in text":
            assert seen[index + 1] == "out text"


def test_a_refusal_in_mid_stream_lets_no_call_go():
    answer = calling("weather", "x", text="hello")
    parts = run(read(wrap(ScriptedModel(answer), ToolGuard()), "stream", tools=TOOLS))
    assert kinds(parts) == ["text", "text", "finish"]
    assert parts[-1].blocked.category == "tool"
    assert parts[-1].usage == Usage(5, 3)


CLASHES = [
    [ToolCallDelta(0, "a", "weather", PARIS), ToolCallDelta(0, "b", "weather", "")],
    [ToolCallDelta(0, "a", "weather", PARIS), ToolCallDelta(0, None, "file_delete", "")],
    [ToolCallDelta(0, "a", "wea", PARIS), ToolCallDelta(0, None, "ther", "")],
]


@pytest.mark.parametrize("deltas", CLASHES)
@pytest.mark.parametrize("on_violation", ["block", "drop"])
def test_a_place_that_two_calls_share(deltas, on_violation):
    model = Parts([*deltas, ToolCallDelta(1, "z", "weather", PARIS), Finish("tool_calls")])
    tools = [*TOOLS, function("wea")]
    found = guarded(model, "stream", ToolGuard(on_violation=on_violation, validate_arguments=False), tools=tools)
    assert rules(found) == ["duplicate"]
    assert [one.id for one in found.tool_calls] == (["z"] if on_violation == "drop" else [])


def test_arguments_that_are_no_text_at_all():
    """Nobody knows what becomes of them further out; they are not passed on as if there were none."""
    model = Parts([ToolCallDelta(0, "a", "file_read", {"path": "x"}), Finish("tool_calls")])
    assert rules(guarded(model, "stream")) == ["arguments"]


def test_an_id_and_a_name_that_are_repeated_or_late_are_no_clash():
    deltas = [
        ToolCallDelta(0, None, None, '{"ci'), ToolCallDelta(0, "a", None, 'ty": '), ToolCallDelta(0, "a", "weather"),
        ToolCallDelta(0, "a", "weather", '"Paris"}'), ToolCallDelta(0, arguments=None),
    ]  # fmt: skip
    found = guarded(Parts([*deltas, Finish("tool_calls")]), "stream")
    assert found.tool_calls == [ToolCall("a", "weather", PARIS)]


@pytest.mark.parametrize("on_violation", ["block", "reask"])
def test_arguments_that_are_none(on_violation):
    answer = calling(("file_read", None), ("weather", PARIS))
    assert guarded(answer, "generate", ToolGuard(on_violation=on_violation)).blocked is None


@pytest.mark.parametrize("on_violation", ["block", "drop", "reask"])
def test_a_stream_that_breaks_off_lets_no_call_go(on_violation):
    model = FaultyModel(calling("weather", text="hello"), faults=[Fault(4, cut=True)])

    async def main():
        parts = []
        async with wrap(model, ToolGuard(on_violation=on_violation)).stream("hi", tools=TOOLS) as stream:
            try:
                async for part in stream:
                    parts.append(part)
            except StreamInterrupted as error:
                return parts, error.partial

    parts, partial = run(main())
    assert "call" not in kinds(parts)
    assert partial.tool_calls == []
    assert model.closed == model.opened == 1


def test_who_leaves_early_closes_the_stream():
    model = Parts([TextDelta("a"), ToolCallDelta(0, "c", "weather", PARIS), Finish("tool_calls")])

    async def main():
        async with wrap(model, ToolGuard()).stream("hi", tools=TOOLS) as stream:
            async for _ in stream:
                break

    run(main())
    assert model.closed == 1


def test_concurrent_calls_do_not_mix():
    guard = ToolGuard(on_violation="drop")

    class Echoing(ScriptedModel):
        async def generate(self, params):
            await asyncio.sleep(0)
            return calling(params["wanted"], "weather")

        async def stream(self, params):
            from neuro_mw import parts_of

            for part in parts_of(calling(params["wanted"], "weather")):
                await asyncio.sleep(0)
                yield part

    async def main():
        model = wrap(Echoing(), guard)
        asked = [call(model, MODES[n % 2], tools=[function("weather"), function(f"t{n}", {})], wanted=f"t{n + n % 3}")
                 for n in range(30)]  # fmt: skip
        return await asyncio.gather(*asked)

    for number, found in enumerate(run(main())):
        names = ["weather"] if number % 3 else [f"t{number}", "weather"]
        assert [one.name for one in found.tool_calls] == names


NAMES = st.sampled_from(["weather", "file_read", "x", ""])
ARGUMENTS = st.sampled_from([PARIS, '{"city": "Par', "{}", "", "[]", '{"city": "é\\u00e9", "days": 2}'])
CALLS = st.lists(st.tuples(NAMES, ARGUMENTS, st.sampled_from(["a", "b", "c", ""])), max_size=5)


@st.composite
def cut_answers(draw):
    """An answer with calls, and its parts: cut anywhere, in any order that keeps each channel's."""
    calls = draw(CALLS)
    answer = calling(*calls, text=draw(st.sampled_from(["", "hello"])), reasoning=draw(st.sampled_from(["", "hm"])))
    answer.provider_fields = draw(st.sampled_from([{}, {"a": 1, "tool_call_fields": {"a": {"t": 1}, "0": {"t": 2}}}]))
    channels = [[TextDelta(one) for one in answer.text], [ReasoningDelta(one) for one in answer.reasoning]]
    indexes = sorted(draw(st.sets(st.integers(0, 50), min_size=len(calls), max_size=len(calls))))
    for index, one in zip(indexes, answer.tool_calls, strict=True):
        at = draw(st.integers(0, len(one.arguments)))
        deltas = [ToolCallDelta(index, one.id, one.name, one.arguments[:at])]
        deltas += [ToolCallDelta(index, None, None, piece) for piece in one.arguments[at:]]
        channels.append(deltas)
    channels.append([ProviderDelta({name: value}) for name, value in answer.provider_fields.items()])
    parts = []
    while channels := [one for one in channels if one]:
        parts.append(draw(st.sampled_from(channels)).pop(0))
    return answer, [*parts, Finish(answer.finish_reason, answer.usage)]


@settings(max_examples=150)
@given(cut_answers(), st.sampled_from(["block", "drop", "reask"]), st.sampled_from([None, 1]), st.booleans())
def test_streamed_is_whole_for_every_cut_and_order(drawn, on_violation, max_calls, asked):
    answer, parts = drawn

    async def approve(call, context):
        return call.name != "file_read"

    def guard():
        more = {"approve": approve} if asked else {}
        return ToolGuard(on_violation=on_violation, max_calls=max_calls, **more)

    whole = guarded(ScriptedModel(answer), "generate", guard())
    streamed = guarded(Parts(parts), "stream", guard())
    said = answer.text or answer.reasoning or answer.provider_fields
    if whole.blocked is not None and on_violation == "block" and said:  # it has left
        assert streamed.tool_calls == []
        assert streamed.blocked == whole.blocked
        assert streamed.usage == whole.usage
    else:
        assert streamed == whole
    offered = {"weather", "file_read"}
    assert all(one.name in offered for one in streamed.tool_calls)


@pytest.mark.parametrize("approve", [False, True])
def test_what_leaves_can_be_put_together_as_clients_do(approve):
    """The SDK of OpenAI has a list of calls, in which the index of a delta is a place."""

    async def yes(call, context):
        return True

    answer = calling("x", "weather", "x", ("file_read", "{}"))
    guard = ToolGuard(on_violation="drop", **({"approve": yes} if approve else {}))
    parts = run(read(wrap(ScriptedModel(answer), guard), "stream", tools=TOOLS))
    assert [(one.index, one.id) for one in parts if isinstance(one, ToolCallDelta)] == [(0, "c1"), (1, "c3")]


# --- beside others ----------------------------------------------------------------------------------------------------


@both
def test_two_guards_tell_what_both_found(mode):
    answer = calling("weather", "x", "file_delete")
    factory = MiddlewareFactory(preset=None, plugins=False)
    factory.register(ToolGuard(on_violation="drop", deny=["file_*"]), id="outer", priority=90, default_enabled=True)
    factory.register(ToolGuard(on_violation="drop"), id="inner", default_enabled=True)
    found = run(call(factory.apply_middleware(ScriptedModel(answer)), mode, tools=TOOLS))
    assert [one.name for one in found.tool_calls] == ["weather"]
    assert rules(found) == ["unknown", "denied"]
    assert found.metadata["tool_guard"]["dropped"] == 2


@both
def test_metadata_of_others_stays_and_nonsense_under_its_id_is_replaced(mode):
    answer = replace(calling("weather"), metadata={"a": 1, "tool_guard": {"violations": 5, "reasks": "x"}})
    found = guarded(answer, mode)
    assert found.metadata == {"a": 1, "tool_guard": {"judged": 1, "dropped": 0, "violations": [], "reasks": 0}}
    assert answer.metadata["tool_guard"] == {"violations": 5, "reasks": "x"}


def test_explain_tells_which_hooks_there_are():
    async def approve(call, context):
        return True

    def hooks(**options):
        factory = MiddlewareFactory(preset=None, plugins=False, middleware=[ToolGuard(**options)])
        return factory.explain(factory.create_context("openai", "gpt-4o"))["tool_guard"].hooks

    assert hooks() == {"generate": ["transform_parts"], "stream": ["transform_parts"]}
    assert hooks(on_violation="drop", approve=approve) == {"generate": ["wrap_stream"], "stream": ["wrap_stream"]}
    buffers = {"generate": ["wrap_generate"], "stream": ["wrap_generate (buffers the stream)"]}
    assert hooks(on_violation="reask") == hooks(on_violation="reask", approve=approve) == buffers


def not_async(call, context):
    return True


async def too_few(call):
    return True


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"allow": "weather"}, "allow"),
        ({"deny": [""]}, "deny.0"),
        ({"max_calls": -1}, "max_calls"),
        ({"max_calls": True}, "max_calls"),
        ({"on_violation": "warn"}, "on_violation"),
        ({"max_reasks": 2}, "max_reasks"),
        ({"on_violation": "reask", "max_reasks": 0}, "max_reasks"),
        ({"approve_timeout_s": 5.0}, "approve_timeout_s"),
        ({"approve": "no.such:thing"}, "approve"),
        ({"approve": "math:pi"}, "approve"),
        ({"approve": not_async}, "approve"),
        ({"approve": too_few}, "approve"),
        ({"approve": ToolGuard}, "approve"),
        ({"approve": 5}, "approve"),
        ({"alow": ["x"]}, "alow"),
    ],
)
def test_options_that_make_no_sense(options, key):
    with pytest.raises(ConfigError) as caught:
        ToolGuard(**options)
    assert caught.value.key == f"middleware.tool_guard.config.{key}"


def test_collect_needs_no_guard_in_between():
    """What the step holds is all that `held` gives: with "skip" nothing is lost."""
    step = ToolGuard().transform_parts({}, None)
    parts = [ToolCallDelta(4, "a", "x", "{"), ProviderDelta({"b": 1, "tool_call_fields": {"a": {"t": 1}}}),
             ToolCallDelta(4, None, None, "}")]  # fmt: skip
    left = [out for part in parts if (out := step.feed(part)) is not None]
    found = run(collect([*left, *step.held(), Finish("tool_calls")]))
    assert found == run(collect([*parts, Finish("tool_calls")]))
    assert step.finish() == []
    step.abort()
    assert step.held() == []

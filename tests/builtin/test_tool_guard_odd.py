"""tool_guard with what no driver should give: calls, choices and parts of foreign types; and with subclasses."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from pydantic import BaseModel

from neuro_mw import Blocked, ConfigError, Finish, MiddlewareFactory, Response, ToolCall, ToolCallDelta, parts_of
from neuro_mw.builtin.tool_guard import ToolGuard
from neuro_mw.testing import ScriptedModel
from tests.builtin.tool_calls import PARIS, TOOLS, Parts, calling, function
from tests.chain.conftest import MODES, call, run, wrap

both = pytest.mark.parametrize("mode", MODES)
everywhere = pytest.mark.parametrize("on_violation", ["block", "drop", "reask"])


class Whole:
    """A model with this very answer, and its parts."""

    provider, model_id = "openai", "gpt-4o"

    def __init__(self, answer):
        self.answer, self.calls = answer, []

    async def generate(self, params):
        self.calls.append(params)
        return self.answer

    async def stream(self, params):
        self.calls.append(params)
        for part in parts_of(self.answer):
            yield part


def rules(response):
    told = response.blocked.detail if response.blocked else response.metadata["tool_guard"]
    return [one["rule"] for one in told["violations"]]


def asked(one, mode, on_violation, **params):
    answer = Response(tool_calls=[one], finish_reason="tool_calls")
    params.setdefault("tools", TOOLS)
    return run(call(wrap(Whole(answer), ToolGuard(on_violation=on_violation)), mode, **params))


@everywhere
@pytest.mark.parametrize(
    ("one", "rule"),
    [
        *((ToolCall("c", name, PARIS), "unknown") for name in (5, ["x"], None, {}, b"weather")),
        *((ToolCall("c", "weather", odd), "arguments") for odd in ({"city": "Paris"}, b"{}", ["x"], "[" * 10000)),
    ],
)
def test_a_call_of_foreign_types_breaks_a_rule(one, rule, on_violation):
    answers = []
    # with "reask" a stream is collected before this layer, which takes text only for arguments
    for mode in MODES if on_violation != "reask" or isinstance(one.arguments, str) else ["generate"] * 2:
        found = asked(one, mode, on_violation)
        assert (set(rules(found)), found.tool_calls) == ({rule}, [])
        answers.append(found)
    if on_violation != "block":  # there is no stream whose calls were taken out of it
        assert answers[0].metadata == answers[1].metadata
    assert answers[0].blocked == answers[1].blocked


@pytest.mark.parametrize("odd", [5, 0, 1.5, b"{}", {"city": "Paris"}, ["x"]])
@pytest.mark.parametrize("validates", [True, False])
@pytest.mark.parametrize("name", ["weather", "free"])
def test_arguments_that_are_no_text_break_a_rule_in_any_case(odd, validates, name):
    """Also where none are validated, and between pieces that are text."""
    tools = [*TOOLS, {"type": "custom", "custom": {"name": "free"}}]
    for pieces in ([odd], ["{", odd, "}"]):
        guard = ToolGuard(validate_arguments=validates)
        step = guard.transform_parts({"tools": tools}, None)
        for piece in pieces:
            assert step.feed(ToolCallDelta(0, "c", name, piece)) is None
        assert step.held() == [ToolCallDelta(0, "c", name, piece) for piece in pieces]
        with pytest.raises(Blocked) as caught:
            step.feed(Finish("tool_calls"))
        assert caught.value.detail["violations"] == [{"tool": name, "rule": "arguments"}]

    answer = Response(tool_calls=[ToolCall("c", name, odd)], finish_reason="tool_calls",
                      provider_fields={"tool_call_fields": {"c": {"type": "custom"}}})  # fmt: skip
    model = Whole(answer)
    found = run(
        call(wrap(model, ToolGuard(on_violation="reask", validate_arguments=validates)), "generate", tools=tools)
    )
    assert set(rules(found)) == {"arguments"}
    [said] = model.calls[-1]["messages"][-2]["tool_calls"]
    assert said["custom"]["input"] == ""


@both
@everywhere
@pytest.mark.parametrize(("given", "left"), [(["x"], ""), (5, ""), (None, ""), ("c", "c")])
def test_an_id_that_is_no_text_is_none(mode, on_violation, given, left):
    found = asked(ToolCall(given, "weather", PARIS), mode, on_violation)
    assert found.tool_calls == [ToolCall(left, "weather", PARIS)]


@both
@everywhere
def test_no_arguments_are_an_empty_object(mode, on_violation):
    answer = Response(tool_calls=[ToolCall("c", "file_read", None)], finish_reason="tool_calls")
    model = (
        Whole(answer)
        if mode == "generate" or on_violation != "reask"
        else ScriptedModel(calling(("file_read", "", "c")))
    )
    found = run(call(wrap(model, ToolGuard(on_violation=on_violation)), mode, tools=TOOLS))
    assert found.tool_calls == [ToolCall("c", "file_read", "")]


@dataclass
class NoDelta:
    index: int = 0
    id: str = "c"
    name: str = "rm"
    arguments: str = "{}"
    type: str = "tool_call_delta"


@both
@everywhere
@pytest.mark.parametrize("approves", [True, False])
def test_a_part_that_says_it_is_of_a_call_does_not_pass(mode, on_violation, approves):
    async def approve(call, context):
        return True

    guard = ToolGuard(on_violation=on_violation, **({"approve": approve} if approves else {}))
    fine = SimpleNamespace(type="odd")
    model = Parts([NoDelta(), fine, Finish("stop")])
    found = run(call(wrap(model, guard), mode, tools=TOOLS))
    assert set(rules(found)) == {"astray"}
    if on_violation == "drop":
        assert (found.other_parts, found.blocked) == ([fine], None)
    elif mode == "stream":
        assert NoDelta() not in found.other_parts
    assert run(call(wrap(Parts([fine, Finish("stop")]), guard), mode, tools=TOOLS)).other_parts == [fine]


class Named(BaseModel):
    name: str = "file_read"


class Choice(BaseModel):
    type: str = "function"
    function: Named = Named()


@both
@pytest.mark.parametrize(
    ("choice", "rule"),
    [
        (Choice(), "not_chosen"),
        (SimpleNamespace(type="function", function=SimpleNamespace(name="file_read")), "not_chosen"),
        ({"type": "function", "function": Named()}, "not_chosen"),
        (SimpleNamespace(type="none"), "not_chosen"),
        (SimpleNamespace(type="allowed_tools", allowed_tools=SimpleNamespace(tools=[Choice()])), "not_chosen"),
        (Choice(function=Named(name="weather")), None),
        (SimpleNamespace(type="tool", name="weather"), None),
        (SimpleNamespace(type="auto"), None),
        (Choice, None),
        (5, None),
    ],
)
def test_a_choice_that_is_an_object(mode, choice, rule):
    found = asked(ToolCall("c", "weather", PARIS), mode, "block", tool_choice=choice)
    assert (rules(found) if found.blocked else None) == ([rule] if rule else None)


# --- subclasses ------------------------------------------------------------------------------------------------------


class Stepping(ToolGuard):
    def transform_parts(self, params, context):
        self.count("own")
        return super().transform_parts(params, context)


class Generating(ToolGuard):
    async def wrap_generate(self, do_generate, params, context):
        self.count("own")
        return await super().wrap_generate(do_generate, params, context)


class Streaming(ToolGuard):
    async def wrap_stream(self, do_stream, params, context):
        self.count("own")
        async for part in super().wrap_stream(do_stream, params, context):
            yield part


@both
@everywhere
@pytest.mark.parametrize("cls", [Stepping, Generating, Streaming])
@pytest.mark.parametrize("approves", [True, False])
def test_the_hook_of_a_subclass_is_called_and_the_calls_are_judged_once(cls, mode, on_violation, approves):
    async def approve(call, context):
        return call.name != "file_read"

    options = {"on_violation": on_violation, **({"approve": approve} if approves else {})}
    guard = cls(**options)
    answer = calling("weather", ("file_delete", "{"), ("file_read", "{}"), text="so")
    found = run(call(wrap(ScriptedModel(answer), guard), mode, tools=TOOLS))
    plain = ToolGuard(**options)
    like = run(call(wrap(ScriptedModel(answer), plain), mode, tools=TOOLS))
    assert (found.tool_calls, found.blocked, found.metadata, found.text) == (
        like.tool_calls, like.blocked, like.metadata, like.text if mode == "generate" else found.text,
    )  # fmt: skip
    counts = guard.tally.counts()
    own = counts.pop("own", 0)
    assert counts == plain.tally.counts()
    # a hook of one mode is not called in the other where there is one for that
    if cls is Stepping or (cls is Generating) == (mode == "generate"):
        assert own == 1


def test_hooks_that_are_not_needed_are_none():
    async def approve(call, context):
        return True

    def hooks(**options):
        factory = MiddlewareFactory(preset=None, plugins=False, middleware=[ToolGuard(**options)])
        return next(one.hooks for one in factory.apply_middleware(ScriptedModel())._chain.layers)

    made = [hooks(), hooks(approve=approve), hooks(on_violation="reask"), hooks(on_violation="reask", approve=approve)]
    found = [[one.transform_parts is None, one.wrap_stream is None, one.wrap_generate is None] for one in made]
    assert found == [[False, True, True], [True, False, True], [True, True, False], [True, True, False]]


def test_what_is_looked_for_among_the_fields_is_bounded():
    from neuro_mw.builtin.tools.astray import calls_astray

    deep = {"type": "tool_use"}
    for _ in range(10_000):
        deep = {"in": deep}
    wide = {"many": [{"a": [{}] * 10} for _ in range(100_000)]}
    assert calls_astray({"deep": deep, "wide": wide, "tool_call_fields": {"c": {"type": "tool_use"}}}) == []
    assert calls_astray({"near": [{"logprobs": wide}, {"message": {"tool_calls": [1]}}], "": function("x")}) == ["near"]


@pytest.mark.parametrize("odd", ["no", 0, "false"])
def test_what_is_no_bool_switches_no_check_off(odd):
    with pytest.raises(ConfigError, match="validate_arguments"):
        ToolGuard(validate_arguments=odd)

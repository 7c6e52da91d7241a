"""tool_guard with on_violation="reask": what a model is asked then, in requests that providers take."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_mw import BadRequest, Block, MiddlewareError, ProviderUnavailable, Response, Usage
from neuro_mw.builtin.tool_guard import ToolGuard
from neuro_mw.providers import AnthropicModel, OpenAICompatibleModel
from neuro_mw.testing import FaultyModel, StubAnthropic, StubOpenAI
from tests.builtin.tool_calls import PARIS, TOOLS, calling, function
from tests.chain.conftest import MODES, call, run, wrap

both = pytest.mark.parametrize("mode", MODES)
FINE = calling("weather", text="better")


def reasked(answers, mode, *, guard=None, tools=TOOLS, **params):
    """The answer, and the messages of each request."""
    model = FaultyModel(answers)
    found = run(
        call(
            wrap(model, guard or ToolGuard(on_violation="reask")), mode, **({"tools": tools} if tools else {}), **params
        )
    )
    return found, [one.params["messages"] for one in model.calls]


@both
def test_the_model_is_told_what_was_wrong_with_each_call(mode):
    wrong = calling("weather", ("weather", '{"city": 5}'), "format_disk", ("file_read", "[1"), text="let me see",
                    reasoning="hm")  # fmt: skip
    guard = ToolGuard(on_violation="reask", deny=["file_delete"])
    found, asked = reasked([wrong, FINE], mode, guard=guard)
    assert (found.text, found.tool_calls, found.usage) == ("better", FINE.tool_calls, Usage(10, 6))
    rules = ["arguments", "unknown", "arguments"]
    names = ["weather", "format_disk", "file_read"]
    assert found.metadata["tool_guard"] == {
        "judged": 5, "dropped": 0, "reasks": 1,
        "violations": [{"tool": name, "rule": rule} for name, rule in zip(names, rules, strict=True)],
    }  # fmt: skip
    assert guard.tally.counts() == {"judged": 5, "arguments": 2, "unknown": 1, "reasks": 1}
    user, answer, *results = asked[1]
    assert [user] == asked[0]
    assert (answer["role"], answer["content"], answer["reasoning_content"]) == ("assistant", "let me see", "hm")
    said = [(one["id"], one["function"]["name"], one["function"]["arguments"]) for one in answer["tool_calls"]]
    assert said == [("c0", "weather", PARIS), ("c1", "weather", '{"city": 5}'), ("c2", "format_disk", PARIS),
                    ("c3", "file_read", "{}")]  # fmt: skip
    assert [(one["role"], one["tool_call_id"]) for one in results] == [("tool", f"c{n}") for n in range(4)]
    texts = [one["content"] for one in results]
    assert texts == [
        "Not run: another call of the same answer was refused. Call this tool again if it is still needed.",
        "Refused, and not run: its arguments do not fit the schema of the tool: at $.city: 5 is not of type 'string'.",
        "Refused, and not run: there is no such tool; there are: weather, file_read.",
        "Refused, and not run: its arguments are not one JSON object in which each name stands once.",
    ]


@both
@pytest.mark.parametrize(
    ("options", "wrong", "params", "said"),
    [
        ({"deny": ["file_*"]}, ["file_read"], {}, "this tool may not be called"),
        ({}, ["weather"], {"tool_choice": "none"}, "this request lets no call of this tool pass"),
        ({"max_calls": 1}, ["weather", "weather"], {}, "an answer may have 1 calls at most"),
        ({}, [("weather", PARIS, "a"), ("weather", PARIS, "a")], {}, "another call of the answer has the same id"),
        ({"allow": []}, ["x"], {}, "there is no such tool; there are: none"),
    ],
)
def test_what_is_said_of_other_rules(mode, options, wrong, params, said):
    guard = ToolGuard(on_violation="reask", **options)
    found, asked = reasked([calling(*wrong), Response(text="well")], mode, guard=guard, **params)
    assert (found.text, found.tool_calls) == ("well", [])
    assert asked[1][-1]["content"] == f"Refused, and not run: {said}."


@both
def test_what_who_was_asked_has_said(mode):
    async def approve(call, context):
        return "only on weekdays"

    guard = ToolGuard(on_violation="reask", approve=approve)
    _, asked = reasked([FINE, Response(text="well")], mode, guard=guard)
    assert asked[1][-1]["content"] == "Refused, and not run: only on weekdays."


@both
@pytest.mark.parametrize("most", [1, 3])
def test_it_is_refused_in_the_end(mode, most):
    guard = ToolGuard(on_violation="reask", max_reasks=most)
    found, asked = reasked([calling("x", text="so")], mode, guard=guard)
    assert found.blocked.detail["reasks"] == most
    assert [one["rule"] for one in found.blocked.detail["violations"]] == ["unknown"] * (most + 1)
    assert found.usage == Usage(5 * (most + 1), 3 * (most + 1))
    assert (found.text, found.tool_calls) == ("a tool call was refused: unknown", [])
    assert [len(one) for one in asked] == [1 + 2 * number for number in range(most + 1)]
    assert guard.tally.counts() == {"judged": most + 1, "unknown": most + 1, "reasks": most}


@both
def test_usage_that_is_not_known_stays_so(mode):
    wrong, better = calling("x"), Response(text="better", usage=Usage(None, 2))
    wrong.usage = Usage(4)
    assert reasked([wrong, better], mode)[0].usage == Usage(4, 2)


@both
def test_an_answer_that_is_refused_inside_is_the_answer(mode):
    block = Block("inner", "no")
    refused = Response(text="no", blocked=block, finish_reason="content_filter", usage=Usage(1, 1))
    found, _ = reasked([calling("x"), refused], mode)
    assert (found.text, found.blocked, found.usage) == ("no", block, Usage(6, 4))
    assert found.metadata["tool_guard"]["reasks"] == 1


@both
def test_many_calls_with_one_id(mode):
    _, asked = reasked([calling(*[("x", "{}", "a")] * 3000), Response(text="well")], mode)
    assert len({one["tool_call_id"] for one in asked[1][2:]}) == 3000


@both
def test_a_failure_of_the_second_call_is_its_failure(mode):
    from neuro_mw.testing import Fault

    down = ProviderUnavailable("down", provider="openai", model="gpt-4o")
    model = FaultyModel([calling("x")], faults=[None, Fault(0, down)])
    with pytest.raises(ProviderUnavailable) as caught:
        run(call(wrap(model, ToolGuard(on_violation="reask")), mode, tools=TOOLS))
    assert caught.value is down
    assert all("tool_guard" not in note for note in getattr(down, "__notes__", ()))


@both
@pytest.mark.parametrize("params", [{}, {"functions": [{"name": "weather"}]}, {"tools": []}])
@pytest.mark.parametrize("text", ["", " \n", "let me see"])
def test_without_tools_it_is_the_user_who_says_so(mode, params, text):
    """Anthropic takes no calls in a request without tools."""
    answers = [calling("x", text=text), FINE if "functions" in params else Response(text="well")]
    found, asked = reasked(answers, mode, **{"tools": None, **params})
    assert found.blocked is None
    told = [{"role": "assistant", "content": text}] if text.strip() else []
    names = "weather" if "functions" in params else "none"
    last = f"A tool call in your answer was refused, and not run: there is no such tool; there are: {names}."
    assert asked[1][1:] == [*told, {"role": "user", "content": f"{last} Answer without it."}]


@both
def test_calls_astray_are_told_by_the_user(mode):
    wrong = Response(text="so", provider_fields={"tool_calls": [1]})
    found, asked = reasked([wrong, FINE], mode)
    assert found.text == "better"
    assert [one["role"] for one in asked[1]] == ["user", "assistant", "user"]


@both
def test_a_pattern_that_is_met_only_when_faults_are_told_fails_closed(mode):
    schema = {"properties": {"a": {"type": "integer"}, "b": {"pattern": "(?=a)"}}}
    with pytest.raises(MiddlewareError, match="linear time"):
        reasked([calling(("odd", '{"a": "x", "b": "a"}')), FINE], mode, tools=[function("odd", schema)])


@both
def test_cancelled_while_it_is_asked_again(mode):
    async def main():
        from math import inf

        from neuro_mw.testing import Fault

        model = FaultyModel([calling("x")], faults=[None, Fault(0, stall_s=inf)])
        task = asyncio.create_task(call(wrap(model, ToolGuard(on_violation="reask")), mode, tools=TOOLS))
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(model.calls) == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return model.opened == model.closed

    assert run(main())


def test_the_callers_messages_stay_as_they_are():
    messages = [{"role": "user", "content": "hi"}]
    model = FaultyModel([calling("x"), FINE])
    run(wrap(model, ToolGuard(on_violation="reask")).generate({"messages": messages, "tools": TOOLS}))
    assert messages == [{"role": "user", "content": "hi"}]
    assert len(model.calls[0].params["messages"]) == 1


# --- as providers take it ---------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["weather", "format disk!", "", "file.read", "x" * 200, "\ud800"])
ARGUMENTS = st.sampled_from([PARIS, '{"a"', "null", "", '{"city": 5}', '{"a": 1, "a": 2}'])
CALLS = st.lists(
    st.tuples(NAMES, ARGUMENTS, st.sampled_from(["", "a", "a_1", "a_2", "call", "call_1"])), min_size=1, max_size=4
)


@settings(max_examples=100)
@given(CALLS, st.sampled_from(MODES))
def test_every_request_is_one_that_providers_take(calls, mode):
    _, asked = reasked([calling(*calls), Response(text="well")], mode, tools=[*TOOLS, function("file.read", {})])
    if len(asked) == 1:
        return  # nothing was wrong
    _, answer, *results = asked[1]
    ids = [one["id"] for one in answer["tool_calls"]]
    assert all(ids)
    assert len(set(ids)) == len(ids) == len(calls)
    assert [one["tool_call_id"] for one in results] == ids
    for one in answer["tool_calls"]:
        assert isinstance(json.loads(one["function"]["arguments"] or "{}"), dict)
        name = one["function"]["name"]
        assert name == "file.read" or (0 < len(name) <= 64 and name.replace("_", "a").isalnum() and name.isascii())


@pytest.fixture(scope="module")
def anthropic():
    with StubAnthropic() as running:
        yield running


@pytest.fixture(scope="module")
def openai():
    with StubOpenAI() as running:
        yield running


@both
def test_over_the_messages_api(anthropic, mode):
    anthropic.requests.clear()
    calls = [
        {"id": "t1", "name": "weather", "input": {"city": 5}},
        {"id": "t2", "name": "weather", "input": {"city": "Rome"}},
    ]
    anthropic.reply(thinking="hm", text="let me see", tool_calls=calls)
    anthropic.reply(text="here", tool_calls=[{"id": "t3", "name": "weather", "input": {"city": "Paris"}}])
    model = AnthropicModel("claude-sonnet-4-5", base_url=anthropic.base_url, api_key="x")
    found = run(call(wrap(model, ToolGuard(on_violation="reask")), mode, tools=TOOLS, max_tokens=2000,
                     thinking={"type": "enabled", "budget_tokens": 1024}))  # fmt: skip
    assert (found.text, [json.loads(one.arguments) for one in found.tool_calls]) == ("here", [{"city": "Paris"}])
    _, answer, results = anthropic.requests[1].body["messages"]
    assert [one["type"] for one in answer["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert answer["content"][0]["signature"] == "stub-signature"
    assert [(one["type"], one["tool_use_id"]) for one in results["content"]] == [
        ("tool_result", "t1"),
        ("tool_result", "t2"),
    ]


@both
def test_over_chat_completions_with_the_older_form_of_a_call(openai, mode):
    """A call in the older form is a call like another."""
    openai.requests.clear()
    made = {"name": "format_disk", "arguments": "{}"}
    shape = {"id": "c", "created": 1, "model": "m"}
    if mode == "generate":
        choice = {"index": 0, "message": {"role": "assistant", "content": None, "function_call": made},
                  "finish_reason": "function_call"}  # fmt: skip
        openai.reply(raw=json.dumps({**shape, "choices": [choice]}).encode())
    else:
        first = {**shape, "choices": [{"index": 0, "delta": {"function_call": made}, "finish_reason": None}]}
        last = {**shape, "choices": [{"index": 0, "delta": {}, "finish_reason": "function_call"}]}
        openai.reply(
            raw=b"".join(f"data: {json.dumps(one)}\n\n".encode() for one in (first, last)) + b"data: [DONE]\n\n"
        )
    openai.reply(text="well")
    model = OpenAICompatibleModel("openai", "m", base_url=openai.base_url, api_key="x")
    found = run(call(wrap(model, ToolGuard(on_violation="reask")), mode, tools=TOOLS))
    assert found.text == "well"
    _, answer, result = openai.requests[1].body["messages"]
    assert [one["function"]["name"] for one in answer["tool_calls"]] == ["format_disk"]
    assert result["tool_call_id"] == answer["tool_calls"][0]["id"]


@both
def test_more_than_one_choice_cannot_be_asked_for(openai, mode):
    model = OpenAICompatibleModel("openai", "m", base_url=openai.base_url, api_key="x")
    with pytest.raises(BadRequest, match="n=2"):
        run(call(wrap(model, ToolGuard()), mode, tools=TOOLS, n=2))

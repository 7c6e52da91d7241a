"""The judges in a chain: what they are told, what comes of it, and that nothing goes round them; in both modes."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from neuro_mw import MiddlewareFactory, ProviderUnavailable, RequestBlocked, Response, ToolCall, Usage, collect
from neuro_mw.builtin import Guardrails
from neuro_mw.testing import ScriptedModel

BLOCKED = "Request contains inappropriate content and has been blocked."
REDACTED = "<REDACTED BY AI GUARDRAIL>"
SAFE, UNSAFE = '{"overall": "safe", "safety_score": 9, "appropriateness_score": 9}', "UNSAFE"


class Judged(ScriptedModel):
    """A model that also judges: `verdict` is its answer to whoever asks it for one."""

    def __init__(self, response: Response | str = "the answer", verdict: Any = SAFE, **how: Any) -> None:
        super().__init__(response, **how)
        self.verdict, self.judged = verdict, []

    async def generate(self, params: Any) -> Response:
        if "[BEGIN " not in params["messages"][0]["content"]:
            return await super().generate(params)
        self.judged.append(params)
        await asyncio.sleep(0)
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return Response(text=self.verdict, usage=Usage(11, 3))


@pytest.fixture(params=["generate", "stream"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def factory_of(**options: Any) -> MiddlewareFactory:
    return MiddlewareFactory(preset="default", middleware=[Guardrails(**options)], plugins=False)


def call(model: Any, mode: str, prompt: Any = "hello", **params: Any) -> Response:
    async def run() -> Response:
        if mode == "generate":
            found: Response = await model.generate(prompt, **params)
            return found
        return await collect(model.stream(prompt, **params))

    return asyncio.run(run())


def ask(origin: Judged, mode: str, prompt: Any = "hello", **options: Any) -> Response:
    return call(factory_of(**options).apply_middleware(origin), mode, prompt)


# --- before the call -------------------------------------------------------------------------------------------------


def test_a_safe_turn_passes(mode: str) -> None:
    origin = Judged()
    assert ask(origin, mode, precall_evaluation={}).text == "the answer"
    assert len(origin.judged) == len(origin.calls) == 1


@pytest.mark.parametrize(
    "verdict",
    [UNSAFE, '{"overall": "unsafe"}', '{"overall": "safe", "safety_score": 0}', "how nice", "", ZeroDivisionError()],
)
def test_a_blocked_turn_never_reaches_the_model(mode: str, verdict: Any) -> None:
    origin = Judged(verdict=verdict)
    factory = factory_of(precall_evaluation={})
    found = call(factory.apply_middleware(origin), mode, "my own secret words")
    assert (found.text, found.finish_reason) == (BLOCKED, "content_filter")
    assert origin.calls == []
    assert found.blocked is not None
    assert found.blocked.middleware == "guardrails"
    assert "secret" not in json.dumps(found.to_dict())
    (counted,) = factory.registry.get_aggregated_stats()["guardrails"].counts
    assert counted.startswith("precall_evaluation.")
    with pytest.raises(RequestBlocked):
        call(factory.apply_middleware(origin, on_block="raise"), mode)


def test_the_judge_sees_what_the_rules_left(mode: str) -> None:
    origin = Judged()
    ask(origin, mode, "the card 4111 1111 1111 1111", pii=["credit_card"], precall_evaluation={})
    assert "the card [REDACTED]" in origin.judged[0]["messages"][1]["content"]
    assert "4111" not in json.dumps(origin.judged)
    assert set(origin.judged[0]) == {"messages"}


def test_a_turn_is_judged_once_also_in_a_tool_loop(mode: str) -> None:
    origin = Judged()
    model = factory_of(precall_evaluation={}).apply_middleware(origin)
    messages: list[Any] = [{"role": "user", "content": "look it up"}]
    call(model, mode, None, messages=messages)
    for number in range(3):
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [ToolCall(f"c{number}", "look", "{}").to_dict()]},
            {"role": "tool", "tool_call_id": f"c{number}", "content": "something else"},
        ]
        call(model, mode, None, messages=messages)
    assert (len(origin.judged), len(origin.calls)) == (1, 4)
    call(model, mode, None, messages=[*messages, {"role": "user", "content": "and now this"}])
    assert len(origin.judged) == 2
    assert "look it up" not in origin.judged[1]["messages"][1]["content"]


def test_sanitize(mode: str) -> None:
    origin = Judged(verdict='{"overall": "inappropriate", "safety_score": 10}')
    judge = {"actions": {"on_inappropriate": "sanitize"}, "sanitization_patterns": [r"\bdarn\w*"]}
    ask(origin, mode, "the darned thing", precall_evaluation=judge)
    assert origin.calls[0][1]["messages"][0]["content"] == "the [REDACTED] thing"


def test_warn_and_log_let_it_pass_and_say_so(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    origin = Judged(verdict='{"overall": "suspicious", "safety_score": 9, "appropriateness_score": 1}')
    with caplog.at_level(logging.INFO, logger="neuro_mw"):
        found = ask(origin, mode, "my own words", precall_evaluation={})
    assert found.text == "the answer"
    counts = found.metadata["guardrails"]["precall_evaluation"]
    assert counts == {"precall_evaluation.inappropriate": 1, "precall_evaluation.suspicious": 1}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "own words" not in caplog.text


def test_a_judge_that_is_down_may_be_let_pass(mode: str) -> None:
    down = ProviderUnavailable("down", provider="openai", model="gpt-4o", status=503)
    assert ask(Judged(verdict=down), mode, precall_evaluation={"on_failure": "warn"}).text == "the answer"
    assert ask(Judged(verdict=down), mode, precall_evaluation={}).blocked is not None


def test_another_model_judges(mode: str) -> None:
    origin = Judged()
    found = ask(origin, mode, precall_evaluation={"provider": "echo", "model": "echo"})
    assert found.blocked is not None, "it echoes the text, which is no verdict"
    assert origin.judged == origin.calls == []


def test_what_the_judge_costs_is_counted_apart(mode: str) -> None:
    found = ask(Judged(Response(text="the answer", usage=Usage(5, 2))), mode, precall_evaluation={})
    record = found.metadata["analytics"]
    assert (record["usage"]["input"], record["usage"]["output"]) == (5, 2)
    assert record["asked"]["calls"] == 1
    assert (record["asked"]["usage"]["input"], record["asked"]["usage"]["output"]) == (11, 3)


def test_switched_off_it_asks_nobody(mode: str) -> None:
    origin = Judged(verdict=UNSAFE)
    off = {"enabled": False}
    assert ask(origin, mode, precall_evaluation=off, model_filter=off).text == "the answer"
    assert origin.judged == []


# --- behind it -------------------------------------------------------------------------------------------------------


def test_an_unsafe_answer_is_replaced(mode: str) -> None:
    said = Response(text="how to do harm", reasoning="harm", tool_calls=[ToolCall("c", "f", '{"harm": 1}')])
    origin = Judged(said, UNSAFE, cuts=(2,))
    factory = factory_of(model_filter={})
    found = call(factory.apply_middleware(origin), mode)
    assert (found.text, found.reasoning, found.tool_calls) == (REDACTED, "", [])
    assert found.finish_reason == "content_filter"
    assert factory.registry.get_aggregated_stats()["guardrails"].counts == {"model_filter.unsafe": 1}
    assert "harm" not in json.dumps(found.to_dict())


def test_a_safe_answer_passes_with_its_rules(mode: str) -> None:
    origin = Judged("mail a@b.co", cuts=(1,))
    assert ask(origin, mode, model_filter={}, pii=["email"]).text == "mail [REDACTED]"
    assert "mail [REDACTED]" in origin.judged[0]["messages"][1]["content"]
    assert "a@b.co" not in json.dumps(origin.judged)


def test_an_answer_that_a_rule_blocks_is_not_judged(mode: str) -> None:
    origin = Judged("mail a@b.co")
    factory = factory_of(model_filter={}, pii=["email"], action="block")
    found = call(factory.apply_middleware(origin), mode)
    assert found.blocked is not None
    assert found.blocked.category == "pii"
    assert origin.judged == []
    assert factory.registry.get_aggregated_stats()["guardrails"].counts == {"pii.email": 1}


def test_a_failing_judge_blocks_the_answer(mode: str) -> None:
    found = ask(Judged(verdict="hm"), mode, model_filter={})
    assert found.blocked is not None
    assert "the answer" not in json.dumps(found.to_dict())
    assert ask(Judged(verdict="hm"), mode, model_filter={"on_failure": "warn"}).text == "the answer"


def test_nothing_leaves_before_the_verdict() -> None:
    origin = Judged("the answer", UNSAFE, cuts=(1,))
    model = factory_of(model_filter={}).apply_middleware(origin)

    async def texts() -> list[str]:
        return [text async for text in model.stream("x").text()]

    assert asyncio.run(texts()) == [REDACTED]


def test_explain_says_that_a_stream_waits() -> None:
    factory = factory_of(model_filter={})
    hooks = factory.explain(factory.create_context("openai", "gpt-4o"))["guardrails"].hooks
    assert "wrap_generate (buffers the stream)" in hooks["stream"]
    plain = factory_of(bad_words=["x"])
    assert "buffers" not in str(plain.explain(plain.create_context("openai", "gpt-4o")))


def test_a_caller_who_leaves_while_the_judge_thinks() -> None:
    class Slow(Judged):
        async def generate(self, params: Any) -> Response:
            if "[BEGIN " in params["messages"][0]["content"]:
                await asyncio.sleep(60)
            return await super().generate(params)

    async def main() -> Slow:
        origin = Slow()
        model = factory_of(precall_evaluation={"timeout_s": 50}).apply_middleware(origin)
        task = asyncio.create_task(model.generate("x"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return origin

    assert asyncio.run(main()).calls == []


def test_earlier_turns_go_out_as_they_did_when_they_were_new(mode: str) -> None:
    origin = Judged(verdict='{"overall": "inappropriate", "safety_score": 10}')
    judge = {"actions": {"on_inappropriate": "sanitize"}, "sanitization_patterns": [r"\bdarn\w*"]}
    model = factory_of(precall_evaluation=judge).apply_middleware(origin)
    messages: list[Any] = [{"role": "user", "content": "the darned thing"}]
    call(model, mode, None, messages=messages)
    origin.verdict = SAFE
    messages += [{"role": "assistant", "content": "what?"}, {"role": "user", "content": "that one"}]
    call(model, mode, None, messages=messages)
    first, second = (sent["messages"] for _, sent in origin.calls)
    assert second == [*first, *messages[1:]]
    assert len(origin.judged) == 2


def test_a_blocked_turn_does_not_reach_the_model_later(mode: str) -> None:
    origin = Judged(verdict=UNSAFE)
    model = factory_of(precall_evaluation={}).apply_middleware(origin)
    image = {"type": "image_url", "image_url": {"url": "data:x"}}
    messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "something bad"}, image]}]
    refused = call(model, mode, None, messages=messages)
    origin.verdict = SAFE
    messages += [refused.to_message(), {"role": "user", "content": "sorry"}]
    call(model, mode, None, messages=messages)
    ((_, sent),) = origin.calls
    assert sent["messages"][0] == {"role": "user", "content": "[REDACTED]"}
    assert "something bad" not in json.dumps(sent)


@pytest.mark.parametrize(
    "history",
    [
        [{"role": "user", "content": "something bad"}, {"role": "assistant", "content": BLOCKED}],
        [{"role": "user", "content": "something bad"}, {"role": "assistant", "content": "ok?"}],
    ],
)
@pytest.mark.parametrize("cache_size", [0, 1000])
def test_a_turn_of_which_nothing_is_remembered_is_new(
    mode: str, history: list[Any], cache_size: int
) -> None:
    origin = Judged(verdict=UNSAFE)
    model = factory_of(precall_evaluation={"cache_size": cache_size}).apply_middleware(origin)
    messages = [*history, {"role": "user", "content": "go on"}]
    assert call(model, mode, None, messages=messages).blocked is not None
    assert origin.calls == []
    first, second = (asked["messages"][1]["content"] for asked in origin.judged)
    assert "something bad" in first
    assert "go on" not in first
    assert "something bad" not in second


def test_a_turn_whose_judge_was_down_is_judged_later(mode: str) -> None:
    origin = Judged(verdict=ZeroDivisionError())
    model = factory_of(precall_evaluation={}).apply_middleware(origin)
    messages: list[Any] = [{"role": "user", "content": "something bad"}]
    refused = call(model, mode, None, messages=messages)
    origin.verdict = UNSAFE
    messages += [refused.to_message(), {"role": "user", "content": "go on"}]
    assert call(model, mode, None, messages=messages).blocked is not None
    assert origin.calls == []


def test_a_tool_loop_in_the_dialect_of_anthropic_is_one_turn(mode: str) -> None:
    origin = Judged()
    model = factory_of(precall_evaluation={}).apply_middleware(origin)
    messages: list[Any] = [{"role": "user", "content": "look it up"}]
    for number in range(4):
        call(model, mode, None, messages=messages)
        use = {"type": "tool_use", "id": f"t{number}", "name": "look", "input": {}}
        result = {"type": "tool_result", "tool_use_id": f"t{number}", "content": "found"}
        messages += [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    assert (len(origin.judged), len(origin.calls)) == (1, 4)


@pytest.mark.parametrize("name", ["prompt", "input", "prediction", "suffix"])
def test_other_params_of_the_user_are_judged(mode: str, name: str) -> None:
    for params in ({name: "something bad"}, {"extra_body": {name: "something bad"}}):
        origin = Judged(verdict=UNSAFE)
        model = factory_of(precall_evaluation={}).apply_middleware(origin)
        found = call(model, mode, {"messages": [{"role": "user", "content": "hi"}], **params})
        assert found.blocked is not None
        assert "hi\nsomething bad" in origin.judged[0]["messages"][1]["content"]


def test_what_a_provider_sends_beside_is_judged(mode: str) -> None:
    said = Response(text="fine", provider_fields={"audio": {"transcript": "harm"}, "id": "x"})
    origin = Judged(said, UNSAFE)
    assert ask(origin, mode, model_filter={}).text == REDACTED
    assert "fine\n\nharm" in origin.judged[0]["messages"][1]["content"]


class Picky(Judged):
    """It finds unsafe what holds the word bad; several turns together also where none of them does."""

    def __init__(self, bad: str = "thing bad", **how: Any) -> None:
        super().__init__(**how)
        self.bad = bad

    async def generate(self, params: Any) -> Response:
        response = await super().generate(params)
        if params in self.judged:
            response.text = UNSAFE if self.bad in params["messages"][-1]["content"] else SAFE
        return response


def test_one_bad_turn_of_before_does_not_block_for_ever(mode: str) -> None:
    origin = Picky()
    model = factory_of(precall_evaluation={}).apply_middleware(origin)  # as after a restart: it remembers nothing
    messages: list[Any] = [
        {"role": "user", "content": "something bad"}, {"role": "assistant", "content": BLOCKED},
        {"role": "user", "content": "go on"},
    ]  # fmt: skip
    for number in range(3):
        assert call(model, mode, None, messages=messages).text == "the answer"
        assert origin.calls[-1][1]["messages"][0] == {"role": "user", "content": "[REDACTED]"}
        messages += [{"role": "assistant", "content": "the answer"}, {"role": "user", "content": f"more {number}"}]
    assert len(origin.judged) == 2 + 2


def test_a_blocked_turn_keeps_the_results_of_tools(mode: str) -> None:
    origin = Picky()
    model = factory_of(precall_evaluation={}).apply_middleware(origin)
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "the page says: thing bad"}
    use = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
    messages: list[Any] = [
        {"role": "user", "content": "look"}, {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result, {"type": "text", "text": "a thing bad"}]},
        {"role": "assistant", "content": BLOCKED}, {"role": "user", "content": "go on"},
    ]  # fmt: skip
    assert call(model, mode, None, messages=messages).text == "the answer"
    sent = origin.calls[-1][1]["messages"][2]
    assert sent == {"role": "user", "content": [result, {"type": "text", "text": "[REDACTED]"}]}
    harmless = [*messages[:2], {"role": "user", "content": [result, {"type": "text", "text": "fine"}]}]
    assert call(model, mode, None, messages=harmless).text == "the answer", "a page is not the user's word"


def test_text_beside_the_messages_that_cannot_be_sanitized_blocks(mode: str) -> None:
    judge = {"actions": {"on_unsafe": "sanitize"}, "sanitization_patterns": ["x"]}
    origin = Judged(verdict=UNSAFE)
    model = factory_of(precall_evaluation=judge).apply_middleware(origin)
    assert call(model, mode, {"messages": [], "prompt": "something bad"}).blocked is not None
    assert origin.calls == []


def test_a_judge_that_is_busy_is_asked_again(mode: str) -> None:
    class Busy(Judged):
        async def generate(self, params: Any) -> Response:
            if "[BEGIN " in params["messages"][0]["content"] and not self.judged:
                self.judged.append(params)
                raise ProviderUnavailable("busy", provider="openai", model="x", retryable=True, retry_after=0.0)
            return await super().generate(params)

    assert ask(Busy(), mode, precall_evaluation={}).text == "the answer"

"""The middleware in a chain: both modes, every message, every channel."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import BaseModel

from neuro_mw import BadRequest, MiddlewareFactory, Response, ToolCall, collect, hooks_of, middleware
from neuro_mw.builtin import Guardrails
from neuro_mw.builtin.guardrails import Rule
from neuro_mw.testing import ScriptedModel

WORDS = {"bad_words": ["secret plan"]}


def wrapped(model: Any, **options: Any) -> Any:
    return MiddlewareFactory(preset=None, middleware=[Guardrails(**options)], plugins=False).apply_middleware(model)


@pytest.fixture(params=["generate", "stream"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def call(model: Any, mode: str, **params: Any) -> Response:
    async def run() -> Response:
        if mode == "generate":
            found: Response = await model.generate(**params)
            return found
        return await collect(model.stream(**params))

    return asyncio.run(run())


def test_the_answer_in_every_channel(mode: str) -> None:
    arguments = json.dumps({"to": "the secret plan", "n": 1})
    call_of_f = ToolCall("c", "f", arguments)
    origin = ScriptedModel(
        Response(text="a secret plan", reasoning="so: secret plan", tool_calls=[call_of_f]), cuts=(1,)
    )
    found = call(wrapped(origin, **WORDS), mode, messages=[])
    assert found.text == "a [REDACTED]"
    assert found.reasoning == "so: [REDACTED]"
    assert json.loads(found.tool_calls[0].arguments) == {"to": "the [REDACTED]", "n": 1}
    assert found.metadata["guardrails"] == {
        "output": {"bad_words": 1}, "reasoning": {"bad_words": 1}, "tool_arguments": {"bad_words": 1},
    }  # fmt: skip


def test_every_message_is_judged_and_stays_what_it_was(mode: str) -> None:
    origin = ScriptedModel("ok")
    image = {"type": "image_url", "image_url": {"url": "data:secret plan"}}
    messages = [
        {"role": "system", "content": "keep the secret plan"},
        {"role": "user", "content": [{"type": "text", "text": "a secret plan"}, image]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x": "secret plan"}'}}]},
        {"role": "tool", "tool_call_id": "c", "content": "secret plan"},
        {"role": "user", "content": "hello"},
    ]  # fmt: skip
    before = json.dumps(messages)
    call(wrapped(origin, **WORDS), mode, messages=messages)
    sent = origin.calls[0][1]["messages"]
    assert json.dumps(messages) == before
    assert [one["content"] for one in sent] == [
        "keep the secret plan", [{"type": "text", "text": "a [REDACTED]"}, image], None, "[REDACTED]", "hello",
    ]  # fmt: skip
    assert sent[2]["tool_calls"][0]["function"]["arguments"] == '{"x": "[REDACTED]"}'
    call(wrapped(origin, **WORDS), mode, messages=[*messages, {"role": "user", "content": "more"}])
    assert origin.calls[1][1]["messages"][:5] == sent, "the same beginning is the same: a provider's cache stays valid"


def test_a_blocked_request_never_reaches_the_model(mode: str) -> None:
    origin = ScriptedModel("ok")
    model = wrapped(origin, **WORDS, action={"input": "block"})
    found = call(model, mode, messages=[{"role": "user", "content": "the Secret Plan"}])
    assert found.blocked is not None
    assert (found.blocked.category, found.blocked.detail["channel"]) == ("bad_words", "input")
    assert "ecret" not in json.dumps(found.to_dict())
    assert origin.calls == []


def test_a_blocked_answer(mode: str) -> None:
    origin = ScriptedModel("well, the secret plan is", cuts=(2,))
    found = call(wrapped(origin, **WORDS, action={"bad_words": {"output": "block"}}), mode, messages=[])
    assert found.blocked is not None
    assert found.finish_reason == "content_filter"
    assert "secret" not in found.text


@pytest.mark.parametrize(
    ("action", "expected"),
    [("redact", "[REDACTED] ok"), ("mask", "****** **** ok"), ("warn", "secret plan ok")],
)
def test_actions(mode: str, action: str, expected: str) -> None:
    found = call(wrapped(ScriptedModel("secret plan ok", cuts=(3,)), **WORDS, action=action), mode, messages=[])
    assert found.text == expected
    assert found.metadata["guardrails"] == {"output": {"bad_words": 1}}


def test_hashes_are_the_same_for_the_same(mode: str) -> None:
    found = call(wrapped(ScriptedModel("a@b.co c@d.co a@b.co"), pii=["email"], action="hash"), mode, messages=[])
    first, second, third = found.text.split()
    assert first == third != second
    assert first.startswith("<EMAIL:")


# --- what else of a request is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "after"),
    [
        ({"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "secret plan"}}]},
         [{"type": "document", "source": {"type": "text", "data": "[REDACTED]"}}]),
        ({"role": "user", "content": [{"type": "file", "source": {"type": "base64", "data": "secret plan"}}]}, None),
        ({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "secret plan", "content": "secret plan"}]},
         [{"type": "tool_result", "tool_use_id": "secret plan", "content": "[REDACTED]"}]),
        ({"role": "assistant", "content": [{"type": "tool_use", "id": "x", "input": {"a": ["secret plan"], "n": 1}}]},
         [{"type": "tool_use", "id": "x", "input": {"a": ["[REDACTED]"], "n": 1}}]),
        ({"role": "user", "content": [{"type": "some_new_kind", "words": {"deep": ["secret plan"]}}]},
         [{"type": "some_new_kind", "words": {"deep": ["[REDACTED]"]}}]),
        ({"role": "user", "content": ["secret plan"]}, ["[REDACTED]"]),
        ({"role": "user", "content": [{"type": "json", "data": {"api_key": "secret plan"}}]},
         [{"type": "json", "data": {"api_key": "[REDACTED]"}}]),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "secret plan", "format": "w"}}]},
         None),
        ({"role": "user", "content": [{"type": "function_response", "response": {"status": "secret plan"}}]},
         [{"type": "function_response", "response": {"status": "[REDACTED]"}}]),
        ({"role": "assistant", "content": [{"type": "tool_use", "input": {"secret plan": 1}}]},
         [{"type": "tool_use", "input": {"[REDACTED]": 1}}]),
        ({"role": "assistant", "content": [{"type": "tool_use", "input": {"url": "secret plan", "id": "secret plan"}}]},
         [{"type": "tool_use", "input": {"url": "[REDACTED]", "id": "[REDACTED]"}}]),
    ],
)  # fmt: skip
def test_texts_under_any_key(mode: str, message: dict[str, Any], after: Any) -> None:
    origin = ScriptedModel("ok")
    call(wrapped(origin, **WORDS), mode, messages=[message])
    assert origin.calls[0][1]["messages"][0]["content"] == (message["content"] if after is None else after)


def test_legacy_function_calls_and_numbers(mode: str) -> None:
    origin = ScriptedModel("ok")
    card = 4111111111111111
    messages = [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": f'{{"card": {card}}}'}},
        {"role": "user", "content": [{"type": "tool_use", "input": {"card": card, "n": 7}}]},
    ]
    call(wrapped(origin, pii=["credit_card"]), mode, messages=messages)
    sent = origin.calls[0][1]["messages"]
    assert json.loads(sent[0]["function_call"]["arguments"]) == {"card": "[REDACTED]"}
    assert sent[1]["content"][0]["input"] == {"card": "[REDACTED]", "n": 7}


def test_other_params_that_a_model_reads(mode: str) -> None:
    origin = ScriptedModel("ok")
    body = {"documents": [{"text": "secret plan"}], "user": "secret plan"}
    params = {"system": "secret plan", "prediction": {"type": "content", "content": "secret plan"}, "extra_body": body}
    call(wrapped(origin, **WORDS), mode, messages=[], **params)
    sent = origin.calls[0][1]
    assert sent["system"] == "secret plan", "the system's texts are left alone unless they are asked for"
    assert sent["prediction"] == {"type": "content", "content": "[REDACTED]"}
    assert sent["extra_body"] == {"documents": [{"text": "[REDACTED]"}], "user": "secret plan"}
    assert body["documents"][0]["text"] == "secret plan"
    call(wrapped(origin, **WORDS, apply_to=["system"]), mode, messages=[], **params)
    assert origin.calls[1][1]["system"] == "[REDACTED]"


def test_what_does_not_change_is_not_copied(mode: str) -> None:
    origin = ScriptedModel("ok")
    part = {"type": "text", "text": "a plan"}
    call(wrapped(origin, **WORDS), mode, messages=[{"role": "user", "content": [part]}])
    assert origin.calls[0][1]["messages"][0]["content"][0] is part


def test_arguments_that_are_no_json_are_text_and_said(mode: str) -> None:
    guard = Guardrails(**WORDS)
    factory = MiddlewareFactory(preset=None, middleware=[guard], plugins=False)
    origin = ScriptedModel(Response(tool_calls=[ToolCall("c", "f", "{'x': secret plan")]), cuts=(2,))
    found = call(factory.apply_middleware(origin), mode, messages=[])
    assert found.tool_calls[0].arguments == "{'x': [REDACTED]"
    assert found.metadata["guardrails"]["invalid_json"] == {"tool_arguments": 1}
    counts = factory.registry.get_aggregated_stats()["guardrails"].counts
    assert counts == {"bad_words": 1, "invalid_json.tool_arguments": 1}


# --- what is said of it ----------------------------------------------------------------------------------------------


def test_stats_and_log_count_by_rule_and_hold_no_text(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    guard = Guardrails(pii=["email"], bad_words=["plan"], action={"pii": "warn"})
    factory = MiddlewareFactory(preset=None, middleware=[guard], plugins=False)
    model = factory.apply_middleware(ScriptedModel("a@b.co or c@d.co", cuts=(1,)))
    with caplog.at_level("INFO", logger="neuro_mw"):
        found = call(model, mode, messages=[{"role": "user", "content": "the plan of e@f.co"}])
    assert found.text == "a@b.co or c@d.co"
    assert factory.registry.get_aggregated_stats()["guardrails"].counts == {"pii.email": 3, "bad_words": 1}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "pii.email in input (1), pii.email in output (2) for openai/gpt-4o, request openai-" in record.getMessage()
    assert "b.co" not in record.getMessage()


def test_nothing_found_is_nothing_said(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    found = call(wrapped(ScriptedModel("fine"), pii=True, action="warn"), mode, messages=[])
    assert "guardrails" not in found.metadata
    assert not caplog.records


def test_a_detector_that_crashes_fails_closed(mode: str) -> None:
    def crash(text: str) -> int:
        raise ZeroDivisionError

    rule = Rule("mine", "secret", check=crash)
    model = wrapped(ScriptedModel("a secret", cuts=(3,)), detectors={"mine": lambda options: [rule]})
    with pytest.raises(ZeroDivisionError) as caught:
        call(model, mode, messages=[])
    if mode == "stream":
        assert caught.value.partial.text == "a "  # type: ignore[attr-defined]


def test_concurrent_calls_do_not_mix() -> None:
    async def main() -> list[Response]:
        model = wrapped(ScriptedModel("a secret plan", cuts=(2,), delay_s=0.0005), **WORDS)
        return await asyncio.gather(*(collect(model.stream("x")) for _ in range(50)))

    found = asyncio.run(main())
    assert {one.text for one in found} == {"a [REDACTED]"}
    assert all(one.metadata["guardrails"] == {"output": {"bad_words": 1}} for one in found)


def test_hooks_without_work_are_none() -> None:
    assert hooks_of(Guardrails(**WORDS, apply_to=["output"])).transform_params is None
    assert hooks_of(Guardrails(**WORDS, apply_to=["input"])).transform_parts is None
    assert hooks_of(Guardrails(**WORDS)).wrap_generate is None
    assert hooks_of(Guardrails()).transform_params is None


def test_two_guards_of_one_class_say_what_both_found(mode: str) -> None:
    factory = MiddlewareFactory(
        preset=None,
        plugins=False,
        middleware_config={
            "guardrails": {"config": {"bad_words": ["plan"]}},
            "strict": {"use": "guardrails", "config": {"bad_words": ["secret"]}, "priority": 80},
        },
    )
    found = call(factory.apply_middleware(ScriptedModel("a secret plan")), mode, messages=[])
    assert found.text == "a [REDACTED] [REDACTED]"
    assert found.metadata["guardrails"] == {"output": {"bad_words": 2}}
    stats = factory.registry.get_aggregated_stats()
    assert stats["guardrails"].counts == stats["strict"].counts == {"bad_words": 1}


def test_a_guard_that_guards_nothing_says_so(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    factory = MiddlewareFactory(preset=None, plugins=False, enabled_middleware=["guardrails"])
    call(factory.apply_middleware(ScriptedModel()), mode)
    assert "guards nothing" in caplog.text
    caplog.clear()
    call(wrapped(ScriptedModel(), **WORDS), mode, messages=[])
    assert "guards nothing" not in caplog.text


class Said(BaseModel):
    """A part or a message of an SDK."""

    type: str = "text"
    text: str = "secret plan"


def test_objects_that_a_layer_puts_in_are_read_too(mode: str) -> None:
    def put(params: Any, context: Any) -> Any:
        content = [Said(), MappingProxyType({"text": "secret plan"})]
        return {**params, "messages": [{"role": "user", "content": content}]}

    origin = ScriptedModel("ok")
    outer = middleware("outer", priority=99, transform_params=put)
    factory = MiddlewareFactory(preset=None, middleware=[outer, Guardrails(**WORDS)], plugins=False)
    call(factory.apply_middleware(origin), mode, messages=[])
    sent = origin.calls[0][1]["messages"][0]["content"]
    assert sent == [{"type": "text", "text": "[REDACTED]"}, {"text": "[REDACTED]"}]


@pytest.mark.parametrize("what", [b"secret plan", {"a", "b"}, object()])
def test_what_no_rule_can_read_is_refused(mode: str, what: Any) -> None:
    origin = ScriptedModel("ok")
    with pytest.raises(BadRequest, match="in which no rule could look"):
        call(wrapped(origin, **WORDS), mode, messages=[{"role": "user", "content": [{"type": "text", "text": what}]}])
    assert origin.calls == []


def test_what_is_too_deep_is_refused(mode: str) -> None:
    deep: Any = "secret plan"
    for _ in range(5000):
        deep = [deep]
    origin = ScriptedModel("ok")
    with pytest.raises(BadRequest, match="nested too deeply"):
        call(wrapped(origin, **WORDS), mode, messages=[{"role": "user", "content": [{"x": deep}]}])
    assert origin.calls == []


@pytest.mark.parametrize(
    ("params", "channel"),
    [
        ({"documents": [{"text": "secret plan"}]}, "input"),
        ({"guided_json": {"description": "secret plan"}}, "input"),
        ({"response_format": {"json_schema": {"schema": {"description": "secret plan"}}}}, "system"),
        ({"tools": [{"function": {"name": "f", "description": "secret plan"}}]}, "system"),
    ],
)
def test_params_that_a_model_may_read(mode: str, params: dict[str, Any], channel: str) -> None:
    origin = ScriptedModel("ok")
    call(wrapped(origin, **WORDS, apply_to=[channel]), mode, messages=[], **params)
    assert "secret" not in json.dumps(origin.calls[0][1])
    assert "REDACTED" in json.dumps(origin.calls[0][1])


def test_params_that_are_settings_stay(mode: str) -> None:
    origin = ScriptedModel("ok")
    given = {"user": "secret plan", "metadata": {"a": "secret plan"}, "stop": ["secret plan"], "seed": 41111111}
    call(wrapped(origin, **WORDS, pii=True), mode, messages=[], **given)
    assert {key: origin.calls[0][1][key] for key in given} == given


def test_a_name_is_text_unless_it_is_a_tools(mode: str) -> None:
    origin = ScriptedModel("ok")
    tool = {"role": "function", "name": "plan", "content": ""}
    messages = [{"role": "user", "name": "secret plan", "content": "x"}, tool]
    call(wrapped(origin, bad_words=["secret plan", "plan"]), mode, messages=messages)
    assert [one["name"] for one in origin.calls[0][1]["messages"]] == ["[REDACTED]", "plan"]


@pytest.mark.parametrize("normalize", [True, False])
def test_taking_out_what_is_invisible_makes_no_match(mode: str, normalize: bool) -> None:
    model = wrapped(ScriptedModel("a sec\u200bret p\u2060lan", cuts=(2,)), **WORDS, invisible=True, normalize=normalize)
    assert call(model, mode, messages=[]).text == "a [REDACTED]"


def test_half_a_surrogate_pair_is_text_like_other(mode: str) -> None:
    model = wrapped(ScriptedModel("half \ud83d of a secret plan", cuts=(3,)), **WORDS, pii=True, secrets=True)
    found = call(model, mode, messages=[{"role": "user", "content": "\ud83d secret plan"}])
    assert found.text == "half \ud83d of a [REDACTED]"


def test_a_turn_stays_the_users_input_while_tools_are_called_for_it(mode: str) -> None:
    origin = ScriptedModel("ok")
    model = wrapped(origin, **WORDS, apply_to=["input"])
    use = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    for calling in ({"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
                    {"role": "ASSISTANT", "content": [use]}):  # fmt: skip
        messages = [{"role": "user", "content": "secret plan"}, calling, {"role": "tool", "content": "secret plan"}]
        call(model, mode, messages=messages)
        assert [one.get("content") for one in origin.calls[-1][1]["messages"]][::2] == ["[REDACTED]", "secret plan"]
    answered = [{"role": "user", "content": "secret plan"}, {"role": "assistant", "content": "ok"}]
    call(model, mode, messages=answered)
    assert origin.calls[-1][1]["messages"] == answered


def test_what_is_the_drivers_own_or_no_data_at_all_stays(mode: str) -> None:
    origin = ScriptedModel("ok")
    given = {
        "aws_access_key_id": "secret plan", "vertex_credentials": "secret plan", "client": object(),
        "azure_ad_token_provider": print, "litellm_metadata": {"x": object()}, "response_format": Said,
        "when": date.min,
    }  # fmt: skip
    call(wrapped(origin, **WORDS, apply_to=["input", "system"]), mode, messages=[], **given)
    assert {key: origin.calls[0][1][key] for key in given} == given


def test_keys_that_are_redacted_alike_stay_apart(mode: str) -> None:
    origin = ScriptedModel("ok")
    given = {"ada@example.org": 1, "bob@example.org": 2}
    call(wrapped(origin, pii=["email"]), mode, messages=[{"role": "user", "content": [{"input": given}]}])
    assert origin.calls[0][1]["messages"][0]["content"][0]["input"] == {"[REDACTED]": 1, "[REDACTED] (2)": 2}

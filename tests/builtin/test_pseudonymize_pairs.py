"""Beside other middlewares: guardrails, the cache, and layers that ask again; each does its work."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

import pytest

from neuro_mw import MiddlewareFactory, Response, ToolCall, collect, middleware
from neuro_mw.builtin import Cache, Guardrails, Retry
from neuro_mw.builtin.guardrails import RuleSet
from neuro_mw.builtin.pseudonymize import Pseudonymize
from neuro_mw.builtin.pseudonyms.names import placeholder
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel

JANE, BOB, PHONE = "jane@acme.org", "bob@acme.org", "+1 212 555 7788"
ALL: dict[str, Any] = {"pii": True, "secrets": True, "injection": True, "invisible": True, "bad_words": ["darn"]}
EVERYWHERE = ["input", "system", "history", "tool_results", "output", "reasoning", "tool_arguments"]


@pytest.fixture(params=["generate", "stream"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def wrapped(model: Any, *chain: Any) -> Any:
    return MiddlewareFactory(preset=None, middleware=list(chain), plugins=False).apply_middleware(model)


def call(model: Any, mode: str, prompt: Any = None, **params: Any) -> Response:
    async def run() -> Response:
        if mode == "generate":
            found: Response = await model.generate(prompt, **params)
            return found
        return await collect(model.stream(prompt, **params))

    return asyncio.run(run())


@pytest.mark.parametrize("style", ["type_index", "hash"])
@pytest.mark.parametrize("cuts", [(1,), (3,), (1000,)])
def test_guardrails_leave_placeholders_and_do_their_work(mode: str, style: str, cuts: tuple[int, ...]) -> None:
    origin = ScriptedModel("")
    model = wrapped(origin, Guardrails(**ALL, apply_to=EVERYWHERE), Pseudonymize(style=style))
    assert model.chain == ("pseudonymize", "guardrails")
    prompt = f"darn, mail {JANE} or {PHONE}"
    call(model, mode, prompt)
    sent = origin.calls[0][1]["messages"][0]["content"]
    email, phone = sent.removeprefix("[REDACTED], mail ").split(" or ")
    assert (email[:7], phone[:7]) == ("<EMAIL_", "<PHONE_")
    arguments = f'{{"to": "{email}", "cc": "eve@acme.org"}}'
    text = f"darn {email}, not eve@acme.org, {phone}"
    origin.response = Response(text=text, reasoning=text, tool_calls=[ToolCall("c", "f", arguments)])
    origin.cuts = cuts
    found = call(model, mode, prompt)
    assert found.text == found.reasoning == f"[REDACTED] {JANE}, not [REDACTED], {PHONE}"
    assert found.tool_calls[0].arguments == f'{{"to": "{JANE}", "cc": "[REDACTED]"}}'
    assert found.metadata["guardrails"]["input"] == {"bad_words": 1}
    assert found.metadata["pseudonymize"] == {"values": {"EMAIL": 1, "PHONE": 1}, "unknown_placeholders": 0}


def test_no_detector_takes_a_placeholder_for_something_else() -> None:
    rules = RuleSet(Guardrails(**ALL).config.rules)
    dice = random.Random(7)
    for kind in ("EMAIL", "PHONE", "CREDIT_CARD", "IBAN", "SSN", "IP", "MAC", "SECRET", "PERSON", "CUSTOMER_NO"):
        for _ in range(300):
            key, number = dice.randbytes(8), dice.randrange(1, 10**9)
            for style in ("type_index", "hash"):
                made = placeholder(style, kind, number, "x", key)  # type: ignore[arg-type]  # one of the literals
                for around in ("{}", "id: {}", '{{"token": "{}"}}', "call {} now", "key={}"):
                    assert not rules.scan(around.format(made)), (made, around)


def test_what_guardrails_put_in_place_of_an_answer_stays(mode: str) -> None:
    """The hash of the same type has another form than a placeholder."""
    origin = ScriptedModel("eve@acme.org is not <EMAIL_1>")
    found = call(wrapped(origin, Guardrails(pii=True, action="hash"), Pseudonymize()), mode, JANE)
    hashed, _, rest = found.text.partition(" is not ")
    assert (hashed[:7], len(hashed), rest) == ("<EMAIL:", 16, JANE)
    assert found.metadata["pseudonymize"]["unknown_placeholders"] == 0


def test_a_block_of_guardrails_is_one(mode: str) -> None:
    origin = ScriptedModel("darn <EMAIL_1>")
    found = call(wrapped(origin, Guardrails(bad_words=["darn"], action="block"), Pseudonymize()), mode, JANE)
    assert found.blocked is not None
    assert found.blocked.middleware == "guardrails"
    assert JANE not in found.text


def test_fakes_are_said_to_look_real_to_guardrails(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    origin = ScriptedModel("ok")
    model = wrapped(origin, Guardrails(pii=["email"]), Pseudonymize(style="fake"))
    with caplog.at_level(logging.WARNING, "neuro_mw"):
        for _ in range(2):
            call(model, mode, JANE)
    said = [one.getMessage() for one in caplog.records if "fakes" in one.getMessage()]
    assert said == ["middleware 'pseudonymize': its fakes look like personal data to 'guardrails', further in"]
    caplog.clear()
    call(wrapped(origin, Guardrails(secrets=True), Pseudonymize(style="fake")), mode, JANE)
    assert "fakes" not in caplog.text


def test_the_cache_sees_placeholders_and_each_gets_their_own_back(mode: str) -> None:
    origin = ScriptedModel("mailed <EMAIL_1>")
    model = wrapped(origin, Cache(), Pseudonymize())
    assert model.chain == ("pseudonymize", "cache")
    assert call(model, mode, f"mail {JANE}").text == f"mailed {JANE}"
    found = call(model, mode, f"mail {BOB}")
    assert (found.text, found.metadata["cache"]["hit"]) == (f"mailed {BOB}", True)
    assert len(origin.calls) == 1


def test_the_cache_is_further_in_whatever_the_priorities_are() -> None:
    factory = MiddlewareFactory(
        preset=None, plugins=False, middleware=[Pseudonymize(), Cache()],
        middleware_config={"pseudonymize": {"priority": 10}},
    )  # fmt: skip
    assert factory.apply_middleware(ScriptedModel()).chain == ("pseudonymize", "cache")


def test_a_retry_sends_the_same_again(mode: str) -> None:
    from neuro_mw import ProviderUnavailable

    busy = ProviderUnavailable("busy", provider="openai", model="gpt-4o", retryable=True)
    model = FaultyModel("to <EMAIL_1>", faults=[Fault(0, busy)])
    assert call(wrapped(model, Pseudonymize(), Retry(initial_delay_s=0)), mode, JANE).text == f"to {JANE}"
    assert [one.params["messages"][0]["content"] for one in model.calls] == ["<EMAIL_1>"] * 2


def test_a_further_passage_from_outside_is_one_of_its_own(mode: str) -> None:
    async def twice(do_generate: Any, params: Any, context: Any) -> Response:
        first = await do_generate({**params, "messages": [{"role": "user", "content": BOB}]})
        second = await do_generate(params)
        return Response(text=f"{first.text} {second.text}", metadata=second.metadata)

    outer = middleware("twice", priority=200, wrap_generate=twice)
    assert call(wrapped(ScriptedModel("<EMAIL_1>"), outer, Pseudonymize()), mode, JANE).text == f"{BOB} {JANE}"

"""Placeholders out and originals back, in every place of a request and of an answer, in both modes."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import traceback
from collections import Counter, OrderedDict, namedtuple
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import BaseModel

from neuro_mw import (
    BadRequest,
    Block,
    Blocked,
    ConfigError,
    Finish,
    MiddlewareError,
    MiddlewareFactory,
    ProviderDelta,
    Response,
    TextDelta,
    ToolCall,
    Usage,
    collect,
    middleware,
)
from neuro_mw.builtin.guardrails import Guardrails, Rule
from neuro_mw.builtin.pseudonymize import Pseudonymize
from neuro_mw.builtin.pseudonyms import fakes
from neuro_mw.builtin.pseudonyms.names import placeholder
from neuro_mw.detectors import offering
from neuro_mw.testing import ScriptedModel

JANE, BOB, PHONE, CARD = "jane@acme.org", "Bob.O'Neil@acme.org", "+1 212 555 7788", "4111 1111 1111 1111"
JSON = f'{{"to": "{JANE}", "{JANE}": 1}}'
TOKEN = "ghp_0123456789abcdefghijABCDEFGHIJ012345"
STYLES = ["type_index", "fake", "hash"]
QUOTED = {"name": r'[A-Z]\w+ "\w+" [A-Z]\w+'}  # a name that JSON has to escape


def wrapped(model: Any, *more: Any, **options: Any) -> Any:
    chain = [Pseudonymize(**options), *more]
    return MiddlewareFactory(preset=None, middleware=chain, plugins=False).apply_middleware(model)


@pytest.fixture(params=["generate", "stream"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def call(model: Any, mode: str, prompt: Any = None, **params: Any) -> Response:
    async def run() -> Response:
        if mode == "generate":
            found: Response = await model.generate(prompt, **params)
            return found
        return await collect(model.stream(prompt, **params))

    return asyncio.run(run())


def sent(origin: ScriptedModel, at: int = -1) -> dict[str, Any]:
    return dict(origin.calls[at][1])


def test_every_channel_of_an_answer_gets_the_originals_back(mode: str) -> None:
    arguments = '{"to": "<EMAIL_1>", "<EMAIL_1>": ["\\u003cPHONE_1\\u003e", "<EMAIL_2>!"], "n": 1}'
    origin = ScriptedModel(
        Response(
            text="to <EMAIL_1>, <PHONE_1>", reasoning="so <EMAIL_2>", tool_calls=[ToolCall("c", "f", arguments)],
            provider_fields={"refusal": "not <EMAIL_1>", "id": "<EMAIL_1>", "logprobs": {"content": [{"token": "<"}]}},
            usage=Usage(1, 2), id="r", metadata={"inner": {"value": ["<EMAIL_1>", 1], "same": "x"}},
        ),
        cuts=(1,),
    )  # fmt: skip
    found = call(wrapped(origin), mode, f"{JANE} {BOB} {JANE} {PHONE}")
    assert sent(origin)["messages"][0]["content"] == "<EMAIL_1> <EMAIL_2> <EMAIL_1> <PHONE_1>".replace(
        "<EMAIL_2>", "Bob.O'<EMAIL_2>"
    )
    assert found.text == f"to {JANE}, {PHONE}"
    assert found.reasoning == "so Neil@acme.org"
    said = {"to": JANE, JANE: [PHONE, "Neil@acme.org!"], "n": 1}
    assert json.loads(found.tool_calls[0].arguments) == said
    assert found.provider_fields == {
        "refusal": f"not {JANE}", "id": "<EMAIL_1>", "logprobs": {"content": [{"token": "<"}]},
    }  # fmt: skip
    assert (found.usage, found.id) == (Usage(1, 2), "r")
    assert found.metadata["inner"] == {"value": [JANE, 1], "same": "x"}
    assert found.metadata["pseudonymize"] == {"values": {"EMAIL": 2, "PHONE": 1}, "unknown_placeholders": 0}


def test_every_place_of_a_request(mode: str) -> None:
    origin = ScriptedModel("ok")
    image = {"type": "image_url", "image_url": {"url": f"https://x.example/?u={JANE}"}}
    messages = [
        {"role": "system", "content": f"you serve {JANE}"},
        {"role": "user", "name": JANE, "content": [{"type": "text", "text": f"I am {JANE}"}, image]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": JSON}}]},
        {"role": "tool", "tool_call_id": "c", "content": f"sent to {JANE}"},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "d", "content": [
            {"type": "text", "text": JANE}]}]},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "d", "name": "g", "input": {"card": 4111111111111111, "id": JANE, JANE: 1}}]},
        MappingProxyType({"role": "user", "content": JANE}),
    ]  # fmt: skip
    tools = [{"type": "function", "function": {"name": "f", "description": f"mails, as to {JANE}"}}]
    more: dict[str, Any] = {
        "tools": tools,
        "prediction": {"type": "content", "content": JANE},
        "extra_body": {"q": JANE},
    }
    given: dict[str, Any] = {"messages": messages, "user": "u-1", **more}
    before = repr(given)
    call(wrapped(origin), mode, **given)
    assert repr(given) == before
    told = sent(origin)
    assert JANE not in json.dumps(told).replace(json.dumps(image), "")
    assert [one["content"] for one in told["messages"][:2]] == [
        "you serve <EMAIL_1>", [{"type": "text", "text": "I am <EMAIL_1>"}, image],
    ]  # fmt: skip
    assert told["messages"][1]["name"] == "<EMAIL_1>"
    assert told["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"to": "<EMAIL_1>", "<EMAIL_1>": 1}'
    assert told["messages"][5]["content"][0]["input"] == {"card": "<CREDIT_CARD_1>", "id": "<EMAIL_1>", "<EMAIL_1>": 1}
    assert told["messages"][6] == {"role": "user", "content": "<EMAIL_1>"}
    assert told["tools"][0]["function"]["description"] == "mails, as to <EMAIL_1>"
    assert (told["prediction"]["content"], told["extra_body"], told["user"]) == ("<EMAIL_1>", {"q": "<EMAIL_1>"}, "u-1")


def test_inner_layers_and_what_was_sent_have_placeholders_and_outer_ones_the_originals(mode: str) -> None:
    seen: dict[str, Any] = {}

    def inward(params: Any, context: Any) -> Any:
        seen["inner"] = params["messages"][0]["content"]
        return params

    def end(outcome: Any, context: Any) -> None:
        seen[context.provider] = (context.sent["messages"][0]["content"], outcome.response.text)

    outer = middleware("outer", priority=200, on_end=end)
    inner = middleware("inner", priority=10, transform_params=inward)
    call(wrapped(ScriptedModel("<EMAIL_1>"), outer, inner), mode, JANE)
    assert seen == {"inner": "<EMAIL_1>", "openai": ("<EMAIL_1>", JANE)}


def test_nothing_found_costs_nothing(mode: str) -> None:
    one = Pseudonymize()
    params = {"messages": [{"role": "user", "content": "the <EMAIL_1> of 2026"}]}
    factory = MiddlewareFactory(preset=None, middleware=[one], plugins=False)
    context = factory.create_context("openai", "gpt-4o")
    assert one.transform_params(params, context) is params
    assert one.transform_parts(params, context) is None
    found = call(factory.apply_middleware(ScriptedModel("<EMAIL_1> it is")), mode, **params)
    assert (found.text, found.metadata) == ("<EMAIL_1> it is", {})


def test_a_placeholder_of_the_users_own_is_another_one(mode: str) -> None:
    origin = ScriptedModel("<EMAIL_1> is yours, <EMAIL_2> \\u003cEMAIL_3\\u003e, <EMAIL_4>, <EMAIL_5>")
    arguments = '{"x": "\\u003cEMAIL_3\\u003e"}'
    history = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]}
    messages = [{"role": "user", "content": f"{JANE} <EMAIL_1> and <EMAIL_2>"}, history]
    messages.append({"role": "assistant", "content": [{"type": "tool_use", "id": "d", "input": {"<EMAIL_4>": 1}}]})
    found = call(wrapped(origin), mode, messages=messages)
    assert sent(origin)["messages"][0]["content"] == "<EMAIL_5> <EMAIL_1> and <EMAIL_2>"
    assert found.text == f"<EMAIL_1> is yours, <EMAIL_2> \\u003cEMAIL_3\\u003e, <EMAIL_4>, {JANE}"
    assert found.metadata["pseudonymize"]["unknown_placeholders"] == 0


def test_what_a_model_makes_up_or_mangles_is_left_alone_and_counted(mode: str) -> None:
    text = "<EMAIL_9> <email_1> </EMAIL_1> &lt;EMAIL_1&gt; < EMAIL 1 > <EMAIL_9> <PHONE_1> EMAIL_1 <EMAIL:1> <EMAIL_1"
    factory = MiddlewareFactory(preset=None, middleware=[Pseudonymize()], plugins=False)
    found = call(factory.apply_middleware(ScriptedModel(text, cuts=(2,))), mode, JANE)
    assert found.text == text
    assert found.metadata["pseudonymize"]["unknown_placeholders"] == 6
    counts = factory.registry.get_aggregated_stats()["pseudonymize"].counts
    assert counts == {"values.EMAIL": 1, "unknown_placeholders": 6}


def test_an_original_that_looks_like_a_placeholder_is_not_restored_again(mode: str) -> None:
    """As with two of this kind, one inside the other."""
    origin = ScriptedModel("<NAME_1> <NAME_2>")
    options = {"regex_patterns": {"name": r"\$[<>A-Z_0-9]+"}}
    found = call(wrapped(origin, detectors=options), mode, "$<NAME_2> $<NAME_1>")
    assert sent(origin)["messages"][0]["content"] == "<NAME_3> <NAME_4>"
    assert found.text == "<NAME_1> <NAME_2>"
    origin = ScriptedModel("<NAME_3>|<NAME_4>")
    assert call(wrapped(origin, detectors=options), mode, "$<NAME_2> $<NAME_1>").text == "$<NAME_2>|$<NAME_1>"


def test_two_of_them_in_a_chain(mode: str) -> None:
    factory = MiddlewareFactory(preset=None, plugins=False)
    factory.register(Pseudonymize(detectors=["email"]), replace=True)
    factory.register(Pseudonymize(detectors=["email", "phone"]), id="inner", priority=50)
    origin = ScriptedModel("<EMAIL_1> <PHONE_1>")
    model = factory.apply_middleware(origin, enabled_middleware=["pseudonymize", "inner"])
    found = call(model, mode, f"{JANE} {PHONE}")
    assert sent(origin)["messages"][0]["content"] == "<EMAIL_1> <PHONE_1>"
    assert found.text == f"{JANE} {PHONE}"
    assert found.metadata["inner"]["values"] == {"PHONE": 1}


def test_arguments_stay_json_whatever_the_original_is(mode: str) -> None:
    name = 'Ada "Countess" Lovelace'
    arguments = '{"who": "<NAME_1>", "bad": [<NAME_1>'
    calls = [ToolCall("a", "f", '{"who": "to <NAME_1>"}'), ToolCall("b", "g", arguments), ToolCall("c", "h", "")]
    origin = ScriptedModel(Response(tool_calls=calls, finish_reason="tool_calls"), cuts=(3,))
    found = call(wrapped(origin, detectors={"regex_patterns": QUOTED}), mode, f"I am {name}")
    assert json.loads(found.tool_calls[0].arguments) == {"who": f"to {name}"}
    assert found.tool_calls[1].arguments == '{"who": "Ada \\"Countess\\" Lovelace", "bad": [' + name
    assert [(one.id, one.name) for one in found.tool_calls] == [("a", "f"), ("b", "g"), ("c", "h")]


def test_an_answer_that_an_inner_layer_blocked_is_restored(mode: str) -> None:
    def block(params: Any, context: Any) -> Any:
        raise Blocked("no", message=f"not with {params['messages'][0]['content']}")

    found = call(wrapped(ScriptedModel(), middleware("inner", transform_params=block)), mode, JANE)
    assert found.text == f"not with {JANE}"
    assert found.blocked == Block("inner", "no")


def test_parts_keep_their_order_and_what_is_unknown_passes() -> None:
    class Noted(TextDelta):
        pass

    class Strange:
        type = "strange"

    class Origin(ScriptedModel):
        async def stream(self, params: Any) -> Any:
            strange = Strange()
            yield Noted("to <EMA")
            yield strange
            yield ProviderDelta({"refusal": "<EMAIL"})
            yield TextDelta("IL_1> now")
            yield ProviderDelta({"refusal": "<EMAIL_1>"})
            yield Finish("stop", Usage(1, 1))

    async def parts() -> list[Any]:
        return [part async for part in wrapped(Origin()).stream(JANE)]

    found = asyncio.run(parts())
    assert [one.type for one in found] == [
        "text_delta", "text_delta", "strange", "provider_delta", "text_delta", "provider_delta", "finish",
    ]  # fmt: skip
    response = asyncio.run(collect(found))
    assert (response.text, response.provider_fields) == (f"to {JANE} now", {"refusal": JANE})


@pytest.mark.parametrize("style", STYLES)
def test_styles(mode: str, style: str) -> None:
    values = [JANE, PHONE, CARD, "DE89 3704 0044 0532 0130 00", "123-45-6789", "85.214.132.117",
              "2a00:1450:4001:81b::200e", "a4:83:e7:12:34:56"]  # fmt: skip
    prompt = "; ".join(values)
    origin = ScriptedModel("x")
    model = wrapped(origin, style=style)
    call(model, mode, prompt)
    told = sent(origin)["messages"][0]["content"].split("; ")
    assert len(told) == len(set(told)) == len(values)
    assert not set(told) & set(values)
    origin.response, origin.cuts = Response(text=f"a {' b '.join(reversed(told))}. {told[0]}"), (1,)
    found = call(model, mode, prompt)
    assert sent(origin)["messages"][0]["content"].split("; ") == told, "the same again"
    assert found.text == f"a {' b '.join(reversed(values))}. {JANE}"
    assert found.metadata["pseudonymize"]["unknown_placeholders"] == 0


def test_fakes_are_of_their_type_and_nobodys(mode: str) -> None:
    origin = ScriptedModel("ok")
    used = "jo.carter1@example.com"
    call(wrapped(origin, style="fake"), mode, f"{used} {JANE} {PHONE} {CARD}")
    first, second, phone, card = sent(origin)["messages"][0]["content"].replace("+1 ", "+1_").split()
    assert first.endswith("@example.com")
    assert second.endswith("@example.com")
    assert used not in (first, second)
    assert phone == "+1_202-555-0101"
    assert card.startswith("400000")
    assert len(card) == 16
    for kind in fakes.PATTERNS:
        made = [fakes.fake(kind, number, "") for number in range(1, 100)]
        assert len(set(made)) == 99
        assert all(made)
        assert bool(fakes.fake(kind, 10**6, "")) == (kind in ("EMAIL", "CREDIT_CARD", "IBAN"))
    assert placeholder("fake", "MAC", 300, "", b"") == "<MAC_300>", "there are no more"
    assert placeholder("fake", "PERSON", 1, "Ada", b"") == "<PERSON_1>", "no name is nobody's"


def test_what_goes_on_behind_a_fake_is_another_value(mode: str) -> None:
    origin = ScriptedModel("jo.carter1@example.community +1 202-555-01013 jo.carter1@example.com.")
    assert call(wrapped(origin, style="fake"), mode, f"{JANE} {PHONE}").text == (
        f"jo.carter1@example.community +1 202-555-01013 {JANE}."
    )


def test_fakes_pass_the_checks_of_their_types_but_for_numbers_that_are_never_given_out() -> None:
    from neuro_mw.builtin.guardrails import RuleSet, pii

    rules = RuleSet(pii.rules())
    for kind in ("EMAIL", "PHONE", "CREDIT_CARD", "IBAN", "IP", "MAC"):
        for number in (1, 2, 57, 99, 200):
            made = fakes.fake(kind, number, "")
            assert [(one.rule.type, one.end - one.start) for one in rules.scan(made)] == [(kind, len(made))]


def test_hashes_tell_nothing_without_the_key(mode: str) -> None:
    origin, other = ScriptedModel("ok"), ScriptedModel("ok")
    one = wrapped(origin, style="hash")
    for model in (one, one, wrapped(other, style="hash")):
        call(model, mode, JANE)
    first, again, elsewhere = (told["messages"][0]["content"] for _, told in (*origin.calls, *other.calls))
    assert first == again != elsewhere
    call(one, mode, f"eve@acme.org {JANE}")
    assert sent(origin)["messages"][0]["content"].endswith(f"> {first}"), "wherever it stands"
    assert first.startswith("<EMAIL_")
    assert len(first) == len("<EMAIL_") + 13


def test_hashes_that_are_alike_by_chance_are_told_apart(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuro_mw.builtin.pseudonyms.names._HASH_CHARS", 2)
    origin, prompt = ScriptedModel("ok"), " ".join(f"user{number}@acme.org" for number in range(60))
    model = wrapped(origin, style="hash")
    call(model, mode, prompt)
    told = sent(origin)["messages"][0]["content"]
    assert len(set(told.split())) == 60
    origin.response = Response(text=told)
    assert call(model, mode, prompt).text == prompt


DETECTED: list[tuple[Any, str]] = [
    (None, f"<EMAIL_1> <PHONE_1> {TOKEN} C-123456 Ada"),
    (["email"], f"<EMAIL_1> {PHONE} {TOKEN} C-123456 Ada"),
    (["phone", "secrets"], f"{JANE} <PHONE_1> <SECRET_1> C-123456 Ada"),
    ({}, f"<EMAIL_1> <PHONE_1> {TOKEN} C-123456 Ada"),
    ({"pii": ["email"], "secrets": True}, f"<EMAIL_1> {PHONE} <SECRET_1> C-123456 Ada"),
    ({"regex_patterns": {"customer no": r"C-\d{6}"}}, f"{JANE} {PHONE} {TOKEN} <CUSTOMER_NO_1> Ada"),
    ({"types": ["email"], "ner": {"engine": lambda line: [(*m.span(), "PERSON") for m in re.finditer("Ada", line)]}},
     f"<EMAIL_1> {PHONE} {TOKEN} C-123456 <PERSON_1>"),
    ({"staff": lambda options: [Rule("staff.1", "Ada|C-[0-9]+")]},
     f"{JANE} {PHONE} {TOKEN} <VALUE_1> <VALUE_2>"),
]  # fmt: skip


@pytest.mark.parametrize(("detectors", "expected"), DETECTED)
def test_detectors(mode: str, detectors: Any, expected: str) -> None:
    origin = ScriptedModel(expected)
    prompt = f"{JANE} {PHONE} {TOKEN} C-123456 Ada"
    assert call(wrapped(origin, detectors=detectors), mode, prompt).text == prompt
    assert sent(origin)["messages"][0]["content"] == expected


def test_detectors_of_plugins_by_name(mode: str) -> None:
    with offering({"staff": lambda options: [Rule("staff.name", "Ada|Bob")]}):
        one = Pseudonymize(detectors=["staff", "phone"])
        with pytest.raises(ConfigError, match="Did you mean 'staff'"):
            Pseudonymize(detectors=["stafff"])
    origin = ScriptedModel("<NAME_1>")
    model = MiddlewareFactory(preset=None, middleware=[one], plugins=False).apply_middleware(origin)
    assert call(model, mode, f"Ada, {JANE}, {PHONE}").text == "Ada"
    assert sent(origin)["messages"][0]["content"] == f"<NAME_1>, {JANE}, <PHONE_1>"


WRONG: list[tuple[Mapping[str, Any], str]] = [
    ({"style": "rot13"}, "middleware.pseudonymize.config.style: Input should be"),
    ({"scope": "user"}, "middleware.pseudonymize.config.scope: Input should be"),
    ({"detectors": ["emial"]}, "middleware.pseudonymize.config.detectors.0: no detector 'emial'"),
    ({"detectors": []}, "middleware.pseudonymize.config.detectors: none is on"),
    ({"detectors": {"pii": False}}, "middleware.pseudonymize.config.detectors: none is on"),
    ({"detectors": {"pii": ["emial"]}}, "middleware.pseudonymize.config.detectors.pii.0: no type of personal data"),
    (
        {"detectors": {"pii": True, "types": ["email"]}},
        "middleware.pseudonymize.config.detectors.pii: it is said twice",
    ),
    (
        {"detectors": {"regex_patterns": ["(a"]}},
        "middleware.pseudonymize.config.detectors.regex_patterns.0: the pattern",
    ),
    ({"detectors": {"nobodys": True}}, "middleware.pseudonymize.config.detectors.nobodys: no detector 'nobodys'"),
    (
        {"detectors": {"pii": {"ner": "no.such:engine"}}},
        "middleware.pseudonymize.config.detectors.pii.ner.engine: 'no.such",
    ),
    (
        {"detectors": {"bad_words": ["x"]}},
        "middleware.pseudonymize.config.detectors.bad_words: 'bad_words' is an option",
    ),
    ({"store": "memory"}, "middleware.pseudonymize.config.store: nothing is kept beyond a call"),
    ({"ttl_s": 60.0}, "middleware.pseudonymize.config.ttl_s: nothing is kept beyond a call"),
    ({"scope": "session", "ttl_s": 0}, "middleware.pseudonymize.config.ttl_s: Input should be"),
    ({"scope": "session", "max_values": 0}, "middleware.pseudonymize.config.max_values: Input should be"),
    ({"scope": "session", "store": "reddis://x"}, "middleware.pseudonymize.config.store: the scheme is not known"),
    ({"salt": "x"}, "middleware.pseudonymize.config.salt: unknown key"),
    (
        {"detectors": {"email": True}},
        "middleware.pseudonymize.config.detectors.email: a type of personal data is named in a list. "
        'Expected pii = ["email"]',
    ),
]


@pytest.mark.parametrize(("options", "said"), WRONG)
def test_a_wrong_option_is_said_at_once(options: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Pseudonymize(**options)
    assert str(caught.value).startswith(said)


def test_what_says_nothing_is_no_error() -> None:
    assert Pseudonymize(store="", detectors={}).store is None


def test_a_request_that_cannot_be_read_is_refused(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    deep: Any = JANE
    for _ in range(10_000):
        deep = [deep]
    for content, said in ((deep, "nested too deeply"), (object(), "an object of type object")):
        origin = ScriptedModel("ok")
        with pytest.raises(BadRequest, match=said) as caught:
            call(wrapped(origin), mode, messages=[{"role": "user", "content": content}])
        assert not origin.calls
        assert JANE not in str(caught.value) + caplog.text


@pytest.mark.parametrize("where", ["content", "metadata"])
def test_depth_in_the_middle_never_ends_otherwise(mode: str, where: str) -> None:
    became = set()
    for depth in range(50, 1000, 50):
        deep: Any = JANE
        for _ in range(depth):
            deep = {"x": [deep]}
        params: dict[str, Any] = {"messages": [{"role": "user", "content": deep if where == "content" else JANE}]}
        if where == "metadata":
            params["metadata"] = deep
        origin = ScriptedModel("<EMAIL_1>")
        try:
            assert call(wrapped(origin), mode, **params).text == JANE
        except BadRequest:
            assert not origin.calls
            became.add("refused")
        else:
            assert JANE not in str(origin.calls[0][1]["messages"])
            became.add("sent")
    assert became == {"refused", "sent"}


def test_odd_texts(mode: str) -> None:
    value = "\ud800 " + JANE + " \udc00\ue0000123456789abcdef0\ue001\x00"
    for style in STYLES:
        origin = ScriptedModel(Response(text="", tool_calls=[]))
        model = wrapped(origin, style=style)
        assert call(model, mode, value).text == ""
        told = sent(origin)["messages"][0]["content"]
        assert told.startswith("\ud800 ")
        assert told.endswith(" \udc00\ue0000123456789abcdef0\ue001\x00")
        origin.response = Response(text="\ud800" + told * 300 + "<" * 10_000)
        assert call(model, mode, value).text == "\ud800" + value * 300 + "<" * 10_000


def test_concurrent_calls_do_not_mix(mode: str) -> None:
    class Parrot(ScriptedModel):
        async def generate(self, params: Any) -> Response:
            await asyncio.sleep(0)
            return Response(text=params["messages"][0]["content"])

        async def stream(self, params: Any) -> Any:
            for char in params["messages"][0]["content"]:
                await asyncio.sleep(0)
                yield TextDelta(char)
            yield Finish("stop", Usage())

    async def main() -> list[str]:
        model = wrapped(Parrot())
        prompts = [f"I am user{number}@acme.org" for number in range(30)]
        if mode == "generate":
            return [one.text for one in await asyncio.gather(*map(model.generate, prompts))]
        return [one.text for one in await asyncio.gather(*[model.stream(prompt).response() for prompt in prompts])]

    assert asyncio.run(main()) == [f"I am user{number}@acme.org" for number in range(30)]


def test_engines_are_loaded_and_rules_compiled_before_the_first_call() -> None:
    class Engine:
        loaded = False

        def load(self) -> None:
            self.loaded = True

        def __call__(self, line: str) -> list[Any]:
            return []

    engine = Engine()
    one = Pseudonymize(detectors={"ner": {"engine": engine}})
    assert not engine.loaded
    asyncio.run(one.startup())
    assert engine.loaded
    assert {"_finds", "_knows"} <= vars(one).keys()


def test_no_session_is_counted_and_said_once(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    factory = MiddlewareFactory(preset=None, middleware=[Pseudonymize(scope="session")], plugins=False)
    model = factory.apply_middleware(ScriptedModel("<EMAIL_1>"))
    with caplog.at_level(logging.WARNING, "neuro_mw"):
        assert [call(model, mode, JANE).text for _ in range(2)] == [JANE] * 2
    assert factory.registry.get_aggregated_stats()["pseudonymize"].counts["no_session"] == 2
    assert [one.getMessage() for one in caplog.records if "pseudonymize" in one.getMessage()] == [
        "middleware 'pseudonymize': a call has no session_id: its placeholders hold for that call alone"
    ]


# --- what inner layers and providers say of it ------------------------------------------------------------------------

Pair = namedtuple("Pair", "to n")


class Told(BaseModel):
    to: str
    other: str | None = None


def attaching(value: Any, id: str = "note") -> Any:
    async def note(do_generate: Any, params: Any, context: Any) -> Any:
        response = await do_generate(params)
        response.metadata[id] = value
        return response

    return middleware(id, priority=50, wrap_generate=note)


@pytest.mark.parametrize(
    ("value", "restored"),
    [
        ({"<EMAIL_1>": {"<EMAIL_1>": 1}}, {JANE: {JANE: 1}}),
        ({"<EMAIL_1>": 1, JANE: 2}, {JANE: 1, f"{JANE} (2)": 2}),
        (OrderedDict(a="<EMAIL_1>"), {"a": JANE}),
        (Counter({"<EMAIL_1>": 2}), {JANE: 2}),
        (Pair("<EMAIL_1>", 1), Pair(JANE, 1)),
        ({"<EMAIL_1>"}, [JANE]),
        (Told(to="<EMAIL_1>"), {"to": JANE}),
        (ValueError("<EMAIL_1>"), f"ValueError: {JANE}"),
        (b"<EMAIL_1>", JANE),
    ],
)
def test_names_and_values_of_any_kind_are_restored_in_metadata(mode: str, value: Any, restored: Any) -> None:
    found = call(wrapped(ScriptedModel("ok"), attaching(value)), mode, JANE)
    assert found.metadata["note"] == restored
    assert type(found.metadata["note"]) is type(restored)


@pytest.mark.parametrize(
    "value", [{"fine"}, Told(to="fine"), Pair("fine", 1), object(), b"\xff<EMAIL_1>", ValueError()]
)
def test_what_holds_no_placeholder_stays_the_very_object(mode: str, value: Any) -> None:
    found = call(wrapped(ScriptedModel("ok"), attaching({"it": value})), mode, JANE)
    assert found.metadata["note"]["it"] is value


def test_what_is_too_deep_does_not_keep_others_from_being_restored(mode: str) -> None:
    deep: list[Any] = []
    for _ in range(3000):
        deep = [deep]
    model = wrapped(ScriptedModel("ok"), attaching(deep), attaching({"to": "<EMAIL_1>"}, "second"))
    found = call(model, mode, JANE)
    assert found.metadata["note"] is deep
    assert found.metadata["second"] == {"to": JANE}


def test_names_of_provider_fields_are_restored(mode: str) -> None:
    fields = {"n": {"<EMAIL_1>": "<EMAIL_1>"}, "list": [{"<EMAIL_1>": 1}]}
    found = call(wrapped(ScriptedModel(Response(text="ok", provider_fields=fields))), mode, JANE)
    assert found.provider_fields == {"n": {JANE: JANE}, "list": [{JANE: 1}]}


def test_the_detail_of_a_block_is_restored_and_its_reason_is_fit_for_logs(mode: str) -> None:
    async def refuse(do_generate: Any, params: Any, context: Any) -> Any:
        raise Blocked("<EMAIL_1> is no tool", detail={"violations": [{"tool": "<EMAIL_1>"}]})

    guard = middleware("guard", priority=50, kind="guard", wrap_generate=refuse)
    found = call(wrapped(ScriptedModel("ok"), guard), mode, JANE)
    assert found.text == f"{JANE} is no tool"
    assert found.blocked == Block("guard", "<EMAIL_1> is no tool", "policy", {"violations": [{"tool": JANE}]})


@pytest.mark.parametrize("begun", ["data:;base64, ", "data:text/plain;base64,\n"])
def test_no_text_is_a_file_by_what_it_begins_with(mode: str, begun: str) -> None:
    tool = {"role": "tool", "tool_call_id": "c", "content": f"{begun}{JANE}"}
    parts = {"role": "user", "content": [{"type": "text", "text": f"{begun}{JANE}"}]}
    arguments = {"id": "c", "type": "function", "function": {"name": "f", "arguments": f"{begun}{JANE}"}}
    history = {"role": "assistant", "content": None, "tool_calls": [arguments]}
    fields = {"refusal": f"{begun}<EMAIL_1>"}
    origin = ScriptedModel(Response(text="ok", provider_fields=fields))
    found = call(wrapped(origin), mode, messages=[parts, history, tool, {"role": "user", "content": f"{begun}{JANE}"}])
    assert JANE not in str(origin.calls)
    assert str(origin.calls).count("<EMAIL_1>") == 4
    assert found.provider_fields == {"refusal": f"{begun}{JANE}"}


@pytest.mark.parametrize("guard", [Pseudonymize, Guardrails])
def test_a_number_that_nobody_can_write_is_a_bad_request(mode: str, guard: Any) -> None:
    content = [{"type": "tool_use", "id": "c", "name": "f", "input": {"n": 10**5000}}]
    layer = guard() if guard is Pseudonymize else guard(pii=True)
    model = MiddlewareFactory(preset=None, middleware=[layer], plugins=False).apply_middleware(ScriptedModel("ok"))
    with pytest.raises(BadRequest, match="more digits"):
        call(model, mode, messages=[{"role": "assistant", "content": content}, {"role": "user", "content": "so?"}])


# --- fakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "restored"),
    [("4111111111111111", '{"card": 4111111111111111, "n": [4111111111111111 ], "s": "4111111111111111"}'),
     (CARD, f'{{"card": "{CARD}", "n": ["{CARD}" ], "s": "{CARD}"}}')],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 5, 99])
def test_a_number_in_arguments_stays_one_where_the_original_is_one(
    mode: str, card: str, restored: str, size: int
) -> None:
    fake = "4000000000000010"
    said = ToolCall("c", "pay", f'{{"card": {fake}, "n": [{fake} ], "s": "{fake}"}}')
    model = wrapped(ScriptedModel(Response(tool_calls=[said]), cuts=(size,)), style="fake")
    assert call(model, mode, card).tool_calls[0].arguments == restored


@pytest.mark.parametrize(
    "made",
    ["mr.jo.carter1@example.com", "jo.carter1@example.com.au", "jo.carter1@example.com-foo", "94000000000000010",
     "x4000000000000010", "4000000000000010.5", "1203.0.113.1", "203.0.113.1.5", "++1 202-555-0101"],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 4, 99])
def test_a_value_of_the_models_own_that_holds_a_fake_is_left_alone_and_counted(mode: str, made: str, size: int) -> None:
    request = f"{JANE}; {PHONE}; 92.168.10.20; 4111111111111111"
    text = f"a {made} b"
    answer = Response(text=text, tool_calls=[ToolCall("c", "f", json.dumps({"a": made, "b": [text]}))])
    found = call(wrapped(ScriptedModel(answer, cuts=(size,)), style="fake"), mode, request)
    assert found.text == text
    assert json.loads(found.tool_calls[0].arguments) == {"a": made, "b": [text]}
    assert found.metadata["pseudonymize"]["unknown_placeholders"] == 1


@pytest.mark.parametrize("made", ["({})", "mailto:{}.", "<{}>", "{}, {}", "{}...and", "{}--he"])
def test_what_is_no_part_of_a_value_may_stand_beside_a_fake(mode: str, made: str) -> None:
    text = made.replace("{}", "jo.carter1@example.com")
    found = call(wrapped(ScriptedModel(text, cuts=(3,)), style="fake"), mode, JANE)
    assert found.text == made.replace("{}", JANE)


@pytest.mark.parametrize("text", [r"<EMAIL\_1>", r"\<EMAIL_1\>", r"\<EMAIL\_1\>"])
def test_what_is_escaped_as_in_markdown_is_counted(mode: str, text: str) -> None:
    found = call(wrapped(ScriptedModel(text, cuts=(1,))), mode, JANE)
    assert found.text == text
    assert found.metadata["pseudonymize"]["unknown_placeholders"] == 1


def test_an_engine_that_fails_is_named_without_what_it_read(mode: str) -> None:
    def engine(line: str) -> Any:
        if "+" in line:  # what is tried at startup is another's
            return []
        raise LookupError(f"no such name: {line}")

    with pytest.raises(MiddlewareError, match=r"the engine of pii\.\S+ failed \(LookupError\)") as caught:
        call(wrapped(ScriptedModel("ok"), detectors={"ner": {"engine": engine, "types": ["PERSON"]}}), mode, "I am Ada")
    assert "no such name" not in "".join(traceback.format_exception(caught.value))
    assert "transform_params" in str(caught.value.__notes__)

"""Keys and addresses that a caller gives are for one provider: they go to no other."""

import asyncio

import pytest

from neuro_mw import MiddlewareFactory, ProviderUnavailable, middleware
from neuro_mw.builtin import Fallback
from neuro_mw.testing import ScriptedModel

from .conftest import MODES, call

SECRETS = {
    "api_key": "sk-mine",
    "base_url": "https://mine.example",
    "headers": {"authorization": "mine"},
    "extra_headers": {"x-tenant": "mine"},
    "aws_secret_access_key": "mine",
    "organization": "mine",
}
OTHERS = {"temperature": 0.5, "extra_body": {"top_k": 3}, "user": "u1"}


class World:
    """Two providers, `openai` as the wrapped object and `acme` by name; the first may be down."""

    def __init__(self, *layers, down=False):
        error = ProviderUnavailable("down", provider="openai", model="gpt-4o") if down else None
        self.openai = ScriptedModel(error=error)
        self.acme = ScriptedModel(provider="acme", model_id="small")
        acme = self.acme

        class Factory(MiddlewareFactory):
            def _resolve(self, name, driver):
                return acme if name == "acme/small" else super()._resolve(name, driver)

            def _split_model(self, name):
                return ("acme", "small") if name == "acme/small" else super()._split_model(name)

        factory = Factory(preset=None, plugins=False, middleware=layers)
        self.model = factory.apply_middleware(self.openai)

    def call(self, mode, **params):
        return asyncio.run(call(self.model, mode, **params))


def got(model):
    """What a model was given at its last call, but for the messages."""
    return {name: value for name, value in model.calls[-1][1].items() if name not in ("messages", "model")}


def to(name, **more):
    return middleware("to", transform_params=lambda params, context: {**params, "model": name, **more})


@pytest.mark.parametrize("mode", MODES)
def test_a_fallback_to_another_provider_takes_no_key_along(mode):
    world = World(Fallback(models=["openai/gpt-4o-mini", "acme/small"]), down=True)
    world.call(mode, **SECRETS, **OTHERS)
    assert [params.get("model") for _, params in world.openai.calls] == [None, "gpt-4o-mini"]
    assert got(world.openai) == {**SECRETS, **OTHERS}
    assert got(world.acme) == OTHERS


@pytest.mark.parametrize("mode", MODES)
def test_nor_does_a_transform_that_names_another_model(mode):
    world = World(to("acme/small"))
    world.call(mode, **SECRETS, **OTHERS)
    assert got(world.acme) == OTHERS


@pytest.mark.parametrize("mode", MODES)
def test_nor_does_one_that_was_set_further_out_for_the_first_provider(mode):
    gateway = {"base_url": "https://gateway.example", "extra_headers": {"x-gateway": "secret"}}
    def through(params, context):
        return {**params, **gateway, "temperature": 0.5}

    outer = middleware("gateway", transform_params=through, priority=80)
    world = World(outer, Fallback(models=["acme/small"]), down=True)
    world.call(mode)
    assert got(world.openai) == {**gateway, "temperature": 0.5}
    assert got(world.acme) == {"temperature": 0.5}


@pytest.mark.parametrize("mode", MODES)
def test_nor_does_it_with_a_header_beside_it(mode):
    def trace(params, context):
        return {**params, "extra_headers": {**params.get("extra_headers", {}), "x-trace": "1"}}

    outer = middleware("trace", transform_params=trace, priority=80)
    world = World(outer, Fallback(models=["acme/small"]), down=True)
    world.call(mode, extra_headers={"authorization": "mine"}, extra_body={"api_key": "mine", "top_k": 3}, Token="mine")
    assert got(world.acme) == {"extra_body": {"top_k": 3}}


@pytest.mark.parametrize("mode", MODES)
def test_a_router_adds_to_what_the_caller_gave(mode):
    def route(params, context):
        return {**params, "model": "acme/small", "headers": {**params["headers"], "x-acme": "1"}}

    world = World(middleware("route", transform_params=route))
    world.call(mode, **SECRETS, **OTHERS)
    assert got(world.acme) == {**OTHERS, "headers": {"x-acme": "1"}}


@pytest.mark.parametrize("mode", MODES)
def test_what_a_middleware_sets_for_the_other_one_stays(mode):
    world = World(to("acme/small", api_key="sk-acme"))
    world.call(mode, **SECRETS, **OTHERS)
    assert got(world.acme) == {**OTHERS, "api_key": "sk-acme"}


@pytest.mark.parametrize("mode", MODES)
def test_a_caller_who_names_the_other_model_means_it(mode):
    world = World(middleware("nothing", on_end=lambda outcome, context: None))
    world.call(mode, model="acme/small", **SECRETS, **OTHERS)
    assert got(world.acme) == {**SECRETS, **OTHERS}


@pytest.mark.parametrize("mode", MODES)
def test_and_then_the_key_does_not_come_back_to_the_wrapped_provider(mode):
    world = World(Fallback(models=["openai/gpt-4o-mini"]))
    world.acme.error = ProviderUnavailable("down", provider="acme", model="small")
    world.call(mode, model="acme/small", **SECRETS, **OTHERS)
    assert got(world.openai) == OTHERS


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("asked", "named", "takes"),
    [("openai/gpt-4o-mini", None, True), (None, None, True), ("acme/small", None, False),
     ("openai/gpt-4o", "acme/small", False), (None, "acme/small", True)],
)  # fmt: skip
def test_a_question_of_a_middleware_takes_it_to_the_provider_that_it_is_for(mode, asked, named, takes):
    async def judge(do_generate, params, context):
        await context.ask("is it well?", model=asked)
        asked_of.append((world.openai.calls + world.acme.calls)[-1] if asked is None else None)
        return await do_generate(params)

    asked_of = []
    world = World(middleware("judge", wrap_generate=judge))
    world.call(mode, **SECRETS, **({"model": named} if named else {}))
    target = (asked or named or "openai/gpt-4o").split("/")[0]
    first = (world.openai if target == "openai" else world.acme).calls[0][1]
    assert ("api_key" in first) is takes
    assert first["messages"] == [{"role": "user", "content": "is it well?"}]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "given",
    [
        {"custom_llm_provider": "hosted_vllm", "ssl_verify": False, "request_timeout": 3},
        {"litellm_params": {"api_key": "mine"}},
        {"extra_body": {"data_sources": [{"parameters": {"authentication": {"key": "mine"}}}]}},
        {"default_query": {"key": "mine"}, "oci_key_file": "mine", "accessToken": "mine"},
    ],
)
def test_what_only_the_first_provider_understands_stays_there(mode, given):
    world = World(Fallback(models=["acme/small"]), down=True)
    world.call(mode, **given, temperature=0.5)
    assert got(world.openai) == {**given, "temperature": 0.5}
    assert got(world.acme) == {"temperature": 0.5}


@pytest.mark.parametrize("mode", MODES)
def test_what_a_layer_set_for_the_first_model_it_does_not_give_to_the_next(mode):
    class Gateway(Fallback):
        def transform_params(self, params, context):
            return {**params, "api_key": "house", "base_url": "https://gateway.example"}

    world = World(Gateway(models=["acme/small"]), down=True)
    world.call(mode)
    assert got(world.openai) == {"api_key": "house", "base_url": "https://gateway.example"}
    assert got(world.acme) == {}

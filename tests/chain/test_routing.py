"""Where one object answers under two providers' names, and names that hold a slash in odd places."""

import asyncio

import pytest

from neuro_mw import MiddlewareFactory, ProviderUnavailable, middleware
from neuro_mw.builtin import Fallback
from neuro_mw.testing import ScriptedModel

from .conftest import MODES, call

SECRETS = {"api_key": "mine", "base_url": "https://mine.example", "extra_headers": {"x-tenant": "mine"}}


def ask(layer, model, mode, *, provider="azure", **params):
    """One call through this layer; the context is of this provider, whatever the object says it is."""
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[layer])
    wrapped = factory.apply_middleware(model, context=factory.create_context(provider, "gpt-4o"))
    return asyncio.run(call(wrapped, mode, **params))


def to(name):
    return middleware("to", transform_params=lambda params, context: {**params, "model": name})


def got(model):
    return {name: value for name, value in model.calls[-1][1].items() if name != "messages"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("name", "bare"), [("openai/gpt-4o-mini", "gpt-4o-mini"), ("azure/mini", "mini"), ("mini", "mini")]
)
def test_an_object_under_two_names_is_one_provider(mode, name, bare):
    """An azure context round an openai object: between the two, a key is in the right place."""
    model = ScriptedModel()
    ask(to(name), model, mode, **SECRETS)
    assert got(model) == {**SECRETS, "model": bare}


@pytest.mark.parametrize("mode", MODES)
def test_also_behind_a_fallback_and_no_further(mode):
    down = ProviderUnavailable("down", provider="azure", model="gpt-4o")
    model = ScriptedModel(errors=[down, down])
    response = ask(Fallback(models=["openai/gpt-4o-mini", "echo/echo"]), model, mode, **SECRETS)
    assert got(model) == {**SECRETS, "model": "gpt-4o-mini"}
    assert len(model.calls) == 2
    assert response.text == "hi"  # echo's, which was asked without


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("name", "sent"),
    [("mine/", "mine/"), ("mine/x", "x"), ("mine/x/y", "x/y"), ("/x", "/x"), ("other/", "other/"), ("x", "x")],
)
def test_a_provider_without_a_model_behind_it_is_a_model(mode, name, sent):
    """What cannot be parted goes to the provider at hand as it is, which will say what it thinks of it."""
    model = ScriptedModel(provider="mine", model_id="one")
    ask(to(name), model, mode, provider="mine", api_key="k")
    assert got(model) == {"model": sent, "api_key": "k"}


@pytest.mark.parametrize("mode", MODES)
def test_both_names_of_an_object_are_providers_though_nobody_else_knows_them(mode):
    """Of the context's and of the object's, neither has to be one that is registered."""
    for name in ("mine/x", "gateway/x"):
        model = ScriptedModel(provider="mine")
        ask(to(name), model, mode, provider="gateway", api_key="k")
        assert got(model) == {"model": "x", "api_key": "k"}

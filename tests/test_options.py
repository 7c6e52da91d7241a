"""What a factory can be told: every wrong type of every argument is one error that names it."""

import copy
import dataclasses
import pickle

import pytest

from neuro_mw import ConfigError, MiddlewareFactory, MiddlewareFactoryOptions, NeuroError, middleware
from neuro_mw.builtin import Analytics
from neuro_mw.options import PER_MODEL
from neuro_mw.testing import ScriptedModel

WRONG = {
    "preset": [5, True, b"default", {"a": 1}.keys(), [5], [None], 0.5],
    "middleware": ["analytics", 5, None, True, Analytics(), Analytics, ["analytics"], [5], [None], [object()],
        {"a": 1}],
    "middleware_config": ["analytics", 5, True, ["analytics"], [("analytics", {})], {"analytics": None},
                          {"analytics": True}, {"analytics": "on"}, {"analytics": ["enabled"]},
                          {"analytics": {"enabled": "yes"}},
                          {None: {}}, {"a b": {}}, {"analytics": {"config": None}}],
    "enabled_middleware": ["analytics", 5, True, [5], [None], ["nope"], [["analytics"]], ["a b"], b"analytics"],
    "disabled_middleware": ["analytics", 5, True, [5], [None], ["nope"], [["analytics"]], [""], b"analytics"],
    "plugins": [5, None, 0.5, [5], [None], object()],
    "state": ["redis", 5, None, True, ""],
    "on_block": ["ignore", 5, None, True, "", ["raise"], "Raise"],
    "driver": ["http", 5, None, True, "", ["auto"], "litelm"],
    "options": [5, "default", {"preset": None}, MiddlewareFactoryOptions, [1]],
}  # fmt: skip
CASES = [(name, value) for name, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES, ids=[f"{name}={value!r}" for name, value in CASES])
def test_a_wrong_argument_is_one_error_that_names_it(name, value):
    with pytest.raises(NeuroError) as caught:
        MiddlewareFactory(**{"plugins": False, name: value})
    said = str(caught.value)
    assert said
    named = (name, "middleware.", "no middleware", "no preset", "cannot register", "presets", "no plugin")
    assert any(word in said for word in named), said


CALLS = [(name, value) for name in PER_MODEL for value in WRONG[name] if value is not None]


@pytest.mark.parametrize(("name", "value"), CALLS, ids=[f"{name}={value!r}" for name, value in CALLS])
def test_a_wrong_option_of_a_call_is_one_error_that_names_it(name, value):
    factory = MiddlewareFactory(plugins=False)
    for ask in (lambda **options: factory.apply_middleware("echo/echo", **options),
                lambda **options: factory.explain(factory.create_context("a", "b"), **options)):  # fmt: skip
        with pytest.raises(NeuroError):
            ask(**{name: value})
    assert factory.apply_middleware("echo/echo").chain == ("analytics",)


@pytest.mark.parametrize("name", ["enabled_middleware", "disabled_middleware"])
def test_a_string_where_a_list_is_expected_says_so(name):
    with pytest.raises(ConfigError, match=rf"{name}: it is a string\. Expected a list"):
        MiddlewareFactory(plugins=False, **{name: "analytics"})
    with pytest.raises(ConfigError, match=rf"{name}: it is a string\. Expected a list"):
        MiddlewareFactory(plugins=False).apply_middleware("echo/echo", **{name: "analytics"})


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("presets", "preset"), ("config", None), ("middlewareConfig", "middleware_config"), ("plugins", None),
        ("state", None),
     ("enabled", None), ("session", None)],
)  # fmt: skip
def test_another_option_of_a_call_is_a_config_error(wrong, meant):
    factory = MiddlewareFactory(plugins=False)
    for ask, target in ((factory.apply_middleware, "echo/echo"), (factory.explain, factory.create_context("a", "b"))):
        with pytest.raises(ConfigError, match=f"no option '{wrong}'") as caught:
            ask(target, **{wrong: 1})
        assert "one of preset, middleware_config" in str(caught.value)
        if meant:
            assert f"Did you mean '{meant}'" in str(caught.value)


def test_none_where_it_is_an_empty_answer():
    factory = MiddlewareFactory(preset=None, middleware_config=None, plugins=False)
    assert factory.apply_middleware("echo/echo", middleware_config=None).chain == ()
    assert factory.apply_middleware("echo/echo", preset=None).chain == ()


def test_any_sequence_will_do():
    factory = MiddlewareFactory(
        preset=("default",), plugins=(), middleware=(middleware("own"),), enabled_middleware=("own",),
        disabled_middleware=("analytics",),
    )  # fmt: skip
    for _ in range(2):
        assert factory.apply_middleware("echo/echo").chain == ("own",)


# --- MiddlewareFactoryOptions ----------------------------------------------------------------------------------------


def test_options_as_one_value():
    options = MiddlewareFactoryOptions(preset=None, middleware=[middleware("own")], plugins=False, on_block="raise")
    assert MiddlewareFactory(options=options).apply_middleware("echo/echo").chain == ("own",)
    assert MiddlewareFactory(options=options, disabled_middleware=["own"]).apply_middleware("echo/echo").chain == ()
    assert options.presets == ()
    assert MiddlewareFactoryOptions().presets == ("default",)
    assert MiddlewareFactoryOptions(preset=["a", "b"]).presets == ("a", "b")


def test_an_argument_beats_the_options():
    options = MiddlewareFactoryOptions(preset="default", plugins=False)
    assert MiddlewareFactory(preset=None, options=options).apply_middleware("echo/echo").chain == ()


def test_options_cannot_be_changed_but_copied():
    options = MiddlewareFactoryOptions(preset=None, plugins=False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.preset = "default"
    assert copy.deepcopy(options) == pickle.loads(pickle.dumps(options)) == options


@pytest.mark.parametrize("name", ["on_block", "driver", "state"])
def test_options_are_checked_by_themselves(name):
    with pytest.raises(ConfigError, match=name):
        MiddlewareFactoryOptions(**{name: "nope"})
    with pytest.raises(ConfigError, match="Did you mean 'litellm'"):
        MiddlewareFactoryOptions(driver="litelm")


# --- what the factory keeps ------------------------------------------------------------------------------------------


def test_changes_of_what_was_given_do_not_show():
    """What was checked at construction is what holds, also where the user's dict or list is changed afterwards."""
    config = {"own": {"config": {}}, "analytics": {"config": {"max_records": 5}}}
    enabled, disabled = ["own"], []
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[middleware("own")], middleware_config=config,
                                enabled_middleware=enabled, disabled_middleware=disabled)  # fmt: skip
    config["analytics"]["config"]["max_records"] = 9
    config["own"]["enabled"] = False
    config["nope"] = {}
    enabled.append("nope")
    disabled.append("own")
    plan = factory.explain(factory.create_context("openai", "m"))
    assert plan.applied == ("analytics", "own")
    assert plan["analytics"].config["max_records"] == 5


def test_a_model_that_is_none():
    factory = MiddlewareFactory(plugins=False)
    for model in (None, 5, object(), ScriptedModel, "", "nope", "echo/", "/x", ["echo/echo"]):
        with pytest.raises(NeuroError):
            factory.apply_middleware(model)


@pytest.mark.parametrize("context", [5, "openai", {"provider": "openai"}, object()], ids=repr)
def test_a_context_that_is_none(context):
    with pytest.raises(NeuroError, match="context"):
        MiddlewareFactory(plugins=False).apply_middleware("echo/echo", context)

"""When a middleware applies: globs, negation, case, options, modes, and custom conditions with their failures."""

import asyncio
import logging
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import Conditions, ConfigError, MiddlewareFactory, Response, middleware
from neuro_mw.conditions import matches, same
from neuro_mw.testing import ScriptedModel

from .chain.conftest import MODES, call, run


def tap(id="x", **metadata):
    """A middleware that marks the answer when it runs."""

    async def wrap_generate(do_generate, params, context):
        response = await do_generate(params)
        return Response(text=f"{response.text}+{id}")

    return middleware(id, wrap_generate=wrap_generate, **metadata)


def factory_with(conditions, *, kind="transform", **entry):
    return MiddlewareFactory(
        preset=None, plugins=False, middleware=[tap(kind=kind), tap("always", priority=-1)],
        middleware_config={"x": {"conditions": conditions, **entry}},
    )  # fmt: skip


def runs(factory, mode, *, options=None, **model):
    scripted = ScriptedModel("a", **model)
    context = factory.create_context(scripted.provider, scripted.model_id, options)
    answer = run(call(factory.apply_middleware(scripted, context), mode))
    assert "+always" in answer.text
    return "+x" in answer.text


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "patterns", "wanted"),
    [
        ("gpt-4o", ["gpt-4*"], True),
        ("gpt-3.5", ["gpt-4*"], False),
        ("GPT-4o", ["gpt-4*"], True),
        ("gpt-4o", ["GPT-4*"], True),
        ("gpt-4o", ["gpt-4"], False),
        ("gpt-4o", ["gpt-?o"], True),
        ("gpt-4o", ["gpt-[34]o"], True),
        ("azure", ["!azure"], False),
        ("Azure", ["!AZURE"], False),
        ("openai", ["!azure"], True),
        ("openai", ["!azure", "!open*"], False),
        ("openai", ["o*", "!openai"], False),
        ("ollama", ["o*", "!openai"], True),
        ("groq", ["o*", "!openai"], False),
        ("groq", ["x", "groq"], True),
        ("groq", [], False),
        ("meta-llama/Llama-3", ["meta-llama/*"], True),
        ("meta-llama/Llama-3", ["*llama*"], True),
        ("", ["*"], True),
        ("x", [""], False),
        ("x", ("x",), True),
    ],
)
def test_names(name, patterns, wanted):
    assert matches(name, patterns) is wanted


names = st.text("abAB*?!", max_size=5)


@given(names, st.lists(names, max_size=4))
def test_names_property(name, patterns):
    low = name.lower()
    yes = [one.lower() for one in patterns if one[:1] != "!"]
    no = [one[1:].lower() for one in patterns if one[:1] == "!"]
    fits = not yes or any(fnmatchcase(low, one) for one in yes)
    assert matches(name, patterns) == (bool(patterns) and fits and not any(fnmatchcase(low, one) for one in no))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("conditions", "wanted"),
    [
        ({}, True),
        ({"providers": ["OpenAI"]}, True),
        ({"providers": ["azure"]}, False),
        ({"providers": []}, False),
        ({"models": ["gpt-4*", "!gpt-4o-mini"]}, True),
        ({"models": ["!gpt-4*"]}, False),
        ({"models": []}, False),
        ({"providers": ["openai"], "models": ["claude*"]}, False),
        ({"modes": ["generate", "stream"]}, True),
        ({"modes": []}, False),
    ],
)
def test_they_decide_in_both_modes(mode, conditions, wanted):
    assert runs(factory_with(conditions), mode) is wanted


def test_modes():
    factory = factory_with({"modes": ["stream"]})
    assert (runs(factory, "generate"), runs(factory, "stream")) == (False, True)


def test_the_context_given_counts_else_the_models_own():
    factory = factory_with({"providers": ["azure"]})
    assert not runs(factory, "generate")
    context = factory.create_context("azure", "gpt-4o")
    model = factory.apply_middleware(ScriptedModel("a", provider="openai"), context)
    assert model.chain == ("x", "always")
    assert (model.provider, model.model_id) == ("azure", "gpt-4o")


# --- options ---------------------------------------------------------------------------------------------------------


@dataclass
class Tenant:
    """Compared by value; without a hash."""

    name: str


class Tier(Enum):
    FREE = "free"
    PAID = "paid"


class Odd:
    """Something that does not like to be compared."""

    __hash__ = None

    def __eq__(self, other):
        raise ValueError("ambiguous")


@pytest.mark.parametrize(
    ("wanted", "given_", "holds"),
    [
        (1, 1, True), (1, True, False), (True, 1, False), (True, True, True), (0, False, False),
        ("a", "a", True), ("a", "A", False), (None, None, True), ([1], [1], True), ([1], (1,), False),
        ({"a": [1]}, {"a": [1]}, True), (Tier.PAID, Tier.PAID, True), (Tier.PAID, Tier.FREE, False),
        (Tenant("a"), Tenant("a"), True), (Tenant("a"), Tenant("b"), False), ({1, 2}, {2, 1}, True), ((1,), (1,), True),
    ],
    ids=repr,
)  # fmt: skip
def test_options_are_compared_for_equality(wanted, given_, holds):
    factory = factory_with({"options": {"key": wanted}})
    assert runs(factory, "generate", options={"key": given_}) is holds
    assert not runs(factory, "generate", options={"other": wanted})
    assert not runs(factory, "generate")


@given(st.one_of(st.booleans(), st.integers(0, 2), st.floats(0, 2)), st.one_of(st.booleans(), st.integers(0, 2)))
def test_same_is_equality_of_type_and_value(left, right):
    assert same(left, right) == (type(left) is type(right) and left == right)


def test_options_of_one_view_do_not_leak_into_another():
    """Every pair of these is equal to Python or hashes alike, and yet is another option."""
    values = [1, True, 1.0, [1], (1,), [True], {1}, frozenset({1}), {}, set(), [], (), "1", None]
    for first in values:
        for second in values:
            factory = factory_with({"options": {"key": second}})
            model = factory.apply_middleware(ScriptedModel("a"))
            run(model.with_context(options={"key": first}).generate("x"))
            chain = model.with_context(options={"key": second}).chain
            assert chain == ("x", "always"), (first, second)


def test_unhashable_options_of_many_requests_do_not_mix():
    """An object that is gone must not decide for the one that now lies in its place."""
    model = factory_with({"options": {"tenant": Tenant("guarded")}}).apply_middleware(ScriptedModel("a"))
    wrong = []
    for number in range(400):
        name = "guarded" if number % 2 else "free"
        chain = model.with_context(options={"tenant": Tenant(name)}).chain
        if chain != (("x", "always") if number % 2 else ("always",)):
            wrong.append(number)
    assert not wrong


def test_a_mutable_option_is_looked_at_anew():
    tenant = Tenant("free")
    model = factory_with({"options": {"tenant": Tenant("guarded")}}).apply_middleware(ScriptedModel("a"))
    assert model.with_context(options={"tenant": tenant}).chain == ("always",)
    tenant.name = "guarded"
    assert model.with_context(options={"tenant": tenant}).chain == ("x", "always")


@pytest.mark.parametrize(("kind", "wanted"), [("guard", True), ("observer", False), ("transform", "raises")])
def test_an_option_that_cannot_be_compared_follows_the_failure_policy(kind, wanted):
    factory = factory_with({"options": {"key": Odd()}}, kind=kind)
    if wanted == "raises":
        with pytest.raises(ValueError, match="ambiguous"):
            runs(factory, "generate", options={"key": Odd()})
    else:
        assert runs(factory, "generate", options={"key": Odd()}) is wanted


# --- custom ----------------------------------------------------------------------------------------------------------


class AsyncCallable:
    async def __call__(self, context):
        return context.mode == "stream"


async def asynchronous(context):
    await asyncio.sleep(0)
    return context.mode == "stream"


@pytest.mark.parametrize("custom", [lambda context: context.mode == "stream", asynchronous, AsyncCallable()],
                         ids=["plain", "async", "async object"])  # fmt: skip
def test_custom_is_decided_for_each_call(custom):
    factory = factory_with({"custom": custom})
    assert (runs(factory, "generate"), runs(factory, "stream")) == (False, True)
    model = factory.apply_middleware(ScriptedModel("a"))
    assert model.chain == ("x", "always")
    assert [("+x" in run(call(model, mode)).text) for mode in (*MODES, *MODES)] == [False, True, False, True]


def test_custom_by_its_dotted_name():
    factory = factory_with({"custom": "tests.test_conditions:asynchronous"})
    assert (runs(factory, "generate"), runs(factory, "stream")) == (False, True)


@pytest.mark.parametrize(
    ("custom", "said"),
    [
        ("no.such.module:f", "cannot be loaded"), ("tests.test_conditions:nope", "cannot be loaded"),
        ("tests.test_conditions", "no dotted callable"), ("tests.test_conditions:", "no dotted callable"),
        ("tests.test_conditions:__name__", "not callable"), ("", "no dotted callable"),
    ],
)  # fmt: skip
def test_a_wrong_dotted_name_is_an_error_at_construction(custom, said):
    with pytest.raises(ConfigError, match=said) as caught:
        factory_with({"custom": custom})
    assert "middleware.x.conditions.custom" in str(caught.value)


@pytest.mark.parametrize("mode", MODES)
def test_custom_is_asked_once_a_call_before_the_first_layer(mode):
    log = []

    def custom(context):
        log.append("custom")
        return True

    outer = middleware("outer", priority=9, transform_params=lambda params, context: (log.append("outer"), params)[1])
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[outer, tap()],
                                middleware_config={"x": {"conditions": {"custom": custom}}})  # fmt: skip
    model = factory.apply_middleware(ScriptedModel("a"))
    assert log == []
    for _ in range(3):
        run(call(model, mode))
    assert log == ["custom", "outer"] * 3


@pytest.mark.parametrize("mode", MODES)
def test_custom_is_not_asked_where_the_rest_does_not_hold(mode):
    other = MODES[1 - MODES.index(mode)]
    asked = []
    custom = asked.append
    for conditions in ({"providers": ["azure"]}, {"options": {"a": 1}}, {"modes": [other]}):
        assert not runs(factory_with({**conditions, "custom": custom}), mode)
    assert asked == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("answer", ["yes", 1, [0], object(), "", 0, None, [], 0.0], ids=repr)
def test_what_custom_gives_is_taken_for_its_truth(mode, answer):
    assert runs(factory_with({"custom": lambda context: answer}), mode) is bool(answer)


class NoTruth:
    def __bool__(self):
        raise KeyError("broken")


def raising(context):
    raise KeyError("broken")


async def raising_async(context):
    raise KeyError("broken")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("custom", [raising, raising_async, lambda context: NoTruth(), lambda: True],
                         ids=["plain", "async", "bool", "signature"])  # fmt: skip
@pytest.mark.parametrize(
    ("kind", "entry", "wanted"),
    [
        ("guard", {}, "runs"), ("guard", {"on_error": "skip"}, "runs"), ("observer", {}, "skipped"),
        ("observer", {"on_error": "raise"}, "raises"), ("transform", {}, "raises"), ("control", {}, "raises"),
        ("transform", {"on_error": "skip"}, "skipped"),
    ],
)  # fmt: skip
def test_a_broken_condition_follows_the_failure_policy(mode, custom, kind, entry, wanted, caplog):
    factory = factory_with({"custom": custom}, kind=kind, **entry)
    if wanted == "raises":
        with pytest.raises((KeyError, TypeError)) as caught:
            runs(factory, mode)
        assert "middleware 'x' failed in conditions.custom (openai/gpt-4o)" in caught.value.__notes__
        return
    with caplog.at_level(logging.WARNING, logger="neuro_mw"):
        assert runs(factory, mode) is (wanted == "runs")
        assert runs(factory, mode) is (wanted == "runs")
    said = [one.getMessage() for one in caplog.records if "conditions.custom" in one.getMessage()]
    assert len(said) == 1, "it is logged once a minute at most"
    assert "'x'" in said[0]
    assert "broken" not in said[0]


@pytest.mark.parametrize("mode", MODES)
def test_the_receipt_says_that_a_condition_failed(mode):
    factory = factory_with({"custom": raising}, kind="observer")
    response = run(call(factory.apply_middleware(ScriptedModel()), mode))
    assert response.receipt.layers["x"] == {
        "status": "skipped", "reason": "its custom condition failed (KeyError)", "ran": 0,
    }  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_many_custom_conditions_at_once(mode):
    middlewares = [tap(f"m{number}") for number in range(9)]
    config = {f"m{number}": {"conditions": {"custom": lambda context,
        number=number: context.session.user_id[number] == "1"}}
              for number in range(9)}  # fmt: skip
    model = MiddlewareFactory(preset=None, plugins=False, middleware=middlewares,
                              middleware_config=config).apply_middleware(ScriptedModel("a"))  # fmt: skip
    for number in range(300):
        bits = f"{number:09b}"
        answer = run(call(model.with_context(session={"user_id": bits}), mode))
        assert answer.text == "a" + "".join(f"+m{index}" for index in reversed(range(9)) if bits[index] == "1")


# --- shape -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "key"),
    [
        ({"providers": "openai"}, "providers"), ({"models": "gpt-4o"}, "models"), ({"modes": "stream"}, "modes"),
        ({"modes": ["batch"]}, "modes"), ({"providers": [5]}, "providers"), ({"options": ["a"]}, "options"),
        ({"custom": 5}, "custom"), ({"provider": ["openai"]}, "provider"), (["openai"], "conditions"),
        ("x", "conditions"),
    ],
    ids=repr,
)  # fmt: skip
def test_wrong_shapes_are_named(conditions, key):
    with pytest.raises(ConfigError, match=key) as caught:
        factory_with(conditions)
    assert "middleware.x.conditions" in str(caught.value)


def test_by_hand_they_refuse_strings_too():
    with pytest.raises(ConfigError, match="providers"):
        Conditions(providers="openai")
    with pytest.raises(ConfigError, match="models"):
        Conditions(models="gpt-4o")


def test_the_reason_names_the_first_that_does_not_hold():
    conditions = Conditions(providers=["a"], models=["b"], options={"c": 1})
    assert conditions.refusal("x", "b", {"c": 1}) == "provider 'x' does not match ['a']"
    assert conditions.refusal("a", "x", {"c": 1}) == "model 'x' does not match ['b']"
    assert conditions.refusal("a", "b", {}) == "option 'c' is not set"
    assert conditions.refusal("a", "b", {"c": "sk-secret"}) == "option 'c' has another value"
    assert conditions.refusal("a", "b", {"c": 1}) is None
    assert Conditions(modes=[]).refusal("a", "b", {}) == "modes is empty"
    assert Conditions(modes=["stream"]).allows_mode("stream")
    assert not Conditions(modes=["stream"]).allows_mode("generate")

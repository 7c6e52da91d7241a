"""What a middleware is: metadata, Config, `middleware()`, hook signatures, contract versions."""

import asyncio
import dataclasses
import functools
from types import MappingProxyType

import pytest
from pydantic import BaseModel, ConfigDict, Field

from neuro_mw import (
    CONTRACT,
    ConfigError,
    Middleware,
    MiddlewareFactory,
    MiddlewareMetadata,
    MiddlewareRegistry,
    NeuroError,
    Outcome,
    PartStep,
    RegistrationError,
    hooks_of,
    middleware,
)
from neuro_mw.hooks import overrides
from neuro_mw.testing import ScriptedModel

from .chain.conftest import MODES, call, run, wrap

HOOKS = ("transform_params", "wrap_generate", "wrap_stream", "transform_parts", "on_end")
BAD_IDS = ["", "a b", " a", "a\n", "a/b", "ä", "a:b", 5, None, b"a", ("a",), "a\x00"]


# --- metadata --------------------------------------------------------------------------------------------------------


def test_metadata_and_its_defaults():
    metadata = MiddlewareMetadata(id="x")
    assert dataclasses.asdict(metadata) == {
        "id": "x", "name": "x", "description": "", "priority": 0, "default_enabled": False, "kind": "transform",
        "on_error": None, "contract": "1", "before": (), "after": (), "requires": (),
    }  # fmt: skip
    assert MiddlewareMetadata(id="x", name="X").name == "X"
    with pytest.raises(dataclasses.FrozenInstanceError):
        metadata.id = "y"
    with pytest.raises(AttributeError):
        del metadata.id


@pytest.mark.parametrize("id", ["a", "A.b_c-9", "9", "...", "a" * 300])
def test_good_ids(id):
    assert MiddlewareMetadata(id=id).id == id


@pytest.mark.parametrize("id", BAD_IDS, ids=repr)
def test_bad_ids(id):
    with pytest.raises(NeuroError, match="invalid middleware id") as caught:
        MiddlewareMetadata(id=id)
    assert repr(id) in str(caught.value)
    with pytest.raises(NeuroError, match="invalid middleware id"):
        middleware(id)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "guardian"), ("kind", None), ("kind", ["guard"]), ("on_error", "ignore"), ("on_error", True),
        ("before", "cache"), ("after", "cache"), ("requires", "cache"), ("before", 5), ("requires", (5,)),
        ("priority", "high"), ("priority", None), ("priority", float("nan")), ("contract", None),
        ("default_enabled", "no"),
    ],
    ids=repr,
)  # fmt: skip
def test_wrong_metadata_is_named(field, value):
    with pytest.raises(NeuroError, match=field):
        MiddlewareRegistry().register(middleware("x", **{field: value}))


def test_sequences_become_tuples():
    metadata = MiddlewareMetadata(id="x", before=["a"], after={"b"}, requires=iter("c"))
    assert (metadata.before, metadata.after, metadata.requires) == (("a",), ("b",), ("c",))


def test_metadata_may_stand_on_the_instance():
    class Late(Middleware):
        def __init__(self, id):
            super().__init__()
            self.metadata = MiddlewareMetadata(id=id)

    registry = MiddlewareRegistry()
    registry.register(Late("one"))
    registry.register(Late("two"))
    assert registry.get_sorted_ids() == ["one", "two"]


@pytest.mark.parametrize("metadata", [None, {"id": "x"}, "x", MiddlewareMetadata], ids=repr)
def test_without_metadata(metadata):
    class Bare(Middleware):
        pass

    if metadata is not None:
        Bare.metadata = metadata
    registry = MiddlewareRegistry()
    for what in (Bare, Bare(), lambda: Bare()):
        with pytest.raises(RegistrationError, match="has no metadata: set metadata = MiddlewareMetadata"):
            registry.register(what)
    assert registry.size() == 0


# --- Config ----------------------------------------------------------------------------------------------------------


class Nested(BaseModel):
    depth: int = 1


class Words(Middleware):
    metadata = MiddlewareMetadata(id="words")

    class Config(BaseModel):
        bad_words: list[str] = Field(default_factory=list)
        limit: int = Field(default=3, ge=0)
        nested: Nested = Nested()
        table: dict[str, Nested] = Field(default_factory=dict)


class Loose(Middleware):
    metadata = MiddlewareMetadata(id="loose")

    class Config(BaseModel):
        model_config = ConfigDict(extra="allow")
        a: int = 1


@pytest.mark.parametrize(
    "made",
    [
        lambda: Words(bad_words=["x"]), lambda: Words({"bad_words": ["x"]}),
        lambda: Words({"limit": 3}, bad_words=["x"]),
        lambda: Words(Words.Config(bad_words=["x"])), lambda: Words({"bad_words": ["y"]}, bad_words=["x"]),
        lambda: Words(MappingProxyType({"bad_words": ["x"]})),
    ],
)  # fmt: skip
def test_config_in_every_form(made):
    config = made().config
    assert isinstance(config, Words.Config)
    assert (config.bad_words, config.limit) == (["x"], 3)


def test_configs_are_not_shared():
    words = ["x"]
    one = Words(bad_words=words)
    one.config.nested.depth = 5
    one.config.bad_words.append("y")
    assert Words().config.nested.depth == 1
    assert words == ["x"]


@pytest.mark.parametrize(
    ("options", "key", "said"),
    [
        ({"bad_word": ["x"]}, "middleware.words.config.bad_word", "Did you mean 'bad_words'"),
        ({"zzz": 1}, "middleware.words.config.zzz", "one of bad_words, limit, nested, table"),
        ({"nested": {"dept": 1}}, "middleware.words.config.nested.dept", "Did you mean 'depth'"),
        ({"table": {"a": {"dept": 1}}}, "middleware.words.config.table.a.dept", "unknown key"),
        ({"limit": -1}, "middleware.words.config.limit", "greater than or equal to 0"),
        ({"limit": "many"}, "middleware.words.config.limit", "integer"),
        ({"bad_words": "x"}, "middleware.words.config.bad_words", "list"),
    ],
)
def test_wrong_options_are_named(options, key, said):
    for make in (lambda: Words(options), lambda: Words(**options)):
        with pytest.raises(ConfigError) as caught:
            make()
        assert caught.value.key == key
        assert said in str(caught.value)


def test_a_value_is_not_repeated_in_the_error():
    """It may be a key."""
    with pytest.raises(ConfigError) as caught:
        Words(limit="sk-secret", bad_words=["sk-secret"])
    assert "sk-secret" not in str(caught.value)


def test_unknown_keys_only_where_they_are_allowed_expressly():
    assert Loose(b=2).config.b == 2


@pytest.mark.parametrize("config", [5, "bad_words", ["bad_words"], True], ids=repr)
def test_a_config_is_a_mapping_or_a_model(config):
    with pytest.raises(ConfigError, match="config"):
        Words(config)


def test_without_config_there_are_no_options():
    class Plain(Middleware):
        metadata = MiddlewareMetadata(id="plain")

    assert Plain().config is None
    assert Plain({}).config is None
    with pytest.raises(ConfigError, match=r"middleware\.plain\.config\.a: this middleware has no options"):
        Plain(b=1, a=1)


def test_a_config_class_that_is_no_model_is_named():
    class Odd(Middleware):
        metadata = MiddlewareMetadata(id="odd")

        class Config:
            size = 1

    with pytest.raises(NeuroError, match="odd"):
        Odd(size=2)


def test_objects_in_a_config_arrive_as_they_are():
    @dataclasses.dataclass
    class Judge:
        name: str

    class Judged(Middleware):
        metadata = MiddlewareMetadata(id="judged")

        class Config(BaseModel):
            model_config = ConfigDict(arbitrary_types_allowed=True)
            judge: object = None
            call: object = None

        def transform_params(self, params, context):
            return params

    judge, called = Judge("j"), lambda: 1
    factory = MiddlewareFactory(preset=None, plugins=False)
    factory.register(Judged)
    model = factory.apply_middleware(
        ScriptedModel(), middleware_config={"judged": {"config": {"judge": judge, "call": called}}}
    )
    assert model.chain == ("judged",)
    plan = factory.explain(factory.create_context("openai", "x"),
                           middleware_config={"judged": {"config": {"judge": judge, "call": called}}})  # fmt: skip
    assert plan["judged"].config["call"] is called
    by_hand = Judged(judge=judge)
    assert by_hand.config.judge is judge
    (other,) = [one.middleware for one in factory.registry.build_chain(
        factory.create_context("openai", "x"), {"judged": {"config": {"judge": judge}}})]  # fmt: skip
    assert other.config.judge is judge


# --- middleware() and hooks ------------------------------------------------------------------------------------------


def test_middleware_from_functions():
    made = middleware(
        "cool", priority=7, kind="guard", transform_params=lambda params, context: {**params, "temperature": 0.0}
    )
    assert isinstance(made, Middleware)
    assert (made.metadata.id, made.metadata.priority, made.metadata.kind) == ("cool", 7, "guard")
    model = ScriptedModel()
    for mode in MODES:
        run(call(wrap(model, made), mode))
    assert [params["temperature"] for _, params in model.calls] == [0.0, 0.0]


def test_middlewares_from_functions_share_nothing():
    one, two = middleware("one", on_end=lambda outcome, context: None), middleware("two")
    assert hooks_of(one).on_end is not None
    assert hooks_of(two).on_end is None


@pytest.mark.parametrize("name", ["transfrom_params", "wrap", "prority"])
def test_a_misspelt_keyword_is_an_error(name):
    with pytest.raises(ConfigError, match=name):
        middleware("x", **{name: 1})


def test_nothing_is_overridden_in_a_bare_middleware():
    bare = middleware("bare")
    assert hooks_of(bare) == (None,) * 5
    assert not overrides(bare, "startup")


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_of_finds_methods_and_attributes(name):
    class One(Middleware):
        metadata = MiddlewareMetadata(id="one")

    setattr(One, name, lambda self, *given: None)
    found = hooks_of(One())._asdict()
    assert [hook for hook, value in found.items() if value is not None] == [name]

    class Child(One):
        pass

    assert getattr(hooks_of(Child()), name) is not None


WRONG = [
    lambda: None,
    lambda a: None,
    lambda a, b, c, d: None,
    lambda *, params, context: None,
    lambda a, b, c, d, e: None,
]


@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("hook", WRONG, ids=["none", "one", "four", "keywords", "five"])
def test_a_wrong_signature_is_refused_and_nothing_is_registered(name, hook):
    class Odd(Middleware):
        metadata = MiddlewareMetadata(id="odd")

    def method(self, *args):
        return hook

    registry = MiddlewareRegistry()
    with pytest.raises(RegistrationError) as caught:
        registry.register(middleware("odd", **{name: hook}))
    assert "'odd'" in str(caught.value)
    assert f"{name}(" in str(caught.value)
    assert "wrong signature" in str(caught.value)
    setattr(Odd, name, staticmethod(hook))
    with pytest.raises(RegistrationError, match="wrong signature"):
        registry.register(Odd())
    assert registry.size() == 0
    with pytest.raises(RegistrationError, match="'odd'"):
        MiddlewareFactory(preset=None, plugins=False, middleware=[middleware("odd", **{name: hook})])


def test_a_class_is_checked_before_it_is_built():
    class Odd(Middleware):
        metadata = MiddlewareMetadata(id="odd")

        def __init__(self):
            raise AssertionError("built")

        async def wrap_generate(self, do_generate, params):
            return await do_generate(params)

    with pytest.raises(
        RegistrationError,
        match=r"'odd': wrap_generate\(.*positionally as wrap_generate\(do_generate, params, context\)",
    ):
        MiddlewareRegistry().register(Odd)


@pytest.mark.parametrize("hook", [5, "wrap", []], ids=repr)
def test_a_hook_that_cannot_be_called(hook):
    with pytest.raises(RegistrationError, match="on_end is not callable but"):
        MiddlewareRegistry().register(middleware("odd", on_end=hook))


def test_what_can_be_called_positionally_is_fine():
    class Able:
        def __call__(self, params, context, extra=None):
            return params

    def four(extra, params, context):
        return params

    for hook in (Able(), functools.partial(four, 1), lambda *given: given[0], lambda p, c, *, more=1: p):
        model = ScriptedModel()
        run(call(wrap(model, middleware("x", transform_params=hook)), "generate"))
        assert model.calls[0][1]["messages"][0]["content"] == "hi"
    assert hooks_of(middleware("x", on_end=min)).on_end is min


def test_hook_names_do_not_matter():
    class Other(Middleware):
        metadata = MiddlewareMetadata(id="other")

        async def wrap_generate(self, nxt, p, c):
            return await nxt(p)

    assert run(call(wrap(ScriptedModel("a"), Other()), "generate")).text == "a"


def test_the_base_hooks_can_be_called_through_super():
    class Polite(Middleware):
        metadata = MiddlewareMetadata(id="polite")

        async def transform_params(self, params, context):
            return await super().transform_params(params, context)

        async def wrap_generate(self, do_generate, params, context):
            return await super().wrap_generate(do_generate, params, context)

        async def wrap_stream(self, do_stream, params, context):
            async for part in super().wrap_stream(do_stream, params, context):
                yield part

        def transform_parts(self, params, context):
            return super().transform_parts(params, context)

        async def on_end(self, outcome, context):
            await super().on_end(outcome, context)

        async def startup(self):
            await super().startup()

        async def aclose(self):
            await super().aclose()

    async def check():
        async with MiddlewareFactory(preset=None, plugins=False, middleware=[Polite()]) as factory:
            model = factory.apply_middleware(ScriptedModel("abc"))
            return [(await call(model, mode)).text for mode in MODES]

    assert asyncio.run(check()) == ["abc", "abc"]


def test_outcome_and_part_step():
    outcome = Outcome("completed")
    assert (outcome.response, outcome.error, outcome.duration, outcome.time_to_first_part, outcome.parts) == (
        None, None, 0.0, None, 0,
    )  # fmt: skip

    class Step:
        def feed(self, part):
            return part

        def finish(self):
            return []

        def abort(self):
            pass

    assert isinstance(Step(), PartStep)
    assert not isinstance(object(), PartStep)


@pytest.mark.parametrize("name", ["wrap_genrate", "transform_part", "transform_param", "wrap_streams", "on_ends"])
def test_a_misspelt_hook_is_an_error(name):
    """A guard whose only hook is misspelt would guard nothing, and say nothing."""

    class Odd(Middleware):
        metadata = MiddlewareMetadata(id="odd", kind="guard")

    setattr(Odd, name, lambda self, *given: None)
    for what in (Odd, Odd()):
        with pytest.raises(RegistrationError, match=f"'odd'.*{name}.*Did you mean|'odd'.*{name}.*did you mean"):
            MiddlewareRegistry().register(what)


# --- contract versions -----------------------------------------------------------------------------------------------


def test_the_contract_of_this_version():
    assert CONTRACT == (1, 0)


@pytest.mark.parametrize("contract", ["1", "1.0", f"{CONTRACT[0]}.{CONTRACT[1]}"])
def test_supported_contracts(contract):
    registry = MiddlewareRegistry()
    registry.register(middleware("x", contract=contract))
    assert "x" in registry


@pytest.mark.parametrize("contract", ["2", "0", "9.1", "1.9", "", "one", "1.x", "-1", "1.0.0", "²"])
def test_contracts_that_are_not_supported(contract):
    registry = MiddlewareRegistry()
    with pytest.raises(RegistrationError) as caught:
        registry.register(middleware("future", contract=contract))
    said = str(caught.value)
    assert "'future'" in said
    assert f"wants contract {contract}" in said
    assert "offers 1.0" in said
    assert "install" in said
    assert registry.size() == 0

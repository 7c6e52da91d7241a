"""The registry: what can be registered and what not, live instances, chains, stats."""

import threading

import pytest
from pydantic import BaseModel

from neuro_mw import (
    ConfigError,
    DuplicateMiddleware,
    Layer,
    Middleware,
    MiddlewareContext,
    MiddlewareFactory,
    MiddlewareMetadata,
    MiddlewareRegistry,
    NeuroError,
    RegistrationError,
    hooks_of,
    middleware,
)
from neuro_mw.testing import ScriptedModel

from .chain.conftest import run

CONTEXT = MiddlewareContext("openai", "gpt-4o")


class Sized(Middleware):
    metadata = MiddlewareMetadata(id="sized", priority=10)
    built = 0

    class Config(BaseModel):
        size: int = 1
        tags: dict[str, int] = {}

    def __init__(self, config=None, /, **options):
        super().__init__(config, **options)
        type(self).built += 1

    def transform_params(self, params, context):
        return {**params, "size": self.config.size}


class Needy(Middleware):
    """It cannot be built without an option."""

    metadata = MiddlewareMetadata(id="needy")

    class Config(BaseModel):
        url: str
        depth: int = 1


@pytest.fixture
def registry():
    return MiddlewareRegistry()


# --- registering -----------------------------------------------------------------------------------------------------


def test_a_class_an_instance_and_a_callable(registry):
    registry.register(Sized)
    registry.register(Sized(size=5), id="five")
    registry.register(lambda: middleware("made"))
    registry.register(lambda config: Sized(config), id="by_config")
    registry.register(lambda *config: Sized(*config), id="by_star")
    assert registry.get_sorted_ids() == ["sized", "five", "by_config", "by_star", "made"]
    assert registry.get("five").config.size == 5
    assert isinstance(registry.get("sized"), Sized)
    assert registry.get("made").metadata.id == "made"
    layers = registry.build_chain(CONTEXT, {"by_config": {"config": {"size": 3}}, "by_star": {"config": {"size": 4}}})
    assert [layer.middleware.config.size for layer in layers] == [3, 4]


def test_the_ways_to_ask(registry):
    assert (registry.size(), len(registry), list(registry), registry.get("a"), registry.has("a")) == (
        0,
        0,
        [],
        None,
        False,
    )
    registry.register(middleware("a"))
    registry.register(middleware("b", priority=1))
    assert (registry.size(), len(registry), list(registry)) == (2, 2, ["b", "a"])
    assert "a" in registry
    assert "c" not in registry
    assert 5 not in registry
    assert [one.metadata.id for one in registry.list()] == ["b", "a"]
    assert registry.unregister("a") is True
    assert registry.unregister("a") is False
    assert registry.get("a") is None
    registry.clear()
    assert (list(registry), registry.list()) == ([], [])


def test_a_duplicate_is_refused_and_can_be_replaced(registry):
    registry.register(middleware("a", priority=1))
    with pytest.raises(DuplicateMiddleware) as caught:
        registry.register(middleware("a", priority=2))
    assert str(caught.value) == "Middleware with ID 'a' already exists. Use replace=True to override."
    assert registry.get("a").metadata.priority == 1
    other = middleware("a", priority=3)
    registry.register(other, replace=True)
    assert registry.get("a") is other
    registry.register(middleware("b"), replace=True)
    assert registry.size() == 2


def test_two_ids_of_one_class_are_two(registry):
    registry.register(Sized)
    registry.register(Sized, id="strict", global_config={"size": 9})
    assert registry.get("sized") is not registry.get("strict")
    assert (registry.get("sized").config.size, registry.get("strict").config.size) == (1, 9)
    with pytest.raises(DuplicateMiddleware, match="'strict'"):
        registry.register(Sized, id="strict")


NOT_MIDDLEWARES = [None, 5, "analytics", [], {}, object(), int, object, lambda: None, lambda: 5, lambda a, b: None,
                   MiddlewareRegistry, MiddlewareMetadata(id="x")]  # fmt: skip


@pytest.mark.parametrize("what", NOT_MIDDLEWARES, ids=lambda what: getattr(what, "__name__", repr(what)))
def test_what_is_no_middleware_is_refused(registry, what):
    with pytest.raises(RegistrationError):
        registry.register(what)
    assert registry.size() == 0


def test_a_callable_that_fails_is_named(registry):
    def explode():
        raise RuntimeError("sk-secret")

    with pytest.raises(RegistrationError, match=r"explode\(\) failed: RuntimeError") as caught:
        registry.register(explode)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "sk-secret" not in str(caught.value)
    with pytest.raises(RegistrationError, match="returned NoneType, not a Middleware"):
        registry.register(lambda: None)


@pytest.mark.parametrize("id", ["", "a b", "a/b", 5, "ä"], ids=repr)
def test_a_bad_id_is_refused(registry, id):
    with pytest.raises(RegistrationError, match="invalid middleware id"):
        registry.register(Sized, id=id)
    assert registry.size() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": "high"}, {"priority": [1]}, {"global_config": "size"}, {"global_config": ["size"]},
        {"global_config": 5}, {"global_config": {"sise": 1}}, {"global_config": {"size": "big"}},
        {"default_enabled": "no"},
    ],
    ids=repr,
)  # fmt: skip
def test_wrong_arguments_leave_nothing_half_registered(registry, wrong):
    with pytest.raises(NeuroError) as caught:
        registry.register(Sized, **wrong)
    assert any(word in str(caught.value) for word in (*wrong, "sise", "size"))
    assert registry.size() == 0
    registry.register(Sized)
    assert registry.get_sorted_ids() == ["sized"]


def test_a_failed_replacement_leaves_the_old_one(registry):
    old = middleware("sized")
    registry.register(old)
    with pytest.raises(ConfigError, match="sise"):
        registry.register(Sized, replace=True, global_config={"sise": 1})
    assert registry.get("sized") is old


def test_an_instance_takes_no_other_config(registry):
    with pytest.raises(ConfigError, match=r"middleware\.sized\.config\.size: it was given as an instance"):
        registry.register(Sized(size=1), global_config={"size": 2})
    assert registry.size() == 0
    registry.register(Sized(size=2), global_config={"size": 2})


def test_changes_of_the_given_dict_do_not_show(registry):
    given = {"size": 3, "tags": {"a": 1}}
    registry.register(Sized, global_config=given)
    given["size"] = 4
    given["tags"]["a"] = 5
    assert registry.get("sized").config.size == 3
    assert registry.get("sized").config.tags == {"a": 1}


# --- live instances --------------------------------------------------------------------------------------------------


def test_get_builds_once_and_at_the_first_need(registry):
    Sized.built = 0
    registry.register(Sized)
    assert Sized.built == 0
    assert registry.get("sized") is registry.get("sized") is registry.list()[0]
    assert Sized.built == 1


def test_one_instance_for_each_effective_config(registry):
    registry.register(Sized, default_enabled=True)

    def live(**config):
        (layer,) = registry.build_chain(CONTEXT, {"sized": {"config": config}} if config else None)
        return layer.middleware

    assert live() is live() is registry.get("sized")
    assert live(size=2) is live(size=2) is not live()
    assert live(size=1) is live(), "a default that is written out is the same effective config"
    assert live(tags={}) is live()


def test_equal_configs_of_other_types_are_the_same_instance(registry):
    class Priced(Middleware):
        metadata = MiddlewareMetadata(id="priced")

        class Config(BaseModel):
            price: float = 0

    registry.register(Priced)
    one, two = (registry.build_chain(CONTEXT, {"priced": {"config": {"price": price}}})[0] for price in (1, 1.0))
    assert one.middleware is two.middleware


def test_a_class_that_needs_options_does_not_break_the_list(registry):
    registry.register(Sized)
    registry.register(Needy)
    assert registry.get_sorted_ids() == ["sized", "needy"]
    assert registry.get("sized") is not None
    assert Sized in {type(one) for one in registry.list()}


def test_a_class_that_cannot_be_built_is_a_config_error(registry):
    class Broken(Middleware):
        metadata = MiddlewareMetadata(id="broken")

        def __init__(self, config=None, /, **options):
            raise RuntimeError("out of order")

    registry.register(Broken)
    with pytest.raises(ConfigError, match=r"middleware\.broken\.config: it cannot be built: RuntimeError"):
        registry.build_chain(CONTEXT, {"broken": {}})


def test_a_callable_that_changes_its_mind(registry):
    answers = iter([middleware("x"), "no middleware"])
    registry.register(lambda config=None: next(answers))
    with pytest.raises(ConfigError, match="returned str, no Middleware"):
        registry.build_chain(CONTEXT, {"x": {"config": {"a": 1}}})


def test_a_callable_without_arguments_takes_no_config(registry):
    registry.register(lambda: middleware("x"))
    with pytest.raises(ConfigError, match="takes no config"):
        registry.build_chain(CONTEXT, {"x": {"config": {"a": 1}}})


def test_threads_get_one_instance(registry):
    Sized.built = 0
    registry.register(Sized)
    barrier, got = threading.Barrier(8), []

    def ask():
        barrier.wait()
        got.append(registry.get("sized"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert len(set(map(id, got))) == Sized.built == 1


# --- chains ----------------------------------------------------------------------------------------------------------


def test_build_chain(registry):
    registry.register(Sized, default_enabled=True, global_config={"tags": {"a": 1}})
    registry.register(middleware("low", on_end=lambda outcome, context: None))
    registry.register(middleware("meta", default_enabled=True, priority=99))
    assert [layer.id for layer in registry.build_chain(CONTEXT)] == ["meta", "sized"]
    config = {"meta": {"enabled": False}, "low": {"priority": 50, "on_error": "skip", "timeout_s": 1}, "sized": {
        "config": {"size": 2, "tags": {"b": 2}}}}  # fmt: skip
    low, sized = registry.build_chain(CONTEXT, config)
    assert isinstance(low, Layer)
    assert (low.id, low.priority, low.on_error, low.timeout_s, low.config) == ("low", 50, "skip", 1, {})
    assert (sized.id, sized.priority, sized.on_error) == ("sized", 10, "raise")
    assert sized.config == {"size": 2, "tags": {"a": 1, "b": 2}}
    assert sized.middleware.config.tags == {"a": 1, "b": 2}
    assert low.hooks == hooks_of(low.middleware)
    assert low.hooks.on_end is not None
    assert low.hooks.wrap_generate is None


def test_build_chain_decides_conditions(registry):
    registry.register(Sized)
    for conditions, wanted in [
        ({"providers": ["azure"]}, 0),
        ({"models": ["gpt*"]}, 1),
        ({"custom": lambda context: False}, 1),
    ]:
        assert len(registry.build_chain(CONTEXT, {"sized": {"conditions": conditions}})) == wanted


@pytest.mark.parametrize("kind", ["observer", "guard", "transform", "control"])
def test_on_error_is_the_entrys_else_the_metadatas_else_by_kind(registry, kind):
    registry.register(middleware("a", kind=kind))
    registry.register(middleware("b", kind=kind, on_error="skip"))
    registry.register(middleware("c", kind=kind, on_error="raise"))
    by_kind = "skip" if kind == "observer" else "raise"
    assert [layer.on_error for layer in registry.build_chain(CONTEXT, {id: {} for id in "abc"})] == [
        by_kind,
        "skip",
        "raise",
    ]
    layers = registry.build_chain(
        CONTEXT, {"a": {"on_error": "skip"}, "b": {"on_error": "raise"}, "c": {"on_error": "skip"}}
    )
    assert [layer.on_error for layer in layers] == ["skip", "raise", "skip"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"sised": {}}, "no middleware 'sised'. Did you mean 'sized'?"),
        ({"sised": {"enabled": False}}, "no middleware 'sised'"),
        ({5: {}}, "no middleware 5"),
        ({"sized": {"conf": {}}}, "middleware.sized.conf: unknown key"),
        ({"sized": {"config": {"sise": 1}}}, "middleware.sized.config.sise: unknown key"),
        ({"sized": None}, "middleware.sized: an entry is a table, not NoneType"),
        ({"sized": True}, "an entry is a table, not bool"),
        (["sized"], "middleware_config: it is a mapping of ids, not list"),
        ("sized", "middleware_config: it is a mapping of ids, not str"),
    ],
    ids=repr,
)
def test_wrong_configs_are_named(registry, config, said):
    registry.register(Sized)
    with pytest.raises(ConfigError) as caught:
        registry.build_chain(CONTEXT, config)
    assert said in str(caught.value)


def test_errors_name_the_id_that_was_used(registry):
    registry.register(Sized, id="strict")
    with pytest.raises(ConfigError) as caught:
        registry.build_chain(CONTEXT, {"strict": {"config": {"sise": 1}}})
    assert caught.value.key == "middleware.strict.config.sise"


# --- stats -----------------------------------------------------------------------------------------------------------


def test_stats_by_id():
    factory = MiddlewareFactory(preset=None, plugins=False)
    factory.register(Sized, default_enabled=True)
    factory.register(middleware("idle"), default_enabled=True)
    registry = factory.registry
    assert registry.get_execution_stats("sized") == registry.get_execution_stats("nope") == []
    for _ in range(3):
        run(factory.apply_middleware(ScriptedModel()).generate("x"))
    assert len(registry.get_execution_stats("sized")) == 3
    assert {id: one.total_executions for id, one in registry.get_aggregated_stats().items()} == {"sized": 3}
    registry.clear_stats("nope")
    assert registry.get_aggregated_stats()["sized"].total_executions == 3
    registry.unregister("sized")
    assert registry.get_aggregated_stats() == {}


def test_stats_of_all_configs_add_up():
    factory = MiddlewareFactory(preset=None, plugins=False)
    factory.register(Sized, default_enabled=True)
    for size in (1, 2, 3):
        model = factory.apply_middleware(ScriptedModel(), middleware_config={"sized": {"config": {"size": size}}})
        run(model.generate("x"))
    assert factory.registry.get_aggregated_stats()["sized"].total_executions == 3

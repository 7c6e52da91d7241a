"""The factory: what is on, how configs merge, snapshots, caches, files, and the life of instances."""

import asyncio
import gc
import json
import threading

import pytest
from pydantic import BaseModel

from neuro_mw import (
    ConfigError,
    DuplicateMiddleware,
    Middleware,
    MiddlewareEntry,
    MiddlewareFactory,
    MiddlewareMetadata,
    NeuroError,
    PluginError,
    UnknownMiddleware,
    ValidationResult,
    WrappedModel,
    middleware,
)
from neuro_mw.builtin import Analytics
from neuro_mw.testing import ScriptedModel

from .chain.conftest import MODES, call, run


class Words(Middleware):
    """It shows its config in the answer."""

    metadata = MiddlewareMetadata(id="words", priority=5)

    class Config(BaseModel):
        a: int = 0
        b: int = 0
        c: int = 0
        d: int = 0
        e: int = 0
        table: dict[str, int] = {}

    async def wrap_generate(self, do_generate, params, context):
        response = await do_generate(params)
        response.metadata["words"] = self.config.model_dump()
        return response


def plain(id, **metadata):
    return middleware(id, on_end=lambda outcome, context: None, **metadata)


def factory_of(*middlewares, **options):
    return MiddlewareFactory(**{"preset": None, "plugins": False, "middleware": list(middlewares), **options})


def chain(factory, model="echo/echo", **options):
    return factory.apply_middleware(model, **options).chain


def words(factory, **options):
    model = factory.apply_middleware(ScriptedModel(), **options)
    return run(model.generate("x")).metadata["words"]


# --- what is on ------------------------------------------------------------------------------------------------------


def test_what_the_preset_names():
    assert chain(MiddlewareFactory(plugins=False)) == ("analytics",)
    assert chain(MiddlewareFactory(preset=None, plugins=False)) == ()


@pytest.mark.parametrize("entry", [{}, {"config": {}}, {"enabled": True}, {"priority": 3}, MiddlewareEntry()])
def test_what_has_a_config(entry):
    assert chain(factory_of(middleware_config={"analytics": entry})) == ("analytics",)
    assert chain(factory_of(), middleware_config={"analytics": entry}) == ("analytics",)


def test_what_has_a_config_with_enabled_false_is_off():
    off = {"analytics": {"enabled": False, "config": {"max_records": 1}}}
    assert chain(factory_of(middleware_config=off)) == ()
    assert chain(MiddlewareFactory(plugins=False, middleware_config=off)) == ()
    assert chain(factory_of(plain("x"), middleware_config={"x": {"enabled": False}})) == ()
    factory = MiddlewareFactory(plugins=False)
    assert chain(factory, middleware_config=off) == ()
    assert chain(factory) == ("analytics",)


def test_what_stands_in_enabled_middleware():
    assert chain(factory_of(enabled_middleware=["analytics"])) == ("analytics",)
    assert chain(factory_of(), enabled_middleware=["analytics"]) == ("analytics",)
    assert chain(factory_of(enabled_middleware=["analytics", "analytics"])) == ("analytics",)


def test_enabled_middleware_switches_on_what_its_config_left_off():
    """What stands in `enabled_middleware` is on; only `disabled_middleware` wins over that."""
    off = {"analytics": {"enabled": False, "config": {"max_records": 3}}}
    factory = factory_of(middleware_config=off, enabled_middleware=["analytics"])
    assert chain(factory) == ("analytics",)
    assert chain(factory_of(middleware_config=off), enabled_middleware=["analytics"]) == ("analytics",)


def test_an_instance_given():
    assert chain(factory_of(plain("x"), Words(a=1))) == ("words", "x")


def test_what_the_users_code_registered_with_default_enabled():
    factory = factory_of()
    factory.register(plain("argument"), default_enabled=True)
    factory.register(plain("metadata", default_enabled=True))
    factory.register(plain("overruled", default_enabled=True), default_enabled=False)
    factory.register(plain("neither"))
    assert chain(factory) == ("argument", "metadata")


def test_disabled_middleware_wins_over_everything():
    factory = MiddlewareFactory(
        plugins=False, middleware=[plain("x")], middleware_config={"analytics": {}, "x": {}},
        enabled_middleware=["analytics", "x"], disabled_middleware=["analytics", "x"],
    )  # fmt: skip
    factory.register(plain("y"), default_enabled=True)
    assert chain(factory) == ("y",)
    assert chain(factory, enabled_middleware=["analytics", "x"], middleware_config={"x": {"enabled": True}}) == ("y",)
    assert chain(factory, preset="default", disabled_middleware=["y"]) == ()


def test_no_built_in_is_on_by_itself():
    factory = factory_of()
    assert "analytics" in factory.registry
    assert factory.registry.has("analytics")
    assert chain(factory) == ()


def test_the_calls_preset_replaces_the_factorys():
    factory = MiddlewareFactory(plugins=False, enabled_middleware=["x"], middleware=[plain("x")])
    assert chain(factory) == ("analytics", "x")
    assert chain(factory, preset=None) == ("x",)
    assert chain(factory, preset=[]) == ("x",)


@pytest.mark.parametrize("options", [
    {"enabled_middleware": ["nope"]}, {"disabled_middleware": ["nope"]}, {"middleware_config": {"nope": {}}},
    {"middleware_config": {"nope": {"enabled": False}}},
], ids=repr)  # fmt: skip
def test_an_unknown_id_is_refused_at_construction_and_at_a_call(options):
    with pytest.raises(NeuroError, match="no middleware 'nope'"):
        MiddlewareFactory(plugins=False, **options)
    with pytest.raises(ConfigError, match="no middleware 'nope'"):
        MiddlewareFactory(plugins=False).apply_middleware("echo/echo", **options)


def test_the_nearest_id_is_said():
    with pytest.raises(ConfigError, match="Did you mean 'analytics'"):
        MiddlewareFactory(plugins=False, disabled_middleware=["analitics"])


@pytest.mark.parametrize("enabled", [True, False])
def test_an_unknown_option_is_refused_at_construction_also_where_it_is_off(enabled):
    config = {"analytics": {"enabled": enabled, "config": {"max_record": 5}}}
    with pytest.raises(ConfigError, match=r"middleware\.analytics\.config\.max_record: unknown key") as caught:
        MiddlewareFactory(plugins=False, middleware_config=config)
    assert caught.value.nearest == "max_records"


def test_nothing_is_half_registered_by_a_call_that_fails():
    factory = MiddlewareFactory(plugins=False)
    before = factory.registry.get_sorted_ids()
    for config in (
        {"second": {"use": "analytics", "config": {"nope": 1}}},
        {"second": {"use": "analytics"}, "nope": {}},
    ):
        with pytest.raises(ConfigError, match="nope"):
            factory.apply_middleware("echo/echo", middleware_config=config)
        assert factory.registry.get_sorted_ids() == before
        assert chain(factory) == ("analytics",)


# --- merging ---------------------------------------------------------------------------------------------------------


def test_later_wins():
    """Its defaults < global_config < preset < the factory's < the call's."""
    values = ("a", "b", "c", "d", "e")

    def entry(level, source):
        return {"words": {"config": {**dict.fromkeys(values[level:], level), "table": {source: level, "last": level}}}}

    factory = MiddlewareFactory(preset=None, plugins=False)
    factory.register(Words, global_config=entry(1, "global")["words"]["config"])
    factory.register_preset({"name": "one", "middleware": entry(2, "one")})
    table = {"global": 1, "one": 2, "last": 2}
    assert words(factory, preset="one") == {"a": 0, "b": 1, "c": 2, "d": 2, "e": 2, "table": table}
    call_ = words(factory, preset="one", middleware_config=entry(4, "call"))
    assert call_ == {"a": 0, "b": 1, "c": 2, "d": 2, "e": 4, "table": {"global": 1, "one": 2, "call": 4, "last": 4}}


def test_later_wins_in_a_file(tmp_path):
    path = tmp_path / "f.toml"
    path.write_text(
        'preset = "one"\nplugins = false\n[middleware.second.config]\nmax_records = 3\n'
        '[presets.one.middleware.second]\nuse = "analytics"\n'
        "[presets.one.middleware.second.config]\nmax_records = 2\ncollect_timing = false\n"
    )
    factory = MiddlewareFactory.from_file(path)
    plan = factory.explain(factory.create_context("a", "b"))
    assert plan["second"].config["max_records"] == 3
    assert plan["second"].config["collect_timing"] is False
    again = factory.explain(
        factory.create_context("a", "b"), middleware_config={"second": {"config": {"max_records": 4}}}
    )
    assert (again["second"].config["max_records"], again["second"].config["collect_timing"]) == (4, False)


@pytest.mark.parametrize("entry", [{"enabled": True}, {}, {"config": {}}, {"priority": 7}])
def test_enabled_true_at_a_call_keeps_the_constructors_config(entry):
    """FIELD row 8."""
    prices = {"gpt-4o": {"input": 1, "output": 2}}
    factory = MiddlewareFactory(
        plugins=False, middleware_config={"analytics": {"config": {"max_records": 3, "prices": prices}}}
    )
    plan = factory.explain(factory.create_context("openai", "gpt-4o"), middleware_config={"analytics": entry})
    assert plan["analytics"].config["max_records"] == 3
    assert plan["analytics"].config["prices"]["gpt-4o"]["output"] == 2
    first = factory.apply_middleware(ScriptedModel())
    second = factory.apply_middleware(ScriptedModel(), middleware_config={"analytics": entry})
    for model in (first, second):
        run(model.generate("x"))
    assert len(factory.registry.get("analytics").records()) == 2, "one instance, whatever repeats its config"


def test_conditions_merge_too():
    factory = factory_of(Words, middleware_config={"words": {"conditions": {"providers": ["openai"]}}})
    more = {"words": {"conditions": {"models": ["gpt*"]}}}
    assert chain(factory, ScriptedModel(), middleware_config=more) == ("words",)
    azure = factory.create_context("azure", "gpt-4o")
    assert factory.explain(azure, middleware_config=more).applied == ()


def test_a_default_that_is_written_out_is_the_same_instance():
    factory = MiddlewareFactory(plugins=False)
    run(factory.apply_middleware(ScriptedModel()).generate("x"))
    model = factory.apply_middleware(
        ScriptedModel(), middleware_config={"analytics": {"config": {"max_records": 1000}}}
    )
    run(model.generate("x"))
    assert len(factory.registry.get("analytics").records()) == 2


def test_an_entry_model_is_never_taken_for_an_earlier_one():
    factory = factory_of(Words)
    seen = [
        words(factory, middleware_config={"words": MiddlewareEntry(config={"a": number})})["a"] for number in range(50)
    ]
    assert seen == list(range(50))


def test_an_entry_that_is_changed_is_looked_at_anew():
    factory, entry = factory_of(Words), {"words": {"config": {"table": {"x": 1}}}}
    assert words(factory, middleware_config=entry)["table"] == {"x": 1}
    entry["words"]["config"]["table"]["x"] = 2
    assert words(factory, middleware_config=entry)["table"] == {"x": 2}


# --- use -------------------------------------------------------------------------------------------------------------


def test_two_of_one_class():
    config = {"words": {"config": {"a": 1}}, "strict": {"use": "words", "config": {"a": 2}, "priority": 9}}
    factory = factory_of()
    factory.register(Words)
    model = factory.apply_middleware(ScriptedModel(), middleware_config=config)
    assert model.chain == ("strict", "words")
    assert run(model.generate("x")).metadata["words"]["a"] == 2
    assert factory.apply_middleware(ScriptedModel(), middleware_config=config).chain == ("strict", "words")


def test_a_second_id_in_a_file_and_in_the_constructor(tmp_path):
    path = tmp_path / "f.toml"
    path.write_text(
        'preset = "default"\n[middleware.billing]\nuse = "analytics"\n[middleware.billing.config]\nmax_records = 3\n'
    )
    for factory in (MiddlewareFactory.from_file(path),
                    MiddlewareFactory(middleware_config={"billing": {"use": "analytics",
                        "config": {"max_records": 3}}})):  # fmt: skip
        assert set(chain(factory)) == {"analytics", "billing"}
        assert factory.registry.get("billing").config.max_records == 3
        assert factory.registry.get("analytics").config.max_records == 1000
        assert chain(factory, disabled_middleware=["analytics"]) == ("billing",)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"billing": {"use": "analitics"}},
            r"middleware\.billing\.use: no middleware 'analitics'\. Did you mean 'analytics'",
        ),
        ({"given": {"use": "analytics"}}, r"middleware\.given\.use: the id is taken"),
        ({"second": {"use": "given"}}, r"middleware\.second\.use: 'given' is an instance"),
        ({"a b": {"use": "analytics"}}, "invalid middleware id 'a b'"),
        ({"": {"use": "analytics"}}, "invalid middleware id ''"),
        ({"billing": {"use": ""}}, "no middleware"),
        ({"me": {"use": "me"}}, "no middleware 'me'"),
        ({"billing": {"use": "analytics", "config": {"max_record": 1}}}, r"middleware\.billing\.config\.max_record"),
    ],
)
def test_a_wrong_use_is_named(config, said):
    with pytest.raises(ConfigError, match=said):
        factory_of(plain("given"), middleware_config=config)


# --- instances -------------------------------------------------------------------------------------------------------


def test_an_instance_of_a_built_in_takes_its_place():
    mine = Analytics(max_records=3)
    factory = MiddlewareFactory(plugins=False, middleware=[mine])
    assert factory.registry.get("analytics") is mine
    assert chain(factory) == ("analytics",)


def test_an_instance_is_never_rebuilt():
    mine = Words(a=1)
    factory = factory_of(mine)
    for config in ({"a": 2}, {"table": {"x": 1}}, {"nope": 1}):
        with pytest.raises(ConfigError, match=r"middleware\.words\.config\.\w+: it was given as an instance"):
            factory.apply_middleware("echo/echo", middleware_config={"words": {"config": config}})
        with pytest.raises(ConfigError, match="it was given as an instance"):
            factory_of(Words(a=1), middleware_config={"words": {"config": config}})
    assert words(factory, middleware_config={"words": {"config": {"a": 1, "b": 0, "table": {}}}})["a"] == 1
    assert factory.registry.get("words") is mine


def test_a_duplicate_in_the_list():
    with pytest.raises(DuplicateMiddleware, match="'words'"):
        factory_of(Words(), Words())
    with pytest.raises(DuplicateMiddleware, match="'analytics'"):
        MiddlewareFactory(plugins=False, middleware=[plain("analytics")])
    with pytest.raises(DuplicateMiddleware, match="'retry'"):
        factory_of(plain("retry"), plain("retry"))
    with pytest.raises(DuplicateMiddleware, match="'retry'"):
        MiddlewareFactory(plugins=False, preset="resilience", middleware=[plain("retry")])


def test_an_instance_with_the_id_of_a_built_in_that_no_preset_names():
    """A later release may bring a built-in with an id that somebody uses already."""
    mine = plain("retry")
    factory = MiddlewareFactory(plugins=False, middleware=[mine])
    assert factory.registry.get("retry") is mine
    assert set(chain(factory)) == {"analytics", "retry"}


@pytest.mark.parametrize("mode", MODES)
def test_two_factories_may_share_an_instance(mode):
    shared = Words(a=1)
    one, two = factory_of(shared), factory_of(shared)
    nested = two.apply_middleware(one.apply_middleware(ScriptedModel()))
    assert run(call(nested, mode)).metadata["words"]["a"] == 1
    assert [factory.registry.get_aggregated_stats()["words"].total_executions for factory in (one, two)] == [1, 1]
    one.registry.clear_stats()
    assert two.registry.get_aggregated_stats()["words"].total_executions == 1


# --- snapshots and caches --------------------------------------------------------------------------------------------


def test_a_wrapped_model_is_a_snapshot():
    factory = factory_of(plain("a"))
    before = factory.apply_middleware(ScriptedModel())
    factory.register(plain("b"), default_enabled=True)
    factory.register(plain("c"), default_enabled=True)
    after = factory.apply_middleware(ScriptedModel())
    factory.registry.unregister("a")
    factory.registry.unregister("b")
    assert (before.chain, after.chain) == (("a",), ("a", "b", "c"))
    assert before.with_context(options={"x": 1}).chain == ("a",)
    assert run(before.generate("x")).receipt.layers["a"]["ran"] == 1
    assert chain(factory, ScriptedModel()) == ("c",)
    factory.registry.clear()
    assert before.explain().applied == ("a",)


def test_a_replacement_shows_in_the_next_model_only():
    def answering(text):
        return middleware("a", transform_params=lambda params, context: {**params, "text": text})

    factory, model = factory_of(), ScriptedModel()
    factory.register(answering("old"), default_enabled=True)
    old = factory.apply_middleware(model)
    factory.register(answering("new"), default_enabled=True, replace=True)
    new = factory.apply_middleware(model)
    for wrapped in (old, new):
        run(wrapped.generate("x"))
    assert [params["text"] for _, params in model.calls] == ["old", "new"]


@pytest.mark.parametrize("mode", MODES)
def test_registering_during_a_call(mode):
    factory = factory_of()

    def register(params, context):
        factory.register(plain(f"late{len(factory.registry)}"), default_enabled=True)
        factory.registry.unregister("first")
        return params

    factory.register(middleware("first", transform_params=register), default_enabled=True)
    model = factory.apply_middleware(ScriptedModel())
    response = run(call(model, mode))
    assert model.chain == ("first",)
    assert response.receipt.layers["first"]["status"] == "completed"
    (late,) = chain(factory)
    assert late.startswith("late")


def count(kind):
    gc.collect()
    return sum(isinstance(one, kind) for one in gc.get_objects())


def test_caches_are_bounded():
    """A view for each of very many users, models and option sets: what is kept does not grow with them."""
    from neuro_mw.chain import Chain
    from neuro_mw.plan import Plan

    factory = MiddlewareFactory(plugins=False)
    model = factory.apply_middleware(ScriptedModel())
    before, plans = count(Chain), count(Plan)
    for number in range(1500):
        assert model.with_context(options={"tenant": number}).chain == ("analytics",)
        factory.apply_middleware("echo/echo", factory.create_context("p", f"m{number}"))
        factory.apply_middleware("echo/echo", middleware_config={"analytics": {"priority": number}})
    run(many_models(model))
    assert count(Chain) - before < 1500
    assert count(Plan) - plans <= 100


async def many_models(model):
    for number in range(600):
        await model.generate("x", model=f"other-{number}")


def test_many_model_objects_are_not_kept():
    import weakref

    factory = MiddlewareFactory(plugins=False)
    models = []
    for _ in range(600):
        model = ScriptedModel()
        assert factory.apply_middleware(model).chain == ("analytics",)
        models.append(weakref.ref(model))
        del model
    gc.collect()
    assert sum(one() is not None for one in models) <= 300


def test_a_chain_that_fell_out_of_the_cache_still_works():
    model = MiddlewareFactory(plugins=False).apply_middleware(ScriptedModel())
    views = [model.with_context(options={"n": number}) for number in range(700)]
    assert run(views[0].generate("x")).metadata["analytics"]["model"] == "gpt-4o"


# --- stats of a chain ------------------------------------------------------------------------------------------------


def test_get_chain_stats():
    factory = MiddlewareFactory(plugins=False, middleware=[plain("a"), plain("b", priority=9)],
                                middleware_config={"b": {"conditions": {"providers": ["azure"]}}})  # fmt: skip
    context = factory.create_context("openai", "gpt-4o")
    empty = factory.get_chain_stats(context)
    assert (empty.applied_middleware, empty.total_execution_time) == (2, 0.0)
    model = factory.apply_middleware(ScriptedModel())
    for mode in MODES:
        run(call(model, mode))
    stats = factory.get_chain_stats(context)
    assert stats.total_middleware == len(factory.registry) == len(stats.results)
    assert stats.applied_middleware == 2
    assert stats.results["a"].applied is True
    assert stats.results["a"].execution_time > 0
    assert stats.results["b"].applied is False
    assert "'openai' does not match ['azure']" in stats.results["b"].reason
    assert stats.total_execution_time == pytest.approx(sum(one.execution_time for one in stats.results.values()))
    assert model.stats().results.keys() == stats.results.keys()
    off = factory.get_chain_stats(context, {"a": {"enabled": False}})
    assert (off.applied_middleware, off.results["a"].applied) == (1, False)
    assert "enabled = false" in off.results["a"].reason
    with pytest.raises(ConfigError, match="nope"):
        factory.get_chain_stats(context, {"nope": {}})


def test_chain_stats_tell_of_the_last_error():
    def fail(params, context):
        raise KeyError("secret")

    factory = factory_of(middleware("a", transform_params=fail))
    model = factory.apply_middleware(ScriptedModel())
    with pytest.raises(KeyError):
        run(model.generate("x"))
    assert model.stats().results["a"].error == "KeyError"


# --- validate_config -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ([], "middleware_config: it is a mapping of ids, not list"), (None, "not NoneType"), ("analytics", "not str"),
        ({"nope": {}}, "middleware.nope: no middleware 'nope'"), ({"analytics": None}, "an entry is a table"),
        ({"analytics": {"config": {"max_record": 1}}}, "Did you mean 'max_records'"),
        ({"analytics": {"conditions": {"provider": ["x"]}}}, "Did you mean 'providers'"),
        ({"analytics": {"conditions": {"custom": "no.such.module:f"}}}, "middleware.analytics.conditions.custom"),
        ({"analytics": {"conditions": {"custom": "nocolon"}}}, "middleware.analytics.conditions.custom"),
        ({"x": {"use": "nope"}}, "no middleware 'nope'"),
        ({"a b": {"use": "analytics"}}, "invalid middleware id 'a b'"),
        ({"given": {"config": {"a": 2}}}, "it was given as an instance"),
        ({"given": {"use": "analytics"}}, "the id is taken"),
        ({"x": {"use": "given"}}, "is an instance"),
    ],
    ids=repr,
)  # fmt: skip
def test_validate_config_says_what_is_wrong(config, said):
    given = Words(a=1)
    given.metadata = MiddlewareMetadata(id="given")
    factory = factory_of(given)
    before = factory.registry.get_sorted_ids()
    result = factory.validate_config(config)
    assert isinstance(result, ValidationResult)
    assert result.is_valid is False
    assert said in result.errors[0]
    assert factory.registry.get_sorted_ids() == before
    with pytest.raises(NeuroError):
        factory.apply_middleware("echo/echo", middleware_config=config or {"nope": {}})


def test_validate_config_says_everything_at_once():
    config = {"nope": {}, "analytics": {"config": {"max_record": 1}}, "words": {}}
    result = factory_of(Words).validate_config(config)
    assert len(result.errors) == 2
    assert factory_of(Words).validate_config(
        {"words": {}, "analytics": {"config": {"max_records": 3}}}
    ) == ValidationResult(True)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"conditions": {"providers": []}}, "middleware.analytics.conditions.providers: it is empty"),
        ({"conditions": {"models": []}}, "conditions.models"), ({"conditions": {"modes": []}}, "conditions.modes"),
        ({"enabled": False, "config": {"max_records": 1}}, "not enabled"),
    ],
)  # fmt: skip
def test_validate_config_warns(entry, said):
    result = factory_of().validate_config({"analytics": entry})
    assert result.is_valid is True
    assert said in result.warnings[0]


def test_validate_config_counts_what_the_factory_adds():
    """What apply_middleware would take is valid."""

    class Needy(Middleware):
        metadata = MiddlewareMetadata(id="needy")

        class Config(BaseModel):
            url: str
            depth: int = 1

    factory = factory_of()
    factory.register(Needy, global_config={"url": "u"})
    config = {"needy": {"config": {"depth": 2}}}
    assert chain(factory, middleware_config=config) == ("needy",)
    assert factory.validate_config(config) == ValidationResult(True)
    off = {"needy": {"config": {"depth": 2}, "enabled": False}}
    assert chain(factory, middleware_config=off) == ()


# --- files -----------------------------------------------------------------------------------------------------------


def write(tmp_path, text):
    path = tmp_path / "neuro.toml"
    path.write_text(text, "utf-8")
    return path


def test_from_file(tmp_path):
    path = write(
        tmp_path,
        """
preset = ["default", "mine"]
enabled_middleware = ["analytics"]
disabled_middleware = []
plugins = false
on_block = "raise"
driver = "auto"
state = "memory"

[middleware.analytics]
timeout_s = 2
on_error = "raise"
[middleware.analytics.config]
max_records = 7
[middleware.analytics.config.prices."openai/gpt-4o"]
input = 2.5
output = 10
[middleware.analytics.conditions]
providers = ["openai"]
custom = "tests.test_conditions:asynchronous"

[presets.mine]
description = "mine"
[presets.mine.middleware.analytics]
priority = 42
""",
    )
    factory = MiddlewareFactory.from_file(path)
    plan = factory.explain(factory.create_context("openai", "gpt-4o"))["analytics"]
    assert (plan.priority, plan.config["max_records"], plan.applied) == (42, 7, True)
    assert plan.config["prices"]["openai/gpt-4o"]["output"] == 10
    assert factory.explain(factory.create_context("azure", "gpt-4o")).applied == ()
    assert "mine" in factory.presets
    assert MiddlewareFactory.from_file(str(path)).presets["mine"].description == "mine"


def test_an_empty_file_is_the_default(tmp_path):
    assert chain(MiddlewareFactory.from_file(write(tmp_path, ""))) == ("analytics",)


@pytest.mark.parametrize(
    ("toml", "key", "said"),
    [
        ("presett = 'default'", "presett", "Did you mean 'preset'"),
        ("preset = 'defualt'", "preset", "Did you mean 'default'"),
        ("preset = 5", "preset", ""),
        ("[middleware.analitics]", "middleware.analitics", "Did you mean 'analytics'"),
        ("[middleware.analytics]\nconf = 1", "middleware.analytics.conf", "Did you mean 'config'"),
        ("[middleware.analytics.config]\nmax_record = 1", "middleware.analytics.config.max_record", "'max_records'"),
        ("[middleware.analytics.config]\nmax_records = -1", "middleware.analytics.config.max_records", "greater"),
        ("[middleware.analytics.config.prices.x]\ninput = 1\noutput = 1\nx = 1",
            "middleware.analytics.config.prices.x.x", "unknown"),
        ("[middleware.analytics.conditions]\nprovider = ['x']", "middleware.analytics.conditions.provider",
            "'providers'"),
        ("[middleware.analytics.conditions]\nproviders = 'x'", "middleware.analytics.conditions.providers", ""),
        ("[middleware.analytics.conditions]\ncustom = 'no.such:f'", "middleware.analytics.conditions.custom",
            "cannot be loaded"),
        ("[middleware.second]\nuse = 'analitics'", "middleware.second.use", "Did you mean 'analytics'"),
        ("[middleware.'a b']\nuse = 'analytics'", "middleware.a b", "invalid middleware id"),
        ("[presets.x.middleware.analytics]\nconf = 1", "presets.x.middleware.analytics.conf", "Did you mean 'config'"),
        ("[presets.default]", None, "already exists"),
        ("preset = 'x'\n[presets.x]\nextends = ['defualt']", "presets.x.extends", "Did you mean 'default'"),
        ("preset = 'x'\n[presets.x]\nextends = ['x']", None, "x -> x"),
        ("preset = 'x'\n[presets.x.middleware.analitics]", "middleware.analitics", "Did you mean 'analytics'"),
        ("on_block = 'ignore'", "on_block", ""), ("driver = 'litelm'", "driver", "Did you mean 'litellm'"),
        ("state = 'redis'", "state", ""), ("enabled_middleware = 'analytics'", "enabled_middleware", "list"),
        ("disabled_middleware = ['nope']", None, "nope"), ("plugins = 'all'", "plugins", ""),
        ("a = ", None, "does not parse as TOML"),
    ],
    ids=lambda value: value if isinstance(value, str) and "=" in value else "",
)  # fmt: skip
def test_errors_in_a_file_name_file_and_key_path(tmp_path, toml, key, said):
    path = write(tmp_path, toml)
    with pytest.raises(ConfigError) as caught:
        MiddlewareFactory.from_file(path)
    assert caught.value.file == str(path)
    assert str(caught.value).startswith(f"{path}: ")
    if key is not None:
        assert caught.value.key.startswith(key)
    assert said in str(caught.value)


def test_a_call_to_a_factory_from_a_file_does_not_blame_the_file(tmp_path):
    factory = MiddlewareFactory.from_file(write(tmp_path, ""))
    for options in ({"enabled_middleware": ["nope"]}, {"preset": "nope"}, {"middleware_config": {"nope": {}}}):
        with pytest.raises(ConfigError, match="nope") as caught:
            factory.apply_middleware("echo/echo", **options)
        assert caught.value.file is None


def test_no_file():
    with pytest.raises(ConfigError, match=r"nope\.toml: cannot be read"):
        MiddlewareFactory.from_file("nope.toml")


# --- plugins ---------------------------------------------------------------------------------------------------------


def test_a_plugin_that_is_not_there_is_a_visible_error(caplog):
    for plugins in (["no_such_plugin"], "no_such_plugin"):
        factory = MiddlewareFactory(plugins=plugins)
        (error,) = factory.plugin_errors
        assert isinstance(error, PluginError)
        assert "'no_such_plugin'" in str(error)
        assert chain(factory) == ("analytics",)
        with pytest.raises(ConfigError, match="no_such_plugin"):
            MiddlewareFactory(plugins=plugins, enabled_middleware=["its_guard"])


def test_plugins_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("NEURO_MW_PLUGINS", "no_such_plugin")
    assert [str(error) for error in MiddlewareFactory().plugin_errors] == ["no plugin 'no_such_plugin' is installed"]
    assert MiddlewareFactory(plugins=False).plugins == MiddlewareFactory(plugins=[]).plugins == []
    monkeypatch.setenv("NEURO_MW_PLUGINS", "")
    assert MiddlewareFactory().plugins == []


# --- wrapping --------------------------------------------------------------------------------------------------------


def test_where_nothing_applies():
    model = ScriptedModel()
    assert factory_of().apply_middleware(model) is model
    wrapped = factory_of().apply_middleware("echo/echo")
    assert isinstance(wrapped, WrappedModel)
    assert (wrapped.provider, wrapped.model_id, wrapped.chain) == ("echo", "echo", ())


@pytest.mark.parametrize("missing", ["provider", "model_id", "generate", "stream"])
def test_what_is_no_model_is_refused(missing):
    class Half:
        provider, model_id = "p", "m"

        async def generate(self, params):
            raise NotImplementedError

        def stream(self, params):
            raise NotImplementedError

    delattr(Half, missing)
    with pytest.raises(ConfigError, match=f"Half has no '{missing}'"):
        factory_of().apply_middleware(Half())


def test_an_unknown_registration_option():
    with pytest.raises(ConfigError, match="Did you mean 'replace'"):
        factory_of().register(plain("x"), replaces=True)


# --- life ------------------------------------------------------------------------------------------------------------


class Living(Middleware):
    """It notes its startups and closings."""

    metadata = MiddlewareMetadata(id="living")

    class Config(BaseModel):
        size: int = 1

    def __init__(self, config=None, /, **options):
        super().__init__(config, **options)
        self.log = []
        self.fails = 0
        self.wait = 0.0

    async def startup(self):
        await asyncio.sleep(self.wait)
        if self.fails:
            self.fails -= 1
            raise OSError("cannot connect")
        self.log.append("start")

    async def aclose(self):
        self.log.append("close")

    def transform_params(self, params, context):
        self.log.append("call")
        return params


def living(id="living", **metadata):
    made = Living()
    made.metadata = MiddlewareMetadata(id=id, **metadata)
    return made


@pytest.mark.parametrize("mode", MODES)
def test_async_with_starts_and_closes_once(mode):
    one, two = living("one"), living("two")
    factory = factory_of(one, two)

    async def use():
        async with factory as entered:
            assert entered is factory
            assert one.log == two.log == ["start"]
            model = factory.apply_middleware(ScriptedModel())
            await asyncio.gather(call(model, mode), call(model, mode))

    run(use())
    assert one.log == two.log == ["start", "call", "call", "close"]


def test_they_close_in_the_reverse_order():
    order = []

    def made(id):
        one = middleware(id)

        async def startup():
            order.append(f"+{id}")

        async def aclose():
            order.append(f"-{id}")

        one.startup, one.aclose = startup, aclose
        return one

    async def use():
        async with factory_of(made("a"), made("b")):
            pass

    run(use())
    assert order == ["+a", "+b", "-b", "-a"]


@pytest.mark.parametrize("mode", MODES)
def test_without_async_with_startup_runs_lazily_and_once(mode):
    one = living()
    factory = factory_of(one)
    model = factory.apply_middleware(ScriptedModel())
    other = factory.apply_middleware(ScriptedModel(), factory.create_context("azure", "x"))
    assert one.log == []
    one.wait = 0.01

    async def use():
        await asyncio.gather(call(model, mode), call(other, mode), call(model, mode))

    run(use())
    run(call(model, mode))
    assert one.log == ["start", *["call"] * 4]


def test_startup_runs_once_over_threads():
    one = living()
    one.wait = 0.02
    model = factory_of(one).apply_middleware(ScriptedModel())
    threads = [threading.Thread(target=lambda mode=mode: run(call(model, mode))) for mode in MODES * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.log) == ["call"] * 8 + ["start"]


@pytest.mark.parametrize("mode", MODES)
def test_a_lazy_startup_that_fails_fails_the_call_and_is_tried_again(mode):
    one = living()
    one.fails = 1
    model = factory_of(one).apply_middleware(scripted := ScriptedModel())
    with pytest.raises(OSError, match="cannot connect") as caught:
        run(call(model, mode))
    assert any("'living'" in note and "startup" in note for note in caught.value.__notes__)
    assert scripted.calls == []
    run(call(model, mode))
    assert one.log == ["start", "call"]


@pytest.mark.parametrize("mode", MODES)
def test_a_lazy_startup_of_an_observer_fails_alone(mode, caplog):
    one = living(kind="observer")
    one.fails = 1
    model = factory_of(one).apply_middleware(ScriptedModel("fine"))
    assert run(call(model, mode)).text == "fine"
    assert "failed in startup (OSError" in caplog.text


@pytest.mark.parametrize("mode", MODES)
def test_a_call_that_is_cancelled_in_startup_does_not_fail_its_neighbour(mode):
    one = living()
    one.wait = 0.05
    model = factory_of(one).apply_middleware(ScriptedModel("fine"))

    async def use():
        first, second = (asyncio.create_task(call(model, mode)) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        return (await second).text

    assert run(use()) == "fine"


def test_startup_that_fails_closes_what_was_started():
    one, bad, never = living("one"), living("bad"), living("never")
    bad.fails = 1
    factory = factory_of(one, bad, never)

    async def use():
        async with factory:
            raise AssertionError("entered")

    with pytest.raises(OSError, match="cannot connect"):
        run(use())
    assert (one.log, bad.log, never.log) == (["start", "close"], [], [])


def test_startup_that_fails_is_told_also_where_closing_fails():
    one, two, bad = living("one"), living("two"), living("bad")
    bad.fails = 1

    async def broken():
        raise ValueError("closing")

    two.aclose = broken
    factory = factory_of(one, two, bad)

    async def use():
        async with factory:
            raise AssertionError("entered")

    with pytest.raises(OSError, match="cannot connect"):
        run(use())
    assert one.log == ["start", "close"]


@pytest.mark.parametrize("number", [1, 2])
def test_all_are_closed_before_a_failure_is_told(number):
    ones = [living(f"m{index}") for index in range(3)]

    async def broken():
        raise ValueError("closing")

    for one in ones[:number]:
        one.aclose = broken
    factory = factory_of(*ones)

    async def use():
        async with factory:
            pass

    with pytest.raises(ValueError if number == 1 else ExceptionGroup, match="closing"):
        run(use())
    assert ones[2].log == ["start", "close"]


def test_what_has_no_life_of_its_own_needs_none():
    async def use():
        async with factory_of(plain("a"), living("b")) as factory:
            return await factory.apply_middleware(ScriptedModel("fine")).generate("x")

    assert run(use()).text == "fine"


def test_a_factory_can_be_entered_again():
    one = living()
    factory = factory_of(one)

    async def use():
        async with factory:
            pass

    run(use())
    run(use())
    assert one.log == ["start", "close"] * 2


@pytest.mark.parametrize("mode", MODES)
def test_a_call_after_the_end_starts_it_again(mode):
    """What was closed is never called as if it were open."""
    one = living()
    factory = factory_of(one)
    model = factory.apply_middleware(ScriptedModel())

    async def use():
        async with factory:
            await call(model, mode)
        await call(model, mode)

    run(use())
    assert one.log == ["start", "call", "close", "start", "call"]


def test_what_was_never_started_is_not_closed():
    factory = factory_of()
    factory.register(Living)
    built = []

    async def use():
        async with factory:
            factory.apply_middleware(ScriptedModel(), middleware_config={"living": {"config": {"size": 7}}})
            built.append(
                factory.registry.build_chain(factory.create_context("a", "b"), {"living": {"config": {"size": 7}}})
            )

    run(use())
    log = built[0][0].middleware.log
    assert log.count("start") == log.count("close")


def test_an_instance_built_later_is_started_before_its_first_call():
    factory = factory_of()
    factory.register(Living)

    async def use():
        async with factory:
            config = {"living": {"config": {"size": 7}}}
            await factory.apply_middleware(ScriptedModel(), middleware_config=config).generate("x")
            (layer,) = factory.registry.build_chain(factory.create_context("a", "b"), config)
            return layer.middleware

    assert run(use()).log == ["start", "call", "close"]


# --- the rest --------------------------------------------------------------------------------------------------------


def test_create_context():
    factory = factory_of()
    context = factory.create_context("openai", "gpt-4o", {"a": 1}, {"user_id": "u"})
    assert (context.provider, context.model, context.options, context.session.user_id) == (
        "openai",
        "gpt-4o",
        {"a": 1},
        "u",
    )


def test_explain_is_plain_data_even_with_odd_configs():
    class Holding(Middleware):
        metadata = MiddlewareMetadata(id="holding")

        class Config(BaseModel):
            lock: object = None

    factory = factory_of()
    factory.register(Holding)
    plan = factory.explain(
        factory.create_context("a", "b"), middleware_config={"holding": {"config": {"lock": threading.Lock()}}}
    )
    assert plan.to_dict()["entries"]
    assert json.dumps(factory.explain(factory.create_context("a", "b")).to_dict())


def test_unknown_middleware_is_in_the_tree():
    """What is asked for by an id that is not there."""
    assert issubclass(UnknownMiddleware, NeuroError)

"""Presets: shipped, by file, by code; extending, circles, unknown names."""

from pathlib import Path

import pytest

from neuro_mw import (
    CircuitOpen,
    ConfigError,
    MiddlewareFactory,
    MiddlewarePreset,
    NeuroError,
    PresetInfo,
    PresetNotFound,
    ProviderUnavailable,
    middleware,
)
from neuro_mw.presets import Presets, preset_folder
from neuro_mw.testing import ScriptedModel

CONFIG = "middleware.analytics.config"


@pytest.fixture
def factory():
    return MiddlewareFactory(preset=None, plugins=False)


def chain(factory, **options):
    model = factory.apply_middleware(ScriptedModel(), **options)
    return getattr(model, "chain", ())


def records_of(factory, preset):
    plan = factory.explain(factory.create_context("openai", "gpt-4o"), preset=preset)
    return plan["analytics"].config.get("max_records")


def analytics(max_records, **more):
    return {"analytics": {"config": {"max_records": max_records, **more}}}


# --- shipped ---------------------------------------------------------------------------------------------------------


def test_default_is_analytics(factory):
    infos = {info.name: info for info in factory.get_available_presets()}
    assert infos["default"].middleware == ["analytics"]
    assert infos["default"].description
    assert isinstance(infos["default"], PresetInfo)
    assert MiddlewareFactory(plugins=False).apply_middleware(ScriptedModel()).chain == ("analytics",)


def test_every_shipped_preset_works(factory):
    names = {path.stem for path in preset_folder().glob("*.toml")}
    assert names == set(factory.presets) == {info.name for info in factory.get_available_presets()}
    for name in names:
        made = MiddlewareFactory(preset=name, plugins=False)
        on = {info.name: info.middleware for info in made.get_available_presets()}[name]
        assert on, f"preset {name} is inert"
        assert set(chain(made)) <= set(on)


STRICT = {
    "secrets": True,
    "pii": ["email", "phone", "credit_card", "iban", "ssn"],
    "injection": True,
    "invisible": True,
    "action": {"pii": {"tool_arguments": "warn"}, "injection": "warn"},
}
GUARDRAILS = {**STRICT, "action": {**STRICT["action"], "pii.email": "warn", "pii.phone": "warn"}}
ALL = {"analytics": {}, "guardrails": {"config": GUARDRAILS}}
RESILIENCE = {"retry": {}, "timeout": {"config": {"total_s": 600}}, "circuit_breaker": {}}
PRODUCTION = {**ALL, **RESILIENCE, "cache": {}, "token_limit": {}}
SHIPPED = {
    "default": {"analytics": {}},
    "all": ALL,
    "security": {"guardrails": {"config": STRICT}},
    "resilience": RESILIENCE,
    "cost": {
        "analytics": {},
        "budget": {"config": {"limit_usd": 10, "on_unknown_price": "allow"}},
        "cache": {},
        "token_limit": {},
    },
    "production": PRODUCTION,
    "observability": {"analytics": {}, "logging": {}, "tracing": {}},
    "full": {
        **PRODUCTION, "logging": {}, "tracing": {}, "errors": {}, "tool_guard": {}, "extract_reasoning": {},
    },
}


def test_what_ships_is_all_that_ships(factory):
    assert {name: factory.presets.entries(name) for name in factory.presets} == SHIPPED


def test_production_has_the_guardrails_of_all(factory):
    context = factory.create_context("openai", "gpt-4o")
    configs = [factory.explain(context, preset=name)["guardrails"].config for name in ("all", "production", "security")]
    assert configs[0] == configs[1] != configs[2]


CHAINS = {
    "default": ("analytics",),
    "all": ("analytics", "guardrails"),
    "security": ("guardrails",),
    "resilience": ("retry", "circuit_breaker", "timeout"),
    "cost": ("analytics", "cache", "token_limit", "budget"),
    "production": ("analytics", "cache", "guardrails", "token_limit", "retry", "circuit_breaker", "timeout"),
    "observability": ("tracing", "logging", "analytics"),
    "full": (
        "tracing", "errors", "logging", "analytics", "cache", "guardrails", "tool_guard", "extract_reasoning",
        "token_limit", "retry", "circuit_breaker", "timeout",
    ),
}


@pytest.mark.parametrize("mode", ["generate", "stream"])
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_preset_answers(name, mode):
    model = MiddlewareFactory(preset=name, plugins=False).apply_middleware("echo/echo")
    assert model.chain == CHAINS[name]
    if mode == "generate":
        response = model.generate_sync("my key is sk-proj-9f3a7c51e2b84d60aa17, keep it")
    else:
        response = model.stream_sync("my key is sk-proj-9f3a7c51e2b84d60aa17, keep it").response()
    guarded = "guardrails" in CHAINS[name]
    assert response.text == f"my key is {'[REDACTED]' if guarded else 'sk-proj-9f3a7c51e2b84d60aa17'}, keep it"
    left_out = {"tracing": "no SDK of OpenTelemetry is set up"}
    for id, layer in response.receipt.layers.items():
        assert layer.get("reason") == left_out.get(id)
        assert layer["status"] == ("skipped" if id in left_out else "completed")
    assert ("analytics" in response.metadata) == ("analytics" in CHAINS[name])


@pytest.mark.parametrize("mode", ["generate", "stream"])
@pytest.mark.parametrize("name", ["resilience", "production"])
def test_resilience_mends_in_both_modes(name, mode):
    """What the preset is for: a failure that passes is not seen, and an open circuit is."""
    quick = {"retry": {"config": {"initial_delay_s": 0}}}
    factory = MiddlewareFactory(preset=name, plugins=False, middleware_config=quick)

    def ask(model):
        wrapped = factory.apply_middleware(model)
        prompt = f"{id(model)} {len(model.calls)}"  # each another one: production has a cache
        return wrapped.generate_sync(prompt) if mode == "generate" else wrapped.stream_sync(prompt).response()

    down = ProviderUnavailable("down", provider="openai", model="gpt-4o")
    model = ScriptedModel("hello", errors=[down, down])
    assert (ask(model).text, len(model.calls)) == ("hello", 3)
    model = ScriptedModel(error=down)
    for error in (ProviderUnavailable, CircuitOpen):  # the sixth failure in a row: the fifth opens the circuit
        with pytest.raises(error) as caught:
            ask(model)
    assert len(model.calls) == 5
    assert caught.value.__cause__ is down


@pytest.mark.parametrize("name", ["resilience", "production"])
def test_a_shorter_time_contradicts_nothing_that_was_not_written(name):
    for total_s in (0.5, 30, 3600):
        config = {"timeout": {"config": {"total_s": total_s}}}
        factory = MiddlewareFactory(preset=name, plugins=False, middleware_config=config)
        assert factory.apply_middleware("echo/echo").generate_sync("hi").text == "hi"
        made = factory.explain(factory.create_context("echo", "echo"))["timeout"].config
        assert made == {"total_s": total_s, "first_part_s": None, "idle_s": None}


def test_presets_are_a_mapping(factory):
    assert "default" in factory.presets
    assert "nope" not in factory.presets
    assert factory.presets["default"].name == "default"
    assert len(factory.presets) == len(list(factory.presets))
    assert factory.presets.get("nope") is None


# --- by code and by file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["object", "dict", "path", "str"])
def test_a_preset_of_the_users_own(factory, tmp_path, form):
    path = tmp_path / "mine.toml"
    path.write_text('description = "my own"\n[middleware.analytics.config]\nmax_records = 5\n', "utf-8")
    entries = analytics(5)
    given = {
        "object": MiddlewarePreset("mine", "my own", entries), "dict": {"name": "mine", "description": "my own",
                                                                         "middleware": entries},
        "path": path, "str": str(path),
    }[form]  # fmt: skip
    factory.register_preset(given)
    assert factory.presets["mine"].description == "my own"
    assert chain(factory, preset="mine") == ("analytics",)
    assert records_of(factory, "mine") == 5
    assert ("mine", ["analytics"]) in [(info.name, info.middleware) for info in factory.get_available_presets()]
    with pytest.raises(ConfigError, match=r"'mine' already exists. Use replace=True"):
        factory.register_preset(given)
    factory.register_preset({"name": "mine", "middleware": analytics(9)}, replace=True)
    assert records_of(factory, "mine") == 9


def test_a_file_may_say_its_name(tmp_path, factory):
    path = tmp_path / "file.toml"
    path.write_text('name = "other"\n[middleware.analytics]\n', "utf-8")
    factory.register_preset(path)
    assert "other" in factory.presets
    assert "file" not in factory.presets
    assert factory.presets["other"].file == str(path)


@pytest.mark.parametrize(
    ("toml", "key", "said"),
    [
        ("middlewares = 1", "middlewares", "Did you mean 'middleware'"),
        ("[middleware.analytics]\nconf = 1", "middleware.analytics.conf", "Did you mean 'config'"),
        ("extends = 'default'", "extends", "list"),
        ("middleware = ['analytics']", "middleware", "dictionary"),
        ("a = ", None, "does not parse"),
        ("description = 5", "description", "string"),
        ("[middleware.analytics]\npriority = 'high'", "middleware.analytics.priority", "integer"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, factory, toml, key, said):
    path = tmp_path / "wrong.toml"
    path.write_text(toml, "utf-8")
    before = set(factory.presets)
    with pytest.raises(ConfigError, match=said) as caught:
        factory.register_preset(path)
    assert (caught.value.file, caught.value.key) == (str(path), key)
    assert set(factory.presets) == before


WRONG = [
    None, 5, ["default"], {}, {"name": 5}, {"middleware": {}}, {"name": "x", "midleware": {}},
    {"name": "x", "middleware": []},
    {"name": "x", "middleware": {"analytics": True}}, {"name": "x", "extends": "default"},
    {"name": "x", "extends": [5]},
    MiddlewarePreset, MiddlewarePreset("x", middleware=["analytics"]),
    MiddlewarePreset("x", middleware={"analytics": None}),
    MiddlewarePreset("x", middleware={"analytics": {"enable": True}}), MiddlewarePreset("x", extends="default"),
    MiddlewarePreset("", middleware={}), MiddlewarePreset(5, middleware={}), Path("/no/such/preset.toml"),
    "no_such.toml",
]  # fmt: skip


@pytest.mark.parametrize("preset", WRONG, ids=repr)
def test_a_wrong_preset_is_refused(factory, preset):
    before = set(factory.presets)
    with pytest.raises(ConfigError):
        factory.register_preset(preset)
    assert set(factory.presets) == before
    assert factory.get_available_presets()


def test_presets_may_have_odd_names(factory):
    for name in ("default.toml", "../default", "a b", "ä"):
        factory.register_preset(MiddlewarePreset(name, middleware=analytics(3)))
        assert records_of(factory, name) == 3


def test_changes_of_what_was_given_do_not_show(factory):
    entries = analytics(5)
    factory.register_preset(MiddlewarePreset("mine", middleware=entries))
    entries["analytics"]["config"]["max_records"] = 9
    entries["nope"] = {}
    assert records_of(factory, "mine") == 5


# --- unknown names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "meant"),
    [("defualt", "default"), ("default.toml", "default"), ("Default", "default"), (" default", "default"), ("", None),
     ("./default.toml", None), (["default", "nope"], None), (("nope",), None)],
)  # fmt: skip
def test_unknown_presets(preset, meant):
    with pytest.raises(PresetNotFound) as caught:
        MiddlewareFactory(preset=preset, plugins=False)
    assert isinstance(caught.value, ConfigError)
    assert caught.value.key == "preset"
    assert "default" in str(caught.value)
    if meant:
        assert f"Did you mean '{meant}'?" in str(caught.value)


@pytest.mark.parametrize("preset", [5, True, b"default", Path("default"), [5], [["default"]], [None],
    {"default": 1}.items()],
                         ids=repr)  # fmt: skip
def test_presets_of_wrong_types(preset):
    with pytest.raises(ConfigError, match="preset"):
        MiddlewareFactory(preset=preset, plugins=False)


def test_unknown_at_call_time(factory):
    for ask in (factory.apply_middleware, factory.explain):
        target = ScriptedModel() if ask == factory.apply_middleware else factory.create_context("a", "b")
        with pytest.raises(PresetNotFound, match="'nope'"):
            ask(target, preset="nope")


def test_a_preset_that_names_an_unknown_middleware(factory):
    factory.register_preset(MiddlewarePreset("mine", middleware={"analitics": {}}))
    with pytest.raises(ConfigError, match=r"no middleware 'analitics'\. Did you mean 'analytics'"):
        factory.apply_middleware(ScriptedModel(), preset="mine")


def test_a_preset_with_an_unknown_option(factory):
    factory.register_preset(MiddlewarePreset("mine", middleware={"analytics": {"config": {"max_record": 5}}}))
    with pytest.raises(ConfigError, match=rf"{CONFIG}\.max_record: unknown key.*Did you mean 'max_records'"):
        factory.apply_middleware(ScriptedModel(), preset="mine")


# --- extending -------------------------------------------------------------------------------------------------------


def test_extends_later_wins(factory):
    factory.register_preset(MiddlewarePreset("a", middleware=analytics(1, collect_timing=False)))
    factory.register_preset(MiddlewarePreset("b", middleware=analytics(2)))
    factory.register_preset(MiddlewarePreset("c", extends=("a", "b"), middleware={"analytics": {"priority": 7}}))
    factory.register_preset(MiddlewarePreset("d", extends=("b", "a")))
    factory.register_preset(MiddlewarePreset("e", extends=("c",), middleware=analytics(9)))
    plan = factory.explain(factory.create_context("openai", "m"), preset="c")
    assert (plan["analytics"].config["max_records"], plan["analytics"].config["collect_timing"]) == (2, False)
    assert plan["analytics"].priority == 7
    assert (records_of(factory, "d"), records_of(factory, "e")) == (1, 9)


def test_several_presets_later_wins(factory):
    factory.register_preset(MiddlewarePreset("a", middleware=analytics(1, collect_timing=False)))
    factory.register_preset(MiddlewarePreset("b", middleware=analytics(2)))
    assert records_of(factory, ["a", "b"]) == 2
    assert records_of(factory, ["b", "a"]) == 1
    plan = factory.explain(factory.create_context("openai", "m"), preset=("a", "b"))
    assert plan["analytics"].config["collect_timing"] is False


def test_what_an_extending_preset_switches_off_is_off(factory):
    factory.register_preset(
        MiddlewarePreset("quiet", extends=("default",), middleware={"analytics": {"enabled": False}})
    )
    assert chain(factory, preset="quiet") == ()
    assert {info.name: info.middleware for info in factory.get_available_presets()}["quiet"] == []
    assert chain(factory, preset=["quiet", "default"]) == ("analytics",)


@pytest.mark.parametrize(
    ("presets", "circle"),
    [
        ([("a", ("a",))], "a -> a"), ([("a", ("b",)), ("b", ("a",))], "a -> b -> a"),
        ([("a", ("b",)), ("b", ("c",)), ("c", ("b",))], "a -> b -> c -> b"),
    ],
)  # fmt: skip
def test_circles_are_named(factory, presets, circle):
    def close_the_ring():
        for name, extends in presets:
            factory.register_preset(MiddlewarePreset(name, extends=extends))
        factory.apply_middleware(ScriptedModel(), preset="a")

    with pytest.raises(ConfigError, match=f"circle: {circle}"):
        close_the_ring()


def test_a_diamond_is_no_circle(factory):
    factory.register_preset(MiddlewarePreset("base", middleware=analytics(1)))
    factory.register_preset(MiddlewarePreset("left", extends=("base",)))
    factory.register_preset(MiddlewarePreset("right", extends=("base",)))
    factory.register_preset(MiddlewarePreset("top", extends=("left", "right")))
    assert records_of(factory, "top") == 1


def test_an_unknown_parent_names_the_file(factory, tmp_path):
    path = tmp_path / "child.toml"
    path.write_text('extends = ["defualt"]\n', "utf-8")

    def use_the_child():
        factory.register_preset(path)
        factory.apply_middleware(ScriptedModel(), preset="child")

    with pytest.raises(PresetNotFound, match="Did you mean 'default'") as caught:
        use_the_child()
    assert (caught.value.file, caught.value.key) == (str(path), "extends")


def test_one_bad_preset_does_not_hide_the_others(factory):
    """Whoever lists what there is must see it, also when one preset waits for its parent."""
    try:
        factory.register_preset(MiddlewarePreset("orphan", extends=("nope",)))
    except ConfigError:
        assert "orphan" not in factory.presets
    assert "default" in {info.name for info in factory.get_available_presets()}


# --- with the rest ---------------------------------------------------------------------------------------------------


def test_a_new_preset_shows_in_the_next_model(factory):
    factory.register_preset(MiddlewarePreset("mine", middleware=analytics(1)))
    before = factory.apply_middleware(ScriptedModel(), preset="mine")
    factory.register_preset(MiddlewarePreset("mine"), replace=True)
    assert before.chain == ("analytics",)
    assert chain(factory, preset="mine") == ()


def test_a_preset_of_the_users_own_middleware(factory):
    factory.register(middleware("own", on_end=lambda outcome, context: None))
    factory.register_preset({"name": "mine", "middleware": {"own": {"conditions": {"modes": ["stream"]}}}})
    assert chain(factory, preset="mine") == ("own",)


def test_the_collection_by_itself():
    presets = Presets()
    presets.add(MiddlewarePreset("x", middleware=analytics(1)))
    assert presets.entries("default", "x") == {"analytics": {"config": {"max_records": 1}}}
    assert presets.entries() == {}
    with pytest.raises(NeuroError):
        presets.entries("nope")

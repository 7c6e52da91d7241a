"""What is in a chain and why: as objects, as text, as data, and as a tree."""

import json

import pytest

from neuro_mw import ChainPlan, ConfigError, MiddlewareFactory, PlanEntry, middleware
from neuro_mw.builtin import Analytics
from neuro_mw.testing import ScriptedModel

from .chain.conftest import run


async def whole(do_generate, params, context):
    return await do_generate(params)


async def parts(do_stream, params, context):
    async for part in do_stream(params):
        yield part


@pytest.fixture
def factory():
    made = MiddlewareFactory(
        plugins=False,
        middleware=[
            middleware("buffering", priority=9, wrap_generate=whole),
            middleware("both", priority=8, wrap_generate=whole, wrap_stream=parts),
            middleware("streaming", priority=7, wrap_stream=parts),
            middleware("azure", transform_params=lambda params, context: params),
            middleware("asked", on_end=lambda outcome, context: None), middleware("idle"),
            middleware("gone", priority=99),
            middleware("streams", priority=3, on_end=lambda outcome, context: None), middleware("left", priority=98),
        ],
        middleware_config={
            "azure": {"conditions": {"providers": ["azure"]}},
            "asked": {"conditions": {"custom": lambda context: True}},
            "streams": {"conditions": {"modes": ["stream"]}}, "left": {"enabled": False},
            "analytics": {"config": {"max_records": 3}},
        },
        disabled_middleware=["gone"],
    )  # fmt: skip
    made.register(middleware("registered"))
    return made


@pytest.fixture
def plan(factory):
    return factory.explain(factory.create_context("openai", "gpt-4o"))


def test_every_registered_middleware_is_there(factory, plan):
    assert isinstance(plan, ChainPlan)
    assert {entry.id for entry in plan} == set(factory.registry)
    assert all(isinstance(entry, PlanEntry) and entry.reason for entry in plan)
    assert plan.applied == factory.apply_middleware(ScriptedModel()).chain
    assert plan.applied == ("analytics", "buffering", "both", "streaming", "streams", "asked", "idle")
    assert (plan.provider, plan.model) == ("openai", "gpt-4o")


@pytest.mark.parametrize(
    ("id", "applied", "reason"),
    [
        ("analytics", True, "configured in middleware_config"), ("buffering", True, "given in middleware="),
        ("azure", False, "provider 'openai' does not match ['azure']"), ("gone", False, "named in disabled_middleware"),
        ("left", False, "enabled = false in middleware_config"), ("registered", False, "not switched on"),
        ("asked", True, "if its custom condition holds"),
    ],
)  # fmt: skip
def test_why(plan, id, applied, reason):
    assert plan[id].applied is applied
    assert reason in plan[id].reason


def test_every_way_to_be_on_is_said(factory):
    factory.register(middleware("default"), default_enabled=True)
    factory.register_preset({"name": "mine", "middleware": {"registered": {}}})
    context = factory.create_context("openai", "gpt-4o")
    plan = factory.explain(context, preset="mine", enabled_middleware=["analytics"], middleware_config={"left": {}})
    reasons = {entry.id: entry.reason for entry in plan}
    assert reasons["default"] == "enabled by default"
    assert reasons["registered"] == "preset 'mine'"
    assert reasons["analytics"] == "named in the call's enabled_middleware"
    assert reasons["left"] == "configured in the call's middleware_config"
    assert factory.explain(context, preset=None)["registered"].reason == "not switched on"


def test_hooks_by_mode(plan):
    assert plan["buffering"].hooks == {"generate": ["wrap_generate"], "stream": ["wrap_generate (buffers the stream)"]}
    assert plan["both"].hooks == {"generate": ["wrap_generate"], "stream": ["wrap_stream"]}
    assert plan["streaming"].hooks == {"generate": ["wrap_stream"], "stream": ["wrap_stream"]}
    assert plan["streams"].hooks == {"stream": ["on_end"]}
    assert plan["idle"].hooks == {"generate": [], "stream": []}


def test_origin_priority_and_config(plan):
    assert plan["analytics"].origin == "built-in"
    assert plan["buffering"].origin == "instance"
    assert (plan["analytics"].priority, plan["both"].priority) == (100, 8)
    assert plan["analytics"].config == {
        "max_records": 3,
        "collect_timing": True,
        "collect_token_usage": True,
        "prices": {},
    }
    assert plan["idle"].config == {}


def test_the_config_of_an_instance():
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[Analytics(max_records=7)])
    plan = factory.explain(factory.create_context("a", "b"))
    assert plan["analytics"].config["max_records"] == 7
    assert plan["analytics"].origin == "instance"


def test_a_name_that_is_not_there(plan):
    with pytest.raises(KeyError, match="nope"):
        plan["nope"]


def test_text(plan):
    lines = str(plan).splitlines()
    assert lines[0] == "openai/gpt-4o"
    assert "  + analytics (priority 100, built-in): configured in middleware_config" in lines
    assert "      stream: wrap_generate (buffers the stream)" in lines
    assert "      generate: nothing" in lines
    assert "  - gone (priority 99, instance): named in disabled_middleware" in lines


def test_data(plan):
    data = plan.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert [entry["id"] for entry in data["entries"]] == [entry.id for entry in plan]
    data["entries"][0]["config"]["max_records"] = 0
    assert plan["analytics"].config["max_records"] == 3


def test_a_tree_in_a_terminal(plan):
    from rich.console import Console

    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(plan)
    drawn = capture.get()
    for entry in plan:
        assert entry.id in drawn
    assert drawn.index("analytics") < drawn.index("buffering") < drawn.index("asked") < drawn.index("not applied")
    assert "buffers the stream" in drawn
    assert "named in disabled_middleware" in drawn


def test_a_tree_of_a_chain_that_leaves_nothing_out():
    from rich.console import Console

    factory = MiddlewareFactory(plugins=False)
    for id in set(factory.registry) - {"analytics"}:
        factory.registry.unregister(id)
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(factory.explain(factory.create_context("openai", "gpt-4o")))
    assert "analytics" in capture.get()
    assert "not applied" not in capture.get()


def test_markup_in_names_is_not_obeyed():
    from rich.console import Console

    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[middleware("a")],
                                middleware_config={"a": {"conditions": {"models": ["[bold]x[/]"]}}})  # fmt: skip
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(factory.explain(factory.create_context("[red]p", "[/]m")))
    assert "[red]p/[/]m" in capture.get()
    assert "[bold]x[/]" in capture.get()


def test_explaining_calls_nothing_and_counts_nothing(factory):
    asked = []
    context = factory.create_context("openai", "gpt-4o")
    factory.explain(context, middleware_config={"idle": {"conditions": {"custom": asked.append}}})
    assert asked == []
    assert factory.registry.get_aggregated_stats() == {}


def test_unknown_names_are_errors(factory):
    context = factory.create_context("openai", "gpt-4o")
    for options in ({"enabled_middleware": ["nope"]}, {"preset": "nope"}, {"nope": 1}):
        with pytest.raises(ConfigError, match="nope"):
            factory.explain(context, **options)


def test_a_view_explains_itself(factory):
    model = factory.apply_middleware(
        ScriptedModel(), middleware_config={"azure": {"conditions": {"options": {"a": 1}, "providers": ["openai"]}}}
    )
    assert model.explain()["azure"].applied is False
    view = model.with_context(options={"a": 1})
    assert view.explain()["azure"].applied is True
    run(view.generate("x"))
    assert view.explain().applied == view.chain

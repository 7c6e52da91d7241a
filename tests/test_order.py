"""Order: priority, then registration, and above both before/after; cycles and missing requirements are named."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import MiddlewareFactory, OrderError, RegistrationError, middleware
from neuro_mw.order import check_requirements, sort_layers
from neuro_mw.testing import ScriptedModel

from .chain.conftest import MODES, call, run


class Item:
    def __init__(self, id, priority=0, **metadata):
        self.id, self.priority = id, priority
        self.metadata = middleware(id, **metadata).metadata


def order(*items):
    return [item.id for item in sort_layers(items)]


def test_priority_then_registration():
    assert order(Item("a"), Item("b", 5), Item("c"), Item("d", -1), Item("e", 5)) == ["b", "e", "a", "c", "d"]
    assert order() == []


@given(st.lists(st.integers(-2, 2), max_size=12))
def test_without_constraints_it_is_a_stable_sort(priorities):
    items = [Item(str(index), priority) for index, priority in enumerate(priorities)]
    assert order(*items) == [one.id for one in sorted(items, key=lambda one: -one.priority)]


def test_before_and_after_go_above_priority():
    assert order(Item("in", 100), Item("out", 0, before=("in",))) == ["out", "in"]
    assert order(Item("in", 100, after=("out",)), Item("out", 0)) == ["out", "in"]
    assert order(Item("a", 3, after=("c",)), Item("b", 2), Item("c", 1)) == ["b", "c", "a"]


def test_names_that_are_not_there_do_not_matter():
    assert order(Item("a", before=("nope",), after=("neither",)), Item("b", 1)) == ["b", "a"]


@given(st.data())
def test_every_constraint_holds_and_else_priority(data):
    count = data.draw(st.integers(1, 7))
    pairs = data.draw(
        st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda p: p[0] < p[1]))
    )
    names = data.draw(st.permutations([f"n{index}" for index in range(count)]))
    items = []
    for index in range(count):
        before = [names[inner] for outer, inner in pairs if outer == index and inner % 2]
        after = [names[outer] for outer, inner in pairs if inner == index and not inner % 2]
        items.append(Item(names[index], data.draw(st.integers(0, 3)), before=before, after=after))
    items = data.draw(st.permutations(items))
    got = order(*items)
    assert sorted(got) == sorted(names)
    for outer, inner in pairs:
        assert got.index(names[outer]) < got.index(names[inner])
    bound = {names[index] for pair in pairs for index in pair}
    free = [item for item in items if item.id not in bound]
    wanted = [item.id for item in sorted(free, key=lambda item: -item.priority)]
    assert [id for id in got if id not in bound] == wanted


def cycle_in(text):
    ring = re.search(r"cycle: (.*)", text)[1].split(" -> ")
    assert ring[0] == ring[-1]
    return ring


@pytest.mark.parametrize(
    ("items", "ring"),
    [
        ([Item("a", before=("a",))], {"a"}),
        ([Item("a", before=("b",)), Item("b", before=("a",))], {"a", "b"}),
        ([Item("a", after=("b",)), Item("b", after=("a",))], {"a", "b"}),
        ([Item("a", before=("b",), after=("b",)), Item("b")], {"a", "b"}),
        ([Item("a", 9, after=("b",)), Item("b", after=("c",)), Item("c", after=("b",)), Item("d")], {"b", "c"}),
        ([Item(str(n), after=(str((n + 1) % 5),)) for n in range(5)], {"0", "1", "2", "3", "4"}),
    ],
)
def test_cycles_are_named(items, ring):
    with pytest.raises(OrderError, match="before/after form a cycle") as caught:
        order(*items)
    assert set(cycle_in(str(caught.value))) == ring
    assert isinstance(caught.value, RegistrationError)


def test_requirements():
    check_requirements([Item("a", requires=("b",)), Item("b")])
    check_requirements([])
    with pytest.raises(OrderError, match="'a' requires 'c', which is not switched on"):
        check_requirements([Item("a", requires=("b", "c")), Item("b")])


# --- in chains -------------------------------------------------------------------------------------------------------


def logging(log, id, **metadata):
    return middleware(id, transform_params=lambda params, context: (log.append(id), params)[1], **metadata)


@pytest.mark.parametrize("mode", MODES)
def test_the_chain_runs_in_that_order(mode):
    log = []
    middlewares = [logging(log, "a", priority=1), logging(log, "b", priority=9), logging(log, "c", priority=1),
                   logging(log, "d", before=("b",))]  # fmt: skip
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=middlewares)
    model = factory.apply_middleware(ScriptedModel())
    run(call(model, mode))
    assert list(model.chain) == log == ["d", "b", "a", "c"]


def test_the_priority_of_registration_and_of_the_config():
    log = []
    factory = MiddlewareFactory(preset=None, plugins=False)
    factory.register(logging(log, "a", priority=1), default_enabled=True)
    factory.register(logging(log, "b", priority=2), default_enabled=True, priority=0)
    assert factory.apply_middleware(ScriptedModel()).chain == ("a", "b")
    again = factory.apply_middleware(ScriptedModel(), middleware_config={"b": {"priority": 5}})
    assert again.chain == ("b", "a")
    assert factory.registry.get_sorted_ids()[-2:] == ["a", "b"]


def test_ties_go_by_registration_not_by_the_order_of_naming():
    log = []
    factory = MiddlewareFactory(preset=None, plugins=False)
    for id in "cab":
        factory.register(logging(log, id))
    model = factory.apply_middleware(ScriptedModel(), enabled_middleware=["a", "b", "c"], middleware_config={"b": {}})
    assert model.chain == ("c", "a", "b")


def test_a_requirement_that_is_not_met_is_named():
    log = []
    factory = MiddlewareFactory(preset=None, plugins=False)
    factory.register(logging(log, "a", requires=("b",)))
    factory.register(logging(log, "b"))
    with pytest.raises(OrderError, match="'a' requires 'b'"):
        factory.apply_middleware(ScriptedModel(), enabled_middleware=["a"])
    assert factory.apply_middleware(ScriptedModel(), enabled_middleware=["a", "b"]).chain == ("a", "b")
    with pytest.raises(OrderError, match="'a' requires 'b'"):
        factory.apply_middleware(ScriptedModel(), enabled_middleware=["a", "b"], disabled_middleware=["b"])


def test_a_cycle_among_what_is_off_breaks_nothing():
    """A third party's middleware is off until it is named: it must not take the others down with it."""
    factory = MiddlewareFactory(plugins=False)
    factory.register(middleware("a", before=("b",)))
    try:
        factory.register(middleware("b", before=("a",)))
    except OrderError:
        assert "b" not in factory.registry
    model = factory.apply_middleware("echo/echo")
    assert model.chain == ("analytics",)
    assert run(model.generate("x")).text == "x"
    assert "analytics" in factory.registry.get_sorted_ids()


def test_a_cycle_among_what_is_on_is_named():
    factory = MiddlewareFactory(preset=None, plugins=False)
    factory.register(middleware("a", before=("b",)))

    def close_the_ring():
        factory.register(middleware("b", before=("a",)))
        factory.apply_middleware("echo/echo", enabled_middleware=["a", "b"])

    with pytest.raises(OrderError, match=r"a -> b -> a|b -> a -> b"):
        close_the_ring()

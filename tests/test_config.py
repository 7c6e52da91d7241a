"""Configuration: its shape, its merging, TOML, and errors that name the culprit."""

import copy
import inspect
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from neuro_mw import ConditionsConfig, ConfigError, MiddlewareEntry
from neuro_mw.config import deep_merge, entries_of, entry_of, load_dotted, read_toml, validated
from neuro_mw.frozen import UnhashableError, freeze, key_of

values = st.recursive(st.integers() | st.booleans() | st.none() | st.lists(st.integers(), max_size=2),
                      lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
                      max_leaves=8)  # fmt: skip
trees = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


# --- merging ---------------------------------------------------------------------------------------------------------


def test_later_wins_and_lists_are_replaced():
    assert deep_merge({"a": {"x": 1, "l": [1]}}, {"a": {"y": 2, "l": [2]}}, {"b": None}) == {
        "a": {"x": 1, "y": 2, "l": [2]}, "b": None,
    }  # fmt: skip
    assert deep_merge({"a": 1}, {"a": {"x": 1}}) == {"a": {"x": 1}}
    assert deep_merge({"a": {"x": 1}}, {"a": None}) == {"a": None}
    assert deep_merge() == {}


def reference(left, right):
    if isinstance(left, dict) and isinstance(right, dict):
        return {key: reference(left[key], right[key]) if key in left and key in right else {**left, **right}[key]
                for key in {**left, **right}}  # fmt: skip
    return right


@given(trees, trees, trees)
def test_merging_property(one, two, three):
    before = copy.deepcopy((one, two, three))
    merged = deep_merge(one, two, three)
    assert merged == reference(reference(one, two), three)
    assert deep_merge(deep_merge(one, two), three) == merged
    assert deep_merge(one, one) == deep_merge(one, {}) == deep_merge({}, one) == one
    assert (one, two, three) == before


@given(trees)
def test_what_comes_out_shares_no_table_with_what_went_in(tree):
    before = copy.deepcopy(tree)
    merged = deep_merge(tree, {})

    def spoil(table):
        for value in list(table.values()):
            if isinstance(value, dict):
                spoil(value)
        table["spoiled"] = True

    spoil(merged)
    assert tree == before


# --- entries ---------------------------------------------------------------------------------------------------------


def test_an_entry_is_given_back_as_it_was():
    full = {
        "enabled": True, "config": {"bad_words": ["x"]}, "conditions": {"providers": ["openai"]}, "priority": 90,
        "on_error": "raise", "timeout_s": 2.0, "use": None,
    }  # fmt: skip
    assert entry_of("x", full) == full
    assert entry_of("x", {}) == {}
    assert entry_of("x", {"timeout_s": 2}) == {"timeout_s": 2}
    assert entry_of("x", MiddlewareEntry(priority=3)) == {"priority": 3}
    assert entries_of(None) == {}
    assert entries_of({"a": {}, "b": MiddlewareEntry()}) == {"a": {}, "b": {}}


def test_the_entry_models_by_hand():
    entry = MiddlewareEntry(conditions=ConditionsConfig(models=["gpt*"]))
    assert entry_of("x", entry) == {"conditions": {"models": ["gpt*"]}}


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ({"enabled": "yes"}, "enabled"), ({"enabled": 1}, "enabled"), ({"enabled": None}, "enabled"),
        ({"config": []}, "config"), ({"config": None}, "config"), ({"config": "x"}, "config"),
        ({"config": {5: 1}}, "config"), ({"priority": "90"}, "priority"), ({"priority": 9.5}, "priority"),
        ({"priority": True}, "priority"), ({"on_error": "ignore"}, "on_error"), ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": -1}, "timeout_s"), ({"timeout_s": "2"}, "timeout_s"), ({"timeout_s": float("nan")}, "timeout_s"),
        ({"timeout_s": True}, "timeout_s"), ({"use": 5}, "use"), ({"conditions": []}, "conditions"),
        ({"conditions": {"providers": "openai"}}, "conditions.providers"), ({"enable": True}, "enable"),
        ({"bad_words": ["x"]}, "bad_words"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_wrong_entry_is_named(entry, key):
    with pytest.raises(ConfigError) as caught:
        entry_of("x", entry, file="f.toml")
    assert caught.value.key.startswith(f"middleware.x.{key}")
    assert caught.value.file == "f.toml"
    assert str(caught.value).startswith(f"f.toml: middleware.x.{key}")


@pytest.mark.parametrize(("wrong", "meant"), [("enable", "enabled"), ("timeout", "timeout_s"), ("onerror", "on_error")])
def test_the_nearest_key_is_said(wrong, meant):
    with pytest.raises(ConfigError, match=f"Did you mean '{meant}'") as caught:
        entry_of("x", {wrong: 1})
    assert "one of conditions, config, enabled, on_error, priority, timeout_s, use" in str(caught.value)


def test_the_nearest_key_inside_of_conditions():
    with pytest.raises(ConfigError, match="Did you mean 'providers'"):
        entry_of("x", {"conditions": {"provider": ["a"]}})


@pytest.mark.parametrize("data", [None, 5, True, "x", ["x"], object()], ids=repr)
def test_an_entry_is_a_table(data):
    with pytest.raises(ConfigError, match="an entry is a table, not"):
        entry_of("x", data)
    with pytest.raises(ConfigError):
        entries_of({"x": data})


class Inner(BaseModel):
    depth: int = 1


class Strange(BaseModel):
    model_config = ConfigDict(extra="allow")
    many: dict[str, list[Inner]] = {}
    maybe: Inner | None = None


def test_unknown_keys_deep_inside():
    class Outer(BaseModel):
        inner: list[Inner] = []
        maybe: Inner | int | None = None

    with pytest.raises(ConfigError) as caught:
        validated(Outer, {"inner": [{"dept": 1}]}, key="k")
    assert caught.value.key == "k.inner.0.dept"
    with pytest.raises(ConfigError, match="k"):
        validated(Outer, {"maybe": {"dept": 1}}, key="k")
    assert validated(Strange, {"more": 1}).more == 1
    with pytest.raises(ConfigError) as caught:
        validated(Outer, {"inner": 5})
    assert caught.value.key == "inner"


# --- files -----------------------------------------------------------------------------------------------------------


def test_toml(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('preset = "x"\n', "utf-8")
    assert read_toml(path) == read_toml(str(path)) == {"preset": "x"}


@pytest.mark.parametrize(("content", "said"),
    [(b"a = ", "does not parse as TOML"), (b"\xff\xfe", "does not parse as TOML"),
                                               (b"[a]\n[a]\n", "does not parse as TOML")])  # fmt: skip
def test_toml_that_does_not_parse(tmp_path, content, said):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        read_toml(path)
    assert caught.value.file == str(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"nope\.toml: cannot be read: No such file"):
        read_toml(tmp_path / "nope.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(tmp_path)


def test_dotted_callables():
    assert load_dotted("os.path:join", key="k")("a", "b").startswith("a")
    assert load_dotted("collections:OrderedDict.fromkeys", key="k")("ab") == {"a": None, "b": None}


@pytest.mark.parametrize(
    "path", ["", ":", "os", "os:", ":join", "os:nope", "os.nope:join", "os:name", "..os:join", "a b:c"]
)
def test_dotted_that_lead_nowhere(path):
    with pytest.raises(ConfigError) as caught:
        load_dotted(path, key="k.custom", file="f.toml")
    assert (caught.value.key, caught.value.file) == ("k.custom", "f.toml")


# --- keys ------------------------------------------------------------------------------------------------------------


@given(trees, trees)
def test_frozen_is_equal_exactly_where_the_data_is(one, two):
    assert freeze(one) == freeze(copy.deepcopy(one))
    assert hash(freeze(one)) == hash(freeze(copy.deepcopy(one)))
    assert (freeze(one) == freeze(two)) == (repr_typed(one) == repr_typed(two))


def repr_typed(value):
    if isinstance(value, dict):
        return {key: repr_typed(item) for key, item in value.items()}
    return [repr_typed(item) for item in value] if isinstance(value, list) else (type(value), value)


LOOKALIKES = [
    1,
    1.0,
    True,
    "1",
    [1],
    (1,),
    {1},
    frozenset({1}),
    [[1]],
    [],
    (),
    {},
    set(),
    frozenset(),
    None,
    [None],
    {"a": 1},
]


def test_no_two_lookalikes_are_one_key():
    for index, one in enumerate(LOOKALIKES):
        for two in LOOKALIKES[index + 1 :]:
            if isinstance(one, set | frozenset) and isinstance(two, set | frozenset):
                continue
            assert freeze(one) != freeze(two), (one, two)
            assert freeze({"k": one}) != freeze({"k": two}), (one, two)


def test_what_cannot_be_hashed_is_no_key():
    class Odd:
        __hash__ = None

    with pytest.raises(UnhashableError):
        freeze({"k": Odd()})
    assert key_of({"k": Odd()}) is None


def test_the_oldest_pydantic_allowed_knows_what_is_asked_of_it():
    """`model_validate(..., extra=...)` came with pydantic 2.12: with an older one no Config could be made at all."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    (wanted,) = (one for one in project["dependencies"] if one.startswith("pydantic"))
    oldest = tuple(int(number) for number in re.search(r">=([\d.]+)", wanted)[1].split("."))
    uses_extra = "extra=" in inspect.getsource(validated)
    assert oldest >= (2, 12) or not uses_extra

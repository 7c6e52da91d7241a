"""cache: what is kept, what is not, what it says of itself, where it keeps."""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from dataclasses import replace
from enum import Enum
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_mw import (
    Blocked,
    ConfigError,
    MiddlewareFactory,
    ProviderUnavailable,
    Response,
    ToolCall,
    Usage,
    middleware,
    parts_of,
)
from neuro_mw.builtin.analytics import Analytics
from neuro_mw.builtin.cache import Cache
from neuro_mw.builtin.caching import entry as cache_entry
from neuro_mw.builtin.caching.key import key_of
from neuro_mw.builtin.guardrails import Guardrails
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel

MODES = ("generate", "stream")
PAIRS = [(first, second) for first in MODES for second in MODES]
FEW = settings().max_examples // 5


def chain(model, *more, factory=None, **options):
    cache = Cache(**options)
    made = MiddlewareFactory(preset=None, plugins=False, middleware=[cache, *more], **(factory or {}))
    return cache, made.apply_middleware(model)


async def ask(wrapped, mode, prompt="hi", **params):
    if mode == "generate":
        return await wrapped.generate(prompt, **params)
    return await wrapped.stream(prompt, **params).response()


def said(response, id="cache"):
    """The answer but for what the cache says of it."""
    return replace(response, metadata={key: value for key, value in response.metadata.items() if key != id})


def told(response):
    return response.metadata["cache"]["hit"]


# --- hits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_hit_asks_no_model_and_costs_nothing(first, second):
    model, analytics = ScriptedModel(Response(text="hello", usage=Usage(5, 7)), provider="openai"), Analytics()
    cache, wrapped = chain(model, analytics)

    async def main():
        return await ask(wrapped, first), await ask(wrapped, second)

    miss, hit = asyncio.run(main())
    assert len(model.calls) == 1
    assert (told(miss), told(hit)) == (False, True)
    assert 0 <= hit.metadata["cache"]["age_s"] < 60
    records = analytics.records()
    assert records[1]["cost_usd"] == 0.0
    assert records[0]["cost_usd"] > 0
    assert hit.receipt.layers["cache"]["status"] == "short_circuited"
    assert miss.receipt.layers["cache"]["status"] == "completed"
    assert hit.receipt.request_id != miss.receipt.request_id
    assert cache.tally.counts() == {"misses": 1, "stored": 1, "hits": 1}


def test_its_stats_say_what_it_did():
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[Cache(scope="user")])
    wrapped = factory.apply_middleware(ScriptedModel())

    async def main():
        for who in ("a", "a", None):
            await ask(wrapped.with_context(session={"user_id": who}), "stream")

    asyncio.run(main())
    stats = factory.registry.get_aggregated_stats()["cache"]
    assert stats.counts == {"misses": 1, "stored": 1, "hits": 1, "uncached.no_user": 1}
    assert (stats.total_executions, stats.short_circuited) == (3, 1)


NAMES = st.sampled_from(["a", "b", "é", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
COUNT = st.none() | st.integers(0, 99)
ANSWER = st.builds(
    Response,
    text=st.text(max_size=12),
    reasoning=st.text(max_size=6),
    tool_calls=st.lists(st.builds(ToolCall, st.sampled_from(["c1", "c2"]), st.just("f"), st.text(max_size=5)),
                        max_size=2),
    finish_reason=st.sampled_from(["stop", "tool_calls", "other"]),
    usage=st.builds(Usage, COUNT, COUNT, COUNT, COUNT, COUNT),
    id=st.none() | st.text(max_size=3),
    model=st.none() | st.just("gpt-4o"),
    created=st.none() | st.integers(0, 99) | st.floats(0, 99),
    metadata=st.dictionaries(NAMES, JSON, max_size=2),
    provider_fields=st.dictionaries(NAMES, JSON, max_size=2),
)  # fmt: skip
CUTS = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@settings(max_examples=FEW)
@given(answer=ANSWER, cuts=CUTS, modes=st.sampled_from(PAIRS), analytics=st.booleans())
def test_what_comes_back_is_what_was_given(answer, cuts, modes, analytics):
    model = FaultyModel(answer, cuts=cuts)
    plain = FaultyModel(answer, cuts=cuts)
    _, wrapped = chain(model, *([Analytics()] if analytics else []))
    bare = MiddlewareFactory(preset=None, plugins=False, middleware=[Analytics()]).apply_middleware(plain)

    async def main():
        return [await ask(wrapped, modes[0]), await ask(wrapped, modes[1]), await ask(bare, modes[0])]

    miss, hit, without = asyncio.run(main())
    for response in (miss, hit, without):
        response.metadata.pop("analytics", None)
    assert said(miss) == said(hit) == said(without)
    assert len(model.calls) == 1


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_nothing_is_shared_between_callers(first, second):
    model = ScriptedModel(Response(text="hi", provider_fields={"a": {"b": [1]}}, tool_calls=[ToolCall("1", "f", "{}")]))
    _, wrapped = chain(model)

    async def main():
        seen = []
        for mode in (first, second, second):
            response = await ask(wrapped, mode)
            seen.append(said(response))
            seen[-1] = json.dumps(seen[-1].to_dict())
            response.text = "spoiled"
            response.provider_fields["a"]["b"].append(2)
            response.tool_calls[0].arguments = "spoiled"
            response.usage.input_tokens = 99
            response.metadata["spoiled"] = True
        return seen

    first_said, *others = asyncio.run(main())
    assert others == [first_said, first_said]


@pytest.mark.parametrize("mode", MODES)
def test_inner_metadata_comes_back_and_outer_is_its_own(mode):
    async def marking(do_generate, params, context):
        response = await do_generate(params)
        response.metadata["mark"] = {"by": context.metadata.request_id}
        return response

    inner = middleware("inner", priority=5, wrap_generate=marking)
    _, wrapped = chain(ScriptedModel(), inner, Analytics())

    async def main():
        return await ask(wrapped, mode), await ask(wrapped, mode)

    miss, hit = asyncio.run(main())
    assert hit.metadata["mark"] == miss.metadata["mark"] == {"by": miss.receipt.request_id}
    assert hit.metadata["analytics"]["request_id"] == hit.receipt.request_id


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_gets_old(mode, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("neuro_mw.builtin.cache.time", lambda: now[0])
    monkeypatch.setattr("neuro_mw.builtin.caching.answers.time", lambda: now[0])
    monkeypatch.setattr("neuro_mw.builtin.caching.flights.time", lambda: now[0])
    model = ScriptedModel()
    cache, wrapped = chain(model, ttl_s=10)
    cache.store._clock = lambda: now[0]

    async def main():
        found = []
        for step in (0, 4, 5.5, 4):
            now[0] += step
            found.append(await ask(wrapped, mode))
        return found

    a, b, c, d = asyncio.run(main())
    assert [told(one) for one in (a, b, c, d)] == [False, True, True, False]
    assert b.metadata["cache"]["age_s"] == 4.0
    assert c.metadata["cache"]["age_s"] == 9.5
    assert len(model.calls) == 2


# --- the key -----------------------------------------------------------------------------------------------------


def meaning(value):
    """What JSON says, told apart from all else: a plain reference of the key."""
    if isinstance(value, bool) or value is None:
        return ("word", value)
    if isinstance(value, int | float):
        return (type(value).__name__, repr(value))
    if isinstance(value, str):
        return ("text", value)
    if isinstance(value, list | tuple):
        return ("list", tuple(meaning(one) for one in value))
    return ("object", frozenset((name, meaning(one)) for name, one in value.items()))


SCALAR = (
    st.none() | st.booleans() | st.text(max_size=2)
    | st.sampled_from([0, 1, -1, 2**63, 2**70, 1.0, 0.0, -0.0, 1e22, "1", "true", "a", "\ud800"])
)  # fmt: skip
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=2) | st.lists(inner, max_size=2).map(tuple)
    | st.dictionaries(st.sampled_from(["a", "b", "1"]), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
PARAMS = st.dictionaries(st.sampled_from(["seed", "stop", "tools", "extra_body"]), VALUE, max_size=3)


@given(left=PARAMS, right=PARAMS, data=st.data())
def test_the_key_is_equal_exactly_where_the_meaning_is(left, right, data):
    shuffled = dict(data.draw(st.permutations(list(left.items()))))
    assert key_of([], left) == key_of([], shuffled)
    assert (key_of([], left) == key_of([], right)) == (meaning(left) == meaning(right))
    assert key_of([], left) is not None


class Colour(Enum):
    RED = "red"


class Text(str):
    __slots__ = ()

    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


class Odd:
    def __eq__(self, other):
        raise RuntimeError


LOOP = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, math.nan, math.inf, {1: "a"}, Colour.RED, uuid.uuid4(), b"a", SimpleNamespace(), Odd(), LOOP,
     lambda: 1, Response(), {"a": [{None: 1}]}],
)  # fmt: skip
@pytest.mark.parametrize("mode", MODES)
def test_what_json_cannot_say_is_not_cached(value, mode):
    assert key_of([], {"seed": value}) is None
    cache, wrapped = chain(model := ScriptedModel())

    async def main():
        return [await ask(wrapped, mode, seed=value) for _ in range(2)]

    assert ["cache" in one.metadata for one in asyncio.run(main())] == [False, False]
    assert len(model.calls) == 2
    assert cache.tally.counts() == {"uncached.params": 2}


def test_subclasses_are_what_they_are_as_json():
    assert key_of([], {"a": Text("x")}) == key_of([], {"a": "x"}) != key_of([], {"a": Text("y")})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"seed": 2}, {"seed": 1.0}, {"seed": True}, {"tools": []}, {"response_format": {"type": "json"}},
     {"base_url": "http://b"}, {"api_key": "k1"}, {"api_key": "k2"}, {"extra_body": {"a": 1}}, {"temperature": 0},
     {"user": "u"}, {"stream_options": {"include_usage": False}}, {"model": "gpt-4o-mini"}, {"prompt": "other"}],
)  # fmt: skip
def test_every_param_that_matters_tells(mode, other):
    _, wrapped = chain(model := ScriptedModel(), single_flight=False)
    other = dict(other)
    prompt = other.pop("prompt", "hi")

    async def main():
        await ask(wrapped, mode, seed=None)
        await ask(wrapped, mode, prompt, **{"seed": None, **other})

    asyncio.run(main())
    assert len(model.calls) == 2


@pytest.mark.parametrize(
    "other", [{"timeout": 3}, {"stream_options": {"include_usage": True}}, {"model": "gpt-4o"}, {"max_retries": 0}]
)
def test_what_does_not_matter_does_not(other):
    _, wrapped = chain(model := ScriptedModel())

    async def main():
        await ask(wrapped, "generate")
        return await ask(wrapped, "stream", **other)

    assert told(asyncio.run(main()))
    assert len(model.calls) == 1


def test_what_is_ignored_does_not_tell():
    _, wrapped = chain(ScriptedModel(), ignore=["user", "seed"])

    async def main():
        await ask(wrapped, "generate", user="a", seed=object())
        return await ask(wrapped, "stream", user="b")

    assert told(asyncio.run(main()))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scope", ["user", "session"])
def test_scopes(mode, scope):
    cache, wrapped = chain(model := ScriptedModel(), scope=scope)

    async def main():
        for who in ("a", "b", "a", None, None):
            session = {f"{scope}_id": who, "session_id" if scope == "user" else "user_id": "x"}
            await ask(wrapped.with_context(session=session), mode)

    asyncio.run(main())
    assert len(model.calls) == 4
    assert cache.tally.counts() == {"misses": 2, "stored": 2, "hits": 1, f"uncached.no_{scope}": 2}


@pytest.mark.parametrize("mode", MODES)
def test_who_is_exempt_from_a_guard_shares_with_nobody_who_is_not(mode):
    config = {"guardrails": {"conditions": {"custom": lambda context: context.session.user_id != "boss"}}}
    cache, wrapped = chain(
        model := ScriptedModel("a secret"), Guardrails(bad_words=["secret"]), factory={"middleware_config": config}
    )

    async def main():
        boss, other = (wrapped.with_context(session={"user_id": who}) for who in ("boss", "u1"))
        return [(await ask(one, mode)).text for one in (boss, other, boss, other)]

    first, second, third, fourth = asyncio.run(main())
    assert first == third == "a secret"
    assert "secret" not in second + fourth
    assert len(model.calls) == 2
    assert cache.tally.counts()["hits"] == 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("temperature", "cached"), [(0, True), (0.3, True), (0.31, False), (None, False), ("0", False), (False, False)]
)
def test_warm_requests_are_not_cached(mode, temperature, cached):
    cache, wrapped = chain(ScriptedModel(), max_temperature=0.3)
    params = {} if temperature is None else {"temperature": temperature}

    async def main():
        await ask(wrapped, mode, **params)
        return "cache" in (await ask(wrapped, mode, **params)).metadata

    assert asyncio.run(main()) == cached
    assert cache.tally.counts().get("uncached.temperature", 0) == (0 if cached else 2)


# --- what is not kept --------------------------------------------------------------------------------------------


def refusing(params, context):
    raise Blocked("no")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("answer", "inner", "count"),
    [
        (Response(text="a", finish_reason="length"), [], "unstored.truncated"),
        (Response(text="a", finish_reason="content_filter"), [], None),
        (Response(text="a", finish_reason="error"), [], None),
        (Response(text="a", other_parts=[SimpleNamespace(type="later", x=1)]), [], "unstored.content"),
        (Response(text="a", provider_fields={"x": object()}), [], "unstored.content"),
        (Response(text="a", provider_fields={"x": math.nan}), [], "unstored.content"),
        (Response(text="a", metadata={"x": {1: 2}}), [], "unstored.content"),
        (Response(text="\ud800"), [], "unstored.content"),
        (Response(text="a" * 2_000_000), [], "unstored.size"),
        (Response(text="a", provider_fields={"x": "a" * 2_000_000}), [], "unstored.size"),
        (Response(text="a"), [middleware("guard", priority=5, transform_params=refusing)], None),
        (Response(text="a"),
         [middleware("broken", priority=5, on_error="skip", transform_params=lambda params, context: 1 / 0)],
         "unstored.failure_skipped"),
    ],
)  # fmt: skip
def test_never_kept(mode, answer, inner, count):
    cache, wrapped = chain(ScriptedModel(answer), *inner)

    async def main():
        first, second = await ask(wrapped, mode), await ask(wrapped, mode)
        assert first.text == second.text
        assert not told(second)

    asyncio.run(main())
    assert cache.tally.counts() == {"misses": 2} | ({count: 2} if count else {})
    assert len(cache._flights) == 0


def test_truncated_answers_where_they_are_wanted():
    _, wrapped = chain(ScriptedModel(Response(text="a", finish_reason="length")), keep_truncated=True)

    async def main():
        await ask(wrapped, "stream")
        return await ask(wrapped, "generate")

    assert told(asyncio.run(main()))


@pytest.mark.parametrize("mode", MODES)
def test_failures_and_what_broke_off_are_not_kept(mode):
    down = ProviderUnavailable("down", provider="openai", model="gpt-4o")
    model = FaultyModel(faults=[Fault(0, down), Fault(1, cut=True)])
    cache, wrapped = chain(model)

    async def main():
        for _ in range(2):
            with pytest.raises(Exception, match=r"down|broke off|ended"):
                await ask(wrapped, mode)
        return await ask(wrapped, mode)

    assert not told(asyncio.run(main()))
    assert cache.tally.counts() == {"misses": 3, "stored": 1}


@pytest.mark.parametrize("after", [1, 2, 3])
def test_what_its_reader_left_is_not_kept(after):
    model = FaultyModel("hello world", cuts=(3,))
    cache, wrapped = chain(model)

    async def main():
        async with wrapped.stream("hi") as stream:
            for _ in range(after):
                await anext(stream)
        assert model.closed == 1
        return await ask(wrapped, "generate")

    assert not told(asyncio.run(main()))
    assert cache.tally.counts() == {"misses": 2, "stored": 1}


def test_memory_of_a_large_stream_is_let_go():
    model = FaultyModel("a" * 50_000, cuts=(1000,))
    cache, wrapped = chain(model, max_bytes=2000)

    flights, board = [], cache._flights.board

    def boarding(*arguments):
        flights.append(board(*arguments))
        return flights[-1]

    cache._flights.board = boarding

    async def main():
        text, kept = "", []
        async with wrapped.stream("hi") as stream:
            async for piece in stream.text():
                text += piece
                kept.append(len(flights[0][0].kept))
        assert text == "a" * 50_000
        assert (kept[0], max(kept), kept[-1]) == (1, 2, 0)

    asyncio.run(main())
    assert cache.tally.counts() == {"misses": 1, "unstored.size": 1}


# --- entries that are not ours -----------------------------------------------------------------------------------

GOOD = json.loads(cache_entry.packed(Response(text="hello", tool_calls=[ToolCall("a", "b", "c")]), 1.0))


@given(at=st.integers(0, len(GOOD) - 1), value=JSON)
def test_an_entry_is_ours_or_corrupt(at, value):
    entry = json.dumps([value if index == at else one for index, one in enumerate(GOOD)]).encode()
    try:
        response, made_at = cache_entry.unpacked(entry)
    except cache_entry.Corrupt:
        return
    assert cache_entry.packed(response, made_at) is not None
    assert [part.type for part in parts_of(response)]


@pytest.mark.parametrize("entry", [b"", b"null", b"{}", b"[]", b"\xff", b"[1]", b"[2" + json.dumps(GOOD).encode()[2:]])
@pytest.mark.parametrize("mode", MODES)
def test_a_corrupt_entry_is_a_miss_and_deleted(entry, mode):
    cache, wrapped = chain(model := ScriptedModel(Response(text="x", finish_reason="length")))

    async def main():
        await ask(wrapped, mode)
        keys, value = [], cache.store.value

        def seen(key):
            keys.append(key)
            return value(key)

        cache.store.value = seen
        await ask(wrapped, mode)
        await cache.store.set(keys[0], entry)
        response = await ask(wrapped, mode)
        assert (response.text, told(response)) == ("x", False)
        assert value(keys[0]) is None

    asyncio.run(main())
    assert cache.tally.counts()["corrupt"] == 1
    assert len(model.calls) == 3


# --- where it keeps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"ttl_s": 0}, "ttl_s"),
        ({"ttl_s": math.inf}, "ttl_s"),
        ({"max_entries": 0}, "max_entries"),
        ({"scope": "team"}, "scope"),
        ({"ignore": ["seed", "messages"]}, "ignore.1"),
        ({"ignore": ["model"]}, "ignore.0"),
        ({"ttl": 5}, "ttl"),
        ({"store": "redsi://x"}, "store"),
        ({"store": "sqlite:///x.db", "max_bytes": 5}, "max_bytes"),
        ({"store": "memory://?max_entries=5", "max_entries": 5}, "max_entries"),
    ],
)
def test_wrong_options(options, key):
    with pytest.raises(ConfigError) as caught:
        Cache(**options)
    assert caught.value.key == f"middleware.cache.config.{key}"


def test_limits_of_memory_where_the_state_is_elsewhere(tmp_path):
    with pytest.raises(ConfigError) as caught:
        MiddlewareFactory(
            preset=None, state=f"sqlite:///{tmp_path}/x.db", middleware=[Cache(max_entries=5)]
        ).apply_middleware(ScriptedModel())
    assert caught.value.key == "middleware.cache.config.max_entries"


@pytest.mark.parametrize("options", [{"max_entries": 2}, {"max_bytes": 700}, {"store": "memory://?max_entries=2"}])
def test_a_memory_of_its_own_is_bounded(options):
    cache, wrapped = chain(model := ScriptedModel(), **options)

    async def main():
        for prompt in "abcdef":
            await ask(wrapped, "generate", prompt)
        assert told(await ask(wrapped, "stream", "f"))
        assert not told(await ask(wrapped, "stream", "a"))

    asyncio.run(main())
    assert len(cache.store._values) <= 4
    assert len(model.calls) == 7


def test_sqlite_is_shared_by_factories(tmp_path):
    state = {"state": f"sqlite:///{tmp_path}/x.db"}
    (_, one), (_, two) = (chain(ScriptedModel(), factory=state) for _ in range(2))

    async def main():
        await ask(one, "stream")
        return await ask(two, "generate")

    assert told(asyncio.run(main()))


def test_a_store_that_is_away_is_a_miss(tmp_path):
    broken = tmp_path / "x.db"
    broken.write_bytes(b"no database at all, but long enough to be taken for one" * 50)
    for policy, counts in (("open", {"store_away": 2, "misses": 2}), ("local", {"store_away": 2, "hits": 1})):
        cache, wrapped = chain(ScriptedModel(), store=f"sqlite:///{broken}", on_store_failure=policy)

        async def main(wrapped=wrapped):
            responses = [await ask(wrapped, "generate"), await ask(wrapped, "stream")]
            assert all(one.receipt.layers["cache"]["failures_skipped"] for one in responses)

        asyncio.run(main())
        assert counts.items() <= cache.tally.counts().items()

"""cache: no answer goes to one it was not made for, and none is lost to those it was made for."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from math import inf

import orjson
import pytest
import redis

from neuro_mw import (
    Finish,
    Middleware,
    MiddlewareFactory,
    MiddlewareMetadata,
    ProviderUnavailable,
    Response,
    ToolCall,
    Usage,
    collect,
    middleware,
)
from neuro_mw.builtin.budget import Budget
from neuro_mw.builtin.cache import Cache
from neuro_mw.builtin.caching import answers
from neuro_mw.builtin.caching.entry import packed, sealed, unpacked, unsealed
from neuro_mw.builtin.caching.flights import Flight
from neuro_mw.builtin.caching.key import key_of
from neuro_mw.builtin.fallback import Fallback
from neuro_mw.providers.anthropic import AnthropicModel
from neuro_mw.providers.openai_compatible import OpenAICompatibleModel
from neuro_mw.state import open_store
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel
from neuro_mw.testing.stub_anthropic import StubAnthropic
from neuro_mw.testing.stub_openai import StubOpenAI
from tests.builtin.test_cache import MODES, PAIRS, ask, chain, told
from tests.builtin.test_cache_flights import nothing_is_left, run, ticks
from tests.state.conftest import redis_url, valkey

__all__ = ["nothing_is_left", "redis_url", "valkey"]  # fixtures
DEAR = {"gpt-4o": {"input": 0.0, "output": 1000.0}, "gpt-4o-mini": {"input": 0.0, "output": 1000.0}}


def down():
    return ProviderUnavailable("down", provider="openai", model="gpt-4o", retryable=True)


def many(number, wrapped, modes, **params):
    return asyncio.gather(*(ask(wrapped, modes[at % len(modes)], **params) for at in range(number)))


# --- answers of another model ------------------------------------------------------------------------------------


def other_model(how):
    """A layer that sends every call to another model, where the one that is asked is down."""
    if how == "fallback":
        return Fallback(models=["gpt-4o-mini"])
    if how == "downgrade":
        return Budget(limit_usd=0.5, prices={**DEAR, "gpt-4o-mini": {"input": 0, "output": 0.001}},
                      on_exceeded="downgrade", downgrade_to="gpt-4o-mini")  # fmt: skip
    return middleware("route", transform_params=lambda params, _: {**params, "model": "gpt-4o-mini"}, priority=60)


class Named(FaultyModel):
    """Says which model it was asked for; of those it may have some that are down."""

    broken = ()

    def _begin(self, mode, params):
        call, response = super()._begin(mode, params)
        name = params.get("model") or self.model_id
        if name in self.broken:
            call.fault = Fault(0, down())
        return call, Response(text=f"{name} says so", usage=response.usage)


@pytest.mark.parametrize("how", ["fallback", "downgrade", "route"])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_an_answer_of_another_model_is_not_kept(first, second, how):
    model = Named(Response(usage=Usage(1, 1)))
    model.broken = ["gpt-4o"]
    cache, wrapped = chain(model, other_model(how))

    async def main():
        return [await ask(wrapped, mode, max_tokens=1000) for mode in (first, second)]

    responses = run(main)
    assert [(one.text, told(one)) for one in responses] == [("gpt-4o-mini says so", False)] * 2
    assert cache.tally.counts() == {"misses": 2, "unstored.other_model": 2}


@pytest.mark.parametrize("how", ["fallback", "downgrade", "route"])
@pytest.mark.parametrize("modes", [["generate"], ["stream"], ["stream", "generate"]])
def test_an_answer_of_another_model_is_given_to_no_follower(how, modes):
    model = Named(Response(usage=Usage(1, 1)), delay_s=0)
    model.broken = ["gpt-4o"]
    cache, wrapped = chain(model, other_model(how))

    async def main():
        return await many(6, wrapped, modes, max_tokens=1000)

    responses = run(main)
    assert [(one.text, told(one)) for one in responses] == [("gpt-4o-mini says so", False)] * 6
    assert sum(call.params.get("model") == "gpt-4o-mini" for call in model.calls) == 6
    assert cache.tally.counts() == {"misses": 6, "unstored.other_model": 6}


@pytest.mark.parametrize("mode", MODES)
def test_what_guards_of_the_other_model_left_out_reaches_nobody_else(mode):
    """The guard of the model that was asked is not in the chain of the one that answered; nor the reverse."""
    guard = middleware("guard", kind="guard", priority=10, transform_parts=lambda params, _: lambda part: (
        type(part)(part.text.replace("secret", "******")) if hasattr(part, "text") else part))  # fmt: skip
    cache = Cache()
    factory = MiddlewareFactory(
        preset=None, plugins=False, middleware=[cache, Fallback(models=["gpt-4o-mini"]), guard],
        middleware_config={"guard": {"conditions": {"models": ["gpt-4o"]}}},
    )  # fmt: skip
    model = FaultyModel("a secret", cuts=(99,), faults=[Fault(0, down())], delay_s=0)
    wrapped = factory.apply_middleware(model)

    async def main():
        return [one.text for one in await many(4, wrapped, [mode])]

    assert run(main) == ["a secret"] + ["a ******"] * 3


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("name", ["gpt-4o-mini", "gpt-4o"])
def test_a_model_that_the_caller_names_is_cached(first, second, name):
    model = Named()
    cache, wrapped = chain(model)

    async def main():
        return [await ask(wrapped, mode, model=name) for mode in (first, second)]

    assert [(one.text, told(one)) for one in run(main)] == [(f"{name} says so", False), (f"{name} says so", True)]
    assert cache.tally.counts() == {"misses": 1, "stored": 1, "hits": 1}


@pytest.mark.parametrize("mode", MODES)
def test_attempts_of_an_earlier_passage_are_not_this_ones(mode):
    """Further out another model was tried first: that is no matter of this passage's."""

    async def twice(do_generate, params, context):
        await do_generate({**params, "model": "gpt-4o-mini"})
        return await do_generate(params)

    model = Named()
    cache, wrapped = chain(model, middleware("twice", wrap_generate=twice, priority=200))
    for _ in range(2):
        assert asyncio.run(ask(wrapped, mode)).text == "gpt-4o says so"
    assert len(model.calls) == 2
    assert cache.tally.counts() == {"misses": 2, "stored": 2, "hits": 2}


# --- layers that may be passed over ------------------------------------------------------------------------------


def guard_that(fails, **more):
    def scrub(params, context):
        def step(part):
            if fails():
                raise RuntimeError("it is broken")
            return type(part)(part.text.upper()) if hasattr(part, "text") else part

        return step

    return middleware("scrub", kind="guard", on_error="skip", priority=20, transform_parts=scrub, **more)


@pytest.mark.parametrize("modes", [["generate"], ["stream"], ["generate", "stream"]])
def test_behind_a_lenient_layer_each_call_asks(modes):
    model = FaultyModel("hello", delay_s=0)
    cache, wrapped = chain(model, guard_that(lambda: False))

    async def main():
        return await many(5, wrapped, modes)

    assert [(one.text, told(one)) for one in run(main)] == [("HELLO", False)] * 5
    assert len(model.calls) == 5
    assert "followed" not in cache.tally.counts()


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_what_was_made_while_a_lenient_layer_failed_is_not_kept(first, second, caplog):
    broken = [True]
    cache, wrapped = chain(FaultyModel("hello"), guard_that(lambda: broken[0]))

    async def main():
        answers = [await ask(wrapped, first)]
        broken[0] = False
        return answers + [await ask(wrapped, second) for _ in range(2)]

    assert [(one.text, told(one)) for one in asyncio.run(main())] == [
        ("hello", False), ("HELLO", False), ("HELLO", True),
    ]  # fmt: skip
    assert cache.tally.counts() == {"misses": 2, "unstored.failure_skipped": 1, "stored": 1, "hits": 1}


@pytest.mark.parametrize("mode", MODES)
def test_an_observer_that_may_fail_leaves_the_single_flight(mode):
    model = FaultyModel("hello", delay_s=0)
    watch = middleware("watch", kind="observer", transform_parts=lambda params, _: lambda part: part)
    _, wrapped = chain(model, watch)

    async def main():
        return await many(5, wrapped, [mode])

    assert sum(told(one) for one in run(main)) == 4
    assert len(model.calls) == 1


# --- models of one name that are not the same --------------------------------------------------------------------


def sharing(cache=None, *layers):
    return MiddlewareFactory(preset=None, plugins=False, middleware=[cache or Cache(), *layers])


def texts(factory, models, mode):
    """What each model answers through the same cache, and then once more."""

    async def main():
        wrapped = [factory.apply_middleware(model) for model in models]
        async with factory:
            found = [await ask(one, mode, max_tokens=9) for one in [*wrapped, *wrapped]]
        return [(one.text, told(one)) for one in found]

    return asyncio.run(main())


NATIVE = [(partial(OpenAICompatibleModel, "openai"), StubOpenAI), (AnthropicModel, StubAnthropic)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kind", "stub"), NATIVE, ids=["openai", "anthropic"])
def test_native_models_share_where_they_ask_the_same_and_nowhere_else(kind, stub, mode):
    with stub() as here, stub() as there:
        models = [
            kind("m", base_url=here.base_url, api_key="a"),
            kind("m", base_url=there.base_url, api_key="a"),
            kind("m", base_url=here.base_url, api_key="b"),
            kind("m", base_url=here.base_url, api_key="a", headers={"x-tenant": "1"}),
            kind("m", base_url=here.base_url, api_key="a", headers={"x-tenant": "2"}),
        ]
        alike = kind("m", base_url=here.base_url, api_key="a")
        found = texts(sharing(), [*models, alike], mode)
        assert [hit for _, hit in found] == [False] * 5 + [True] * 7
        assert (len(here.requests), len(there.requests)) == (4, 1)


@pytest.mark.parametrize("mode", MODES)
def test_an_address_of_the_environment_tells_them_apart(mode, monkeypatch):
    with StubOpenAI() as here, StubOpenAI() as there:
        factory = sharing()
        for stub in (here, there, here):
            monkeypatch.setenv("OPENAI_BASE_URL", stub.base_url)
            found = texts(factory, [OpenAICompatibleModel("openai", "m", api_key="a")], mode)
            assert found[1][1]
        assert (len(here.requests), len(there.requests)) == (1, 1)


class Tenant(ScriptedModel):
    def __init__(self, text, identity=None):
        super().__init__(text)
        self.identity = identity


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("identities", "alike"), [
    (("a", "b"), False), (("a", "a"), True), ((["a", 1], ["a", 2]), False), (({"t": "a"}, {"t": "a"}), True),
    ((None, None), True),
])  # fmt: skip
def test_a_model_of_ones_own_says_who_it_is(identities, alike, mode):
    models = [Tenant(f"answer {at}", identity) for at, identity in enumerate(identities)]
    found = texts(sharing(), models, mode)
    assert [text for text, _ in found] == ["answer 0", "answer 0" if alike else "answer 1"] * 2
    assert [len(one.calls) for one in models] == [1, 0 if alike else 1]


@pytest.mark.parametrize("mode", MODES)
def test_models_of_two_classes_share_nothing(mode):
    found = texts(sharing(), [ScriptedModel("one"), Named()], mode)
    assert [text for text, _ in found] == ["one", "gpt-4o says so"] * 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("deep", [1, 2])
def test_wrapped_models_within_are_told_apart(mode, deep):
    """By the model at the bottom, and by the layers around it."""

    def upper(params, context):
        return lambda part: type(part)(part.text.upper()) if hasattr(part, "text") else part

    def nest(model, *layers):
        for _ in range(deep):
            model = MiddlewareFactory(preset=None, plugins=False, middleware=layers).apply_middleware(model)
            layers = [middleware("plain", transform_params=lambda params, _: params)]
        return model

    plain = middleware("plain", transform_params=lambda params, _: params)
    loud = middleware("loud", transform_parts=upper)
    models = [nest(Tenant("one", "a"), plain), nest(Tenant("two", "b"), plain), nest(Tenant("one", "a"), loud),
              nest(Tenant("never", "a"), plain)]  # fmt: skip
    assert [text for text, _ in texts(sharing(), models, mode)] == ["one", "two", "ONE", "one"] * 2


# --- hooks of one's own ------------------------------------------------------------------------------------------


def replacing(old, new):
    def scrub(params, context):
        return lambda part: type(part)(part.text.replace(old, new)) if hasattr(part, "text") else part

    return scrub


def starred(params, context):
    return lambda part: type(part)(part.text.replace("secret", "***")) if hasattr(part, "text") else part


def dotted(params, context):
    return lambda part: type(part)(part.text.replace("secret", "...")) if hasattr(part, "text") else part


def gone(params, context):
    return lambda part: type(part)(part.text.partition("secret")[0]) if hasattr(part, "text") else part


def louder(params, context):
    return lambda part: type(part)(part.text.upper()) if hasattr(part, "text") else part


def softer(params, context):
    return lambda part: type(part)(part.text.lower()) if hasattr(part, "text") else part


def before(params, context):
    return lambda part: type(part)("x" + part.text) if hasattr(part, "text") else part


def behind(params, context):
    return lambda part: type(part)(part.text + "x") if hasattr(part, "text") else part


def by_default(with_what):
    def scrub(params, context, *, new=with_what):
        return lambda part: type(part)(part.text.replace("secret", new)) if hasattr(part, "text") else part

    return scrub


def by_position(with_what):
    def scrub(params, context, new=with_what):
        return lambda part: type(part)(part.text.replace("secret", new)) if hasattr(part, "text") else part

    return scrub


class Scrubber(Middleware):
    """No config: what it holds is told by its attributes."""

    metadata = MiddlewareMetadata(id="scrub", kind="guard", priority=20)

    def __init__(self, new):
        super().__init__()
        self.new = new

    def transform_parts(self, params, context):
        return lambda part: type(part)(part.text.replace("secret", self.new)) if hasattr(part, "text") else part


def scrubbing(hook):
    if isinstance(hook, Middleware):
        return hook
    return middleware("scrub", kind="guard", priority=20, transform_parts=hook)


def through(tmp_path, hook, mode):
    """An answer through this guard; all caches are on one file."""

    async def main():
        factory = MiddlewareFactory(preset=None, plugins=False, state=f"sqlite:///{tmp_path}/state.db",
                                    middleware=[Cache(), scrubbing(hook)])  # fmt: skip
        async with factory:
            response = await ask(factory.apply_middleware(ScriptedModel("a secret", cuts=(99,))), mode)
        return response.text, told(response)

    return asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("old", "new", "expected"), [
    (starred, dotted, "a ..."),
    (starred, gone, "a "),
    (replacing("secret", "***"), replacing("secret", "..."), "a ..."),
    (by_default("***"), by_default("..."), "a ..."),
    (by_position("***"), by_position("..."), "a ..."),
    (Scrubber("***"), Scrubber("..."), "a ..."),
], ids=["constant", "code", "closure", "keyword default", "default", "attribute"])  # fmt: skip
def test_a_guard_that_was_replaced_does_not_get_the_answers_of_the_old_one(tmp_path, mode, old, new, expected):
    assert through(tmp_path, old, mode) == ("a ***", False)
    assert through(tmp_path, new, mode) == (expected, False)
    assert through(tmp_path, old, mode) == ("a ***", True), "it is the same in another factory"
    assert through(tmp_path, new, mode) == (expected, True)


@pytest.mark.parametrize(("old", "new", "expected"), [
    (louder, softer, ["A SECRET", "a secret"]), (before, behind, ["xa secret", "a secretx"]),
], ids=["name", "order"])  # fmt: skip
def test_nor_where_only_what_is_done_with_the_constants_differs(tmp_path, old, new, expected):
    assert [through(tmp_path, hook, "generate") for hook in (old, new)] == [(text, False) for text in expected]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [lambda: replacing("secret", "***"), lambda: by_default("***"),
                                  lambda: Scrubber("***")])  # fmt: skip
def test_guards_that_are_made_alike_share(tmp_path, mode, make):
    assert through(tmp_path, make(), mode) == ("a ***", False)
    assert through(tmp_path, make(), mode) == ("a ***", True)


class Words:
    """Words that are told by a hook of one's own: it is neither a function nor a middleware."""

    def __init__(self, new):
        self.new = new

    def __call__(self, params, context):
        return lambda part: type(part)(part.text.replace("secret", self.new)) if hasattr(part, "text") else part

    def scrub(self, params, context):
        return self(params, context)


class Listed(Scrubber):
    """What it holds is a list."""

    def __init__(self, new):
        super().__init__("".join(new))
        self.new, self.words = "", [new]

    def transform_parts(self, params, context):
        [new] = self.words
        return lambda part: type(part)(part.text.replace("secret", new)) if hasattr(part, "text") else part


def from_list(new):
    words = [new]

    def scrub(params, context):
        [word] = words
        return lambda part: type(part)(part.text.replace("secret", word)) if hasattr(part, "text") else part

    return scrub


def default_list(new):
    def scrub(params, context, words=(new,)):
        return lambda part: type(part)(part.text.replace("secret", words[0])) if hasattr(part, "text") else part

    return scrub


def through_function(new):
    starry = {"***": lambda text: text.replace("secret", "***"), "...": lambda text: text.replace("secret", "...")}[new]

    def scrub(params, context):
        return lambda part: type(part)(starry(part.text)) if hasattr(part, "text") else part

    return scrub


def preset(new):
    def scrub(new, params, context):
        return lambda part: type(part)(part.text.replace("secret", new)) if hasattr(part, "text") else part

    return partial(scrub, new)


def second_of_two(new):
    first, second = Words("same"), Words(new)

    def scrub(params, context):
        return second(params, context) if first else None

    return scrub


def pattern(new):
    """Two patterns: one finds the word, and the other one does not."""
    found = re.compile({"***": "secret", "...": "Secret"}[new])

    def scrub(params, context):
        return lambda part: type(part)(found.sub("***", part.text)) if hasattr(part, "text") else part

    return scrub


@dataclass(slots=True, frozen=True)
class Setting:
    new: str


def slotted(new):
    setting = Setting(new)

    def scrub(params, context):
        return lambda part: type(part)(part.text.replace("secret", setting.new)) if hasattr(part, "text") else part

    return scrub


def bound_builtin(new):
    """What a pattern does, without the pattern."""
    scrubbed = re.compile({"***": "secret", "...": "Secret"}[new]).sub

    def scrub(params, context):
        return lambda part: type(part)(scrubbed("***", part.text)) if hasattr(part, "text") else part

    return scrub


def within_another(new):
    class Outer:
        inner = Words("")

        def __init__(self):
            self.inner = Words(new)

    outer = Outer()

    def scrub(params, context):
        return outer.inner(params, context)

    return scrub


def of_a_class(new):
    class Held:
        word = new

    def scrub(params, context):
        return lambda part: type(part)(part.text.replace("secret", Held.word)) if hasattr(part, "text") else part

    return scrub


HOLDERS = {
    "list in a closure": from_list, "tuple as default": default_list, "function in a closure": through_function,
    "partial": preset, "object that is called": Words, "bound method": lambda new: Words(new).scrub,
    "list as attribute": Listed, "second of two objects": second_of_two, "object with slots": slotted,
    "pattern": pattern, "method of a pattern": bound_builtin, "object in an object": within_another,
    "class": of_a_class,
}  # fmt: skip


@pytest.mark.parametrize("make", [pytest.param(make, id=id) for id, make in HOLDERS.items()])
def test_whatever_a_guard_holds_tells(tmp_path, make):
    assert through(tmp_path, make("***"), "generate") == ("a ***", False)
    text, hit = through(tmp_path, make("..."), "generate")
    assert (text, hit) in [("a ...", False), ("a secret", False)]


def test_a_hook_whose_closure_is_not_filled_yet():
    """What is assigned behind the function, as where two call each other."""

    def make():
        def hook(params, context):
            return params if params else later

        if hook.__name__ == "":
            later = None
        return hook

    cache, wrapped = chain(ScriptedModel(), middleware("own", priority=20, transform_params=make()))
    assert asyncio.run(ask(wrapped, "generate")).text == "hello"
    assert cache.tally.counts() == {"misses": 1, "stored": 1}


PROGRAM = """
from neuro_mw import MiddlewareFactory, middleware
from neuro_mw.builtin.cache import Cache
from neuro_mw.testing import ScriptedModel

def outer(word):
    def hook(params, context):
        def inner(part):
            return part if part.type in KNOWN else word
        return [inner for _ in range(1)][0]
    return hook

cache = Cache()
own = middleware("own", transform_parts=outer("x"))
factory = MiddlewareFactory(preset=None, plugins=False, middleware=[cache, own])
print(factory.apply_middleware(ScriptedModel())._chain.inside(cache, "generate").fingerprint)
"""


@pytest.mark.parametrize("known", [
    '("text", "finish")',
    '{"text", "finish", "info", "other"}',
], ids=["tuple", "set"])  # fmt: skip
def test_the_hook_of_another_process_is_the_same(known):
    """Nothing of an address in memory or of the order of a set is in the fingerprint."""
    found = set()
    for seed in ("1", "2", "3"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}
        found.add(subprocess.run([sys.executable, "-c", PROGRAM.replace("KNOWN", known)], env=environment,
                                 capture_output=True, text=True, check=True).stdout)  # fmt: skip
    assert len(found) == 1


# --- what a budget said ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["budget", "pocket"])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_what_a_budget_said_of_one_call_is_not_said_of_another(first, second, id):
    budget = Budget(limit_usd=0, prices=DEAR, on_exceeded="warn")
    budget.stored_as = id
    model = FaultyModel(Response(text="hello", usage=Usage(1, 1)), delay_s=0)
    _, wrapped = chain(model, budget)

    async def main():
        leader = asyncio.ensure_future(ask(wrapped, first, max_tokens=1))
        await ticks(1)
        return await leader, await ask(wrapped, second, max_tokens=1)

    made, hit = run(main)
    assert made.metadata[id]["over_limit"]
    assert (told(hit), id in hit.metadata) == (True, False)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_nor_of_one_that_shares_it_under_way(first, second):
    budget = Budget(limit_usd=0, prices=DEAR, on_exceeded="warn")
    model = FaultyModel(Response(text="hello", usage=Usage(1, 1)), delay_s=0)
    cache, wrapped = chain(model, budget)
    parts = []

    async def follow():
        if second == "generate":
            return await wrapped.generate("hi", max_tokens=1)
        async for part in wrapped.stream("hi", max_tokens=1):
            parts.append(part)
        return await collect(parts)

    async def main():
        leader = asyncio.ensure_future(ask(wrapped, first, max_tokens=1))
        await ticks(1)
        follower = await follow()
        return await leader, follower

    made, followed = run(main)
    assert made.metadata["budget"]["over_limit"]
    assert cache.tally.counts()["followed"] == 1
    assert (told(followed), "budget" in followed.metadata) == (True, False)
    assert all("budget" not in part.metadata for part in parts if isinstance(part, Finish))


# --- how long one waits for another ------------------------------------------------------------------------------


@pytest.mark.parametrize(("leads", "follows"), PAIRS)
def test_a_follower_waits_no_longer_than_it_would_for_the_provider(leads, follows):
    model = FaultyModel("hello", faults=[Fault(0, stall_s=inf)], delay_s=0)
    cache, wrapped = chain(model)

    async def main():
        leader = asyncio.ensure_future(ask(wrapped, leads))
        await ticks(3)
        assert (await ask(wrapped, follows, timeout=0.05)).text == "hello"
        assert not leader.done()
        leader.cancel()
        await asyncio.wait([leader])

    run(main)
    assert len(model.calls) == 2
    assert "followed" not in cache.tally.counts()


@pytest.mark.parametrize("patience", [0, -1, True, None, "1"])
def test_what_is_no_time_is_not_waited_for(patience):
    """The provider says what it thinks of it."""
    model = FaultyModel("hello", delay_s=0.01)
    _, wrapped = chain(model, ignore=["timeout"])

    async def main():
        leader = asyncio.ensure_future(ask(wrapped, "generate"))
        await ticks(3)
        follower = await ask(wrapped, "generate", timeout=patience)
        return await leader, follower

    assert [told(one) for one in run(main)] == [False, True]


# --- the key -----------------------------------------------------------------------------------------------------


def test_the_provider_tells():
    """The same model by name, of the same class, from another provider."""
    models = [ScriptedModel("one", provider="openai"), ScriptedModel("two", provider="azure")]
    assert [text for text, _ in texts(sharing(), models, "generate")] == ["one", "two"] * 2


@pytest.mark.parametrize("mode", MODES)
def test_caches_under_two_ids_are_apart(tmp_path, mode):
    """Each says what it did under its own id, and neither takes the other's entry."""

    async def main():
        found = []
        for id in ("near", "far", "near"):
            factory = MiddlewareFactory(preset=None, plugins=False, state=f"sqlite:///{tmp_path}/state.db")
            factory.register(Cache, id=id, default_enabled=True)
            async with factory:
                response = await ask(factory.apply_middleware(ScriptedModel()), mode)
            assert response.metadata.keys() == {id}
            found.append(response.metadata[id]["hit"])
        return found

    assert asyncio.run(main()) == [False, False, True]


@pytest.mark.parametrize("mode", MODES)
def test_two_caches_in_one_chain_say_each_its_own(tmp_path, mode):
    async def main():
        factory = MiddlewareFactory(preset=None, plugins=False, state=f"sqlite:///{tmp_path}/state.db")
        factory.register(Cache, id="near", default_enabled=True)
        factory.register(Cache, id="far", default_enabled=True, priority=94)
        async with factory:
            wrapped = factory.apply_middleware(ScriptedModel())
            return [(await ask(wrapped, mode)).metadata for _ in range(2)]

    made, hit = asyncio.run(main())
    assert made == {"near": {"hit": False}, "far": {"hit": False}}
    assert (hit.keys(), hit["near"]["hit"]) == ({"near"}, True)


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_what_is_kept_changes_with_keep_truncated(tmp_path, before, after):
    """Who keeps no cut answers is not given one that another one kept."""

    async def main():
        found = []
        for keep in (before, after, after):
            cache = Cache(keep_truncated=keep)
            factory = MiddlewareFactory(preset=None, plugins=False, state=f"sqlite:///{tmp_path}/state.db",
                                        middleware=[cache])  # fmt: skip
            async with factory:
                model = ScriptedModel(Response(text="cut", finish_reason="length"))
                found.append(told(await factory.apply_middleware(model).generate("hi")))
        return found

    assert asyncio.run(main()) == [False, False, after]


class Name(str):
    """A name that is equal to itself alone, as those of some libraries are."""

    __slots__ = ()

    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)


def test_names_that_become_equal_are_not_said_in_json():
    assert key_of([], {"logit_bias": {Name("a"): 1, Name("a"): 2}}) is None
    assert key_of([], {"logit_bias": {Name("a"): 1}}) == key_of([], {"logit_bias": {"a": 1}})


@pytest.mark.parametrize("mode", MODES)
def test_an_integer_that_nobody_can_write_is_not_cached(mode):
    model = ScriptedModel()
    cache, wrapped = chain(model)
    for _ in range(2):
        assert asyncio.run(ask(wrapped, mode, seed=10**5000)).text == "hello"
    assert (len(model.calls), cache.tally.counts()) == (2, {"uncached.params": 2})


# --- entries in a store ------------------------------------------------------------------------------------------


def spoil_sqlite(url, _):
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        assert connection.execute("UPDATE entries SET value = x'00'").rowcount == 1


def spoil_redis(url, valkey):
    with redis.Redis(port=valkey.port) as client:
        [key] = client.keys(url.split("prefix=")[1] + "*")
        client.set(key, b"\0", ex=600)


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
@pytest.mark.parametrize("mode", MODES)
def test_an_entry_that_cannot_be_read_is_deleted(kind, mode, tmp_path, request):
    """Also where the answer that takes its place is not kept."""
    url = f"sqlite:///{tmp_path}/state.db" if kind == "sqlite" else request.getfixturevalue("redis_url")
    server = request.getfixturevalue("valkey") if kind == "redis" else None
    spoil = spoil_sqlite if kind == "sqlite" else spoil_redis

    async def main():
        cache = Cache()
        factory = MiddlewareFactory(preset=None, plugins=False, state=url, middleware=[cache])
        async with factory:
            model = ScriptedModel()
            wrapped = factory.apply_middleware(model)
            await ask(wrapped, mode)
            store = open_store(url)
            assert len(await store.keys("cache:")) == 1
            spoil(url, server)
            model.response = Response(text="hello", finish_reason="length")
            assert (await ask(wrapped, mode)).text == "hello"
            left = await store.keys("cache:")
            await store.aclose()
        return left, cache.tally.counts()

    assert asyncio.run(main()) == ([], {"misses": 2, "stored": 1, "corrupt": 1, "unstored.truncated": 1})


@pytest.mark.parametrize(("answer", "kept"), [
    (Response(reasoning="a" * 3000), False),
    (Response(tool_calls=[ToolCall("c", "f", '"' + "a" * 3000 + '"')], finish_reason="tool_calls"), False),
    (Response(reasoning="a" * 300), True),
])  # fmt: skip
@pytest.mark.parametrize("mode", MODES)
def test_all_that_can_be_large_is_counted(answer, kept, mode, monkeypatch):
    """Reasoning and the arguments of tools, too: they are not even packed."""
    tries = []
    monkeypatch.setattr(answers, "packed", lambda *one: tries.append(1) or packed(*one))
    cache, wrapped = chain(FaultyModel(answer, cuts=(100,)), max_bytes=2000)
    assert not told(asyncio.run(ask(wrapped, mode)))
    assert cache.tally.counts() == {"misses": 1, "stored" if kept else "unstored.size": 1}
    assert len(tries) == kept


# --- flights -----------------------------------------------------------------------------------------------------


class Lock:
    """Cannot be copied."""

    type = "lock"

    def __deepcopy__(self, memo):
        raise TypeError


def test_what_cannot_be_copied_is_given_to_no_follower():
    """A follower that has had nothing yet asks by itself; nothing is kept."""
    lock = Lock()
    model = FaultyModel(Response(other_parts=[lock]), delay_s=0)
    cache, wrapped = chain(model)

    async def main():
        return await many(3, wrapped, ["stream", "generate"])

    responses = run(main)
    assert all(one.other_parts == [lock] for one in responses)
    assert not any(told(one) for one in responses)
    assert len(model.calls) == 3
    assert cache.tally.counts() == {"misses": 3, "unstored.content": 3}


def test_a_large_stream_is_kept_for_those_who_follow():
    """As long as somebody reads it; it is too large to be stored."""
    model = FaultyModel("a" * 5000, cuts=(100,), delay_s=0)
    cache, wrapped = chain(model, max_bytes=2000)

    async def main():
        return await many(3, wrapped, ["stream"])

    responses = run(main)
    assert [one.text for one in responses] == ["a" * 5000] * 3
    assert len(model.calls) == 1
    assert cache.tally.counts() == {"misses": 1, "followed": 2, "unstored.size": 1}


@pytest.mark.parametrize("mode", MODES)
def test_one_who_comes_when_it_was_let_loose_asks_anew(mode):
    model = FaultyModel("a" * 5000, cuts=(100,), delay_s=0)
    cache, wrapped = chain(model, max_bytes=2000)

    async def main():
        async with wrapped.stream("hi") as leader:
            for _ in range(30):
                await anext(leader)
            assert (await ask(wrapped, mode)).text == "a" * 5000
            assert len((await leader.response()).text) == 5000

    run(main)
    assert len(model.calls) == 2
    assert len(cache._flights) == 0


def test_a_cancelled_follower_leaves_nothing_behind():
    """However often it happens on one flight: those who went away are not kept in mind."""

    async def main():
        flight = Flight({}, "key")

        async def follow():
            return [part async for part in flight.parts()]

        for _ in range(3):
            tasks = [asyncio.ensure_future(follow()) for _ in range(5)]
            await ticks(2)
            assert (len(flight._waiting), flight.followers) == (5, 5)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert (flight._waiting, flight.followers) == ([], 0)
        flight.lose("is over")

    run(main)


@pytest.mark.parametrize("mode", MODES)
def test_the_tables_of_loops_that_are_closed_go(mode):
    cache, wrapped = chain(FaultyModel("hello", delay_s=0))
    for at in range(5):
        asyncio.run(ask(wrapped, mode, str(at)))
    assert len(cache._flights._loops) == 1


def test_a_hit_says_the_same_as_what_was_made():
    """In bytes: what a store keeps is the answer, and a checksum of it."""
    answer = Response(text="hello", usage=Usage(1, 2), metadata={"a": {"b": [1]}})
    entry = sealed(packed(answer, 5.0))
    assert unpacked(unsealed(entry)) == (answer, 5.0)
    assert orjson.loads(unsealed(entry))[1] == 5.0

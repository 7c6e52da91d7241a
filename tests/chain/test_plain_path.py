"""A layer without `timeout_s` takes a shorter way in generate mode; a limit that is never reached changes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import (
    Blocked,
    Finish,
    Middleware,
    MiddlewareFactory,
    MiddlewareMetadata,
    Response,
    TextDelta,
    middleware,
)
from neuro_mw.testing import ScriptedModel

WAYS = ("pass", "change", "raise", "refuse", "nothing", "wrong")


def act(way: str, passed: Any, changed: Any) -> Any:
    """What a hook does: it lets pass, changes, fails, refuses, or returns what it must not."""
    if way == "raise":
        raise RuntimeError("mine")
    if way == "refuse":
        raise Blocked("no", category="test")
    return {"pass": passed, "change": changed, "nothing": None, "wrong": 5}[way]


class Holding:
    """Holds all text until the end."""

    def __init__(self, way: str) -> None:
        self.way, self.text = way, ""

    def feed(self, part: Any) -> Any:
        if isinstance(part, TextDelta):
            self.text += part.text
            return None
        return part

    def finish(self) -> Any:
        return act(self.way, [TextDelta(self.text)], [TextDelta(self.text.upper())]) or [Finish("stop")]

    def abort(self) -> None:
        self.text = ""


def made(id: str, ways: dict[str, tuple[str, bool]], log: list[Any], on_error: str) -> Middleware:
    """A middleware whose hooks act as told; `late` makes them async, or lets the step hold."""

    def hook(name: str) -> Any:
        way, late = ways[name]

        async def soon(value: Any) -> Any:
            await asyncio.sleep(0)
            return act(way, *value)

        def transform_params(params: Any, context: Any) -> Any:
            params["messages"][0]["by"] = id if way == "change" else params["messages"][0].get("by")
            both = (params, {**params, "seed": id})
            return soon(both) if late else act(way, *both)

        async def wrap_generate(do_generate: Any, params: Any, context: Any) -> Any:
            response = await do_generate({**params, "top_p": 1} if late else params)
            return act(way, response, Response(text=f"{response.text} by {id}"))

        def transform_parts(params: Any, context: Any) -> Any:
            if way in ("nothing", "raise", "refuse", "wrong"):
                return act(way, None, None)
            if late:
                return Holding(way)
            return lambda part: TextDelta(part.text * 2) if way == "change" and isinstance(part, TextDelta) else part

        def on_end(outcome: Any, context: Any) -> Any:
            text = outcome.response and (outcome.response.text, outcome.response.usage)
            log.append((id, outcome.status, type(outcome.error), text, outcome.duration > 0))
            if outcome.response is not None:
                outcome.response.metadata[id], outcome.response.text = len(log), "spoilt"
            return soon((None, None)) if late else act(way, None, None)

        return locals()[name]

    return middleware(id, on_error=on_error, **{name: hook(name) for name in ways})


hooks = st.dictionaries(
    st.sampled_from(["transform_params", "wrap_generate", "transform_parts", "on_end"]),
    st.tuples(st.sampled_from(WAYS) | st.sampled_from(["pass", "change"]), st.booleans()),
    max_size=4,
)


@given(
    layers=st.lists(st.tuples(hooks, st.sampled_from(["raise", "raise", "skip"])), min_size=1, max_size=4),
    fails=st.booleans(),
    named=st.sampled_from([None, "gpt-4o", "openai/gpt-4o", "gpt-4o-mini"]),
)
def test_the_short_way_does_what_the_long_way_does(layers, fails, named):
    async def one(limit: dict[str, Any]) -> Any:
        log: list[Any] = []
        model = ScriptedModel("hello there", error=ConnectionError("down") if fails else None)
        factory = MiddlewareFactory(
            preset=None,
            plugins=False,
            middleware=[made(f"m{n}", ways, log, on_error) for n, (ways, on_error) in enumerate(layers)],
            middleware_config={f"m{n}": limit for n in range(len(layers))} if limit else None,
        )
        given = {"messages": [{"role": "user", "content": "hi"}], **({"model": named} if named else {})}
        wrapped, answer, raised, receipt = factory.apply_middleware(model), None, None, None
        try:
            answer = await wrapped.generate(given)
        except Exception as error:  # noqa: BLE001  # whatever it is, both ways must give it
            raised = type(error), str(error), getattr(error, "__notes__", None)
        if answer is not None and answer.receipt is not None:
            receipt = [{**one, "self_time": 0} for one in answer.receipt.to_dict()["layers"]]
        stats = {}
        for id, found in factory.registry.get_aggregated_stats().items():
            by_hook = sorted(found.by_hook)
            times = ("average_execution_time", "last_execution_time", "total_time", "p50", "p95", "p99", "by_hook")
            stats[id] = {**{key: value for key, value in found.to_dict().items() if key not in times}, "hooks": by_hook}
            assert sum(found.by_hook.values()) <= found.average_execution_time * found.total_executions + 1e-6
        assert "by" not in given["messages"][0]
        return answer, raised, receipt, stats, log, model.calls

    assert asyncio.run(one({})) == asyncio.run(one({"timeout_s": 1000}))


@pytest.mark.parametrize("config", [None, {"hold": {"timeout_s": 1000}}])
def test_what_a_step_held_is_booked_although_it_changed_nothing(config):
    """Such a passage is completed and plain in all other respects."""
    held = middleware("hold", transform_parts=lambda params, context: Holding("pass"))
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[held], middleware_config=config)
    asyncio.run(factory.apply_middleware(ScriptedModel("hello")).generate("hi"))
    assert factory.registry.get_aggregated_stats()["hold"].held_back_max == 5


def test_the_time_of_each_hook_is_booked_to_it():
    def slow(params: Any, context: Any) -> Any:
        end = asyncio.get_running_loop().time() + 0.02
        while asyncio.get_running_loop().time() < end:
            pass
        return params

    layer = middleware("m", transform_params=slow, on_end=lambda outcome, context: None)
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[layer])
    asyncio.run(factory.apply_middleware(ScriptedModel("hello", delay_s=0.05)).generate("hi"))
    stats = factory.registry.get_aggregated_stats()["m"]
    assert stats.by_hook["transform_params"] > 19 > 10 > stats.by_hook["on_end"]
    assert stats.by_hook["transform_params"] + stats.by_hook["on_end"] <= stats.average_execution_time < 45
    assert stats.total_time > 65


def test_an_inner_call_made_at_the_end_is_not_the_hooks_own_time():
    class Late(Middleware):
        metadata = MiddlewareMetadata(id="late")

        async def wrap_generate(self, do_generate, params, context):
            self.again = do_generate
            return await do_generate(params)

        async def on_end(self, outcome, context):
            await self.again()

    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[Late()])
    model = ScriptedModel("hello", delay_s=0.05)
    asyncio.run(factory.apply_middleware(model).generate("hi"))
    stats = factory.registry.get_aggregated_stats()["late"]
    assert len(model.calls) == 2
    assert stats.by_hook["on_end"] < 25
    assert stats.total_time > 95

"""Whose time it is: self time stands still while an inner call is under way, also when inner calls overlap."""

import asyncio

from neuro_mw import MiddlewareFactory, middleware
from neuro_mw.testing import ScriptedModel

from .conftest import MODES, call, run

INNER_S = 0.2  # so long that a busy machine's own time does not look like it


def stats_of(mode, model, made):
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[made])
    run(call(factory.apply_middleware(model), mode))
    return factory.registry.get_aggregated_stats()["a"]


async def twice_at_once(do_generate, params, context):
    answers = await asyncio.gather(do_generate(params), do_generate(params))
    return answers[0]


async def hedged(do_generate, params, context):
    """Starts a second call while the first is under way, and leaves the slower one behind."""
    first = asyncio.create_task(do_generate(params))
    await asyncio.sleep(INNER_S / 5)
    second = asyncio.create_task(do_generate(params))
    done, left = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    return done.pop().result()


async def one_after_the_other(do_generate, params, context):
    await do_generate(params)
    await asyncio.sleep(INNER_S)  # its own time
    return await do_generate(params)


def test_overlapping_and_abandoned_inner_calls_are_not_own_time():
    for hook in (twice_at_once, hedged):
        stats = stats_of("generate", ScriptedModel("a", delay_s=INNER_S), middleware("a", wrap_generate=hook))
        assert stats.total_time >= INNER_S * 1e3 * 0.9
        assert stats.average_execution_time < INNER_S * 1e3 / 2


def test_own_time_between_inner_calls_counts():
    for mode in MODES:
        model = ScriptedModel("a", cuts=(9,), delay_s=INNER_S)
        stats = stats_of(mode, model, middleware("a", wrap_generate=one_after_the_other))
        assert stats.average_execution_time >= INNER_S * 1e3 * 0.9
        assert stats.average_execution_time < stats.total_time / 2


def test_the_consumers_time_counts_in_neither():
    async def through(do_stream, params, context):
        async for part in do_stream(params):
            yield part

    made = [
        middleware("wrap", wrap_stream=through),
        middleware("step", priority=-1, transform_parts=lambda params, context: lambda part: part),
        middleware("tap", priority=9, on_end=lambda outcome, context: None),
    ]
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=made)

    async def slow_reader():
        async with factory.apply_middleware(ScriptedModel("abcdef", cuts=(2,))).stream("x") as stream:
            async for _ in stream:
                await asyncio.sleep(INNER_S / 2)

    run(slow_reader())
    for id, stats in factory.registry.get_aggregated_stats().items():
        assert stats.total_time < INNER_S * 1e3, id
        assert stats.average_execution_time < INNER_S * 1e3, id


def test_time_is_booked_to_hooks():
    async def wrap_generate(do_generate, params, context):
        await asyncio.sleep(INNER_S)
        return await do_generate(params)

    async def transform_params(params, context):
        return params

    for mode in MODES:
        made = middleware("a", wrap_generate=wrap_generate, transform_params=transform_params)
        stats = stats_of(mode, ScriptedModel(), made)
        assert set(stats.by_hook) == {"transform_params", "wrap_generate"}
        assert stats.by_hook["wrap_generate"] >= INNER_S * 1e3 * 0.9
        assert stats.by_hook["transform_params"] < INNER_S * 1e3 / 2
        assert stats.by_model == {"gpt-4o": 1}

"""What other processes do: each runs calls and records what its factory did. Apart, since processes import it."""

from __future__ import annotations

import asyncio
import os
import signal
from multiprocessing.synchronize import Barrier
from typing import Any

from neuro_mw import Blocked, MiddlewareFactory, ProviderUnavailable, Response, middleware
from neuro_mw.export import StatsRecorder
from neuro_mw.testing import ScriptedModel

SECRET = "PROMPT-SECRET"


def _refuse(params: Any, context: Any) -> Any:
    if "refuse" in str(params["messages"]):
        raise Blocked("no")
    return params


def factory_of() -> MiddlewareFactory:
    async def wrap_generate(do_generate: Any, params: Any, context: Any) -> Response:
        counting.count("calls")
        return await do_generate(params)

    counting = middleware("counting", wrap_generate=wrap_generate, priority=50)
    guard = middleware("guard", transform_params=_refuse, kind="guard", priority=10)
    return MiddlewareFactory(middleware=[counting, guard], plugins=False)


async def calls(factory: MiddlewareFactory, number: int) -> None:
    """Calls in both modes; each fifth is refused and each seventh fails, so that there is something of everything."""
    down = ProviderUnavailable("down", provider="p", model="m")
    for at in range(number):
        origin = ScriptedModel("a b c", errors=[down] if at % 7 == 3 else [])
        origin.model_id = f"model-{at % 3}"
        model = factory.apply_middleware(origin).with_context(session={"user_id": "USER-SECRET"})
        prompt = f"{SECRET} refuse" if at % 5 == 2 else SECRET
        try:
            if at % 2:
                await model.generate(prompt)
            else:
                async with model.stream(prompt) as parts:
                    await parts.response()
        except ProviderUnavailable:
            continue


def work(url: str, start: Barrier, number: int, every_s: float, done: Any) -> None:
    """Run calls while a recorder is at it, and record at the end."""

    async def main() -> dict[str, Any]:
        factory = factory_of()
        async with StatsRecorder(factory, url + ("&" if "?" in url else "?") + "timeout_s=20", every_s) as recorder:
            await asyncio.to_thread(start.wait, 60)
            await calls(factory, number)
        assert recorder.failures == 0
        return {id: one.to_dict() for id, one in factory.registry.get_aggregated_stats().items()}

    done.put(asyncio.run(main()))


def die(url: str, number: int) -> None:
    """Record once, go on, and be killed before the next record."""

    async def main() -> None:
        factory = factory_of()
        await calls(factory, number)
        async with StatsRecorder(factory, url, 3600.0) as recorder:
            await recorder.record()
            await calls(factory, number)
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())

"""What other processes do to a store through chains; apart, since they import this module and none of the tests."""

from __future__ import annotations

import asyncio
import os
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

from neuro_mw import BudgetExceeded, MiddlewareFactory, RateLimitExceeded, Response, Usage
from neuro_mw.testing import FaultyModel, ScriptedModel

MODES = ("generate", "stream")
PER_TOKEN = {"gpt-4o": {"input": 0.0, "output": 1000.0}}  # a token out costs a tenth of a cent, one in nothing
MILLI = 1_000_000  # what such a token costs, in nano-dollars
BUDGET_KEY = "budget:budget:None:ever:global"


def answer(tokens: int = 1, text: str = "hello") -> Response:
    """An answer of so many tokens."""
    return Response(text=text, usage=Usage(3, tokens))


def factory_of(state: str, **configs: dict[str, Any]) -> MiddlewareFactory:
    """A factory with these middlewares, whose state is there."""
    config = {id: {"config": options} for id, options in configs.items()}
    return MiddlewareFactory(preset=None, plugins=False, state=state, middleware_config=config)


def budget_of(tokens: int, **more: Any) -> dict[str, Any]:
    """A budget for so many tokens out, for all time."""
    return {"limit_usd": tokens / 1000, "window": None, "prices": PER_TOKEN, **more}


async def ask(model: Any, mode: str, prompt: str = "hello", **params: Any) -> Response:
    """One call in this mode."""
    if mode == "generate":
        return await model.generate(prompt, **params)
    return await model.stream(prompt, **params).response()


def spend(url: str, start: Barrier, calls: int, many: dict[str, Any], results: Any) -> None:
    """Make so many calls, eight at a time and in both modes; say what became of them."""

    async def main() -> dict[str, int]:
        factory, scripted = factory_of(url, **many), ScriptedModel(answer())
        model, became = factory.apply_middleware(scripted), {"passed": 0, "refused": 0}

        async def some(number: int) -> None:
            for at in range(number, calls, 8):
                try:
                    response = await ask(model, MODES[at % 2], max_tokens=1)
                    assert response.text == "hello"
                    became["passed"] += 1
                except (BudgetExceeded, RateLimitExceeded):
                    became["refused"] += 1

        async with factory:
            await asyncio.to_thread(start.wait, 60)
            await asyncio.gather(*map(some, range(8)))
        return became | {"asked": len(scripted.calls)}

    try:
        results.put(asyncio.run(main()))
    except BaseException as error:
        results.put({"error": f"{type(error).__name__}: {error}"})
        raise


class Hanging(FaultyModel):
    """Says that it was asked, and never answers."""

    def __init__(self, ready: Connection) -> None:
        super().__init__()
        self.ready = ready

    async def generate(self, params: Any) -> Response:
        """Never."""
        self.ready.send(os.getpid())
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def stream(self, params: Any) -> Any:
        """Never, too."""
        await self.generate(params)
        yield


def hang(url: str, lease_s: float, tokens: int, ready: Connection) -> None:
    """A call in each mode, which both hang where the model should answer."""

    async def main() -> None:
        factory = factory_of(url, budget=budget_of(100, lease_s=lease_s), rate_limit={"limits": ["1000/day"]})
        model = factory.apply_middleware(Hanging(ready))
        await asyncio.gather(*(ask(model, mode, max_tokens=tokens) for mode in MODES))

    asyncio.run(main())

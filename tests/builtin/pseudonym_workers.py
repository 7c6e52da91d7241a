"""What other processes do to a session's table; apart, since they import this module and none of the tests."""

from __future__ import annotations

import asyncio
from typing import Any

from neuro_mw import MiddlewareFactory
from neuro_mw.builtin.pseudonymize import Pseudonymize
from neuro_mw.testing import ScriptedModel


def name(url: str, start: Any, numbers: list[int], results: Any) -> None:
    """Ask about these users, eight at a time; say which placeholder each has got."""

    async def main() -> dict[int, set[str]]:
        one = Pseudonymize(scope="session")
        factory = MiddlewareFactory(preset=None, middleware=[one], plugins=False, state=url)
        found: dict[int, set[str]] = {}

        async def ask(some: list[int]) -> None:
            for number in some:
                origin = ScriptedModel("ok")
                model = factory.apply_middleware(origin).with_context(session={"session_id": "s1"})
                await model.generate(f"user{number}@acme.org")
                found.setdefault(number, set()).add(origin.calls[0][1]["messages"][0]["content"])

        async with factory:
            start.wait()
            await asyncio.gather(*[ask(numbers[at::8]) for at in range(8)])
        return found

    results.put(asyncio.run(main()))

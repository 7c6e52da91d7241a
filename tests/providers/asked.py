"""What the tests of this folder ask, and the types of the fixtures that ask it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from neuro_mw.parts import collect
from neuro_mw.types import LanguageModel, Response

SECRET = "PROMPT-SECRET"
MESSAGES = [{"role": "user", "content": f"hello {SECRET}"}]
ASK = {"messages": MESSAGES}
MODES = ["generate", "stream"]

Ask = Callable[..., Response]
Both = Callable[[LanguageModel, dict[str, Any]], Response]


async def answer_of(model: LanguageModel, mode: str, params: dict[str, Any]) -> Response:
    """The whole answer in one of MODES."""
    return await (model.generate(params) if mode == "generate" else collect(model.stream(params)))


def answered(model: LanguageModel, mode: str = "generate", params: dict[str, Any] | None = None) -> Response:
    """One call in an event loop of its own."""
    return asyncio.run(answer_of(model, mode, ASK if params is None else params))

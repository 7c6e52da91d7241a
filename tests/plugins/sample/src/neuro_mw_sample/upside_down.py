"""A model that answers backward."""

from __future__ import annotations

from collections.abc import AsyncIterator

from neuro_mw import Params, Part, Response, Usage, parts_of


class UpsideDown:
    """Answers with the last message, backward. A LanguageModel."""

    provider: str = "upside_down"

    def __init__(self, model_id: str) -> None:
        self.model_id: str = model_id

    async def generate(self, params: Params, /) -> Response:
        """The whole answer."""
        messages = params.get("messages") or [{"content": ""}]
        text = str(messages[-1]["content"])
        return Response(text=text[::-1], model=self.model_id, usage=Usage(len(text.split()), len(text.split())))

    async def stream(self, params: Params, /) -> AsyncIterator[Part]:
        """The same as parts."""
        for part in parts_of(await self.generate(params)):
            yield part

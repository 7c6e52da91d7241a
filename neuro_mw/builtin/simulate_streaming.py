"""simulate_streaming: streams of models that cannot stream, made from their whole answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from neuro_mw import (
    ConfigError,
    Middleware,
    MiddlewareContext,
    Params,
    Part,
    ReasoningDelta,
    Response,
    TextDelta,
)

from ._catalog import CATALOG

sleep = asyncio.sleep

_WORD = re.compile(r"\s*\S+|\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"')\]]*\s+|\n+|(?<=[。！？])")  # noqa: RUF001  # the full stops of Chinese


class SimulateStreaming(Middleware):
    """Makes the stream of a model from its `generate`, for models that have no stream of their own.

    The answer is asked for whole, and its text and reasoning leave in pieces: ``chunk`` is "word", "sentence", or a
    number of characters; ``delay_s`` is the pause before each piece but the first. Joined, the pieces are the answer.
    Tool calls and all else leave as they are. Nothing arrives earlier than the whole answer does. `generate` is not
    touched. Switch it on for the models that need it, by conditions.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> model = MiddlewareFactory(preset=None, middleware=[SimulateStreaming(chunk=4)]).apply_middleware("echo/echo")
    >>> list(model.stream_sync("hello there").text())
    ['hell', 'o th', 'ere']
    """

    metadata = CATALOG["simulate_streaming"]

    class Config(BaseModel):
        """Options of simulate_streaming."""

        chunk: Literal["word", "sentence"] | int = "word"
        delay_s: float = Field(default=0, ge=0, allow_inf_nan=False, strict=True)

        @field_validator("chunk", mode="before")
        @classmethod
        def _pieces(cls, chunk: Any) -> Any:
            if chunk in ("word", "sentence") or (type(chunk) is int and chunk >= 1):
                return chunk
            raise ConfigError(f"it is {chunk!r}", key="chunk", expected="'word', 'sentence' or a number of characters")

    async def wrap_generate(self, do_generate: Any, params: Params, context: MiddlewareContext) -> Response:
        """The answer as it is: without this hook, the one below would hold for `generate` too."""
        response: Response = await do_generate(params)
        return response

    async def wrap_stream(self, do_stream: Any, params: Params, context: MiddlewareContext) -> AsyncIterator[Part]:
        """The parts of the whole answer, cut."""
        delay_s, begun = self.config.delay_s, False
        parts = do_stream({**params, "stream": False})  # the model is asked with `generate`
        try:
            async for part in parts:
                kind = type(part)
                if kind is not TextDelta and kind is not ReasoningDelta:
                    yield part
                    continue
                for piece in pieces_of(part.text, self.config.chunk):
                    if begun and delay_s:
                        await sleep(delay_s)
                    begun = True
                    yield kind(piece)
        finally:
            await parts.aclose()


def pieces_of(text: str, chunk: str | int) -> Iterable[str]:
    """A text in pieces, which joined are the text: words and sentences with the white space that stands with them.

    >>> list(pieces_of("One two. Three?", "sentence"))
    ['One two. ', 'Three?']
    """
    if isinstance(chunk, int):
        return [text[at : at + chunk] for at in range(0, len(text), chunk)]
    if chunk == "word":
        return _WORD.findall(text)
    ends = [0, *(found.end() for found in _SENTENCE_END.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(ends) if start < end]

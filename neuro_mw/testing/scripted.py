"""A model that answers what it is told to, cut as it is told to, and fails where it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

from neuro_mw.parts import parts_of
from neuro_mw.types import Params, Part, ReasoningDelta, Response, TextDelta, ToolCallDelta


class ScriptedModel:
    """A LanguageModel for tests.

    ``cuts`` are the lengths into which text, reasoning and tool arguments are cut in streams (the last one repeats);
    ``error`` is raised instead of an answer, in a stream before part number ``error_at``; ``errors`` are raised, one
    for each call, before answers begin. ``calls`` has (mode, params) of each call; ``opened``/``closed`` count streams.

    >>> import asyncio
    >>> asyncio.run(ScriptedModel("hello").generate({})).text
    'hello'
    """

    def __init__(
        self,
        response: Response | str = "hello",
        *,
        cuts: Sequence[int] = (3,),
        error: BaseException | None = None,
        error_at: int = 0,
        errors: Iterable[BaseException | None] = (),
        delay_s: float | None = None,
        provider: str = "openai",
        model_id: str = "gpt-4o",
    ) -> None:
        self.response = Response(text=response) if isinstance(response, str) else response
        self.cuts, self.error, self.error_at, self.errors = tuple(cuts) or (1 << 30,), error, error_at, list(errors)
        self.delay_s, self.provider, self.model_id = delay_s, provider, model_id
        self.calls: list[tuple[str, Params]] = []
        self.opened = self.closed = self.pulled = 0

    async def generate(self, params: Params) -> Response:
        """The whole answer."""
        self.calls.append(("generate", params))
        await self._wait()
        self._fail(self.errors.pop(0) if self.errors else None)
        self._fail(self.error)
        return self.response

    async def stream(self, params: Params) -> AsyncIterator[Part]:
        """The answer in pieces."""
        self.calls.append(("stream", params))
        self.opened += 1
        try:
            self._fail(self.errors.pop(0) if self.errors else None)
            for index, part in enumerate(cut(parts_of(self.response), self.cuts)):
                await self._wait()
                if index == self.error_at:
                    self._fail(self.error)
                self.pulled += 1
                yield part
        finally:
            self.closed += 1

    async def _wait(self) -> None:
        if self.delay_s is not None:
            await asyncio.sleep(self.delay_s)

    def _fail(self, error: BaseException | None) -> None:
        if error is not None:
            raise error


def cut(parts: Iterable[Part], lengths: Sequence[int]) -> Iterable[Part]:
    """The same answer in other pieces: texts and tool arguments are cut into these lengths, the last one repeats."""
    queue = list(lengths)
    for part in parts:
        if isinstance(part, TextDelta):
            yield from (TextDelta(piece) for piece in _pieces(part.text, queue))
        elif isinstance(part, ReasoningDelta):
            yield from (ReasoningDelta(piece) for piece in _pieces(part.text, queue))
        elif isinstance(part, ToolCallDelta):
            id: str | None
            name: str | None
            id, name = part.id, part.name
            for piece in _pieces(part.arguments, queue) or [""]:
                yield ToolCallDelta(part.index, id, name, piece)
                id = name = None
        else:
            yield part


def _pieces(text: str, queue: list[int]) -> list[str]:
    pieces, start = [], 0
    while start < len(text):
        length = max(1, queue.pop(0) if len(queue) > 1 else queue[0])
        pieces.append(text[start : start + length])
        start += length
    return pieces

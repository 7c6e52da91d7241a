"""The innermost source of a stream: the model's own, kept as one attempt."""

from __future__ import annotations

from time import perf_counter as clock
from typing import TYPE_CHECKING, Any

from ..errors import ProviderError
from ..parts import parts_of
from ..types import Attempt, Finish, LanguageModel
from .answers import check_response
from .entry import refuse_unseen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..context import MiddlewareContext
    from ..types import Params, Part


class ModelStream:
    """One attempt at a model's stream: when it began, when its first delta came, how it ended."""

    def __init__(self, model: LanguageModel, params: Params, ctx: MiddlewareContext, name: str | None) -> None:
        refuse_unseen(params, ctx.provider, ctx.model)
        if name is not None and params.get("model") is None:
            params = {**params, "model": name}  # a transform took it out again
        whole = params.get("stream") is False  # a layer wants the answer from `generate`
        if not whole and model.stream is None:
            raise ProviderError(
                f"{ctx.provider}/{ctx.model} has no stream: switch on simulate_streaming for it, which makes one",
                provider=ctx.provider, model=ctx.model,
            )  # fmt: skip
        if whole:
            params = {key: value for key, value in params.items() if key != "stream"}
        ctx._call.sent = params
        self.started = clock()
        self.attempt = Attempt(ctx.provider, ctx.model, started=self.started, sent=params)
        ctx.made(self.attempt)
        parts: Any = self._replayed(model, params, ctx) if whole else model.stream(params)
        if not hasattr(parts, "__aiter__"):
            if hasattr(parts, "close"):
                parts.close()  # a coroutine: it will never be awaited
            raise ProviderError(
                f"{ctx.provider}/{ctx.model}: stream() gave {type(parts).__name__}, not an async iterator of parts",
                provider=ctx.provider, model=ctx.model,
            )  # fmt: skip
        self.parts = parts.__aiter__()

    def began(self, away_s: float) -> None:
        """A delta came: from here on the attempt is the answer. `away_s`: the time that the consumer took."""
        if self.attempt.time_to_first_part is None:
            self.attempt.time_to_first_part = self._passed(away_s)
            self.attempt.committed = True

    def finished(self, finish: Finish, away_s: float) -> None:
        """The Finish came."""
        self.began(away_s)
        self.attempt.usage, self.attempt.duration, self.attempt.ended = finish.usage, self._passed(away_s), clock()

    def closed(self, error: BaseException | None, away_s: float) -> None:
        """The stream is closed, perhaps before its end."""
        self.attempt.error = error
        if self.attempt.duration is None:
            self.attempt.duration, self.attempt.ended = self._passed(away_s), clock()

    async def _replayed(self, model: LanguageModel, params: Params, ctx: MiddlewareContext) -> AsyncIterator[Part]:
        """The parts of a whole answer, which is paid for however much of it is read."""
        response = check_response(await model.generate(params), ctx)
        self.attempt.usage = response.usage
        for part in parts_of(response):
            yield part

    def _passed(self, away_s: float) -> float:
        return clock() - self.started - away_s

"""retry: the same request once more, after a pause, where the failure may pass."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import AsyncIterator, Callable
from random import uniform
from typing import Any

from pydantic import BaseModel, Field, ImportString, model_validator

from neuro_mw import (
    ConfigError,
    LimitError,
    Middleware,
    MiddlewareContext,
    Params,
    Part,
    ProviderError,
    Response,
)

from ._attempts import Failure, judge_of, opener, say
from ._catalog import CATALOG


class Retry(Middleware):
    """Asks again where the provider slows down, is too slow or cannot be reached; in streams only before any content.

    The pause before attempt n + 1 is drawn between 0 and ``initial_delay_s * multiplier ** (n - 1)`` ("full jitter":
    M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), at most ``max_delay_s``. Where the
    provider says when to come back, that is the pause; where that is later than ``max_delay_s``, its error is raised
    at once. After the last attempt its error is raised, with a note how many there were. Blocks, limits and failures
    of middlewares are final.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory, ProviderUnavailable
    >>> from neuro_mw.testing import ScriptedModel
    >>> down = ProviderUnavailable("down", provider="openai", model="gpt-4o")
    >>> factory = MiddlewareFactory(preset=None, middleware=[Retry(initial_delay_s=0.01)])
    >>> asyncio.run(factory.apply_middleware(ScriptedModel("hello", errors=[down])).generate("hi")).text
    'hello'
    """

    metadata = CATALOG["retry"]

    class Config(BaseModel):
        """Options of retry; times are in seconds."""

        attempts: int = Field(default=3, ge=1, strict=True)
        """How many there are at most, the first one included."""
        initial_delay_s: float = Field(default=0.5, ge=0, allow_inf_nan=False, strict=True)
        max_delay_s: float = Field(default=30.0, ge=0, allow_inf_nan=False, strict=True)
        multiplier: float = Field(default=2.0, ge=1, allow_inf_nan=False, strict=True)
        jitter: bool = True
        respect_retry_after: bool = True
        on: list[Failure] = ["rate_limited", "timeout", "unavailable"]
        """The failures that may pass; "any" is whatever the model raises."""
        retry_if: ImportString[Callable[..., Any]] | None = None
        """A function of the whole answer, or "package.module:name": whether to ask again. It makes streams wait."""

        @model_validator(mode="after")
        def _consistent(self) -> Any:
            if self.initial_delay_s > self.max_delay_s:
                said = f"it is {self.initial_delay_s:g}, and max_delay_s is {self.max_delay_s:g}"
                raise ConfigError(said, key="initial_delay_s", expected="at most max_delay_s")
            if not self.on and self.retry_if is None:
                raise ConfigError("it is empty and there is no retry_if: nothing is ever tried again", key="on")
            return self

    config: Config

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        self._may_pass = judge_of(self.config.on)
        self._attempts, self._retry_if = self.config.attempts, self.config.retry_if
        if self._retry_if is not None:  # it takes the whole answer: streams go through wrap_generate
            self.wrap_stream = super().wrap_stream  # type: ignore[method-assign]

    async def wrap_generate(self, do_generate: Any, params: Params, context: MiddlewareContext) -> Any:
        """Ask until there is an answer that is wanted."""
        attempt, most_s, last = 1, self.config.initial_delay_s, None
        while True:
            try:
                response = await do_generate(params)
            except Exception as error:
                pause_s = self._pause_after(error, attempt, most_s, context)
                if pause_s is None:
                    self._tell(error, attempt, last, context)
                    raise
                last = error
            else:
                if self._retry_if is None or not await self._unwanted(self._retry_if, response, attempt):
                    return response
                pause_s = self._backoff(most_s)
            await sleep(pause_s)
            attempt, most_s = attempt + 1, min(most_s * self.config.multiplier, self.config.max_delay_s)

    async def wrap_stream(self, do_stream: Any, params: Params, context: MiddlewareContext) -> AsyncIterator[Part]:
        """The same, until the first content of a stream is there; from then on it is the answer, whatever comes."""
        opening, parts = await self.wrap_generate(opener(do_stream), params, context)
        try:
            for part in opening:
                yield part
            async for part in parts:
                yield part
        finally:
            await parts.aclose()

    async def _unwanted(self, retry_if: Callable[..., Any], response: Response, attempt: int) -> bool:
        """Whether an answer is to be asked for again: never a refusal, never the last one."""
        if response.blocked is not None or attempt >= self._attempts:
            return False
        verdict = retry_if(response)
        if hasattr(verdict, "__await__"):
            verdict = await verdict
        if verdict:
            self.count("retry_if")
        return bool(verdict)

    def _pause_after(self, error: Exception, attempt: int, most_s: float, context: MiddlewareContext) -> float | None:
        """How long to wait after a failure, in seconds; None where it is final."""
        wanted_s = None
        if self.config.respect_retry_after and isinstance(error, ProviderError):
            wanted_s = error.retry_after if isinstance(error.retry_after, int | float) else None
        too_late = wanted_s is not None and wanted_s > self.config.max_delay_s
        if too_late or attempt >= self._attempts or not self._may_pass(error, context):
            return None
        self.count(type(error).__name__)
        return wanted_s if wanted_s is not None and wanted_s > 0 else self._backoff(most_s)

    def _tell(self, error: Exception, attempt: int, last: Exception | None, context: MiddlewareContext) -> None:
        """Note on a final error what was tried before it."""
        if attempt == 1:
            return
        tried = any(error is one.error for one in context.attempts)
        if isinstance(error, LimitError) and not tried:  # what failed before is why
            attempt, error.__cause__ = attempt - 1, error.__cause__ or last
        whom = f"{context.provider}/{context.model}"
        say(error, f"middleware '{self.metadata.id}' made {attempt} attempts at {whom}")

    def _backoff(self, most_s: float) -> float:
        return uniform(0.0, most_s) if self.config.jitter else most_s

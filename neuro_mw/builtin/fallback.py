"""fallback: another model answers where the one that was asked does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, Field, field_validator

from neuro_mw import BadRequest, ConfigError, Finish, Middleware, MiddlewareContext, Params, Part, Response

from ._attempts import FailureOrLimit, judge_of, opener, say
from ._catalog import CATALOG

_ELSEWHERE: list[FailureOrLimit] = [
    "rate_limited", "timeout", "unavailable", "circuit_open", "authentication", "context_too_long",
]  # fmt: skip


class Fallback(Middleware):
    """Goes on to the next model where one fails; in streams only before any content was let go.

    Each model gets the chain of its own provider: no guard is lost on the way. Where another model answered, the
    answer's ``metadata["fallback"]`` holds its name as ``model``, and as ``tried`` the ones before it with the class of
    their error. Where all fail, the last error is raised, with a note for each model; a later model that refuses the
    request as such, or is not set up, is passed over. Blocks are final, and so is a provider's refusal of the content
    unless ``on`` has "refused": it should not be carried to the next provider until one gives in.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory, ProviderUnavailable
    >>> from neuro_mw.testing import ScriptedModel
    >>> down = ProviderUnavailable("down", provider="openai", model="gpt-4o")
    >>> factory = MiddlewareFactory(preset=None, middleware=[Fallback(models=["echo/echo"])])
    >>> response = asyncio.run(factory.apply_middleware(ScriptedModel(error=down)).generate("hello"))
    >>> response.text, response.metadata["fallback"]
    ('hello', {'model': 'echo/echo', 'tried': [{'model': 'openai/gpt-4o', 'error': 'ProviderUnavailable'}]})
    """

    metadata = CATALOG["fallback"]

    class Config(BaseModel):
        """Options of fallback."""

        models: list[str] = Field(min_length=1)
        """Models to go on to, in this order: "provider/model", or a bare name for one of the same provider."""
        on: list[FailureOrLimit] = Field(default=_ELSEWHERE, min_length=1)
        """The failures that another model need not have."""

        @field_validator("models")
        @classmethod
        def _each_once(cls, models: list[str]) -> list[str]:
            for index, name in enumerate(models):
                if not name or name != "".join(name.split()):
                    raise ConfigError(f"{name!r} is no name of a model", key=f"models.{index}")
                if name in models[:index]:
                    raise ConfigError(f"{name!r} is in the list twice", key=f"models.{index}")
            return models

    config: Config

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        self._passes_on = judge_of(self.config.on, limits=True)
        self.asks = {f"models.{index}": name for index, name in enumerate(self.config.models) if "/" in name}

    async def wrap_generate(self, do_generate: Any, params: Params, context: MiddlewareContext) -> Response:
        """Ask one model after the other."""
        answer, said = await self._first(do_generate, params, context)
        response: Response = answer
        if said:
            response.metadata = {**response.metadata, **said}
        return response

    async def wrap_stream(self, do_stream: Any, params: Params, context: MiddlewareContext) -> AsyncIterator[Part]:
        """Open one model's stream after the other; the first that has any content is the answer."""
        (opening, parts), said = await self._first(opener(do_stream), params, context)
        try:
            for part in opening:
                yield _saying(part, said) if said else part
            async for part in parts:
                yield _saying(part, said) if said else part
        finally:
            await parts.aclose()

    async def _first(self, ask: Any, params: Params, context: MiddlewareContext) -> tuple[Any, dict[str, Any]]:
        """The first answer that comes, and what is to be said of it."""
        search: _Search | None = None
        while True:
            try:
                return await ask(params), {} if search is None else search.found()
            except Exception as error:  # noqa: BLE001  # `next_after` judges it
                search = search or _Search(self, context)
                model = search.next_after(error)
            if model is None:
                raise search.final
            params = {**params, "model": model}


class _Search:
    """The way of one call from model to model."""

    def __init__(self, fallback: Fallback, context: MiddlewareContext) -> None:
        self.fallback, self.context = fallback, context
        self.asked = f"{context.provider}/{context.model}"
        named = (name if "/" in name else f"{context.provider}/{name}" for name in fallback.config.models)
        self.left = [name for name in dict.fromkeys(named) if name != self.asked]
        self.tried: list[dict[str, str]] = []
        self.final: Exception = RuntimeError()  # what is raised at last

    def next_after(self, error: Exception) -> str | None:
        """The model to ask after this failure of the one that was asked; None where `final` is to be raised.

        Where a model of the list cannot take the request at all, or is not set up, the failure before it stays.
        """
        of_the_model = any(error is attempt.error for attempt in self.context.attempts)
        cannot = bool(self.tried) and of_the_model and isinstance(error, BadRequest | ConfigError)
        if not cannot:
            self.final = error
        self.tried.append({"model": self.asked, "error": type(error).__name__})
        goes_on = cannot or self.fallback._passes_on(error, self.context)
        if self.left and goes_on:
            self.asked = self.left.pop(0)
            return self.asked
        name = self.fallback.metadata.id
        if len(self.tried) > 1:
            for one in self.tried:
                say(self.final, f"middleware '{name}' asked {one['model']}: {one['error']}")
        elif goes_on:
            say(self.final, f"middleware '{name}' has no model to go on to: its list names {self.asked} alone")
        return None

    def found(self) -> dict[str, Any]:
        """What goes into the metadata of the answer."""
        self.fallback.count(self.asked)
        return {self.fallback.metadata.id: {"model": self.asked, "tried": self.tried}}


def _saying(part: Part, said: dict[str, Any]) -> Part:
    """Finish, with this in its metadata; any other part as it is."""
    return replace(part, metadata={**part.metadata, **said}) if isinstance(part, Finish) else part

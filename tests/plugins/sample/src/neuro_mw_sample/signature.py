"""A middleware that signs every answer."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, Field

from neuro_mw import Finish, Middleware, MiddlewareContext, MiddlewareMetadata, Outcome, Params, Part, TextDelta


class SignatureStep:
    """Adds one piece of text at the end of an answer, unless the answer was refused."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.finished: Finish | None = None

    def feed(self, part: Part) -> Part:
        """Every part leaves as it came."""
        if isinstance(part, Finish):
            self.finished = part
        return part

    def finish(self) -> Iterable[Part]:
        """The signature, behind all that was fed."""
        yield TextDelta(self._text)

    def abort(self) -> None:
        """Nothing is held."""


class Signature(Middleware):
    """Signs every answer, in both modes.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> model = MiddlewareFactory(middleware=[Signature(text=" -- me")], plugins=False).apply_middleware("echo/echo")
    >>> asyncio.run(model.generate("hello")).text
    'hello -- me'
    """

    metadata = MiddlewareMetadata(
        id="signature",
        description="Signs every answer.",
        priority=60,
        default_enabled=True,  # counts for nothing: what a plugin brings is off until it is named
    )

    class Config(BaseModel):
        """Options of signature."""

        text: str = Field(default=" -- signed", min_length=1)

    config: Config

    def __init__(self, config: Config | dict[str, object] | None = None, /, **options: object) -> None:
        super().__init__(config, **options)
        self.signed = 0

    def transform_parts(self, params: Params, context: MiddlewareContext) -> SignatureStep:
        """The step of one call."""
        return SignatureStep(self.config.text)

    async def on_end(self, outcome: Outcome, context: MiddlewareContext) -> None:
        """Count, and say so on the answer."""
        if outcome.status == "completed" and outcome.response is not None:
            self.signed += 1
            outcome.response.metadata["signature"] = {"signed": self.signed}

"""What retry, fallback and circuit_breaker share: names of failures, and how a stream is opened so that it can be left.

Such a layer judges failures by their class, under the names that its users write into ``on``; and in a stream it acts
only before the first content was let go, so it has to know of that before it lets anything go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Literal

from neuro_mw import (
    AuthenticationFailed,
    BadRequest,
    CircuitOpen,
    ContentRefused,
    ContextTooLong,
    MiddlewareContext,
    NeuroError,
    Params,
    Part,
    ProviderDelta,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    ReasoningDelta,
    ResponseInfo,
    StreamInterrupted,
    TextDelta,
    TokenLimitExceeded,
    ToolCallDelta,
)

Failure = Literal[
    "rate_limited", "timeout", "unavailable", "authentication", "context_too_long", "bad_request", "refused", "any"
]
"""The names of a provider's failures."""

FailureOrLimit = Literal[Failure, "circuit_open"]
"""The same, and of the limits those that hold for one model alone."""

_MOST_HELD = 256  # parts that say nothing; who sends more has begun to answer
Judge = Callable[[Exception, MiddlewareContext], bool]

_PROVIDERS: dict[str, tuple[type[Exception], ...]] = {
    "rate_limited": (ProviderRateLimited,),
    "timeout": (ProviderTimeout,),
    "unavailable": (ProviderUnavailable,),
    "authentication": (AuthenticationFailed,),
    "context_too_long": (ContextTooLong,),
    "bad_request": (BadRequest,),
    "refused": (ContentRefused,),
    "any": (ProviderError,),
}
_NAMED = tuple(one for name, (one,) in _PROVIDERS.items() if name != "any")
_LIMITS: dict[str, tuple[type[Exception], ...]] = {
    "circuit_open": (CircuitOpen,),
    "context_too_long": (TokenLimitExceeded,),
    "any": (CircuitOpen, TokenLimitExceeded),
}
_OF_THE_MODEL: dict[str, tuple[type[Exception], ...]] = {  # they count where the model itself raised them
    "timeout": (TimeoutError,),
    "unavailable": (StreamInterrupted, ConnectionError),
    "any": (Exception,),
}


def judge_of(names: Collection[str], *, limits: bool = False) -> Judge:
    """A function of an error and the call's context: whether the error is one of these.

    A ProviderError of none of the named classes is "unavailable" where it is ``retryable``. Errors of other kinds
    count only where a model raised them, as ``context.attempts`` shows: never a failure of a middleware, a refusal, or
    a limit of the user's. With `limits`, two of those count as well, which another model need not have: CircuitOpen as
    "circuit_open", TokenLimitExceeded as "context_too_long".

    >>> error = ProviderUnavailable("down", provider="openai", model="gpt-4o")
    >>> judge_of(["unavailable"])(error, MiddlewareContext("openai", "gpt-4o"))
    True
    """
    known = _classes(_PROVIDERS, names) + (_classes(_LIMITS, names) if limits else ())
    foreign = _classes(_OF_THE_MODEL, names)
    if_retryable = "unavailable" in names

    def judge(error: Exception, context: MiddlewareContext) -> bool:
        if isinstance(error, known):
            return True
        if isinstance(error, ProviderError):
            return if_retryable and error.retryable and not isinstance(error, _NAMED)
        if isinstance(error, NeuroError) and not isinstance(error, StreamInterrupted):
            return False  # of a wrapped model within this one, too
        return isinstance(error, foreign) and any(error is attempt.error for attempt in context.attempts)

    return judge


def _classes(table: dict[str, tuple[type[Exception], ...]], names: Collection[str]) -> tuple[type[Exception], ...]:
    return tuple(one for name in names for one in table.get(name, ()))


def opener(do_stream: Callable[..., Any]) -> Callable[..., Any]:
    """What `do_generate` is to whole answers: awaited, it gives the opening of a stream, and the stream behind it.

    The opening ends with the first content: a delta of the answer, Finish, or a part of another type. None of it was
    let go yet, so that a failure until then can still be mended.
    """

    async def opened(params: Params) -> tuple[list[Part], Any]:
        opening: list[Part] = []
        parts = do_stream(params)
        async for part in parts:
            opening.append(part)
            if not says_nothing(part) or len(opening) == _MOST_HELD:
                break
        return opening, parts

    return opened


def says_nothing(part: Part) -> bool:
    """Whether nothing of the answer is in a part, so that it may be held back.

    >>> says_nothing(TextDelta("")), says_nothing(TextDelta("a"))
    (True, False)
    """
    if isinstance(part, TextDelta | ReasoningDelta):
        return not part.text
    if isinstance(part, ToolCallDelta):
        return not (part.id or part.name or part.arguments)
    return isinstance(part, ResponseInfo | ProviderDelta)


def say(error: BaseException, text: str) -> None:
    """Add a note to an error, once, where it takes one."""
    with suppress(Exception):  # whatever a class of errors does then, it must not take the error's place
        if text not in getattr(error, "__notes__", ()):
            error.add_note(text)

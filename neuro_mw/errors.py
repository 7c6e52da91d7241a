"""Every error that neuro_mw raises.

The tree::

    NeuroError
      ConfigError                 a wrong name, key or value; names file, key path and the nearest known name
        UnknownName
          PresetNotFound
      RegistrationError           a middleware that cannot be registered
        DuplicateMiddleware
        UnknownMiddleware         also an UnknownName
        OrderError                a cycle of before/after, or a requirement that is not met
      PluginError                 an entry point that could not be loaded; the cause is ``__cause__``
      MiddlewareError             a hook returned nothing or a wrong type
        MiddlewareTimeout
        StructuredOutputError     an answer is not what its schema asks for
        EvaluationFailed          an answer is not good enough, or could not be judged
      Blocked                     raised by hooks to refuse a request or an answer
      RequestBlocked              what a caller gets with on_block="raise" or Response.raise_for_block()
      StreamError                 consumed twice, closed
        StreamInterrupted         ended without Finish; carries ``partial``
      LimitError
        RateLimitExceeded, BudgetExceeded, CircuitOpen, TokenLimitExceeded
      ProviderError
        ProviderRateLimited, ProviderTimeout, AuthenticationFailed, ContextTooLong,
        ProviderUnavailable, BadRequest, ContentRefused

No message ever holds a prompt's text or a key.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .types import Block, Response


class NeuroError(Exception):
    """The root of all errors of this package.

    ``partial`` is the answer that had been let go when a stream failed, else None.
    """

    partial: Response | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[NeuroError], args: tuple[Any, ...], state: dict[str, Any]) -> NeuroError:
    """An error as it was pickled or copied; its arguments by keyword are in its state."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(NeuroError):
    """A configuration that cannot be understood; nothing was built.

    ``file`` and ``key`` say where, ``expected`` what would have been right, ``nearest`` the known name that comes
    closest to what was written.

    >>> str(ConfigError("unknown key", key="middleware.cache.config.tll_s", nearest="ttl_s"))
    "middleware.cache.config.tll_s: unknown key. Did you mean 'ttl_s'?"
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        key: str | None = None,
        expected: str | None = None,
        nearest: str | None = None,
    ) -> None:
        self.reason, self.file, self.key, self.expected, self.nearest = message, file, key, expected, nearest
        super().__init__(message)

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.file, self.key) if part)
        text = f"{where}: {self.reason}" if where else self.reason
        if self.expected:
            text += f". Expected {self.expected}"
        if self.nearest:
            text += f". Did you mean {self.nearest!r}?"
        return text


class UnknownName(ConfigError):
    """Something was named that is not there; ``nearest`` is what comes closest."""


class PresetNotFound(UnknownName):
    """No preset has that name."""


class RegistrationError(NeuroError):
    """A middleware that cannot be registered as it is; nothing was registered."""


class DuplicateMiddleware(RegistrationError):
    """The id is taken and ``replace=True`` was not given."""

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"Middleware with ID '{id}' already exists. Use replace=True to override.")


class UnknownMiddleware(RegistrationError, UnknownName):
    """No middleware has that id."""


class OrderError(RegistrationError):
    """``before``/``after`` form a cycle, or a middleware of ``requires`` is not switched on."""


class PluginError(NeuroError):
    """One entry point that could not be loaded. The others load; ``__cause__`` holds the reason."""

    def __init__(self, message: str, *, distribution: str | None = None, entry_point: str | None = None) -> None:
        self.distribution, self.entry_point = distribution, entry_point
        super().__init__(message)


class MiddlewareError(NeuroError):
    """A hook broke the contract: it returned nothing, or something of a wrong type."""

    def __init__(self, message: str, *, middleware: str | None = None, hook: str | None = None) -> None:
        self.middleware, self.hook = middleware, hook
        super().__init__(message)


class MiddlewareTimeout(MiddlewareError):
    """A middleware's own time in one hook went past its ``timeout_s``."""


class StructuredOutputError(MiddlewareError):
    """An answer is not what its schema asks for; ``errors`` has the ``path`` and the ``message`` of each problem.

    Neither repeats the answer: names that are not in the schema are "*". ``reasks``: how often it was asked for again.

    >>> StructuredOutputError("no", errors=[{"path": "a.0", "message": "it is missing"}], reasks=1).errors[0]["path"]
    'a.0'
    """

    def __init__(self, message: str, *, errors: Iterable[dict[str, str]] = (), reasks: int = 0, **whose: Any) -> None:
        self.errors, self.reasks = list(errors), reasks
        super().__init__(message, **whose)


class EvaluationFailed(MiddlewareError):
    """No attempt was good enough, or no verdict was to be had: ``reason`` is "below_threshold" or "judge_failed".

    ``evaluation`` is what would be in the metadata of the answer, without the judge's feedback, which may quote it.

    >>> EvaluationFailed("no", reason="below_threshold", evaluation={"overall": 3}).evaluation["overall"]
    3
    """

    def __init__(self, message: str, *, reason: str, evaluation: dict[str, Any], **whose: Any) -> None:
        self.reason, self.evaluation = reason, evaluation
        super().__init__(message, **whose)


class Blocked(NeuroError):
    """Raise it in a hook to refuse; the caller gets a :class:`Response` with ``blocked`` set.

    ``message`` is the text for the caller (else ``reason``); ``detail`` must not hold what was matched.

    >>> raise Blocked("contains a secret", category="secrets")
    Traceback (most recent call last):
    neuro_mw.errors.Blocked: contains a secret
    """

    def __init__(
        self,
        reason: str,
        *,
        category: str = "policy",
        detail: dict[str, Any] | None = None,
        message: str | None = None,
    ) -> None:
        self.reason, self.category, self.detail, self.message = reason, category, detail or {}, message
        super().__init__(reason)


class RequestBlocked(NeuroError):
    """The call was refused by a middleware. ``response`` is the blocked answer, ``block`` says who and why."""

    def __init__(self, response: Response) -> None:
        assert response.blocked is not None
        self.response = response
        self.block: Block = response.blocked
        super().__init__(f"blocked by middleware '{self.block.middleware}': {self.block.reason}")


class StreamError(NeuroError):
    """A stream was used in a way it cannot be: consumed twice, after it was closed, or against the grammar of parts."""


class StreamInterrupted(StreamError):
    """A stream ended without its ``Finish``. ``partial`` is the answer that had been let go until then."""

    def __init__(self, message: str, *, partial: Response | None = None) -> None:
        self.partial = partial
        super().__init__(message)


class LimitError(NeuroError):
    """A limit set by the user of this package stopped the call; ``retry_after`` is in seconds, None if unknown."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class RateLimitExceeded(LimitError):
    """More requests or tokens than the window allows."""


class BudgetExceeded(LimitError):
    """The cost ceiling would be passed."""


class CircuitOpen(LimitError):
    """The provider failed too often of late and is left alone for a while."""


class TokenLimitExceeded(LimitError):
    """The request holds more tokens than allowed."""


class ProviderError(NeuroError):
    """A provider's failure, alike for every driver.

    ``status`` is the HTTP status where there was one, ``retry_after`` seconds, ``retryable`` whether the same request
    may succeed later, ``request_id`` the provider's own id of the request, where it gave one.

    >>> ProviderError("down", provider="openai", model="gpt-4o", status=503, retryable=True).retryable
    True
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        model: str,
        status: int | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        self.provider, self.model, self.status = provider, model, status
        self.retryable, self.retry_after, self.request_id = retryable, retry_after, request_id
        super().__init__(message)


class ProviderRateLimited(ProviderError):
    """The provider asks to slow down (429)."""


class ProviderTimeout(ProviderError):
    """The provider did not answer in time."""


class AuthenticationFailed(ProviderError):
    """The key is missing, wrong or not allowed to do this (401, 403)."""


class ContextTooLong(ProviderError):
    """The request does not fit the model's context window."""


class ProviderUnavailable(ProviderError):
    """The provider cannot be reached or is failing (5xx, refused connection)."""


class BadRequest(ProviderError):
    """The request is wrong and will stay so (4xx)."""


class ContentRefused(ProviderError):
    """The provider's own content policy refused."""


def note(error: BaseException, text: str) -> None:
    """Add a note to an error, unless it is of a kind that refuses attributes."""
    with suppress(AttributeError, TypeError):
        error.add_note(text)


def set_partial(error: BaseException, partial: Response) -> None:
    """Tell an error what had been let go, unless it is of a kind that refuses attributes."""
    with suppress(AttributeError, TypeError):
        error.partial = partial  # type: ignore[attr-defined]  # NeuroErrors declare it; others may have it

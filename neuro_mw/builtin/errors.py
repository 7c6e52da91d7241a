"""errors: what a failure says to a user, and who is told of it."""

from __future__ import annotations

import string
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from math import ceil
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, model_validator

from neuro_mw import (
    AuthenticationFailed,
    BadRequest,
    BudgetExceeded,
    CircuitOpen,
    ConfigError,
    ContentRefused,
    ContextTooLong,
    LimitError,
    Middleware,
    MiddlewareContext,
    Params,
    Part,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    Response,
    StreamInterrupted,
    TokenLimitExceeded,
    nearest,
)

from ._alerts import Alert, Alerts, Hook
from ._catalog import CATALOG
from ._retelling import saying

FailureKind = Literal[
    "rate_limited", "timeout", "unavailable", "authentication", "context_too_long", "bad_request", "content_refused",
    "limits", "budget", "circuit_open", "token_limit", "other",
]  # fmt: skip
"""The kinds of failures; "limits" stands for the three behind it, too, where they are not named."""

_KINDS: dict[type[BaseException], FailureKind] = {
    ProviderRateLimited: "rate_limited",
    ProviderTimeout: "timeout",
    ProviderUnavailable: "unavailable",
    AuthenticationFailed: "authentication",
    ContextTooLong: "context_too_long",
    BadRequest: "bad_request",
    ContentRefused: "content_refused",
    ProviderError: "other",
    LimitError: "limits",
    BudgetExceeded: "budget",
    CircuitOpen: "circuit_open",
    TokenLimitExceeded: "token_limit",
}
_OF_THE_MODEL: dict[type[BaseException], FailureKind] = {  # they count where the model itself raised them
    TimeoutError: "timeout",
    ConnectionError: "unavailable",
    StreamInterrupted: "unavailable",
}
_MESSAGES: dict[str, str] = {
    "rate_limited": "The service is busy at the moment. Please try again later.",
    "timeout": "The answer took too long. Please try again.",
    "unavailable": "The service is not available at the moment. Please try again later.",
    "authentication": "The service is not set up correctly. Please tell your administrator.",
    "context_too_long": "The conversation is too long. Please shorten it or start a new one.",
    "bad_request": "The request could not be processed.",
    "content_refused": "The request was declined. Please change it and try again.",
    "limits": "You have made too many requests. Please try again later.",
    "budget": "The budget for this service is used up.",
    "circuit_open": "The service is not available at the moment. Please try again later.",
    "token_limit": "The conversation is too long. Please shorten it or start a new one.",
    "other": "Something went wrong. Please try again later.",
}
_LIMITS = ("budget", "circuit_open", "token_limit")
_OF_OPERATORS: list[FailureKind] = [
    "rate_limited", "timeout", "unavailable", "authentication", "budget", "circuit_open", "other",
]  # fmt: skip
_PLACEHOLDERS = ("model", "provider", "retry_after_s", "request_id")


def _check(kind: str, message: str) -> None:
    """Raise ConfigError unless it is a message of a known kind, with known placeholders."""
    key, known = f"messages.{kind}", get_args(FailureKind)
    if kind not in known:
        expected = f"one of {', '.join(known)}"
        raise ConfigError("unknown kind of failure", key=key, expected=expected, nearest=nearest(kind, known))
    expected = ", ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
    try:
        fields = [field[1:] for field in string.Formatter().parse(message) if field[1] is not None]
    except ValueError as error:
        raise ConfigError(f"it cannot be read: {error}", key=key, expected=f"text with {expected}") from None
    for name, spec, conversion in fields:
        if name not in _PLACEHOLDERS or spec or conversion:
            near = nearest(str(name), _PLACEHOLDERS)
            raise ConfigError("it has a placeholder that is not known", key=key, expected=expected, nearest=near)
    if not message.strip():
        raise ConfigError("it is empty", key=key, expected="a text for users")


class Errors(Middleware):
    """Turns failures into messages fit for users, and tells an operator of them, off the path of the call.

    An error keeps its class, attributes, cause and traceback; only ``str(error)`` changes. What it said before is in
    ``error.detail`` and in a note, so that it stands in tracebacks. Errors of other kinds, blocks and cancellations
    pass untouched. An error that is raised in several calls, whose texts differ, leaves all but the first of them as a
    copy.

    ``alert`` is called with an `Alert` for failures that leave this layer, at most once in ``alert_interval_s`` for
    each kind, provider and model.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> from neuro_mw.testing import ScriptedModel
    >>> down = ProviderUnavailable("10.0.0.7:443 refused", provider="openai", model="gpt-4o")
    >>> factory = MiddlewareFactory(preset=None, middleware=[Errors(messages={"unavailable": "Back soon."})])
    >>> try:
    ...     asyncio.run(factory.apply_middleware(ScriptedModel(error=down)).generate("hi"))
    ... except ProviderUnavailable as error:
    ...     print(error, "|", error.detail)
    Back soon. | 10.0.0.7:443 refused
    """

    metadata = CATALOG["errors"]

    class Config(BaseModel):
        """Options of errors."""

        messages: dict[str, str] = Field(default_factory=dict)
        """Texts by kind of failure, in place of the built-in ones."""
        alert: Hook | None = None
        """A function of an `Alert`, async or plain (then it runs on a thread), or "package.module:name"."""
        alert_on: list[FailureKind] = Field(default=_OF_OPERATORS, min_length=1)
        alert_interval_s: float = Field(default=60.0, ge=0, allow_inf_nan=False, strict=True)
        alert_timeout_s: float = Field(default=10.0, gt=0, allow_inf_nan=False, strict=True)
        """How long one alert may take, and how long `aclose` waits for all that are under way."""

        @model_validator(mode="after")
        def _known(self) -> Any:
            for kind, message in self.messages.items():
                _check(kind, message)
            return self

    config: Config

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        given, on = self.config.messages, {*self.config.alert_on}
        family = {kind: given["limits"] for kind in _LIMITS if "limits" in given}
        self._messages: Mapping[str, str] = {**_MESSAGES, **family, **given}
        self._alerts_of = on.union(_LIMITS) if "limits" in on else on
        hook, interval_s, timeout_s = self.config.alert, self.config.alert_interval_s, self.config.alert_timeout_s
        self._alerts = None if hook is None else Alerts(self, hook, interval_s, timeout_s)

    async def wrap_generate(self, do_generate: Any, params: Params, context: MiddlewareContext) -> Response:
        """Let the answer pass; of a failure, change what it says."""
        try:
            response: Response = await do_generate(params)
            return response
        except Exception as error:
            told = self._failed(error, context)
            if told is error:
                raise
        raise told

    async def wrap_stream(self, do_stream: Any, params: Params, context: MiddlewareContext) -> AsyncIterator[Part]:
        """The same, whenever a stream fails."""
        try:
            async for part in do_stream(params):
                yield part
            return
        except Exception as error:
            told = self._failed(error, context)
            if told is error:
                raise
        raise told

    async def aclose(self) -> None:
        """Wait for the alerts that are under way, ``alert_timeout_s`` at most."""
        if self._alerts is not None:
            await self._alerts.aclose()

    # --- telling the user ----------------------------------------------------------------------------------------

    def _failed(self, error: Exception, context: MiddlewareContext) -> Exception:
        """What is raised instead of an error; the alert is on its way."""
        with suppress(Exception):  # nothing that fails in here may take the error's place
            kind = _kind_of(error, context)
            if kind is not None:
                self.count(kind)
                return self._told(error, kind, context)
        return error

    def _told(self, error: Exception, kind: FailureKind, context: MiddlewareContext) -> Exception:
        last = context.attempts[-1] if context.attempts else context
        provider, model = (_name(error, name) or str(getattr(last, name)) for name in ("provider", "model"))
        if self._alerts is not None and kind in self._alerts_of:
            alert = Alert(kind, type(error).__name__, provider, model, context.request_id, context.mode, time.time())
            with suppress(Exception):  # the user is told all the same
                self._alerts.tell(alert)
        message = self._messages[kind].format(
            model=model, provider=provider, request_id=context.request_id, retry_after_s=_wait(error)
        )
        told = saying(error, message)
        if told is not error:
            for attempt in context.attempts:  # who is further out knows a model's own error by its identity
                if attempt.error is error:
                    attempt.error = told
        return told


def _value(error: Exception, name: str) -> Any:
    """An attribute of an error; None where it has none, or a property that raises."""
    with suppress(Exception):
        return getattr(error, name, None)
    return None


def _name(error: Exception, name: str) -> str:
    """An attribute as a text; empty where there is none to be had."""
    with suppress(Exception):
        value = getattr(error, name, None)
        return str(value) if value else ""
    return ""


def _wait(error: Exception) -> str:
    """For how long to wait, in whole seconds, or "a few"."""
    with suppress(Exception):
        wait_s = getattr(error, "retry_after", None)
        if isinstance(wait_s, int | float) and abs(wait_s) < 1e9:
            return str(max(0, ceil(wait_s)))
    return "a few"


def _kind_of(error: Exception, context: MiddlewareContext) -> FailureKind | None:
    """What kind of failure an error is; None where it is not for users at all, as a middleware's own."""
    kind = next((_KINDS[one] for one in type(error).__mro__ if one in _KINDS), None)
    if kind == "other":
        return "unavailable" if _value(error, "retryable") else kind
    if kind is None and any(error is attempt.error for attempt in context.attempts):
        return next((_OF_THE_MODEL[one] for one in type(error).__mro__ if one in _OF_THE_MODEL), None)
    return kind

"""Whose a limit or a budget is: everybody's, a user's, a session's, a model's, or whatever a function of yours says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from inspect import isawaitable
from typing import Annotated, Any

from pydantic import BeforeValidator, ImportString, TypeAdapter, ValidationError

from neuro_mw import ConfigError, Middleware, MiddlewareContext, MiddlewareError, nearest

from .._scope import scope_of

KINDS = ("global", "user", "session", "model")
_LONG = 200


def _read(value: Any) -> Any:
    if callable(value) or value in KINDS:
        return value
    expected = f"{', '.join(KINDS)}, or a function of the context as 'package.module:name'"
    if not isinstance(value, str):
        raise ConfigError(f"it is of type {type(value).__name__}", key="key", expected=expected)
    if ":" not in value:
        raise ConfigError(f"{value!r} is not known", key="key", expected=expected, nearest=nearest(value, KINDS))
    try:
        found = TypeAdapter(ImportString[Any]).validate_python(value)
    except ValidationError:
        raise ConfigError(f"{value!r} cannot be loaded", key="key", expected=expected) from None
    if not callable(found):
        raise ConfigError(f"{value!r} is not callable", key="key", expected=expected)
    return found


Key = Annotated[str | Callable[..., Any], BeforeValidator(_read)]
"""One of `KINDS`, or a function of the context, plain or async, that returns a text."""


class Whose:
    """Finds whose a call is, for one middleware; counts the calls that do not say."""

    def __init__(self, key: Any, middleware: Middleware) -> None:
        self.key, self._middleware = key, middleware
        self.shown = key if isinstance(key, str) else getattr(key, "__qualname__", type(key).__name__)
        """The kind of key as errors and logs say it."""
        self._named = f"{getattr(key, '__module__', '')}:{self.shown}:"

    def at_once(self, provider: str, model: str, context: MiddlewareContext, *, counts: bool = True) -> str | None:
        """Whose it is as a part of keys; None where a function has to be asked.

        Calls without an id of a user or session share one that nobody has.
        """
        key = self.key
        if key == "global":
            return "global"
        if key == "model":
            return f"model:{provider}/{model}"
        if callable(key):
            return None
        scope = scope_of(key, context)
        if scope is None:
            if counts:
                self._middleware.count(f"unknown_{key}")
            return str(key)
        return _bounded(scope)

    async def asked(self, context: MiddlewareContext) -> str:
        """What the function says. What is not a text that holds something is a failure of its middleware."""
        said = self.key(context)
        if isawaitable(said):
            said = await said
        if not isinstance(said, str) or not said:
            what = "nothing" if said is None else "an empty text" if said == "" else type(said).__name__
            raise MiddlewareError(
                f"middleware '{self._middleware.metadata.id}': its key {self.shown!r} returned {what}; "
                "it must return a text, so that no call goes unlimited",
                middleware=self._middleware.metadata.id, hook="transform_params",
            )  # fmt: skip
        return _bounded(self._named + said)


def _bounded(scope: str) -> str:
    """The same, or a hash of what is long or cannot be written as it is."""
    if len(scope) <= _LONG and scope.isprintable():
        return scope
    return "#" + hashlib.sha256(scope.encode("utf-8", "surrogatepass")).hexdigest()

"""Which hooks a middleware has, and whether they can be called as the contract says."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from .contract import HOOK_ARGUMENTS, Middleware, MiddlewareMetadata
from .errors import RegistrationError
from .names import nearest


class Hooks(NamedTuple):
    """The hooks that a middleware really has; None for the others."""

    transform_params: Callable[..., Any] | None
    wrap_generate: Callable[..., Any] | None
    wrap_stream: Callable[..., Any] | None
    transform_parts: Callable[..., Any] | None
    on_end: Callable[..., Any] | None


def overrides(middleware: Middleware, name: str) -> bool:
    """Whether this middleware has its own `name`, on its class or on the instance."""
    own = getattr(middleware, name)
    return getattr(own, "__func__", own) is not getattr(Middleware, name)


def hooks_of(middleware: Middleware) -> Hooks:
    """The overridden hooks of a middleware, checked for their signatures.

    Raises RegistrationError, naming middleware and hook, where a hook cannot be called as the contract says.
    """
    found: dict[str, Callable[..., Any] | None] = dict.fromkeys(HOOK_ARGUMENTS)
    if type(middleware) is not Middleware:
        refuse_misspelt(type(middleware), _id_of(middleware))
    for name in HOOK_ARGUMENTS:
        if overrides(middleware, name):
            found[name] = getattr(middleware, name)
            check_signature(found[name], name, HOOK_ARGUMENTS[name], _id_of(middleware))
    return Hooks(**found)


def may_idle(middleware: Middleware) -> bool:
    """Whether it can say that there is nothing to do, for all hooks that it has: none of them is of a later class.

    Raises RegistrationError where `idle` is no plain method without arguments.
    """
    if not overrides(middleware, "idle"):
        return False
    idle: Any = middleware.idle
    if not callable(idle) or inspect.iscoroutinefunction(idle):
        raise RegistrationError(f"middleware {_id_of(middleware)!r}: idle has to be a plain method: def idle(self)")
    check_signature(idle, "idle", 0, _id_of(middleware))
    if "idle" in vars(middleware):
        return True
    classes = type(middleware).__mro__
    speaks = next(at for at, cls in enumerate(classes) if "idle" in vars(cls))
    later = {name for cls in classes[:speaks] for name in vars(cls)} | {*vars(middleware)}
    return later.isdisjoint(HOOK_ARGUMENTS)


def hooks_of_class(cls: type) -> Hooks:
    """The hooks that a class has, not bound."""
    own = {name: getattr(cls, name, None) for name in HOOK_ARGUMENTS}
    return Hooks(**{name: None if hook is getattr(Middleware, name) else hook for name, hook in own.items()})


def refuse_misspelt(cls: type, id: str) -> None:
    """RegistrationError for a method whose name is nearly that of a hook: it would never be called."""
    for name in dir(cls):
        likely = name.startswith(("w", "t", "on", "no"))  # so that difflib is rarely loaded
        if not likely or hasattr(Middleware, name) or not callable(getattr(cls, name)):
            continue
        close = nearest(name, HOOK_ARGUMENTS, cutoff=0.9)
        if close:
            raise RegistrationError(f"middleware {id!r}: {name!r} is no hook. Did you mean {close!r}?")


def check_class(cls: type[Middleware]) -> None:
    """Check the hook signatures of a class before any instance of it exists; errors as `hooks_of`."""
    refuse_misspelt(cls, _id_of(cls))
    for name, arguments in HOOK_ARGUMENTS.items():
        hook = inspect.getattr_static(cls, name)
        if inspect.isfunction(hook) and hook is not getattr(Middleware, name):
            check_signature(hook, name, arguments + 1, _id_of(cls))


def check_signature(hook: Any, name: str, arguments: int, id: str) -> None:
    if not callable(hook):
        raise RegistrationError(f"middleware {id!r}: {name} is not callable but {type(hook).__name__}")
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):
        return  # a builtin without a signature: the call will tell
    try:
        signature.bind(*(None,) * arguments)
    except TypeError:
        wanted = {0: "()", 2: "(params, context)", 3: f"(do_{name.removeprefix('wrap_')}, params, context)"}
        form = "(outcome, context)" if name == "on_end" else wanted[HOOK_ARGUMENTS.get(name, 0)]
        raise RegistrationError(
            f"middleware {id!r}: {name}{signature} has a wrong signature; it is called positionally as {name}{form}"
        ) from None


def _id_of(middleware: Any) -> str:
    metadata = getattr(middleware, "metadata", None)
    return metadata.id if isinstance(metadata, MiddlewareMetadata) else getattr(middleware, "__name__", "?")

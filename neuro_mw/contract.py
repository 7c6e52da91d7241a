"""What a middleware is: metadata, an optional config model, and up to five hooks."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from .errors import ConfigError, RegistrationError
from .tally import Tally
from .types import Attempt, Kind, OnError, Params, Part, Response, Status

if TYPE_CHECKING:
    from .context import MiddlewareContext
    from .state import Store

CONTRACT = (1, 0)
"""The version of the contract between middlewares and this package: (compatibility, additions)."""

DoGenerate = Callable[..., Awaitable[Response]]
DoStream = Callable[..., AsyncIterator[Part]]

_ID = re.compile(r"[A-Za-z0-9._-]+")
HOOK_ARGUMENTS = {"transform_params": 2, "wrap_generate": 3, "wrap_stream": 3, "transform_parts": 2, "on_end": 2}
"""The hooks, and how many arguments each is called with."""


@dataclass(frozen=True, slots=True)
class MiddlewareMetadata:
    """Who a middleware is and where it stands.

    ``priority``: higher = outer = sees the request first. ``kind`` decides what its failure means (an observer is
    skipped, all others fail the call) unless ``on_error`` says "raise" or "skip". ``before``/``after`` name
    middlewares that must be further in / further out; ``requires`` those that must be switched on with it.
    ``contract`` is the version of the contract it was written for.
    """

    id: str
    name: str = ""
    description: str = ""
    priority: int = 0
    default_enabled: bool = False
    kind: Kind = "transform"
    on_error: OnError | None = None
    contract: str = "1"
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_id(self.id)
        if not self.name:
            object.__setattr__(self, "name", self.id)
        if self.kind not in ("observer", "guard", "transform", "control"):
            raise ConfigError(f"unknown kind {self.kind!r}", key=f"{self.id}.kind", expected="observer, guard, ...")
        if self.on_error not in (None, "raise", "skip"):
            key = f"{self.id}.on_error"
            raise ConfigError(f"unknown on_error {self.on_error!r}", key=key, expected="raise or skip")
        if isinstance(self.priority, bool) or not isinstance(self.priority, int):
            raise ConfigError(f"priority is {self.priority!r}", key=f"{self.id}.priority", expected="a whole number")
        if not isinstance(self.default_enabled, bool):
            raise ConfigError("it is no bool", key=f"{self.id}.default_enabled", expected="True or False")
        for field in ("before", "after", "requires"):
            value = getattr(self, field)
            value = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (None,)
            if not all(isinstance(one, str) for one in value):
                given = getattr(self, field)
                raise ConfigError(f"{field} is {given!r}", key=f"{self.id}.{field}", expected="a tuple of ids")
            object.__setattr__(self, field, value)


def check_id(id: str) -> None:
    """Raise RegistrationError unless `id` is made of letters, digits, ``.``, ``_`` and ``-``."""
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise RegistrationError(f"invalid middleware id {id!r}: use letters, digits, '.', '_' and '-'")


@dataclass(slots=True)
class Outcome:
    """How a passage through a layer ended, as `on_end` gets it.

    ``response`` is what left this layer (of an abandoned stream: what had left it by then), ``error`` what was raised;
    ``duration`` and ``time_to_first_part`` are in seconds, without the consumer's own time; ``parts`` counts the parts
    of a stream that left this layer.
    """

    status: Status
    response: Response | None = None
    error: BaseException | None = None
    duration: float = 0.0
    time_to_first_part: float | None = None
    parts: int = 0


@runtime_checkable
class PartStep(Protocol):
    """A per-call object that sees each part in turn and may hold back, change, drop or add parts.

    It may also have ``held() -> Iterable[Part]``: what it holds now, so that ``on_error="skip"`` loses nothing.
    """

    def feed(self, part: Part) -> Part | Iterable[Part] | None:
        """What leaves for one part that comes."""
        ...

    def finish(self) -> Iterable[Part]:
        """Let go what was held; called before Finish is fed."""
        ...

    def abort(self) -> None:
        """The call failed or was cancelled: drop what was held."""
        ...


class Middleware:
    """The base class. Override the hooks you need; ``metadata`` is compulsory, on the class or on the instance.

    A nested pydantic model ``Config`` is validated into ``self.config``; unknown keys are refused.

    >>> class Shout(Middleware):
    ...     metadata = MiddlewareMetadata(id="shout")
    ...     async def wrap_generate(self, do_generate, params, context):
    ...         response = await do_generate(params)
    ...         response.text = response.text.upper()
    ...         return response
    """

    metadata: ClassVar[MiddlewareMetadata]
    Config: ClassVar[type[Any] | None] = None
    config: Any = None
    asks: Mapping[str, str] = {}
    """The models that it asks on its own ("provider/model"), by the key of its config; checked before any call."""
    shareable: bool = True
    """Whether what it lets pass in one call may be given to another; else caches outside of it keep nothing."""
    uses_store: ClassVar[bool] = False
    """Whether it keeps what many calls have to know: then `store` is the factory's when a factory takes it in."""
    store: Store | None = None
    stored_as: str | None = None
    """The id under which it was registered, which stands in the keys of what it keeps."""

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        given = {**_as_dict(config), **options}
        model, metadata = type(self).Config, getattr(type(self), "metadata", None)
        id = metadata.id if isinstance(metadata, MiddlewareMetadata) else type(self).__name__
        if model is None:
            if given:
                raise ConfigError("this middleware has no options", key=f"middleware.{id}.config.{min(given)}")
            return
        from .config import validated, with_defaults

        if not hasattr(model, "model_fields"):
            raise ConfigError("it is no pydantic model", key=f"{id}.Config", expected="a pydantic.BaseModel")
        self.config = validated(model, with_defaults(model, given), key=f"middleware.{id}.config")

    if TYPE_CHECKING:  # both may be overridden by a plain def or by an async one

        def transform_params(self, params: Params, context: MiddlewareContext) -> Params | Awaitable[Params]:
            """The request that goes inward. May be a plain def; `params` is this hook's own copy."""
            ...

        def on_end(self, outcome: Outcome, context: MiddlewareContext) -> Awaitable[None] | None:
            """Called exactly once for each passage, whatever happened. May be a plain def."""
            ...

    else:

        async def transform_params(self, params, context):
            """The request that goes inward. May be a plain def; `params` is this hook's own copy."""
            return params

        async def on_end(self, outcome, context):
            """Called exactly once for each passage, whatever happened. May be a plain def."""

    async def wrap_generate(self, do_generate: DoGenerate, params: Params, context: MiddlewareContext) -> Response:
        """The whole answer; call ``await do_generate(params)`` any number of times, or not at all."""
        return await do_generate(params)

    async def wrap_stream(
        self, do_stream: DoStream, params: Params, context: MiddlewareContext
    ) -> AsyncIterator[Part]:
        """The streamed answer, as an async generator round ``do_stream(params)``."""
        async for part in do_stream(params):
            yield part

    def transform_parts(
        self, params: Params, context: MiddlewareContext
    ) -> PartStep | Callable[[Part], Part | Iterable[Part] | None] | None:
        """A step for the parts of this call's answer, in both modes; None for none."""
        return None

    def idle(self) -> str | None:
        """Why there is nothing for it to do in a call that begins now; then the call does not pass it. None: it may.

        Asked before each call where it is overridden, so it has to be quick. Where it raises, the call does pass it.
        """
        return None

    def on_asked(self, attempt: Attempt, context: MiddlewareContext) -> Awaitable[None] | None:
        """Told of each question that a middleware of this call asked a model on its own, when that has ended.

        May be a plain def or an async one. Also of those asked further out, or when the call is over; what it raises is
        counted and logged, and reaches nobody.
        """
        return None

    @property
    def tally(self) -> Tally:
        """What it counted."""
        tally: Tally | None = self.__dict__.get("_tally")
        if tally is None:  # `setdefault`: of two threads that come first, one wins
            tally = self.__dict__.setdefault("_tally", Tally())
        return tally

    def count(self, what: str, number: int = 1) -> None:
        """Count something of its own, in whole numbers; its stats show it as ``counts``.

        Texts of a call have no place in `what`.
        """
        self.tally.add(what, number)

    async def startup(self) -> None:
        """Called once, before the first call or by ``async with factory``."""

    async def aclose(self) -> None:
        """Called when ``async with factory`` ends."""


def _as_dict(config: Any) -> dict[str, Any]:
    if config is None:
        return {}
    if hasattr(config, "model_dump"):
        return dict(config.model_dump(exclude_unset=True))
    if isinstance(config, Mapping):
        return dict(config)
    raise ConfigError(f"a config is a mapping or a Config model, not {type(config).__name__}", key="config")


def middleware(
    id: str,
    *,
    transform_params: Any = None,
    wrap_generate: Any = None,
    wrap_stream: Any = None,
    transform_parts: Any = None,
    on_end: Any = None,
    **metadata: Any,
) -> Middleware:
    """A middleware from functions; further keywords are those of `MiddlewareMetadata`.

    >>> cool = middleware("cool", transform_params=lambda params, context: {**params, "temperature": 0.0})
    """
    made = Middleware()
    try:
        made.metadata = MiddlewareMetadata(id=id, **metadata)  # type: ignore[misc]  # documented: "or on the instance"
    except TypeError as error:
        raise ConfigError(f"middleware {id!r}: {error}", key="metadata") from None
    hooks = (transform_params, wrap_generate, wrap_stream, transform_parts, on_end)
    for name, hook in zip(HOOK_ARGUMENTS, hooks, strict=True):
        if hook is not None:
            setattr(made, name, hook)
    return made

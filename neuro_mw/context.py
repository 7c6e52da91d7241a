"""What a hook knows of its call: who is asked, on whose behalf, and what has been tried so far."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from time import time
from typing import Any

from .errors import ConfigError, NeuroError
from .receipt import Execution, executions_of
from .stats import Record
from .types import Attempt, Mode, Params, Response, Session

_next = count(1).__next__
_process = os.urandom(6).hex()
_new = object.__new__


def _reseed() -> None:
    global _process  # a forked child must not repeat its parent's ids
    _process = os.urandom(6).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reseed)


@dataclass(slots=True)
class CallMetadata:
    """When a call was made (seconds since 1970) and its id, unique for each call."""

    timestamp: float
    request_id: str


class Call:
    """What all contexts of one call have in common, also over retries and fallbacks."""

    sent: Params | None = None
    block_seen = False
    router: Any = None  # the way to the models, set when the call enters its chain
    params: Params | None = None  # what the caller asked
    _asked: list[Attempt] | None = None
    _shared: dict[str, Any] | None = None
    _left_out: dict[str, str] | None = None
    _failures: list[str] | None = None
    _detours: list[tuple[frozenset[str], Any]] | None = None

    def __init__(self, provider: str) -> None:
        self.provider, self.timestamp, self.process, self.number = provider, time(), _process, _next()
        self.attempts: list[Attempt] = []
        self.executions: list[Record] = []

    @property
    def shared(self) -> dict[str, Any]:
        if self._shared is None:
            self._shared = {}
        return self._shared

    @property
    def asked(self) -> list[Attempt]:
        if self._asked is None:
            self._asked = []
        return self._asked

    @property
    def left_out(self) -> dict[str, str]:
        """Why layers were left out of this very call, by id."""
        if self._left_out is None:
            self._left_out = {}
        return self._left_out

    @property
    def failures(self) -> list[str]:
        """The ids of layers whose ``custom`` condition raised, or which did not do all their work."""
        if self._failures is None:
            self._failures = []
        return self._failures

    @property
    def detours(self) -> list[tuple[frozenset[str], Any]]:
        """The chains that a change of model led to, each with the ids outside of it."""
        if self._detours is None:
            self._detours = []
        return self._detours

    @property
    def identity(self) -> tuple[str, str, int]:
        """What the request id is made of."""
        return self.provider, self.process, self.number

    @property
    def request_id(self) -> str:
        return "{}-{}{:x}".format(*self.identity)


@dataclass(frozen=True, slots=True)
class Inside:
    """The middlewares that apply further in, outermost first, and a hash of what they are.

    ``fingerprint`` differs where ids, versions, configs or failure policies of these layers do, the code of hooks that
    are not ours, or the model behind them (its type, and its `identity` where it has one); it is the same in each
    process. ``lenient``: one of them that may change answers, no observer, is passed over where it fails;
    ``lenient_beyond``: one in a wrapped model behind them, whose failures this call does not show.
    """

    middlewares: tuple[Any, ...]
    fingerprint: str
    lenient: bool = False
    lenient_beyond: bool = False


class MiddlewareContext:
    """The context of one call, as `MiddlewareFactory.create_context` makes it and as every hook gets it.

    ``provider`` and ``model`` are the ones this layer's call goes to; ``shared`` carries signals between middlewares;
    ``sent`` holds the params as they last reached the provider; ``attempts`` has one entry for each call of a model.

    >>> context = MiddlewareContext("openai", "gpt-4o", session={"user_id": "u1"})
    >>> context.session.user_id, context.metadata.request_id.startswith("openai-")
    ('u1', True)
    """

    __slots__ = (
        "_call", "_chain", "_executions", "_made", "_metadata", "_state", "mode", "model", "options", "provider",
        "session",
    )  # fmt: skip

    def __init__(
        self,
        provider: str,
        model: str,
        options: Mapping[str, Any] | None = None,
        session: Session | Mapping[str, Any] | None = None,
        *,
        mode: Mode = "generate",
    ) -> None:
        self.provider, self.model = provider, model
        if not isinstance(options, Mapping | None):
            raise ConfigError(f"it is of type {type(options).__name__}", key="options", expected="a dict")
        self.options: dict[str, Any] = dict(options) if options else {}
        self.session = as_session(session)
        self.mode: Mode = mode
        self._state: dict[int, dict[str, Any]] | None = None
        self._metadata: CallMetadata | None = None
        self._call = Call(provider)
        self._chain: Any = None  # the one that the call is in
        self._executions = self._call.executions
        self._made: tuple[list[Attempt], ...] = ()  # of this fork, and before it of those around it

    @property
    def metadata(self) -> CallMetadata:
        """``timestamp`` and ``request_id`` of this call."""
        if self._metadata is None:
            self._metadata = CallMetadata(self._call.timestamp, self._call.request_id)
        return self._metadata

    @property
    def request_id(self) -> str:
        """Short for ``metadata.request_id``."""
        return self._call.request_id if self._metadata is None else self._metadata.request_id

    @property
    def shared(self) -> dict[str, Any]:
        """Signals between middlewares: one dict for the whole call."""
        return self._call.shared

    @property
    def attempts(self) -> list[Attempt]:
        """What was tried: one entry for each call of a model, in order."""
        return self._call.attempts

    @property
    def own_attempts(self) -> list[Attempt]:
        """Of the attempts, those made further in than this: of one retry, not of those before it or beside it."""
        return self._made[-1] if self._made else self._call.attempts

    @property
    def depth(self) -> int:
        """How many further inward calls this is in: 0 for the first, 1 for its retry, 2 for a retry within that."""
        return len(self._made)

    @property
    def detours(self) -> int:
        """How often a layer, or the caller, has named another model in this call so far."""
        return len(self._call._detours or ())

    @property
    def given(self) -> Params:
        """The params as the caller gave them, before any layer; not to be changed."""
        return self._call.params or {}

    def made(self, attempt: Attempt) -> None:
        """An attempt begins (for the chain)."""
        self._call.attempts.append(attempt)
        for attempts in self._made:
            attempts.append(attempt)

    @property
    def sent(self) -> Params | None:
        """The params as they last reached the provider; None as long as none did."""
        return self._call.sent

    @property
    def asked(self) -> list[Attempt]:
        """What middlewares asked models on their own, with `ask`: not part of the answer, but paid for."""
        return self._call.asked

    async def ask(
        self, prompt: str | Params, /, *, model: str | None = None, timeout_s: float | None = None, retries: int = 0
    ) -> Response:
        """Ask a model, past all layers: for middlewares that let a model judge.

        ``model`` is "provider/model", or a model of the provider that this call goes to; None is the model that this
        call goes to. The caller's own address and key of that provider hold for it, too. ``timeout_s`` bounds all tries
        together; ``retries`` more are made where the provider's error is one that may pass. Each try is on ``asked``.
        Raises ProviderError (ProviderTimeout for its own limit), ConfigError where the model cannot be resolved or an
        argument makes no sense, and NeuroError where the context is not that of a call.
        """
        if self._call.router is None:
            raise NeuroError("a model can only be asked within a call: this context is not one of a hook")
        response: Response = await self._call.router.ask(self, prompt, model, timeout_s, retries)
        return response

    def inside(self, middleware: object) -> Inside:
        """What applies to this call further in than this middleware: for what must not be shared between calls that
        pass other layers, as the key of a cache, and for what asks those layers beforehand.

        Raises NeuroError where the context is not that of a call, or the middleware is not in its chain.
        """
        if self._chain is None:
            raise NeuroError("a middleware can only ask within a call: this context is not one of a hook")
        inside: Inside = self._chain.inside(middleware, self.mode)
        return inside

    def passed_over(self, middleware: Any) -> None:
        """Put on the receipt that this middleware did not do all its work in this call, and the call went on."""
        layers = () if self._chain is None else self._chain.layers
        id = next((layer.id for layer in layers if layer.middleware is middleware), middleware.metadata.id)
        self._call.failures.append(id)

    @property
    def failures_skipped(self) -> frozenset[str]:
        """The ids of middlewares that failed in this call so far, or did not do all their work, while it went on."""
        skipped = {head.id for head, _, _, extra, _ in self._call.executions if extra is not None and extra.skipped}
        return frozenset(skipped.union(self._call._failures or ()))

    @property
    def executions(self) -> list[Execution]:
        """The passages that have ended in this call so far, in that order: what its receipt will be made of."""
        return executions_of(self._call.executions)

    def state(self, middleware: object) -> dict[str, Any]:
        """A dict that belongs to this middleware and this call alone."""
        if self._state is None:
            self._state = {}
        return self._state.setdefault(id(middleware), {})

    def for_call(self, mode: Mode) -> MiddlewareContext:
        """A fresh context for one call, made from this one."""
        fresh = _new(MiddlewareContext)
        fresh.provider, fresh.model, fresh.session, fresh.mode = self.provider, self.model, self.session, mode
        fresh.options = self.options.copy()
        fresh._state = fresh._metadata = fresh._chain = None
        fresh._made = ()
        fresh._call = call = Call(self.provider)
        fresh._executions = call.executions
        return fresh

    def fork(self, provider: str | None = None, model: str | None = None) -> MiddlewareContext:
        """The context of a further inward call: fresh state, all else shared."""
        fork = _new(MiddlewareContext)
        fork.provider, fork.model = provider or self.provider, model or self.model
        fork.options, fork.session, fork.mode = self.options, self.session, self.mode
        fork._state, fork._metadata, fork._call = None, self._metadata, self._call
        fork._chain, fork._executions = self._chain, self._executions
        fork._made = (*self._made, [])
        return fork

    def __repr__(self) -> str:
        return f"MiddlewareContext(provider={self.provider!r}, model={self.model!r}, mode={self.mode!r})"


def as_session(session: Session | Mapping[str, Any] | None) -> Session:
    """A session from whatever a user may give; unknown keys land in ``extra``."""
    if isinstance(session, Session):
        return session
    if session is None:
        return Session()
    if not isinstance(session, Mapping):
        raise ConfigError(f"it is of type {type(session).__name__}", key="session", expected="a Session or a dict")
    if not isinstance(session.get("extra"), Mapping | None):
        raise ConfigError("it is no dict", key="session.extra", expected="a dict")
    known = {key: session[key] for key in ("session_id", "user_id") if key in session}
    extra = {key: value for key, value in session.items() if key not in ("session_id", "user_id", "extra")}
    return Session(**known, extra={**(session.get("extra") or {}), **extra})

"""What a hook knows of its call: who is asked, on whose behalf, and what has been tried so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .call import Call, CallMetadata, Fork, Inside
from .errors import ConfigError, NeuroError
from .receipt import Execution, Executions
from .types import Attempt, Mode, Params, Response, Session

_new = object.__new__


class MiddlewareContext:
    """The context of one call, as `MiddlewareFactory.create_context` makes it and as every hook gets it.

    ``provider`` and ``model`` are the ones this layer's call goes to; ``shared`` carries signals between middlewares;
    ``sent`` holds the params as they last reached the provider; ``attempts`` has one entry for each call of a model.

    >>> context = MiddlewareContext("openai", "gpt-4o", session={"user_id": "u1"})
    >>> context.session.user_id, context.metadata.request_id.startswith("openai-")
    ('u1', True)
    """

    __slots__ = (
        "_call", "_chain", "_executions", "_metadata", "_state", "_way", "mode", "model", "options", "provider",
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
        self._way: tuple[Fork, ...] = ()  # the forks that this is in, the outermost first

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

    def attempts_inside(self, middleware: object) -> list[Attempt]:
        """Of the attempts, those made so far further in than this middleware, in this passage of it and no other.

        One that is not in the chain of this call, as it stands behind another one, gets those beside it as well.
        """
        call, way, depth = self._call, self._way, len(self._way)
        if not call.forked:
            return call.attempts.copy()
        made = [one for one in call.attempts if one.way[:depth] == way]
        if all(len(one.way) == depth for one in made):
            return made
        outside = self._chain.outside(middleware)
        return [one for one in made if outside.isdisjoint(fork.by for fork in one.way[depth:])]

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
        attempt.way = self._way
        self._call.attempts.append(attempt)

    @property
    def sent(self) -> Params | None:
        """The params as they last reached the provider; None as long as none did."""
        return self._call.sent

    @property
    def refusals(self) -> tuple[str, ...]:
        """The texts of the refusals in this call so far, as their middlewares gave them: no words of a model."""
        return self._call.refusals

    @property
    def asked(self) -> list[Attempt]:
        """What middlewares asked models on their own, with `ask`: not part of the answer, but paid for."""
        return self._call.asked

    async def ask(
        self, prompt: str | Params, /, *, model: str | None = None, timeout_s: float | None = None, retries: int = 0,
        tries: list[Attempt] | None = None,
    ) -> Response:  # fmt: skip
        """Ask a model, past all layers: for middlewares that let a model judge.

        ``model`` is "provider/model", or a model of the provider that this call goes to; None is the model that this
        call goes to. The caller's own address and key of that provider hold for it, too. ``timeout_s`` bounds all tries
        together; ``retries`` more are made where the provider's error is one that may pass. Each try is on ``asked``,
        and added to the list that is given as ``tries``.
        Raises ProviderError (ProviderTimeout for its own limit), ConfigError where the model cannot be resolved or an
        argument makes no sense, and NeuroError where the context is not that of a call.
        """
        if self._call.router is None:
            raise NeuroError("a model can only be asked within a call: this context is not one of a hook")
        response: Response = await self._call.router.ask(
            self, prompt, model, timeout_s, retries, [] if tries is None else tries
        )
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
    def executions(self) -> Sequence[Execution]:
        """The passages that have ended in this call so far, in that order: what its receipt will be made of."""
        return Executions(self._call.executions)

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
        fresh._way = ()
        fresh._call = call = Call(self.provider)
        fresh._executions = call.executions
        return fresh

    def fork(self, provider: str | None = None, model: str | None = None, *, by: str = "") -> MiddlewareContext:
        """The context of a further inward call, made by a layer: fresh state, all else shared."""
        fork = _new(MiddlewareContext)
        fork.provider, fork.model = provider or self.provider, model or self.model
        fork.options, fork.session, fork.mode = self.options, self.session, self.mode
        fork._state, fork._metadata, fork._call = None, self._metadata, self._call
        fork._chain, fork._executions = self._chain, self._executions
        fork._way = (*self._way, Fork(by))
        self._call.forked = True
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

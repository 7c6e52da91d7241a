"""What cache, rate_limit and budget share: how they ask a store, and what holds while it is away.

A chain asks once: the outermost of them sends its question together with those of the others, so that all decisions
before the model take one round trip, and all that is to be written after it takes another one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import monotonic as clock
from typing import Any, Literal

from neuro_mw import Middleware, MiddlewareContext, Params
from neuro_mw.state import Release, Script, Store, StoreUnavailable, open_store
from neuro_mw.state.memory import MemoryStore

_log = logging.getLogger("neuro_mw")

OnStoreFailure = Literal["open", "closed", "local"]
"""What holds while the store is away: no limit and no cache, nothing passes, or a store in this process."""

_MEANWHILE = {
    "open": "calls pass without it", "closed": "calls are refused", "local": "this process goes on alone",
}  # fmt: skip
_ROUNDS = "neuro_mw.rounds"  # in context.shared, by store
_LET_PASS = "neuro_mw.let_pass"  # in context.shared, the ids of those whose failure changes no answer
_REST_S = 1.0  # a store that was away is not asked again for so long, so that not every call waits for its timeout
_SAY_AGAIN_S = 60.0


class Round:
    """What one call asks of one store. Its owner is the outermost middleware that did: it writes at the end."""

    __slots__ = ("answers", "owner", "writes")

    def __init__(self, owner: Keeping) -> None:
        self.owner = owner
        self.answers: dict[Script, Any] = {}  # asked for others
        self.writes: list[Script] = []


class Keeping(Middleware):
    """A middleware that keeps state. Its Config has ``store`` and ``on_store_failure``."""

    uses_store = True
    _store: Any = None
    memory: MemoryStore | None = None
    """The store where it is in memory: then a decision needs no coroutine."""

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        if self.config.store is not None:
            self.store = open_store(self.config.store, key=f"middleware.{self.metadata.id}.config.store")
        self._own_store = self.config.store is not None
        self._local: Store | None = None
        self._rests_until = self._says_again = 0.0

    @property
    def id(self) -> str:
        """The id under which it was registered."""
        return self.stored_as or self.metadata.id

    @property
    def store(self) -> Any:
        """Where it keeps what it knows; None until a factory took it in."""
        return self._store

    @store.setter
    def store(self, store: Any) -> None:
        self._store, self.memory = store, store if isinstance(store, MemoryStore) else None

    async def startup(self) -> None:
        """Ask the store whether it is there: it says at once where nothing is kept, or refuses to start."""
        try:
            await self.store.ping()
        except StoreUnavailable as error:
            self._rest(error)
            if self.config.on_store_failure == "closed":
                raise

    async def aclose(self) -> None:
        """Close a store of its own; that of the factory is closed by the factory."""
        if self._own_store:
            await self.store.aclose()

    def foresee(self, params: Params, context: MiddlewareContext) -> Sequence[Script]:
        """What it will ask for these params, as far as that can be told further out."""
        return ()

    async def ask(self, scripts: Sequence[Script], params: Params, context: MiddlewareContext) -> list[Any]:
        """The results of scripts, up to the first that stops; none where the store is away and calls pass.

        Raises StoreUnavailable where it is away and they do not.
        """
        store: Store = self._store
        if not store.remote:
            if self._rests_until:  # it was away before
                return await self._run(scripts, len(scripts), context)
            try:
                return await store.run(*scripts)
            except StoreUnavailable as error:
                return await self._without(error, scripts, len(scripts), context)
        rounds = context.shared.setdefault(_ROUNDS, {})
        round = rounds.get(id(store))
        if round is not None and scripts[0] in round.answers:
            return [round.answers.pop(script) for script in scripts if script in round.answers]
        foreseen: Sequence[Script] = ()
        if round is None:
            round = rounds[id(store)] = Round(self)
            foreseen = self._foreseen(params, context)
        results = await self._run([*scripts, *foreseen], len(scripts), context)
        own, others = results[: len(scripts)], results[len(scripts) :]
        round.answers.update(zip(foreseen, others, strict=False))  # it ends behind the first that stops
        return own

    def foreseen(self, name: str, key: str, context: MiddlewareContext) -> tuple[Script, Any] | None:
        """The script of this name on this key that was asked further out, with its result."""
        round = context.shared.get(_ROUNDS, {}).get(id(self.store))
        for script in round.answers if round is not None else ():
            if script.name == name and script.key == key:
                return script, round.answers.pop(script)
        return None

    def unwritten(self, context: MiddlewareContext) -> list[Script]:
        """What waits to be written at the end of the call: it goes with the next question instead."""
        round: Round | None = context.shared.get(_ROUNDS, {}).get(id(self.store))
        if round is None:
            return []
        writes, round.writes = round.writes, []
        return writes

    async def write(self, context: MiddlewareContext, *scripts: Script) -> None:
        """Write at the end of a passage: `on_end` calls it, also with nothing. What cannot be written is counted.

        What was asked of the store in this process, while the other was away, is written there.
        """
        if self._local is not None and scripts and context.state(self).get("local"):
            await self._local.run(*scripts)
            scripts = ()
        round = context.shared.get(_ROUNDS, {}).get(id(self.store))
        if round is not None and round.owner is not self:
            round.writes += scripts
            return
        writes: Sequence[Script] = scripts
        if round is not None:
            del context.shared[_ROUNDS][id(self.store)]
            unused = [Release(one.key, one.arguments[0]) for one, result in round.answers.items()
                      if one.name == "reserve" and result.granted]  # fmt: skip
            writes = [*round.writes, *scripts, *unused]
        if not writes:
            return
        if clock() >= self._rests_until:
            try:
                await self.store.run(*writes)
                return
            except StoreUnavailable as error:
                self._rest(error)
        self.count("not_written", len(writes))
        self.let_pass(context)

    def let_pass(self, context: MiddlewareContext) -> None:
        """Put on the receipt that a call went on without it. It changes no answer, so `unspoilt` is not about it."""
        context.passed_over(self)
        context.shared.setdefault(_LET_PASS, set()).add(self.id)

    def unspoilt(self, context: MiddlewareContext) -> bool:
        """Whether nothing that could change an answer failed in this call and was passed over."""
        passed: set[str] = context.shared.get(_LET_PASS, set())
        return context.failures_skipped <= passed

    def _foreseen(self, params: Params, context: MiddlewareContext) -> list[Script]:
        inner = (one for one in context.inside(self).middlewares if isinstance(one, Keeping))
        found: list[Script] = []
        for one in inner:
            if one.store is self.store:
                found += one.foresee(params, context)
        return found

    async def _run(self, scripts: Sequence[Script], own: int, context: MiddlewareContext) -> list[Any]:
        """Run scripts, of which the first are its own; only these where the store is away."""
        store: Store = self._store
        if clock() >= self._rests_until:
            try:
                return await store.run(*scripts)
            except StoreUnavailable as error:
                return await self._without(error, scripts, own, context)
        return await self._without(None, scripts, own, context)

    async def _without(
        self, error: StoreUnavailable | None, scripts: Sequence[Script], own: int, context: MiddlewareContext
    ) -> list[Any]:
        """What holds while the store is away: it failed just now, or it rests."""
        policy = self.config.on_store_failure
        if error is not None:
            self._rest(error)
        if policy == "closed":
            said = f"it was away less than {_REST_S:g} s ago, and {self.id} is closed while it is"
            raise error or StoreUnavailable(said, url=self.store.url)
        self.count("store_away")
        self.let_pass(context)
        if policy == "open":
            return []
        if self._local is None:
            self._local = open_store("memory")
        context.state(self)["local"] = True
        return await self._local.run(*scripts[:own])

    def _rest(self, error: StoreUnavailable) -> None:
        now = clock()
        if now >= self._says_again:
            self._says_again = now + _SAY_AGAIN_S
            _log.warning("middleware '%s': %s; %s", self.id, error, _MEANWHILE[self.config.on_store_failure])
        if error.key is None:  # with a key it is that one entry
            self._rests_until = now + _REST_S


def scope_of(kind: str, context: MiddlewareContext) -> str | None:
    """Whose a key is: "global", "user", "session" or "model"; None where the call does not say.

    >>> scope_of("user", MiddlewareContext("openai", "gpt-4o", session={"user_id": "u1"}))
    'user:u1'
    """
    if kind == "global":
        return kind
    if kind == "model":
        return f"model:{context.provider}/{context.model}"
    said = context.session.user_id if kind == "user" else context.session.session_id
    return None if said is None else f"{kind}:{said}"

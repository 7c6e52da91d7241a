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

from ._owed import Owed, owed_to
from ._round import Round, Write, begin, end, round_of

_log = logging.getLogger("neuro_mw")

OnStoreFailure = Literal["open", "closed", "local"]
"""What holds while the store is away: no limit and no cache, nothing passes, or a store in this process."""

_MEANWHILE = {
    "open": "calls pass without it", "closed": "calls are refused", "local": "this process goes on alone",
}  # fmt: skip
_LET_PASS = "neuro_mw.let_pass"  # in context.shared, the ids of those whose failure changes no answer
_REST_S = 1.0  # a store that was away is not asked again for so long, so that not every call waits for its timeout
_SAY_AGAIN_S = 60.0


class Keeping(Middleware):
    """A middleware that keeps state. Its Config has ``store`` and ``on_store_failure``."""

    uses_store = True
    _store: Any = None
    _owed: Owed
    memory: MemoryStore | None = None
    """The store where it is in memory: then a decision needs no coroutine."""

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        if self.config.store is not None:
            self.store = open_store(self.config.store, key=f"middleware.{self.metadata.id}.config.store")
        self._own_store = self.config.store is not None
        self._local: Store | None = None
        self._says_again = 0.0

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
        self._store = store = self.its_own(store)
        self._owed = owed_to(store)
        self.memory = store if isinstance(store, MemoryStore) else None

    def its_own(self, store: Store) -> Store:
        """The store that it uses where it is given this one."""
        return store

    async def startup(self) -> None:
        """Ask the store whether it is there: it says at once where nothing is kept, or refuses to start."""
        try:
            await self._store.ping()
        except StoreUnavailable as error:
            self._rest(error)
            if self.config.on_store_failure == "closed":
                error.add_note(f"middleware '{self.id}' does not start without it: on_store_failure is \"closed\"")
                raise

    async def aclose(self) -> None:
        """Write what is owed; close a store of its own. That of the factory is closed by the factory."""
        store: Store | None = self._store
        if store is None:
            return
        try:
            while self._owed:
                await self._owed.send(store)
        except StoreUnavailable as error:
            self._rest(error)
            self.count("not_written", self._owed.forget())
        if self._own_store:
            await store.aclose()

    # --- before the model ----------------------------------------------------------------------------------------

    def foresee(self, params: Params, context: MiddlewareContext) -> Sequence[Script]:
        """What it will ask for these params, as far as that can be told further out."""
        return ()

    async def ask(self, scripts: Sequence[Script], params: Params, context: MiddlewareContext) -> list[Any]:
        """The results of scripts, up to the first that stops; none where the store is away and calls pass.

        Over a network, the first who asks asks for those further in as well. Raises StoreUnavailable where the store is
        away and calls do not pass.
        """
        if not self._store.remote:
            return await self.run(scripts, context)
        round = round_of(context, self._store)
        if round is None:
            return await self._ask_for_all(begin(context, self._store, self), scripts, params, context)
        try:
            results = [round.take(scripts[0])]
        except KeyError:
            return await self.run(scripts, context)
        return results + [round.take(script) for script in scripts[1:] if script in round.answers]

    async def _ask_for_all(
        self, round: Round, scripts: Sequence[Script], params: Params, context: MiddlewareContext
    ) -> list[Any]:
        foreseen = round.ask_for(self._foreseen(params, context))
        try:
            results = await self._send([*scripts, *foreseen])
        except StoreUnavailable as error:
            if error.key is None or error.key in {script.key for script in scripts}:
                return await self._without(error, scripts, context)
            return await self.run(scripts, context)  # it is the entry of another one, who will find it
        if results is None:
            return await self._without(None, scripts, context)
        round.answered(foreseen, results[len(scripts) :])
        return results[: len(scripts)]

    async def run(self, scripts: Sequence[Script], context: MiddlewareContext) -> list[Any]:
        """The same for itself alone."""
        try:
            results = await self._send(scripts)
        except StoreUnavailable as error:
            return await self._without(error, scripts, context)
        return await self._without(None, scripts, context) if results is None else results

    def foreseen(self, name: str, key: str, context: MiddlewareContext) -> tuple[Script, Any] | None:
        """The script of this name on this key that was asked further out, with its result; `used` says that it is."""
        round = round_of(context, self._store)
        return None if round is None else round.find(name, key)

    def used(self, script: Script, context: MiddlewareContext) -> None:
        """What was foreseen is its own now."""
        round = round_of(context, self._store)
        if round is not None:
            round.take(script)

    def give_up(self, context: MiddlewareContext) -> None:
        """What was reserved for those further in is not needed: the next question to the store gives it back first."""
        round = round_of(context, self._store)
        if round is not None:
            round.writes += round.unused()
            self.unwritten(context)

    def _foreseen(self, params: Params, context: MiddlewareContext) -> list[Write]:
        inner = (one for one in context.inside(self).middlewares if isinstance(one, Keeping))
        return [(one, script) for one in inner if one.store is self._store for script in one.foresee(params, context)]

    # --- after it ------------------------------------------------------------------------------------------------

    async def write(self, context: MiddlewareContext, *scripts: Script) -> None:
        """Write at the end of a passage: `on_end` calls it, also with nothing.

        What was asked of the store in this process, while the other was away, is written there. Ends of leases that
        cannot be written are owed to the store; all else is counted.
        """
        if self._local is not None and scripts and context.state(self).get("local"):
            await self._local.run(*scripts)
            scripts = ()
        writes: list[Write] = [(self, script) for script in scripts]
        round = round_of(context, self._store)
        if round is not None:
            round.writes += writes
            if round.owner is not self:
                return
            end(context, self._store)
            writes = [*round.writes, *round.unused()]
        if writes:
            await self._write(writes, context)

    async def write_beside(self, script: Script, context: MiddlewareContext) -> None:
        """Write what belongs to no passage: with the end of the call, where that is still to come."""
        round = round_of(context, self._store)
        if self.memory is not None:
            self.write_now([script])
        elif self.config.on_store_failure == "local" and clock() < self._owed.rests_until:
            await self._here().run(script)
        elif round is not None:
            round.writes.append((self, script))
        else:
            await self._write([(self, script)], context)

    def write_now(self, scripts: Sequence[Script]) -> None:
        """The same in memory, where nothing is waited for."""
        assert self.memory is not None
        for script in scripts:
            try:
                self.memory.decide(script.name, script.key, *script.arguments)
            except StoreUnavailable:  # it is full, and the entry had ended
                self.count("not_written" if self.owe([script]) else "owed")

    def owe(self, scripts: Sequence[Script], *, tried: bool = False) -> list[Script]:
        """Have the ends of leases written with the next question, whoever asks it; what is left is none, or too much.

        ``tried``: they may be written already.
        """
        return [script for script in scripts if not self._owed.add(script, tried=tried)]

    def unwritten(self, context: MiddlewareContext) -> None:
        """What waits to be written at the end of the call goes with the next question instead: it may matter there."""
        round = round_of(context, self._store)
        if round is not None:
            round.writes = [(one, script) for one, script in round.writes if one.owe([script])]

    async def _write(self, writes: Sequence[Write], context: MiddlewareContext) -> None:
        tried = False
        try:
            if await self._send([script for _, script in writes]) is not None:
                return
        except StoreUnavailable as error:
            self._rest(error)
            broken = [write for write in writes if write[1].key == error.key]
            for one, _ in broken:  # the entry of that key is none of ours any more; the others' are
                one.count("not_written")
                one.let_pass(context)
            if broken and len(broken) < len(writes):
                await self._write([write for write in writes if write not in broken], context)
                return
            tried, writes = error.sent, () if broken else writes
        except BaseException:
            for one, script in writes:
                one.owe([script], tried=True)
            raise
        for one, script in writes:
            one.count("not_written" if one.owe([script], tried=tried) else "owed")
            one.let_pass(context)

    # --- where the store is away ---------------------------------------------------------------------------------

    def let_pass(self, context: MiddlewareContext) -> None:
        """Put on the receipt that a call went on without it. It changes no answer, so `unspoilt` is not about it."""
        context.passed_over(self)
        context.shared.setdefault(_LET_PASS, set()).add(self.id)

    def unspoilt(self, context: MiddlewareContext) -> bool:
        """Whether nothing that could change an answer failed in this call and was passed over."""
        passed: set[str] = context.shared.get(_LET_PASS, set())
        inside = context.inside(self)
        return context.failures_skipped <= passed and not inside.lenient_beyond and inside.shareable

    async def _send(self, scripts: Sequence[Script]) -> list[Any] | None:
        """The results of scripts; None while it does not ask. Raises StoreUnavailable."""
        if clock() < self._owed.rests_until:
            return None
        try:
            return await self._owed.send(self._store, scripts)
        finally:
            if self._owed.lost:
                lost, self._owed.lost = self._owed.lost, 0
                self.count("not_written", lost)

    async def _without(
        self, error: StoreUnavailable | None, scripts: Sequence[Script], context: MiddlewareContext
    ) -> list[Any]:
        """What holds while the store is away: it failed just now, or it rests."""
        policy = self.config.on_store_failure
        if error is not None:
            self._rest(error)
        if policy == "closed":
            said = f"it was away less than {_REST_S:g} s ago, and {self.id} is closed while it is"
            raise error or StoreUnavailable(said, url=self._store.url)
        self.count("store_away")
        self.let_pass(context)
        if policy == "open":
            return []
        if error is not None:  # it may have done it
            self.owe([Release(one.key, one.arguments[0]) for one in scripts if one.name == "reserve"])
        context.state(self)["local"] = True
        return await self._here().run(*scripts)

    def _here(self) -> Store:
        """The store of this process, which stands in with "local"."""
        if self._local is None:
            self._local = open_store("memory")
        return self._local

    def _rest(self, error: StoreUnavailable) -> None:
        now = clock()
        if now >= self._says_again:
            self._says_again = now + _SAY_AGAIN_S
            _log.warning("middleware '%s': %s; %s", self.id, error, _MEANWHILE[self.config.on_store_failure])
        if error.key is None:  # with a key it is that one entry
            self._owed.rests_until = now + _REST_S

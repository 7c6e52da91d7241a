"""cache: an answer that was given to the same request before, in either mode."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import suppress
from time import time
from typing import Any

from neuro_mw import (
    CONTRACT,
    MiddlewareContext,
    Outcome,
    Params,
    Part,
    Response,
    StreamInterrupted,
    collect,
    parts_of,
)
from neuro_mw.state import Read, Script, StoreUnavailable, Write
from neuro_mw.state.memory import MemoryStore

from ._attempts import opener
from ._catalog import CATALOG
from ._keeping import Keeping, scope_of
from .caching.entry import Corrupt, entry_of, unpacked
from .caching.flights import Flight, Flights, Lost
from .caching.key import LEFT_OUT, key_of
from .caching.options import CacheOptions

_CONTRACT = ".".join(map(str, CONTRACT))
_KEY_BYTES = 256  # that a key may take of a store in memory


class Cache(Keeping):
    """Answers a request that was answered before, without asking the model: the same for `generate` and for streams.

    What tells requests apart: all params but those about fetching (``stream``, ``timeout``, retries), as JSON without
    regard to the order of names; provider, model and ``scope``; and the layers further in that apply to this call, with
    their versions and options. So an answer made for a user who is exempt from a guard never reaches another. What
    those layers, or a model of your own, take from the session or the options of a call is not in the key: where they
    do, use a scope or a condition. Params that JSON cannot say exactly (objects, sets, NaN) are not cached.

    ``response.metadata["cache"]`` is ``{"hit": True, "age_s": ...}`` or ``{"hit": False}``, and is not there where a
    call is not for the cache. Never kept: failures, blocks, answers that broke off or were left by all their readers,
    that were cut by ``max_tokens`` (unless ``keep_truncated``), that JSON cannot hold, that are larger than the store
    takes, and those in whose making a failure was passed over (of a guard that is skipped). An entry that cannot be
    read is a miss, and is deleted. Its stats count all of this: "hits", "followed", "misses", "stored", "corrupt",
    "uncached.<why>", "unstored.<why>".

    Of equal calls at once in one event loop, one asks (``single_flight``): the others get its parts as they come, or
    its answer when it is whole. Whoever needs the next part asks for it, so a reader who is slow stops nobody else.
    Where the one that asked fails, is blocked or goes away, the next one asks, and after three of them each for itself;
    a reader who has had some content already cannot begin again, and gets StreamInterrupted. A call that is made within
    such a call waits for no other.

    In memory the entries are apart from what others keep there, ``max_entries`` and ``max_bytes`` of them at most.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> from neuro_mw.testing import ScriptedModel
    >>> scripted = ScriptedModel("hello")
    >>> model = MiddlewareFactory(preset=None, middleware=[Cache(ttl_s=60)]).apply_middleware(scripted)
    >>> async def twice():
    ...     first = await model.generate("hi", temperature=0)
    ...     return first, await model.stream("hi", temperature=0).response()
    >>> [(response.text, response.metadata["cache"]["hit"]) for response in asyncio.run(twice())]
    [('hello', False), ('hello', True)]
    >>> len(scripted.calls)
    1
    """

    metadata = CATALOG["cache"]

    Config = CacheOptions
    config: CacheOptions

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        self._flights, self._count = Flights(), self.tally.add
        self._scope, self._ttl_s = self.config.scope, self.config.ttl_s
        self._cool = self.config.max_temperature is not None
        self._left_out = LEFT_OUT.union(self.config.ignore)
        self._facts = f"{sorted(set(self.config.ignore))}{self.config.keep_truncated}"

    @property
    def store(self) -> Any:
        """Where the answers are; None until a factory took it in."""
        return self._store

    @store.setter
    def store(self, store: Any) -> None:
        self._store = own = self.config.own(store, self.metadata.id)
        self._most, self.memory = own.max_value_bytes, own if isinstance(own, MemoryStore) else None
        if self.memory is not None:
            self._most = min(self._most, self.memory.max_bytes - _KEY_BYTES)

    # --- the key -------------------------------------------------------------------------------------------------

    def _key(self, params: Params, context: MiddlewareContext) -> tuple[str, str]:
        """The key of a call; where it is not for the cache, "" and why."""
        who = self._scope if self._scope == "global" else scope_of(self._scope, context)
        if who is None:
            return "", f"no_{self._scope}"
        if self._cool and not self.config.is_cool(params.get("temperature")):
            return "", "temperature"
        provider, model = context.provider, context.model
        if "model" in params and params["model"] == model:  # the same request, whether it says so or not
            params = {name: value for name, value in params.items() if name != "model"}
        said = [_CONTRACT, self._facts, provider, model, who, context.inside(self).fingerprint]
        hashed = key_of(said, params, self._left_out)
        return ("", "params") if hashed is None else (f"{self.id}:{hashed}", "")

    def foresee(self, params: Params, context: MiddlewareContext) -> Sequence[Script]:
        """The question for an answer, as far as the params do not change on the way in."""
        key, _ = self._key(params, context)
        return (Read(key),) if key else ()

    # --- in both modes -------------------------------------------------------------------------------------------

    async def wrap_generate(self, do_generate: Any, params: Params, context: MiddlewareContext) -> Response:
        """The answer that is there; or that of an equal call under way; or the model's."""
        key, why_not = self._key(params, context)
        if not key:
            self._count(f"uncached.{why_not}")
            return await do_generate(params)  # type: ignore[no-any-return]  # it is untyped here
        state = context.state(self)
        if (found := self._at_hand(key, state)) is not None:
            return found
        while True:
            flight, leads = self._board(key, state)
            if leads:
                break
            with suppress(Lost):
                response = await collect(flight.parts())
                if not flight.lost:
                    self._follows(flight, state)
                    return response
        try:
            found = await self._look_up(key, flight, params, context)
            return found if found is not None else await flight.ask(do_generate, params)
        except BaseException as error:
            flight.fail(error)
            raise

    async def wrap_stream(self, do_stream: Any, params: Params, context: MiddlewareContext) -> AsyncIterator[Part]:
        """The same in parts: all at once where the answer is there, else as they come."""
        key, why_not = self._key(params, context)
        if not key:
            self._count(f"uncached.{why_not}")
            async for part in do_stream(params):
                yield part
            return
        state = context.state(self)
        if (found := self._at_hand(key, state)) is not None:
            for part in parts_of(found):
                yield part
            return
        while True:
            flight, leads = self._board(key, state)
            if leads:
                break
            with suppress(Lost):
                opening, parts = await opener(lambda _, flight=flight: flight.parts())(params)
                if not flight.lost:
                    break
                await parts.aclose()
        if not leads:
            self._follows(flight, state)
            try:
                for part in opening:
                    yield part
                async for part in parts:
                    yield part
            except Lost as lost:
                raise StreamInterrupted(f"the call whose answer this one shared {lost}") from None
            finally:
                await parts.aclose()
            return
        try:
            found = await self._look_up(key, flight, params, context)
        except BaseException as error:
            flight.fail(error)
            raise
        if found is not None:
            for part in parts_of(found):
                yield part
            return
        flight.open(do_stream(params))
        at = 0
        try:
            while (came := await flight.next(at, self._most)) is not None:
                at += 1
                yield came
        finally:
            await flight.close()

    def _board(self, key: str, state: dict[str, Any]) -> tuple[Flight, bool]:
        """The flight of a call, and whether it leads it."""
        if not self.config.single_flight:
            flight, leads = Flight(None, key), True
        else:
            turn = state["turn"] = state.get("turn", -1) + 1
            flight, leads = self._flights.board(key, turn, self.config.ttl_s)
        if leads:
            state["leads"] = flight
        return flight, leads

    def _follows(self, flight: Flight, state: dict[str, Any]) -> None:
        """It is an answer that another one asked for."""
        self._count("followed")
        state["follows"] = flight

    def _at_hand(self, key: str, state: dict[str, Any]) -> Response | None:
        """The answer that is kept, where that is in memory: nothing is waited for, so nobody needs to follow."""
        memory = self.memory
        if memory is None or (entry := memory.value(key)) is None:
            return None
        found = self._read(entry, state)
        if found is None:
            memory.discard(key)
            return None
        return found[0]

    async def _look_up(self, key: str, flight: Flight, params: Params, context: MiddlewareContext) -> Response | None:
        """The answer that is kept elsewhere, for all who are on this flight; None where the model has to be asked."""
        state = context.state(self)
        if self.memory is None:
            entries = await self.ask((Read(key),), params, context)
            found = self._read(entries[0], state) if entries and entries[0] is not None else None
            if found is not None:
                if flight.followers:
                    flight.land(*found)
                flight.unlist()
                return found[0]
            if not entries:  # it is away
                key = ""
            elif entries[0] is not None:
                with suppress(StoreUnavailable):
                    await self.store.delete(key)
        self._count("misses")
        state["key"] = key
        return None

    def _read(self, entry: bytes, state: dict[str, Any]) -> tuple[Response, float] | None:
        """The answer of an entry, and when it was made; None where it is too old or cannot be read."""
        try:
            found = unpacked(entry)
        except Corrupt:
            self._count("corrupt")
            return None
        age_s = time() - found[1]
        if age_s >= self._ttl_s:
            return None
        self._count("hits")
        state["age_s"] = age_s if age_s > 0 else 0.0
        return found

    # --- the end -------------------------------------------------------------------------------------------------

    def on_end(self, outcome: Outcome, context: MiddlewareContext) -> Awaitable[None] | None:
        """Say on the answer where it came from; keep it."""
        state = context.state(self)
        flight = state.get("leads")
        if outcome.response is not None and state:
            outcome.response.metadata[self.metadata.id] = _told(state)
        if flight is not None and state.get("key"):
            return self._keep(flight, state["key"], context)
        if flight is not None:
            flight.unlist()
        return self.write(context) if self.store.remote else None

    async def _keep(self, flight: Flight, key: str, context: MiddlewareContext) -> None:
        try:
            entry = entry_of(flight, self._most, truncated=self.config.keep_truncated)
            if isinstance(entry, bytes) and not self.unspoilt(context):
                entry = "failure_skipped"
            if isinstance(entry, bytes):
                self._count("stored")
                await self.write(context, Write(key, entry, self.config.ttl_s))
                return
            if entry:
                self._count(f"unstored.{entry}")
            await self.write(context)
        finally:
            flight.unlist()


def _told(state: dict[str, Any]) -> dict[str, Any]:
    """What the answer says of the cache."""
    if "age_s" in state:
        return {"hit": True, "age_s": state["age_s"]}
    if "follows" in state:
        made_at = state["follows"].made_at
        return {"hit": True, "age_s": max(0.0, time() - made_at) if made_at else 0.0}
    return {"hit": False}

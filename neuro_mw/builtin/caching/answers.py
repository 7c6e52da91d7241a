"""Answers in a store: found, kept, or not for keeping."""

from __future__ import annotations

from contextlib import suppress
from time import time
from typing import Any

from neuro_mw import MiddlewareContext, Params, Response
from neuro_mw.state import Read, Store, StoreUnavailable, Write
from neuro_mw.state.memory import MemoryStore

from .._keeping import Keeping
from .entry import Corrupt, kept_out, packed, sealed, unpacked, unsealed
from .flights import Flight
from .options import CacheOptions

_KEY_BYTES = 256  # that a key may take of a store in memory


class Answers(Keeping):
    """A middleware that keeps answers."""

    config: CacheOptions

    def its_own(self, store: Store) -> Store:
        """The store that it uses where it is given this one: of one in memory another, so that nothing pushes out."""
        own = self.config.own(store, self.metadata.id)
        self._most = own.max_value_bytes
        if isinstance(own, MemoryStore):
            self._most = min(self._most, own.max_bytes - _KEY_BYTES)
        return own

    def at_hand(self, key: str, state: dict[str, Any]) -> Response | None:
        """The answer that is kept, where that is in memory: nothing is waited for, so nobody needs to follow."""
        memory = self.memory
        if memory is None or (entry := memory.value(key)) is None:
            return None
        found = self._read(entry, state)
        if found is None:
            memory.discard(key)
            return None
        return found[0]

    async def look_up(self, key: str, flight: Flight, params: Params, context: MiddlewareContext) -> Response | None:
        """The answer that is kept elsewhere, for all who are on this flight; None where the model has to be asked."""
        state = context.state(self)
        if self.memory is None:
            entries = await self.ask((Read(key),), params, context)
            found = self._read(entries[0], state, sealed=True) if entries and entries[0] is not None else None
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
        self.count("misses")
        state["key"] = key
        return None

    def _read(self, entry: bytes, state: dict[str, Any], *, sealed: bool = False) -> tuple[Response, float] | None:
        """The answer of an entry, and when it was made; None where that cannot be read."""
        try:
            found = unpacked(unsealed(entry) if sealed else entry)
        except Corrupt:
            self.count("corrupt")
            return None
        age_s = time() - found[1]
        self.count("hits")
        state["age_s"] = age_s if age_s > 0 else 0.0
        return found

    async def keep(self, flight: Flight, key: str, context: MiddlewareContext) -> None:
        """Keep the answer of a flight, if it is one to keep, and write what else there is to write."""
        try:
            entry = self._entry(flight, context)
            if isinstance(entry, bytes):
                self.count("stored")
                await self.write(context, Write(key, entry, self.config.ttl_s))
                return
            if entry:
                self.count(f"unstored.{entry}")
            await self.write(context)
        finally:
            flight.unlist()

    def _entry(self, flight: Flight, context: MiddlewareContext) -> bytes | str:
        """What is kept of an answer; else why nothing is."""
        why_not = kept_out(flight, self._most, truncated=self.config.keep_truncated)
        if why_not is not None:
            return why_not
        if not self.unspoilt(context):
            return "failure_skipped"
        response = flight.response()
        self.of_others(response, context)
        entry = packed(response, flight.made_at)
        if entry is None:
            return "content"
        entry = entry if self.memory is not None else sealed(entry)
        return entry if len(entry) <= self._most else "size"

    def of_others(self, response: Response, context: MiddlewareContext) -> None:
        """Take out what budgets further in said: it was about another one's call."""
        for one in context.inside(self).middlewares:
            if isinstance(one, Keeping):
                response.metadata.pop(one.id, None)

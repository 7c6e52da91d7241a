"""cache: an answer that was given to the same request before, in either mode."""

from __future__ import annotations

from asyncio import timeout
from collections.abc import AsyncIterator, Awaitable, Sequence
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
from neuro_mw.state import Read, Script

from ._attempts import opener
from ._catalog import CATALOG
from ._scope import scope_of
from .caching.answers import Answers
from .caching.flights import ALONE, Flight, Flights, Lost
from .caching.key import LEFT_OUT, key_of
from .caching.options import CacheOptions

_CONTRACT = ".".join(map(str, CONTRACT))


class Cache(Answers):
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
        self._facts = f"{sorted(set(self.config.ignore))}{self.config.keep_truncated}{self._ttl_s}"

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
        if (found := self.at_hand(key, state)) is not None:
            return found
        flight, response = await self._shared(key, params, context, _collected)
        if response is not None:
            return response  # type: ignore[no-any-return]  # what `_collected` gives
        try:
            found = await self.look_up(key, flight, params, context)
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
        if (found := self.at_hand(key, state)) is not None:
            for part in parts_of(found):
                yield part
            return
        flight, opened = await self._shared(key, params, context, _opened)
        if opened is not None:
            opening, parts = opened
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
            found = await self.look_up(key, flight, params, context)
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

    async def _shared(self, key: str, params: Params, context: MiddlewareContext, receive: Any) -> tuple[Flight, Any]:
        """The flight of a call, and what it receives of another one's answer; None where it leads."""
        state = context.state(self)
        while True:
            flight, leads = self._board(key, context)
            if leads:
                return flight, None
            self.give_up(context)
            try:
                async with timeout(_patience(params)):
                    received = await receive(flight)
            except Lost:
                continue
            except TimeoutError:
                state["turn"] = ALONE
                continue
            self._count("followed")
            state["follows"] = flight
            return flight, received

    def _board(self, key: str, context: MiddlewareContext) -> tuple[Flight, bool]:
        """The flight of a call, and whether it leads it."""
        state = context.state(self)
        inside = context.inside(self)
        if not self.config.single_flight or inside.lenient or inside.lenient_beyond or not inside.shareable:
            flight, leads = Flight(None, key), True
        else:
            turn = state["turn"] = state.get("turn", -1) + 1
            flight, leads = self._flights.board(key, turn, self._ttl_s)
        if leads:
            state["leads"] = flight
            flight.lead(context, self)
        return flight, leads

    # --- the end -------------------------------------------------------------------------------------------------

    def on_end(self, outcome: Outcome, context: MiddlewareContext) -> Awaitable[None] | None:
        """Say on the answer where it came from; keep it."""
        state = context.state(self)
        flight = state.get("leads")
        if outcome.response is not None and state:
            if "follows" in state:
                self.of_others(outcome.response, context)
            outcome.response.metadata[self.id] = _told(state)
        if flight is not None and state.get("key"):
            return self.keep(flight, state["key"], context)
        if flight is not None:
            flight.unlist()
        return self.write(context) if self._store.remote else None


async def _collected(flight: Flight) -> Response:
    """The whole answer of another one. Raises Lost where there is none to share."""
    response = await collect(flight.parts())
    if flight.lost:
        raise Lost(flight.lost)
    return response


async def _opened(flight: Flight) -> tuple[list[Part], Any]:
    """Its beginning up to the first content, and what comes after. Raises Lost where there is none to share."""
    opening, parts = await opener(lambda _: flight.parts())({})
    if flight.lost:
        await parts.aclose()
        raise Lost(flight.lost)
    return opening, parts


def _patience(params: Params) -> float | None:
    """How long a call waits for another one's answer: for what it would give the provider, where it says so."""
    said = params.get("timeout")
    return said if isinstance(said, int | float) and not isinstance(said, bool) and said > 0 else None


def _told(state: dict[str, Any]) -> dict[str, Any]:
    """What the answer says of the cache."""
    if "age_s" in state:
        return {"hit": True, "age_s": state["age_s"]}
    if "follows" in state:
        made_at = state["follows"].made_at
        return {"hit": True, "age_s": max(0.0, time() - made_at) if made_at else 0.0}
    return {"hit": False}

"""Single flight: of equal calls at once one asks the model, and the others get its parts as they come.

The parts so far are kept, and each call reads them at its own pace. Who wants the next one and finds nobody waiting for
it asks for it, in a task, as long as that takes; so a leader whose reader is slow stops nobody, and nothing is read
that no reader wants.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextvars import ContextVar, copy_context
from time import time
from typing import Any

from neuro_mw import (
    Attempt,
    Collector,
    Finish,
    MiddlewareContext,
    Part,
    ReasoningDelta,
    Response,
    TextDelta,
    ToolCallDelta,
    parts_of,
)

from .copies import Uncopied, given, kept_of

NOT_AN_ANSWER = ("content_filter", "error")
"""Finish reasons of what is neither kept nor shared."""
ALONE = 3  # leaders that one call follows in turn: then it asks by itself, so that it does not wait for all of them

_within: ContextVar[bool] = ContextVar("neuro_mw.cache.within", default=False)
"""Whether this runs inside of a call that leads. Such a one never follows another, so no circle can wait for itself."""


class Lost(Exception):  # noqa: N818 - it says what became of the leader
    """There is no answer to share: what became of the call that asked for it."""


class Flight:
    """One call that asks, and what came of it so far."""

    __slots__ = (
        "_attempts", "_context", "_detours", "_error", "_key", "_layer", "_leader", "_loose", "_seen", "_source",
        "_table", "_task", "_waiting", "busy", "finish", "followers", "kept", "lost", "made_at", "size", "strayed",
    )  # fmt: skip

    def __init__(self, table: dict[str, Flight] | None, key: str) -> None:
        self._table, self._key = table, key  # None: nobody finds it
        self.kept: list[Any] = []
        self.size = 0  # in characters, of what could be large
        self.finish: Finish | None = None
        self.made_at = 0.0  # when the answer was whole, in seconds since 1970
        self.lost = ""  # what became of it, where there is no answer to share
        self.busy = True  # somebody waits for the next part
        self.followers = 0  # how many wait for it
        self._waiting: list[asyncio.Future[None]] = []
        self._source: Any = None
        self._task: asyncio.Task[None] | None = None  # waits for a part in place of the leader
        self._error: BaseException | None = None  # what that one met, for the leader
        self._loose = False
        self._leader: MiddlewareContext | None = None
        self._layer: object = None  # the cache that it is in
        self._attempts: Sequence[Attempt] = ()  # of the whole call
        self._seen = self._detours = 0  # of these; and how often another model had been named before
        self.strayed = False  # another model answered, so that other layers may have seen the answer
        if table is not None:
            table[key] = self

    def lead(self, context: MiddlewareContext, layer: object) -> None:
        """Somebody leads it, within this layer; it is meant for the model of this context."""
        self._leader, self._layer = context, layer
        self._attempts, self._detours = context.attempts, context.detours

    def look(self) -> None:
        """Whether another model was asked than the one that is meant."""
        self._seen, leader = len(self._attempts), self._leader
        if leader is None or self.strayed:
            return
        target = leader.provider, leader.model
        others = any((attempt.provider, attempt.model) != target for attempt in leader.attempts_inside(self._layer))
        if others or leader.detours != self._detours:
            self.strayed = True
            self.lose("was answered by another model")

    # --- what comes ----------------------------------------------------------------------------------------------

    def add(self, part: Part) -> None:
        """A part came."""
        if len(self._attempts) != self._seen or not self.kept:
            self.look()
        if type(part) is TextDelta:
            self.kept.append(part.text)
            self.size += len(part.text)
        else:
            self._add(part)
        if self._waiting:
            self._wake()

    def _add(self, part: Part) -> None:
        try:
            self.kept.append(kept_of(part))
        except Exception:  # noqa: BLE001  # what cannot be copied may raise anything
            self.kept.append(Uncopied(part))
            self.lose("gave what cannot be shared")
        if isinstance(part, Finish):
            self.finish, self.made_at = part, time()
            if part.blocked is not None or part.reason in NOT_AN_ANSWER:
                self.lose("was refused")
        elif isinstance(part, ReasoningDelta):
            self.size += len(part.text)
        elif isinstance(part, ToolCallDelta):
            self.size += len(part.arguments)

    def land(self, response: Response, made_at: float = 0.0) -> None:
        """The whole answer came."""
        for part in parts_of(response):
            self.add(part)
        self.made_at = made_at or self.made_at

    def lose(self, why: str) -> None:
        """There is no answer to share."""
        self.lost = self.lost or why
        self.unlist()
        self._wake()

    def fail(self, error: BaseException) -> None:
        """Its call raised this."""
        left = isinstance(error, asyncio.CancelledError | GeneratorExit)
        self.lose("was left by its caller" if left else f"failed ({type(error).__name__})")

    def response(self) -> Response:
        """The answer, as far as it came."""
        collector = Collector()
        for kept in self.kept:
            collector.add(given(kept))
        return collector.response()

    def unlist(self) -> None:
        """Nobody finds it any more."""
        if self._table is not None and self._table.get(self._key) is self:
            del self._table[self._key]

    def stale(self, ttl_s: float) -> bool:
        """Whether its answer is there and too old: its reader may be slow to take it."""
        return self.finish is not None and time() - self.made_at >= ttl_s

    # --- who follows ---------------------------------------------------------------------------------------------

    async def parts(self) -> AsyncIterator[Part]:
        """The parts as they come. Raises Lost where no more will."""
        at, kept = 0, self.kept
        self.followers += 1
        try:
            while True:
                while at < len(kept) and type(kept[at]) is not Uncopied:
                    part = given(kept[at])
                    at += 1
                    yield part
                    if isinstance(part, Finish):
                        return
                if self.lost:
                    raise Lost(self.lost)
                if not self.busy:
                    self.busy = True
                    self._task = asyncio.get_running_loop().create_task(self._ask_for(), context=self._context)
                await self._wait()
        finally:
            self.followers -= 1

    async def _wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if not future.done() or future.cancelled():
                self._waiting = [one for one in self._waiting if one is not future]

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    # --- who leads -----------------------------------------------------------------------------------------------

    async def ask(self, do_generate: Any, params: Any) -> Response:
        """The whole answer, for its own caller; the others get it too."""
        token = _within.set(True)
        try:
            response: Response = await do_generate(params)
        finally:
            _within.reset(token)
        self.land(response)
        return response

    def open(self, source: AsyncIterator[Part]) -> None:
        """What the parts come from, as its own caller opens it."""
        self._source = source
        self._context = copy_context()

    async def next(self, at: int, most: int, *, for_others: bool = False) -> Part | None:
        """Part number `at`, for its own caller; None at the end. More than `most` is not kept where nobody follows."""
        while not self._loose:
            if at < len(self.kept):  # it was asked for by another one
                kept = self.kept[at]
                return kept.part if type(kept) is Uncopied else given(kept)
            if self._task is not None and not for_others:
                await self._wait()
                continue
            if self._error is not None:
                raise self._error
            if self.lost or self.finish is not None or (self.size > most and not self.followers):
                self._let_loose()
                break
            self.busy = True
            token = _within.set(True)
            try:
                part: Part = await self._source.__anext__()
            except StopAsyncIteration:
                self.lose("ended without Finish")
                return None
            except BaseException as error:
                self.fail(error)
                raise
            finally:
                _within.reset(token)
            self.busy = False
            self.add(part)
            return part
        return await self._unkept()

    def _let_loose(self) -> None:
        """Nobody else is to get what is still to come."""
        self._loose = True
        if self.finish is None:
            self.unlist()
            self.kept.clear()

    async def _unkept(self) -> Part | None:
        try:
            part: Part = await self._source.__anext__()
        except StopAsyncIteration:
            return None
        if self.finish is None and isinstance(part, Finish):
            self.finish = part
        return part

    async def _ask_for(self) -> None:
        """Wait for a part in place of the leader, whose reader is elsewhere."""
        try:
            await self.next(len(self.kept), self.size, for_others=True)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # it is the leader's, and raised there
            self._error = error
        finally:
            self._task = None

    async def close(self) -> None:
        """Its own caller is done with the stream, or leaves it."""
        if self.finish is None:
            self.lose("was left by its caller")
        cancelled: BaseException | None = None
        while (task := self._task) is not None and not task.done():
            task.cancel()
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:  # the caller's own: when nothing is under way any more
                cancelled = error
        await self._source.aclose()
        if cancelled is not None:
            raise cancelled


class Flights:
    """The calls that are under way, in each event loop its own."""

    def __init__(self) -> None:
        self._loops: dict[asyncio.AbstractEventLoop, dict[str, Flight]] = {}

    def board(self, key: str, turn: int, ttl_s: float) -> tuple[Flight, bool]:
        """The flight of a key, and whether the caller leads it. ``turn`` says how many it has followed already."""
        loop = asyncio.get_running_loop()
        table = self._loops.get(loop)
        if table is None:
            for gone in [one for one in list(self._loops) if one.is_closed()]:
                self._loops.pop(gone, None)
            table = self._loops[loop] = {}
        flight = table.get(key)
        if flight is None or flight.stale(ttl_s):
            return Flight(table, key), True
        if turn >= ALONE or _within.get():
            return Flight(None, key), True
        return flight, False

    def __len__(self) -> int:
        return sum(len(table) for table in self._loops.values())

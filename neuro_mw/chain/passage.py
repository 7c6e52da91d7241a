"""One passage of a call through a layer: its clock, what it knows of inside, how its hooks' failures are taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import perf_counter as clock
from typing import TYPE_CHECKING, Any, NoReturn

from ..contract import Outcome
from ..errors import Blocked, MiddlewareError, note
from ..stats import (
    BLOCKED,
    BLOCKED_INSIDE,
    CANCELLED,
    CHANGED_ANSWER,
    CHANGED_REQUEST,
    COMPLETED,
    FAILED,
    INNER_ERROR,
    SHORT_CIRCUITED,
    STATUS_NAMES,
    Extra,
)
from ..types import Block, Part, Response, Usage, no_usage
from .answers import Signature, differ, signature, unchanged
from .link import Inner
from .stopwatch import ENDED, MARKED, TOLD, Stopwatch

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ..context import MiddlewareContext
    from ..types import Params
    from .link import Link

_new = object.__new__
_new_tuple = tuple.__new__  # half the price of calling a named tuple's class


class Passage(Stopwatch):
    """The state of one passage. Its clock stands still while an inner call is under way."""

    __slots__ = ("ctx", "params", "seen")

    ctx: MiddlewareContext
    params: Params
    link: Link
    seen: Signature | None  # the last answer from inside, and how it looked when it came
    came: Params | None = None  # the params before its transform changed them
    sampled_s = 0.0  # of a step, scaled to all parts
    away_s = 0.0  # the time in which the consumer held a stream
    first_s = 0.0  # clock at the first delta let go
    parts = held = skipped = changed = 0
    inside: list[BaseException] | None = None  # what was raised inside
    kept: Response | None = None  # a copy of the last answer from inside, where ``on_error`` is "skip"
    inside_failed = False  # the last inward call failed
    inners: list[Inner] | None = None  # inner streams opened by a hook
    refused = early = False  # early: its step ended the answer

    @staticmethod
    def begun(link: Link, ctx: MiddlewareContext, params: Params, now: float) -> Passage:
        """A passage that begins now. (No ``__init__``: calling a class costs twice as much as all that it does.)"""
        passage = _new(Passage)
        passage.link, passage.ctx, passage.params, passage.started = link, ctx, params, now
        passage.calls = passage.special = 0
        passage.inner_s = passage.inner_at = 0.0
        passage.seen = None
        return passage

    @property
    def ended(self) -> bool:
        """Whether its end was told, once and for all."""
        return bool(self.special & ENDED)

    @property
    def answer(self) -> Response | None:
        """The last answer from inside."""
        return None if self.seen is None else self.seen[0]

    # --- inward --------------------------------------------------------------------------------------------------

    def inward(self, params: Params | None) -> tuple[Params, MiddlewareContext, Link]:
        """Params, context and goal of the next inward call."""
        if params is None:
            params = self.params
        elif params is not self.params:
            if not isinstance(params, dict):
                raise MiddlewareError(f"do_generate/do_stream takes a dict of params, not {type(params).__name__}")
            if not self.changed & CHANGED_REQUEST and differ(params, self.params):
                self.changed |= CHANGED_REQUEST
                self.special |= MARKED
        ctx, link = self.ctx, self.link
        if self.calls:
            ctx = ctx.fork(by="" if link.layer is None else link.layer.id)
            self.be_told()
        self.calls += 1
        model = params.get("model")
        if model is not None and model != ctx.model:
            named_before = self.came is not None and self.params.get("model") == model  # by its transform
            before = self.came if named_before else self.params
            return link.chain.router.redirect(model, params, ctx, link, before or {})
        return params, ctx, link

    def do_generate(self, params: Params | None = None) -> Coroutine[Any, Any, Response]:
        """Call inward, in generate mode."""
        if not self.calls and (params is None or params is self.params):
            params, ctx = self.params, self.ctx
            if "model" not in params or params["model"] == ctx.model:
                self.calls = 1
                return self.link.generate(params, ctx, self)
        params, ctx, link = self.inward(params)
        return link.generate(params, ctx, self)

    def do_stream(self, params: Params | None = None) -> AsyncIterator[Part]:
        """Call inward, in stream mode. The stream is closed with this passage, also where the hook forgets it."""
        params, ctx, link = self.inward(params)
        inner = self.opened()
        inner.parts = parts = link.stream(params, ctx, self, inner)
        return parts

    def opened(self) -> Inner:
        """An inner stream is opened; it is kept, so that it is closed with this passage."""
        inner = Inner()
        if self.inners is None:
            self.inners = [inner]
        else:
            self.inners.append(inner)
        return inner

    def entered(self) -> None:
        """An inward call begins, in generate mode."""
        if self.special & TOLD:
            self.pause(clock())

    def answered(self, started: float, now: float) -> None:
        """An inward call gave an answer, in generate mode."""
        if self.inside_failed:
            self.inside_failed = False
        self.left(started, now)

    def raised(self, error: BaseException) -> None:
        """An error came from inside."""
        self.inside_failed = True
        self.special |= MARKED
        if self.inside is None:
            self.inside = [error]
        elif not any(error is known for known in self.inside):
            self.inside.append(error)

    def is_inside(self, error: BaseException) -> bool:
        """Whether this very error, or every one of this group, came from inside."""
        if self.inside is None:
            return False
        if any(error is known for known in self.inside):
            return True
        return isinstance(error, BaseExceptionGroup) and all(self.is_inside(one) for one in error.exceptions)

    # --- what becomes of a failure -------------------------------------------------------------------------------

    def own_block(self, error: BaseException) -> Blocked | None:
        """The refusal of a hook of this layer in an error, also where it comes in a group with what failed inside."""
        if isinstance(error, BaseExceptionGroup):
            found = [self.own_block(one) for one in error.exceptions if not self.is_inside(one)]
            return found[0] if found and all(found) else None
        return error if isinstance(error, Blocked) and not self.is_inside(error) else None

    def refusal(self, error: Blocked, usage: Usage | None = None) -> Response:
        """The answer that a refusal becomes. Its usage is 0 only if no model was asked in this call."""
        answer = self.answer
        if usage is None:
            usage = (answer.usage if answer else Usage()) if self.ctx._call.attempts else no_usage()
        call, text = self.ctx._call, error.message or error.reason
        call.block_seen, call.refusals, self.refused = True, (*call.refusals, text), True
        return Response(
            text=text,
            finish_reason="content_filter",
            usage=usage,
            blocked=Block(self.layer.id, error.reason, error.category, dict(error.detail)),
            id=answer.id if answer else None,
            model=answer.model if answer else None,
            created=answer.created if answer else None,
        )

    def skip(self, error: BaseException, hook: str) -> None:
        """Count and log a failure that is passed over."""
        self.skipped += 1
        self.special |= MARKED
        self.layer.log_skipped(error, hook, self.ctx.provider, self.ctx.model)

    def skip_or_raise(self, error: BaseException, hook: str) -> None:
        """Take an own failure as the layer's ``on_error`` says."""
        if self.layer.on_error != "skip":
            self.fail(error, hook)
        self.skip(error, hook)

    def fail(self, error: BaseException, hook: str) -> NoReturn:
        """Raise an own failure with its type kept and a note that names the culprit."""
        self.blame(error, hook)
        raise error

    def blame(self, error: BaseException, hook: str) -> None:
        """Add the note that names middleware, hook and model, unless it is there already."""
        culprit = f"middleware '{self.layer.id}' failed in "
        if not any(known.startswith(culprit) for known in getattr(error, "__notes__", ())):
            note(error, f"{culprit}{hook} ({self.ctx.provider}/{self.ctx.model})")

    def wrong_type(self, hook: str, got: Any, wanted: str) -> MiddlewareError:
        what = "returned nothing" if got is None else f"returned {type(got).__name__}"
        return MiddlewareError(
            f"middleware '{self.layer.id}': {hook} {what}; it must return {wanted}",
            middleware=self.layer.id, hook=hook,
        )  # fmt: skip

    def restored(self) -> Response | None:
        """The last answer from inside, as it came, whatever a failed hook did to it since."""
        if self.kept is not None:
            self.seen = signature(self.kept)
        return self.kept

    # --- the end -------------------------------------------------------------------------------------------------

    def status_of(self, blocked: Block | None) -> int:
        """How a passage that an answer left ended."""
        if blocked is not None:
            return BLOCKED if self.refused or not self.calls else BLOCKED_INSIDE
        return COMPLETED if self.calls and not self.early else SHORT_CIRCUITED

    def note_answer(self, response: Response) -> None:
        """Note whether this answer is another than the one that came from inside."""
        if self.seen is not None and not unchanged(response, self.seen):
            self.changed |= CHANGED_ANSWER
            self.special |= MARKED

    def status_after(self, error: BaseException) -> int:
        """How a passage that this error left ended."""
        if not isinstance(error, Exception):
            return CANCELLED
        return INNER_ERROR if self.is_inside(error) else FAILED

    async def end(self, status: int, response: Response | None, error: BaseException | None = None) -> None:
        """Run `on_end`, once, and keep the record. Nothing that goes wrong in `on_end` reaches the caller."""
        if self.special & ENDED:
            return
        self.special |= ENDED
        hook = self.link.on_end
        if hook is None:
            self.close(clock(), status, error)
            return
        began, inner_s = clock(), self.inner_s
        try:
            total_s = began - self.started - self.away_s
            outcome = Outcome(STATUS_NAMES[status], response, error, total_s, None, self.parts)  # type: ignore[arg-type]
            if self.first_s:
                outcome.time_to_first_part = self.first_s - self.started
            limited = self.link.timeout_s is not None
            if limited:
                self.begin()
            result = hook(outcome, self.ctx)
            if result is not None and hasattr(result, "__await__"):
                await (self.within(result, "on_end") if limited else result)
            if limited:
                self.judge("on_end")
        except asyncio.CancelledError as failure:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self.skip(failure, "on_end")  # of something that the hook itself awaited
        except Exception as failure:  # noqa: BLE001  # the contract: an error in on_end never reaches the caller
            self.skip(failure, "on_end")
        finally:
            now = clock()
            if self.laps is not None:
                self.laps.append(("on_end", now - began - (self.inner_s - inner_s)))
            self.close(now, status, error)

    def close(self, now: float, status: int, error: BaseException | None = None) -> None:
        """Keep the record of this passage."""
        head, parts, held, extra = self.link.head, self.parts, self.held, None
        for hook, spent_s in self.laps or ():
            head.laps.setdefault(hook, []).append(spent_s)  # it is there but the first time: `setdefault` is atomic
        if status != COMPLETED or parts or held or self.changed or self.skipped:
            error_name = None if error is None else type(error).__name__
            extra = _new_tuple(Extra, (status, parts, held, self.skipped, self.changed, error_name))
        own = (self.stands_at(now) if self.special & TOLD or self.inner_at else now) - self.started - self.inner_s
        record = (head, max(0.0, own) + self.sampled_s, now - self.started - self.away_s, extra, now)
        self.ctx._executions.append(record)
        head.keep(record)


class Root(Passage):
    """The point outside of all layers, from which a call starts."""

    __slots__ = ()

    def __init__(self, link: Link, ctx: MiddlewareContext, params: Params) -> None:
        self.link, self.ctx, self.params, self.seen = link, ctx, params, None
        self.came = {}  # what the caller gives for a model is meant for it
        self.calls = self.special = 0
        self.started = self.inner_s = self.inner_at = 0.0

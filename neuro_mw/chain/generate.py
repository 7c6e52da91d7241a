"""The chain in generate mode: one node for each layer, and the model as the last one."""

from __future__ import annotations

from inspect import iscoroutinefunction
from time import perf_counter as clock
from typing import TYPE_CHECKING, Any

from ..stats import BLOCKED_INSIDE, CHANGED_REQUEST, COMPLETED, FOLD_AT, Extra
from ..types import Attempt, LanguageModel, Params, Response, Usage
from .answers import check_response, differ, fresh, signature
from .entry import check_params, open_step, own_copy, refuse_unseen, step_of, transform
from .link import Link
from .passage import Passage
from .steps import through
from .wrapping import collected, keeping, run_wrap_generate

if TYPE_CHECKING:
    from ..context import MiddlewareContext


_new = object.__new__
_PARAMS, _PARTS, _WRAP = "transform_params", "transform_parts", "wrap_generate"
_UNKNOWN = Usage()  # until the provider says
_OTHER_REQUEST = Extra(changed=CHANGED_REQUEST)  # the same for all who do no more than that


class GenerateNode:
    """A layer with hooks. `run` is the entry that its hooks need, chosen once."""

    __slots__ = ("head", "hooks", "link", "on_end", "parts", "records", "run", "several", "transform", "wrap")

    def __init__(self, link: Link) -> None:
        self.link, self.head, self.hooks = link, link.head, link.layer.hooks
        self.records, self.several = link.head.records, link.several
        hooks: Any = self.hooks
        self.transform, self.wrap, self.parts, self.on_end = (
            hooks.transform_params, hooks.wrap_generate, hooks.transform_parts, hooks.on_end,
        )  # fmt: skip
        only = link.head.hook
        raises = only == "on_end" or link.layer.on_error != "skip"
        knows = iscoroutinefunction(self.wrap) or (self.wrap is None and hooks.wrap_stream is None)
        if link.timeout_s is not None or not raises or not knows:
            self.run = self._run_guarded
        else:
            self.run = self._run_wrap if only == _WRAP else self._run_plain

    async def _run_wrap(self, params: Params, ctx: MiddlewareContext, parent: Passage) -> Response:
        """The common case, a wrap_generate and nothing else, at the price of one frame."""
        if parent.special:
            parent.entered()
        passage = _new(Passage)  # `Passage.begun`, without its frame
        passage.link, passage.ctx, passage.params = self.link, ctx, params
        passage.calls = passage.special = 0
        passage.inner_s = passage.inner_at = 0.0
        passage.seen = None
        passage.started = parent.inner_at = clock()
        try:
            response = await self.wrap(passage.do_generate, params, ctx)
            seen = passage.seen
            if (
                seen is None
                or passage.special
                or response is not seen[0]
                or response.text is not seen[1]
                or response.reasoning is not seen[2]
                or response.finish_reason is not seen[3]
                or response.tool_calls
                or response.blocked is not None
                or seen[5] is not None
                or response.provider_fields is not seen[7]
            ):
                return self._leave(passage, parent, response)
        except BaseException as error:  # noqa: BLE001  # every way out of a layer is accounted for
            return await self._after_error(passage, parent, error, _WRAP)
        now = clock()
        total = now - passage.started
        record = (self.head, total - passage.inner_s, total, None, now)
        ctx._executions.append(record)
        records = self.records
        records.append(record)
        if len(records) >= FOLD_AT:
            self.head.fold()
        parent.seen = seen
        if parent.special:
            parent.answered(passage.started, now)
        else:
            parent.inner_s += total
            parent.inner_at = 0.0
        return response

    def _leave(self, passage: Passage, parent: Passage, response: Response) -> Response:
        """An answer leaves that is not just the one that came."""
        if not isinstance(response, Response):
            raise passage.wrong_type(_WRAP, response, "a Response")
        response, seen, status = _settled(passage, response)
        now = clock()
        passage.close(now, status)
        parent.seen = seen
        parent.answered(passage.started, now)
        return response

    async def _run_plain(self, params: Params, ctx: MiddlewareContext, parent: Passage) -> Response:
        """Any hooks, where a failure is raised and no time is limited: without a frame of ours for each of them."""
        if parent.special:
            parent.entered()
        passage = _new(Passage)  # as above
        passage.link, passage.ctx, passage.params = self.link, ctx, params
        passage.calls = passage.special = 0
        passage.inner_s = passage.inner_at = 0.0
        passage.seen = step = None
        passage.started = parent.inner_at = clock()
        hook = ""  # whose failure it is
        try:
            if self.transform is not None:
                hook = _PARAMS
                made = self.transform(own_copy(params), ctx)
                if type(made) is not dict:
                    made = await made if hasattr(made, "__await__") else made
                    check_params(passage, made)
                if differ(made, params):
                    passage.changed, passage.came = CHANGED_REQUEST, params
                passage.params = params = made
                if self.several:
                    passage.lapped_s = spent = clock() - passage.started
                    passage.laps = [(hook, spent)]
            if self.parts is not None:
                hook = _PARTS
                step = step_of(passage, self.parts(params, ctx))
                if self.several:
                    passage.lap(hook)
            if self.wrap is not None:
                hook = _WRAP
                response = await self.wrap(passage.do_generate, params, ctx)
                if not isinstance(response, Response):
                    raise passage.wrong_type(hook, response, "a Response")
                if self.several:
                    passage.lap(hook)
            else:
                hook = ""
                response = await passage.do_generate(params)
            hook = ""
            if step is not None:
                response = self._through(passage, step, response)
            if self.wrap is None and step is None:  # no one has touched it
                seen, status = passage.seen, COMPLETED if response.blocked is None else BLOCKED_INSIDE
            else:
                response, seen, status = _settled(passage, response)
            if self.on_end is not None:
                shown = fresh(response)
                await passage.end(status, shown)
                response.metadata = shown.metadata  # all that on_end may set
                now = clock()
            else:
                now = clock()
                if self.several or status != COMPLETED or passage.special or step is not None:
                    passage.close(now, status)
                else:
                    total, extra = now - passage.started, _OTHER_REQUEST if passage.changed else None
                    record = (self.head, total - passage.inner_s, total, extra, now)
                    ctx._executions.append(record)
                    self.head.keep(record)
        except BaseException as error:  # noqa: BLE001  # every way out of a layer is accounted for
            return await self._after_error(passage, parent, error, hook)
        parent.seen = seen
        if parent.special:
            parent.answered(passage.started, now)
        else:
            parent.inner_s += now - passage.started
            parent.inner_at = 0.0
        return response

    async def _run_guarded(self, params: Params, ctx: MiddlewareContext, parent: Passage) -> Response:
        """Whatever there is: hooks for the other mode, a limit of time, failures to be skipped."""
        if parent.special:
            parent.entered()
        passage = Passage.begun(self.link, ctx, params, clock())
        parent.inner_at = passage.started
        try:
            return await self._out(passage, parent, await self._answer(passage))
        except BaseException as error:  # noqa: BLE001  # every way out of a layer is accounted for
            return await self._after_error(passage, parent, error, "")

    async def _out(self, passage: Passage, parent: Passage, response: Response) -> Response:
        """The answer leaves, past `on_end`."""
        response, seen, status = _settled(passage, response)
        shown = response if self.on_end is None else fresh(response)
        await passage.end(status, shown)
        response.metadata = shown.metadata  # all that on_end may set
        parent.seen = seen
        parent.answered(passage.started, clock())
        return response

    async def _after_error(self, passage: Passage, parent: Passage, error: BaseException, hook: str) -> Response:
        """A refusal takes the answer's place; any other error leaves, with a note where this hook raised it."""
        try:
            if hook and self.several:
                passage.lap(hook)
            refused = passage.own_block(error)
            if refused is not None:
                return await self._out(passage, parent, passage.refusal(refused))
            if hook and isinstance(error, Exception) and not passage.is_inside(error):
                passage.blame(error, hook)
            raise error
        except BaseException as final:
            await passage.end(passage.status_after(final), None, final)
            parent.raised(final)
            parent.left(passage.started, clock())
            raise

    async def _answer(self, passage: Passage) -> Response:
        hooks, step = self.hooks, None
        if hooks.transform_params is not None:
            await transform(passage)
        if hooks.transform_parts is not None:
            step = open_step(passage)
        if hooks.wrap_generate is not None:
            response = await run_wrap_generate(passage, keeping(passage, passage.do_generate))
        elif hooks.wrap_stream is not None:
            response = await collected(passage)
        else:
            response = await passage.do_generate(passage.params)
        if step is None or passage.refused:
            return response
        return self._through(passage, step, response)

    def _through(self, passage: Passage, step: Any, response: Response) -> Response:
        try:
            response = through(step, response)
            passage.early = step.early is not None
        except Exception as error:
            step.abort()
            if passage.own_block(error) is None:
                passage.fail(error, _PARTS)
            raise
        finally:
            if self.several:
                passage.lap(_PARTS)
        return response


def _settled(passage: Passage, response: Response) -> tuple[Response, Any, int]:
    """The answer that leaves, how it looks, and how the passage ended."""
    status = passage.status_of(response.blocked)
    if passage.seen is None or response is not passage.seen[0]:
        response = fresh(response)  # it may be an object that the hook keeps
    if not passage.refused:
        passage.note_answer(response)
    return response, signature(response), status


class ModelNode:
    """The end of the chain: the model itself. ``name`` is set where the call changed the model: then it is told."""

    __slots__ = ("model", "name")

    def __init__(self, model: LanguageModel, name: str | None = None) -> None:
        self.model, self.name = model, name

    async def run(self, params: Params, ctx: MiddlewareContext, parent: Passage) -> Response:
        if parent.special:
            parent.entered()
        call = ctx._call
        started = parent.inner_at = clock()
        attempt = Attempt(ctx.provider, ctx.model, None, None, None, False, _UNKNOWN, started)
        try:
            refuse_unseen(params, ctx.provider, ctx.model)
            if self.name is not None and params.get("model") is None:
                params = {**params, "model": self.name}  # a transform took it out again
            call.sent = attempt.sent = params
            ctx.made(attempt)
            response = fresh(check_response(await self.model.generate(params), ctx))
        except BaseException as error:
            now = clock()
            attempt.error, attempt.duration, attempt.ended = error, now - started, now
            parent.raised(error)
            parent.left(started, now)
            raise
        now = clock()
        attempt.duration, attempt.ended, attempt.committed, attempt.usage = now - started, now, True, response.usage
        parent.seen = signature(response)
        if parent.special:
            parent.answered(started, now)
        else:
            parent.inner_s += now - started
            parent.inner_at = 0.0
        return response

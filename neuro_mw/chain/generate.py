"""The chain in generate mode: one node for each layer, and the model as the last one."""

from __future__ import annotations

from inspect import iscoroutinefunction
from time import perf_counter as clock
from typing import TYPE_CHECKING, Any

from ..stats import FOLD_AT
from ..types import Attempt, LanguageModel, Params, Response, Usage
from .answers import check_response, fresh, signature
from .entry import open_step, refuse_unseen, transform
from .link import Link
from .passage import Passage
from .steps import through
from .wrapping import collected, keeping, recover, run_wrap_generate

if TYPE_CHECKING:
    from ..context import MiddlewareContext


_new = object.__new__
_WRAP = "wrap_generate"
_UNKNOWN = Usage()  # until the provider says


class GenerateNode:
    """A layer with hooks. `run` is the entry that its hooks need, chosen once."""

    __slots__ = ("head", "hooks", "link", "records", "run", "wrap")

    def __init__(self, link: Link) -> None:
        self.link, self.head, self.hooks = link, link.head, link.layer.hooks
        self.records = link.head.records
        self.wrap: Any = self.hooks.wrap_generate
        layer = link.layer
        plain = layer.timeout_s is None and layer.on_error != "skip" and iscoroutinefunction(self.wrap)
        only_wrap = link.head.hook == _WRAP and plain
        self.run = self._run_wrap if only_wrap else self._run_all

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
            return await self._after_error(passage, parent, error)
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

    async def _after_error(self, passage: Passage, parent: Passage, error: BaseException) -> Response:
        try:
            return self._leave(passage, parent, await recover(passage, error, passage.do_generate))
        except BaseException as final:
            now = clock()
            passage.close(now, passage.status_after(final), final)
            parent.raised(final)
            parent.left(passage.started, now)
            raise

    async def _run_all(self, params: Params, ctx: MiddlewareContext, parent: Passage) -> Response:
        if parent.special:
            parent.entered()
        passage = Passage.begun(self.link, ctx, params, clock())
        parent.inner_at = passage.started
        try:
            try:
                response = await self._answer(passage)
            except BaseException as error:
                refused = passage.own_block(error)
                if refused is None:
                    raise
                response = passage.refusal(refused)
            response, seen, status = _settled(passage, response)
            shown = response if self.hooks.on_end is None else fresh(response)
            await passage.end(status, shown)
            response.metadata = shown.metadata  # all that on_end may set
        except BaseException as error:
            await passage.end(passage.status_after(error), None, error)
            parent.raised(error)
            parent.left(passage.started, clock())
            raise
        parent.seen = seen
        parent.answered(passage.started, clock())
        return response

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
                passage.fail(error, "transform_parts")
            raise
        finally:
            if passage.several_hooks:
                passage.lap("transform_parts")
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
        attempt = Attempt(ctx.provider, ctx.model, None, None, None, False, _UNKNOWN)
        try:
            refuse_unseen(params, ctx.provider, ctx.model)
            if self.name is not None and params.get("model") is None:
                params = {**params, "model": self.name}  # a transform took it out again
            call.sent = params
            call.attempts.append(attempt)
            response = fresh(check_response(await self.model.generate(params), ctx))
        except BaseException as error:
            now = clock()
            attempt.error, attempt.duration = error, now - started
            parent.raised(error)
            parent.left(started, now)
            raise
        now = clock()
        attempt.duration, attempt.committed, attempt.usage = now - started, True, response.usage
        parent.seen = signature(response)
        if parent.special:
            parent.answered(started, now)
        else:
            parent.inner_s += now - started
            parent.inner_at = 0.0
        return response

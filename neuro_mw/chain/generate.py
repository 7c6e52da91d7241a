"""The chain in generate mode: one node for each layer, and the model as the last one."""

from __future__ import annotations

from time import perf_counter_ns as clock
from typing import TYPE_CHECKING, Any

from ..errors import ProviderError
from ..stats import FOLD_AT
from ..types import Attempt, LanguageModel, Params, Response, Usage
from .entry import open_step, refuse_choices, transform
from .passage import Link, Passage, signature, unchanged
from .steps import through
from .wrapping import collected, recover, run_wrap_generate

if TYPE_CHECKING:
    from ..context import MiddlewareContext
    from ..layer import Layer


_new = object.__new__
_WRAP = "wrap_generate"
_UNKNOWN = Usage()  # until the provider says


class GenerateNode:
    """A layer with hooks. `run` is the entry that its hooks need, chosen once."""

    __slots__ = ("buffer", "hooks", "id", "layer", "link", "run", "wrap")

    def __init__(self, layer: Layer, link: Link) -> None:
        self.layer, self.link, self.hooks = layer, link, layer.hooks
        self.id, self.buffer = layer.id, layer.stats.buffer
        self.wrap: Any = layer.hooks.wrap_generate
        only_wrap = link.only_hook == _WRAP and layer.timeout_s is None
        self.run = self._run_wrap if only_wrap else self._run_all

    async def _run_wrap(self, params: Params, ctx: MiddlewareContext, parent: Passage) -> Response:
        """The common case, a wrap_generate and nothing else, at the price of one frame."""
        now = clock()
        if parent.depth or parent.special:
            parent.pause(now)
        else:
            parent.self_ns += now - parent.mark
            parent.depth = 1
        passage = _new(Passage)  # `Passage.begun`, without its frame
        passage.layer, passage.link, passage.ctx, passage.params = self.layer, self.link, ctx, params
        passage.mark = passage.started = now
        passage.depth = passage.self_ns = passage.calls = 0
        passage.seen, passage.special = None, False
        try:
            response = await self.wrap(passage.do_generate, params, ctx)
            if type(response) is not Response and not isinstance(response, Response):
                raise passage.wrong_type(_WRAP, response, "a Response")
        except BaseException as error:  # noqa: BLE001  # every way out of a layer is accounted for
            try:
                response = await recover(passage, error, passage.do_generate)
            except BaseException as final:
                now = clock()
                passage.close(now, passage.status_after(final), final)
                parent.raised(final)
                parent.resume(now)
                raise
        seen = passage.seen
        if (
            seen is not None
            and response is seen[0]
            and response.text is seen[1]
            and response.reasoning is seen[2]
            and response.finish_reason is seen[3]
            and not response.tool_calls
            and response.blocked is None
            and not passage.special
            and not passage.depth
        ):
            now = clock()
            record = (self.id, 0, passage.self_ns + now - passage.mark, now - passage.started, ctx.model, _WRAP, None)
            buffer = self.buffer
            buffer.append(record)
            if len(buffer) >= FOLD_AT:
                self.layer.stats.fold()
            ctx._executions.append(record)
        else:
            response, seen, status = _settled(passage, response)
            now = clock()
            passage.close(now, status)
        parent.seen = seen
        if parent.special or parent.depth != 1:
            parent.inside_failed = False
            parent.resume(now)
        else:
            parent.depth, parent.mark = 0, now
        return response

    async def _run_all(self, params: Params, ctx: MiddlewareContext, parent: Passage) -> Response:
        now = clock()
        parent.pause(now)
        passage = Passage.begun(self.layer, self.link, ctx, params, now)
        try:
            try:
                response = await self._answer(passage)
            except BaseException as error:
                if not passage.is_own_block(error):
                    raise
                response = passage.refusal(error)  # type: ignore[arg-type]  # it is a Blocked
            response, seen, status = _settled(passage, response)
            await passage.end(status, response)
        except BaseException as error:
            await passage.end(passage.status_after(error), None, error)
            parent.raised(error)
            parent.resume(clock())
            raise
        parent.came(seen)
        parent.resume(clock())
        return response

    async def _answer(self, passage: Passage) -> Response:
        hooks, step = self.hooks, None
        if hooks.transform_params is not None:
            await transform(passage)
        if hooks.transform_parts is not None:
            step = open_step(passage)
        if hooks.wrap_generate is not None:
            response = await run_wrap_generate(passage, passage.do_generate)
        elif hooks.wrap_stream is not None:
            response = await collected(passage)
        else:
            response = await passage.do_generate(passage.params)
        if step is None or passage.own_block:
            return response
        return self._through(passage, step, response)

    def _through(self, passage: Passage, step: Any, response: Response) -> Response:
        try:
            response = through(step, response)
            passage.early = step.early is not None
        except Exception as error:
            step.abort()
            if not passage.is_own_block(error):
                passage.fail(error, "transform_parts")
            raise
        finally:
            if passage.link.only_hook is None:
                passage.lap("transform_parts")
        return response


def _settled(passage: Passage, response: Response) -> tuple[Response, Any, int]:
    """The answer that leaves, how it looks, and how the passage ended."""
    status = passage.status_of(response.blocked)
    if not passage.calls:
        response = fresh(response)
    if not passage.own_block:
        passage.note_answer(response)
    return response, signature(response), status


class ModelNode:
    """The end of the chain: the model itself."""

    __slots__ = ("model",)

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    async def run(self, params: Params, ctx: MiddlewareContext, parent: Passage) -> Response:
        now = clock()
        parent.pause(now)
        call = ctx._call
        attempt = Attempt(ctx.provider, ctx.model, None, None, None, False, _UNKNOWN)
        try:
            refuse_choices(params, ctx.provider, ctx.model)
            call.sent = params
            call.attempts.append(attempt)
            response = fresh(check_response(await self.model.generate(params), ctx))
        except BaseException as error:
            after = clock()
            attempt.error, attempt.duration = error, (after - now) / 1e9
            parent.raised(error)
            parent.resume(after)
            raise
        after = clock()
        attempt.duration, attempt.committed, attempt.usage = (after - now) / 1e9, True, response.usage
        parent.seen = signature(response)
        if parent.special or parent.depth != 1:
            parent.inside_failed = False
            parent.resume(after)
        else:
            parent.depth, parent.mark = 0, after
        return response


def check_response(response: Any, ctx: MiddlewareContext) -> Response:
    """Raise ProviderError where a model gives no Response."""
    if not isinstance(response, Response):
        what = type(response).__name__
        raise ProviderError(
            f"{ctx.provider}/{ctx.model}: generate() gave {what}, not a neuro_mw.Response",
            provider=ctx.provider, model=ctx.model,
        )  # fmt: skip
    return response


def fresh(response: Response) -> Response:
    """A copy whose own fields may be set: a model or a hook may hand out the same object to several calls."""
    copy = _new(Response)
    copy.text, copy.reasoning, copy.finish_reason = response.text, response.reasoning, response.finish_reason
    copy.tool_calls, copy.usage = list(response.tool_calls), response.usage
    copy.id, copy.model, copy.created = response.id, response.model, response.created
    copy.blocked, copy.metadata = response.blocked, dict(response.metadata)
    copy.provider_fields, copy.other_parts, copy.receipt = response.provider_fields, response.other_parts, None
    return copy

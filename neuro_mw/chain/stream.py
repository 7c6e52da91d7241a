"""The chain in stream mode: segments of layers whose steps run fused in one loop, split where a layer wraps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import perf_counter as clock
from typing import TYPE_CHECKING, Any

from ..errors import RequestBlocked, set_partial
from ..parts import Collector
from ..receipt import Receipt
from ..types import Finish, LanguageModel, Part, ReasoningDelta, Response, TextDelta
from .entry import refuse_unseen
from .failing import settle
from .flow import Flow
from .link import Inner, Link
from .passage import Passage, Root

if TYPE_CHECKING:
    from ..context import MiddlewareContext
    from ..types import Params
    from .compile import Chain

_SAMPLE_MASK = 63  # the time of fused steps is taken for one part in 64


class Segment:
    """Neighbouring layers of which at most the innermost wraps; then its hook is the source, else the model."""

    __slots__ = ("links", "model", "model_name", "wrapping")

    def __init__(self, links: list[Link], model: LanguageModel, name: str | None, *, wraps: bool) -> None:
        self.links, self.model, self.model_name = links, model, name
        self.wrapping = links[-1] if wraps else None

    async def drive(
        self, params: Params, ctx: MiddlewareContext, parent: Passage, inner: Inner | None = None
    ) -> AsyncIterator[Part]:
        """The parts that leave this segment. ``parent`` is who pulls: its clock stands still meanwhile.

        ``inner`` keeps what a wrapping hook further out pulls.
        """
        flow = Flow(self, ctx, parent)
        if inner is not None:
            inner.task = asyncio.current_task()
        count, plain = 0, parent.begin_pull(now := clock())
        running = True  # it is our turn, not the consumer's
        leaving: Any
        try:
            while True:
                try:
                    if not flow.opened:
                        await flow.open(params)
                    pull, stepping, taps, wrap = flow.pull, flow.stepping, flow.taps, flow.wrap
                    while flow.finish is None:
                        if wrap is None:
                            part = await pull()
                        else:
                            flow.unpark(clock() if stepping else now)
                            part = await pull()
                            flow.parked_at = clock()
                        kind = type(part)
                        if kind is Finish:
                            await flow.finished(part)
                            break
                        count += 1
                        if (kind is TextDelta or kind is ReasoningDelta) and count & _SAMPLE_MASK and not flow.waiting:
                            text = part.text
                            for lane in stepping:
                                try:
                                    out = lane.step.feed(part)
                                except BaseException:
                                    flow.at = lane
                                    raise
                                if out is not part or part.text is not text:
                                    leaving = flow.diverge(lane, part, text, out)
                                    break
                            else:
                                for tap in taps:
                                    tap(part)
                                if wrap is not None:
                                    came = wrap.inners[-1].pulled if wrap.inners else None
                                    if came and came[0] is part and len(came) == 1 and flow.wrap_difference is None:
                                        came.clear()
                                    else:
                                        flow.compare_wrap(part)
                                flow.fast += 1
                                leaving = (part,)
                        else:
                            leaving = flow.careful(part)
                        for part in leaving:
                            if inner is not None:
                                inner.pulled.append(part)
                                inner.let_in.add(part)
                            left = clock()
                            if plain and not parent.special:
                                parent.inner_s += left - now
                                parent.inner_at = 0.0
                            else:
                                parent.end_pull(now, left, plain)
                            running = False
                            yield part
                            running = True
                            now = clock()
                            plain = (parent.calls == 1 and not parent.special) or parent.begin_pull(now)
                            flow.away_s += now - left
                        if flow.early is not None:
                            await flow.end_early()
                    while (leaving := await flow.tail()) is not None:
                        for part in leaving:
                            if inner is not None:
                                inner.pulled.append(part)
                                inner.let_in.add(part)
                            parent.end_pull(now, left := clock(), plain)
                            running = False
                            yield part
                            running = True
                            plain = parent.begin_pull(now := clock())
                            flow.away_s += now - left
                    return
                except Exception as error:  # noqa: BLE001  # every way out is accounted for
                    await settle(flow, error)
        except BaseException as error:
            if not isinstance(error, GeneratorExit):
                parent.raised(error)
                if inner is not None and isinstance(error, Exception):
                    set_partial(error, inner.let_in.response())
            raise
        finally:
            if not running:  # the consumer left while it held the stream; it waits for the closing as for a part
                plain = parent.begin_pull(now := clock())
                flow.away_s += now - left
            try:
                await flow.leave()
            finally:
                parent.end_pull(now, clock(), plain)


class Delivery:
    """What the consumer of a stream can read when it has ended."""

    __slots__ = ("collector", "over", "response", "shown")

    def __init__(self) -> None:
        self.collector = self.shown = Collector()  # `shown`: what the consumer was given
        self.over = ""  # what became of the stream, once nothing more can come
        self.response: Response | None = None

    @property
    def text(self) -> str:
        """The text that the consumer was given."""
        return "".join(self.shown._text)


async def deliver(
    chain: Chain, params: Params, ctx: MiddlewareContext, delivery: Delivery, *, raise_blocks: bool
) -> AsyncIterator[Part]:
    """The outermost point: collects what leaves, attaches the receipt, turns a block into RequestBlocked if asked."""
    collector, call = delivery.collector, ctx._call
    shown = delivery.shown = Collector() if raise_blocks else collector
    withheld: list[Part] = []
    source: Any = None
    over = "was closed"
    try:
        refuse_unseen(params, ctx.provider, ctx.model)
        if "stream" in params:  # the caller said it by calling; among layers, False asks for `generate` (ModelStream)
            params = {key: value for key, value in params.items() if key != "stream"}
        await chain.start()
        call.router, call.params, call.chain, ctx._chain = chain.router, params, chain, chain
        root = Root(chain.link, ctx, params)
        params, target, link = root.inward(params)
        source = link.stream(params, target, root, None)
        async for part in source:
            collector.add(part)
            if type(part) is Finish:
                response = collector.response()
                response.receipt = Receipt(call, chain, "stream")
                if raise_blocks and part.blocked is not None:
                    raise RequestBlocked(response)
                delivery.response = response
            if not raise_blocks:
                yield part
                continue
            withheld.append(part)
            if call.block_seen and not _has_content(shown) and type(part) is not Finish:
                continue  # what comes may be a refusal's text, which is not to be shown
            while withheld:
                shown.add(withheld[0])
                yield withheld.pop(0)
        over = "was already consumed"
    except Exception as error:
        over = "has failed"
        set_partial(error, shown.response())
        raise
    finally:
        delivery.over = over
        if source is not None:
            await source.aclose()


def _has_content(collector: Collector) -> bool:
    response = collector.response()
    return bool(response.text or response.reasoning or response.tool_calls or response.other_parts)

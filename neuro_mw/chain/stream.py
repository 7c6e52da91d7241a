"""The chain in stream mode: segments of layers whose steps run fused in one loop, split where a layer wraps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import perf_counter as clock
from typing import TYPE_CHECKING, Any

from ..errors import RequestBlocked
from ..parts import Collector
from ..receipt import Receipt
from ..types import Finish, LanguageModel, Part, ReasoningDelta, Response, TextDelta
from .entry import refuse_choices
from .failing import settle
from .flow import Flow
from .lane import NOT_CONTENT
from .link import Link
from .passage import Inner, Passage, Root

if TYPE_CHECKING:
    from ..context import MiddlewareContext
    from ..types import Params
    from .compile import Chain

_SAMPLE_MASK = 63  # the time of fused steps is taken for one part in 64


class Segment:
    """Neighbouring layers of which at most the innermost wraps; then its hook is the source, else the model."""

    __slots__ = ("links", "model", "wrapping")

    def __init__(self, links: list[Link], model: LanguageModel, *, wraps: bool) -> None:
        self.links, self.model = links, model
        self.wrapping = links[-1] if wraps else None

    async def drive(
        self, params: Params, ctx: MiddlewareContext, parent: Passage, inner: Inner | None = None
    ) -> AsyncIterator[Part]:
        """The parts that leave this segment. ``parent`` is who pulls: its clock stands still meanwhile.

        ``inner`` keeps what a wrapping hook further out pulls.
        """
        flow = Flow(self, ctx, parent)
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
                            if plain:
                                parent.inner_s += left - now
                            else:
                                parent.resume(left)
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
                    error.partial = inner.let_in.response()  # type: ignore[attr-defined]  # as below
            raise
        finally:
            await flow.leave()
            if running:
                parent.end_pull(now, clock(), plain)


class Delivery:
    """What the consumer of a stream can read when it has ended."""

    __slots__ = ("collector", "over", "response")

    def __init__(self) -> None:
        self.collector = Collector()
        self.over = ""  # what became of the stream, once nothing more can come
        self.response: Response | None = None


async def deliver(
    chain: Chain, params: Params, ctx: MiddlewareContext, delivery: Delivery, *, raise_blocks: bool
) -> AsyncIterator[Part]:
    """The outermost point: collects what leaves, attaches the receipt, turns a block into RequestBlocked if asked."""
    collector, call = delivery.collector, ctx._call
    withheld: list[Part] | None = [] if raise_blocks else None
    delivered, over = False, "was closed"
    root = Root(chain.link, ctx, params)
    refuse_choices(params, ctx.provider, ctx.model)
    if chain.needs_start:
        await chain.start()
    params, target, link = root.inward(params)
    source = link.stream(params, target, root, None)
    try:
        async for part in source:
            collector.add(part)
            if type(part) is Finish:
                delivery.response = response = collector.response()
                response.receipt = Receipt(call, chain, "stream")
                if raise_blocks and part.blocked is not None:
                    raise RequestBlocked(response)
            if withheld is not None and not delivered and call.block_seen:
                withheld.append(part)  # what comes may be a refusal's text, which is not to be shown
                if type(part) is not Finish:
                    continue
                for kept in withheld:
                    yield kept
                continue
            delivered = delivered or type(part) not in NOT_CONTENT
            yield part
        over = "was already consumed"
    except Exception as error:
        over = "has failed"
        error.partial = collector.response()  # type: ignore[attr-defined]  # NeuroErrors declare it; others may have it
        raise
    finally:
        delivery.over = over
        await source.aclose()  # type: ignore[attr-defined]  # an async generator

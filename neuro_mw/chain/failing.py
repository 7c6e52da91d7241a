"""When a stream goes wrong: who is to blame, what a refusal becomes, and who is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import Blocked, ProviderError, StreamInterrupted
from ..parts import parts_of
from ..stats import BLOCKED, FAILED, INNER_ERROR
from ..types import Finish, ResponseInfo, Usage
from .answers import signature
from .wrapping import ended_without_finish

if TYPE_CHECKING:
    from .flow import Flow
    from .lane import Lane


async def settle(flow: Flow, error: Exception) -> None:
    """Let a refusal take the answer's place, or end every lane and raise."""
    error, lane, own = _culprit(flow, error)
    await flow.close_source(error)
    await flow.cancel(flow.lanes[: lane.index] if lane is not None else [])
    refused = lane.passage.own_block(error) if lane is not None and own else None
    if lane is not None and refused is not None:
        await _block(flow, lane, refused)
        return
    if lane is not None and own:
        lane.passage.blame(error, "transform_parts" if flow.at is not None else _hook_at_work(flow))
    outward = flow.lanes[lane.index :] if lane is not None else flow.lanes
    for outer in outward:
        outer.abort()
        status = FAILED if own and outer is lane else INNER_ERROR
        await flow.end(outer, status, outer.partial(), error)
    raise error


def no_part(flow: Flow, part: object) -> Exception:
    """The error for what came as a part and is none."""
    if flow.wrap is not None:
        return flow.wrap.wrong_type("wrap_stream (yielding)", part, "parts")
    provider, model = flow.ctx.provider, flow.ctx.model
    what = f"{provider}/{model}: stream() yielded {type(part).__name__}, which is no part"
    return ProviderError(what, provider=provider, model=model)


def _hook_at_work(flow: Flow) -> str:
    if not flow.entered:
        return "transform_params"
    return "wrap_generate" if flow.wrap is not None and flow.wrap.layer.hooks.wrap_stream is None else "wrap_stream"


def _culprit(flow: Flow, error: Exception) -> tuple[Exception, Lane | None, bool]:
    """The error to raise, the lane where it arose, and whether it is that layer's own."""
    if flow.at is not None:
        return error, flow.at, True
    if not flow.lanes:
        return _ended(flow, error), None, False
    if not flow.entered:
        return error, flow.lanes[0], True
    if flow.wrap is None:
        return _ended(flow, error), flow.lanes[0], False
    if isinstance(error, StopAsyncIteration):
        return ended_without_finish(flow.wrap), flow.lanes[0], True
    return error, flow.lanes[0], not flow.wrap.is_inside(error)


def _ended(flow: Flow, error: Exception) -> Exception:
    if isinstance(error, StopAsyncIteration):
        return StreamInterrupted(f"{flow.who()} ended without Finish")
    return error


async def _block(flow: Flow, lane: Lane, error: Blocked) -> None:
    """Nothing that was held here or inside leaves; outer layers see a normal end."""
    lane.abort()
    for index, one in enumerate(flow.lanes):
        one.index = index
    passage = lane.passage
    if passage.answer is None and passage.inners:
        passage.seen = signature(passage.inners[-1].let_in.response())
    if flow.finish is not None:
        usage: Usage | None = flow.finish.usage
    else:
        usage = None if passage.answer is not None or not flow.ctx._call.attempts else Usage()
    refusal = passage.refusal(error, usage)
    if flow.info is not None:
        refusal.id, refusal.model, refusal.created = flow.info.id, flow.info.model, flow.info.created
    *parts, finish = parts_of(refusal)
    assert isinstance(finish, Finish)
    if passage.first_s:
        parts = []
    elif passage.parts:  # the ResponseInfo has left already
        parts = [part for part in parts if not isinstance(part, ResponseInfo)]
    lane.left(parts)
    flow.finish = finish
    await flow.end_lane(lane, BLOCKED)
    flow.level, flow.let_go_done, flow.pending, flow.at, flow.early = lane.index + 1, False, parts, None, None

"""The state of one stream through one segment: the lanes of its layers, what lies inside, and how it ends."""

from __future__ import annotations

from time import perf_counter as clock
from typing import TYPE_CHECKING, Any

from ..errors import StreamError
from ..stats import CANCELLED, CHANGED_ANSWER, SHORT_CIRCUITED
from ..types import Finish, Part, Response, ResponseInfo, Usage
from .difference import Difference, passed_on
from .entry import open_step, transform
from .failing import no_part
from .lane import NOT_CONTENT, Lane
from .model_stream import ModelStream
from .passage import Passage, Root
from .wrapping import check_part, close, close_streams, wrapped_parts

if TYPE_CHECKING:
    from ..context import MiddlewareContext
    from ..types import Params
    from .stream import Segment


class Flow:
    """One stream through one segment. ``lanes`` run from the innermost to the outermost layer that was entered."""

    def __init__(self, segment: Segment, ctx: MiddlewareContext, parent: Passage) -> None:
        self.segment, self.ctx, self.parent = segment, ctx, parent
        self.lanes: list[Lane] = []
        self.stepping: list[Lane] = []
        self.taps: list[Any] = []
        self.source: Any = None
        self.pull: Any = None
        self.wrap: Passage | None = None  # the innermost layer's passage, if it wraps: its hook is the source
        self.wrap_difference: Difference | None = None  # what it let go against what it pulled
        self.attempt: ModelStream | None = None  # the source, where it is the model
        self.info: ResponseInfo | None = None  # as it came from the source
        self.parked_at = 0.0  # since when the wrapping hook waits for its turn
        self.away_s = 0.0  # the time in which the consumer held the stream
        self.opened = self.entered = False
        self.waiting = True  # some lane has not let go its first delta
        self.fast = self.diverged = 0  # parts that passed all lanes as they were, and that did not
        self.at: Lane | None = None  # whose step is at work
        self.early: Lane | None = None  # whose step ended the answer
        self.finish: Finish | None = None
        self.finish_sent = self.let_go_done = False
        self.level = 0  # the lane that Finish comes to next
        self.pending: list[Part] = []  # on their way to the lane at `level`

    # --- in ------------------------------------------------------------------------------------------------------

    async def open(self, params: Params) -> None:
        """Enter the layers, outermost first, and open what the parts come from."""
        self.opened = True
        ctx, segment, redirected = self.ctx, self.segment, None
        for link in segment.links:
            layer = link.layer
            passage = Passage.begun(link, ctx, params, clock())
            lane = Lane(passage, self)
            self.lanes.insert(0, lane)
            if layer.hooks.transform_params is not None:
                await transform(passage)
                params = passage.params
            if layer.hooks.transform_parts is not None:
                lane.step = open_step(passage)
            if link is segment.wrapping:
                self.wrap = passage
                continue
            passage.calls = 1
            passage.pause(clock())
            model = params.get("model")
            if model is not None and model != ctx.model:
                params, target, goal = link.chain.router.redirect(model, params, ctx, link, passage.came or params)
                if goal is not link:
                    redirected = goal.stream(params, target, Root(goal, target, params), None)
                    break
        self.entered = True
        for index, lane in enumerate(self.lanes):
            lane.index = index
        self.stepping = [lane for lane in self.lanes if lane.step is not None]
        self.taps = [lane.tap.add for lane in self.lanes if lane.tap is not None]
        self.source = redirected or self._open_source(params)
        self.pull = self.source.__anext__

    def _open_source(self, params: Params) -> Any:
        if self.wrap is not None:
            return wrapped_parts(self.wrap)
        self.attempt = ModelStream(self.segment.model, params, self.ctx, self.segment.model_name)
        return self.attempt.parts

    # --- through -------------------------------------------------------------------------------------------------

    def careful(self, part: Part) -> list[Part]:
        """One part through all lanes with everything looked at, and the steps' time taken."""
        if not hasattr(part, "type"):
            raise no_part(self, part)
        if type(part) is ResponseInfo:
            self.info = part
        if self.wrap is not None:
            self.compare_wrap(part)
        elif self.attempt is not None and type(part) not in NOT_CONTENT:
            self.attempt.began(self.away_s)
        leaving = self.push([part], 0, timed=True)
        self.waiting = any(not lane.passage.first_s for lane in self.lanes)
        return leaving

    def push(self, parts: list[Part], start: int, *, timed: bool = False) -> list[Part]:
        """Parts through the lanes from `start` outward; what leaves the segment."""
        for lane in self.lanes[start:]:
            if not parts:
                break
            step = lane.step
            if step is not None:
                self.at, came, parts = lane, parts, []
                before = clock()
                for part in came:
                    parts += step.take(part)
                    if step.early is not None:
                        self.early = lane
                        break
                if timed:
                    step.sampled_s += clock() - before
                    step.samples += 1
                self.at = None
            lane.left(parts)
        return parts

    def diverge(self, lane: Lane, part: Part, text: str | None, out: Any) -> list[Part]:
        """The fast path came to a step that did not just pass the part on: take the careful way from there."""
        self.diverged += 1
        if self.wrap is not None:
            self.compare_wrap(part)
        for inner in self.lanes[: lane.index]:
            inner.left((part,))
        self.at = lane
        leaving: list[Part] = lane.step.took(part, text, out)
        self.at = None
        lane.left(leaving)
        if lane.step.early is not None:
            self.early = lane
        return self.push(leaving, lane.index + 1)

    def compare_wrap(self, part: Part) -> None:
        """Note whether a wrapping hook passes on what it pulled."""
        assert self.wrap is not None
        difference = passed_on(self.wrap.inners or (), part, self.wrap_difference)
        if difference is not None and not difference.at_end():  # all that was held has left as it came
            self.wrap.held, difference = max(self.wrap.held, difference.held_max), None
        self.wrap_difference = difference

    # --- out -----------------------------------------------------------------------------------------------------

    async def finished(self, finish: Finish) -> None:
        """The source gave its Finish: let it run to its end, then the Finish may start outward."""
        wrap = self.wrap
        self.unpark(clock())
        if self.attempt is not None:
            self.attempt.finished(finish, self.away_s)
        try:
            extra = await self.pull()
        except StopAsyncIteration:
            pass
        else:
            if wrap is not None:
                check_part(wrap, extra, finish)
            raise StreamError(f"{self.who()} gave {type(extra).__name__} after Finish")
        self.parked_at = clock()
        await self.close_source()
        if wrap is not None and wrap.inners:
            came = wrap.inners[-1].let_in.finish
            if came is not None and (came.reason, came.blocked) != (finish.reason, finish.blocked):
                wrap.changed |= CHANGED_ANSWER
        self.finish = Finish(finish.reason, finish.usage + Usage(), finish.blocked, dict(finish.metadata))

    def who(self) -> str:
        """Who is the source."""
        model = f"{self.ctx.provider}/{self.ctx.model}: the stream"
        return model if self.wrap is None else f"middleware '{self.wrap.layer.id}': wrap_stream"

    async def tail(self) -> list[Part] | None:
        """The next parts on the way of Finish outward, the last of them Finish itself; then None."""
        assert self.finish is not None
        while True:
            if self.early is not None:
                await self.end_early()
            if self.pending:
                pending, self.pending = self.pending, []
                leaving = self.push(pending, self.level)
                if leaving:
                    return leaving
            elif self.level == len(self.lanes):
                if self.finish_sent:
                    return None
                self.finish_sent = True
                return [self.finish]
            elif not self.let_go_done:
                self.let_go_done = True
                leaving = self._let_go(self.lanes[self.level])
                if leaving:
                    return leaving
            else:
                await self.end_lane(self.lanes[self.level])
                self.level, self.let_go_done = self.level + 1, False

    def _let_go(self, lane: Lane) -> list[Part]:
        if lane.step is None:
            return []
        assert self.finish is not None
        self.at, before = lane, clock()
        leaving, self.finish = lane.step.let_go(self.finish)
        lane.passage.sampled_s += clock() - before
        self.at = None
        lane.left(leaving)
        return self.push(leaving, lane.index + 1)

    async def end_lane(self, lane: Lane, status: int | None = None) -> None:
        """The answer leaves a lane: its `on_end` may still set metadata."""
        finish, passage = self.finish, lane.passage
        assert finish is not None
        lane.left((finish,))
        response = lane.tap.response() if lane.tap is not None else None
        await self.end(lane, passage.status_of(finish.blocked) if status is None else status, response)
        if response is not None:
            finish.metadata = response.metadata

    def unpark(self, now: float) -> None:
        """It is the wrapping hook's turn: what passed since it gave its last part is not its own time."""
        if self.parked_at and self.wrap is not None:
            self.wrap.inner_s += now - self.parked_at
            self.parked_at = 0.0

    async def end(self, lane: Lane, status: int, response: Response | None, error: Exception | None = None) -> None:
        """Book what the flow knows of a lane, and end its passage."""
        passage = lane.passage
        if passage.ended:
            return
        if lane.step is not None:
            lane.step.account(self.fast + self.diverged + lane.step.samples)
            lane.step.compare()
        if passage.depth:
            passage.resume(clock())
        if passage is self.wrap:
            self.unpark(clock())
            if passage.link.several:
                passage.lap("wrap_stream" if passage.layer.hooks.wrap_stream is not None else "wrap_generate")
            if status != CANCELLED:
                self.wrap_difference = passed_on(passage.inners or (), None, self.wrap_difference)
            if self.wrap_difference is not None:
                passage.held = max(passage.held, self.wrap_difference.held_max)
                if status != CANCELLED and self.wrap_difference.at_end():
                    passage.changed |= CHANGED_ANSWER
        passage.parts += self.fast
        passage.away_s = self.away_s
        await passage.end(status, response, error)

    async def end_early(self) -> None:
        """A step returned Finish before the source did: inner lanes are left, the answer ends with this one."""
        lane, self.early = self.early, None
        assert lane is not None
        await self.close_source()
        await self.cancel(self.lanes[: lane.index])
        early = lane.step.early
        self.finish = Finish(early.reason, early.usage, early.blocked, dict(early.metadata))
        await self.end_lane(lane, SHORT_CIRCUITED)
        self.level, self.let_go_done, self.pending = lane.index + 1, False, []

    # --- closing -------------------------------------------------------------------------------------------------

    async def cancel(self, lanes: list[Lane]) -> None:
        for index, lane in enumerate(lanes):
            if not lane.passage.ended:
                lane.abort()
                try:
                    await self.end(lane, CANCELLED, lane.partial())
                except BaseException:  # the caller's cancellation: those further out are told all the same
                    await self.cancel(lanes[index + 1 :])
                    raise

    async def leave(self) -> None:
        """The end of the stream, however it came: whatever is open is closed, whoever is waiting is told."""
        try:
            await self.close_source()
        finally:
            await self.cancel(self.lanes)

    async def close_source(self, error: BaseException | None = None) -> None:
        """Close what the parts come from, and then every inner stream that a hook left open."""
        source, self.source = self.source, None
        if self.attempt is not None and source is not None:
            self.attempt.closed(error, self.away_s)
        if source is not None and hasattr(source, "aclose"):
            if self.lanes:
                await close(self.lanes[0].passage, source)
            else:
                await source.aclose()
        if self.wrap is not None:
            await close_streams(self.wrap)

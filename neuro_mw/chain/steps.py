"""A `transform_parts` step at work: what it returns is checked, its failure is taken as declared, its time sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter as clock
from typing import TYPE_CHECKING, Any

from ..errors import Blocked
from ..parts import Collector, parts_of
from ..stats import CHANGED_ANSWER
from ..types import Finish, Part, Response
from .difference import Difference

if TYPE_CHECKING:
    from .passage import Passage

_HOOK = "transform_parts"


def _pass(part: Part) -> Part:
    return part


class Step:
    """One step of one passage. ``feed`` is called bare in the fast path; its result goes to `took`."""

    __slots__ = ("abort_hook", "difference", "early", "feed", "finish_hook", "held_hook", "may_hold", "passage", "raw",
                 "sampled_s", "samples")  # fmt: skip

    def __init__(self, passage: Passage, made: Any) -> None:
        self.passage = passage
        is_step = hasattr(made, "feed")
        self.raw: Callable[[Part], Any] = made.feed if is_step else made
        self.finish_hook = getattr(made, "finish", None) if is_step else None
        self.abort_hook = getattr(made, "abort", None) if is_step else None
        self.held_hook = getattr(made, "held", None) if is_step else None
        self.may_hold = False  # it has no `held`, and was seen to keep or change something
        self.early: Finish | None = None
        self.difference: Difference | None = None
        self.sampled_s, self.samples = 0.0, 0
        self.feed = self.raw
        if passage.layer.timeout_s is not None:
            self.feed = self._timed
        if passage.layer.on_error == "skip":
            self.feed = self._guarded

    # --- feeding -------------------------------------------------------------------------------------------------

    def take(self, part: Part) -> list[Part]:
        """What leaves this layer for one part that comes."""
        text = getattr(part, "text", None)
        return self.took(part, text, self.feed(part))

    def took(self, part: Part, text: str | None, out: Any) -> list[Part]:
        """What leaves, from what `feed` returned; `text` is the part's text as it came."""
        if out is part:
            leaving = [part]
            if text is not None and part.text != text:
                self.passage.changed |= CHANGED_ANSWER  # changed in place
                return leaving
        elif out is None:
            leaving = []
        else:
            leaving = [out] if hasattr(out, "type") else self._listed(out)
        if type(part) is not Finish:
            leaving = self._until_finish(leaving)
        if out is not part or self.difference is not None:
            self.note([part], leaving)
        return leaving

    def note(self, came: list[Part], left: list[Part]) -> None:
        """Compare what came with what left."""
        if self.difference is None:
            self.difference = Difference()
        self.difference.note(came, left)

    def _until_finish(self, leaving: list[Part]) -> list[Part]:
        for index, part in enumerate(leaving):
            if isinstance(part, Finish):
                self.early = part
                return [*self.drained(), *leaving[:index]]
        return leaving

    def _listed(self, out: Any) -> list[Part]:
        if not isinstance(out, Iterable):
            if hasattr(out, "close"):
                out.close()  # a coroutine: it will never be awaited
            raise self.passage.wrong_type(f"{_HOOK} step", out, "a part, parts or None")
        parts = list(out)
        for part in parts:
            if not hasattr(part, "type"):
                raise self.passage.wrong_type(f"{_HOOK} step", part, "a part, parts or None")
        return parts

    # --- the end of the answer -----------------------------------------------------------------------------------

    def drained(self) -> list[Part]:
        """What it held, let go."""
        if self.finish_hook is None:
            return []
        held, before = self._held_now(), clock()
        try:
            parts = self._listed(self.finish_hook() or ())
            if any(isinstance(part, Finish) for part in parts):
                raise self.passage.wrong_type(f"{_HOOK} step's finish()", Finish("stop"), "parts before Finish")
            self._judge(before)
        except Blocked:
            raise
        except Exception as error:  # whatever it is, on_error decides
            if self.passage.layer.on_error != "skip":
                raise
            return self._step_aside(error, held)
        return parts

    def let_go(self, finish: Finish) -> tuple[list[Part], Finish]:
        """What leaves before Finish, and the Finish. A step may replace Finish, never drop it."""
        leaving = self.drained()
        if leaving:
            self.note([], leaving)
        out = self.took(finish, None, self.feed(finish))
        for part in out:
            if isinstance(part, Finish):
                if part is not finish and (part.reason, part.blocked) != (finish.reason, finish.blocked):
                    self.passage.changed |= CHANGED_ANSWER
                finish = part
            else:
                leaving.append(part)
        return leaving, finish

    def abort(self) -> None:
        """The call failed or was cancelled: let the step drop what it held."""
        if self.abort_hook is not None:
            try:
                self.abort_hook()
            except Exception as error:  # noqa: BLE001  # it must not hide why the call ended
                self.passage.skip(error, f"{_HOOK} abort")

    def account(self, fed: int) -> None:
        """Add the sampled time, scaled to `fed` parts, to the passage."""
        passage = self.passage
        if self.samples:
            spent = self.sampled_s * max(fed, self.samples) / self.samples
            passage.sampled_s += spent
            if passage.laps is not None:
                passage.laps.append((_HOOK, spent))

    def compare(self) -> None:
        """Tell the passage what was seen: how much was held at most, whether the answer was changed."""
        passage = self.passage
        if self.difference is not None:
            passage.held = max(passage.held, self.difference.held_max)
            if self.difference.at_end():
                passage.changed |= CHANGED_ANSWER

    # --- declared failure ----------------------------------------------------------------------------------------

    def _timed(self, part: Part) -> Any:
        before = clock()
        out = self.raw(part)
        self._judge(before)
        return out

    def _judge(self, before: float) -> None:
        limit = self.passage.layer.timeout_s
        if limit is not None and clock() - before > limit:
            raise self.passage.too_slow(_HOOK)

    def _guarded(self, part: Part) -> Any:
        held = self._held_now()
        try:
            out = self.raw(part) if self.passage.layer.timeout_s is None else self._timed(part)
            if out is not part and out is not None and not hasattr(out, "type"):
                out = self._listed(out)
        except Blocked:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, on_error decides
            return self._step_aside(error, held, part)
        if self.finish_hook is not None and self.held_hook is None and size_of([part]) > size_of(out, part):
            self.may_hold = True
        return out

    def _held_now(self) -> list[Part]:
        """What it holds, asked before each part; one that keeps a list of parts and gives that pays for a copy only."""
        if self.held_hook is None or self.passage.layer.on_error != "skip":
            return []
        held = self.held_hook()
        return held.copy() if type(held) is list else self._listed(held)

    def _step_aside(self, error: Exception, held: list[Part], *part: Part) -> list[Part]:
        """Pass everything through from here on, after what was held; where that is unknown, fail."""
        if self.may_hold:
            raise error
        held = self._listed(held)
        self.passage.skip(error, _HOOK)
        self.abort()
        self.feed = _pass
        self.finish_hook = self.abort_hook = self.held_hook = None
        return [*held, *part]


def size_of(out: Any, given: Part | None = None) -> int:
    """How much of an answer parts carry: characters, and one for each part that is no text."""
    if out is given and given is not None:
        return size_of([given])
    if out is None:
        return 0
    parts = out if isinstance(out, list) else [out]
    return sum(len(getattr(part, "text", getattr(part, "arguments", "x"))) for part in parts)


def through(step: Step, response: Response) -> Response:
    """A whole answer through one step, as generate mode needs it."""
    collector = Collector()
    for part in parts_of(response):
        if isinstance(part, Finish):
            leaving, finish = step.let_go(part)
        else:
            leaving = step.take(part)
            finish = step.early  # type: ignore[assignment]  # None while the answer goes on
        for out in leaving:
            collector.add(out)
        if finish is not None:
            collector.add(finish)
            break
    step.compare()
    return collector.response()


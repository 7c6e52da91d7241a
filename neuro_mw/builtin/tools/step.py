"""The calls of one answer on their way through tool_guard: held, judged when nothing more can come, let go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neuro_mw import Finish, Params, Part, ProviderDelta, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta

from .held import HeldCalls
from .rules import Verdict

if TYPE_CHECKING:
    from ..tool_guard import ToolGuard


class CallStep:
    """Holds the calls until Finish, since an index may come again at any time; all other parts pass at once."""

    __slots__ = ("_calls", "_guard", "_held", "_params")

    def __init__(self, guard: ToolGuard, params: Params) -> None:
        self._guard, self._params, self._held = guard, params, HeldCalls()
        self._calls: list[ToolCall] = []

    def feed(self, part: Part) -> Part | list[Part] | None:
        """What may leave; before Finish, the calls that may. Raises Blocked."""
        kind = type(part)
        if kind is TextDelta or kind is ReasoningDelta:  # most parts are
            return part
        if kind is ToolCallDelta:
            self._held.add(part)  # type: ignore[arg-type]  # narrowed by `kind`, at half the cost of isinstance
            return None
        if isinstance(part, Finish) and self._held:
            return self.leaving(part, self.verdicts(part))
        return self.passing(part)

    @property
    def holds(self) -> bool:
        """Whether there is anything of a call by now."""
        return bool(self._held)

    def passing(self, part: Part) -> Part | None:
        """What of a part is none of a call's."""
        if isinstance(part, ToolCallDelta):
            self._held.add(part)
            return None
        if isinstance(part, ProviderDelta):
            return self._held.rest_of(part)
        return None if self._held.goes_astray(part) else part

    def verdicts(self, finish: Finish) -> list[Verdict]:
        """What is said of the calls, now that all of them are there; a refused answer has none."""
        if finish.blocked is not None:
            self.abort()
        self._calls = self._held.calls()
        return self._guard.judge(self._held, self._calls, self._params)

    def leaving(self, finish: Finish, verdicts: Sequence[Verdict]) -> list[Part]:
        """The calls that may leave, and Finish. Raises Blocked."""
        tale = self._guard.settle(verdicts)
        kept, reason = self._calls, finish.reason
        places: Sequence[int] = range(len(kept))
        if tale.dropped:
            places = [place for place, verdict in enumerate(verdicts) if verdict.rule is None]
            reason = "stop" if not places and reason == "tool_calls" else reason
        metadata = tale.added_to(finish.metadata, self._guard.metadata.id)
        return [*self._held.leaving(kept, places), Finish(reason, finish.usage, finish.blocked, metadata)]

    def finish(self) -> list[Part]:
        """Nothing: what is held leaves when Finish is fed, which says whether the answer was refused."""
        return []

    def abort(self) -> None:
        """Drop what was held."""
        self._held = HeldCalls()

    def held(self) -> list[Part]:
        """The calls that are held, as they came."""
        return self._held.came

"""A layer's place in a stream: its passage, its step, and its tap."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter as clock
from typing import TYPE_CHECKING, Any

from ..parts import Collector
from ..types import Part, ProviderDelta, Response, ResponseInfo

if TYPE_CHECKING:
    from .flow import Flow
    from .passage import Passage

NOT_CONTENT = (ResponseInfo, ProviderDelta)
"""Parts that may leave before a refusal without anything of the answer having been shown."""


class Lane:
    """A layer's place in a flow: its passage, its step, and its tap (what leaves it, kept for `on_end`)."""

    __slots__ = ("flow", "index", "passage", "step", "tap")

    def __init__(self, passage: Passage, flow: Flow) -> None:
        self.passage, self.flow, self.index = passage, flow, 0
        self.step: Any = None  # a Step; Any, because the fast path cannot afford to ask
        self.tap = Collector() if passage.layer.hooks.on_end is not None else None

    def left(self, parts: Iterable[Part]) -> None:
        """Parts left this layer."""
        passage = self.passage
        for part in parts:
            passage.parts += 1
            if not passage.first_s and type(part) not in NOT_CONTENT:
                passage.first_s = clock() - self.flow.away_s
            if self.tap is not None:
                self.tap.add(part)

    def partial(self) -> Response | None:
        """What had left this layer, if it was kept and was anything."""
        return self.tap.response() if self.tap is not None and self.passage.parts else None

    def abort(self) -> None:
        """The call failed or was left: let the step drop what it held."""
        if self.step is not None and not self.passage.ended:
            self.step.abort()

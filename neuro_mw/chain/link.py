"""What lies inside of a point of a chain, and a stream that was opened there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ..parts import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ..context import MiddlewareContext
    from ..layer import Layer
    from ..stats import Head
    from ..types import Params, Part, Response
    from .compile import Chain
    from .passage import Passage


class Link:
    """What lies inside of a point of a chain.

    ``outer`` has the ids of all layers outside, that of the point itself included; ``layer`` is that of the point, and
    ``head`` what its records have in common (of the outermost point: None). Of these, what each call asks for is at
    hand: ``on_end``, ``timeout_s``, and whether there are ``several`` hooks, so that the time of each is booked.
    """

    __slots__ = ("chain", "generate", "head", "layer", "on_end", "outer", "several", "stream", "timeout_s")

    def __init__(
        self,
        generate: Callable[[Params, MiddlewareContext, Passage], Coroutine[Any, Any, Response]],
        stream: Callable[[Params, MiddlewareContext, Passage, Inner | None], AsyncIterator[Part]],
        chain: Chain,
        outer: frozenset[str],
        layer: Layer | None = None,
        head: Head | None = None,
    ) -> None:
        self.generate, self.stream, self.chain, self.outer = generate, stream, chain, outer
        self.layer: Any = layer
        self.head: Any = head
        self.several = head is not None and head.hook is None
        self.on_end: Any = None if layer is None else layer.hooks.on_end
        self.timeout_s: float | None = None if layer is None else layer.timeout_s


class Inner:
    """One inner stream of a hook: what came from it since the hook's last yield, and all in all."""

    __slots__ = ("let_in", "parts", "pulled", "task")

    def __init__(self) -> None:
        self.parts: Any = None
        self.task: asyncio.Task[Any] | None = None  # who pulled first
        self.pulled: list[Part] = []
        self.let_in = Collector()

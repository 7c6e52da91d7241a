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
    ``head`` what its records have in common (of the outermost point: None).
    """

    __slots__ = ("chain", "generate", "head", "layer", "outer", "stream")

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


class Inner:
    """One inner stream of a hook: what came from it since the hook's last yield, and all in all."""

    __slots__ = ("let_in", "parts", "pulled", "task")

    def __init__(self) -> None:
        self.parts: Any = None
        self.task: asyncio.Task[Any] | None = None  # who pulled first
        self.pulled: list[Part] = []
        self.let_in = Collector()

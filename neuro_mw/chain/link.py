"""What lies inside of a point of a chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ..context import MiddlewareContext
    from ..layer import Layer
    from ..stats import Head
    from ..types import Params, Part, Response
    from .compile import Chain
    from .passage import Inner, Passage


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

"""Layers in, one immutable chain out, ready for both modes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import NeuroError, RequestBlocked
from ..frozen import Bounded
from ..receipt import Receipt
from ..stats import Head
from ..types import LanguageModel, Mode, Part, Response
from .entry import refuse_unseen
from .generate import GenerateNode, ModelNode
from .identity import inside, made_of
from .link import Inner, Link
from .passage import Passage, Root
from .routing import Router, holds, idle_in, start_layer
from .stream import Delivery, Segment, deliver

if TYPE_CHECKING:
    from ..call import Inside
    from ..context import MiddlewareContext
    from ..layer import Layer
    from ..types import Params

_CACHED_VARIANTS = 128

class Chain:
    """The layers for one provider and model, compiled once. Immutable but for its cache of variants.

    A layer whose ``custom`` condition does not hold, or that is idle, is left out by choosing the variant of the chain
    without it, so that no call pays for conditions that are not there.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        model: LanguageModel,
        provider: str,
        model_id: str,
        router: Router,
        *,
        outer: frozenset[str] = frozenset(),
        left_out: Mapping[str, str] | None = None,
        starts_itself: bool = False,  # no one outside calls `start`
        decided: bool = False,  # which layers are idle
    ) -> None:
        self.layers, self.model, self.provider, self.model_id = tuple(layers), model, provider, model_id
        self.router, self.outer = router, outer
        self.left_out: Mapping[str, str] = left_out or {}
        self.ids = tuple(layer.id for layer in layers)
        self._told = model_id if starts_itself else None  # the model has to be told: it was changed in the call
        self._starting = [layer for layer in layers if layer.instance.has_startup]
        self._idling = [] if decided else [one for one in layers if one.instance.may_idle and one.has_hooks()]
        self._variants: Bounded[frozenset[str], Chain] = Bounded(_CACHED_VARIANTS)
        self._fingerprint: str | None = None
        self._inside: dict[tuple[int, Mode], Inside] = {}
        if (starts_itself and self._starting) or any(layer.conditions.custom is not None for layer in layers):
            self.link = Link(self._choose_generate, self._choose_stream, self, outer)
        elif self._idling:
            self.link = Link(self._busy_generate, self._busy_stream, self, outer)
        else:
            self.link = Link(self._first_generate, self._first_stream, self, outer)

    # --- compiling, each mode at its first call --------------------------------------------------------------------

    def _first_generate(self, params: Params, ctx: MiddlewareContext, parent: Passage) -> Any:
        self.link.generate = entry = self._compile_generate()
        return entry(params, ctx, parent)

    def _first_stream(
        self, params: Params, ctx: MiddlewareContext, parent: Passage, inner: Inner | None = None
    ) -> Any:
        self.link.stream = entry = self._compile_stream()
        return entry(params, ctx, parent, inner)

    # --- compiling -----------------------------------------------------------------------------------------------

    def _links(self, mode: Mode) -> list[tuple[Layer, frozenset[str]]]:
        """The layers that run in a mode, innermost first, each with the ids of itself and all outside of it."""
        links, outer = [], self.outer
        for layer in self.layers:
            if layer.conditions.allows_mode(mode):
                outer = outer | {layer.id}
                if layer.has_hooks():
                    links.append((layer, outer))
        return links[::-1]

    def _link(
        self, layer: Layer, mode: Mode, outer: frozenset[str], *, generate: Any = None, stream: Any = None
    ) -> Link:
        head = Head(layer.id, layer.only_hook(mode), self.model_id, layer.stats)
        return Link(generate or _unused, stream or _unused, self, outer, layer, head)

    def _compile_generate(self) -> Any:
        inner: Any = ModelNode(self.model, self._told).run
        for layer, outer in self._links("generate"):
            inner = GenerateNode(self._link(layer, "generate", outer, generate=inner)).run
        return inner

    def _compile_stream(self) -> Any:
        inner: Any = None
        group: list[Link] = []
        wraps = False
        for layer, outer in self._links("stream"):
            if layer.wraps():
                if group or inner is None:
                    inner = Segment(group, self.model, self._told, wraps=wraps).drive
                group, wraps = [], True
            group.insert(0, self._link(layer, "stream", outer, stream=inner))
        if group or inner is None:
            inner = Segment(group, self.model, self._told, wraps=wraps).drive
        return inner

    # --- decided for each call -----------------------------------------------------------------------------------

    async def _choose(self, ctx: MiddlewareContext) -> Chain:
        """The variant of this chain for one call, by its layers' ``custom`` conditions."""
        await self.start()
        skipped = self._idle(ctx)
        for layer in self.layers:
            custom = layer.conditions.custom is not None and layer.id not in skipped
            if custom and layer.conditions.allows_mode(ctx.mode):
                applies, reason = await holds(layer, ctx)
                if not applies:
                    skipped[layer.id] = reason
        return self._without(skipped, ctx)

    def _idle(self, ctx: MiddlewareContext) -> dict[str, str]:
        """The layers that have nothing to do in this call, and why. Each is asked once in a call."""
        layers = [layer for layer in self._idling if layer.conditions.allows_mode(ctx.mode)]
        return {layer.id: why for layer in layers if (why := idle_in(layer, ctx)) is not None}

    def _without(self, skipped: dict[str, str], ctx: MiddlewareContext) -> Chain:
        if skipped:
            ctx._call.left_out.update(skipped)
        ctx._chain = chain = self._variant(frozenset(skipped))
        return chain

    def _variant(self, skipped: frozenset[str]) -> Chain:
        variant = self._variants.get(skipped)
        if variant is None:
            layers = [layer.without_custom() for layer in self.layers if layer.id not in skipped]
            variant = Chain(
                layers, self.model, self.provider, self.model_id, self.router, outer=self.outer, decided=True
            )
            variant._told = self._told
            self._variants.put(skipped, variant)
        return variant

    async def _choose_generate(self, params: Params, ctx: MiddlewareContext, parent: Passage) -> Response:
        chain = await self._choose(ctx)
        return await chain.link.generate(params, ctx, parent)

    async def _choose_stream(
        self, params: Params, ctx: MiddlewareContext, parent: Passage, inner: Inner | None = None
    ) -> AsyncIterator[Part]:
        chain = await self._choose(ctx)
        parts: Any = chain.link.stream(params, ctx, parent, inner)
        try:
            async for part in parts:
                yield part
        finally:
            await parts.aclose()

    def _busy_generate(self, params: Params, ctx: MiddlewareContext, parent: Passage) -> Any:
        return self._without(self._idle(ctx), ctx).link.generate(params, ctx, parent)

    def _busy_stream(self, params: Params, ctx: MiddlewareContext, parent: Passage, inner: Inner | None = None) -> Any:
        return self._without(self._idle(ctx), ctx).link.stream(params, ctx, parent, inner)

    # --- calls ---------------------------------------------------------------------------------------------------

    async def answer(self, params: Params, ctx: MiddlewareContext, *, raise_blocks: bool) -> Response:
        """One call in generate mode, from the outermost point."""
        refuse_unseen(params, ctx.provider, ctx.model)
        if self._starting:
            await self.start()
        call = ctx._call
        call.router, call.params, call.chain, ctx._chain = self.router, params, self, self
        response = await Root(self.link, ctx, params).do_generate()
        response.receipt = Receipt(ctx._call, self, "generate")
        if raise_blocks and response.blocked is not None:
            raise RequestBlocked(response)
        return response

    def deliver(
        self, params: Params, ctx: MiddlewareContext, *, raise_blocks: bool
    ) -> tuple[AsyncIterator[Part], Delivery]:
        """One call in stream mode: the parts, and what they leave behind."""
        delivery = Delivery()
        return deliver(self, params, ctx, delivery, raise_blocks=raise_blocks), delivery

    # --- life and looks ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the instances that need it: once, and again after they were closed."""
        for layer in self._starting:
            if layer.instance.needs_startup:
                await start_layer(layer)

    def reasons(self, mode: Mode) -> dict[str, str]:
        """Why layers of this chain do not run in a mode."""
        reasons = {}
        for layer in self.layers:
            if not layer.conditions.allows_mode(mode):
                reasons[layer.id] = f"its conditions leave out mode {mode!r}"
            elif not layer.has_hooks():
                reasons[layer.id] = "it has no hooks"
        return reasons

    @property
    def fingerprint(self) -> str:
        """A short hash of the chain's ids, versions and configs, in order."""
        if self._fingerprint is None:
            self._fingerprint = made_of(self.layers)
        return self._fingerprint

    def inside(self, middleware: object, mode: Mode) -> Inside:
        """See `MiddlewareContext.inside`."""
        found = self._inside.get((id(middleware), mode))
        if found is None:
            at = self._at(middleware)
            if at is None:
                raise NeuroError("a middleware asks what is inside of it, and is not in the chain of this call")
            layers = [layer for layer in self.layers[at + 1 :] if layer.conditions.allows_mode(mode)]
            found = self._inside[id(middleware), mode] = inside(layers, self.model)
        return found

    def outside(self, middleware: object) -> frozenset[str]:
        """The ids of all that is further out than a middleware; none where it is not here."""
        at = self._at(middleware)
        return frozenset() if at is None else self.outer.union(self.ids[:at])

    def _at(self, middleware: object) -> int | None:
        return next((at for at, layer in enumerate(self.layers) if layer.middleware is middleware), None)


def _unused(*_: Any) -> Any:
    raise AssertionError("the other mode's entry was called")

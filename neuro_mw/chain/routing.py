"""Which chain a call takes: another one where the model changes, a variant where a custom condition says no."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import BadRequest, note
from ..frozen import Bounded, key_of
from ..param_names import holds_secret, is_address, of_drivers
from ..types import LanguageModel, Response

if TYPE_CHECKING:
    from ..call import Call
    from ..context import MiddlewareContext
    from ..layer import Layer
    from ..types import Params
    from .compile import Chain
    from .link import Link

_CACHED_CHAINS = 128

LayersFor = Callable[[str, str, Mapping[str, Any]], tuple[list["Layer"], dict[str, str]]]
SplitModel = Callable[[str], tuple[str | None, str]]
Resolve = Callable[[str, str], LanguageModel]


class Router:
    """Finds the chain of another model: what a change of ``params["model"]`` means."""

    def __init__(
        self,
        model: LanguageModel,
        provider: str,
        *,
        layers_for: LayersFor,
        split_model: SplitModel,
        resolve: Resolve,
    ) -> None:
        self.model, self.providers = model, {provider, model.provider}
        self.layers_for, self.split_model, self.resolve = layers_for, split_model, resolve
        self.chains: Bounded[Any, Chain] = Bounded(_CACHED_CHAINS)

    def redirect(
        self, name: str, params: Params, ctx: MiddlewareContext, link: Link, before: Params
    ) -> tuple[Params, MiddlewareContext, Link]:
        """Params, context and goal for a call inward that names a model; `before`: as they came to who names it."""
        provider, bare = self.split(name, ctx.provider) if isinstance(name, str) else ("", "")
        if not bare:
            raise BadRequest(
                f"params['model'] is {type(name).__name__}, not the name of a model",
                provider=ctx.provider, model=ctx.model,
            )  # fmt: skip
        if bare != name:
            params = {**params, "model": bare}
        if provider == ctx.provider and bare == ctx.model:
            return params, ctx, link
        if provider != ctx.provider and not {provider, ctx.provider} <= self.providers:
            params = without_address(params, before)
        chain = self.chain_for(provider, bare, ctx.options, link)
        ctx._call.detours.append((link.outer, chain))
        there = ctx.fork(provider, bare, by="" if link.layer is None else link.layer.id)
        there._chain = chain
        return params, there, chain.link

    def split(self, name: str, current: str) -> tuple[str, str]:
        """Provider and model id that a name means, seen from a provider."""
        first, slash, rest = name.partition("/")
        if slash and rest and (first == current or first in self.providers):
            return first, rest
        provider, bare = self.split_model(name)
        return (current, name) if provider is None else (provider, bare)

    def is_meant(self, provider: str, call: Call) -> bool:
        """Whether the address and the key that the caller gave are for this provider."""
        named = (call.params or {}).get("model")
        meant = self.split(named, call.provider)[0] if isinstance(named, str) else call.provider
        return provider == meant or {provider, meant} <= self.providers

    def chain_for(self, provider: str, model: str, options: Mapping[str, Any], link: Link) -> Chain:
        """The chain inside of a point for another model, without the layers that are outside already."""
        frozen = key_of(options)
        key = (provider, model, link.outer, frozen)
        chain = None if frozen is None else self.chains.get(key)
        if chain is None:
            layers, left_out = self.layers_for(provider, model, options)
            target = link.chain.model if provider == link.chain.provider else self.target(provider, model)
            inner = [layer for layer in layers if layer.id not in link.outer]
            chain = type(link.chain)(
                inner, target, provider, model, self, outer=link.outer, left_out=left_out, starts_itself=True
            )
            if frozen is not None:
                self.chains.put(key, chain)
        return chain

    def target(self, provider: str, model: str) -> LanguageModel:
        """The object that is asked for a model."""
        return self.model if provider in self.providers else self.resolve(provider, model)

    async def ask(self, ctx: MiddlewareContext, *how: Any) -> Response:
        """See `MiddlewareContext.ask`."""
        from .asking import ask

        return await ask(self, ctx, *how)


def without_address(params: Params, before: Params) -> Params:
    """The params for another provider: without keys and addresses that were there before, for the one before.

    Of headers and of ``extra_body`` single entries stay behind.
    """
    kept = {}
    for name, value in params.items():
        had, body = before.get(name), name == "extra_body"
        if (body or is_of_one_provider(name)) and isinstance(value, Mapping) and isinstance(had, Mapping):
            value = {
                word: one
                for word, one in value.items()
                if (word not in had or had[word] != one)
                or (body and not (is_of_one_provider(word) or holds_secret(one)))
            }
            if not value:
                continue
        elif not body and is_of_one_provider(name) and name in before and value == had:
            continue
        kept[name] = value
    return kept


def is_of_one_provider(name: object) -> bool:
    """Whether a param is meant for one provider alone: an address, a key, a word of litellm's for its route."""
    return is_address(str(name)) or of_drivers(str(name))


async def holds(layer: Layer, ctx: MiddlewareContext) -> tuple[bool, str]:
    """Whether a layer's ``custom`` condition holds for this call, and why not.

    A condition that raises is taken as its middleware's failure: a guard runs, ``on_error="skip"`` leaves the layer
    out, else the error is raised.
    """
    custom: Any = layer.conditions.custom
    try:
        result = custom(ctx)
        if hasattr(result, "__await__"):
            result = await result
        return bool(result), "its custom condition does not hold"
    except Exception as error:
        if layer.is_guard or layer.on_error == "skip":
            layer.stats.skip()
            outcome = "runs" if layer.is_guard else "was skipped"
            layer.log_skipped(error, "conditions.custom", ctx.provider, ctx.model, outcome)
            ctx._call.failures.append(layer.id)
            return layer.is_guard, f"its custom condition failed ({type(error).__name__})"
        note(error, f"middleware '{layer.id}' failed in conditions.custom ({ctx.provider}/{ctx.model})")
        raise


def idle_in(layer: Layer, ctx: MiddlewareContext) -> str | None:
    """Why a layer has nothing to do in this call; one that cannot say it runs, which is counted."""
    said = ctx._call.idle
    if layer.id not in said:
        said[layer.id] = None
        try:
            said[layer.id] = layer.idles()
        except (Exception, CancelledError) as error:  # noqa: BLE001  # nobody has cancelled what awaits nothing
            layer.stats.skip()
            layer.log_skipped(error, "idle", ctx.provider, ctx.model, "runs")
            ctx._call.failures.append(layer.id)
    return said[layer.id]


async def start_layer(layer: Layer) -> None:
    """Run an instance's startup; its failure is taken as its middleware's."""
    try:
        await layer.instance.start()
    except Exception as error:
        if layer.on_error != "skip":
            note(error, f"middleware '{layer.id}' failed in startup")
            raise
        layer.stats.skip()
        layer.log_skipped(error, "startup", "any", "any")


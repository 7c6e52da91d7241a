"""A plan: which middlewares are on under one set of options, a snapshot from which chains are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .chain import Chain, Router
from .chain.routing import Resolve, SplitModel
from .context import MiddlewareContext
from .explain import ChainPlan, PlanEntry, without_passwords
from .frozen import Bounded, key_of
from .layer import MODES, Layer
from .stats import MiddlewareChainStats, MiddlewareExecutionResult, aggregate, last_executions
from .types import LanguageModel

_CACHED_CHAINS = 256


@dataclass(frozen=True, slots=True)
class Off:
    """A registered middleware that is not on."""

    id: str
    priority: int
    origin: str
    reason: str
    hooks: Callable[[], dict[str, list[str]]]
    config: Mapping[str, Any]


class Plan:
    """The layers that are on, whatever the provider and model, and why the others are not."""

    def __init__(
        self,
        layers: list[Layer],
        why_on: Mapping[str, str],
        off: list[Off],
        *,
        split_model: SplitModel,
        resolve: Resolve,
    ) -> None:
        self.layers, self.why_on, self.off = layers, why_on, off
        self._split_model, self._resolve = split_model, resolve
        self._bound: Bounded[Any, Bound] = Bounded(_CACHED_CHAINS)

    def layers_for(
        self, provider: str, model: str, options: Mapping[str, Any]
    ) -> tuple[list[Layer], dict[str, str]]:
        """The layers that apply there, and why each of the others that are on does not."""
        applied, left_out = [], {}
        for layer in self.layers:
            reason = layer.refusal(provider, model, options)
            if reason is None:
                applied.append(layer)
            else:
                left_out[layer.id] = reason
        return applied, left_out

    def may_guard(self) -> bool:
        """Whether a guard is on that another provider or model would bring in."""
        return any(layer.is_guard for layer in self.layers)

    def bind(self, model: LanguageModel, provider: str) -> Bound:
        """The plan for one model object; kept, so that chains are built once."""
        key = (id(model), provider)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound.put(key, Bound(self, model, provider))
        return bound

    def router(self, model: LanguageModel, provider: str) -> Router:
        """The way to other models from this one."""
        return Router(
            model, provider, layers_for=self.layers_for, split_model=self._split_model, resolve=self._resolve
        )

    def explain(self, context: MiddlewareContext) -> ChainPlan:
        """Every registered middleware as seen from one context."""
        entries = []
        for layer in self.layers:
            refusal = layer.refusal(context.provider, context.model, context.options)
            reason = refusal or self.why_on[layer.id]
            if refusal is None and layer.conditions.custom is not None:
                reason += ", if its custom condition holds"
            if refusal is None and layer.instance.may_idle:
                reason += _idle_now(layer)
            hooks = {str(mode): layer.hooks_by_mode(mode) for mode in MODES if layer.conditions.allows_mode(mode)}
            entries.append(PlanEntry(layer.id, layer.priority, refusal is None, reason, hooks,
                                     layer.instance.origin, without_passwords(layer.config)))  # fmt: skip
        for one in self.off:  # where they would stand
            place = sum(entry.priority >= one.priority for entry in entries)
            entries.insert(place, PlanEntry(one.id, one.priority, False, one.reason, one.hooks(), one.origin,
                                            without_passwords(one.config)))  # fmt: skip
        return ChainPlan(context.provider, context.model, entries)

    def stats(self, context: MiddlewareContext) -> MiddlewareChainStats:
        """What the layers of one chain did so far."""
        applied, left_out = self.layers_for(context.provider, context.model, context.options)
        results: dict[str, MiddlewareExecutionResult] = {}
        total = 0.0
        for layer in applied:
            stats = aggregate([layer.stats])
            spent = stats.average_execution_time * stats.total_executions
            last = last_executions([layer.stats])
            results[layer.id] = MiddlewareExecutionResult(
                True, spent, last[-1].error if last else None, self.why_on[layer.id]
            )
            total += spent
        for id, reason in (left_out | {one.id: one.reason for one in self.off}).items():
            results[id] = MiddlewareExecutionResult(False, 0.0, None, reason)
        return MiddlewareChainStats(len(self.layers) + len(self.off), len(applied), total, results)


class Bound:
    """A plan bound to a model object: its chains by model id and options."""

    def __init__(self, plan: Plan, model: LanguageModel, provider: str) -> None:
        self.plan, self.model = plan, model
        self.router = plan.router(model, provider)
        self._chains: Bounded[Any, Chain] = Bounded(_CACHED_CHAINS)

    def chain(self, context: MiddlewareContext) -> Chain:
        """The compiled chain for a context's provider, model and options."""
        options = key_of(context.options)
        key = (context.provider, context.model, options)
        chain = None if options is None else self._chains.get(key)
        if chain is None:
            layers, left_out = self.plan.layers_for(context.provider, context.model, context.options)
            chain = Chain(layers, self.model, context.provider, context.model, self.router, left_out=left_out)
            if options is not None:
                self._chains.put(key, chain)
        return chain

    def stats(self, context: MiddlewareContext) -> MiddlewareChainStats:
        """See `Plan.stats`."""
        return self.plan.stats(context)

    def explain(self, context: MiddlewareContext) -> ChainPlan:
        """See `Plan.explain`."""
        return self.plan.explain(context)


def _idle_now(layer: Layer) -> str:
    """What to add to the reason why a layer applies, where calls pass it by for now."""
    try:
        why = layer.idles()
    except Exception as error:  # noqa: BLE001  # it runs, and its calls tell
        return f"; it could not say whether it is idle ({type(error).__name__})"
    return "" if why is None else f"; passed by for now: {why}"

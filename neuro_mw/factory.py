"""The factory: registry, presets and plugins brought together into wrapped models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .config import FactoryFile, entries_of, read_toml, validated
from .context import MiddlewareContext
from .contract import Middleware
from .detectors import add_detectors
from .errors import ConfigError, PluginError, UnknownName
from .explain import ChainPlan
from .frozen import Bounded, key_of
from .layer import Instance, close_all, start_all
from .model import WrappedModel
from .options import PUBLIC, MiddlewareFactoryOptions, merged_with_call, refuse_unknown
from .order import check_requirements
from .plan import Off, Plan
from .plugins import Offer, PluginInfo, collect_offer, load_plugins
from .presets import MiddlewarePreset, PresetInfo, Presets
from .registry import MiddlewareRegistry
from .stats import MiddlewareChainStats
from .switches import Switches, decide
from .types import LanguageModel, Session
from .validation import ValidationResult, check_asked, validate

_CACHED_PLANS, _CACHED_MODELS = 64, 256
_DEFAULTS = {one.name: one.default for one in dataclasses.fields(MiddlewareFactoryOptions)}


class MiddlewareFactory:
    """Owns a registry and presets, and wraps models in chains.

    All names, keys and values are checked here, at construction: ConfigError says where and what was meant.

    >>> factory = MiddlewareFactory()
    >>> list(factory.apply_middleware("echo/echo").chain)
    ['analytics']
    """

    def __init__(
        self,
        *,
        preset: str | Sequence[str] | None = "default",
        middleware: Sequence[Any] = (),
        middleware_config: Mapping[str, Any] | None = None,
        enabled_middleware: Sequence[str] = (),
        disabled_middleware: Sequence[str] = (),
        plugins: bool | Sequence[str] = True,
        state: str = "memory",
        on_block: str = "respond",
        driver: str = "auto",
        options: MiddlewareFactoryOptions | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown(unknown, (*PUBLIC, "options"), type(self).__name__)
        given: dict[str, Any] = {
            "preset": preset, "middleware": middleware, "middleware_config": middleware_config,
            "enabled_middleware": enabled_middleware, "disabled_middleware": disabled_middleware, "plugins": plugins,
            "state": state, "on_block": on_block, "driver": driver,
        }  # fmt: skip
        if options is not None:  # what is given beside it stands above it
            if not isinstance(options, MiddlewareFactoryOptions):
                raise ConfigError(f"it is of type {type(options).__name__}", key="options",
                                  expected="a MiddlewareFactoryOptions")  # fmt: skip
            given = {name: value for name, value in given.items() if value != _DEFAULTS[name]}
        self._options = dataclasses.replace(options or MiddlewareFactoryOptions(), **given)
        self._resolved: Bounded[tuple[str, str], LanguageModel] = Bounded(_CACHED_MODELS)
        self.registry = MiddlewareRegistry(self._options.state_url)
        self._presets = Presets()
        self._models: dict[str, Callable[[str], LanguageModel]] = {}
        self._given: dict[str, str] = {}  # ids given in `middleware=`
        self._plans: Bounded[Any, tuple[int, Plan]] = Bounded(_CACHED_PLANS)
        try:
            self._prepare(self._options)
        except ConfigError as error:
            error.file = error.file or self._options.file
            raise

    def _prepare(self, options: MiddlewareFactoryOptions) -> None:
        from . import builtin

        self._accept(collect_offer(builtin, name="built-in", origin="built-in"))
        self.plugins: list[PluginInfo] = load_plugins(options.plugins, self._accept)
        """The plugins that were found, those included that could not be loaded."""
        for name, table in options.preset_tables.items():
            self._presets.add(MiddlewarePreset.from_table(table, name=name, file=options.file))
        for one in options.middleware:
            self._give(one)
        self._check()

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """A factory from a TOML file; its keys are those of the constructor, and ``[presets.NAME]`` tables."""
        data = read_toml(path)
        values = {name: data[name] for name in validated(FactoryFile, data, file=str(path)).model_fields_set}
        values["middleware_config"] = values.pop("middleware", None)
        values["preset_tables"] = values.pop("presets", {})
        return cls(options=MiddlewareFactoryOptions(file=str(path), **values))

    @property
    def presets(self) -> Mapping[str, MiddlewarePreset]:
        """All presets by name."""
        return self._presets

    @property
    def plugin_errors(self) -> list[PluginError]:
        """Why plugins could not be loaded."""
        return [info.error for info in self.plugins if info.error is not None]

    # --- registering ---------------------------------------------------------------------------------------------

    def register(self, middleware: Any, **registration: Any) -> None:
        """Register a middleware of your own; keywords as `MiddlewareRegistry.register`."""
        refuse_unknown(registration, ("id", "replace", "default_enabled", "global_config", "priority"), "register")
        self.registry.register(middleware, **registration)

    def register_preset(
        self, preset: MiddlewarePreset | Mapping[str, Any] | str | Path, replace: bool = False
    ) -> None:
        """Add a preset: a `MiddlewarePreset`, the data of one with its name, or the path of a TOML file."""
        self._presets.add(preset, replace=replace)
        self._plans.clear()

    def _accept(self, offer: Offer) -> list[str]:
        """Take in all that a plugin offers, or nothing of it."""
        ids: list[str] = []
        names: list[str] = []
        try:
            for middleware, how in offer.middleware:
                ids.append(self.registry.add(middleware, origin=offer.origin, trusted=False, **how).id)
            for preset in offer.presets:
                names += [self._presets.add(preset).name]
            add_detectors(self.registry.detectors, offer.detectors)
        except BaseException:
            for id in ids:
                self.registry.unregister(id)
            for name in names:
                self._presets.discard(name)
            raise
        self._models.update(offer.models)
        return ids

    def _give(self, one: Any) -> None:
        """Register what stands in ``middleware=``. A built-in of its class gives way, and one that no preset names."""
        id = getattr(getattr(one, "metadata", None), "id", "")
        replace = False
        if self.registry.has(id) and isinstance(one, Middleware):
            there = self.registry.lookup(id, key="middleware")
            free = id not in self._presets.entries(*self._options.presets)
            replace = there.origin == "built-in" and (free or isinstance(one, there.make))
        made = self.registry.add(one, origin="instance", trusted=True, replace=replace)
        self._given[made.id] = "given in middleware="

    # --- which are on --------------------------------------------------------------------------------------------

    def _switches(self, options: MiddlewareFactoryOptions, call: Mapping[str, Any]) -> Switches:
        try:
            return decide(options, self._options, call, self.registry, self._presets, self._given)
        except UnknownName as error:  # perhaps a plugin that could not be loaded would have brought it
            if self.plugin_errors:
                error.reason += f"; these plugins could not be loaded: {[str(one) for one in self.plugin_errors]}"
            raise

    def _check(self) -> None:
        """Check all that was configured, and build the instances that are on."""
        switches = self._switches(self._options, {})
        configs = {id: entry.get("config") or {} for id, entry in switches.entries.items()}
        self.registry.configure(configs)
        for id, entry in switches.entries.items():
            registration = self.registry.lookup(id, key=f"middleware.{id}")
            if id in switches.on:
                registration.layer(entry)
            else:
                registration.check_config(configs[id])
        for id in switches.on:
            registration = self.registry.lookup(id, key=f"middleware.{id}")
            live = registration.instance_for(configs.get(id, {}))
            check_asked(id, live.middleware, self._resolve, self._options.driver)

    def _plan(self, call: Mapping[str, Any], what: str = "apply_middleware") -> tuple[Plan, MiddlewareFactoryOptions]:
        options = merged_with_call(self._options, call, what)
        key = key_of({**call, "middleware_config": entries_of(call.get("middleware_config"))})
        cached = None if key is None else self._plans.get(key)
        if cached is not None and cached[0] == self.registry.version:
            return cached[1], options
        before = self.registry.ids()
        try:
            switches = self._switches(options, call)
            layers = self.registry.layers({id: switches.entries.get(id, {}) for id in switches.on})
            check_requirements(layers)
            for layer in layers:
                check_asked(layer.id, layer.middleware, self._resolve, options.driver)
        except BaseException:
            self.registry.keep_only(before)  # not what was derived on the way
            raise
        rest = [one for one in self.registry.registrations() if one.id not in switches.on]
        off = [Off(one.id, one.priority, one.origin, switches.off.get(one.id, "not switched on"), one.hooks,
                   one.global_config) for one in rest]  # fmt: skip
        plan = Plan(
            layers, dict(switches.on), off,
            split_model=self._split_model,
            resolve=lambda provider, model: self._resolve(f"{provider}/{model}", options.driver),
        )
        if key is not None:
            self._plans.put(key, (self.registry.version, plan))
        return plan, options

    # --- wrapping ------------------------------------------------------------------------------------------------

    def apply_middleware(
        self, model: LanguageModel | str, context: MiddlewareContext | None = None, **options: Any
    ) -> WrappedModel:
        """Wrap a model, or the model that a string like "openai/gpt-4o" names, in the chain that applies to it.

        Options are those of the constructor, for this model: preset, middleware_config, enabled_middleware,
        disabled_middleware, on_block, driver. Where no middleware applies to a model object, that very object comes
        back (unless a guard is on that another model would bring in).
        """
        plan, merged = self._plan(options)
        given = model
        if isinstance(model, str):
            model = self._resolve(model, merged.driver)
        for name in ("provider", "model_id", "generate", "stream"):
            if not hasattr(model, name):
                raise ConfigError(f"{type(model).__name__} has no {name!r}: it is no LanguageModel", key="model")
        if context is None:
            context = MiddlewareContext(model.provider, model.model_id)
        if not isinstance(context, MiddlewareContext):
            raise ConfigError(f"it is of type {type(context).__name__}", key="context", expected="create_context(...)")
        applied, _ = plan.layers_for(context.provider, context.model, context.options)
        if not applied and given is model and not plan.may_guard():
            return model  # type: ignore[return-value]  # documented: the very object comes back
        bound = plan.bind(model, context.provider)
        return WrappedModel(
            context.provider, context.model, bound, context, raise_blocks=merged.on_block == "raise"
        )

    def _split_model(self, name: str) -> tuple[str | None, str]:
        from .providers import split_model

        return split_model(name, registered=self._models)

    def _resolve(self, name: str, driver: str) -> LanguageModel:
        found = self._resolved.get((name, driver))
        if found is None:
            from .providers import resolve

            found = self._resolved.put((name, driver), resolve(name, driver=driver, registered=self._models))
        return found

    def create_context(
        self,
        provider: str,
        model: str,
        options: Mapping[str, Any] | None = None,
        session: Session | Mapping[str, Any] | None = None,
    ) -> MiddlewareContext:
        """The context that conditions and hooks see; ``session`` may be a dict."""
        return MiddlewareContext(provider, model, options, session)

    # --- asking --------------------------------------------------------------------------------------------------

    def validate_config(self, config: Any) -> ValidationResult:
        """Check a ``middleware_config`` without using it."""
        return validate(config, self.registry)

    def get_available_presets(self) -> list[PresetInfo]:
        """Every preset: name, description, the ids it switches on."""
        return self._presets.infos()

    def get_chain_stats(
        self, context: MiddlewareContext, config: Mapping[str, Any] | None = None
    ) -> MiddlewareChainStats:
        """What the layers of one chain did so far; `config` is a ``middleware_config`` on top."""
        plan, _ = self._plan({"middleware_config": entries_of(config)} if config else {})
        return plan.stats(context)

    def explain(self, context: MiddlewareContext, **options: Any) -> ChainPlan:
        """Every registered middleware as seen from a context: applied or not, and why."""
        return self._plan(options, "explain")[0].explain(context)

    # --- life ----------------------------------------------------------------------------------------------------

    def _live(self) -> list[Instance]:
        return [live for one in self.registry.registrations() for live in one.instances()]

    async def __aenter__(self) -> Self:
        await start_all(self._live())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await close_all(self._live())
        await self.registry.close_store()

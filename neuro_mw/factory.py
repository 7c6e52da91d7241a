"""The factory: registry, presets and plugins brought together into wrapped models."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .config import FactoryFile, deep_merge, entries_of, read_toml, validated
from .context import MiddlewareContext
from .contract import Middleware
from .errors import ConfigError, PluginError
from .explain import ChainPlan
from .frozen import freeze
from .layer import Instance, close_all, start_all
from .model import WrappedModel
from .options import MiddlewareFactoryOptions, Switches, merged_with_call, refuse_unknown
from .order import check_requirements
from .plan import Off, Plan
from .plugins import Offer, PluginInfo, collect_offer, load_plugins
from .presets import MiddlewarePreset, PresetInfo, Presets
from .registry import MiddlewareRegistry
from .stats import MiddlewareChainStats
from .types import LanguageModel, Session
from .validation import ValidationResult, validate

_CACHED_PLANS = 64
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
    ) -> None:
        given: dict[str, Any] = {
            "preset": preset, "middleware": middleware, "middleware_config": middleware_config,
            "enabled_middleware": enabled_middleware, "disabled_middleware": disabled_middleware, "plugins": plugins,
            "state": state, "on_block": on_block, "driver": driver,
        }  # fmt: skip
        if options is not None:  # what is given beside it stands above it
            given = {name: value for name, value in given.items() if value != _DEFAULTS[name]}
        self._options = dataclasses.replace(options or MiddlewareFactoryOptions(), **given)
        self.registry = MiddlewareRegistry()
        self._presets = Presets()
        self._models: dict[str, Callable[[str], LanguageModel]] = {}
        self._given: dict[str, str] = {}  # ids given in `middleware=`
        self._plans: OrderedDict[Any, tuple[int, Plan]] = OrderedDict()
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
        try:
            for middleware, how in offer.middleware:
                ids.append(self.registry.add(middleware, origin=offer.origin, trusted=False, **how).id)
            for preset in offer.presets:
                self._presets.add(preset)
        except BaseException:
            for id in ids:
                self.registry.unregister(id)
            raise
        self._models.update(offer.models)
        return ids

    def _give(self, one: Any) -> None:
        """Register what stands in ``middleware=``; an instance of a built-in takes the built-in's place."""
        known = self.registry.has(getattr(getattr(one, "metadata", None), "id", ""))
        replace = False
        if known and isinstance(one, Middleware):
            there = self.registry.lookup(one.metadata.id, key="middleware")
            replace = there.origin == "built-in" and isinstance(there.make, type) and isinstance(one, there.make)
        made = self.registry.add(one, origin="instance", trusted=True, replace=replace)
        self._given[made.id] = "given in middleware="

    # --- which are on --------------------------------------------------------------------------------------------

    def _switches(self, options: MiddlewareFactoryOptions, call: Mapping[str, Any]) -> Switches:
        switches = Switches()
        for one in self.registry.registrations():
            if one.default_enabled:
                switches.turn_on(one.id, "enabled by default")
        for id, reason in self._given.items():
            switches.turn_on(id, reason)
        for preset in options.presets:
            self._presets.require(preset, file=options.file)
            for id, entry in self._presets.entries(preset).items():
                if entry.get("enabled", True):
                    switches.turn_on(id, f"preset {preset!r}")
                else:
                    switches.turn_off(id, f"enabled = false in preset {preset!r}")
                switches.entries = deep_merge(switches.entries, {id: entry})
        switches.level(self._options.middleware_config or {}, self._options.enabled_middleware, "")
        switches.level(call.get("middleware_config") or {}, call.get("enabled_middleware") or (), "the call's ")
        disabled = (*self._options.disabled_middleware, *(call.get("disabled_middleware") or ()))
        for id, entry in switches.entries.items():
            if "use" in entry and entry["use"] is not None:
                self.registry.derive(id, entry["use"])
        for id in (*switches.on, *switches.off, *disabled):
            self._known(id, switches)
        for id in disabled:
            switches.turn_off(id, "named in disabled_middleware")
        return switches

    def _known(self, id: str, switches: Switches) -> None:
        """ConfigError for an id that is not registered; it names the plugins that failed, if any did."""
        if not self.registry.has(id):
            try:
                self.registry.lookup(id, key=f"middleware.{id}")
            except ConfigError as error:
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
                registration.check_config(configs[id], key=f"middleware.{id}.config")
        for id in switches.on:
            registration = self.registry.lookup(id, key=f"middleware.{id}")
            registration.instance_for(configs.get(id, {}))

    def _plan(self, call: Mapping[str, Any]) -> tuple[Plan, MiddlewareFactoryOptions]:
        options = merged_with_call(self._options, call)
        key = freeze(call)
        version, plan = self._plans.get(key, (None, None))
        if plan is not None and version == self.registry.version:
            return plan, options
        switches = self._switches(options, call)
        layers = self.registry.layers({id: switches.entries.get(id, {}) for id in switches.on})
        check_requirements(layers)
        off = [Off(one.id, one.priority, one.origin, switches.off.get(one.id, "not switched on"))
               for one in self.registry.registrations() if one.id not in switches.on]  # fmt: skip
        plan = Plan(
            layers, dict(switches.on), off,
            split_model=self._split_model,
            resolve=lambda provider, model: self._resolve(f"{provider}/{model}", options.driver),
        )
        self._plans[key] = self.registry.version, plan
        while len(self._plans) > _CACHED_PLANS:
            self._plans.popitem(last=False)
        return plan, options

    # --- wrapping ------------------------------------------------------------------------------------------------

    def apply_middleware(
        self, model: LanguageModel | str, context: MiddlewareContext | None = None, **options: Any
    ) -> Any:
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
        applied, _ = plan.layers_for(context.provider, context.model, context.options)
        if not applied and given is model and not plan.may_guard():
            return model
        bound = plan.bind(model, context.provider)
        return WrappedModel(
            context.provider, context.model, bound, context, raise_blocks=merged.on_block == "raise"
        )

    def _split_model(self, name: str) -> tuple[str | None, str]:
        from .providers import split_model

        return split_model(name, registered=self._models)

    def _resolve(self, name: str, driver: str) -> LanguageModel:
        from .providers import resolve

        return resolve(name, driver=driver, registered=self._models)

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
        return self._plan(options)[0].explain(context)

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

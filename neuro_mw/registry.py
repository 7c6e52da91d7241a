"""The registry: which middlewares there are, their live instances, their order, their stats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .config import deep_merge, entries_of
from .contract import Middleware, check_id
from .detectors import Detector
from .errors import ConfigError, DuplicateMiddleware, OrderError, RegistrationError, UnknownMiddleware
from .frozen import own_copy
from .names import nearest
from .order import sort_layers
from .registration import Registration
from .stats import MiddlewareExecutionResult, MiddlewareStats, aggregate, clear, last_executions

if TYPE_CHECKING:
    from .context import MiddlewareContext
    from .layer import Layer
    from .state import Store


_Ids = list[str]  # below, `list` is a method
_Middlewares = list[Middleware]
_Registrations = list[Registration]
_Layers = list["Layer"]
_Results = list[MiddlewareExecutionResult]


class MiddlewareRegistry:
    """Middlewares by id, sorted by priority; ties in the order of registration.

    >>> registry = MiddlewareRegistry()
    >>> from neuro_mw import middleware
    >>> registry.register(middleware("cool", priority=5))
    >>> registry.get_sorted_ids()
    ['cool']
    """

    def __init__(self, state: str = "memory") -> None:
        self._state = state
        self._store: Store | None = None
        self._registrations: dict[str, Registration] = {}
        self._configs: Mapping[str, Mapping[str, Any]] = {}
        self.detectors: dict[str, Detector] = {}
        """What plugins detect, for the guards that are built here."""
        self.version = 0
        """Counts the changes, so that what was built from an older state can be told."""

    # --- registering ---------------------------------------------------------------------------------------------

    def register(
        self,
        middleware: Any,
        *,
        id: str | None = None,
        replace: bool = False,
        default_enabled: bool | None = None,
        global_config: Mapping[str, Any] | None = None,
        priority: int | None = None,
    ) -> None:
        """Add a middleware: a class, an instance, or a callable that makes one.

        ``global_config`` are own options that every chain starts from. Raises DuplicateMiddleware if the id is taken
        and `replace` is not set, RegistrationError where metadata or hooks are not as the contract says; then nothing
        was registered.
        """
        self.add(
            middleware, id=id, replace=replace, default_enabled=default_enabled, global_config=global_config,
            priority=priority, origin="instance", trusted=True,
        )  # fmt: skip

    def add(
        self,
        middleware: Any,
        *,
        origin: str,
        trusted: bool,
        id: str | None = None,
        replace: bool = False,
        default_enabled: bool | None = None,
        global_config: Mapping[str, Any] | None = None,
        priority: int | None = None,
    ) -> Registration:
        """`register` with the origin; of what is not `trusted` (a plugin), ``default_enabled`` counts for nothing."""
        if not isinstance(default_enabled, bool | None):
            raise RegistrationError(f"default_enabled is {default_enabled!r}, not True, False or None")
        if isinstance(priority, bool) or not isinstance(priority, int | None):
            raise RegistrationError(f"priority is {priority!r}, not a whole number or None")
        if not isinstance(global_config, Mapping | None):
            raise RegistrationError(f"global_config is of type {type(global_config).__name__}, not a mapping")
        made = Registration.of(middleware, id=id, origin=origin)
        if made.id in self._registrations and not replace:
            raise DuplicateMiddleware(made.id)
        enabled = made.metadata.default_enabled if default_enabled is None else default_enabled
        made.default_enabled = bool(enabled) and trusted
        made.global_config, made.detectors = own_copy(global_config or {}), self.detectors
        made.open_store = self.store
        for live in made.instances():
            made.bind(live.middleware)
        made.priority = made.metadata.priority if priority is None else priority
        if made.global_config:
            made.check_config({})
        self._registrations[made.id] = made
        self.version += 1
        return made

    def derive(self, id: str, use: str) -> None:
        """Register a second id for a class that is known under another one."""
        source = self.would_use(id, use)
        if source.id == id:
            return
        self._registrations[id] = source.derived(id)
        self.version += 1

    def would_use(self, id: str, use: str | None) -> Registration:
        """The registration that an id stands for, or that it would be derived from; ConfigError where it cannot."""
        known = self._registrations.get(id)
        if use is None or (known is not None and known.used == use):
            return self.lookup(id, key=f"middleware.{id}")
        if known is not None:
            raise ConfigError(f"the id is taken, it cannot use {use!r}", key=f"middleware.{id}.use")
        source = self.lookup(use, key=f"middleware.{id}.use")
        if source.given is not None:
            raise ConfigError(f"{use!r} is an instance, which cannot be built again", key=f"middleware.{id}.use")
        try:
            check_id(id)
        except RegistrationError as error:
            raise ConfigError(str(error), key=f"middleware.{id}") from None
        return source

    def unregister(self, id: str) -> bool:
        """Remove a middleware; False where there was none. Models that were wrapped before keep theirs."""
        self.version += 1
        return self._registrations.pop(id, None) is not None

    def keep_only(self, ids: Sequence[str]) -> None:
        """Remove what is not among these."""
        for id in set(self._registrations) - set(ids):
            self.unregister(id)

    def clear(self) -> None:
        """Remove all."""
        self._registrations.clear()
        self.version += 1

    def store(self) -> Store:
        """The store of the middlewares that keep state; made at the first need, connected at its first use."""
        if self._store is None:
            from .state import open_store

            self._store = open_store(self._state)
        return self._store

    async def close_store(self) -> None:
        """Let go what the store has open."""
        if self._store is not None:
            await self._store.aclose()

    # --- asking --------------------------------------------------------------------------------------------------

    def lookup(self, id: str, *, key: str) -> Registration:
        """The registration of an id; ConfigError with the nearest known id where there is none."""
        found = self._registrations.get(id)
        if found is None:
            raise UnknownMiddleware(f"no middleware {id!r}", key=key, nearest=nearest(str(id), self._registrations))
        return found

    def get(self, id: str) -> Middleware | None:
        """The live instance of an id (the one that the factory's config gives), None where there is no such id."""
        found = self._registrations.get(id)
        return None if found is None else found.instance_for(self._configs.get(id) or {}).middleware

    def list(self) -> _Middlewares:
        """The live instances of all ids, in chain order; without those that cannot be built without options."""
        found = []
        for id in self.get_sorted_ids():
            with suppress(ConfigError):
                found.append(self.get(id))
        return [one for one in found if one is not None]

    def registrations(self) -> _Registrations:
        """All registrations, in chain order; by priority alone where they could not all be on together."""
        everything = [*self._registrations.values()]
        try:
            return sort_layers(everything)
        except OrderError:
            return sorted(everything, key=lambda one: -one.priority)

    def get_sorted_ids(self) -> _Ids:
        """All ids, in chain order: the outermost first."""
        return [one.id for one in self.registrations()]

    def ids(self) -> _Ids:
        """All ids in the order of registration."""
        return [*self._registrations]

    def has(self, id: str) -> bool:
        """Whether there is such an id."""
        return id in self._registrations

    def size(self) -> int:
        """How many there are."""
        return len(self._registrations)

    __len__ = size
    __contains__ = has

    def __iter__(self) -> Iterator[str]:
        return iter(self.get_sorted_ids())

    # --- chains --------------------------------------------------------------------------------------------------

    def configure(self, configs: Mapping[str, Mapping[str, Any]]) -> None:
        """Set the configs by which `get` finds its instances (the factory does)."""
        self._configs = configs

    def layers(self, entries: Mapping[str, Mapping[str, Any]]) -> _Layers:
        """The layers of these entries (id -> entry), in chain order, with their live instances."""
        layers = [self.lookup(id, key=f"middleware.{id}").layer(entry) for id, entry in entries.items()]
        order = {id: index for index, id in enumerate(self._registrations)}
        layers.sort(key=lambda layer: order[layer.id])
        return sort_layers(layers)

    def build_chain(self, context: MiddlewareContext, config: Mapping[str, Any] | None = None) -> _Layers:
        """The layers that apply to a context: what `config` has and does not disable, and what is enabled by default.

        ``custom`` conditions are not decided here but for each call.
        """
        entries: dict[str, Any] = {id: {} for id, one in self._registrations.items() if one.default_enabled}
        entries = deep_merge(entries, entries_of(config))
        on = {id: entry for id, entry in entries.items() if entry.get("enabled", True)}
        for id in entries:
            self.lookup(id, key=f"middleware.{id}")
        return [layer for layer in self.layers(on)
                if layer.conditions.refusal(context.provider, context.model, context.options) is None]  # fmt: skip

    # --- stats ---------------------------------------------------------------------------------------------------

    def get_execution_stats(self, id: str) -> _Results:
        """Copies of the last 100 executions of an id, oldest first; empty where there were none."""
        found = self._registrations.get(id)
        return last_executions([live.stats for live in found.instances()]) if found else []

    def get_aggregated_stats(self) -> dict[str, MiddlewareStats]:
        """All executions of every id that has any, since start or `clear_stats`."""
        stats = {id: aggregate(live.stats for live in one.instances()) for id, one in self._registrations.items()}
        return {id: one for id, one in stats.items() if one.total_executions}

    def clear_stats(self, id: str | None = None) -> None:
        """Forget the executions of an id, or of all."""
        clear(live.stats for one in self._registrations.values() if id in (None, one.id) for live in one.instances())

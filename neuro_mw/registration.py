"""One registered middleware: its metadata, where it came from, and its live instances by config."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from .conditions import NO_CONDITIONS, Conditions
from .config import deep_merge, load_dotted
from .contract import CONTRACT, Middleware, MiddlewareMetadata, check_id
from .detectors import Detector, offering
from .errors import ConfigError, RegistrationError
from .frozen import key_of
from .hooks import check_class, hooks_of_class
from .layer import MODES, Instance, Layer, hook_names
from .lazy import LazyMiddleware

if TYPE_CHECKING:
    from .state import Store


class Registration:
    """A middleware as it was registered; instances are built at the first need, one for each effective config."""

    def __init__(self, id: str, metadata: MiddlewareMetadata, make: Any, given: Middleware | None, origin: str) -> None:
        self.id, self.metadata, self.given, self.origin = id, metadata, given, origin
        self._make = make
        self.default_enabled = False
        self.global_config: dict[str, Any] = {}
        self.priority = metadata.priority
        self.used: str | None = None
        self.detectors: Mapping[str, Detector] = {}
        self.open_store: Callable[[], Store] | None = None
        self._lock = Lock()
        self._instances: dict[Any, Instance] = {}

    @classmethod
    def of(cls, middleware: Any, *, id: str | None, origin: str) -> Registration:
        """A registration of a class, an instance, a callable that makes an instance, or a class to be imported."""
        if isinstance(middleware, LazyMiddleware):
            metadata = _metadata_of(middleware, "LazyMiddleware")
            return cls(id or metadata.id, _under(metadata, id), middleware, None, origin)
        if isinstance(middleware, type):
            if not issubclass(middleware, Middleware):
                raise RegistrationError(f"{middleware.__name__} is no Middleware: derive it from neuro_mw.Middleware")
            metadata = _metadata_of(middleware, middleware.__name__)
            check_class(middleware)
            return cls(id or metadata.id, _under(metadata, id), middleware, None, origin)
        if isinstance(middleware, Middleware):
            metadata = _metadata_of(middleware, type(middleware).__name__)
            made = cls(id or metadata.id, _under(metadata, id), None, middleware, origin)
            made._instances[None] = Instance(middleware, origin=origin)
            return made
        if callable(middleware):
            return cls._of_callable(middleware, id, origin)
        raise RegistrationError(
            f"cannot register {type(middleware).__name__}: give a Middleware class, an instance, or a callable that "
            "returns one"
        )

    @classmethod
    def _of_callable(cls, make: Any, id: str | None, origin: str) -> Registration:
        name = getattr(make, "__name__", type(make).__name__)
        try:
            first = _call(make, {})
        except Exception as error:
            why = f"{type(error).__name__}; it must build without a config"
            raise RegistrationError(f"{name}() failed: {why}") from error
        if not isinstance(first, Middleware):
            raise RegistrationError(f"{name}() returned {type(first).__name__}, not a Middleware")
        metadata = _metadata_of(first, name)
        made = cls(id or metadata.id, _under(metadata, id), make, None, origin)
        made._instances[key_of({})] = Instance(first, origin=origin)
        return made

    def derived(self, id: str) -> Registration:
        """The same class under another id."""
        made = Registration(id, _under(self.metadata, id), self._make, None, self.origin)
        made.global_config, made.priority, made.used = self.global_config, self.priority, self.id
        made.detectors, made.open_store = self.detectors, self.open_store
        return made

    @property
    def make(self) -> Any:
        """What makes an instance: a class, which may be imported now, or another callable; None for a given one."""
        if isinstance(self._make, LazyMiddleware):
            made = self._make.load()
            check_class(made)
            self._make = made
        return self._make

    # --- instances -----------------------------------------------------------------------------------------------

    def instances(self) -> list[Instance]:
        """The live instances."""
        with self._lock:
            return list(dict.fromkeys(self._instances.values()))

    def instance_for(self, config: Mapping[str, Any]) -> Instance:
        """The live instance for own options on top of ``global_config``, built at the first need."""
        effective = deep_merge(self.global_config, config)
        with self._lock:
            if self.given is not None:
                self._check_given(effective)
                return self._instances[None]
            key = key_of(effective)
            instance = None if key is None else self._instances.get(key)
            if instance is None:
                made = Instance(self._build(effective), origin=self.origin, config=effective)
                same = (one for one in self._instances.values() if one.config == made.config)
                instance = next(same, made)
                self._instances[id(instance) if key is None else key] = instance
            return instance

    def check_config(self, config: Mapping[str, Any]) -> None:
        """Raise ConfigError where own options on top of ``global_config`` do not fit; nothing is kept."""
        effective = deep_merge(self.global_config, config)
        if self.given is not None:
            self._check_given(effective)
        else:
            self._build(effective)

    def _check_given(self, config: Mapping[str, Any]) -> None:
        own: Any = getattr(self.given, "config", None)
        values = own.model_dump() if hasattr(own, "model_dump") else own if isinstance(own, Mapping) else {}
        for name, value in config.items():
            if name not in values or values[name] != value:
                raise ConfigError(
                    "it was given as an instance, which is never rebuilt; its config cannot be changed here",
                    key=f"middleware.{self.id}.config.{name}", expected="the instance's own config, or a class",
                )  # fmt: skip

    def _build(self, config: dict[str, Any]) -> Middleware:
        make = self.make
        try:
            with offering(self.detectors):
                made = _call(make, config)
        except ConfigError as error:
            if self.id != self.metadata_id and error.key:
                error.key = error.key.replace(f"middleware.{self.metadata_id}.", f"middleware.{self.id}.", 1)
            raise
        except Exception as error:
            key = f"middleware.{self.id}.config"
            raise ConfigError(f"it cannot be built: {type(error).__name__}: {error}", key=key) from error
        if not isinstance(made, Middleware):
            raise ConfigError(f"its factory returned {type(made).__name__}, no Middleware", key=f"middleware.{self.id}")
        self.bind(made)
        return made

    def bind(self, middleware: Middleware) -> None:
        """Give a middleware that keeps state the store of its factory, unless its config names one."""
        if not middleware.uses_store or self.open_store is None:
            return
        ours, its = self.open_store(), middleware.store
        middleware.stored_as = middleware.stored_as or self.id
        if its is None:
            middleware.store = ours
        elif its.url != ours.url and getattr(middleware.config, "store", None) is None:
            said = f"this instance has its state in {its.url} already, by another factory whose state is there"
            raise ConfigError(said, key=f"middleware.{self.id}", expected=f"an instance of its own for {ours.url}")

    @property
    def metadata_id(self) -> str:
        """The id that the class itself gives."""
        return str(getattr(getattr(self.make, "metadata", None), "id", self.id))

    def hooks(self) -> dict[str, list[str]]:
        """The names of its hooks by mode, as far as they can be told without building an instance."""
        for live in self.instances():
            return {str(mode): names for mode, names in live.names.items()}
        hooks = hooks_of_class(self.make)
        return {str(mode): hook_names(hooks, mode) for mode in MODES}

    # --- layers --------------------------------------------------------------------------------------------------

    def layer(self, entry: Mapping[str, Any]) -> Layer:
        """The layer for one entry of a middleware config."""
        instance = self.instance_for(entry.get("config") or {})
        priority = entry.get("priority")
        on_error = entry.get("on_error") or self.metadata.on_error
        if on_error is None:
            on_error = "skip" if self.metadata.kind == "observer" else "raise"
        return Layer(
            self.id, instance, self.priority if priority is None else priority,
            conditions_of(self.id, entry.get("conditions")), on_error, entry.get("timeout_s"), self.metadata,
        )  # fmt: skip


def _metadata_of(middleware: Any, name: str) -> MiddlewareMetadata:
    metadata = getattr(middleware, "metadata", None)
    if not isinstance(metadata, MiddlewareMetadata):
        raise RegistrationError(f"{name} has no metadata: set metadata = MiddlewareMetadata(id=...) on it")
    _check_contract(metadata)
    return metadata


def _check_contract(metadata: MiddlewareMetadata) -> None:
    major, _, minor = str(metadata.contract).partition(".")
    offered = f"{CONTRACT[0]}.{CONTRACT[1]}"
    known_minor = not minor or (minor.isdigit() and int(minor) <= CONTRACT[1])
    if not (major == str(CONTRACT[0]) and known_minor):
        raise RegistrationError(
            f"middleware {metadata.id!r} wants contract {metadata.contract}, this neuro-mw offers {offered}: "
            "install a version of one of them that fits the other"
        )


def _under(metadata: MiddlewareMetadata, id: str | None) -> MiddlewareMetadata:
    if id is not None:
        check_id(id)
    return metadata


def _call(make: Any, config: Mapping[str, Any]) -> Any:
    """Make an instance; a factory callable may take the config, or nothing."""
    if isinstance(make, type):
        return make(config) if config else make()
    takes = [one for one in inspect.signature(make).parameters.values()
             if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD, one.VAR_POSITIONAL)]  # fmt: skip
    if takes:
        return make(dict(config))
    if config:
        raise ConfigError("this middleware's factory takes no config", key=f"config.{min(config)}")
    return make()


def conditions_of(id: str, data: Mapping[str, Any] | None) -> Conditions:
    """The conditions of an entry; ConfigError where a dotted ``custom`` cannot be loaded."""
    if not data:
        return NO_CONDITIONS
    custom = data.get("custom")
    if isinstance(custom, str):
        custom = load_dotted(custom, key=f"middleware.{id}.conditions.custom")
    return Conditions(**{**data, "custom": custom})

"""Checking what was configured before any call: a ``middleware_config``, and the models that middlewares ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .config import entry_of
from .contract import Middleware
from .errors import ConfigError, NeuroError
from .registration import conditions_of
from .registry import MiddlewareRegistry


@dataclass(slots=True)
class ValidationResult:
    """What `validate_config` found; each line names the key path."""

    is_valid: bool
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def validate(config: Any, registry: MiddlewareRegistry) -> ValidationResult:
    """Check a ``middleware_config`` against what is registered; nothing is built that stays."""
    errors: list[str] = []
    warnings: list[str] = []
    if not isinstance(config, Mapping):
        return ValidationResult(False, [f"middleware_config: it is a mapping of ids, not {type(config).__name__}"])
    for id, data in config.items():
        try:
            entry = entry_of(id, data)
            source = registry.would_use(id, entry.get("use"))
            source.check_config(entry.get("config") or {})
            conditions_of(id, entry.get("conditions"))
        except NeuroError as error:
            errors.append(str(error))
            continue
        for name, value in (entry.get("conditions") or {}).items():
            if name in ("providers", "models", "modes") and value is not None and not list(value):
                warnings.append(f"middleware.{id}.conditions.{name}: it is empty, so the middleware never applies")
        if not entry.get("enabled", True) and entry.get("config"):
            warnings.append(f"middleware.{id}: it has a config but is not enabled")
    return ValidationResult(not errors, errors, warnings)


def check_asked(id: str, middleware: Middleware, resolve: Callable[[str, str], Any], driver: str) -> None:
    """Raise ConfigError, with the key path, where a model that a middleware asks on its own cannot be resolved."""
    for key, model in middleware.asks.items():
        try:
            resolve(model, driver)
        except ConfigError as error:
            error.key = f"middleware.{id}.config.{key}"
            raise

"""Which middlewares are on: every source of the decision, level by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .config import deep_merge, entries_of
from .options import MiddlewareFactoryOptions
from .presets import Presets
from .registry import MiddlewareRegistry


class Switches:
    """Which ids are on, and why; decided level by level, each level overruling the one before."""

    def __init__(self) -> None:
        self.on: dict[str, str] = {}
        self.off: dict[str, str] = {}
        self.entries: dict[str, dict[str, Any]] = {}

    def turn_on(self, id: str, reason: str) -> None:
        """Switch on."""
        self.on[id] = reason
        self.off.pop(id, None)

    def turn_off(self, id: str, reason: str) -> None:
        """Switch off."""
        self.on.pop(id, None)
        self.off[id] = reason

    def level(self, entries: Mapping[str, Any], enabled: Sequence[str], reason: str) -> None:
        """One level of options: its entries, then its enabled list."""
        checked = entries_of(entries)
        for id, entry in checked.items():
            if entry.get("enabled", True):
                self.turn_on(id, f"configured in {reason}middleware_config")
            else:
                self.turn_off(id, f"enabled = false in {reason}middleware_config")
        self.entries = deep_merge(self.entries, checked)
        for id in enabled:
            self.turn_on(id, f"named in {reason}enabled_middleware")

    def preset(self, name: str, entries: Mapping[str, dict[str, Any]]) -> None:
        """The entries of one preset."""
        for id, entry in entries.items():
            if entry.get("enabled", True):
                self.turn_on(id, f"preset {name!r}")
            else:
                self.turn_off(id, f"enabled = false in preset {name!r}")
            self.entries = deep_merge(self.entries, {id: entry})


def decide(
    options: MiddlewareFactoryOptions,
    factory: MiddlewareFactoryOptions,
    call: Mapping[str, Any],
    registry: MiddlewareRegistry,
    presets: Presets,
    given: Mapping[str, str],
) -> Switches:
    """Decide for one model: defaults, given instances, presets, the factory's options, the call's, what is disabled.

    Raises UnknownName for an id or a preset that is not there; ids with ``use`` are registered on the way.
    """
    switches = Switches()
    for one in registry.registrations():
        if one.default_enabled:
            switches.turn_on(one.id, "enabled by default")
    for id, reason in given.items():
        if registry.has(id):
            switches.turn_on(id, reason)
    for name in options.presets:
        switches.preset(name, presets.entries(name))
    switches.level(factory.middleware_config or {}, factory.enabled_middleware, "")
    switches.level(call.get("middleware_config") or {}, call.get("enabled_middleware") or (), "the call's ")
    disabled = (*factory.disabled_middleware, *(call.get("disabled_middleware") or ()))
    for id, entry in switches.entries.items():
        if entry.get("use") is not None:
            registry.derive(id, entry["use"])
    for id in (*switches.on, *switches.off, *disabled):
        registry.lookup(id, key=f"middleware.{id}")
    for id in disabled:
        switches.turn_off(id, "named in disabled_middleware")
    return switches

"""What a factory, and one wrapped model, can be told; and what that switches on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .config import deep_merge, entries_of
from .errors import ConfigError, nearest

PER_MODEL = ("preset", "middleware_config", "enabled_middleware", "disabled_middleware", "on_block", "driver")
_ON_BLOCK = ("respond", "raise")
_DRIVERS = ("auto", "litellm", "native")


@dataclass(frozen=True, slots=True)
class MiddlewareFactoryOptions:
    """All options of a `MiddlewareFactory` as one value."""

    preset: str | Sequence[str] | None = "default"
    middleware: Sequence[Any] = ()
    middleware_config: Mapping[str, Any] | None = None
    enabled_middleware: Sequence[str] = ()
    disabled_middleware: Sequence[str] = ()
    plugins: bool | Sequence[str] = True
    state: str = "memory"
    on_block: str = "respond"
    driver: str = "auto"
    preset_tables: Mapping[str, Any] = field(default_factory=dict)
    """Presets of one's own, as data, by name."""
    file: str | None = field(default=None, compare=False)
    """Where the options come from; errors name it."""

    def __post_init__(self) -> None:
        if self.on_block not in _ON_BLOCK:
            raise ConfigError(f"unknown value {self.on_block!r}", file=self.file, key="on_block",
                              expected="respond or raise")  # fmt: skip
        if self.driver not in _DRIVERS:
            raise ConfigError(f"unknown driver {self.driver!r}", file=self.file, key="driver",
                              expected=", ".join(_DRIVERS), nearest=nearest(str(self.driver), _DRIVERS))  # fmt: skip
        if self.state != "memory":
            raise ConfigError(f"unknown state {self.state!r}", file=self.file, key="state", expected="'memory'")
        for name in ("enabled_middleware", "disabled_middleware", "middleware"):
            if isinstance(getattr(self, name), str):
                raise ConfigError("it is a string", file=self.file, key=name, expected="a list")

    @property
    def presets(self) -> tuple[str, ...]:
        """The names of the presets, in order."""
        if self.preset is None:
            return ()
        return (self.preset,) if isinstance(self.preset, str) else tuple(self.preset)


def refuse_unknown(options: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    """ConfigError for the first option that is not known."""
    for name in options:
        if name not in known:
            raise ConfigError(f"{what} has no option {name!r}", key=name, expected="one of " + ", ".join(known),
                              nearest=nearest(name, known))  # fmt: skip


def merged_with_call(base: MiddlewareFactoryOptions, call: Mapping[str, Any]) -> MiddlewareFactoryOptions:
    """The options of one model on top of the factory's: its preset replaces, lists add up, configs merge later."""
    refuse_unknown(call, PER_MODEL, "apply_middleware")
    changes = {name: call[name] for name in ("preset", "on_block", "driver") if name in call}
    return replace(base, **changes)


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
        """One level of options: its enabled list, then its entries."""
        for id in enabled:
            self.turn_on(id, f"named in {reason}enabled_middleware")
        checked = entries_of(entries)
        for id, entry in checked.items():
            if entry.get("enabled", True):
                self.turn_on(id, f"configured in {reason}middleware_config")
            else:
                self.turn_off(id, f"enabled = false in {reason}middleware_config")
        self.entries = deep_merge(self.entries, checked)

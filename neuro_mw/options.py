"""What a factory, and one wrapped model, can be told."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .config import entries_of
from .errors import ConfigError
from .names import nearest

PER_MODEL = ("preset", "middleware_config", "enabled_middleware", "disabled_middleware", "on_block", "driver")
PUBLIC = (*PER_MODEL, "middleware", "plugins", "state")
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
    state: str = field(default="memory", repr=False)  # it may hold a password
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
        check_types(vars_of(self), self.file)
        if self.state_url != "memory":
            self._check_state()
        for name in ("enabled_middleware", "disabled_middleware", "middleware"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        entries = entries_of(self.middleware_config, file=self.file)
        object.__setattr__(self, "middleware_config", entries)  # a copy, checked: later changes do not show

    @property
    def state_url(self) -> str:
        """Where state is kept: the default, "memory", gives way to ``NEURO_MW_STATE``."""
        return os.environ.get("NEURO_MW_STATE") or self.state if self.state == "memory" else self.state

    def _check_state(self) -> None:
        from .state import open_store

        of_env = self.state_url != self.state
        try:
            open_store(self.state_url, key="NEURO_MW_STATE" if of_env else "state")
        except ConfigError as error:
            error.file = None if of_env else self.file
            raise

    @property
    def presets(self) -> tuple[str, ...]:
        """The names of the presets, in order."""
        if self.preset is None:
            return ()
        return (self.preset,) if isinstance(self.preset, str) else tuple(self.preset)


def vars_of(options: MiddlewareFactoryOptions) -> dict[str, Any]:
    """The options by name."""
    return {one.name: getattr(options, one.name) for one in fields(options)}


def check_types(options: Mapping[str, Any], file: str | None = None) -> None:
    """ConfigError for the first option that is of a wrong type: a string where a list of ids belongs, and the like."""
    for name, value in options.items():
        expected = None
        if name in ("enabled_middleware", "disabled_middleware") and not _is_list(value, str):
            expected = "a list of ids"
        elif name == "middleware" and not _is_list(value, object):
            expected = "a list of middlewares"
        elif name == "preset" and not (value is None or isinstance(value, str) or _is_list(value, str)):
            expected = "a name, a list of names or None"
        elif name == "state" and not isinstance(value, str):
            expected = "the URL of a store, or 'memory'"
        elif name == "plugins" and not (isinstance(value, bool | str) or _is_list(value, str)):
            expected = "True, False or a list of names"
        elif name == "middleware_config" and not (value is None or isinstance(value, Mapping)):
            expected = "a mapping of ids"
        if expected:
            raise ConfigError(f"it is {_article(value)}", file=file, key=name, expected=expected)


def _is_list(value: Any, of: type) -> bool:
    listed = isinstance(value, Sequence | Set) and not isinstance(value, str | bytes)
    return listed and all(isinstance(one, of) for one in value)


def _article(value: Any) -> str:
    return "a string" if isinstance(value, str) else f"of type {type(value).__name__}"


def refuse_unknown(options: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    """ConfigError for the first option that is not known."""
    for name in options:
        if name not in known:
            raise ConfigError(f"{what} has no option {name!r}", key=name, expected="one of " + ", ".join(known),
                              nearest=nearest(name, known))  # fmt: skip


def merged_with_call(
    base: MiddlewareFactoryOptions, call: Mapping[str, Any], what: str
) -> MiddlewareFactoryOptions:
    """The factory's options with the call's preset, on_block and driver; the rest is added in `decide`."""
    refuse_unknown(call, PER_MODEL, what)
    check_types(call)
    changes = {name: call[name] for name in ("preset", "on_block", "driver") if name in call}
    return replace(base, **changes)

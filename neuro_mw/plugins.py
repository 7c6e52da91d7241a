"""Loading plugins: each in its own try, all or nothing of each, and what failed stays visible."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .detectors import Detector
from .errors import NeuroError, PluginError
from .names import nearest

ENTRY_POINT_GROUP = "neuro_mw"
logger = logging.getLogger("neuro_mw")


@dataclass(slots=True)
class Offer:
    """What one plugin offers. Nothing of it counts before all of it was collected."""

    name: str
    origin: str
    middleware: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)
    presets: list[Any] = field(default_factory=list)
    models: dict[str, Callable[[str], Any]] = field(default_factory=dict)
    detectors: dict[str, Detector] = field(default_factory=dict)


@dataclass(slots=True)
class PluginInfo:
    """One plugin as `neuro-mw plugins` shows it; ``error`` is set where it could not be loaded."""

    name: str
    distribution: str | None
    version: str | None
    entry_point: str
    middleware: list[str] = field(default_factory=list)
    error: PluginError | None = None


def collect_offer(plugin: Any, *, name: str, origin: str) -> Offer:
    """Run a plugin's hooks. Raises PluginError for a misspelt hook, and whatever the plugin raises."""
    import pluggy

    from . import hookspecs

    manager = pluggy.PluginManager("neuro_mw")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin, name=name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{error}{_hint(plugin)}") from error
    if not manager.get_hookcallers(plugin):
        raise PluginError(f"it implements no hook: mark its functions with neuro_mw.hookimpl{_hint(plugin)}")
    offer = Offer(name, origin)
    manager.hook.register_middleware(register=_keeper(offer))
    manager.hook.register_presets(register=offer.presets.append)
    manager.hook.register_models(register=offer.models.__setitem__)
    manager.hook.register_detectors(register=offer.detectors.__setitem__)
    return offer


def _keeper(offer: Offer) -> Callable[..., None]:
    def register(
        middleware: Any, *, id: str | None = None, priority: int | None = None, global_config: Any = None
    ) -> None:
        offer.middleware.append((middleware, {"id": id, "priority": priority, "global_config": global_config}))

    return register


def _hint(plugin: Any) -> str:
    hooks = ["register_middleware", "register_presets", "register_models", "register_detectors"]
    for name in dir(plugin):
        close = nearest(name, hooks) if name.startswith("reg") and name not in hooks else None
        if close:
            return f" ({name!r}: did you mean {close!r}?)"
    return ""


def load_plugins(
    wanted: bool | Sequence[str], accept: Callable[[Offer], list[str]]
) -> list[PluginInfo]:
    """Load the entry points of the group ``neuro_mw``; `accept` takes each offer and gives the ids it registered.

    ``NEURO_MW_PLUGINS`` selects (names, comma-separated) or switches off (empty). What fails becomes a PluginError on
    its `PluginInfo`, is logged, and leaves the others alone.
    """
    names = _selected(wanted)
    if names is not None and not names:
        return []
    from importlib.metadata import entry_points

    points = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name)
    infos = [_load(point, accept) for point in points if names is None or point.name in names]
    missing = set(names or ()) - {point.name for point in points}
    for name in sorted(missing):
        error = PluginError(f"no plugin {name!r} is installed", entry_point=name)
        infos.append(PluginInfo(name, None, None, name, error=error))
        logger.warning("%s", error)
    return infos


def _selected(wanted: bool | Sequence[str]) -> set[str] | None:
    """The names to load; None for all."""
    if wanted is False:
        return set()
    from_env = os.environ.get("NEURO_MW_PLUGINS")
    if wanted is not True:
        return set([wanted] if isinstance(wanted, str) else wanted)
    if from_env is None:
        return None
    return {name.strip() for name in from_env.split(",") if name.strip()}


def _load(point: Any, accept: Callable[[Offer], list[str]]) -> PluginInfo:
    distribution = point.dist.name if point.dist else None
    version = point.dist.version if point.dist else None
    info = PluginInfo(point.name, distribution, version, point.value)
    try:
        origin = f"{distribution} {version}" if distribution else point.name
        info.middleware = accept(collect_offer(point.load(), name=point.name, origin=origin))
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a broken plugin must not break the others
        reason = str(error) if isinstance(error, NeuroError) else f"{type(error).__name__}: {error}"
        info.error = PluginError(
            f"plugin {point.name!r} ({distribution} {version}, {point.value}) was not loaded: {reason}",
            distribution=distribution, entry_point=point.value,
        )  # fmt: skip
        info.error.__cause__ = error
        logger.warning("%s", info.error)
    return info

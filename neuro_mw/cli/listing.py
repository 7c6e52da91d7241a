"""``neuro-mw list``, ``presets`` and ``plugins``: what there is to choose from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from neuro_mw import Hooks, Middleware, MiddlewareFactory, hooks_of

from .failure import quiet_loading
from .options import Config, Debug, Json, factory_of
from .output import is_plain, show, show_json


def list_middleware(config: Config = None, as_json: Json = False, debug: Debug = False) -> None:
    """List the middlewares: built-in, from plugins, and from a file."""
    rows = middleware_rows(factory_of(config)[0])
    if as_json:
        show_json(rows)
        return
    from neuro_mw.display import middleware_table

    show(middleware_table(rows, plain=is_plain()))


def list_presets(config: Config = None, as_json: Json = False, debug: Debug = False) -> None:
    """List the presets and what each of them switches on."""
    found = factory_of(config)[0].get_available_presets()
    if as_json:
        show_json([asdict(one) for one in found])
        return
    from neuro_mw.display import presets_table

    show(presets_table(found, plain=is_plain()))


def list_plugins(config: Config = None, as_json: Json = False, debug: Debug = False) -> None:
    """List the installed plugins, and why one could not be loaded."""
    with quiet_loading():
        found = factory_of(config)[0].plugins
    if as_json:
        show_json([
            {"name": one.name, "distribution": one.distribution, "version": one.version, "entry_point": one.entry_point,
             "middleware": one.middleware, "error": str(one.error) if one.error else None}
            for one in found
        ])  # fmt: skip
        return
    from neuro_mw.display import plugins_table

    show(plugins_table(found, plain=is_plain()) if found else "No plugins are installed.")


def middleware_rows(factory: MiddlewareFactory) -> list[dict[str, Any]]:
    """Every registered middleware as plain data, in chain order; nothing is built for it."""
    return [
        {
            "id": one.id,
            "priority": one.priority,
            "kind": one.metadata.kind,
            "origin": one.origin,
            "description": one.metadata.description,
            "hooks": _hooks(one),
        }
        for one in factory.registry.registrations()
    ]


def _hooks(registration: Any) -> list[str]:
    live = registration.instances()
    if live:
        return [name for name, hook in hooks_of(live[0].middleware)._asdict().items() if hook is not None]
    made = registration.make  # a class: one that cannot be built without options is listed too
    return [name for name in Hooks._fields if getattr(made, name) is not getattr(Middleware, name)]

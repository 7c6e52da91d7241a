"""What a plugin may offer. Mark your functions with ``neuro_mw.hookimpl`` and name the module in an entry point.

::

    [project.entry-points.neuro_mw]
    my_plugin = "my_package.plugin"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pluggy

hookspec = pluggy.HookspecMarker("neuro_mw")
hookimpl = pluggy.HookimplMarker("neuro_mw")


@hookspec
def register_middleware(register: Callable[..., None]) -> None:
    """Call ``register(middleware, id=None, priority=None, global_config=None)`` for each middleware.

    ``middleware`` is a class, an instance, a callable that makes one, or a `LazyMiddleware`, whose class is imported
    where it is used. It is off until a user names it.
    """


@hookspec
def register_presets(register: Callable[..., None]) -> None:
    """Call ``register(preset)`` for each preset: a `MiddlewarePreset`, or the path of a TOML file."""


@hookspec
def register_models(register: Callable[[str, Callable[[str], Any]], None]) -> None:
    """Call ``register(provider, make)``: then "provider/model" resolves to ``make("model")``, a LanguageModel."""


@hookspec
def register_detectors(register: Callable[[str, Callable[[Mapping[str, Any]], Iterable[Any]]], None]) -> None:
    """Call ``register(name, make)``: then the guardrails' option ``detectors = {name = options}`` switches it on.

    ``make(options)`` gives the rules, made of `neuro_mw.builtin.guardrails.Rule`, `Terms` and `Spans`; the id of each
    is the name of the detector, or begins with the name and a dot.
    """

"""What a dotted name in a config stands for."""

from __future__ import annotations

import importlib
from typing import Any

from neuro_mw import ConfigError


def named(path: str, *, key: str, expected: str) -> Any:
    """What "package.module:name" names, or "package.module.name". Raises ConfigError, which says what is missing.

    >>> named("json:loads", key="approve", expected="a function").__name__
    'loads'
    """
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    if not (module and name):
        raise ConfigError(f"{path!r} names nothing", key=key, expected=expected)
    try:
        found: Any = importlib.import_module(module)
        for step in name.split("."):
            found = getattr(found, step)
    except (Exception, SystemExit) as error:  # a module may raise anything as it is imported
        said = f"{path!r} cannot be loaded: {type(error).__name__}: {error}"
        raise ConfigError(said, key=key, expected=expected) from error
    return found

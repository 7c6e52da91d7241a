"""Where the stats of this machine's processes lie, if nothing else is said."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import quote

from ..errors import ConfigError


def default_state() -> str:
    """The URL of the store in which stats are recorded: ``NEURO_MW_STATE``, else a sqlite file of the user's own.

    The file is ``neuro_mw/stats.db`` in ``XDG_STATE_HOME`` or ``~/.local/state``, on macOS in
    ``~/Library/Application Support``, on Windows in ``LOCALAPPDATA``. Raises ConfigError where there is no home.

    >>> from unittest.mock import patch
    >>> with patch.dict(os.environ, NEURO_MW_STATE="redis://state.internal:6379/0"):
    ...     default_state()
    'redis://state.internal:6379/0'
    """
    return os.environ.get("NEURO_MW_STATE") or f"sqlite:///{quote((state_folder() / 'stats.db').as_posix(), '/:')}"


def is_default() -> bool:
    """Whether the user named no place."""
    return not os.environ.get("NEURO_MW_STATE")


def state_folder(platform: str = sys.platform) -> Path:
    """The folder for state that this platform gives to programs."""
    try:
        if platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif platform == "darwin":
            base = Path.home() / "Library" / "Application Support"
        else:
            base = Path(os.environ.get("XDG_STATE_HOME") or "")
            if not base.is_absolute():  # the specification has relative ones ignored
                base = Path.home() / ".local" / "state"
    except RuntimeError:
        said = "the home folder is not known, so there is no place for stats"
        raise ConfigError(said, key="NEURO_MW_STATE", expected="the URL of a store") from None
    return base / "neuro_mw"

"""Stats for others: as plain data, to Prometheus, to OpenTelemetry, and in a store where other processes read them.

>>> from neuro_mw import MiddlewareFactory
>>> from neuro_mw.export import snapshot
>>> factory = MiddlewareFactory()
>>> factory.apply_middleware("echo/echo").generate_sync("hello").text
'hello'
>>> snapshot(factory)["middleware"]["analytics"]["stats"]["total_executions"]
1

Each name is loaded when it is first used. `StatsCollector` needs the extra "prometheus", `observe_stats` the extra
"otel"; ``import *`` leaves out the one whose extra is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_HOME = {
    "Recorded": "record",
    "SnapshotError": "schema",
    "StatsCollector": "prometheus",
    "StatsRecorder": "record",
    "clear_recorded": "record",
    "default_state": "folder",
    "merge": "snapshots",
    "observe_stats": "otel",
    "parse_snapshot": "schema",
    "recorded": "record",
    "shared_store": "record",
    "snapshot": "snapshots",
    "stats_of": "snapshots",
}

if TYPE_CHECKING:
    __all__ = [
        "Recorded",
        "SnapshotError",
        "StatsCollector",
        "StatsRecorder",
        "clear_recorded",
        "default_state",
        "merge",
        "observe_stats",
        "parse_snapshot",
        "recorded",
        "shared_store",
        "snapshot",
        "stats_of",
    ]
    from .folder import default_state as default_state
    from .otel import observe_stats as observe_stats
    from .prometheus import StatsCollector as StatsCollector
    from .record import Recorded as Recorded
    from .record import StatsRecorder as StatsRecorder
    from .record import clear_recorded as clear_recorded
    from .record import recorded as recorded
    from .record import shared_store as shared_store
    from .schema import SnapshotError as SnapshotError
    from .schema import parse_snapshot as parse_snapshot
    from .snapshots import merge as merge
    from .snapshots import snapshot as snapshot
    from .snapshots import stats_of as stats_of


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return [one for one in _HOME if _is_there(one)]
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def _is_there(name: str) -> bool:
    """Whether the extra that it needs is installed."""
    try:
        __getattr__(name)
    except ImportError:
        return False
    return True


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})

"""``neuro-mw stats``: what the middlewares of all processes did, from what these recorded in a store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import typer

from neuro_mw import ConfigError, MiddlewareFactory, NeuroError
from neuro_mw.export import (
    Recorded,
    StatsRecorder,
    clear_recorded,
    default_state,
    merge,
    recorded,
    shared_store,
    stats_of,
)
from neuro_mw.state import Store, StoreUnavailable

from .failure import complain, line_of
from .options import Debug, Json
from .output import is_plain, live, show, show_json

T = TypeVar("T")

_INTERVAL_S = 2.0


def stats(
    state: Annotated[
        str | None, typer.Option("--state", metavar="URL", help="The store, instead of NEURO_MW_STATE or the default.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show them live, until Ctrl-C.")] = False,
    interval: Annotated[
        float | None, typer.Option("--interval", metavar="SECONDS", help="With --watch: how often; 2 by default.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Forget what was recorded so far.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what the middlewares did: in `neuro-mw run`, and in services that record their stats."""
    if interval is not None and not watch:
        raise ConfigError("it is for --watch", key="--interval")
    if interval is not None and not 0.1 <= interval <= 3600:
        raise ConfigError(f"it is {interval:g}", key="--interval", expected="0.1 to 3600 seconds")
    if watch and (as_json or clear):
        raise ConfigError("it goes with neither --json nor --clear", key="--watch")
    store = shared_store(state, key="--state")
    if clear:
        _clear(store, as_json=as_json)
    elif watch:
        asyncio.run(_using(store, partial(_watch, interval_s=_INTERVAL_S if interval is None else interval)))
    else:
        found = asyncio.run(_using(store, recorded))
        if as_json:
            show_json(document(store, found))
        else:
            _tell(found)
            show(*_shown(store, found))


def document(store: Store, found: Recorded) -> dict[str, Any]:
    """All that was found as plain data: one snapshot, where it is from, and what was skipped."""
    return {"state": store.url, "skipped": found.skipped, **merge(found.snapshots)}


def record_run(factory: MiddlewareFactory) -> Callable[[], None] | None:
    """What records a run at its end; None where there is no place to record it.

    A run never fails by it. A place that the user named and that cannot be used is told, and what nobody expected.
    """
    try:
        if default_state().startswith("memory"):
            return None
    except ConfigError:  # there is no home, and nobody named a place
        return None
    try:
        recorder = StatsRecorder(factory)
    except ConfigError as error:
        return partial(_not_recorded, error)

    async def record(store: Store) -> None:
        await recorder.record()

    def at_the_end() -> None:
        try:
            asyncio.run(_using(recorder.store, record))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the answer is there, and is what counts
            if not (isinstance(error, NeuroError) and recorder.is_default):
                _not_recorded(error)

    return at_the_end


def _not_recorded(error: BaseException) -> None:
    complain(f"warning: the stats of this run were not recorded: {line_of(error)}")


async def _using(store: Store, work: Callable[[Store], Awaitable[T]]) -> T:
    try:
        return await work(store)
    finally:
        await store.aclose()


def _clear(store: Store, *, as_json: bool) -> None:
    entries = asyncio.run(_using(store, clear_recorded))
    if as_json:
        show_json({"state": store.url, "cleared": entries})
    else:
        show(f"Forgot {_counted(entries, 'recorded entry', 'recorded entries')} in {store.url}.")


async def _watch(store: Store, interval_s: float) -> None:
    """Show what is recorded again and again; a store that is away is told, and asked again."""
    told: list[str] = []
    with live() as update:
        while True:
            try:
                found = await recorded(store)
            except StoreUnavailable as error:
                things, skipped = [str(error)], told
            else:
                things, skipped = _shown(store, found), found.skipped
            if skipped != told:
                told = skipped
                things += [
                    f"{_counted(len(told), 'entry was', 'entries were')} skipped: {', '.join(sorted(set(told)))}"
                ]
            update(*things)
            await asyncio.sleep(interval_s)


def _tell(found: Recorded) -> None:
    for why in sorted(set(found.skipped)):
        number = _counted(found.skipped.count(why), "entry was", "entries were")
        complain(f"warning: {number} skipped: {why}")


def _shown(store: Store, found: Recorded) -> list[Any]:
    """The table, and where it is from; or that there is nothing, and where it was looked for."""
    if not found.snapshots:
        return [
            f"No stats were recorded in {store.url}.",
            "'neuro-mw run' records them, and services with neuro_mw.export.StatsRecorder; they stay for a day.",
        ]
    from neuro_mw.display import stats_table

    merged = merge(found.snapshots)
    processes = len({process["id"] for process in merged["processes"]})
    seconds = max(0, round(time.time() - merged["taken_at"]))
    line = f"{_counted(processes, 'process', 'processes')}, the last recorded {seconds} s ago, in {store.url}"
    table = stats_table(stats_of(merged), plain=is_plain()) if merged["middleware"] else "No middleware has run."
    return [table, line]


def _counted(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"

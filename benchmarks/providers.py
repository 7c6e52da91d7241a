"""The native drivers against other clients, over loopback HTTP.

The server (`benchmarks.loopback`) and every client run in processes of their own, so that clients are compared, not
what else is imported, and each has memory of its own. Slices are interleaved as elsewhere; a client waits on a pipe
while another runs. All are kept on one core: CPU time is the client's alone, p50 and req/s have the server in them.

The baseline is what one writes by hand: ``ClientSession.post(data=orjson.dumps(body))``, ``await response.read()``,
``orjson.loads``; for a stream ``async for line in response.content``, ``orjson.loads`` of what follows ``data: ``, the
end at ``[DONE]``. A second baseline reads a stream by ``readany`` and splits it, as the native driver does.

A chunk is what a stream of many costs more than one of one. In a burst the server writes as fast as it can, so one read
brings hundreds of chunks; a model's chunks come alone, each with a turn of the loop and a read of its own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from statistics import median
from time import perf_counter_ns, process_time_ns

from .clients import (
    Call,
    Client,
    Read,
    by_httpx,
    by_litellm,
    native,
    native_anthropic,
    native_chain,
    openai_sdk,
    raw,
    raw_anthropic,
    raw_split,
)
from .loopback import WHOLE_WORDS, Process, said, stay_on_core
from .loopback import prompt as asked_for
from .measure import Pace, Row, Series, Slice, each, measure, row

LONG, SLOW, TOGETHER = 1000, 100, 64
_WHOLE, _LAST = asked_for(WHOLE_WORDS), asked_for(WHOLE_WORDS, last=True)
_STREAMS = {
    "long": asked_for(LONG),
    "short": asked_for(1),
    "slow": asked_for(SLOW, slowly=True),
    "slow, short": asked_for(1, slowly=True),
}

_RAW, _SPLIT, _RAW_ANTHROPIC = "raw aiohttp, orjson", "raw, readany and split", "raw, Anthropic"
_NATIVE, _NATIVE_ANTHROPIC = "neuro_mw native", "neuro_mw native, Anthropic"
CLIENTS: dict[str, Client] = {
    _RAW: raw,
    _SPLIT: raw_split,  # calls as the one above does
    "httpx, orjson": by_httpx,
    "openai SDK": openai_sdk,
    "litellm": by_litellm,
    _NATIVE: native,
    f"{_NATIVE}, preset default": native_chain,
    _RAW_ANTHROPIC: raw_anthropic,
    _NATIVE_ANTHROPIC: native_anthropic,
}
_BASES = {_NATIVE_ANTHROPIC: _RAW_ANTHROPIC}
_BOUNDED = (_NATIVE, _NATIVE_ANTHROPIC)


# --- a client's process ------------------------------------------------------------------------------------------


async def obey(client: Client, server: str) -> None:
    """Measure what the lines of the input ask for. Between them the loop stands still, as does all that is on it."""
    stay_on_core()
    out, sys.stdout = sys.stdout, sys.stderr  # a library may print
    async with client(server) as (call, read):
        assert await call(_WHOLE) == len("".join(said(WHOLE_WORDS)))
        assert await read(_STREAMS["long"]) == LONG
        await _together(call, 1, _LAST)
        print(json.dumps({"resident": resident() / 2**20}), file=out, flush=True)
        for line in sys.stdin:
            kind, times = json.loads(line)
            print(json.dumps(await _slice(kind, times, call, read)), file=out, flush=True)


async def _slice(kind: str, times: int, call: Call, read: Read) -> int:
    """The nanoseconds that count."""
    one = partial(read, _STREAMS[kind]) if kind in _STREAMS else partial(call, _WHOLE)
    await _together(call, 1) if kind == "together" else await call(
        _WHOLE
    )  # opens anew what idled for too long: not timed
    gc.collect()
    if kind == "p50":
        return await _p50(one, times) * times
    clock = perf_counter_ns if kind == "together" else process_time_ns
    started = clock()
    if kind == "together":
        await _together(call, times)
    else:
        for _ in range(times):
            await one()
    spent = clock() - started
    if kind == "together":
        await _together(call, 1, _LAST)
    return spent


async def _p50(call: Callable[[], Awaitable[int]], times: int) -> int:
    spent = []
    for _ in range(times):
        started = perf_counter_ns()
        await call()
        spent.append(perf_counter_ns() - started)
    return int(median(spent))


async def _together(call: Call, times: int, prompt: str = _WHOLE) -> None:
    async def one() -> None:
        for _ in range(times):
            await call(prompt)

    await asyncio.gather(*(one() for _ in range(TOGETHER)))


def resident() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux: the highest it ever was
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


# --- the table ---------------------------------------------------------------------------------------------------


def rows(pace: Pace) -> list[Row]:
    with ExitStack() as stack:
        server = stack.enter_context(closing(Process("benchmarks.loopback")))
        base = f"http://127.0.0.1:{server.hear()}"
        environment = {
            "OPENAI_BASE_URL": f"{base}/v1", "OPENAI_API_KEY": "key", "ANTHROPIC_BASE_URL": base,
            "ANTHROPIC_API_KEY": "key", "NO_PROXY": "127.0.0.1", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }  # fmt: skip
        clients = {
            name: stack.enter_context(closing(Process("benchmarks.providers", name, base, environment=environment)))
            for name in CLIENTS
        }
        memory = {name: client.hear()["resident"] for name, client in clients.items()}
        slices = {
            f"{kind} {name}": _asking(client, kind)
            for kind in ("p50", "call", "together", *_STREAMS)
            for name, client in clients.items()
            if name != _SPLIT or kind in _STREAMS
        }
        slow = {name: one for name, one in slices.items() if name.startswith("slow")}  # little CPU time, much waiting
        fast = {name: one for name, one in slices.items() if name not in slow}
        found = asyncio.run(measure(fast, replace(pace, slice_ms=pace.slice_ms * 4)))
        found |= asyncio.run(measure(slow, replace(pace, slice_ms=pace.slice_ms / 2)))
    chunks = {name: each(found[f"long {name}"], found[f"short {name}"], LONG - 1) for name in clients}
    alone = {name: each(found[f"slow {name}"], found[f"slow, short {name}"], SLOW - 1) for name in clients}
    calling = [name for name in clients if name != _SPLIT]
    return [
        *_rows("one call, p50", {name: found[f"p50 {name}"] for name in calling}, "us"),
        *_rows("one call", {name: found[f"call {name}"] for name in calling}, "us CPU"),
        *_rows(f"{TOGETHER} at once", {name: _rate(found[f"together {name}"]) for name in calling}, "req/s"),
        *_rows("one chunk of a burst", chunks, "us CPU"),
        *_rows("one chunk that comes alone", alone, "us CPU"),
        *_rows("resident", {name: Series([memory[name]], memory[name]) for name in calling}, "MiB"),
    ]


def _asking(client: Process, kind: str) -> Slice:
    async def run(times: int) -> int:
        spent: int = client.ask([kind, times])
        return spent

    return run


def _rows(what: str, series: Mapping[str, Series], unit: str) -> list[Row]:
    table = []
    for name, one in series.items():
        base = _BASES.get(name, _RAW)
        limit = {"max_ratio": 2.0} if name in _BOUNDED and unit.startswith("us") else {}
        other = None if name in (_RAW, _RAW_ANTHROPIC) else series[base]
        table.append(row(f"{what}: {name}", one, other, base, unit=unit, **limit))
    return table


def _rate(together: Series) -> Series:
    """Requests in a second; the least is that of the worst round."""
    rates = [TOGETHER * 1e6 / spent for spent in together.rounds]
    return Series(rates, min(rates))


if __name__ == "__main__":
    asyncio.run(obey(CLIENTS[sys.argv[1]], sys.argv[2]))

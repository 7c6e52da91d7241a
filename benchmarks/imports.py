"""What importing costs: CPU time and memory of fresh processes, against ``import asyncio, pydantic``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from tempfile import TemporaryDirectory

from .measure import Pace, Row, Series, row

_PROBE = """
import json, os, resource, sys, time

def resident():
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux: the highest it ever was
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

memory, cpu = resident(), time.process_time_ns()
{code}
cpu = time.process_time_ns() - cpu
print(json.dumps([cpu / 1e6, (resident() - memory) / 2**20]))
"""

_BASE = "asyncio, pydantic"
_FACTORY = 'neuro_mw + MiddlewareFactory(preset="all")'
_STARTED = "neuro_mw + MiddlewareFactory(preset=\"all\"), started"
_START = """
async def main():
    async with neuro_mw.MiddlewareFactory(preset="all"):
        pass
asyncio.run(main())
"""
_CODES = {
    _BASE: "import asyncio, pydantic",
    "asyncio, pydantic and its BaseModel": "import asyncio, pydantic; pydantic.BaseModel",  # pydantic loads lazily
    "neuro_mw": "import neuro_mw",
    "neuro_mw, every public name": "from neuro_mw import *",
    "neuro_mw + MiddlewareFactory()": "import neuro_mw; neuro_mw.MiddlewareFactory()",
    _FACTORY: 'import neuro_mw; neuro_mw.MiddlewareFactory(preset="all")',
    _STARTED: f"import asyncio, neuro_mw\n{_START}",
}


def rows(pace: Pace) -> list[Row]:
    """Every round starts one process for each line; "started" has compiled the rules of the guardrails, too."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _CODES}
    with TemporaryDirectory() as cache:
        for code in _CODES.values():
            _probe(code, cache)  # byte code is compiled once, as it is after an installation
        for _ in range(max(3, pace.rounds // 2)):
            for name, code in _CODES.items():
                found[name].append(_probe(code, cache))
    table = []
    for unit, index, limit in (("ms CPU", 0, 100.0), ("MiB", 1, 24.0)):
        series = {name: _series([one[index] for one in figures]) for name, figures in found.items()}
        table.append(row(f"import {_BASE}", series[_BASE], unit=unit))
        for name in list(_CODES)[1:]:
            budget = {"max_value": limit, "max_ratio": 2.0} if name in ("neuro_mw", _FACTORY) else {}
            table.append(row(f"import {name}", series[name], series[_BASE], _BASE, unit=unit, **budget))
    return table


def _probe(code: str, cache: str) -> tuple[float, float]:
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", _PROBE.replace("{code}", code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    cpu_ms, mebibytes = json.loads(done.stdout)
    return cpu_ms, mebibytes


def _series(figures: list[float]) -> Series:
    return Series(figures, min(figures))

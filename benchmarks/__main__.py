"""``python -m benchmarks [chain|stream|build|stats|import|providers|tokens|guardrails|resilience|state|tracing|...``.

Options: ``--json``, ``--quick``, ``--data DIR``. Figures are never asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from .measure import FULL, QUICK, Row

MODULES = {
    "chain": "chain",
    "stream": "stream",
    "build": "build",
    "stats": "stats",
    "import": "imports",
    "providers": "providers",
    "tokens": "tokens",
    "guardrails": "guardrails",
    "resilience": "resilience",
    "state": "state",
    "tracing": "tracing",
    "logging": "logs",
    "scrape": "scrape",
    "pseudonyms": "pseudonyms",
    "reasoning": "reasoning",
    "tool_guard": "tool_guard",
}
TITLES = {
    "chain": "one generate through no-op layers, microseconds a call",
    "stream": "one part of a stream, microseconds a part",
    "build": "building a chain of 20, microseconds",
    "stats": "keeping one execution, microseconds",
    "import": "importing, in fresh processes",
    "providers": "a call and a streamed chunk over loopback HTTP, each client in a process of its own",
    "tokens": "counting tokens and finding prices; what the encodings make of the same text",
    "guardrails": "guardrails: 4 KB are 4,096 characters, a chunk is 4; what they find, and what they should not",
    "resilience": "resilience on the happy path, microseconds a call and a part: its own (to an empty layer), in all",
    "state": "cache, rate_limit and budget in memory, on sqlite and on Valkey, microseconds a call; round trips",
    "tracing": "a span and the metrics of OpenTelemetry, microseconds a call: with the SDK's batch processor",
    "logging": "one record for each call, microseconds a call: its own (to an empty layer), in all",
    "scrape": "reading the stats of 20 middlewares that ran for 10 models, microseconds",
    "pseudonyms": "placeholders in a request and back in an answer, microseconds; a chunk is 4 characters",
    "reasoning": "reasoning between tags, microseconds a chunk of 4 characters",
    "tool_guard": "the tool calls of an answer judged, microseconds",
}


def main() -> int:
    """Run what was asked for and print one table; the exit code is 0 whatever the figures are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("which", nargs="*", metavar="|".join(MODULES), help="what to run; all of it by default")
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    parser.add_argument("--quick", action="store_true", help="few short rounds: shows that it runs, not what it costs")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="labelled sets, for guardrails; no other benchmark uses them"
    )
    asked = parser.parse_args()
    for name in asked.which:
        if name not in MODULES:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(MODULES)}")
    if asked.data is not None and not asked.data.is_dir():
        parser.error(f"--data: there is no folder {str(asked.data)!r}")
    pace = QUICK if asked.quick else FULL
    facts = machine()
    if not asked.json:
        print(" | ".join(str(value) for value in facts.values()))
    report: dict[str, list[Row]] = {}
    for name in asked.which or MODULES:
        more = {"data": asked.data} if name == "guardrails" else {}
        report[name] = import_module(f".{MODULES[name]}", __package__).rows(pace, **more)
        if not asked.json:
            print_table(TITLES[name], report[name])
    if asked.json:
        tables = {name: [one.to_dict() for one in table] for name, table in report.items()}
        print(json.dumps({"machine": facts, "quick": asked.quick, "tables": tables}, indent=1))
    else:
        summary([one for table in report.values() for one in table])
    return 0


def machine() -> dict[str, Any]:
    """What a reader must know to judge the figures."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": f"{os.cpu_count()} cores",
        "load": f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown",
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def print_table(title: str, table: list[Row]) -> None:
    print(f"\n{title}")
    print(f"{'':<58}{'median':>9}{'min':>9}  {'unit':<7}{'ratio':>8}  {'to':<20}{'budget':<24}")
    for one in table:
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}x"
        print(
            f"{one.what:<58}{one.median:>9.3f}{one.least:>9.3f}  {one.unit:<7}{ratio:>8}  {one.against:<20}"
            f"{one.budget:<24}{one.verdict}".rstrip()
        )


def summary(table: list[Row]) -> None:
    bounded = [one for one in table if one.budget]
    missed = [one for one in bounded if one.verdict == "MISSED"]
    print(f"\nbudgets: {len(bounded) - len(missed)} met, {len(missed)} missed")
    for one in missed:
        ratio = "" if one.ratio is None else f", {one.ratio:.2f}x"
        print(f"  MISSED  {one.what}: {one.median:.3f} {one.unit}{ratio} (budget {one.budget})")


if __name__ == "__main__":
    sys.exit(main())

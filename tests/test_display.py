"""The tables, on terminals of several kinds."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from rich.table import Table

from neuro_mw import Blocked, MiddlewareFactory, PluginError, PluginInfo, PresetInfo, middleware
from neuro_mw.display import Bar, middleware_table, plugins_table, presets_table, receipt_table, stats_table
from neuro_mw.stats import MiddlewareStats


def printed(thing: object, *, width: int = 100, encoding: str = "utf-8", terminal: bool = False) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, force_terminal=terminal, color_system="standard" if terminal else None,
                      legacy_windows=False)  # fmt: skip
    console.print(thing)
    file.flush()
    file.seek(0)
    return file.read()


def stats(runs: int, average: float, **more: int) -> MiddlewareStats:
    return MiddlewareStats(total_executions=runs, average_execution_time=average, **more)


@pytest.mark.parametrize(("share", "cells", "text"), [
    (1.0, 4, "████"), (0.5, 4, "██"), (0.0, 4, ""), (0.0001, 4, "▏"), (0.34, 4, "█▍"), (9.0, 2, "██"), (-1.0, 2, ""),
])  # fmt: skip
def test_bars(share: float, cells: int, text: str) -> None:
    assert Bar(share).text(cells) == text


def test_bars_in_ascii() -> None:
    assert [Bar(share).text(4, ascii_only=True) for share in (0.0, 0.001, 0.5, 1.0)] == ["", "#", "##", "####"]
    assert "####" in printed(stats_table({"a": stats(1, 1.0)}), encoding="ascii")


def test_bars_of_a_narrow_table_keep_their_proportion() -> None:
    assert printed(Bar(0.5), width=8).strip() == "████"


def test_stats_compare_by_time_spent() -> None:
    rows = printed(stats_table({"a": stats(4, 0.5), "b": stats(1, 1.0)})).splitlines()
    bars = {row.split()[0]: row.count("█") for row in rows if "█" in row}
    assert bars == {"a": 16, "b": 8}


def test_rare_columns_only_where_they_are() -> None:
    assert "blocked" not in printed(stats_table({"a": stats(1, 1.0)}))
    text = printed(stats_table({"a": stats(3, 1.0, blocked=2, skipped_errors=1)}), width=200)
    assert "blocked" in text
    assert "failures" in text
    assert "cancelled" not in text


def test_nothing_ran() -> None:
    model = MiddlewareFactory(plugins=False).apply_middleware("echo/echo")
    text = printed(stats_table({}, model.stats(), plain=True))
    assert text.splitlines()[1].split() == ["analytics", "0"]
    assert isinstance(stats_table({}), Table)


def test_plain_has_no_lines_and_no_bars() -> None:
    text = printed(stats_table({"a": stats(1, 1.0)}, plain=True))
    assert not set(text) & set("─█│#")


def test_a_receipt() -> None:
    def refuse(params, context):
        raise Blocked("no")

    guard = middleware("guard", transform_params=refuse, kind="guard")
    twice = middleware("twice", wrap_generate=call_twice, priority=5)
    elsewhere = {"analytics": {"conditions": {"providers": ["openai"]}}}
    factory = MiddlewareFactory(middleware=[guard, twice], plugins=False, middleware_config=elsewhere)
    model = factory.apply_middleware("echo/echo")
    response = model.generate_sync("hello")
    text = printed(receipt_table(response.receipt))
    assert response.receipt.request_id in text
    assert "blocked x2" in text
    assert re.search(r"analytics +skipped +- +- +- +\S+", text)  # and the reason
    assert "reason" not in printed(receipt_table(
        MiddlewareFactory(plugins=False).apply_middleware("echo/echo").generate_sync("x").receipt
    ))  # fmt: skip


async def call_twice(do_generate, params, context):
    await do_generate(params)
    return await do_generate(params)


def test_square_brackets_are_text() -> None:
    row = {"id": "a", "priority": 1, "kind": "guard", "origin": "x", "hooks": [], "description": "[red]d[/red]"}
    assert "[red]d[/red]" in printed(middleware_table([row]))
    assert "[red]p[/red]" in printed(presets_table([PresetInfo("p", "[red]p[/red]", [])]))
    bad = PluginInfo("p", None, None, "e", error=PluginError("[red]\ne[/red]"))
    assert "[red] e[/red]" in printed(plugins_table([bad, PluginInfo("q", "d", "1", "e", ["m"])]))


@pytest.mark.parametrize("width", [20, 30, 40, 50, 60, 70, 80, 100])
def test_numbers_and_ids_are_never_cut_short(width: int) -> None:
    table = stats_table({"a_long_identifier": stats(12345, 123.456, blocked=3), "b": stats(1, 0.00123)})
    words = printed(table, width=width).replace(",", " ").split()
    assert words.count("a_long_identifier") == 1
    assert {"12345", "123.5", "1524064", "3", "b", "0.001"} <= set(words)


def test_a_table_that_does_not_fit_becomes_a_list() -> None:
    receipt = MiddlewareFactory(plugins=False).apply_middleware("echo/echo").generate_sync("x").receipt
    lines = [line.rstrip() for line in printed(receipt_table(receipt), width=30).splitlines()]
    assert "analytics" in lines
    assert "  status: completed, changed:" in lines


def test_ids_and_numbers_stay_whole_on_a_usual_terminal() -> None:
    text = printed(stats_table({"structured_output": stats(12345, 12.3456)}), width=80)
    assert " structured_output " in text
    assert " 12.3 " in text
    assert " 152406 " in text  # 12345 runs of 12.3456 ms


def test_colours_on_a_terminal() -> None:
    assert "\x1b[" in printed(stats_table({"a": stats(1, 1.0)}), terminal=True)

"""Tables for a terminal, made with rich: stats with bars for times, receipts, presets, middlewares, plugins.

Each takes ``plain``: no lines, no bars, one row a line, for pipes and files.

>>> from rich.console import Console
>>> from neuro_mw import PresetInfo
>>> Console(width=60).print(presets_table([PresetInfo("mine", "all of them", ["analytics"])], plain=True))
preset  switches on  description
mine    analytics    all of them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.style import Style

    from .plugins import PluginInfo
    from .presets import PresetInfo
    from .receipt import Receipt
    from .stats import MiddlewareChainStats, MiddlewareStats

_BAR_CELLS = 16
_ANY_WIDTH = 10_000  # columns
_EIGHTHS = " ▏▎▍▌▋▊▉"
_STATUS_STYLES = {
    "completed": "green", "short_circuited": "cyan", "blocked": "bold red", "failed": "bold red",
    "cancelled": "yellow", "skipped": "dim",
}  # fmt: skip

# what is rarely there gets a column only where it is
_RARE: tuple[tuple[str, Callable[[MiddlewareStats], int]], ...] = (
    ("failed", lambda stats: stats.failed_executions),
    ("blocked", lambda stats: stats.blocked),
    ("short-circuited", lambda stats: stats.short_circuited),
    ("failures skipped", lambda stats: stats.skipped_errors),
    ("cancelled", lambda stats: stats.cancelled),
    ("inner errors", lambda stats: stats.inner_errors),
)


class Bar:
    """A horizontal bar of `share` (0 to 1) in `cells` cells; of ``#`` where the terminal has no block characters."""

    def __init__(self, share: float, *, cells: int = _BAR_CELLS, style: str = "cyan") -> None:
        self.share, self.cells, self.style = min(max(share, 0.0), 1.0), cells, style

    def text(self, cells: int, *, ascii_only: bool = False) -> str:
        """The bar's characters in so many cells; what is above 0 shows at least a sliver."""
        if ascii_only:
            return "#" * (max(round(self.share * cells), 1) if self.share else 0)
        eighths = max(round(self.share * cells * 8), 1) if self.share else 0
        return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        style: Style = console.get_style(self.style)
        cells = min(self.cells, options.max_width)  # a narrow table shortens all its bars alike
        yield Segment(self.text(cells, ascii_only=options.ascii_only), style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, min(self.cells, options.max_width))


class _Sheet(Table):
    """A table that becomes a list where it does not fit: a number cut short would be a wrong number."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needed = Measurement.get(console, options.update(max_width=_ANY_WIDTH), self).minimum
        if needed <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        if self.title:
            yield Text(str(self.title), style="dim")
        heads = [str(column.header).replace("-\n", "-").replace("\n", " ") for column in self.columns]
        for first, *cells in zip(*(column.cells for column in self.columns), strict=True):
            yield first
            told = [Text.assemble(head, ": ", cell) for head, cell in zip(heads[1:], cells, strict=True)
                    if isinstance(cell, Text)]  # fmt: skip
            yield Padding(Text(", ").join(told), (0, 0, 0, 2))


def stats_table(
    stats: Mapping[str, MiddlewareStats], chain: MiddlewareChainStats | None = None, *, plain: bool = False
) -> Table:
    """What each middleware did, from ``registry.get_aggregated_stats()``; times are self time in ms.

    With `chain` (``model.stats()``) only its layers are shown, in its order, those that never ran included.
    """
    ids = list(stats) if chain is None else [id for id, one in chain.results.items() if one.applied]
    rare = [(name, count) for name, count in _RARE if any(count(stats[id]) for id in ids if id in stats)]
    table = _table(plain, "middleware", numbers=("runs", *(name for name, _ in rare), "parts", "held back",
                                                 "avg ms", "p95 ms", "self ms"))  # fmt: skip
    if not plain:
        table.add_column("self time", overflow="fold")
    spent = {id: one.average_execution_time * one.total_executions for id, one in stats.items()}
    most = max((spent.get(id, 0.0) for id in ids), default=0.0)
    for id in ids:
        one = stats.get(id)
        if one is None:
            table.add_row(Text(id, style="dim"), Text("0", style="dim"))
            continue
        numbers = [
            Text(str(one.total_executions)),
            *(Text(str(count(one)), style="red" if count(one) else "") for _, count in rare),
            Text(str(one.parts)),
            Text(str(one.held_back_max)),
            *map(_ms, (one.average_execution_time, one.p95, spent[id])),
        ]
        bar: list[Any] = [] if plain else [Bar(spent[id] / most if most else 0.0)]
        table.add_row(Text(id, style="bold"), *numbers, *bar)
    return table


def receipt_table(receipt: Receipt, *, plain: bool = False) -> Table:
    """What each layer did to one call. Layers that were not in its chain come last, with the reason."""
    data = receipt.to_dict()
    title = f"request {data['request_id']}, chain {data['chain']}"
    table = _table(plain, "layer", "status", "changed", numbers=("self ms", "failures skipped"), title=title)
    reasons = any(layer.get("reason") for layer in data["layers"])
    if reasons:
        table.add_column("reason")
    for layer in data["layers"]:
        status = layer["status"]
        changed = [name for name in ("request", "answer") if layer.get(f"changed_{name}")]
        again = f" x{layer['ran']}" if layer["ran"] > 1 else ""
        table.add_row(
            Text(layer["id"], style="bold" if layer["ran"] else "dim"),
            Text(status + again, style=_STATUS_STYLES.get(status, "")),
            Text(" and ".join(changed) or "-", style="yellow" if changed else "dim"),
            _ms(layer["self_time"]) if "self_time" in layer else Text("-", style="dim"),
            Text(str(layer.get("failures_skipped", "-"))),
            *([Text(layer.get("reason") or "", style="dim")] if reasons else []),
        )
    return table


def presets_table(presets: Iterable[PresetInfo], *, plain: bool = False) -> Table:
    """The presets and the ids that they switch on."""
    table = _table(plain, "preset", "switches on", "description")
    for one in presets:
        table.add_row(Text(one.name, style="bold"), Text(", ".join(one.middleware) or "-"), Text(one.description))
    return table


def middleware_table(rows: Iterable[Mapping[str, Any]], *, plain: bool = False) -> Table:
    """Middlewares, given as mappings with id, priority, kind, origin, hooks and description."""
    table = _table(plain, "id", numbers=("priority",))
    for name in ("kind", "origin", "hooks", "description"):
        table.add_column(name)
    for row in rows:
        table.add_row(
            Text(row["id"], style="bold"), Text(str(row["priority"])), Text(row["kind"], style="cyan"),
            Text(row["origin"]), Text(", ".join(row["hooks"]) or "-"), Text(row["description"]),
        )  # fmt: skip
    return table


def plugins_table(plugins: Iterable[PluginInfo], *, plain: bool = False) -> Table:
    """The plugins: what each brought, or why it could not be loaded."""
    table = _table(plain, "plugin", "distribution", "version", "entry point", "middlewares", "error")
    for one in plugins:
        error = "" if one.error is None else " ".join(str(one.error).split())
        table.add_row(
            Text(one.name, style="bold red" if error else "bold"), Text(one.distribution or "-"),
            Text(one.version or "-"), Text(one.entry_point), Text(", ".join(one.middleware) or "-"),
            Text(error or "-", style="red" if error else "dim"),
        )  # fmt: skip
    return table


def providers_table(rows: Iterable[Mapping[str, Any]], *, plain: bool = False) -> Table:
    """Providers, given as mappings with provider, driver, key and, by variable, whether it is set."""
    table = _table(plain, "provider", "driver", "key", "key variables", "base URL variables")
    for row in rows:
        missing = row["key"] == "missing"
        keys = {**row["key_variables"], **row["optional_key_variables"]}
        table.add_row(
            Text(row["provider"], style="bold"), Text(row["driver"], style="cyan"),
            Text(row["key"], style="yellow" if missing else "green" if row["key"] == "set" else "dim"),
            _variables(keys), _variables(row["base_url_variables"]),
        )  # fmt: skip
    return table


def models_table(rows: Iterable[Mapping[str, Any]], *, plain: bool = False) -> Table:
    """Models of a provider; prices in US dollars for one million tokens, "-" where the list has none."""
    numbers = ("input $", "output $", "cache read $", "cache write $", "context", "answer")
    table = _table(plain, "model", numbers=numbers)
    for row in rows:
        more = "+" if row["tiers"] else ""  # longer prompts pay another price
        prices = [row[name] for name in ("input", "output", "cache_read", "cache_write")]
        table.add_row(
            Text(row["model"], style="bold"),
            *(Text("-" if price is None else f"{price:g}{more}") for price in prices),
            *(Text(str(row[name] or "-")) for name in ("max_input_tokens", "max_output_tokens")),
        )
    return table


def _variables(found: Mapping[str, bool]) -> Text:
    return Text(", ".join(f"{name} (set)" if there else name for name, there in found.items()) or "-")


def _table(plain: bool, *names: str, numbers: Sequence[str] = (), title: str | None = None) -> Table:
    style = None if plain else box.SIMPLE_HEAD
    table = _Sheet(box=style, title=title, title_justify="left", title_style="dim", header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=name == names[0])
    for name in numbers:  # their heads are broken at words, so that the numbers and the ids need not be
        head = name if plain else name.replace(" ", "\n").replace("-", "-\n")
        table.add_column(head, justify="right", overflow="fold", no_wrap=True)
    return table


def _ms(value: float) -> Text:
    digits = 3 if value < 10 else 1 if value < 1000 else 0
    return Text(f"{value:.{digits}f}")

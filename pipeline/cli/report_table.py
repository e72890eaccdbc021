"""A report on a terminal: the first rows, totals of all of them, and its chart as bars of text."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import islice
from typing import Any

from rich.console import Console
from rich.text import Text

from pipeline.base.money import format_micros
from pipeline.base.plain import plain
from pipeline.cli.narrowed import TextColumn, narrowed, table_of
from pipeline.warehouse.cells import cell_text
from pipeline.warehouse.chart import Bar, series_of, text_bar
from pipeline.warehouse.reports import Report, ReportColumn
from pipeline.warehouse.store import Rows

# What fits into a terminal of 120 columns, in the usage report's order.
_USAGE_COLUMNS = (
    "Start Time",
    "Microsoft Entra ObjectId",
    "Call Type",
    "Caller ID",
    "Destination Number",
    "Destination Dialed",
    "Duration Seconds",
    "Charge",
    "Currency",
    "Capability",
)
# What a narrow terminal says below the table if it is the same in every row, and what it can do without, in turn.
_SAID_ONCE = frozenset({"day", "tenant_id", "month", "currency", "Currency"})
_LESS_NEEDED = {
    "usage": ("Capability", "Microsoft Entra ObjectId", "Destination Dialed"),
    "minute-pools": ("capability",),
    "dial-out-usage": ("minutes_from_pools", "minutes_charged"),
    "daily-usage": ("destination_country", "connected_seconds", "minutes_from_pools", "minutes_charged", "capability"),
    "top-destinations": ("destination_country",),
    "spend-by-user": ("minutes_from_pools", "minutes_charged"),
}
_SECOND_DIGITS = len("2026-03-01T10:00:04")
_BARS_MAX = 15
_BAR_CELLS = 40
_LABEL_CELLS = 32


def print_rows(answer: Rows, report: Report, console: Console, *, rows_max: int) -> int:
    """The first rows with the columns that matter to a person; how many were printed."""
    columns = [
        (place, column)
        for place, column in enumerate(report.columns)
        if report.name != "usage" or column.name in _USAGE_COLUMNS
    ]
    shown = list(islice(answer.rows, rows_max))
    if not shown:
        return 0
    texts = [
        TextColumn(
            column.name,
            column.name.replace("_", " "),
            column.kind in ("whole", "money", "cents"),
            [plain(text) for text in _shown([row[place] for row in shown], column)],
        )
        for place, column in columns
    ]
    table = narrowed(texts, console.width, said_once=_SAID_ONCE, less_needed=_LESS_NEEDED.get(report.name, ()))
    console.print(table_of(report.title, table.columns, console.width))
    if table.said_once:
        console.print(f"all rows shown: {', '.join(table.said_once)}")
    if table.left_out:
        console.print(f"no room for: {', '.join(table.left_out)}; --format csv has every column")
    return len(shown)


def _shown(values: Sequence[object], column: ReportColumn) -> list[str]:
    """A column as a person reads it."""
    if column.kind == "money":
        return amounts(values)
    if column.kind == "whole":
        return ["" if value is None else f"{value:,}" for value in values]
    texts = map(cell_text, values)
    return [text[:_SECOND_DIGITS].replace("T", " ") for text in texts] if column.kind == "time" else list(texts)


def amounts(values: Sequence[Any]) -> list[str]:
    """Money one below the other: as many decimals each as the longest needs, at least two."""
    digits = max((len(cell_text(value).partition(".")[2]) for value in values if value is not None), default=2)
    return ["" if value is None else f"{value:,.{digits}f}" for value in values]


def usage_total_line(currency: str, call_count: int, duration_s: int, charge_micros: int) -> str:
    """What all calls of a currency come to."""
    return f"{call_count:,} calls, {duration_s // 60:,} minutes, {format_micros(charge_micros)} {currency}"


def print_chart(bars: Sequence[Bar], report: Report, console: Console) -> None:
    """One block of bars for each unit; none when there is nothing to compare."""
    series = series_of(bars, _BARS_MAX, is_timeline=report.chart.is_timeline)
    labels = [plain(label) for label in series.labels]
    for unit, values in series.values.items():
        largest = max(values, default=Decimal(0))
        if len(labels) < 2 or largest <= 0:
            continue
        console.print()
        console.print(Text(series.titled(report.chart.title), style="bold"), f", {unit}", sep="")
        width = min(_LABEL_CELLS, max(map(len, labels)))
        # Money with its decimals, minutes and calls as the whole numbers they are.
        texts = amounts(values) if unit.isupper() else [f"{int(value):,}" for value in values]
        figures = max(map(len, texts))
        for label, value, text in zip(labels, values, texts, strict=True):
            bar = text_bar(value, largest, _BAR_CELLS)
            drawn = Text(bar.ljust(_BAR_CELLS), style="cyan")
            console.print(f"{label[:width].ljust(width)} ", drawn, text.rjust(figures), soft_wrap=True)

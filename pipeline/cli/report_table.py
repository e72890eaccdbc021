"""A report on a terminal: the first rows, totals of all of them, and its chart as bars of text."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import islice

from rich.console import Console

from pipeline.base.money import format_micros
from pipeline.cli.failure import plain
from pipeline.cli.fitted import fitted
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
    rows = [[plain(_shown(row[place], column)) for place, column in columns] for row in islice(answer.rows, rows_max)]
    headings = [(column.name.replace("_", " "), column.kind in ("whole", "money", "cents")) for _, column in columns]
    if rows:
        console.print(fitted(report.title, headings, rows, console.width))
    return len(rows)


def _shown(value: object, column: ReportColumn) -> str:
    text = cell_text(value)
    return text[:_SECOND_DIGITS].replace("T", " ") if column.kind == "time" else text


def usage_total_line(currency: str, call_count: int, duration_s: int, charge_micros: int) -> str:
    """What all calls of a currency come to."""
    return f"{call_count:,} calls, {duration_s // 60:,} minutes, {format_micros(charge_micros)} {currency}"


def _amount(value: Decimal, unit: str) -> str:
    """Money with its decimals, minutes and calls as the whole numbers they are."""
    return cell_text(value) if unit.isupper() else f"{int(value):,}"


def print_chart(bars: Sequence[Bar], report: Report, console: Console) -> None:
    """One block of bars for each unit; none when there is nothing to compare."""
    labels, series = series_of(bars, _BARS_MAX, is_timeline=report.chart.is_timeline)
    for unit, values in series.items():
        largest = max(values, default=Decimal(0))
        if len(labels) < 2 or largest <= 0:
            continue
        console.print(f"\n[bold]{plain(report.chart.title)}[/], {plain(unit)}", highlight=False)
        width = min(_LABEL_CELLS, max(map(len, labels)))
        for label, value in zip(labels, values, strict=True):
            bar = text_bar(value, largest, _BAR_CELLS)
            line = f"{plain(label[:width].ljust(width))}  [cyan]{bar.ljust(_BAR_CELLS)}[/] {_amount(value, unit)}"
            console.print(line, highlight=False, soft_wrap=True)

"""A report on a terminal: figures that can be added up by eye."""

from __future__ import annotations

import io
from decimal import Decimal

from rich.console import Console

from pipeline.cli.report_table import print_chart, print_rows
from pipeline.warehouse.chart import Bar
from pipeline.warehouse.reports import REPORTS
from pipeline.warehouse.store import Rows


def printed(report: str, rows: list[tuple[object, ...]]) -> list[str]:
    out = io.StringIO()
    names = tuple(column.name for column in REPORTS[report].columns)
    print_rows(Rows(names, iter(rows)), REPORTS[report], Console(file=out, width=200), rows_max=10)
    return out.getvalue().splitlines()


def test_money_in_a_column_has_the_same_number_of_decimals() -> None:
    """15.00 under 187.1603 at the right edge reads as a larger number than it is; large ones need their commas."""
    rows: list[tuple[object, ...]] = [
        ("t1", "2026-03", "DE", "Berlin", 12_345, 20, 10, Decimal("1234567.1603"), "USD"),
        ("t1", "2026-03", "DE", "Bonn", 1, 20, 10, Decimal("-15"), "USD"),
        ("t1", "2026-03", "DE", "Köln", 1, 20, 10, Decimal(0), "USD"),
    ]
    lines = printed("top-destinations", rows)[-3:]
    assert [line.split()[-2] for line in lines] == ["1,234,567.1603", "-15.0000", "0.0000"]
    assert lines[0].split()[4] == "12,345"
    assert len({line.index(".") for line in lines}) == 1


def test_amounts_beside_bars_are_lined_up_too() -> None:
    out = io.StringIO()
    bars = [Bar("a", "USD", Decimal("1000.5")), Bar("b", "USD", Decimal("3"))]
    print_chart(bars, REPORTS["top-destinations"], Console(file=out, width=120))
    assert [line.split()[-1] for line in out.getvalue().splitlines()[-2:]] == ["1,000.50", "3.00"]

"""Charts: no day of a timeline is left out, and the time between two of them is as long as it was."""

from __future__ import annotations

import io
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline.cli.report_table import print_chart
from pipeline.warehouse.chart import Bar, series_of
from pipeline.warehouse.chart_io import write_chart
from pipeline.warehouse.reports import REPORTS
from pipeline.warehouse.store import Rows
from pipeline.warehouse.workbook_io import Summary, write_workbook

MAY_6 = date(2026, 5, 6)  # a Wednesday
DAYS = st.dates(date(1970, 1, 1), date(2105, 12, 31))


def days(*dates: date, unit: str = "USD") -> list[Bar]:
    return [Bar(each.isoformat(), unit, Decimal(1), 1) for each in dates]


@given(st.lists(DAYS, min_size=1, max_size=30), st.sampled_from([15, 40, 60]))
def test_a_timeline_shows_all_that_there_was(dates: list[date], labels_max: int) -> None:
    """It showed the last days only, and did not say so."""
    shown = series_of(days(*dates), labels_max, is_timeline=True)
    assert sum(shown.values["USD"]) == len(dates)
    assert len(shown.labels) <= labels_max or shown.span == "year"
    assert shown.labels == sorted(set(shown.labels))


def test_days_without_calls_are_empty_days() -> None:
    """6 May next to 9 May looks like a day later."""
    shown = series_of(days(MAY_6, date(2026, 5, 9)), 15, is_timeline=True)
    assert shown.labels == ["2026-05-06", "2026-05-07", "2026-05-08", "2026-05-09"]
    assert shown.values == {"USD": [1, 0, 0, 1]}
    assert shown.titled("Charge") == "Charge by day"


@pytest.mark.parametrize(
    ("day_count", "span", "first", "second", "last"),
    [
        (15, "day", "2026-05-06", "2026-05-07", "2026-05-20"),
        (16, "week from Monday", "2026-05-04", "2026-05-11", "2026-05-18"),
        (103, "week from Monday", "2026-05-04", "2026-05-11", "2026-08-10"),
        (104, "month", "2026-05", "2026-06", "2026-08"),
        (452, "month", "2026-05", "2026-06", "2027-07"),
        (1_000, "quarter", "2026 Q2", "2026 Q3", "2029 Q1"),
        (2_000, "year", "2026", "2027", "2031"),
    ],
)
def test_of_many_days_the_finest_span_that_fits_is_taken(
    day_count: int, span: str, first: str, second: str, last: str
) -> None:
    shown = series_of(days(MAY_6, MAY_6 + timedelta(day_count - 1)), 15, is_timeline=True)
    assert (shown.span, *shown.labels[:2], shown.labels[-1]) == (span, first, second, last)


def test_a_statement_by_month_has_its_empty_months() -> None:
    bars = [Bar(month, "USD", Decimal(2)) for month in ("2025-11", "2026-02")]
    shown = series_of(bars, 15, is_timeline=True)
    assert (shown.span, shown.labels) == ("month", ["2025-11", "2025-12", "2026-01", "2026-02"])


def test_currencies_share_a_timeline() -> None:
    shown = series_of(days(MAY_6) + days(date(2026, 5, 7), unit="EUR"), 15, is_timeline=True)
    assert shown.values == {"EUR": [0, 1], "USD": [1, 0]}


def test_others_are_those_that_have_no_room() -> None:
    bars = [Bar(name, "USD", Decimal(5 - place)) for place, name in enumerate("abcd")]
    shown = series_of(bars, 3, is_timeline=False)
    assert (shown.labels, shown.values) == (["a", "b", "others"], {"USD": [5, 4, 5]})
    assert shown.titled("Charge by user") == "Charge by user"


def test_every_chart_says_what_its_bars_stand_for(tmp_path: Path) -> None:
    """On the terminal, in a picture and in a workbook."""
    report, bars = REPORTS["daily-usage"], days(MAY_6, date(2026, 9, 19))
    out = io.StringIO()
    print_chart(bars, report, Console(file=out, width=120))
    _, title, first, *_ = out.getvalue().splitlines()
    assert (title, first.split()[0]) == ("Charge by month, USD", "2026-05")
    picture = tmp_path / "x.svg"
    write_chart(picture, title="Charge", bars=bars, is_timeline=True, ending=".svg")
    assert "Charge by week from Monday" in picture.read_text()
    book = tmp_path / "x.xlsx"
    write_workbook(Rows((), iter(())), report, report.columns, book, Summary([], [], bars))
    cells = [row[0].value for row in openpyxl.load_workbook(book)["Summary"].iter_rows(max_col=1)]
    assert "Charge by week from Monday" in cells


def test_an_empty_timeline_is_an_empty_chart() -> None:
    assert series_of([], 15, is_timeline=True) == ([], {}, "")

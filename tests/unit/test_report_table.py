"""A report on a terminal: figures that can be added up by eye."""

from __future__ import annotations

import io
from datetime import date
from decimal import Decimal

import pytest
from rich.console import Console

from pipeline.cli.report_table import print_chart, print_rows
from pipeline.warehouse.chart import Bar
from pipeline.warehouse.reports import REPORTS
from pipeline.warehouse.store import Rows


def printed(report: str, rows: list[tuple[object, ...]], width: int = 200) -> list[str]:
    out = io.StringIO()
    names = tuple(column.name for column in REPORTS[report].columns)
    print_rows(Rows(names, iter(rows)), REPORTS[report], Console(file=out, width=width), rows_max=10)
    return out.getvalue().splitlines()


SEEN = {
    "month": "2026-11",
    "day": date(2026, 11, 19),
    "Start Time": "2026-11-19T00:09:51.0000000Z",
    "tenant_id": "amber-bicycles",
    "user_id": "b3186bd8-7bf8-428e-91ea-1fb178bfa79c",
    "organiser_id": "b3186bd8-7bf8-428e-91ea-1fb178bfa79c",
    "Microsoft Entra ObjectId": "b3186bd8-7bf8-428e-91ea-1fb178bfa79c",
    "upn": "",
    "display_name": "Reception",
    "currency": "USD",
    "Currency": "USD",
    "country": "US+PR",
    "destination_country": "ZA",
    "destination": "South Africa - Mobile",
    "Destination Dialed": "South Africa - Mobile",
    "Caller ID": "+302100000487",
    "Destination Number": "+448081570539",
    "Call Type": "user_out_conf",
    "capability": "MCOMEETADD",
    "licence": "MCOMEETADV",
    "scope": "international",
    "outcome": "included",
    "reason": "no_rate_for_destination",
    "agrees": "yes",
}
AMOUNTS = {"whole": 4_440, "money": Decimal("178.2206"), "cents": Decimal("12.50")}


def seen_row(report: str, **different: object) -> tuple[object, ...]:
    known = SEEN | different
    return tuple(known.get(each.name, AMOUNTS.get(each.kind, "x")) for each in REPORTS[report].columns)


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("width", [80, 100, 130])
def test_no_word_and_no_value_of_a_report_is_broken_on_a_usual_terminal(report: str, width: int) -> None:
    """`curre ncy` over figures in two lines is read by nobody. What has no room is named below."""
    lines = printed(report, [seen_row(report), seen_row(report, tenant_id="calm-joinery")], width)
    assert max(map(len, lines)) <= width
    rule = next(index for index, line in enumerate(lines) if line.startswith("─"))
    words = {word for column in REPORTS[report].columns for word in column.name.replace("_", " ").split()}
    assert set(" ".join(lines[1:rule]).split()) <= words
    below = " ".join(lines[rule + 3 :])
    assert not below or below.startswith(("all rows shown: ", "no room for: "))
    row = lines[rule + 1].split()
    for column, value in zip(REPORTS[report].columns, seen_row(report), strict=True):
        if column.kind in AMOUNTS and report != "usage":
            assert f"{value:,}" in row or column.name.replace("_", " ") in below


def test_what_is_the_same_in_every_row_is_said_once_where_room_is_short() -> None:
    rows = [seen_row("spend-by-user"), seen_row("spend-by-user", user_id="a516c874-b00c-4046-bccc-6aa67012192e")]
    narrow = printed("spend-by-user", rows, 80)
    assert "all rows shown: tenant id amber-bicycles, month 2026-11, currency USD" in narrow
    assert "b3186bd8…" in " ".join(narrow)
    wide = " ".join(printed("spend-by-user", rows, 200))
    assert "all rows shown" not in wide
    assert SEEN["user_id"] in wide


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

"""Cells of a workbook: what a person sees is what the row says, whatever its text looks like to Excel or to XML."""

from __future__ import annotations

import errno
import gc
import random
import sys
import tempfile
import zipfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from pipeline.base.calendar import parse_time
from pipeline.warehouse import workbook_io
from pipeline.warehouse.reports import REPORTS
from pipeline.warehouse.store import Rows
from pipeline.warehouse.usage import ReportColumn
from pipeline.warehouse.workbook_io import Summary, write_workbook

COLUMNS = [
    ReportColumn("name", "text", ""),
    ReportColumn("day", "day", ""),
    ReportColumn("time", "time", ""),
    ReportColumn("calls", "whole", ""),
    ReportColumn("charge", "money", ""),
    ReportColumn("cents", "cents", ""),
]
TEXTS = ["", "a", " a ", "a & b < c > d", "<r>x</r>", "=1+1", "-1", "@x", '"', "Ü 🛰", "line\nbreak", "x" * 40_000]


def row(text: str | None, seq: int = 0) -> tuple[Any, ...]:
    time = f"2026-03-01T09:00:{seq % 60:02d}.1230000Z"
    return (text, date(2026, 3, 1), time, seq, Decimal("12.345678"), Decimal("-0.01"))


def sheet_of(path: Path, rows: list[tuple[Any, ...]]) -> Any:
    answer = Rows(tuple(column.name for column in COLUMNS), iter(rows))
    report = REPORTS["spend-by-user"]
    assert write_workbook(answer, report, COLUMNS, path, Summary([], [], [])) == len(rows)
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["Summary", report.title]
    return book[report.title]


def test_every_text_is_shown_as_it_is_and_none_is_a_formula(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path / "x.xlsx", [row(text, seq) for seq, text in enumerate(TEXTS)])
    for line, text in enumerate(TEXTS, 2):
        cell = sheet.cell(line, 1)
        assert (cell.value or "") == text[:32_767]
        assert cell.data_type != "f"
        assert cell.quotePrefix == text.startswith(("=", "-", "@"))


def test_a_disk_that_is_full_at_the_end_is_one_error_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The zip that was given up tried to write its end once more, and Python told so in a traceback."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with pytest.raises(OSError, match="No space left on device") as failure:
        sheet_of(Path("/dev/full"), [row("a", seq) for seq in range(10)])
    assert failure.value.errno == errno.ENOSPC
    del failure
    gc.collect()
    assert told == []


def test_a_workbook_that_is_told_to_end_while_it_is_packed_leaves_no_files_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of a month are gigabytes in a folder that nobody looks at."""

    def told_to_end(*_: object) -> None:
        raise SystemExit

    (folder := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(zipfile.ZipFile, "write", told_to_end)
    with pytest.raises(SystemExit):
        sheet_of(tmp_path / "x.xlsx", [row("a")])
    assert list(folder.iterdir()) == []
    assert {each.name for each in tmp_path.iterdir()} <= {"temporary", "x.xlsx"}


def test_numbers_days_and_times_are_typed_and_exact(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path / "x.xlsx", [row("a", 7), row(None, 2**40)])
    name, day, time, calls, charge, cents = [cell.value for cell in sheet[2]]
    assert (name, day, calls) == ("a", datetime(2026, 3, 1), 7)  # Excel knows no zones
    assert time == datetime(2026, 3, 1, 9, 0, 7, 123_000)
    assert (Decimal(str(charge)), Decimal(str(cents))) == (Decimal("12.345678"), Decimal("-0.01"))
    assert [cell.value for cell in sheet[3]][:4:3] == [None, 2**40]
    assert sheet.cell(2, 5).number_format == "#,##0.00####"
    assert (sheet.freeze_panes, sheet.auto_filter.ref, sheet.dimensions) == ("A2", "A1:F3", "A1:F3")


def test_a_sheet_that_is_full_goes_on_in_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook_io, "_SHEET_ROWS_MAX", 4)
    answer = Rows(tuple(column.name for column in COLUMNS), iter([row(str(seq), seq) for seq in range(7)]))
    assert write_workbook(answer, REPORTS["spend-by-user"], COLUMNS, tmp_path / "x.xlsx", Summary([], [], [])) == 7
    book = openpyxl.load_workbook(tmp_path / "x.xlsx")
    found = [line[0].value for sheet in book.worksheets[1:] for line in sheet.iter_rows(min_row=2)]
    assert (len(book.sheetnames), found) == (4, [str(seq) for seq in range(7)])


def test_texts_that_repeat_and_texts_that_do_not_give_the_same_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook_io, "_TEXTS_REMEMBERED_MAX", 3)
    chance = random.Random(3)
    texts = [chance.choice(["a", "=b", "c & d", "e", f"f{seq}"]) for seq in range(200)]
    sheet = sheet_of(tmp_path / "x.xlsx", [row(text) for text in texts])
    assert [line[0].value for line in sheet.iter_rows(min_row=2)] == texts


def test_a_time_in_excel_is_the_instant_to_the_millisecond() -> None:
    instant_ms = parse_time("2026-03-01T09:00:00.001Z")
    assert workbook_io._excel_time(instant_ms) == pytest.approx(46082 + (9 * 3600 + 0.001) / 86_400, abs=1e-9)

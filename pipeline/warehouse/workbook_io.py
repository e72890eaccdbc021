"""A report as an Excel workbook, in constant memory: a sheet of typed cells, and a summary with a chart."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from zipfile import ZipFile

import xlsxwriter
from xlsxwriter.exceptions import XlsxWriterException
from xlsxwriter.utility import xl_col_to_name
from xlsxwriter.workbook import Workbook
from xlsxwriter.worksheet import Worksheet

from pipeline.base.calendar import MS_PER_DAY, parse_time
from pipeline.warehouse.cells import is_formula
from pipeline.warehouse.chart import Bar, series_of
from pipeline.warehouse.reports import Report
from pipeline.warehouse.store import Rows
from pipeline.warehouse.usage import ReportColumn

# Excel's own limit, the header row included.
_SHEET_ROWS_MAX = 1_048_576
_TEXT_MAX = 32_767
_FORMATS = {
    "money": "#,##0.00####",
    "cents": "#,##0.00",
    "whole": "#,##0",
    "time": "yyyy-mm-dd hh:mm:ss",
    "day": "yyyy-mm-dd",
}
_WIDTHS = {"text": 20, "time": 19, "day": 11, "month": 9}
_CHART_POINTS_MAX = 60
_DAY_ZERO = date(1899, 12, 30).toordinal()
_EPOCH_DAY = date(1970, 1, 1).toordinal() - _DAY_ZERO
# About 200 bytes each. Ids of calls do not repeat and fill it in vain.
_TEXTS_REMEMBERED_MAX = 5_000


class Sums(NamedTuple):
    """Totals of a report in one currency: label and amount of each summed column."""

    unit: str
    row_count: int
    amounts: Sequence[tuple[ReportColumn, int | Decimal]]


class Summary(NamedTuple):
    """What stands on the first sheet. `facts`: name and value, such as the period."""

    facts: Sequence[tuple[str, str]]
    sums: Sequence[Sums]
    bars: Sequence[Bar]


def write_workbook(answer: Rows, report: Report, columns: Sequence[ReportColumn], path: Path, summary: Summary) -> int:
    """The number of rows. Raises OSError when the file cannot be written."""
    # Every text is written as text: nothing in it becomes a formula, a link or a number.
    # Rows wait beside the file: whatever ends this takes them away, and a full disk is the file's.
    with TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as spool:
        book = xlsxwriter.Workbook(str(path), {"constant_memory": True, "tmpdir": spool})
        try:
            _write_summary(book, report, summary)
            count = _write_rows(book, report, columns, answer)
            book.close()
        except XlsxWriterException as error:
            reason = error.__context__
            if not isinstance(reason, OSError):
                raise OSError(str(error)) from error
            _give_up(reason)
            raise reason from None
    return count


def _give_up(reason: OSError) -> None:
    """Closes the archive that could not be written. Python would try to write its end once more when it collects it,
    and tell in a traceback why that fails."""
    for frame, _ in traceback.walk_tb(reason.__traceback__):
        for value in frame.f_locals.values():
            if isinstance(value, ZipFile) and value.fp is not None:
                file, value.fp = value.fp, None
                with suppress(OSError):
                    file.close()


def _write_rows(book: Workbook, report: Report, columns: Sequence[ReportColumn], answer: Rows) -> int:
    header = book.add_format({"bold": True, "bottom": 1, "text_wrap": True})
    quoted = book.add_format({"quote_prefix": True})
    formats = {kind: book.add_format({"num_format": shown}) for kind, shown in _FORMATS.items()}
    count, sheet_number = 0, 0
    sheet, row_number, lines = None, _SHEET_ROWS_MAX, None
    for row in answer.rows:
        if lines is None or row_number >= _SHEET_ROWS_MAX:
            _close_sheet(sheet, row_number, columns)
            sheet_number += 1
            name = report.title if sheet_number == 1 else f"{report.title} {sheet_number}"
            sheet, row_number = _new_sheet(book, name, columns, header), 1
            lines = _Lines(sheet, columns, formats, quoted)
        lines.write(row_number, row)
        row_number += 1
        count += 1
    if sheet is None:
        sheet, row_number = _new_sheet(book, report.title, columns, header), 1
    _close_sheet(sheet, row_number, columns)
    return count


def _new_sheet(book: Workbook, name: str, columns: Sequence[ReportColumn], header: Any) -> Worksheet:
    sheet = book.add_worksheet(name[:31])
    sheet.freeze_panes(1, 0)
    for place, column in enumerate(columns):
        sheet.set_column(place, place, _WIDTHS.get(column.kind, 13))
        sheet.write_string(0, place, column.name, header)
    return sheet


def _close_sheet(sheet: Worksheet | None, row_count: int, columns: Sequence[ReportColumn]) -> None:
    if sheet is not None:
        sheet._check_dimensions(max(1, row_count - 1), len(columns) - 1)  # of the rows that `_Lines` wrote
        sheet.autofilter(0, 0, max(1, row_count - 1), len(columns) - 1)


class _Lines:
    """Writes the rows of a sheet into the file that xlsxwriter keeps them in: 15 times as fast as cell by cell, since
    texts repeat and their XML is remembered."""

    def __init__(self, sheet: Worksheet, columns: Sequence[ReportColumn], formats: dict[str, Any], quoted: Any) -> None:
        sheet._write_single_row(1)  # the header
        self._out = sheet.row_data_fh
        self._sheet = sheet
        self._quoted = quoted._get_xf_index()
        self._texts: dict[str, str] = {}
        self._columns = [
            (f'<c r="{xl_col_to_name(place)}', self._cell_maker(column, formats))
            for place, column in enumerate(columns)
        ]

    def write(self, row_number: int, row: Sequence[Any]) -> None:
        """`row_number` counts from 0, as everywhere in xlsxwriter."""
        number = row_number + 1
        cells = [
            f'{begin}{number}"{make(value)}'
            for (begin, make), value in zip(self._columns, row, strict=True)
            if value is not None and value != ""
        ]
        self._out.write(f'<row r="{number}">{"".join(cells)}</row>')

    def _cell_maker(self, column: ReportColumn, formats: dict[str, Any]) -> Callable[[Any], str]:
        """How a value of the column becomes the rest of its cell."""
        if column.kind not in formats:
            return self._text
        begin = f' s="{formats[column.kind]._get_xf_index()}"><v>'
        if column.kind == "time":
            return lambda value: f"{begin}{_excel_time(parse_time(value)):.16G}</v></c>"
        if column.kind == "day":
            return lambda value: f"{begin}{value.toordinal() - _DAY_ZERO}</v></c>"
        return lambda value: f"{begin}{value:.16G}</v></c>"

    def _text(self, value: str) -> str:
        cell = self._texts.get(value)
        if cell is None:
            text = value[:_TEXT_MAX]
            style = f' s="{self._quoted}"' if is_formula(text) else ""
            kept = ' xml:space="preserve"' if text != text.strip() else ""
            shown = self._sheet._escape_data(self._sheet._escape_control_characters(text))
            cell = f'{style} t="inlineStr"><is><t{kept}>{shown}</t></is></c>'
            if len(self._texts) >= _TEXTS_REMEMBERED_MAX:
                self._texts.clear()
            self._texts[value] = cell
        return cell


def _excel_time(instant_ms: int) -> float:
    """Days since 1899-12-30. Excel knows no zones: the column is UTC, as everywhere."""
    days, rest_ms = divmod(instant_ms, MS_PER_DAY)
    return days + _EPOCH_DAY + rest_ms / MS_PER_DAY


def _write_summary(book: Workbook, report: Report, summary: Summary) -> None:
    sheet = book.add_worksheet("Summary")
    bold = book.add_format({"bold": True})
    title = book.add_format({"bold": True, "font_size": 14})
    formats = {kind: book.add_format({"num_format": shown}) for kind, shown in _FORMATS.items()}
    sheet.set_column(0, 0, 30)
    sheet.set_column(1, 6, 18)
    sheet.write_string(0, 0, report.title, title)
    rounded = {column.name for column in report.columns if column.kind == "cents"}
    row = 2
    for name, value in summary.facts:
        sheet.write_string(row, 0, name, bold)
        sheet.write_string(row, 1, value)
        row += 1
    for sums in summary.sums:
        row += 1
        sheet.write_string(row, 0, f"Total {sums.unit}".rstrip(), bold)
        sheet.write_string(row, 1, f"{sums.row_count:,} rows")
        for column, amount in sums.amounts:
            row += 1
            sheet.write_string(row, 0, column.name)
            sheet.write_number(row, 1, amount, formats[column.kind])
            if column.kind == "money" and column.name in rounded:
                sheet.write_string(row, 2, "exact; rows are rounded to cents")
        row += 1
    _write_chart(book, sheet, report, summary.bars, row + 1, bold)


def _write_chart(book: Workbook, sheet: Worksheet, report: Report, bars: Sequence[Bar], top: int, bold: Any) -> None:
    shown = series_of(bars, _CHART_POINTS_MAX, is_timeline=report.chart.is_timeline)
    labels, series, chart_title = shown.labels, shown.values, shown.titled(report.chart.title)
    sheet.write_string(top, 0, chart_title, bold)
    for place, unit in enumerate(series, 1):
        sheet.write_string(top, place, unit, bold)
    for index, label in enumerate(labels, 1):
        sheet.write_string(top + index, 0, label)
        for place, values in enumerate(series.values(), 1):
            sheet.write_number(top + index, place, values[index - 1])
    if not labels:
        sheet.write_string(top + 1, 0, "no rows")
        return
    chart = book.add_chart({"type": "column" if report.chart.is_timeline else "bar"})
    last = top + len(labels)
    for place, unit in enumerate(series, 1):
        chart.add_series(
            {
                "name": unit,
                "categories": ["Summary", top + 1, 0, last, 0],
                "values": ["Summary", top + 1, place, last, place],
            }
        )
    chart.set_title({"name": chart_title})
    if not report.chart.is_timeline:
        chart.set_y_axis({"reverse": True})
    chart.set_size({"width": 760, "height": 420})
    sheet.insert_chart(1, 4, chart)

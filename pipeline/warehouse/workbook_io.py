"""A report as an Excel workbook, in constant memory: a sheet of typed cells, and a summary with a chart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import xlsxwriter
from xlsxwriter.exceptions import XlsxWriterException
from xlsxwriter.workbook import Workbook
from xlsxwriter.worksheet import Worksheet

from pipeline.base.calendar import parse_time, to_datetime
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
    book = xlsxwriter.Workbook(str(path), {"constant_memory": True})
    try:
        _write_summary(book, report, summary)
        count = _write_rows(book, report, columns, answer)
        book.close()
    except XlsxWriterException as error:
        raise OSError(str(error)) from error
    finally:
        _forget(book)
    return count


def _forget(book: Workbook) -> None:
    """Takes away the temporary files of a workbook that was not closed."""
    for sheet in book.worksheets():
        if sheet.row_data_fh is not None and not sheet.row_data_fh.closed:
            sheet.row_data_fh.close()
            Path(sheet.row_data_filename).unlink(missing_ok=True)


def _write_rows(book: Workbook, report: Report, columns: Sequence[ReportColumn], answer: Rows) -> int:
    header = book.add_format({"bold": True, "bottom": 1, "text_wrap": True})
    quoted = book.add_format({"quote_prefix": True})
    formats = {kind: book.add_format({"num_format": shown}) for kind, shown in _FORMATS.items()}
    count, sheet_number = 0, 0
    sheet, row_number, writers = None, _SHEET_ROWS_MAX, list[Callable[[int, int, Any], Any]]()
    for row in answer.rows:
        if row_number >= _SHEET_ROWS_MAX:
            _close_sheet(sheet, row_number, columns)
            sheet_number += 1
            name = report.title if sheet_number == 1 else f"{report.title} {sheet_number}"
            sheet, row_number = _new_sheet(book, name, columns, header), 1
            writers = [_writer(sheet, column, formats, quoted) for column in columns]
        for place, value in enumerate(row):
            if value is not None and value != "":
                writers[place](row_number, place, value)
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
        sheet.autofilter(0, 0, max(1, row_count - 1), len(columns) - 1)


def _writer(
    sheet: Worksheet, column: ReportColumn, formats: dict[str, Any], quoted: Any
) -> Callable[[int, int, Any], Any]:
    """How a value of the column becomes a cell."""
    shape = formats.get(column.kind)
    if column.kind == "time":
        return lambda row, place, value: sheet.write_datetime(row, place, _naive(value), shape)
    if column.kind == "day":
        return lambda row, place, value: sheet.write_datetime(row, place, value, shape)
    if column.kind in ("whole", "money", "cents"):
        return lambda row, place, value: sheet.write_number(row, place, value, shape)
    return lambda row, place, value: sheet.write_string(
        row, place, value[:_TEXT_MAX], quoted if is_formula(value) else None
    )


def _naive(text: str) -> Any:
    """Excel knows no zones: the column is UTC, as everywhere."""
    return to_datetime(parse_time(text)).astimezone(UTC).replace(tzinfo=None)


def _write_summary(book: Workbook, report: Report, summary: Summary) -> None:
    sheet = book.add_worksheet("Summary")
    bold = book.add_format({"bold": True})
    title = book.add_format({"bold": True, "font_size": 14})
    formats = {kind: book.add_format({"num_format": shown}) for kind, shown in _FORMATS.items()}
    sheet.set_column(0, 0, 30)
    sheet.set_column(1, 6, 18)
    sheet.write_string(0, 0, report.title, title)
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
        row += 1
    _write_chart(book, sheet, report, summary.bars, row + 1, bold)


def _write_chart(book: Workbook, sheet: Worksheet, report: Report, bars: Sequence[Bar], top: int, bold: Any) -> None:
    labels, series = series_of(bars, _CHART_POINTS_MAX, is_timeline=report.chart.is_timeline)
    sheet.write_string(top, 0, report.chart.title, bold)
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
    chart.set_title({"name": report.chart.title})
    if not report.chart.is_timeline:
        chart.set_y_axis({"reverse": True})
    chart.set_size({"width": 760, "height": 420})
    sheet.insert_chart(1, 4, chart)

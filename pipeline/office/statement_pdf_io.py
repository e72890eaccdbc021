"""A statement as a PDF of A4 pages: the same lines as the table, in the fonts that every reader has."""

from __future__ import annotations

from fpdf import FPDF

from pipeline.base.calendar import format_time, to_datetime
from pipeline.base.money import format_micros
from pipeline.office.statement import Statement

_WIDTHS_MM = (38.0, 30.0, 62.0, 30.0, 30.0)
_LINE_MM = 5.0
_ABOUT_CHARS_MAX = 40


def statement_pdf(statement: Statement) -> bytes:
    """The file's bytes; dated with the statement's end, so the same statement gives the same file."""
    pdf = FPDF(format="A4")
    pdf.set_auto_page_break(True, margin=15)
    pdf.set_title(f"Communications Credits {_plain(statement.tenant_id)}")
    pdf.set_creation_date(to_datetime(statement.to_ms))
    pdf.add_page()
    pdf.set_font("Helvetica", "B", 14)
    pdf.cell(0, 9, f"Communications Credits: {_plain(statement.tenant_id)}", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("Helvetica", size=9)
    start = "the beginning" if statement.from_ms is None else format_time(statement.from_ms)
    pdf.cell(0, 6, f"From {start} to {format_time(statement.to_ms)}, in {_plain(statement.currency)}. Times are UTC.",
             new_x="LMARGIN", new_y="NEXT")  # fmt: skip
    _line(pdf, ("", "Opening balance", "", "", format_micros(statement.opening_micros)), style="B")
    _line(pdf, ("Time", "Entry", "Call, lot or recharge", "Amount", "Balance"), style="B")
    for row in statement.rows:
        later = f" ({format_micros(row.postpaid_micros)} billed later)" if row.postpaid_micros else ""
        amount, balance = format_micros(row.amount_micros), format_micros(row.balance_micros)
        _line(pdf, (format_time(row.occurred_at), row.kind, row.about + later, amount, balance))
    _line(pdf, ("", "Closing balance", "", "", format_micros(statement.closing_micros)), style="B")
    pdf.ln(_LINE_MM)
    _line(pdf, ("Purchased", "Expires", "Lot", "Amount", "Left"), style="B")
    for lot in statement.lots:
        dates = format_time(lot.purchased_at), format_time(lot.expires_at)[:10]
        _line(pdf, (*dates, lot.lot_id, format_micros(lot.amount_micros), format_micros(lot.remaining_micros)))
    if statement.overdraft_micros:
        _line(pdf, ("", "", "Overdraft", "", format_micros(-statement.overdraft_micros)))
    return bytes(pdf.output())


def _line(pdf: FPDF, cells: tuple[str, ...], style: str = "") -> None:
    pdf.set_font("Helvetica", style, size=8)
    for index, (text, width_mm) in enumerate(zip(cells, _WIDTHS_MM, strict=True)):
        pdf.cell(width_mm, _LINE_MM, _plain(text), align="R" if index > 2 else "L")
    pdf.ln(_LINE_MM)


def _plain(text: str) -> str:
    """What the built-in fonts can show: Latin-1; the rest becomes `?`. Cut so that columns do not run together."""
    shown = text if len(text) <= _ABOUT_CHARS_MAX else text[: _ABOUT_CHARS_MAX - 1] + "~"
    return shown.encode("latin-1", "replace").decode("latin-1")

"""An invoice for people: lines of text, and the same as PDF. Pure: the same invoice gives the same bytes."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from fpdf import FPDF

from pipeline.base.calendar import to_datetime
from pipeline.base.money import format_micros
from pipeline.emit.customers import Party
from pipeline.emit.invoice.invoice import CREDIT_NOTE, Invoice

_METHODS = {"card": "by card", "enterprise_agreement": "on an enterprise agreement", "other": "as agreed"}
_LINE_CHARS_MAX = 200
_MARGIN_MM = 20


def title_of(invoice: Invoice) -> str:
    return "Credit note" if invoice.kind == CREDIT_NOTE else "Invoice"


def facts_of(invoice: Invoice) -> list[tuple[str, str]]:
    """What stands on it between the addresses and the amount; numbers only where there are any."""
    facts = [
        ("Number", invoice.number),
        ("Date", f"{to_datetime(invoice.issued_at):%Y-%m-%d}"),
        ("Corrects invoice", invoice.corrects),
        ("Account", invoice.tenant_id),
        ("Enterprise agreement", invoice.enterprise_agreement_no),
        ("Purchase order", invoice.purchase_order_no),
        ("Reference", invoice.reference),
        ("Payment", _METHODS.get(invoice.payment_method, invoice.payment_method)),
        ("Purchase", invoice.lot_id),
    ]
    return [(name, _line(text)) for name, text in facts if text]


def amount_of(invoice: Invoice) -> str:
    return f"{format_micros(invoice.amount_micros)} {_line(invoice.currency)}"


def party_lines(party: Party) -> list[str]:
    lines = [party.name, *party.address, *([f"Tax number {party.tax_no}"] if party.tax_no else [])]
    return [_line(line) for line in lines]


def as_text(invoice: Invoice) -> str:
    """For a terminal, a mail or a search."""
    return "\n".join(
        [
            f"{title_of(invoice)} {invoice.number}",
            "",
            *(
                f"From: {line}" if index == 0 else f"      {line}"
                for index, line in enumerate(party_lines(invoice.seller))
            ),
            *(
                f"To:   {line}" if index == 0 else f"      {line}"
                for index, line in enumerate(party_lines(invoice.customer))
            ),
            "",
            *(f"{name + ':':<22}{text}" for name, text in facts_of(invoice)),
            "",
            f"{_line(invoice.description):<58}{amount_of(invoice):>20}",
            f"{'Total':<58}{amount_of(invoice):>20}",
            "",
        ]
    )


def as_pdf(invoice: Invoice, font: Path) -> bytes:
    """One page of A4. `font`: a TrueType or OpenType file; see `missing_characters`."""
    pdf = _sheet(font)
    pdf.set_creation_date(to_datetime(invoice.issued_at))
    pdf.set_title(f"{title_of(invoice)} {invoice.number}")
    pdf.set_font("text", size=18)
    _write(pdf, f"{title_of(invoice)} {invoice.number}", 10)
    pdf.set_font("text", size=10)
    for heading, party in (("From", invoice.seller), ("To", invoice.customer)):
        pdf.ln(4)
        _write(pdf, heading, 5)
        for line in party_lines(party):
            _write(pdf, f"    {line}", 5)
    pdf.ln(6)
    with pdf.table(col_widths=(35, 65), first_row_as_headings=False, borders_layout="HORIZONTAL_LINES") as table:
        for name, text in facts_of(invoice):
            table.row((name, text))
    pdf.ln(8)
    with pdf.table(
        col_widths=(70, 30),
        text_align=("LEFT", "RIGHT"),
        first_row_as_headings=False,
        borders_layout="HORIZONTAL_LINES",
    ) as table:
        table.row((_line(invoice.description), amount_of(invoice)))
        table.row(("Total", amount_of(invoice)))
    return bytes(pdf.output())


def missing_characters(invoice: Invoice, font: Path) -> str:
    """Characters that the font cannot show: they would be empty boxes."""
    known = _sheet(font).fonts["text"].cmap  # type: ignore[union-attr]
    return "".join(sorted({char for char in as_text(invoice) if ord(char) not in known and char not in "\n "}))


def _sheet(font: Path) -> FPDF:
    pdf = FPDF(format="A4")
    pdf.add_font("text", fname=font)
    pdf.set_margin(_MARGIN_MM)
    pdf.add_page()
    pdf.set_font("text", size=10)
    return pdf


def _write(pdf: FPDF, text: str, height_mm: float) -> None:
    pdf.multi_cell(w=0, h=height_mm, text=text, new_x="LMARGIN", new_y="NEXT")


def _line(text: str) -> str:
    """Without control and format characters, so that no name can write lines of its own; cut to a length."""
    return "".join(" " if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else char for char in text)[
        :_LINE_CHARS_MAX
    ]

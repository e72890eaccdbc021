"""A statement as CSV and JSON: exact amounts, every number with its currency or unit. Pure."""

from __future__ import annotations

import csv
import io

from pipeline.base.calendar import format_time
from pipeline.base.money import format_micros
from pipeline.office.statement import LotLine, Statement, StatementRow

CSV_COLUMNS = ("line", "time", "kind", "about", "amount", "balance", "billed_later", "expires", "left", "currency")


def statement_json(statement: Statement) -> dict[str, object]:
    """Names and units of records.md: micro-units and RFC 3339."""
    return {
        "tenant_id": statement.tenant_id,
        "currency": statement.currency,
        "from": None if statement.from_ms is None else format_time(statement.from_ms),
        "to": format_time(statement.to_ms),
        "opening_balance_micros": statement.opening_micros,
        "entries": [_row_json(row) for row in statement.rows],
        "lots": [_lot_json(lot) for lot in statement.lots],
        "overdraft_micros": statement.overdraft_micros,
        "closing_balance_micros": statement.closing_micros,
    }


def statement_csv(statement: Statement) -> str:
    """RFC 4180: opening, entries, lots, closing; the first column says which a line is."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    currency = {"currency": statement.currency}
    start = "" if statement.from_ms is None else format_time(statement.from_ms)
    opening = {"line": "opening", "time": start, "balance": format_micros(statement.opening_micros)}
    writer.writerow(opening | currency)
    for row in statement.rows:
        writer.writerow(
            {
                "line": "entry",
                "time": format_time(row.occurred_at),
                "kind": row.kind,
                "about": _safe(row.about),
                "amount": format_micros(row.amount_micros),
                "balance": format_micros(row.balance_micros),
                "billed_later": format_micros(row.postpaid_micros) if row.postpaid_micros else "",
            }
            | currency
        )
    for lot in statement.lots:
        writer.writerow(
            {
                "line": "lot",
                "time": format_time(lot.purchased_at),
                "about": _safe(lot.lot_id),
                "amount": format_micros(lot.amount_micros),
                "expires": format_time(lot.expires_at),
                "left": format_micros(lot.remaining_micros),
            }
            | currency
        )
    if statement.overdraft_micros:
        writer.writerow({"line": "overdraft", "left": format_micros(-statement.overdraft_micros)} | currency)
    closing = {"line": "closing", "time": format_time(statement.to_ms)}
    writer.writerow(closing | {"balance": format_micros(statement.closing_micros)} | currency)
    return out.getvalue()


def _safe(text: str) -> str:
    """A name that a spreadsheet would take for a formula becomes plain text."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _row_json(row: StatementRow) -> dict[str, object]:
    return {
        "occurred_at": format_time(row.occurred_at),
        "kind": row.kind,
        "about": row.about,
        "amount_micros": row.amount_micros,
        "postpaid_micros": row.postpaid_micros,
        "balance_micros": row.balance_micros,
        "entry_id": row.entry_id,
    }


def _lot_json(lot: LotLine) -> dict[str, object]:
    return {
        "lot_id": lot.lot_id,
        "purchased_at": format_time(lot.purchased_at),
        "expires_at": format_time(lot.expires_at),
        "amount_micros": lot.amount_micros,
        "remaining_micros": lot.remaining_micros,
    }

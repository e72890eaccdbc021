"""Writes the usage report: CSV and JSON as it streams, in constant memory; a table for a terminal."""

from __future__ import annotations

import csv
import json
from itertools import islice
from typing import Any, NamedTuple, TextIO

from rich.console import Console
from rich.table import Table

from pipeline.base.money import format_micros
from pipeline.warehouse.reports import USAGE_COLUMNS, UsageFilter, cell_text, csv_cell, usage_sql, usage_totals_sql
from pipeline.warehouse.store import Store

# What fits into a terminal of 120 columns, in the report's order.
_TABLE_COLUMNS = (
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
_RIGHT_ALIGNED = frozenset({"Duration Seconds", "Charge", "Connection Fee"})
_SECOND_DIGITS = len("2026-03-01T10:00:04")


class UsageTotal(NamedTuple):
    """Of all calls in one currency."""

    currency: str
    call_count: int
    duration_s: int
    charge_micros: int


def usage_totals(store: Store, chosen: UsageFilter) -> list[UsageTotal]:
    """One for each currency."""
    rows: list[Any] = list(store.query(usage_totals_sql(chosen)).rows)
    return [UsageTotal(currency, int(calls), int(seconds), int(micros)) for currency, calls, seconds, micros in rows]


def write_usage_csv(store: Store, chosen: UsageFilter, out: TextIO) -> int:
    """RFC 4180, with the export's header; the number of calls written. `out` must not translate line ends."""
    answer = store.query(usage_sql(chosen))
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(answer.names)
    count = 0
    for row in answer.rows:
        writer.writerow([csv_cell(value) for value in row])
        count += 1
    return count


def write_usage_json(store: Store, chosen: UsageFilter, out: TextIO) -> int:
    """An array of objects, one call a line; money is text with two decimals. The number of calls written."""
    answer = store.query(usage_sql(chosen))
    count = 0
    out.write("[")
    for row in answer.rows:
        shown = {
            name: value if isinstance(value, int) else cell_text(value)
            for name, value in zip(answer.names, row, strict=True)
        }
        out.write(",\n" if count else "\n")
        out.write(json.dumps(shown, ensure_ascii=False))
        count += 1
    out.write("\n]\n")
    return count


def print_usage_table(store: Store, chosen: UsageFilter, console: Console, *, rows_max: int) -> None:
    """The first calls with the columns that matter to a person, and totals of all of them."""
    places = [USAGE_COLUMNS.index(name) for name in _TABLE_COLUMNS]
    table = Table(title="PSTN usage", title_justify="left")
    for name in _TABLE_COLUMNS:
        table.add_column(name, justify="right" if name in _RIGHT_ALIGNED else "left", overflow="fold")
    shown_count = 0
    answer = store.query(usage_sql(chosen))
    for row in islice(answer.rows, rows_max):
        cells = [cell_text(row[place]) for place in places]
        cells[0] = cells[0][:_SECOND_DIGITS].replace("T", " ")
        table.add_row(*(cell.replace("[", "\\[") for cell in cells))
        shown_count += 1
    totals = usage_totals(store, chosen)
    if not totals:
        console.print("no calls: check --tenant, --from and --to")
        return
    console.print(table)
    call_count = sum(total.call_count for total in totals)
    if call_count > shown_count:
        console.print(f"the first {shown_count:,} of {call_count:,} calls; --format csv or json has them all")
    for total in totals:
        minutes = total.duration_s // 60
        charge = format_micros(total.charge_micros)
        console.print(f"{total.call_count:,} calls, {minutes:,} minutes, {charge} {total.currency}")

"""`pstn report`: what the warehouse says, and whether it agrees with the ledger."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from pipeline.base.avro import DecodeError
from pipeline.base.money import format_micros
from pipeline.cli.failure import fail, load_settings, one_line, plain
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.warehouse.reconcile import Outcome
from pipeline.warehouse.report_io import print_usage_table, write_usage_csv, write_usage_json
from pipeline.warehouse.reports import PeriodError, UsageFilter, parse_period
from pipeline.warehouse.store import Store, StoreAway, StoreRefused
from pipeline.warehouse.store_io import open_store

app = typer.Typer(no_args_is_help=True, help="Reports from the warehouse.")

WarehouseOption = Annotated[
    str | None,
    typer.Option(
        "--warehouse",
        help="clickhouse://host:port/database or chdb:FOLDER",
        envvar="PSTN_WAREHOUSE",
        show_default="chdb:warehouse",
    ),
]
EXIT_DIFFERENT = 1
_DIFFERENCES_SHOWN_MAX = 50


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """The warehouse for reading, also while a worker has it; what is wrong becomes one line and exit code 2."""
    try:
        store = open_store(url, for_reading=True)
        try:
            yield store
        finally:
            store.close()
    except (StoreAway, StoreRefused, DecodeError) as error:
        raise fail(plain(str(error))) from None


@app.command()
def usage(
    tenant: Annotated[str | None, typer.Option(help="calls of this tenant only", show_default="all")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="first day, month or time (UTC)", show_default="the first call")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="last day or month, included; or a time, not included")] = None,
    format: Annotated[Literal["table", "csv", "json"], typer.Option(help="csv and json have all 25 columns")] = "table",
    limit: Annotated[int, typer.Option(min=1, help="calls shown in the table")] = 100,
    warehouse: WarehouseOption = None,
) -> None:
    """The PSTN usage report, with the names that administrators know from their export.

    It reads while a worker runs. Charges have two decimals; the ledger is exact to the micro-unit.

    Example: pstn report usage --tenant contoso --from 2026-03 --to 2026-03 --format csv
    """
    settings = load_settings(warehouse=warehouse)
    try:
        chosen = UsageFilter(tenant, *parse_period(from_, to))
    except PeriodError as error:
        raise fail(plain(str(error))) from None
    with opened(settings.warehouse) as store:
        if format == "table":
            print_usage_table(store, chosen, Console(soft_wrap=False), rows_max=limit)
            return
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]  # \r\n must stay as it is
        write = write_usage_csv if format == "csv" else write_usage_json
        write(store, chosen, sys.stdout)


@app.command()
def reconcile(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    warehouse: WarehouseOption = None,
    wait: Annotated[float, typer.Option(min=0, help="seconds given to the loader to come as far as the ledger")] = 30,
    skip_calls: Annotated[
        bool, typer.Option("--skip-calls", help="do not count the calls on the topic: faster")
    ] = False,
    format: Annotated[Literal["table", "json"], typer.Option(help="table for a person, json for a program")] = "table",
) -> None:
    """Compare ledger, balances and warehouse, to the micro-unit. Exit code 1 when they differ.

    Example: pstn report reconcile --wait 60
    """
    from pipeline.warehouse.reconcile_io import reconcile as compare_books  # a help page need not wait for it

    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix, warehouse=warehouse)
    with one_line(), opened(settings.warehouse) as store:
        outcome = asyncio.run(compare_books(store, settings, is_counting_calls=not skip_calls, wait_s=wait))
    if format == "json":
        typer.echo(json.dumps(as_json(outcome), ensure_ascii=False))
    else:
        print_outcome(outcome, Console())
    if outcome.differences:
        raise typer.Exit(EXIT_DIFFERENT)


def as_json(outcome: Outcome) -> dict[str, object]:
    """One object for programs; amounts in micros."""
    return {
        "reconciled": not outcome.differences,
        "tenants": outcome.tenant_count,
        "calls": outcome.call_count,
        "balance_micros": dict(outcome.balance_micros),
        "differences": [difference._asdict() for difference in outcome.differences],
    }


def print_outcome(outcome: Outcome, console: Console) -> None:
    """The one line when all is well; else what differs, where."""
    balances = ", ".join(f"{format_micros(micros)} {currency}" for currency, micros in outcome.balance_micros.items())
    seen = f"{outcome.tenant_count:,} tenants, {outcome.call_count:,} calls, balances {balances or 'none'}"
    if not outcome.differences:
        console.print(f"[green]reconciled: ledger = balances = warehouse[/] ({seen})")
        return
    table = Table(title=f"not reconciled: {len(outcome.differences):,} differences ({seen})", title_justify="left")
    for name in ("must hold", "where", "currency", "expected", "found"):
        table.add_column(name, justify="right" if name in ("expected", "found") else "left", overflow="fold")
    for difference in outcome.differences[:_DIFFERENCES_SHOWN_MAX]:
        is_money = difference.currency != ""
        amounts = [
            format_micros(amount) if is_money else f"{amount:,}" for amount in (difference.expected, difference.found)
        ]
        subject = plain(difference.subject)
        table.add_row(difference.what, subject, difference.currency, *amounts)
    console.print(table)
    if len(outcome.differences) > _DIFFERENCES_SHOWN_MAX:
        console.print(f"the first {_DIFFERENCES_SHOWN_MAX}; --format json has them all")

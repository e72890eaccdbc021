"""`pstn reconcile`: whether ledger, balances and warehouse agree. `pstn report reconcile` is the same command."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from pipeline.base.money import format_micros
from pipeline.cli.failure import load_settings, one_line, plain, stderr
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.cli.warehouse_options import WarehouseOption, opened
from pipeline.warehouse.reconcile import Outcome

EXIT_DIFFERENT = 1
_DIFFERENCES_SHOWN_MAX = 50


def reconcile(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    warehouse: WarehouseOption = None,
    wait: Annotated[
        float,
        typer.Option(min=0, help="seconds given to a killed worker's transaction and to the loader to come to an end"),
    ] = 75,  # the broker ends a dead worker's transaction after 60 s and looks every 10 s
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
        outcome = asyncio.run(compare_books(store, settings, is_counting_calls=not skip_calls, wait_s=wait, say=_say))
    if format == "json":
        typer.echo(json.dumps(as_json(outcome), ensure_ascii=False))
    else:
        print_outcome(outcome, Console())
    if outcome.differences:
        raise typer.Exit(EXIT_DIFFERENT)


def _say(line: str) -> None:
    stderr.print(line, markup=False)


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

"""`pstn reconcile`: whether ledger, balances and warehouse agree. `pstn report reconcile` is the same command."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.base.money import format_micros
from pipeline.cli.failure import fail, load_settings, one_line, stderr
from pipeline.cli.report_run import check_place, placed
from pipeline.cli.terminal import Terminal
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.cli.warehouse_options import WarehouseOption, opened
from pipeline.warehouse.reconcile import Outcome
from pipeline.warehouse.reconcile_since import Agreed, Position, StateError, parse_agreed

if TYPE_CHECKING:
    from pipeline.warehouse.reconcile_io import Compared, Waiting

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
    state: Annotated[
        Path | None,
        typer.Option(help="file that keeps how far the books agreed: only what is new is read", show_default="none"),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="read everything, and begin the --state file anew")] = False,
    metrics: Annotated[
        Path | None, typer.Option(help="file for Prometheus' textfile collector", show_default="none")
    ] = None,
    format: Annotated[Literal["table", "json"], typer.Option(help="table for a person, json for a program")] = "table",
) -> None:
    """Compare topics, ledger, balances and warehouse by tenant and month, to the micro-unit. They differ: exit code 1.

    What differs is listed with its place in the log. What the ledger has not read yet is not compared, but said. With
    --state a run reads only what came since the books last agreed: cheap enough for every hour. Such a run does not see
    a row that was changed in the past, so run it with --full once a day.

    Example: pstn reconcile --state reconciled.json --metrics /var/lib/node_exporter/pstn_reconcile.prom
    """
    from pipeline.warehouse.reconcile_io import reconcile as compare_books  # a help page need not wait for it

    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix, warehouse=warehouse)
    for option, file in (("--state", state), ("--metrics", metrics)):
        if file is not None:
            check_place(option, file, is_forced=True)
    started_s = time.monotonic()
    try:
        since = None if state is None or full else _agreed(state)
        with one_line(), opened(settings.warehouse) as store:
            compared = asyncio.run(
                compare_books(store, settings, is_counting_calls=not skip_calls, wait_s=wait, since=since, say=_say)
            )
    except StateError as error:
        raise fail(f"--state {state}: {error}: --full begins it anew") from None
    if state is not None and compared.agreed is not None:
        with placed(state) as path:
            path.write_text(compared.agreed.as_text(), encoding="utf-8")
    if metrics is not None:
        with placed(metrics) as path:
            path.write_bytes(_as_metrics(compared, time.monotonic() - started_s))
    outcome = compared.outcome
    if format == "json":
        waiting = {"cdrs": compared.waiting.cdrs_max, "commands": compared.waiting.commands_max}
        positions = [each._asdict() for each in compared.positions]
        shown = as_json(outcome) | {"waiting_at_most": waiting, "positions": positions}
        typer.echo(json.dumps(shown, ensure_ascii=False))
    else:
        print_outcome(outcome, Terminal())
        if compared.positions:
            print_positions(compared.positions, Terminal())
        Terminal().print(waiting_line(compared.waiting))
    if outcome.differences:
        raise typer.Exit(EXIT_DIFFERENT)


def _agreed(state: Path) -> Agreed | None:
    """How far the books agreed; None at the first time. StateError."""
    try:
        return parse_agreed(state.read_text(encoding="utf-8", errors="replace")) if state.exists() else None
    except OSError as error:
        raise fail(f"--state {state}: {error.strerror}") from None


def waiting_line(waiting: Waiting) -> str:
    """The comparison is of what the ledger has read; this is what it has not."""
    if not any(waiting):
        return "nothing on the input topics waits for the ledger"
    return (
        f"up to {waiting.cdrs_max:,} CDRs and {waiting.commands_max:,} commands still wait for the ledger"
        " (offsets after its checkpoints; markers of transactions count too)"
    )


def _say(line: str) -> None:
    stderr.print(line, markup=False)


def _as_metrics(compared: Compared, seconds: float) -> bytes:
    registry = CollectorRegistry()

    def gauge(name: str, about: str, value: float) -> None:
        Gauge(name, about, registry=registry).set(value)

    gauge("pstn_reconcile_differences", "Differences of the last comparison", len(compared.outcome.differences))
    gauge("pstn_reconcile_seconds", "How long the last comparison took", seconds)
    gauge("pstn_reconcile_finished_timestamp_seconds", "When it ended", time.time())
    return generate_latest(registry)


def print_positions(positions: Sequence[Position], console: Console) -> None:
    """Where in the log to look."""
    table = Table(title="where", title_justify="left")
    for name in ("what", "tenant", "record of the log", "currency", "by call", "by ledger or warehouse"):
        table.add_column(name, justify="right" if name.startswith("by") else "left", overflow="fold")
    for each in positions[:_DIFFERENCES_SHOWN_MAX]:
        amounts = [format_micros(value) if each.currency else f"{value:,}" for value in (each.expected, each.found)]
        place = f"{each.topic}:{each.partition}:{each.offset}"
        table.add_row(each.what, each.tenant_id, place, each.currency, *amounts)
    console.print(table)


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
        console.print(Text("reconciled: ledger = balances = warehouse", style="green"), f"({seen})")
        return
    table = Table(title=f"not reconciled: {len(outcome.differences):,} differences ({seen})", title_justify="left")
    for name in ("must hold", "where", "currency", "expected", "found"):
        table.add_column(name, justify="right" if name in ("expected", "found") else "left", overflow="fold")
    for difference in outcome.differences[:_DIFFERENCES_SHOWN_MAX]:
        is_money = difference.currency != ""
        amounts = [
            format_micros(amount) if is_money else f"{amount:,}" for amount in (difference.expected, difference.found)
        ]
        table.add_row(difference.what, difference.subject, difference.currency, *amounts)
    console.print(table)
    if len(outcome.differences) > _DIFFERENCES_SHOWN_MAX:
        console.print(f"the first {_DIFFERENCES_SHOWN_MAX}; --format json has them all")

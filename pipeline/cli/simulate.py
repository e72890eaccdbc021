"""`pstn simulate`: a switch simulator that sends account commands and calls to Kafka."""

from __future__ import annotations

import json
import time
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.base.calendar import format_time
from pipeline.base.resources_io import resource_path
from pipeline.charge.tables_io import load_tables
from pipeline.cli.failure import fail, load_settings, one_line
from pipeline.cli.rating_options import TablesOption
from pipeline.cli.terminal import Terminal
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.embedded.customers import Plan
from pipeline.embedded.plan import make_plan
from pipeline.embedded.simulate import Tally
from pipeline.embedded.simulate_io import SendingFailed, Switch, send_all


def simulate(
    tenants: Annotated[int, typer.Option(min=1, max=1_000_000, help="how many customers, of very unequal size")] = 50,
    calls: Annotated[int, typer.Option(min=1, help="how many different calls; re-sent ones come on top")] = 20_000,
    seed: Annotated[int, typer.Option(help="same seed and same --from: same bytes")] = 1,
    rate: Annotated[float, typer.Option(min=0, help="calls a second; 0 is as fast as it goes")] = 0,
    begin: Annotated[
        str | None,
        typer.Option("--from", help="begin of the period, such as 2026-03-01T00:00:00Z", show_default="--days ago"),
    ] = None,
    days: Annotated[
        float, typer.Option(min=0.01, max=390, help="length in days of the period in which the calls end")
    ] = 3,
    tables: TablesOption = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    output: Annotated[
        Literal["table", "json"], typer.Option("--format", help="of the summary: table or json")
    ] = "table",
) -> None:
    """Send invented calls of invented customers to Kafka, and say what must become of them.

    Late calls, re-sent calls and broken records are among them. Every number is from a range reserved for fiction.

    Example: pstn simulate --rate 500 --calls 100000
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix, tables=tables)
    console = Terminal(stderr=True)
    with one_line():
        try:
            found = load_tables(settings.tables or resource_path("rating_tables"))
            plan = make_plan(
                found, tenants=tenants, calls=calls, days=days, begin=begin, now_ms=time.time_ns() // 1_000_000
            )
            switch = Switch(settings.bootstrap_servers, settings.topic_prefix)
            started_s = time.monotonic()
            tally = _send(plan, seed=seed, switch=switch, rate=rate, console=console)
        except (SendingFailed, ValueError) as error:
            raise fail(str(error)) from None
    summary = {
        "seed": seed,
        "tenants": tenants,
        "from": format_time(plan.from_ms),
        "until": format_time(plan.until_ms),
        "seconds": round(time.monotonic() - started_s, 1),
        **tally.as_dict(),
    }
    if output == "json":
        typer.echo(json.dumps(summary))
    else:
        _print_summary(summary, tally)


def _send(plan: Plan, *, seed: int, switch: Switch, rate: float, console: Console) -> Tally:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("calls", total=plan.calls, speed="")

        def show(tally: Tally) -> None:
            task = progress.tasks[bar]
            speed = f"{task.finished_speed or task.speed or 0:,.0f}/s"
            progress.update(bar, completed=min(plan.calls, tally.calls.total()), speed=speed)

        return send_all(plan, seed=seed, switch=switch, rate=rate, on_progress=show)


def _print_summary(summary: dict[str, object], tally: Tally) -> None:
    table = Table(show_header=False, title="sent, and what must become of it", title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("account commands", f"{tally.commands.total():,}")
    table.add_row("call records", f"{tally.calls.total():,}")
    table.add_row("  to be rated", f"{summary['rated']:,}")
    table.add_row("    of these late", f"{tally.late:,}")
    table.add_row("  re-sent: a duplicate each", f"{summary['resent']:,}")
    table.add_row("rejects of both kinds", f"{sum(tally.rejected().values()):,}")
    for reason, count in sorted(tally.rejected().items()):
        table.add_row(f"  {reason}", f"{count:,}")
    Terminal().print(table)
    typer.echo(f"seed {summary['seed']}, calls of {summary['from']} to {summary['until']}")

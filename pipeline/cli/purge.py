"""`pstn purge`: telephone numbers and names out of the warehouse; the money stays."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from typing import Annotated, Literal

import typer
from rich.table import Table

from pipeline.cli.failure import fail, load_settings, stderr
from pipeline.cli.report_run import check_tenant
from pipeline.cli.terminal import Terminal
from pipeline.cli.warehouse_options import WarehouseOption, opened
from pipeline.warehouse.privacy import Purge, Step, purge_steps, retention_steps
from pipeline.warehouse.store import Store, StoreAway, StoreRefused
from pipeline.warehouse.store_io import migrate, open_store


def purge(
    tenant: Annotated[
        str | None, typer.Option(help="take out this organisation's numbers and names", show_default="none")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="of --tenant only this user, by id or sign-in name", show_default="everybody")
    ] = None,
    retention: Annotated[
        bool, typer.Option("--retention", help="take out what is older than its country allows")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="count the rows, and change nothing")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask; a script must say it")] = False,
    format: Annotated[Literal["table", "json"], typer.Option(help="table for a person, json for a program")] = "table",
    warehouse: WarehouseOption = None,
) -> None:
    """Take numbers and names out of the warehouse; charges, minutes and destinations stay, to the micro-unit.

    Run it with --retention once a day. Each run also does again what was asked for before, since the topics may bring
    such data back for as long as they keep it. There is no way back. An embedded warehouse is written by one process:
    stop its worker first. docs/data-retention.md says what is kept where, and for how long.

    Example: pstn purge --tenant contoso --user 7c1e9d1e-2f0f-4b6e-9a55-3f2b6d1c0a11 --dry-run
    """
    from pipeline.warehouse.privacy_io import note_purge, take_out

    if tenant is None and user is not None:
        raise fail("--user needs --tenant: ids of users are the organisation's")
    if tenant is None and not retention:
        raise fail("say what is to go: --tenant, with --user for one person, or --retention")
    now_ms = time.time_ns() // 1_000_000
    url = load_settings(warehouse=warehouse).warehouse
    with opened(url) as store:  # reading: a name that was mistyped makes no warehouse, and no wish
        wished = [] if tenant is None else _wishes(store, tenant, user, now_ms)
        if dry_run:
            _report(_counted(store, wished, now_ms if retention else None), is_dry=True, format=format)
            return
    try:
        with closing(open_store(url)) as store:
            migrate(store)
            counted = _counted(store, wished, now_ms if retention else None)
            _ask(sum(count for _, count in counted), is_sure=yes)
            for wish in wished:
                note_purge(store, wish)
            take_out(store, [step for step, count in counted if count], _say)
    except (StoreAway, StoreRefused) as error:
        raise fail(str(error)) from None
    _report(counted, is_dry=False, format=format)


def _wishes(store: Store, tenant: str, user: str | None, now_ms: int) -> list[Purge]:
    """One for each user who has that id or sign-in name."""
    from pipeline.warehouse.privacy_io import user_ids

    check_tenant(store, tenant)
    if user is None:
        return [Purge(tenant, "", now_ms)]
    found = user_ids(store, tenant, user)
    if not found:
        who = f"the warehouse knows no user {user!r} of {tenant!r}"
        raise fail(f"{who}: give an id or a sign-in name as `pstn report spend-by-user` shows it")
    return [Purge(tenant, user_id, now_ms) for user_id in found]


def _counted(store: Store, wished: list[Purge], retained_ms: int | None) -> list[tuple[Step, int]]:
    """The steps of these wishes, of all earlier ones and, at `retained_ms`, of retention; each with its rows."""
    from pipeline.warehouse.privacy_io import known_purges, row_counts

    repeated = [each for each in known_purges(store) if each[:2] not in {wish[:2] for wish in wished}]
    steps = [step for each in (*wished, *repeated) for step in purge_steps(each)]
    if retained_ms is not None:
        steps += retention_steps(retained_ms)
    return list(zip(steps, row_counts(store, steps), strict=True))


def _ask(row_count: int, *, is_sure: bool) -> None:
    if is_sure or not row_count:
        return
    if not sys.stdin.isatty():
        raise fail(f"{row_count:,} rows would lose numbers and names for good: say --yes, or look with --dry-run")
    if not typer.confirm(f"{row_count:,} rows lose numbers and names for good. Go on?", err=True):
        raise fail("nothing was changed")


def _say(step: Step) -> None:
    if stderr.is_terminal:
        stderr.print(f"{step.table}: {step.why}")


def _report(counted: list[tuple[Step, int]], *, is_dry: bool, format: str) -> None:
    if format == "json":
        rows = [{"table": step.table, "why": step.why, "rows": count} for step, count in counted if count]
        typer.echo(json.dumps({"purged": not is_dry, "steps": rows}, ensure_ascii=False))
        return
    found = [(step, count) for step, count in counted if count]
    if not found:
        typer.echo("nothing to take out")
        return
    table = Table(title="would be taken out" if is_dry else "taken out", title_justify="left")
    table.add_column("table")
    table.add_column("why", overflow="fold")
    table.add_column("rows", justify="right")
    for step, count in found:
        table.add_row(step.table, step.why, f"{count:,}")
    Terminal().print(table)

"""`pstn warehouse`: the tables and views of the warehouse."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer
from rich.table import Table

from pipeline.cli.failure import fail, load_settings
from pipeline.cli.terminal import Terminal
from pipeline.cli.warehouse_options import WarehouseOption
from pipeline.warehouse.store import StoreAway, StoreRefused
from pipeline.warehouse.store_io import migrate as apply_migrations
from pipeline.warehouse.store_io import open_store, pending_migrations

app = typer.Typer(no_args_is_help=True, help="The tables and views of the warehouse.")


@app.callback()
def _several() -> None:
    """Keeps `migrate` a command of its own."""


@app.command()
def migrate(
    warehouse: WarehouseOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what is to be applied, and apply nothing")] = False,
    format: Annotated[Literal["table", "json"], typer.Option(help="table for a person, json for a program")] = "table",
) -> None:
    """Bring tables and views up to date; safe to repeat, and what every loader does when it starts.

    What was applied stands in the table schema_migrations. An applied file that was edited since is refused.

    Example: pstn warehouse migrate --dry-run
    """
    settings = load_settings(warehouse=warehouse)
    try:
        store = open_store(settings.warehouse, for_reading=dry_run)
        try:
            done = pending_migrations(store) if dry_run else apply_migrations(store)
            name = store.name
        finally:
            store.close()
    except (StoreAway, StoreRefused) as error:
        raise fail(str(error)) from None
    if format == "json":
        found = [{"version": each.version, "name": each.name, "statements": len(each.statements)} for each in done]
        typer.echo(json.dumps({"applied": not dry_run, "migrations": found}))
        return
    if not done:
        typer.echo(f"{name}: up to date")
        return
    table = Table(title=f"{name}: {'to be applied' if dry_run else 'applied'}", title_justify="left")
    for heading in ("version", "file", "statements"):
        table.add_column(heading, justify="left" if heading == "file" else "right")
    for each in done:
        table.add_row(str(each.version), each.name, str(len(each.statements)))
    Terminal().print(table)

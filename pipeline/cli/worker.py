"""`pstn worker`: runs the roles of this process until it is told to stop."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from pipeline.base.logging_io import configure_logging
from pipeline.base.reject import InvariantBroken
from pipeline.base.settings_io import ROLES, Settings
from pipeline.cli.ending import end_at_once
from pipeline.cli.failure import fail, load_settings, one_line
from pipeline.cli.processes import begin_as_child, run_processes
from pipeline.cli.rating_options import TablesOption
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.cli.warehouse_options import WarehouseOption

EXIT_BROKEN = 70


def _run_processes(count: int, settings: Settings, given: Mapping[str, object]) -> int:
    if settings.embedded_broker:
        raise fail("the embedded broker isolates no transactions: it takes one process")
    if "loader" in settings.roles and settings.warehouse.startswith("chdb:"):
        raise fail(
            f"{settings.warehouse} can be held by one process: run the loader in a worker of its own, and here "
            "--roles ledger; or use a ClickHouse server"
        )
    if settings.web_port + count - 1 > 65_535:
        raise fail(f"setting web_port: {count} processes from {settings.web_port} on end above 65535 (PSTN_WEB_PORT)")
    configure_logging(settings)
    options = {f"PSTN_{name.upper()}": str(value) for name, value in given.items() if value is not None}
    return run_processes(count, environment=os.environ | options, web_port=settings.web_port)


def worker(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    roles: Annotated[
        str | None,
        typer.Option(help=f"any of {','.join(ROLES)}, with commas", envvar="PSTN_ROLES", show_default="all"),
    ] = None,
    tables: TablesOption = None,
    warehouse: WarehouseOption = None,
    outbox: Annotated[
        Path | None,
        typer.Option(help="folder that takes the notices as mails", envvar="PSTN_OUTBOX", show_default="outbox"),
    ] = None,
    web_port: Annotated[
        int | None,
        typer.Option(help="port of /metrics and /healthz, 0 is none; or PSTN_WEB_PORT", show_default="6066"),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(min=1, max=64, help="workers under one parent; the ports of the next ones follow the first's"),
    ] = 1,
) -> None:
    """Price, debit, load, notify and pay. SIGTERM finishes the slice and leaves the group.

    Every setting is also an environment variable PSTN_..., see the README. Exit code 2: a setting or the outside is
    wrong; 70: the books contradict themselves and nothing more was written.

    With --processes, one for each core: a worker that dies is started again, one that ends with code 2 or 70 ends all.

    Example: pstn worker --roles ledger --processes 2 --bootstrap kafka-1:9092
    """
    given = {
        "bootstrap_servers": bootstrap,
        "topic_prefix": prefix,
        "roles": roles,
        "tables": tables,
        "warehouse": warehouse,
        "outbox": outbox,
        "web_port": web_port,
    }
    end_at_once()
    settings = load_settings(**given)
    if processes > 1:
        raise typer.Exit(_run_processes(processes, settings, given))
    begin_as_child()
    from pipeline.app import run_worker  # a help page need not wait for Faust and chDB

    configure_logging(settings)
    with one_line():
        try:
            uvloop.run(run_worker(settings))
        except InvariantBroken as error:
            raise fail(f"the books contradict themselves: {error}", EXIT_BROKEN) from None

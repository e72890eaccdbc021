"""`pstn worker`: runs the roles of this process until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import uvloop

from pipeline.base.reject import InvariantBroken
from pipeline.base.settings_io import ROLES
from pipeline.cli.failure import fail, load_settings, one_line
from pipeline.cli.rating_options import TablesOption
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.cli.warehouse_options import WarehouseOption

EXIT_BROKEN = 70


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
) -> None:
    """Price, debit, load, notify and pay. SIGTERM finishes the slice and leaves the group.

    Every setting is also an environment variable PSTN_..., see the README. Exit code 2: a setting or the outside is
    wrong; 70: the books contradict themselves and nothing more was written.

    Example: pstn worker --roles ledger --bootstrap kafka-1:9092
    """
    settings = load_settings(
        bootstrap_servers=bootstrap,
        topic_prefix=prefix,
        roles=roles,
        tables=tables,
        warehouse=warehouse,
        outbox=outbox,
        web_port=web_port,
    )
    from pipeline.app import configure_logging, run_worker  # a help page need not wait for Faust and chDB

    configure_logging(settings)
    with one_line():
        try:
            uvloop.run(run_worker(settings))
        except InvariantBroken as error:
            raise fail(f"the books contradict themselves: {error}", EXIT_BROKEN) from None

"""`pstn audit`: who issued which command, from where, when, and what became of it."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
import time
from typing import Annotated, Literal

import typer
from rich.table import Table

from pipeline.base.calendar import format_time
from pipeline.cli.desk import load_settings
from pipeline.cli.failure import one_line
from pipeline.cli.terminal import Terminal
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.cli.warehouse_options import WarehouseOption, opened
from pipeline.cli.warehouse_options import period as period_of
from pipeline.office.answer import Refusal
from pipeline.office.audit import AuditLine, audit_json, fields_json
from pipeline.office.audit_io import begin_ms, needs_warehouse, read_audit, read_stored_refusals
from pipeline.office.command_io import partition_count_of

_FACTS_CHARS_MAX = 60


def audit(
    tenant: Annotated[str | None, typer.Option(envvar="PSTN_TENANT", help="one tenant", show_default="all")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="first day, month or time (UTC)", show_default="14 days ago")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="last day or month, included; or a time, not included")] = None,
    by: Annotated[str | None, typer.Option(help="only what was issued by this text, such as cli:ada")] = None,
    ticks: Annotated[bool, typer.Option("--ticks", help="also the timer's commands")] = False,
    format: Annotated[Literal["table", "csv", "json"], typer.Option(help="json: one object a line")] = "table",
    limit: Annotated[int, typer.Option(min=1, help="the last so many, in the table")] = 100,
    warehouse: WarehouseOption = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """List commands, with who issued each, from where, when, and the result.

    They are kept for seven years (PSTN_AUDIT_DAYS, which `pstn topics create --repair` puts into force). The results of
    those older than a month are in the warehouse.

    Example: pstn audit --tenant contoso --from 2026-03-01
    """

    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix, warehouse=warehouse)
    from_ms, to_ms = period_of(from_, to)
    now_ms = time.time_ns() // 1_000_000
    from_ms = begin_ms(from_ms, to_ms, now_ms)
    stored: dict[tuple[int, int], Refusal] = {}
    if needs_warehouse(settings, from_ms, now_ms):
        with opened(settings.warehouse) as store:
            stored = read_stored_refusals(store, settings, tenant, from_ms)
    with one_line():
        count = partition_count_of(settings)
        lines = asyncio.run(
            read_audit(
                settings,
                partition_count=count,
                tenant_id=tenant,
                from_ms=from_ms,
                to_ms=to_ms,
                with_ticks=ticks,
                stored=stored,
            )
        )
    chosen = [line for line in lines if by is None or by in line.command.issued_by]
    if format == "json":
        for line in chosen:
            typer.echo(json.dumps(audit_json(line), ensure_ascii=False))
    elif format == "csv":
        names = tuple(audit_json(chosen[0])) if chosen else ()
        writer = csv.DictWriter(sys.stdout, names, lineterminator="\r\n")
        writer.writeheader()
        for line in chosen:
            row = audit_json(line)
            writer.writerow(row | {"fields": json.dumps(row["fields"], ensure_ascii=False)})
    else:
        _print(chosen, limit)


def _print(lines: list[AuditLine], limit: int) -> None:
    if not lines:
        typer.echo("no commands: check --tenant, --from, --to and --by")
        return
    table = Table("time", "tenant", "command", "issued by", "result", "what", title="audit", title_justify="left")
    for line in lines[-limit:]:
        command, answer = line.command, line.answer
        facts = ", ".join(f"{name}={value}" for name, value in fields_json(command).items() if value is not None)
        shown = facts if len(facts) <= _FACTS_CHARS_MAX else facts[:_FACTS_CHARS_MAX] + "…"
        result = answer.verdict.value + (f": {answer.reason}" if answer.reason else "")
        cells = (format_time(line.at), command.tenant_id, command.kind, command.issued_by, result, shown)
        table.add_row(*cells)
    Terminal().print(table)
    if len(lines) > limit:
        typer.echo(f"the last {limit} of {len(lines):,}; --format csv or json has them all", err=True)

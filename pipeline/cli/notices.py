"""`pstn notices`: what was told to whom, what waits, what was given up; and sending it once more."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from typing import Annotated, Literal

import typer
from rich.table import Table

from pipeline.base.calendar import format_time
from pipeline.base.settings_io import Settings
from pipeline.base.topics import NOTICES
from pipeline.cli.desk import load_settings
from pipeline.cli.failure import fail, one_line
from pipeline.cli.terminal import Terminal
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.emit.journal_read_io import ask_owners, read_journal
from pipeline.emit.notify.notice import DEAD, PLANNED, WAITING, Notice, decode_notice
from pipeline.office.command_io import partition_count_of

app = typer.Typer(no_args_is_help=True, help="Mails and webhooks to the customers' contacts.")

_TimeNames = {WAITING: "next attempt", "sent": "sent", DEAD: "given up", PLANNED: "not before"}
Tenant = Annotated[str | None, typer.Option(envvar="PSTN_TENANT", help="one tenant", show_default="all")]


@app.command("list")
def list_(
    tenant: Tenant = None,
    state: Annotated[
        Literal["waiting", "sent", "dead", "planned"] | None,
        typer.Option(help="only notices in this state", show_default="all"),
    ] = None,
    format: Annotated[Literal["table", "csv", "json"], typer.Option(help="json: one object a line")] = "table",
    limit: Annotated[int, typer.Option(min=1, help="the last so many, in the table")] = 100,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """What waits or is planned, what was sent in the last 7 days, and what was given up in the last 30.

    Example: pstn notices list --state dead
    """
    found = [
        notice
        for _, notice in _read(load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix))
        if tenant in (None, notice.tenant_id) and state in (None, notice.state)
    ]
    if format == "json":
        for notice in found:
            typer.echo(json.dumps(_row(notice), ensure_ascii=False))
    elif format == "csv":
        writer = csv.DictWriter(sys.stdout, _COLUMNS, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(_row(notice) for notice in found)
    else:
        _print(found, limit)


@app.command()
def resend(
    notice_ids: Annotated[list[str] | None, typer.Argument(help="ids as `pstn notices list` shows them")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="all that were given up")] = False,
    tenant: Tenant = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Send notices once more, at once and with new patience; their Message-ID stays the same.

    Example: pstn notices resend --dead --tenant contoso
    """
    if bool(notice_ids) == dead:
        raise fail("give the ids of notices, or --dead for all that were given up")
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    found = {notice.notice_id: (partition, notice) for partition, notice in _read(settings) if notice.state != PLANNED}
    if unknown := [each for each in notice_ids or () if each not in found]:
        raise fail(f"no notice {unknown[0]}: `pstn notices list` shows those that are kept")
    chosen = (
        [found[each] for each in notice_ids]
        if notice_ids
        else [pair for pair in found.values() if pair[1].state == DEAD]
    )
    chosen = [(partition, notice) for partition, notice in chosen if tenant in (None, notice.tenant_id)]
    requests = [
        (partition, b"resend/" + notice.notice_id.encode(), notice.notice_id.encode()) for partition, notice in chosen
    ]
    with one_line():
        asyncio.run(ask_owners(settings, NOTICES, requests))
    typer.echo(f"{len(requests)} to be sent again; `pstn notices list` shows what becomes of them")


def _read(settings: Settings) -> list[tuple[int, Notice]]:
    with one_line():
        kept = asyncio.run(read_journal(settings, NOTICES, range(partition_count_of(settings))))
    return sorted(
        ((each.partition, decode_notice(each.value)) for each in kept), key=lambda pair: (pair[1].created_at, pair[1])
    )


_COLUMNS = (
    "notice_id", "tenant_id", "kind", "channel", "address", "state", "event_count", "attempt_count", "created_at",
    "due_at", "event_id", "error",
)  # fmt: skip


def _row(notice: Notice) -> dict[str, object]:
    fields = notice._asdict()
    times = {name: format_time(fields[name]) for name in ("created_at", "due_at")}
    return {name: (fields | times)[name] for name in _COLUMNS}


def _print(found: list[Notice], limit: int) -> None:
    if not found:
        typer.echo("no notices: contacts are those of the customers file, see docs/notices.md")
        return
    table = Table("id", "tenant", "kind", "to", "state", "events", "tries", "when", "error", title_justify="left")
    for notice in found[-limit:]:
        when = f"{_TimeNames[notice.state]} {format_time(notice.due_at // 1000 * 1000)}"
        numbers = (str(notice.event_count), str(notice.attempt_count))
        cells = (notice.notice_id, notice.tenant_id, notice.kind, notice.address, notice.state, *numbers, when)
        table.add_row(*cells, notice.error or "")
    Terminal().print(table)
    if len(found) > limit:
        typer.echo(f"the last {limit} of {len(found):,}; --format csv or json has them all", err=True)

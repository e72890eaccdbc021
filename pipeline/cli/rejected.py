"""`pstn rejected`: looks at what was refused, and sends it through again once the cause is mended."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal

import typer
from rich.progress import Progress
from rich.table import Table

from pipeline.base.avro import DecodeError
from pipeline.base.calendar import MS_PER_DAY, format_time
from pipeline.base.plain import plain
from pipeline.base.reject import Reason
from pipeline.cli.failure import fail, load_settings, one_line, stderr
from pipeline.cli.narrowed import TextColumn, narrowed, table_of
from pipeline.cli.report_run import check_tenant
from pipeline.cli.terminal import Terminal
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.cli.warehouse_options import FromOption, TenantOption, ToOption, WarehouseOption, opened, period
from pipeline.warehouse.chosen import Chosen
from pipeline.warehouse.rejects import (
    Plan,
    Reject,
    RejectFilter,
    counts_sql,
    hint,
    original_of,
    parse_id,
    plan_replay,
)
from pipeline.warehouse.store import Store

app = typer.Typer(no_args_is_help=True, help="Calls and commands that were refused: look, mend the cause, send again.")

FormatOption = Annotated[Literal["table", "json"], typer.Option(help="table for a person, json for a program")]
ReasonOption = Annotated[str | None, typer.Option(help="refused for this reason only", show_default="all")]
# At least so wide, or other columns go: `pstn rejected show` has everything.
_DETAIL_CELLS = 24
_TIMES = ("start_time", "purchased_at", "paid_at")


@app.command("list")
def list_rejects(
    tenant: TenantOption = None,
    reason: ReasonOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    limit: Annotated[int, typer.Option(min=1, help="rejects shown, the latest first")] = 50,
    format: FormatOption = "table",
    warehouse: WarehouseOption = None,
) -> None:
    """List what was refused, the latest first, and count it by reason. Times are those of the refusal.

    Example: pstn rejected list --tenant contoso --reason user_unknown --from 2026-03-01
    """
    from pipeline.warehouse.replay_io import find_rejects

    wanted = RejectFilter(Chosen(tenant, *period(from_, to)), reason)
    with opened(load_settings(warehouse=warehouse).warehouse) as store:
        rejects = find_rejects(store, wanted, limit)
        if not rejects:
            _check_names(store, wanted)
        counts: list[Any] = list(store.query(counts_sql(wanted)).rows)
    if format == "json":
        typer.echo(json.dumps([_as_json(reject) for reject in rejects], ensure_ascii=False))
        return
    if not rejects:
        typer.echo("nothing was refused: check --tenant, --reason, --from and --to")
        return
    console = Terminal()
    console.print(_table(rejects, "rejects, the latest first"))
    for name, count, tenants, first_ms, last_ms in counts:
        times = f"{format_time(first_ms)} to {format_time(last_ms)}"
        line = f"{count:,} {name}, tenants: {tenants:,}, {times}: {hint(name)}"
        console.print(line, soft_wrap=True)


@app.command()
def show(
    reject: Annotated[str, typer.Argument(help="TOPIC:PARTITION:OFFSET, as the list shows it")],
    format: FormatOption = "table",
    warehouse: WarehouseOption = None,
) -> None:
    """Show one reject: why it was refused, what to do, and the original field by field.

    Example: pstn rejected show pstn.cdrs:3:1207
    """
    from pipeline.warehouse.replay_io import find_rejects

    wanted = RejectFilter(Chosen(), None, (_id(reject),))
    with opened(load_settings(warehouse=warehouse).warehouse) as store:
        found = find_rejects(store, wanted)
    if not found:
        raise fail(f"no reject {reject}: `pstn rejected list` shows those there are")
    shown = _as_json(found[0]) | {"hint": hint(found[0].reason), "original": _original(found[0])}
    if format == "json":
        typer.echo(json.dumps(shown, ensure_ascii=False))
        return
    original = shown.pop("original")
    table = Table(show_header=False, title=reject, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in shown.items():
        table.add_row(name, "" if value is None else str(value))
    if isinstance(original, dict):
        for name, value in original.items():
            table.add_row(f"  {name}", "" if value is None else str(value))
    else:
        table.add_row("original, hex", str(original))
    Terminal().print(table)


@app.command()
def replay(
    rejects: Annotated[list[str] | None, typer.Argument(help="TOPIC:PARTITION:OFFSET of each, from the list")] = None,
    tenant: TenantOption = None,
    reason: ReasonOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be sent, and send nothing")] = False,
    format: FormatOption = "table",
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Send the originals of rejects through again, once the cause is mended: a user was set, a tenant opened.

    Nothing is charged twice, however often this runs. The original goes out byte for byte, so the call keeps its
    usage id. A call that has a result in the warehouse is not sent. One that was sent and has no result there yet is a
    duplicate to the worker, which remembers ids for PSTN_DUPLICATE_WINDOW_DAYS. Of several refusals of one call only
    the latest is sent. A command is sent while its refusal is younger than that window, in which its id is remembered.

    Example: pstn rejected replay --tenant contoso --reason user_unknown --dry-run
    """
    from pipeline.warehouse.replay_io import find_rejects, rated_calls_of, send_again

    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix, warehouse=warehouse)
    ids = tuple(_id(each) for each in rejects or ())
    if not ids and tenant is None and reason is None and from_ is None:
        raise fail("choose what to send again: ids from the list, or --tenant, --reason or --from")
    wanted = RejectFilter(Chosen(tenant, *period(from_, to)), reason, ids)
    with one_line(), opened(settings.warehouse) as store:
        found = find_rejects(store, wanted)
        if not found:
            _check_names(store, wanted)
        plan = plan_replay(
            found,
            rated_calls_of(store, found),
            now_ms=time.time_ns() // 1_000_000,
            window_ms=settings.duplicate_window_days * MS_PER_DAY,
        )
        if plan.sent and not dry_run:
            with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
                bar = progress.add_task("sending", total=len(plan.sent))
                asyncio.run(send_again(plan.sent, settings, lambda count: progress.update(bar, completed=count)))
    _report(plan, is_dry=dry_run, format=format)


def _check_names(store: Store, wanted: RejectFilter) -> None:
    """Nothing was found: one line for a reason that is none, and for a tenant of whom the warehouse knows nothing."""
    from pipeline.warehouse.replay_io import find_rejects

    reasons = [each.value for each in Reason]
    if wanted.reason is not None and wanted.reason not in reasons:
        close = get_close_matches(wanted.reason, reasons, n=1)
        instead = f"did you mean {close[0]!r}?" if close else f"it may be {', '.join(reasons)}"
        raise fail(f"--reason {wanted.reason!r} is none: {instead}")
    tenant = wanted.chosen.tenant_id
    if tenant is not None and not find_rejects(store, RejectFilter(Chosen(tenant)), 1):
        check_tenant(store, tenant)


def _report(plan: Plan, *, is_dry: bool, format: str) -> None:
    left = Counter(why for _, why in plan.left)
    if format == "json":
        shown = {"sent": not is_dry, "rejects": [each.reject_id for each in plan.sent], "left": dict(left)}
        typer.echo(json.dumps(shown, ensure_ascii=False))
        return
    if plan.sent and is_dry:
        Terminal().print(_table(plan.sent, "would be sent again"))
    if not is_dry:
        typer.echo(f"{len(plan.sent):,} sent again; their results appear in the warehouse as the worker gets to them")
    elif not plan.sent:
        typer.echo("nothing would be sent again")
    for why, count in left.items():
        typer.echo(f"{count:,} left: {why}")


def _table(rejects: Sequence[Reject], title: str) -> Table:
    width = Terminal().width
    head = narrowed(
        [
            _column("reject", (each.reject_id for each in rejects)),
            _column("refused at", (format_time(each.received_at_ms)[:19].replace("T", " ") for each in rejects)),
            _column("tenant", (each.tenant_id for each in rejects)),
            _column("reason", (each.reason for each in rejects)),
            _column("call or command", (each.usage_id or each.command_id for each in rejects)),
        ],
        width - _DETAIL_CELLS,
        said_once=frozenset(),
        less_needed=("call or command", "refused at"),
    )
    table = table_of(title, [*head.columns, _column("detail", (each.detail for each in rejects))], width)
    if head.left_out:
        table.caption, table.caption_justify = f"no room for: {', '.join(head.left_out)}", "left"
    return table


def _column(name: str, texts: Iterable[str]) -> TextColumn:
    return TextColumn(name, name, False, [plain(text) for text in texts])


def _as_json(reject: Reject) -> dict[str, object]:
    return {
        "reject": reject.reject_id,
        "received_at": format_time(reject.received_at_ms),
        "tenant_id": reject.tenant_id or None,
        "reason": reject.reason,
        "detail": reject.detail,
        "usage_id": reject.usage_id or None,
        "command_id": reject.command_id or None,
    }


def _original(reject: Reject) -> object:
    try:
        return {
            name: format_time(value) if name in _TIMES and isinstance(value, int) else value
            for name, value in original_of(reject).items()
        }
    except DecodeError:
        return reject.original.hex()


def _id(text: str) -> tuple[str, int, int]:
    try:
        return parse_id(text)
    except ValueError as error:
        raise fail(str(error)) from None

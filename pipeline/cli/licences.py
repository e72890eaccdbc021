"""`pstn licences`: which there are, how many were bought, and who gets them, from a file of up to 100,000 users."""

from __future__ import annotations

import asyncio
import csv
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.base.resources_io import resource_path
from pipeline.base.settings_io import Settings
from pipeline.charge.tables import Tables
from pipeline.charge.tables_io import load_tables
from pipeline.cli.desk import (
    WAIT_S,
    CommandId,
    Tenant,
    Wait,
    Yes,
    account_of,
    ask,
    issue,
    load_settings,
    look,
    tell,
)
from pipeline.cli.failure import fail, one_line, stderr
from pipeline.cli.terminal import Terminal
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.office.answer import Answer, Verdict
from pipeline.office.assign import FindUser, Plan, Step, is_satisfied, make_plan
from pipeline.office.command_io import StillPending, issuer, new_command_id, open_desk
from pipeline.office.csv_users import FileRefused, UserRow, parse_users

app = typer.Typer(no_args_is_help=True, help="Licences: assign, count, list.")
FILE_BYTES_MAX = 64 * 1024 * 1024
"""100,000 users with every column filled are 20 MB."""
_EXIT_NOT_ALL = 1


@app.command()
def assign(
    tenant: Tenant,
    file: Annotated[
        Path, typer.Option(help="CSV: user_id, add, remove; for new users also country, upn, display_name")
    ],
    create: Annotated[bool, typer.Option("--create", help="set up users who are not known")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done, and do nothing")] = False,
    report: Annotated[Path | None, typer.Option(help="CSV file that says of each row what it did")] = None,
    yes: Yes = False,
    wait: Wait = WAIT_S,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Add and remove licences of many users. A file with a wrong line is not obeyed at all.

    SKUs inside `add` and `remove` are separated by blanks. A run that broke off is taken up by running it again: rows
    that are done already are left alone.

    Example: pstn licences assign --tenant contoso --file users.csv --dry-run
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    rows = _read(file, _tables(settings))
    table = look(settings, tenant)
    account_of(table, tenant)
    try:
        plan = make_plan(
            rows,
            lambda user_id: table.user(tenant, user_id),
            tenant_id=tenant,
            issued_by=issuer(),
            is_creating=create,
            new_id=lambda: new_command_id("cli"),
        )
    except FileRefused as error:
        raise _refused(file, error) from None
    counts = plan.counts
    summary = (
        f"{len(rows):,} rows: {counts[Step.ASSIGN]:,} to assign, {counts[Step.CREATE]:,} to set up, "
        f"{counts[Step.NOTHING]:,} as they should be"
    )
    if dry_run or not plan.commands:
        typer.echo(f"{summary}; nothing {'was done' if dry_run else 'to do'}")
        _report(report, rows, [step.value for step in plan.steps])
        return
    ask(f"{summary}, in {tenant}", is_agreed=yes)
    _send(settings, plan, wait)
    after = look(settings, tenant)
    results = _results(rows, plan, lambda user_id: after.user(tenant, user_id))
    _report(report, rows, results)
    ended = Counter(results)
    told = ", ".join(f"{count:,} {result}" for result, count in sorted(ended.items()))
    if ended["not done"]:
        raise fail(f"{told}: type the same again for the rest", _EXIT_NOT_ALL)
    typer.echo(f"done: {told}")


@app.command()
def purchased(
    tenant: Tenant,
    sku: Annotated[str, typer.Option(help="`pstn licences list` has them")],
    count: Annotated[int, typer.Option(min=0, help="licences bought")],
    id: CommandId = None,
    wait: Wait = WAIT_S,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Say how many licences of a SKU were bought; conferencing pools count these, else the assigned ones (R34).

    Example: pstn licences purchased --tenant contoso --sku MCOMEETADV --count 25
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    fields: dict[str, object] = {"sku": sku, "count": count}
    answer = issue(settings, tenant, "set_purchased_licences", fields, command_id=id, wait_s=wait)
    tell(answer, f"{tenant} has bought {count:,} of {sku}")


@app.command("list")
def list_() -> None:
    """The licences that the rating tables know.

    Example: pstn licences list
    """
    table = Table("SKU", "kind", "holds", "capability")
    for licence in _tables(load_settings()).licences.values():
        table.add_row(licence.sku, licence.kind, " ".join(licence.holds), licence.capability)
    Terminal().print(table)


def _tables(settings: Settings) -> Tables:
    with one_line():
        return load_tables(settings.tables or resource_path("rating_tables"))


def _read(file: Path, tables: Tables) -> list[UserRow]:
    with one_line():
        size = file.stat().st_size
        if size > FILE_BYTES_MAX:
            raise fail(f"{file} has {size:,} bytes, at most {FILE_BYTES_MAX:,} are read: split it")
        data = file.read_bytes()
    try:
        return parse_users(data, tables.licences)
    except FileRefused as error:
        raise _refused(file, error) from None


def _refused(file: Path, error: FileRefused) -> typer.Exit:
    for problem in error.problems[:-1]:
        stderr.print(f"{file}: {problem}")
    return fail(f"{file}: {error.problems[-1]}; nothing was done")


def _send(settings: Settings, plan: Plan, wait_s: float) -> None:
    """All commands of the plan; a progress bar on a terminal. Rejects are found again in the account's end state."""
    columns = (TextColumn("commands"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with one_line(), Progress(*columns, console=stderr, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("", total=len(plan.commands))

        async def run() -> list[Answer]:
            async with open_desk(settings) as desk:
                return await desk.issue_all(
                    plan.commands, wait_s=wait_s, on_progress=lambda count: progress.update(task, completed=count)
                )

        try:
            answers = asyncio.run(run())
        except StillPending as error:
            raise fail(f"{error}; type the same again later for the rest") from None
    refused = [each for each in answers if each.verdict in (Verdict.REJECTED, Verdict.PARTLY)]
    for answer in refused[:20]:
        stderr.print(f"{answer.reason}: {answer.detail} (command {answer.command_id})")


def _results(rows: list[UserRow], plan: Plan, find_user: FindUser) -> list[str]:
    done = {Step.ASSIGN: "assigned", Step.CREATE: "set up", Step.NOTHING: "unchanged"}
    return [
        done[step] if is_satisfied(row, find_user(row.user_id)) else "not done"
        for row, step in zip(rows, plan.steps, strict=True)
    ]


def _report(path: Path | None, rows: list[UserRow], results: list[str]) -> None:
    if path is None:
        return
    with one_line(), path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow(("line", "user_id", "result"))
        writer.writerows((row.line, row.user_id, result) for row, result in zip(rows, results, strict=True))
    typer.echo(f"report: {path}", err=True)

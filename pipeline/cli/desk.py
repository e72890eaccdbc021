"""What the commands for billing staff share: options, looking at an account, asking, sending, and telling the end."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Annotated

import typer
from rich.text import Text

from pipeline.base.avro import DecodeError
from pipeline.base.calendar import format_time
from pipeline.base.money import format_micros
from pipeline.base.reject import Rejected
from pipeline.base.settings_io import Settings
from pipeline.cdr.command import Command, check_command
from pipeline.cli.failure import fail, load_settings, one_line
from pipeline.cli.terminal import Terminal
from pipeline.debit.account import Account
from pipeline.office.amount import AmountError, parse_amount
from pipeline.office.answer import Answer, Verdict
from pipeline.office.audit import AuditLine
from pipeline.office.audit_io import begin_ms, read_audit
from pipeline.office.command_io import (
    WAIT_S,
    StillPending,
    issuer,
    new_command_id,
    open_desk,
    partition_count_of,
)
from pipeline.office.credit_table import CreditTable
from pipeline.office.table_io import read_tenant

EXIT_REJECTED = 1
EXIT_PENDING = 3

Tenant = Annotated[str, typer.Option(envvar="PSTN_TENANT", help="whose account")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask")]
CommandId = Annotated[
    str | None,
    typer.Option("--id", help="id of the command: with the same one again within 14 days nothing is done twice"),
]
Wait = Annotated[float, typer.Option(min=0.1, help="seconds to wait for the worker's decision")]


def amount(text: str, option: str, *, least_micros: int = 1) -> int:
    """Micro-units of an amount that was typed; one line when it is none."""
    try:
        return parse_amount(text, least_micros=least_micros)
    except AmountError as error:
        raise fail(f"{option}: {error}") from None


def look(settings: Settings, tenant_id: str) -> CreditTable:
    """The books of the tenant's partition as they are now."""
    with one_line():
        try:
            return asyncio.run(read_tenant(settings, tenant_id, partition_count_of(settings)))
        except DecodeError as error:
            raise fail(f"the credit table is of another version: {error}") from None


def account_of(table: CreditTable, tenant_id: str) -> Account:
    """The tenant's account, or one line."""
    account = table.account(tenant_id)
    if account is None:
        raise fail(f"tenant {tenant_id} has no account: type `pstn account open --tenant {tenant_id} ...`")
    return account


def ask(what: str, *, is_agreed: bool) -> None:
    """Shows what will happen and asks, unless `--yes` was given."""
    typer.echo(what, err=True)
    if is_agreed:
        return
    if not sys.stdin.isatty():
        raise fail("nobody is there to be asked: add --yes if this is meant")
    typer.confirm("Do it?", abort=True, err=True)


def issue(
    settings: Settings, tenant_id: str, kind: str, fields: dict[str, object], *, command_id: str | None, wait_s: float
) -> Answer:
    """Sends one command and waits for its end; with an id of the caller's, asks first whether it was used before."""
    command = formed(tenant_id, kind, fields, command_id or new_command_id("cli"))
    with one_line():
        try:
            return asyncio.run(_issue(settings, command, is_own_id=command_id is not None, wait_s=wait_s))
        except StillPending as error:
            raise fail(str(error), EXIT_PENDING) from None


def formed(tenant_id: str, kind: str, fields: dict[str, object], command_id: str) -> Command:
    """A command whose form is right, or one line."""
    head = {"command_id": command_id, "tenant_id": tenant_id, "kind": kind, "issued_by": issuer()}
    command = check_command(head | {name: value for name, value in fields.items() if value is not None})
    if isinstance(command, Rejected):
        raise fail(command.detail)
    return command


async def _issue(settings: Settings, command: Command, *, is_own_id: bool, wait_s: float) -> Answer:
    async with open_desk(settings) as desk:
        if is_own_id:
            earlier = await read_audit(
                settings,
                partition_count=desk.partition_count,
                tenant_id=command.tenant_id,
                command_id=command.command_id,
                from_ms=begin_ms(None, None, time.time_ns() // 1_000_000),
            )
            if (known := _counting(earlier)) is not None:
                return _earlier_answer(known, command)
        return await desk.issue(command, wait_s=wait_s)


def _counting(earlier: list[AuditLine]) -> AuditLine | None:
    """The command of this id that was or will be obeyed; a rejected one does not count."""
    return next((line for line in earlier if line.answer.verdict is not Verdict.REJECTED), None)


def _earlier_answer(known: AuditLine, command: Command) -> Answer:
    before = known.command
    same = {name for name in before.fields if name not in ("purchased_at", "paid_at")}  # the time of typing
    if before.kind != command.kind or any(before.fields[name] != command.fields[name] for name in same):
        when = format_time(known.at)
        raise fail(f"the id {command.command_id} was used at {when} for another {before.kind}: take a new one")
    if known.answer.verdict is Verdict.PENDING:
        raise fail(f"command {command.command_id} was sent at {format_time(known.at)} and waits", EXIT_PENDING)
    return known.answer._replace(verdict=Verdict.REPEATED, detail=f"done at {format_time(known.at)}")


def tell(answer: Answer, done: str) -> None:
    """One line: what was done, or why not (exit code 1)."""
    match answer.verdict:
        case Verdict.APPLIED:
            Terminal(soft_wrap=True).print(Text("done:", style="green"), f"{done} (command {answer.command_id})")
        case Verdict.REPEATED:
            typer.echo(f"nothing done again: command {answer.command_id} was {answer.detail or 'done before'}")
        case Verdict.PARTLY:
            raise fail(f"only a part was done: {answer.detail}", EXIT_REJECTED)
        case _:
            raise fail(f"rejected, nothing changed: {answer.reason}: {answer.detail}", EXIT_REJECTED)


def money(micros: int, currency: str) -> str:
    return f"{format_micros(micros)} {currency}"


__all__ = [
    "WAIT_S",
    "CommandId",
    "Tenant",
    "Wait",
    "Yes",
    "account_of",
    "amount",
    "ask",
    "formed",
    "issue",
    "load_settings",
    "look",
    "money",
    "tell",
]

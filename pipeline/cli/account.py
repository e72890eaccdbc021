"""`pstn account`: open one, look at it, and its statement."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from pipeline.base.calendar import format_time
from pipeline.base.money import format_micros
from pipeline.charge.policy import DEFAULT_POLICY
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
    money,
    tell,
)
from pipeline.cli.failure import fail, one_line
from pipeline.cli.terminal import Terminal
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.cli.warehouse_options import WarehouseOption, opened
from pipeline.cli.warehouse_options import period as period_of
from pipeline.debit.account import Account
from pipeline.office.credit_table import CreditTable
from pipeline.office.shown import account_json, summary_json
from pipeline.office.statement import Statement, problem_of
from pipeline.office.statement_text import statement_csv, statement_json

app = typer.Typer(no_args_is_help=True, help="Accounts of tenants: open, look, statement.")
_ROWS_SHOWN_MAX = 200


@app.command("open")
def open_(
    tenant: Tenant,
    country: Annotated[str, typer.Option(help="two capital letters: where the tenant is")],
    tariff: Annotated[str, typer.Option(help="of rating_tables/tariffs.csv; it decides the prices")],
    currency: Annotated[str, typer.Option(help="of the account, for ever")] = "USD",
    agreement: Annotated[
        Literal["prepaid", "postpaid"], typer.Option(help="who pays first: the customer, or you")
    ] = "prepaid",
    overage: Annotated[bool, typer.Option("--overage", help="postpaid: bill what the balance does not hold")] = False,
    conferencing_tariff: Annotated[str | None, typer.Option(help="per-minute tariff of meetings")] = None,
    policy: Annotated[str, typer.Option(help="dial-out policy of users without their own")] = DEFAULT_POLICY,
    yes: Yes = False,
    id: CommandId = None,
    wait: Wait = WAIT_S,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Open an account, or change these settings of one that is open (not its currency).

    Example: pstn account open --tenant contoso --country US --tariff acs_proxy_usd
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    fields: dict[str, object] = {
        "country": country,
        "currency": currency,
        "tariff": tariff,
        "tariff_per_minute_conferencing": conferencing_tariff,
        "agreement": agreement,
        "overage_enabled": overage,
        "dial_out_policy": policy,
    }
    before = look(settings, tenant).account(tenant)
    if before is None:
        ask(f"open an account for {tenant}: {agreement}, in {currency}, which cannot be changed later", is_agreed=yes)
    else:
        changes = [f"{name} {old} -> {fields[name]}" for name, old in before.terms._asdict().items()
                   if fields[name] != old]  # fmt: skip
        ask(f"{tenant} is open; this changes: {', '.join(changes) or 'nothing'}", is_agreed=yes)
    answer = issue(settings, tenant, "open_account", fields, command_id=id, wait_s=wait)
    tell(answer, f"the account of {tenant} is open")


@app.command()
def show(
    tenant: Tenant,
    format: Annotated[Literal["table", "json"], typer.Option(help="table or json")] = "table",
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Balance, lots, auto-recharge and minute pools of a tenant, as committed at this moment.

    Example: pstn account show --tenant contoso
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    table = look(settings, tenant)
    account = account_of(table, tenant)
    if format == "json":
        typer.echo(json.dumps(account_json(table, tenant), ensure_ascii=False))
        return
    _print_account(Terminal(), table, account)


@app.command("list")
def list_(
    format: Annotated[Literal["table", "csv", "json"], typer.Option(help="table, csv or json")] = "table",
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="accounts shown")] = 1_000,
    after: Annotated[str | None, typer.Option(help="begin behind this tenant")] = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """All accounts, by tenant.

    Example: pstn account list --format csv
    """
    from pipeline.office.command_io import partition_count_of
    from pipeline.office.table_io import read_all

    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    with one_line():
        table = asyncio.run(read_all(settings, partition_count_of(settings)))
    page = table.tenants(after, limit)
    accounts = [account for tenant_id in page.names if (account := table.account(tenant_id)) is not None]
    if format == "json":
        typer.echo(json.dumps([summary_json(account) for account in accounts], ensure_ascii=False))
    elif format == "csv":
        import csv

        writer = csv.writer(sys.stdout, lineterminator="\r\n")
        writer.writerow(("tenant_id", "country", "agreement", "balance", "currency", "suspended", "auto_recharge"))
        writer.writerows(_cells(account) for account in accounts)
    else:
        shown = Table("tenant", "country", "agreement", title="accounts", title_justify="left")
        shown.add_column("balance", justify="right")
        for name in ("currency", "suspended", "auto-recharge"):
            shown.add_column(name)
        for account in accounts:
            shown.add_row(*_cells(account))
        Terminal().print(shown)
    if page.next_after is not None:
        typer.echo(f"there are more: --after {page.next_after}", err=True)


@app.command()
def statement(
    tenant: Tenant,
    from_: Annotated[
        str | None, typer.Option("--from", help="first day, month or time (UTC)", show_default="all")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="last day or month, included; or a time, not included")] = None,
    format: Annotated[Literal["table", "csv", "json", "pdf"], typer.Option(help="pdf needs --out")] = "table",
    out: Annotated[Path | None, typer.Option(help="file to write", show_default="here")] = None,
    wait: Annotated[float, typer.Option(min=0, help="seconds given to the warehouse to come as far")] = 10,
    warehouse: WarehouseOption = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Opening balance, every entry, every lot with what is left and its date, closing balance.

    Example: pstn account statement --tenant contoso --from 2026-03 --to 2026-03 --format pdf --out march.pdf
    """
    from pipeline.office.statement_io import read_statement

    if format == "pdf" and out is None:
        raise fail("a PDF goes into a file: add --out statement.pdf")
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix, warehouse=warehouse)
    period = period_of(from_, to)
    table = look(settings, tenant)
    account = account_of(table, tenant)
    with opened(settings.warehouse) as store:
        made, is_current = read_statement(
            store, account, table.lots(tenant), period, now_ms=time.time_ns() // 1_000_000, wait_s=wait
        )
    if (problem := problem_of(made)) is not None:
        raise fail(problem)
    with one_line():
        _write(made, format, out)
    if not is_current:
        typer.echo("the warehouse is not yet as far as the account: the newest entries are missing", err=True)


def _write(made: Statement, format: str, out: Path | None) -> None:
    if format == "pdf":
        from pipeline.office.statement_pdf_io import statement_pdf

        assert out is not None
        out.write_bytes(statement_pdf(made))
    elif format == "table" and out is None:
        _print_statement(Terminal(), made)
        return
    else:
        text = json.dumps(statement_json(made), ensure_ascii=False) + "\n" if format == "json" else statement_csv(made)
        if out is None:
            sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]  # \r\n stays as it is
            sys.stdout.write(text)
            return
        out.write_text(text, encoding="utf-8", newline="")
    typer.echo(f"written: {out}", err=True)


def _print_statement(console: Console, made: Statement) -> None:
    start = "the beginning" if made.from_ms is None else format_time(made.from_ms)
    title = f"{made.tenant_id}, {made.currency}, from {start} to {format_time(made.to_ms)}"
    table = Table("time", "entry", "call, lot or recharge", title=title, title_justify="left")
    for name in ("amount", "billed later", "balance"):
        table.add_column(name, justify="right")
    table.add_row("", "opening balance", "", "", "", format_micros(made.opening_micros))
    for row in made.rows[-_ROWS_SHOWN_MAX:]:
        later = format_micros(row.postpaid_micros) if row.postpaid_micros else ""
        amounts = format_micros(row.amount_micros), later, format_micros(row.balance_micros)
        table.add_row(format_time(row.occurred_at), row.kind, row.about, *amounts)
    table.add_row("", "closing balance", "", "", "", format_micros(made.closing_micros))
    console.print(table)
    if len(made.rows) > _ROWS_SHOWN_MAX:
        console.print(f"the last {_ROWS_SHOWN_MAX} of {len(made.rows):,} entries; --format csv has them all")
    lots = Table("lot", "purchased", "expires", title="lots", title_justify="left")
    for name in ("amount", "left"):
        lots.add_column(name, justify="right")
    for lot in made.lots:
        dates = format_time(lot.purchased_at), format_time(lot.expires_at)
        lots.add_row(lot.lot_id, *dates, format_micros(lot.amount_micros), format_micros(lot.remaining_micros))
    if made.overdraft_micros:
        lots.add_row("overdraft", "", "", "", format_micros(-made.overdraft_micros))
    console.print(lots)


def _cells(account: Account) -> tuple[str, ...]:
    return (
        account.tenant_id,
        account.terms.country,
        account.terms.agreement,
        format_micros(account.balance_micros),
        account.terms.currency,
        "suspended" if account.is_suspended else "",
        "on" if account.recharging.settings.is_enabled else "off",
    )


def _print_account(console: Console, table: CreditTable, account: Account) -> None:
    terms, currency = account.terms, account.terms.currency
    settings = account.recharging.settings
    facts = {
        "balance": money(account.balance_micros, currency) + (" (suspended)" if account.is_suspended else ""),
        "agreement": terms.agreement + (", overage billed later" if terms.overage_enabled else ""),
        "country": terms.country,
        "tariff": ", ".join(name for name in (terms.tariff, terms.tariff_per_minute_conferencing) if name),
        "dial-out policy": terms.dial_out_policy,
        "auto-recharge": "off"
        if not settings.is_enabled
        else f"below {money(settings.trigger_micros, currency)} add {money(settings.amount_micros, currency)}"
        + (
            ""
            if settings.monthly_budget_micros is None
            else f", at most {money(settings.monthly_budget_micros, currency)} a month"
        )
        + (", one in flight" if account.recharging.in_flight else ""),
        "users": f"{table.user_count(account.tenant_id):,}",
    }
    if account.overdraft_micros:
        facts["overdraft"] = money(account.overdraft_micros, currency)
    shown = Table(title=account.tenant_id, title_justify="left", show_header=False)
    for name, value in facts.items():
        shown.add_row(name, value)
    console.print(shown)
    if account.lots:
        lots = Table("lot", "purchased", "expires", title="lots", title_justify="left")
        lots.add_column("left", justify="right")
        for lot in account.lots:
            dates = format_time(lot.purchased_at), format_time(lot.expires_at)
            lots.add_row(lot.lot_id, *dates, money(lot.remaining_micros, currency))
        console.print(lots)
    months = [(month, name, use) for month in table.months(account.tenant_id) for name, use in month.pools.items()]
    if months:
        pools = Table("month", "pool", title="minutes used of pools", title_justify="left")
        pools.add_column("minutes", justify="right")
        for month, name, use in months:
            pools.add_row(month.month, name, f"{use.used_minutes:,}")
        console.print(pools)

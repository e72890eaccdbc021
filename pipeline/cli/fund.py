"""`pstn fund`: money by hand, auto-recharge, and the answer to a recharge that an operator knows better."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import typer

from pipeline.base.calendar import format_time, parse_time
from pipeline.cli.desk import (
    WAIT_S,
    CommandId,
    Tenant,
    Wait,
    Yes,
    account_of,
    amount,
    ask,
    issue,
    load_settings,
    look,
    money,
    tell,
)
from pipeline.cli.failure import fail
from pipeline.cli.topics import Bootstrap, Prefix

app = typer.Typer(no_args_is_help=True, help="Add funds, and let them be added.")

Method = Annotated[Literal["card", "enterprise_agreement", "other"], typer.Option("--method", help="how it is paid")]
AgreementNo = Annotated[str | None, typer.Option("--agreement-no", help="enterprise agreement")]
OrderNo = Annotated[str | None, typer.Option("--purchase-order", help="purchase order number")]


@app.command()
def add(
    tenant: Tenant,
    amount_: Annotated[str, typer.Option("--amount", help="in the account's currency: 100.00")],
    reference: Annotated[str, typer.Option(help="what the payment is known by")] = "",
    currency: Annotated[str | None, typer.Option(help="refused if the account's is another")] = None,
    purchased_at: Annotated[str | None, typer.Option(help="2026-03-01T10:00:00Z", show_default="now")] = None,
    method: Method = "other",
    agreement_no: AgreementNo = None,
    purchase_order: OrderNo = None,
    yes: Yes = False,
    id: CommandId = None,
    wait: Wait = WAIT_S,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Add prepaid funds that were paid for by hand; they expire twelve months after the purchase.

    Example: pstn fund add --tenant contoso --amount 100.00 --reference "bank transfer 4711"
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    micros = amount(amount_, "--amount")
    bought_ms = _instant(purchased_at)
    account = account_of(look(settings, tenant), tenant)
    own = currency or account.terms.currency
    before, after = account.balance_micros, account.balance_micros + micros
    ask(
        f"add {money(micros, own)} to {tenant}: the balance goes from {money(before, account.terms.currency)} to "
        f"{money(after, account.terms.currency)}; it cannot be taken back",
        is_agreed=yes,
    )
    fields: dict[str, object] = {
        "amount_micros": micros,
        "currency": own,
        "purchased_at": bought_ms,
        "payment_method": method,
        "enterprise_agreement_no": agreement_no,
        "purchase_order_no": purchase_order,
        "reference": reference,
    }
    tell(issue(settings, tenant, "add_funds", fields, command_id=id, wait_s=wait), f"{money(micros, own)} added")


@app.command()
def auto(
    tenant: Tenant,
    trigger: Annotated[str | None, typer.Option(help="recharge when the balance is below: 100.00")] = None,
    amount_: Annotated[str | None, typer.Option("--amount", help="how much each time: 500.00")] = None,
    monthly_budget: Annotated[
        str | None, typer.Option(help="at most so much in a month", show_default="no limit")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="no more recharges")] = False,
    method: Method = "card",
    agreement_no: AgreementNo = None,
    purchase_order: OrderNo = None,
    yes: Yes = False,
    id: CommandId = None,
    wait: Wait = WAIT_S,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Recharge by itself whenever the balance falls below the trigger, or switch that off.

    Example: pstn fund auto --tenant contoso --trigger 100 --amount 500 --monthly-budget 2000
    """
    if off == (trigger is not None or amount_ is not None) or (not off and (trigger is None or amount_ is None)):
        raise fail("type --trigger and --amount, or --off alone")
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    trigger_micros = 0 if trigger is None else amount(trigger, "--trigger", least_micros=0)
    amount_micros = 0 if amount_ is None else amount(amount_, "--amount")
    budget_micros = None if monthly_budget is None else amount(monthly_budget, "--monthly-budget", least_micros=0)
    account = account_of(look(settings, tenant), tenant)
    currency = account.terms.currency
    if off:
        what = f"switch auto-recharge of {tenant} off"
    else:
        limit = "" if budget_micros is None else f", at most {money(budget_micros, currency)} a month"
        now = " The balance is below the trigger: the first one is asked for at once."
        what = (
            f"recharge {tenant} by {money(amount_micros, currency)} ({method}) whenever the balance is below "
            f"{money(trigger_micros, currency)}{limit}.{now if account.balance_micros < trigger_micros else ''}"
        )
    ask(what, is_agreed=yes)
    fields: dict[str, object] = {
        "enabled": not off,
        "trigger_micros": trigger_micros,
        "amount_micros": amount_micros,
        "monthly_budget_micros": budget_micros,
        "payment_method": method,
        "enterprise_agreement_no": agreement_no,
        "purchase_order_no": purchase_order,
    }
    done = "auto-recharge is off" if off else f"auto-recharge is on: {money(amount_micros, currency)} each time"
    tell(issue(settings, tenant, "set_auto_recharge", fields, command_id=id, wait_s=wait), done)


@app.command()
def answer(
    tenant: Tenant,
    recharge_id: Annotated[str, typer.Option(help="of the recharge that is in flight")],
    paid: Annotated[bool, typer.Option("--paid/--failed", help="what the bank says")],
    paid_at: Annotated[str | None, typer.Option(help="2026-03-01T10:00:00Z", show_default="now")] = None,
    reason: Annotated[str | None, typer.Option(help="why it failed")] = None,
    yes: Yes = False,
    id: CommandId = None,
    wait: Wait = WAIT_S,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Answer a recharge by hand, when the payment worker cannot: the money came, or it will not.

    Example: pstn fund answer --tenant contoso --recharge-id contoso:cdrs:4:100 --failed --reason "card expired"
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    account_of(look(settings, tenant), tenant)
    ask(f"book recharge {recharge_id} of {tenant} as {'paid' if paid else 'failed'}", is_agreed=yes)
    fields: dict[str, object] = {
        "recharge_id": recharge_id,
        "succeeded": paid,
        "reason": reason,
        "paid_at": _instant(paid_at) if paid else None,
    }
    done = f"recharge {recharge_id} is {'paid' if paid else 'failed'}"
    tell(issue(settings, tenant, "recharge_result", fields, command_id=id, wait_s=wait), done)


def _instant(text: str | None) -> int:
    now_ms = time.time_ns() // 1_000_000
    if text is None:
        return now_ms
    try:
        return parse_time(text)
    except ValueError:
        raise fail(f"{text!r} is no time: type it as {format_time(now_ms)[:19]}Z") from None

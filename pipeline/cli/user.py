"""`pstn user`: one user of a tenant. Many at once: `pstn licences assign`."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer
from rich.table import Table

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
from pipeline.cli.terminal import Terminal
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.debit.account import User
from pipeline.office.shown import user_json

app = typer.Typer(no_args_is_help=True, help="Users of a tenant.")
UserId = Annotated[str, typer.Option("--user", help="the user's object id")]
_NO_CAP = "none"


@app.command("set")
def set_(
    tenant: Tenant,
    user: UserId,
    licences: Annotated[str | None, typer.Option(help="SKUs, separated by commas; replaces all")] = None,
    country: Annotated[str | None, typer.Option(help="two capital letters", show_default="the tenant's")] = None,
    policy: Annotated[str | None, typer.Option(help="dial-out policy", show_default="the tenant's")] = None,
    spend_cap: Annotated[str | None, typer.Option(help="at most so much in a month: 50.00, or none")] = None,
    upn: Annotated[str | None, typer.Option(help="user principal name")] = None,
    display_name: Annotated[str | None, typer.Option(help="for people to read")] = None,
    resource_account: Annotated[
        bool | None, typer.Option("--resource-account/--person", help="a voice application's account")
    ] = None,
    id: CommandId = None,
    wait: Wait = WAIT_S,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Set a user up, or change what is named; the rest stays as it is.

    Example: pstn user set --tenant contoso --user ada --licences MCOPSTN1,MCOPSTNPP --spend-cap 50.00
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    cap = None if spend_cap in (None, _NO_CAP) else amount(str(spend_cap), "--spend-cap", least_micros=0)
    table = look(settings, tenant)
    account_of(table, tenant)
    fields = settings_of(table.user(tenant, user))
    given: dict[str, object | None] = {
        "licences": None if licences is None else [sku.strip() for sku in licences.split(",") if sku.strip()],
        "country": country,
        "dial_out_policy": policy,
        "spend_cap_micros": cap,
        "upn": upn,
        "display_name": display_name,
        "is_resource_account": resource_account,
    }
    fields |= {name: value for name, value in given.items() if value is not None}
    if spend_cap == _NO_CAP:
        fields["spend_cap_micros"] = None
    answer = issue(settings, tenant, "set_user", {"user_id": user, **fields}, command_id=id, wait_s=wait)
    tell(answer, f"user {user} of {tenant} is set")


@app.command()
def remove(
    tenant: Tenant,
    user: UserId,
    yes: Yes = False,
    id: CommandId = None,
    wait: Wait = WAIT_S,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Remove a user: calls that start from now on are refused, and he counts in no pool.

    Example: pstn user remove --tenant contoso --user ada
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    table = look(settings, tenant)
    account_of(table, tenant)
    found(table.user(tenant, user), tenant, user)
    ask(f"remove user {user} of {tenant}: calls that start from now on are refused", is_agreed=yes)
    answer = issue(settings, tenant, "remove_user", {"user_id": user}, command_id=id, wait_s=wait)
    tell(answer, f"user {user} of {tenant} is removed")


@app.command()
def show(
    tenant: Tenant,
    user: UserId,
    format: Annotated[Literal["table", "json"], typer.Option(help="table or json")] = "table",
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Licences, policy, spend and own pools of a user.

    Example: pstn user show --tenant contoso --user ada
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    table = look(settings, tenant)
    account = account_of(table, tenant)
    shown = found(table.user(tenant, user), tenant, user)
    if format == "json":
        typer.echo(json.dumps(user_json(shown), ensure_ascii=False))
        return
    currency, cap = account.terms.currency, shown.settings.spend_cap_micros
    facts = {
        "name": shown.settings.display_name or "",
        "UPN": shown.settings.upn or "",
        "country": shown.settings.country or f"{account.terms.country} (the tenant's)",
        "licences": " ".join(shown.settings.licences) or "none",
        "dial-out policy": shown.settings.dial_out_policy or f"{account.terms.dial_out_policy} (the tenant's)",
        "spend cap": "none" if cap is None else f"{money(cap, currency)} a month",
        "kind": "resource account" if shown.settings.is_resource_account else "person",
        "removed": "yes" if shown.removed_at is not None else "no",
        **{f"spent {month}": money(spend.spent_micros, currency) for month, spend in sorted(shown.months.items())},
    }
    table_ = Table(title=user, title_justify="left", show_header=False)
    for name, value in facts.items():
        table_.add_row(name, value)
    Terminal().print(table_)


@app.command("list")
def list_(
    tenant: Tenant,
    format: Annotated[Literal["table", "json"], typer.Option(help="table or json")] = "table",
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="users shown")] = 100,
    after: Annotated[str | None, typer.Option(help="begin behind this user")] = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Users of a tenant, by id.

    Example: pstn user list --tenant contoso --limit 20
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    table = look(settings, tenant)
    account_of(table, tenant)
    page = table.user_ids(tenant, after, limit)
    users = [user for user_id in page.names if (user := table.user(tenant, user_id)) is not None]
    if format == "json":
        typer.echo(json.dumps([user_json(user) for user in users], ensure_ascii=False))
    else:
        shown = Table("user", "name", "country", "licences", title=f"{tenant}: users", title_justify="left")
        for user in users:
            settings_ = user.settings
            licences = "removed" if user.removed_at is not None else " ".join(settings_.licences)
            name = settings_.display_name or settings_.upn or ""
            shown.add_row(user.user_id, name, settings_.country or "", licences)
        Terminal().print(shown)
    if page.next_after is not None:
        typer.echo(f"there are more: --after {page.next_after}", err=True)


def found(user: User | None, tenant_id: str, user_id: str) -> User:
    """The user, or one line."""
    if user is None:
        raise fail(f"tenant {tenant_id} has no user {user_id}: `pstn user list` has those that are set")
    return user


def settings_of(user: User | None) -> dict[str, object]:
    """A user's settings as the fields of `set_user`; those of a new one when there is none."""
    if user is None or user.removed_at is not None:
        return {"licences": [], "is_resource_account": False}
    return user.settings._asdict() | {"licences": list(user.settings.licences)}

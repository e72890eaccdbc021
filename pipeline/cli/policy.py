"""`pstn policy`: how far a tenant's or a user's calls may go (R57-R59)."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.charge.policy import POLICIES
from pipeline.cli.desk import (
    WAIT_S,
    CommandId,
    Tenant,
    Wait,
    account_of,
    issue,
    load_settings,
    look,
    tell,
)
from pipeline.cli.failure import fail
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.cli.user import found, settings_of

app = typer.Typer(no_args_is_help=True, help="Dial-out policies.")


@app.command("set")
def set_(
    tenant: Tenant,
    policy: Annotated[str, typer.Option(help="`pstn policy list` has them")],
    user: Annotated[str | None, typer.Option(help="only for this user", show_default="for the tenant")] = None,
    id: CommandId = None,
    wait: Wait = WAIT_S,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Set the policy of a tenant, or of one of its users. Emergency calls are never barred.

    Example: pstn policy set --tenant contoso --policy DialoutCPCandPSTNDomestic
    """
    if policy not in POLICIES:
        raise fail(f"dial-out policy {policy!r} is unknown: `pstn policy list` has those that are")
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    table = look(settings, tenant)
    account = account_of(table, tenant)
    if user is None:
        fields = account.terms._asdict() | {"dial_out_policy": policy}
        answer = issue(settings, tenant, "open_account", fields, command_id=id, wait_s=wait)
    else:
        known = settings_of(found(table.user(tenant, user), tenant, user))
        fields = {"user_id": user, **known, "dial_out_policy": policy}
        answer = issue(settings, tenant, "set_user", fields, command_id=id, wait_s=wait)
    tell(answer, f"{policy} is the policy of {user or tenant}")


@app.command("list")
def list_() -> None:
    """The twelve policies: how far meetings may call out, and users.

    Example: pstn policy list
    """
    for name, policy in POLICIES.items():
        typer.echo(f"{name:40} meetings: {policy.from_meetings:9} users: {policy.own_calls}")

"""`pstn refund`: gives back what one call cost."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.base.calendar import format_time
from pipeline.cli.desk import (
    WAIT_S,
    CommandId,
    Tenant,
    Wait,
    Yes,
    ask,
    issue,
    load_settings,
    money,
    tell,
)
from pipeline.cli.failure import fail
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.cli.warehouse_options import WarehouseOption, opened


def refund(
    tenant: Tenant,
    usage_id: Annotated[str, typer.Option(help="of the call")],
    reason: Annotated[str, typer.Option(help="why; the customer reads it")],
    yes: Yes = False,
    id: CommandId = None,
    wait: Wait = WAIT_S,
    warehouse: WarehouseOption = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Give back all that a call cost: what was debited comes back as new funds, what is billed later is taken off.

    Example: pstn refund --tenant contoso --usage-id 7f3a --reason "call was cut off"
    """
    from pipeline.office.refund_io import read_taken

    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix, warehouse=warehouse)
    with opened(settings.warehouse) as store:
        taken = read_taken(store, tenant, usage_id)
    if taken is None:
        raise fail(f"the warehouse has no rated call {usage_id} of {tenant}: `pstn report usage` lists them")
    if taken.debited_micros == 0 and taken.postpaid_micros == 0:
        raise fail(f"call {usage_id} cost nothing: there is nothing to refund")
    parts = [f"{money(taken.debited_micros, taken.currency)} debited"] if taken.debited_micros else []
    parts += [f"{money(taken.postpaid_micros, taken.currency)} to be billed"] if taken.postpaid_micros else []
    when = format_time(taken.start_time)
    ask(
        f"refund call {usage_id} of {tenant} ({when} to {taken.callee_number}): {' and '.join(parts)}; it cannot be "
        "undone",
        is_agreed=yes,
    )
    fields: dict[str, object] = {
        "usage_id": usage_id,
        "debited_micros": taken.debited_micros,
        "postpaid_micros": taken.postpaid_micros,
        "reason": reason,
    }
    total = money(taken.debited_micros + taken.postpaid_micros, taken.currency)
    answer = issue(settings, tenant, "refund_call", fields, command_id=id, wait_s=wait)
    tell(answer, f"{total} refunded for call {usage_id}")

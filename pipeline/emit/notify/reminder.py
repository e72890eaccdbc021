"""The second word about a lot, seven days before it expires, if there is still money in it. Pure.

The event `lot_expiring` of 30 days before names the lot. It is planned at once, as a record of the journal, and looked
at against the account: then for the day of expiry, and on the day of the reminder for what is left.
"""

from __future__ import annotations

from pipeline.base.calendar import MS_PER_DAY, format_time
from pipeline.debit.account import Account
from pipeline.emit.notify.notice import PLANNED, Notice, new_notice
from pipeline.emit.outputs import AccountEvent

ANNOUNCED = "lot_expiring"
REMINDER = "lot_expires_soon"
REMINDED_BEFORE_MS = 7 * MS_PER_DAY


def planned(event: AccountEvent, *, now_ms: int) -> Notice:
    """A reminder of what `event` announced, to be looked at now."""
    return new_notice(event, "", "", hour=0, now_ms=now_ms)._replace(state=PLANNED)


def looked_at(plan: Notice, account: Account | None, *, now_ms: int) -> Notice | AccountEvent | None:
    """Later, now, or not at all: the plan with its day, the event to tell of, or None."""
    (event,) = plan.told()
    lots = account.lots if account is not None else ()
    lot = next((lot for lot in lots if lot.lot_id == event.details.get("lot_id")), None)
    if account is None or lot is None or lot.remaining_micros <= 0 or now_ms >= lot.expires_at:
        return None
    due_at = lot.expires_at - REMINDED_BEFORE_MS
    if now_ms < due_at:
        return plan._replace(due_at=due_at)
    if event.occurred_at >= due_at:  # announced so late that a second word would say the same
        return None
    return event._replace(
        event_id=f"{event.event_id}:reminder",
        kind=REMINDER,
        occurred_at=now_ms,
        amount_micros=lot.remaining_micros,
        balance_micros=account.balance_micros,
        details=event.details | {"expires_at": format_time(lot.expires_at)},
    )

"""Auto-recharge (R49, D11, D12): when money is requested, and what its answer does.

One request is in flight at most; a failure starts a back-off of 1 h, 6 h, then 24 h each; a month's budget counts what
was requested and did not fail. Nothing here waits: time is the `now` of the records.
"""

from __future__ import annotations

from pipeline.base.calendar import MS_PER_DAY, MS_PER_HOUR, month_of
from pipeline.debit.account import Account, BudgetMonth, PaymentData, Request
from pipeline.debit.turn import Turn

BACKOFFS_MS = (1 * MS_PER_HOUR, 6 * MS_PER_HOUR, 24 * MS_PER_HOUR)
LATE_SUCCESS_MS = 35 * MS_PER_DAY
"""How long the success of a request is accepted after its failure: the customer paid."""
_BUDGET_MONTHS_KEPT = 3


def request_if_needed(turn: Turn) -> None:
    """The last act of every applied record: balance strictly below the trigger, none in flight, no back-off, budget."""
    account = turn.account
    settings = account.recharge
    if (
        not settings.is_enabled
        or account.balance_micros >= settings.trigger_micros
        or account.in_flight is not None
        or turn.now_ms < account.backoff_until
    ):
        return
    month = _budget_month(account, month_of(turn.now_ms))
    budget_micros = settings.monthly_budget_micros
    if budget_micros is not None and month.requested_micros + settings.amount_micros > budget_micros:
        if not month.is_reached_announced:
            _set_budget_month(turn.write(), month._replace(is_reached_announced=True))
            turn.event("recharge_budget_reached", settings.amount_micros, {"budget_micros": str(budget_micros)})
        return
    account = turn.write()
    recharge_id = f"{account.tenant_id}:{turn.place}"
    account.in_flight = Request(recharge_id, settings.amount_micros, month.month, 0, settings.payment)
    _count(account, month.month, settings.amount_micros)
    turn.event("recharge_requested", settings.amount_micros, _details(account.in_flight))


def pending(account: Account, recharge_id: str, *, succeeded: bool, now_ms: int) -> Request | None:
    """The request that this answer answers: the one in flight, or for a success one that failed 35 days ago at most."""
    if account.in_flight is not None and account.in_flight.recharge_id == recharge_id:
        return account.in_flight
    for request in account.failed_requests if succeeded else ():
        if request.recharge_id == recharge_id and now_ms - request.failed_at <= LATE_SUCCESS_MS:
            return request
    return None


def succeed(turn: Turn, request: Request) -> None:
    """The request is over; its back-off too. The lot and the event are the caller's."""
    account = turn.write()
    if account.in_flight is not None and account.in_flight.recharge_id == request.recharge_id:
        account.in_flight = None
    else:
        account.failed_requests = tuple(
            failed for failed in account.failed_requests if failed.recharge_id != request.recharge_id
        )
        _count(account, request.month, request.amount_micros)
    reset_backoff(account)


def fail(turn: Turn, request: Request, reason: str | None) -> None:
    """The money did not come: back-off, and the month's budget has its amount again."""
    account = turn.write()
    account.in_flight = None
    recent = [each for each in account.failed_requests if turn.now_ms - each.failed_at <= LATE_SUCCESS_MS]
    account.failed_requests = (*recent, request._replace(failed_at=turn.now_ms))
    _count(account, request.month, -request.amount_micros)
    account.backoff_until = turn.now_ms + BACKOFFS_MS[min(account.failure_count, len(BACKOFFS_MS) - 1)]
    account.failure_count += 1
    turn.event("recharge_failed", request.amount_micros, _details(request) | ({"reason": reason} if reason else {}))


def reset_backoff(account: Account) -> None:
    """After a success, `add_funds` or `set_auto_recharge`."""
    account.failure_count = 0
    account.backoff_until = 0


def announce_success(turn: Turn, request: Request) -> None:
    turn.event("recharge_succeeded", request.amount_micros, _details(request))


def _details(request: Request) -> dict[str, str]:
    return {"recharge_id": request.recharge_id} | payment_details(request.payment)


def payment_details(payment: PaymentData) -> dict[str, str]:
    """How it is paid, for the payment worker and the invoice; numbers only where there are any."""
    return {name: value for name, value in zip(payment._fields, payment, strict=True) if value is not None}


def _budget_month(account: Account, month: str) -> BudgetMonth:
    return next((each for each in account.budget_months if each.month == month), BudgetMonth(month, 0, False))


def _set_budget_month(account: Account, changed: BudgetMonth) -> None:
    others = [each for each in account.budget_months if each.month != changed.month]
    account.budget_months = tuple(sorted([*others, changed])[-_BUDGET_MONTHS_KEPT:])


def _count(account: Account, month: str, amount_micros: int) -> None:
    before = _budget_month(account, month)
    _set_budget_month(account, before._replace(requested_micros=before.requested_micros + amount_micros))

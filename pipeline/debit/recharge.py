"""Auto-recharge (R49, D11, D12): when money is requested, and what its answer does.

One request is in flight at most; a failure starts a back-off of 1 h, 6 h, then 24 h each; a month's budget counts what
was requested and did not fail. Nothing here waits: time is the `now` of the records.
"""

from __future__ import annotations

from typing import Final

from pipeline.base.calendar import MS_PER_DAY, MS_PER_HOUR, format_time, month_of
from pipeline.debit.account import Account, BudgetMonth, PaymentData, Recharging, Request
from pipeline.debit.turn import Turn

BACKOFFS_MS: Final = (1 * MS_PER_HOUR, 6 * MS_PER_HOUR, 24 * MS_PER_HOUR)
LATE_SUCCESS_MS: Final = 35 * MS_PER_DAY
"""How long the success of a request is accepted after its failure: the customer paid."""
_BUDGET_MONTHS_KEPT: Final = 3
_FAILED_KEPT: Final = 64
"""Failed requests remembered: by the back-off 36 fail in 35 days; unbounded, a flood would fill the account."""


def request_if_needed(turn: Turn) -> None:
    """The last act of every applied record: balance strictly below the trigger, none in flight, no back-off, budget."""
    account = turn.account
    settings, in_flight, _, _, backoff_until, _ = recharging = account.recharging
    if (
        not settings.is_enabled
        or account.balance_micros >= settings.trigger_micros
        or in_flight is not None
        or turn.now_ms < backoff_until
    ):
        return
    month = _budget_month(recharging, month_of(turn.now_ms))
    budget_micros = settings.monthly_budget_micros
    if budget_micros is not None and month.requested_micros + settings.amount_micros > budget_micros:
        if not month.is_reached_announced:
            turn.write().recharging = _with_month(recharging, month._replace(is_reached_announced=True))
            turn.event("recharge_budget_reached", settings.amount_micros, {"budget_micros": str(budget_micros)})
        return
    request = Request(f"{account.tenant_id}:{turn.place}", settings.amount_micros, month.month, 0, settings.payment)
    turn.write().recharging = _counted(recharging._replace(in_flight=request), month.month, settings.amount_micros)
    turn.event("recharge_requested", settings.amount_micros, _details(request))


def room_micros(account: Account, now_ms: int) -> int | None:
    """What auto-recharge may still bring in this month: what is in flight and whole recharges within the budget.

    None: it has no bound. Nothing new while it is off or backs off.
    """
    recharging = account.recharging
    settings, in_flight = recharging.settings, recharging.in_flight
    coming_micros = 0 if in_flight is None else in_flight.amount_micros
    if not settings.is_enabled or now_ms < recharging.backoff_until:
        return coming_micros
    if settings.monthly_budget_micros is None:
        return None
    left_micros = settings.monthly_budget_micros - _budget_month(recharging, month_of(now_ms)).requested_micros
    return coming_micros + max(0, left_micros) // settings.amount_micros * settings.amount_micros


def pending(account: Account, recharge_id: str, *, succeeded: bool, now_ms: int) -> Request | None:
    """The request that this answer answers: the one in flight, or for a success one that failed 35 days ago at most."""
    recharging = account.recharging
    if recharging.in_flight is not None and recharging.in_flight.recharge_id == recharge_id:
        return recharging.in_flight
    for request in recharging.failed if succeeded else ():
        if request.recharge_id == recharge_id and now_ms - request.failed_at <= LATE_SUCCESS_MS:
            return request
    return None


def succeed(turn: Turn, request: Request) -> None:
    """The request is over; its back-off too. The lot and the event are the caller's."""
    account = turn.write()
    recharging = account.recharging
    if request == recharging.in_flight:
        recharging = recharging._replace(in_flight=None)
    else:  # it failed, and its amount was taken out of its month's budget
        failed = tuple(each for each in recharging.failed if each != request)
        recharging = _counted(recharging._replace(failed=failed), request.month, request.amount_micros)
    account.recharging = recharging
    reset_backoff(account)


def fail(turn: Turn, request: Request, reason: str | None) -> None:
    """The money did not come: back-off, and the month's budget has its amount again."""
    account = turn.write()
    before = account.recharging
    failed = [each for each in before.failed if turn.now_ms - each.failed_at <= LATE_SUCCESS_MS]
    recharging = before._replace(
        in_flight=None,
        failed=(*failed[1 - _FAILED_KEPT :], request._replace(failed_at=turn.now_ms)),
        failure_count=before.failure_count + 1,
        backoff_until=turn.now_ms + BACKOFFS_MS[min(before.failure_count, len(BACKOFFS_MS) - 1)],
    )
    account.recharging = _counted(recharging, request.month, -request.amount_micros)
    turn.event("recharge_failed", request.amount_micros, _details(request) | ({"reason": reason} if reason else {}))


def reset_backoff(account: Account) -> None:
    """After a success, `add_funds` or `set_auto_recharge`."""
    account.recharging = account.recharging._replace(failure_count=0, backoff_until=0)


def announce_success(turn: Turn, request: Request) -> None:
    """`failed_at` in the details: the payment had been reported to have failed, which somebody should look at."""
    late = {"failed_at": format_time(request.failed_at)} if request.failed_at else {}
    turn.event("recharge_succeeded", request.amount_micros, _details(request) | late)


def _details(request: Request) -> dict[str, str]:
    return {"recharge_id": request.recharge_id} | payment_details(request.payment)


def payment_details(payment: PaymentData) -> dict[str, str]:
    """How it is paid, for the payment worker and the invoice; numbers only where there are any."""
    return {name: value for name, value in zip(payment._fields, payment, strict=True) if value is not None}


def _budget_month(recharging: Recharging, month: str) -> BudgetMonth:
    return next((each for each in recharging.budget_months if each.month == month), BudgetMonth(month, 0, False))


def _with_month(recharging: Recharging, changed: BudgetMonth) -> Recharging:
    others = [each for each in recharging.budget_months if each.month != changed.month]
    return recharging._replace(budget_months=tuple(sorted([*others, changed])[-_BUDGET_MONTHS_KEPT:]))


def _counted(recharging: Recharging, month: str, amount_micros: int) -> Recharging:
    before = _budget_month(recharging, month)
    return _with_month(recharging, before._replace(requested_micros=before.requested_micros + amount_micros))

"""What may be forgotten: months of which no call could be accepted any more, refunds after 400 days.

Forgetting happens when an account's turn comes anyway; nothing is searched for.
"""

from __future__ import annotations

from typing import Final

from pipeline.base.calendar import MS_PER_DAY, MS_PER_HOUR, month_of, next_month_starts_at
from pipeline.cdr.decode import TIME_MS_END
from pipeline.debit.account import NEVER_MS, Account, MonthPools, Refund, RefundQueue, User
from pipeline.debit.books import Books
from pipeline.debit.turn import Turn

REFUND_MEMORY_MS: Final = 400 * MS_PER_DAY


def own_month(turn: Turn, month: str) -> MonthPools:
    """A month's pool use that may be changed; the account notes its earliest."""
    account = turn.account
    if not account.first_month or month < account.first_month:
        _set_first_month(turn.write(), month)
    return turn.books.own_month(turn.account, month)


def forget_months(turn: Turn, call_age_ms_max: int) -> None:
    """Drops months that ended longer ago than a call may be old."""
    horizon_ms = turn.now_ms - call_age_ms_max
    if horizon_ms < turn.account.first_month_ends_at:
        return
    account = turn.write()
    while account.first_month_ends_at <= horizon_ms:
        turn.books.drop_month(account.tenant_id, account.first_month)
        _set_first_month(account, _next_kept(turn, account.first_month))


def _next_kept(turn: Turn, month: str) -> str:
    """The first month after this one with a record, or ""; a call may start up to an hour ahead."""
    last_month = month_of(min(turn.now_ms + MS_PER_HOUR, TIME_MS_END - 1))
    while month < last_month:
        year, number = int(month[:4]), int(month[5:])
        month = f"{year + number // 12:04d}-{number % 12 + 1:02d}"
        if turn.books.month(turn.account.tenant_id, month) is not None:
            return month
    return ""


def _set_first_month(account: Account, month: str) -> None:
    account.first_month = month
    account.first_month_ends_at = next_month_starts_at(month) if month else NEVER_MS


def is_open(month: str, now_ms: int, call_age_ms_max: int) -> bool:
    """Whether a call of that month could still be accepted."""
    return next_month_starts_at(month) > now_ms - call_age_ms_max


def forget_closed_months(user: User, now_ms: int, call_age_ms_max: int) -> None:
    """The same for what a user's own record keeps by month; it must be the slice's copy."""
    user.months = {month: spend for month, spend in user.months.items() if is_open(month, now_ms, call_age_ms_max)}
    user.pools = {names: use for names, use in user.pools.items() if is_open(names[0], now_ms, call_age_ms_max)}


def remember_refund(turn: Turn, usage_id: str) -> None:
    """Puts a refund at the end of the account's queue, and takes off its head what is too old."""
    account = turn.write()
    while account.refunds.oldest_at + REFUND_MEMORY_MS < turn.now_ms:
        _forget_oldest_refund(turn, account)
    known = turn.books.refund(account.tenant_id, usage_id)
    if known is not None:  # too old, and still in the queue because `now` went backwards: it keeps its place
        turn.books.keep_refund(known._replace(refunded_at=turn.now_ms))
        return
    turn.books.keep_refund(Refund(account.tenant_id, usage_id, turn.now_ms, ""))
    newest = turn.books.refund(account.tenant_id, account.refunds.tail)
    if newest is None:
        account.refunds = RefundQueue(usage_id, usage_id, turn.now_ms)
        return
    turn.books.keep_refund(newest._replace(next_usage_id=usage_id))
    account.refunds = account.refunds._replace(tail=usage_id)


def was_refunded(books: Books, tenant_id: str, usage_id: str, now_ms: int) -> int | None:
    """When that call was refunded, if that is within the last 400 days."""
    known = books.refund(tenant_id, usage_id)
    return known.refunded_at if known is not None and now_ms - known.refunded_at <= REFUND_MEMORY_MS else None


def _forget_oldest_refund(turn: Turn, account: Account) -> None:
    oldest = turn.books.refund(account.tenant_id, account.refunds.head)
    following = None
    if oldest is not None:
        turn.books.drop_refund(oldest)
        following = turn.books.refund(account.tenant_id, oldest.next_usage_id)
    if following is None:
        account.refunds = RefundQueue()
    else:
        account.refunds = account.refunds._replace(head=following.usage_id, oldest_at=following.refunded_at)

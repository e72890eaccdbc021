"""Would this call be paid, and how long? Asked before or during a call; it reserves nothing. Pure.

The steps are those that decide on the finished call (`rate`, `draw`, `why_not`), applied to a throw-away copy: what is
allowed here and ends as described is paid by the ledger, unless other calls take the same money or minutes meanwhile.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.base.calendar import month_of
from pipeline.base.record import InputRecord
from pipeline.base.rules import Rules
from pipeline.cdr.decode import DURATION_S_MAX, Cdr, refusal
from pipeline.charge.rate import Charge, Pays, rate
from pipeline.charge.tables import Tables
from pipeline.debit.account import Account, MonthPools, User
from pipeline.debit.books import Books, State
from pipeline.debit.calls import subscriber_for, why_refused, wrong_short_number
from pipeline.debit.credits import spend_left, why_not
from pipeline.debit.lots import let_time_pass
from pipeline.debit.pools import draw
from pipeline.debit.recharge import room_micros
from pipeline.debit.turn import Turn

MINUTES_MAX = DURATION_S_MAX // 60
"""A call detail record says at most 30 days; longer is as good as without end."""


class Authorization(NamedTuple):
    """`reason` is that of `unpaid`, of a free call, or of a reject (`user_unknown`, `number_invalid`).

    `max_duration_s` counts what is there: minutes of the pool, balance, the user's spend cap, or all when the rest is
    billed later. `max_duration_with_recharge_s` adds what auto-recharge may still bring within the month's budget.
    Both are whole minutes and at most 30 days.
    """

    is_allowed: bool
    reason: str | None
    max_duration_s: int
    max_duration_with_recharge_s: int
    pool_minutes: int
    rate_micros_per_minute: int | None
    connection_fee_micros: int | None
    currency: str | None


def authorize(
    cdr: Cdr, account: Account | None, user: User | None, pools: MonthPools | None, *, now_ms: int, tables: Tables,
    rules: Rules,
) -> Authorization:  # fmt: skip
    """`cdr` is the call as it would be after one minute; `user` is whom it is booked on, `pools` those of its month."""
    refused = refusal(cdr) or wrong_short_number(cdr, account, user)
    if refused is None and account is not None:
        refused = why_refused(cdr, user, now_ms, rules)
    if refused is not None or account is None:
        why = "tenant_unknown" if refused is None else refused.reason.value
        return Authorization(False, why, 0, 0, 0, None, None, None if account is None else account.terms.currency)
    turn = Turn(InputRecord(False, "", 0, 0, now_ms, b""), _books(pools), account, 0, 0)
    turn.user = user
    let_time_pass(turn)
    charge = rate(cdr, subscriber_for(turn.account, user, tables), tables, rules)
    is_allowed, reason, seconds, with_recharge_s, pool_minutes = _decide(turn, cdr, charge, tables, rules)
    quote = charge.quote
    return Authorization(
        is_allowed,
        reason,
        seconds,
        with_recharge_s,
        pool_minutes,
        quote.rate_micros,
        quote.fee_micros,
        account.terms.currency,
    )


def _books(pools: MonthPools | None) -> Books:
    state = State()
    if pools is not None:
        state.hold_month(pools)
    return Books(state)


def _decide(
    turn: Turn, cdr: Cdr, charge: Charge, tables: Tables, rules: Rules
) -> tuple[bool, str | None, int, int, int]:
    """Allowed, reason, longest duration without and with recharge, minutes of the pool."""
    quote, payment = charge.quote, charge.quote.payment
    if payment.pays is Pays.UNPAID:
        return False, payment.reason, 0, 0, 0
    if payment.pays in (Pays.NOBODY, Pays.LICENCE):
        return True, payment.reason, DURATION_S_MAX, DURATION_S_MAX, 0
    month = month_of(cdr.start_time)
    drawn = None if payment.pool is None else draw(turn, payment.pool, month, MINUTES_MAX, tables, rules)
    pool_minutes = 0 if drawn is None else drawn.minutes
    if quote.row is None:  # D7, R48
        return True, None, DURATION_S_MAX, DURATION_S_MAX, pool_minutes
    fee_micros = 0 if drawn else quote.connection_micros
    first_micros = quote.minute_micros + fee_micros
    if first_micros == 0:
        return True, "zero_rate", DURATION_S_MAX, DURATION_S_MAX, pool_minutes
    subscriber = subscriber_for(turn.account, turn.user, tables)
    reason = why_not(turn, charge, subscriber, first_micros, month=month, start_ms=cdr.start_time, rules=rules)
    pool_s = pool_minutes * 60
    if reason is not None:
        return pool_minutes > 0, None if pool_minutes else reason, pool_s, pool_s, pool_minutes
    account = turn.account
    is_unbounded = account.behaves_postpaid and account.terms.overage_enabled
    funds_micros = None if is_unbounded else max(0, account.balance_micros)
    brought_micros = 0 if account.behaves_postpaid else room_micros(account, turn.now_ms)
    with_recharge_micros = None if funds_micros is None or brought_micros is None else funds_micros + brought_micros
    cap_micros = spend_left(turn, month) if quote.is_own_call else None
    limits = [
        pool_minutes + _minutes(_least(each, cap_micros), quote.minute_micros, fee_micros)
        for each in (funds_micros, with_recharge_micros)
    ]
    seconds, with_recharge_s = (min(minutes, MINUTES_MAX) * 60 for minutes in limits)
    return True, None, seconds, with_recharge_s, pool_minutes


def _least(one: int | None, other: int | None) -> int | None:
    known = [each for each in (one, other) if each is not None]
    return min(known, default=None)


def _minutes(limit_micros: int | None, rate_micros: int, fee_micros: int) -> int:
    """Whole minutes that a limit pays for; None: no limit."""
    if limit_micros is None:
        return MINUTES_MAX
    if limit_micros < fee_micros:
        return 0
    return MINUTES_MAX if rate_micros == 0 else (limit_micros - fee_micros) // rate_micros

"""Paying from credits: the checks in their order, then the money (records.md section 3, Credits, D7-D9)."""

from __future__ import annotations

from typing import Final

from pipeline.base.rules import Rules
from pipeline.charge.rate import Charge
from pipeline.charge.subscriber import Subscriber
from pipeline.debit.account import Account, Spend
from pipeline.debit.lots import take
from pipeline.debit.retention import forget_closed_months
from pipeline.debit.turn import Turn
from pipeline.emit.outputs import LotUse

NO_SPEND: Final = Spend(0, False)


class Paid:
    """How a charge was paid; lots and overdraft together are what was debited."""

    __slots__ = ("debited_micros", "lots", "overdraft_micros", "postpaid_micros")

    def __init__(
        self, debited_micros: int, lots: tuple[LotUse, ...], overdraft_micros: int, postpaid_micros: int
    ) -> None:
        self.debited_micros = debited_micros
        self.lots = lots
        self.overdraft_micros = overdraft_micros
        self.postpaid_micros = postpaid_micros


NOTHING_PAID: Final = Paid(0, (), 0, 0)


def why_not(
    turn: Turn, charge: Charge, subscriber: Subscriber, amount_micros: int, *, month: str, start_ms: int, rules: Rules
) -> str | None:
    """The first check that fails, or None: the charge can be paid."""
    account = turn.account
    is_postpaid = account.behaves_postpaid
    if account.terms.agreement == "prepaid" and not account.is_funded and not account.recharging.settings.is_enabled:
        return "no_account_funding"
    if charge.quote.payment.needs_credits_licence and not subscriber.entitlement.has_credits and not is_postpaid:
        return "no_credits_licence"
    if charge.quote.is_own_call and _cap_is_reached(turn, month):
        return "spend_cap_reached"
    if is_postpaid:
        return None if account.terms.overage_enabled or account.balance_micros >= amount_micros else "overage_off"
    return None if _has_balance(account, amount_micros, start_ms, rules) else "balance_not_positive"


def _cap_is_reached(turn: Turn, month: str) -> bool:
    """R63: debited and post-paid so far in the month of the call's start; one call may pass the cap."""
    user = turn.user
    if user is None or user.settings.spend_cap_micros is None:
        return False
    return user.months.get(month, NO_SPEND).spent_micros >= user.settings.spend_cap_micros


def spend_left(turn: Turn, month: str) -> int | None:
    """What the user's cap of that month leaves, in micro-units; None: no cap."""
    user = turn.user
    if user is None or user.settings.spend_cap_micros is None:
        return None
    return max(0, user.settings.spend_cap_micros - user.months.get(month, NO_SPEND).spent_micros)


def _has_balance(account: Account, amount_micros: int, start_ms: int, rules: Rules) -> bool:
    """D8: above zero the whole is debited; below only what started before the suspension (R61)."""
    if not rules.overdraft_allowed:  # R60: only what the balance holds
        return account.balance_micros >= amount_micros
    return account.balance_micros > 0 or (account.zero_at is not None and start_ms < account.zero_at)


def pay(turn: Turn, amount_micros: int, usage_id: str) -> Paid:
    """Debits the charge, oldest lot first; a post-paid account pays with what it has and owes the rest (D9, R69)."""
    account = turn.account
    owed_micros = 0
    if account.behaves_postpaid:
        owed_micros = max(0, amount_micros - max(0, account.balance_micros))
    debited_micros = amount_micros - owed_micros
    lots: tuple[LotUse, ...] = ()
    overdraft_micros = 0
    if debited_micros:
        lots, overdraft_micros = take(turn, debited_micros)
        postings = [("credits:" + lot_id, -used_micros) for lot_id, used_micros in lots]
        if overdraft_micros:
            postings.append(("credits:overdraft", -overdraft_micros))
        postings.append(("revenue:usage", debited_micros))
        turn.entry("usage", tuple(postings), usage_id)
    if owed_micros:
        owed = (("receivable:postpaid", -owed_micros), ("revenue:usage", owed_micros))
        turn.entry("postpaid_usage", owed, usage_id)
    return Paid(debited_micros, lots, overdraft_micros, owed_micros)


def note_spend(turn: Turn, paid: Paid, month: str, rules: Rules) -> None:
    """Counts an own call for the month's cap; refunds do not lower it."""
    user = turn.write_user()
    if month not in user.months:
        forget_closed_months(user, turn.now_ms, rules.call_age_ms_max)
    before = user.months.get(month, NO_SPEND)
    spent_micros = before.spent_micros + paid.debited_micros + paid.postpaid_micros
    user.months[month] = Spend(spent_micros, before.is_cap_announced)


def announce_cap(turn: Turn, month: str) -> None:
    """Says that a user's month reached the cap, or was found at it; once a month."""
    user = turn.user
    if user is None or not _cap_is_reached(turn, month):
        return
    spend = user.months.get(month, NO_SPEND)
    if not spend.is_cap_announced:
        user = turn.write_user()
        user.months[month] = Spend(spend.spent_micros, True)
        details = {"month": month, "spend_cap_micros": str(user.settings.spend_cap_micros)}
        turn.event("spend_cap_reached", spend.spent_micros, details, user.user_id)

"""A call meets its account: rating's claim is settled from pool and credits, and becomes the rated call.

The order is that of records.md section 3: what is too late, too early or of nobody is refused before anything changes;
then forfeiture, the price, pool, credits, and what the account says about it (D13).
"""

from __future__ import annotations

from typing import Final

from pipeline.base.calendar import MS_PER_DAY, MS_PER_HOUR, format_time, month_of
from pipeline.base.make import maker
from pipeline.base.reject import Reason, Rejected
from pipeline.base.rules import Rules
from pipeline.cdr.call_types import CALL_TYPES, Family
from pipeline.cdr.decode import Cdr, is_short_number
from pipeline.cdr.numbering import is_emergency
from pipeline.charge.rate import CREDITS_CAPABILITY, Charge, Pays, describe, rate
from pipeline.charge.subscriber import Subscriber, subscriber_of
from pipeline.charge.tables import Tables
from pipeline.debit.account import Account, User, UserSettings
from pipeline.debit.balance import close
from pipeline.debit.credits import NOTHING_PAID, Paid, announce_cap, note_spend, pay, why_not
from pipeline.debit.lots import let_time_pass
from pipeline.debit.pools import Draw, announce, draw
from pipeline.debit.retention import forget_months
from pipeline.debit.turn import Turn
from pipeline.emit.outputs import RatedCall

FUTURE_MS_MAX: Final = MS_PER_HOUR
_UNPRICED_DAYS_KEPT: Final = 2
_FREE_CALL: Final = "FREECALL"
_CHARGED: Final = frozenset(("charged", "split", "postpaid"))
_NOBODY: Final = Pays.NOBODY
_UNPAID: Final = Pays.UNPAID
_LICENCE: Final = Pays.LICENCE
_make_rated: Final = maker(RatedCall)


class Settlement:
    """How a call ended."""

    __slots__ = ("capability", "drawn", "outcome", "paid", "reason")

    def __init__(
        self,
        outcome: str,
        reason: str | None = None,
        capability: str | None = None,
        drawn: Draw | None = None,
        paid: Paid = NOTHING_PAID,
    ) -> None:
        self.outcome = outcome
        self.reason = reason
        self.capability = capability
        self.drawn = drawn
        self.paid = paid


class DecidedCall:
    """The decision on a call. Its rated call is put together when it is asked for, which is once: to be written."""

    __slots__ = (
        "applied_seq",
        "balance_after_micros",
        "cdr",
        "charge",
        "currency",
        "ledger_epoch",
        "record",
        "settlement",
        "version",
    )

    def __init__(
        self, cdr: Cdr, charge: Charge, settlement: Settlement, balance_after_micros: int, turn: Turn, version: str
    ) -> None:
        self.cdr = cdr
        self.charge = charge
        self.settlement = settlement
        self.balance_after_micros = balance_after_micros
        self.currency = turn.account.terms.currency
        self.record = turn.record
        self.ledger_epoch = turn.ledger_epoch
        self.applied_seq = turn.applied_seq
        self.version = version

    @property
    def outcome(self) -> str:
        return self.settlement.outcome

    def rated_call(self) -> RatedCall:
        """The decision as it is published."""
        return _make_rated(self.cdr + self.values_after_cdr())  # compiled, `+` costs a quarter of unpacking

    def values_after_cdr(self) -> tuple[object, ...]:
        """The fields of the rated call that follow on those of its CDR."""
        charge, settlement = self.charge, self.settlement
        quote, paid, drawn, minutes = charge.quote, settlement.paid, settlement.drawn, charge.billable_minutes
        destination_country, destination_name, number_class = quote.destination
        _, topic, partition, offset, now_ms, _, _ = self.record
        pool_id, pool_minutes = (None, 0) if drawn is None else (drawn.pool_id, drawn.minutes)
        return (
            quote.direction,
            quote.rating_country,
            destination_country,
            destination_name,
            number_class,
            quote.scope,
            settlement.capability,
            settlement.outcome,
            settlement.reason,
            minutes,
            pool_id,
            pool_minutes,
            minutes - pool_minutes if settlement.outcome in _CHARGED else 0,
            quote.tariff,
            quote.table_version,
            quote.prefix,
            quote.rate_micros,
            quote.fee_micros,
            charge.price_micros,
            paid.debited_micros,
            paid.lots,
            paid.overdraft_micros,
            paid.postpaid_micros,
            self.currency,
            self.balance_after_micros,
            quote.is_ambiguous,
            topic,
            partition,
            offset,
            now_ms,
            self.ledger_epoch,
            self.applied_seq,
            self.version,
        )


def wrong_short_number(cdr: Cdr, account: Account | None, user: User | None) -> Rejected | None:
    """`number_invalid`: a short number that is no emergency number of the usage country, if that is known at all."""
    callee = cdr.callee_number
    if callee is None or CALL_TYPES[cdr.call_type].family is not Family.OWN:
        return None
    country = cdr.usage_country or (user and user.settings.country) or (account and account.terms.country)
    if not country or not is_short_number(callee) or is_emergency(callee, country):
        return None
    return _refuse(cdr, Reason.NUMBER_INVALID, f"callee_number {callee} is no emergency number of {country}")


def why_refused(cdr: Cdr, user: User | None, now_ms: int, rules: Rules) -> Rejected | None:
    """The last checks of a call that was not sent before: its time, then its user."""
    start_ms = cdr.start_time
    if start_ms > now_ms + FUTURE_MS_MAX:
        return _refuse(cdr, Reason.CALL_IN_FUTURE, f"the call starts at {format_time(start_ms)}, more than 1 h ahead")
    if start_ms < now_ms - rules.call_age_ms_max:
        days = rules.call_age_ms_max // MS_PER_DAY
        return _refuse(cdr, Reason.CALL_TOO_OLD, f"the call started at {format_time(start_ms)}, over {days} days ago")
    if user is None:
        call_type = CALL_TYPES[cdr.call_type]
        if not call_type.looks_up_user or (cdr.user_id is None and call_type.family is Family.APPLICATION):
            return None
        known = "no user" if cdr.user_id is None else "a user that was never set"
        return _refuse(cdr, Reason.USER_UNKNOWN, f"{cdr.call_type} is booked on {known}")
    removed_at = user.removed_at
    if removed_at is None or start_ms < removed_at or not CALL_TYPES[cdr.call_type].looks_up_user:
        return None
    return _refuse(cdr, Reason.USER_UNKNOWN, f"the user was removed at {format_time(removed_at)}")


def apply_call(turn: Turn, cdr: Cdr, *, is_duplicate: bool, tables: Tables, rules: Rules, version: str) -> DecidedCall:
    """Applies a call that is not refused. `turn.user` is the user it is booked on, if one is looked up."""
    let_time_pass(turn)
    forget_months(turn, rules.call_age_ms_max)
    subscriber = subscriber_for(turn.account, turn.user, tables)
    if is_duplicate:
        charge = describe(cdr, subscriber, tables, rules)
        settlement = Settlement("duplicate")
    else:
        charge = rate(cdr, subscriber, tables, rules)
        settlement = _settle(turn, cdr, charge, subscriber, tables, rules)
    balance_after_micros = turn.account.balance_micros
    close(turn)
    return DecidedCall(cdr, charge, settlement, balance_after_micros, turn, version)


# Of the calls that name no user only `ucap_*` may cost something: they are a resource account's (R12, R17).
_NO_USER: Final = UserSettings(None, (), None, None, None, None, is_resource_account=True)


def subscriber_for(account: Account, user: User | None, tables: Tables) -> Subscriber:
    """The payer, asked for again only when the tenant's terms or the user's settings have changed."""
    holder = account if user is None else user
    subscriber = holder.subscriber
    if subscriber is None or (subscriber.terms is not account.terms and subscriber.terms != account.terms):
        settings = _NO_USER if user is None else user.settings
        holder.subscriber = subscriber = subscriber_of(
            account.terms,
            settings.licences,
            settings.country,
            settings.dial_out_policy,
            settings.is_resource_account,
            tables,
        )
    return subscriber


def _settle(turn: Turn, cdr: Cdr, charge: Charge, subscriber: Subscriber, tables: Tables, rules: Rules) -> Settlement:
    """Pool first, then credits; D13 fixes the order of what is said."""
    quote = charge.quote
    pays, reason, capability, pool, _, _ = quote.payment
    if pays is _NOBODY:
        return Settlement("free", reason)
    if pays is _UNPAID:
        return Settlement("unpaid", reason)
    if pays is _LICENCE:
        return Settlement("included", None, capability)
    month = month_of(cdr.start_time)
    drawn = None if pool is None else draw(turn, pool, month, charge.billable_minutes, tables, rules)
    if drawn is not None and pool is not None and drawn.minutes == charge.billable_minutes:
        settlement = Settlement("included", None, pool.capability, drawn)
    else:
        settlement = _from_credits(turn, cdr, charge, subscriber, drawn, month, rules)
    if settlement.paid.postpaid_micros:
        _announce_switch(turn)
    if settlement.outcome == "free_call":
        _announce_missing_rate(turn, cdr, charge)
    if drawn is not None:
        announce(turn, drawn, cdr.user_id if pool is not None and pool.is_per_user else None)
    if quote.is_own_call and (settlement.paid is not NOTHING_PAID or settlement.reason == "spend_cap_reached"):
        announce_cap(turn, month)
    return settlement


def _from_credits(
    turn: Turn, cdr: Cdr, charge: Charge, subscriber: Subscriber, drawn: Draw | None, month: str, rules: Rules
) -> Settlement:
    """D5-D9: what no pool gave is charged at the rate, and the fee too when the pool gave nothing at all."""
    quote = charge.quote
    if quote.row is None:
        return Settlement("free_call", None, _FREE_CALL, drawn)  # D7, R48: before any check
    if drawn is None:
        amount_micros = charge.price_micros
    else:
        amount_micros = (charge.billable_minutes - drawn.minutes) * quote.minute_micros
    if amount_micros == 0:
        return Settlement("free", "zero_rate", None, drawn)
    start_ms = cdr.start_time
    reason = why_not(turn, charge, subscriber, amount_micros, month=month, start_ms=start_ms, rules=rules)
    if reason is not None:
        return Settlement("unpaid", reason, None, drawn)  # D6: the pool's minutes are used all the same
    paid = pay(turn, amount_micros, cdr.usage_id)
    if quote.is_own_call:
        note_spend(turn, paid, month, rules)
    if drawn is not None:
        return Settlement("split", None, CREDITS_CAPABILITY, drawn, paid)
    return Settlement("postpaid" if paid.postpaid_micros else "charged", None, quote.payment.capability, None, paid)


def _announce_switch(turn: Turn) -> None:
    """R69: the first post-paid charge of an account that was ever funded, and again after each later funding."""
    if turn.account.is_funded and not turn.account.is_switch_announced:
        turn.write().is_switch_announced = True
        turn.event("switched_to_postpaid")


def _announce_missing_rate(turn: Turn, cdr: Cdr, charge: Charge) -> None:
    """R48: once a UTC day (of now) for each tenant and destination country."""
    today, country = turn.now_ms // MS_PER_DAY, charge.quote.destination.country or ""
    if (today, country) in turn.account.unpriced_days:
        return
    account = turn.write()
    days = {day for day, _ in account.unpriced_days} | {today}
    kept_from = sorted(days)[-_UNPRICED_DAYS_KEPT:][0]
    kept = [each for each in account.unpriced_days if each[0] >= kept_from]
    account.unpriced_days = (*kept, (today, country))
    turn.event("rate_missing", None, {"destination_country": country, "usage_id": cdr.usage_id})


def _refuse(cdr: Cdr, reason: Reason, detail: str) -> Rejected:
    return Rejected(reason, detail, tenant_id=cdr.tenant_id, usage_id=cdr.usage_id)

"""What each account command does (records.md section 1): first everything that could refuse it, then the change.

A command that cannot be obeyed changes nothing. Of `assign_licences` the known users are done and one reject names the
others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.base.calendar import format_time
from pipeline.base.reject import Reason, Rejected
from pipeline.cdr.command import Command
from pipeline.cdr.decode import shown
from pipeline.charge.policy import POLICIES
from pipeline.charge.subscriber import Terms
from pipeline.charge.tables import Tables
from pipeline.debit import lots, recharge
from pipeline.debit.account import Account, PaymentData, RechargeSettings, UserSettings
from pipeline.debit.books import Books
from pipeline.debit.retention import remember_refund, was_refunded
from pipeline.debit.seats import set_settings, take_seats, withdraw
from pipeline.debit.turn import Turn

# The values of a command's fields are typed by its form (cdr/command.py), kind by kind; Any is "as the form says".
Fields = dict[str, Any]
_MISSING_SHOWN_MAX = 20
BALANCE_MICROS_MAX = 2**62
"""4.6 million million of the currency: every sum of one more amount still fits into 64 bits."""


class Refused(NamedTuple):
    """Why a command is not obeyed."""

    reason: Reason
    detail: str

    def of(self, command: Command) -> Rejected:
        usage_id: Any = command.fields.get("usage_id")
        return Rejected(self.reason, self.detail, command.tenant_id, usage_id, command.command_id)


def why_refused(command: Command, account: Account, books: Books, now_ms: int, tables: Tables) -> Refused | None:
    """What tables and account have against a well-formed command, in the order: tables, currency, the rest."""
    return _CHECKS[command.kind](command.fields, account, books, now_ms, tables)


def obey(turn: Turn, command: Command, tables: Tables) -> Rejected | None:
    """Carries out a command that nothing refuses; the reject is that of a command of which a part was done."""
    return _ACTS[command.kind](turn, command, tables)


def is_known(books: Books, tenant_id: str, user_id: str) -> bool:
    """Whether a user is set and not removed."""
    user = books.user(tenant_id, user_id)
    return user is not None and user.removed_at is None


def terms_of(fields: Fields) -> Terms:
    """The terms that `open_account` sets."""
    return Terms(*(fields[name] for name in Terms._fields))


def why_terms_refused(terms: Terms, account: Account | None, tables: Tables) -> Refused | None:
    """`open_account`, for a tenant that is known or not: tariffs and policy by the tables, then the currency."""
    tariffs = [(terms.tariff, "subscription")]
    if terms.tariff_per_minute_conferencing is not None:
        tariffs.append((terms.tariff_per_minute_conferencing, "per_minute_conferencing"))
    for name, kind in tariffs:
        tariff = tables.tariffs.get(name)
        if tariff is None:
            return Refused(Reason.COMMAND_INVALID, f"tariff {shown(name)} is unknown")
        if tariff.kind != kind:
            return Refused(Reason.COMMAND_INVALID, f"tariff {shown(name)} is of the kind {tariff.kind}, not {kind}")
    wrong = _policy_unknown(terms.dial_out_policy)
    if wrong is not None:
        return wrong
    for name, _ in tariffs:
        if tables.tariffs[name].currency != terms.currency:
            return _currency(f"tariff {shown(name)} is in {tables.tariffs[name].currency}", terms.currency)
    if account is not None and account.terms.currency != terms.currency:
        return _currency(f"the account is in {account.terms.currency}", terms.currency)
    return None


# ---- checks: fields, account, books, now, tables


def _check_open_account(fields: Fields, account: Account, books: Books, now_ms: int, tables: Tables) -> Refused | None:
    return why_terms_refused(terms_of(fields), account, tables)


def _check_set_user(fields: Fields, account: Account, books: Books, now_ms: int, tables: Tables) -> Refused | None:
    return _skus_unknown(fields["licences"], tables) or _policy_unknown(fields["dial_out_policy"])


def _check_remove_user(fields: Fields, account: Account, books: Books, now_ms: int, tables: Tables) -> Refused | None:
    if is_known(books, account.tenant_id, fields["user_id"]):
        return None
    return Refused(Reason.USER_UNKNOWN, "the user was never set, or is removed already")


def _check_assign(fields: Fields, account: Account, books: Books, now_ms: int, tables: Tables) -> Refused | None:
    wrong = _skus_unknown([*fields["add"], *fields["remove"]], tables)
    if wrong is not None:
        return wrong
    missing = _missing(fields, account, books)
    return _users_unknown(missing) if missing and len(missing) == len(set(fields["user_ids"])) else None


def _check_purchased(fields: Fields, account: Account, books: Books, now_ms: int, tables: Tables) -> Refused | None:
    return _skus_unknown([fields["sku"]], tables)


def _check_add_funds(fields: Fields, account: Account, books: Books, now_ms: int, tables: Tables) -> Refused | None:
    if fields["currency"] != account.terms.currency:
        return _currency(f"the account is in {account.terms.currency}", fields["currency"])
    return _too_much(account, fields["amount_micros"])


def _check_nothing(fields: Fields, account: Account, books: Books, now_ms: int, tables: Tables) -> Refused | None:
    return None


def _check_result(fields: Fields, account: Account, books: Books, now_ms: int, tables: Tables) -> Refused | None:
    recharge_id = fields["recharge_id"]
    request = recharge.pending(account, recharge_id, succeeded=fields["succeeded"], now_ms=now_ms)
    if request is None or books.has_lot(account, recharge_id):
        return Refused(Reason.RECHARGE_UNKNOWN, f"recharge {shown(recharge_id)} is not asked for, or answered already")
    return None


def _check_refund(fields: Fields, account: Account, books: Books, now_ms: int, tables: Tables) -> Refused | None:
    wrong = _too_much(account, fields["debited_micros"])
    known = was_refunded(books, account.tenant_id, fields["usage_id"], now_ms)
    if wrong is not None or known is None:
        return wrong
    return Refused(Reason.ALREADY_REFUNDED, f"call {shown(fields['usage_id'])} was refunded at {format_time(known)}")


def _too_much(account: Account, amount_micros: int) -> Refused | None:
    if account.balance_micros + amount_micros <= BALANCE_MICROS_MAX:
        return None
    return Refused(Reason.COMMAND_INVALID, "the balance would be more than an account can hold")


def _skus_unknown(skus: list[str], tables: Tables) -> Refused | None:
    for sku in skus:
        if sku not in tables.licences:
            return Refused(Reason.COMMAND_INVALID, f"licence {shown(sku)} is unknown")
    return None


def _policy_unknown(policy: str | None) -> Refused | None:
    if policy is None or policy in POLICIES:
        return None
    return Refused(Reason.COMMAND_INVALID, f"dial-out policy {shown(policy)} is unknown")


def _currency(sentence: str, currency: str) -> Refused:
    return Refused(Reason.CURRENCY_MISMATCH, f"{sentence}, the command says {shown(currency)}")


def _missing(fields: Fields, account: Account, books: Books) -> list[str]:
    return [each for each in dict.fromkeys(fields["user_ids"]) if not is_known(books, account.tenant_id, each)]


def _users_unknown(missing: list[str]) -> Refused:
    names = ", ".join(shown(user_id) for user_id in missing[:_MISSING_SHOWN_MAX])
    more = f" and {len(missing) - _MISSING_SHOWN_MAX} more" if len(missing) > _MISSING_SHOWN_MAX else ""
    return Refused(Reason.USER_UNKNOWN, f"never set, or removed: {names}{more}")


# ---- acts


def _open_account(turn: Turn, command: Command, tables: Tables) -> None:
    turn.write().terms = terms_of(command.fields)


def _set_user(turn: Turn, command: Command, tables: Tables) -> None:
    fields: Fields = command.fields
    skus = set(fields["licences"])
    licences = tuple(sku for sku in tables.licences if sku in skus)  # the order of the table, each once
    settings = UserSettings(*((fields | {"licences": licences})[name] for name in UserSettings._fields))
    set_settings(turn, fields["user_id"], settings, tables)


def _remove_user(turn: Turn, command: Command, tables: Tables) -> None:
    user = turn.books.user(turn.account.tenant_id, command.fields["user_id"])  # type: ignore[arg-type]
    assert user is not None
    withdraw(turn, user)


def _assign_licences(turn: Turn, command: Command, tables: Tables) -> Rejected | None:
    fields: Fields = command.fields
    tenant_id = turn.account.tenant_id
    missing = _missing(fields, turn.account, turn.books)
    unknown = set(missing)
    added, removed = set(fields["add"]), set(fields["remove"])
    for user_id in dict.fromkeys(fields["user_ids"]):
        if user_id not in unknown:
            user = turn.books.user(tenant_id, user_id)
            assert user is not None
            held = (set(user.settings.licences) | added) - removed
            licences = tuple(sku for sku in tables.licences if sku in held)
            take_seats(turn, user, user.settings._replace(licences=licences), tables)
    if not missing:
        return None
    return _users_unknown(missing).of(command)


def _set_purchased(turn: Turn, command: Command, tables: Tables) -> None:
    fields: Fields = command.fields
    account = turn.write()
    account.purchased = tuple((dict(account.purchased) | {fields["sku"]: fields["count"]}).items())


def _add_funds(turn: Turn, command: Command, tables: Tables) -> None:
    fields: Fields = command.fields
    amount_micros = fields["amount_micros"]
    credited = lots.add(turn, command.command_id, amount_micros, fields["purchased_at"])
    account = turn.write()
    account.is_funded, account.is_switch_announced = True, False
    recharge.reset_backoff(account)
    turn.entry("funding", (("payments", -amount_micros), *credited), lot_id=command.command_id)
    payment = PaymentData(*(fields[name] for name in PaymentData._fields))
    details = {"lot_id": command.command_id, "reference": fields["reference"]} | recharge.payment_details(payment)
    turn.event("funds_added", amount_micros, details)


def _set_auto_recharge(turn: Turn, command: Command, tables: Tables) -> None:
    fields: Fields = command.fields
    account = turn.write()
    settings = RechargeSettings(
        fields["enabled"],
        fields["trigger_micros"],
        fields["amount_micros"],
        fields["monthly_budget_micros"],
        PaymentData(*(fields[name] for name in PaymentData._fields)),
    )
    account.recharging = account.recharging._replace(settings=settings)
    recharge.reset_backoff(account)


def _recharge_result(turn: Turn, command: Command, tables: Tables) -> None:
    fields: Fields = command.fields
    recharge_id = fields["recharge_id"]
    request = recharge.pending(turn.account, recharge_id, succeeded=fields["succeeded"], now_ms=turn.now_ms)
    assert request is not None
    if not fields["succeeded"]:
        recharge.fail(turn, request, fields["reason"])
        return
    recharge.succeed(turn, request)
    credited = lots.add(turn, recharge_id, request.amount_micros, fields["paid_at"])
    account = turn.write()
    account.is_funded, account.is_switch_announced = True, False
    turn.entry("funding", (("payments", -request.amount_micros), *credited), recharge_id=recharge_id)
    recharge.announce_success(turn, request)


def _refund_call(turn: Turn, command: Command, tables: Tables) -> None:
    fields: Fields = command.fields
    usage_id, debited_micros, postpaid_micros = fields["usage_id"], fields["debited_micros"], fields["postpaid_micros"]
    remember_refund(turn, usage_id)
    if debited_micros:
        credited = lots.add(turn, command.command_id, debited_micros, turn.now_ms)
        turn.entry("refund", (("revenue:usage", -debited_micros), *credited), usage_id=usage_id)
    if postpaid_micros:
        postings = (("revenue:usage", -postpaid_micros), ("receivable:postpaid", postpaid_micros))
        turn.entry("refund", postings, usage_id=usage_id)
    details = {"usage_id": usage_id, "reason": fields["reason"]}
    turn.event("call_refunded", debited_micros + postpaid_micros, details)


_Check = Callable[[Fields, Account, Books, int, Tables], Refused | None]
_CHECKS: dict[str, _Check] = {
    "open_account": _check_open_account,
    "set_user": _check_set_user,
    "remove_user": _check_remove_user,
    "assign_licences": _check_assign,
    "set_purchased_licences": _check_purchased,
    "add_funds": _check_add_funds,
    "set_auto_recharge": _check_nothing,
    "recharge_result": _check_result,
    "refund_call": _check_refund,
}
_ACTS: dict[str, Callable[[Turn, Command, Tables], Rejected | None]] = {
    "open_account": _open_account,
    "set_user": _set_user,
    "remove_user": _remove_user,
    "assign_licences": _assign_licences,
    "set_purchased_licences": _set_purchased,
    "add_funds": _add_funds,
    "set_auto_recharge": _set_auto_recharge,
    "recharge_result": _recharge_result,
    "refund_call": _refund_call,
}

"""The records of the credit table as bytes: one mapping each way between the books' nouns and `schemas/`."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

from pipeline.base.avro import codec
from pipeline.base.calendar import next_month_starts_at
from pipeline.charge.subscriber import Terms
from pipeline.debit.account import (
    NEVER_MS,
    Account,
    BudgetMonth,
    Lot,
    MonthPools,
    PaymentData,
    PoolUse,
    RechargeSettings,
    Recharging,
    Refund,
    RefundQueue,
    Request,
    Seats,
    Spend,
    SpentLot,
    Stored,
    User,
    UserSettings,
)

_HEADER_BYTES = 10
# A tuple's values come typed from the codec by the schema; Any here is "as the schema says".
Values = tuple[Any, ...]


def encode_stored(record: Stored) -> bytes:
    """The message of any record of the credit table."""
    match record:
        case Account():
            return encode_account(record)
        case User():
            return encode_user(record)
        case MonthPools():
            return encode_month(record)
        case SpentLot(tenant_id, lot):
            return codec("spent_lot").encode_values(
                (tenant_id, lot.lot_id, lot.purchased_at, lot.arrival, lot.expires_at, lot.amount_micros)
            )
        case Refund():
            return codec("refund").encode_values(record)


def peek_due_at(value: bytes) -> int | None:
    """`due_at` of an account without decoding the rest; None for any other record."""
    account = codec("account")
    if not value.startswith(account.header):
        return decode_account(value).due_at if account.knows(value) else None
    zigzag, shift, place = 0, 0, _HEADER_BYTES
    while (byte := value[place]) >= 0x80:
        zigzag |= (byte & 0x7F) << shift
        shift += 7
        place += 1
    zigzag |= byte << shift
    return zigzag >> 1 ^ -(zigzag & 1)


def encode_account(account: Account) -> bytes:
    settings, in_flight, failed, failure_count, backoff_until, budget_months = account.recharging
    return codec("account").encode_values(
        (
            account.due_at,
            account.tenant_id,
            *account.terms,
            [_lot_values(lot) for lot in account.lots],
            account.lot_count,
            account.overdraft_micros,
            account.zero_at,
            account.is_suspended,
            account.is_funded,
            account.is_switch_announced,
            *settings[:4],
            *settings.payment,
            None if in_flight is None else _request_values(in_flight),
            [_request_values(request) for request in failed],
            failure_count,
            backoff_until,
            budget_months,
            account.seats,
            account.purchased,
            account.unpriced_days,
            account.first_month,
            *account.refunds,
        )
    )


def decode_account(value: bytes) -> Account:
    """An account as it was committed; DecodeError when the bytes are no account."""
    values: Values = codec("account").decode_values(value)
    account = Account(values[1], _shared_terms(*values[2:9]))
    (
        lots,
        account.lot_count,
        account.overdraft_micros,
        account.zero_at,
        account.is_suspended,
        account.is_funded,
        account.is_switch_announced,
    ) = values[9:16]
    account.lots = [Lot(*lot) for lot in lots]
    account.lots_due_at = min([lot.due_at for lot in account.lots], default=NEVER_MS)
    account.balance_micros = sum([lot.remaining_micros for lot in account.lots]) - account.overdraft_micros
    account.recharging = _recharging(_shared_recharge(*values[16:23]), values[23:28])
    seats, purchased, days, account.first_month = values[28:32]
    account.seats = tuple([Seats(*each) for each in seats])
    account.purchased = tuple([(sku, count) for sku, count in purchased])
    account.unpriced_days = tuple((day, country) for day, country in days)
    account.first_month_ends_at = next_month_starts_at(account.first_month) if account.first_month else NEVER_MS
    if values[32]:
        account.refunds = RefundQueue(*values[32:35])
    return account


def _recharging(settings: RechargeSettings, values: Values) -> Recharging:
    in_flight, failed, failure_count, backoff_until, months = values
    if in_flight is None and not failed and not backoff_until and not months:
        return _shared_recharging(settings)
    return Recharging(
        settings,
        None if in_flight is None else _request(in_flight),
        tuple(_request(request) for request in failed),
        failure_count,
        backoff_until,
        tuple(BudgetMonth(*month) for month in months),
    )


@lru_cache(maxsize=4_096)
def _shared_terms(*values: Any) -> Terms:
    """Many tenants have the same terms: one object for all of them."""
    return Terms(*values)


@lru_cache(maxsize=4_096)
def _shared_recharge(*values: Any) -> RechargeSettings:
    enabled, trigger, amount, budget, *payment = values
    return RechargeSettings(enabled, trigger, amount, budget, PaymentData(*payment))


@lru_cache(maxsize=4_096)
def _shared_recharging(settings: RechargeSettings) -> Recharging:
    return Recharging(settings)


def _lot_values(lot: Lot) -> Values:
    return (
        lot.lot_id,
        lot.purchased_at,
        lot.arrival,
        lot.expires_at,
        lot.amount_micros,
        lot.remaining_micros,
        lot.is_expiry_announced,
    )


def _use_values(name: str, use: PoolUse) -> Values:
    return name, use.used_minutes, use.is_80_announced, use.is_100_announced


def _request_values(request: Request) -> Values:
    return (*request[:4], *request.payment)


def _request(values: Values) -> Request:
    recharge_id, amount_micros, month, failed_at, *payment = values
    return Request(recharge_id, amount_micros, month, failed_at, PaymentData(*payment))


def encode_user(user: User) -> bytes:
    return codec("user").encode_values(
        (
            user.tenant_id,
            user.user_id,
            *user.settings,
            user.removed_at,
            user.seats,
            [(month, spend.spent_micros, spend.is_cap_announced) for month, spend in user.months.items()],
            [(month, *_use_values(name, use)) for (month, name), use in user.pools.items()],
        )
    )


def decode_user(value: bytes) -> User:
    """A user as committed; DecodeError when the bytes are none."""
    values: Values = codec("user").decode_values(value)
    country, licences, *others = values[2:9]
    user = User(values[0], values[1], UserSettings(country, _shared_skus(tuple(licences)), *others))
    user.removed_at = values[9]
    user.seats = _shared_skus(tuple(values[10]))
    user.months = {month: Spend(*spend) for month, *spend in values[11]}
    user.pools = {(month, name): PoolUse(*use) for month, name, *use in values[12]}
    return user


@lru_cache(maxsize=4_096)
def _shared_skus(skus: tuple[str, ...]) -> tuple[str, ...]:
    return skus


def encode_month(pools: MonthPools) -> bytes:
    return codec("month_pools").encode_values(
        (pools.tenant_id, pools.month, [_use_values(name, use) for name, use in pools.pools.items()])
    )


def decode_month(value: bytes) -> MonthPools:
    """A month's pool use as committed; DecodeError when the bytes are none."""
    values: Values = codec("month_pools").decode_values(value)
    return MonthPools(values[0], values[1], {name: PoolUse(*use) for name, *use in values[2]})


def decode_spent_lot(value: bytes) -> SpentLot:
    """A spent lot; DecodeError when the bytes are none."""
    values: Values = codec("spent_lot").decode_values(value)
    tenant_id, lot_id, purchased_at, arrival, expires_at, amount_micros = values
    return SpentLot(tenant_id, Lot(lot_id, purchased_at, arrival, expires_at, amount_micros, 0, True))


def decode_refund(value: bytes) -> Refund:
    """A refund as committed; DecodeError when the bytes are none."""
    return Refund(*cast("Values", codec("refund").decode_values(value)))


_DECODERS: dict[str, Callable[[bytes], Stored]] = {
    "account": decode_account,
    "user": decode_user,
    "month_pools": decode_month,
    "spent_lot": decode_spent_lot,
    "refund": decode_refund,
}


def decode_stored(value: bytes) -> Stored:
    """Any record of the credit table but the checkpoint; DecodeError when the bytes are none."""
    for name, decode in _DECODERS.items():
        if codec(name).knows(value):
            return decode(value)
    return decode_account(value)

"""The records of the credit table as bytes: one mapping each way between the books' nouns and `schemas/`."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from pipeline.base.avro import HEADER_BYTES, codec
from pipeline.base.avro_bytes import read_long
from pipeline.debit.account import Account, Lot, MonthPools, PoolUse, Refund, SpentLot, Stored, User
from pipeline.debit.packed import Values, decode_account, decode_user, encode_account, encode_user

__all__ = ["decode_account", "decode_user", "encode_account", "encode_user"]


def encode_stored(record: Stored) -> bytes:
    """The message of any record of the credit table. A decoded one keeps it: it is put on the topic, and put back
    among the encoded ones, long after it changed last."""
    match record:
        case Account():
            record.message = record.message or encode_account(record)
            return record.message
        case User():
            record.message = record.message or encode_user(record)
            return record.message
        case MonthPools():
            record.message = record.message or encode_month(record)
            return record.message
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
    return read_long(value, HEADER_BYTES)[0]


def _use_values(name: str, use: PoolUse) -> Values:
    return name, use.used_minutes, use.is_80_announced, use.is_100_announced


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

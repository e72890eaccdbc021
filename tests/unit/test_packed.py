"""Accounts and users as bytes: code of their own must write what the codec writes, and read nothing that it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.avro import DecodeError, codec
from pipeline.base.avro_bytes import Malformed, encode_long, read_long
from pipeline.debit.packed import account_of, decode_account, decode_user, encode_account, encode_user, user_of
from tests.avro_values import any_of, as_values, by_fastavro, published_schema, schema_of

MONTHS = st.sampled_from(["2025-12", "2026-01", "2026-02"])
NEVER_MS = 2**62
LONG = {"type": "record", "name": "x", "fields": [{"name": "a", "type": "long"}]}


def account_records() -> st.SearchStrategy[dict[str, Any]]:
    """Any account: big numbers and odd texts, but months that are months and no tail of refunds without a head."""

    def tidy(record: dict[str, Any], first_month: str, month: str) -> dict[str, Any]:
        for budget in record["budget_months"]:
            budget["month"] = month
        for lot in record["lots"]:
            lot["expires_at"] %= NEVER_MS
        if not record["refund_head"]:
            record |= {"refund_tail": "", "oldest_refund_at": NEVER_MS}
        record |= {"first_month": first_month}
        made = account_of(as_values(schema_of("account"), record))
        return record | {"due_at": made.due_at}

    return st.builds(tidy, any_of(schema_of("account")), MONTHS | st.just(""), MONTHS)


def user_records() -> st.SearchStrategy[dict[str, Any]]:
    """Any user; a month and a pool stand there once."""

    def tidy(record: dict[str, Any]) -> dict[str, Any]:
        months = {spend["month"]: spend for spend in record["months"]}
        pools = {(use["month"], use["name"]): use for use in record["pools"]}
        return record | {"months": list(months.values()), "pools": list(pools.values())}

    return any_of(schema_of("user")).map(tidy)


def shown(record: object) -> object:
    """Everything that a record holds, by name; what only remembers its bytes is left out."""
    if isinstance(record, list | tuple):
        return [shown(each) for each in record]
    if isinstance(record, dict):
        return [(shown(key), shown(value)) for key, value in record.items()]
    names = sorted(name for name in dir(type(record)) if not name.startswith("_"))
    held = {name: getattr(record, name) for name in names if not callable(getattr(record, name))}
    kept = {name: value for name, value in held.items() if name not in ("key", "profile", "rest", "owner")}
    return record if isinstance(record, str | int | None) else {name: shown(value) for name, value in kept.items()}


def written(name: str, record: dict[str, Any]) -> bytes:
    return codec(name).header + by_fastavro(published_schema(name), record)


@settings(max_examples=60, deadline=None)
@given(account_records())
def test_an_account_is_the_bytes_of_the_codec(record: dict[str, Any]) -> None:
    """Another writer's bytes would be another record; the second time what is remembered answers."""
    expected = written("account", record)
    account = account_of(as_values(schema_of("account"), record))
    for _ in range(2):
        assert encode_account(account) == expected
        unpacked = decode_account(expected)
        assert shown(unpacked) == shown(account)
        assert encode_account(unpacked) == expected


@settings(max_examples=60, deadline=None)
@given(user_records())
def test_a_user_is_the_bytes_of_the_codec(record: dict[str, Any]) -> None:
    """As for accounts."""
    expected = written("user", record)
    user = user_of(as_values(schema_of("user"), record))
    for _ in range(2):
        assert encode_user(user) == expected
        unpacked = decode_user(expected)
        assert shown(unpacked) == shown(user)
        assert encode_user(unpacked) == expected


@settings(max_examples=30, deadline=None)
@given(account_records(), account_records(), st.data())
def test_what_is_replaced_is_written(record: dict[str, Any], other: dict[str, Any], data: st.DataObject) -> None:
    """Remembered bytes of an account that has changed would be yesterday's account."""
    account, donor = (account_of(as_values(schema_of("account"), each)) for each in (record, other))
    encode_account(account)
    fields = ("terms", "recharging", "seats", "purchased", "unpriced_days", "first_month", "refunds", "zero_at")
    for field in data.draw(st.lists(st.sampled_from(fields), min_size=1)):
        setattr(account, field, getattr(donor, field))
    account.first_month_ends_at = (donor if account.first_month == donor.first_month else account).first_month_ends_at
    assert shown(decode_account(encode_account(account))) == shown(account)


@settings(max_examples=150, deadline=None)
@given(account_records() | user_records(), st.data())
def test_bytes_that_the_codec_refuses_are_refused(record: dict[str, Any], data: st.DataObject) -> None:
    """Strict means: what is read has one reading, and what is no record is never half of one."""
    name, make, decode = ("account", account_of, decode_account) if "lots" in record else ("user", user_of, decode_user)
    value = bytearray(written(name, record))
    place = data.draw(st.integers(10, len(value) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "insert", "drop"]))
    if change == "flip":
        value[place] ^= data.draw(st.integers(1, 255))
    elif change == "cut":
        del value[place:]
    elif change == "insert":
        value.insert(place, data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF])))
    else:
        del value[place]
    assert outcome(lambda: decode(bytes(value))) == outcome(lambda: make(codec(name).decode_values(bytes(value))))


def outcome(read: Callable[[], object]) -> object:
    """What was read, or which error; a month that is none is found when its end is asked for."""
    try:
        return shown(read())
    except (DecodeError, ValueError, OverflowError) as error:
        return type(error)


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**14), 2**14))
def test_a_number_is_written_as_everywhere_and_read_back(number: int) -> None:
    """Two forms of a number are two records."""
    encoded = encode_long(number)
    assert encoded == by_fastavro(LONG, {"a": number})
    assert read_long(encoded, 0) == (number, len(encoded))


@pytest.mark.parametrize("value", [b"\x80\x00", b"\xff" * 9 + b"\x02", b"\x80" * 10 + b"\x01"])
def test_a_number_that_is_longer_than_needed_or_than_64_bits_is_refused(value: bytes) -> None:
    """As in the codec."""
    with pytest.raises(Malformed):
        read_long(value, 0)
    with pytest.raises(ValueError, match="64 bits"):
        encode_long(2**63)

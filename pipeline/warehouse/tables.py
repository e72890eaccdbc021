"""Which field of which record fills which column. The SQL of the tables stands in `deploy/clickhouse/`.

A text that is null becomes empty; an instant fills a column of milliseconds, from which the table derives its
`DateTime` to the second (18.16 has no finer type). Columns only, so that whole blocks are converted at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pipeline.warehouse.store import ColumnType

# Any: values of one field of many records, typed by the record's schema.
Values = Sequence[Any]

# `DateTime` holds 32 bits of seconds: 1970 to 2106.
INSTANT_MS_MAX = (2**32 - 1) * 1_000 + 999
_INT32_MAX = 2**31 - 1


class OutOfRange(ValueError):
    """A value that the column cannot hold."""


class Bounds(NamedTuple):
    """The least and the largest value that a column may hold, and what is wrong with others."""

    low: int
    high: int
    detail: str


class Column(NamedTuple):
    """A column, the record's field that fills it, and how."""

    name: str
    type: str
    field: str
    convert: Callable[[Values], Values]
    bounds: Bounds | None = None

    def fill(self, values: Values) -> Values:
        """The column's values from the field's. OutOfRange when it cannot hold one of them."""
        if self.bounds is not None and (min(values) < self.bounds.low or max(values) > self.bounds.high):
            raise OutOfRange(self.bounds.detail)
        return self.convert(values)


class Table(NamedTuple):
    """A table and the record (name of its codec) whose rows it takes."""

    name: str
    record: str
    columns: tuple[Column, ...]

    @property
    def column_types(self) -> tuple[ColumnType, ...]:
        return tuple(ColumnType(column.name, column.type) for column in self.columns)


_INSTANTS = Bounds(0, INSTANT_MS_MAX, "a time outside the years 1970 to 2105")
# Avro's decoder hands an `int` beyond 32 bits on as it is.
_INT32 = Bounds(-_INT32_MAX - 1, _INT32_MAX, "a number beyond 32 bits")


def _as_it_is(values: Values) -> Values:
    return values


def _empty_for_null(values: Values) -> Values:
    return [value or "" for value in values]


def _joined(values: Values) -> Values:
    return ["" if parts is None else " ".join(parts) for parts in values]


def _members(index: int) -> Callable[[Values], Values]:
    return lambda values: [[item[index] for item in items] for items in values]


def _keys(values: Values) -> Values:
    return [sorted(mapping) for mapping in values]


def _values_by_key(values: Values) -> Values:
    return [[mapping[key] for key in sorted(mapping)] for mapping in values]


def _text(*fields: str) -> tuple[Column, ...]:
    return tuple(Column(field, "String", field, _empty_for_null) for field in fields)


def _plain(field: str, column_type: str) -> Column:
    return Column(field, column_type, field, _as_it_is)


def _long(*fields: str) -> tuple[Column, ...]:
    return tuple(_plain(field, "Int64") for field in fields)


def _int(*fields: str) -> tuple[Column, ...]:
    return tuple(Column(field, "Int32", field, _as_it_is, _INT32) for field in fields)


def _instant(field: str) -> Column:
    return Column(f"{field}_ms", "Int64", field, _as_it_is, _INSTANTS)


_PLACE = (
    *_text("source_topic"),
    *_int("source_partition"),
    *_long("source_offset", "ledger_epoch", "applied_seq"),
)

RATED_CALLS = Table(
    "rated_calls",
    "rated_call",
    (
        *_text("tenant_id", "usage_id", "call_id", "conference_id", "user_id", "call_type", "number_type"),
        *_text("caller_number", "callee_number"),
        _instant("start_time"),
        *_int("duration_s"),
        *_text("usage_country", "operator", "duration_source", "direction", "rating_country"),
        *_text("destination_country", "destination_name", "number_class", "scope", "capability", "outcome", "reason"),
        *_int("billable_minutes"),
        *_text("pool_id"),
        *_int("pool_minutes", "charged_minutes"),
        *_text("tariff"),
        Column("table_version", "String", "table_version", _joined),
        *_text("rate_prefix"),
        _plain("rate_micros_per_minute", "Nullable(Int64)"),
        _plain("connection_fee_micros", "Nullable(Int64)"),
        *_long("price_micros", "debited_micros"),
        Column("lots.lot_id", "Array(String)", "lots", _members(0)),
        Column("lots.amount_micros", "Array(Int64)", "lots", _members(1)),
        *_long("overdraft_micros", "postpaid_micros"),
        *_text("currency"),
        *_long("balance_after_micros"),
        _plain("rate_is_ambiguous", "UInt8"),
        *_text("rules_version"),
        *_PLACE,
        _instant("received_at"),
    ),
)

# The records of ledger entries are spread into postings before they become rows: `account` and `amount_micros`.
LEDGER_ENTRIES = Table(
    "ledger_entries",
    "ledger_entry",
    (
        *_text("tenant_id", "entry_id", "kind"),
        _instant("occurred_at"),
        *_text("currency", "account"),
        *_long("amount_micros"),
        *_text("usage_id", "lot_id", "recharge_id"),
        *_PLACE,
        *_int("entry_index", "posting_index"),
    ),
)

ACCOUNT_EVENTS = Table(
    "account_events",
    "account_event",
    (
        *_text("tenant_id", "event_id", "user_id", "kind"),
        _instant("occurred_at"),
        _plain("amount_micros", "Nullable(Int64)"),
        *_long("balance_micros"),
        *_text("currency"),
        Column("details.name", "Array(String)", "details", _keys),
        Column("details.value", "Array(String)", "details", _values_by_key),
        *_PLACE,
        *_int("event_index"),
    ),
)

REJECTED_CDRS = Table(
    "rejected_cdrs",
    "rejected",
    (
        *_text("tenant_id", "reason", "detail", "usage_id", "command_id"),
        _instant("received_at"),
        _plain("original", "String"),
        *_PLACE,
    ),
)

USERS = Table(
    "users",
    "user",
    (
        *_text("tenant_id", "user_id", "upn", "display_name", "country"),
        _plain("is_resource_account", "UInt8"),
        _plain("source_offset", "UInt64"),
    ),
)

# The values of an account's row are worked out by `accounts.py`: its pools from seats and licences.
ACCOUNTS = Table(
    "accounts",
    "account",
    (
        *_text("tenant_id"),
        _plain("month", "String"),
        *_text("country", "currency", "agreement"),
        _plain("recharge_is_enabled", "UInt8"),
        *_long("recharge_trigger_micros", "recharge_amount_micros"),
        _plain("recharge_monthly_budget_micros", "Nullable(Int64)"),
        *(_plain(f"pools.{part}", "Array(String)") for part in ("country", "sku", "scope", "capability")),
        _plain("pools.minutes", "Array(Int64)"),
        _plain("source_offset", "UInt64"),
    ),
)

TABLES = (RATED_CALLS, LEDGER_ENTRIES, ACCOUNT_EVENTS, REJECTED_CDRS, USERS, ACCOUNTS)

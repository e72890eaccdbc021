"""What the ledger says: the four output records as values, in the order of their schemas, and as JSON."""

from __future__ import annotations

from base64 import b64encode
from typing import NamedTuple

from pipeline.base.calendar import format_time

TIMES = frozenset(("start_time", "received_at", "occurred_at", "purchased_at", "expires_at"))


LotUse = tuple[str, int]
"""What one lot paid: its id and micro-units."""
Posting = tuple[str, int]
"""One side of a ledger entry: account and micro-units. Positive: owed to the customer or earned; negative: held or
owed to us."""
# Names of what stands in these fields, for JSON: pairs are made for each call, and names would cost as much again.
_PAIRS = {"lots": ("lot_id", "amount_micros"), "postings": ("account", "amount_micros")}


class RatedCall(NamedTuple):
    """The decision on one CDR, whose fields it begins with (`records.md` section 2)."""

    usage_id: str
    call_id: str | None
    conference_id: str | None
    tenant_id: str
    user_id: str | None
    call_type: str
    number_type: str | None
    caller_number: str | None
    callee_number: str | None
    start_time: int
    duration_s: int
    usage_country: str | None
    operator: str | None
    duration_source: str | None
    direction: str
    rating_country: str
    destination_country: str | None
    destination_name: str | None
    number_class: str
    scope: str | None
    capability: str | None
    outcome: str
    reason: str | None
    billable_minutes: int
    pool_id: str | None
    pool_minutes: int
    charged_minutes: int
    tariff: str | None
    table_version: tuple[str, str, str] | None
    rate_prefix: str | None
    rate_micros_per_minute: int | None
    connection_fee_micros: int | None
    price_micros: int
    debited_micros: int
    lots: tuple[LotUse, ...]
    overdraft_micros: int
    postpaid_micros: int
    currency: str
    balance_after_micros: int
    rate_is_ambiguous: bool
    source_topic: str
    source_partition: int
    source_offset: int
    received_at: int
    ledger_epoch: int
    applied_seq: int
    rules_version: str


class AccountEvent(NamedTuple):
    """Something that happened to an account; `balance_micros` just after the event's own effect."""

    event_id: str
    tenant_id: str
    user_id: str | None
    kind: str
    occurred_at: int
    source_topic: str
    source_partition: int
    source_offset: int
    ledger_epoch: int
    applied_seq: int
    amount_micros: int | None
    balance_micros: int
    currency: str
    details: dict[str, str]
    event_index: int


class LedgerEntry(NamedTuple):
    """A double entry: its postings sum to zero and it never changes."""

    entry_id: str
    tenant_id: str
    kind: str
    occurred_at: int
    currency: str
    postings: tuple[Posting, ...]
    usage_id: str | None
    lot_id: str | None
    recharge_id: str | None
    source_topic: str
    source_partition: int
    source_offset: int
    ledger_epoch: int
    applied_seq: int
    entry_index: int


class RejectedRecord(NamedTuple):
    """An input record that was refused, with its bytes."""

    reason: str
    detail: str
    tenant_id: str | None
    usage_id: str | None
    command_id: str | None
    source_topic: str
    source_partition: int
    source_offset: int
    ledger_epoch: int
    applied_seq: int
    original: bytes
    received_at: int


Output = RatedCall | AccountEvent | LedgerEntry | RejectedRecord


def to_json(record: Output) -> dict[str, object]:
    """The record with its names: times as RFC 3339, bytes as base64, money as integers of micro-units."""
    return {name: json_value(name, value) for name, value in zip(record._fields, record, strict=True)}


def json_value(name: str, value: object) -> object:  # noqa: PLR0911  # one for each kind of value
    """A field's value as it stands in JSON."""
    kind = value.__class__
    if value is None or kind is str or (kind is int and name not in TIMES):  # most are: no need to ask further
        return value
    match value:
        case int() if name in TIMES:
            return format_time(value)
        case bytes():
            return b64encode(value).decode()
        case tuple() if name in _PAIRS:
            return [dict(zip(_PAIRS[name], pair, strict=True)) for pair in value]
        case dict():
            return {key: json_value(key, item) for key, item in value.items()}
        case tuple() | list():
            return [json_value("", item) for item in value]
    return value

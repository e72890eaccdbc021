"""Results as the ledger would publish them, for tests of the warehouse."""

from __future__ import annotations

from functools import cache
from typing import Any

from pipeline.base.avro import codec
from pipeline.base.record import Consumed
from pipeline.warehouse.rows import Block
from pipeline.warehouse.tables import Table
from tests.avro_values import sample_of

_sample = cache(sample_of)
EPOCH_MS = 1_772_355_600_000  # 2026-03-01T09:00:00Z


def rated_call(seq: int, **fields: Any) -> dict[str, Any]:
    """A charged call of tenant t1; `seq` makes its place and its usage_id."""
    call = _sample("rated_call") | {
        "usage_id": f"call-{seq}",
        "tenant_id": "t1",
        "user_id": "anna",
        "call_type": "user_out",
        "direction": "outbound",
        "start_time": EPOCH_MS + 1_000 * seq,
        "duration_s": 61,
        "outcome": "charged",
        "reason": None,
        "price_micros": 26_000,
        "debited_micros": 26_000,
        "postpaid_micros": 0,
        "overdraft_micros": 0,
        "connection_fee_micros": 0,
        "lots": [{"lot_id": "lot-1", "amount_micros": 26_000}],
        "currency": "USD",
        "source_topic": "pstn.cdrs",
        "source_partition": 0,
        "source_offset": seq,
        "received_at": EPOCH_MS + 1_000 * seq,
        "ledger_epoch": EPOCH_MS,
        "applied_seq": seq,
    }
    return call | fields


def ledger_entry(seq: int, postings: list[tuple[str, int]], **fields: Any) -> dict[str, Any]:
    """An entry of tenant t1."""
    entry = _sample("ledger_entry") | {
        "entry_id": f"t1:cdrs:0:{seq}:L0",
        "tenant_id": "t1",
        "kind": "usage",
        "occurred_at": EPOCH_MS + 1_000 * seq,
        "currency": "USD",
        "postings": [{"account": account, "amount_micros": amount} for account, amount in postings],
        "source_topic": "pstn.cdrs",
        "source_partition": 0,
        "source_offset": seq,
        "ledger_epoch": EPOCH_MS,
        "applied_seq": seq,
        "entry_index": 0,
    }
    return entry | fields


def account_event(seq: int, **fields: Any) -> dict[str, Any]:
    """A notice about tenant t1."""
    event = _sample("account_event") | {
        "event_id": f"t1:cdrs:0:{seq}:0",
        "tenant_id": "t1",
        "occurred_at": EPOCH_MS + 1_000 * seq,
        "source_partition": 0,
        "source_offset": seq,
        "ledger_epoch": EPOCH_MS,
        "applied_seq": seq,
        "event_index": 0,
    }
    return event | fields


def rejected(seq: int, **fields: Any) -> dict[str, Any]:
    """A call that was refused."""
    refusal = _sample("rejected") | {
        "source_topic": "pstn.cdrs",
        "source_partition": 0,
        "source_offset": seq,
        "received_at": EPOCH_MS + 1_000 * seq,
        "ledger_epoch": EPOCH_MS,
        "applied_seq": seq,
    }
    return refusal | fields


def user(user_id: str, **fields: Any) -> dict[str, Any]:
    """A user of tenant t1 as the credit table has him."""
    return {
        "tenant_id": "t1",
        "user_id": user_id,
        "country": None,
        "licences": [],
        "dial_out_policy": None,
        "spend_cap_micros": None,
        "upn": f"{user_id}@contoso.example",
        "display_name": user_id.title(),
        "is_resource_account": False,
        "removed_at": None,
        "seats": [],
        "months": [],
        "pools": [],
    } | fields


_TOPICS = {
    "rated_call": "pstn.rated-calls",
    "ledger_entry": "pstn.account-events",
    "account_event": "pstn.account-events",
    "rejected": "pstn.rejected",
    "user": "pstn.credit-table",
}


def consumed(name: str, record: dict[str, Any], offset: int = 0, key: bytes = b"t1") -> Consumed:
    """The record as a role reads it from its topic."""
    return raw(codec(name).encode(record), offset, topic=_TOPICS[name], key=key)


def raw(value: bytes, offset: int = 0, *, topic: str = "pstn.rated-calls", key: bytes = b"t1") -> Consumed:
    """Any bytes as a role reads them."""
    return Consumed(topic, 0, offset, EPOCH_MS, key, value)


def rows_of(blocks: list[Block], table: Table) -> list[dict[str, Any]]:
    """The rows of a table, each by its columns' names."""
    names = [column.name for column in table.columns]
    return [
        dict(zip(names, row, strict=True))
        for block in blocks
        if block.table is table
        for row in zip(*block.columns, strict=True)
    ]

"""Two organisations and two months, small enough to be added up by hand: what every report is tested on."""

from __future__ import annotations

from typing import Any

from pipeline.base.avro import codec
from pipeline.base.record import Consumed
from pipeline.base.resources_io import resource_path
from pipeline.charge.tables_io import load_tables
from pipeline.warehouse.accounts import account_rows
from pipeline.warehouse.rows import blocks_of
from pipeline.warehouse.store import Store
from pipeline.warehouse.users import user_rows
from tests.avro_values import sample_of
from tests.warehouse_records import EPOCH_MS, consumed, ledger_entry, rated_call, user

TABLES = load_tables(resource_path("rating_tables"))
DAY_MS = 86_400_000
APRIL_MS = EPOCH_MS + 31 * DAY_MS


def account(offset: int, at_ms: int = EPOCH_MS, **fields: Any) -> Consumed:
    """The state of an account, as the credit table has it at that offset and time."""
    record = sample_of("account") | {"tenant_id": "t1", "country": "DE", "seats": [], "purchased": []} | fields
    value = codec("account").encode(record)
    return Consumed("pstn.credit-table", 0, offset, at_ms, str(record["tenant_id"]).encode(), value)


def seats(sku: str, count: int, country: str = "") -> dict[str, Any]:
    return {"sku": sku, "country": country, "user_count": count}


def call(seq: int, **fields: Any) -> dict[str, Any]:
    """A call of two minutes, charged, without a pool."""
    plain = {"pool_id": None, "pool_minutes": 0, "billable_minutes": 2, "charged_minutes": 2}
    return rated_call(seq, **plain | fields)


CALLS = [
    call(1, destination_name="Germany Berlin", destination_country="DE", callee_number="+4930123456"),
    call(
        2,
        user_id="ben",
        outcome="included",
        capability="MCOPSTN1",
        pool_id="t1:DE:MCOPSTN1:domestic:2026-03",
        pool_minutes=2,
        billable_minutes=2,
        charged_minutes=0,
        debited_micros=0,
        lots=[],
    ),
    call(3, call_type="conf_out", billable_minutes=7, charged_minutes=7, debited_micros=70_000),
    call(
        4,
        outcome="unpaid",
        reason="balance_not_positive",
        capability=None,
        price_micros=50_000,
        debited_micros=0,
        charged_minutes=0,
        billable_minutes=5,
        lots=[],
    ),
    call(5, outcome="duplicate", debited_micros=0, lots=[]),
    call(6, start_time=APRIL_MS, received_at=APRIL_MS, destination_name="France", destination_country="FR"),
    call(7, call_type="user_in", direction="inbound", outcome="free", capability=None, debited_micros=0, lots=[]),
    call(8, tenant_id="t2", currency="EUR", user_id="=cmd", rating_country="US"),
]
ENTRIES = [
    ledger_entry(0, [("payments", -500_000), ("credits:a", 500_000)], kind="funding"),
    ledger_entry(1, [("credits:a", -26_000), ("revenue:usage", 26_000)]),
    ledger_entry(3, [("credits:a", -70_000), ("revenue:usage", 70_000)]),
    ledger_entry(6, [("credits:a", -26_000), ("revenue:usage", 26_000)], occurred_at=APRIL_MS),
    ledger_entry(7, [("credits:a", -378_000), ("revenue:forfeited", 378_000)], kind="forfeiture", occurred_at=APRIL_MS),
]
ACCOUNTS = [
    account(1, seats=[seats("MCOPSTN1", 2), seats("MCOPSTN2", 1, "FR")]),
    account(2, APRIL_MS, seats=[seats("MCOPSTN1", 3)], purchased=[{"sku": "MCOMEETADV", "licence_count": 4}]),
    account(3, tenant_id="t2", country="US"),
]


def fill(store: Store) -> None:
    """The whole world, twice: what comes again changes nothing."""
    calls = [consumed("rated_call", each) for each in CALLS]
    entries = [consumed("ledger_entry", entry) for entry in ENTRIES]
    people = [user("anna", display_name="=1+1"), user("ben")]
    users = [consumed("user", record, 1, key=f"t1/{record['user_id']}".encode()) for record in people]
    for _ in range(2):
        blocks = [*blocks_of(calls + entries), *user_rows(users, {}).blocks, *account_rows(ACCOUNTS, {}, TABLES).blocks]
        for block in blocks:
            store.insert(block.table.name, block.table.column_types, block.columns)

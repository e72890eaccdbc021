"""Results become rows: every field has its column, every record at least one row, and batches make no difference."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.avro import codec
from pipeline.base.avro_schema import Type, parse_record
from pipeline.base.resources_io import resource_path
from pipeline.warehouse.rows import Block, blocks_of, merged
from pipeline.warehouse.tables import (
    ACCOUNT_EVENTS,
    INSTANT_MS_MAX,
    LEDGER_ENTRIES,
    RATED_CALLS,
    REJECTED_CDRS,
    TABLES,
    Table,
)
from pipeline.warehouse.users import KNOWN_COUNT_MAX, remember, user_rows
from tests.warehouse_records import (
    EPOCH_MS,
    account_event,
    consumed,
    ledger_entry,
    rated_call,
    raw,
    rejected,
    rows_of,
    user,
)


@pytest.mark.parametrize("table", [RATED_CALLS, ACCOUNT_EVENTS, REJECTED_CDRS, LEDGER_ENTRIES], ids=lambda t: t.name)
def test_every_field_of_a_result_fills_a_column(table: Table) -> None:
    """A field added to a schema must not silently miss the warehouse."""
    filled = {column.field for column in table.columns}
    fields = set(codec(table.record).fields)
    if table is LEDGER_ENTRIES:
        fields = fields - {"postings"} | {"account", "amount_micros", "posting_index"}
    assert filled == fields


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_a_column_can_hold_what_its_field_may_be(table: Table) -> None:
    """A null where the column has no place for one, or a long in an Int32, would fail at the insert of the block."""
    schema = json.loads((resource_path("schemas") / f"{table.record}.avsc").read_text(encoding="utf-8"))
    types = {field.name: field.type for field in parse_record(schema)}
    for column in table.columns:
        if column.field in types and "." not in column.name:
            assert column.type in columns_for(types[column.field]), column.name


def columns_for(kind: Type) -> set[str]:
    if kind.kind in ("string", "array", "bytes"):
        return {"String"}
    plain = {"int": "Int32", "long": "Int64", "boolean": "UInt8"}[kind.kind]
    return {f"Nullable({plain})"} if kind.is_nullable else {plain}


def test_a_rated_call_is_one_row_with_exact_milliseconds_and_empty_text_for_null() -> None:
    call = rated_call(7, call_id=None, start_time=EPOCH_MS + 123, table_version=["acs", "2026-03-01", "0123456789ab"])
    [row] = rows_of(blocks_of([consumed("rated_call", call)]), RATED_CALLS)
    assert row["call_id"] == ""
    assert row["start_time_ms"] == EPOCH_MS + 123
    assert row["table_version"] == "acs 2026-03-01 0123456789ab"
    assert (row["lots.lot_id"], row["lots.amount_micros"]) == (["lot-1"], [26_000])


def test_an_absent_rate_stays_null_because_zero_is_a_rate() -> None:
    call = rated_call(1, rate_micros_per_minute=None, connection_fee_micros=0)
    [row] = rows_of(blocks_of([consumed("rated_call", call)]), RATED_CALLS)
    assert row["rate_micros_per_minute"] is None
    assert row["connection_fee_micros"] == 0


def test_each_posting_is_a_row_with_its_own_place() -> None:
    entry = ledger_entry(3, [("credits:a", -5), ("credits:overdraft", -2), ("revenue:usage", 7)])
    rows = rows_of(blocks_of([consumed("ledger_entry", entry)]), LEDGER_ENTRIES)
    assert [(row["posting_index"], row["account"], row["amount_micros"]) for row in rows] == [
        (0, "credits:a", -5),
        (1, "credits:overdraft", -2),
        (2, "revenue:usage", 7),
    ]


def test_details_come_in_one_order_so_that_a_row_inserted_again_is_the_same() -> None:
    one = account_event(1, details={"b": "2", "a": "1"})
    other = account_event(1, details={"a": "1", "b": "2"})
    [first] = rows_of(blocks_of([consumed("account_event", one)]), ACCOUNT_EVENTS)
    [second] = rows_of(blocks_of([consumed("account_event", other)]), ACCOUNT_EVENTS)
    assert first == second
    assert (first["details.name"], first["details.value"]) == (["a", "b"], ["1", "2"])


POISON = {
    "not Avro": b"no avro",
    "empty": b"",
    "truncated": codec("rated_call").encode(rated_call(2))[:-3],
    "bytes left over": codec("rated_call").encode(rated_call(2)) + b"\x00",
    "schema of no result": codec("cdr").header + b"whatever",
    "unknown schema": b"\xc3\x01" + bytes(8) + b"whatever",
    "a time before 1970": codec("rated_call").encode(rated_call(2, start_time=-1)),
    "a time after 2105": codec("rated_call").encode(rated_call(2, received_at=INSTANT_MS_MAX + 1)),
    "an entry without postings": codec("ledger_entry").encode(ledger_entry(2, [])),
}


@pytest.mark.parametrize("value", POISON.values(), ids=POISON)
def test_a_record_that_gives_no_row_is_kept_with_its_reason_and_blocks_no_other(value: bytes) -> None:
    """One bad record would otherwise stop its partition for ever, or vanish."""
    records = [
        consumed("rated_call", rated_call(1), 41),
        raw(value, 42),
        consumed("rated_call", rated_call(3), 43),
        consumed("ledger_entry", ledger_entry(3, [("credits:a", -1), ("revenue:usage", 1)]), 44),
    ]
    blocks = blocks_of(records)
    assert [row["usage_id"] for row in rows_of(blocks, RATED_CALLS)] == ["call-1", "call-3"]
    assert len(rows_of(blocks, LEDGER_ENTRIES)) == 2
    [row] = rows_of(blocks, REJECTED_CDRS)
    assert (row["source_topic"], row["source_partition"], row["source_offset"]) == ("pstn.rated-calls", 0, 42)
    assert row["reason"] in ("payload_not_avro", "schema_unknown", "field_out_of_range")
    assert "the loader could not read this result" in row["detail"]
    assert row["original"] == value


def test_a_refusal_and_an_unreadable_result_share_a_table_and_stay_apart() -> None:
    blocks = blocks_of([consumed("rejected", rejected(5, original=b"\xff\x00")), raw(b"junk", 9)])
    assert [block.table for block in blocks] == [REJECTED_CDRS]
    assert [(row["applied_seq"], row["original"]) for row in rows_of(blocks, REJECTED_CDRS)] == [
        (5, b"\xff\x00"),
        (0, b"junk"),
    ]


MIXED = [
    *(consumed("rated_call", rated_call(seq), seq) for seq in range(6)),
    consumed("rated_call", rated_call(6, start_time=-5), 6),
    *(consumed("ledger_entry", ledger_entry(seq, [("credits:a", -1), ("revenue:usage", 1)]), seq) for seq in range(3)),
    consumed("account_event", account_event(3), 3),
    consumed("rejected", rejected(4), 4),
    raw(b"", 5),
]


@given(st.permutations(MIXED), st.lists(st.integers(0, len(MIXED)), max_size=4))
def test_the_rows_do_not_depend_on_how_records_are_batched(records: list[Any], cuts: list[int]) -> None:
    """Redelivery after a crash comes in other batches: other rows would be other money."""
    bounds = [0, *sorted(cuts), len(records)]
    pieces = [blocks_of(records[start:end]) for start, end in pairwise(bounds)]
    split = merged(block for piece in pieces for block in piece)
    for table in TABLES:
        assert in_any_order(split, table) == in_any_order(blocks_of(MIXED), table)


def in_any_order(blocks: list[Block], table: Table) -> list[str]:
    return sorted(map(repr, rows_of(blocks, table)))


def user_record(user_id: str, offset: int, **fields: Any) -> Any:
    return consumed("user", user(user_id, **fields), offset, key=f"t1/{user_id}".encode())


def test_of_a_user_the_latest_state_is_a_row_and_what_is_known_is_not() -> None:
    """A user's record changes with each of his calls; a row for each would double the load."""
    first = user_rows([user_record("anna", 1, upn="old@x"), user_record("anna", 2), user_record("bob", 3)], {})
    [block] = first.blocks
    names = [column.name for column in block.table.columns]
    shown = [dict(zip(names, row, strict=True)) for row in zip(*block.columns, strict=True)]
    assert [(row["user_id"], row["upn"], row["source_offset"]) for row in shown] == [
        ("anna", "anna@contoso.example", 2),
        ("bob", "bob@contoso.example", 3),
    ]
    assert user_rows([user_record("anna", 9, spend_cap_micros=5)], first.shown).blocks == []
    assert user_rows([user_record("anna", 9, display_name="Anna M")], first.shown).blocks != []


def test_other_records_of_the_credit_table_are_no_users() -> None:
    others = [raw(b"x", key=key, topic="pstn.credit-table") for key in (b"t1", b"\x00checkpoint", b"t1//pools/2026-03")]
    deleted = raw(b"", key=b"t1/anna", topic="pstn.credit-table")
    assert user_rows([*others, deleted], {}).blocks == []


def test_a_user_that_cannot_be_read_is_kept_as_an_unreadable_result() -> None:
    blocks = user_rows([raw(b"junk", 4, key=b"t1/anna", topic="pstn.credit-table"), user_record("bob", 5)], {}).blocks
    assert [row["original"] for row in rows_of(blocks, REJECTED_CDRS)] == [b"junk"]
    assert len(blocks) == 2


def test_known_users_are_bounded_and_the_oldest_is_forgotten() -> None:
    known: dict[bytes, Any] = {b"%d" % index: () for index in range(KNOWN_COUNT_MAX)}
    remember(known, {b"0": ("again",), b"new": ()})
    assert len(known) == KNOWN_COUNT_MAX
    assert b"0" in known
    assert b"1" not in known

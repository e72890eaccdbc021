"""Records decoded a field at a time give the bytes that records decoded one by one give, or are left to those."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.avro import codec
from pipeline.base.record import Consumed
from pipeline.warehouse import rows
from pipeline.warehouse.bulk import BULK_TABLES, columns_of
from pipeline.warehouse.native_io import native_block
from pipeline.warehouse.packed import Packed
from pipeline.warehouse.rows import Block, blocks_of, merged
from pipeline.warehouse.tables import LEDGER_ENTRIES, RATED_CALLS, Table
from tests.avro_values import any_of, schema_of
from tests.warehouse_records import consumed, ledger_entry, rated_call, raw

NAMES = [table.record for table in BULK_TABLES]


def one_by_one(records: list[Consumed], monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    with monkeypatch.context() as patch:
        patch.setattr(rows, "_BULK_RECORDS_MIN", len(records) + 1)
        return blocks_of(records)


def in_bulk(records: list[Consumed], monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    with monkeypatch.context() as patch:
        patch.setattr(rows, "_BULK_RECORDS_MIN", 1)
        return blocks_of(records)


def sent(blocks: list[Block]) -> dict[str, bytes]:
    """What a store is sent, by table."""
    return {block.table.name: native_block(block.table.column_types, block.columns) for block in blocks}


def in_any_order(blocks: list[Block]) -> dict[str, list[str]]:
    return {block.table.name: sorted(map(repr, zip(*block.columns, strict=True))) for block in blocks}


def is_packed(blocks: list[Block], table: Table) -> bool:
    return all(isinstance(column, Packed) for block in blocks if block.table is table for column in block.columns)


CALLS = [
    rated_call(0),
    rated_call(1, call_id=None, table_version=None, lots=[], rate_micros_per_minute=None, scope=None),
    rated_call(2, table_version=[], destination_name="Côte d'Ivoire", rate_is_ambiguous=True),
    rated_call(3, table_version=["acs"], pool_id="p" * 63, usage_id="u" * 64, call_id="c" * 127, operator="o" * 128),
    rated_call(4, table_version=["", "é", "", "x" * 63], balance_after_micros=-(2**63)),
    rated_call(5, lots=[{"lot_id": f"lot-{index}", "amount_micros": index - 9} for index in range(20)]),
    rated_call(6, price_micros=2**63 - 1, start_time=0, duration_s=2**31 - 1, connection_fee_micros=-1),
]
ENTRIES = [
    ledger_entry(0, [("credits:a", -5), ("credits:overdraft", -2), ("revenue:usage", 7)]),
    ledger_entry(1, [("payments", -1), ("credits:é", 1)], usage_id=None, lot_id="x", entry_index=3),
    ledger_entry(2, [("a" * 70, 0)]),
]


def test_the_bytes_sent_are_those_of_the_drivers_own_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that is a byte off would be read as other values, silently."""
    calls = [*CALLS, rated_call(7, caller_number="x" * 20_000, callee_number="y" * 2_100_000)]
    records = [*(consumed("rated_call", call) for call in calls), *(consumed("ledger_entry", each) for each in ENTRIES)]
    fast = in_bulk(records, monkeypatch)
    assert is_packed(fast, RATED_CALLS)
    assert is_packed(fast, LEDGER_ENTRIES)
    assert sent(fast) == sent(one_by_one(records, monkeypatch))


def test_packed_columns_read_as_the_lists_they_stand_for(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [*(consumed("rated_call", call) for call in CALLS), *(consumed("ledger_entry", each) for each in ENTRIES)]
    for fast, slow in zip(in_bulk(records, monkeypatch), one_by_one(records, monkeypatch), strict=True):
        assert [list(column) for column in fast.columns] == [list(column) for column in slow.columns]
        assert {len(column) for column in fast.columns} == {slow.row_count}


INSTANTS = st.integers(-1, 2**41)


@st.composite
def records_of(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """Any record, its times mostly in range."""
    record: dict[str, Any] = draw(any_of(schema_of(name)))
    return record | {field: draw(INSTANTS) for field in record.keys() & {"start_time", "received_at", "occurred_at"}}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_record_gives_the_same_row_either_way(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    records = [consumed(name, record) for record in data.draw(st.lists(records_of(name), min_size=1, max_size=6))]
    with pytest.MonkeyPatch.context() as patch:
        assert in_any_order(in_bulk(records, patch)) == in_any_order(one_by_one(records, patch))


@pytest.mark.parametrize("name", NAMES)
def test_spoilt_bytes_never_become_another_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside sound records, which must not suffer: a length that runs on would read the neighbour's bytes."""
    chance = random.Random(name)
    sound = CALLS if name == "rated_call" else ENTRIES
    for _ in range(80):
        records = [consumed(name, record, offset) for offset, record in enumerate(sound)]
        for _ in range(chance.randint(1, 2)):
            victim = chance.randrange(len(records))
            records[victim] = raw(spoilt(records[victim].value, chance), victim)
        assert in_any_order(in_bulk(records, monkeypatch)) == in_any_order(one_by_one(records, monkeypatch))


def spoilt(value: bytes, chance: random.Random) -> bytes:
    """One byte changed, cut off, left over, or put in; behind the header, which says whose it is."""
    at = chance.randrange(10, len(value)) if len(value) > 10 else len(value)
    match chance.randrange(4):
        case 0:
            return value[:at] + bytes([chance.randrange(256)]) + value[at + 1 :]
        case 1:
            return value[:at]
        case 2:
            return value + bytes(chance.randrange(1, 4))
    return value[:at] + bytes([chance.choice((0, 1, 2, 0x80, 0xFF))]) + value[at:]


def test_an_array_in_several_blocks_gives_the_row_of_one_in_a_single_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Avro leaves the choice to the writer."""
    first, second = b"\x0alot-a\x02", b"\x0alot-b\x04"
    lots = [{"lot_id": "lot-a", "amount_micros": 1}, {"lot_id": "lot-b", "amount_micros": 2}]
    whole = codec("rated_call").encode(rated_call(1, lots=lots))
    apart = whole.replace(b"\x04" + first + second, b"\x02" + first + b"\x02" + second)
    assert len(apart) == len(whole) + 1
    other = consumed("rated_call", rated_call(2))
    found, wanted = ([raw(value), other] for value in (apart, whole))
    assert in_any_order(in_bulk(found, monkeypatch)) == in_any_order(one_by_one(wanted, monkeypatch))


def test_an_array_that_announces_a_block_which_does_not_come_is_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The byte after its last item is not 0, and all others stand where they would."""
    item = b"\x0alot-a\x02"
    whole = codec("rated_call").encode(rated_call(1, lots=[{"lot_id": "lot-a", "amount_micros": 1}]))
    spoilt_one = whole.replace(item + b"\x00", item + b"\x02")
    assert spoilt_one != whole
    records = [raw(spoilt_one), consumed("rated_call", rated_call(2))]
    assert in_any_order(in_bulk(records, monkeypatch)) == in_any_order(one_by_one(records, monkeypatch))


def test_what_is_odd_does_not_fit_and_the_others_do() -> None:
    known = codec("rated_call")
    odd = {
        1: rated_call(1, start_time=-1),
        3: rated_call(3, lots=[{"lot_id": "x", "amount_micros": 1}] * 40),
    }
    values = [known.encode(odd.get(place, rated_call(place))) for place in range(6)]
    values[4] = values[4].replace(b"anna", b"\xff\xff\xff\xff")
    columns, unfit = columns_of(RATED_CALLS, known.typed_fields, values)
    assert unfit == {1, 3, 4}
    assert columns is not None
    usage_ids: Any = columns[[column.name for column in RATED_CALLS.columns].index("usage_id")]
    assert list(usage_ids) == ["call-0", "call-2", "call-5"]
    assert columns_of(RATED_CALLS, known.typed_fields, [values[1]]) == (None, {0})


def test_blocks_of_several_partitions_join_to_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [*(consumed("rated_call", call) for call in CALLS), *(consumed("ledger_entry", each) for each in ENTRIES)]
    pieces = [in_bulk(records[start : start + 4], monkeypatch) for start in range(0, len(records), 4)]
    joined = merged(block for piece in pieces for block in piece)
    assert is_packed(joined, RATED_CALLS)
    assert sent(joined) == sent(one_by_one(records, monkeypatch))

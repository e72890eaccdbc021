"""Result records -> blocks of columns, ready to insert. Pure; the same records give the same rows in any batches.

A record that cannot be read, or holds what no column can, is a *poison row*: it becomes a row of `rejected_cdrs` that
names its place and reason and keeps its bytes. So every record gives at least one row, and none blocks the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, cast

from pipeline.base.avro import HEADER_BYTES, Codec, DecodeError, codec
from pipeline.base.record import Consumed
from pipeline.base.reject import Reason
from pipeline.warehouse.bulk import BULK_TABLES, columns_of
from pipeline.warehouse.packed import Packed
from pipeline.warehouse.tables import (
    ACCOUNT_EVENTS,
    INSTANT_MS_MAX,
    LEDGER_ENTRIES,
    RATED_CALLS,
    REJECTED_CDRS,
    OutOfRange,
    Table,
    Values,
)

# The arrays' own cost is 2 ms a batch, that of a record by itself 45 us.
_BULK_RECORDS_MIN = 48

# Any: the values of one record, typed by its schema.
Record = tuple[Any, ...]


class Block(NamedTuple):
    """Rows of one table: a sequence of values for each column of `table.columns`."""

    table: Table
    columns: list[Values]

    @property
    def row_count(self) -> int:
        return len(self.columns[0])


def blocks_of(records: Sequence[Consumed]) -> list[Block]:
    """The rows of these records, at most one block for each table."""
    blocks, others = _in_bulk(records)
    return merged([*blocks, *_one_by_one(others)])


def _in_bulk(records: Sequence[Consumed]) -> tuple[list[Block], Sequence[Consumed]]:
    """The rows of what there is much of, and the records that they do not come from, in order."""
    by_header: dict[bytes, list[int]] = {}
    for place, record in enumerate(records):
        by_header.setdefault(record.value[:HEADER_BYTES], []).append(place)
    blocks = []
    done: set[int] = set()
    for table in BULK_TABLES:
        known = codec(table.record)
        places = by_header.get(known.header, ())
        if len(places) >= _BULK_RECORDS_MIN:
            columns, unfit = columns_of(table, known.typed_fields, [records[place].value for place in places])
            if columns is not None:
                blocks.append(Block(table, list(columns)))
            done.update(place for index, place in enumerate(places) if index not in unfit)
    return blocks, [record for place, record in enumerate(records) if place not in done] if done else records


def _one_by_one(records: Sequence[Consumed]) -> list[Block]:
    """The same of few records, or of odd ones."""
    decoded: dict[str, list[tuple[Consumed, Record]]] = {}
    poison: list[Record] = []
    for record in records:
        try:
            known = _codec_of(record.value)
            values = known.decode_values(record.value)
        except DecodeError as error:
            poison.append(poison_values(record, error.reason, error.detail))
        else:
            decoded.setdefault(known.name, []).append((record, values))
    blocks = []
    for make in _makers():
        if pairs := decoded.get(make.table.record):
            block, bad = _block_of(make, pairs)
            poison.extend(bad)
            if block is not None:
                blocks.append(block)
    if poison:
        blocks.append(poison_block(poison))
    return blocks


def poison_block(rows: Sequence[Record]) -> Block:
    """Rows of `rejected_cdrs` from `poison_values`."""
    return make_block(_rejected_maker(), rows)


def merged(blocks: Iterable[Block]) -> list[Block]:
    """The same rows with one block for each table, in the given order."""
    by_table: dict[str, list[Block]] = {}
    for block in blocks:
        by_table.setdefault(block.table.name, []).append(block)
    return [same[0] if len(same) == 1 else _joined(same) for same in by_table.values()]


def _joined(blocks: Sequence[Block]) -> Block:
    columns = zip(*(block.columns for block in blocks), strict=True)
    return Block(blocks[0].table, [_one_column(pieces) for pieces in columns])


def _one_column(pieces: Sequence[Values]) -> Values:
    if all(isinstance(piece, Packed) for piece in pieces):
        packed: Any = pieces
        return cast("Values", type(packed[0]).joined(packed))
    return list(chain.from_iterable(pieces))


class Maker(NamedTuple):
    """How a table's rows are made: `spread` turns a record into rows of values named by `fields`."""

    table: Table
    fields: tuple[str, ...]
    spread: Callable[[Record], list[Record]] | None


def _spread_postings(fields: tuple[str, ...]) -> Callable[[Record], list[Record]]:
    postings_at = fields.index("postings")

    def spread(entry: Record) -> list[Record]:
        postings = entry[postings_at]
        if not postings:
            raise OutOfRange("a ledger entry without postings")
        return [(*entry, index, *posting) for index, posting in enumerate(postings)]

    return spread


@lru_cache(maxsize=1)
def _makers() -> tuple[Maker, ...]:
    entry_fields = codec(LEDGER_ENTRIES.record).fields
    posting_fields = ("posting_index", "account", "amount_micros")
    return (
        Maker(RATED_CALLS, codec(RATED_CALLS.record).fields, None),
        Maker(LEDGER_ENTRIES, entry_fields + posting_fields, _spread_postings(entry_fields)),
        Maker(ACCOUNT_EVENTS, codec(ACCOUNT_EVENTS.record).fields, None),
        _rejected_maker(),
    )


@lru_cache(maxsize=1)
def _rejected_maker() -> Maker:
    return Maker(REJECTED_CDRS, codec(REJECTED_CDRS.record).fields, None)


@lru_cache(maxsize=1)
def _codecs() -> tuple[dict[bytes, Codec], tuple[Codec, ...]]:
    codecs = tuple(codec(maker.table.record) for maker in _makers())
    return {known.header: known for known in codecs}, codecs


def _codec_of(value: bytes) -> Codec:
    """By the fingerprint, whatever the topic. What no codec knows is left to the first to refuse."""
    by_header, codecs = _codecs()
    known = by_header.get(value[:HEADER_BYTES])
    return known or next((former for former in codecs if former.knows(value)), codecs[0])


def _block_of(maker: Maker, pairs: list[tuple[Consumed, Record]]) -> tuple[Block | None, list[Record]]:
    """All records at once; only when one of them does not fit, one by one."""
    try:
        return make_block(maker, [values for _, values in pairs]), []
    except OutOfRange:
        blocks, poison = [], []
        for record, values in pairs:
            try:
                blocks.append(make_block(maker, [values]))
            except OutOfRange as error:
                poison.append(poison_values(record, Reason.FIELD_OUT_OF_RANGE, f"{error} in a {maker.table.record}"))
        return (merged(blocks)[0] if blocks else None), poison


def make_block(maker: Maker, records: Sequence[Record]) -> Block:
    """Raises OutOfRange when one of the records does not fit."""
    if maker.spread is not None:
        records = [row for record in records for row in maker.spread(record)]
    by_field: dict[str, Values] = dict(zip(maker.fields, zip(*records, strict=True), strict=True))
    return Block(maker.table, [column.fill(by_field[column.field]) for column in maker.table.columns])


def poison_values(record: Consumed, reason: Reason, detail: str) -> Record:
    """The row that stands in `rejected_cdrs` for a result that gives no other."""
    values = {
        "reason": reason.value,
        "detail": f"the loader could not read this result: {detail}",
        "tenant_id": None,
        "usage_id": None,
        "command_id": None,
        "source_topic": record.topic,
        "source_partition": record.partition,
        "source_offset": record.offset,
        "ledger_epoch": 0,
        "applied_seq": 0,
        "original": record.value,
        "received_at": min(max(record.timestamp_ms, 0), INSTANT_MS_MAX),
    }
    return tuple(values[field] for field in _rejected_maker().fields)

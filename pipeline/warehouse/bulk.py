"""Thousands of records of one schema -> columns, a field of all records at a time: ten times as fast as one by one.

Takes only what can be read in one way: whatever is odd in a record (bad bytes, a number out of range, an array in
several blocks) makes it *unfit*, and it goes through `rows.py` alone, which names what is wrong or reads it after all.
So what fits gives the very rows that it would give there. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.base.avro import HEADER_BYTES
from pipeline.base.avro_schema import Field, Type
from pipeline.warehouse.packed import DTYPES, Bytes, Flags, Longs, Packed, PackedLists, PackedNumbers, PackedTexts
from pipeline.warehouse.tables import LEDGER_ENTRIES, RATED_CALLS, Column, Table

BULK_TABLES = (RATED_CALLS, LEDGER_ENTRIES)
"""Those that have most of the rows, and no maps."""

# A call takes money from one or two lots, an entry has two to four postings; each further one is another pass.
_ITEMS_MAX = 32
# Behind the last record: what a number that runs over its end may still touch.
_MARGIN = bytes(16)


class _Numbers(NamedTuple):
    """`is_there` is false where the record has null; then the number is 0."""

    values: NDArray[Any]  # of int64 or bool
    is_there: Flags


class _Texts(NamedTuple):
    """Where they begin in the buffer; null is an empty text."""

    starts: Longs
    lengths: Longs


class _Items(NamedTuple):
    """Arrays: how many items each record has, whose each item is, and the items in the order of their owners."""

    counts: Longs
    owners: Longs
    members: tuple[_Numbers | _Texts, ...]


_Read = _Numbers | _Texts | _Items
_Flat = TypeVar("_Flat", _Numbers, _Texts)


def columns_of(table: Table, fields: Sequence[Field], values: Sequence[bytes]) -> tuple[list[Packed] | None, set[int]]:
    """The columns of those records that fit (None when none does), and the places of those that do not.

    Every one of `values` has the header of the schema whose `fields` these are.
    """
    unfit: set[int] = set()
    places = list(range(len(values)))
    while places:
        columns, found = _attempt(table, fields, [values[place] for place in places])
        if not found:
            return columns, unfit
        unfit |= {places[index] for index in found}
        places = [place for place in places if place not in unfit]
    return None, unfit


def _attempt(table: Table, fields: Sequence[Field], values: Sequence[bytes]) -> tuple[list[Packed], list[int]]:
    """Columns of all records; or which of them do not fit."""
    reader = _Reader(values)
    everyone = np.arange(len(values))
    read = {field.name: reader.read(field.type, everyone) for field in fields}
    reader.expect_the_end()
    making = _Making(reader, read)
    if table is LEDGER_ENTRIES:
        making.spread("postings", _members(fields, "postings"))
    columns = [making.column(column, fields) for column in table.columns] if reader.is_fit.all() else []
    return columns, np.flatnonzero(~reader.is_fit).tolist()


class _Reader:
    """Stands at one place in each record, and moves there from field to field."""

    def __init__(self, values: Sequence[bytes]) -> None:
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        self.buffer: Bytes = np.frombuffer(bytearray(b"".join((*values, _MARGIN))), np.uint8)
        self._ends = np.cumsum(lengths)
        self._at = self._ends - lengths + HEADER_BYTES
        self.is_fit = np.ones(len(values), np.bool_)

    def read(self, kind: Type, rows: Longs) -> _Read:
        """The next field of the records `rows`."""
        if kind.is_nullable:
            return self._nullable(kind._replace(is_nullable=False), rows)
        match kind.kind:
            case "string" | "bytes":
                return self._texts(rows)
            case "int" | "long":
                values = self._longs(rows)
                return _Numbers(values, np.ones(len(rows), np.bool_))
            case "boolean":
                bits = self._bytes(rows)
                self.fail(rows[bits > 1])
                return _Numbers(bits == 1, np.ones(len(rows), np.bool_))
            case "array":
                return self._items(kind, rows)
        raise NotImplementedError(f"columns of a {kind.kind}")

    def fail(self, rows: Longs) -> None:
        self.is_fit[rows] = False

    def expect_the_end(self) -> None:
        self.is_fit &= self._at == self._ends

    def _nullable(self, kind: Type, rows: Longs) -> _Read:
        tags = self._bytes(rows)
        self.fail(rows[(tags != 0) & (tags != 2)])
        is_there = tags == 2
        which = np.flatnonzero(is_there)
        read = self.read(kind, rows[which])
        if isinstance(read, _Numbers):
            return _Numbers(_scattered(read.values, which, len(rows)), is_there)
        if isinstance(read, _Texts):
            starts = _scattered(read.starts - HEADER_BYTES, which, len(rows)) + HEADER_BYTES
            return _Texts(starts, _scattered(read.lengths, which, len(rows)))
        return _Items(_scattered(read.counts, which, len(rows)), which[read.owners], read.members)

    def _move(self, rows: Longs, to: Longs) -> None:
        ends = self._ends[rows]
        beyond = to > ends
        if beyond.any():
            self.fail(rows[beyond])
            to = np.minimum(to, ends)
        self._at[rows] = to

    def _bytes(self, rows: Longs) -> Bytes:
        at = self._at[rows]
        self._move(rows, at + 1)
        found: Bytes = self.buffer[at]
        return found

    def _longs(self, rows: Longs) -> Longs:
        at = self._at[rows]
        byte = self.buffer[at]
        zigzag = (byte & 0x7F).astype(np.uint64)
        at += 1
        more = np.flatnonzero(byte > 0x7F)
        for shift in range(7, 70, 7):
            if not len(more):
                break
            byte = self.buffer[at[more]]
            zigzag[more] |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
            at[more] += 1
            # Not its shortest form, or beyond 64 bits.
            self.fail(rows[more[(byte == 0) | (byte > 1) & (shift == 63)]])
            more = more[byte > 0x7F]
        self._move(rows, at)
        values: Longs = (zigzag >> np.uint64(1)).astype(np.int64) ^ -(zigzag & np.uint64(1)).astype(np.int64)
        return values

    def _texts(self, rows: Longs) -> _Texts:
        lengths = self._longs(rows)
        starts = self._at[rows]
        wrong = (lengths < 0) | (lengths > self._ends[rows] - starts)
        if wrong.any():
            self.fail(rows[wrong])
            lengths = np.where(wrong, 0, lengths)
        self._move(rows, starts + lengths)
        return _Texts(starts, lengths)

    def _items(self, kind: Type, rows: Longs) -> _Items:
        assert kind.item is not None
        members = [field.type for field in kind.item.fields] or [kind.item]
        counts = self._longs(rows)
        wrong = (counts < 0) | (counts > _ITEMS_MAX)
        self.fail(rows[wrong])
        counts[wrong] = 0
        passes = [np.flatnonzero(counts > index) for index in range(int(counts.max(initial=0)))]
        passes.append(np.empty(0, np.int64))  # so that there is one
        read: list[list[Any]] = [[self.read(member, rows[owners]) for member in members] for owners in passes]
        some = rows[counts > 0]
        self.fail(some[self._longs(some) != 0])  # another block
        owners = np.concatenate(passes)
        order = np.argsort(owners, kind="stable")
        return _Items(counts, owners[order], tuple(_chained(pieces, order) for pieces in zip(*read, strict=True)))


class _Making:
    """Makes a table's columns of what was read."""

    def __init__(self, reader: _Reader, read: Mapping[str, _Read]) -> None:
        self._reader = reader
        self._read = dict(read)
        self._records = np.arange(len(reader.is_fit))

    def spread(self, field: str, members: Sequence[str]) -> None:
        """A row for each item of `field` instead of one for each record."""
        items = self._read.pop(field)
        assert isinstance(items, _Items)
        self._reader.fail(np.flatnonzero(items.counts == 0))
        self._records = items.owners
        self._read = {name: _taken(read, items.owners) for name, read in self._read.items()}
        firsts = np.cumsum(items.counts) - items.counts
        index = np.arange(len(items.owners)) - firsts[items.owners]
        self._read |= dict(zip(members, items.members, strict=True))
        self._read["posting_index"] = _Numbers(index, np.ones(len(index), np.bool_))

    def column(self, column: Column, fields: Sequence[Field]) -> Packed:
        read = self._read[column.field]
        if not isinstance(read, _Items):
            return self._flat(column, column.type, read, self._records)
        if column.type == "String":
            return self._flat(column, "String", self._sentences(read), self._records)
        names = _members(fields, column.field)
        member = read.members[names.index(column.name.rpartition(".")[2])]
        item_type = column.type.removeprefix("Array(").removesuffix(")")
        return PackedLists(read.counts, self._flat(column, item_type, member, read.owners))

    def _flat(self, column: Column, kind: str, read: _Numbers | _Texts, records: Longs) -> PackedTexts | PackedNumbers:
        """`records`: whose each value is."""
        if isinstance(read, _Texts):
            texts = PackedTexts.of_spans(self._reader.buffer, *read)
            self._reader.fail(records[texts.not_utf8()])
            return texts
        if column.bounds is not None:
            low, high, _ = column.bounds
            self._reader.fail(records[(read.values < low) | (read.values > high)])
        nulls = ~read.is_there if kind.startswith("Nullable") else None
        return PackedNumbers(read.values.astype(DTYPES[kind.removeprefix("Nullable(").removesuffix(")")]), nulls)

    def _sentences(self, items: _Items) -> _Texts:
        """Texts of an array in one, with spaces between: the byte before each further one, its length, becomes one."""
        [texts] = items.members
        assert isinstance(texts, _Texts)
        firsts = np.cumsum(items.counts) - items.counts
        some = np.flatnonzero(items.counts)
        is_further = np.ones(len(items.owners), np.bool_)
        is_further[firsts[some]] = False
        self._reader.fail(items.owners[is_further & (texts.lengths > 63)])
        self._reader.buffer[texts.starts[is_further] - 1] = ord(" ")
        lasts = firsts[some] + items.counts[some] - 1
        starts = np.full(len(items.counts), HEADER_BYTES, np.int64)
        starts[some] = texts.starts[firsts[some]]
        lengths = np.zeros(len(items.counts), np.int64)
        lengths[some] = texts.starts[lasts] + texts.lengths[lasts] - starts[some]
        return _Texts(starts, lengths)


def _scattered(values: NDArray[Any], places: Longs, count: int) -> NDArray[Any]:
    """`count` values: these at `places`, 0 elsewhere."""
    all_values = np.zeros(count, values.dtype)
    all_values[places] = values
    return all_values


def _chained(pieces: Sequence[_Flat], order: Longs) -> _Flat:
    """One after the other, then in this order."""
    parts = (np.concatenate(same)[order] for same in zip(*pieces, strict=True))
    return type(pieces[0])(*parts)


def _taken(read: _Read, places: Longs) -> _Read:
    match read:
        case _Numbers(values, is_there):
            return _Numbers(values[places], is_there[places])
        case _Texts(starts, lengths):
            return _Texts(starts[places], lengths[places])
    raise NotImplementedError("an array beside the one that is spread")


def _members(fields: Sequence[Field], name: str) -> list[str]:
    [kind] = [field.type for field in fields if field.name == name]
    assert kind.item is not None
    return [field.name for field in kind.item.fields]

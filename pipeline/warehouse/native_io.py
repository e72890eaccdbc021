"""Blocks in ClickHouse's Native format: packed columns as they are, lists by `clickhouse-driver`'s own writers.

The same driver reads them, so that an answer has the same values wherever it comes from.
A server takes and gives them inside its packets, chDB as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from clickhouse_driver import Client
from clickhouse_driver.block import BlockInfo, ColumnOrientedBlock
from clickhouse_driver.bufferedreader import BufferedSocketReader
from clickhouse_driver.bufferedwriter import BufferedSocketWriter
from clickhouse_driver.columns.service import read_column, write_column
from clickhouse_driver.defines import DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION
from clickhouse_driver.protocol import ClientPacketTypes
from clickhouse_driver.reader import read_binary_str
from clickhouse_driver.varint import read_varint, write_varint
from clickhouse_driver.writer import write_binary_str, write_binary_uint8

from pipeline.warehouse.packed import Packed
from pipeline.warehouse.store import ColumnType, Rows

_BUFFER_BYTES = 1 << 20
_DECIMALS_REMEMBERED_MAX = 10_000
_DECIMAL = re.compile(r"Decimal\((1[0-8]), (\d+)\)")
# Such a time gets the zone that this process is in; every time of the warehouse is UTC.
_ZONELESS = re.compile(r"\bDateTime\b(?!\()")


class BlockClient(Client):  # type: ignore[misc]  # the driver is untyped
    """A client whose `execute(INSERT …, columns, columnar=True)` takes packed columns too; without compression."""

    def send_data(self, sample_block: Any, data: Any, types_check: bool = False, columnar: bool = False) -> int:
        """One block, in the types that the server told; then the empty one that ends an insert."""
        connection = self.connection
        is_newer = connection.server_info.used_revision >= DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION
        columns = [ColumnType(*column) for column in sample_block.columns_with_types]
        block = native_block(columns, data, has_serializations=is_newer)
        write_varint(ClientPacketTypes.DATA, connection.fout)
        write_binary_str("", connection.fout)  # no temporary table
        BlockInfo().write(connection.fout)
        connection.fout.write(block)
        connection.fout.flush()
        self.receive_profile_events()
        connection.send_data(ColumnOrientedBlock())
        self.receive_profile_events()
        return len(data[0])


class _Sink:
    """Stands where the driver's writer expects a socket."""

    def __init__(self) -> None:
        self.content = bytearray()

    def sendall(self, piece: bytes) -> None:
        self.content += piece


class _Context:
    """The part of the driver's connection context that its column readers and writers look at."""

    client_settings: dict[str, Any] = {"use_numpy": False, "strings_as_bytes": False}  # noqa: RUF012  # never changed
    settings: dict[str, Any] = {}  # noqa: RUF012


def native_block(
    columns: Sequence[ColumnType], data: Sequence[Sequence[object]], *, has_serializations: bool = False
) -> bytes:
    """One block. `has_serializations`: each column says how it is written, as servers from 22.3 expect it over the
    network. ValueError when the columns are not equally long."""
    if len({len(values) for values in data}) != 1:
        raise ValueError("columns of different lengths")
    sink = _Sink()
    writer = BufferedSocketWriter(sink, _BUFFER_BYTES)
    write_varint(len(columns), writer)
    write_varint(len(data[0]), writer)
    for column, values in zip(columns, data, strict=True):
        write_binary_str(column.name, writer)
        write_binary_str(column.type, writer)
        if has_serializations:
            write_binary_uint8(0, writer)
        if isinstance(values, Packed) and values.kind == column.type:
            writer.write(values.native())
        else:
            # A copy: the driver puts 0 in the place of each null, and the same rows may have to be inserted again.
            write_column(_Context, column.name, column.type, list(values), writer)
    writer.flush()
    return bytes(sink.content)


def native_header(names: Sequence[str]) -> bytes:
    """A block without rows."""
    return native_block([ColumnType(name, "String") for name in names], [[] for _ in names])


class _Source:
    """Stands where the driver's reader expects a socket."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def recv_into(self, buffer: bytearray) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def rows_of(pieces: Iterator[bytes]) -> Rows:
    """Rows from blocks, cut into pieces anywhere. There is at least one block, with or without rows."""
    reader = BufferedSocketReader(_Source(pieces), _BUFFER_BYTES)
    names, columns = _read_block(reader, read_varint(reader))
    return Rows(names, _rows(reader, columns))


def _rows(reader: Any, columns: list[Any]) -> Iterator[tuple[object, ...]]:
    while True:
        yield from zip(*columns, strict=True)
        try:
            column_count = read_varint(reader)
        except EOFError:  # between two blocks, it is the end
            return
        _, columns = _read_block(reader, column_count)


class _Decimals(dict[int, Decimal]):
    """Decimals by their whole number of units: amounts repeat, and the driver takes 0.6 us to make each anew."""

    def __init__(self, scale: int) -> None:
        self._units = 10**scale

    def __missing__(self, units: int) -> Decimal:
        value: Decimal = Decimal(units) / self._units  # 18 digits at most: exact
        if len(self) < _DECIMALS_REMEMBERED_MAX:
            self[units] = value
        return value


def _read_block(reader: Any, column_count: int) -> tuple[tuple[str, ...], list[Any]]:
    row_count = read_varint(reader)
    names, columns = [], []
    for _ in range(column_count):
        names.append(read_binary_str(reader))
        column_type = _ZONELESS.sub("DateTime('UTC')", read_binary_str(reader))
        columns.append(_read_column(reader, column_type, row_count) if row_count else ())
    return tuple(names), columns


def _read_column(reader: Any, column_type: str, row_count: int) -> Any:
    decimal = _DECIMAL.fullmatch(column_type)
    if decimal is None:
        return read_column(_Context, column_type, row_count, reader)
    values = _Decimals(int(decimal.group(2)))
    return [values[units] for units in read_column(_Context, "Int64", row_count, reader)]

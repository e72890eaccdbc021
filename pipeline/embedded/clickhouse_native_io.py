"""Columns as ClickHouse's Native format, by `clickhouse-driver`'s own column writers: the fastest way into chDB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clickhouse_driver.bufferedwriter import BufferedSocketWriter
from clickhouse_driver.columns.service import write_column
from clickhouse_driver.varint import write_varint
from clickhouse_driver.writer import write_binary_str

from pipeline.warehouse.store import ColumnType, insertable

_BUFFER_BYTES = 1 << 20


class _Sink:
    """Stands where the driver's writer expects a socket."""

    def __init__(self) -> None:
        self.content = bytearray()

    def sendall(self, piece: bytes) -> None:
        self.content += piece


class _Context:
    """The part of the driver's connection context that its column writers look at."""

    client_settings: dict[str, Any] = {"use_numpy": False, "strings_as_bytes": False}  # noqa: RUF012  # never changed
    settings: dict[str, Any] = {}  # noqa: RUF012


def native_block(columns: Sequence[ColumnType], data: Sequence[Sequence[object]]) -> bytes:
    """One block. ValueError when the columns are not equally long."""
    data = insertable(columns, data)
    sink = _Sink()
    writer = BufferedSocketWriter(sink, _BUFFER_BYTES)
    write_varint(len(columns), writer)
    write_varint(len(data[0]), writer)
    for column, values in zip(columns, data, strict=True):
        write_binary_str(column.name, writer)
        write_binary_str(column.type, writer)
        write_column(_Context, column.name, column.type, values, writer)
    writer.flush()
    return bytes(sink.content)

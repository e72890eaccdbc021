"""The warehouse that is a ClickHouse server, over the native protocol.

`clickhouse-driver` connections are not for several threads: inserts share one behind a lock, each query has its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from clickhouse_driver import Client, errors

from pipeline.warehouse.native_io import BlockClient
from pipeline.warehouse.store import ColumnType, Rows, ServerAddress, StoreAway, StoreRefused, name_literal

# The driver logs each failed connection with a traceback; here it becomes one line of StoreAway.
logging.getLogger("clickhouse_driver").setLevel(logging.CRITICAL)

_CONNECT_TIMEOUT_S = 5
_CLOSE_WAIT_S = 0.5
# A server that is alive but says nothing for so long (stopped, or its machine gone) counts as away.
_SILENCE_TIMEOUT_S = 60
# 25 columns of 10,000 rows are about 4 MB, which bounds an export's memory; a large sort goes to the server's disk.
_QUERY_SETTINGS = {"max_block_size": 10_000, "max_bytes_before_external_sort": 256 * 1024 * 1024}

# Server errors that pass by themselves: too busy, shutting down, out of memory or space, too many parts, read-only.
_PASSING_ERRORS = frozenset({159, 202, 203, 209, 210, 236, 241, 242, 243, 252, 319, 394, 425, 999, 1000})


class ClickHouseStore:
    """A database of a server, 18.16 or newer."""

    def __init__(self, address: ServerAddress) -> None:
        self.name = f"ClickHouse at {address.host}:{address.port}, database {address.database}"
        self._address = address
        self._writer = self._client(address.database)
        self._writing = threading.Lock()

    def engine_version(self) -> str:
        [(version,)] = self._without_database("SELECT version()")
        return str(version)

    def create_database(self) -> None:
        self._without_database(f"CREATE DATABASE IF NOT EXISTS {name_literal(self._address.database)}")

    def _without_database(self, sql: str) -> Any:
        client = self._client("")
        with self._explained():
            try:
                return client.execute(sql)
            finally:
                client.disconnect()

    def execute(self, sql: str) -> None:
        with self._writing, self._explained():
            self._writer.execute(sql)

    def insert(self, table: str, columns: Sequence[ColumnType], data: Sequence[Sequence[object]]) -> None:
        names = ", ".join(name_literal(column.name) for column in columns)
        statement = f"INSERT INTO {name_literal(table)} ({names}) VALUES"
        with self._writing, self._explained():
            try:
                self._writer.execute(statement, list(data), columnar=True)
            except BaseException:
                # What stands half-written in the connection must not meet the next insert.
                self._writer.disconnect()
                raise

    def query(self, sql: str) -> Rows:
        client = self._client(self._address.database)
        with self._explained():
            try:
                answer = client.execute_iter(sql, with_column_types=True, settings=_QUERY_SETTINGS)
                names = tuple(name for name, _ in next(answer))
            except BaseException:
                client.disconnect()
                raise
        return Rows(names, self._rows(client, answer))

    def close(self) -> None:
        """An insert that the server does not answer is broken off, so that its thread, and the process, can end."""
        is_idle = self._writing.acquire(timeout=_CLOSE_WAIT_S)
        self._writer.disconnect()
        if is_idle:
            self._writing.release()

    def _rows(self, client: Client, answer: Iterator[tuple[object, ...]]) -> Iterator[tuple[object, ...]]:
        try:
            with self._explained():
                yield from answer
        finally:
            client.disconnect()

    def _client(self, database: str) -> BlockClient:
        return BlockClient(
            self._address.host,
            port=self._address.port,
            database=database,
            user=self._address.user,
            password=self._address.password,
            secure=self._address.is_secure,
            client_name="pstn",
            connect_timeout=_CONNECT_TIMEOUT_S,
            send_receive_timeout=_SILENCE_TIMEOUT_S,
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """The driver's errors as StoreAway or StoreRefused, in one line."""
        try:
            yield
        except errors.ServerException as error:
            line = first_line(error)
            raise (StoreAway if error.code in _PASSING_ERRORS else StoreRefused)(f"{self.name}: {line}") from error
        except (errors.NetworkError, errors.SocketTimeoutError, errors.PartiallyConsumedQueryError) as error:
            raise StoreAway(f"{self.name} does not answer: {first_line(error)}") from error
        except (OSError, EOFError) as error:
            raise StoreAway(f"{self.name} does not answer: {error}") from error
        except errors.Error as error:
            raise StoreRefused(f"{self.name}: {first_line(error)}") from error


def first_line(error: Any) -> str:
    """A driver error without the server's stack trace."""
    text = str(getattr(error, "message", None) or error)
    return text.partition("Stack trace:")[0].strip().replace("\n", " ").removeprefix("DB::Exception: ")

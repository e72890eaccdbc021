"""ClickHouse inside this process: chDB over a folder that belongs to one process at a time.

A process that opens the folder locks it, and answers the others' questions over loopback as long as it has it
(`clickhouse_answers_io`): `pstn report` works while a worker runs, and opens the folder itself when nobody does.
Never fork a process that has it open: a query in the child hangs. kill -9 leaves nothing that blocks the next owner.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from pipeline.embedded.clickhouse_answers_io import Answers, FolderOfAnother
from pipeline.embedded.clickhouse_native_io import native_block
from pipeline.embedded.json_rows import rows_of
from pipeline.warehouse.store import ColumnType, Rows, Store, StoreAway, StoreRefused, name_literal

# A report holds the folder for seconds; a worker that starts meanwhile waits for it.
_TAKE_OVER_WAIT_S = 15.0
_TAKE_OVER_POLL_S = 0.1
_LOCK_FILE = "owner.lock"
_DATA_FOLDER = "data"

_READER_SETTINGS = (
    "SET output_format_json_quote_64bit_integers = 0, output_format_json_quote_decimals = 1,"
    " max_block_size = 10000, max_bytes_before_external_sort = 268435456, readonly = 1"
)
_ROWS_FORMAT = "JSONCompactEachRowWithNamesAndTypes"
_HEADER_LINES = 2

_ERROR_CODE = re.compile(r"Code: (\d+)")
# Out of memory, out of space, too many parts: they pass by themselves.
_PASSING_ERRORS = frozenset({"241", "243", "252"})


def open_folder(folder: Path, *, for_reading: bool = False, wait_s: float = _TAKE_OVER_WAIT_S) -> Store:
    """The folder itself or, `for_reading` only, its present owner's answers.

    StoreRefused when there is nothing to read; StoreAway when another process keeps it for longer than `wait_s`.
    """
    if for_reading and not (folder / _DATA_FOLDER).is_dir():
        raise StoreRefused(f"there is no warehouse in {folder}: let a worker with the role loader fill it")
    deadline_s = time.monotonic() + wait_s
    while True:
        lock = _FolderLock.try_to_take(folder)
        if lock is not None:
            return ChdbStore(folder, lock)
        if for_reading and (other := FolderOfAnother.reach(folder)) is not None:
            return other
        if time.monotonic() > deadline_s:
            raise StoreAway(f"the warehouse in {folder} is open in another process: stop that one, or read only")
        time.sleep(_TAKE_OVER_POLL_S)


class ChdbStore:
    """The engine over one folder. Each query has a connection of its own, so a slow one holds up nobody."""

    def __init__(self, folder: Path, lock: _FolderLock) -> None:
        try:
            from chdb.state import sqlitelike  # noqa: PLC0415  # 280 MB that only an owner needs
        except ImportError:  # the container image leaves it out
            lock.release()
            raise StoreRefused(
                "the embedded warehouse needs the package chdb-core; or name a clickhouse:// server"
            ) from None

        self.name = f"chDB in {folder}"
        self._connect = sqlitelike.connect
        self._path = str(folder / _DATA_FOLDER)
        self._lock = lock
        self._writing = threading.Lock()
        self._is_closed = False
        try:
            with self._explained():
                self._writer = self._connect(self._path)
            self._answers = Answers(folder, self.json_lines)
        except BaseException:
            lock.release()
            raise
        # An engine that is still open when the interpreter ends may crash in its own shutdown.
        atexit.register(self.close)

    def create_database(self) -> None:
        """The folder is the database."""

    def execute(self, sql: str) -> None:
        with self._writing, self._explained():
            self._writer.query(sql)

    def insert(self, table: str, columns: Sequence[ColumnType], data: Sequence[Sequence[object]]) -> None:
        names = ", ".join(name_literal(column.name) for column in columns)
        block = native_block(columns, data)
        statement = f"INSERT INTO {name_literal(table)} ({names})"
        with self._writing, self._explained(), self._writer.send_insert(statement, "Native") as inserter:
            inserter.append(block)
            inserter.finish()

    def query(self, sql: str) -> Rows:
        return rows_of(self.json_lines(sql))

    def json_lines(self, sql: str) -> Iterator[bytes]:
        """The answer as lines of JSON: names, types, then the rows. Read-only, as it is computed."""
        with self._explained():
            reader = self._connect(self._path)
            try:
                reader.query(_READER_SETTINGS)
                is_first = True
                for piece in reader.send_query(sql, _ROWS_FORMAT):
                    lines = piece.bytes().splitlines(keepends=True)
                    yield from lines if is_first else lines[_HEADER_LINES:]
                    is_first = False
                if is_first:  # an empty stream has no header either
                    yield from reader.query(sql, _ROWS_FORMAT).bytes().splitlines(keepends=True)
            finally:
                reader.close()

    def close(self) -> None:
        """Answers what others still ask, then lets the folder go. Once; again does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        atexit.unregister(self.close)
        self._answers.close()
        with self._writing:
            self._writer.close()
        self._lock.release()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError) as error:  # chDB raises both, and its own ChdbError, a RuntimeError
            self._raise(error)

    def _raise(self, error: Exception) -> NoReturn:
        text = str(error).strip().replace("\n", " ")
        code = _ERROR_CODE.search(text)
        kind = StoreAway if code and code.group(1) in _PASSING_ERRORS else StoreRefused
        raise kind(f"{self.name}: {text}") from error


class _FolderLock:
    """An advisory lock that ends with its process, however that ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def try_to_take(cls, folder: Path) -> _FolderLock | None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreRefused(f"no warehouse can be kept in {folder}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return cls(descriptor)

    def release(self) -> None:
        os.close(self._descriptor)

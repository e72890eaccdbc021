"""ClickHouse inside this process: chDB over a folder that belongs to one process at a time.

A process that opens the folder locks it, and answers the others' questions over loopback as long as it has it
(`clickhouse_answers_io`): `pstn report` works while a worker runs, and opens the folder itself when nobody does, for
as long as it takes to read one answer.
Never fork a process that has it open: a query in the child hangs. kill -9 leaves nothing that blocks the next owner.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from typing import Any, NoReturn, TypeVar

from pipeline.embedded.clickhouse_answers_io import Answers, FolderOfAnother
from pipeline.warehouse.native_io import native_block, native_header, rows_of
from pipeline.warehouse.store import FOLDER_WAIT_S, ColumnType, Rows, Store, StoreAway, StoreRefused, name_literal

_FOLDER_POLL_S = 0.1
_LOCK_FILE = "owner.lock"
_DATA_FOLDER = "data"

_READER_SETTINGS = (
    "SET max_block_size = 4096, max_bytes_before_external_sort = 268435456,"
    # Fewer streams of each part, in smaller blocks: an export takes a quarter less memory, and nothing is slower.
    " split_intersecting_parts_ranges_into_layers_final = 0,"
    # Equal keys lie in the same month: FINAL need not look for them across months.
    " do_not_merge_across_partitions_select_final = 1, readonly = 1"
)
# An answer waits here, so that a slow reader of it (a pager) does not hold the folder; a larger one on disk.
_ANSWER_BYTES_IN_MEMORY = 1024 * 1024
_PIECE_BYTES = 64 * 1024

_ERROR_CODE = re.compile(r"Code: (\d+)")
# Out of memory, out of space, too many parts: they pass by themselves.
_PASSING_ERRORS = frozenset({"241", "243", "252"})

_Found = TypeVar("_Found")


def open_folder(folder: Path, *, for_reading: bool = False, wait_s: float = FOLDER_WAIT_S) -> Store:
    """The folder itself or, `for_reading`, its answers.

    StoreRefused when there is nothing to read; StoreAway, now or from a question, when another process keeps the folder
    for longer than `wait_s`.
    """
    if not for_reading:
        return _insist(lambda: _taken(folder), folder, wait_s)
    if not (folder / _DATA_FOLDER).is_dir():
        raise StoreRefused(f"there is no warehouse in {folder}: let a worker with the role loader fill it")
    return FolderReader(folder, wait_s)


def _taken(folder: Path) -> ChdbStore | None:
    lock = _FolderLock.try_to_take(folder)
    return None if lock is None else ChdbStore(folder, lock)


def _insist(attempt: Callable[[], _Found | None], folder: Path, wait_s: float) -> _Found:
    """Again and again until it finds something; StoreAway after `wait_s`."""
    deadline_s = time.monotonic() + wait_s
    while (found := attempt()) is None:
        if time.monotonic() > deadline_s:
            raise StoreAway(f"the warehouse in {folder} is open in another process: stop that one, or read only")
        time.sleep(_FOLDER_POLL_S)
    return found


class FolderReader:
    """Questions only. Each goes to the folder's owner; where there is none, the folder is taken while the answer is
    read, not while it is shown: a worker that starts meanwhile waits for one answer and not for a report."""

    def __init__(self, folder: Path, wait_s: float) -> None:
        self.name = f"chDB in {folder}"
        self._folder = folder
        self._wait_s = wait_s

    def engine_version(self) -> str:
        return _version(self)

    def create_database(self) -> None:
        self._refuse()

    def execute(self, sql: str) -> None:
        self._refuse()

    def insert(self, table: str, columns: Sequence[ColumnType], data: Sequence[Sequence[object]]) -> None:
        self._refuse()

    def query(self, sql: str) -> Rows:
        return _insist(lambda: self._answer(sql), self._folder, self._wait_s)

    def close(self) -> None:
        """Nothing is held between two questions."""

    def _answer(self, sql: str) -> Rows | None:
        store = _taken(self._folder)
        if store is not None:
            # The loader's work, left over from when it ended: a report took 60 MB more for it, and a core.
            store.execute("SYSTEM STOP MERGES")
            return rows_of(self._read(store, sql))
        other = FolderOfAnother.reach(self._folder)
        return None if other is None else other.query(sql)

    def _read(self, store: ChdbStore, sql: str) -> Iterator[bytes]:
        answer = SpooledTemporaryFile(max_size=_ANSWER_BYTES_IN_MEMORY)  # noqa: SIM115  # `_pieces_of` closes it
        try:
            answer.writelines(store.answer_to(sql))
            answer.seek(0)
        except BaseException as error:
            with suppress(OSError):  # it would write once more
                answer.close()
            if isinstance(error, OSError):
                why = f"{gettempdir()} has no room for an answer ({error.strerror}): set TMPDIR to another folder"
                raise StoreRefused(f"{self.name}: {why}") from error
            raise
        finally:
            store.close()
        return _pieces_of(answer)

    def _refuse(self) -> NoReturn:
        raise StoreRefused(f"{self.name}: it was opened for reading")


def _version(store: Store) -> str:
    [(version,)] = store.query("SELECT version()").rows
    return str(version)


def _pieces_of(answer: SpooledTemporaryFile[bytes]) -> Iterator[bytes]:
    with answer:
        while piece := answer.read(_PIECE_BYTES):
            yield piece


class ChdbStore:
    """The engine over one folder. Each query has a connection of its own, so a slow one holds up nobody."""

    def __init__(self, folder: Path, lock: _FolderLock) -> None:
        try:
            sqlitelike = _engine()
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
            self._answers = Answers(folder, self.answer_to)
        except BaseException:
            lock.release()
            raise
        # An engine that is still open when the interpreter ends may crash in its own shutdown.
        atexit.register(self.close)

    def engine_version(self) -> str:
        return _version(self)

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
        return rows_of(self.answer_to(sql))

    def answer_to(self, sql: str) -> Iterator[bytes]:
        """Blocks in the Native format, at least one. Read-only, as it is computed."""
        with self._explained():
            reader = self._connect(self._path)
            try:
                reader.query(_READER_SETTINGS)
                is_empty = True
                for piece in reader.send_query(sql, "Native"):
                    is_empty = False
                    yield piece.bytes()
                if is_empty:  # nor are there names in it
                    [names] = reader.query(sql, "JSONCompactEachRowWithNames").bytes().splitlines()
                    yield native_header(json.loads(names))
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


def _engine() -> Any:  # chdb is untyped
    """280 MB that only an owner needs, without the 40 MB of pyarrow: the engine offers tables for it if it is there."""
    arrow = sys.modules.get("pyarrow")
    if arrow is None:
        sys.modules["pyarrow"] = None  # type: ignore[assignment]  # as Python marks what is not to be imported
    try:
        from chdb.state import sqlitelike  # noqa: PLC0415
    finally:
        if arrow is None:
            del sys.modules["pyarrow"]
    return sqlitelike


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

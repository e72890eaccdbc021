"""What the warehouse asks of a ClickHouse, wherever it runs: a server, or the engine inside this process.

Values go in as columns and come out as rows of `int`, `str`, `Decimal`, `date`, aware `datetime`, `list`, `None`.
SQL is text: 18.16 knows no server-side parameters, so values pass through `literal`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

FOLDER_WAIT_S = 15.0
"""A report holds an embedded folder while it reads one answer, an owner that ends for seconds."""


class StoreAway(Exception):
    """The store does not answer, or is too busy: the same call may succeed later. One line for a person."""


class StoreRefused(Exception):
    """The store understood and refuses: trying again is of no use. One line for a person."""


class Rows(NamedTuple):
    """An answer. `rows` is read once, as it arrives; an error half-way raises StoreAway or StoreRefused from it."""

    names: tuple[str, ...]
    rows: Iterator[tuple[object, ...]]


class ColumnType(NamedTuple):
    """A column of an insert, with its ClickHouse type."""

    name: str
    type: str


class Store(Protocol):
    """One database. May be used from several threads; inserts into it run one after the other."""

    name: str
    """For messages: where it is, without a password."""

    def engine_version(self) -> str:
        """Such as 18.16.1; also where the database is not made yet."""

    def create_database(self) -> None:
        """Makes the database when it is not there."""

    def execute(self, sql: str) -> None:
        """A statement without an answer."""

    def insert(self, table: str, columns: Sequence[ColumnType], data: Sequence[Sequence[object]]) -> None:
        """One block: `data` has a sequence of values for each column. Returns when the store holds the rows.

        After StoreAway it may hold none, some months or all of them: insert the same rows again.
        """

    def query(self, sql: str) -> Rows: ...

    def close(self) -> None: ...


class ServerAddress(NamedTuple):
    """`clickhouse://user:password@host:port/database`, `clickhouses://` for TLS."""

    host: str
    port: int
    database: str
    user: str
    password: str
    is_secure: bool


class FolderAddress(NamedTuple):
    """`chdb:FOLDER`."""

    folder: str


_PORT = 9000
_PORT_SECURE = 9440


def parse_address(url: str) -> ServerAddress | FolderAddress:
    """StoreRefused, with what to type, when it is neither form."""
    if url.startswith("chdb:") and len(url) > len("chdb:"):
        return FolderAddress(url.removeprefix("chdb:"))
    parts = urlsplit(url)
    if parts.scheme in ("clickhouse", "clickhouses"):
        is_secure = parts.scheme == "clickhouses"
        database = parts.path.strip("/")
        try:
            port = (_PORT_SECURE if is_secure else _PORT) if parts.port is None else parts.port
        except ValueError:
            port = 0
        if parts.hostname and port and "/" not in database and not parts.query:
            return ServerAddress(
                parts.hostname,
                port,
                unquote(database) or "default",
                unquote(parts.username or "") or "default",
                unquote(parts.password or ""),
                is_secure,
            )
    raise StoreRefused(f"{hide_password(url)!r} is no warehouse: type clickhouse://HOST:PORT/DATABASE or chdb:FOLDER")


def hide_password(url: str) -> str:
    """The same without what stands before an `@`."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else url


def literal(value: str | int) -> str:
    """A value as it stands in SQL, safe whatever the text holds."""
    if isinstance(value, int):
        return str(int(value))
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\x00", "\\0")
    return f"'{escaped}'"


def name_literal(name: str) -> str:
    """A table's, column's or database's name as it stands in SQL."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"

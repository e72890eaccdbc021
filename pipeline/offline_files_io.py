"""The five outputs of `pstn rate` as files: JSON lines, CSV or Parquet. Same records, same bytes.

A file gets its name when the run has ended well; before that it is called `….part`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.emit.outputs import TIMES, AccountEvent, LedgerEntry, RatedCall, RejectedRecord, json_value

FORMATS = ("jsonl", "csv", "parquet")
ROWS_OF_A_GROUP = 50_000
ACCOUNT_FIELDS = (
    "tenant_id",
    "currency",
    "agreement",
    "balance_micros",
    "overdraft_micros",
    "suspended",
    "lots",
    "pools",
)
NAMES: Mapping[str, Sequence[str]] = {
    "rated_calls": RatedCall._fields,
    "account_events": AccountEvent._fields,
    "ledger_entries": LedgerEntry._fields,
    "rejected": RejectedRecord._fields,
    "accounts": ACCOUNT_FIELDS,
}

_INSTANT = pa.timestamp("ms", tz="UTC")
_NESTED = {
    ("rated_calls", "lots"): pa.list_(pa.struct([("lot_id", pa.string()), ("amount_micros", pa.int64())])),
    ("rated_calls", "table_version"): pa.list_(pa.string()),
    ("account_events", "details"): pa.map_(pa.string(), pa.string()),
    ("ledger_entries", "postings"): pa.list_(pa.struct([("account", pa.string()), ("amount_micros", pa.int64())])),
    ("rejected", "original"): pa.binary(),
    ("accounts", "lots"): pa.list_(
        pa.struct(
            [
                ("lot_id", pa.string()),
                ("purchased_at", _INSTANT),
                ("expires_at", _INSTANT),
                ("remaining_micros", pa.int64()),
            ]
        )
    ),
    ("accounts", "pools"): pa.list_(pa.struct([("pool_id", pa.string()), ("used_minutes", pa.int64())])),
}
_FLAGS = frozenset(("rate_is_ambiguous", "suspended"))
_COUNTS = frozenset(
    (
        "duration_s",
        "billable_minutes",
        "pool_minutes",
        "charged_minutes",
        "rate_micros_per_minute",
        "source_partition",
        "source_offset",
        "ledger_epoch",
        "applied_seq",
        "event_index",
        "entry_index",
    )
)


class Writer(Protocol):
    """Takes records of one kind, their values in the order of `NAMES`."""

    def write(self, values: Sequence[object]) -> None: ...

    def close(self) -> None: ...


class _JsonLines:
    def __init__(self, path: Path, name: str) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8", newline="\n")
        self._fields = NAMES[name]
        self._encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    def write(self, values: Sequence[object]) -> None:
        named = {field: json_value(field, value) for field, value in zip(self._fields, values, strict=True)}
        self._file.write(self._encode(named) + "\n")

    def close(self) -> None:
        self._file.close()


class _Csv:
    """Nested values as compact JSON, null as nothing."""

    def __init__(self, path: Path, name: str) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8", newline="")
        self._fields = NAMES[name]
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(self._fields)

    def write(self, values: Sequence[object]) -> None:
        self._writer.writerow(
            [_csv_cell(json_value(field, value)) for field, value in zip(self._fields, values, strict=True)]
        )

    def close(self) -> None:
        self._file.close()


def _csv_cell(value: object) -> object:
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value


class _Parquet:
    """Columns of one type each; rows are written in groups, so memory stays bounded."""

    def __init__(self, path: Path, name: str) -> None:
        self._schema = pa.schema([(field, _type_of(name, field)) for field in NAMES[name]])
        self._writer = pq.ParquetWriter(path, self._schema)
        self._rows: list[Sequence[object]] = []

    def write(self, values: Sequence[object]) -> None:
        self._rows.append([_parquet_cell(value) for value in values])
        if len(self._rows) == ROWS_OF_A_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            columns = [
                pa.array(column, type=field.type)
                for column, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
            ]
            self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
            self._rows = []


def _type_of(name: str, field: str) -> Any:  # pyarrow is untyped
    nested = _NESTED.get((name, field))
    if nested is not None:
        return nested
    if field in TIMES:
        return _INSTANT
    if field in _FLAGS:
        return pa.bool_()
    return pa.int64() if field in _COUNTS or field.endswith("_micros") else pa.string()


def _parquet_cell(value: object) -> object:
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, tuple | list):
        return [item._asdict() if hasattr(item, "_asdict") else item for item in value]
    return value


_WRITERS: Mapping[str, Callable[[Path, str], Writer]] = {"jsonl": _JsonLines, "csv": _Csv, "parquet": _Parquet}


class OutputFiles:
    """The five files of a folder, which is made if need be. A context: leaving it well gives the files their names."""

    def __init__(self, folder: Path, file_format: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = {name: folder / f"{name}.{file_format}" for name in NAMES}
        self._writers: dict[str, Writer] = {}
        for name, path in self._paths.items():
            self._writers[name] = _WRITERS[file_format](self._part(path), name)

    def write(self, name: str, records: Iterable[Sequence[object]]) -> None:
        writer = self._writers[name]
        for record in records:
            writer.write(record)

    def write_account(self, line: Mapping[str, object]) -> None:
        self._writers["accounts"].write([line[field] for field in ACCOUNT_FIELDS])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers.values():
            writer.close()
        for path in self._paths.values():
            if kind is None:
                self._part(path).replace(path)
            else:
                self._part(path).unlink(missing_ok=True)

    @staticmethod
    def _part(path: Path) -> Path:
        return path.with_name(path.name + ".part")

"""Writes a report to a file or a stream, row by row as it arrives: CSV, JSON, Parquet, and the administrators' archive.

A file is written beside its place and renamed when it is whole: whatever ends the export, no half file is left.
"""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from pipeline.base.calendar import parse_time, to_datetime
from pipeline.warehouse.cells import cell_text, csv_cell
from pipeline.warehouse.store import Rows
from pipeline.warehouse.usage import ReportColumn

_PARQUET_ROWS = 10_000


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A path to write to; `path`, or what it is a link to, is replaced by it when the block ends well. OSError as the
    system has it."""
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield beside
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def write_csv(answer: Rows, out: TextIO) -> int:
    """RFC 4180 with a header; the number of rows. `out` must not translate line ends."""
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(answer.names)
    count = 0
    for row in answer.rows:
        writer.writerow([csv_cell(value) for value in row])
        count += 1
    return count


def write_json(answer: Rows, out: TextIO) -> int:
    """An array of objects, one row a line; money is text with its decimals. The number of rows."""
    count = 0
    out.write("[")
    for row in answer.rows:
        shown = {
            name: value if isinstance(value, int) else cell_text(value)
            for name, value in zip(answer.names, row, strict=True)
        }
        out.write(",\n" if count else "\n")
        out.write(json.dumps(shown, ensure_ascii=False))
        count += 1
    out.write("\n]\n")
    return count


def write_parquet(answer: Rows, columns: Sequence[ReportColumn], path: Path) -> int:
    """Typed columns: decimals, times with their zone, dates. The number of rows."""
    import pyarrow as pa  # noqa: PLC0415  # 45 MB that the other formats do without
    import pyarrow.parquet as pq  # noqa: PLC0415

    types = {
        "text": pa.string(),
        "whole": pa.int64(),
        "money": pa.decimal128(38, 6),
        "cents": pa.decimal128(38, 2),
        "time": pa.timestamp("ms", tz="UTC"),
        "day": pa.date32(),
        "month": pa.string(),
    }
    schema = pa.schema([(column.name, types[column.kind]) for column in columns])
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        while rows := list(islice(answer.rows, _PARQUET_ROWS)):
            arrays = [
                pa.array(_parquet_values(column, values), schema.field(column.name).type)
                for column, values in zip(columns, zip(*rows, strict=True), strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            count += len(rows)
    return count


def _parquet_values(column: ReportColumn, values: Iterable[Any]) -> list[Any]:
    if column.kind == "time":
        return [to_datetime(parse_time(value)) for value in values]
    return list(values)


def write_archive(answer: Rows, path: Path, *, day: date, parameters: dict[str, object]) -> int:
    """The zip that administrators know: `PSTN.calls.[UTC date].csv` and `parameters.json`. The number of calls."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with (
            archive.open(_member(f"PSTN.calls.{day.isoformat()}.csv", day), "w", force_zip64=True) as member,
            io.TextIOWrapper(member, encoding="utf-8", newline="") as out,
        ):
            count = write_csv(answer, out)
        shown = json.dumps(parameters, indent=2, ensure_ascii=False) + "\n"
        archive.writestr(_member("parameters.json", day), shown)
    return count


def _member(name: str, day: date) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, (day.year, day.month, day.day, 0, 0, 0))
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = 0o644 << 16
    return member

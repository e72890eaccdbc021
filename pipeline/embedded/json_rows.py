"""An answer as lines of JSON (ClickHouse's JSONCompactEachRowWithNamesAndTypes) -> rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from pipeline.warehouse.store import Rows

# Half the cost of a line is the call for it.
_LINES_AT_ONCE = 100


def rows_of(lines: Iterator[bytes]) -> Rows:
    """Rows from lines of JSON, with values as the server's driver gives them."""
    names = tuple(json.loads(next(lines)))
    types = json.loads(next(lines))
    converters = [(index, convert) for index, kind in enumerate(types) if (convert := _converter(kind)) is not None]
    return Rows(names, _converted(lines, converters))


def _converted(lines: Iterator[bytes], converters: list[tuple[int, Any]]) -> Iterator[tuple[object, ...]]:
    while some := list(islice(lines, _LINES_AT_ONCE)):
        text = b"[%b]" % b",".join(some)
        try:
            rows = json.loads(text)
        except UnicodeDecodeError:
            found = json.loads(text.decode("utf-8", "surrogateescape"))
            rows = [[_bytes_unless_text(value) for value in row] for row in found]
        for row in rows:
            for index, convert in converters:
                if row[index] is not None:
                    row[index] = convert(row[index])
            yield tuple(row)


def _converter(column_type: str) -> Any:  # Any: a callable from a JSON value
    plain = column_type.removeprefix("Nullable(")
    if plain.startswith("Decimal"):
        return Decimal
    if plain.startswith("DateTime"):
        return lambda text: datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    if plain in ("Date", "Date)"):
        return date.fromisoformat
    return None


def _bytes_unless_text(value: object) -> object:
    if not isinstance(value, str):
        return value
    content = value.encode("utf-8", "surrogateescape")
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content

"""A file of users and their licences -> rows, or every line that is wrong. Pure.

Columns: `user_id`, and `add` or `remove` or both (SKUs, separated by blanks); for users who are to be set up also
`country`, `upn`, `display_name`. Comma, semicolon or tab; UTF-8 with or without a byte order mark. A file with one
wrong line is not obeyed at all.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator
from typing import NamedTuple, Protocol

from pipeline.cdr.command import COUNTRY, is_id, is_text
from pipeline.cdr.decode import shown

REQUIRED = ("user_id",)
OPTIONAL = ("add", "remove", "country", "upn", "display_name")
_SEPARATORS = (",", ";", "\t")
_PROBLEMS_MAX = 20


class UserRow(NamedTuple):
    """One line of the file; `line` counts from 1, the header included."""

    line: int
    user_id: str
    add: tuple[str, ...]
    remove: tuple[str, ...]
    country: str | None
    upn: str | None
    display_name: str | None


class Reader(Protocol):
    """What `csv.reader` returns."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...


class FileRefused(Exception):
    """The file is wrong; `problems` has a line for each place (the first twenty), with what to do."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def parse_users(data: bytes, known_skus: Collection[str]) -> list[UserRow]:
    """All rows, in the file's order. FileRefused when any of them is wrong."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise FileRefused([f"line {line}: the file is not UTF-8: save it as `CSV UTF-8`"]) from None
    if "\x00" in text:
        raise FileRefused(["the file holds NUL characters: save it as `CSV UTF-8`, not as UTF-16"])
    header = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        _check_columns(names)
        rows, problems = _rows(reader, names, known_skus)
    except csv.Error as error:
        raise FileRefused([f"line {reader.line_num}: {error}: look for a quote that is not closed"]) from None
    if problems:
        more = len(problems) - _PROBLEMS_MAX
        raise FileRefused(problems[:_PROBLEMS_MAX] + ([f"and {more} more lines are wrong"] if more > 0 else []))
    if not rows:
        raise FileRefused(["the file has no users: a line for each is expected below the names of the columns"])
    return rows


def _check_columns(names: list[str]) -> None:
    unknown = [name for name in names if name not in REQUIRED + OPTIONAL]
    twice = sorted({name for name in names if names.count(name) > 1})
    wanted = "user_id, add, remove, country, upn, display_name"
    if unknown:
        raise FileRefused([f"line 1: column {shown(unknown[0])} is none of {wanted}"])
    if twice:
        raise FileRefused([f"line 1: column {twice[0]} stands there twice"])
    if "user_id" not in names or not {"add", "remove"} & set(names):
        raise FileRefused([f"line 1: the columns user_id and add (or remove) are needed; known are {wanted}"])


def _rows(reader: Reader, names: list[str], known_skus: Collection[str]) -> tuple[list[UserRow], list[str]]:
    rows: list[UserRow] = []
    problems: list[str] = []
    first_line: dict[str, int] = {}
    for cells in reader:
        line = reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            problems.append(f"line {line}: {len(cells)} cells, the header has {len(names)}")
            continue
        values = {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
        row = UserRow(
            line,
            values["user_id"],
            tuple(values.get("add", "").split()),
            tuple(values.get("remove", "").split()),
            values.get("country") or None,
            values.get("upn") or None,
            values.get("display_name") or None,
        )
        wrong = _wrong(row, known_skus)
        if wrong is None and row.user_id in first_line:
            wrong = f"user {shown(row.user_id)} stands on line {first_line[row.user_id]} already"
        if wrong is not None:
            problems.append(f"line {line}: {wrong}")
            continue
        first_line[row.user_id] = line
        rows.append(row)
    return rows, problems


def _wrong(row: UserRow, known_skus: Collection[str]) -> str | None:
    if not is_id(row.user_id):
        return "user_id is not 1 to 64 characters"
    for sku in (*row.add, *row.remove):
        if sku not in known_skus:
            return f"licence {shown(sku)} is unknown: `pstn licences list` has those that are known"
    both = set(row.add) & set(row.remove)
    if both:
        return f"licence {min(both)} is both added and removed"
    if row.country is not None and not COUNTRY.fits(row.country):
        return f"country {shown(row.country)} is not two capital letters"
    for name, value in (("upn", row.upn), ("display_name", row.display_name)):
        if value is not None and not is_text(value):
            return f"{name} is longer than 256 characters"
    return None

"""The public deck format -> rows of a rate deck, and rows -> the text of a deck file. Pure.

Two headers are known: the published file's own (`Destination Name,Destination Type,Country,Prefix,Price / min`) and its
normalised form (`prefix,iso2,destination,number_class,rate_per_min,connection_fee,currency,published`). Columns are
bound by name: their order differs between published versions.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pipeline.base.money import format_micros, parse_micros
from pipeline.charge.deck_rows import DECK_COLUMNS, PREFIX_DIGITS_MAX
from pipeline.charge.sheet import Problem, Source, is_digits, is_iso2
from pipeline.charge.tariff import NUMBER_CLASSES, RateRow

_NAMES = {
    "prefix": ("prefix",),
    "iso2": ("iso2", "country", "country code"),
    "destination": ("destination", "destination name"),
    "number_class": ("number_class", "destination type"),
    "rate": ("rate_per_min", "rate_per_minute", "price / min"),
    "fee": ("connection_fee",),
    "currency": ("currency",),
}
_OPTIONAL = ("fee", "currency")
_CLASSES = {
    "landline": "geographic",
    "mobile": "mobile",
    "mixed": "",
    "non-geographic": "",
    "": "",
    **{name: name for name in NUMBER_CLASSES},
}


class PublicDeck(NamedTuple):
    """What a published file holds: its outbound rows, each once, and the currency it names (empty: none)."""

    rows: tuple[RateRow, ...]
    currency: str
    repeated_count: int


def read_public_deck(source: Source, problems: list[Problem]) -> PublicDeck:
    """Rows with a fault are reported and left out; a row that is there twice at one price counts once."""
    if not source.digest:
        return PublicDeck((), "", 0)
    lines = csv.reader(io.StringIO(source.text, newline=""), strict=True)
    rows: dict[tuple[str, str], tuple[RateRow, int]] = {}
    currencies: set[str] = set()
    repeated_count = 0
    try:
        columns = _columns(source.name, next(lines, []), problems)
        for cells in lines if columns else ():
            if not cells:
                continue
            if len(cells) <= max(columns.values()):
                problems.append(Problem(source.name, lines.line_num, "", "the row is too short"))
                continue
            row = _row(source.name, lines.line_num, columns, cells, problems)
            if row is None:
                continue
            if "currency" in columns:
                currencies.add(cells[columns["currency"]].strip())
            first, line = rows.setdefault((row.prefix, row.number_class), (row, lines.line_num))
            if line != lines.line_num and first.price == row.price:
                repeated_count += 1
            elif line != lines.line_num:
                what = f"{row.prefix!r} stands already in line {line}, at another price"
                problems.append(Problem(source.name, lines.line_num, "prefix", what))
    except csv.Error as error:
        problems.append(Problem(source.name, lines.line_num, "", f"no CSV: {error}"))
    if len(currencies) > 1:
        problems.append(Problem(source.name, 1, "currency", f"more than one: {', '.join(sorted(currencies))}"))
    return PublicDeck(tuple(row for row, _ in rows.values()), min(currencies, default=""), repeated_count)


def _columns(file: str, header: Sequence[str], problems: list[Problem]) -> dict[str, int]:
    named = {name.strip().lower(): index for index, name in enumerate(header)}
    columns: dict[str, int] = {}
    for column, names in _NAMES.items():
        found = [named[name] for name in names if name in named]
        if found:
            columns[column] = found[0]
    missing = [" or ".join(names) for column, names in _NAMES.items() if column not in (*columns, *_OPTIONAL)]
    if missing:
        problems.append(Problem(file, 1, "", f"the header has no column {', no column '.join(missing)}"))
        return {}
    return columns


def _row(
    file: str, line: int, columns: dict[str, int], cells: Sequence[str], problems: list[Problem]
) -> RateRow | None:
    text = {column: cells[index].strip() for column, index in columns.items()}
    faults = list(_faults(text))
    problems.extend(Problem(file, line, column, what) for column, what in faults)
    if faults:
        return None
    return RateRow(
        prefix=text["prefix"].removeprefix("+"),
        direction="outbound",
        number_class=_CLASSES[text["number_class"].lower()],
        destination=text["destination"],
        iso2=text["iso2"],
        rate_micros_per_minute=parse_micros(text["rate"]),
        connection_fee_micros=parse_micros(text.get("fee") or "0"),
    )


def _faults(text: dict[str, str]) -> Iterator[tuple[str, str]]:
    prefix = text["prefix"].removeprefix("+")
    if not 0 < len(prefix) <= PREFIX_DIGITS_MAX or not is_digits(prefix):
        yield "prefix", f"{text['prefix']!r} must be 1 to {PREFIX_DIGITS_MAX} digits"
    if text["iso2"] and not is_iso2(text["iso2"]):
        yield "country", f"{text['iso2']!r} must be two capital letters"
    if text["number_class"].lower() not in _CLASSES:
        yield "number class", f"{text['number_class']!r} is none of {', '.join(name for name in _CLASSES if name)}"
    for column in ("rate", "fee"):
        try:
            if parse_micros(text.get(column) or ("" if column == "rate" else "0")) < 0:
                yield column, f"{text[column]!r} is negative"
        except ValueError as error:
            yield column, str(error)


def deck_text(rows: Iterable[RateRow]) -> str:
    """The text of a deck file: rows sorted by direction (outbound first), prefix and class; the same rows, one text."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(DECK_COLUMNS)
    for row in sorted(rows, key=lambda row: (row.direction != "outbound", row.prefix, row.number_class)):
        fee = format_micros(row.connection_fee_micros, 4) if row.connection_fee_micros else ""
        rate = format_micros(row.rate_micros_per_minute, 4)
        writer.writerow((row.prefix, row.direction, row.number_class, row.destination, row.iso2, rate, fee))
    return out.getvalue()

"""Writes a published deck into a folder of tables, as the deck of one tariff from one date on.

The published file has outbound rows only, and a deck is whole: the inbound rows of the deck that it replaces, else of
the tariff's deck before that date, are carried over. Nothing is written unless all of it is good; the files appear
whole or not at all.
"""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path
from typing import NamedTuple

from pipeline.charge.deck_rows import parse_deck
from pipeline.charge.public_deck import deck_text, read_public_deck
from pipeline.charge.sheet import Problem, Source, date_ms
from pipeline.charge.table_rows import TARIFF_COLUMNS, TariffRow, parse_tariffs
from pipeline.charge.tables_io import RATES_FOLDER, TableError, load_deck, read_source, refuse
from pipeline.charge.tariff import Deck


class NewTariff(NamedTuple):
    """What tariffs.csv has to know of a tariff that it does not name yet."""

    currency: str | None
    kind: str
    description: str | None


class Imported(NamedTuple):
    """What was written: the deck and its file, the deck that it replaces or follows, rows carried over, rows that stood
    there twice."""

    deck: Deck
    file: Path
    before: Deck | None
    inbound_count: int
    repeated_count: int
    is_new_tariff: bool


def import_deck(source: Path, folder: Path, *, tariff: str, date: str, new: NewTariff, is_forced: bool) -> Imported:
    """TableError when the source or the folder's tariffs.csv has a fault, or the deck is there and not `is_forced`."""
    problems: list[Problem] = []
    published = read_public_deck(read_source(source, problems), problems)
    if not published.rows and not problems:
        problems.append(Problem(str(source), 0, "", "has no rows"))
    refuse(problems)
    listed = _tariffs(folder / "tariffs.csv")
    added = None if tariff in listed else _new_row(tariff, published.currency, new, source)
    currency = listed[tariff].currency if added is None else added.currency
    if published.currency not in ("", currency):
        raise TableError(f"{source}: column currency: is {published.currency}, the tariff {tariff} is {currency}")
    place = folder / RATES_FOLDER / tariff
    file = place / f"{date}.csv"
    if file.exists() and not is_forced:
        raise TableError(f"{file} is there already: calls may have been rated with it; another date, or --force")
    before = load_deck(file) if file.exists() else _deck_before(place, date)
    inbound = [row for row in before.rows() if row.direction == "inbound"] if before else []
    text = deck_text([*published.rows, *inbound])
    made = Source(str(file), text, hashlib.sha256(text.encode()).hexdigest())
    deck = parse_deck(made, tariff=tariff, date=date, problems=problems)
    refuse(problems)
    place.mkdir(parents=True, exist_ok=True)
    _write_whole(file, text)
    if added is not None:
        _write_whole(folder / "tariffs.csv", _tariffs_text([*listed.values(), added]))
    return Imported(deck, file, before, len(inbound), published.repeated_count, added is not None)


def _tariffs(file: Path) -> dict[str, TariffRow]:
    if not file.exists():
        return {}
    problems: list[Problem] = []
    listed = parse_tariffs(read_source(file, problems), problems)
    refuse(problems)
    return listed


def _new_row(tariff: str, currency: str, new: NewTariff, source: Path) -> TariffRow:
    """A line that tariffs.csv will take: read back before anything is written."""
    named = new.currency or currency
    if not named:
        raise TableError(f"{source} names no currency, and {tariff} is a new tariff: give --currency")
    description = new.description or f"imported from {source.name}"
    row = TariffRow(tariff, named, new.kind, description, source.name, 0)
    problems: list[Problem] = []
    parse_tariffs(Source(f"the new tariff {tariff!r}", _tariffs_text([row]), "new"), problems)
    if problems:
        raise TableError(f"{problems[0].file}: {problems[0].what}")
    return row


def _tariffs_text(rows: list[TariffRow]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(TARIFF_COLUMNS)
    writer.writerows(row[:-1] for row in rows)
    return out.getvalue()


def _deck_before(place: Path, date: str) -> Deck | None:
    """The deck in force until `date`; files that are no decks are left to `pstn tables check`."""
    earlier = []
    for file in place.glob("*.csv"):
        try:
            if date_ms(file.stem) < date_ms(date):
                earlier.append(file)
        except ValueError:
            continue
    return load_deck(max(earlier)) if earlier else None


def _write_whole(file: Path, text: str) -> None:
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8", newline="")
    unfinished.replace(file)

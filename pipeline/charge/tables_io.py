"""Reads a folder of rating tables. All or nothing: a worker never starts on a table with a bad row.

`load_tables` raises on the first fault; `read_tables` collects them all, for `pstn tables check`.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.charge.deck_rows import parse_deck
from pipeline.charge.sheet import Problem, Source, date_ms
from pipeline.charge.table_rows import (
    TariffRow,
    parse_allowances,
    parse_conferencing,
    parse_countries,
    parse_licences,
    parse_tariffs,
)
from pipeline.charge.tables import Tables
from pipeline.charge.tariff import Deck, RateRow, Tariff

RATES_FOLDER = "rates"
_DECK_SUFFIX = ".csv"
_FREEZE_ROW_COUNT = 200_000  # below that a collection of the rows takes less than 20 ms


class TableError(ValueError):
    """`FILE:LINE: column X: what is wrong`: one line for a person."""


def load_tables(folder: Path) -> Tables:
    """The tables of a folder; TableError names the first fault and how many more there are."""
    tables, problems = read_tables(folder)
    refuse(problems, f": pstn tables check {folder}")
    return tables


Lines = dict[str, dict[RateRow, int]]
"""Where the rows of each deck file stand."""


def deck_file(folder: Path, deck: Deck) -> Path:
    """The file of a deck inside a folder of tables."""
    return folder / RATES_FOLDER / deck.tariff / f"{deck.table_version[1]}{_DECK_SUFFIX}"


def read_tables(folder: Path, lines: Lines | None = None) -> tuple[Tables, list[Problem]]:
    """The good rows, and everything that is wrong with the others. `lines`, when given, is filled by deck file."""
    problems: list[Problem] = []
    if not folder.is_dir():
        problems.append(Problem(str(folder), 0, "", "is no folder"))
        return Tables(tariffs=(), licences=(), countries=(), allowances={}, conferencing={}), problems
    licences = parse_licences(read_source(folder / "licences.csv", problems), problems)
    countries = parse_countries(read_source(folder / "countries.csv", problems), problems)
    allowances = parse_allowances(read_source(folder / "allowances.csv", problems), licences, problems)
    conferencing = parse_conferencing(
        read_source(folder / "conferencing_allowances.csv", problems), licences, countries, problems
    )
    rows = parse_tariffs(read_source(folder / "tariffs.csv", problems), problems)
    with _without_collector():
        tariffs = list(_tariffs(folder, rows, problems, lines))
    if sum(deck.row_count for tariff in tariffs for deck in tariff.decks) > _FREEZE_ROW_COUNT:
        gc.collect()
        gc.freeze()  # a look-up at a million rows costs three times as much while each collection walks over them
    tables = Tables(
        tariffs=tariffs,
        licences=licences.values(),
        countries=countries.values(),
        allowances=allowances,
        conferencing=conferencing,
    )
    return tables, problems


def load_deck(file: Path) -> Deck:
    """One deck file on its own: the tariff is the folder's name, the date the file's (or 1970 when it has none)."""
    problems: list[Problem] = []
    try:
        date_ms(file.stem)
        date = file.stem
    except ValueError:
        date = "1970-01-01"
    with _without_collector():
        source = read_source(file, problems)
        deck = parse_deck(source, tariff=file.resolve().parent.name, date=date, problems=problems)
    refuse(problems)
    return deck


def refuse(problems: list[Problem], advice: str = "") -> None:
    """TableError with the first problem, if there is one, and how many more there are."""
    if problems:
        more = f" (and {len(problems) - 1} more{advice})" if len(problems) > 1 else ""
        raise TableError(f"{problems[0]}{more}")


def read_source(file: Path, problems: list[Problem]) -> Source:
    """A file's text; a missing, unreadable or undecodable one is a problem and reads as an empty text."""
    try:
        content = file.read_bytes()
    except OSError as error:
        problems.append(Problem(str(file), 0, "", f"cannot be read: {error.strerror}"))
        return Source(str(file), "", "")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.append(Problem(str(file), line, "", f"is no UTF-8 at byte {error.start}"))
        return Source(str(file), "", "")
    return Source(str(file), text, hashlib.sha256(content).hexdigest())


def _tariffs(
    folder: Path, rows: dict[str, TariffRow], problems: list[Problem], lines: Lines | None
) -> Iterator[Tariff]:
    rates = folder / RATES_FOLDER
    entries = sorted(rates.iterdir()) if rates.is_dir() else []
    for entry in entries:
        if entry.is_dir() and entry.name not in rows and not entry.name.startswith("."):
            problems.append(Problem(str(entry), 0, "", f"{entry.name!r} is no tariff of tariffs.csv"))
        elif entry.suffix == _DECK_SUFFIX and not entry.is_dir():
            problems.append(Problem(str(entry), 0, "", "a deck belongs in the folder of its tariff"))
    for row in rows.values():
        file, place = str(folder / "tariffs.csv"), rates / row.name
        if not place.is_dir():
            problems.append(Problem(file, row.line, "tariff", f"{place} is missing"))
            continue
        decks = list(_decks(place, row.name, problems, lines))
        if not decks:
            problems.append(Problem(file, row.line, "tariff", f"{place} has no deck"))
        yield Tariff(
            name=row.name,
            currency=row.currency,
            kind=row.kind,
            description=row.description,
            source=row.source,
            decks=decks,
        )


def _decks(place: Path, tariff: str, problems: list[Problem], lines: Lines | None) -> Iterator[Deck]:
    for file in sorted(place.iterdir()):
        if file.name.startswith("."):
            continue
        try:
            date_ms(file.stem)
            is_deck = file.suffix == _DECK_SUFFIX
        except ValueError:
            is_deck = False
        if not is_deck:
            problems.append(Problem(str(file), 0, "", "a deck's name must be its date: YYYY-MM-DD.csv"))
            continue
        row_lines = None if lines is None else lines.setdefault(str(file), {})
        source = read_source(file, problems)
        yield parse_deck(source, tariff=tariff, date=file.stem, problems=problems, row_lines=row_lines)


@contextmanager
def _without_collector() -> Iterator[None]:
    """A million rows make a million objects and no cycle: the cyclic collector would only look at them in vain."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

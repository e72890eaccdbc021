"""Everything that the rating tables could do to money although each row is well formed (records.md section 4). Pure.

Bad rows are found while reading (`table_rows.py`, `deck_rows.py`); here rows are held against each other, against the
countries of the world, and against the tables that were in use before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from pipeline.base.calendar import format_time
from pipeline.cdr.number_plan import split_calling_code
from pipeline.charge.check_deck import check_deck, check_destinations, check_successor
from pipeline.charge.finding import Finding, Kind
from pipeline.charge.sheet import Problem
from pipeline.charge.tables import Period, Tables
from pipeline.charge.tariff import Deck, RateRow, Tariff

_POOL_KINDS = {"domestic": ("calling_domestic", "calling_international"), "international": ("calling_international",)}
_PAYING_KINDS = (
    "calling_domestic",
    "calling_international",
    "calling_payg",
    "conferencing",
    "conferencing_per_minute",
    "extended_dial_out",
)


class Folder(NamedTuple):
    """Tables as they were read: what each deck file is called, and where its rows stand."""

    tables: Tables
    name_of: Callable[[Deck], str]
    lines: Mapping[str, Mapping[RateRow, int]]
    file_of: Callable[[str], str]

    def line_of(self, deck: Deck) -> Callable[[RateRow], int]:
        lines = self.lines.get(self.name_of(deck), {})
        return lambda row: lines.get(row, 0)


def check(
    folder: Folder, problems: Iterable[Problem], previous: Tables | None, is_country: Callable[[str], bool]
) -> list[Finding]:
    """All findings, errors first, then by kind and place."""
    tables = folder.tables
    found = [Finding(Kind.BAD_ROW, *problem) for problem in problems]
    found += _check_licences(folder)
    found += _check_allowances(folder)
    found += _check_countries(folder, is_country)
    for tariff in tables.tariffs.values():
        found += _check_tariff(folder, tariff, is_country)
        if previous is not None and tariff.name in previous.tariffs:
            found += _check_against(folder, tariff, previous.tariffs[tariff.name])
    if previous is not None:
        found += _check_previous(folder, previous)
    order = {kind: index for index, kind in enumerate(Kind)}
    return sorted(found, key=lambda finding: (finding.severity, order[finding.kind], finding[1:]))


def _check_tariff(folder: Folder, tariff: Tariff, is_country: Callable[[str], bool]) -> Iterator[Finding]:
    tables, digests, before = folder.tables, set[str](), None
    for deck in tariff.decks:
        file, line_of = folder.name_of(deck), folder.line_of(deck)
        if deck.table_version[2] not in digests:  # the same rows need no second warning
            digests.add(deck.table_version[2])
            yield from check_deck(deck, file=file, line_of=line_of, countries=tables.countries, is_country=is_country)
            if tariff.kind == "subscription":
                listed = (country.iso2 for country in tables.countries.values() if country.international_plan)
                yield from check_destinations(deck, file=file, listed=listed)
        if before is not None:
            name = before.table_version[1]
            yield from check_successor(before, deck, file=file, line_of=line_of, old_name=name)
        before = deck


def _check_against(folder: Folder, tariff: Tariff, old: Tariff) -> Iterator[Finding]:
    file = folder.file_of("tariffs.csv")
    if (tariff.currency, tariff.kind) != (old.currency, old.kind):
        what = f"{tariff.name} is {tariff.currency} {tariff.kind}, was {old.currency} {old.kind}: use a new name"
        yield Finding(Kind.CURRENCY_CHANGED, file, 0, "currency", what)
    versions = {deck.table_version[1]: deck for deck in tariff.decks}
    for deck in old.decks:
        date, digest = deck.table_version[1:]
        if date not in versions:
            yield Finding(Kind.DECK_LOST, file, 0, "", f"{tariff.name} had a deck of {date}: its calls change price")
        elif versions[date].table_version[2] != digest:
            what = f"other rows than before ({digest}): calls rated with them cannot be recomputed; use a new date"
            yield Finding(Kind.DECK_CHANGED, folder.name_of(versions[date]), 0, "", what)
    if tariff.decks and old.decks:
        new, last = tariff.decks[-1], old.decks[-1]
        held = {deck.table_version[2] for deck in tariff.decks[:-1]}
        if last.table_version[2] not in held and last.table_version[2] != new.table_version[2]:
            file, line_of = folder.name_of(new), folder.line_of(new)
            name = f"{last.table_version[1]} before"
            yield from check_successor(last, new, file=file, line_of=line_of, old_name=name)


def _check_licences(folder: Folder) -> Iterator[Finding]:
    file = folder.file_of("licences.csv")
    with_minutes = {sku for (sku, _, _), _ in folder.tables.allowances()}
    with_minutes |= {sku for sku, _ in folder.tables.conferencing_allowances()}
    for licence in folder.tables.licences.values():
        if licence.kind in _PAYING_KINDS and not licence.capability:
            what = f"{licence.sku} pays for calls and has no code to report"
            yield Finding(Kind.LICENCE_WITHOUT_CAPABILITY, file, 0, "capability", what)
        has_pool = licence.kind in (*_POOL_KINDS["domestic"], "conferencing")
        if has_pool and licence.sku not in with_minutes:
            yield Finding(
                Kind.ALLOWANCE_MISSING, file, 0, "sku", f"{licence.sku} has no minutes anywhere: its pools are 0"
            )


def _check_allowances(folder: Folder) -> Iterator[Finding]:
    tables, file = folder.tables, folder.file_of("allowances.csv")
    for (sku, country, scope), rows in tables.allowances():
        name = f"{sku} {country} {scope}"
        if tables.licences[sku].kind not in _POOL_KINDS[scope]:
            what = f"{name}: no call draws on it, the licence is {tables.licences[sku].kind}"
            yield Finding(Kind.ALLOWANCE_UNUSED, file, 0, "sku", what)
        yield from _gaps(file, name, [period for period, _ in rows])
        if country not in tables.countries:
            yield Finding(Kind.COUNTRY_NOT_LISTED, file, 0, "country", f"{name}: the country is not in countries.csv")
        yield from _uneven(folder, sku, country, scope, [period for period, _ in rows])
    file = folder.file_of("conferencing_allowances.csv")
    for sku, allowances in tables.conferencing_allowances():
        if tables.licences[sku].kind != "conferencing":
            what = f"{sku}: no call draws on it, the licence is {tables.licences[sku].kind}"
            yield Finding(Kind.ALLOWANCE_UNUSED, file, 0, "sku", what)
        yield from _gaps(file, sku, [period for period, _ in allowances])


def _gaps(file: str, name: str, periods: list[Period]) -> Iterator[Finding]:
    ordered = sorted(periods)
    for period, following in pairwise(ordered):
        if period.to_ms is not None and period.to_ms < following.from_ms:
            what = f"{name}: nothing from {_day(period.to_ms)} to {_day(following.from_ms)}"
            yield Finding(Kind.ALLOWANCE_GAP, file, 0, "valid_from", what)


def _uneven(folder: Folder, sku: str, country: str, scope: str, periods: list[Period]) -> Iterator[Finding]:
    """Countries that share a pool (R21) should bring the same minutes to it."""
    tables = folder.tables
    group = tables.country(country).pool_group
    for other in sorted(c.iso2 for c in tables.countries.values() if c.pool_group == group and c.iso2 > country):
        for period in periods:
            mine = tables.allowance_minutes(sku, country, scope, period.from_ms)
            theirs = tables.allowance_minutes(sku, other, scope, period.from_ms)
            if mine != theirs:
                what = f"{sku} {scope}: {mine} in {country}, {theirs} in {other}, who share the pool {group}"
                yield Finding(Kind.POOL_UNEVEN, folder.file_of("allowances.csv"), 0, "minutes_per_user", what)


def _check_countries(folder: Folder, is_country: Callable[[str], bool]) -> Iterator[Finding]:
    countries, file = folder.tables.countries, folder.file_of("countries.csv")
    for country in countries.values():
        for other in sorted(country.rates_as_domestic_to):
            if other not in countries and not is_country(other):
                what = f"{country.iso2}: {other!r} is no country"
                yield Finding(Kind.COUNTRY_UNKNOWN, file, 0, "rates_as_domestic_to", what)
        for prefix in country.premium_outbound:
            if prefix != "*" and split_calling_code(prefix) is None:
                what = f"{country.iso2}: premium prefix {prefix} has no calling code that the numbering data know"
                yield Finding(Kind.CALLING_CODE_UNKNOWN, file, 0, "premium_outbound", what)
    for (sku, iso2, scope), _ in folder.tables.allowances():
        if iso2 not in countries and not is_country(iso2):
            file = folder.file_of("allowances.csv")
            yield Finding(Kind.COUNTRY_UNKNOWN, file, 0, "country", f"{sku} {scope}: {iso2!r} is no country")
    for sku, allowances in folder.tables.conferencing_allowances():
        for iso2 in sorted({iso2 for _, allowance in allowances for iso2 in allowance.destinations}):
            if iso2 not in countries and not is_country(iso2):
                file = folder.file_of("conferencing_allowances.csv")
                yield Finding(Kind.COUNTRY_UNKNOWN, file, 0, "destinations", f"{sku}: {iso2!r} is no country")


def _check_previous(folder: Folder, previous: Tables) -> Iterator[Finding]:
    tables = folder.tables
    for sku in previous.licences.keys() - tables.licences.keys():
        what = f"{sku} is gone: users who hold it lose what it paid for"
        yield Finding(Kind.LICENCE_LOST, folder.file_of("licences.csv"), 0, "sku", what)
    for iso2 in previous.countries.keys() - tables.countries.keys():
        what = f"{iso2} is gone: no zone, no international plan, at home only in itself"
        yield Finding(Kind.COUNTRY_LOST, folder.file_of("countries.csv"), 0, "iso2", what)
    for name in previous.tariffs.keys() - tables.tariffs.keys():
        what = f"tariff {name} is gone: accounts that use it cannot be rated"
        yield Finding(Kind.DECK_LOST, folder.file_of("tariffs.csv"), 0, "tariff", what)
    for (sku, country, scope), rows in previous.allowances():
        for period, minutes in rows:
            now = tables.allowance_minutes(sku, country, scope, period.from_ms)
            if now != minutes:
                what = f"{sku} {country} {scope}: {now} minutes from {_day(period.from_ms)}, was {minutes}"
                yield Finding(Kind.ALLOWANCE_CHANGED, folder.file_of("allowances.csv"), 0, "minutes_per_user", what)


def _day(instant_ms: int) -> str:
    return format_time(instant_ms)[:10]

"""The small tables: texts of licences.csv, allowances.csv, ... -> values (records.md section 4). Pure.

Each function reads one file and reports what is wrong into `problems`; a row with a fault is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from pipeline.charge.sheet import Cells, Problem, Source, is_digits, is_iso2, rows_of
from pipeline.charge.tables import (
    ALL_PREMIUM,
    LICENCE_KINDS,
    POOLINGS,
    SCOPES,
    TARIFF_KINDS,
    AllowanceKey,
    ConferencingAllowance,
    Country,
    Licence,
    Period,
)

LICENCE_COLUMNS = ("sku", "holds", "capability", "kind", "pooling", "source")
ALLOWANCE_COLUMNS = ("sku", "country", "scope", "minutes_per_user", "valid_from", "valid_to", "source")
CONFERENCING_COLUMNS = ("sku", "destinations", "minutes_per_licence", "valid_from", "valid_to", "source")
COUNTRY_COLUMNS = (
    "iso2",
    "name",
    "pool_group",
    "rates_as_domestic_to",
    "zone",
    "international_plan",
    "premium_outbound",
    "credits_sold",
    "payg_zone",
)
TARIFF_COLUMNS = ("tariff", "currency", "kind", "description", "source")

ZONE_A = "zone:A"
_CURRENCY = re.compile(r"[A-Z]{3}")
_TARIFF_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # it is also a folder's name


class TariffRow(NamedTuple):
    """A line of tariffs.csv; its decks are files of their own."""

    name: str
    currency: str
    kind: str
    description: str
    source: str
    line: int


def parse_licences(source: Source, problems: list[Problem]) -> dict[str, Licence]:
    """Licences in file order. `holds` of a bundle in a bundle is spelled out, so that one look is enough."""
    rows: dict[str, tuple[Licence, Cells]] = {}
    for line, values in rows_of(source, LICENCE_COLUMNS, problems):
        cells = Cells(source.name, line, LICENCE_COLUMNS, values, problems)
        licence = Licence(
            sku=cells.part_of_id("sku"),
            holds=cells.listed("holds"),
            capability=cells.trimmed("capability"),
            kind=cells.choice("kind", LICENCE_KINDS),
            pooling=cells.choice("pooling", POOLINGS),
            rank=len(rows),
        )
        if licence.sku in rows:
            cells.wrong("sku", f"{licence.sku!r} stands already in line {rows[licence.sku][1].line}")
        elif cells.is_good:
            rows[licence.sku] = licence, cells
    for licence, cells in rows.values():
        for sku in licence.holds:
            if sku not in rows:
                cells.wrong("holds", f"{sku!r} is no SKU of this file")
            elif sku == licence.sku:
                cells.wrong("holds", f"{sku!r} holds itself")
    plain = {sku: licence.holds for sku, (licence, _) in rows.items()}
    return {sku: licence._replace(holds=_held(sku, plain)) for sku, (licence, _) in rows.items()}


def _held(sku: str, holds: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    waiting = list(holds[sku])
    while waiting:
        held = waiting.pop(0)
        if held in holds and held not in found and held != sku:
            found[held] = None
            waiting += holds[held]
    return tuple(found)


def parse_countries(source: Source, problems: list[Problem]) -> dict[str, Country]:
    """Countries in file order. A country is at home in itself, whether its own row says so or not."""
    countries: dict[str, Country] = {}
    for line, values in rows_of(source, COUNTRY_COLUMNS, problems):
        cells = Cells(source.name, line, COUNTRY_COLUMNS, values, problems)
        iso2 = cells.iso2("iso2")
        home = cells.listed("rates_as_domestic_to")
        for other in home:
            if not is_iso2(other):
                cells.wrong("rates_as_domestic_to", f"{other!r} must be two capital letters")
        country = Country(
            iso2=iso2,
            name=cells.name("name"),
            pool_group=cells.part_of_id("pool_group"),
            rates_as_domestic_to=frozenset((iso2, *home)),
            zone=cells.choice("zone", ("A", "")),
            international_plan=cells.choice("international_plan", ("yes", "")) == "yes",
            premium_outbound=_premium(cells),
            credits_sold=cells.choice("credits_sold", ("yes", "no")) == "yes",
            payg_zone=cells.text("payg_zone"),
        )
        if iso2 in countries:
            cells.wrong("iso2", f"{iso2} stands already in an earlier line")
        elif cells.is_good:
            countries[iso2] = country
    return countries


def _premium(cells: Cells) -> tuple[str, ...]:
    """`no` or empty: none; `all`; or prefixes of digits with the country code (R10)."""
    text = cells.text("premium_outbound")
    if text in ("", "no"):
        return ()
    if text == "all":
        return ALL_PREMIUM
    prefixes = cells.listed("premium_outbound")
    for prefix in prefixes:
        if not is_digits(prefix):
            cells.wrong("premium_outbound", f"{prefix!r} must be no, all, or prefixes of digits with ';'")
    return prefixes


def _period(cells: Cells) -> Period:
    from_ms = cells.date_ms("valid_from")
    to_ms = cells.date_ms("valid_to") if cells.text("valid_to") else None
    if cells.is_good and to_ms is not None and to_ms <= from_ms:
        cells.wrong("valid_to", "must be later than valid_from (it is exclusive)")
    return Period(from_ms, to_ms)


def _no_overlap(cells: Cells, period: Period, others: list[tuple[Period, int]]) -> None:
    for other, line in others:
        if period.overlaps(other):
            cells.wrong("valid_from", f"overlaps in time with line {line}")
            return


def parse_allowances(
    source: Source, licences: Mapping[str, Licence], problems: list[Problem]
) -> dict[AllowanceKey, list[tuple[Period, int]]]:
    """Minutes by SKU, country and scope; the periods of one key never overlap (R26)."""
    allowances: dict[AllowanceKey, list[tuple[Period, int]]] = {}
    lines: dict[AllowanceKey, list[tuple[Period, int]]] = {}
    for line, values in rows_of(source, ALLOWANCE_COLUMNS, problems):
        cells = Cells(source.name, line, ALLOWANCE_COLUMNS, values, problems)
        key = (cells.name("sku"), cells.iso2("country"), cells.choice("scope", SCOPES))
        minutes = cells.whole("minutes_per_user")
        period = _period(cells)
        if key[0] not in licences:
            cells.wrong("sku", f"{key[0]!r} is no SKU of licences.csv")
        if cells.is_good:
            _no_overlap(cells, period, lines.get(key, []))
        if cells.is_good:
            allowances.setdefault(key, []).append((period, minutes))
            lines.setdefault(key, []).append((period, line))
    return allowances


def parse_conferencing(
    source: Source, licences: Mapping[str, Licence], countries: Mapping[str, Country], problems: list[Problem]
) -> dict[str, list[tuple[Period, ConferencingAllowance]]]:
    """Dial-out allowances by SKU, `zone:A` spelled out; the periods of one SKU never overlap (R32-R36)."""
    allowances: dict[str, list[tuple[Period, ConferencingAllowance]]] = {}
    lines: dict[str, list[tuple[Period, int]]] = {}
    for line, values in rows_of(source, CONFERENCING_COLUMNS, problems):
        cells = Cells(source.name, line, CONFERENCING_COLUMNS, values, problems)
        sku = cells.name("sku")
        destinations: set[str] = set()
        listed = cells.listed("destinations")
        for destination in listed:
            if destination == ZONE_A:
                destinations.update(country.iso2 for country in countries.values() if country.zone == "A")
            elif is_iso2(destination):
                destinations.add(destination)
            else:
                cells.wrong("destinations", f"{destination!r} must be zone:A or two capital letters")
        if not listed:
            cells.wrong("destinations", "must name zone:A or countries")
        minutes = cells.whole("minutes_per_licence")
        period = _period(cells)
        if sku not in licences:
            cells.wrong("sku", f"{sku!r} is no SKU of licences.csv")
        if cells.is_good:
            _no_overlap(cells, period, lines.get(sku, []))
        if cells.is_good:
            allowance = ConferencingAllowance(minutes, frozenset(destinations))
            allowances.setdefault(sku, []).append((period, allowance))
            lines.setdefault(sku, []).append((period, line))
    return allowances


def parse_tariffs(source: Source, problems: list[Problem]) -> dict[str, TariffRow]:
    """The lines of tariffs.csv by name, in file order."""
    tariffs: dict[str, TariffRow] = {}
    for line, values in rows_of(source, TARIFF_COLUMNS, problems):
        cells = Cells(source.name, line, TARIFF_COLUMNS, values, problems)
        name = cells.name("tariff")
        if name and not _TARIFF_NAME.fullmatch(name):
            cells.wrong("tariff", f"{name!r} must be letters, digits, '_', '.', '-': it is also the name of a folder")
        currency = cells.text("currency")
        if not _CURRENCY.fullmatch(currency):
            cells.wrong("currency", f"{currency!r} must be three capital letters")
        kind = cells.choice("kind", TARIFF_KINDS)
        if name in tariffs:
            cells.wrong("tariff", f"{name!r} stands already in line {tariffs[name].line}")
        elif cells.is_good:
            tariffs[name] = TariffRow(name, currency, kind, cells.text("description"), cells.text("source"), line)
    return tariffs

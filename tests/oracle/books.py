"""The rating tables as plain rows, searched from top to bottom for every question (records.md, section 4)."""

from __future__ import annotations

import csv
import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import phonenumbers
from phonenumbers import PhoneNumberType

CLASS_OF_TYPE = {
    PhoneNumberType.FIXED_LINE: "geographic",
    PhoneNumberType.FIXED_LINE_OR_MOBILE: "geographic",
    PhoneNumberType.VOIP: "geographic",
    PhoneNumberType.UAN: "geographic",
    PhoneNumberType.MOBILE: "mobile",
    PhoneNumberType.TOLL_FREE: "toll_free",
    PhoneNumberType.PREMIUM_RATE: "premium",
    PhoneNumberType.SHARED_COST: "shared_cost",
}
_looked_up: dict[str, tuple[str | None, str]] = {}


def country_and_class(number: str) -> tuple[str | None, str]:
    """What the numbering plan says of `+49…`; a masked tail counts as zeros."""
    if number not in _looked_up:
        try:
            parsed = phonenumbers.parse(number.replace("*", "0"), None)
        except phonenumbers.NumberParseException:
            _looked_up[number] = (None, "unknown")
        else:
            region = phonenumbers.region_code_for_number(parsed)
            number_class = CLASS_OF_TYPE.get(phonenumbers.number_type(parsed), "unknown")
            _looked_up[number] = (None if region in (None, "001") else region, number_class)
    return _looked_up[number]


def is_emergency(short_number: str, country: str) -> bool:
    if short_number == "933" and country in ("US", "CA"):
        return True
    return bool(phonenumbers.is_emergency_number(short_number, country))


def day_ms(text: str) -> int:
    """`2026-03-01` -> ms of its first instant in UTC."""
    day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    return int(day.timestamp()) * 1000


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def micros_of(text: str) -> int:
    exact = Decimal(text or "0") * 1_000_000
    assert exact == int(exact), f"{text} has more than six decimals"
    return int(exact)


def in_force(row: dict[str, str], at_ms: int) -> bool:
    return day_ms(row["valid_from"]) <= at_ms and (not row["valid_to"] or at_ms < day_ms(row["valid_to"]))


class Books:
    """All tables of one folder."""

    def __init__(self, folder: Path) -> None:
        self.licences = rows_of(folder / "licences.csv")
        self.allowances = rows_of(folder / "allowances.csv")
        self.conferencing = rows_of(folder / "conferencing_allowances.csv")
        self.countries = rows_of(folder / "countries.csv")
        self.tariffs = rows_of(folder / "tariffs.csv")
        self.decks = []
        for path in sorted((folder / "rates").glob("*/*.csv")):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
            self.decks.append(
                {
                    "tariff": path.parent.name,
                    "from_ms": day_ms(path.stem),
                    "version": [path.parent.name, path.stem, digest],
                    "rows": rows_of(path),
                }
            )

    def tariff(self, name: str) -> dict[str, str] | None:
        return next((row for row in self.tariffs if row["tariff"] == name), None)

    def knows_sku(self, sku: str) -> bool:
        return any(row["sku"] == sku for row in self.licences)

    def held(self, licences: list[str]) -> list[dict[str, str]]:
        """The rows of `licences.csv`, in its order, of what is assigned and of what the bundles among it hold."""
        skus = set(licences)
        for row in self.licences:
            if row["sku"] in licences and row["holds"]:
                skus |= set(row["holds"].split(";"))
        return [row for row in self.licences if row["sku"] in skus]

    def country(self, iso2: str | None) -> dict[str, str]:
        """The country's row; one that is not listed stands for itself alone."""
        for row in self.countries:
            if row["iso2"] == iso2:
                return row
        own = iso2 or ""
        return {
            "iso2": own, "name": "", "pool_group": own, "rates_as_domestic_to": own, "zone": "",
            "international_plan": "", "premium_outbound": "", "credits_sold": "", "payg_zone": "",
        }  # fmt: skip

    def is_domestic(self, home: str, destination: str | None) -> bool:
        return destination is not None and destination in self.country(home)["rates_as_domestic_to"].split(";")

    def allowance_minutes(self, sku: str, country: str, scope: str, at_ms: int) -> int:
        for row in self.allowances:
            if (row["sku"], row["country"], row["scope"]) == (sku, country, scope) and in_force(row, at_ms):
                return int(row["minutes_per_user"])
        return 0

    def dial_out_minutes(self, sku: str, destination: str | None, at_ms: int) -> int | None:
        """Minutes that each licence gives to the dial-out pool, or None when the destination is not of its row."""
        for row in self.conferencing:
            if row["sku"] == sku and in_force(row, at_ms) and destination is not None:
                for entry in row["destinations"].split(";"):
                    if entry == destination or (entry == "zone:A" and self.country(destination)["zone"] == "A"):
                        return int(row["minutes_per_licence"])
        return None

    def deck(self, tariff: str | None, at_ms: int) -> dict | None:
        decks = [deck for deck in self.decks if deck["tariff"] == tariff and deck["from_ms"] <= at_ms]
        return max(decks, key=lambda deck: deck["from_ms"]) if decks else None

    def find(self, deck: dict | None, direction: str, number: str, number_class: str) -> tuple[dict | None, bool]:
        """The row that prices `+4930…` and whether a hidden tail could make it another price."""
        if deck is None:
            return None, False
        known = number.lstrip("+").rstrip("*")
        hidden = len(number.lstrip("+")) - len(known)
        best, longer = None, {}
        for row in deck["rows"]:
            if row["direction"] != direction or row["number_class"] not in ("", number_class):
                continue
            prefix = row["prefix"]
            if known.startswith(prefix):
                if best is None or (len(prefix), row["number_class"]) > (len(best["prefix"]), best["number_class"]):
                    best = row
            elif prefix.startswith(known) and len(prefix) <= len(known) + hidden:
                longer.setdefault(prefix, []).append(row)
        price = best and (micros_of(best["rate_per_minute"]), micros_of(best["connection_fee"]))
        ambiguous = False
        for rows in longer.values():
            row = max(rows, key=lambda row: row["number_class"])
            if (micros_of(row["rate_per_minute"]), micros_of(row["connection_fee"])) != price:
                ambiguous = True
        return best, ambiguous

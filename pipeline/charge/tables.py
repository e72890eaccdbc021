"""What the rating tables say, as values: licences, allowances, countries and tariffs (records.md section 4).

Nothing here reads a file; `tables_io.py` does. A question about something the tables do not name has a defined answer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from pipeline.charge.tariff import Deck, Match, RateRow, Tariff

__all__ = ["ConferencingAllowance", "Country", "Deck", "Licence", "Match", "Period", "RateRow", "Tables", "Tariff"]

LICENCE_KINDS: Final = (
    "calling_domestic",
    "calling_international",
    "calling_payg",
    "conferencing",
    "conferencing_per_minute",
    "credits",
    "extended_dial_out",
    "other",
)
POOLINGS: Final = ("tenant", "user")
SCOPES: Final = ("domestic", "international")
TARIFF_KINDS: Final = ("subscription", "per_minute_conferencing")
ALL_PREMIUM: Final = ("*",)
"""`premium_outbound` of a country whose premium numbers are all allowed (R10)."""


class Licence(NamedTuple):
    """A SKU part number. `capability`: what a rated call reports (R14, R15: two code lists); `rank`: its row number."""

    sku: str
    holds: tuple[str, ...]
    capability: str
    kind: str
    pooling: str
    rank: int


class Country(NamedTuple):
    """How calls from and to a country are seen. `rates_as_domestic_to`: the countries it calls at home (R21, R25)."""

    iso2: str
    name: str
    pool_group: str
    rates_as_domestic_to: frozenset[str]
    zone: str
    international_plan: bool
    premium_outbound: tuple[str, ...]
    credits_sold: bool
    payg_zone: str


class ConferencingAllowance(NamedTuple):
    """Dial-out minutes of one conferencing licence for a calendar month, and the countries they reach (R32, R35)."""

    minutes_per_licence: int
    destinations: frozenset[str]


class Period(NamedTuple):
    """From an instant until another, exclusive; None: without end. Milliseconds."""

    from_ms: int
    to_ms: int | None

    def holds(self, instant_ms: int) -> bool:
        return self.from_ms <= instant_ms and (self.to_ms is None or instant_ms < self.to_ms)

    def overlaps(self, other: Period) -> bool:
        return (other.to_ms is None or self.from_ms < other.to_ms) and (
            self.to_ms is None or other.from_ms < self.to_ms
        )


AllowanceKey = tuple[str, str, str]
"""sku, country, scope."""


class Tables:
    """Everything that decides a price but the account's own state. Immutable once made."""

    __slots__ = ("_changes", "_conferencing", "_minutes", "_unlisted", "countries", "licences", "tariffs")

    def __init__(
        self,
        *,
        tariffs: Iterable[Tariff],
        licences: Iterable[Licence],
        countries: Iterable[Country],
        allowances: Mapping[AllowanceKey, Iterable[tuple[Period, int]]],
        conferencing: Mapping[str, Iterable[tuple[Period, ConferencingAllowance]]],
    ) -> None:
        self.tariffs: dict[str, Tariff] = {tariff.name: tariff for tariff in tariffs}
        self.licences: dict[str, Licence] = {licence.sku: licence for licence in licences}
        self.countries: dict[str, Country] = {country.iso2: country for country in countries}
        self._minutes = {key: tuple(rows) for key, rows in allowances.items()}
        self._conferencing = {sku: tuple(rows) for sku, rows in conferencing.items()}
        self._unlisted: dict[str, Country] = {}
        periods = [period for rows in self._minutes.values() for period, _ in rows]
        periods += [period for dated in self._conferencing.values() for period, _ in dated]
        self._changes = sorted({instant for period in periods for instant in period if instant is not None})

    def country(self, iso2: str) -> Country:
        """A country that is not listed stands alone: own pool group, at home only in itself, no zone, no premium."""
        country = self.countries.get(iso2) or self._unlisted.get(iso2)
        if country is None:
            country = Country(iso2, "", iso2, frozenset((iso2,)), "", False, (), False, "")
            self._unlisted[iso2] = country  # two capitals: 676 at most
        return country

    def allowance_minutes(self, sku: str, country: str, scope: str, at_ms: int) -> int:
        """Minutes a month for each user of that plan in that country at that instant; 0 when the tables say nothing."""
        for period, minutes in self._minutes.get((sku, country, scope), ()):
            if period.holds(at_ms):
                return minutes
        return 0

    def allowances_since(self, at_ms: int) -> int:
        """Since when the allowances of this instant hold; before the first of all it is the instant itself."""
        changes = self._changes
        if changes and at_ms >= changes[-1]:
            return changes[-1]
        index = bisect_right(changes, at_ms)
        return changes[index - 1] if index else at_ms

    def allowances(self) -> Iterator[tuple[AllowanceKey, tuple[tuple[Period, int], ...]]]:
        """Every plan's minutes with the periods for which they hold."""
        return iter(self._minutes.items())

    def conferencing_allowances(self) -> Iterator[tuple[str, tuple[tuple[Period, ConferencingAllowance], ...]]]:
        """Every conferencing licence's allowance with the periods for which it holds."""
        return iter(self._conferencing.items())

    def conferencing_allowance(self, sku: str, at_ms: int) -> ConferencingAllowance | None:
        """What one licence of that SKU brings at that instant, `zone:A` spelled out; None when nothing is said."""
        for period, allowance in self._conferencing.get(sku, ()):
            if period.holds(at_ms):
                return allowance
        return None

"""Everything that one rate deck could do to money although each of its rows is well formed. Pure.

Orders of magnitude are guarded twice: against the deck before it, and against the other rows of the same country, class
and direction (a published article once printed 0.165 for 0.0165).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import pairwise
from statistics import median_low

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

from pipeline.base.money import MICROS_PER_UNIT, format_micros
from pipeline.cdr.number_plan import split_calling_code
from pipeline.charge.finding import Finding, Kind
from pipeline.charge.tariff import Deck, RateRow

JUMP_FACTOR = 10
"""An order of magnitude: a slipped decimal point."""
MICROS_ABSURD = 10 * MICROS_PER_UNIT
"""Ten a minute, or ten to connect: 14 times the dearest row of the published deck (0.708)."""
_EXAMPLES_MAX = 5

LineOf = Callable[[RateRow], int]


def check_deck(
    deck: Deck, *, file: str, line_of: LineOf, countries: Collection[str], is_country: Callable[[str], bool]
) -> Iterator[Finding]:
    """What is wrong within one deck. `countries`: those of countries.csv; `is_country`: whether ISO 3166 knows it."""
    rows = sorted(deck.rows())
    unknown = [row for row in rows if row.iso2 and row.iso2 not in countries and not is_country(row.iso2)]
    yield from _by_country(Kind.COUNTRY_UNKNOWN, file, line_of, unknown, "is no country of countries.csv or ISO 3166")
    unlisted = [row for row in rows if row.iso2 and row.iso2 not in countries and is_country(row.iso2)]
    yield from _by_country(Kind.COUNTRY_NOT_LISTED, file, line_of, unlisted, "is not in countries.csv")
    for first, row in pairwise(rows):
        if first[:2] == row[:2] and first.iso2 != row.iso2:
            what = f"{row.direction} {row.prefix}: country {row.iso2!r} here, {first.iso2!r} in line {line_of(first)}"
            yield Finding(Kind.CONTRADICTORY_ROWS, file, line_of(row), "iso2", what)
    yield from _absurd(rows, file, line_of)
    yield from _far_from_country(rows, file, line_of)
    nowhere = [row for row in rows if split_calling_code(row.prefix) is None]
    what = "calling codes that the numbering data do not know"
    yield from _rows(Kind.CALLING_CODE_UNKNOWN, file, line_of, nowhere, "prefix", what)
    strangers = [row for row in rows if row.iso2 and not _may_be_of(row.prefix, row.iso2)]
    what = "another country's calling code"
    yield from _rows(Kind.PREFIX_OF_ANOTHER_COUNTRY, file, line_of, strangers, "iso2", what)


def check_destinations(deck: Deck, *, file: str, listed: Iterable[str]) -> Iterator[Finding]:
    """Destinations of the international plan that nothing prices: their calls past the pool are given away (R48)."""
    priced = {row.iso2 for row in deck.rows() if row.direction == "outbound"}
    missing = sorted(set(listed) - priced)
    if missing:
        what = f"{len(missing)} destinations of the international plan have no rate: {' '.join(missing)}"
        yield Finding(Kind.DESTINATION_WITHOUT_RATE, file, 0, "iso2", what, len(missing))


def check_successor(old: Deck, new: Deck, *, file: str, line_of: LineOf, old_name: str) -> Iterator[Finding]:
    """What went wrong from one deck to the next: lost rows, prices of another order of magnitude."""
    lost = [row for row in old.rows() if new.row(row.direction, row.prefix, row.number_class) is None]
    if lost:
        unrated = [row for row in lost if new.find(row.direction, row.prefix, row.number_class).row is None]
        groups = Counter(f"{row.destination} {row.direction}" for row in lost)
        names = ", ".join(f"{name} ({count})" for name, count in sorted(groups.items(), key=_largest)[:_EXAMPLES_MAX])
        what = f"rows gone since {old_name}: {len(lost)}, without any rate now: {len(unrated)}: {names}"
        yield Finding(Kind.ROWS_LOST, file, 0, "prefix", what, len(lost))
    jumps: dict[tuple[str, str, str], list[tuple[RateRow, str]]] = {}
    for row in sorted(new.rows()):
        before = old.row(row.direction, row.prefix, row.number_class)
        if before is None:
            continue
        for column, new_micros, old_micros in (
            ("rate_per_minute", row.rate_micros_per_minute, before.rate_micros_per_minute),
            ("connection_fee", row.connection_fee_micros, before.connection_fee_micros),
        ):
            if _is_jump(old_micros, new_micros):
                prices = f"{format_micros(new_micros, 4)}, was {format_micros(old_micros, 4)}"
                jumps.setdefault((row.direction, row.iso2, column), []).append((row, prices))
    for (_, _, column), group in sorted(jumps.items()):
        row, prices = group[0]
        what = f"an order of magnitude since {old_name}, in {len(group)} rows: {_name(row)}: {prices}"
        yield Finding(Kind.RATE_JUMP, file, min(line_of(row) for row, _ in group), column, what, len(group))


def _is_jump(old_micros: int, new_micros: int) -> bool:
    """From or to nothing is a jump for a price that was there; a fee that is new is not one of magnitude."""
    low, high = sorted((old_micros, new_micros))
    return high >= JUMP_FACTOR * low if low else old_micros > 0


def _absurd(rows: Iterable[RateRow], file: str, line_of: LineOf) -> Iterator[Finding]:
    for row in rows:
        for column, micros in (
            ("rate_per_minute", row.rate_micros_per_minute),
            ("connection_fee", row.connection_fee_micros),
        ):
            if micros >= MICROS_ABSURD:
                what = f"{_name(row)}: {format_micros(micros)} is {format_micros(MICROS_ABSURD)} or more"
                yield Finding(Kind.RATE_ABSURD, file, line_of(row), column, what)


def _far_from_country(rows: Iterable[RateRow], file: str, line_of: LineOf) -> Iterator[Finding]:
    groups: dict[tuple[str, str, str], list[RateRow]] = {}
    for row in rows:
        groups.setdefault((row.direction, row.iso2, row.number_class), []).append(row)
    for (direction, iso2, number_class), group in sorted(groups.items()):
        usual = median_low(row.rate_micros_per_minute for row in group)
        far = [row for row in group if usual and _is_jump(row.rate_micros_per_minute, usual)]
        what = f"{direction} {iso2} {number_class or 'any class'}: {JUMP_FACTOR} times or a tenth of the usual "
        yield from _rows(
            Kind.RATE_FAR_FROM_COUNTRY, file, line_of, far, "rate_per_minute", what + format_micros(usual, 4)
        )


def _may_be_of(prefix: str, iso2: str) -> bool:
    split = split_calling_code(prefix)
    return split is None or iso2 in COUNTRY_CODE_TO_REGION_CODE[split[0]]


def _by_country(kind: Kind, file: str, line_of: LineOf, rows: list[RateRow], what: str) -> Iterator[Finding]:
    counts = Counter(row.iso2 for row in rows)
    for iso2, count in sorted(counts.items()):
        line = min(line_of(row) for row in rows if row.iso2 == iso2)
        yield Finding(kind, file, line, "iso2", f"{iso2!r} {what}", count)


def _rows(kind: Kind, file: str, line_of: LineOf, rows: list[RateRow], column: str, what: str) -> Iterator[Finding]:
    if rows:
        names = ", ".join(f"{row.prefix} {row.iso2}".strip() for row in rows[:_EXAMPLES_MAX])
        more = ", ..." if len(rows) > _EXAMPLES_MAX else ""
        yield Finding(kind, file, min(map(line_of, rows)), column, f"{what}: {names}{more}", len(rows))


def _name(row: RateRow) -> str:
    return f"{row.direction} {row.prefix} {row.number_class}".strip() + f" ({row.destination})"


def _largest(group: tuple[str, int]) -> tuple[int, str]:
    return -group[1], group[0]

"""What changes when one deck follows another: row by row, with the effect on the price of a call. Pure.

A row that is new or gone is compared with what rates its prefix in the other deck (a shorter row, or none), because
that is what a caller notices: a lost row may be harmless, or make the call free, or eleven times dearer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from pipeline.charge.tariff import Deck, RateRow

KINDS = ("added", "removed", "dearer", "cheaper", "relabelled")


class Change(NamedTuple):
    """One row's change. Prices are of a call of one minute, fee included, in micro-units; None: no rate at all."""

    kind: str
    direction: str
    prefix: str
    number_class: str
    destination: str
    iso2: str
    old_price_micros: int | None
    new_price_micros: int | None
    note: str

    @property
    def effect_micros(self) -> int:
        """How much dearer (above zero) or cheaper a call of one minute becomes; no rate counts as a price of 0."""
        return (self.new_price_micros or 0) - (self.old_price_micros or 0)


def diff_decks(old: Deck, new: Deck) -> list[Change]:
    """Every row that differs, the largest effect first; the same decks, the same order."""
    changes = [_compare(row, old, new) for row in new.rows()]
    changes += [_removed(row, new) for row in old.rows() if _counterpart(new, row) is None]
    found = [change for change in changes if change is not None]
    return sorted(found, key=lambda change: (-abs(change.effect_micros), change))


def count_kinds(changes: Iterable[Change]) -> dict[str, int]:
    """How many changes there are of each kind, zeros included."""
    counts = Counter(change.kind for change in changes)
    return {kind: counts[kind] for kind in KINDS}


def _counterpart(deck: Deck, row: RateRow) -> RateRow | None:
    return deck.row(row.direction, row.prefix, row.number_class)


def _minute_price(row: RateRow | None) -> int | None:
    return None if row is None else row.rate_micros_per_minute + row.connection_fee_micros


def _standing_in(deck: Deck, row: RateRow) -> RateRow | None:
    """What rates a number of the row's prefix and class where the row itself is missing."""
    return deck.find(row.direction, row.prefix, row.number_class).row


def _compare(row: RateRow, old: Deck, new: Deck) -> Change | None:
    before = _counterpart(old, row)
    if before is None:
        standing_in = _standing_in(old, row)
        note = "no rate before" if standing_in is None else f"rated by {standing_in.prefix} before"
        return _change("added", row, _minute_price(standing_in), _minute_price(row), note)
    old_price, new_price = _minute_price(before), _minute_price(row)
    if before.price != row.price:
        higher = (new_price or 0, row.rate_micros_per_minute) > (old_price or 0, before.rate_micros_per_minute)
        return _change("dearer" if higher else "cheaper", row, old_price, new_price, _labels(before, row))
    if (before.destination, before.iso2) != (row.destination, row.iso2):
        return _change("relabelled", row, old_price, new_price, _labels(before, row))
    return None


def _removed(row: RateRow, new: Deck) -> Change:
    standing_in = _standing_in(new, row)
    note = "no rate any more" if standing_in is None else f"rated by {standing_in.prefix} now"
    return _change("removed", row, _minute_price(row), _minute_price(standing_in), note)


def _labels(before: RateRow, row: RateRow) -> str:
    notes = []
    if before.iso2 != row.iso2:
        notes.append(f"country was {before.iso2 or 'empty'}")
    if before.destination != row.destination:
        notes.append(f"was {before.destination!r}")
    return "; ".join(notes)


def _change(kind: str, row: RateRow, old_price: int | None, new_price: int | None, note: str) -> Change:
    return Change(
        kind=kind,
        direction=row.direction,
        prefix=row.prefix,
        number_class=row.number_class,
        destination=row.destination,
        iso2=row.iso2,
        old_price_micros=old_price,
        new_price_micros=new_price,
        note=note,
    )

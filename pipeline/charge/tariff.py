"""A rate deck answers one question: which row prices a number (records.md section 4).

Rows of another class are no candidates; then the longest prefix wins; then a row with the call's class before one
without. A number's first four digits lead to a small ordered list, which is searched; lists are made when first asked
for, so that a deck of a million rows loads fast and answers as fast as one of a thousand.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final, NamedTuple

DIRECTIONS: Final = ("outbound", "inbound")
NUMBER_CLASSES: Final = ("geographic", "mobile", "toll_free", "premium", "shared_cost", "emergency", "unknown")

LEAD_DIGITS: Final = 4
"""At most 10,000 lists: about 100 rows each at a million rows, or 1,250 if all of them lie under +1."""

REMEMBERED_COUNT_MAX: Final = 65_536
"""Answers kept for each direction and class of numbers that are short or masked: about 10 MB."""

_AFTER_DIGITS: Final = ":"  # sorts after every digit: the end of the range below a prefix
_MASK: Final = "*"


class RateRow(NamedTuple):
    """One price. `number_class` is empty for any class; money in micro-units of the tariff's currency."""

    prefix: str
    direction: str
    number_class: str
    destination: str
    iso2: str
    rate_micros_per_minute: int
    connection_fee_micros: int

    @property
    def price(self) -> tuple[int, int]:
        """What tells a dearer row from a cheaper one: rate and fee, in micro-units."""
        return self.rate_micros_per_minute, self.connection_fee_micros


class Match(NamedTuple):
    """The row for what is known of a number, and whether a longer row at another price could apply to the rest."""

    row: RateRow | None
    is_ambiguous: bool


class Deck:
    """All rows of one tariff that came into force together, at `valid_from_ms` (00:00 UTC of the date in its name)."""

    __slots__ = ("_any", "_of_class", "row_count", "table_version", "tariff", "valid_from_ms")

    def __init__(
        self, *, tariff: str, valid_from_ms: int, table_version: tuple[str, str, str], rows: Iterable[RateRow]
    ) -> None:
        """`rows` holds each (prefix, direction, class) once: the loader's duty."""
        self.tariff = tariff
        self.valid_from_ms = valid_from_ms
        self.table_version = table_version
        by_key: dict[tuple[str, str], dict[str, RateRow]] = {(direction, ""): {} for direction in DIRECTIONS}
        for row in rows:
            key = (row.direction, row.number_class)
            by_prefix = by_key.get(key)
            if by_prefix is None:
                by_prefix = by_key[key] = {}
            by_prefix[row.prefix] = row
        tables = {key: _Table(by_prefix) for key, by_prefix in by_key.items()}
        self.row_count = sum(len(table.by_prefix) for table in tables.values())
        self._any = {direction: _Candidates(_Table({}), tables[direction, ""]) for direction in DIRECTIONS}
        self._of_class: dict[str, dict[str, _Candidates]] = {direction: {} for direction in DIRECTIONS}
        for (direction, number_class), own in tables.items():
            if number_class:
                self._of_class[direction][number_class] = _Candidates(own, tables[direction, ""])

    def find(self, direction: str, number: str, number_class: str) -> Match:
        """`number`: digits with the country code, without `+`, the tail perhaps masked with `*`."""
        candidates = self._of_class[direction].get(number_class)
        if candidates is None:
            candidates = self._any[direction]
        return candidates.find(number[: candidates.prefix_size_max])  # what comes after it decides nothing

    def row(self, direction: str, prefix: str, number_class: str) -> RateRow | None:
        """Exactly this row, if the deck has it."""
        if not number_class:
            return self._any[direction].unclassed.by_prefix.get(prefix)
        candidates = self._of_class[direction].get(number_class)
        return None if candidates is None else candidates.own.by_prefix.get(prefix)

    def rows(self) -> Iterator[RateRow]:
        """Every row once, in no order that means anything."""
        for direction in DIRECTIONS:
            yield from self._any[direction].unclassed.by_prefix.values()
            for candidates in self._of_class[direction].values():
                yield from candidates.own.by_prefix.values()


class _Table:
    """The rows of one direction and class, by prefix and in order of prefix."""

    __slots__ = ("_in_order", "_ordered", "by_prefix")

    def __init__(self, by_prefix: dict[str, RateRow]) -> None:
        self.by_prefix = by_prefix
        self._in_order = sorted(by_prefix)
        self._ordered: dict[tuple[str, int], _Ordered] = {}

    def under(self, lead: str) -> list[RateRow]:
        """The rows whose prefix begins with `lead`, in order of prefix."""
        low = bisect_left(self._in_order, lead)
        high = bisect_left(self._in_order, lead + _AFTER_DIGITS, low)
        return [self.by_prefix[prefix] for prefix in self._in_order[low:high]]

    def has_other_price(self, known: str, size: int, price: tuple[int, int] | None) -> bool:
        """Whether a row of up to `size` digits that goes on where `known` ends has another price than `price`."""
        lead = known[:LEAD_DIGITS] if len(known) >= LEAD_DIGITS else ""
        ordered = self._ordered.get((lead, size))
        if ordered is None:
            ordered = self._ordered[lead, size] = _Ordered(self.under(lead), size)
        return ordered.has_other_price(known, price)


class _Candidates:
    """The rows that can apply to calls of one direction and class: those of the class, and those of none."""

    __slots__ = ("_buckets", "own", "prefix_size_max", "remembered", "unclassed")

    def __init__(self, own: _Table, unclassed: _Table) -> None:
        self.own = own
        self.unclassed = unclassed
        self.prefix_size_max = max(LEAD_DIGITS + 1, _longest(own), _longest(unclassed))
        self.remembered: dict[str, Match] = {}
        self._buckets: dict[str, _Bucket] = {}

    def find(self, leading: str) -> Match:
        """`leading`: a number, cut to `prefix_size_max`."""
        if len(leading) == self.prefix_size_max and leading[-1] != _MASK:
            bucket = self._buckets.get(leading[:LEAD_DIGITS])
            return (self._bucket(leading[:LEAD_DIGITS]) if bucket is None else bucket).find(leading)
        match = self.remembered.get(leading)
        if match is None:
            match = self._find_partly_known(leading)
            if len(self.remembered) >= REMEMBERED_COUNT_MAX:
                self.remembered.clear()
            self.remembered[leading] = match
        return match

    def _find_partly_known(self, leading: str) -> Match:
        """For a masked tail inside `leading`, and for a number shorter than the longest prefix."""
        known = leading.rstrip(_MASK)
        row = self._row(known)
        if known == leading:
            return Match(row, False)
        price, size = None if row is None else row.price, len(leading)
        is_ambiguous = self.own.has_other_price(known, size, price) or self.unclassed.has_other_price(
            known, size, price
        )
        return Match(row, is_ambiguous)

    def _bucket(self, lead: str) -> _Bucket:
        rows, shorter = self._merged(lead), self._row(lead[:-1])
        bucket = self._buckets[lead] = _Bucket(rows, shorter, self.prefix_size_max)
        return bucket

    def _merged(self, lead: str) -> list[RateRow]:
        own, unclassed = self.own.under(lead), self.unclassed.under(lead)
        if not own or not unclassed:
            return own or unclassed
        taken = self.own.by_prefix
        return sorted([*own, *(row for row in unclassed if row.prefix not in taken)], key=_prefix)

    def _row(self, known: str) -> RateRow | None:
        own, unclassed = self.own.by_prefix, self.unclassed.by_prefix
        for size in range(len(known), 0, -1):
            row = own.get(known[:size]) or unclassed.get(known[:size])
            if row is not None:
                return row
        return None


def _longest(table: _Table) -> int:
    return max(map(len, table.by_prefix), default=0)


class _Bucket:
    """The numbers under one lead as intervals, each with the longest row that matches it: one search, no comparison.

    Keys are the digits after the lead up to the longest prefix, as integers side by side in memory: a search among a
    million scattered texts would wait for each of them.
    """

    __slots__ = ("_digits_end", "_matches", "_starts")

    def __init__(self, rows: Iterable[RateRow], shorter: RateRow | None, digits_end: int) -> None:
        """`rows`: in order of prefix. `shorter`: the row that matches the whole bucket from above. `digits_end`: digits
        known of every number."""
        widths = [10 ** max(0, digits_end - size) for size in range(digits_end + 1)]
        starts, owners = [0], [shorter]
        ends, enclosing = [widths[LEAD_DIGITS]], [shorter]  # the intervals around the current row, outermost first
        for row in rows:
            width = widths[len(row.prefix)]
            start = int(row.prefix[LEAD_DIGITS:] or "0") * width
            while ends[-1] <= start:  # what ended before this row is over: what encloses it goes on
                _begin(starts, owners, ends.pop(), enclosing[-2])
                enclosing.pop()
            _begin(starts, owners, start, row)
            ends.append(start + width)
            enclosing.append(row)
        while len(ends) > 1:
            _begin(starts, owners, ends.pop(), enclosing[-2])
            enclosing.pop()
        self._digits_end = digits_end
        self._starts = array("q", starts)
        self._matches = [Match(owner, False) for owner in owners]

    def find(self, number: str) -> Match:
        return self._matches[bisect_right(self._starts, int(number[LEAD_DIGITS : self._digits_end])) - 1]


def _begin(starts: list[int], owners: list[RateRow | None], start: int, owner: RateRow | None) -> None:
    if starts[-1] == start:
        owners[-1] = owner
    else:
        starts.append(start)
        owners.append(owner)


class _Ordered:
    """Rows of up to `size` digits in order of prefix: finds another price below a prefix in O(log rows)."""

    __slots__ = ("_next_other", "_prefixes", "_price_ids", "_prices")

    def __init__(self, rows: Iterable[RateRow], size: int) -> None:
        ordered = [row for row in rows if len(row.prefix) <= size]
        self._prefixes = [row.prefix for row in ordered]
        self._price_ids: dict[tuple[int, int], int] = {}
        ids = self._price_ids
        prices = [ids.setdefault((row.rate_micros_per_minute, row.connection_fee_micros), len(ids)) for row in ordered]
        next_other, following = [len(ordered)] * len(ordered), len(ordered)
        for index in range(len(ordered) - 2, -1, -1):
            if prices[index] != prices[index + 1]:
                following = index + 1
            next_other[index] = following
        self._prices, self._next_other = array("l", prices), array("l", next_other)

    def has_other_price(self, known: str, price: tuple[int, int] | None) -> bool:
        """Whether a row strictly below `known` has another price than `price`; with None any row counts."""
        low = bisect_left(self._prefixes, known)
        if low < len(self._prefixes) and self._prefixes[low] == known:
            low += 1
        high = bisect_left(self._prefixes, known + _AFTER_DIGITS, low)
        if low == high:
            return False
        return price is None or self._prices[low] != self._price_ids.get(price) or self._next_other[low] < high


_prefix: Final = attrgetter("prefix")


class Tariff:
    """A price list in one currency: its decks in order of the date from which each is in force."""

    __slots__ = ("_newest_first", "currency", "decks", "description", "kind", "name", "source")

    def __init__(
        self, *, name: str, currency: str, kind: str, description: str, source: str, decks: Iterable[Deck]
    ) -> None:
        self.name = name
        self.currency = currency
        self.kind = kind
        self.description = description
        self.source = source
        self.decks = tuple(sorted(decks, key=lambda deck: deck.valid_from_ms))
        self._newest_first = self.decks[::-1]

    def deck_at(self, instant_ms: int) -> Deck | None:
        """The deck in force at an instant; None before the first."""
        for deck in self._newest_first:
            if deck.valid_from_ms <= instant_ms:
                return deck
        return None

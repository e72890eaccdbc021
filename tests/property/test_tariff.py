"""The deck's look-up against the contract's words, taken one by one over all rows."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.charge.tariff import DIRECTIONS, Deck, Match, RateRow

CLASSES = ("", "mobile", "geographic")
# Two or three digits only, and few prices: so that prefixes nest and prices repeat.
PREFIXES = st.text("012", min_size=1, max_size=9)
KEYS = st.tuples(PREFIXES, st.sampled_from(DIRECTIONS), st.sampled_from(CLASSES))
PRICES = st.tuples(st.integers(1, 3), st.integers(0, 1))
NUMBERS = st.builds(str.__add__, st.text("012", max_size=12), st.sampled_from(["", "*", "**", "****", "*******"]))


def find_slowly(rows: list[RateRow], direction: str, number: str, number_class: str) -> Match:
    """records.md section 4 and `rate_is_ambiguous` of section 2, as they stand."""
    known = number.rstrip("*")
    candidates = [row for row in rows if row.direction == direction and row.number_class in (number_class, "")]
    matching = [row for row in candidates if known.startswith(row.prefix)]
    chosen = max(matching, key=lambda row: (len(row.prefix), row.number_class != ""), default=None)
    price = None if chosen is None else (chosen.rate_micros_per_minute, chosen.connection_fee_micros)
    is_ambiguous = any(
        len(known) < len(row.prefix) <= len(number)
        and row.prefix.startswith(known)
        and (row.rate_micros_per_minute, row.connection_fee_micros) != price
        for row in candidates
    )
    return Match(chosen, is_ambiguous)


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(KEYS, PRICES, max_size=30),
    st.lists(st.tuples(st.sampled_from(DIRECTIONS), NUMBERS, st.sampled_from((*CLASSES, "premium"))), max_size=30),
)
def test_the_deck_answers_as_the_contract_reads(
    prices: dict[tuple[str, str, str], tuple[int, int]], calls: list[tuple[str, str, str]]
) -> None:
    """The fast look-up has buckets, intervals and a memory; none of them may show."""
    rows = [RateRow(*key, "somewhere", "", *price) for key, price in prices.items()]
    deck = Deck(tariff="t", valid_from_ms=0, table_version=("t", "1970-01-01", ""), rows=rows)
    for direction, number, number_class in [*calls, *calls]:
        assert deck.find(direction, number, number_class) == find_slowly(rows, direction, number, number_class)


@settings(max_examples=100, deadline=None)
@given(st.lists(PREFIXES, unique=True, min_size=1, max_size=60), NUMBERS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_in_the_file_changes_nothing(prefixes: list[str], number: str, random: object) -> None:
    """A deck sorted another way is the same price list."""
    rows = [RateRow(prefix, "outbound", "", "", "", index, 0) for index, prefix in enumerate(prefixes)]
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (
        Deck(tariff="t", valid_from_ms=0, table_version=("t", "1970-01-01", ""), rows=order)
        for order in (rows, shuffled)
    )
    assert one.find("outbound", number, "mobile") == other.find("outbound", number, "mobile")

"""Which row prices a number: class, longest prefix, row with a class first; and what a masked tail leaves open."""

from __future__ import annotations

import sys

import pytest

from pipeline.charge.tariff import REMEMBERED_COUNT_MAX, Deck, RateRow


def row(prefix: str, rate: int, number_class: str = "", fee: int = 0, direction: str = "outbound") -> RateRow:
    return RateRow(prefix, direction, number_class, "somewhere", "", rate, fee)


def deck(*rows: RateRow) -> Deck:
    return Deck(tariff="t", valid_from_ms=0, table_version=("t", "1970-01-01", "0" * 12), rows=rows)


def prefix_of(found: Deck, number: str, number_class: str = "geographic", direction: str = "outbound") -> str | None:
    match = found.find(direction, number, number_class).row
    return None if match is None else f"{match.prefix} {match.number_class}".strip()


BRITISH = deck(
    row("44", 15),
    row("443", 320),
    row("447", 320, "mobile"),
    row("4475", 310),
    row("447500", 29, "mobile"),
    row("4478", 50),
    row("4478", 32, "mobile"),
    row("44779", 1, "geographic"),
    row("44800", 29, "toll_free", direction="inbound"),
)


@pytest.mark.parametrize(
    ("number", "number_class", "prefix"),
    [
        ("442079460123", "geographic", "44"),
        ("443001234567", "unknown", "443"),
        ("447400123456", "mobile", "447 mobile"),
        ("447500123456", "mobile", "447500 mobile"),
        ("447512345678", "mobile", "4475"),
        ("447800123456", "mobile", "4478 mobile"),
        ("447800123456", "geographic", "4478"),
        ("447790123456", "mobile", "447 mobile"),
        ("447790123456", "geographic", "44779 geographic"),
        ("447400123456", "geographic", "44"),
        ("493012345", "geographic", None),
        ("4", "geographic", None),
        ("44", "geographic", "44"),
    ],
)
def test_another_class_is_no_candidate_then_the_longest_prefix_then_the_class(
    number: str, number_class: str, prefix: str | None
) -> None:
    """The order of these three decides the price by a factor of twenty in the published deck."""
    assert prefix_of(BRITISH, number, number_class) == prefix


def test_a_number_shorter_than_a_prefix_does_not_match_it() -> None:
    """447500 must not price a call to the number 4475."""
    assert prefix_of(BRITISH, "4475", "mobile") == "4475"
    assert prefix_of(BRITISH, "44750", "mobile") == "4475"
    assert prefix_of(BRITISH, "447500", "mobile") == "447500 mobile"


def test_directions_have_nothing_to_do_with_each_other() -> None:
    """An inbound toll-free rate must not price an outbound call."""
    assert prefix_of(BRITISH, "448001234567", "toll_free", "inbound") == "44800 toll_free"
    assert prefix_of(BRITISH, "448001234567", "toll_free") == "44"
    assert prefix_of(BRITISH, "442079460123", "geographic", "inbound") is None


def test_a_deck_without_rows_prices_nothing() -> None:
    """A tariff may begin empty; that is a defined answer, not an error."""
    assert deck().find("outbound", "4930", "mobile") == (None, False)
    assert deck().find("outbound", "49**", "mobile") == (None, False)


@pytest.mark.parametrize(
    ("number", "number_class", "prefix", "is_ambiguous"),
    [
        ("442079460***", "geographic", "44", False),
        ("44207946****", "mobile", "44", False),
        ("447500123***", "mobile", "447500 mobile", False),
        ("4475********", "mobile", "4475", True),
        ("44750*******", "mobile", "4475", True),
        ("447*********", "mobile", "447 mobile", True),
        ("44**********", "geographic", "44", True),
        ("44779*******", "geographic", "44779 geographic", False),
        ("4*", "geographic", None, True),
        ("4**********", "toll_free", None, True),
        ("*", "geographic", None, False),
        ("**", "geographic", None, True),
        ("49*********", "geographic", None, False),
    ],
)
def test_a_masked_number_is_priced_by_what_is_known_and_says_when_the_rest_could_change_it(
    number: str, number_class: str, prefix: str | None, is_ambiguous: bool
) -> None:
    """Nine countries hide the last digits by law; a guess that is not marked as one cannot be disputed."""
    assert prefix_of(BRITISH, number, number_class) == prefix
    assert BRITISH.find("outbound", number, number_class).is_ambiguous is is_ambiguous


def test_a_longer_row_at_the_same_price_leaves_nothing_open() -> None:
    """Published decks repeat one price over hundreds of prefixes: marking all their calls would hide the real ones."""
    found = deck(row("44", 15), row("4420", 15), row("44207", 15))
    assert not found.find("outbound", "44**********", "geographic").is_ambiguous


def test_another_fee_alone_leaves_the_price_open() -> None:
    """The fee is part of what the call costs."""
    found = deck(row("44", 15), row("4420", 15, fee=1))
    assert found.find("outbound", "44**********", "geographic").is_ambiguous


def test_a_row_longer_than_the_whole_number_cannot_apply() -> None:
    """44 and four hidden digits are six digits: a prefix of seven is out of reach."""
    found = deck(row("44", 15), row("4420000", 99))
    assert not found.find("outbound", "44****", "geographic").is_ambiguous
    assert found.find("outbound", "44*****", "geographic").is_ambiguous


def test_rows_of_another_class_leave_nothing_open() -> None:
    """They are no candidates, hidden digits or not."""
    found = deck(row("44", 15), row("447", 320, "mobile"))
    assert not found.find("outbound", "44**********", "geographic").is_ambiguous
    assert found.find("outbound", "44**********", "mobile").is_ambiguous


def test_one_row_can_be_asked_for_by_its_key() -> None:
    """Comparing decks asks for the same row, not for the one that would apply."""
    assert BRITISH.row("outbound", "4478", "mobile") == row("4478", 32, "mobile")
    assert BRITISH.row("outbound", "4478", "") == row("4478", 50)
    assert BRITISH.row("outbound", "4478", "premium") is None
    assert BRITISH.row("outbound", "44781", "") is None
    assert row("44800", 29, "toll_free", direction="inbound") in set(BRITISH.rows())
    assert BRITISH.row_count == len(list(BRITISH.rows())) == 9


def test_what_is_remembered_is_bounded() -> None:
    """Numbers that never come again must not fill a worker's memory."""
    found = deck(row("1", 1), row("1234567890", 2))
    for number in range(10**8, 10**8 + REMEMBERED_COUNT_MAX + 10):  # shorter than the longest prefix
        found.find("outbound", str(number), "")
    remembered = found._any["outbound"].remembered
    assert len(remembered) <= REMEMBERED_COUNT_MAX
    assert sys.getsizeof(remembered) < 8_000_000

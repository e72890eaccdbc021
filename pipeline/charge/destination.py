"""The other side of a call: its country, name and class, and the row that prices a call to it.

The numbering library says country and class; an `iso2` in the matching outbound row decides the country instead.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pipeline.cdr.numbering import NumberFacts, look_up, look_up_digits
from pipeline.charge.tables import Deck, Match, RateRow, Tables

_e164: Final = re.compile(r"\+(?=[0-9*]{1,15}\Z)[0-9]+\**\Z").match
E164_DIGITS_MAX: Final = 15
NO_MATCH: Final = Match(None, False)
NOT_FOUND: Final[tuple[NumberFacts | None, Match]] = (None, NO_MATCH)


class Destination(NamedTuple):
    """`row` is the outbound row of the deck for this number, or None; `country` and `name` are None when unknown."""

    country: str | None
    name: str | None
    number_class: str
    row: RateRow | None
    is_ambiguous: bool


NOWHERE: Final = Destination(None, None, "unknown", None, False)


def destination_of(number: str | None, deck: Deck | None, tables: Tables) -> Destination:
    """What is known of a number; withheld, short and malformed ones lead nowhere."""
    facts, match = find(number, deck)
    return destination_from(facts, match, tables)


def find(number: str | None, deck: Deck | None) -> tuple[NumberFacts | None, Match]:
    """What the numbering library says of a number, None where it leads nowhere, and the outbound row for it."""
    if number is None or not number.startswith("+"):
        return NOT_FOUND
    digits = number[1:]
    is_plain = digits.isdigit() and digits.isascii() and len(digits) <= E164_DIGITS_MAX  # not masked: most are
    if not is_plain and _e164(number) is None:
        return NOT_FOUND
    facts = look_up_digits(digits)
    return facts, NO_MATCH if deck is None else deck.find("outbound", digits, facts[1])


def destination_from(facts: NumberFacts | None, match: Match, tables: Tables) -> Destination:
    """Where a call goes by what was found of its number."""
    if facts is None:
        return NOWHERE
    country = match.row.iso2 if match.row and match.row.iso2 else facts.country
    name = match.row.destination if match.row else ""
    if not name and country:
        name = tables.country(country).name
    return Destination(country, name or None, facts.number_class, match.row, match.is_ambiguous)


def inbound_match(number: str | None, deck: Deck | None, is_toll_free: bool) -> Match:
    """The inbound row of the called number: class `toll_free` when it is that, else the library's class."""
    if number is None or deck is None:
        return NO_MATCH
    return deck.find("inbound", number[1:], "toll_free" if is_toll_free else look_up(number).number_class)


def has_toll_free_class(number: str | None) -> bool:
    """Whether the numbering plan calls this number toll-free."""
    return number is not None and look_up(number).number_class == "toll_free"

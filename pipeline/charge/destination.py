"""The other side of a call: its country, name and class, and the row that prices a call to it.

The numbering library says country and class; an `iso2` in the matching outbound row decides the country instead.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pipeline.cdr.numbering import NumberFacts, look_up, look_up_digits
from pipeline.charge.tables import Deck, Match, Tables

_e164: Final = re.compile(r"\+(?=[0-9*]{1,15}\Z)[0-9]+\**\Z").match
E164_DIGITS_MAX: Final = 15
NO_MATCH: Final = Match(None, False)
NOT_FOUND: Final[tuple[NumberFacts | None, Match]] = (None, NO_MATCH)


class Destination(NamedTuple):
    """`country` and `name` are None when unknown."""

    country: str | None
    name: str | None
    number_class: str


NOWHERE: Final = Destination(None, None, "unknown")


def find(number: str | None, deck: Deck | None) -> tuple[NumberFacts | None, Match]:
    """What the numbering library says of a number, and the outbound row for it.

    No facts where it leads nowhere: withheld, short and malformed numbers.
    """
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
    return Destination(country, name or None, facts.number_class)


def inbound_match(number: str | None, deck: Deck | None, is_toll_free: bool) -> Match:
    """The inbound row of the called number: class `toll_free` when it is that, else the library's class."""
    if number is None or deck is None:
        return NO_MATCH
    return deck.find("inbound", number[1:], "toll_free" if is_toll_free else look_up(number).number_class)


def has_toll_free_class(number: str | None) -> bool:
    """Whether the numbering plan calls this number toll-free."""
    return number is not None and look_up(number).number_class == "toll_free"

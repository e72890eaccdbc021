"""The other side of a recorded call and the row that prices it, looked up again in the deck that the record names.

A record without a row names no deck; then every deck that its tenant could have had is asked, and the record must agree
with one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.base.calendar import format_time
from pipeline.base.rules import Rules
from pipeline.cdr.call_types import CALL_TYPES, Direction, Family
from pipeline.cdr.numbering import is_emergency
from pipeline.charge.destination import NO_MATCH, destination_from, find, has_toll_free_class, inbound_match
from pipeline.charge.explanation import DECK, NUMBERING, SETTINGS, Notes, money
from pipeline.charge.tables import Country, Deck, RateRow, Tables
from pipeline.emit.outputs import RatedCall


class Sight(NamedTuple):
    """What the tables say of a recorded call, whoever pays."""

    family: Family
    is_inbound: bool
    country: Country
    is_toll_free: bool
    is_emergency: bool
    is_priced: bool
    """Row and price are reported; not so for what is free from the start, nor for a call sent again."""


class Look(NamedTuple):
    """The answers of one deck."""

    deck: Deck | None
    destination_country: str | None
    destination_name: str | None
    number_class: str
    row: RateRow | None
    is_ambiguous: bool
    asked_count: int = 1
    """Decks that were asked: several when the record names none."""


def sight_of(call: RatedCall, tables: Tables, rules: Rules) -> Sight:
    """The facts that the steps ask for and that need no deck."""
    call_type = CALL_TYPES[call.call_type]
    is_inbound = call_type.direction is Direction.INBOUND
    callee = call.callee_number
    is_short_own = call_type.family is Family.OWN and not is_inbound and callee is not None and callee[:1] != "+"
    is_service_call = is_inbound and call_type.family in {Family.CONFERENCE, Family.APPLICATION}
    has_type = call.number_type in rules.toll_free_number_types
    return Sight(
        family=call_type.family,
        is_inbound=is_inbound,
        country=tables.country(call.rating_country),
        is_toll_free=is_service_call and (has_type or has_toll_free_class(callee)),
        is_emergency=call_type.family is Family.EMERGENCY
        or (is_short_own and callee is not None and is_emergency(callee, call.rating_country)),
        is_priced=call.outcome != "duplicate" and (call.outcome != "free" or call.reason == "zero_rate"),
    )


def explain_row(call: RatedCall, sight: Sight, tables: Tables, notes: Notes) -> Look:
    """Says who was on the other side, compares row and price list, and returns the deck's own answer."""
    decks = list(_decks(call, sight, tables, notes))
    looks = [_look(call, sight, deck, tables) for deck in decks]
    look = min(looks, key=lambda each: sum(mine != theirs for _, mine, theirs in _comparison(call, each)))
    for field, recorded, found in _comparison(call, look):
        needs = (NUMBERING,) if field == "number_class" else (NUMBERING, DECK, SETTINGS)
        notes.expect(field, recorded, found, _RULES_OF.get(field, "D2"), *needs)
    for field, named in (("tariff", call.tariff), ("table_version", call.table_version)):
        is_named = named is not None or call.rate_prefix is None
        notes.insist(is_named, field, named, "that of the deck whose row priced the call", "D2")
    _say_destination(call, sight, tables, notes)
    return look._replace(asked_count=len(looks))


def _decks(call: RatedCall, sight: Sight, tables: Tables, notes: Notes) -> Iterator[Deck | None]:
    """The deck of the record, or all that could have been its tenant's; None stands for none."""
    if call.table_version is not None:
        yield _deck_of(call, tables, notes)
        return
    is_meeting = sight.family is Family.CONFERENCE
    found: list[Deck | None] = [
        tariff.deck_at(call.start_time)
        for tariff in tables.tariffs.values()
        if tariff.currency == call.currency and (is_meeting or tariff.kind == "subscription")
    ]
    if is_meeting or not found:  # a per-minute organiser's tenant may have no tariff for meetings
        found.append(None)
    yield from found


def _deck_of(call: RatedCall, tables: Tables, notes: Notes) -> Deck | None:
    version = tuple(call.table_version or ())
    tariff = tables.tariffs.get(call.tariff or "")
    decks = () if tariff is None else tariff.decks
    deck = next((deck for deck in decks if deck.table_version == version), None)
    if tariff is None or deck is None:
        same_day = [each.table_version[2] for each in decks if each.table_version[1] == version[1]]
        instead = f"; the file of that date has digest {same_day[0]}" if same_day else ""
        notes.miss(DECK, f"rate deck {' '.join(version)} is not at hand{instead}")
        return None
    notes.expect("tariff", call.tariff, version[0], "D2")
    notes.expect("currency", call.currency, tariff.currency, "R56")
    in_force = tariff.deck_at(call.start_time)
    if in_force is not deck:
        found = None if in_force is None else list(in_force.table_version)
        notes.expect("table_version", list(version), found, "D2")
    return deck


def _look(call: RatedCall, sight: Sight, deck: Deck | None, tables: Tables) -> Look:
    if sight.is_emergency and not sight.is_inbound:
        return Look(deck, sight.country.iso2, None, "emergency", None, False)
    number = call.caller_number if sight.is_inbound else call.callee_number
    facts, match = find(number, deck)
    destination = destination_from(facts, match, tables)
    if sight.is_inbound:
        match = inbound_match(call.callee_number, deck, sight.is_toll_free)
    if not sight.is_priced:
        match = NO_MATCH
    return Look(deck, *destination, *match)


_RULES_OF = {
    "destination_country": "section 4",
    "destination_name": "section 4",
    "number_class": "section 4",
    "rate_is_ambiguous": "section 2",
}


def _comparison(call: RatedCall, look: Look) -> Iterator[tuple[str, object, object]]:
    """Field, what the record says, what the deck says."""
    row = look.row
    yield "destination_country", call.destination_country, look.destination_country
    yield "destination_name", call.destination_name, look.destination_name
    yield "number_class", call.number_class, look.number_class
    yield "rate_prefix", call.rate_prefix, None if row is None else row.prefix
    yield "rate_micros_per_minute", call.rate_micros_per_minute, None if row is None else row.rate_micros_per_minute
    yield "connection_fee_micros", call.connection_fee_micros, None if row is None else row.connection_fee_micros
    yield "rate_is_ambiguous", call.rate_is_ambiguous, look.is_ambiguous


def _say_destination(call: RatedCall, sight: Sight, tables: Tables, notes: Notes) -> None:
    number = call.caller_number if sight.is_inbound else call.callee_number
    side = "caller" if sight.is_inbound else "called number"
    where = call.destination_country or "no known country"
    named = f" ({call.destination_name})" if call.destination_name else ""
    says = f"the {side} {number or 'is withheld'}: {where}{named}, class {call.number_class}"
    scope = None
    if not sight.is_inbound:
        is_domestic = call.destination_country in sight.country.rates_as_domestic_to
        scope = "domestic" if is_domestic else "international"
        home = ", ".join(sorted(sight.country.rates_as_domestic_to))
        says += f"; {scope}, because {call.rating_country} calls {home} at home"
    notes.expect("scope", call.scope, scope, "R21, R25")
    notes.say("R25, section 4", "other side", says, None if scope is None else f"countries.csv: {call.rating_country}")
    if call.usage_country is not None:
        notes.expect("rating_country", call.rating_country, call.usage_country, "R20")
        notes.say("R20", "rating country", f"{call.rating_country}, as the call's usage_country says")
    else:
        notes.say("R20", "rating country", f"{call.rating_country}, the user's or else the tenant's")
        notes.cannot_tell(f"whether {call.rating_country} was the user's or the tenant's country")


def explain_rate(call: RatedCall, sight: Sight, look: Look, notes: Notes) -> None:
    """Says which row prices the call."""
    if not sight.is_priced:
        notes.say("section 2", "rate", "nothing is priced: no row, price 0")
        return
    if call.rate_prefix is None:
        notes.say(
            "D7, R48", "rate", f"no row was found, so there is no price ({look.asked_count} price lists asked again)"
        )
        if look.asked_count > 1:
            notes.cannot_tell("which of the price lists of that currency was the tenant's: the record names none")
        return
    version = call.table_version or ("?", "?", "?")
    file = f"rates/{version[0]}/{version[1]}.csv"
    rate = money(call.rate_micros_per_minute or 0, call.currency)
    says = f"{rate} a minute, connection fee {money(call.connection_fee_micros or 0, call.currency)}"
    table = f"{file} ({version[2]}): prefix {call.rate_prefix}, {'inbound' if sight.is_inbound else 'outbound'}"
    if look.row is not None:
        table += f", class {look.row.number_class or 'any'}, {look.row.destination!r}"
    since = "" if look.deck is None else f", the deck in force since {format_time(look.deck.valid_from_ms)[:10]}"
    notes.say("D2, D3", "rate", says + since, table)
    if call.rate_is_ambiguous:
        notes.say("section 2", "masked", "a longer row at another price could apply to the masked digits")

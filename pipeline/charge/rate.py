"""What a call costs and which money is to pay: the eight steps of records.md section 3, in their order.

Pure: the answer follows from the call, its payer, the tables and the rules. Step 1 (sent again?) needs a memory and is
asked before, by the ledger; a duplicate is described by `describe`. How much of a pool is left and whether the credits
suffice is decided by `debit`, which gets the claim that is made here.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple

from pipeline.base.money import ceil_div
from pipeline.base.reject import InvariantBroken
from pipeline.base.rules import Rules
from pipeline.cdr.call_types import CALL_TYPES, Direction, Family
from pipeline.cdr.decode import Cdr
from pipeline.cdr.numbering import NumberFacts, is_emergency
from pipeline.charge.allowance import PoolClaim, dial_out_claim, either_quota_closes, plan_claim
from pipeline.charge.destination import (
    NO_MATCH,
    NOT_FOUND,
    Destination,
    destination_from,
    find,
    has_toll_free_class,
    inbound_match,
)
from pipeline.charge.policy import allows
from pipeline.charge.subscriber import Subscriber
from pipeline.charge.tables import ALL_PREMIUM, Country, Deck, Match, Tables

CREDITS_CAPABILITY: Final = "MCOPSTNPP"
EXTENDED_DIAL_OUT_COUNTRIES: Final = ("US", "CA")  # R37
REMEMBERED_COUNT_MAX: Final = 32_768
"""Quotes kept: at about 600 bytes each 20 MB. What is remembered changes no answer."""


class Pays(Enum):
    """Who is to pay, as far as rating can tell."""

    NOBODY = "free"
    UNPAID = "unpaid"
    LICENCE = "included without a pool"
    POOL = "a pool, then credits"
    CREDITS = "credits"


class Payment(NamedTuple):
    """The answer of a step."""

    pays: Pays
    reason: str | None = None
    capability: str | None = None
    """Of the licence that includes the call, or of the credits that are to pay."""
    pool: PoolClaim | None = None
    needs_credits_licence: bool = False
    is_priced: bool = True


class Quote:
    """All that can be said of a call but for its seconds: one object for all calls that are alike.

    Row and price are there even when nobody has to pay them; without a row its values are None and its price is 0.
    """

    __slots__ = (
        "connection_micros", "destination", "direction", "fee_micros", "is_ambiguous", "is_own_call", "minute_micros",
        "payment", "prefix", "rate_micros", "rating_country", "row", "scope", "table_version", "tariff",
    )  # fmt: skip

    def __init__(
        self, direction: str, rating_country: str, destination: Destination, scope: str | None, payment: Payment,
        deck: Deck | None, match: Match, is_own_call: bool,
    ) -> None:  # fmt: skip
        row = match.row
        self.direction = direction
        self.rating_country = rating_country
        self.destination = destination
        self.scope = scope
        self.payment = payment
        self.row = row
        self.is_ambiguous = match.is_ambiguous
        self.is_own_call = is_own_call
        """Counts for the user's monthly cap (R63)."""
        self.minute_micros = 0 if row is None else row.rate_micros_per_minute
        self.connection_micros = 0 if row is None else row.connection_fee_micros
        self.rate_micros = None if row is None else row.rate_micros_per_minute
        self.fee_micros = None if row is None else row.connection_fee_micros
        self.prefix = None if row is None else row.prefix
        self.tariff = None if row is None or deck is None else deck.tariff
        self.table_version = None if row is None or deck is None else deck.table_version


class Charge:
    """The whole decision that needs no balance."""

    __slots__ = ("billable_minutes", "price_micros", "quote")

    def __init__(self, quote: Quote, billable_minutes: int) -> None:
        self.quote = quote
        self.billable_minutes = billable_minutes
        self.price_micros = quote.connection_micros + billable_minutes * quote.minute_micros


class Situation(NamedTuple):
    """Everything about a call that the steps ask."""

    subscriber: Subscriber
    family: Family
    is_inbound: bool
    country: Country
    """The rating country."""
    dialled: str | None
    """Country of the other side."""
    number_class: str
    is_toll_free: bool
    has_premium_prefix: bool
    """The called number starts with a prefix that the rating country names (R10)."""
    since_ms: int
    """Since when the allowances at the call's start hold: any instant of that time gives the same answers."""
    tables: Tables
    quotas_are_linked: bool
    """R23: the end of either quota of an international plan closes the other."""


_FREE_NOT_CONNECTED: Final = Payment(Pays.NOBODY, "not_connected", is_priced=False)
_FREE_DIRECT_ROUTING: Final = Payment(Pays.NOBODY, "direct_routing", is_priced=False)
_FREE_EMERGENCY: Final = Payment(Pays.NOBODY, "emergency", is_priced=False)
_FREE_INBOUND: Final = Payment(Pays.NOBODY, "inbound", is_priced=False)
_DUPLICATE: Final = Payment(Pays.NOBODY, is_priced=False)
_BARRED: Final = Payment(Pays.UNPAID, "barred_by_policy")
_PREMIUM_NOT_ALLOWED: Final = Payment(Pays.UNPAID, "premium_not_allowed")
_NO_PLAN: Final = Payment(Pays.UNPAID, "no_calling_plan")
_CREDITS: Final = Payment(Pays.CREDITS, capability=CREDITS_CAPABILITY, needs_credits_licence=True)
_CREDITS_WITHOUT_LICENCE: Final = Payment(Pays.CREDITS, capability=CREDITS_CAPABILITY)

_OWN: Final = Family.OWN
_CONFERENCE: Final = Family.CONFERENCE
_EMERGENCY: Final = Family.EMERGENCY
_APPLICATION: Final = Family.APPLICATION
_KINDS: Final = {
    name: (call_type.family, call_type.direction is Direction.INBOUND, call_type.direction.value)
    for name, call_type in CALL_TYPES.items()
}


def rate(cdr: Cdr, subscriber: Subscriber, tables: Tables, rules: Rules) -> Charge:
    """The charge for a call that was not sent before. Never raises for bad data; the unknown has a defined outcome."""
    duration_s = cdr.duration_s
    quote = _quote_for(cdr, subscriber, tables, rules, None if duration_s else _FREE_NOT_CONNECTED)
    return Charge(quote, ceil_div(duration_s, 60))


def describe(cdr: Cdr, subscriber: Subscriber, tables: Tables, rules: Rules) -> Charge:
    """Step 1: a call sent again; described like any other, with neither minutes nor price."""
    return Charge(_quote_for(cdr, subscriber, tables, rules, _DUPLICATE), 0)


def _quote_for(cdr: Cdr, subscriber: Subscriber, tables: Tables, rules: Rules, payment: Payment | None) -> Quote:
    """Looks at all of the call but its seconds; what is alike then has the same quote."""
    _, _, _, _, _, call_type, _, caller, callee, start_ms, _, usage_country, _, _ = cdr
    family, is_inbound, _ = _KINDS[call_type]
    country = tables.country(usage_country or subscriber.country)
    deck = _deck(subscriber, family, start_ms, tables)
    number = caller if is_inbound else callee
    is_to_emergency = not is_inbound and (family is _EMERGENCY or _dials_emergency(number, family, country))
    facts, match = NOT_FOUND if is_to_emergency else find(number, deck)
    is_toll_free, service_number = False, None
    if is_inbound and (family is _CONFERENCE or family is _APPLICATION):
        is_toll_free, service_number = _is_toll_free(cdr, rules), callee
    has_premium_prefix = not is_inbound and _has_premium_prefix(number, country)
    asked: _Asked = (
        subscriber, call_type, country.iso2, deck, facts, match, is_to_emergency, has_premium_prefix, is_toll_free,
        service_number, tables.allowances_since(start_ms), payment, tables, rules.international_quota_closes_domestic,
    )  # fmt: skip
    quote = _quotes.get(asked)
    if quote is None:
        if len(_quotes) >= REMEMBERED_COUNT_MAX:
            _quotes.clear()
        quote = _quotes[asked] = _quote(*asked)
    return quote


_Asked = tuple[
    Subscriber, str, str, Deck | None, NumberFacts | None, Match, bool, bool, bool, str | None, int, Payment | None,
    Tables, bool,
]  # fmt: skip
"""All on which a quote depends: the arguments of `_quote`."""
_quotes: Final[dict[_Asked, Quote]] = {}


def _quote(
    subscriber: Subscriber,
    call_type: str,
    rating_country: str,
    deck: Deck | None,
    facts: NumberFacts | None,
    match: Match,
    is_to_emergency: bool,
    has_premium_prefix: bool,
    is_toll_free: bool,
    service_number: str | None,
    since_ms: int,
    payment: Payment | None,
    tables: Tables,
    quotas_are_linked: bool,
) -> Quote:
    """Asks the steps unless `payment` is known (D1: 0 seconds are free), and finds the row that prices the call."""
    family, is_inbound, direction = _KINDS[call_type]
    country = tables.country(rating_country)
    if is_to_emergency:
        destination = Destination(rating_country, None, "emergency")
    else:
        destination = destination_from(facts, match, tables)
    if payment is None:
        payment = _decide(
            Situation(
                subscriber, family, is_inbound, country, destination.country, destination.number_class, is_toll_free,
                has_premium_prefix, since_ms, tables, quotas_are_linked,
            )
        )  # fmt: skip
    if not payment.is_priced:
        match = NO_MATCH
    elif is_inbound:
        match = inbound_match(service_number, deck, is_toll_free)
    scope = None if is_inbound else _scope(destination.country, country)
    return Quote(direction, rating_country, destination, scope, payment, deck, match, family is _OWN)


def _deck(subscriber: Subscriber, family: Family, start_ms: int, tables: Tables) -> Deck | None:
    """The deck that prices the call: of the per-minute tariff in meetings of its organisers (R9), else the tenant's."""
    name: str | None = subscriber.terms.tariff
    if family is _CONFERENCE and subscriber.entitlement.per_minute is not None:
        name = subscriber.terms.tariff_per_minute_conferencing
    tariff = None if name is None else tables.tariffs.get(name)
    return None if tariff is None else tariff.deck_at(start_ms)


def _dials_emergency(number: str | None, family: Family, country: Country) -> bool:
    if family is not _OWN or number is None or number.startswith("+"):
        return False
    return is_emergency(number, country.iso2)


def _is_toll_free(cdr: Cdr, rules: Rules) -> bool:
    """R1: a service number that is toll-free by its type or by the numbering plan."""
    return cdr.number_type in rules.toll_free_number_types or has_toll_free_class(cdr.callee_number)


def _has_premium_prefix(number: str | None, country: Country) -> bool:
    prefixes = country.premium_outbound
    if not prefixes or prefixes == ALL_PREMIUM or number is None:
        return False
    return number[1:].startswith(prefixes)


def _scope(dialled: str | None, country: Country) -> str:
    """In the rating sense: US and CA call each other at home (R25)."""
    return "domestic" if dialled in country.rates_as_domestic_to else "international"


def _decide(situation: Situation) -> Payment:
    """The first step that knows who pays."""
    for step in STEPS:
        payment = step(situation)
        if payment is not None:
            return payment
    raise InvariantBroken("no step knows who pays")


def _direct_routing(call: Situation) -> Payment | None:
    """Step 2: the tenant's own trunks are not rated."""
    return _FREE_DIRECT_ROUTING if call.family is Family.DIRECT_ROUTING else None


def _emergency(call: Situation) -> Payment | None:
    """Step 3, R66: never barred and never charged, by the call's type or by the number of an own call."""
    return _FREE_EMERGENCY if call.family is _EMERGENCY or call.number_class == "emergency" else None


def _inbound(call: Situation) -> Payment | None:
    """Step 4, R1, R9, R12: toll-free dial-in is charged, and any to a per-minute organiser; the rest is free."""
    if not call.is_inbound:
        return None
    is_per_minute = call.family is Family.CONFERENCE and call.subscriber.entitlement.per_minute is not None
    return _credits(call) if is_per_minute or call.is_toll_free else _FREE_INBOUND


def _barred_by_policy(call: Situation) -> Payment | None:
    """Step 5, R57-R59: the policy's part for meetings or for own calls."""
    subscriber, dialled = call.subscriber, call.dialled
    part = subscriber.from_meetings if call.family is Family.CONFERENCE else subscriber.own_calls
    zone = call.tables.country(dialled).zone if dialled else ""
    return None if allows(part, destination_country=dialled, usage_country=call.country.iso2, zone=zone) else _BARRED


def _premium(call: Situation) -> Payment | None:
    """Step 6, R10: premium numbers are paid from credits where they are allowed at all, whatever the plan."""
    if not call.has_premium_prefix and call.number_class != "premium":
        return None
    is_allowed = call.has_premium_prefix or call.country.premium_outbound == ALL_PREMIUM
    return _credits(call) if is_allowed else _PREMIUM_NOT_ALLOWED


def _meeting_dial_out(call: Situation) -> Payment | None:
    """Step 7, R3, R4, R9, R32-R37: extended dial-out, the per-minute tariff, the tenant's dial-out pool, credits."""
    if call.family is not Family.CONFERENCE:
        return None
    entitlement = call.subscriber.entitlement
    extended = entitlement.extended_dial_out
    if extended is not None and call.dialled in EXTENDED_DIAL_OUT_COUNTRIES:
        return Payment(Pays.LICENCE, capability=extended.capability)
    credits = _credits(call)
    if entitlement.per_minute is not None:
        return credits
    claim = dial_out_claim(entitlement, call.dialled, call.since_ms, call.tables)
    return credits if claim is None else credits._replace(pays=Pays.POOL, pool=claim)


def _calling_plan(call: Situation) -> Payment:
    """Step 8, R5-R8, R12, R19-R23: the user's plan gives its minutes, credits pay for the rest."""
    plan = call.subscriber.entitlement.plan
    credits = _credits(call)
    if plan is None:
        return credits if call.subscriber.is_resource_account else _NO_PLAN
    scope = _scope(call.dialled, call.country)
    has_pool = scope == "domestic" or (plan.kind == "calling_international" and _is_listed(call))
    if plan.kind == "calling_payg" or not has_pool:
        return credits
    claim = plan_claim(plan, call.country, scope, call.since_ms, call.tables)
    if call.quotas_are_linked and plan.kind == "calling_international":
        claim = either_quota_closes(claim, plan, call.country, call.since_ms, call.tables)
    return credits._replace(pays=Pays.POOL, pool=claim)


STEPS: tuple[Callable[[Situation], Payment | None], ...] = (
    _direct_routing,
    _emergency,
    _inbound,
    _barred_by_policy,
    _premium,
    _meeting_dial_out,
    _calling_plan,
)


def _credits(call: Situation) -> Payment:
    """Credits, and whether the payer must hold the licence for them (R16-R18)."""
    entitlement = call.subscriber.entitlement
    if call.family is Family.CONFERENCE and entitlement.per_minute is not None:
        return Payment(Pays.CREDITS, capability=entitlement.per_minute.capability)
    is_payg = call.family is Family.OWN and entitlement.has_payg
    is_dial_in = call.is_inbound and call.family is Family.APPLICATION  # R12
    needs_none = is_payg or is_dial_in or call.subscriber.is_resource_account
    return _CREDITS_WITHOUT_LICENCE if needs_none else _CREDITS


def _is_listed(call: Situation) -> bool:
    """Whether the international plan covers the destination (R7)."""
    return call.dialled is not None and call.tables.country(call.dialled).international_plan

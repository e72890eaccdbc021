"""What a call costs and which money is to pay: the eight steps of records.md section 3, in their order.

Pure: the answer follows from the call, its payer, the tables and the rules. Step 1 (sent again?) needs a memory and is
asked before, by the ledger; a duplicate is described by `describe`. How much of a pool is left and whether the credits
suffice is decided by `debit`, which gets the claim that is made here.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from pipeline.base.rules import Rules
from pipeline.cdr.call_types import CALL_TYPES, Direction, Family
from pipeline.cdr.decode import Cdr
from pipeline.cdr.numbering import is_emergency
from pipeline.charge.allowance import PoolClaim, dial_out_claim, either_quota_closes, plan_claim
from pipeline.charge.destination import NO_MATCH, Destination, destination_of, has_toll_free_class, inbound_match
from pipeline.charge.policy import allows
from pipeline.charge.subscriber import Subscriber
from pipeline.charge.tables import ALL_PREMIUM, Country, Deck, RateRow, Tables

CREDITS_CAPABILITY = "MCOPSTNPP"
EXTENDED_DIAL_OUT_COUNTRIES = ("US", "CA")  # R37


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


class Charge(NamedTuple):
    """The whole decision that needs no balance. Row and price are there even when nobody has to pay them."""

    direction: str
    rating_country: str
    destination: Destination
    scope: str | None
    payment: Payment
    billable_minutes: int
    deck: Deck | None
    row: RateRow | None
    is_ambiguous: bool
    price_micros: int
    is_own_call: bool
    """Counts for the user's monthly cap (R63)."""


class Call(NamedTuple):
    """A call with what the steps ask about it."""

    cdr: Cdr
    subscriber: Subscriber
    country: Country
    destination: Destination
    family: Family
    is_inbound: bool
    is_toll_free: bool
    is_emergency: bool
    tables: Tables
    rules: Rules


_FREE_NOT_CONNECTED = Payment(Pays.NOBODY, "not_connected", is_priced=False)
_FREE_DIRECT_ROUTING = Payment(Pays.NOBODY, "direct_routing", is_priced=False)
_FREE_EMERGENCY = Payment(Pays.NOBODY, "emergency", is_priced=False)
_FREE_INBOUND = Payment(Pays.NOBODY, "inbound", is_priced=False)
_DUPLICATE = Payment(Pays.NOBODY, is_priced=False)
_BARRED = Payment(Pays.UNPAID, "barred_by_policy")
_PREMIUM_NOT_ALLOWED = Payment(Pays.UNPAID, "premium_not_allowed")
_NO_PLAN = Payment(Pays.UNPAID, "no_calling_plan")
_CREDITS = Payment(Pays.CREDITS, capability=CREDITS_CAPABILITY, needs_credits_licence=True)
_CREDITS_WITHOUT_LICENCE = Payment(Pays.CREDITS, capability=CREDITS_CAPABILITY)


def rating_country(cdr: Cdr, subscriber: Subscriber) -> str:
    """The call's `usage_country`, else the user's, else the tenant's (R20)."""
    return cdr.usage_country or subscriber.country


def rate(cdr: Cdr, subscriber: Subscriber, tables: Tables, rules: Rules) -> Charge:
    """The charge for a call that was not sent before. Never raises; what is unknown has a defined outcome."""
    call, deck = _look_at(cdr, subscriber, tables, rules)
    payment = (
        _not_connected(call)
        or _direct_routing(call)
        or _emergency(call)
        or _inbound(call)
        or _barred_by_policy(call)
        or _premium(call)
        or _meeting_dial_out(call)
        or _calling_plan(call)
    )
    return _priced(call, deck, payment)


def describe(cdr: Cdr, subscriber: Subscriber, tables: Tables, rules: Rules) -> Charge:
    """Step 1: a call sent again; described like any other, with neither minutes nor price."""
    call, deck = _look_at(cdr, subscriber, tables, rules)
    return _priced(call, deck, _DUPLICATE)._replace(billable_minutes=0)


def _look_at(cdr: Cdr, subscriber: Subscriber, tables: Tables, rules: Rules) -> tuple[Call, Deck | None]:
    call_type = CALL_TYPES[cdr.call_type]
    family = call_type.family
    is_inbound = call_type.direction is Direction.INBOUND
    terms = subscriber.terms
    name: str | None = terms.tariff
    if family is Family.CONFERENCE and subscriber.entitlement.per_minute is not None:
        name = terms.tariff_per_minute_conferencing
    tariff = tables.tariffs.get(name) if name is not None else None
    deck = None if tariff is None else tariff.deck_at(cdr.start_time)  # D2: the prices of the call's start
    country = tables.country(cdr.usage_country or subscriber.country)
    is_emergency = family is Family.EMERGENCY or (not is_inbound and _dials_emergency(cdr, family, country))
    if is_emergency:
        destination = Destination(country.iso2, None, "emergency", None, False)
    else:
        destination = destination_of(cdr.caller_number if is_inbound else cdr.callee_number, deck, tables)
    is_toll_free = (
        is_inbound
        and (family is Family.CONFERENCE or family is Family.APPLICATION)
        and (cdr.number_type in rules.toll_free_number_types or has_toll_free_class(cdr.callee_number))
    )
    call = Call(cdr, subscriber, country, destination, family, is_inbound, is_toll_free, is_emergency, tables, rules)
    return call, deck


def _dials_emergency(cdr: Cdr, family: Family, country: Country) -> bool:
    callee = cdr.callee_number
    return family is Family.OWN and callee is not None and callee[0] != "+" and is_emergency(callee, country.iso2)


def _not_connected(call: Call) -> Payment | None:
    """D1: no connected second, no minute and no connection fee."""
    return _FREE_NOT_CONNECTED if call.cdr.duration_s == 0 else None


def _direct_routing(call: Call) -> Payment | None:
    """Step 2: the tenant's own trunks are not rated."""
    return _FREE_DIRECT_ROUTING if call.family is Family.DIRECT_ROUTING else None


def _emergency(call: Call) -> Payment | None:
    """Step 3, R66: never barred and never charged, by its type or by the number of an own call."""
    return _FREE_EMERGENCY if call.is_emergency else None


def _inbound(call: Call) -> Payment | None:
    """Step 4, R1, R9, R12: toll-free dial-in is charged, and any to a per-minute organiser; the rest is free."""
    if not call.is_inbound:
        return None
    is_per_minute = call.family is Family.CONFERENCE and call.subscriber.entitlement.per_minute is not None
    return _credits(call) if is_per_minute or call.is_toll_free else _FREE_INBOUND


def _barred_by_policy(call: Call) -> Payment | None:
    """Step 5, R57-R59: the policy's part for meetings or for own calls."""
    subscriber = call.subscriber
    part = subscriber.from_meetings if call.family is Family.CONFERENCE else subscriber.own_calls
    dialled = call.destination.country
    zone = call.tables.country(dialled).zone if dialled else ""
    return None if allows(part, destination_country=dialled, usage_country=call.country.iso2, zone=zone) else _BARRED


def _premium(call: Call) -> Payment | None:
    """Step 6, R10: premium numbers are paid from credits where they are allowed at all, whatever the plan."""
    allowed = call.country.premium_outbound
    digits = (call.cdr.callee_number or "")[1:]
    has_prefix = allowed != ALL_PREMIUM and digits.startswith(allowed)
    if not has_prefix and call.destination.number_class != "premium":
        return None
    return _credits(call) if has_prefix or allowed == ALL_PREMIUM else _PREMIUM_NOT_ALLOWED


def _meeting_dial_out(call: Call) -> Payment | None:
    """Step 7, R3, R4, R9, R32-R37: extended dial-out, the per-minute tariff, the tenant's dial-out pool, credits."""
    if call.family is not Family.CONFERENCE:
        return None
    entitlement = call.subscriber.entitlement
    dialled = call.destination.country
    extended = entitlement.extended_dial_out
    if extended is not None and dialled in EXTENDED_DIAL_OUT_COUNTRIES:
        return Payment(Pays.LICENCE, capability=extended.capability)
    credits = _credits(call)
    if entitlement.per_minute is not None:
        return credits
    claim = dial_out_claim(entitlement, dialled, call.cdr.start_time, call.tables)
    return credits if claim is None else credits._replace(pays=Pays.POOL, pool=claim)


def _calling_plan(call: Call) -> Payment:
    """Step 8, R5-R8, R12, R19-R23: the user's plan gives its minutes, credits pay for the rest."""
    plan = call.subscriber.entitlement.plan
    credits = _credits(call)
    if plan is None:
        return credits if _is_resource_account(call) else _NO_PLAN
    scope = _scope(call)
    has_pool = scope == "domestic" or (plan.kind == "calling_international" and _is_listed(call))
    if plan.kind == "calling_payg" or not has_pool:
        return credits
    start_ms = call.cdr.start_time
    claim = plan_claim(plan, call.country, scope, start_ms, call.tables)
    if call.rules.international_quota_closes_domestic and plan.kind == "calling_international":
        claim = either_quota_closes(claim, plan, call.country, start_ms, call.tables)
    return Payment(Pays.POOL, None, CREDITS_CAPABILITY, claim, credits.needs_credits_licence)


def _credits(call: Call) -> Payment:
    """Credits, and whether the payer must hold the licence for them (R16-R18)."""
    entitlement = call.subscriber.entitlement
    if call.family is Family.CONFERENCE:
        if entitlement.per_minute is not None:
            return Payment(Pays.CREDITS, capability=entitlement.per_minute.capability)
        needs_licence = not call.subscriber.is_resource_account
    else:
        needs_licence = not (entitlement.has_payg or _is_resource_account(call))
    return _CREDITS if needs_licence else _CREDITS_WITHOUT_LICENCE


def _is_resource_account(call: Call) -> bool:
    """The user of a `ucap_*` call is one by definition (R17), any other when it was set as one."""
    return call.family is Family.APPLICATION or call.subscriber.is_resource_account


def _is_listed(call: Call) -> bool:
    """Whether the international plan covers the destination (R7)."""
    dialled = call.destination.country
    return dialled is not None and call.tables.country(dialled).international_plan


def _scope(call: Call) -> str:
    """In the rating sense: US and CA call each other at home (R25)."""
    return "domestic" if call.destination.country in call.country.rates_as_domestic_to else "international"


def _priced(call: Call, deck: Deck | None, payment: Payment) -> Charge:
    """D1, D3: started minutes count whole, the fee falls once."""
    cdr, destination = call.cdr, call.destination
    minutes = -(-cdr.duration_s // 60)
    row, is_ambiguous = destination.row, destination.is_ambiguous
    if not payment.is_priced:
        row, is_ambiguous = NO_MATCH
    elif call.is_inbound:
        row, is_ambiguous = inbound_match(cdr.callee_number, deck, call.is_toll_free)
    return Charge(
        Direction.INBOUND.value if call.is_inbound else Direction.OUTBOUND.value,
        call.country.iso2,
        destination,
        None
        if call.is_inbound
        else ("domestic" if destination.country in call.country.rates_as_domestic_to else "international"),
        payment,
        minutes,
        None if row is None else deck,
        row,
        is_ambiguous,
        0 if row is None else row.connection_fee_micros + minutes * row.rate_micros_per_minute,
        call.family is Family.OWN,
    )

"""The eight steps of records.md section 3 over a recorded call, in order, up to the one that knew who pays.

Each says what it found and holds the record's outcome against the ways in which it can end.
"""

from __future__ import annotations

from pipeline.cdr.call_types import Family
from pipeline.charge.explain_row import Sight
from pipeline.charge.explanation import NUMBERING, SETTINGS, Notes
from pipeline.charge.policy import DOMESTIC, NONE, ZONE_A, allows
from pipeline.charge.tables import ALL_PREMIUM, Tables
from pipeline.emit.outputs import RatedCall

Ends = tuple[tuple[str, str | None], ...]
"""Outcomes with their reasons."""

_REFUSALS = ("no_account_funding", "no_credits_licence", "spend_cap_reached", "balance_not_positive", "overage_off")
_BY_CREDITS: Ends = (
    ("charged", None),
    ("postpaid", None),
    ("free", "zero_rate"),
    ("free_call", None),
    *(("unpaid", reason) for reason in _REFUSALS),
)
_BY_POOL: Ends = (("included", None), ("split", None))
_EXTENDED_COUNTRIES = ("US", "CA")
_LICENCES_UNKNOWN = "which licences the paying user held"
_POOLS_UNKNOWN = "whether a pool was empty or none fits: licences and pool use are the account's"


def explain_steps(call: RatedCall, sight: Sight, tables: Tables, notes: Notes) -> None:
    """Walks the steps; the last one always decides."""
    for step in (_duplicate, _not_connected, _direct_routing, _emergency, _inbound, _barred, _premium, _dial_out):
        if step(call, sight, tables, notes):
            return
    _own_call(call, sight, notes)


def _end(call: RatedCall, ends: Ends, rules: str, notes: Notes, *needs: str) -> bool:
    """The record must have come out in one of these ways. True: the step has decided."""
    if (call.outcome, call.reason) not in ends:
        wanted = " or ".join(outcome if reason is None else f"{outcome} ({reason})" for outcome, reason in ends)
        recorded = call.outcome if call.reason is None else f"{call.outcome} ({call.reason})"
        notes.expect("outcome", recorded, wanted, rules, *needs)
    return True


def _duplicate(call: RatedCall, sight: Sight, tables: Tables, notes: Notes) -> bool:
    if call.outcome != "duplicate":
        notes.say("step 1", "1 duplicate", "no: its usage_id had no rated call inside the window")
        return False
    notes.say("step 1", "1 duplicate", "sent again inside the window with the same content: nothing is taken twice")
    notes.cannot_tell("which record was the first one, and that its content was the same")
    return _end(call, (("duplicate", None),), "step 1", notes)


def _not_connected(call: RatedCall, sight: Sight, tables: Tables, notes: Notes) -> bool:
    if call.duration_s:
        return False
    notes.say("D1", "not connected", "0 seconds: free, without a connection fee")
    return _end(call, (("free", "not_connected"),), "D1", notes)


def _direct_routing(call: RatedCall, sight: Sight, tables: Tables, notes: Notes) -> bool:
    if sight.family is not Family.DIRECT_ROUTING:
        notes.say("step 2", "2 direct routing", f"no: {call.call_type} is none of its call types")
        return False
    notes.say("step 2", "2 direct routing", f"{call.call_type} runs over the tenant's own trunks: free")
    return _end(call, (("free", "direct_routing"),), "step 2", notes)


def _emergency(call: RatedCall, sight: Sight, tables: Tables, notes: Notes) -> bool:
    if not sight.is_emergency:
        notes.say("step 3, R66", "3 emergency", "no")
        return False
    notes.say("step 3, R66", "3 emergency", "yes: free and never barred")
    return _end(call, (("free", "emergency"),), "step 3, R66", notes, NUMBERING)


def _inbound(call: RatedCall, sight: Sight, tables: Tables, notes: Notes) -> bool:
    if not sight.is_inbound:
        notes.say("step 4", "4 inbound", "no: the call goes out")
        return False
    tariff = tables.tariffs.get(call.tariff or "")
    has_per_minute_tariff = tariff is not None and tariff.kind == "per_minute_conferencing"
    if sight.is_toll_free:
        how = f"number_type {call.number_type}" if call.number_type else "class toll_free"
        notes.say("step 4, R1, R12", "4 inbound", f"yes, to a toll-free service number ({how}): credits pay")
        return _end(call, _BY_CREDITS, "step 4, R1", notes, SETTINGS, NUMBERING)
    if sight.family is Family.CONFERENCE and (has_per_minute_tariff or call.outcome != "free"):
        notes.say("step 4, R9", "4 inbound", "yes, to a meeting of a per-minute organiser: credits pay at that tariff")
        is_known = call.tariff in tables.tariffs
        notes.insist(has_per_minute_tariff or not is_known, "tariff", call.tariff, "a per-minute one", "R9")
        notes.cannot_tell("that the organiser held a per-minute licence: licences are the user's")
        return _end(call, _BY_CREDITS, "step 4, R9", notes)
    notes.say("step 4", "4 inbound", "yes, to an ordinary number: free")
    return _end(call, (("free", "inbound"),), "step 4", notes, SETTINGS, NUMBERING)


def _barred(call: RatedCall, sight: Sight, tables: Tables, notes: Notes) -> bool:
    is_meeting = sight.family is Family.CONFERENCE
    part = "meeting" if is_meeting else "own-calls"
    notes.cannot_tell("the dial-out policy that applied: it is the user's or the tenant's")
    if call.reason != "barred_by_policy":
        says = f"the {part} part of the user's, else the tenant's policy let the call through"
        notes.say("step 5, R57-R59", "5 policy", says)
        return False
    country = call.destination_country
    zone = tables.country(country).zone if country else ""
    could = [
        each
        for each in ((DOMESTIC, ZONE_A, NONE) if is_meeting else (DOMESTIC, NONE))
        if not allows(each, destination_country=country, usage_country=call.rating_country, zone=zone)
    ]
    says = f"the {part} part of the policy bars it; parts that would: {', '.join(could)}"
    notes.say("step 5, R57, R58", "5 policy", says, f"countries.csv: {country}" if country else None)
    return _end(call, (("unpaid", "barred_by_policy"),), "step 5", notes)


def _premium(call: RatedCall, sight: Sight, tables: Tables, notes: Notes) -> bool:
    allowed = sight.country.premium_outbound
    number = (call.callee_number or "")[1:]
    has_prefix = allowed != ALL_PREMIUM and bool(allowed) and number.startswith(allowed)
    if not has_prefix and call.number_class != "premium":
        notes.say("step 6, R10", "6 premium", f"no: class {call.number_class}")
        return False
    is_allowed = has_prefix or allowed == ALL_PREMIUM
    listed = "all" if allowed == ALL_PREMIUM else "; ".join(allowed) or "no"
    verdict = "credits pay, whatever the plan" if is_allowed else "not allowed"
    table = f"countries.csv: {call.rating_country}, premium_outbound {listed}"
    notes.say("step 6, R10", "6 premium", f"yes: {verdict}", table)
    notes.expect("pool_id", call.pool_id, None, "R10", NUMBERING)
    return _end(
        call, _BY_CREDITS if is_allowed else (("unpaid", "premium_not_allowed"),), "step 6, R10", notes, NUMBERING
    )


def _dial_out(call: RatedCall, sight: Sight, tables: Tables, notes: Notes) -> bool:
    if sight.family is not Family.CONFERENCE:
        notes.say("step 7", "7 dial-out", "no: no meeting")
        return False
    tariff = tables.tariffs.get(call.tariff or "")
    if call.outcome == "included" and call.pool_id is None:
        is_near = call.destination_country in _EXTENDED_COUNTRIES
        notes.insist(is_near, "outcome", "included without a pool", "only to US and CA", "R37")
        says = f"to {call.destination_country} under the extended dial-out add-on: included, neither pool nor credits"
        rules = "step 7, R37"
    elif call.pool_id is not None:
        says, rules = "the tenant's dial-out pool gives its minutes, then credits", "step 7, R4, R32"
    elif tariff is not None and tariff.kind == "per_minute_conferencing":
        says, rules = "the organiser is charged by the minute: credits at that tariff", "step 7, R9"
    else:
        says, rules = "no pool gave anything: credits of the organiser", "step 7, R3, R17"
        notes.cannot_tell(_POOLS_UNKNOWN)
    notes.say(rules, "7 dial-out", says)
    notes.cannot_tell(_LICENCES_UNKNOWN)
    return _end(call, _BY_POOL + _BY_CREDITS, rules, notes)


def _own_call(call: RatedCall, sight: Sight, notes: Notes) -> None:
    if call.pool_id is not None:
        says, rules = f"the user's plan gives its {call.scope} minutes, then credits", "step 8, R6, R19"
    elif call.reason == "no_calling_plan":
        says, rules = "the user holds no calling plan and is no resource account", "step 8"
        is_user = sight.family is Family.OWN or call.user_id is not None
        notes.insist(is_user, "reason", call.reason, "a resource account needs no plan", "R12")
    else:
        says, rules = "no pool gave anything: credits", "step 8, R5-R8, R12"
        notes.cannot_tell(_POOLS_UNKNOWN)
    notes.say(rules, "8 calling plan", says)
    notes.cannot_tell(_LICENCES_UNKNOWN)
    notes.insist(call.outcome != "included" or call.pool_id is not None, "pool_id", None, "the pool that gave", "D5")
    _end(call, (*_BY_POOL, *_BY_CREDITS, ("unpaid", "no_calling_plan")), rules, notes)

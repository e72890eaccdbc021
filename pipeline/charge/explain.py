"""A rated call in words: the steps that led to it, each with its rule, row and numbers, worked out again on the way.

Pure. What follows from the record and the tables at hand is recomputed and compared; licences, policy and what was in
the account are not in the record, and it is said so instead of guessed. A replay of the history knows them.
"""

from __future__ import annotations

from pipeline.base.calendar import format_time, month_of
from pipeline.base.money import ceil_div
from pipeline.base.rules import Rules, rules_version
from pipeline.cdr.call_types import CALL_TYPES, Family
from pipeline.cdr.numbering import NUMBERING_VERSION
from pipeline.charge.explain_money import explain_capability, explain_payment, explain_pool, explain_price
from pipeline.charge.explain_row import Sight, explain_rate, explain_row, sight_of
from pipeline.charge.explain_steps import explain_steps
from pipeline.charge.explanation import NUMBERING, SETTINGS, Explanation, Notes, money
from pipeline.charge.tables import Tables
from pipeline.emit.outputs import RatedCall

_RULES_OF_REASON = {
    "no_account_funding": ("R2, R71", "the account is prepaid, was never funded, and auto-recharge is off"),
    "no_credits_licence": ("R16, R17", "the paying user holds no credits licence"),
    "spend_cap_reached": ("R63", "the user's spending in the month of the call's start has reached his cap"),
    "balance_not_positive": ("D8, R60", "the balance did not allow it, and the call had not begun before that"),
    "overage_off": ("D9, R68", "the post-paid account's balance does not pay the whole, and overage is off"),
}


def explain(call: RatedCall, tables: Tables, rules: Rules) -> Explanation:
    """All that the record tells, compared with what tables and rules at hand say. Never raises for a record of a known
    call type; ValueError for another."""
    if call.call_type not in CALL_TYPES:
        raise ValueError(f"call {call.usage_id}: call type {call.call_type!r} is none of the report's")
    notes = Notes()
    _provenance(call, rules, notes)
    sight = sight_of(call, tables, rules)
    notes.expect("direction", call.direction, "inbound" if sight.is_inbound else "outbound", "section 2")
    _minutes(call, notes)
    look = explain_row(call, sight, tables, notes)
    explain_steps(call, sight, tables, notes)
    explain_rate(call, sight, look, notes)
    due_micros = explain_price(call, look, notes)
    explain_pool(call, sight, tables, notes)
    if call.outcome == "unpaid" and call.reason in _RULES_OF_REASON:
        _refusal(call, due_micros, sight, rules, notes)
    _need_of_a_row(call, due_micros, notes)
    explain_capability(call, sight, tables, notes)
    debited, postpaid = explain_payment(call, due_micros, rules, notes)
    _result(call, debited, postpaid, notes)
    return Explanation(
        call.usage_id, call.tenant_id, notes.steps, notes.differences, list(notes.missing.values()), notes.not_known
    )


def _provenance(call: RatedCall, rules: Rules, notes: Notes) -> None:
    place = f"{call.source_topic}:{call.source_partition}:{call.source_offset}"
    says = (
        f"taken by the broker at {format_time(call.received_at)} as {place}; record {call.applied_seq:,} of the ledger "
        f"that began {format_time(call.ledger_epoch)}; rules {call.rules_version}"
    )
    notes.say("section 2", "record", says)
    code, settings, numbering = (*call.rules_version.split("-", 2), "", "")[:3]
    code_here, settings_here, numbering_here = rules_version(rules, NUMBERING_VERSION).split("-", 2)
    if code != code_here:
        notes.miss("code", f"rules of code version {code} are not at hand: this program has version {code_here}")
    if settings != settings_here:
        says = f"settings with digest {settings} are not at hand: those given have {settings_here} (see the options)"
        notes.miss(SETTINGS, says)
    if numbering != numbering_here:
        notes.miss(NUMBERING, f"numbering data {numbering} are not at hand: installed are {numbering_here}")
    notes.cannot_tell("the version of licences.csv, countries.csv and the allowances: the record names its deck only")


def _minutes(call: RatedCall, notes: Notes) -> None:
    minutes = 0 if call.outcome == "duplicate" else ceil_div(call.duration_s, 60)
    notes.expect("billable_minutes", call.billable_minutes, minutes, "D1, R44")
    if call.outcome == "duplicate":
        notes.say("step 1", "minutes", "none: the call was rated before")
    else:
        says = f"{call.duration_s:,} s are {minutes:,} minutes: each that began counts"
        notes.say("D1, R43, R44", "minutes", says)
    says = f"{month_of(call.start_time)}, the month in UTC in which the call began ({format_time(call.start_time)})"
    notes.say("D2, R47", "month", says)


def _need_of_a_row(call: RatedCall, due_micros: int, notes: Notes) -> None:
    """D7: without a row the call is given away; with one, and nothing to pay, it is free."""
    has_row = call.rate_prefix is not None
    if call.outcome == "split":
        notes.insist(call.pool_id is not None, "pool_id", None, "the pool that gave a part", "D5")
    elif call.outcome in {"charged", "postpaid", "free_call"} and call.pool_id is not None:
        notes.insist(call.outcome == "free_call", "outcome", call.outcome, "split: a pool gave a part", "D5")
    if call.outcome == "free_call":
        notes.say("D7, R48", "free call", "no row prices it: given away, before any other check")
        notes.insist(not has_row, "outcome", call.outcome, "no free call: there is a row", "D7")
    elif call.reason == "zero_rate":
        notes.say("D7", "zero rate", "what is to be charged is 0: free")
        notes.insist(has_row and due_micros == 0, "reason", call.reason, f"{due_micros:,} to pay", "D7")
    elif call.outcome in {"charged", "split", "postpaid"} or call.reason in _RULES_OF_REASON:
        notes.insist(has_row, "outcome", call.outcome, "free_call: there is no row", "D7")
        notes.insist(due_micros > 0 or not has_row, "outcome", call.outcome, "free (zero_rate): nothing to pay", "D7")


def _refusal(call: RatedCall, due_micros: int, sight: Sight, rules: Rules, notes: Notes) -> None:
    """A check of the credits failed; what of it can be seen in the record is held against it."""
    reason = call.reason or ""
    rule, says = _RULES_OF_REASON[reason]
    notes.say(rule, "credits", f"{says}: {money(due_micros, call.currency)} stay unpaid")
    balance = call.balance_after_micros
    if reason == "balance_not_positive":
        limit = 0 if rules.overdraft_allowed else due_micros - 1
        notes.insist(balance <= limit, "balance_after_micros", balance, f"at most {limit:,}", "D8", SETTINGS)
    elif reason == "overage_off":
        notes.insist(balance < due_micros, "balance_after_micros", balance, f"below {due_micros:,}", "D9")
    elif reason == "spend_cap_reached":
        notes.insist(sight.family is Family.OWN, "reason", reason, "caps hold for own calls only", "R63")
    elif reason == "no_credits_licence":
        is_user = sight.family is not Family.APPLICATION or call.user_id is not None
        notes.insist(is_user, "reason", reason, "a resource account needs none", "R12")
    notes.cannot_tell("the settings of account and user that this check asked")


def _result(call: RatedCall, debited_micros: int, postpaid_micros: int, notes: Notes) -> None:
    why = f" ({call.reason})" if call.reason else ""
    says = (
        f"{call.outcome}{why}: {money(debited_micros, call.currency)} debited, "
        f"{money(postpaid_micros, call.currency)} post-paid; balance after it {call.balance_after_micros:,}"
    )
    notes.say("section 3", "result", says)

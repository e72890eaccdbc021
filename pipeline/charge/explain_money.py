"""What a recorded call took from pool, lots and receivable, worked out again (D3-D9)."""

from __future__ import annotations

from pipeline.base.calendar import month_of
from pipeline.base.rules import Rules
from pipeline.cdr.call_types import Family
from pipeline.charge.explain_row import Look, Sight
from pipeline.charge.explanation import DECK, SETTINGS, Notes, money
from pipeline.charge.tables import Licence, Tables
from pipeline.emit.outputs import RatedCall

_PAID = frozenset(("charged", "split", "postpaid"))
CREDITS_CAPABILITY = "MCOPSTNPP"


def explain_price(call: RatedCall, look: Look, notes: Notes) -> int:
    """Compares the price without any pool (D3); returns what is to be paid after the pool (D5)."""
    row = look.row
    rate = (call.rate_micros_per_minute or 0) if row is None else row.rate_micros_per_minute
    fee = (call.connection_fee_micros or 0) if row is None else row.connection_fee_micros
    minutes, left = call.billable_minutes, call.billable_minutes - call.pool_minutes
    price = fee + minutes * rate if call.rate_prefix is not None or row is not None else 0
    due = left * rate + (0 if call.pool_id else fee) if price or rate or fee else 0
    notes.expect("price_micros", call.price_micros, price, "D3")
    if call.rate_prefix is not None:
        says = f"fee {fee:,} + {minutes:,} min x {rate:,} = {money(price, call.currency)}"
        notes.say("D3", "price", f"{says}, whatever a pool gave")
    return due


def explain_pool(call: RatedCall, sight: Sight, tables: Tables, notes: Notes) -> None:
    """Which pool, whether the call could draw on it, and how much it gave (D4, D5)."""
    if call.pool_id is None:
        notes.expect("pool_minutes", call.pool_minutes, 0, "D5")
        return
    sku = call.pool_id[len(call.tenant_id) + 1 :].split(":")[1:2]
    licence = tables.licences.get(sku[0]) if sku else None
    if licence is None:
        notes.expect("pool_id", call.pool_id, "a pool of a licence that licences.csv has", "D4")
        return
    unit = _dial_out(call, licence, tables, notes) if sight.family is Family.CONFERENCE else None
    if unit is None:
        unit = _plan(call, sight, licence, tables, notes)
    minutes, given = call.billable_minutes, call.pool_minutes
    notes.insist(unit > 0, "pool_id", call.pool_id, "no pool: the tables give this licence no minutes here", "D4")
    notes.insist(0 < given <= minutes, "pool_minutes", given, f"1 to {minutes}", "D5")
    if call.outcome == "included":
        notes.expect("pool_minutes", given, minutes, "D5")
    else:
        notes.insist(given < minutes, "pool_minutes", given, f"less than {minutes}, or the call is included", "D5")
    notes.say("D4, D5", "pool", f"{call.pool_id} gave {given:,} of {minutes:,} minutes")
    notes.cannot_tell("how large the pool was and what had been used of it: both are the account's")


def _plan(call: RatedCall, sight: Sight, licence: Licence, tables: Tables, notes: Notes) -> int:
    country, scope, month = sight.country, call.scope or "", month_of(call.start_time)
    pool_id = f"{call.tenant_id}:{country.pool_group}:{licence.sku}:{scope}:{month}"
    if licence.pooling == "user" and call.user_id is not None:
        pool_id += f":{call.user_id}"
    notes.expect("pool_id", call.pool_id, pool_id, "D4")
    kinds = ("calling_international",) if scope == "international" else ("calling_domestic", "calling_international")
    notes.insist(licence.kind in kinds, "pool_id", call.pool_id, f"a plan with {scope} minutes", "R22")
    if scope == "international":
        is_listed = call.destination_country is not None and tables.country(call.destination_country).international_plan
        notes.insist(is_listed, "pool_id", call.pool_id, "no pool: the plan does not cover the destination", "R7")
    minutes = tables.allowance_minutes(licence.sku, country.iso2, scope, call.start_time)
    who = "this user's own" if licence.pooling == "user" else f"for each user of the plan in {country.pool_group}"
    says = f"{minutes:,} minutes a month, {who}; at the call's start, in UTC"
    notes.say("R19, R26", "allowance", says, f"allowances.csv: {licence.sku}, {country.iso2}, {scope}")
    return minutes


def _dial_out(call: RatedCall, licence: Licence, tables: Tables, notes: Notes) -> int:
    month = month_of(call.start_time)
    notes.expect("pool_id", call.pool_id, f"{call.tenant_id}:conferencing:{licence.sku}:dial_out:{month}", "D4")
    allowance = tables.conferencing_allowance(licence.sku, call.start_time)
    reaches = allowance is not None and call.destination_country in allowance.destinations
    notes.insist(reaches, "pool_id", call.pool_id, "no pool: the licence does not reach the destination", "R32, R36")
    minutes = 0 if allowance is None else allowance.minutes_per_licence
    says = f"{minutes:,} minutes a month for each licence, bought or else assigned, in one pool of the tenant"
    notes.say("R32-R36", "allowance", says, f"conferencing_allowances.csv: {licence.sku}")
    return minutes


def explain_payment(call: RatedCall, due_micros: int, rules: Rules, notes: Notes) -> tuple[int, int]:
    """Who paid what is due; the parts as they must be, debited and post-paid."""
    is_paid = call.outcome in _PAID
    charged_minutes = call.billable_minutes - call.pool_minutes if is_paid else 0
    notes.expect("charged_minutes", call.charged_minutes, charged_minutes, "section 2")
    before = call.balance_after_micros + call.debited_micros
    postpaid = 0
    if is_paid and call.postpaid_micros:  # D9: the balance first, down to exactly zero
        postpaid = due_micros - max(0, min(before, due_micros))
    debited = due_micros - postpaid if is_paid else 0
    if call.outcome in {"charged", "postpaid"}:
        is_owed = call.postpaid_micros > 0
        notes.expect("outcome", call.outcome, "postpaid" if is_owed else "charged", "D9")
    notes.expect("debited_micros", call.debited_micros, debited, "D5, D8, D9")
    notes.expect("postpaid_micros", call.postpaid_micros, postpaid, "D9")
    if is_paid:
        fee = "; the pool gave something, so no fee" if call.pool_id else ", fee included"
        says = f"{charged_minutes:,} of {call.billable_minutes:,} min{fee}: {money(due_micros, call.currency)} to pay"
        notes.say("D5", "due", says)
        _explain_lots(call, before, rules, notes)
    else:
        notes.expect("lots", [*call.lots], [], "section 3")
        notes.expect("overdraft_micros", call.overdraft_micros, 0, "section 3")
    if call.outcome == "postpaid" or call.postpaid_micros:
        says = f"{money(call.postpaid_micros, call.currency)} to be billed afterwards; overage is enabled"
        notes.say("D9, R67-R69", "post-paid", says)
        if call.debited_micros:
            notes.expect("balance_after_micros", call.balance_after_micros, 0, "D9")
        else:
            notes.insist(
                call.balance_after_micros <= 0, "balance_after_micros", call.balance_after_micros, "<= 0", "D9"
            )
    return debited, postpaid


def _explain_lots(call: RatedCall, before: int, rules: Rules, notes: Notes) -> None:
    """Lots + overdraft = debited; with money in lots there is no overdraft, so the balance tells how much of each."""
    amounts = [amount_micros for _, amount_micros in call.lots]
    from_lots = min(call.debited_micros, max(0, before))
    notes.expect("lots", sum(amounts), from_lots, "D8")
    notes.expect("overdraft_micros", call.overdraft_micros, call.debited_micros - from_lots, "D8, R61")
    notes.insist(all(amount > 0 for amount in amounts), "lots", amounts, "amounts above 0", "D8")
    names = [lot_id for lot_id, _ in call.lots]
    notes.insist(len(set(names)) == len(names), "lots", names, "each lot once", "D8")
    if not rules.overdraft_allowed:
        notes.insist(call.overdraft_micros == 0, "overdraft_micros", call.overdraft_micros, "0", "R60", SETTINGS)
    if not call.debited_micros:
        return
    parts = [f"lot {lot_id} {amount_micros:,}" for lot_id, amount_micros in call.lots]
    if call.overdraft_micros:
        parts.append(f"overdraft {call.overdraft_micros:,}")
    says = f"{' + '.join(parts)} = {money(call.debited_micros, call.currency)}"
    notes.say("D8, R53, R61", "lots", f"{says}; the balance went from {before:,} to {call.balance_after_micros:,}")
    notes.cannot_tell("whether these were the oldest lots: the others are the account's (--history replays them)")


def explain_capability(call: RatedCall, sight: Sight, tables: Tables, notes: Notes) -> None:
    """The code of what paid (R14), by outcome."""
    needs: tuple[str, ...] = ()
    match call.outcome:
        case "included":
            wanted = _included_by(call, tables)
        case "split":
            wanted = CREDITS_CAPABILITY
        case "charged" | "postpaid":
            needs = (DECK,)
            wanted = _paid_by(call, sight, tables)
        case "free_call":
            wanted = "FREECALL"
        case _:
            wanted = None
    notes.expect("capability", call.capability, wanted, "R14", *needs)


def _included_by(call: RatedCall, tables: Tables) -> str | None:
    if call.pool_id is None:
        codes = {each.capability for each in tables.licences.values() if each.kind == "extended_dial_out"}
        return call.capability if call.capability in codes else next(iter(sorted(codes)), None)
    sku = call.pool_id[len(call.tenant_id) + 1 :].split(":")[1:2]
    licence = tables.licences.get(sku[0]) if sku else None
    return None if licence is None else licence.capability


def _paid_by(call: RatedCall, sight: Sight, tables: Tables) -> str | None:
    tariff = tables.tariffs.get(call.tariff or "")
    if sight.family is not Family.CONFERENCE or tariff is None or tariff.kind == "subscription":
        return CREDITS_CAPABILITY
    codes = [each.capability for each in tables.licences.values() if each.kind == "conferencing_per_minute"]
    return call.capability if call.capability in codes else next(iter(codes), None)

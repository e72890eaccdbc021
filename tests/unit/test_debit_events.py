"""What each event says of itself: amount, user and details (records.md section 2)."""

from __future__ import annotations

from pipeline.debit.slices import Applied
from tests.ledger_world import BERLIN, NO_RATE, SEATTLE, VANCOUVER, World

Said = tuple[str, int | None, str | None, dict[str, str]]


def said(applied: Applied) -> list[Said]:
    return [(event.kind, event.amount_micros, event.user_id, event.details) for event in applied.events]


def test_funds_and_refunds_name_their_lot_their_call_and_how_they_were_paid():
    world = World()
    paid = {"payment_method": "enterprise_agreement", "enterprise_agreement_no": "EA-7", "purchase_order_no": "PO-1"}
    added = {"lot_id": "f1", "reference": "order 5"}
    assert said(world.funds(70, command_id="f1", reference="order 5", **paid)) == [
        ("funds_added", 70, None, added | paid)
    ]
    assert said(world.refund("k9", 30, 12)) == [("call_refunded", 42, None, {"usage_id": "k9", "reason": "late"})]


def test_a_pools_events_name_the_pool_and_its_minutes_and_the_user_of_one_of_his_own():
    """A percent below 80 says nothing; a pool of many users is nobody's."""
    world = World()
    world.user("MCOPSTN6")
    pool = {"pool_id": "A:US+PR:MCOPSTN6:domestic:2026-03", "size_minutes": "240"}
    assert said(world.call(SEATTLE, 191)) == []
    assert said(world.call(SEATTLE)) == [("pool_at_80", None, None, pool | {"used_minutes": "192"})]
    assert said(world.call(SEATTLE, 48)) == [("pool_exhausted", None, None, pool | {"used_minutes": "240"})]
    world = World()
    world.user("MCOPSTN8")
    pool = {"pool_id": "A:US+PR:MCOPSTN8:domestic:2026-03:u1", "size_minutes": "120"}
    assert said(world.call(SEATTLE, 100)) == [("pool_at_80", None, "u1", pool | {"used_minutes": "100"})]


def test_a_cap_names_its_user_its_month_and_what_was_spent():
    world = World()
    world.user("MCOPSTN_PAYG_1", spend_cap_micros=20_000)
    world.funds(10**6)
    cap = {"month": "2026-03", "spend_cap_micros": "20000"}
    assert said(world.call(BERLIN, 2)) == [("spend_cap_reached", 21_000, "u1", cap)]


def test_a_missing_rate_names_the_destination_and_the_first_call():
    world = World()
    world.user("MCOPSTN_PAYG_1")
    missing = {"destination_country": "FR", "usage_id": "k7"}
    assert said(world.call(NO_RATE, usage_id="k7")) == [("rate_missing", None, None, missing)]
    missing = {"destination_country": "", "usage_id": "k8"}
    assert said(world.call("+99912345", usage_id="k8")) == [("rate_missing", None, None, missing)]


def test_a_recharge_names_its_request_and_how_it_is_paid_and_a_late_success_when_it_had_failed():
    world = World()
    paid = {"payment_method": "card", "enterprise_agreement_no": "EA-1", "purchase_order_no": "PO-9"}
    ((kind, amount_micros, user_id, details),) = said(world.recharge(1, 500))
    assert (kind, amount_micros, user_id) == ("recharge_requested", 500, None)
    assert details == {"recharge_id": details["recharge_id"]} | paid
    request = details["recharge_id"]
    assert said(world.answer(request, succeeded=False, reason="card expired")) == [
        ("recharge_failed", 500, None, details | {"reason": "card expired"})
    ]
    failed = {"failed_at": world.now}
    assert said(world.answer(request, at="2026-03-02T00:10:00Z")) == [
        ("recharge_succeeded", 500, None, details | failed)
    ]


def test_a_recharge_that_succeeds_at_once_never_failed():
    world = World()
    ((_, _, _, details),) = said(world.recharge(1, 500))
    assert said(world.answer(details["recharge_id"])) == [("recharge_succeeded", 500, None, details)]


def test_a_budget_that_is_reached_is_named_with_what_would_pass_it():
    world = World()
    assert said(world.recharge(1, 500, monthly_budget_micros=499)) == [
        ("recharge_budget_reached", 500, None, {"budget_micros": "499"})
    ]


def test_a_lots_events_name_it_and_what_is_left_of_it():
    world = World()
    world.user("MCOPSTN_PAYG_1")
    world.funds(10**6, command_id="old", purchased_at="2025-03-20T00:00:00Z")
    assert said(world.call(VANCOUVER, 0)) == [("lot_expiring", 10**6, None, {"lot_id": "old"})]
    assert said(world.tick("2026-03-20T00:00:00Z"))[0] == ("lot_expired", 10**6, None, {"lot_id": "old"})

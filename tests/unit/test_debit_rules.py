"""Money and minutes of an account over time; the golden scenarios show the rules, these their edges."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.base.reject import InvariantBroken
from pipeline.base.rules import Rules
from pipeline.charge.subscriber import Terms
from pipeline.charge.tables_io import load_tables
from pipeline.debit.account import Account, Lot
from pipeline.debit.retention import REFUND_MEMORY_MS
from tests.ledger_world import BERLIN, CUBA, SEATTLE, TABLES, VANCOUVER, World, ended, kinds, refused


def payg(rules: Rules | None = None, **terms: object) -> World:
    world = World(rules, **terms)
    world.user("MCOPSTN_PAYG_1")
    return world


def balance(world: World) -> int:
    return world.account["balance_micros"]


def test_d4_a_pool_grows_and_shrinks_with_its_users():
    """The counters follow every way in which a user comes, moves and goes."""
    world = World()
    world.user("MCOPSTN5", "MCOPSTNPP")
    world.user("MCOPSTN5", user_id="u2", country="PR")
    world.user("MCOPSTN5", user_id="u3", country="DE")

    def left() -> int:
        return 10_000 - world.call(SEATTLE, 10_000, start_time="2026-02-10T00:00:00Z").rated.charged_minutes

    world.funds(10**12)
    assert left() == 240
    world.user("MCOPSTN5", user_id="u3", country="US")
    assert left() == 120
    world.command("assign_licences", user_ids=["u4", "u2"], add=["MCOPSTN6"], remove=["MCOPSTN5"])
    world.command("assign_licences", user_ids=["u2"], add=["MCOPSTN5"], remove=["MCOPSTN6"])
    assert left() == 0
    world.open(country="PR")
    world.user("MCOPSTN5", user_id="u5")
    assert left() == 120
    world.command("remove_user", user_id="u5")
    world.user("MCOPSTN5", user_id="u6")
    assert left() == 0


def test_d4_the_tenants_country_moves_its_users_without_one():
    """Users without a country are the tenant's; a repeated open_account must move them to the other pool."""
    world = World(country="DE")
    world.user("MCOPSTN5")
    assert world.call(BERLIN).rated.pool_id == "A:DE:MCOPSTN5:domestic:2026-03"
    world.open(country="US")
    assert world.call(SEATTLE, 120).rated.pool_id == "A:US+PR:MCOPSTN5:domestic:2026-03"


def test_d4_a_usage_country_override_draws_on_that_countrys_pool_which_may_be_empty():
    """The user counts at home only."""
    world = World()
    world.user("MCOPSTN1", "MCOPSTNPP")
    world.funds(10**6)
    assert ended(world.call(BERLIN, usage_country="DE")) == ("charged", None, "MCOPSTNPP")
    assert world.account["pools"] == []


def test_r23_as_a_setting_either_quota_closes_the_other():
    """The text does not settle it; the default keeps them apart."""
    for closes, outcome in ((False, "included"), (True, "charged")):
        world = World(Rules(international_quota_closes_domestic=closes))
        world.user("MCOPSTN2", "MCOPSTNPP")
        world.funds(10**9)
        assert ended(world.call(BERLIN, 600))[0] == "included"
        assert ended(world.call(SEATTLE))[0] == outcome


def test_r23_the_end_of_the_domestic_quota_closes_the_international_one_too():
    world = World(Rules(international_quota_closes_domestic=True))
    world.user("MCOPSTN2", "MCOPSTNPP")
    world.funds(10**9)
    assert ended(world.call(SEATTLE, 3_000))[0] == "included"
    assert ended(world.call(BERLIN))[0] == "charged"


@pytest.mark.parametrize(("minutes", "outcome"), [(0, "included"), (1, "charged")])
def test_r23_a_quota_of_size_0_never_came_to_an_end(tmp_path: Path, minutes: int, outcome: str):
    """One of a single minute does, by a call of that length."""
    shutil.copytree(TABLES, tmp_path, dirs_exist_ok=True)
    with (tmp_path / "allowances.csv").open("a") as file:
        file.write("MCOPSTN2,IT,domestic,1200,2010-01-01,,invented made up\n")
        if minutes:
            file.write(f"MCOPSTN2,IT,international,{minutes},2010-01-01,,invented made up\n")
    world = World(Rules(international_quota_closes_domestic=True), load_tables(tmp_path), country="IT")
    world.user("MCOPSTN2", "MCOPSTNPP")
    world.funds(10**9)
    assert ended(world.call(BERLIN))[0] == ("included" if minutes else "charged")
    assert ended(world.call("+390612345678"))[0] == outcome


def test_d6_an_unpaid_split_has_used_the_pool():
    """Whatever the credits say, the minutes are gone; a split without a fee in its price."""
    world = World()
    world.user("MCOPSTN5")
    call = world.call(SEATTLE, 130).rated
    assert (call.outcome, call.reason, call.pool_minutes, call.charged_minutes) == (
        "unpaid",
        "no_account_funding",
        120,
        0,
    )
    assert world.account["pools"][0]["used_minutes"] == 120


def test_d8_the_last_call_overdraws_and_new_funds_settle_that_first():
    """R61; the lot keeps what the overdraft leaves of it."""
    world = payg()
    world.funds(10_000)
    call = world.call(BERLIN, 2).rated
    assert (call.overdraft_micros, call.balance_after_micros) == (11_000, -11_000)
    assert [lot_id for lot_id, _ in call.lots] == ["c3"]
    (entry,) = world.funds(15_000, command_id="more").entries
    assert [tuple(side) for side in entry.postings] == [
        ("payments", -15_000), ("credits:overdraft", 11_000), ("credits:more", 4_000),
    ]  # fmt: skip
    assert balance(world) == 4_000


def test_d8_funds_that_the_overdraft_swallows_leave_an_empty_lot():
    """Its id must still not be used twice."""
    world = payg()
    world.funds(10_000)
    world.call(BERLIN, 10)
    assert kinds(world.funds(50_000, command_id="gone")) == ["funds_added"]
    assert world.account["lots"][1] | {"purchased_at": 0, "expires_at": 0} == {
        "lot_id": "gone", "purchased_at": 0, "expires_at": 0, "remaining_micros": 0,
    }  # fmt: skip
    assert kinds(world.funds(50_000, at="2026-04-02T00:00:00Z", command_id="gone")) == []
    assert balance(world) == -45_000


def test_d8_a_single_micro_unit_is_above_zero():
    """It keeps the service, its end is announced, and it restores the service."""
    world = payg()
    world.funds(10_501)
    assert kinds(world.call()) == []
    assert kinds(world.call()) == ["balance_zero", "service_suspended"]
    assert kinds(world.funds(10_500, command_id="one")) == ["funds_added", "service_restored"]
    assert balance(world) == 1


@pytest.mark.parametrize("balance_micros", [10_500, 1])
def test_d8_what_started_before_the_suspension_is_still_debited(balance_micros: int):
    """Started the millisecond before: debited; at that instant: unpaid."""
    world = payg()
    world.funds(balance_micros)
    assert kinds(world.call(at="2026-03-02T10:00:00Z")) == ["balance_zero", "service_suspended"]
    later = "2026-03-02T11:00:00Z"
    assert ended(world.call(at=later, start_time="2026-03-02T09:59:59.999Z"))[0] == "charged"
    assert ended(world.call(at=later, start_time="2026-03-02T10:00:00Z"))[:2] == ("unpaid", "balance_not_positive")


def test_r60_without_overdraft_only_what_the_balance_holds_is_debited():
    """The setting for tenants whose running calls are cut."""
    world = payg(Rules(overdraft_allowed=False))
    world.funds(20_000)
    assert ended(world.call(BERLIN, 2))[:2] == ("unpaid", "balance_not_positive")
    assert ended(world.call(BERLIN, 1))[0] == "charged"
    assert balance(world) == 9_500


def test_d9_without_overage_a_post_paid_account_pays_what_it_has_to_the_last_micro_unit():
    world = payg(agreement="postpaid", overage_enabled=False)
    world.funds(10_500)
    assert ended(world.call())[0] == "charged"
    assert ended(world.call())[:2] == ("unpaid", "overage_off")


def test_r69_the_switch_to_post_paid_is_said_again_after_each_later_funding():
    """By hand or by a recharge."""
    world = payg(agreement="postpaid", overage_enabled=True)
    world.funds(10_500)
    said = [kinds(world.call(BERLIN, 2)), kinds(world.call())]
    request = world.recharge(1, 10_000).events[-1].details["recharge_id"]
    world.answer(request)
    world.recharge(0, 10_000, enabled=False)
    said += [kinds(world.call(BERLIN, 2)), kinds(world.call())]
    assert [("switched_to_postpaid" in each) for each in said] == [True, False, True, False]


def test_d10_lots_expire_by_their_own_time_even_when_the_younger_goes_first():
    """Bought on 29 Feb at 00:00 it ends on 28 Feb at 00:00, before one of 28 Feb at 12:00 of the year before."""
    world = World()
    world.funds(1_000, purchased_at="2028-02-28T12:00:00Z", command_id="old")
    world.funds(1_000, purchased_at="2028-02-29T00:00:00Z", command_id="leap")
    expired = [
        [event.details["lot_id"] for event in world.tick(at).events if event.kind == "lot_expired"]
        for at in ("2029-02-27T23:59:59Z", "2029-02-28T00:00:00Z", "2029-02-28T12:00:00Z")
    ]
    assert expired == [[], ["leap"], ["old"]]


def test_d10_a_forfeiture_that_leaves_nothing_suspends_from_the_instant_of_expiry():
    """A call that started before that instant is debited although the record comes later."""
    world = payg()
    world.funds(1_000, purchased_at="2025-03-02T06:00:00Z")
    call = world.call(at="2026-03-02T08:00:00Z", start_time="2026-03-02T05:59:00Z")
    assert kinds(call) == ["lot_expired", "balance_zero", "service_suspended"]
    assert ended(call)[0] == "charged"
    assert ended(world.call(at="2026-03-02T08:00:00Z", start_time="2026-03-02T06:00:00Z"))[0] == "unpaid"


def test_d11_one_request_is_in_flight_and_the_back_off_grows():
    """1 h, 6 h, then 24 h each; a tick is enough for the retry."""
    world = payg()
    asked = world.recharge(5_000, 100_000, at="2026-03-02T00:00:00Z")
    assert kinds(asked) == ["recharge_requested"]
    assert asked.events[0].details == {
        "recharge_id": "A:account-commands:10:2", "payment_method": "card",
        "enterprise_agreement_no": "EA-1", "purchase_order_no": "PO-9",
    }  # fmt: skip
    assert kinds(world.tick("2026-03-03T00:00:00Z")) == []
    waits, request = [], asked.events[-1]
    hours = 24
    for _ in range(4):
        failed_at = hours
        assert kinds(world.answer(request.details["recharge_id"], stamp(hours), succeeded=False)) == ["recharge_failed"]
        while not (events := world.tick(stamp(hours)).events):
            hours += 1
        waits.append(hours - failed_at)
        request = events[-1]
    assert waits == [1, 6, 24, 24]


def stamp(hours: int) -> str:
    return f"2026-03-{2 + hours // 24:02d}T{hours % 24:02d}:00:00Z"


def test_d11_a_success_brings_the_lot_and_ends_the_back_off():
    """Also the late success of a request that had failed, and then no second time."""
    world = payg()
    first = world.recharge(5_000, 100_000).events[-1].details["recharge_id"]
    world.answer(first, "2026-03-02T01:00:00Z", succeeded=False)
    second = world.tick("2026-03-02T02:00:00Z").events[-1].details["recharge_id"]
    late = world.answer(first, "2026-04-06T01:00:00Z")
    assert kinds(late) == ["recharge_succeeded"]
    assert late.entries[0].recharge_id == first and balance(world) == 100_000
    assert refused(world.answer(first)) == "recharge_unknown"
    assert kinds(world.answer(second)) == ["recharge_succeeded"]
    assert balance(world) == 200_000


def test_d11_a_success_35_days_and_a_moment_after_the_failure_is_unknown():
    """By then an operator has to look at it."""
    world = payg()
    first = world.recharge(5_000, 100_000).events[-1].details["recharge_id"]
    world.answer(first, "2026-03-02T01:00:00Z", succeeded=False)
    assert refused(world.answer(first, "2026-04-06T01:00:00.001Z")) == "recharge_unknown"


def test_d11_each_of_two_failures_may_succeed_late_and_35_days_to_the_moment():
    """Also when the next one fails at that very moment."""
    world = payg()
    first = world.recharge(5_000, 100_000).events[-1].details["recharge_id"]
    world.answer(first, "2026-03-02T01:00:00Z", succeeded=False)
    second = world.tick("2026-03-02T02:00:00Z").events[-1].details["recharge_id"]
    world.answer(second, "2026-04-06T01:00:00Z", succeeded=False)
    assert kinds(world.answer(first)) == ["recharge_succeeded"]
    assert kinds(world.answer(second)) == ["recharge_succeeded"]
    assert refused(world.answer(first)) == refused(world.answer(second)) == "recharge_unknown"


def test_d12_the_budget_counts_what_did_not_fail_and_says_once_a_month_when_it_is_reached():
    """A failed request gives its amount back; a new month begins at nothing."""
    world = payg()
    first = world.recharge(5_000, 100_000, monthly_budget_micros=100_000).events[-1].details["recharge_id"]
    assert kinds(world.answer(first, "2026-03-02T01:00:00Z", succeeded=False)) == ["recharge_failed"]
    second = world.tick("2026-03-02T02:00:00Z").events[-1].details["recharge_id"]
    world.answer(second, "2026-03-02T03:00:00Z")
    assert kinds(world.call(CUBA, at="2026-03-02T04:00:00Z")) == [
        "balance_zero", "service_suspended", "recharge_budget_reached",
    ]  # fmt: skip
    assert kinds(world.tick("2026-03-31T23:59:59Z")) == []
    assert kinds(world.tick("2026-04-01T00:00:00Z")) == ["recharge_requested"]


def test_r69_an_account_that_turns_post_paid_while_suspended_is_restored():
    """By its agreement, or by switching auto-recharge off under a post-paid agreement."""
    world = payg()
    world.funds(10_500)
    world.call()
    world.recharge(0, 1)
    assert kinds(world.open(agreement="postpaid")) == []
    assert kinds(world.recharge(0, 1, enabled=False)) == ["service_restored"]
    assert world.account["suspended"] is False


def test_d9_overdraft_stays_and_the_whole_call_is_post_paid():
    """A balance below zero pays nothing; nothing of it is billed twice."""
    world = payg()
    world.funds(10_000)
    world.call(BERLIN, 2)
    world.open(agreement="postpaid", overage_enabled=True)
    call = world.call().rated
    assert (call.outcome, call.debited_micros, call.postpaid_micros) == ("postpaid", 0, 10_500)
    assert balance(world) == -11_000


def test_refunds_of_both_parts_are_two_entries_and_no_funding():
    """The debited part is a lot of today; the receivable is reversed; an account that was never funded stays so."""
    world = payg()
    applied = world.refund("k1", 700, 300)
    assert [entry.kind for entry in applied.entries] == ["refund", "refund"]
    assert [(event.amount_micros, event.details["usage_id"]) for event in applied.events] == [(1_000, "k1")]
    assert balance(world) == 700
    assert ended(world.call())[:2] == ("unpaid", "no_account_funding")


def test_a_refused_refund_names_its_call():
    world = payg()
    world.refund("k1", 0, 5)
    assert world.refund("k1", 0, 5).rejected.usage_id == "k1"
    assert world.refund("k2", 0, -5).rejected.usage_id == "k2"
    assert world.funds(0).rejected.usage_id is None


def test_a_lot_cannot_be_named_as_the_account_of_overdraft():
    world = payg()
    assert refused(world.funds(5, command_id="overdraft")) == "command_invalid"
    assert kinds(world.funds(5, command_id="overdrafts")) == ["funds_added"]


def test_a_licence_that_is_added_and_taken_away_at_once_is_taken_away():
    world = World()
    world.user("MCOPSTN5")
    world.command("assign_licences", user_ids=["u1"], add=["MCOPSTN5", "MCOPSTN6"], remove=["MCOPSTN5"])
    assert world.call(SEATTLE).rated.capability == "MCOPSTN6"


def test_a_call_is_refunded_once_in_400_days():
    """Remembered in records of its own, forgotten in their order when a later refund comes."""
    world = payg()
    for usage_id in ("k1", "k2", "k3"):
        world.refund(usage_id, 0, 5)
    assert refused(world.refund("k2", 0, 5, at="2027-04-06T00:00:00Z")) == "already_refunded"
    assert REFUND_MEMORY_MS == 400 * 86_400_000
    assert refused(world.refund("k2", 0, 5, at="2027-04-06T00:00:00.001Z")) is None
    assert refused(world.refund("k2", 0, 5)) == "already_refunded"
    assert refused(world.refund("k1", 0, 5)) is None


def test_refunds_that_are_forgotten_leave_no_record():
    """Else an account that refunds often would grow for ever."""
    world = payg()
    for usage_id in ("k1", "k2", "k3"):
        world.refund(usage_id, 0, 5)
    held = world.record_count
    world.refund("k4", 0, 5, at="2027-04-07T00:00:00Z")
    assert world.record_count == held - 2


def test_refunds_are_forgotten_by_their_own_time():
    """The second of two stays when the first goes."""
    world = payg()
    world.refund("k1", 0, 5)
    world.refund("k2", 0, 5, at="2026-03-12T00:00:00Z")
    world.refund("k3", 0, 5, at="2027-04-07T00:00:00Z")
    assert refused(world.refund("k2", 0, 5)) == "already_refunded"
    assert refused(world.refund("k1", 0, 5)) is None


def test_a_refund_made_again_behind_a_clock_that_went_back_keeps_its_place():
    """The first in the queue is younger than those behind it, which outlive their time there; none is lost."""
    world = payg()
    empty = world.record_count
    world.refund("k1", 0, 5, at="2026-03-12T00:00:00Z")
    for usage_id in ("k2", "k3"):
        world.refund(usage_id, 0, 5, at="2026-03-02T00:00:00Z")
    assert refused(world.refund("k2", 0, 5, at="2027-04-07T00:00:00Z")) is None
    assert refused(world.refund("k2", 0, 5)) == "already_refunded"
    assert world.record_count == empty + 3
    world.refund("k9", 0, 5, at="2030-01-01T00:00:00Z")
    assert world.record_count == empty + 1


def test_months_are_dropped_over_the_turn_of_the_year_too():
    world = World()
    world.user("MCOPSTN5", at="2026-12-01T00:00:00Z")
    for at in ("2026-12-31T12:00:00Z", "2027-02-01T12:00:00Z"):
        world.call(SEATTLE, at=at)
    months = [[pool["pool_id"][-7:] for pool in (world.funds(1, at=at), world.account)[1]["pools"]]
              for at in ("2028-02-04T23:59:59Z", "2028-02-05T00:00:00Z", "2028-04-04T00:00:00Z")]  # fmt: skip
    assert months == [["2026-12", "2027-02"], ["2027-02"], []]


def test_months_of_which_no_call_can_come_any_more_are_dropped():
    """The account must not grow by a record a month for ever."""
    world = World()
    world.user("MCOPSTN5", at="2026-01-31T00:00:00Z")
    for at in ("2026-01-31T12:00:00Z", "2026-03-01T12:00:00Z", "2026-06-01T12:00:00Z"):
        world.call(SEATTLE, at=at)
    months = [[pool["pool_id"][-7:] for pool in (world.tick(at), world.funds(1, at=at), world.account)[2]["pools"]]
              for at in ("2027-03-07T23:59:59Z", "2027-03-08T00:00:00Z", "2028-01-01T00:00:00Z")]  # fmt: skip
    assert months == [["2026-01", "2026-03", "2026-06"], ["2026-03", "2026-06"], []]


def test_a_users_own_months_are_dropped_with_his_next_one():
    """MCOPSTN8 pools and monthly spend live in the user's record."""
    world = World()
    world.user("MCOPSTN8", at="2026-01-31T00:00:00Z")
    world.call(SEATTLE, at="2026-01-31T12:00:00Z")
    world.call(SEATTLE, at="2027-05-01T12:00:00Z")
    assert [pool["pool_id"] for pool in world.account["pools"]] == ["A:US+PR:MCOPSTN8:domestic:2027-05:u1"]


def test_a_users_months_of_spending_are_dropped_with_the_first_call_of_a_new_one():
    world = payg()
    world.funds(10**6, purchased_at="2027-01-01T00:00:00Z")
    for at in ("2026-03-02T12:00:00Z", "2027-05-06T00:00:00Z"):
        world.call(at=at)
    (user,) = [user for ledger in world.offline._ledgers if (user := ledger.state.user("A", "u1"))]
    assert list(user.months) == ["2027-05"]


def test_r63_the_cap_stops_own_calls_only_and_says_so_once_a_month():
    """One call may pass it; meetings are not counted; the month is that of the call's start."""
    world = World()
    world.user("MCOPSTN_PAYG_1", "MCOPSTNPP", spend_cap_micros=20_000)
    world.funds(10**6)
    assert [kinds(world.call()) for _ in range(2)] == [[], ["spend_cap_reached"]]
    assert ended(world.call())[:2] == ("unpaid", "spend_cap_reached")
    assert ended(world.call(call_type="conf_out"))[0] == "charged"
    assert ended(world.call(start_time="2026-02-28T23:59:00Z"))[0] == "charged"
    world.user("MCOPSTN_PAYG_1", "MCOPSTNPP", spend_cap_micros=30_000)
    assert kinds(world.call()) == []
    assert ended(world.call())[:2] == ("unpaid", "spend_cap_reached")


def test_r48_rate_missing_is_said_once_a_day_and_country():
    """Of `now`, in UTC; a clock that goes back a day does not say it again."""
    world = payg()
    ats = ("2026-03-02T23:59:59Z", "2026-03-02T23:59:59Z", "2026-03-03T00:00:00Z", "2026-03-02T23:59:59Z")
    said = [kinds(world.call("+33512345678", at=at, start_time="2026-03-02T12:00:00Z")) for at in ats]
    assert said == [["rate_missing"], [], ["rate_missing"], []]
    assert kinds(world.call("+3511234567890")) == ["rate_missing"]


def test_d13_the_events_of_one_record_come_in_their_order():
    """Forfeiture, the call's own, pool, cap, balance, recharge: one call that does it all."""
    world = World()
    world.user("MCOPSTN5", "MCOPSTNPP", spend_cap_micros=1)
    world.funds(10, purchased_at="2025-03-02T06:00:00Z", command_id="gone")
    world.recharge(1, 100)
    world.funds(10, purchased_at="2025-03-20T00:00:00Z", command_id="soon")
    applied = world.call(VANCOUVER, 200, at="2026-03-02T12:00:00Z")
    assert kinds(applied) == [
        "lot_expiring", "lot_expired", "pool_at_80", "pool_exhausted", "spend_cap_reached", "balance_zero",
        "service_suspended", "recharge_requested",
    ]  # fmt: skip
    assert [event.event_index for event in applied.events] == list(range(8))
    assert len({event.event_id for event in applied.events}) == 8
    assert [entry.kind for entry in applied.entries] == ["forfeiture", "usage"]


def test_a_command_sent_again_is_ignored_whatever_it_says_then():
    """For the window, and not for longer; a tick too."""
    world = payg()
    world.recharge(5, 7, enabled=False, command_id="same")
    again = world.recharge(5, 7, command_id="same", at="2026-03-09T00:00:00Z")
    assert (again.rejected, again.events, again.entries) == (None, (), ())
    assert kinds(world.recharge(5, 7, command_id="same", at="2026-03-09T00:00:00.001Z")) == ["recharge_requested"]
    world.funds(10, purchased_at="2025-03-10T00:00:00Z")
    tick = {"command_id": "t", "tenant_id": "", "kind": "tick", "issued_by": "timer"}
    assert kinds(world.apply("command", tick)) == ["lot_expiring"]
    assert kinds(world.apply("command", tick, at="2026-03-10T00:00:00Z")) == []
    assert kinds(world.tick("2026-03-10T00:00:00Z"))[0] == "lot_expired"


@pytest.mark.parametrize(("held", "overdraft_micros"), [([0], 0), ([], -1), ([5], 5)])
def test_books_that_contradict_themselves_are_broken(held: list[int], overdraft_micros: int):
    """A live lot holds something; an overdraft is no debt of ours, and there is none while a lot holds anything."""
    account = Account("A", Terms("US", "USD", "hold_usd", None, "prepaid", False, "DialoutCPCandPSTNInternational"))
    account.lots = [Lot("a", 0, 1, 1, 9, remaining_micros, False) for remaining_micros in held]
    account.overdraft_micros = overdraft_micros
    account.balance_micros = account.opening_micros = sum(held) - overdraft_micros
    with pytest.raises(InvariantBroken):
        account.check()


def test_a_refused_command_changes_nothing_and_its_id_is_not_remembered():
    """Not even lots whose time has come are forfeited by it."""
    world = World()
    world.funds(100, purchased_at="2025-03-02T06:00:00Z")
    bad = world.command("add_funds", "2026-03-03T00:00:00Z", "x", **funds_fields(currency="EUR"))
    assert refused(bad) == "currency_mismatch" and (bad.events, bad.entries) == ((), ())
    assert balance(world) == 100
    assert kinds(world.command("add_funds", None, "x", **funds_fields(currency="USD"))) == [
        "lot_expired",
        "funds_added",
    ]
    again = world.command("add_funds", None, "x", **funds_fields(currency="EUR"))
    assert (again.rejected, again.events) == (None, ())


def funds_fields(currency: str) -> dict[str, object]:
    return {
        "amount_micros": 5, "currency": currency, "purchased_at": "2026-03-02T00:00:00Z", "payment_method": "other",
        "enterprise_agreement_no": None, "purchase_order_no": None, "reference": "r",
    }  # fmt: skip


def test_licences_for_users_none_of_whom_is_known_change_nothing_and_the_first_twenty_are_named():
    """Not even time passes; where one of them is known, it is obeyed for him."""
    world = World()
    world.user("MCOPSTN5")
    world.funds(100, purchased_at="2025-03-02T06:00:00Z")
    unknown = [f"v{number:02d}" for number in range(22)]
    named = "never set, or removed: " + ", ".join([f"'{user_id}'" for user_id in unknown[:20]])
    licences = {"add": ["MCOPSTN6"], "remove": ["MCOPSTN5"]}
    applied = world.command("assign_licences", "2026-03-03T00:00:00Z", user_ids=unknown, **licences)
    assert applied.rejected.detail == named + " and 2 more"
    assert kinds(applied) == [] and balance(world) == 100
    applied = world.command("assign_licences", user_ids=[*unknown[:20], "u1"], **licences)
    assert applied.rejected.detail == named
    assert kinds(applied) == ["lot_expired", "balance_zero", "service_suspended"]
    assert world.call(SEATTLE).rated.capability == "MCOPSTN6"


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        ("set_user", {"licences": ["NOPE"]}, "command_invalid"),
        ("set_user", {"dial_out_policy": "NOPE"}, "command_invalid"),
        ("remove_user", {"user_id": "u9"}, "user_unknown"),
        ("assign_licences", {"user_ids": ["u1"], "add": ["NOPE"], "remove": []}, "command_invalid"),
        ("assign_licences", {"user_ids": ["u8", "u9"], "add": [], "remove": []}, "user_unknown"),
        ("set_purchased_licences", {"sku": "NOPE", "count": 1}, "command_invalid"),
        (
            "recharge_result",
            {"recharge_id": "A:cdrs:1:1", "succeeded": False, "reason": "no", "paid_at": None},
            "recharge_unknown",
        ),
        ("open_account", {"tariff": "NOPE"}, "command_invalid"),
        ("open_account", {"tariff": "hold_ppm_usd"}, "command_invalid"),
        ("open_account", {"tariff_per_minute_conferencing": "hold_usd"}, "command_invalid"),
        ("open_account", {"dial_out_policy": "NOPE"}, "command_invalid"),
        ("open_account", {"tariff": "hold_eur"}, "currency_mismatch"),
        ("open_account", {"tariff": "hold_eur", "currency": "EUR"}, "currency_mismatch"),
        ("open_account", {"currency": "EUR", "tariff": "hold_eur", "dial_out_policy": "NOPE"}, "command_invalid"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_obeyed_has_its_reason(kind, fields, reason):
    """What needs the tables is looked at before the currency, and both before users."""
    world = payg()
    before = world.account
    makers = {"set_user": world.user, "open_account": world.open}
    applied = makers[kind](**fields) if kind in makers else world.command(kind, **fields)
    assert refused(applied) == reason
    assert world.account == before


def test_of_assign_licences_the_known_users_are_done_and_the_others_named():
    """A bulk command with a typing error must not stop the rest."""
    world = World()
    world.user()
    applied = world.command("assign_licences", command_id="bulk", user_ids=["u9", "u1"], add=["MCOPSTN5"], remove=[])
    assert refused(applied) == "user_unknown" and "u9" in applied.rejected.detail
    assert ended(world.call(SEATTLE))[0] == "included"


def test_calls_that_started_before_a_user_was_removed_are_still_rated():
    """The record stays; removing him again is an error, setting him again brings him back."""
    world = payg()
    world.funds(10**6)
    world.command("remove_user", "2026-03-02T12:00:00Z", user_id="u1")
    assert ended(world.call(start_time="2026-03-02T11:59:59.999Z"))[0] == "charged"
    assert refused(world.call(start_time="2026-03-02T12:00:00Z")) == "user_unknown"
    assert refused(world.command("remove_user", user_id="u1")) == "user_unknown"
    world.user("MCOPSTN_PAYG_1")
    assert ended(world.call(start_time="2026-03-02T12:00:00Z"))[0] == "charged"


def test_every_entry_sums_to_zero_and_together_they_are_the_balance():
    """Conservation over a life of funding, use, overdraft, refund and forfeiture."""
    world = payg()
    steps = [world.funds(30_000, at="2025-04-02T00:00:00Z"), world.call(BERLIN, 2, at="2025-05-01T00:00:00Z")]
    steps += [world.call(CUBA), world.refund("k4", 5_000), world.funds(2_000_000), world.call(BERLIN, 9)]
    steps += [world.tick("2026-05-02T00:00:00Z"), world.call(BERLIN)]
    entries = [entry for step in steps for entry in step.entries]
    assert {entry.kind for entry in entries} == {"funding", "usage", "refund", "forfeiture"}
    credits = 0
    for entry in entries:
        assert sum(amount for _, amount in entry.postings) == 0
        assert all(amount != 0 for _, amount in entry.postings)
        credits += sum(amount for account, amount in entry.postings if account.startswith("credits:"))
    assert credits == balance(world)
    assert all(type(amount) is int for entry in entries for _, amount in entry.postings)
    assert all(a.applied_seq <= b.applied_seq for a, b in pairwise(entries))


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"])
def test_a_clock_of_any_year_is_a_value(at):
    """A file may say anything; nothing of it may stop the run."""
    world = World()
    world.now = at
    world.user("MCOPSTN5", "MCOPSTNPP")
    world.recharge(5, 10)
    world.funds(50, purchased_at="2026-01-01T00:00:00Z")
    assert refused(world.refund("k", 5, 5)) is None
    world.tick(at)
    start = at if at > "1970" else "1970-01-01T00:00:00Z"
    assert world.call(SEATTLE, 500, start_time=start) is not None
    assert world.call(SEATTLE, start_time=start).rejected is None or at < "1970"


def test_months_are_dropped_in_the_last_hour_of_the_calendar_too():
    world = World()
    world.user("MCOPSTN5")
    world.call(SEATTLE)
    world.recharge(0, 10, enabled=False, at="9999-12-31T23:30:00Z")
    assert world.account["pools"] == []


def test_a_balance_cannot_grow_beyond_what_a_record_can_hold():
    """Thousands of absurd fundings must not make an account that cannot be written."""
    world = World()
    account = next(account for ledger in world.offline._ledgers if (account := ledger.state.account("A")))
    account.overdraft_micros, account.balance_micros = 0, 2**62 - 10
    account.lots = [Lot("big", 0, 1, 2**60, 2**62 - 10, 2**62 - 10, True)]
    assert refused(world.funds(11)) == refused(world.refund("k", 11)) == "command_invalid"
    assert refused(world.funds(10)) is None


def test_a_flood_of_failures_does_not_fill_the_account():
    """New settings end a back-off at once, so requests can fail as often as somebody sends commands."""
    world = payg()
    for _ in range(80):
        (request,) = world.recharge(5, 10).events
        world.answer(request.details["recharge_id"], succeeded=False)
    account = next(account for ledger in world.offline._ledgers if (account := ledger.state.account("A")))
    assert len(account.recharging.failed) == 64
    assert account.recharging.failed[-1].recharge_id == request.details["recharge_id"]

"""What `authorize` says before a call is what the ledger does after it."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.calendar import month_of, parse_time
from pipeline.base.ids import partition_of
from pipeline.base.rules import Rules
from pipeline.cdr.decode import DURATION_S_MAX, Cdr
from pipeline.debit.authorize import Authorization, authorize
from pipeline.emit.outputs import RatedCall
from tests.ledger_world import BERLIN, CUBA, LONDON, NO_RATE, RIGA, SEATTLE, VANCOUVER, World, made_up_tables

NOW = "2026-03-02T12:00:00Z"
LICENCES = ("MCOPSTN1", "MCOPSTN2", "MCOPSTN5", "MCOPSTN8", "MCOPSTN_PAYG_1", "MCOPSTNPP", "MCOMEETADV", "MCOMEETACPEA")

worlds = st.fixed_dictionaries(
    {
        "agreement": st.sampled_from(["prepaid", "postpaid"]),
        "overage": st.booleans(),
        "licences": st.lists(st.sampled_from(LICENCES), max_size=3, unique=True),
        "policy": st.sampled_from(["DialoutCPCandPSTNInternational", "DialoutCPCandPSTNDomestic"]),
        "cap": st.one_of(st.none(), st.integers(0, 3_000_000)),
        "funds": st.one_of(st.just(0), st.integers(1, 20_000_000)),
        "bought": st.sampled_from(["2026-03-02T01:00:00Z", "2025-03-02T06:00:00Z", "2025-03-20T00:00:00Z"]),
        "recharge": st.one_of(
            st.none(), st.tuples(st.integers(0, 2_000_000), st.one_of(st.none(), st.just(5_000_000)))
        ),
        "calls": st.lists(st.tuples(st.sampled_from([SEATTLE, BERLIN, LONDON]), st.integers(1, 3_000)), max_size=3),
        "overdraft_allowed": st.booleans(),
    }
)
destinations = st.sampled_from([SEATTLE, BERLIN, LONDON, VANCOUVER, CUBA, RIGA, NO_RATE, "911", "+19005550123"])
call_types = st.sampled_from(["user_out", "conf_out", "user_in", "fmc_out"])


def build(plan: dict) -> World:
    world = World(
        Rules(overdraft_allowed=plan["overdraft_allowed"]),
        agreement=plan["agreement"],
        overage_enabled=plan["overage"],
        dial_out_policy=plan["policy"],
        tariff_per_minute_conferencing="hold_ppm_usd",
    )
    world.user(*plan["licences"], spend_cap_micros=plan["cap"], at="2026-03-02T02:00:00Z")
    if plan["funds"]:
        world.funds(plan["funds"], at="2026-03-02T03:00:00Z", purchased_at=plan["bought"])
    if plan["recharge"]:
        trigger_micros, budget_micros = plan["recharge"]
        world.recharge(trigger_micros, 2_000_000, at="2026-03-02T04:00:00Z", monthly_budget_micros=budget_micros)
    for callee, minutes in plan["calls"]:
        world.call(callee, minutes, at="2026-03-02T05:00:00Z")
    return world


def asked(world: World, plan: dict, callee: str, call_type: str) -> Authorization:
    state = world.offline._ledgers[partition_of("A", 12)].state
    now_ms = parse_time(NOW)
    number = {"callee_number": callee, "caller_number": None}
    cdr = Cdr(
        usage_id="ask", call_id=None, conference_id=None, tenant_id="A", user_id="u1", call_type=call_type,
        number_type=None, start_time=now_ms, duration_s=60, usage_country=None, operator=None, duration_source=None,
        **number,
    )  # fmt: skip
    return authorize(
        cdr,
        state.account("A"),
        state.user("A", "u1"),
        state.month("A", month_of(now_ms)),
        now_ms=now_ms,
        tables=made_up_tables(),
        rules=Rules(overdraft_allowed=plan["overdraft_allowed"]),
    )


def made(plan: dict, callee: str, call_type: str, duration_s: int) -> tuple[World, RatedCall | None, str | None]:
    world = build(plan)
    applied = world.call(callee, 0, at=NOW, call_type=call_type, duration_s=duration_s)
    return world, applied.rated, applied.rejected and applied.rejected.reason


def spent_micros(world: World) -> int:
    user = world.offline._ledgers[partition_of("A", 12)].state.user("A", "u1")
    assert user is not None
    return user.months["2026-03"].spent_micros if "2026-03" in user.months else 0


@settings(max_examples=150, deadline=None)
@given(worlds, destinations, call_types)
def test_the_answer_before_a_call_is_the_ledgers_decision_after_it(plan: dict, callee: str, call_type: str) -> None:
    """A switch that trusts the answer neither cuts off a paid call nor carries an unpaid one."""
    answer = asked(build(plan), plan, callee, call_type)
    _, first, reject = made(plan, callee, call_type, 60)
    if first is None:
        assert (answer.is_allowed, answer.reason) == (False, reject)
        return
    assert answer.is_allowed == (first.outcome != "unpaid"), (answer, first.outcome, first.reason)
    if first.outcome in ("unpaid", "free"):
        assert answer.reason == first.reason
    if first.rate_micros_per_minute is not None:
        assert answer.rate_micros_per_minute == first.rate_micros_per_minute
    if not answer.is_allowed:
        assert answer.max_duration_s == 0
        return
    cap = plan["cap"] if call_type in ("user_out", "fmc_out") else None
    if answer.max_duration_s:
        world, longest, _ = made(plan, callee, call_type, answer.max_duration_s)
        assert longest is not None
        assert longest.outcome != "unpaid", json.dumps(longest._asdict(), default=str)
        assert longest.overdraft_micros == 0
        assert cap is None or not longest.debited_micros + longest.postpaid_micros or spent_micros(world) <= cap
    if answer.max_duration_s < DURATION_S_MAX:
        world, longer, _ = made(plan, callee, call_type, answer.max_duration_s + 1)
        assert longer is not None
        is_beyond_cap = cap is not None and spent_micros(world) > cap
        assert longer.outcome == "unpaid" or longer.overdraft_micros > 0 or is_beyond_cap, (answer, longer)
    assert answer.max_duration_with_recharge_s >= answer.max_duration_s


def test_a_budget_bounds_what_recharges_may_bring() -> None:
    """Without it a prepaid call with auto-recharge has no end, and the switch could not know."""
    plan = {
        "agreement": "prepaid", "overage": False, "licences": ["MCOPSTN_PAYG_1", "MCOPSTNPP"], "cap": None,
        "policy": "DialoutCPCandPSTNInternational", "funds": 10_000_000, "bought": "2026-03-02T01:00:00Z",
        "recharge": (1_000_000, 5_000_000), "calls": [], "overdraft_allowed": True,
    }  # fmt: skip
    answer = asked(build(plan), plan, BERLIN, "user_out")
    rate = answer.rate_micros_per_minute
    assert rate is not None
    assert answer.max_duration_s == 10_000_000 // rate * 60
    assert answer.max_duration_with_recharge_s == 14_000_000 // rate * 60, "two recharges of 2.00 fit into 5.00"
    unbounded = plan | {"recharge": (1_000_000, None)}
    assert asked(build(unbounded), unbounded, BERLIN, "user_out").max_duration_with_recharge_s == DURATION_S_MAX

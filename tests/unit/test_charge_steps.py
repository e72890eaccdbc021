"""Who pays for a call: the eight steps of the contract, each with the cases that tell it from its neighbours."""

from __future__ import annotations

import pytest

from pipeline.base.rules import Rules
from pipeline.cdr.call_types import CALL_TYPES
from pipeline.charge.policy import POLICIES
from tests.ledger_world import (
    BERLIN,
    CUBA,
    LONDON,
    NO_RATE,
    RIGA,
    SAN_JUAN,
    SEATTLE,
    VANCOUVER,
    World,
    ended,
    refused,
)  # fmt: skip

CREDITS = ("charged", None, "MCOPSTNPP")


def funded(*licences: str, rules: Rules | None = None, **terms: object) -> World:
    world = World(rules, **terms)
    world.user(*licences)
    world.funds(10**9)
    return world


def test_d1_no_second_no_minute_and_no_fee():
    """A call that was not answered must not cost the connection fee."""
    call = funded("MCOPSTN_PAYG_1").call(CUBA, minutes=0).rated
    assert (call.outcome, call.reason, call.billable_minutes, call.price_micros) == ("free", "not_connected", 0, 0)
    assert call.rate_prefix is None


@pytest.mark.parametrize("name", [name for name in CALL_TYPES if name.startswith(("dr_", "Byot"))])
def test_step_2_direct_routing_is_free_whoever_calls(name):
    """The tenant's own trunks are not ours to bill; the numbers may be anything."""
    applied = World().call("anything", call_type=name, user_id=None)
    assert ended(applied) == ("free", "direct_routing", None)
    assert applied.rated.price_micros == 0 and applied.rated.rate_prefix is None


@pytest.mark.parametrize(("number", "country"), [("911", "US"), ("112", "DE"), ("933", "US"), ("933", "CA")])
def test_r66_an_emergency_call_is_never_barred_nor_charged(number, country):
    """A person in need must not be stopped by an empty balance or by a policy."""
    world = World(dial_out_policy="DialoutCPCandPSTNDisabled")
    world.user("MCOPSTN1", country=country)
    call = world.call(number).rated
    assert (call.outcome, call.reason, call.number_class) == ("free", "emergency", "emergency")
    assert call.destination_country == country


@pytest.mark.parametrize(
    ("caller", "known"), [(None, (None, None, "unknown")), (LONDON, ("GB", "United Kingdom London", "geographic"))]
)
def test_r66_a_call_back_from_an_emergency_service_is_free_and_shows_its_caller(caller, known):
    """As every inbound call does."""
    call = World().call("+12065550100", call_type="emergency_in", user_id=None, caller_number=caller).rated
    assert (call.outcome, call.reason) == ("free", "emergency")
    assert (call.destination_country, call.destination_name, call.number_class) == known


def test_a_short_number_that_is_no_emergency_number_is_invalid():
    """933 tests emergencies only in the US and Canada; elsewhere it is a typing error, known or unknown the user."""
    world = World()
    world.user("MCOPSTN1", country="GB")
    assert refused(world.call("933")) == "number_invalid"
    assert refused(world.call("911", usage_country="DE")) == "number_invalid"
    assert refused(world.call("12345", user_id="nobody")) == "number_invalid"
    assert refused(world.call("12345", tenant_id="nobody")) == "tenant_unknown"


def test_step_4_inbound_is_free_but_for_toll_free_service_numbers():
    """R1: only toll-free dial-in costs; a user's own inbound call never does."""
    world = funded("MCOPSTN_PAYG_1", "MCOPSTNPP")
    for call_type in ("user_in", "fmc_in", "conf_in", "ucap_in", "unassigned_in"):
        applied = world.call(SEATTLE, call_type=call_type, caller_number=BERLIN)
        assert ended(applied) == ("free", "inbound", None), call_type
        assert applied.rated.scope is None and applied.rated.destination_country == "DE"
    assert ended(world.call("+18005550199", call_type="user_in")) == ("free", "inbound", None)


def test_a_withheld_caller_leads_nowhere():
    """Destination fields are the caller's; when he is withheld they are unknown, not the called side's."""
    call = funded("MCOPSTN1").call(SEATTLE, call_type="user_in", caller_number=None).rated
    assert (call.destination_country, call.destination_name, call.number_class) == (None, None, "unknown")


def test_r1_toll_free_is_seen_by_number_type_or_by_the_called_number():
    """The literal for toll-free is not documented, so spellings are a setting and the numbering plan helps."""
    world = funded("MCOMEETADV", "MCOPSTNPP", rules=Rules(toll_free_number_types=("gratis",)))
    assert world.call("+18005550199", call_type="conf_in").rated.rate_prefix == "1800"
    assert ended(world.call(SEATTLE, call_type="conf_in", number_type="TollFree"))[0] == "free"
    assert ended(world.call("+447400123456", call_type="conf_in", number_type="gratis"))[0] == "free_call"


def test_r12_toll_free_to_a_queue_needs_no_licence():
    """A resource account carries no credits licence, and its callers are served all the same."""
    world = World()
    world.funds(10**6)
    assert ended(world.call("+18005550199", call_type="ucap_in", user_id=None)) == CREDITS
    world.user()
    assert ended(world.call("+18005550199", call_type="ucap_in")) == CREDITS


def test_r9_everything_of_a_per_minute_organiser_is_charged_at_that_tariff():
    """Toll dial-in too, without a credits licence; the deck is that of the per-minute tariff."""
    world = funded("MCOMEETACPEA", tariff_per_minute_conferencing="hold_ppm_usd")
    toll_in = world.call(SEATTLE, call_type="conf_in", caller_number=BERLIN).rated
    free_in = world.call("+18005550199", call_type="conf_in", number_type="TollFree").rated
    out = world.call(BERLIN, call_type="conf_out").rated
    assert [(c.tariff, c.rate_micros_per_minute) for c in (toll_in, free_in, out)] == [
        ("hold_ppm_usd", 13_000), ("hold_ppm_usd", 6_000), ("hold_ppm_usd", 35_000),
    ]  # fmt: skip
    assert {(c.outcome, c.capability) for c in (toll_in, free_in, out)} == {("charged", "MCOMEETACPEA")}


def test_r9_without_a_per_minute_tariff_there_is_no_price():
    """A tenant that was never given the tariff is not charged at another one."""
    assert ended(funded("MCOMEETACPEA").call(BERLIN, call_type="conf_out")) == ("free_call", None, "FREECALL")


OWN = ("user_out", "user_out_transfer", "fmc_out", "ucap_out")
REACH = {
    "any": {SEATTLE, VANCOUVER, BERLIN, RIGA},
    "domestic": {SEATTLE},
    "zone A": {SEATTLE, VANCOUVER, BERLIN},
    "none": set(),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_r57_each_policy_bars_exactly_what_its_name_says(policy):
    """R58: US and Canada are abroad to each other here, though they rate as domestic; Latvia is not in Zone A."""
    world = funded("MCOPSTN_PAYG_1", "MCOPSTNPP", dial_out_policy=policy)
    parts = POLICIES[policy]
    for callee in (SEATTLE, VANCOUVER, BERLIN, RIGA):
        for call_type in ("conf_out", *OWN):
            part = parts.from_meetings if call_type == "conf_out" else parts.own_calls
            is_barred = ended(world.call(callee, call_type=call_type))[:2] == ("unpaid", "barred_by_policy")
            assert is_barred == (callee not in REACH[part]), (callee, call_type)


def test_r57_the_users_policy_goes_before_the_tenants_and_the_price_is_reported():
    """An unpaid call still says what it would have cost."""
    world = funded("MCOPSTN_PAYG_1", dial_out_policy="DialoutCPCandPSTNDisabled")
    world.user("MCOPSTN_PAYG_1", dial_out_policy="DialoutCPCandPSTNInternational")
    assert ended(world.call()) == CREDITS
    world.user("MCOPSTN_PAYG_1", dial_out_policy="DialoutCPCDisabledPSTNDomestic")
    call = world.call().rated
    assert (call.reason, call.price_micros, call.rate_prefix) == ("barred_by_policy", 10_500, "4930")


def test_r10_premium_is_paid_from_credits_where_a_prefix_allows_it():
    """GB allows six prefixes with credits, whatever the plan; 449 is barred."""
    world = World(country="GB")
    world.user("MCOPSTN2", "MCOPSTNPP")
    world.funds(10**8)
    assert ended(world.call("+448431234567")) == CREDITS
    assert ended(world.call("+449012345678"))[:2] == ("unpaid", "premium_not_allowed")
    assert world.account["pools"] == []


def test_r10_a_country_that_allows_all_lets_the_library_decide():
    """FR: premium numbers of any country are paid from credits; the US allows none."""
    world = funded("MCOPSTN1", "MCOPSTNPP")
    assert ended(world.call("+449012345678", usage_country="FR")) == CREDITS
    assert ended(world.call("+449012345678"))[:2] == ("unpaid", "premium_not_allowed")


def test_r37_extended_dial_out_draws_on_neither_pool_nor_credits():
    """Only to US and CA; elsewhere the conferencing licence's pool is asked."""
    world = World()
    world.user("MCOMEETADV", "MCOMEETADD_DIALOUT_US")
    for callee in (SEATTLE, VANCOUVER):
        applied = world.call(callee, 500, call_type="conf_out")
        assert ended(applied) == ("included", None, "MCOMEETADD_DIALOUT_US")
        assert (applied.rated.pool_id, applied.rated.pool_minutes) == (None, 0)
    assert world.call(BERLIN, call_type="conf_out").rated.pool_id == "A:conferencing:MCOMEETADV:dial_out:2026-03"


def test_r34_the_dial_out_pool_counts_purchased_else_assigned_licences():
    """60 minutes for each; a purchase number replaces the count, even when it is lower."""
    world = funded("MCOMEETADV", "MCOPSTNPP")
    world.user("BUNDLE_SMALL", user_id="u2")
    assert world.call(BERLIN, 121, call_type="conf_out").rated.pool_minutes == 120
    world.command("set_purchased_licences", sku="MCOMEETADV", count=3)
    assert world.call(BERLIN, 100, call_type="conf_out").rated.pool_minutes == 60
    world.command("set_purchased_licences", sku="MCOMEETADV", count=0)
    assert ended(world.call(BERLIN, call_type="conf_out")) == CREDITS


def test_r35_of_several_conferencing_licences_the_first_that_fits_gives_its_pool():
    """Select dial-out reaches US and CA only; the full licence stands first in the table."""
    select = "Microsoft_Teams_Audio_Conferencing_select_dial_out"
    world = funded(select, "MCOPSTNPP")
    assert world.call(SEATTLE, call_type="conf_out").rated.pool_id == f"A:conferencing:{select}:dial_out:2026-03"
    assert ended(world.call(BERLIN, call_type="conf_out")) == CREDITS
    world.user(select, "MCOMEETADV", "MCOPSTNPP")
    assert world.call(SEATTLE, call_type="conf_out").rated.pool_id == "A:conferencing:MCOMEETADV:dial_out:2026-03"


def test_r36_latvia_is_not_in_zone_a():
    """R3: beyond Zone A every dial-out is charged from the first minute."""
    call = funded("MCOMEETADV", "MCOPSTNPP").call(RIGA, call_type="conf_out").rated
    assert (call.outcome, call.pool_id, call.charged_minutes) == ("charged", None, 1)


def test_step_8_the_domestic_plan_pays_at_home_and_r25_in_canada():
    """R5: abroad the holder of a domestic plan pays each call; US to CA is at home."""
    world = funded("MCOPSTN1", "MCOPSTNPP")
    assert ended(world.call(SEATTLE)) == ("included", None, "MCOPSTN1")
    assert ended(world.call(VANCOUVER)) == ("included", None, "MCOPSTN1")
    assert ended(world.call(SAN_JUAN)) == ("included", None, "MCOPSTN1")
    assert ended(world.call(BERLIN)) == CREDITS


def test_r7_the_international_plan_pays_for_listed_destinations_only():
    """Cuba is not on the list."""
    world = funded("MCOPSTN2", "MCOPSTNPP")
    assert world.call(BERLIN).rated.pool_id == "A:US+PR:MCOPSTN2:international:2026-03"
    assert ended(world.call(CUBA)) == CREDITS


def test_several_plans_one_applies_and_no_second_pool_is_tried():
    """International before domestic before PAYG; in a kind the first in licences.csv."""
    world = funded("MCOPSTN6", "MCOPSTN5", "MCOPSTNPP")
    assert world.call(SEATTLE, 120).rated.pool_id == "A:US+PR:MCOPSTN5:domestic:2026-03"
    assert ended(world.call(SEATTLE)) == CREDITS
    world.user("MCOPSTN_PAYG_1", "MCOPSTN6", "MCOPSTN2", "MCOPSTNPP")
    assert world.call(SEATTLE).rated.capability == "MCOPSTN2"


def test_a_bundles_user_draws_as_a_user_of_the_plan_it_holds():
    """The pool, its size and the capability are those of the plan."""
    world = World()
    world.user("BUNDLE_SMALL")
    world.user("MCOPSTN5", user_id="u2")
    call = world.call(SEATTLE, 240).rated
    assert (call.outcome, call.capability, call.pool_id) == (
        "included",
        "MCOPSTN5",
        "A:US+PR:MCOPSTN5:domestic:2026-03",
    )


def test_r8_payg_needs_no_credits_licence_and_no_plan_is_unpaid():
    """R12: a resource account without a plan pays from credits; a user without one does not call."""
    world = funded("MCOPSTN_PAYG_1")
    assert ended(world.call(SEATTLE)) == CREDITS
    world.user("MCOPSTNPP")
    assert ended(world.call(SEATTLE)) == ("unpaid", "no_calling_plan", None)
    world.user(is_resource_account=True)
    assert ended(world.call(SEATTLE)) == CREDITS
    assert ended(world.call(SEATTLE, call_type="ucap_out", user_id=None)) == CREDITS


def test_a_payg_holder_needs_the_licence_for_his_meetings():
    """The exemption is for his own calls."""
    assert ended(funded("MCOPSTN_PAYG_1").call(call_type="conf_out"))[:2] == ("unpaid", "no_credits_licence")


def test_r48_no_row_is_a_free_call_before_any_check():
    """Pricing failed on our side: the call is given away even when nobody could have paid."""
    world = World()
    world.user("MCOPSTN_PAYG_1")
    applied = world.call(NO_RATE)
    assert ended(applied) == ("free_call", None, "FREECALL")
    assert (applied.rated.price_micros, applied.rated.tariff) == (0, None)


def test_d7_a_charge_of_zero_is_free_by_zero_rate():
    """44800 costs nothing, 44808 only its fee: that one is charged."""
    world = World()
    world.user("MCOPSTN_PAYG_1")
    assert ended(world.call("+448001111111")) == ("free", "zero_rate", None)
    assert ended(world.call("+448081570000"))[:2] == ("unpaid", "no_account_funding")


def test_d2_rates_are_those_at_the_start_of_the_call():
    """Vancouver cost 0.0130 until the deck of 2026-03-01."""
    world = funded("MCOPSTN_PAYG_1")
    before, after = (
        world.call(VANCOUVER, start_time=at).rated for at in ("2026-02-28T23:59:59Z", "2026-03-01T00:00:00Z")
    )
    assert (before.rate_micros_per_minute, after.rate_micros_per_minute) == (13_000, 14_200)
    assert before.table_version[1] == "2022-01-01" and after.table_version[1] == "2026-03-01"


def test_a_masked_number_is_rated_by_what_is_known_and_says_when_that_is_ambiguous():
    """+4475******: 447500 costs another price, so the charge may be wrong and says so."""
    world = funded("MCOPSTN_PAYG_1")
    sure, unsure = world.call(LONDON[:-4] + "****").rated, world.call("+4475********").rated
    assert not sure.rate_is_ambiguous and unsure.rate_is_ambiguous


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"start_time": "2026-03-02T01:00:00Z"}, None),
        ({"start_time": "2026-03-02T01:00:00.001Z"}, "call_in_future"),
        ({"start_time": "2025-01-26T00:00:00Z"}, None),
        ({"start_time": "2025-01-25T23:59:59.999Z"}, "call_too_old"),
        ({"user_id": None}, "user_unknown"),
        ({"user_id": "nobody"}, "user_unknown"),
        ({"call_type": "ucap_out", "user_id": "nobody"}, "user_unknown"),
        ({"call_type": "ucap_out", "user_id": None}, None),
        ({"call_type": "unassigned_in", "user_id": "nobody"}, None),
        ({"callee_number": None}, "number_invalid"),
    ],
)
def test_a_call_is_refused_exactly_beyond_its_limits(fields, reason):
    """One hour ahead and 400 days back are still rated; a user is looked up only where the contract says."""
    assert refused(funded("MCOPSTN_PAYG_1").call(**({"callee_number": SEATTLE} | fields))) == reason

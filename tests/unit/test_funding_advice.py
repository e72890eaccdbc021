"""Advice on funding: what it learns from the past, and that its back-test counts what the ledger would do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.warehouse.funding import (
    PER_MILLE,
    Setting,
    Wish,
    advise,
    delay_hours_of,
    run,
    run_with_balances,
    setting_for,
)

UNIT = 1_000_000
WEEK = Wish(risk_per_mille=10, days=7)
DEMANDS = st.lists(st.integers(0, 50).map(lambda units: units * UNIT), min_size=48, max_size=200)


def test_steady_demand_needs_the_demand_of_one_delay() -> None:
    """1 an hour, money after 3 hours: more than the hour of the request and three others; a week is 168."""
    demand = [UNIT] * 240
    setting = setting_for(demand, delay_hours=3, wish=WEEK)
    assert setting == Setting(5 * UNIT, 168 * UNIT)
    assert run(setting, demand, delay_hours=3).late_count == 0


def test_a_trigger_below_the_demand_of_a_delay_comes_too_late_each_time() -> None:
    """By hand: from 2 to 1 in the first hour, so a recharge is asked for, due two hours on; dry in between."""
    trial, balances = run_with_balances(Setting(2, 4), [1] * 9, delay_hours=2)
    assert balances == [1, 0, 0, 3, 2, 1, 0, 0, 3]
    assert (trial.recharge_count, trial.late_count, trial.dry_hour_count, trial.lost_micros) == (2, 2, 2, 2)
    assert trial.idle_micros == 10 // 9


def test_a_balance_at_the_trigger_asks_for_nothing() -> None:
    """R49: strictly below."""
    assert run(Setting(5, 5), [0], delay_hours=0).recharge_count == 0
    assert run(Setting(5, 5), [1], delay_hours=0).recharge_count == 1


@given(DEMANDS, st.integers(0, 12), st.sampled_from([0, 10, 50, 200]))
def test_over_the_past_it_learnt_from_the_risk_is_kept(demand: list[int], delay_hours: int, risk: int) -> None:
    """What is promised. The largest window seen always keeps it, so there is always an answer."""
    if not any(demand):
        return
    wish = Wish(risk, 3)
    setting = setting_for(demand, delay_hours=delay_hours, wish=wish)
    trial = run(setting, demand, delay_hours=delay_hours)
    assert trial.late_count * PER_MILLE <= trial.recharge_count * risk
    assert setting.amount_micros >= setting.trigger_micros > 0
    assert setting.trigger_micros % UNIT == setting.amount_micros % UNIT == 0


@given(DEMANDS, st.integers(0, 12))
def test_no_money_appears_or_vanishes_in_a_trial(demand: list[int], delay_hours: int) -> None:
    """Start + recharges that arrived - demand that was served = what is left."""
    setting = Setting(20 * UNIT, 90 * UNIT)
    trial, balances = run_with_balances(setting, demand, delay_hours=delay_hours)
    served = sum(demand) - trial.lost_micros
    arrived, rest = divmod(balances[-1] + served - 20 * UNIT, 90 * UNIT)
    assert rest == 0
    assert trial.recharge_count - 1 <= arrived <= trial.recharge_count


def test_a_higher_risk_never_binds_more_money() -> None:
    demand = [UNIT * (1 + hour % 24 + 40 * (hour % 97 == 0)) for hour in range(500)]
    triggers = [setting_for(demand, delay_hours=2, wish=Wish(risk, 7)).trigger_micros for risk in (0, 10, 100, 400)]
    assert triggers == sorted(triggers, reverse=True)
    assert triggers[0] > triggers[-1]


def test_it_is_tested_on_hours_that_it_has_not_seen() -> None:
    """Demand that doubles in the last third is not known beforehand, and the test shows what that does."""
    demand = [UNIT] * 200 + [4 * UNIT] * 100
    advice = advise("t1", "USD", demand, delay_hours=3, today=Setting(100 * UNIT, 500 * UNIT), wish=WEEK)
    assert advice is not None
    assert advice.tested.hour_count == 100
    assert advice.tested.late_count > 0
    assert advice.tested_today is not None
    assert advice.tested_today.late_count == 0
    assert advice.setting.trigger_micros == 17 * UNIT


@pytest.mark.parametrize("demand", [[UNIT] * 47, [0] * 90 + [UNIT] * 10])
def test_from_too_little_nothing_is_learnt(demand: list[int]) -> None:
    assert advise("t1", "USD", demand, delay_hours=0, today=None, wish=WEEK) is None


def test_a_delay_is_that_of_19_in_20() -> None:
    hour = 3_600_000
    assert delay_hours_of([]) == 0
    assert delay_hours_of([hour * n for n in range(1, 21)]) == 19
    assert delay_hours_of([5 * hour - 1]) == 4

"""From past usage: which trigger and recharge amount keep a tenant from running dry, and what that costs. Pure.

1. *Demand* is what calls took, and the price of those refused for want of money, by the hour they began.
2. *Delay*: a recharge takes as long as 19 of 20 past ones took, at least the hour in which it is asked for.
3. *Trigger*: the demand of a delay that begins in an hour with calls was less than this, but for the share `risk` of
   them; raised further until, run over the past, no larger share of recharges came too late.
4. *Amount*: the demand of the days for which one recharge should last, and never less than the trigger.
5. *Back-test*: worked out from the first two thirds of the past, then run over the last third, which it has not seen;
   beside it today's setting over the same hours. Both begin with a balance at their trigger, the moment that matters.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.base.money import MICROS_PER_UNIT, ceil_div

HOURS_PER_DAY = 24
# Below two days there is no third to test on that holds a working day.
HOURS_MIN = 2 * HOURS_PER_DAY
_LEARNT_PARTS, _PARTS = 2, 3
PER_MILLE = 1_000


class Setting(NamedTuple):
    """Of auto-recharge, micros."""

    trigger_micros: int
    amount_micros: int


class Trial(NamedTuple):
    """What a setting would have done over some hours. `late_count`: recharges before whose money the balance was used
    up; `lost_micros`: demand that met an empty account; `idle_micros`: the money that lay there, on average."""

    hour_count: int
    recharge_count: int
    late_count: int
    dry_hour_count: int
    lost_micros: int
    idle_micros: int


class Wish(NamedTuple):
    """`risk_per_mille`: share of recharges that may come too late; `days`: how long one recharge should last."""

    risk_per_mille: int
    days: int


class Advice(NamedTuple):
    """For one tenant. `tested_*`: over the last third, worked out from what was before it; None: no setting today."""

    tenant_id: str
    currency: str
    hour_count: int
    delay_hours: int
    demand_micros: int
    setting: Setting
    tested: Trial
    today: Setting | None
    tested_today: Trial | None


def advise(
    tenant_id: str, currency: str, demand: Sequence[int], *, delay_hours: int, today: Setting | None, wish: Wish
) -> Advice | None:
    """`demand`: micros of every hour from the first to the last. None when the past is shorter than HOURS_MIN or its
    first two thirds saw no demand: nothing can be learnt from it."""
    cut = len(demand) * _LEARNT_PARTS // _PARTS
    learnt, unseen = demand[:cut], demand[cut:]
    if len(demand) < HOURS_MIN or not any(learnt):
        return None
    before = setting_for(learnt, delay_hours=delay_hours, wish=wish)
    return Advice(
        tenant_id,
        currency,
        len(demand),
        delay_hours,
        sum(demand),
        setting_for(demand, delay_hours=delay_hours, wish=wish),
        run(before, unseen, delay_hours=delay_hours),
        today,
        None if today is None else run(today, unseen, delay_hours=delay_hours),
    )


def setting_for(demand: Sequence[int], *, delay_hours: int, wish: Wish) -> Setting:
    """Steps 3 and 4 of the method; whole units of currency."""
    daily_micros = ceil_div(sum(demand) * HOURS_PER_DAY, len(demand))
    lasting_micros = daily_micros * wish.days
    windows = sorted(set(_windows(demand, delay_hours)))
    all_windows = sorted(_windows(demand, delay_hours))
    allowed = len(all_windows) * wish.risk_per_mille // PER_MILLE
    first = bisect_left(windows, all_windows[-1 - allowed])

    def setting(index: int) -> Setting:
        # Above the demand, not equal to it: a balance of exactly zero suspends the service.
        trigger_micros = _whole(windows[index] + 1)
        return Setting(trigger_micros, max(trigger_micros, _whole(lasting_micros)))

    def is_too_late(index: int) -> bool:
        trial = run(setting(index), demand, delay_hours=delay_hours)
        return trial.late_count * PER_MILLE > trial.recharge_count * wish.risk_per_mille

    low, high = first, len(windows) - 1
    while low < high:
        middle = (low + high) // 2
        if is_too_late(middle):
            low = middle + 1
        else:
            high = middle
    return setting(low)


def _windows(demand: Sequence[int], delay_hours: int) -> list[int]:
    """Demand from each hour with calls until the money of a recharge asked for in it would be there."""
    sums = []
    total = sum(demand[: delay_hours + 1])
    for hour, micros in enumerate(demand):
        if micros:
            sums.append(total)
        end = hour + delay_hours + 1
        total += (demand[end] if end < len(demand) else 0) - micros
    return sums


def run(setting: Setting, demand: Sequence[int], *, delay_hours: int) -> Trial:
    """Hour by hour: money that is due comes, calls take theirs while the balance is above zero, and below the trigger a
    recharge is asked for, one at a time, as the ledger does."""
    trial, _ = run_with_balances(setting, demand, delay_hours=delay_hours)
    return trial


def run_with_balances(setting: Setting, demand: Sequence[int], *, delay_hours: int) -> tuple[Trial, list[int]]:
    """The same, and the balance at the end of each hour, for a picture."""
    balance = setting.trigger_micros
    due_at, is_late = -1, False
    recharges = late = dry = lost = idle = 0
    balances = []
    for hour, micros in enumerate(demand):
        if hour == due_at:
            balance += setting.amount_micros
            due_at = -1
        if micros and balance <= 0:
            dry += 1
            lost += micros
        else:
            balance -= micros
        if balance <= 0 and micros and due_at >= 0 and not is_late:
            is_late = True
            late += 1
        if balance < setting.trigger_micros and due_at < 0:
            recharges += 1
            due_at = hour + 1 + delay_hours
            is_late = balance <= 0
            late += is_late
        idle += max(0, balance)
        balances.append(balance)
    return Trial(len(demand), recharges, late, dry, lost, idle // max(1, len(demand))), balances


def delay_hours_of(delays_ms: Sequence[int], ms_per_hour: int = 3_600_000) -> int:
    """Whole hours that 19 of 20 past recharges took; 0, the hour in which it is asked for, when there were none."""
    if not delays_ms:
        return 0
    ordered = sorted(delays_ms)
    return ordered[(len(ordered) * 19 - 1) // 20] // ms_per_hour


def _whole(micros: int) -> int:
    return ceil_div(micros, MICROS_PER_UNIT) * MICROS_PER_UNIT

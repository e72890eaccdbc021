"""Reads past usage, recharges and settings out of the warehouse, tenant by tenant, and draws one tenant's picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.base.calendar import MS_PER_HOUR, to_datetime
from pipeline.base.money import MICROS_PER_UNIT
from pipeline.warehouse.chosen import Chosen, calls_condition, timed_condition, users_condition
from pipeline.warehouse.funding import Setting, delay_hours_of, run_with_balances
from pipeline.warehouse.store import Store

_FOR_WANT_OF_MONEY = "('balance_not_positive', 'no_account_funding', 'overage_off')"


class Past(NamedTuple):
    """What is known of a tenant. `demand`: micros by hour, from `first_hour` (hours since 1970) to the last of all.
    `is_postpaid`: it is billed afterwards, as a post-paid account is while auto-recharge is off (R67, R69)."""

    tenant_id: str
    currency: str
    first_hour: int
    demand: list[int]
    delay_hours: int
    today: Setting | None
    is_postpaid: bool


class _Account(NamedTuple):
    today: Setting | None
    is_postpaid: bool


def pasts(store: Store, chosen: Chosen) -> Iterator[Past]:
    """By tenant. A tenant's hours end with the last call of anybody: an hour without calls is an hour of the past. Who
    never had a recharge has the delay of all the others'."""
    anybody = Chosen(from_ms=chosen.from_ms, to_ms=chosen.to_ms)
    bounds = (
        f"SELECT count(), max(intDiv(start_time_ms, {MS_PER_HOUR})) FROM rated_calls WHERE {calls_condition(anybody)}"
    )
    [(count, last)] = _rows(store, bounds)
    if not count:
        return
    accounts = _accounts(store, chosen)
    delays = _delays(store, anybody)
    usual = delay_hours_of([delay for each in delays.values() for delay in each])
    for (tenant_id, currency), rows in groupby(_rows(store, _demand_sql(chosen)), key=lambda row: (row[0], row[1])):
        by_hour = {int(hour): int(micros) for _, _, hour, micros in rows}
        first = min(by_hour)
        demand = [by_hour.get(hour, 0) for hour in range(first, int(last) + 1)]
        own = delays.get(tenant_id)
        account = accounts.get(tenant_id, _Account(None, is_postpaid=False))
        yield Past(tenant_id, currency, first, demand, delay_hours_of(own) if own else usual, *account)


def _demand_sql(chosen: Chosen) -> str:
    refused = f"outcome = 'unpaid' AND reason IN {_FOR_WANT_OF_MONEY}"
    return f"""SELECT tenant_id, currency, intDiv(start_time_ms, {MS_PER_HOUR}) AS hour,
    sum(debited_micros + postpaid_micros + if({refused}, price_micros, 0)) AS micros
FROM rated_calls FINAL
WHERE {calls_condition(chosen)}
GROUP BY tenant_id, currency, hour
HAVING micros > 0
ORDER BY tenant_id, currency, hour"""


def _accounts(store: Store, chosen: Chosen) -> dict[str, _Account]:
    sql = f"""SELECT tenant_id, argMax(agreement, month), argMax(recharge_is_enabled, month),
    argMax(recharge_trigger_micros, month), argMax(recharge_amount_micros, month)
FROM accounts FINAL
WHERE {users_condition(chosen)}
GROUP BY tenant_id"""
    return {
        tenant_id: _Account(Setting(int(trigger), int(amount)), is_postpaid=False)
        if is_enabled
        else _Account(None, is_postpaid=agreement == "postpaid")
        for tenant_id, agreement, is_enabled, trigger, amount in _rows(store, sql)
    }


def _delays(store: Store, chosen: Chosen) -> dict[str, list[int]]:
    """By tenant: milliseconds from the request of a recharge to its money."""
    sql = f"""SELECT tenant_id, max(paid) - min(asked) AS delay
FROM (
    SELECT
        tenant_id, `details.value`[indexOf(`details.name`, 'recharge_id')] AS recharge_id,
        if(kind = 'recharge_requested', occurred_at_ms, toInt64(9223372036854775807)) AS asked,
        if(kind = 'recharge_succeeded', occurred_at_ms, toInt64(0)) AS paid
    FROM account_events FINAL
    WHERE {timed_condition(chosen, "occurred_at")} AND kind IN ('recharge_requested', 'recharge_succeeded')
) AS events
GROUP BY tenant_id, recharge_id
HAVING max(paid) > 0 AND min(asked) < toInt64(9223372036854775807)"""
    found: dict[str, list[int]] = {}
    for tenant_id, delay in _rows(store, sql):
        found.setdefault(tenant_id, []).append(int(delay))
    return found


def _rows(store: Store, sql: str) -> Iterator[Any]:
    """Any: rows as the statement's own types, which the text of the SQL decides."""
    return iter(store.query(sql).rows)


def draw_past(path: Path, past: Past, settings: Sequence[tuple[str, Setting]], *, ending: str) -> None:
    """The balance over the past under each setting, with its trigger, one above the other."""
    import matplotlib as mpl  # noqa: PLC0415  # takes its time
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    hours = [
        to_datetime((past.first_hour + index) * MS_PER_HOUR).replace(tzinfo=None) for index in range(len(past.demand))
    ]
    with mpl.rc_context({"svg.hashsalt": "pstn", "text.parse_math": False}):
        figure = Figure(figsize=(10, 3.2 * len(settings)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(settings), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
        figure.suptitle(f"Balance of {past.tenant_id} over its past usage")
        for axis, (name, setting) in zip(axes, settings, strict=True):
            trial, balances = run_with_balances(setting, past.demand, delay_hours=past.delay_hours)
            axis.plot(hours, [balance / MICROS_PER_UNIT for balance in balances], linewidth=1)  # only drawn
            trigger = setting.trigger_micros / MICROS_PER_UNIT
            axis.axhline(trigger, color="#c27b00", linewidth=0.8, linestyle="--", label="trigger")
            axis.legend(loc="upper right", fontsize=8, frameon=False)
            axis.axhline(0, color="#b00020", linewidth=0.8)
            axis.set_title(f"{name}: {trial.late_count} of {trial.recharge_count} recharges too late", fontsize=10)
            axis.set_ylabel(past.currency)
        kind = ending.removeprefix(".")
        figure.savefig(path, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)

"""Accounts and users as JSON: records.md's names, money in micro-units, times in RFC 3339. Pure."""

from __future__ import annotations

from pipeline.base.calendar import format_time
from pipeline.debit.account import Account, Lot, MonthPools, User
from pipeline.office.credit_table import CreditTable


def account_json(table: CreditTable, tenant_id: str) -> dict[str, object] | None:
    """Settings, balance, live lots, auto-recharge and pool use of a tenant; None when it has no account."""
    account = table.account(tenant_id)
    if account is None:
        return None
    return {
        "tenant_id": tenant_id,
        **account.terms._asdict(),
        "balance_micros": account.balance_micros,
        "overdraft_micros": account.overdraft_micros,
        "suspended": account.is_suspended,
        "funded": account.is_funded,
        "auto_recharge": _recharge_json(account),
        "lots": [lot_json(lot) for lot in account.lots],
        "pools": [pool for month in table.months(tenant_id) for pool in _pools(month)],
        "purchased_licences": [{"sku": sku, "count": count} for sku, count in account.purchased],
        "user_count": table.user_count(tenant_id),
    }


def summary_json(account: Account) -> dict[str, object]:
    """One line of a list of accounts."""
    return {
        "tenant_id": account.tenant_id,
        "country": account.terms.country,
        "currency": account.terms.currency,
        "agreement": account.terms.agreement,
        "balance_micros": account.balance_micros,
        "suspended": account.is_suspended,
        "auto_recharge": account.recharging.settings.is_enabled,
    }


def user_json(user: User) -> dict[str, object]:
    """A user with what he spent and drew in the months that are open."""
    return {
        "user_id": user.user_id,
        **user.settings._asdict(),
        "licences": list(user.settings.licences),
        "removed_at": None if user.removed_at is None else format_time(user.removed_at),
        "spent": [{"month": month, "spent_micros": spend.spent_micros} for month, spend in sorted(user.months.items())],
        "pools": [
            {"pool_id": f"{user.tenant_id}:{name}:{month}:{user.user_id}", "used_minutes": use.used_minutes}
            for (month, name), use in sorted(user.pools.items())
        ],
    }


def lot_json(lot: Lot) -> dict[str, object]:
    """A lot with its dates and what is left."""
    return {
        "lot_id": lot.lot_id,
        "purchased_at": format_time(lot.purchased_at),
        "expires_at": format_time(lot.expires_at),
        "amount_micros": lot.amount_micros,
        "remaining_micros": lot.remaining_micros,
    }


def _recharge_json(account: Account) -> dict[str, object]:
    recharging = account.recharging
    settings = recharging.settings
    return {
        "enabled": settings.is_enabled,
        "trigger_micros": settings.trigger_micros,
        "amount_micros": settings.amount_micros,
        "monthly_budget_micros": settings.monthly_budget_micros,
        **settings.payment._asdict(),
        "in_flight": None if recharging.in_flight is None else recharging.in_flight.recharge_id,
        "backoff_until": format_time(recharging.backoff_until) if recharging.backoff_until else None,
    }


def _pools(month: MonthPools) -> list[dict[str, object]]:
    return [
        {"pool_id": f"{month.tenant_id}:{name}:{month.month}", "used_minutes": use.used_minutes}
        for name, use in sorted(month.pools.items())
    ]

"""Minute pools: which one a call may draw on, and how large it is (D4, R19-R23, R32-R36).

A pool is a function of tenant, country group, plan, scope and month: it needs no timer, and a late call draws on its
own month's pool. Its size is worked out when it is asked for; only its use is kept.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.charge.subscriber import Entitlement
from pipeline.charge.tables import Country, Licence, Tables


class PoolClaim(NamedTuple):
    """A pool that may give a call its minutes. `name` is the pool's id without tenant, month and user."""

    name: str
    sku: str
    capability: str
    unit_minutes: int
    """Minutes for each user of the plan, or for each conferencing licence."""
    group: str | None
    """Country group whose users count (R21); None: the tenant's licences of that SKU, bought or assigned (R34)."""
    is_per_user: bool
    """One user's own pool (`MCOPSTN8`): its size is one unit."""
    closed_by: PoolClaim | None = None
    """The other quota of an international plan, when its end closes this one too (R23, a setting)."""


def plan_claim(plan: Licence, country: Country, scope: str, at_ms: int, tables: Tables) -> PoolClaim:
    """The plan's pool in the call's usage country; its allowance there may be 0."""
    return PoolClaim(
        f"{country.pool_group}:{plan.sku}:{scope}",
        plan.sku,
        plan.capability,
        tables.allowance_minutes(plan.sku, country.iso2, scope, at_ms),
        country.pool_group,
        plan.pooling == "user",
    )


def either_quota_closes(claim: PoolClaim, plan: Licence, country: Country, at_ms: int, tables: Tables) -> PoolClaim:
    """The same claim, closed by the end of the plan's other quota (R23)."""
    scope = "international" if claim.name.endswith(":domestic") else "domestic"
    return claim._replace(closed_by=plan_claim(plan, country, scope, at_ms, tables))


def dial_out_claim(
    entitlement: Entitlement, destination_country: str | None, at_ms: int, tables: Tables
) -> PoolClaim | None:
    """The dial-out pool of the first conferencing licence in the table whose destinations fit (R32, R35)."""
    for licence in entitlement.conferencing:
        allowance = tables.conferencing_allowance(licence.sku, at_ms)
        if allowance is not None and destination_country in allowance.destinations:
            name = f"conferencing:{licence.sku}:dial_out"
            return PoolClaim(name, licence.sku, licence.capability, allowance.minutes_per_licence, None, False)
    return None

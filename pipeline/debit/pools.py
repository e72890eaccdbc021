"""Minutes of pools (D4-D6): how much of one is left, and drawing on it.

A pool's use is kept by month in a record beside the account (in the user's record for a pool of his own); its size is
worked out from the counters that `set_user`, `assign_licences` and `remove_user` keep up to date.
"""

from __future__ import annotations

from typing import Final

from pipeline.base.rules import Rules
from pipeline.charge.allowance import PoolClaim
from pipeline.charge.tables import Tables
from pipeline.debit.account import UNUSED, Account, PoolUse
from pipeline.debit.retention import forget_closed_months, own_month
from pipeline.debit.turn import Turn

_ANNOUNCED_FROM_PERCENT: Final = 80


class Draw:
    """What a call got out of a pool."""

    __slots__ = ("after", "before", "minutes", "pool_id", "size_minutes")

    def __init__(self, pool_id: str, minutes: int, size_minutes: int, before: PoolUse, after: PoolUse) -> None:
        self.pool_id = pool_id
        self.minutes = minutes
        self.size_minutes = size_minutes
        self.before = before
        self.after = after


def size_minutes(claim: PoolClaim, account: Account, tables: Tables) -> int:
    """Minutes of a pool with the users or licences of now."""
    return claim.unit_minutes * _units(claim, account, tables) if claim.unit_minutes else 0


def _units(claim: PoolClaim, account: Account, tables: Tables) -> int:
    if claim.is_per_user:
        return 1
    sku, group, own = claim.sku, claim.group, account.terms.country
    if group is None:  # a licence's dial-out pool: those bought, else those assigned (R34)
        purchased = [count for bought, count in account.purchased if bought == sku]
        return purchased[0] if purchased else sum([seats.user_count for seats in account.seats if seats.sku == sku])
    return sum(
        [
            count
            for held, country, count in account.seats
            if held == sku and tables.country(country or own).pool_group == group
        ]
    )


def draw(turn: Turn, claim: PoolClaim, month: str, minutes: int, tables: Tables, rules: Rules) -> Draw | None:
    """Takes what the pool still has, at most `minutes`; None when it has nothing (D5)."""
    size = size_minutes(claim, turn.account, tables)
    before = _use(turn, claim, month)
    left = size - before.used_minutes
    if left <= 0 or (claim.closed_by is not None and _is_closed(turn, claim.closed_by, month, tables)):
        return None
    taken = min(left, minutes)
    used = before.used_minutes + taken
    after = PoolUse(
        used,
        before.is_80_announced or used * 100 >= size * _ANNOUNCED_FROM_PERCENT,
        before.is_100_announced or used >= size,
    )
    pool_id = f"{turn.account.tenant_id}:{claim.name}:{month}"
    if claim.is_per_user and turn.user is not None:
        pool_id += f":{turn.user.user_id}"
        user = turn.write_user()
        if (month, claim.name) not in user.pools:
            forget_closed_months(user, turn.now_ms, rules.call_age_ms_max)
        user.pools[month, claim.name] = after
    else:
        own_month(turn, month).pools[claim.name] = after
    return Draw(pool_id, taken, size, before, after)


def announce(turn: Turn, drawn: Draw, user_id: str | None) -> None:
    """Says that a pool reached 80 % and 100 %: once for each pool and month, 80 first."""
    kinds = [
        kind
        for kind, was_said, is_said in (
            ("pool_at_80", drawn.before.is_80_announced, drawn.after.is_80_announced),
            ("pool_exhausted", drawn.before.is_100_announced, drawn.after.is_100_announced),
        )
        if is_said and not was_said
    ]
    for kind in kinds:
        details = {
            "pool_id": drawn.pool_id,
            "used_minutes": str(drawn.after.used_minutes),
            "size_minutes": str(drawn.size_minutes),
        }
        turn.event(kind, None, details, user_id)


def _use(turn: Turn, claim: PoolClaim, month: str) -> PoolUse:
    if claim.is_per_user and turn.user is not None:
        return turn.user.pools.get((month, claim.name), UNUSED)
    pools = turn.books.month(turn.account.tenant_id, month)
    return UNUSED if pools is None else pools.pools.get(claim.name, UNUSED)


def _is_closed(turn: Turn, other: PoolClaim, month: str, tables: Tables) -> bool:
    """R23 as a setting: whether the plan's other quota, if it has one, has come to its end."""
    size = size_minutes(other, turn.account, tables)
    return size > 0 and _use(turn, other, month).used_minutes >= size

"""Accounts of the credit table -> rows of `accounts`: settings of recharges, and how large the minute pools are. Pure.

An account's record changes with each charged call, its settings seldom: what has not changed since it was last inserted
gives no row. Forgetting is harmless, the row is then inserted once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from pipeline.base.avro import DecodeError
from pipeline.base.calendar import MS_PER_DAY, month_of
from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.record import Consumed
from pipeline.charge.subscriber import Terms
from pipeline.charge.tables import SCOPES, Tables
from pipeline.debit.account import Rest
from pipeline.debit.stored import decode_account
from pipeline.warehouse.rows import Maker, make_block, poison_block, poison_values
from pipeline.warehouse.tables import ACCOUNTS
from pipeline.warehouse.users import Shown, UserRows

_POOL_FIELDS = tuple(f"pools.{part}" for part in ("country", "sku", "scope", "capability", "minutes"))
_SHOWN = (
    "tenant_id",
    "country",
    "currency",
    "agreement",
    "recharge_is_enabled",
    "recharge_trigger_micros",
    "recharge_amount_micros",
    "recharge_monthly_budget_micros",
    *_POOL_FIELDS,
)


class Pool(NamedTuple):
    """One pool of a month. `country`: its group, empty for the dial-out of meetings."""

    country: str
    sku: str
    scope: str
    capability: str
    minutes: int


def account_rows(records: Sequence[Consumed], known: Mapping[bytes, Shown], tables: Tables) -> UserRows:
    """The last state of each account in each month, where it differs from what is known."""
    latest = {(record.key, month_of(record.timestamp_ms)): record for record in records if is_account(record)}
    rows, poison = [], []
    shown_now: dict[bytes, Shown] = {}
    for (key, month), record in sorted(latest.items(), key=lambda item: item[1].offset):
        try:
            account = decode_account(record.value)
        except DecodeError as error:
            poison.append(poison_values(record, error.reason, error.detail))
            continue
        assert key is not None
        assert account.rest is not None
        shown = (account.tenant_id, *_shown(account.terms, account.rest, record.timestamp_ms // MS_PER_DAY, tables))
        if shown_now.get(key, known.get(key)) != shown:
            rows.append((*shown, month, record.offset))
            shown_now[key] = shown
    blocks = [poison_block(poison)] if poison else []
    if rows:
        blocks.append(make_block(Maker(ACCOUNTS, (*_SHOWN, "month", "source_offset"), None), rows))
    return UserRows(blocks, shown_now)


@lru_cache(maxsize=8_192)
def _shown(terms: Terms, rest: Rest, day: int, tables: Tables) -> Shown:
    """All of a row that is not the account's own. `day`: of the epoch, UTC; allowances change at its beginning."""
    settings = rest.recharging.settings
    pools = pools_of(terms.country, rest, day * MS_PER_DAY, tables)
    return (
        terms.country,
        terms.currency,
        terms.agreement,
        settings.is_enabled,
        settings.trigger_micros,
        settings.amount_micros,
        settings.monthly_budget_micros,
        *([pool[place] for pool in pools] for place in range(len(_POOL_FIELDS))),
    )


def is_account(record: Consumed) -> bool:
    """By the key: the tenant alone; a deleted record has no value."""
    return record.key is not None and b"/" not in record.key and record.key != CHECKPOINT_KEY and bool(record.value)


def pools_of(country: str, rest: Rest, at_ms: int, tables: Tables) -> list[Pool]:
    """Every pool of a tenant of that country with its users and licences of that instant (D4), as `debit/pools.py`
    sizes them; a pool of users that each have their own is the sum of theirs."""
    minutes: dict[tuple[str, str, str], int] = {}
    bought = dict(rest.purchased)
    seated: dict[str, int] = {}
    for sku, seat_country, count in rest.seats:
        seated[sku] = seated.get(sku, 0) + count
        home = tables.country(seat_country or country)
        for scope in SCOPES:
            size = count * tables.allowance_minutes(sku, home.iso2, scope, at_ms)
            if size:
                key = (home.pool_group, sku, scope)
                minutes[key] = minutes.get(key, 0) + size
    for sku, count in (seated | bought).items():
        allowance = tables.conferencing_allowance(sku, at_ms)
        if allowance is not None and count:
            minutes["", sku, "dial_out"] = count * allowance.minutes_per_licence
    return [Pool(*names, tables.licences[names[1]].capability, size) for names, size in sorted(minutes.items())]

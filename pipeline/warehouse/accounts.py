"""Accounts of the credit table -> rows of `accounts`: settings of recharges, and how large the minute pools are. Pure.

An account's record changes with each charged call, its settings seldom: what has not changed since it was last inserted
gives no row. Forgetting is harmless, the row is then inserted once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.base.avro import DecodeError, codec
from pipeline.base.calendar import month_of
from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.record import Consumed
from pipeline.charge.tables import SCOPES, Tables
from pipeline.warehouse.rows import Maker, Record, make_block, poison_block, poison_values
from pipeline.warehouse.tables import ACCOUNTS
from pipeline.warehouse.users import Shown, UserRows

_POOL_FIELDS = tuple(f"pools.{part}" for part in ("country", "sku", "scope", "capability", "minutes"))
_COPIED = tuple(
    column.field
    for column in ACCOUNTS.columns
    if column.field not in ("month", "source_offset") and column.field not in _POOL_FIELDS
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
    fields = codec(ACCOUNTS.record).fields
    copied = [fields.index(field) for field in _COPIED]
    latest = {(record.key, month_of(record.timestamp_ms)): record for record in records if is_account(record)}
    rows, poison = [], []
    shown_now: dict[bytes, Shown] = {}
    for (key, month), record in sorted(latest.items(), key=lambda item: item[1].offset):
        try:
            values = codec(ACCOUNTS.record).decode_values(record.value)
        except DecodeError as error:
            poison.append(poison_values(record, error.reason, error.detail))
            continue
        pools = pools_of(values, record.timestamp_ms, tables)
        shown = (*(values[place] for place in copied), *map(list, zip(*pools, strict=True)))
        shown += tuple([] for _ in range(len(_COPIED) + len(_POOL_FIELDS) - len(shown)))
        assert key is not None
        if shown_now.get(key, known.get(key)) != shown:
            rows.append((*shown, month, record.offset))
            shown_now[key] = shown
    blocks = [poison_block(poison)] if poison else []
    if rows:
        blocks.append(make_block(Maker(ACCOUNTS, (*_COPIED, *_POOL_FIELDS, "month", "source_offset"), None), rows))
    return UserRows(blocks, shown_now)


def is_account(record: Consumed) -> bool:
    """By the key: the tenant alone; a deleted record has no value."""
    return record.key is not None and b"/" not in record.key and record.key != CHECKPOINT_KEY and bool(record.value)


def pools_of(account: Record, at_ms: int, tables: Tables) -> list[Pool]:
    """Every pool of an account with its users and licences of that instant (D4), as `debit/pools.py` sizes them; a pool
    of users that each have their own is the sum of theirs."""
    fields = codec(ACCOUNTS.record).fields
    by_field: dict[str, Any] = dict(zip(fields, account, strict=True))
    minutes: dict[tuple[str, str, str], int] = {}
    bought = dict(by_field["purchased"])
    seated: dict[str, int] = {}
    for sku, country, count in by_field["seats"]:
        seated[sku] = seated.get(sku, 0) + count
        home = tables.country(country or by_field["country"])
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

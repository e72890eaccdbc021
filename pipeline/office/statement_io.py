"""Reads a statement from the warehouse, waiting for the loader when the account is already further."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from pipeline.debit.account import NEVER_MS, Account, Lot
from pipeline.office.statement import (
    EntryRow,
    Statement,
    entries_sql,
    funded_sql,
    lots_sql,
    make_statement,
    opening_sql,
)
from pipeline.warehouse.store import Store

_POLL_S = 0.3


def read_statement(
    store: Store,
    account: Account,
    lots: list[Lot],
    period: tuple[int | None, int | None],
    *,
    now_ms: int,
    wait_s: float,
) -> tuple[Statement, bool]:
    """The statement, and whether the warehouse is as far as the account. Blocking; StoreAway, StoreRefused.

    An open period ends now: then the closing balance must be the account's, and the loader gets `wait_s` to be so far.
    """
    from_ms, to_ms = period
    deadline_s = time.monotonic() + wait_s
    while True:
        statement = _read(store, account, lots, (from_ms, NEVER_MS if to_ms is None else to_ms))
        if to_ms is None:  # the broker's clock may be a little ahead of this one
            latest_ms = max((row.occurred_at + 1 for row in statement.rows), default=0)
            statement = statement._replace(to_ms=max(now_ms, latest_ms))
        is_past = to_ms is not None and to_ms <= now_ms
        is_current = is_past or statement.closing_micros == account.balance_micros
        if is_current or time.monotonic() > deadline_s:
            return statement, is_current
        time.sleep(_POLL_S)


def _read(store: Store, account: Account, lots: list[Lot], period: tuple[int | None, int]) -> Statement:
    from_ms, to_ms = period
    tenant_id = account.tenant_id

    def rows(sql: str) -> Iterable[Any]:
        return store.query(sql).rows

    opening = 0 if from_ms is None else sum(int(row[0]) for row in rows(opening_sql(tenant_id, from_ms)))
    return make_statement(
        tenant_id,
        account.terms.currency,
        (from_ms, to_ms),
        opening_micros=opening,
        entries=[_entry(*row) for row in rows(entries_sql(tenant_id, from_ms, to_ms))],
        left=[(str(name), int(micros)) for name, micros in rows(lots_sql(tenant_id, to_ms))],
        funded=[str(row[0]) for row in rows(funded_sql(tenant_id, to_ms))],
        lots=lots,
    )


# Any: values of columns, typed by the statement's own SQL.
def _entry(occurred_at: Any, kind: Any, credits: Any, receivable: Any, about: Any, entry_id: Any) -> EntryRow:
    return EntryRow(int(occurred_at), str(kind), int(credits), int(receivable), str(about), str(entry_id))

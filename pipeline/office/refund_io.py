"""What was taken for a call, as the warehouse knows it; a refund may not pass it."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.warehouse.store import Store, literal


class Taken(NamedTuple):
    """A rated call's money."""

    debited_micros: int
    postpaid_micros: int
    currency: str
    start_time: int
    callee_number: str


def read_taken(store: Store, tenant_id: str, usage_id: str) -> Taken | None:
    """The latest rated call of that id; None when the warehouse has none. Blocking; StoreAway, StoreRefused."""
    sql = f"""SELECT debited_micros, postpaid_micros, currency, start_time_ms, callee_number
FROM rated_calls FINAL
WHERE tenant_id = {literal(tenant_id)} AND usage_id = {literal(usage_id)} AND outcome != 'duplicate'
ORDER BY ledger_epoch DESC, applied_seq DESC LIMIT 1"""
    rows: list[Any] = list(store.query(sql).rows)
    if not rows:
        return None
    debited, postpaid, currency, start, callee = rows[0]
    return Taken(int(debited), int(postpaid), str(currency), int(start), str(callee))

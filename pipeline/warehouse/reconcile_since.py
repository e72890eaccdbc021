"""Comparing only what came after the books last agreed, and saying where in the log they differ. Pure.

What was agreed: each partition's position, every balance. From there on, a balance must have moved by exactly what was
posted to credits since, and each new call must have its entry. A row that is put into the past afterwards is not seen:
compare everything now and then, once a day.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.topics import INPUT_RETENTION_MS
from pipeline.warehouse.reconcile import (
    Balance,
    Outcome,
    PartitionState,
    Warehouse,
    call_rows,
    compare,
    entry_rows,
    result_places_sql,
)

_VERSION = 1
# A record that is applied now may have waited on its topic for as long as that keeps it; a day for clocks.
_WAIT_MS_MAX = INPUT_RETENTION_MS + MS_PER_DAY


class StateError(ValueError):
    """A file that holds no such state. One line for a person."""


class Agreed(NamedTuple):
    """As of what the books agreed. `partitions`: epoch, applied_seq and next CDR offset by number; `balances`: currency
    and micros by tenant."""

    taken_at_ms: int
    partitions: dict[int, tuple[int, int, int]]
    balances: dict[str, tuple[str, int]]
    call_count: int
    unreadable_count: int

    def as_text(self) -> str:
        return json.dumps({"version": _VERSION, **self._asdict()})


def parse_agreed(text: str) -> Agreed:
    """StateError when it is not what `as_text` writes."""
    try:
        content: dict[str, Any] = json.loads(text)
        if content.pop("version") != _VERSION:
            raise StateError("written by another version")
        return Agreed(
            int(content["taken_at_ms"]),
            {int(number): (int(a), int(b), int(c)) for number, (a, b, c) in content["partitions"].items()},
            {tenant: (str(currency), int(micros)) for tenant, (currency, micros) in content["balances"].items()},
            int(content["call_count"]),
            int(content["unreadable_count"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"no state of an earlier comparison ({error})") from None


def narrowed(state: PartitionState, since: Agreed | None) -> PartitionState:
    """The same checkpoint, to be compared from the agreement on. StateError when it is not of this ledger."""
    if since is None:
        return state
    epoch, seq, next_offset = since.partitions.get(state.partition, (-1, 0, 0))
    if epoch != state.ledger_epoch or seq > state.applied_seq:
        raise StateError(f"partition {state.partition} is another ledger's than in the state: compare everything anew")
    after_ms = max(1, since.taken_at_ms - _WAIT_MS_MAX)
    return state._replace(first_offset_cdrs=next_offset, after_seq=seq, after_ms=after_ms)


def judge(
    balances: Sequence[Balance],
    partitions: Sequence[PartitionState],
    warehouse: Warehouse,
    *,
    since: Agreed | None,
    taken_at_ms: int,
) -> tuple[Outcome, Agreed]:
    """The comparison, its totals of everything, and what is agreed if nothing differs."""
    before = {} if since is None else since.balances
    moved = [
        balance._replace(balance_micros=balance.balance_micros - before.get(balance.tenant_id, ("", 0))[1])
        for balance in balances
    ]
    unreadable = warehouse.unreadable_count - (since.unreadable_count if since else 0)
    outcome = compare(warehouse._replace(unreadable_count=unreadable), moved, partitions)
    totals: dict[str, int] = {}
    for balance in balances:
        totals[balance.currency] = totals.get(balance.currency, 0) + balance.balance_micros
    calls = outcome.call_count + (since.call_count if since else 0)
    agreed = Agreed(
        taken_at_ms,
        {each.partition: (each.ledger_epoch, each.applied_seq, each.next_offset_cdrs) for each in partitions},
        {each.tenant_id: (each.currency, each.balance_micros) for each in balances},
        calls,
        warehouse.unreadable_count,
    )
    return outcome._replace(balance_micros=dict(sorted(totals.items())), call_count=calls), agreed


class Position(NamedTuple):
    """A record of the log at which the books differ. `expected`, `found`: micros by call and by ledger, or results."""

    what: str
    tenant_id: str
    currency: str
    topic: str
    partition: int
    offset: int
    expected: int
    found: int


def against_ledger_sql(partitions: Sequence[PartitionState], limit: int) -> str:
    """Rows of Position without `what`: calls whose debit or post-paid charge is not that of their entries. A call and
    its entries share their place in the ledger's order."""
    return f"""SELECT tenant_id, currency, max(topic), source_partition, max(place), sum(by_call), sum(by_ledger)
FROM (
    SELECT
        tenant_id, currency, source_topic AS topic, source_partition, source_offset AS place, ledger_epoch, applied_seq,
        debited_micros + postpaid_micros AS by_call, toInt64(0) AS by_ledger
    FROM {call_rows(partitions)}
    UNION ALL
    SELECT
        tenant_id, currency, source_topic AS topic, source_partition, source_offset AS place, ledger_epoch, applied_seq,
        toInt64(0) AS by_call,
        if((kind = 'usage' AND account LIKE 'credits:%')
            OR (kind = 'postpaid_usage' AND account = 'receivable:postpaid'), -amount_micros, toInt64(0)) AS by_ledger
    FROM {entry_rows(partitions)}
) AS both
GROUP BY tenant_id, currency, source_partition, ledger_epoch, applied_seq
HAVING sum(by_call) != sum(by_ledger)
ORDER BY tenant_id, source_partition, applied_seq
LIMIT {limit}"""


def more_than_one_result_sql(partitions: Sequence[PartitionState], cdr_topic: str, limit: int) -> str:
    """Rows of partition, offset and number of results, of CDRs that have several."""
    return f"""SELECT source_partition, source_offset, count() AS results
FROM (
{result_places_sql(partitions, cdr_topic)}
) AS places
GROUP BY source_partition, source_offset
HAVING results > 1
ORDER BY source_partition, source_offset
LIMIT {limit}"""


def places_of_partition_sql(state: PartitionState, cdr_topic: str) -> str:
    """Offsets of a partition's CDRs that have a result."""
    return f"SELECT source_offset FROM (\n{result_places_sql([state], cdr_topic)}\n) AS places"

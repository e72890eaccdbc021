"""Do the books agree? Ledger entries, balances and rated calls, from places that were written separately.

Everything is compared as of each partition's last checkpoint: rows up to its `applied_seq`, so a running system
reconciles too. Differences are values; nothing here is repaired. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pipeline.warehouse.store import literal

# Enough to see what is wrong; the rest is counted.
UNBALANCED_SHOWN_MAX = 100


class PartitionState(NamedTuple):
    """What a partition's checkpoint says. `call_count_*`: results that its CDRs must have given (None: not counted);
    a CDR on a partition that is not its tenant's may have been forwarded or rejected, hence two bounds. Only rows
    beyond `after_seq` are compared; none of them has a broker's time before `after_ms` (0: everything is compared)."""

    partition: int
    ledger_epoch: int
    applied_seq: int
    next_offset_cdrs: int
    first_offset_cdrs: int = 0
    call_count_min: int | None = None
    call_count_max: int | None = None
    after_seq: int = 0
    after_ms: int = 0
    next_offset_commands: int = 0


class Balance(NamedTuple):
    """A tenant's balance as the credit table has it; or by how much it has moved since an earlier comparison."""

    tenant_id: str
    currency: str
    balance_micros: int


class LedgerTotals(NamedTuple):
    """Sums of a tenant's postings of a month; `debited` and `postpaid` are of calls alone, as positive amounts."""

    tenant_id: str
    currency: str
    all_micros: int
    credits_micros: int
    debited_micros: int
    postpaid_micros: int
    month: str = ""


class RatedTotals(NamedTuple):
    """Sums of a tenant's rated calls that the ledger applied in a month."""

    tenant_id: str
    currency: str
    call_count: int
    debited_micros: int
    postpaid_micros: int
    month: str = ""


class UnbalancedEntry(NamedTuple):
    """A ledger entry whose postings do not sum to zero."""

    tenant_id: str
    entry_id: str
    sum_micros: int


class ResultCount(NamedTuple):
    """Rows in the warehouse for the CDRs of one partition; each must have its own place."""

    partition: int
    row_count: int
    place_count: int


class Warehouse(NamedTuple):
    """All that the warehouse says; `unreadable_count`: results that the loader could not read."""

    ledger: Sequence[LedgerTotals]
    rated: Sequence[RatedTotals]
    unbalanced: Sequence[UnbalancedEntry]
    results: Sequence[ResultCount]
    unreadable_count: int


class Difference(NamedTuple):
    """Two places that disagree. `subject`: a tenant, an entry or a partition; amounts in micros, else counts."""

    what: str
    subject: str
    currency: str
    expected: int
    found: int


class Outcome(NamedTuple):
    """`differences` is empty when the books agree."""

    tenant_count: int
    call_count: int
    balance_micros: Mapping[str, int]
    """By currency, over all tenants."""
    differences: list[Difference]


def compare(warehouse: Warehouse, balances: Iterable[Balance], partitions: Sequence[PartitionState]) -> Outcome:
    """Differences in the order: entries, tenants, partitions, what could not be read."""
    by_tenant = {balance.tenant_id: balance for balance in balances}
    differences = [
        Difference("postings of a ledger entry sum to zero", f"{entry.tenant_id} {entry.entry_id}", "", 0, entry[2])
        for entry in warehouse.unbalanced
    ]
    differences += _tenant_differences(warehouse, by_tenant)
    differences += _result_differences(warehouse.results, partitions)
    if warehouse.unreadable_count:
        differences.append(
            Difference("every result can be read by the loader", "rejected_cdrs", "", 0, warehouse.unreadable_count)
        )
    totals: dict[str, int] = {}
    for balance in by_tenant.values():
        totals[balance.currency] = totals.get(balance.currency, 0) + balance.balance_micros
    calls = sum(total.call_count for total in warehouse.rated)
    return Outcome(len(by_tenant), calls, dict(sorted(totals.items())), differences)


def _tenant_differences(warehouse: Warehouse, by_tenant: Mapping[str, Balance]) -> list[Difference]:
    """Balances by tenant, the rest by tenant and month."""
    ledger = {(total.tenant_id, total.month, total.currency): total for total in warehouse.ledger}
    rated = {(total.tenant_id, total.month, total.currency): total for total in warehouse.rated}
    balances = {(balance.tenant_id, balance.currency): balance.balance_micros for balance in by_tenant.values()}
    credits: dict[tuple[str, str], int] = {}
    for total in warehouse.ledger:
        key = (total.tenant_id, total.currency)
        credits[key] = credits.get(key, 0) + total.credits_micros
    found = []
    for tenant, month, currency in sorted(ledger.keys() | rated.keys()):
        entries = ledger.get((tenant, month, currency), LedgerTotals(tenant, currency, 0, 0, 0, 0))
        calls = rated.get((tenant, month, currency), RatedTotals(tenant, currency, 0, 0, 0))
        subject = f"{tenant} {month}".rstrip()
        checks = (
            ("postings of a tenant sum to zero", 0, entries.all_micros),
            ("debits of calls = usage entries", calls.debited_micros, entries.debited_micros),
            ("post-paid of calls = post-paid entries", calls.postpaid_micros, entries.postpaid_micros),
        )
        found += [Difference(what, subject, currency, should, does) for what, should, does in checks if should != does]
    for tenant, currency in sorted(balances.keys() | credits.keys()):
        should, does = balances.get((tenant, currency), 0), credits.get((tenant, currency), 0)
        if should != does:
            found.append(Difference("balance = postings to credits", tenant, currency, should, does))
    return found


def _result_differences(results: Sequence[ResultCount], partitions: Sequence[PartitionState]) -> list[Difference]:
    found = []
    by_partition = {result.partition: result for result in results}
    for state in partitions:
        result = by_partition.get(state.partition, ResultCount(state.partition, 0, 0))
        subject = f"partition {state.partition}"
        if result.row_count != result.place_count:
            found.append(Difference("one result for each CDR", subject, "", result.place_count, result.row_count))
        if state.call_count_min is None or state.call_count_max is None:
            continue
        expected = min(max(result.place_count, state.call_count_min), state.call_count_max)
        if result.place_count != expected:
            found.append(
                Difference("rated calls and rejects = applied CDRs", subject, "", expected, result.place_count)
            )
    return found


def ledger_sql(partitions: Sequence[PartitionState]) -> str:
    """Rows of LedgerTotals."""
    return f"""SELECT
    tenant_id,
    currency,
    sum(amount_micros),
    sumIf(amount_micros, account LIKE 'credits:%'),
    -sumIf(amount_micros, kind = 'usage' AND account LIKE 'credits:%'),
    -sumIf(amount_micros, kind = 'postpaid_usage' AND account = 'receivable:postpaid'),
    {_month_of("occurred_at_ms")} AS month
FROM {entry_rows(partitions)}
GROUP BY tenant_id, currency, month
ORDER BY tenant_id, currency, month"""


def unbalanced_sql(partitions: Sequence[PartitionState]) -> str:
    """Rows of UnbalancedEntry, the first UNBALANCED_SHOWN_MAX."""
    return f"""SELECT tenant_id, entry_id, sum(amount_micros) AS sum_micros
FROM {entry_rows(partitions)}
GROUP BY tenant_id, entry_id
HAVING sum_micros != 0
ORDER BY tenant_id, entry_id
LIMIT {UNBALANCED_SHOWN_MAX}"""


def rated_sql(partitions: Sequence[PartitionState]) -> str:
    """Rows of RatedTotals; duplicates took nothing and count as results, not as calls."""
    return f"""SELECT
    tenant_id,
    currency,
    countIf(outcome != 'duplicate'),
    sum(debited_micros),
    sum(postpaid_micros),
    {_month_of("received_at_ms")} AS month
FROM {call_rows(partitions)}
GROUP BY tenant_id, currency, month
ORDER BY tenant_id, currency, month"""


def results_sql(partitions: Sequence[PartitionState], cdr_topic: str) -> str:
    """Rows of ResultCount: what CDRs gave, rated or rejected."""
    return f"""SELECT source_partition, count(), uniqExact(source_offset)
FROM (
{result_places_sql(partitions, cdr_topic)}
) AS results
GROUP BY source_partition
ORDER BY source_partition"""


def result_places_sql(partitions: Sequence[PartitionState], cdr_topic: str) -> str:
    """Partition and offset of the CDR of each result, of those that the topic still has."""
    topic = literal(cdr_topic)
    return f"""SELECT source_partition, source_offset
FROM {call_rows(partitions)}
WHERE source_topic = {topic} AND {_kept(partitions)}
UNION ALL
SELECT source_partition, source_offset
FROM {reject_rows(partitions)}
WHERE source_topic = {topic} AND {_kept(partitions)}"""


_PLACE = "source_topic, source_partition, source_offset, ledger_epoch, applied_seq"


def call_rows(partitions: Sequence[PartitionState]) -> str:
    """Rated calls to be compared, each once, as a subquery."""
    columns = f"tenant_id, start_time, received_at_ms, currency, outcome, debited_micros, postpaid_micros, {_PLACE}"
    key = "tenant_id, start_time, ledger_epoch, source_partition, applied_seq"
    return _rows("rated_calls", columns, key, "received_at", partitions)


def entry_rows(partitions: Sequence[PartitionState]) -> str:
    """Postings of ledger entries to be compared, each once, as a subquery."""
    columns = f"tenant_id, entry_id, kind, occurred_at, occurred_at_ms, currency, account, amount_micros, {_PLACE}"
    key = "tenant_id, occurred_at, ledger_epoch, source_partition, applied_seq, entry_index, posting_index"
    return _rows("ledger_entries", f"{columns}, entry_index, posting_index", key, "occurred_at", partitions)


def reject_rows(partitions: Sequence[PartitionState]) -> str:
    """Rejects to be compared, each once, as a subquery."""
    key = "tenant_id, received_at, ledger_epoch, source_partition, applied_seq, source_topic, source_offset"
    return _rows("rejected_cdrs", f"tenant_id, received_at, {_PLACE}", key, "received_at", partitions)


def _rows(table: str, columns: str, key: str, time: str, partitions: Sequence[PartitionState]) -> str:
    """FINAL reads the whole table. What is new is little: read by its time, each key once."""
    applied = _applied(partitions)
    if not partitions or not all(state.after_ms for state in partitions):
        return f"(SELECT {columns} FROM {table} FINAL WHERE {applied}) AS compared"
    after_ms = min(state.after_ms for state in partitions)
    since = f"{time} >= toDateTime({after_ms // 1000}, 'UTC')"
    return f"(SELECT {columns} FROM {table} PREWHERE {since} WHERE {applied} LIMIT 1 BY {key}) AS compared"


def _month_of(instant_ms: str) -> str:
    return f"substring(toString(toDate(toUInt16(intDiv({instant_ms}, 86400000)))), 1, 7)"


# Rows of the loader itself have no place in the ledger's order.
UNREADABLE_SQL = "SELECT count() FROM rejected_cdrs FINAL WHERE applied_seq = 0"


def _applied(partitions: Sequence[PartitionState]) -> str:
    """Rows of the present ledgers beyond what was compared before, up to their checkpoints."""
    if not partitions:
        return "0"
    owners = ", ".join(f"({state.partition}, {state.ledger_epoch})" for state in partitions)
    last = _by_partition(partitions, [state.applied_seq for state in partitions])
    after = _by_partition(partitions, [state.after_seq for state in partitions])
    return f"(source_partition, ledger_epoch) IN ({owners}) AND applied_seq > {after} AND applied_seq <= {last}"


def _kept(partitions: Sequence[PartitionState]) -> str:
    """Results of CDRs that the topic still has."""
    if not partitions:
        return "0"
    return f"source_offset >= {_by_partition(partitions, [state.first_offset_cdrs for state in partitions])}"


def _by_partition(partitions: Sequence[PartitionState], values: Sequence[int]) -> str:
    numbers = ", ".join(f"toInt64({state.partition})" for state in partitions)
    results = ", ".join(f"toInt64({value})" for value in values)
    return f"transform(toInt64(source_partition), [{numbers}], [{results}], toInt64(-1))"

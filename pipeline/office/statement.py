"""A credit statement: opening balance, every entry, every lot with what is left of it, closing balance. Pure.

It is made from the ledger entries of the warehouse: the balance at any instant is the sum of the postings on
`credits:` accounts before it, and so is what is left of a lot. The dates of lots come from the account.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.debit.account import Lot
from pipeline.warehouse.store import literal

_CREDITS = "credits:"
OVERDRAFT = "credits:overdraft"


class StatementRow(NamedTuple):
    """A ledger entry as the customer sees it; `amount_micros` is what it did to the balance, after which it stood at
    `balance_micros`. Post-paid usage leaves the balance alone and says in `postpaid_micros` what is billed later."""

    occurred_at: int
    kind: str
    amount_micros: int
    postpaid_micros: int
    balance_micros: int
    about: str
    """The call, lot or recharge."""
    entry_id: str


class LotLine(NamedTuple):
    """A lot at the statement's end."""

    lot_id: str
    purchased_at: int
    expires_at: int
    amount_micros: int
    remaining_micros: int


class Statement(NamedTuple):
    """Of one tenant, from `from_ms` (None: the first entry) to `to_ms`, not included. Opening + amounts = closing."""

    tenant_id: str
    currency: str
    from_ms: int | None
    to_ms: int
    opening_micros: int
    rows: tuple[StatementRow, ...]
    lots: tuple[LotLine, ...]
    overdraft_micros: int
    closing_micros: int


class EntryRow(NamedTuple):
    """One row of `entries_sql`."""

    occurred_at: int
    kind: str
    credits_micros: int
    receivable_micros: int
    about: str
    entry_id: str


def entries_sql(tenant_id: str, from_ms: int | None, to_ms: int) -> str:
    """Entries of the period, in the order in which the ledger made them."""
    since = "" if from_ms is None else f" AND occurred_at_ms >= {literal(from_ms)}"
    return f"""SELECT
    occurred_at_ms,
    kind,
    sumIf(amount_micros, startsWith(account, '{_CREDITS}')) AS credits_micros,
    sumIf(amount_micros, account = 'receivable:postpaid') AS receivable_micros,
    if(usage_id != '', usage_id, if(recharge_id != '', recharge_id, lot_id)) AS about,
    entry_id
FROM ledger_entries FINAL
WHERE tenant_id = {literal(tenant_id)}{since} AND occurred_at_ms < {literal(to_ms)}
GROUP BY ledger_epoch, source_partition, applied_seq, entry_index, occurred_at_ms, kind, about, entry_id
ORDER BY ledger_epoch, applied_seq, entry_index"""


def opening_sql(tenant_id: str, from_ms: int) -> str:
    """The balance just before the period."""
    return f"""SELECT sum(amount_micros) FROM ledger_entries FINAL
WHERE tenant_id = {literal(tenant_id)} AND occurred_at_ms < {literal(from_ms)} AND startsWith(account, '{_CREDITS}')"""


def lots_sql(tenant_id: str, to_ms: int) -> str:
    """What was left in each lot, and how much overdraft there was, at the end."""
    return f"""SELECT account, sum(amount_micros) FROM ledger_entries FINAL
WHERE tenant_id = {literal(tenant_id)} AND occurred_at_ms < {literal(to_ms)} AND startsWith(account, '{_CREDITS}')
GROUP BY account ORDER BY account"""


def funded_sql(tenant_id: str, to_ms: int) -> str:
    """Lots that were paid for before the end; one that went into an overdraft whole has no posting of its own."""
    return f"""SELECT DISTINCT if(recharge_id != '', recharge_id, lot_id) FROM ledger_entries FINAL
WHERE tenant_id = {literal(tenant_id)} AND kind = 'funding' AND occurred_at_ms < {literal(to_ms)}"""


def make_statement(
    tenant_id: str,
    currency: str,
    period: tuple[int | None, int],
    *,
    opening_micros: int,
    entries: Iterable[EntryRow],
    left: Iterable[tuple[str, int]],
    funded: Iterable[str],
    lots: Sequence[Lot],
) -> Statement:
    """Puts the answers together. `lots`: all lots of the account, for their dates; those bought later are left out."""
    balance_micros = opening_micros
    rows = []
    for entry in entries:
        balance_micros += entry.credits_micros
        rows.append(
            StatementRow(
                entry.occurred_at,
                entry.kind,
                entry.credits_micros,
                -entry.receivable_micros,
                balance_micros,
                entry.about,
                entry.entry_id,
            )
        )
    remaining = dict.fromkeys((_CREDITS + lot_id for lot_id in funded), 0) | dict(left)
    lines = [
        LotLine(lot.lot_id, lot.purchased_at, lot.expires_at, lot.amount_micros, remaining[_CREDITS + lot.lot_id])
        for lot in lots
        if _CREDITS + lot.lot_id in remaining
    ]
    overdraft_micros = -remaining.get(OVERDRAFT, 0)
    return Statement(
        tenant_id, currency, *period, opening_micros, tuple(rows), tuple(lines), overdraft_micros, balance_micros
    )


def problem_of(statement: Statement) -> str | None:
    """The lots and the entries must say the same; None when they do."""
    held_micros = sum(lot.remaining_micros for lot in statement.lots) - statement.overdraft_micros
    if held_micros == statement.closing_micros:
        return None
    return (
        f"the entries of {statement.tenant_id} end with {statement.closing_micros} micros, its lots hold {held_micros}"
        ": type `pstn report reconcile`"
    )

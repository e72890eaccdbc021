"""What stands in the books of each tenant, for a person: balance, lots, the use of pools (records.md section 5)."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.debit.account import Account, Lot, MonthPools, SpentLot, Stored, User
from pipeline.debit.books import State
from pipeline.debit.stored import decode_stored


def account_lines(state: State) -> Iterator[dict[str, object]]:
    """One line a tenant, by tenant_id; times in ms. Lots that hold nothing any more stay in, in FIFO order."""
    held: dict[str, list[bytes | Stored]] = {}
    for tenant_id, record in state.entries():
        held.setdefault(tenant_id, []).append(record)
    for tenant_id in sorted(held):
        records = [decode_stored(record) if isinstance(record, bytes) else record for record in held[tenant_id]]
        yield from (_line(record, records) for record in records if isinstance(record, Account))


def _line(account: Account, records: list[Stored]) -> dict[str, object]:
    lots = account.lots + [record.lot for record in records if isinstance(record, SpentLot)]
    pools = [pool for record in records for pool in _pools(record)]
    return {
        "tenant_id": account.tenant_id,
        "currency": account.terms.currency,
        "agreement": account.terms.agreement,
        "balance_micros": account.balance_micros,
        "overdraft_micros": account.overdraft_micros,
        "suspended": account.is_suspended,
        "lots": [_lot(lot) for lot in sorted(lots, key=lambda lot: (lot.purchased_at, lot.arrival))],
        "pools": [{"pool_id": pool_id, "used_minutes": used} for pool_id, used in sorted(pools)],
    }


def _lot(lot: Lot) -> dict[str, object]:
    names = ("lot_id", "purchased_at", "expires_at", "remaining_micros")
    return {name: getattr(lot, name) for name in names}


def _pools(record: Stored) -> list[tuple[str, int]]:
    """Identifiers of the pools whose use a record keeps, and the minutes used."""
    match record:
        case MonthPools():
            return [
                (f"{record.tenant_id}:{name}:{record.month}", use.used_minutes) for name, use in record.pools.items()
            ]
        case User():
            return [
                (f"{record.tenant_id}:{name}:{month}:{record.user_id}", use.used_minutes)
                for (month, name), use in record.pools.items()
            ]
        case _:
            return []

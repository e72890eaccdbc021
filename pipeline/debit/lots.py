"""Money in lots (D8, D10, R52, R53): first in, first out; each expires 12 months after its own purchase.

What calls take beyond the lots is overdraft, and new money settles that first.
"""

from __future__ import annotations

from bisect import insort_right
from typing import Final

from pipeline.base.calendar import add_months
from pipeline.cdr.command import PURCHASE_TIME_MS_END
from pipeline.debit.account import NEVER_MS, Account, Lot
from pipeline.debit.turn import Turn
from pipeline.emit.outputs import LotUse

LIFETIME_MONTHS: Final = 12


def let_time_pass(turn: Turn) -> None:
    """Before a record is applied: announces lots that expire within 30 days, forfeits those whose time has come."""
    now_ms = turn.now_ms
    if now_ms < turn.account.lots_due_at:
        return
    account = turn.write()
    due = [lot for lot in account.lots if lot.due_at <= now_ms]
    due.sort(key=lambda lot: (lot.expires_at, lot.purchased_at, lot.arrival))
    for lot in due:
        if now_ms < lot.expires_at:
            account.lots[account.lots.index(lot)] = lot.announced()
            turn.event("lot_expiring", lot.remaining_micros, {"lot_id": lot.lot_id})
    for lot in due:
        if now_ms >= lot.expires_at:
            _forfeit(turn, account, lot)
    _note_due(account)


def _forfeit(turn: Turn, account: Account, lot: Lot) -> None:
    account.lots.remove(lot)
    account.balance_micros -= lot.remaining_micros
    if account.balance_micros <= 0:
        account.zero_at = lot.expires_at
    turn.spend_lot(lot)
    postings = (("credits:" + lot.lot_id, -lot.remaining_micros), ("revenue:forfeited", lot.remaining_micros))
    turn.entry("forfeiture", postings, lot_id=lot.lot_id)
    turn.event("lot_expired", lot.remaining_micros, {"lot_id": lot.lot_id})


def add(turn: Turn, lot_id: str, amount_micros: int, purchased_at: int) -> list[tuple[str, int]]:
    """New money: settles the overdraft, the rest is a lot. Returns the postings on the side of the credits."""
    account = turn.write()
    settled_micros = min(account.overdraft_micros, amount_micros)
    remaining_micros = amount_micros - settled_micros
    account.overdraft_micros -= settled_micros
    account.balance_micros += amount_micros
    account.lot_count += 1
    expires_at = add_months(min(purchased_at, PURCHASE_TIME_MS_END - 1), LIFETIME_MONTHS)
    lot = Lot(lot_id, purchased_at, account.lot_count, expires_at, amount_micros, remaining_micros, False)
    if remaining_micros:
        insort_right(account.lots, lot, key=lambda each: each.purchased_at)  # after those that arrived before
        _note_due(account)
    else:
        turn.spend_lot(lot)
    sides = (("credits:overdraft", settled_micros), ("credits:" + lot_id, remaining_micros))
    return [side for side in sides if side[1]]


def take(turn: Turn, amount_micros: int) -> tuple[tuple[LotUse, ...], int]:
    """Debits an amount, the oldest purchase first: what each lot paid, and what became overdraft."""
    account = turn.write()
    before_micros = account.balance_micros
    account.balance_micros = before_micros - amount_micros
    if before_micros > 0 >= account.balance_micros:
        account.zero_at = turn.now_ms
    lots = account.lots
    used: list[LotUse] = []
    left_micros = amount_micros
    while left_micros and lots:
        lot = lots[0]
        if lot.remaining_micros > left_micros:
            lots[0] = lot.holding(lot.remaining_micros - left_micros)
            used.append((lot.lot_id, left_micros))
            left_micros = 0
        else:
            del lots[0]
            turn.spend_lot(lot)
            used.append((lot.lot_id, lot.remaining_micros))
            left_micros -= lot.remaining_micros
            _note_due(account)
    account.overdraft_micros += left_micros
    return tuple(used), left_micros


def _note_due(account: Account) -> None:
    account.lots_due_at = min((lot.due_at for lot in account.lots), default=NEVER_MS)

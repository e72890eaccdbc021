"""What every applied record ends with: zero and suspension, then recharge (D11, D13)."""

from __future__ import annotations

from pipeline.debit.recharge import request_if_needed
from pipeline.debit.turn import Turn


def close(turn: Turn) -> None:
    """The last events of a record: `balance_zero`, suspended or restored, recharge."""
    account = turn.account
    balance_micros = account.balance_micros
    is_postpaid = account.behaves_postpaid
    if turn.balance_before_micros > 0 >= balance_micros:
        turn.event("balance_zero")
        if not is_postpaid:
            turn.write().is_suspended = True
            turn.event("service_suspended")
    if account.is_suspended and (balance_micros > 0 or is_postpaid):
        turn.write().is_suspended = False
        turn.event("service_restored")
    request_if_needed(turn)

"""From a `recharge_requested` event to the payment that it asks for, and from its result to the answering command."""

from __future__ import annotations

from hashlib import blake2b

from pipeline.cdr.command import Command
from pipeline.cdr.decode import ID_CHARS_MAX, TEXT_CHARS_MAX
from pipeline.emit.outputs import AccountEvent
from pipeline.emit.pay.gateway import Declined, PaymentRequest, Succeeded

_DIGEST_BYTES = 16


def request_of(event: AccountEvent) -> PaymentRequest:
    """The payment that a `recharge_requested` event asks for."""
    details = event.details
    if event.amount_micros is None or "recharge_id" not in details:
        raise ValueError(f"event {event.event_id} asks for no amount or names no recharge_id")
    return PaymentRequest(
        recharge_id=details["recharge_id"],
        tenant_id=event.tenant_id,
        amount_micros=event.amount_micros,
        currency=event.currency,
        payment_method=details.get("payment_method", "other"),
        enterprise_agreement_no=details.get("enterprise_agreement_no"),
        purchase_order_no=details.get("purchase_order_no"),
        requested_at_ms=event.occurred_at,
    )


def answer_of(request: PaymentRequest, result: Succeeded | Declined) -> Command:
    """The command that tells the ledger; the same answer has the same command_id."""
    succeeded = isinstance(result, Succeeded)
    paid_at_ms = (result.paid_at_ms or request.requested_at_ms) if isinstance(result, Succeeded) else None
    return Command(
        command_id=answer_id(request.recharge_id, "succeeded" if succeeded else "failed"),
        tenant_id=request.tenant_id,
        kind="recharge_result",
        issued_by="payments",
        fields={
            "recharge_id": request.recharge_id,
            "succeeded": succeeded,
            "reason": None if isinstance(result, Succeeded) else result.reason[:TEXT_CHARS_MAX],
            "paid_at": paid_at_ms,
        },
    )


def answer_id(recharge_id: str, answer: str) -> str:
    """`<recharge_id>:<answer>`; where that is longer than an id may be, its middle becomes a digest."""
    whole = f"{recharge_id}:{answer}"
    if len(whole) <= ID_CHARS_MAX:
        return whole
    tail = f"~{blake2b(recharge_id.encode(), digest_size=_DIGEST_BYTES).hexdigest()}:{answer}"
    return recharge_id[: ID_CHARS_MAX - len(tail)] + tail

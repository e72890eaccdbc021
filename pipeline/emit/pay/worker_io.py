"""Answers every `recharge_requested` event: asks the gateway, then sends a `recharge_result` command.

The position is committed only after the commands are on the topic, so a crash loses no request. A request may be
asked and answered more than once: the gateway knows it by its recharge_id, the ledger the command by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import blake2b

import structlog

from pipeline.base.record import Consumed, SendCommand
from pipeline.base.topics import ACCOUNT_EVENTS
from pipeline.cdr.command import Command, encode_command
from pipeline.cdr.decode import ID_CHARS_MAX, TEXT_CHARS_MAX
from pipeline.emit.events import events_in
from pipeline.emit.outputs import AccountEvent
from pipeline.emit.pay.gateway import Declined, PaymentGateway, PaymentRequest, Succeeded, Unknown

log = structlog.get_logger(__name__)

_CHARGES_AT_ONCE_MAX = 8
_DIGEST_BYTES = 16


class PaymentUnknown(Exception):
    """The gateway left a payment open. Nothing is committed; it is asked again with the same key."""


class PaymentWorker:
    """An `Effect`. The gateway is closed with it; the sender stays its maker's."""

    topics: tuple[str, ...] = (ACCOUNT_EVENTS,)

    def __init__(self, *, gateway: PaymentGateway, send_command: SendCommand) -> None:
        self._gateway = gateway
        self._send_command = send_command
        self._slots = asyncio.Semaphore(_CHARGES_AT_ONCE_MAX)

    async def handle(self, records: Sequence[Consumed]) -> None:
        """Returns when every request among the records is answered. Raises PaymentUnknown, after trying them all."""
        requests = events_in(records, {"recharge_requested"})
        outcomes = await asyncio.gather(*(self._answer(event) for event in requests), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def close(self) -> None:
        await self._gateway.close()

    async def _answer(self, event: AccountEvent) -> None:
        async with self._slots:
            request = request_of(event)
            result = await self._gateway.charge(request)
            if isinstance(result, Unknown):
                raise PaymentUnknown(f"payment {request.recharge_id} is open: {result.detail}")
            await self._send_command(event.tenant_id, encode_command(answer_of(request, result)))
            log.info(
                "recharge_answered",
                recharge_id=request.recharge_id,
                tenant_id=request.tenant_id,
                amount_micros=request.amount_micros,
                currency=request.currency,
                **result._asdict(),
            )


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

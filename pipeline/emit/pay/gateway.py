"""What a payment gateway is to us: asked to charge, it says yes, no, or that nobody knows.

The recharge_id is the idempotency key: asked again with it, a gateway gives the first answer and takes no second
payment. Only a definite decline is `Declined`; whatever leaves the outcome open is `Unknown` and is asked again.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class PaymentRequest(NamedTuple):
    """One payment to be taken; `amount_micros` are micro-units of `currency`."""

    recharge_id: str
    tenant_id: str
    amount_micros: int
    currency: str
    payment_method: str
    enterprise_agreement_no: str | None
    purchase_order_no: str | None
    requested_at_ms: int


class Succeeded(NamedTuple):
    """The money is ours. `paid_at_ms` None: the gateway does not say, the request's own time counts."""

    paid_at_ms: int | None
    reference: str


class Declined(NamedTuple):
    """The money will not come by this request; `reason` such as `card_expired`."""

    reason: str


class Unknown(NamedTuple):
    """A timeout, a broken connection, an answer that makes no sense: it may or may not have been paid."""

    detail: str


PaymentResult = Succeeded | Declined | Unknown


class PaymentGateway(Protocol):
    """Takes payments. `charge` may be called again with the same request, also at the same time."""

    async def charge(self, request: PaymentRequest) -> PaymentResult: ...

    async def close(self) -> None: ...

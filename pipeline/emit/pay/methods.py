"""Paying on an enterprise agreement (R56), and choosing a gateway by the method of payment.

An agreement is chosen among those that the operator wrote down for the tenant. It is booked at once: the money is
owed by contract, and the invoice that follows names agreement and purchase order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pipeline.emit.pay.gateway import Declined, PaymentGateway, PaymentRequest, PaymentResult, Succeeded


class InvoiceGateway:
    """A `PaymentGateway`. `agreements_of`: the agreement numbers of a tenant."""

    def __init__(self, agreements_of: Callable[[str], Sequence[str]]) -> None:
        self._agreements_of = agreements_of

    async def charge(self, request: PaymentRequest) -> PaymentResult:
        number = request.enterprise_agreement_no
        if not number:
            return Declined("agreement_number_missing")
        if number not in self._agreements_of(request.tenant_id):
            return Declined("agreement_unknown")
        return Succeeded(None, f"agreement:{number}:{request.recharge_id}")

    async def close(self) -> None:
        """Nothing is open."""


class ByMethod:
    """A `PaymentGateway` that passes each request to that of its payment method."""

    def __init__(self, gateways: Mapping[str, PaymentGateway]) -> None:
        self._gateways = gateways

    async def charge(self, request: PaymentRequest) -> PaymentResult:
        gateway = self._gateways.get(request.payment_method)
        return Declined("payment_method_not_offered") if gateway is None else await gateway.charge(request)

    async def close(self) -> None:
        for gateway in self._gateways.values():
            await gateway.close()

"""The JSON of a card processor, in the shape that Stripe and its like share: what is sent, and what an answer means.

Amounts go out in the currency's minor units. Only an answer about this very payment counts; whatever is not a clear
yes or a clear no is `Unknown`. Nothing here trusts a type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b

from babel.numbers import get_currency_precision

from pipeline.base.calendar import MS_PER_S
from pipeline.base.money import MICROS_PER_UNIT
from pipeline.emit.pay.gateway import Declined, PaymentRequest, PaymentResult, Succeeded, Unknown

_UNDER_WAY = frozenset({"processing", "requires_action", "requires_capture", "requires_confirmation"})
_UNKNOWN_CUSTOMER = ("resource_missing", "customer")


def minor_units(amount_micros: int, currency: str) -> int | None:
    """100.50 USD -> 10050, 100 JPY -> 100; None when the amount is no whole number of them."""
    micros_each = MICROS_PER_UNIT // 10 ** get_currency_precision(currency)
    return None if amount_micros % micros_each else amount_micros // micros_each


def idempotency_key(recharge_id: str) -> str:
    """The recharge_id; one that cannot stand in a header becomes a digest."""
    return (
        recharge_id if re.fullmatch(r"[!-~]{1,255}", recharge_id) else f"~{blake2b(recharge_id.encode()).hexdigest()}"
    )


def charge_body(request: PaymentRequest, customer: str, units: int) -> dict[str, object]:
    """The payment to be made now, without the cardholder. Its metadata are enough to answer the ledger by."""
    return {
        "amount": units,
        "currency": request.currency.lower(),
        "customer": customer,
        "confirm": True,
        "off_session": True,
        "description": f"Communications Credits {request.recharge_id}",
        "metadata": {
            "recharge_id": request.recharge_id,
            "tenant_id": request.tenant_id,
            "amount_micros": str(request.amount_micros),
            "requested_at_ms": str(request.requested_at_ms),
            "purchase_order_no": request.purchase_order_no or "",
        },
    }


def as_form(body: Mapping[str, object]) -> dict[str, str]:
    """The same as form fields, `metadata[recharge_id]=…`, for processors that take no JSON."""
    fields: dict[str, str] = {}
    for name, value in body.items():
        if isinstance(value, dict):
            fields |= {f"{name}[{key}]": str(item) for key, item in value.items()}
        else:
            fields[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return fields


def result_of(request: PaymentRequest, status: int, body: object) -> PaymentResult:
    """What the answer to a charge means."""
    if status in (200, 201):
        return judge(request, body)
    error = _table(_table(body).get("error"))
    kind, code = error.get("type"), error.get("code")
    if status == 402 and kind == "card_error":
        return Declined(_first_text(error.get("decline_code"), code) or "card_declined")
    if status in (400, 404, 422) and (code, error.get("param")) == _UNKNOWN_CUSTOMER:
        return Declined("customer_unknown_to_processor")
    said = _first_text(kind, code)
    return Unknown(f"status {status}{f' ({said[:80]})' if said else ''}")


def found_of(request: PaymentRequest, status: int, body: object) -> PaymentResult | None:
    """What a look-up says of this recharge: None when the processor surely has no payment of it."""
    table = _table(body)
    payments = table.get("data")
    if status != 200 or not isinstance(payments, list):
        return Unknown(f"look-up: status {status}")
    results = [judge(request, payment) for payment in payments if recharge_id_of(payment) == request.recharge_id]
    for kind in (Succeeded, Unknown, Declined):
        for result in results:
            if isinstance(result, kind):
                return result
    return Unknown("look-up: more than a page of payments") if table.get("has_more") is True else None


def judge(request: PaymentRequest, payment: object) -> PaymentResult:
    """What a payment as the processor describes it means for the request."""
    fields = _table(payment)
    units = minor_units(request.amount_micros, request.currency)
    told = (recharge_id_of(payment), fields.get("amount"), fields.get("currency"))
    if told != (request.recharge_id, units, request.currency.lower()):
        return Unknown("the answer is about another payment")
    reference = _first_text(fields.get("id")) or ""
    status = fields.get("status")
    if status == "succeeded":
        if fields.get("amount_received", units) != units:
            return Unknown(f"payment {reference} was received in part")
        created_s = fields.get("created")
        is_time = isinstance(created_s, int) and not isinstance(created_s, bool) and created_s > 0
        return Succeeded(int(str(created_s)) * MS_PER_S if is_time else None, reference)
    if status in ("requires_payment_method", "canceled", "failed"):
        error = _table(fields.get("last_payment_error"))
        reason = _first_text(error.get("decline_code"), error.get("code"), fields.get("cancellation_reason"))
        return Declined(reason or f"payment_{status}")
    shown = status if isinstance(status, str) and status in _UNDER_WAY else repr(status)[:40]
    return Unknown(f"payment {reference} is {shown}")


def recharge_id_of(payment: object) -> str | None:
    """Whose payment it is, if it is one of ours."""
    return _first_text(_table(_table(payment).get("metadata")).get("recharge_id"))


def request_from(payment: object) -> PaymentRequest | None:
    """The request that made a payment, from its own metadata; None for a payment of somebody else's."""
    fields = _table(payment)
    metadata = _table(fields.get("metadata"))
    texts = [
        _first_text(metadata.get(name)) for name in ("recharge_id", "tenant_id", "amount_micros", "requested_at_ms")
    ]
    recharge_id, tenant_id, amount, requested_at = (text or "" for text in texts)
    currency = _first_text(fields.get("currency"))
    if not (recharge_id and tenant_id and amount.isdecimal() and requested_at.isdecimal() and currency):
        return None
    return PaymentRequest(
        recharge_id=recharge_id,
        tenant_id=tenant_id,
        amount_micros=int(amount),
        currency=currency.upper(),
        payment_method="card",
        enterprise_agreement_no=None,
        purchase_order_no=_first_text(metadata.get("purchase_order_no")),
        requested_at_ms=int(requested_at),
    )


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _first_text(*values: object) -> str | None:
    return next((value for value in values if isinstance(value, str) and value), None)

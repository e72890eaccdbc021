"""The invoice as a record, and how it follows from a purchase; a credit note from a request. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

from pipeline.base.avro import codec
from pipeline.base.calendar import format_time
from pipeline.emit.customers import Customers, Party
from pipeline.emit.outputs import AccountEvent

PURCHASES = frozenset({"recharge_succeeded", "funds_added"})
INVOICE, CREDIT_NOTE = "invoice", "credit_note"
_NUMBER_DIGITS = 6
_DESCRIPTIONS = {
    "recharge_succeeded": "Communications Credits, automatic recharge",
    "funds_added": "Communications Credits",
}


class Invoice(NamedTuple):
    """The record of the topic `invoices`, in the order of its schema. It never changes."""

    number: str
    kind: str
    seller_id: str
    seller: Party
    tenant_id: str
    customer: Party
    issued_at: int
    currency: str
    amount_micros: int
    description: str
    lot_id: str
    payment_method: str
    enterprise_agreement_no: str | None
    purchase_order_no: str | None
    reference: str | None
    event_id: str
    corrects: str | None


def number_of(seller_id: str, counter: int) -> str:
    """`ACME-US-000017`."""
    return f"{seller_id}-{counter:0{_NUMBER_DIGITS}d}"


def counter_of(number: str) -> tuple[str, int]:
    """The seller and the counter of a number."""
    seller_id, _, digits = number.rpartition("-")
    return seller_id, int(digits)


def invoice_of(event: AccountEvent, customers: Customers, *, number: str) -> Invoice:
    """The invoice of a purchase, with the names and addresses of this moment."""
    details = event.details
    seller_id = customers.seller_of(event.tenant_id)
    return Invoice(
        number=number,
        kind=INVOICE,
        seller_id=seller_id,
        seller=customers.sellers[seller_id],
        tenant_id=event.tenant_id,
        customer=customers.customer(event.tenant_id).party,
        issued_at=event.occurred_at,
        currency=event.currency,
        amount_micros=event.amount_micros or 0,
        description=_DESCRIPTIONS[event.kind],
        lot_id=details.get("lot_id") or details.get("recharge_id", ""),
        payment_method=details.get("payment_method", "other"),
        enterprise_agreement_no=details.get("enterprise_agreement_no"),
        purchase_order_no=details.get("purchase_order_no"),
        reference=details.get("reference"),
        event_id=event.event_id,
        corrects=None,
    )


def credit_note_of(invoice: Invoice, *, amount_micros: int, reason: str, request_id: str) -> Invoice:
    """What a person asks for: takes back `amount_micros` of the invoice. Number and date come with its issue."""
    return invoice._replace(
        number="",
        kind=CREDIT_NOTE,
        amount_micros=-amount_micros,
        description=reason,
        event_id=request_id,
        corrects=invoice.number,
    )


def encode_invoice(invoice: Invoice) -> bytes:
    return codec("invoice").encode_values(invoice)


def decode_invoice(value: bytes) -> Invoice:
    """DecodeError when it is none."""
    found = Invoice._make(codec("invoice").decode_values(value))
    return found._replace(seller=_party(found.seller), customer=_party(found.customer))


def invoice_json(invoice: Invoice) -> dict[str, object]:
    """With its names; money as an integer of micro-units."""
    parties = {"seller": invoice.seller._asdict(), "customer": invoice.customer._asdict()}
    return invoice._asdict() | parties | {"issued_at": format_time(invoice.issued_at)}


def gaps_in(numbers: Sequence[str]) -> dict[str, list[int]]:
    """By seller, the counters that are missing or doubled; every seller has an entry."""
    found: dict[str, list[int]] = {}
    for number in numbers:
        seller_id, counter = counter_of(number)
        found.setdefault(seller_id, []).append(counter)
    wrong: dict[str, list[int]] = {}
    for seller_id, counters in found.items():
        whole = set(range(1, max(counters) + 1))
        doubled = (
            {each for each in counters if counters.count(each) > 1} if len(set(counters)) < len(counters) else set()
        )
        wrong[seller_id] = sorted((whole - set(counters)) | doubled)
    return wrong


def _party(values: Sequence[object]) -> Party:
    name, address, tax_no = values
    return Party(cast("str", name), tuple(cast("Sequence[str]", address)), cast("str | None", tax_no))

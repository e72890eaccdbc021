"""The one who numbers: reads the purchases of all partitions and gives each the next number of its seller. Pure.

The number, the invoice and how far the log was read are one transaction of one owner, so a purchase has one invoice
and a number one purchase, whatever dies when. There is one owner for all tenants because a row without gaps has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.base.avro import DecodeError
from pipeline.base.record import Consumed
from pipeline.emit.customers import Customers
from pipeline.emit.events import events_in
from pipeline.emit.invoice.invoice import (
    CREDIT_NOTE,
    INVOICE,
    PURCHASES,
    Invoice,
    decode_invoice,
    encode_invoice,
    invoice_of,
    number_of,
)
from pipeline.emit.journal import REQUEST_PREFIX, Change, JournalProgress

CREDIT_PREFIX = REQUEST_PREFIX + b"credit/"


class InvoiceDesk:
    """A `Desk`. Remembers of each invoice only what could still be taken back."""

    def __init__(self, *, customers: Callable[[], Customers], journal_topic: str) -> None:
        self.progress = JournalProgress()
        self._customers = customers
        self._journal_topic = journal_topic
        self._open_micros: dict[str, int] = {}
        self._changes: list[Change] = []

    def load(self, key: bytes, value: bytes | None) -> None:
        if value is not None and not key.startswith(REQUEST_PREFIX):
            self._note(decode_invoice(value))

    def take(self, records: Sequence[Consumed], now_ms: int) -> None:
        requests = [record for record in records if record.topic == self._journal_topic]
        for record in requests:
            if record.key is not None and record.key.startswith(CREDIT_PREFIX) and record.value:
                self._changes.append((record.key, None))
                self._correct(record)
        if not requests:
            for event in events_in(records, PURCHASES):
                seller_id = self._customers().seller_of(event.tenant_id)
                self._issue(invoice_of(event, self._customers(), number=self._next_number(seller_id)))

    def changes(self) -> list[Change]:
        changes, self._changes = self._changes, []
        return changes

    def _correct(self, record: Consumed) -> None:
        """Issues the credit note that was asked for, if as much of the invoice is left; else the request just ends."""
        try:
            wanted = decode_invoice(record.value)
        except DecodeError:
            return
        left_micros = self._open_micros.get(wanted.corrects or "", 0)
        if wanted.kind == CREDIT_NOTE and 0 < -wanted.amount_micros <= left_micros:
            number = self._next_number(wanted.seller_id)
            self._issue(wanted._replace(number=number, issued_at=record.timestamp_ms))

    def _next_number(self, seller_id: str) -> str:
        counter = self.progress.counters.get(seller_id, 0) + 1
        self.progress.counters[seller_id] = counter
        return number_of(seller_id, counter)

    def _issue(self, invoice: Invoice) -> None:
        self._note(invoice)
        self._changes.append((invoice.number.encode(), encode_invoice(invoice)))

    def _note(self, invoice: Invoice) -> None:
        about = invoice.number if invoice.kind == INVOICE else invoice.corrects or ""
        self._open_micros[about] = self._open_micros.get(about, 0) + invoice.amount_micros

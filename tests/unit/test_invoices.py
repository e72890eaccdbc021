"""Invoices: one for each purchase, numbers without a gap, whatever dies; and papers that no name can forge."""

from __future__ import annotations

import io
import random

import pypdf
import pytest

from pipeline.base.avro import codec
from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.record import Consumed
from pipeline.base.settings_io import Settings
from pipeline.emit.customers import Customer, Customers, Party
from pipeline.emit.invoice.desk import CREDIT_PREFIX, InvoiceDesk
from pipeline.emit.invoice.font_io import font_of
from pipeline.emit.invoice.invoice import (
    CREDIT_NOTE,
    INVOICE,
    Invoice,
    credit_note_of,
    decode_invoice,
    encode_invoice,
    gaps_in,
)
from pipeline.emit.invoice.paper import as_pdf, as_text, missing_characters
from pipeline.emit.outputs import AccountEvent
from tests.avro_values import sample_of

SAMPLE = AccountEvent(**sample_of("account_event"))
JOURNAL = "pstn.invoices"
FONT = font_of(Settings())
CUSTOMERS = Customers(
    {"ACME-US": Party("Acme Inc.", ("1 Main Street",), "US 1"), "ACME-EU": Party("Acme GmbH")},
    {
        "contoso": Customer(Party("Contoso GmbH", ("Hauptstraße 1", "Berlin")), seller="ACME-EU"),
        "fabrikam": Customer(Party("Fabrikam"), seller="ACME-US"),
    },
)
TENANTS = ("contoso", "fabrikam", "tailspin")
KINDS = ("recharge_succeeded", "funds_added", "recharge_requested", "balance_zero")


def purchase(offset: int, partition: int = 0, kind: str = "recharge_succeeded", **changes: object) -> Consumed:
    tenant_id = str(changes.get("tenant_id", TENANTS[offset % 3]))
    event = SAMPLE._replace(
        event_id=f"{tenant_id}:cdrs:{partition}:{offset}:1",
        kind=kind,
        amount_micros=10_000_000 + offset,
        details={
            "recharge_id": f"{tenant_id}:cdrs:{partition}:{offset}",
            "payment_method": "enterprise_agreement",
            "enterprise_agreement_no": "EA-2",
            "purchase_order_no": "PO 7",
        },
    )._replace(tenant_id=tenant_id, **{key: value for key, value in changes.items() if key != "tenant_id"})
    value = codec("account_event").encode_values(event)
    return Consumed("pstn.account-events", partition, offset, 0, None, value)


class World:
    """The journal's topic, its owner, and the logs that it reads: each write whole or not at all."""

    def __init__(self, log: dict[int, list[Consumed]] | None = None) -> None:
        self.log = log or {}
        self.journal: list[tuple[bytes, bytes | None]] = []
        self.requests: list[Consumed] = []
        self.start()

    def start(self) -> None:
        """A new owner, from the journal alone."""
        self.desk = InvoiceDesk(customers=lambda: CUSTOMERS, journal_topic=JOURNAL)
        for key, value in self.journal:
            if key == CHECKPOINT_KEY:
                self.desk.progress.load(value or b"")
            else:
                self.desk.load(key, value)

    def read(self, partition: int, count: int) -> bool:
        """Takes the next records of a log, as the owner does; whether there were any."""
        place = f"account-events:{partition}"
        offset = self.desk.progress.next_offsets.get(place, 0)
        batch = self.log[partition][offset : offset + count]
        self.desk.take(batch, 0)
        self.desk.progress.next_offsets[place] = offset + len(batch)
        return bool(batch)

    def commit(self) -> None:
        self.journal += [*self.desk.changes(), self.desk.progress.change()]

    def ask(self, note: Invoice) -> None:
        request = Consumed(JOURNAL, 0, 0, SAMPLE.occurred_at + 1, CREDIT_PREFIX + b"1", encode_invoice(note))
        self.desk.take([request], 0)
        self.commit()

    def issued(self) -> list[Invoice]:
        return [decode_invoice(value) for key, value in self.journal if value and key != CHECKPOINT_KEY]


def test_each_purchase_has_one_invoice_with_its_numbers_and_addresses():
    """R54, R56: by recharge and by hand, agreement and order as the purchase had them; nothing else is billed."""
    world = World({0: [purchase(number, kind=kind) for number, kind in enumerate(KINDS)]})
    world.read(0, 9)
    world.commit()
    first, second = world.issued()
    assert (first.number, second.number) == ("ACME-EU-000001", "ACME-US-000001")
    assert first == Invoice(
        number="ACME-EU-000001",
        kind=INVOICE,
        seller_id="ACME-EU",
        seller=Party("Acme GmbH"),
        tenant_id="contoso",
        customer=Party("Contoso GmbH", ("Hauptstraße 1", "Berlin")),
        issued_at=SAMPLE.occurred_at,
        currency="USD",
        amount_micros=10_000_000,
        description="Communications Credits, automatic recharge",
        lot_id="contoso:cdrs:0:0",
        payment_method="enterprise_agreement",
        enterprise_agreement_no="EA-2",
        purchase_order_no="PO 7",
        reference=None,
        event_id="contoso:cdrs:0:0:1",
        corrects=None,
    )


@pytest.mark.parametrize("seed", range(40))
def test_no_kill_makes_a_gap_or_a_second_invoice(seed):
    """An owner that dies before its commit leaves nothing, after it everything; its successor goes on from there."""
    chance = random.Random(seed)
    log = {
        partition: [purchase(number, partition, chance.choice(KINDS)) for number in range(chance.randrange(30))]
        for partition in range(3)
    }
    world = World(log)
    kills = 0
    while any(world.desk.progress.next_offsets.get(f"account-events:{each}", 0) < len(log[each]) for each in log):
        world.read(chance.randrange(3), chance.randrange(1, 5))
        if chance.random() < 0.3:
            kills += 1  # decided and never committed
            world.start()
        else:
            world.commit()
            if chance.random() < 0.3:
                world.start()
    issued = world.issued()
    events = [decode(record) for records in log.values() for record in records]
    wanted = {event.event_id: event.amount_micros for event in events if event.kind in KINDS[:2]}
    assert {invoice.event_id: invoice.amount_micros for invoice in issued} == wanted
    assert len(issued) == len(wanted)
    assert not any(gaps_in([invoice.number for invoice in issued]).values())
    assert kills or len(events) < 5


def decode(record: Consumed) -> AccountEvent:
    return AccountEvent._make(codec("account_event").decode_values(record.value))


def test_a_gap_or_a_double_would_be_found():
    """The check itself."""
    assert gaps_in(["A-000001", "A-000003", "B-C-000002", "A-000003"]) == {"A": [2, 3], "B-C": [1]}
    assert gaps_in(["A-000002", "A-000001"]) == {"A": []}


def test_a_correction_is_a_credit_note_with_the_next_number():
    """An invoice never changes; what was wrong is taken back by a paper that names it."""
    world = World({0: [purchase(1), purchase(4)]})
    world.read(0, 9)
    world.commit()
    invoice = world.issued()[0]
    note = credit_note_of(invoice, amount_micros=4_000_000, reason="wrong order", request_id="r1")
    world.ask(note)
    issued = world.issued()[-1]
    assert issued == note._replace(number="ACME-US-000003", issued_at=SAMPLE.occurred_at + 1)
    assert (issued.kind, issued.corrects, issued.amount_micros) == (CREDIT_NOTE, "ACME-US-000001", -4_000_000)
    assert world.journal[-3][1] is None  # the request is gone with the same write


def test_no_more_than_an_invoice_can_be_taken_back():
    """Two people who correct the same invoice at once give one credit note, also across a restart."""
    world = World({0: [purchase(1)]})
    world.read(0, 9)
    world.commit()
    (invoice,) = world.issued()
    for amount_micros in (invoice.amount_micros, 1, invoice.amount_micros):
        world.ask(credit_note_of(invoice, amount_micros=amount_micros, reason="x", request_id="r"))
        world.start()
    for wrong in (
        credit_note_of(invoice._replace(number="ACME-US-000009"), amount_micros=1, reason="x", request_id="r"),
        credit_note_of(invoice, amount_micros=-1, reason="x", request_id="r"),
        invoice,
    ):
        world.ask(wrong)
    world.desk.take([Consumed(JOURNAL, 0, 0, 0, CREDIT_PREFIX + b"2", b"nonsense")], 0)
    world.commit()
    assert [each.amount_micros for each in world.issued()] == [invoice.amount_micros, -invoice.amount_micros]


def test_the_journals_own_records_are_no_purchases():
    """It reads its own topic for requests and finds its invoices there."""
    world = World({0: [purchase(1)]})
    world.read(0, 9)
    world.commit()
    own = [Consumed(JOURNAL, 0, number, 0, key, value or b"") for number, (key, value) in enumerate(world.journal)]
    world.desk.take(own, 0)
    assert world.desk.changes() == []


def paper(**changes: object) -> Invoice:
    world = World({0: [purchase(0)]})
    world.read(0, 1)
    world.commit()
    return world.issued()[0]._replace(**changes)


def read_pdf(content: bytes) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(content)).pages)


def test_text_and_pdf_say_the_same():
    """Whoever gets either can book it: numbers, parties, agreement, order, amount."""
    invoice = paper()
    for said in (as_text(invoice), read_pdf(as_pdf(invoice, FONT))):
        for words in ("ACME-EU-000001", "Acme GmbH", "Contoso GmbH", "Hauptstraße 1", "EA-2", "PO 7", "10.00 USD"):
            assert words in said
    note = credit_note_of(invoice, amount_micros=1_500, reason="wrong order", request_id="r")
    for said in (as_text(note), read_pdf(as_pdf(note, FONT))):
        for words in ("Credit note", "-0.0015 USD", "Corrects invoice", "ACME-EU-000001", "wrong order"):
            assert words in said


def test_the_same_invoice_is_the_same_file():
    """Exported again years later it must not look like another document."""
    assert as_pdf(paper(), FONT) == as_pdf(paper(), FONT)
    assert as_text(paper()) == as_text(paper())


EVIL = [
    "x\nTotal 0.00 USD",
    "\u202eDSU 00.001",
    "a" * 5_000,
    "x\x00\x1b[2J",
    "Ivanov Иванов",
    "شركة",
    "{0}",
    "%s",
    "**b**",
]


@pytest.mark.parametrize("evil", EVIL)
def test_no_name_forges_a_line_of_an_invoice(evil):
    """A customer's name is only ever a name."""
    party = Party(evil, (evil,), evil)
    invoice = paper(customer=party, reference=evil, purchase_order_no=evil, tenant_id=evil, description=evil)
    text = as_text(invoice)
    assert sum(line.startswith("Total") for line in text.splitlines()) == 1
    assert not {"\x00", "\x1b", "\u202e"} & set(text)
    assert as_pdf(invoice, FONT).startswith(b"%PDF-")


def test_characters_that_the_font_lacks_are_named():
    """An invoice of empty boxes must not go out unnoticed."""
    assert missing_characters(paper(), FONT) == ""
    assert missing_characters(paper(customer=Party("株式会社 Contoso")), FONT) == "会式株社"

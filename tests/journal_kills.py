"""The owners of the journals `invoices` and `notices`, killed again and again on Apache Kafka.

`python -m tests.journal_kills --lives 100` plays one long run. Each life is a process of the real owners, readers and
writers, which dies by SIGKILL at a drawn step (before or after each read, mail, batch, commit) or at a drawn moment,
while purchases come in and a real SMTP server takes the mails. After each life the next owner's fence is put up, and
what the journals say then is compared with what was bought and what the mail server took.

One thing cannot be excluded: dead between the server's acceptance and the record of it. Such a notice, and no other,
may come once more for each such death, with the same Message-ID and the same bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

from pipeline.base.avro import codec
from pipeline.base.ids import partition_of
from pipeline.base.kafka_io import KafkaClients
from pipeline.base.settings_io import Settings
from pipeline.embedded.kafka_io import KafkaNode
from pipeline.emit.customers_io import CustomersFile
from pipeline.emit.invoice.invoice import (
    CREDIT_NOTE,
    PURCHASES,
    Invoice,
    credit_note_of,
    decode_invoice,
    encode_invoice,
    gaps_in,
)
from pipeline.emit.invoice.open_io import InvoiceBook
from pipeline.emit.journal_read_io import ask_owners, read_journal
from pipeline.emit.notify.notice import HEARERS, SENT, Notice, decode_notice
from pipeline.emit.notify.open_io import ContactNotifier
from pipeline.emit.notify.post_io import Post
from pipeline.emit.outputs import AccountEvent
from tests.avro_values import sample_of
from tests.integration.ledger_harness import PARTITIONS, Deployment

SELLERS = ("EAST", "WEST")
KINDS = ("recharge_succeeded", "funds_added", "balance_zero")
# Counted from the first write on, so that a slow machine kills as well as a fast one: what a few events bring about is
# some forty steps in a second or two.
_STEPS_MAX = 40
_WORKING_S_MAX = 2.0
_START_S_MAX = 60.0
_END_S_MAX = 60.0
_ROLES = {"invoices": (0,), "notifier": tuple(range(PARTITIONS))}


# ---- a life: the owners in a process of their own


class _AlwaysOurs:
    """The group's word, which is not what is tried here: fencing is."""

    async def confirm(self, number: int) -> bool:
        return True

    def move(self, partition: int, next_offset: int) -> None:
        """Only lag tools read it."""


def live(settings: Settings, dies_at: int | None, working: Any) -> None:
    """Runs until it is killed, by itself at the step `dies_at`; `working` is set at its first write."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    count = 0

    def step(name: str) -> None:
        nonlocal count
        if name == "begin_transaction":
            working.set()
        if not working.is_set():
            return
        if count == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    def between_steps(owner: type, name: str) -> None:
        real: Callable[..., Awaitable[Any]] = getattr(owner, name)

        async def stepped(*args: Any, **kwargs: Any) -> Any:
            step(name)
            found = await real(*args, **kwargs)
            step(name)
            return found

        setattr(owner, name, stepped)

    for name in ("begin_transaction", "send_batch", "commit_transaction"):
        between_steps(AIOKafkaProducer, name)
    between_steps(AIOKafkaConsumer, "getmany")
    between_steps(Post, "send")
    asyncio.run(_own(settings))


async def _own(settings: Settings) -> None:
    clients = KafkaClients(settings)
    customers = CustomersFile(settings.customers)
    book = InvoiceBook(settings=settings, customers=customers, clients=clients, partition_count=PARTITIONS)
    notifier = ContactNotifier(settings=settings, customers=customers, clients=clients)
    for maker, numbers in ((book, _ROLES["invoices"]), (notifier, _ROLES["notifier"])):
        for number in numbers:
            maker.make_owner(number, _AlwaysOurs).start()  # type: ignore[arg-type]
    await asyncio.Event().wait()


# ---- the mail server


class Mailbox:
    """Takes every mail, at once or a little later; `taken` holds Message-ID and bytes in order."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.open_count = 0

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        head = envelope.content.split(b"\r\nMessage-ID: <", 1)[1]
        self.taken.append((head.split(b"@", 1)[0].decode(), bytes(envelope.content)))
        await asyncio.sleep(len(self.taken) % 4 * 0.01)  # a kill may come before the answer
        return "250 OK"

    def session(self) -> SMTP:
        mailbox = self

        class Counted(SMTP):
            def connection_made(self, transport: Any) -> None:
                mailbox.open_count += 1
                super().connection_made(transport)

            def connection_lost(self, error: Exception | None) -> None:
                mailbox.open_count -= 1
                super().connection_lost(error)

        return Counted(self, enable_SMTPUTF8=True)


@contextmanager
def mail_server() -> Iterator[tuple[Mailbox, int]]:
    mailbox = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.factory = mailbox.session  # type: ignore[method-assign]
    controller.start()
    try:
        yield mailbox, port
    finally:
        controller.stop()


# ---- the run


class Run:
    """Purchases come, owners die, and nothing of it may show."""

    def __init__(self, deployment: Deployment, mailbox: Mailbox, seed: int) -> None:
        self.chance = random.Random(seed)
        self.deployment = deployment
        self.settings = deployment.settings
        self.mailbox = mailbox
        self.events: list[AccountEvent] = []
        self.corrections: list[str] = []
        self.invoices: dict[str, Invoice] = {}
        self.notices: list[Notice] = []
        self.recorded: set[str] = set()
        self.doubts: Counter[str] = Counter()
        self.kills = self.kills_at_steps = 0
        self.tenant_count = 0
        # A life begins where the last one ended, without 2 s of imports.
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload([__name__])

    @staticmethod
    def settings_of(folder: Path, port: int) -> dict[str, Any]:
        """The customers' file names every tenant that a run can have."""
        lines = [f'[seller.{name}]\nname = "{name}"\n' for name in SELLERS]
        for number in range(2_000):
            name = f"tenant-{number}"
            contact = f'{{ role = "billing", mail = "{name}@example.org" }}'
            seller = SELLERS[number % len(SELLERS)]
            lines.append(f'[tenant.{name}]\nname = "{name}"\nseller = "{seller}"\ncontacts = [{contact}]\n')
        (folder / "customers.toml").write_text("\n".join(lines))
        return {
            "customers": folder / "customers.toml",
            "smtp_host": "127.0.0.1",
            "smtp_port": port,
            "smtp_security": "none",
            "mail_from": "Credits <credits@pstn.example>",
        }

    async def play(self, lives: int) -> dict[str, int]:
        for _ in range(lives):
            await self.buy(self.chance.randint(1, 8))
            await self.one_life()
            await self.look()
        await self.last_life()
        await self.look()
        self.check()
        return {
            "kills": self.kills,
            "kills at steps": self.kills_at_steps,
            "purchases": sum(event.kind in PURCHASES for event in self.events),
            "invoices and credit notes": len(self.invoices),
            "notices": len(self.recorded),
            "mails": len(self.mailbox.taken),
            "mails taken and not recorded, sent again": sum(self.doubts.values()),
        }

    async def buy(self, count: int) -> None:
        """Purchases and other events of new tenants; now and then of one that has just been told something."""
        values: list[tuple[str, bytes]] = []
        kind = KINDS[0]
        for _ in range(count):
            if not self.tenant_count or self.chance.random() < 0.7:
                self.tenant_count += 1
                kind = self.chance.choice(KINDS)
            tenant = f"tenant-{self.tenant_count - 1}"
            number = len(self.events)
            event = AccountEvent(**sample_of("account_event"))._replace(
                event_id=f"{tenant}:cdrs:0:{number}:0",
                tenant_id=tenant,
                kind=kind,
                occurred_at=time.time_ns() // 1_000_000,
                amount_micros=1_000_000 + number,
                details={"lot_id": f"lot-{number}"},
            )
            self.events.append(event)
            values.append((tenant, codec("account_event").encode_values(event)))
        await self.abandon(values[0])
        await self.deployment.send("account-events", values)

    async def abandon(self, message: tuple[str, bytes]) -> None:
        """A ledger's transaction that is aborted: a purchase that never was."""
        never = codec("account_event").decode(message[1]) | {"event_id": f"never-{len(self.events)}"}
        producer = KafkaClients(self.settings).transactional_producer(f"{self.settings.topic_prefix}ledger-of-tests")
        await producer.start()
        try:
            await producer.begin_transaction()
            topic, tenant = self.settings.topic("account-events"), message[0]
            value = codec("account_event").encode(never | {"kind": "recharge_succeeded"})
            await producer.send_and_wait(topic, value, partition=partition_of(tenant, PARTITIONS))
            await producer.abort_transaction()
        finally:
            await producer.stop()

    async def correct(self) -> None:
        """Somebody asks for a credit note for an invoice that has none yet."""
        whole = [each for each in self.invoices.values() if each.number not in self.corrections]
        invoice = self.chance.choice([each for each in whole if each.kind != CREDIT_NOTE] or [None])
        if invoice is not None:
            self.corrections.append(invoice.number)
            note = credit_note_of(invoice, amount_micros=1, reason="a test", request_id=f"credit-{invoice.number}")
            key = f"credit/{invoice.number}".encode()
            await ask_owners(self.settings, "invoices", [(0, key, encode_invoice(note))])

    async def one_life(self) -> None:
        by_step = self.chance.random() < 0.7
        dies_at = self.chance.randrange(_STEPS_MAX) if by_step else None
        life_s = _WORKING_S_MAX if by_step else self.chance.uniform(0, 0.5)
        with self.process(dies_at) as (life, working):
            await self.buy(self.chance.randint(1, 2))
            if self.chance.random() < 0.3:
                await self.correct()
            assert await asyncio.to_thread(working.wait, _START_S_MAX), "a life did nothing"
            await asyncio.to_thread(life.join, life_s)
            self.kills_at_steps += not life.is_alive()
        self.kills += 1

    async def last_life(self) -> None:
        """Nobody dies any more: everything comes to its end."""
        with self.process(None):
            until_s = time.monotonic() + _END_S_MAX
            while await self.unfinished():
                assert time.monotonic() < until_s, f"not done: {await self.unfinished()}"
                await asyncio.sleep(0.2)

    @contextmanager
    def process(self, dies_at: int | None) -> Iterator[Any]:
        working = self._processes.Event()
        life = self._processes.Process(target=live, args=(self.settings, dies_at, working), daemon=True)
        life.start()
        try:
            yield life, working
        finally:
            life.kill()
            life.join()
            assert life.exitcode == -signal.SIGKILL, f"a life ended with {life.exitcode}"

    async def unfinished(self) -> list[str]:
        invoices, notices = await self.journals()
        billed = {each.event_id for each in invoices}
        told = {event.event_id for each in notices for event in each.told()}
        now_ms = time.time_ns() // 1_000_000
        return [
            *(event.event_id for event in self.events if event.kind in PURCHASES and event.event_id not in billed),
            *(event.event_id for event in self.events if event.kind in HEARERS and event.event_id not in told),
            *(number for number in self.corrections if f"credit-{number}" not in billed),
            *(each.notice_id for each in notices if each.state != SENT and each.due_at <= now_ms),
        ]

    async def journals(self) -> tuple[list[Invoice], list[Notice]]:
        invoices = await read_journal(self.settings, "invoices", [0])
        notices = await read_journal(self.settings, "notices", range(PARTITIONS))
        return [decode_invoice(each.value) for each in invoices], [decode_notice(each.value) for each in notices]

    async def look(self) -> None:
        """What a dead owner left behind, as its successor will find it."""
        clients = KafkaClients(self.settings)
        for role, numbers in _ROLES.items():
            for number in numbers:
                fence = clients.transactional_producer(f"{self.settings.group(role)}-{number}")
                await fence.start()
                await fence.stop()
        while self.mailbox.open_count:
            await asyncio.sleep(0.01)
        invoices, notices = await self.journals()
        self.notices = notices
        found = {each.number: each for each in invoices}
        assert len(found) == len(invoices)
        assert not any(gaps_in(list(found)).values()), f"after {self.kills} kills: {gaps_in(list(found))}"
        assert found.items() >= self.invoices.items(), "an invoice changed or went"
        self.invoices = found
        sent = {each.notice_id for each in notices if each.state == SENT}
        assert sent >= self.recorded
        accepted = Counter(notice_id for notice_id, _ in self.mailbox.taken)
        for notice_id, count in accepted.items():
            assert count <= 1 + self.doubts[notice_id], f"after {self.kills} kills {notice_id} came without need"
            if notice_id not in sent and count == 1 + self.doubts[notice_id]:
                self.doubts[notice_id] += 1  # taken in this life, and the record died with it
        assert sent <= accepted.keys(), "a notice is said to be sent and never was"
        self.recorded = sent

    def check(self) -> None:
        """At rest: one invoice for each purchase, one credit note for each request, each event told once."""
        wanted = Counter(event.event_id for event in self.events if event.kind in PURCHASES)
        wanted.update(f"credit-{number}" for number in self.corrections)
        assert Counter(each.event_id for each in self.invoices.values()) == wanted
        bought = {event.event_id: event.amount_micros for event in self.events}
        for each in self.invoices.values():
            assert each.amount_micros == (-1 if each.kind == CREDIT_NOTE else bought[each.event_id])
        told = Counter(event.event_id for each in self.notices for event in each.told())
        assert told == Counter(event.event_id for event in self.events if event.kind in HEARERS)
        bodies: dict[str, bytes] = {}
        for notice_id, content in self.mailbox.taken:
            assert bodies.setdefault(notice_id, content) == content, f"{notice_id} came again with other words"


async def play(bootstrap: str, prefix: str, *, seed: int, lives: int, folder: Path) -> dict[str, int]:
    """One run; an assertion says what broke, with its seed."""
    with mail_server() as (mailbox, port):
        deployment = await Deployment.make(bootstrap, prefix, init=False, **Run.settings_of(folder, port))
        try:
            return await Run(deployment, mailbox, seed).play(lives)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lives", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    wish = parser.parse_args()
    node = KafkaNode().start()
    try:
        with tempfile.TemporaryDirectory(prefix="pstn-journals-") as folder:
            started_s = time.monotonic()
            found = asyncio.run(play(node.bootstrap, "j.", seed=wish.seed, lives=wish.lives, folder=Path(folder)))
    finally:
        node.close()
    print(json.dumps(found | {"seconds": round(time.monotonic() - started_s)}))


if __name__ == "__main__":
    main()

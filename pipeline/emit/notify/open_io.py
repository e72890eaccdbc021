"""The notifier that the settings ask for: the outbox folder, or mails and webhooks to the customers' contacts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP

from aiokafka import TopicPartition

from pipeline.base.kafka_io import KafkaClients, WorkerMustStop
from pipeline.base.membership_io import Membership
from pipeline.base.settings_io import Settings
from pipeline.base.topics import ACCOUNT_EVENTS, NOTICES
from pipeline.emit.customers_io import CustomersFile
from pipeline.emit.journal_io import JournalOwner
from pipeline.emit.notify.deliver_io import Delivery
from pipeline.emit.notify.desk import NoticeDesk
from pipeline.emit.notify.post_io import Post
from pipeline.emit.notify.remind_io import Reminding
from pipeline.emit.notify.texts_io import catalogue
from pipeline.emit.notify.wording import LANGUAGES


def is_delivering(settings: Settings, customers: CustomersFile) -> bool:
    """Whether notices go to contacts; else they go into the outbox. WorkerMustStop when half of it is missing."""
    has_contacts = any(customer.contacts for customer in customers.current().tenants.values())
    if settings.smtp_host and settings.customers is None:
        raise WorkerMustStop("setting customers: needed with smtp_host, for it says who hears of what (PSTN_CUSTOMERS)")
    if has_contacts and not settings.smtp_host:
        raise WorkerMustStop("setting smtp_host: needed because the customers file has contacts (PSTN_SMTP_HOST)")
    if settings.smtp_host:
        _check_sender(settings.mail_from)
    return bool(settings.smtp_host)


class ContactNotifier:
    """Makes the owners of the notice journals; they share what delivers."""

    topics: tuple[str, ...] = (ACCOUNT_EVENTS,)

    def __init__(self, *, settings: Settings, customers: CustomersFile, clients: KafkaClients) -> None:
        self._settings = settings
        self._customers = customers
        self._clients = clients
        self._post = Post(settings=settings, customers=customers)

    async def open(self) -> None:
        """Reads the texts now: one that is broken should be found at start."""
        for language in LANGUAGES:
            await asyncio.to_thread(catalogue, language)

    def make_owner(self, number: int, membership: Callable[[], Membership]) -> JournalOwner:
        events = TopicPartition(self._settings.topic(ACCOUNT_EVENTS), number)
        return JournalOwner(
            number,
            role="notifier",
            journal=NOTICES,
            inputs=[events],
            told=events,
            settings=self._settings,
            clients=self._clients,
            membership=membership,
            make_desk=lambda: NoticeDesk(
                customers=self._customers.current, journal_topic=self._settings.topic(NOTICES)
            ),
            work=Delivery(
                post=self._post,
                remind=Reminding(settings=self._settings, clients=self._clients, number=number),
                number=number,
            ),
        )

    async def close(self) -> None:
        await self._post.close()


def _check_sender(sender: str) -> None:
    message = EmailMessage(policy=SMTP)
    try:
        message["From"] = sender
        addresses = message["From"].addresses
    except (ValueError, IndexError) as error:
        raise WorkerMustStop(f"setting mail_from: {sender!r} is no sender: {error} (PSTN_MAIL_FROM)") from error
    if len(addresses) != 1 or not addresses[0].username or not addresses[0].domain or message["From"].defects:
        raise WorkerMustStop(f"setting mail_from: {sender!r} is no `Name <mailbox@domain>` (PSTN_MAIL_FROM)")

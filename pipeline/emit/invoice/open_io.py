"""The owners of the invoice journal: that of partition 0 numbers for all, the others have nothing to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiokafka import TopicPartition

from pipeline.base.kafka_io import KafkaClients
from pipeline.base.lag_io import Progress
from pipeline.base.membership_io import Membership, Owner
from pipeline.base.settings_io import Settings
from pipeline.base.topics import ACCOUNT_EVENTS, INVOICES
from pipeline.emit.customers_io import CustomersFile
from pipeline.emit.invoice.desk import InvoiceDesk
from pipeline.emit.journal_io import JournalOwner

NUMBERING_PARTITION = 0


class InvoiceBook:
    """Makes the owners. The group shares the partitions of `invoices`, so exactly one worker numbers."""

    topics: tuple[str, ...] = (INVOICES,)

    def __init__(
        self, *, settings: Settings, customers: CustomersFile, clients: KafkaClients, partition_count: int
    ) -> None:
        self._settings = settings
        self._customers = customers
        self._clients = clients
        self._partition_count = partition_count

    def make_owner(self, number: int, membership: Callable[[], Membership]) -> Owner:
        if number != NUMBERING_PARTITION:
            return IdleOwner()
        events = self._settings.topic(ACCOUNT_EVENTS)
        journal = self._settings.topic(INVOICES)
        return JournalOwner(
            number,
            role="invoices",
            journal=INVOICES,
            inputs=[TopicPartition(events, each) for each in range(self._partition_count)],
            told=TopicPartition(journal, number),
            settings=self._settings,
            clients=self._clients,
            membership=membership,
            make_desk=lambda: InvoiceDesk(customers=self._customers.current, journal_topic=journal),
        )


class IdleOwner:
    """Owns a partition in which nothing is ever written."""

    def start(self) -> None:
        """Nothing to do."""

    async def hold(self) -> None:
        """Nothing runs."""

    def release(self) -> None:
        """Nothing waits."""

    async def close(self) -> None:
        """Nothing is open."""

    def progress(self) -> Iterable[Progress]:
        return ()

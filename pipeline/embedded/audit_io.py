"""Feeds the audit from the ledger's topics, and tells when everything that was sent has come to rest."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka import TopicPartition as GroupPartition
from confluent_kafka.admin import AdminClient

from pipeline.base.kafka_io import KafkaClients, stop_clients
from pipeline.base.settings_io import Role, Settings
from pipeline.base.topics import COMMANDS
from pipeline.embedded.audit import TOPICS, Audit, Message
from pipeline.emit.notify.outbox_io import Notifier
from pipeline.emit.pay.worker_io import PaymentWorker
from pipeline.warehouse.load_io import Loader

_FETCH_WAIT_MS = 200
_FETCH_RECORDS_MAX = 500  # about 15 ms of decoding, for a worker in the same loop has sessions to keep alive
_ANSWER_S_MAX = 10

DOWNSTREAM: dict[Role, tuple[str, ...]] = {
    "loader": Loader.topics,
    "notifier": Notifier.topics,
    "payments": PaymentWorker.topics,
}


class AuditReader:
    """A consumer without a group over all partitions of the audit's topics, from their beginning."""

    def __init__(self, audit: Audit, *, settings: Settings, partition_count: int) -> None:
        self._audit = audit
        self._settings = settings
        self._numbers = range(partition_count)
        self._names = {settings.topic(name): name for name in TOPICS}
        self._consumer: AIOKafkaConsumer = KafkaClients(settings).reader()
        self._admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers, "log_level": 0})

    async def run(self) -> None:
        """Reads until it is cancelled. OffsetOutOfRangeError when the broker dropped what was not read yet."""
        try:
            await self._consumer.start()
            partitions = self._partitions(TOPICS)
            self._consumer.assign(partitions)
            await self._consumer.seek_to_beginning(*partitions)
            while True:
                fetched = await self._consumer.getmany(timeout_ms=_FETCH_WAIT_MS, max_records=_FETCH_RECORDS_MAX)
                for place, records in fetched.items():
                    messages = [Message(record.offset, record.key, record.value) for record in records]
                    self._audit.take(self._names[place.topic], place.partition, messages)
                await asyncio.sleep(0)
        finally:
            await stop_clients(self._consumer)

    async def is_at_rest(self, cdr_count: int) -> bool:
        """Every one of `cdr_count` CDRs has its result, every command is applied (those that payments answered with
        too), the audit has read everything and each downstream role has committed everything."""
        if self._audit.decided_count < cdr_count:
            return False
        # Commands last: a result read before them can still have caused one, and then the next look sees it.
        for name in (*TOPICS, COMMANDS):
            ends = await self._consumer.end_offsets(self._partitions((name,)))
            for place, end in ends.items():
                if name == COMMANDS:
                    reached = self._audit.next_command_offset(place.partition)
                else:
                    reached = await self._consumer.position(place)
                if reached < end:
                    return False
        for role, topics in DOWNSTREAM.items():
            committed = await self.committed(role, topics)
            if any(committed.get(place, 0) < next_offset for place, next_offset in self._read(topics).items()):
                return False
        return True

    async def committed(self, role: Role, topics: tuple[str, ...]) -> dict[tuple[str, int], int]:
        """The group's positions, by topic without prefix and partition; what is not committed yet is missing."""
        wanted = [GroupPartition(place.topic, place.partition) for place in self._partitions(topics)]
        request = ConsumerGroupTopicPartitions(self._settings.group(role), wanted)

        def ask() -> dict[tuple[str, int], int]:
            answer = self._admin.list_consumer_group_offsets([request], request_timeout=_ANSWER_S_MAX)
            found = answer[self._settings.group(role)].result().topic_partitions
            return {(self._names[each.topic], each.partition): each.offset for each in found if each.offset >= 0}

        return await asyncio.to_thread(ask)

    def _read(self, topics: tuple[str, ...]) -> dict[tuple[str, int], int]:
        return {place: offset for place, offset in self._audit.next_offsets.items() if place[0] in topics}

    def _partitions(self, topics: tuple[str, ...]) -> list[TopicPartition]:
        return [TopicPartition(self._settings.topic(name), number) for name in topics for number in self._numbers]

"""Reading a journal's topic from outside, and asking its owners for something."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.kafka_io import KafkaClients, read_to_end, stop_clients
from pipeline.base.settings_io import Settings
from pipeline.emit.journal import REQUEST_PREFIX


class Kept(NamedTuple):
    """A record of a journal as it is now."""

    partition: int
    key: bytes
    value: bytes


async def read_journal(settings: Settings, name: str, partitions: Iterable[int]) -> list[Kept]:
    """What the journals of these partitions hold, checkpoints and requests left out; in the order of the writing."""
    clients = KafkaClients(settings)
    found: dict[tuple[int, bytes], bytes] = {}

    def take(records: list[ConsumerRecord]) -> None:
        for record in records:
            if record.key is None or record.key == CHECKPOINT_KEY or record.key.startswith(REQUEST_PREFIX):
                continue
            found.pop((record.partition, record.key), None)
            if record.value is not None:
                found[record.partition, record.key] = record.value

    for number in partitions:
        journal = TopicPartition(settings.topic(name), number)
        async with clients.reading() as consumer:
            beginning = (await consumer.beginning_offsets([journal]))[journal]
            end = (await consumer.end_offsets([journal]))[journal]
            await read_to_end(
                consumer, journal, start_offset=beginning, end_offset=end, stall_s=settings.restore_stall_s, take=take
            )
    return [Kept(number, key, value) for (number, key), value in found.items()]


async def ask_owners(settings: Settings, name: str, requests: Iterable[tuple[int, bytes, bytes]]) -> None:
    """Writes requests: partition, what stands after `request/` in the key, value. Returns when the broker has them."""
    producer = KafkaClients(settings).plain_producer()
    try:
        await producer.start()
        for partition, key, value in requests:
            await producer.send_and_wait(settings.topic(name), value, key=REQUEST_PREFIX + key, partition=partition)
    finally:
        await stop_clients(producer)

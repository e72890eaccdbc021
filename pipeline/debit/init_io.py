"""`pstn ledger init` and `skip`: the only writers of a checkpoint besides the owner, and fenced like one."""

from __future__ import annotations

import asyncio
import time

from aiokafka import ConsumerRecord, TopicPartition

from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.kafka_io import KafkaClients, WorkerMustStop, read_to_end
from pipeline.base.settings_io import Settings
from pipeline.base.topics import CDRS, COMMANDS, CREDIT_TABLE
from pipeline.debit.checkpoint import Checkpoint
from pipeline.emit.publish_io import publish


async def initialise(settings: Settings, *, partition_count: int, topic_ids: dict[str, str]) -> list[int]:
    """Writes the first checkpoint of each partition that has none; the partitions written. Safe to repeat."""
    clients = KafkaClients(settings)
    written = []
    for number in range(partition_count):
        if await _read_checkpoint(clients, settings, number) is None:
            offsets = await _beginnings(clients, settings, number)
            first = Checkpoint(0, 0, offsets[0], offsets[1], partition_count, topic_ids, int(time.time() * 1000))
            await _write(clients, settings, number, first)
            written.append(number)
    return written


async def skip_lost(settings: Settings, *, partition_count: int) -> list[tuple[int, int, int]]:
    """Moves checkpoints over records that retention has deleted: (partition, CDRs lost, commands lost) of each gap."""
    clients = KafkaClients(settings)
    skipped = []
    for number in range(partition_count):
        checkpoint = await _read_checkpoint(clients, settings, number)
        if checkpoint is None:
            raise WorkerMustStop(f"partition {number} holds no checkpoint: type `pstn ledger init`")
        cdrs, commands = await _beginnings(clients, settings, number)
        lost = (max(0, cdrs - checkpoint.next_offset_cdrs), max(0, commands - checkpoint.next_offset_commands))
        if any(lost):
            moved = checkpoint._replace(
                next_offset_cdrs=checkpoint.next_offset_cdrs + lost[0],
                next_offset_commands=checkpoint.next_offset_commands + lost[1],
            )
            await _write(clients, settings, number, moved)
            skipped.append((number, *lost))
    return skipped


async def _beginnings(clients: KafkaClients, settings: Settings, number: int) -> tuple[int, int]:
    partitions = [TopicPartition(settings.topic(name), number) for name in (CDRS, COMMANDS)]
    consumer = clients.reader()
    await consumer.start()
    try:
        found = await consumer.beginning_offsets(partitions)
    finally:
        await consumer.stop()
    return found[partitions[0]], found[partitions[1]]


async def _read_checkpoint(clients: KafkaClients, settings: Settings, number: int) -> Checkpoint | None:
    table = TopicPartition(settings.topic(CREDIT_TABLE), number)
    end_offset = await clients.high_watermark(table)
    found: bytes | None = None

    def take(records: list[ConsumerRecord]) -> None:
        nonlocal found
        for record in records:
            if record.key == CHECKPOINT_KEY:
                found = record.value

    consumer = clients.reader()
    await consumer.start()
    try:
        beginning = (await consumer.beginning_offsets([table]))[table]
        await read_to_end(
            consumer, table, start_offset=beginning, end_offset=end_offset, stall_s=settings.restore_stall_s, take=take
        )
    finally:
        await consumer.stop()
    return None if found is None else Checkpoint.decode(found)


async def _write(clients: KafkaClients, settings: Settings, number: int, checkpoint: Checkpoint) -> None:
    producer = clients.transactional_producer(f"{settings.group('ledger')}-{number}")
    await producer.start()
    try:
        message = (CHECKPOINT_KEY, checkpoint.encode(), checkpoint.initialised_at, ())
        await publish(producer, {(settings.topic(CREDIT_TABLE), number): [message]}, timeout_s=30)
    finally:
        await asyncio.wait_for(producer.stop(), 5)

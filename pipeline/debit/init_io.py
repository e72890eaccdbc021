"""`pstn ledger init` and `skip`: the only writers of a checkpoint besides the owner, and fenced like one."""

from __future__ import annotations

import time

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition

from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.kafka_io import KafkaClients, WorkerMustStop, stop_clients
from pipeline.base.record import NO_HEADERS
from pipeline.base.settings_io import Settings
from pipeline.base.topics import CDRS, COMMANDS, CREDIT_TABLE
from pipeline.debit.checkpoint import Checkpoint
from pipeline.emit.publish_io import publish


async def initialise(settings: Settings, *, partition_count: int, topic_ids: dict[str, str]) -> list[int]:
    """Writes the first checkpoint of each partition that has none; the partitions written. Safe to repeat.

    Another `init` and workers may run: who has none is looked at again once any owner is fenced.
    """
    clients = KafkaClients(settings)
    written = []
    for number in range(partition_count):
        found = await _read_checkpoint(clients, settings, number)
        if found is not None and found.partition_count != partition_count:
            raise WorkerMustStop(
                f"the ledger was made with {found.partition_count} partitions, the topics have {partition_count}: the"
                " count of a prefix never changes, for it decides who owns a tenant; move to a new prefix"
            )
        if found is not None:
            continue
        producer = clients.transactional_producer(f"{settings.group('ledger')}-{number}")
        await producer.start()
        try:
            if await _read_checkpoint(clients, settings, number) is None:
                offsets = await _beginnings(clients, settings, number)
                first = Checkpoint(0, 0, offsets[0], offsets[1], partition_count, topic_ids, int(time.time() * 1000))
                await _write(producer, settings, number, first)
                written.append(number)
        finally:
            await stop_clients(producer)
    return written


async def skip_lost(settings: Settings, *, partition_count: int) -> list[tuple[int, int, int]]:
    """Moves checkpoints over records that retention has deleted: (partition, CDRs lost, commands lost) of each gap.

    Workers may run: a gap is looked at again once their owner is fenced, so that nothing can be applied in between.
    """
    clients = KafkaClients(settings)
    skipped = []
    for number in range(partition_count):
        if not any((await _lost(clients, settings, number))[1]):
            continue
        producer = clients.transactional_producer(f"{settings.group('ledger')}-{number}")
        await producer.start()
        try:
            checkpoint, lost = await _lost(clients, settings, number)
            if any(lost):
                moved = checkpoint._replace(
                    next_offset_cdrs=checkpoint.next_offset_cdrs + lost[0],
                    next_offset_commands=checkpoint.next_offset_commands + lost[1],
                )
                await _write(producer, settings, number, moved)
                skipped.append((number, *lost))
        finally:
            await stop_clients(producer)
    return skipped


async def _lost(clients: KafkaClients, settings: Settings, number: int) -> tuple[Checkpoint, tuple[int, int]]:
    """The checkpoint, and how many offsets of CDRs and of commands are gone behind it."""
    checkpoint = await _read_checkpoint(clients, settings, number)
    if checkpoint is None:
        raise WorkerMustStop(f"partition {number} holds no checkpoint: type `pstn ledger init`")
    cdrs, commands = await _beginnings(clients, settings, number)
    return checkpoint, (max(0, cdrs - checkpoint.next_offset_cdrs), max(0, commands - checkpoint.next_offset_commands))


async def _beginnings(clients: KafkaClients, settings: Settings, number: int) -> tuple[int, int]:
    partitions = [TopicPartition(settings.topic(name), number) for name in (CDRS, COMMANDS)]
    async with clients.reading() as consumer:
        found = await consumer.beginning_offsets(partitions)
    return found[partitions[0]], found[partitions[1]]


async def _read_checkpoint(clients: KafkaClients, settings: Settings, number: int) -> Checkpoint | None:
    table = TopicPartition(settings.topic(CREDIT_TABLE), number)
    found: bytes | None = None

    def take(records: list[ConsumerRecord]) -> None:
        nonlocal found
        for record in records:
            if record.key == CHECKPOINT_KEY:
                found = record.value

    await clients.read_whole(table, take)
    return None if found is None else Checkpoint.decode(found)


async def _write(producer: AIOKafkaProducer, settings: Settings, number: int, checkpoint: Checkpoint) -> None:
    message = (CHECKPOINT_KEY, checkpoint.encode(), checkpoint.initialised_at, NO_HEADERS)
    await publish(producer, {(settings.topic(CREDIT_TABLE), number): [message]}, timeout_s=30)

"""Reads a partition's books back from the credit table, and the digests that still count from seen-calls."""

from __future__ import annotations

from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.kafka_io import KafkaClients, WorkerMustStop, read_to_end
from pipeline.base.settings_io import Settings
from pipeline.base.topics import CREDIT_TABLE, SEEN_CALLS
from pipeline.debit.checkpoint import Checkpoint
from pipeline.debit.ledger import CLOCK_BACK_MS_MAX, Ledger


class Restored(NamedTuple):
    """What a restore found besides the books."""

    checkpoint: Checkpoint
    table_end: int
    """High watermark of the credit table, up to which it was read."""


async def restore(ledger: Ledger, *, clients: KafkaClients, settings: Settings) -> Restored:
    """Fills `ledger`. WorkerMustStop when there is no checkpoint or the table was trimmed."""
    number = ledger.partition
    table = TopicPartition(settings.topic(CREDIT_TABLE), number)
    table_end = await clients.high_watermark(table)
    # A consumer for each topic: a question about offsets would wait behind the other's running fetch.
    async with clients.reading() as consumer:
        checkpoint, decided_ms = await _restore_table(ledger, consumer, table, table_end, settings)
    seen = TopicPartition(settings.topic(SEEN_CALLS), number)
    end_offset = await clients.high_watermark(seen)
    async with clients.reading() as consumer:
        await _restore_seen(ledger, consumer, seen, end_offset, decided_ms, settings)
    ledger.resume(checkpoint)
    return Restored(checkpoint, table_end)


async def _restore_table(
    ledger: Ledger, consumer: AIOKafkaConsumer, table: TopicPartition, end_offset: int, settings: Settings
) -> tuple[Checkpoint, int]:
    found: tuple[bytes, int] | None = None

    def take(records: list[ConsumerRecord]) -> None:
        nonlocal found
        for record in records:
            if record.key == CHECKPOINT_KEY:
                found = (record.value, record.timestamp)
            else:
                ledger.state.load(record.key, record.value)

    beginning = (await consumer.beginning_offsets([table]))[table]
    if settings.embedded_broker and beginning > 0:
        raise WorkerMustStop(
            f"the embedded broker has dropped the first {beginning} records of {table.topic} partition "
            f"{table.partition}: it keeps about 5 MiB a partition; use fewer tenants, or a real Kafka"
        )
    await read_to_end(
        consumer, table, start_offset=beginning, end_offset=end_offset, stall_s=settings.restore_stall_s, take=take
    )
    if found is None:
        raise WorkerMustStop(
            f"{table.topic} partition {table.partition} holds no checkpoint: for a new ledger type `pstn ledger init`; "
            "for an old one partitions were added (move to a new prefix) or the books are lost (restore the topic)"
        )
    return Checkpoint.decode(found[0]), found[1]


async def _restore_seen(
    ledger: Ledger,
    consumer: AIOKafkaConsumer,
    seen: TopicPartition,
    end_offset: int,
    decided_ms: int,
    settings: Settings,
) -> None:
    """From the first record that the broker took inside the window before the last decision (broker time only)."""
    if end_offset == 0:
        return
    window_ms = settings.duplicate_window_days * MS_PER_DAY + CLOCK_BACK_MS_MAX
    start = (await consumer.offsets_for_times({seen: max(0, decided_ms - window_ms)}))[seen]
    if start is not None:
        start_offset = start.offset
    elif settings.embedded_broker:  # which does not know times
        start_offset = (await consumer.beginning_offsets([seen]))[seen]
    else:
        return

    def take(records: list[ConsumerRecord]) -> None:
        for record in records:
            ledger.seen.load(record.value)

    await read_to_end(
        consumer, seen, start_offset=start_offset, end_offset=end_offset, stall_s=settings.restore_stall_s, take=take
    )

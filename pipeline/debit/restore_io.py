"""Reads a partition's books back from the credit table, and the digests that still count from seen-calls."""

from __future__ import annotations

import time
from typing import NamedTuple, Self

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.kafka_io import KafkaClients, WorkerMustStop, connect, read_to_end, stop_clients, together
from pipeline.base.metrics_io import RESTORE_RECORDS, RESTORE_SHARE
from pipeline.base.settings_io import Settings
from pipeline.base.topics import CREDIT_TABLE, SEEN_CALLS
from pipeline.debit.checkpoint import Checkpoint
from pipeline.debit.ledger import CLOCK_BACK_MS_MAX, Ledger

log = structlog.get_logger(__name__)

_SAY_INTERVAL_S = 5.0


class Restored(NamedTuple):
    """What a restore found besides the books."""

    checkpoint: Checkpoint
    table_end: int
    """High watermark of the credit table, up to which it was read."""


class _Progress:
    """Tells log and metrics how far one topic of a restore is; says nothing of what is over at once."""

    def __init__(self, partition: TopicPartition, begin: int, end: int) -> None:
        self._partition, self._begin, self._end = partition, begin, end
        self._labels = (str(partition.partition), partition.topic)
        self._record_count = 0
        self._say_at_s = time.monotonic() + _SAY_INTERVAL_S

    def __enter__(self) -> Self:
        RESTORE_SHARE.labels(*self._labels).set(0)
        return self

    def __exit__(self, *raised: object) -> None:
        RESTORE_SHARE.remove(*self._labels)

    def show(self, next_offset: int, record_count: int) -> None:
        share = (next_offset - self._begin) / max(1, self._end - self._begin)
        self._record_count += record_count
        RESTORE_RECORDS.inc(record_count)
        RESTORE_SHARE.labels(*self._labels).set(share)
        if (now_s := time.monotonic()) >= self._say_at_s:
            self._say_at_s = now_s + _SAY_INTERVAL_S
            topic, number = self._partition
            log.info("restoring", topic=topic, partition=number, records=self._record_count, share=round(share, 3))


async def restore(ledger: Ledger, *, clients: KafkaClients, settings: Settings) -> Restored:
    """Fills `ledger`. WorkerMustStop when there is no checkpoint or the table was trimmed."""
    number = ledger.partition
    table = TopicPartition(settings.topic(CREDIT_TABLE), number)
    seen = TopicPartition(settings.topic(SEEN_CALLS), number)
    # A consumer for each topic: a question about offsets would wait behind the other's running fetch.
    of_table, of_seen = clients.reader(), clients.reader()
    try:
        table_end, seen_end, table_begin, seen_begin = await together(
            clients.high_watermark(table),
            clients.high_watermark(seen),
            connect(of_table, table),
            connect(of_seen, seen),
        )
        checkpoint, decided_ms = await _restore_table(ledger, of_table, table, (table_begin, table_end), settings)
        await _restore_seen(ledger, of_seen, seen, (seen_begin, seen_end), decided_ms, settings)
    finally:
        await stop_clients(of_table, of_seen)
    ledger.resume(checkpoint)
    return Restored(checkpoint, table_end)


async def _restore_table(
    ledger: Ledger, consumer: AIOKafkaConsumer, table: TopicPartition, extent: tuple[int, int], settings: Settings
) -> tuple[Checkpoint, int]:
    found: tuple[bytes, int] | None = None
    load = ledger.state.load

    def take(records: list[ConsumerRecord]) -> None:
        nonlocal found
        progress.show(records[-1].offset + 1, len(records))
        for record in records:
            if record.key == CHECKPOINT_KEY:
                found = (record.value, record.timestamp)
            else:
                load(record.key, record.value)

    beginning, end_offset = extent
    if settings.embedded_broker and beginning > 0:
        raise WorkerMustStop(
            f"the embedded broker has dropped the first {beginning} records of {table.topic} partition "
            f"{table.partition}: it keeps about 5 MiB a partition; use fewer tenants, or a real Kafka"
        )
    with _Progress(table, beginning, end_offset) as progress:
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
    extent: tuple[int, int],
    decided_ms: int,
    settings: Settings,
) -> None:
    """From the first record that the broker took inside the window before the last decision (broker time only)."""
    beginning, end_offset = extent
    if end_offset == 0:
        return
    window_ms = settings.duplicate_window_days * MS_PER_DAY + CLOCK_BACK_MS_MAX
    start = (await consumer.offsets_for_times({seen: max(0, decided_ms - window_ms)}))[seen]
    if start is not None:
        start_offset = start.offset
    elif settings.embedded_broker:  # which does not know times
        start_offset = beginning
    else:
        return

    def take(records: list[ConsumerRecord]) -> None:
        progress.show(records[-1].offset + 1, len(records))
        for record in records:
            ledger.seen.load(record.value)

    with _Progress(seen, start_offset, end_offset) as progress:
        await read_to_end(
            consumer,
            seen,
            start_offset=start_offset,
            end_offset=end_offset,
            stall_s=settings.restore_stall_s,
            take=take,
        )

"""Reads the commands of a period from their topic, with their results."""

from __future__ import annotations

from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.ids import CHECKPOINT_KEY, partition_of
from pipeline.base.kafka_io import KafkaClients, read_to_end
from pipeline.base.settings_io import Settings
from pipeline.base.topics import COMMANDS, CREDIT_TABLE, REJECTED
from pipeline.cdr.command import Command, decode_command
from pipeline.debit.checkpoint import Checkpoint
from pipeline.office.answer import Refusal, decode_refusal
from pipeline.office.audit import AuditLine, Logged, judge

_TAIL_COUNT = 2_000


async def read_audit(
    settings: Settings,
    *,
    partition_count: int,
    tenant_id: str | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    with_ticks: bool = False,
    command_id: str | None = None,
) -> list[AuditLine]:
    """Commands of a tenant (None: of all) that the broker took in the period, as long as the topic keeps them.

    Earlier ones are read too, for a duplicate window, to know which were repeated.
    """
    numbers = range(partition_count) if tenant_id is None else [partition_of(tenant_id, partition_count)]
    window_ms = settings.duplicate_window_days * MS_PER_DAY
    since_ms = 0 if from_ms is None else max(0, from_ms - window_ms)
    logged: list[Logged] = []
    refusals: dict[tuple[int, int], Refusal] = {}
    next_offsets: dict[int, int] = {}
    topic = settings.topic(COMMANDS)

    def take_command(record: ConsumerRecord) -> None:
        command = decode_command(record.value or b"")
        if (
            isinstance(command, Command)
            and (with_ticks or command.kind != "tick")
            and tenant_id in (None, command.tenant_id)
            and command_id in (None, command.command_id)
        ):
            logged.append(Logged(record.partition, record.offset, record.timestamp, command))

    def take_reject(record: ConsumerRecord) -> None:
        refusal = decode_refusal(record.value, topic)
        if refusal is not None:
            refusals[refusal.partition, refusal.offset] = refusal

    for number in numbers:
        # The checkpoint first: what it has passed has its rejects written.
        checkpoint = await last_checkpoint(settings, number)
        next_offsets[number] = 0 if checkpoint is None else checkpoint.next_offset_commands
        await _read(settings, TopicPartition(topic, number), since_ms, take_command)
        await _read(settings, TopicPartition(settings.topic(REJECTED), number), since_ms, take_reject)
    lines = judge(logged, refusals, next_offsets, partition_count=partition_count, window_ms=window_ms)
    return [line for line in lines if (from_ms or 0) <= line.at and (to_ms is None or line.at < to_ms)]


async def last_checkpoint(settings: Settings, number: int) -> Checkpoint | None:
    """The latest committed checkpoint of a partition: from the table's end backwards."""
    clients = KafkaClients(settings)
    table = TopicPartition(settings.topic(CREDIT_TABLE), number)
    end_offset = await clients.high_watermark(table)
    found: Checkpoint | None = None

    def take(records: list[ConsumerRecord]) -> None:
        nonlocal found
        for record in records:
            if record.key == CHECKPOINT_KEY:
                found = Checkpoint.decode(record.value)

    async with clients.reading() as consumer:
        beginning = (await consumer.beginning_offsets([table]))[table]
        count = _TAIL_COUNT
        while True:
            start_offset = max(beginning, end_offset - count)
            await _to_end(consumer, table, start_offset, end_offset, settings, take)
            if found is not None or start_offset == beginning:
                return found
            count *= 8


async def _read(
    settings: Settings, partition: TopicPartition, since_ms: int, take: Callable[[ConsumerRecord], None]
) -> None:
    clients = KafkaClients(settings)
    end_offset = await clients.high_watermark(partition)
    async with clients.reading() as consumer:
        start_offset = (await consumer.beginning_offsets([partition]))[partition]
        if since_ms and not settings.embedded_broker:  # which does not know times
            found = (await consumer.offsets_for_times({partition: since_ms}))[partition]
            start_offset = end_offset if found is None else found.offset

        def take_all(records: list[ConsumerRecord]) -> None:
            for record in records:
                take(record)

        await _to_end(consumer, partition, start_offset, end_offset, settings, take_all)


async def _to_end(
    consumer: AIOKafkaConsumer,
    partition: TopicPartition,
    start_offset: int,
    end_offset: int,
    settings: Settings,
    take: Callable[[list[ConsumerRecord]], None],
) -> None:
    await read_to_end(
        consumer,
        partition,
        start_offset=start_offset,
        end_offset=end_offset,
        stall_s=settings.restore_stall_s,
        take=take,
    )

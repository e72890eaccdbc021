"""Reads the commands of a period from their topic, with their results.

Rejects leave their topic after 30 days; those of earlier commands are in the warehouse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from pipeline.base.calendar import MS_PER_DAY, MS_PER_S
from pipeline.base.ids import CHECKPOINT_KEY, partition_of
from pipeline.base.kafka_io import KafkaClients, read_to_end
from pipeline.base.settings_io import Settings
from pipeline.base.topics import COMMANDS, CREDIT_TABLE, REJECTED, RESULT_RETENTION_MS
from pipeline.cdr.command import Command, decode_command
from pipeline.debit.checkpoint import Checkpoint
from pipeline.office.answer import Refusal, decode_refusal
from pipeline.office.audit import AuditLine, Logged, judge
from pipeline.warehouse.store import Store, literal

_TAIL_COUNT = 2_000
_DAYS = 14


async def read_audit(
    settings: Settings,
    *,
    partition_count: int,
    tenant_id: str | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    with_ticks: bool = False,
    command_id: str | None = None,
    stored: Mapping[tuple[int, int], Refusal] = MappingProxyType({}),
) -> list[AuditLine]:
    """Commands of a tenant (None: of all) that the broker took in the period, as long as the topic keeps them.

    Earlier ones are read too, for a duplicate window, to know which were repeated. `stored`: what the warehouse knows
    of refusals; without it the answers are right for a period of which `needs_warehouse` says no.
    """
    numbers = range(partition_count) if tenant_id is None else [partition_of(tenant_id, partition_count)]
    since_ms = _since_ms(settings, from_ms)
    logged: list[Logged] = []
    refusals = dict(stored)
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
    lines = judge(logged, refusals, next_offsets, partition_count=partition_count, window_ms=_window_ms(settings))
    return [line for line in lines if (from_ms or 0) <= line.at and (to_ms is None or line.at < to_ms)]


def begin_ms(from_ms: int | None, to_ms: int | None, now_ms: int) -> int:
    """Where an audit begins: 14 days before its end when nobody says."""
    end_ms = now_ms if to_ms is None else min(now_ms, to_ms)
    return end_ms - _DAYS * MS_PER_DAY if from_ms is None else from_ms


def needs_warehouse(settings: Settings, from_ms: int | None, now_ms: int) -> bool:
    """Whether rejects of the period may have left their topic."""
    return not settings.embedded_broker and _since_ms(settings, from_ms) < now_ms - RESULT_RETENTION_MS


def read_stored_refusals(
    store: Store, settings: Settings, tenant_id: str | None, from_ms: int | None
) -> dict[tuple[int, int], Refusal]:
    """Refused commands in the warehouse, by partition and offset. Blocking; StoreAway, StoreRefused."""
    since_ms = _since_ms(settings, from_ms)
    conditions = [
        f"source_topic = {literal(settings.topic(COMMANDS))}",
        f"received_at >= toDateTime({since_ms // MS_PER_S}, 'UTC')",
        *([] if tenant_id is None else [f"tenant_id = {literal(tenant_id)}"]),
    ]
    sql = f"""SELECT reason, detail, tenant_id, command_id, source_partition, source_offset
FROM rejected_cdrs FINAL
WHERE {" AND ".join(conditions)}
ORDER BY ledger_epoch"""
    rows: Iterable[Any] = store.query(sql).rows  # as the columns are
    found = [Refusal(*row) for row in rows]
    return {(each.partition, each.offset): each for each in found}


def _window_ms(settings: Settings) -> int:
    return settings.duplicate_window_days * MS_PER_DAY


def _since_ms(settings: Settings, from_ms: int | None) -> int:
    return 0 if from_ms is None else max(0, from_ms - _window_ms(settings))


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

"""Follows the credit table, the commands and the rejects, so that every question is answered from memory.

`read_committed`; consumers of their own, without a group. How fresh the answers are is known for each partition: the
moment at which the broker last said that there was no more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from pipeline.base.avro import DecodeError
from pipeline.base.calendar import MS_PER_DAY, MS_PER_HOUR
from pipeline.base.ids import partition_of
from pipeline.base.kafka_io import KafkaClients, stop_clients
from pipeline.base.settings_io import Settings
from pipeline.base.topics import COMMANDS, CREDIT_TABLE, REJECTED
from pipeline.cdr.command import Command, decode_command
from pipeline.office.answer import decode_refusal
from pipeline.office.audit import Logged
from pipeline.office.credit_table import CreditTable
from pipeline.web.command_log import CommandLog

log = structlog.get_logger(__name__)
_POLL_MS = 200
_RETRY_S = 1.0
_FORGET_EVERY_S = 600.0


class Follower:
    """One topic, all its partitions, from a point on."""

    def __init__(
        self, settings: Settings, topic: str, partition_count: int, take: Callable[[ConsumerRecord], None]
    ) -> None:
        self._settings = settings
        self._clients = KafkaClients(settings)
        self.partitions = [TopicPartition(settings.topic(topic), number) for number in range(partition_count)]
        self._take = take
        self._consumer: AIOKafkaConsumer | None = None
        self.positions: dict[int, int] = {}
        """The next offset of each partition that will be read."""
        self._ends: dict[int, int] = {}
        self._as_of_ms: dict[int, int] = {}
        self.moved = asyncio.Condition()

    async def start(self, since_ms: int = 0) -> None:
        """Reads what is there (from `since_ms` on); returns when it has."""
        self._consumer = consumer = self._clients.reader()
        await consumer.start()
        consumer.assign(self.partitions)
        starts = await consumer.beginning_offsets(self.partitions)
        if since_ms and not self._settings.embedded_broker:  # which does not know times
            found = await consumer.offsets_for_times(dict.fromkeys(self.partitions, since_ms))
            ends = await consumer.end_offsets(self.partitions)
            starts = {tp: ends[tp] if found[tp] is None else found[tp].offset for tp in self.partitions}
        for tp in self.partitions:
            consumer.seek(tp, starts[tp])
            self.positions[tp.partition] = starts[tp]
        async with self._clients.reading(committed=False) as other:
            wanted = await other.end_offsets(self.partitions)
        while any(self.positions[tp.partition] < wanted[tp] for tp in self.partitions):
            await self._poll(consumer)

    async def run(self) -> None:
        """Goes on until it is cancelled; a broker that is away makes the answers older, and ends nothing."""
        consumer = self._consumer
        assert consumer is not None
        while True:
            try:
                await self._poll(consumer)
            except OffsetOutOfRangeError:  # retention has overtaken it
                await consumer.seek_to_beginning(*self.partitions)
            except (KafkaError, DecodeError) as error:
                log.warning("read_model_waits", topic=self.partitions[0].topic, error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def close(self) -> None:
        if self._consumer is not None:
            await stop_clients(self._consumer)

    def freshness(self, number: int) -> tuple[int | None, int]:
        """Everything committed before this instant was read (ms, None: unknown), and records known to be left."""
        left = max(0, self._ends.get(number, 0) - self.positions.get(number, 0))
        return self._as_of_ms.get(number), left

    async def has_read(self, number: int, offset: int) -> None:
        """Returns when the record at `offset` was read."""
        async with self.moved:
            await self.moved.wait_for(lambda: self.positions.get(number, 0) > offset)

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        fetched = await consumer.getmany(timeout_ms=_POLL_MS)
        for records in fetched.values():
            for record in records:
                self._take(record)
        for tp in self.partitions:
            number = tp.partition
            self.positions[number] = await consumer.position(tp)
            end, asked_at_ms = consumer.last_stable_offset(tp), consumer.last_poll_timestamp(tp)
            if end is None or end < 0:
                end = consumer.highwater(tp)
            if end is not None:
                self._ends[number] = end
                if self.positions[number] >= end and asked_at_ms is not None:
                    self._as_of_ms[number] = asked_at_ms
        async with self.moved:
            self.moved.notify_all()


class LiveBooks:
    """The read model and the log of commands, as long as the block is open."""

    def __init__(self, settings: Settings, partition_count: int) -> None:
        self._settings = settings
        self.partition_count = partition_count
        self.table = CreditTable()
        self.log = CommandLog()
        self._commands_topic = settings.topic(COMMANDS)
        self._books = Follower(settings, CREDIT_TABLE, partition_count, self._take_table)
        self._commands = Follower(settings, COMMANDS, partition_count, self._take_command)
        self._rejects = Follower(settings, REJECTED, partition_count, self._take_reject)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> LiveBooks:
        since_ms = self._remembered_since_ms()
        # Rejects before books: what the books have passed has its rejects read.
        await self._commands.start(since_ms)
        await self._rejects.start(since_ms)
        await self._books.start()
        runs = [follower.run() for follower in (self._commands, self._rejects, self._books)]
        self._tasks = [asyncio.create_task(run) for run in (*runs, self._forget())]
        return self

    async def __aexit__(self, *raised: object) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        for follower in (self._commands, self._rejects, self._books):
            await follower.close()

    def freshness(self, tenant_id: str | None = None) -> tuple[int | None, int]:
        """Of a tenant's partition, or of the least fresh one."""
        if tenant_id is not None:
            return self._books.freshness(partition_of(tenant_id, self.partition_count))
        each = [self._books.freshness(number) for number in range(self.partition_count)]
        known = [as_of_ms for as_of_ms, _ in each if as_of_ms is not None]
        return (min(known) if len(known) == len(each) else None), sum(left for _, left in each)

    def next_offsets(self) -> dict[int, int]:
        """Of commands: how far the ledger is known to have come, by partition."""
        return {number: checkpoint.next_offset_commands for number, checkpoint in self.table.checkpoints.items()}

    async def has_logged(self, number: int, offset: int) -> None:
        """Returns when the command at `offset`, and so every one before it, is in the log."""
        await self._commands.has_read(number, offset)

    async def has_decided(self, number: int, offset: int) -> None:
        """Returns when the ledger has passed the command, and its reject, if there is one, is in the log."""
        books, rejects = self._books, self._rejects

        def is_passed() -> bool:
            checkpoint = self.table.checkpoints.get(number)
            return checkpoint is not None and checkpoint.next_offset_commands > offset

        async with books.moved:
            await books.moved.wait_for(is_passed)
        clients = KafkaClients(self._settings)
        end = await clients.high_watermark(rejects.partitions[number])
        if end:
            await rejects.has_read(number, end - 1)

    def _take_table(self, record: ConsumerRecord) -> None:
        self.table.take(record.partition, record.key, record.value)

    def _take_command(self, record: ConsumerRecord) -> None:
        command = decode_command(record.value or b"")
        if isinstance(command, Command):
            self.log.take_command(Logged(record.partition, record.offset, record.timestamp, command))

    def _take_reject(self, record: ConsumerRecord) -> None:
        refusal = decode_refusal(record.value, self._commands_topic)
        if refusal is not None:
            self.log.take_refusal(refusal)

    def _remembered_since_ms(self) -> int:
        window_ms = self._settings.duplicate_window_days * MS_PER_DAY
        return time.time_ns() // 1_000_000 - window_ms - MS_PER_HOUR

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(_FORGET_EVERY_S)
            self.log.forget_before(self._remembered_since_ms())

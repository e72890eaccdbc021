"""Kafka clients as the workers use them, and reading a compacted topic to its true end."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from pipeline.base.settings_io import Settings

# What a consumer holds undecoded, for each of two inputs of each partition; a larger batch comes all the same.
PARTITION_FETCH_BYTES_MAX = 512 * 1024
# Below the broker's default limit of 1,048,588 bytes for a batch, its header included.
BATCH_BYTES_MAX = 900_000
# One record above BATCH_BYTES_MAX (a reject that carries a large original) travels in a batch of its own.
REQUEST_BYTES_MAX = 4 * 1024 * 1024
# Between two tries of a client. At 10 ms the clients of 12 partitions take 0.4 of a core while the broker is away.
_RETRY_MS = 50
_RESTORE_POLL_MS = 200
# Of 512 KiB: 500 accounts or 2,000 remembered calls take a few milliseconds, in which nothing else happens.
_PIECES_OF_A_FETCH = 8
_STILL_S = 2.0
_HEARTBEAT_MS_MAX = 250
_STOP_S_MAX = 2.0


log = structlog.get_logger(__name__)


class PartitionStalled(Exception):
    """A partition cannot be taken over now; the message says which, why, and what to do. Tried again later."""


class WorkerMustStop(Exception):
    """Going on would lose or double money; one line for a person: what is wrong, where, what to type."""


class KafkaClients:
    """Makes clients of one cluster. Each owned partition has its own, so nothing else can move its position."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._common: dict[str, Any] = {"bootstrap_servers": settings.bootstrap_servers}
        self._consuming = dict(self._common)
        if settings.embedded_broker:
            # Its checksums are wrong, and it holds an empty fetch to the end even when a record arrives: short, but at
            # 50 ms the idle fetches of all roles cost a third of a core.
            self._consuming |= {"check_crcs": False, "fetch_max_wait_ms": 100}

    @property
    def session_timeout_s(self) -> float:
        """Silence after which the group gives a worker's partitions to others."""
        return self._settings.session_timeout_ms / 1000

    def membership_consumer(self, group: str) -> AIOKafkaConsumer:
        """A group consumer that only learns which partitions are its own; it never reads a record."""
        return AIOKafkaConsumer(
            **self._consuming,
            group_id=group,
            client_id=f"{socket.gethostname()}:{os.getpid()}",  # what `pstn status` shows as the owner
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=self._settings.session_timeout_ms,
            # A member learns of a rebalance by its heartbeat: what others leave behind waits for so long.
            heartbeat_interval_ms=max(200, min(_HEARTBEAT_MS_MAX, self._settings.session_timeout_ms // 10)),
            # aiokafka's default is the session timeout, too short to finish a slice and let go.
            rebalance_timeout_ms=self._settings.rebalance_timeout_ms,
            partition_assignment_strategy=[RangePartitionAssignor],
        )

    def reader(self, *, committed: bool = True) -> AIOKafkaConsumer:
        """A consumer without a group for `assign`; an offset that is gone is an error, never a jump."""
        return AIOKafkaConsumer(
            **self._consuming,
            isolation_level="read_committed" if committed else "read_uncommitted",
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES_MAX,
            # The first question about a topic waits so long for its leader: 100 ms by default, eight times a restore.
            retry_backoff_ms=_RETRY_MS,
        )

    def transactional_producer(self, transactional_id: str) -> AIOKafkaProducer:
        """Starting it fences every earlier producer of the same id and aborts what that one left open."""
        return AIOKafkaProducer(
            **self._common,
            transactional_id=transactional_id,
            transaction_timeout_ms=self._settings.transaction_timeout_ms,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=REQUEST_BYTES_MAX,
            # The broker is still writing markers when the next transaction begins: this keeps the retry short.
            retry_backoff_ms=_RETRY_MS,
        )

    def plain_producer(self) -> AIOKafkaProducer:
        """For commands: acknowledged by all replicas, idempotent."""
        return AIOKafkaProducer(**self._common, acks="all", enable_idempotence=not self._settings.embedded_broker)

    @asynccontextmanager
    async def reading(self, *, committed: bool = True) -> AsyncIterator[AIOKafkaConsumer]:
        """A started `reader`, stopped at the end of the block."""
        consumer = self.reader(committed=committed)
        try:
            await consumer.start()
            yield consumer
        finally:
            await stop_clients(consumer)

    async def high_watermark(self, partition: TopicPartition) -> int:
        """The end of the log as `read_uncommitted` sees it.

        The end under `read_committed` is the last stable offset, which a foreign open transaction holds back: a
        restore to there came back with an old checkpoint and charged every call since once more.
        """
        async with self.reading(committed=False) as consumer:
            return int((await consumer.end_offsets([partition]))[partition])

    async def read_whole(self, partition: TopicPartition, take: Callable[[list[ConsumerRecord]], None]) -> None:
        """What is committed in a partition from its first record to its high watermark; errors as of `read_to_end`."""
        end_offset = await self.high_watermark(partition)
        async with self.reading() as consumer:
            start_offset = (await consumer.beginning_offsets([partition]))[partition]
            await read_to_end(
                consumer,
                partition,
                start_offset=start_offset,
                end_offset=end_offset,
                stall_s=self._settings.restore_stall_s,
                take=take,
            )


async def connect(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int:
    """Starts a consumer, and asks where the partition begins: the first question about a topic waits for its leader,
    so who connects several clients at once waits once. Nothing is read."""
    await consumer.start()
    return int((await consumer.beginning_offsets([partition]))[partition])


async def together(*steps: Coroutine[Any, Any, Any]) -> list[Any]:
    """All at once; what they return. When one fails, its error goes on after the others were cancelled and ended."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await end_tasks(task for task in tasks if not task.done())


async def stop_clients(*clients: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Stops them all, each in a task of its own; what hangs is left behind after a while, fenced or without a group.

    aiokafka lets the cancellation of its own task escape from `stop` when little was asked of a consumer before; it
    ended the owner of a partition without a word.
    """
    stopping = [asyncio.ensure_future(client.stop()) for client in clients]
    for task in (await asyncio.wait(stopping, timeout=_STOP_S_MAX))[0]:
        if not task.cancelled() and task.exception() is not None:
            log.warning("client_stop_failed", error=repr(task.exception()))


async def end_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancels them until they have ended: a client in the midst of an answer may catch a cancellation and forget it."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        # Not sooner again: a cancelled owner takes up to `_STOP_S_MAX` to stop its clients.
        _, pending = await asyncio.wait(pending, timeout=_STOP_S_MAX + 0.5)


async def read_to_end(
    consumer: AIOKafkaConsumer,
    partition: TopicPartition,
    *,
    start_offset: int,
    end_offset: int,
    stall_s: float,
    take: Callable[[list[ConsumerRecord]], None],
    on_still: Callable[[TopicPartition], None] | None = None,
) -> None:
    """Hands every committed record in [start, end) to `take`, then returns; cancellable between two fetches.

    PartitionStalled when nothing moves for `stall_s`: somebody's open transaction holds the partition. `on_still` is
    told before, after a few seconds, and may be told again.
    """
    if start_offset >= end_offset:  # a consumer that is stopped in the moment after `assign` hangs for seconds
        return
    consumer.assign([partition])
    consumer.seek(partition, start_offset)
    position = start_offset
    moved_at_s = time.monotonic()
    while position < end_offset:
        fetched = await consumer.getmany(partition, timeout_ms=_RESTORE_POLL_MS)
        records = fetched.get(partition, [])
        piece = max(1, len(records) // _PIECES_OF_A_FETCH)
        for begin in range(0, len(records), piece):
            take(records[begin : begin + piece])
            await asyncio.sleep(0)
        now_position = await consumer.position(partition)
        if now_position > position:
            position, moved_at_s = now_position, time.monotonic()
        still_s = time.monotonic() - moved_at_s
        if on_still is not None and still_s > _STILL_S:
            on_still(partition)
        if still_s > stall_s:
            raise PartitionStalled(
                f"{partition.topic} partition {partition.partition}: the last stable offset stays at {position}, below"
                f" the high watermark {end_offset}, for {stall_s:g} s: a transaction that is not the ledger's is open"
                " in it; find its producer with `kafka-transactions.sh find-hanging` and abort it"
            )
        await asyncio.sleep(0)

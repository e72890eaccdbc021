"""The owner of a journal: fence, restore, seek, then read, decide and write, each write one transaction.

The same order as the ledger's (`debit/partition_io.py`). Nothing else writes what it decides; fenced or failed it lets
go and takes over again from the journal, if the group still says that the partition is its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from pipeline.base import metrics_io as metrics
from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.kafka_io import KafkaClients, end_tasks, stop_clients
from pipeline.base.lag_io import Progress
from pipeline.base.membership_io import Membership
from pipeline.base.record import NO_HEADERS, Consumed
from pipeline.base.settings_io import Settings
from pipeline.emit.journal import Desk
from pipeline.emit.publish_io import publish

log = structlog.get_logger(__name__)

_FETCH_WAIT_MS = 1_000
_FETCH_RECORDS_MAX = 5_000
_BACKOFF_S_MAX = 30.0
# An input without anything for this owner moves the checkpoint this often: a restart reads 10 s of it again.
_CHECKPOINT_INTERVAL_S = 10.0
_PRODUCER_AGE_S_MAX = 6 * 3600  # as the ledger's


class JournalLost(Exception):
    """What the owner holds in memory is no longer what its journal says: it begins anew from the journal."""


class JournalWriter:
    """Writes what a desk has changed; one transaction at a time."""

    def __init__(self, producer: AIOKafkaProducer, journal: TopicPartition, desk: Desk, timeout_s: float) -> None:
        self._producer = producer
        self._journal = journal
        self._desk = desk
        self._timeout_s = timeout_s
        self._writing = asyncio.Lock()
        self._has_failed = False

    async def write(self, *, is_due: bool = True) -> bool:
        """Returns when every change until now is committed; False: there was none, and no checkpoint `is_due`."""
        async with self._writing:
            if self._has_failed:  # what that write lost would be missing under a checkpoint that says it was read
                raise JournalLost("an earlier write of this owner failed")
            changes = self._desk.changes()
            if not changes and not is_due:
                return False
            changes.append(self._desk.progress.change())
            now_ms = time.time_ns() // 1_000_000
            messages = [(key, value, now_ms, NO_HEADERS) for key, value in changes]
            place = (self._journal.topic, self._journal.partition)
            self._has_failed = True
            await publish(self._producer, {place: messages}, timeout_s=self._timeout_s)
            self._has_failed = False
            return True


Work = Callable[[Desk, JournalWriter], Awaitable[None]]
"""What an owner does beside reading; runs until it is cancelled."""


class JournalOwner:
    """Owns partition `number` of the journal and reads `inputs`. `work` may act on what the desk decided.

    `told`: the place whose position the group is told, for lag tools; the position that counts is in the journal.
    """

    def __init__(
        self,
        number: int,
        *,
        role: str,
        journal: str,
        inputs: Sequence[TopicPartition],
        told: TopicPartition,
        settings: Settings,
        clients: KafkaClients,
        membership: Callable[[], Membership],
        make_desk: Callable[[], Desk],
        work: Work | None = None,
    ) -> None:
        self.number = number
        self._role = role
        self._journal = TopicPartition(settings.topic(journal), number)
        self._inputs = [*inputs, self._journal]
        self._told = told
        self._settings = settings
        self._clients = clients
        self._membership = membership
        self._make_desk = make_desk
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._progress: dict[TopicPartition, Progress] = {}
        self._released = asyncio.Event()
        self._released.set()
        self._log = log.bind(role=role, partition=number)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"{self._role}-{self.number}")

    async def hold(self) -> None:
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    async def close(self) -> None:
        if self._task is not None:
            await end_tasks([self._task])

    def progress(self) -> Iterable[Progress]:
        return self._progress.values()

    async def _run(self) -> None:
        failures = 0
        while True:
            started_s = time.monotonic()
            try:
                await self._own()
            except Exception as error:
                metrics.EFFECT_FAILURES.labels(self._role).inc()
                failures = 1 if time.monotonic() - started_s > _BACKOFF_S_MAX else failures + 1
                self._log.warning("journal_dropped", error=repr(_first(error)))
            delay_s = min(_BACKOFF_S_MAX, 0.5 * 2 ** min(failures, 10))
            await asyncio.sleep(delay_s)
            # Taking over again before the group has spoken would fence the rightful owner.
            while not await self._membership().confirm(self.number):  # noqa: ASYNC110
                await asyncio.sleep(delay_s)

    async def _own(self) -> None:
        producer = self._clients.transactional_producer(f"{self._settings.group(self._role)}-{self.number}")
        consumer = self._clients.reader()
        try:
            await producer.start()
            desk = self._make_desk()
            await self._restore(desk)
            await consumer.start()
            consumer.assign(self._inputs)
            await self._seek(consumer, desk)
            writer = JournalWriter(producer, self._journal, desk, self._settings.transaction_timeout_ms / 1000)
            self._log.info("journal_restored", next_offsets=desk.progress.next_offsets)
            async with asyncio.TaskGroup() as group:
                working = group.create_task(_endless(self._work(desk, writer))) if self._work is not None else None
                await self._read(consumer, desk, writer)
                if working is not None:
                    working.cancel()
        finally:
            self._progress.clear()
            await stop_clients(consumer, producer)

    async def _restore(self, desk: Desk) -> None:
        def take(records: list[ConsumerRecord]) -> None:
            for record in records:
                if record.key == CHECKPOINT_KEY:
                    desk.progress.load(record.value)
                elif record.key is not None:
                    desk.load(record.key, record.value)

        await self._clients.read_whole(self._journal, take)

    async def _seek(self, consumer: AIOKafkaConsumer, desk: Desk) -> None:
        for place, beginning in (await consumer.beginning_offsets(self._inputs)).items():
            wanted = desk.progress.next_offsets.get(self._name(place), 0)
            if place != self._journal and 0 < wanted < beginning:
                self._log.error(
                    "results_trimmed",
                    topic=place.topic,
                    missing=beginning - wanted,
                    hint="retention took records before this role had read them: see docs/runbook.md, trimmed results",
                )
            consumer.seek(place, max(beginning, wanted))

    async def _read(self, consumer: AIOKafkaConsumer, desk: Desk, writer: JournalWriter) -> None:
        started_s = time.monotonic()
        checkpoint_at_s = started_s + _CHECKPOINT_INTERVAL_S
        while time.monotonic() - started_s < _PRODUCER_AGE_S_MAX:
            try:
                fetched = await consumer.getmany(timeout_ms=_FETCH_WAIT_MS, max_records=_FETCH_RECORDS_MAX)
            except OffsetOutOfRangeError:
                await self._seek(consumer, desk)
                continue
            positions = {self._name(place): await consumer.position(place) for place in self._inputs}
            await self._released.wait()
            # No await from here to the offsets: `work` writes too, and events without their offsets come twice.
            for records in fetched.values():
                taken = [Consumed(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value or b"") for r in records]
                desk.take(taken, time.time_ns() // 1_000_000)
                metrics.EFFECTS_HANDLED.labels(self._role).inc(len(taken))
            has_moved = desk.progress.next_offsets != positions
            desk.progress.next_offsets = positions
            is_due = has_moved and time.monotonic() >= checkpoint_at_s
            if await writer.write(is_due=is_due):
                checkpoint_at_s = time.monotonic() + _CHECKPOINT_INTERVAL_S
            told = Progress(self._told, positions[self._name(self._told)])
            self._progress[self._told] = told
            if has_moved:
                self._membership().move(told.partition, told.next_offset)

    def _name(self, place: TopicPartition) -> str:
        return f"{place.topic.removeprefix(self._settings.topic_prefix)}:{place.partition}"


async def _endless(work: Awaitable[None]) -> None:
    await work
    raise RuntimeError("the work of a journal's owner ended by itself")


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

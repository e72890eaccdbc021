"""The owner of one partition of the output topics, for a role other than the ledger: read, effect, then position.

Effects happen at least once and are harmless by identity. The position is committed by the membership alone, after
the effect, so an owner that slept through a rebalance cannot move it back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from pipeline.base import metrics_io as metrics
from pipeline.base.kafka_io import KafkaClients, end_tasks, stop_clients
from pipeline.base.lag_io import Progress
from pipeline.base.membership_io import Membership
from pipeline.base.record import Consumed
from pipeline.base.settings_io import Settings

log = structlog.get_logger(__name__)

_FETCH_WAIT_MS = 1_000
_EMBEDDED_WAIT_MS = 50
_FETCH_RECORDS_MAX = 5_000
_BACKOFF_S_MAX = 30.0


class Delivery(NamedTuple):
    """A batch on its way through a role's agent; `done` resolves when the effect is durable, or with its rest."""

    records: Sequence[Consumed]
    done: asyncio.Future[Awaitable[None] | None]


class _Handled(NamedTuple):
    """Records that were handled: from where, the position after them, and what must end before it may be committed."""

    begin: Progress
    next_offset: int
    rest: asyncio.Future[None] | None


class DownstreamPartition:
    """Owns partition `number` of each of the role's topics; `deliver` puts a Delivery before the role's agent."""

    def __init__(
        self,
        number: int,
        *,
        role: str,
        topics: Sequence[str],
        rest_is_lag: bool,
        settings: Settings,
        clients: KafkaClients,
        membership: Callable[[], Membership],
        deliver: Callable[[Delivery], Awaitable[None]],
    ) -> None:
        self.number = number
        self._role = role
        self._rest_is_lag = rest_is_lag
        self._is_embedded = settings.embedded_broker
        self._topics = [TopicPartition(settings.topic(topic), number) for topic in topics]
        self._clients = clients
        self._membership = membership
        self._deliver = deliver
        self._tasks: list[asyncio.Task[None]] = []
        self._progress: dict[TopicPartition, Progress] = {}
        self._is_closing = False
        self._released = asyncio.Event()
        self._released.set()

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run(topic), name=f"{self._role}-{topic}") for topic in self._topics]

    async def hold(self) -> None:
        # An effect that runs may end after this: it is harmless, and only the membership moves the position.
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    async def close(self) -> None:
        self._is_closing = True
        await end_tasks(self._tasks)

    def progress(self) -> Iterable[Progress]:
        return self._progress.values()

    async def _run(self, topic: TopicPartition) -> None:
        failures = 0
        while not self._is_closing:
            consumer = self._clients.reader()
            handled: deque[_Handled] = deque()
            try:
                await consumer.start()
                await self._seek(consumer, topic)
                while not self._is_closing:
                    has_handled = await self._one_batch(consumer, topic, handled)
                    failures = 0 if has_handled else failures
                    self._move(topic, handled)
            except Exception as error:
                metrics.EFFECT_FAILURES.labels(self._role).inc()
                failures += 1
                log.warning(
                    "effect_failed", role=self._role, topic=topic.topic, partition=topic.partition, error=repr(error)
                )
            finally:
                self._progress.pop(topic, None)
                for each in handled:
                    if each.rest is not None:
                        each.rest.cancel()
                await stop_clients(consumer)
            await asyncio.sleep(min(_BACKOFF_S_MAX, 0.5 * 2 ** min(failures, 10)))

    async def _seek(self, consumer: AIOKafkaConsumer, topic: TopicPartition) -> None:
        consumer.assign([topic])
        beginning = (await consumer.beginning_offsets([topic]))[topic]
        committed = await self._membership().committed(topic)
        if committed is not None and committed < beginning:
            log.error(
                "results_trimmed",
                role=self._role,
                topic=topic.topic,
                partition=topic.partition,
                missing=beginning - committed,
                hint="retention took records before this role had handled them: see docs/runbook.md, trimmed results",
            )
        consumer.seek(topic, max(beginning, committed or 0))

    async def _one_batch(self, consumer: AIOKafkaConsumer, topic: TopicPartition, handled: deque[_Handled]) -> bool:
        try:
            fetched = await self._fetch(consumer, topic)
        except OffsetOutOfRangeError:
            await self._seek(consumer, topic)
            return False
        next_offset = await consumer.position(topic)
        records = [Consumed(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value or b"") for r in fetched]
        if not records:
            self._show(topic, handled, Progress(topic, next_offset))
            return False
        begin = Progress(topic, records[0].offset, records[0].timestamp_ms)
        self._show(topic, handled, begin)
        await self._released.wait()
        done: asyncio.Future[Awaitable[None] | None] = asyncio.get_running_loop().create_future()
        await self._deliver(Delivery(records, done))
        rest = await done
        if rest is None and handled and handled[-1].rest is None:
            handled.pop()  # however long the first waits, only those that wait themselves take room
        handled.append(_Handled(begin, next_offset, None if rest is None else asyncio.ensure_future(rest)))
        self._show(topic, handled, Progress(topic, next_offset))
        metrics.EFFECTS_HANDLED.labels(self._role).inc(len(records))
        return True

    def _show(self, topic: TopicPartition, handled: deque[_Handled], progress: Progress) -> None:
        """How far it is: `progress`, or where the oldest rest began that is lag."""
        is_open = (each.begin for each in handled if each.rest is not None and not each.rest.done())
        self._progress[topic] = next(is_open, progress) if self._rest_is_lag else progress

    def _move(self, topic: TopicPartition, handled: deque[_Handled]) -> None:
        """Moves the position past what has ended, in order. Raises what a rest raised."""
        while handled and ((rest := handled[0].rest) is None or rest.done()):
            if rest is not None:
                rest.result()
            self._membership().move(topic, handled.popleft().next_offset)

    async def _fetch(self, consumer: AIOKafkaConsumer, topic: TopicPartition) -> list[ConsumerRecord]:
        """What is there. The embedded broker gives one batch at a time, so it is asked again: an insert for every
        slice held the loader at 300 rows a second."""
        records: list[ConsumerRecord] = []
        more = (await consumer.getmany(topic, timeout_ms=_FETCH_WAIT_MS, max_records=_FETCH_RECORDS_MAX)).get(topic)
        while more:
            records += more
            room = _FETCH_RECORDS_MAX - len(records)
            if room <= 0 or not self._is_embedded:
                break
            more = (await consumer.getmany(topic, timeout_ms=_EMBEDDED_WAIT_MS, max_records=room)).get(topic)
        return records

"""Who owns which partition: one group consumer that never reads, and one owner object for each partition.

At a rebalance everybody holds at the boundary of a slice; what is still ours goes on with its state. That is safe:
had somebody else owned it in between, our producer's epoch is stale and the next transaction fails.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from mode import Service

from pipeline.base.kafka_io import KafkaClients, stop_clients
from pipeline.base.lag_io import LagGauges, Progress
from pipeline.base.metrics_io import BROKER_AWAY, OWNED_PARTITIONS, REBALANCES

log = structlog.get_logger(__name__)

_POLL_MS = 500
# One request for all positions that moved: 36 partitions of three topics would be 36 requests otherwise.
_COMMIT_INTERVAL_S = 0.1
_LAG_INTERVAL_S = 2.0
_LAG_ANSWER_S_MAX = 5.0
_LAST_COMMIT_S_MAX = 1.5


class Owner(Protocol):
    """One partition's owner. After `hold` returns it writes nothing until `release`."""

    def start(self) -> None: ...

    async def hold(self) -> None: ...

    def release(self) -> None: ...

    async def close(self) -> None: ...

    def progress(self) -> Iterable[Progress]:
        """Where it is, for each topic that it reads now; nothing while it takes over or is parked."""


class Membership(Service, ConsumerRebalanceListener):  # type: ignore[misc]  # mode and aiokafka are untyped
    """Membership of one role's group over the same partitions of all `topics`.

    `make_owner(partition)` is called for each partition that becomes ours. Positions are committed here only: the
    commit carries the group's generation, so an owner that was paused and replaced cannot move them.
    """

    def __init__(
        self,
        *,
        role: str,
        group: str,
        topics: Sequence[str],
        clients: KafkaClients,
        make_owner: Callable[[int], Owner],
        **service_options: Any,  # mode's beacon and loop
    ) -> None:
        super().__init__(**service_options)
        self.role = role
        self.group = group
        self.topics = tuple(topics)
        self.owners: dict[int, Owner] = {}
        self._clients = clients
        self._make_owner = make_owner
        self._consumer: AIOKafkaConsumer | None = None
        self._moved: dict[TopicPartition, int] = {}
        self._committing = asyncio.Lock()
        self._lag = LagGauges(role)
        self._ends: dict[TopicPartition, int] = {}

    async def on_start(self) -> None:
        self._consumer = self._clients.membership_consumer(self.group)
        await self._consumer.start()
        self._consumer.subscribe(self.topics, listener=self)

    async def on_stop(self) -> None:
        await self._hold_all()
        # A client whose broker is away tries for ever; what is not committed is done again, and harmless.
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_COMMIT_S_MAX):
                await self.commit_moved()
        # Held owners write nothing more, and the next ones fence them: the group need not wait for clients to close.
        leaving = [] if self._consumer is None else [stop_clients(self._consumer)]
        await asyncio.gather(*leaving, self._close_owners(list(self.owners)))

    @Service.task  # type: ignore[untyped-decorator]
    async def _poll(self) -> None:
        turned_s = time.monotonic()
        while not self.should_stop:
            assert self._consumer is not None
            silent_s, turned_s = time.monotonic() - turned_s, time.monotonic()
            if silent_s > self._clients.session_timeout_s:
                hint = "it stood still: others have taken its partitions over, and its next writes are fenced"
                log.warning("worker_was_silent", role=self.role, seconds=round(silent_s, 1), hint=hint)
            try:
                await self._consumer.getmany(timeout_ms=_POLL_MS)
            except KafkaError as error:
                log.warning("membership_poll_failed", role=self.role, error=repr(error))
                await self.sleep(1)

    @Service.task  # type: ignore[untyped-decorator]
    async def _commit(self) -> None:
        while not self.should_stop:
            await self.sleep(_COMMIT_INTERVAL_S)
            await self.commit_moved()

    @Service.task  # type: ignore[untyped-decorator]
    async def _watch_lag(self) -> None:
        while not self.should_stop:
            await self.sleep(_LAG_INTERVAL_S)
            if self.should_stop:
                return
            wanted = [TopicPartition(topic, number) for topic in self.topics for number in self.owners]
            progress = [each for owner in self.owners.values() for each in owner.progress()]
            told = {each.partition for each in progress}
            try:
                async with asyncio.timeout(_LAG_ANSWER_S_MAX):
                    taken_over = [each for each in wanted if each not in told and not self._lag.knows(each)]
                    progress += [Progress(each, await self.committed(each) or 0) for each in taken_over]
                    if wanted:
                        assert self._consumer is not None
                        self._ends = dict(await self._consumer.end_offsets(wanted))
                BROKER_AWAY.labels(self.role).set(0)
            except (KafkaError, TimeoutError) as error:
                log.warning("broker_away", role=self.role, error=repr(error))
                BROKER_AWAY.labels(self.role).set(1)
            self._lag.show(wanted, progress, self._ends, time.time())

    def move(self, partition: TopicPartition, next_offset: int) -> None:
        """Notes a position to commit soon."""
        self._moved[partition] = next_offset

    async def commit_moved(self) -> None:
        """Commits noted positions. One that is no longer ours is dropped: its new owner does that work again."""
        async with self._committing:
            if not self._moved or self._consumer is None:
                return
            moved, self._moved = self._moved, {}
            try:
                await self._consumer.commit(moved)
            except (CommitFailedError, IllegalStateError) as error:
                log.warning("commit_refused", role=self.role, partitions=len(moved), error=repr(error))
            except KafkaError as error:
                log.warning("commit_failed", role=self.role, error=repr(error))
                self._moved = moved | self._moved

    async def confirm(self, partition: int) -> bool:
        """True when the group still says that the partition is ours, asked of the coordinator now."""
        if self._consumer is None:
            return False
        first = TopicPartition(self.topics[0], partition)
        try:
            committed = await self._consumer.committed(first)
            await self._consumer.commit({first: committed or 0})
        except (KafkaError, IllegalStateError):
            return False
        return True

    async def committed(self, partition: TopicPartition) -> int | None:
        """The group's position, None when there is none yet."""
        assert self._consumer is not None
        offset = await self._consumer.committed(partition)
        return None if offset is None else int(offset)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        REBALANCES.labels(self.role).inc()
        await self._guarded(self._revoke)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        assert self._consumer is not None
        self._consumer.pause(*assigned)
        await self._guarded(self._assign, {tp.partition for tp in assigned if tp.topic == self.topics[0]})

    async def _guarded(self, step: Callable[..., Any], *arguments: Any) -> None:
        # aiokafka only logs what a listener raises, and the partition would stay without an owner.
        try:
            await step(*arguments)
        except Exception as error:
            await self.crash(error)

    async def _revoke(self) -> None:
        await self._hold_all()
        await self.commit_moved()

    async def _assign(self, numbers: set[int]) -> None:
        gone = [number for number in self.owners if number not in numbers]
        if not self.should_stop:  # else on_stop ends the owners there are; nobody would end new ones
            kept = numbers & self.owners.keys()
            for number in kept:  # before the others are closed, which takes their clients a while
                self.owners[number].release()
            for number in sorted(numbers - kept):
                self.owners[number] = self._make_owner(number)
                self.owners[number].start()
            log.info("partitions_assigned", role=self.role, owned=sorted(numbers), kept=len(kept))
        await self._close_owners(gone)

    async def _hold_all(self) -> None:
        await asyncio.gather(*(owner.hold() for owner in self.owners.values()))

    async def _close_owners(self, numbers: Sequence[int]) -> None:
        closing = [self.owners.pop(number) for number in numbers]
        await asyncio.gather(*(owner.close() for owner in closing))
        # A position noted before the partition went could otherwise move its next owner's back.
        self._moved = {tp: offset for tp, offset in self._moved.items() if tp.partition not in numbers}
        OWNED_PARTITIONS.labels(self.role).set(len(self.owners))

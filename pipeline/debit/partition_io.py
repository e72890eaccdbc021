"""The owner of one partition: fence, restore, seek, then slice after slice, each one transaction.

Nothing else writes this partition's money. What it holds in memory is exactly what the credit table says: a slice is
decided on a copy and adopted only after its commit. Fenced, ambiguous or failed: it lets go of the partition, not of
the worker, and takes it over again from the credit table if the group still says that it is ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, InvalidProducerIdMapping, KafkaError, ProducerFenced

from pipeline.base import metrics_io as metrics
from pipeline.base.check_io import TopicCheck
from pipeline.base.kafka_io import KafkaClients, PartitionStalled, WorkerMustStop, end_tasks, stop_clients, together
from pipeline.base.lag_io import Progress
from pipeline.base.membership_io import Membership
from pipeline.base.record import InputRecord
from pipeline.base.reject import InvariantBroken
from pipeline.base.settings_io import Settings
from pipeline.base.topics import CDRS, COMMANDS, CREDIT_TABLE, OUTPUTS
from pipeline.debit.input_io import Input, InputTrimmed
from pipeline.debit.ledger import Ledger, Slice
from pipeline.debit.merge import merge
from pipeline.debit.restore_io import restore
from pipeline.debit.turns_io import Turn, Turns
from pipeline.emit.encode import Outputs
from pipeline.emit.publish_io import publish

log = structlog.get_logger(__name__)

_FENCED = (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping)
_FAILURES_BEFORE_PARKING = 3
_BACKOFF_S_FIRST, _BACKOFF_S_MAX = 0.5, 30.0
_STAND_POLL_S = 3.0
# aiokafka's sequence numbers wrap wrongly after 2^31 records: at 50,000 a second that is 12 hours.
_PRODUCER_AGE_S_MAX = 6 * 3600


class Decided(NamedTuple):
    """A slice, what it puts on the topics, and what it took to decide it."""

    slice: Slice
    outputs: Outputs
    cpu_s: float


class Decision(NamedTuple):
    """One slice on its way through the rating agent: what to decide, and where the answer goes."""

    ledger: Ledger
    records: list[InputRecord]
    answer: asyncio.Future[Decided]


class LedgerPartition:
    """Owns partition `number` of both inputs. `decide` puts a Decision before the rating agent."""

    def __init__(
        self,
        number: int,
        *,
        settings: Settings,
        clients: KafkaClients,
        membership: Callable[[], Membership],
        make_ledger: Callable[[int], Ledger],
        decide: Callable[[Decision], Awaitable[None]],
        turns: Turns,
        check: TopicCheck,
        on_fatal: Callable[[BaseException], Awaitable[None]],
    ) -> None:
        self.number = number
        self.restore_count = 0
        self.parked = False
        self.standing = ""
        """Why this partition waits for a person, "" when it does not."""
        self._settings = settings
        self._clients = clients
        self._membership = membership
        self._make_ledger = make_ledger
        self._decide = decide
        self._turns = turns
        self._check = check
        self._on_fatal = on_fatal
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._released = asyncio.Event()
        self._released.set()
        self._failed_at: tuple[int, int] | None = None
        self._failure_count = 0
        self._drop_count = 0
        self._closing = False
        self._in_slice = False
        self._position = (0, 0)
        self._table_end = 0
        self._reading: tuple[Ledger, Input, Input] | None = None
        self._deciding: Sequence[InputRecord] = ()
        self._us_per_record = 25.0
        self._log = log.bind(partition=number)

    # ---- what the membership asks for

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"ledger-{self.number}")

    async def hold(self) -> None:
        self._released.clear()
        async with self._writing:  # a slice that runs ends first
            return

    def release(self) -> None:
        self._released.set()

    async def close(self) -> None:
        await self.hold()
        self._closing = True
        if self._task is not None:
            await end_tasks([self._task])
        if self.parked:
            metrics.PARTITIONS_PARKED.dec()

    def progress(self) -> Iterable[Progress]:
        if self._reading is None:
            return
        ledger, commands, cdrs = self._reading
        for stream, is_command, next_offset in (
            (commands, True, ledger.next_offset_commands),
            (cdrs, False, ledger.next_offset_cdrs),
        ):
            oldest = next((record for record in self._deciding if record.is_command == is_command), None)
            yield stream.progress(next_offset, None if oldest is None else oldest.now_ms)

    # ---- the life of an owner

    async def _run(self) -> None:
        while True:
            try:
                await self._own()
            except (InvariantBroken, WorkerMustStop) as error:
                await self._on_fatal(error)
                return
            except InputTrimmed as error:
                await self._stand(error)
            except (Exception, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                if self._closing or (task is not None and task.cancelling()):
                    raise
                if self._must_park(error):
                    return
                self._drop_count += 1
            await self._back_off()

    async def _own(self) -> None:
        started_s = time.monotonic()
        producer = self._clients.transactional_producer(f"{self._settings.group('ledger')}-{self.number}")
        commands = self._input(COMMANDS, is_command=True)
        cdrs = self._input(CDRS, is_command=False)
        try:
            await producer.start()  # 1 fence
            ledger = self._make_ledger(self.number)
            restored, *_ = await together(  # what the loop needs connects meanwhile, and reads nothing
                restore(ledger, clients=self._clients, settings=self._settings),  # 2
                self._check.look_again(),
                commands.connect(),
                cdrs.connect(),
                *(producer.partitions_for(self._settings.topic(name)) for name in OUTPUTS),
            )
            checkpoint, self._table_end = restored
            await self._check.against_checkpoint(checkpoint.partition_count, checkpoint.topic_ids)
            await together(
                commands.seek(checkpoint.next_offset_commands),  # 3
                cdrs.seek(checkpoint.next_offset_cdrs),
            )
            self.restore_count += 1
            metrics.RESTORES.inc()
            metrics.RESTORE_SECONDS.observe(time.monotonic() - started_s)
            self._log.info(
                "partition_restored",
                seconds=round(time.monotonic() - started_s, 3),
                records=ledger.state.record_count,
                applied_seq=checkpoint.applied_seq,
            )
            self._reading = (ledger, commands, cdrs)
            await self._slices(ledger, producer, commands, cdrs)  # 4
        except _FENCED as error:
            # Said here: the group may take the partition while the clients stop, and who is closed says nothing more.
            metrics.PARTITIONS_DROPPED.labels("fenced").inc()
            self._log.warning("partition_fenced", error=repr(error), hint="another worker has taken it over")
            raise
        finally:
            self._reading, self._deciding = None, ()
            for stream in (commands, cdrs):
                stream.cancel()
            await stop_clients(commands.consumer, cdrs.consumer, producer)

    def _input(self, name: str, *, is_command: bool) -> Input:
        partition = TopicPartition(self._settings.topic(name), self.number)
        checks_time = not self._settings.embedded_broker
        return Input(partition, is_command=is_command, clients=self._clients, checks_time=checks_time)

    async def _slices(self, ledger: Ledger, producer: AIOKafkaProducer, commands: Input, cdrs: Input) -> None:
        renew_at_s = time.monotonic() + _PRODUCER_AGE_S_MAX
        while time.monotonic() < renew_at_s:
            started_s = time.monotonic()
            records = await self._next_records(commands, cdrs)
            self._deciding = records
            while records:
                await self._released.wait()
                waited_s = time.perf_counter()
                # A turn first: a slice that waits for other partitions' turns has not begun, and holds up nobody.
                async with self._turns.one() as turn, self._writing:
                    if self._released.is_set():
                        records += await self._at_hand(commands, cdrs, self._count_max() - len(records))
                        metrics.SLICE_SECONDS.labels("wait").observe(time.perf_counter() - waited_s)
                        await self._one_slice(ledger, producer, records, turn)
                        break
            if records and len(records) < self._count_max():
                await asyncio.sleep(max(0.0, self._settings.linger_ms / 1000 - (time.monotonic() - started_s)))

    async def _next_records(self, commands: Input, cdrs: Input) -> list[InputRecord]:
        """What is at hand of both inputs; waits up to a second for the first record."""
        records = await self._at_hand(commands, cdrs, self._count_max())
        if not records and (fetches := [fetch for fetch in (commands.fetch(), cdrs.fetch()) if fetch is not None]):
            await asyncio.wait(fetches, return_when=asyncio.FIRST_COMPLETED)
            records = await self._at_hand(commands, cdrs, self._count_max())
        return records

    async def _at_hand(self, commands: Input, cdrs: Input, count_max: int) -> list[InputRecord]:
        """What has arrived of both inputs, in order."""
        await commands.fetch_now()  # commands are asked first
        await cdrs.fetch_now()
        return merge(
            commands.ready,
            cdrs.ready,
            count_max=count_max,
            commands_at_end=commands.at_end(),
            cdrs_at_end=cdrs.at_end(),
        )

    def _count_max(self) -> int:
        by_time = int(self._settings.slice_cpu_ms * 1000 / self._us_per_record)
        return max(1, min(self._settings.slice_records_max, by_time))

    async def _one_slice(
        self, ledger: Ledger, producer: AIOKafkaProducer, records: list[InputRecord], turn: Turn
    ) -> None:
        self._position, self._in_slice = (ledger.next_offset_commands, ledger.next_offset_cdrs), True
        answer: asyncio.Future[Decided] = asyncio.get_running_loop().create_future()
        await self._decide(Decision(ledger, records, answer))
        decided, outputs, cpu_s = await answer
        decided_s = time.perf_counter()
        turn.committing()
        await publish(
            producer,
            outputs.by_partition(self._settings.topic_prefix, self.number),
            timeout_s=self._settings.transaction_timeout_ms / 1000,
        )
        ledger.adopt(decided)
        self._deciding = ()
        self._failure_count = self._drop_count = 0
        self._in_slice = False
        # Its CPU alone: with the wait for other partitions' turns in it, slices became small when there was much to do.
        self._us_per_record += (cpu_s * 1e6 / len(records) - self._us_per_record) * 0.2
        for name, next_offset in ((CDRS, ledger.next_offset_cdrs), (COMMANDS, ledger.next_offset_commands)):
            self._membership().move(TopicPartition(self._settings.topic(name), self.number), next_offset)
        metrics.SLICE_SECONDS.labels("decide").observe(cpu_s)
        metrics.SLICE_SECONDS.labels("commit").observe(time.perf_counter() - decided_s)
        metrics.SLICE_RECORDS.observe(len(records))
        metrics.RECORDS_APPLIED.labels(str(self.number)).inc(len(records))
        outputs.count(metrics)

    # ---- when it fails

    async def _stand(self, gap: InputTrimmed) -> None:
        """Waits until `pstn ledger skip` has written a checkpoint; never fences, so as not to fence that one."""
        self.standing = str(gap)
        labels = (gap.topic, str(self.number))
        metrics.PARTITIONS_DROPPED.labels("trimmed").inc()
        metrics.INPUT_TRIMMED.labels(*labels).set(gap.count)
        self._log.critical("input_trimmed", error=str(gap), hint="see docs/runbook.md, input trimmed")
        table = TopicPartition(self._settings.topic(CREDIT_TABLE), self.number)
        try:
            while await self._end_of(table) <= self._table_end:  # noqa: ASYNC110  # only the broker can tell
                await asyncio.sleep(_STAND_POLL_S)
        finally:
            self.standing = ""
            metrics.INPUT_TRIMMED.remove(*labels)

    async def _end_of(self, table: TopicPartition) -> int:
        try:
            return await self._clients.high_watermark(table)
        except (KafkaError, OSError):  # it is away: nobody has written anything
            return 0

    async def _back_off(self) -> None:
        """Waits, and goes on only when the group says that the partition is still ours.

        A paused owner wakes to a fence; taking over again before the group has spoken would fence the rightful one.
        """
        delay_s = min(_BACKOFF_S_MAX, _BACKOFF_S_FIRST * 2 ** min(self._drop_count, 10))
        await asyncio.sleep(delay_s)
        while not await self._membership().confirm(self.number):  # noqa: ASYNC110  # only the coordinator can tell
            await asyncio.sleep(delay_s)

    def _must_park(self, error: BaseException) -> bool:
        """Notes a failure; True when it is the third at the same offsets."""
        if isinstance(error, _FENCED):
            return False
        cause = "stalled" if isinstance(error, PartitionStalled) else "failed"
        metrics.PARTITIONS_DROPPED.labels(cause).inc()
        self._log.error("partition_dropped", cause=cause, error=str(error) or repr(error))
        if not self._in_slice:
            return False
        same = self._position == self._failed_at
        self._failed_at, self._failure_count = self._position, self._failure_count + 1 if same else 1
        if self._failure_count < _FAILURES_BEFORE_PARKING:
            return False
        self.parked, self.standing = True, f"parked after three failures at offsets {self._position}: {error!r}"
        metrics.PARTITIONS_PARKED.inc()
        self._log.critical(
            "partition_parked",
            next_offsets=self._position,
            error=repr(error),
            hint="see docs/runbook.md, parked partition",
        )
        return True

"""One input topic of one owned partition: fetches ahead, checks what the broker stamped, hands out records."""

from __future__ import annotations

import asyncio
from collections import deque

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from pipeline.base.kafka_io import KafkaClients, WorkerMustStop, connect
from pipeline.base.lag_io import Progress
from pipeline.base.record import FORWARDED_FROM, InputRecord
from pipeline.base.reject import InvariantBroken

_LOG_APPEND_TIME = 1
_FETCH_WAIT_MS = 1_000
_READY_COUNT_MAX = 2_000
"""Records at hand: about 2 MB a partition; a batch that was compressed well holds many more."""


class InputTrimmed(Exception):
    """Retention took records that this partition never applied; the message says which, and what to do.

    Nothing but a person can decide that they are lost, so only `pstn ledger skip` moves the partition on.
    """

    def __init__(self, topic: str, partition: int, next_offset: int, beginning: int) -> None:
        super().__init__(
            f"topic {topic} partition {partition}: records {next_offset} to {beginning - 1} were deleted before they "
            "were applied; those calls are lost here: have the switches send them again, then accept the gap with "
            "`pstn ledger skip`"
        )
        self.topic = topic
        self.count = beginning - next_offset
        """Offsets that are gone; markers of transactions are among them."""


class Input:
    """Reads one topic partition from the checkpoint on.

    A consumer of its own for each input: two topics in one consumer, one idle and one busy, halve its speed.
    """

    def __init__(
        self, partition: TopicPartition, *, is_command: bool, clients: KafkaClients, checks_time: bool
    ) -> None:
        self.ready: deque[InputRecord] = deque()
        self._partition = partition
        self._is_command = is_command
        self._checks_time = checks_time
        self.consumer: AIOKafkaConsumer = clients.reader()
        self._fetching: asyncio.Task[None] | None = None
        self._last_offset = -1
        self._position = 0
        self._beginning = 0
        self._end = 0
        """Of what is committed, asked at the seek."""

    async def connect(self) -> None:
        """Before anything else; nothing is read."""
        self._beginning = await connect(self.consumer, self._partition)

    async def seek(self, next_offset: int) -> None:
        """To the checkpoint; InputTrimmed when retention has taken records that were never applied."""
        if self._beginning > next_offset:
            raise self._trimmed(next_offset, self._beginning)
        self._last_offset, self._position = next_offset - 1, next_offset
        self._end = (await self.consumer.end_offsets([self._partition]))[self._partition]
        self.consumer.assign([self._partition])
        self.consumer.seek(self._partition, next_offset)

    def cancel(self) -> None:
        """Gives up the running fetch; `consumer` is then to be stopped."""
        if self._fetching is not None:
            self._fetching.cancel()

    def fetch(self) -> asyncio.Task[None] | None:
        """The running fetch; starts one when nothing is at hand. None while something is."""
        self._collect()
        if self._fetching is None and not self.ready:
            self._fetching = asyncio.create_task(self._fetch(_FETCH_WAIT_MS))
        return self._fetching

    async def fetch_now(self) -> None:
        """Takes what has already arrived, without waiting for more."""
        self._collect()
        if self._fetching is None and not self.ready:
            await self._fetch(0)

    def at_end(self) -> bool:
        """True when the broker has nothing more that is committed, as far as the last fetch told."""
        stable = self.consumer.last_stable_offset(self._partition)
        if stable is None or stable < 0:
            stable = self.consumer.highwater(self._partition)
        if stable is None:
            # An input where nothing comes answers its first fetch after half a second only; calls waited for that.
            # Without any answer at a cold start calls would overtake the commands that open their accounts.
            stable = self._end
        # The consumer's position has stepped over transaction markers, which the last record's offset has not.
        return bool(self._position >= stable)

    def progress(self, next_offset: int, deciding_ms: int | None) -> Progress:
        """`next_offset`: after the last record applied; `deciding_ms`: time of the oldest record being decided."""
        highwater = self.consumer.highwater(self._partition)
        stable = self.consumer.last_stable_offset(self._partition)
        unstable_count = None
        if highwater is not None and stable is not None and stable >= 0:
            unstable_count = max(0, highwater - stable)
        if self._last_offset < next_offset:  # all that was read is applied: the position has stepped over markers
            return Progress(self._partition, max(self._position, next_offset), None, unstable_count)
        oldest_ms = self.ready[0].now_ms if deciding_ms is None and self.ready else deciding_ms
        return Progress(self._partition, next_offset, oldest_ms, unstable_count)

    def _collect(self) -> None:
        if self._fetching is not None and self._fetching.done():
            finished, self._fetching = self._fetching, None
            finished.result()

    async def _fetch(self, wait_ms: int) -> None:
        try:
            fetched = await self.consumer.getmany(self._partition, timeout_ms=wait_ms, max_records=_READY_COUNT_MAX)
        except OffsetOutOfRangeError as error:
            beginning = (await self.consumer.beginning_offsets([self._partition]))[self._partition]
            raise self._trimmed(self._last_offset + 1, beginning) from error
        self._position = await self.consumer.position(self._partition)
        for record in fetched.get(self._partition, ()):
            self.ready.append(self._checked(record))

    def _checked(self, record: ConsumerRecord) -> InputRecord:
        # Holes are normal (markers, compaction); going back is not.
        if record.offset <= self._last_offset:
            raise InvariantBroken(
                f"{record.topic}-{record.partition}: offset {record.offset} after {self._last_offset}"
            )
        if self._checks_time and record.timestamp_type != _LOG_APPEND_TIME:
            raise WorkerMustStop(
                f"topic {record.topic} partition {record.partition} offset {record.offset} carries the sender's time: "
                "set message.timestamp.type=LogAppendTime with `pstn topics create --repair`"
            )
        self._last_offset = record.offset
        forwarded_from = next(
            (v.decode("utf-8", "replace") for key, v in record.headers if key == FORWARDED_FROM), None
        )
        return InputRecord(
            self._is_command,
            record.topic,
            record.partition,
            record.offset,
            record.timestamp,
            record.value or b"",
            forwarded_from,
        )

    def _trimmed(self, next_offset: int, beginning: int) -> InputTrimmed | WorkerMustStop:
        """On the embedded broker, which is this process's own and forgets on purpose, the worker ends."""
        gap = InputTrimmed(self._partition.topic, self._partition.partition, next_offset, beginning)
        return gap if self._checks_time else WorkerMustStop(str(gap))

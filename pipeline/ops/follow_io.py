"""Reads the credit table and the rejects of the last hour beside the workers, and counts.

A thread of its own: librdkafka waits outside of Python. Only the balance's sign is kept of an account.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from pipeline.base.avro import DecodeError, codec
from pipeline.base.settings_io import Settings
from pipeline.base.topics import CREDIT_TABLE, REJECTED
from pipeline.debit.stored import decode_account
from pipeline.ops.outside_io import outside_consumer
from pipeline.ops.status import REJECTS_SHOWN_MS, Followed

_ANSWER_S_MAX = 10
_BATCH_RECORDS = 2_000
# A flood of rejects is not read to its end: the reasons show themselves in the first.
_REJECTS_READ_MAX = 20_000
_ZERO, _SUSPENDED = 1, 2


class Follower:
    """Runs inside `with`. `followed()` may be asked at any time, `wait(…)` for the whole of what was there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._table, self._rejects_topic = settings.topic(CREDIT_TABLE), settings.topic(REJECTED)
        self._flags: dict[bytes, int] = {}
        self._rejects: Counter[tuple[int, str]] = Counter()
        self._rejects_read = 0
        self._begin: dict[tuple[str, int], int] = {}
        self._end: dict[tuple[str, int], int] = {}
        self._at: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._whole = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status-follower", daemon=True)
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(_ANSWER_S_MAX)

    def wait(self, timeout_s: float) -> bool:
        """True when all that was there at the beginning is read. Raises what the reading failed with."""
        whole = self._whole.wait(timeout_s)
        if self.error is not None:
            raise self.error
        return whole

    def followed(self) -> Followed:
        """The counts so far."""
        with self._lock:
            since_minute = int((time.time() * 1000 - REJECTS_SHOWN_MS) // 60_000)
            rejects: Counter[str] = Counter()
            for (minute, reason), count in self._rejects.items():
                if minute >= since_minute:
                    rejects[reason] += count
            flags = list(self._flags.values())
            share = self._share()
        return Followed(
            share,
            len(flags),
            sum(1 for flag in flags if flag & _ZERO),
            sum(1 for flag in flags if flag & _SUSPENDED),
            rejects,
            self._rejects_read >= _REJECTS_READ_MAX,
        )

    def _share(self) -> float:
        if self._whole.is_set():
            return 1.0
        total = sum(self._end[place] - begin for place, begin in self._begin.items())
        done = sum(self._at.get(place, begin) - begin for place, begin in self._begin.items())
        return min(0.999, done / total) if total else 0.0

    def _run(self) -> None:
        consumer = Consumer(outside_consumer(self._settings))
        try:
            self._assign(consumer)
            while not self._stop.is_set():
                messages = consumer.consume(num_messages=_BATCH_RECORDS, timeout=0.2)
                with self._lock:
                    for message in messages:
                        self._take(message)
                    is_behind = any(self._at[place] < end for place, end in self._end.items())
                if not is_behind:
                    self._whole.set()
        except (KafkaException, DecodeError) as error:
            self.error = error
            self._whole.set()
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer) -> None:
        """The table from its beginning, the rejects from an hour ago."""
        count = len(consumer.list_topics(self._table, timeout=_ANSWER_S_MAX).topics[self._table].partitions)
        since_ms = int(time.time() * 1000) - REJECTS_SHOWN_MS
        rejects = [TopicPartition(self._rejects_topic, number, since_ms) for number in range(count)]
        starts = [
            *(TopicPartition(self._table, number) for number in range(count)),
            *consumer.offsets_for_times(rejects, timeout=_ANSWER_S_MAX),
        ]
        for place in starts:
            low, high = consumer.get_watermark_offsets(place, timeout=_ANSWER_S_MAX)
            key = (place.topic, place.partition)
            place.offset = low if place.topic == self._table else high if place.offset < 0 else place.offset
            self._begin[key], self._end[key], self._at[key] = place.offset, high, place.offset
        consumer.assign(starts)

    def _take(self, message: Message) -> None:
        place = (str(message.topic()), int(message.partition() or 0))
        if message.error() is not None:  # the end: markers behind the last record are stepped over
            self._at[place] = max(self._at[place], self._end[place])
            return
        self._at[place] = int(message.offset() or 0) + 1
        if message.topic() == self._table:
            self._take_account(message.key() or b"", message.value())
        elif self._rejects_read < _REJECTS_READ_MAX:
            self._rejects_read += 1
            reason = str(codec("rejected").decode(message.value() or b"")["reason"])
            self._rejects[message.timestamp()[1] // 60_000, reason] += 1

    def _take_account(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._flags.pop(key, None)
        elif codec("account").knows(value):
            account = decode_account(value)
            is_zero = account.is_funded and account.balance_micros <= 0
            self._flags[key] = (_ZERO if is_zero else 0) | (_SUSPENDED if account.is_suspended else 0)

"""The topics as anybody may read them: committed records only, kept here because retention may take them later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

INPUTS = ("cdrs", "account-commands")
TOPICS = (*INPUTS, "rated-calls", "account-events", "rejected", "credit-table")
_READ_S_MAX = 60


class Record(NamedTuple):
    partition: int
    offset: int
    now_ms: int
    key: bytes | None
    value: bytes | None
    is_forwarded: bool


class TopicsLog:
    """All records of a deployment's topics, by topic (without the prefix) and partition."""

    def __init__(self, bootstrap: str, prefix: str, partitions: int) -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix
        self.partitions = partitions
        self.records: dict[tuple[str, int], list[Record]] = {
            (topic, number): [] for topic in TOPICS for number in range(partitions)
        }

    def refresh(self, topics: tuple[str, ...] = TOPICS) -> int:
        """Reads what is new up to the last stable offset; how many records that were."""
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "nobody",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
                "log_level": 0,
            }
        )
        try:
            return sum(self._keep(message) for message in self._messages(consumer, topics))
        finally:
            consumer.close()

    def all(self, topic: str) -> Iterator[Record]:
        for number in range(self.partitions):
            yield from self.records[topic, number]

    def latest(self, number: int) -> dict[bytes, bytes]:
        """A partition's credit table: the latest value of each key."""
        found: dict[bytes, bytes] = {}
        for record in self.records["credit-table", number]:
            if record.value is None:
                found.pop(record.key or b"", None)
            else:
                found[record.key or b""] = record.value
        return found

    def _messages(self, consumer: Consumer, topics: tuple[str, ...]) -> Iterator[Message]:
        wanted = []
        for topic in topics:
            for number in range(self.partitions):
                known = self.records[topic, number]
                wanted.append(TopicPartition(self._prefix + topic, number, known[-1].offset + 1 if known else 0))
        consumer.assign(wanted)
        reading = {(each.topic, each.partition) for each in wanted}
        waited = 0
        while reading:
            messages = consumer.consume(1_000, timeout=0.5)
            waited = 0 if messages else waited + 1
            if waited > 2 * _READ_S_MAX:
                raise RuntimeError(f"{len(reading)} partitions do not come to their end")
            for message in messages:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    reading.discard((message.topic(), message.partition()))

    def _keep(self, message: Message) -> int:
        topic = str(message.topic()).removeprefix(self._prefix)
        number = int(message.partition() or 0)
        known = self.records[topic, number]
        offset = int(message.offset() or 0)
        if known and offset <= known[-1].offset:
            return 0
        headers = message.headers() or []
        is_forwarded = any(name == "forwarded-from" for name, _ in headers)
        known.append(
            Record(number, offset, message.timestamp()[1], message.key(), message.value(), is_forwarded)  # type: ignore[arg-type]
        )
        return 1

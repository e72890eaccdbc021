"""A Kafka broker inside this process: librdkafka's own mock cluster, by way of confluent-kafka.

The wire protocol is real; the guarantees are not. Fault model: its transactions isolate and fence nothing (aborted
records are visible, an old owner's commit succeeds), timestamps are those of the sender, a partition keeps about
5 MiB and then drops its oldest batches, a group takes one member and must not be joined twice, and everything is gone
with the process. So: one worker, in this process, and no claim of exactly-once. Senders wait for the worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from confluent_kafka import Producer

PARTITION_COUNT = 4
"""Of every topic: the mock cluster's own number, it cannot be asked for another."""

KEPT_BYTES = 5 * 1024 * 1024
"""Stored bytes of one partition beyond which its oldest batches are dropped."""

FETCH_WAIT_MS_MAX = 100
"""For consumers: a fetch that finds nothing is held for its whole waiting time, even when a record comes meanwhile."""

_ANSWER_S_MAX = 10


class EmbeddedBroker:
    """One broker, alive from `start` to `close`."""

    def __init__(self, topics: Iterable[str] = ()) -> None:
        self._topics = tuple(topics)
        self._cluster: Producer | None = None
        self.bootstrap = ""

    def start(self) -> Self:
        """Listens on a free port of 127.0.0.1 (`bootstrap`) and makes the topics."""
        if self._cluster is None:
            # The mock cluster belongs to the client that asks for it; this one never sends anything.
            settings = {"bootstrap.servers": "in-process", "test.mock.num.brokers": 1, "log_level": 0}
            self._cluster = Producer(settings)
            broker = next(iter(self._cluster.list_topics(timeout=_ANSWER_S_MAX).brokers.values()))
            self.bootstrap = f"{broker.host}:{broker.port}"
            self.make_topics(self._topics)
        return self

    def make_topics(self, topics: Iterable[str]) -> None:
        """A topic comes into being when a client first asks for it; its admin protocol is not implemented."""
        if self._cluster is None:
            raise RuntimeError("the embedded broker is not running")
        for topic in topics:
            self._cluster.list_topics(topic, timeout=_ANSWER_S_MAX)

    def close(self) -> None:
        """Ends the broker; all its data are gone."""
        self._cluster = None
        self.bootstrap = ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

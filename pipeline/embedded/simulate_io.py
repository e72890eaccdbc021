"""Sends what the generator makes to a broker: each tenant to the partition that owns it, calls no faster than asked."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipeline.base.ids import partition_of
from pipeline.base.topics import CDRS, COMMANDS
from pipeline.base.topics_io import BrokerUnreachable
from pipeline.embedded.customers import Plan
from pipeline.embedded.simulate import Sent, Tally, simulate

_ANSWER_S_MAX = 15
_FLUSH_S_MAX = 60.0
_POLL_S = 0.02
_CHUNK = 100
SETTLE_S = 1.0
"""Pause after the opening commands, so that no worker sees a tenant's first call before its account."""


class SendingFailed(RuntimeError):
    """The broker refused records or did not take them; one line for a person."""


class Switch:
    """A producer of both input topics. Every record is acknowledged, or `flush` raises."""

    def __init__(self, bootstrap: str, prefix: str, *, linger_ms: int = 20) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": "pstn-simulate",
                "enable.idempotence": True,  # a retry must not become a re-sent call of its own
                "linger.ms": linger_ms,
                "compression.type": "gzip",
                "log_level": 0,
            }
        )
        self._topics = {"cdr": prefix + CDRS, "command": prefix + COMMANDS}
        self._partition_counts = {kind: self._partitions(topic, bootstrap) for kind, topic in self._topics.items()}
        self._failures: list[KafkaError] = []
        self.cdrs_by_partition: Counter[int] = Counter()

    def send(self, sent: Sent) -> None:
        """Queues one record; waits while the queue is full."""
        partition = partition_of(sent.tenant_id, self._partition_counts[sent.kind])
        key = sent.tenant_id.encode()
        while True:
            try:
                self._producer.produce(
                    self._topics[sent.kind], sent.value, key, partition=partition, on_delivery=self._note
                )
                break
            except BufferError:
                self._producer.poll(_POLL_S)
        self._producer.poll(0)
        if sent.kind == "cdr":
            self.cdrs_by_partition[partition] += 1

    def flush(self) -> None:
        """Returns when the broker has everything. SendingFailed otherwise."""
        missing = self._producer.flush(_FLUSH_S_MAX)
        if self._failures:
            raise SendingFailed(f"the broker refused {len(self._failures)} records: {self._failures[0].str()}")
        if missing:
            raise SendingFailed(f"the broker did not take {missing} records within {_FLUSH_S_MAX:.0f} s")

    def _note(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failures.append(error)

    def _partitions(self, topic: str, bootstrap: str) -> int:
        try:
            found = self._producer.list_topics(topic, timeout=_ANSWER_S_MAX).topics[topic]
        except KafkaException:
            raise BrokerUnreachable(f"no Kafka broker answers at {bootstrap}: is it running?") from None
        if not found.partitions:
            raise SendingFailed(f"topic {topic} does not exist: type `pstn topics create`")
        return len(found.partitions)


def send_all(
    plan: Plan,
    *,
    seed: int,
    switch: Switch,
    rate: float = 0.0,
    on_progress: Callable[[Tally], None] | None = None,
    must_wait: Callable[[Tally], bool] | None = None,
    settle_s: float = SETTLE_S,
) -> Tally:
    """Sends the whole plan and returns the truth about it. Blocks; `rate`: calls a second, 0: as fast as it goes.

    `must_wait` is asked every hundred records: a broker that keeps little needs senders that wait for the reader.
    What the two callbacks raise ends the run.
    """
    tally = Tally()
    pause = Pause(rate)
    has_settled = False
    for number, sent in enumerate(simulate(plan, random.Random(seed))):
        if sent.kind == "cdr" and not has_settled:
            switch.flush()
            time.sleep(settle_s)
            has_settled = True
            pause.begin()
        switch.send(sent)
        tally.add(sent)
        if sent.kind == "cdr":
            pause.after_one()
        if number % _CHUNK == 0:
            if on_progress is not None:
                on_progress(tally)
            while must_wait is not None and must_wait(tally):
                time.sleep(_POLL_S)
    switch.flush()
    if on_progress is not None:
        on_progress(tally)
    return tally


class Pause:
    """Keeps the calls of a run at a rate, measured over the whole run."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._count = 0
        self._begin_s = 0.0

    def begin(self) -> None:
        """The run begins now."""
        self._begin_s = time.monotonic()

    def after_one(self) -> None:
        """Sleeps when the run is ahead of its rate by more than a poll."""
        self._count += 1
        if self._rate > 0:
            ahead_s = self._count / self._rate - (time.monotonic() - self._begin_s)
            if ahead_s > _POLL_S:
                time.sleep(ahead_s)

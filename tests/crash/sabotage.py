"""A worker that is broken on purpose: `python -m tests.crash.sabotage HOW` runs `pstn worker` with one guard taken out.

Each is a mistake that lost or doubled money when it was made; a harness that does not notice it shows nothing.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.kafka_io import KafkaClients
from pipeline.debit import partition_io
from pipeline.emit import publish_io

# Between the two transactions of a slice: long beside a slice, so that one of a few kills falls into it.
_BETWEEN_S = 0.3


def skips_the_fence() -> None:
    """Each owner has a transactional id of its own, so the previous owner can still write."""
    honest = KafkaClients.transactional_producer

    def transactional_producer(self: KafkaClients, transactional_id: str) -> Any:
        return honest(self, f"{transactional_id}-{os.getpid()}")

    KafkaClients.transactional_producer = transactional_producer  # type: ignore[method-assign]


def restores_to_the_last_stable_offset() -> None:
    """The end of the table as a committed reader sees it: a foreign open transaction holds it back."""

    async def last_stable_offset(self: KafkaClients, partition: Any) -> int:
        async with self.reading(committed=True) as consumer:
            return int((await consumer.end_offsets([partition]))[partition])

    KafkaClients.high_watermark = last_stable_offset  # type: ignore[method-assign]


def does_not_await_the_batches() -> None:
    """Commits whatever became of the batches: aiokafka does not mind one that the broker refused."""
    honest = publish_io._send

    async def send(producer: Any, topic: str, partition: int, messages: Any, futures: list[Any]) -> None:
        unawaited: list[Any] = []
        await honest(producer, topic, partition, messages, unawaited)
        for future in unawaited:
            future.add_done_callback(lambda done: done.cancelled() or done.exception())

    publish_io._send = send


def writes_the_checkpoint_apart() -> None:
    """The state in one transaction, the checkpoint in the next: a kill in between applies the slice twice."""
    honest = publish_io.publish

    async def publish(producer: Any, outputs: Any, *, timeout_s: float) -> None:
        def is_checkpoint(place: tuple[str, int], message: Any) -> bool:
            return place[0].endswith("credit-table") and message[0] == CHECKPOINT_KEY

        kept = {place: list(messages) for place, messages in outputs.items()}
        state = {place: [m for m in messages if not is_checkpoint(place, m)] for place, messages in kept.items()}
        apart = {place: [m for m in messages if is_checkpoint(place, m)] for place, messages in kept.items()}
        for pause_s, part in ((0, state), (_BETWEEN_S, apart)):
            some = {place: messages for place, messages in part.items() if messages}
            if some:
                await asyncio.sleep(pause_s)
                await honest(producer, some, timeout_s=timeout_s)

    partition_io.publish = publish


# Which faults show it, in the order in which they are brought about.
SABOTAGES: dict[Callable[[], None], tuple[str, ...]] = {
    skips_the_fence: ("pause_worker",) * 3,
    restores_to_the_last_stable_offset: ("open_transaction_in_table",) * 2,
    does_not_await_the_batches: ("refused_batch",) * 2,
    writes_the_checkpoint_apart: ("kill_worker",) * 4,
}
NAMES = {sabotage.__name__: sabotage for sabotage in SABOTAGES}


if __name__ == "__main__":
    NAMES[sys.argv[1]]()
    sys.argv = ["pstn", "worker"]
    from pipeline.__main__ import main

    main()

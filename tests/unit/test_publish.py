"""What a slice's transaction says when it fails."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import IllegalOperation, ProducerFenced
from aiokafka.producer.message_accumulator import BatchBuilder

from pipeline.base.record import NO_HEADERS
from pipeline.emit.publish_io import publish


class _FencedBetweenTwoBatches:
    """As aiokafka's producer behaves: the fence is the first batch's error, and the second batch only hears that there
    is no transaction any more."""

    def __init__(self) -> None:
        self.sent = 0

    async def begin_transaction(self) -> None:
        return

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(10_000, 0, is_transactional=1)

    async def send_batch(self, batch: object, topic: str, partition: int) -> asyncio.Future[object]:
        self.sent += 1
        if self.sent > 1:
            raise IllegalOperation("Can't send messages while not in transaction")
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        future.set_exception(ProducerFenced())
        return future

    async def abort_transaction(self) -> None:
        raise ProducerFenced()


def test_a_fence_between_two_batches_is_called_a_fence() -> None:
    """Called a failure it counts towards parking: a worker paused three times gave a healthy partition up."""
    messages = [(b"key", b"value", 0, NO_HEADERS)]

    async def run() -> None:
        outputs = {("first", 0): messages, ("second", 0): messages}
        with pytest.raises(ProducerFenced):
            await publish(_FencedBetweenTwoBatches(), outputs, timeout_s=5)

    asyncio.run(run())

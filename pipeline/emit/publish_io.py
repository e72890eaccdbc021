"""One slice's outputs as one Kafka transaction: all of them or none.

aiokafka commits a transaction whose batch the broker refused (too large, wrong time, sequence): the call was gone and
its debit stayed. So every batch is awaited before the commit, and anything that fails aborts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaError

from pipeline.base.record import Message
from pipeline.base.reject import InvariantBroken

# An abort that the broker does not answer is left to the next owner's fence.
_ABORT_TIMEOUT_S = 5


async def publish(
    producer: AIOKafkaProducer, outputs: Mapping[tuple[str, int], Iterable[Message]], *, timeout_s: float
) -> None:
    """Writes messages by (topic, partition) in one transaction. Raises unless it is known to be committed."""
    await producer.begin_transaction()
    futures: list[asyncio.Future[object]] = []
    try:
        async with asyncio.timeout(timeout_s):
            for (topic, partition), messages in outputs.items():
                await _send(producer, topic, partition, messages, futures)
            await asyncio.gather(*futures)
            await producer.commit_transaction()
    except BaseException as error:
        for future in futures:  # what nobody awaits any more would be logged, with a traceback each
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        await _abort(producer)
        if isinstance(error, IllegalOperation):
            raise _cause(futures) or error from None
        raise


async def _send(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    messages: Iterable[Message],
    futures: list[asyncio.Future[object]],
) -> None:
    batch = producer.create_batch()
    for key, value, timestamp_ms, headers in messages:
        if batch.append(key=key, value=value, timestamp=timestamp_ms, headers=headers) is None:
            batch.close()
            futures.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            if batch.append(key=key, value=value, timestamp=timestamp_ms, headers=headers) is None:
                raise InvariantBroken(f"an empty batch for {topic} refuses a record")
    if batch.record_count():
        batch.close()
        futures.append(await producer.send_batch(batch, topic, partition=partition))


def _cause(futures: Iterable[asyncio.Future[object]]) -> BaseException | None:
    """Why there is no transaction any more: a fence that the batches before have heard of."""
    errors = [future.exception() for future in futures if future.done() and not future.cancelled()]
    return next((error for error in errors if error is not None), None)


async def _abort(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(_ABORT_TIMEOUT_S):
            await producer.abort_transaction()
    except (KafkaError, AssertionError, TimeoutError):
        return  # fenced, or the broker is gone: the next fence aborts what is open

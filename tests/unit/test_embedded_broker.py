"""The embedded broker: what the demo and the quick tests may rely on, and what nobody may."""

from __future__ import annotations

import asyncio
import os

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from pipeline.embedded.broker_io import FETCH_WAIT_MS_MAX, KEPT_BYTES, PARTITION_COUNT, EmbeddedBroker


async def _begin_and_values(bootstrap: str, partition: TopicPartition) -> tuple[int, list[bytes]]:
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        check_crcs=False,
        isolation_level="read_committed",
        auto_offset_reset="none",
        fetch_max_wait_ms=FETCH_WAIT_MS_MAX,
    ) as consumer:
        consumer.assign([partition])
        begin = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.seek(partition, begin)
        values: list[bytes] = []
        while await consumer.position(partition) < end:
            found = await consumer.getmany(partition, timeout_ms=5_000 if values else 200)
            if not found and values:
                break  # what is left are transaction markers
            values += [record.value for record in found.get(partition, [])]
        return begin, values


def test_topics_exist_at_start_with_the_same_number_of_partitions(embedded_broker: EmbeddedBroker) -> None:
    """The owner of a tenant is a function of the partition count: two topics must not differ."""
    embedded_broker.make_topics(["count-a", "count-b"])

    async def counts() -> list[int]:
        async with AIOKafkaProducer(bootstrap_servers=embedded_broker.bootstrap) as producer:
            return [len(await producer.partitions_for(topic)) for topic in ("count-a", "count-b")]

    assert asyncio.run(counts()) == [PARTITION_COUNT, PARTITION_COUNT]


def test_a_transaction_is_carried_and_an_aborted_one_is_visible(embedded_broker: EmbeddedBroker) -> None:
    """Why nothing on this broker may claim exactly-once: should isolation ever come, the demo may say more."""

    async def run() -> list[bytes]:
        bootstrap = embedded_broker.bootstrap
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="owner-0") as producer:
            async with producer.transaction():
                await producer.send_and_wait("isolation", b"committed", partition=1)
            await producer.begin_transaction()
            await producer.send_and_wait("isolation", b"aborted", partition=1)
            await producer.abort_transaction()
        return (await _begin_and_values(bootstrap, TopicPartition("isolation", 1)))[1]

    assert asyncio.run(run()) == [b"committed", b"aborted"]


def test_beyond_five_mebibytes_the_oldest_are_dropped_and_the_first_offset_says_so(
    embedded_broker: EmbeddedBroker,
) -> None:
    """A worker recognises a trimmed input by its first offset, and the simulator waits so that it never comes to it."""
    message_bytes = 500_000

    async def run(count: int) -> tuple[int, int]:
        bootstrap = embedded_broker.bootstrap
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            for _ in range(count):
                await producer.send_and_wait("trimmed", os.urandom(message_bytes), partition=0)
        begin, values = await _begin_and_values(bootstrap, TopicPartition("trimmed", 0))
        return begin, len(values)

    fitting = KEPT_BYTES // message_bytes - 1
    assert asyncio.run(run(fitting)) == (0, fitting)
    begin, kept = asyncio.run(run(6))
    assert begin > 0
    assert kept == fitting + 6 - begin

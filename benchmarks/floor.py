"""The floor of `stream.py`: reads CDRs, decodes them, encodes a rated call each, writes batches; decides nothing."""

from __future__ import annotations

import asyncio
import os

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from pipeline.base.avro import codec

PARTITIONS = 12
SLICE_RECORDS = 2_000


def rated_tail(offset: int, now_ms: int) -> tuple[object, ...]:
    """A charged call of the usual size: everything after the CDR's own fields."""
    row = ("acs_proxy_usd", ("acs_proxy_usd", "2025-10-15", "0123456789ab"), "4930", 13_000, 0)
    return (
        *("outbound", "US", "DE", "Germany", "geographic", "international"),
        *("MCOPSTNPP", "charged", None, 3, None, 0, 3),
        *(*row, 39_000, 39_000, (("c2", 39_000),), 0, 0, "USD", 999_999_000_000, False, "bench.cdrs", 3, offset),
        *(now_ms, now_ms, offset, "1-01234567-phonenumbers-9.0.43"),
    )


async def main() -> None:
    bootstrap, prefix, total = os.environ["BOOTSTRAP"], os.environ["PREFIX"], int(os.environ["TOTAL"])
    decode, encode_tail = codec("cdr").decode_values, codec("rated_call").encode_tail
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=8 * 2**20
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=900_000)
    await consumer.start()
    await producer.start()
    partitions = [TopicPartition(f"{prefix}cdrs", number) for number in range(PARTITIONS)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    done = 0
    while done < total:
        for tp, records in (await consumer.getmany(timeout_ms=500, max_records=SLICE_RECORDS)).items():
            futures = []
            batch = producer.create_batch()
            for record in records:
                decode(record.value)
                value = encode_tail(record.value[10:], rated_tail(record.offset, record.timestamp))
                while batch.append(key=record.key, value=value, timestamp=record.timestamp) is None:
                    batch.close()
                    futures.append(await producer.send_batch(batch, f"{prefix}rated-calls", partition=tp.partition))
                    batch = producer.create_batch()
            batch.close()
            futures.append(await producer.send_batch(batch, f"{prefix}rated-calls", partition=tp.partition))
            await asyncio.gather(*futures)
            done += len(records)
            print(f"done={done}", flush=True)
    await asyncio.sleep(60)  # the watcher ends it


asyncio.run(main())

"""The floor of `stream.py`: reads CDRs, decodes them, encodes a rated call each, writes batches; decides nothing.

CODEC=fastavro decodes and encodes with fastavro alone, as anybody would; CODEC=ours with the product's own codec.
"""

from __future__ import annotations

import asyncio
import io
import json
import os

import fastavro
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from pipeline.base.avro import codec
from pipeline.base.resources_io import resource_path

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


def plain_codec():
    """Decode and encode by fastavro; times as integers, as the product has them."""
    schemas = {
        name: json.loads((resource_path("schemas") / f"{name}.avsc").read_text()) for name in ("cdr", "rated_call")
    }
    for schema in schemas.values():
        for field in schema["fields"]:
            if isinstance(field["type"], dict) and field["type"].get("logicalType"):
                field["type"] = field["type"]["type"]
    cdr, rated = (fastavro.parse_schema(schemas[name]) for name in ("cdr", "rated_call"))
    tail_names = [field["name"] for field in schemas["rated_call"]["fields"]][14:]

    def decode(value):
        return fastavro.schemaless_reader(io.BytesIO(value[10:]), cdr)

    def encode(call, value, tail):
        record = call | dict(zip(tail_names, tail, strict=True))
        record["lots"] = [{"lot_id": lot_id, "amount_micros": amount} for lot_id, amount in record["lots"]]
        record["table_version"] = list(record["table_version"])
        out = io.BytesIO()
        out.write(codec("rated_call").header)
        fastavro.schemaless_writer(out, rated, record)
        return out.getvalue()

    return decode, encode


def own_codec():
    encode_tail = codec("rated_call").encode_tail
    return codec("cdr").decode_values, lambda call, value, tail: encode_tail(value[10:], tail)


async def main() -> None:
    bootstrap, prefix, total = os.environ["BOOTSTRAP"], os.environ["PREFIX"], int(os.environ["TOTAL"])
    decode, encode = plain_codec() if os.environ["CODEC"] == "fastavro" else own_codec()
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
                value = encode(decode(record.value), record.value, rated_tail(record.offset, record.timestamp))
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

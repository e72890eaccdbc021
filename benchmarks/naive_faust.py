"""The naive agent of `stream.py`: as Faust's tutorial would have it. At-least-once; it loses money under `kill -9`."""

from __future__ import annotations

import os

import faust
from simple_rating import rated_record, simple_price

from pipeline.base.avro import codec

bootstrap, prefix = os.environ["BOOTSTRAP"], os.environ["PREFIX"]
app = faust.App(
    f"{prefix}naive-{os.getpid()}",
    broker=f"kafka://{bootstrap}",
    store="memory://",
    topic_partitions=12,
    consumer_auto_offset_reset="earliest",
    web_enabled=False,
)
cdrs = app.topic(f"{prefix}cdrs", value_serializer="raw")
rated_calls = app.topic(f"{prefix}rated-calls", value_serializer="raw")
balances = app.Table("balances", default=int, partitions=12)
done = 0


@app.agent(cdrs)
async def rate(stream):
    global done
    async for event in stream.events():
        cdr = codec("cdr").decode(event.value)
        row, minutes, charge_micros = simple_price(cdr)
        balances[cdr["tenant_id"]] -= charge_micros
        message = event.message
        place = (message.partition, message.offset, int(message.timestamp * 1000))
        rated = rated_record(cdr, row, minutes, charge_micros, balances[cdr["tenant_id"]], *place)
        await rated_calls.send(key=event.key, value=codec("rated_call").encode(rated))
        done += 1
        if done % 200 == 0:
            os.write(1, f"done={done}\n".encode())  # Faust takes print for its log


if __name__ == "__main__":
    app.main()

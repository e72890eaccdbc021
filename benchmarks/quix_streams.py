"""The Quix Streams application of `stream.py`: exactly-once, its own RocksDB state, commits each second.

Rates the calls as the naive agent does, with the product's codec. Runs in an environment of its own, because its
packages contradict the product's (`benchmarks/quix-streams.lock`).
"""

from __future__ import annotations

import os
import tempfile

from quixstreams import Application
from simple_rating import rated_record, simple_price

from pipeline.base.avro import codec

bootstrap, prefix, total = os.environ["BOOTSTRAP"], os.environ["PREFIX"], int(os.environ["TOTAL"])
done = 0


def rate(value, key, timestamp_ms, headers, state):
    global done
    cdr = codec("cdr").decode(value)
    row, minutes, charge_micros = simple_price(cdr)
    balance_micros = state.get("balance_micros", 0) - charge_micros
    state.set("balance_micros", balance_micros)
    done += 1
    if done % 200 == 0 or done == total:
        os.write(1, f"done={done}\n".encode())
    rated = rated_record(cdr, row, minutes, charge_micros, balance_micros, 0, done, timestamp_ms)
    return codec("rated_call").encode(rated)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            broker_address=bootstrap,
            consumer_group=f"{prefix}quix",
            auto_offset_reset="earliest",
            processing_guarantee="exactly-once",
            commit_interval=1.0,
            state_dir=folder,
            loglevel="WARNING",
        )
        calls = app.dataframe(app.topic(f"{prefix}cdrs", value_deserializer="bytes", key_deserializer="bytes"))
        calls = calls.apply(rate, stateful=True, metadata=True)
        calls.to_topic(app.topic(f"{prefix}rated-calls", value_serializer="bytes", key_serializer="bytes"))
        app.run()


if __name__ == "__main__":
    main()

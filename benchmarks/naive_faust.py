"""The naive agent of `stream.py`: as Faust's tutorial would have it. At-least-once; it loses money under `kill -9`."""

from __future__ import annotations

import os

import faust

from pipeline.base.avro import codec
from pipeline.base.resources_io import resource_path
from pipeline.charge.tables_io import load_tables

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
deck = load_tables(resource_path("rating_tables")).tariffs["acs_proxy_usd"].decks[-1]
done = 0


@app.agent(cdrs)
async def rate(stream):
    global done
    async for event in stream.events():
        cdr = codec("cdr").decode(event.value)
        row = deck.find("outbound", cdr["callee_number"][1:], "geographic").row
        minutes = -(-cdr["duration_s"] // 60)
        charge = minutes * row.rate_micros_per_minute if row else 0
        balances[cdr["tenant_id"]] -= charge
        rated = cdr | {
            "direction": "outbound",
            "rating_country": "US",
            "destination_country": "DE",
            "destination_name": "Germany",
            "number_class": "geographic",
            "scope": "international",
            "capability": "MCOPSTNPP",
            "outcome": "charged",
            "reason": None,
            "billable_minutes": minutes,
            "pool_id": None,
            "pool_minutes": 0,
            "charged_minutes": minutes,
            "tariff": "acs_proxy_usd",
            "table_version": ["acs_proxy_usd", "2025-10-15", "0123456789ab"],
            "rate_prefix": row and row.prefix,
            "rate_micros_per_minute": row and row.rate_micros_per_minute,
            "connection_fee_micros": 0,
            "price_micros": charge,
            "debited_micros": charge,
            "lots": [{"lot_id": "c2", "amount_micros": charge}],
            "overdraft_micros": 0,
            "postpaid_micros": 0,
            "currency": "USD",
            "balance_after_micros": balances[cdr["tenant_id"]],
            "rate_is_ambiguous": False,
            "source_topic": "cdrs",
            "source_partition": event.message.partition,
            "source_offset": event.message.offset,
            "received_at": int(event.message.timestamp * 1000),
            "ledger_epoch": 0,
            "applied_seq": event.message.offset,
            "rules_version": "1-01234567-phonenumbers-9.0.43",
        }
        await rated_calls.send(key=event.key, value=codec("rated_call").encode(rated))
        done += 1
        if done % 200 == 0:
            os.write(1, f"done={done}\n".encode())  # Faust takes print for its log


if __name__ == "__main__":
    app.main()

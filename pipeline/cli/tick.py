"""`pstn tick`: lets time pass for every account now, without waiting for the worker's own timer."""

from __future__ import annotations

import asyncio
import time

import typer

from pipeline.base.kafka_io import KafkaClients
from pipeline.base.settings_io import Settings
from pipeline.base.topics import COMMANDS
from pipeline.cdr.command import Command, encode_command
from pipeline.cli.desk import load_settings
from pipeline.cli.failure import one_line
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.office.command_io import issuer, partition_count_of


def tick(bootstrap: Bootstrap = None, prefix: Prefix = None) -> None:
    """Send one `tick` to each partition: lots whose time has come expire, retries fall due.

    Workers with the role `ledger` do so by themselves every PSTN_TICK_INTERVAL_S seconds (60).

    Example: pstn tick
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    with one_line():
        count = partition_count_of(settings)
        asyncio.run(_send(settings, count))
    typer.echo(f"a tick was sent to each of {count} partitions")


async def _send(settings: Settings, partition_count: int) -> None:
    now_ms = time.time_ns() // 1_000_000
    producer = KafkaClients(settings).plain_producer()
    await producer.start()
    try:
        for number in range(partition_count):
            command = Command(f"tick-{number}-{now_ms}-hand", "", "tick", issuer(), {})
            await producer.send_and_wait(settings.topic(COMMANDS), encode_command(command), partition=number)
    finally:
        await producer.stop()

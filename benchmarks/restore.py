"""How long until a worker that starts with a million accounts takes calls, beside a floor that only reads the topic.

    python benchmarks/restore.py [--accounts 1000000] [--processes 1]

The credit table is filled with accounts as the ledger writes them, each with a user; one call waits on every partition.
worker: from the start of `pstn worker --roles ledger` until the call of each partition has its result. floor: a process
that reads the same table with plain aiokafka, a consumer for each partition, and keeps key and value in a dict.
Both begin at an interpreter that starts. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Producer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from steady import samples
from stream import PARTITIONS, account_messages, cdr_values, prepare, tenant_name

from pipeline.app import make_ledger
from pipeline.base.avro import codec
from pipeline.base.check_io import specs_of
from pipeline.base.ids import CHECKPOINT_KEY, account_key, partition_of, user_key
from pipeline.base.record import InputRecord
from pipeline.base.resources_io import resource_path
from pipeline.base.settings_io import Settings
from pipeline.base.topics_io import connect_admin, describe_topics
from pipeline.charge.tables_io import load_tables
from pipeline.debit.account import Account, User
from pipeline.debit.checkpoint import Checkpoint
from pipeline.debit.stored import encode_account, encode_user
from pipeline.embedded.kafka_io import KafkaNode, free_port

console = Console(stderr=True)
START_S_MAX = 600.0
SETTLED_S = 1.0


def template(settings: Settings) -> tuple[Account, User]:
    """What the ledger makes of the commands of one tenant."""
    tables = load_tables(settings.tables or resource_path("rating_tables"))
    tenant = tenant_name(0)
    partition = partition_of(tenant, PARTITIONS)
    ledger = make_ledger(partition, partition_count=PARTITIONS, settings=settings, tables=tables)
    now_ms = int(time.time() * 1000)
    records = [
        InputRecord(True, "account-commands", partition, offset, now_ms, value)
        for offset, value in enumerate(account_messages(tenant, now_ms))
    ]
    ledger.adopt(ledger.apply_slice(records))
    account, user = ledger.state.account(tenant), ledger.state.user(tenant, "u")
    assert account is not None
    assert user is not None
    return account, user


def fill(settings: Settings, accounts: int) -> int:
    """The table, the checkpoint of each partition after it, and a call for each partition; bytes of the table."""
    account, user = template(settings)
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers, "linger.ms": 20, "log_level": 0})
    table, byte_count = settings.topic("credit-table"), 0
    callers: dict[int, str] = {}
    for index in track(range(accounts), "filling the credit table", console=console):
        tenant = tenant_name(index)
        number = partition_of(tenant, PARTITIONS)
        callers.setdefault(number, tenant)
        account.tenant_id = user.tenant_id = tenant
        for key, value in (
            (account_key(tenant), encode_account(account)),
            (user_key(tenant, "u"), encode_user(user)),
        ):
            producer.produce(table, value, key, partition=number)
            byte_count += len(key) + len(value)
        if index % 2_000 == 0:
            producer.flush()
    now_ms = int(time.time() * 1000)
    found = describe_topics(
        connect_admin(settings.bootstrap_servers), settings.topic_prefix, [spec.name for spec in specs_of(settings)]
    )
    ids = {name: state.topic_id for name, state in found.items()}
    checkpoint = Checkpoint(now_ms, 1, 0, 0, PARTITIONS, ids, now_ms).encode()
    for number, tenant in callers.items():
        producer.produce(table, checkpoint, CHECKPOINT_KEY, partition=number)
        call = codec("cdr").encode_values(cdr_values(tenant, number, random.Random(number), now_ms))
        producer.produce(settings.topic("cdrs"), call, partition=number)
    producer.flush()
    return byte_count


class Usage(NamedTuple):
    """Of a process and its children, from its start."""

    seconds: float
    cpu_s: float
    rss_mib: float


def usage_of(process: subprocess.Popen[bytes], started_s: float) -> Usage:
    found = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    cpu = [each.cpu_times() for each in found]
    return Usage(
        round(time.monotonic() - started_s, 2),
        round(sum(each.user + each.system for each in cpu), 2),
        round(sum(each.memory_info().rss for each in found) / 2**20),
    )


def run_worker(settings: Settings, processes: int) -> Usage:
    ports = [free_port()]
    while processes > 1 and len(ports) < processes:  # child i serves its metrics on the first port plus i
        ports.append(ports[0] + len(ports))
    variables = {
        "PSTN_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PSTN_TOPIC_PREFIX": settings.topic_prefix,
        "PSTN_WEB_PORT": str(ports[0]),
    }
    command = [sys.executable, "-m", "pipeline", "worker", "--roles", "ledger"]
    if processes > 1:
        command += ["--processes", str(processes)]
    log = Path(os.environ.get("BENCH_LOG", os.devnull))
    started_s = time.monotonic()
    with log.open("ab") as stream:
        process = subprocess.Popen(command, env=os.environ | variables, stdout=stream, stderr=stream)
    try:
        while sum(sum(samples(port, "pstn_records_applied_total").values()) for port in ports) < PARTITIONS:
            if process.poll() is not None or time.monotonic() - started_s > START_S_MAX:
                raise SystemExit("the worker takes no calls; BENCH_LOG=FILE keeps what it says")
            time.sleep(0.1)
        return usage_of(process, started_s)
    finally:
        process.terminate()
        process.wait(30)


async def floor(bootstrap: str, topic: str) -> None:
    """Reads the topic to its end and keeps what it read, as a restore must; decides nothing."""
    kept: list[dict[bytes, bytes]] = []

    async def read(number: int) -> None:
        partition = TopicPartition(topic, number)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, enable_auto_commit=False, isolation_level="read_committed"
        )
        await consumer.start()
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        books: dict[bytes, bytes] = {}
        while await consumer.position(partition) < end:
            for record in (await consumer.getmany(partition, timeout_ms=200)).get(partition, ()):
                books[record.key] = record.value
        kept.append(books)
        await consumer.stop()

    await asyncio.gather(*map(read, range(PARTITIONS)))
    print(f"done={sum(map(len, kept))}", flush=True)
    await asyncio.sleep(60)  # the watcher ends it


def run_floor(settings: Settings) -> Usage:
    command = [sys.executable, __file__, "--floor", settings.bootstrap_servers, settings.topic("credit-table")]
    started_s = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        return usage_of(process, started_s)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--floor", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.floor:
        asyncio.run(floor(*options.floor))
        return
    with KafkaNode() as node:
        settings = prepare(node.bootstrap, "restore.")
        byte_count = fill(settings, options.accounts)
        with console.status("floor"):
            lowest = run_floor(settings)
        with console.status("worker"):
            worker = run_worker(settings, options.processes)
    table = Table("", "seconds", "CPU s", "memory MiB", title=f"{options.accounts:,} accounts and users")
    table.add_row("worker", *map(str, worker))
    table.add_row("floor", *map(str, lowest))
    console.print(table)
    result = {
        "accounts": options.accounts,
        "records": 2 * options.accounts,
        "mib": round(byte_count / 2**20),
        "partitions": PARTITIONS,
        "processes": options.processes,
        "worker": worker._asdict(),
        "floor": lowest._asdict(),
        "worker_over_floor": round(worker.seconds / lowest.seconds, 2),
        "worker_over_floor_cpu": round(worker.cpu_s / lowest.cpu_s, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

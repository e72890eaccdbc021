"""A broker or a ClickHouse that is slow or gone: nothing lost, no spinning, bounded memory, and the worker resumes.

One worker process that nobody restarts. Its CPU and memory are measured from outside while the server is killed (the
port refuses) or stopped (connections hang, the worse case).
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import psutil
import pytest
from confluent_kafka import Producer

from pipeline.base.avro import codec
from pipeline.embedded.clickhouse_server_io import ClickHouseServer
from pipeline.embedded.kafka_io import KafkaNode, free_port
from pipeline.warehouse.store import StoreAway, StoreRefused
from pipeline.warehouse.store_io import open_store
from tests.avro_values import sample_of
from tests.integration.ledger_harness import PARTITIONS, TABLES, Deployment, eventually, tenants_by_partition

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
AWAY_S = 6.0
WAIT_S = 120
# An idle worker takes 2 to 5 % of a core here; knocking at a closed door may cost some more, spinning costs 100 %.
CORE_SHARE_MAX = 0.25
# While the broker is away nothing can arrive.
BROKER_GROWTH_MIB_MAX = 40
# The loader holds 64 MiB of records, which are Python objects; each partition's consumer has fetched 8 MiB ahead.
WAREHOUSE_GROWTH_MIB_MAX = 350
# 1.3 KB each: more than the loader may hold, and one fetch of each partition more.
RESULTS = 60_000
LONG_TEXTS = ("call_id", "conference_id", "number_type", "operator")


class Server(Protocol):
    def start(self) -> object: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Usage(NamedTuple):
    core_share: float
    growth_mib: float


@contextmanager
def worker_process(deployment: Deployment, log: Path, **variables: str) -> Iterator[tuple[psutil.Process, int]]:
    """`pstn worker` and its /metrics port; killed at the end."""
    port = free_port()
    settings = deployment.settings
    environment = os.environ | {
        "PSTN_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PSTN_TOPIC_PREFIX": settings.topic_prefix,
        "PSTN_WEB_PORT": str(port),
        "PSTN_CALL_AGE_DAYS_MAX": "4000",
        "PSTN_TABLES": str(TABLES),
        **variables,
    }
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "worker"], env=environment, stdout=stream, stderr=stream
        )
    try:
        yield psutil.Process(process.pid), port
        assert process.poll() is None, f"the worker ended by itself: {log.read_text()[-2000:]}"
    finally:
        process.kill()
        process.wait()


def metric(port: int, pattern: str) -> float:
    """Sum of the samples whose line matches; 0 when there is none or nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.split()[-1]) for line in lines if re.match(pattern, line))


@contextmanager
def away(server: Server, how: str) -> Iterator[None]:
    if how == "killed":
        server.kill()
    else:
        server.pause()
    try:
        yield
    finally:
        if how == "killed":
            server.start()
        else:
            server.resume()


async def measured(worker: psutil.Process, seconds: float) -> Usage:
    """What the process took in that time."""
    before, rss = worker.cpu_times(), worker.memory_info().rss
    peak, started_s = rss, time.monotonic()
    while time.monotonic() - started_s < seconds:
        await asyncio.sleep(0.25)
        peak = max(peak, worker.memory_info().rss)
    after = worker.cpu_times()
    cpu_s = after.user + after.system - before.user - before.system
    return Usage(cpu_s / (time.monotonic() - started_s), (peak - rss) / 2**20)


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[KafkaNode]:
    with KafkaNode() as node:
        yield node


@pytest.mark.kafka
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_broker_that_is_away_is_waited_for_without_spinning(
    own_kafka: KafkaNode, topic_prefix: str, tmp_path: Path, how: str
) -> None:
    """Calls before and after it have one result each, and nobody had to touch the worker."""

    async def run() -> None:
        deployment = await Deployment.make(own_kafka.bootstrap, topic_prefix)
        tenants = list(tenants_by_partition().values())
        await deployment.open_accounts(tenants)
        with worker_process(deployment, tmp_path / "log", PSTN_ROLES="ledger") as (worker, port):
            for tenant in tenants:
                await deployment.call(tenant, 400)
            await deployment.rated_when(1, WAIT_S)  # it is in the midst of them
            with away(own_kafka, how):
                await asyncio.sleep(2)
                usage = await measured(worker, AWAY_S)
                told = await eventually(lambda: metric(port, "pstn_broker_away"), bool, wait_s=30)
            assert usage.core_share < CORE_SHARE_MAX, usage
            assert usage.growth_mib < BROKER_GROWTH_MIB_MAX, usage
            assert told, "nobody would be woken"
            for tenant in tenants:
                await deployment.call(tenant, 100)
            rated = await deployment.rated_when(500 * len(tenants), WAIT_S)
            deployment.assert_exact(rated)
            calm = await eventually(
                lambda: metric(port, "pstn_broker_away") + metric(port, "pstn_lag_records"), lambda n: n == 0, wait_s=60
            )
            assert calm == 0, "lag and alarm go away by themselves"

    asyncio.run(run())


def fill_results(bootstrap: str, topic: str, count: int = RESULTS) -> None:
    """Rated calls as a ledger writes them, each of its own place."""
    rated = codec("rated_call")
    fields = rated.fields
    values = [sample_of("rated_call")[name] for name in fields]
    at = {name: fields.index(name) for name in ("applied_seq", "source_offset", "source_partition", "usage_id")}
    values[fields.index("table_version")] = None
    values[fields.index("lots")] = []
    for name in LONG_TEXTS:
        values[fields.index(name)] = "x" * 250
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "log_level": 0})
    for number in range(count):
        values[at["applied_seq"]] = values[at["source_offset"]] = number
        values[at["source_partition"]] = number % PARTITIONS
        values[at["usage_id"]] = f"call-{number}"
        producer.produce(topic, rated.encode_values(values), partition=number % PARTITIONS)
        if number % 5_000 == 0:
            producer.flush()
    assert producer.flush(60) == 0


@pytest.mark.kafka
@pytest.mark.clickhouse
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_warehouse_that_is_away_holds_the_loader_and_not_its_memory(
    kafka: KafkaNode, topic_prefix: str, tmp_path: Path, how: str
) -> None:
    """More results than may be held; the position stays, the lag grows, and all rows arrive when it is back."""
    server = ClickHouseServer(tmp_path / "clickhouse")
    server.start()

    def rows() -> int:
        try:
            store = open_store(server.url("pstn"))
            try:
                [(count,)] = store.query("SELECT count() FROM rated_calls FINAL").rows
            finally:
                store.close()
        except (StoreAway, StoreRefused):
            return 0
        return int(str(count))

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        variables = {"PSTN_ROLES": "loader", "PSTN_WAREHOUSE": server.url("pstn")}
        with worker_process(deployment, tmp_path / "log", **variables) as (worker, port):
            await eventually(lambda: metric(port, "pstn_owned_partitions"), lambda n: n == PARTITIONS, wait_s=WAIT_S)
            with away(server, how):
                fill_results(kafka.bootstrap, deployment.settings.topic("rated-calls"))
                await asyncio.sleep(5)  # what may be held is held now
                usage = await measured(worker, AWAY_S)
                held_mib = worker.memory_info().rss / 2**20
                lag_s = metric(port, r'pstn_lag_seconds\{.*topic=".*rated-calls"')
                is_away = metric(port, "pstn_warehouse_away")
            assert usage.core_share < CORE_SHARE_MAX, usage
            assert held_mib < WAREHOUSE_GROWTH_MIB_MAX, held_mib
            assert usage.growth_mib < 20, usage
            assert lag_s > AWAY_S, "the lag grows while it stands"
            if how == "killed":  # one that hangs is told by its lag; it counts as away after a minute of silence
                assert is_away, "nobody would be told"
            until_s = time.monotonic() + WAIT_S
            while rows() < RESULTS and time.monotonic() < until_s:
                await asyncio.sleep(2)
            assert rows() == RESULTS

    try:
        asyncio.run(run())
    finally:
        server.resume()
        server.stop()


@pytest.mark.kafka
@pytest.mark.clickhouse
def test_rows_that_wait_for_the_warehouse_are_lag_although_more_is_read(
    kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """A loader that hands over before it has inserted must not look as if it were done."""
    server = ClickHouseServer(tmp_path / "clickhouse")
    server.start()

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        topic = deployment.settings.topic("rated-calls")
        waiting = r'pstn_lag_records\{.*topic=".*rated-calls"'
        variables = {"PSTN_ROLES": "loader", "PSTN_WAREHOUSE": server.url("pstn")}
        with worker_process(deployment, tmp_path / "log", **variables) as (_, port):
            await eventually(lambda: metric(port, "pstn_owned_partitions"), lambda n: n == PARTITIONS, wait_s=WAIT_S)
            with away(server, "killed"):
                fill_results(kafka.bootstrap, topic, 100)
                await eventually(lambda: metric(port, waiting), lambda n: n == 100, wait_s=WAIT_S)
                fill_results(kafka.bootstrap, topic, 100)
                handled = "pstn_effects_handled_total"
                await eventually(lambda: metric(port, handled), lambda n: n >= 200, wait_s=WAIT_S)
                await asyncio.sleep(3)
                assert metric(port, waiting) == 200
            gone = await eventually(lambda: metric(port, waiting), lambda n: n == 0, wait_s=WAIT_S)
            assert gone == 0

    try:
        asyncio.run(run())
    finally:
        server.stop()

"""A deployment under a steady load, for `rebalance.py` and `latency.py`: topics, accounts, workers, a feeder.

The feeder is a process of its own, so that its pace does not depend on who measures.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from confluent_kafka import Producer
from stream import PARTITIONS, account_messages, cdr_values, prepare, tenant_name

from pipeline.base.avro import codec
from pipeline.base.ids import partition_of
from pipeline.base.settings_io import Settings
from pipeline.embedded.kafka_io import free_port

FEED_INTERVAL_S = 0.02
START_S_MAX = 90.0


def options_parser(document: str | None, tenants: int) -> argparse.ArgumentParser:
    """The options that both benchmarks have."""
    parser = argparse.ArgumentParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=0, help="calls a second [half of the maximum, measured first]")
    parser.add_argument("--backlog", type=int, default=30_000, help="calls of which the maximum is measured")
    parser.add_argument("--tenants", type=int, default=tenants)
    return parser


def made(bootstrap: str, prefix: str, tenants: int) -> Settings:
    """Topics, checkpoints, and the commands that open the accounts, on their topic."""
    settings = prepare(bootstrap, prefix)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "log_level": 0})
    now_ms = int(time.time() * 1000)
    for tenant in map(tenant_name, range(tenants)):
        for value in account_messages(tenant, now_ms):
            producer.produce(settings.topic("account-commands"), value, partition=partition_of(tenant, PARTITIONS))
        producer.poll(0)
    producer.flush()
    return settings


@contextmanager
def worker(settings: Settings, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`pstn worker` and its metrics' port; killed at the end if it still runs."""
    port = free_port()
    environment = os.environ | {
        "PSTN_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PSTN_TOPIC_PREFIX": settings.topic_prefix,
        "PSTN_WEB_PORT": str(port),
        **variables,
    }
    log = Path(os.environ.get("BENCH_LOG", os.devnull))
    with log.open("ab") as stream:
        process = subprocess.Popen([sys.executable, "-m", "pipeline", "worker"], env=environment, stderr=stream)
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


def samples(port: int, name: str) -> dict[str, float]:
    """Samples of one metric by their labels, as text; empty while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as page:
            lines = page.read().decode().splitlines()
    except OSError:
        return {}
    found = (line.rpartition(" ") for line in lines if line.startswith((f"{name}{{", f"{name} ")))
    return {labels: float(value) for labels, _, value in found}


def wait_until_applied(port: int, total: int, process: subprocess.Popen[bytes]) -> float:
    """Seconds from the first record seen to be applied to the last of `total`, per record beyond the first reading."""
    first: tuple[float, float] | None = None
    idle_until_s = time.monotonic() + START_S_MAX
    while True:
        done = sum(samples(port, "pstn_records_applied_total").values())
        now_s = time.monotonic()
        if done and first is None:
            first = (done, now_s)
        if done >= total and first is not None:
            return (now_s - first[1]) / max(1.0, done - first[0])
        if process.poll() is not None or (first is None and now_s > idle_until_s):
            raise SystemExit("the worker does not take calls; BENCH_LOG=FILE keeps what it says")
        time.sleep(0.05)


class Feeder:
    """Calls at an even pace to all partitions. `sent` after `stop`: for each call partition, offset, broker's time."""

    def __init__(self, settings: Settings, rate: float, tenants: int, *, count: int | None = None) -> None:
        self._parent, child = multiprocessing.Pipe()
        arguments = (settings.bootstrap_servers, settings.topic("cdrs"), rate, tenants, count, child)
        self._process = multiprocessing.get_context("spawn").Process(target=_feed, args=arguments, daemon=True)
        self._process.start()
        self._parent.recv()  # it has begun

    def stop(self) -> list[tuple[int, int, int]]:
        """Ends it (or waits for its `count`), and gives what it sent."""
        self._parent.send("stop")
        sent: list[tuple[int, int, int]] = self._parent.recv()
        self._process.join()
        return sent


def _feed(bootstrap: str, topic: str, rate: float, tenants: int, count: int | None, wish: Connection) -> None:
    rng = random.Random(os.getpid())
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "log_level": 0})
    encode = codec("cdr").encode_values
    sent: list[tuple[int, int, int]] = []
    number = rng.randrange(1 << 30) << 20  # ids of two feeders differ

    def delivered(error: object, message: object) -> None:
        assert error is None, error
        sent.append((message.partition(), message.offset(), message.timestamp()[1]))  # type: ignore[attr-defined]

    wish.send("begun")
    begun_s, made_count = time.monotonic(), 0
    while made_count < count if count is not None else not wish.poll():
        due = count if count is not None else int((time.monotonic() - begun_s) * rate)
        now_ms = int(time.time() * 1000)
        while made_count < due:
            tenant = tenant_name(int(tenants * rng.random() ** 2))
            value = encode(cdr_values(tenant, number + made_count, rng, now_ms))
            producer.produce(topic, value, partition=partition_of(tenant, PARTITIONS), on_delivery=delivered)
            made_count += 1
            if made_count % 1_000 == 0:
                producer.flush()
        producer.poll(0)
        time.sleep(FEED_INTERVAL_S)
    producer.flush()
    wish.recv()
    wish.send(sent)

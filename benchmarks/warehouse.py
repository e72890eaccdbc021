"""The warehouse: how fast rows come in from Kafka, and how long questions over many rows take.

    python benchmarks/warehouse.py [--rows 200000] [--stored 5000000] [--only load,follow,ask,excel]
        [--engines server,chdb]

load: `pstn worker --roles loader` reads rated calls from an Apache Kafka of its own and inserts them; wall time and the
CPU of the worker's process (with chDB the engine is in it), from its first to its last row. One core's worth is rows
for each second of CPU. follow: one ledger process works through --rows CDRs; then two loaders of one group take all
that it wrote (calls, entries, events, accounts) into the server, in calls a second of both. ask: --stored rows of 2,000
tenants over four months are made by the engine itself from 50,000 real ones, then asked through the product's own SQL;
the best of three. At rest: with each month in one part, as an engine from 23.3 on makes it by itself after a day.
Excel: a process of its own, with its peak memory. What it does is told on stderr; the last line of stdout is JSON.
About five minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaProducer
from rich.console import Console
from stream import PARTITIONS, prepare, run_worker

from pipeline.base.avro import codec
from pipeline.base.calendar import format_time
from pipeline.base.ids import partition_of
from pipeline.base.settings_io import Settings
from pipeline.embedded.clickhouse_server_io import ClickHouseServer
from pipeline.embedded.kafka_io import KafkaNode
from pipeline.warehouse.chosen import Chosen, parse_period
from pipeline.warehouse.reconcile import PartitionState, ledger_sql, rated_sql
from pipeline.warehouse.reports import REPORTS, report_sql
from pipeline.warehouse.rows import blocks_of
from pipeline.warehouse.store import Store
from pipeline.warehouse.store_io import migrate, open_store
from tests.warehouse_records import EPOCH_MS, consumed, rated_call

WEB_PORT = 16_067
TENANTS = 2_000
SEED_ROWS = 50_000
COPIES_AT_ONCE = 10
SETTLED_S = 5.0
DAY_MS = 86_400_000
console = Console(stderr=True)
started_at_s = time.monotonic()


def say(line: str) -> None:
    console.print(f"{time.monotonic() - started_at_s:5.0f} s  {line}", highlight=False, soft_wrap=True)


def call_at(number: int, rng: random.Random) -> dict[str, Any]:
    """A rated call as the ledger writes it, of a tenant drawn with a heavy head."""
    tenant = f"tenant-{min(TENANTS - 1, int(TENANTS * rng.random() ** 2)):05d}"
    start_ms = EPOCH_MS + rng.randrange(28 * DAY_MS)
    return rated_call(
        number,
        usage_id=f"{number:08x}-5a5a-4b4b-8c8c-{number:012x}",
        tenant_id=tenant,
        user_id=f"user-{rng.randrange(50)}",
        start_time=start_ms,
        received_at=start_ms + 60_000,
        duration_s=max(1, int(rng.lognormvariate(4.6, 1.1))),
        destination_name=f"Destination {rng.randrange(60)}",
        source_offset=number,
        applied_seq=number + 1,
        rules_version="2 5f1c phonenumbers-9.0.43",
    )


async def publish(settings: Settings, rows: int) -> None:
    rng = random.Random(7)
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers, max_batch_size=500_000, linger_ms=20)
    await producer.start()
    encode = codec("rated_call").encode
    for number in range(rows):
        call = call_at(number, rng)
        partition = partition_of(call["tenant_id"], PARTITIONS)
        await producer.send(settings.topic("rated-calls"), encode(call), partition=partition)
    await producer.flush()
    await producer.stop()


def inserted(web_port: int = WEB_PORT) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{web_port}/metrics", timeout=2) as page:
            lines = page.read().decode().splitlines()
    except OSError:
        return 0
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("pstn_warehouse_rows_total{"))


def load(node: KafkaNode, url: str, rows: int, prefix: str) -> dict[str, float]:
    settings = prepare(node.bootstrap, prefix)
    asyncio.run(publish(settings, rows))
    with loaders(settings, url, count=1) as [worker]:
        return measured(psutil.Process(worker.pid), inserted, rows)


@contextmanager
def loaders(settings: Settings, url: str, *, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes of one group, the first with WEB_PORT, the next with the one after."""
    command = [sys.executable, "-m", "pipeline", "worker"]
    with tempfile.TemporaryFile() as log:
        workers = []
        try:
            for number in range(count):
                environment = os.environ | {
                    "PSTN_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
                    "PSTN_TOPIC_PREFIX": settings.topic_prefix,
                    "PSTN_ROLES": "loader",
                    "PSTN_WAREHOUSE": url,
                    "PSTN_WEB_PORT": str(WEB_PORT + number),
                }
                workers.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            yield workers
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(30)


def follow(node: KafkaNode, url: str, calls: int) -> dict[str, float]:
    """What one ledger process decides in a second, and what two loaders take in from what it wrote."""
    settings = prepare(node.bootstrap, "bench-follow.")
    ledger = run_worker(settings, calls, TENANTS)
    say(f"follow: the ledger took {ledger['records_s']:,.0f} calls a second; now two loaders")
    with loaders(settings, url, count=2) as workers:
        processes = [psutil.Process(worker.pid) for worker in workers]
        seen: list[tuple[int, float, float]] = []
        while not seen or seen[-1][0] == 0 or time.perf_counter() - seen[-1][1] < SETTLED_S:
            rows, now_s = sum(inserted(WEB_PORT + number) for number in range(2)), time.perf_counter()
            cpu_s = sum(sum(process.cpu_times()[:2]) for process in processes)
            if not seen or rows > seen[-1][0]:
                seen = [*[each for each in seen if each[0]][:1], (rows, now_s, cpu_s)]
            time.sleep(0.05)
    (first_rows, first_s, first_cpu_s), (rows, last_s, last_cpu_s) = seen
    store = open_store(url, for_reading=True)
    [(stored,)] = store.query("SELECT count() FROM rated_calls FINAL").rows
    store.close()
    assert stored == calls
    share = (rows - first_rows) / rows  # of the calls, those that came after the first look
    return {
        "ledger_calls_per_s": round(ledger["records_s"]),
        "calls_per_s": round(calls * share / (last_s - first_s)),
        "rows_per_s": round((rows - first_rows) / (last_s - first_s)),
        "rows_per_call": round(rows / calls, 2),
        "cpu_us_per_call": round((last_cpu_s - first_cpu_s) / (calls * share) * 1e6, 1),
    }


def measured(process: psutil.Process, count: Callable[[], int], total: int) -> dict[str, float]:
    """Rows a second of wall time and of the process's CPU time, from the first progress seen to the last row."""
    first: tuple[int, float, float] | None = None
    deadline_s = time.monotonic() + 600
    while time.monotonic() < deadline_s:
        done, times, now_s = count(), process.cpu_times(), time.perf_counter()
        cpu_s = times.user + times.system
        if done and first is None:
            first = (done, now_s, cpu_s)
        if done >= total and first is not None:
            rows, wall, cpu = done - first[0], now_s - first[1], cpu_s - first[2]
            memory = process.memory_info().rss / 2**20
            return {
                "rows_per_s": round(rows / wall),
                "rows_per_cpu_s": round(rows / cpu),
                "cpu_us_per_row": round(cpu / rows * 1e6, 1),
                "memory_mib": round(memory),
            }
        time.sleep(0.05)
    raise SystemExit("the loader did not come to the last row in ten minutes")


def store_many(store: Store, rows: int) -> None:
    """Real rows through the product, then copies of them by the engine: other days, other ids."""
    migrate(store)
    rng = random.Random(11)
    for start in range(0, SEED_ROWS, 10_000):
        records = [consumed("rated_call", call_at(number, rng)) for number in range(start, start + 10_000)]
        for block in blocks_of(records):
            store.insert(block.table.name, block.table.column_types, block.columns)
    changed = {
        "usage_id": "concat(toString(n), '-', usage_id)",
        "start_time_ms": f"start_time_ms + n % 4 * 31 * {DAY_MS} + n * 1000",
        "received_at_ms": f"received_at_ms + n % 4 * 31 * {DAY_MS} + n * 1000",
        "applied_seq": f"applied_seq + n * {SEED_ROWS}",
        "source_offset": f"source_offset + n * {SEED_ROWS}",
    }
    names = [
        str(row[0])
        for row in store.query(
            "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = 'rated_calls'"
        ).rows
        if row[0] not in ("start_time", "received_at")
    ]
    listed = ", ".join(f"`{name}`" for name in names)
    chosen = ", ".join(changed.get(name, f"`{name}`") for name in names)
    store.execute(f"CREATE TABLE seed ENGINE = Memory AS SELECT {listed} FROM rated_calls")
    for first in range(1, rows // SEED_ROWS, COPIES_AT_ONCE):
        copies = range(first, min(first + COPIES_AT_ONCE, rows // SEED_ROWS))
        source = f"(SELECT *, toInt64(copy) AS n FROM seed ARRAY JOIN {list(copies)} AS copy)"
        store.execute(f"INSERT INTO rated_calls ({listed}) SELECT {chosen} FROM {source} AS copied")
        say(f"{store.name}: {(copies[-1] + 1) * SEED_ROWS:,} rows")
    store.execute("DROP TABLE seed")
    [(count,)] = store.query("SELECT count() FROM rated_calls").rows
    assert count == rows // SEED_ROWS * SEED_ROWS


def best_of_three(store: Store, name: str, sql: str) -> dict[str, float]:
    seconds = []
    for _ in range(3):
        started_s = time.perf_counter()
        count = sum(1 for _ in store.query(sql).rows)
        seconds.append(time.perf_counter() - started_s)
    say(f"{store.name}: {name}: {min(seconds):.3f} s, {count:,} rows")
    return {"seconds": round(min(seconds), 3), "rows": count}


def ask(store: Store) -> dict[str, dict[str, float]]:
    march = parse_period("2026-03", "2026-03")
    [(last_ms,)] = store.query("SELECT max(received_at_ms) FROM rated_calls").rows
    day_ms = int(str(last_ms)) - DAY_MS
    state = PartitionState(0, EPOCH_MS, 2**40, 2**40)
    usage, daily = REPORTS["usage"], REPORTS["daily-usage"]
    questions = {
        "a tenant's month, 25 columns": report_sql(usage, Chosen("tenant-01000", *march)),
        "the same, masked": report_sql(usage, Chosen("tenant-01000", *march), is_masking=True),
        "everybody's daily usage": report_sql(daily),
        "everybody's daily usage, counted by the engine": f"SELECT count() FROM (\n{report_sql(daily)}\n) AS days",
        "reconciliation, all": rated_sql([state]),
        "reconciliation, one new day": rated_sql([state._replace(after_seq=1, after_ms=day_ms)]),
        "reconciliation, ledger": ledger_sql([state]),
    }
    found = {name: best_of_three(store, name, sql) for name, sql in questions.items()}
    months = [str(row[0]) for row in store.query("SELECT DISTINCT toYYYYMM(start_time) FROM rated_calls").rows]
    for month in months:
        store.execute(f"OPTIMIZE TABLE rated_calls PARTITION {month} FINAL")
    at_rest = "everybody's daily usage, at rest"
    return found | {at_rest: best_of_three(store, at_rest, report_sql(daily))}


# Not `ru_maxrss`: a process inherits it from the one that started it, here an engine that has loaded millions of rows.
_EXPORT = """
import sys
from pathlib import Path
from pipeline.__main__ import cli
try:
    cli(sys.argv[1:])
finally:
    print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024)
"""


def excel(url: str, folder: Path) -> dict[str, float]:
    """100,000 calls into a workbook: seconds, and the peak of the exporting process."""
    store = open_store(url, for_reading=True)
    ordered = (
        "SELECT max(start_time_ms) FROM (SELECT start_time_ms FROM rated_calls ORDER BY start_time_ms LIMIT 100000)"
    )
    [(until_ms,)] = store.query(ordered).rows
    store.close()
    path = folder / "calls.xlsx"
    command = [sys.executable, "-c", _EXPORT, "report", "usage", "--output", str(path), "--force", "--warehouse", url]
    started_s = time.perf_counter()
    told = subprocess.run(
        [*command, "--to", format_time(int(str(until_ms)))], capture_output=True, text=True, check=True
    )
    return {
        "seconds": round(time.perf_counter() - started_s, 1),
        "memory_mib": int(told.stdout.split()[-1]),
        "file_mib": round(path.stat().st_size / 2**20, 1),
        "rows": int(told.stderr.split()[0].replace(",", "")),
    }


def load_all(parts: set[str], engines: list[str], urls: dict[str, str], rows: int, results: dict[str, Any]) -> None:
    say("Apache Kafka starts")
    node = KafkaNode().start()
    try:
        for engine in engines if "load" in parts else []:
            say(f"load, {engine}: {rows:,} calls into the topic, then into the warehouse")
            results[f"load, {engine}"] = load(node, urls[engine], rows, f"bench-{engine}.")
            say(f"load, {engine}: {results[f'load, {engine}']}")
        if "follow" in parts:
            results["follow"] = follow(node, urls["follow"], rows)
            say(f"follow: {results['follow']}")
    finally:
        node.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="rated calls that are loaded from Kafka")
    parser.add_argument("--stored", type=int, default=5_000_000, help="rows that the questions are asked of")
    parser.add_argument("--only", default="load,follow,ask,excel", help="some of these")
    parser.add_argument("--engines", default="server,chdb", help="one or both")
    given = parser.parse_args()
    parts = set(given.only.split(","))
    results: dict[str, Any] = {}
    engines = given.engines.split(",")
    if not parts or parts - {"load", "follow", "ask", "excel"} or set(engines) - {"server", "chdb"}:
        parser.error("--only takes load, follow, ask, excel; --engines takes server, chdb")
    if "follow" in parts and "server" not in engines:
        parser.error("two loaders cannot share a chDB folder: leave follow out")
    with tempfile.TemporaryDirectory(prefix="pstn-bench-warehouse-") as name:
        root = Path(name)
        server = ClickHouseServer(root / "server")
        if "server" in engines:
            server.start()
        try:
            urls = {"server": server.url("bench"), "chdb": f"chdb:{root / 'chdb'}"}
            if parts & {"load", "follow"}:
                targets = {
                    "server": server.url("load"),
                    "chdb": f"chdb:{root / 'load'}",
                    "follow": server.url("follow"),
                }
                load_all(parts, engines, targets, given.rows, results)
            for engine in engines if parts & {"ask", "excel"} else []:
                store = open_store(urls[engine])
                store_many(store, given.stored)
                if "ask" in parts:
                    results[f"ask, {engine}"] = ask(store)
                if "excel" in parts and engine == "chdb":
                    results["Excel, chdb, folder open in another process"] = shared = excel(urls[engine], root)
                    say(f"Excel, chdb, folder open in another process: {shared}")
                store.close()
                if "excel" in parts:
                    results[f"Excel, {engine}"] = excel(urls[engine], root)
                    say(f"Excel, {engine}: {results[f'Excel, {engine}']}")
        finally:
            server.stop()
    print(json.dumps({"loaded": given.rows, "stored": given.stored} | results))


if __name__ == "__main__":
    main()

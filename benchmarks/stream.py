"""CDRs through the worker, a naive Faust agent and a floor, on one Apache Kafka in one run.

    python benchmarks/stream.py [--calls 200000] [--tenants 10000] [--contenders worker,floor,floor_ours,naive,quix]
                                [--rounds 1]

worker: `pstn worker --roles ledger`, full records, exactly once. naive: a Faust agent that takes one event at a time,
keeps balances in an `app.Table` and sends with `topic.send` (at-least-once, a tenth of the calls, simple rating).
floor: plain aiokafka and fastavro that reads, decodes, encodes a rated call and writes batches, and decides nothing;
floor_ours: the same with the product's own codec. quix: Quix Streams, exactly-once, simple rating; it needs
`make .venv-quix/installed`.
Each is a process of its own; CPU is that process's, from its first to its last record. With several rounds the
contenders take turns, and each has its best round: a shared machine only ever makes one slower. The last line is JSON.
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
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.table import Table

from pipeline.base.avro import codec
from pipeline.base.check_io import specs_of
from pipeline.base.ids import partition_of
from pipeline.base.settings_io import Settings
from pipeline.base.topics_io import connect_admin, create_topics, describe_topics
from pipeline.debit.init_io import initialise
from pipeline.embedded.kafka_io import KafkaNode

HERE = Path(__file__).resolve().parent
QUIX_PYTHON = HERE.parent / ".venv-quix" / "bin" / "python"
CONTENDERS = ("worker", "floor", "floor_ours", "naive", "quix")
PARTITIONS = 12
WEB_PORT = 16_066
DESTINATIONS = ("+4930231250", "+3319900", "+12065550", "+442079460", "+390612345", "+81312340", "+5511912340")
console = Console(stderr=True)


def tenant_name(number: int) -> str:
    return f"tenant-{number:06d}"


def account_messages(tenant: str, now_ms: int) -> list[bytes]:
    common = {"tenant_id": tenant, "issued_by": "bench"}
    commands = (
        {"kind": "open_account", "country": "US", "currency": "USD", "tariff": "acs_proxy_usd", "agreement": "prepaid"}
        | {"overage_enabled": False, "dial_out_policy": "DialoutCPCandPSTNInternational"},
        {"kind": "set_user", "user_id": "u", "licences": ["MCOPSTN1", "MCOPSTNPP"], "is_resource_account": False},
        {"kind": "add_funds", "amount_micros": 10**12, "currency": "USD", "purchased_at": now_ms}
        | {"payment_method": "card", "reference": "bench"},
    )
    return [codec("account_command").encode(common | {"command_id": f"c{n}"} | c) for n, c in enumerate(commands)]


def cdr_values(tenant: str, number: int, rng: random.Random, now_ms: int) -> tuple[object, ...]:
    callee = rng.choice(DESTINATIONS) + f"{rng.randrange(1000):03d}"
    start = now_ms - rng.randrange(3_600_000)
    return (
        *(f"{number:08x}-5a5a-4b4b-8c8c-{number:012x}", f"call-{number}", None, tenant, "u", "user_out", "Subscriber"),
        *("+12065550100", callee, start, max(1, int(rng.lognormvariate(4.6, 1.1))), None, "Microsoft", "microsoft"),
    )


async def load(settings: Settings, calls: int, tenants: int, *, topic: str) -> None:
    """Fills an input topic: account commands, or calls with Zipf-like tenants."""
    rng = random.Random(7)
    now_ms = int(time.time() * 1000)
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers, max_batch_size=500_000, linger_ms=20)
    await producer.start()
    full = settings.topic(topic)
    if topic == "account-commands":
        for tenant in map(tenant_name, range(tenants)):
            for value in account_messages(tenant, now_ms):
                await producer.send(full, value, key=tenant.encode(), partition=partition_of(tenant, PARTITIONS))
    else:
        encode = codec("cdr").encode_values
        for number in range(calls):
            tenant = tenant_name(min(tenants - 1, int(tenants * rng.random() ** 2)))
            value = encode(cdr_values(tenant, number, rng, now_ms))
            await producer.send(full, value, key=tenant.encode(), partition=partition_of(tenant, PARTITIONS))
    await producer.flush()
    await producer.stop()


def prepare(bootstrap: str, prefix: str) -> Settings:
    settings = Settings(bootstrap_servers=bootstrap, topic_prefix=prefix, partition_count=PARTITIONS)
    admin = connect_admin(bootstrap)
    specs = specs_of(settings)
    create_topics(admin, prefix, specs, partition_count=PARTITIONS, replication_factor=1)
    found = describe_topics(admin, prefix, [spec.name for spec in specs])
    ids = {name: state.topic_id for name, state in found.items()}
    asyncio.run(initialise(settings, partition_count=PARTITIONS, topic_ids=ids))
    return settings


def applied() -> int:
    """Records that the worker has applied, as its metrics tell."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{WEB_PORT}/metrics", timeout=2) as page:
            lines = page.read().decode().splitlines()
    except OSError:
        return 0
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("pstn_records_applied_total{"))


def watch(process: subprocess.Popen[bytes], count: Callable[[], int], total: int) -> dict[str, float]:
    """CPU and wall time from the first progress seen to the last record; nothing when those are one."""
    usage = psutil.Process(process.pid)
    first: tuple[int, float, float] | None = None
    while True:
        done = count()
        cpu = usage.cpu_times()
        reading = (done, time.perf_counter(), cpu.user + cpu.system)
        if first is None and done > 0:
            first = reading
        if done >= total:
            break
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended early with {process.returncode}")
        time.sleep(0.05)
    assert first is not None
    if first[0] == done:
        return {}
    records, wall_s, cpu_s = (last - start for last, start in zip(reading, first, strict=True))
    rss = usage.memory_info().rss / 2**20
    return {"records_s": records / wall_s, "cpu_us": cpu_s * 1e6 / records, "rss_mib": rss}


def run_worker(settings: Settings, calls: int, tenants: int) -> dict[str, float]:
    environment = os.environ | {
        "PSTN_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PSTN_TOPIC_PREFIX": settings.topic_prefix,
        "PSTN_ROLES": "ledger",
        "PSTN_WEB_PORT": str(WEB_PORT),
    }
    command = [sys.executable, "-m", "pipeline", "worker"]
    for topic, total in (("account-commands", 3 * tenants), ("cdrs", calls)):
        asyncio.run(load(settings, calls, tenants, topic=topic))
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            figures = watch(process, applied, total)
        finally:
            process.terminate()
            process.wait(20)
    return figures


def run_script(
    name: str, settings: Settings, total: int, codec_name: str = "fastavro", python: str | Path = sys.executable
) -> dict[str, float]:
    """The peers and the floor print `done=<records>` as they go."""
    variables = {"BOOTSTRAP": settings.bootstrap_servers, "PREFIX": settings.topic_prefix, "TOTAL": str(total)}
    variables["CODEC"] = codec_name
    variables["PYTHONPATH"] = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(HERE), str(HERE.parent)])
    command = [str(python), str(HERE / name), *(["worker", "-l", "error"] if "faust" in name else [])]
    process = subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    progress = 0

    def count() -> int:
        nonlocal progress
        for line in (process.stdout.read() or b"").split():  # type: ignore[union-attr]
            if line.startswith(b"done="):
                progress = int(line[5:])
        return progress

    try:
        return watch(process, count, total)
    finally:
        process.kill()
        process.wait(20)


def run_contender(name: str, settings: Settings, calls: int, tenants: int) -> dict[str, float]:
    match name:
        case "worker":
            return run_worker(settings, calls, tenants)
        case "naive":
            return run_script("naive_faust.py", settings, calls // 10)
        case "quix":
            return run_script("quix_streams.py", settings, calls, python=QUIX_PYTHON)
        case _:
            return run_script("floor.py", settings, calls, "ours" if name == "floor_ours" else "fastavro")


def ratios_of(figures: dict[str, dict[str, float]]) -> dict[str, float]:
    """Of the worker to each other: records a second, and CPU time a record the other way round."""
    worker, ratios = figures["worker"], {}
    for name, other in figures.items():
        if name != "worker":
            ratios[f"worker_over_{name}"] = round(worker["records_s"] / other["records_s"], 2)
            ratios[f"worker_over_{name}_cpu"] = round(other["cpu_us"] / worker["cpu_us"], 2)
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="the worker runs first, always")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of all contenders; the best of each counts")
    options = parser.parse_args()
    names = ["worker", *(name for name in CONTENDERS[1:] if name in options.contenders.split(","))]
    if "quix" in names and not QUIX_PYTHON.exists():
        parser.error("Quix Streams is not installed: type `make .venv-quix/installed`, or leave it out by --contenders")
    figures: dict[str, dict[str, float]] = {}
    with KafkaNode() as node:
        for number in range(options.rounds):
            settings = prepare(node.bootstrap, f"bench{number}.")
            for name in names:
                with console.status(name):
                    found = run_contender(name, settings, options.calls, options.tenants)
                console.print(number, name, {key: round(value, 1) for key, value in found.items()}, soft_wrap=True)
                figures[name] = min(found, figures.get(name, found), key=lambda each: each["cpu_us"])
    table = Table("contender", "records/s", "CPU us a record", "memory MiB")
    for name, found in figures.items():
        table.add_row(name, f"{found['records_s']:,.0f}", f"{found['cpu_us']:.1f}", f"{found['rss_mib']:.0f}")
    console.print(table)
    rounded = {name: {key: round(value, 1) for key, value in found.items()} for name, found in figures.items()}
    given = {"calls": options.calls, "tenants": options.tenants, "rounds": options.rounds}
    print(json.dumps({**given, **rounded, **ratios_of(figures)}))


if __name__ == "__main__":
    main()

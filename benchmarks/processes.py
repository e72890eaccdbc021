"""`pstn worker --processes 2` against one process, on a backlog; every process has the same share of a core.

    python benchmarks/processes.py [--share 0.5] [--calls 400000] [--tenants 10000]

Two workers and a broker do not fit on two cores: unlimited, the run would time the broker. A control group for each
process gives it a share of a core and no more, and the broker has the rest. Linux, as root. The rate is that from when
every process has begun until nine tenths of the calls are done: partitions are not equally full. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from steady import samples
from stream import WEB_PORT, load, prepare, watch

from pipeline.base.settings_io import Settings
from pipeline.embedded.kafka_io import KafkaNode

PERIOD_US = 10_000
PROCESSES = (1, 2)
GROUPS = Path("/sys/fs/cgroup")
console = Console(stderr=True)


class Share:
    """A control group whose processes together get that share of one core."""

    def __init__(self, name: str, share: float) -> None:
        quota_us = int(PERIOD_US * share)
        if (GROUPS / "cgroup.controllers").exists():
            self._path = GROUPS / name
            limits = {"cpu.max": f"{quota_us} {PERIOD_US}"}
        else:
            self._path = GROUPS / "cpu" / name
            limits = {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota_us)}
        self._path.mkdir(exist_ok=True)
        for file, limit in limits.items():
            (self._path / file).write_text(limit)

    def take(self, process: psutil.Process) -> None:
        (self._path / "cgroup.procs").write_text(str(process.pid))

    def end(self) -> None:
        """Once its processes have ended."""
        self._path.rmdir()


def applied(count: int) -> list[int]:
    """Records that each process has applied."""
    return [int(sum(samples(WEB_PORT + number, "pstn_records_applied_total").values())) for number in range(count)]


def started(settings: Settings, count: int) -> subprocess.Popen[bytes]:
    variables = {
        "PSTN_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PSTN_TOPIC_PREFIX": settings.topic_prefix,
        "PSTN_ROLES": "ledger",
        "PSTN_WEB_PORT": str(WEB_PORT),
    }
    command = [sys.executable, "-m", "pipeline", "worker", "--processes", str(count)]
    return subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.DEVNULL)


def workers_of(parent: psutil.Process, count: int) -> list[psutil.Process]:
    """The processes that work: its children, or itself when there is one only."""
    while count > 1 and len(parent.children()) < count:
        time.sleep(0.05)
    return parent.children() if count > 1 else [parent]


def measure(settings: Settings, count: int, calls: int, shares: Sequence[Share]) -> dict[str, float]:
    process = started(settings, count)
    try:
        workers = workers_of(psutil.Process(process.pid), count)
        for worker, share in zip(workers, shares, strict=False):
            share.take(worker)
        began: tuple[int, float, float] | None = None
        while True:
            done, cpu_s = applied(count), sum(sum(worker.cpu_times()[:2]) for worker in workers)
            now = (sum(done), time.perf_counter(), cpu_s)
            if began is None and min(done) > 0:
                began = now
            if sum(done) >= calls * 9 // 10:
                break
            time.sleep(0.05)
        assert began is not None, "the first process was done before the others had begun: more --calls"
        records, wall_s, used_s = (last - first for last, first in zip(now, began, strict=True))
        return {"records_s": records / wall_s, "cpu_us": used_s * 1e6 / records, "records": records}
    finally:
        process.terminate()
        process.wait(30)


def open_accounts(settings: Settings, tenants: int) -> None:
    asyncio.run(load(settings, 0, tenants, topic="account-commands"))
    process = started(settings, 1)
    try:
        watch(process, lambda: sum(applied(1)), 3 * tenants)
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.5, help="of a core, for each process")
    parser.add_argument("--calls", type=int, default=400_000)
    parser.add_argument("--tenants", type=int, default=10_000)
    options = parser.parse_args()
    shares = [Share(f"pstn-bench-{number}", options.share) for number in range(max(PROCESSES))]
    figures: dict[int, dict[str, float]] = {}
    try:
        with KafkaNode() as node:
            for count in PROCESSES:
                settings = prepare(node.bootstrap, f"processes{count}.")
                with console.status(f"{count} processes"):
                    open_accounts(settings, options.tenants)
                    asyncio.run(load(settings, options.calls, options.tenants, topic="cdrs"))
                    figures[count] = measure(settings, count, options.calls, shares)
    finally:
        for share in shares:
            share.end()
    table = Table("processes", "records/s", "CPU us a record")
    for count, found in figures.items():
        table.add_row(str(count), f"{found['records_s']:,.0f}", f"{found['cpu_us']:.1f}")
    console.print(table)
    one, more = figures[PROCESSES[0]]["records_s"], figures[PROCESSES[-1]]["records_s"]
    rounded = {str(count): {name: round(value, 1) for name, value in found.items()} for count, found in figures.items()}
    print(json.dumps({**vars(options), "processes": rounded, "two_over_one": round(more / one, 2)}))


if __name__ == "__main__":
    main()

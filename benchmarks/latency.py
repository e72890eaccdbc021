"""From a CDR on the topic to its row visible in ClickHouse: p50, p99, p99.9 at half of the measured maximum rate.

    python benchmarks/latency.py [--rate 2000] [--seconds 60] [--warehouse server|chdb] [--together]

A `pstn worker` with the role ledger and one with the role loader (or, together, one with both), on Apache Kafka, with
Debian's clickhouse-server, or chDB in the worker. The maximum is that of a backlog, until its rows are visible.
Begin of a call is the broker's own stamp (LogAppendTime), its end is the first look that shows its row: looks follow
one another, so the time of a look is in it. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table
from steady import Feeder, made, options_parser, samples, wait_until_applied, worker
from stream import PARTITIONS

from pipeline.embedded.clickhouse_server_io import ClickHouseServer
from pipeline.embedded.kafka_io import KafkaNode
from pipeline.warehouse.store import Store, StoreAway, StoreRefused
from pipeline.warehouse.store_io import open_store

console = Console(stderr=True)
WARM_UP_S = 5.0
LOOK_INTERVAL_S = 0.05  # each look takes 10 ms of the server
_FIRST_CALLS = 2_000
# A broker that has just started takes 0.7 of a core for 1,000 calls a second, half of it to compile itself; 0.4 later.
_BROKER_WARM_UP_S, _BROKER_WARM_UP_RATE = 45.0, 1_000
# Rows of a partition become visible in the order of their offsets, so the highest says it for all below.
VISIBLE = "SELECT source_partition, max(source_offset) FROM rated_calls GROUP BY source_partition"


class Looks:
    """What was visible when: for each partition, rising (time in s, highest offset)."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._store: Store | None = None
        self.seen: dict[int, list[tuple[float, int]]] = defaultdict(list)
        self.times_s: list[float] = []

    def look(self) -> dict[int, int]:
        """Highest visible offset by partition; empty while there is no table yet."""
        begun_s = time.time()
        try:
            if self._store is None:
                self._store = open_store(self._url, for_reading=True)
            found = {int(str(number)): int(str(offset)) for number, offset in self._store.query(VISIBLE).rows}
        except (StoreAway, StoreRefused):
            return {}
        now_s = time.time()
        self.times_s.append(now_s - begun_s)
        for number, offset in found.items():
            if not self.seen[number] or self.seen[number][-1][1] < offset:
                self.seen[number].append((now_s, offset))
        return found

    def until(self, wanted: dict[int, int], limit_s: float) -> None:
        """Looks until every partition shows its offset."""
        until_s = time.monotonic() + limit_s
        while any(self.look().get(number, -1) < offset for number, offset in wanted.items()):
            if time.monotonic() > until_s:
                raise SystemExit("the rows do not become visible; BENCH_LOG=FILE keeps what the worker says")
            time.sleep(LOOK_INTERVAL_S)

    def latencies_s(self, sent: list[tuple[int, int, int]]) -> list[float]:
        """Of each call, sorted."""
        found = []
        by_partition: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for number, offset, stamped_ms in sent:
            by_partition[number].append((offset, stamped_ms))
        for number, calls in by_partition.items():
            looks, at = self.seen[number], 0
            for offset, stamped_ms in sorted(calls):
                while looks[at][1] < offset:
                    at += 1
                found.append(looks[at][0] - stamped_ms / 1000)
        return sorted(found)


def highest(sent: list[tuple[int, int, int]]) -> dict[int, int]:
    result: dict[int, int] = {}
    for number, offset, _ in sent:
        result[number] = max(offset, result.get(number, -1))
    return result


def mean(ports: Sequence[int], name: str, label: str = "") -> float:
    """Of a histogram of the worker."""
    total, count = (
        sum(value for port in ports for labels, value in samples(port, f"{name}_{part}").items() if label in labels)
        for part in ("sum", "count")
    )
    return total / max(1.0, count)


def main() -> None:
    parser = options_parser(__doc__, 10_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warehouse", choices=["server", "chdb"], default="server")
    parser.add_argument("--together", action="store_true", help="ledger and loader in one process")
    options = parser.parse_args()
    with KafkaNode() as node, tempfile.TemporaryDirectory(prefix="pstn-latency-") as folder:
        server = ClickHouseServer(Path(folder) / "server") if options.warehouse == "server" else None
        if server is not None:
            server.start()
        url = server.url("bench") if server is not None else f"chdb:{folder}/warehouse"
        try:
            measure(options, node.bootstrap, url)
        finally:
            if server is not None:
                server.stop()


def measure(options: argparse.Namespace, bootstrap: str, url: str) -> None:
    rate, tenants, backlog = options.rate, options.tenants, options.backlog
    settings = made(bootstrap, "latency.", tenants)
    with ExitStack() as running:
        ports = []
        for roles in ("ledger,loader",) if options.together else ("ledger", "loader"):
            process, port = running.enter_context(worker(settings, PSTN_ROLES=roles, PSTN_WAREHOUSE=url))
            ports.append(port)
            if "ledger" in roles:
                wait_until_applied(port, 3 * tenants, process)
        looks = Looks(url)
        # The first ones make the tables, and fill caches.
        looks.until(highest(Feeder(settings, 0, tenants, count=_FIRST_CALLS).stop()), 300)
        warming = Feeder(settings, _BROKER_WARM_UP_RATE, tenants)
        time.sleep(_BROKER_WARM_UP_S)
        looks.until(highest(warming.stop()), 300)
        rate_max = 2 * rate
        if not rate:
            begun_s = time.monotonic()
            looks.until(highest(Feeder(settings, 0, tenants, count=backlog).stop()), 300)
            rate_max = backlog / (time.monotonic() - begun_s)
            rate = rate_max / 2
        feeder = Feeder(settings, rate, tenants)
        until_s = time.monotonic() + WARM_UP_S + options.seconds
        looks.times_s.clear()
        while time.monotonic() < until_s:
            looks.look()
            time.sleep(LOOK_INTERVAL_S)
        behind = [sample for port in ports for sample in samples(port, "pstn_lag_seconds").items()]
        sent = feeder.stop()
        looks.until(highest(sent), 120)
        steps = {
            "slice_records": mean(ports, "pstn_slice_records"),
            "wait_ms": 1000 * mean(ports, "pstn_slice_seconds", 'step="wait"'),
            "decide_ms": 1000 * mean(ports, "pstn_slice_seconds", 'step="decide"'),
            "commit_ms": 1000 * mean(ports, "pstn_slice_seconds", 'step="commit"'),
            "insert_ms": 1000 * mean(ports, "pstn_warehouse_insert_seconds"),
        }
    warm_from_ms = min(stamped_ms for _, _, stamped_ms in sent) + WARM_UP_S * 1000
    found_s = looks.latencies_s([call for call in sent if call[2] >= warm_from_ms])
    figures = {f"p{share}_ms": round(1000 * found_s[int(len(found_s) * share / 100)]) for share in (50, 90, 99, 99.9)}
    table = Table("calls", "calls/s", *figures, "longest", title=f"topic to {options.warehouse}")
    table.add_row(f"{len(found_s):,}", f"{rate:,.0f}", *map(str, figures.values()), f"{1000 * found_s[-1]:,.0f}")
    console.print(table)
    result = {
        "warehouse": options.warehouse,
        "processes": 1 if options.together else 2,
        "rate_max": round(rate_max),
        "rate": round(rate),
        "calls": len(found_s),
        "tenants": tenants,
        "partitions": PARTITIONS,
        **figures,
        "max_ms": round(1000 * found_s[-1]),
        "look_ms": round(1000 * statistics.median(looks.times_s), 1),
        **{name: round(value, 1) for name, value in steps.items()},
        "lag_s_at_end": {
            role: round(max((lag for labels, lag in behind if f'role="{role}"' in labels), default=0.0), 2)
            for role in ("ledger", "loader")
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

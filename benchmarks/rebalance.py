"""How long partitions are silent when a second worker joins and leaves under load.

    python benchmarks/rebalance.py [--rate 2000] [--seconds 15]

A worker takes calls at half of its measured maximum. A second one is started, works, and is ended with SIGTERM; then it
is started again and killed. All the while the results are read (read_committed), and the longest gap between two
results of a partition is its silence. Partitions that stay with the first worker are told apart from those that move.
The feeder's own longest gap is measured too. The last line is JSON.
"""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from collections import defaultdict

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.table import Table
from steady import Feeder, made, options_parser, wait_until_applied, worker
from stream import PARTITIONS

from pipeline.base.settings_io import Settings
from pipeline.embedded.kafka_io import KafkaNode

console = Console(stderr=True)
SESSION_TIMEOUT_MS = 6_000
# Ordinary gaps end; what is longer than this after an event belongs to the event.
SETTLED_S = 5.0


class Watch:
    """When results of each partition became visible."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.bootstrap_servers,
                "group.id": f"watch-{topic}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "latest",
                "fetch.wait.max.ms": 50,
                "log_level": 0,
            }
        )
        full = settings.topic(topic)
        self._consumer.assign([TopicPartition(full, number, OFFSET_END) for number in range(PARTITIONS)])
        self.seen: dict[int, list[float]] = defaultdict(list)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            messages = self._consumer.consume(num_messages=1_000, timeout=0.02)
            now_s = time.monotonic()
            for number in {message.partition() for message in messages if message.error() is None}:
                self.seen[number].append(now_s)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def silence(self, partition: int, begin_s: float, end_s: float) -> float:
        """The longest gap that touches the time from begin to end."""
        times = list(self.seen[partition])
        before = max((at for at in times if at <= begin_s), default=begin_s)
        inside = [at for at in times if begin_s < at <= end_s]
        points = [before, *inside, end_s] if inside else [before, end_s]
        return max(after - earlier for earlier, after in itertools.pairwise(points))


def owners(settings: Settings, admin: AdminClient) -> dict[int, str]:
    """Client id of each partition's owner; empty while the group rebalances."""
    try:
        described = admin.describe_consumer_groups([settings.group("ledger")])[settings.group("ledger")].result()
    except KafkaException:  # the coordinator is not ready yet
        return {}
    if described.state.name != "STABLE":
        return {}
    return {
        place.partition: member.client_id
        for member in described.members
        for place in member.assignment.topic_partitions
    }


def wait_for_members(settings: Settings, admin: AdminClient, count: int) -> dict[int, str]:
    until_s = time.monotonic() + 120
    while time.monotonic() < until_s:
        found = owners(settings, admin)
        if len(found) == PARTITIONS and len(set(found.values())) == count:
            return found
        time.sleep(0.1)
    raise SystemExit(f"the group does not come to {count} members; BENCH_LOG=FILE keeps what the workers say")


def main() -> None:
    parser = options_parser(__doc__, 2_000)
    parser.add_argument("--seconds", type=float, default=15, help="between two events")
    options = parser.parse_args()
    rows: list[tuple[str, dict[str, float]]] = []
    roles = {"PSTN_ROLES": "ledger", "PSTN_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS)}
    with KafkaNode() as node:
        settings = made(node.bootstrap, "rebalance.", options.tenants)
        admin = AdminClient({"bootstrap.servers": node.bootstrap, "log_level": 0})
        with worker(settings, **roles) as (first, port):
            rate = options.rate
            if not rate:
                wait_until_applied(port, 3 * options.tenants, first)
                backlog = Feeder(settings, 0, options.tenants, count=options.backlog)
                rate = 0.5 / wait_until_applied(port, 3 * options.tenants + options.backlog, first)
                backlog.stop()
            feeder = Feeder(settings, rate, options.tenants)
            results, inputs = Watch(settings, "rated-calls"), Watch(settings, "cdrs")
            alone = wait_for_members(settings, admin, 1)
            time.sleep(options.seconds)
            begun_s = time.monotonic()
            rows.append(
                ("one worker, steady", measured(results, inputs, begun_s - options.seconds / 2, begun_s, set()))
            )
            for ending in (signal.SIGTERM, signal.SIGKILL):
                with worker(settings, **roles) as (second, _):
                    joined_s = time.monotonic()
                    shared = wait_for_members(settings, admin, 2)
                    moved = {number for number, owner in shared.items() if owner != alone[number]}
                    time.sleep(SETTLED_S + options.seconds)
                    if ending == signal.SIGTERM:
                        until_s = time.monotonic()
                        rows.append(("a second one joins", measured(results, inputs, joined_s, until_s, moved)))
                    ended_s = time.monotonic()
                    second.send_signal(ending)
                    name = "it stops (SIGTERM)" if ending == signal.SIGTERM else "it is killed (SIGKILL)"
                    wait_for_members(settings, admin, 1)
                    time.sleep(SETTLED_S + options.seconds)
                    rows.append((name, measured(results, inputs, ended_s, time.monotonic(), moved)))
            feeder.stop()
            results.close()
            inputs.close()
    table = Table(
        "event", "moved: longest silence", "stays: longest silence", "feeder's own", title=f"{rate:,.0f} calls/s"
    )
    for name, found in rows:
        table.add_row(name, *(f"{found[key]:.2f} s" for key in ("moved_s", "stays_s", "feeder_s")))
    console.print(table)
    keys = ("steady", "join", "clean_stop", "kill")
    figures = {key: found for key, (_, found) in zip(keys, rows, strict=True)}
    result = {"rate": round(rate), "partitions": PARTITIONS, "session_timeout_ms": SESSION_TIMEOUT_MS, **figures}
    print(json.dumps(result))


def measured(results: Watch, inputs: Watch, begin_s: float, end_s: float, moved: set[int]) -> dict[str, float]:
    """Longest silences; of the partitions that moved, of the others, and of the input in all of them."""
    stays = set(range(PARTITIONS)) - moved
    silences = {number: results.silence(number, begin_s, end_s) for number in range(PARTITIONS)}
    return {
        "moved_s": round(max((silences[number] for number in moved), default=0.0), 2),
        "stays_s": round(max((silences[number] for number in stays), default=0.0), 2),
        "feeder_s": round(max(inputs.silence(number, begin_s, end_s) for number in range(PARTITIONS)), 2),
    }


if __name__ == "__main__":
    main()

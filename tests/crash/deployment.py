"""A whole deployment of real processes: broker, warehouse, ledger workers, loader, payments, notifier; and its log."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, OffsetSpec, ResourceType
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from pipeline.base.avro import codec
from pipeline.base.check_io import specs_of
from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.settings_io import Settings
from pipeline.base.topics_io import connect_admin, create_topics, describe_topics
from pipeline.debit.init_io import initialise
from pipeline.embedded.clickhouse_server_io import ClickHouseServer
from pipeline.embedded.kafka_io import KafkaNode

from .options import REPOSITORY, TABLES, Options
from .topics_read import INPUTS, TopicsLog
from .traffic import Traffic
from .transcript import Transcript

# What each role's group must have read before everything is at rest.
DOWNSTREAM = {
    "loader": ("rated-calls", "account-events", "rejected", "credit-table"),
    "notifier": ("account-events",),
    "payments": ("account-events",),
}
_STOP_S_MAX = 10.0
RESTORE_STALL_S = 6.0


class Role:
    """One process of the product, started again and again under the same name."""

    def __init__(self, name: str, role: str, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self.name = name
        self.role = role
        self.log_path = folder / f"{name}.log"
        self.is_wanted = False
        self.started_at = 0
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.started_at = self.mark()
        with self.log_path.open("ab") as stream:
            self._process = subprocess.Popen(
                self._command, env=self._environment, cwd=REPOSITORY, stdout=stream, stderr=stream
            )
        self.is_wanted = True

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def is_up(self) -> bool:
        """It runs and has joined its group since it was started last."""
        return self.is_running and bool(self.said(self.started_at, "partitions_assigned"))

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def send(self, what: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(what)

    def kill(self) -> None:
        self.is_wanted = False
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> int | None:
        """SIGTERM; the exit code, or None when it had to be killed."""
        self.is_wanted = False
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def mark(self) -> int:
        """Where its log ends now."""
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def text_since(self, mark: int) -> str:
        with self.log_path.open("rb") as log:
            log.seek(mark)
            return log.read().decode(errors="replace")

    def said(self, mark: int, event: str) -> list[dict[str, Any]]:
        """Lines of an event since a mark."""
        found = []
        for line in self.text_since(mark).splitlines():
            if f'"{event}"' in line:
                try:
                    fields = json.loads(line)
                except ValueError:  # still being written
                    continue
                if fields.get("event") == event:
                    found.append(fields)
        return found

    def owned(self) -> list[int]:
        """Partitions, as it said last since it was started."""
        lines = self.said(self.started_at, "partitions_assigned")
        return list(lines[-1]["owned"]) if lines else []


class Deployment:
    """Everything of one topic prefix. What goes wrong in behaviour is counted in `counts`."""

    def __init__(
        self, options: Options, *, node: KafkaNode, clickhouse: ClickHouseServer | None, prefix: str, folder: Path,
        transcript: Transcript,
    ) -> None:  # fmt: skip
        self.options = options
        self.node = node
        self.clickhouse = clickhouse
        self.prefix = prefix
        self.folder = folder
        self.transcript = transcript
        folder.mkdir(parents=True, exist_ok=True)
        database = prefix.strip(".").replace("-", "_")
        self.warehouse = clickhouse.url(database) if clickhouse is not None else f"chdb:{folder / 'warehouse'}"
        self.outbox = folder / "outbox"
        self.settings = Settings(
            bootstrap_servers=node.bootstrap, topic_prefix=prefix, partition_count=options.partitions
        )
        self.log = TopicsLog(node.bootstrap, prefix, options.partitions)
        self.traffic = Traffic(options, node.bootstrap, prefix)
        self.lost: set[tuple[int, int]] = set()
        self.counts = {"zombies_unfenced": 0, "stops_unclean": 0, "exits_unexpected": 0, "gaps_unsaid": 0}
        self.workers = [self._role(f"ledger-{number + 1}", "ledger") for number in range(options.workers)]
        helpers = [self._role(roles.replace(",", "-"), roles) for roles in options.helpers]
        self.helpers = {role: helper for helper in helpers for role in helper.role.split(",")}
        self._admin: Any = None

    @property
    def roles(self) -> Iterator[Role]:
        yield from self.workers
        yield from dict.fromkeys(self.helpers.values())

    def rest(self, dice: random.Random, least_s: float, most_s: float) -> None:
        """Some time in which work goes on."""
        time.sleep(dice.uniform(least_s, most_s) * self.options.pace)

    def _role(self, name: str, role: str) -> Role:
        options = self.options
        command = [sys.executable, "-m", "pipeline", "worker"]
        if role == "ledger" and options.sabotage:
            command = [sys.executable, "-m", "tests.crash.sabotage", options.sabotage]
        environment = os.environ | {
            "PSTN_BOOTSTRAP_SERVERS": self.node.bootstrap,
            "PSTN_TOPIC_PREFIX": self.prefix,
            "PSTN_PARTITION_COUNT": str(options.partitions),
            "PSTN_ROLES": role,
            "PSTN_WEB_PORT": "0",
            "PSTN_LOG_FORMAT": "json",
            "PSTN_SESSION_TIMEOUT_MS": str(options.session_timeout_ms),
            "PSTN_RESTORE_STALL_S": str(RESTORE_STALL_S),
            "PSTN_TICK_INTERVAL_S": "3600",  # ticks come with the traffic
            "PSTN_TABLES": str(TABLES),
            "PSTN_WAREHOUSE": self.warehouse,
            "PSTN_OUTBOX": str(self.outbox),
        }
        return Role(name, role, command, environment, self.folder)

    def spare_worker(self) -> Role:
        return self._role("ledger-spare", "ledger")

    # beginning and end

    def begin(self) -> None:
        """Topics, first checkpoints, accounts, every process."""
        specs = specs_of(self.settings)
        admin = connect_admin(self.node.bootstrap)
        create_topics(admin, self.prefix, specs, partition_count=self.options.partitions, replication_factor=1)
        found = describe_topics(admin, self.prefix, [spec.name for spec in specs])
        ids = {name: state.topic_id for name, state in found.items()}
        asyncio.run(initialise(self.settings, partition_count=self.options.partitions, topic_ids=ids))
        for role in self.roles:
            role.start()
        self.traffic.open_accounts()

    def end(self) -> None:
        for role in self.roles:
            if role.is_running:
                role.kill()

    def stop(self) -> None:
        """Ends every process as an operator would."""
        for role in self.roles:
            if role.is_running:
                self.end_cleanly(role)

    def end_cleanly(self, role: Role) -> None:
        """SIGTERM; counts one that does not leave in time with exit code 0."""
        begin_s = time.monotonic()
        is_up = role.is_up
        code = role.terminate()
        if code == -signal.SIGTERM and not is_up:
            return  # it was still importing and had begun nothing
        if code != 0:
            self.counts["stops_unclean"] += 1
            self.transcript.say(f"! {role.name} ended with {code} after {time.monotonic() - begin_s:.1f} s of SIGTERM")

    def watch(self) -> None:
        """What an orchestrator does: a process that ended by itself is started again, and counted."""
        for role in self.roles:
            if role.is_wanted and not role.is_running:
                self.counts["exits_unexpected"] += 1
                last = role.text_since(max(0, role.mark() - 400)).strip().splitlines()[-1:]
                self.transcript.say(f"! {role.name} ended by itself with {role.exit_code}: {' '.join(last)[:300]}")
                role.start()

    def recovered(self, wait_s: float = 300) -> bool:
        """Waits until every process that should run has joined its group again: the next fault is to meet work."""

        def is_up() -> bool:
            self.watch()
            return all(role.is_up for role in self.roles if role.is_wanted)

        return wait_until(is_up, wait_s, poll_s=0.2)

    # what the broker knows

    @property
    def admin(self) -> Any:
        if self._admin is None:
            self._admin = connect_admin(self.node.bootstrap)
        return self._admin

    def set_config(self, topic: str, key: str, value: str | None) -> None:
        operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
        entry = ConfigEntry(key, value or "", incremental_operation=operation)
        resource = ConfigResource(ResourceType.TOPIC, self.prefix + topic, incremental_configs=[entry])
        for future in self.admin.incremental_alter_configs([resource]).values():
            future.result()

    def delete_records(self, places: dict[tuple[str, int], int]) -> None:
        """Retention: everything below these offsets goes."""
        partitions = [TopicPartition(self.prefix + topic, number, offset) for (topic, number), offset in places.items()]
        for future in self.admin.delete_records(partitions).values():
            future.result()

    @retry(retry=retry_if_exception_type(KafkaException), stop=stop_after_delay(30), wait=wait_fixed(0.5), reraise=True)
    def high_watermark(self, topic: str, number: int) -> int:
        """The end of a partition, open transactions included. For some seconds after a restart the admin client asks
        with an old leader's epoch."""
        place = TopicPartition(self.prefix + topic, number)
        found = self.admin.list_offsets(
            {place: OffsetSpec.latest()}, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=15
        )
        return int(found[place].result().offset)

    def checkpoints(self) -> list[dict[str, Any]]:
        """Of every partition, as the log kept here knows them."""
        return [
            codec("checkpoint").decode(self.log.latest(number)[CHECKPOINT_KEY])
            for number in range(self.options.partitions)
        ]

    # at rest

    def settle(self) -> list[str]:
        """Waits until everything is applied, loaded, told and paid, twice over; else what is missing, for a person."""
        until_s = time.monotonic() + self.options.settle_s
        quiet = 0
        while True:
            self.watch()
            news = self.log.refresh()
            behind = self._behind()
            quiet = quiet + 1 if not news and not behind else 0
            if quiet >= 2:
                return []
            if time.monotonic() > until_s:
                return behind or ["records keep coming"]
            time.sleep(0.3)

    def _behind(self) -> list[str]:
        found = []
        checkpoints = self.checkpoints()
        for topic in INPUTS:
            field = "next_offset_cdrs" if topic == "cdrs" else "next_offset_commands"
            for number, checkpoint in enumerate(checkpoints):
                records = self.log.records[topic, number]
                if records and checkpoint[field] <= records[-1].offset:
                    found.append(f"{topic}-{number} is applied to {checkpoint[field]} of {records[-1].offset + 1}")
        for role in self.helpers:
            topics = DOWNSTREAM[role]
            committed = self._committed(role, topics)
            for (topic, number), offset in committed.items():
                records = self.log.records[topic, number]
                if records and offset <= records[-1].offset:
                    found.append(f"{role} has {topic}-{number} to {offset} of {records[-1].offset + 1}")
        return found

    def _committed(self, role: str, topics: tuple[str, ...]) -> dict[tuple[str, int], int]:
        asked = [
            TopicPartition(self.prefix + topic, number) for topic in topics for number in range(self.options.partitions)
        ]
        consumer = Consumer(
            {"bootstrap.servers": self.node.bootstrap, "group.id": f"{self.prefix}{role}", "log_level": 0}
        )
        try:
            answer = consumer.committed(asked, timeout=15)
        except KafkaException:  # the coordinator is loading: nothing is known yet
            return dict.fromkeys(((topic, n) for topic in topics for n in range(self.options.partitions)), 0)
        finally:
            consumer.close()
        return {(str(each.topic).removeprefix(self.prefix), each.partition): each.offset for each in answer}


def wait_until(holds: Callable[[], bool], wait_s: float, poll_s: float = 0.02) -> bool:
    """Polls; whether it came about in time."""
    until_s = time.monotonic() + wait_s
    while not holds():
        if time.monotonic() > until_s:
            return False
        time.sleep(poll_s)
    return True

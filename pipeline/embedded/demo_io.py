"""Runs the demo: a broker, a worker with all roles, the simulator, and a second pair of eyes that keeps its own books.

One procedure for both brokers: start, send, wait until everything has come to rest, ask the warehouse, compare, stop.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import RenderableType

from pipeline.base.check_io import specs_of
from pipeline.base.kafka_io import WorkerMustStop
from pipeline.base.resources_io import resource_path
from pipeline.base.settings_io import ROLES, Settings
from pipeline.base.topics import CDRS
from pipeline.base.topics_io import connect_admin, create_topics, describe_topics, touch_topics
from pipeline.charge.tables_io import load_tables
from pipeline.debit.init_io import initialise
from pipeline.embedded.audit import Audit
from pipeline.embedded.audit_io import AuditReader
from pipeline.embedded.broker_io import PARTITION_COUNT, EmbeddedBroker
from pipeline.embedded.customers import Plan
from pipeline.embedded.demo import (
    DESTINATIONS_SQL,
    NOTICES_SQL,
    OUTCOMES_SQL,
    REJECTED_SQL,
    UNPAID_SQL,
    Destination,
    Recharges,
    Summary,
)
from pipeline.embedded.demo_view import Moment, live_view
from pipeline.embedded.demo_worker_io import DemoWorker, WorkerInside, WorkerProcess
from pipeline.embedded.kafka_io import KafkaNode
from pipeline.embedded.plan import make_plan
from pipeline.embedded.simulate import Tally
from pipeline.embedded.simulate_io import Switch, send_all
from pipeline.warehouse.chosen import EVERYTHING
from pipeline.warehouse.export_io import write_csv
from pipeline.warehouse.reconcile_io import read_warehouse
from pipeline.warehouse.store import Store, StoreAway, StoreRefused
from pipeline.warehouse.store_io import open_store
from pipeline.warehouse.usage import usage_sql

EMBEDDED = (
    "embedded broker: real Kafka protocol, no real transactions (nothing is isolated or fenced; "
    "`pstn demo --kafka` has them)"
)
APACHE = "Apache Kafka on this machine: real transactions, and a kill -9 of the worker in the middle"

_LOOK_S = 0.2
_LOADED_LOOK_S = 1.0
_STILL_S_MAX = 60.0
_KILL_AT = 0.5
# 6 s: a killed worker's partitions are free when its session has lapsed, 30 s by default.
_SESSION_TIMEOUT_MS = 6_000
# The embedded broker keeps 5 MiB a partition. A call takes about 120 bytes compressed, its result 450: even if all were
# of one partition, 10,000 calls ahead of the ledger are 1.2 MB and 10,000 results ahead of the warehouse 4.5 MB.
_AHEAD_OF_LEDGER_MAX = 10_000
_AHEAD_OF_WAREHOUSE_MAX = 10_000

# The embedded broker answers a fetch with a single batch, and what comes in small goes on small: batches of 12 calls
# (20 ms) held the ledger at 500 calls/s and the loader, with an insert for each, at 270.
_EMBEDDED_LINGER_MS = 800


class Wish(NamedTuple):
    """What was asked for on the command line."""

    calls: int
    tenants: int
    seed: int
    rate: float
    is_kafka: bool
    keep: Path | None = None


class _GivenUp(Exception):
    """Ends the sender's thread, which nobody can cancel."""


class _Run:
    """What the parts of one run share."""

    def __init__(self, wish: Wish, plan: Plan, settings: Settings, audit: Audit) -> None:
        self.wish, self.plan, self.settings, self.audit = wish, plan, settings, audit
        self.tally = Tally()
        self.phase = "the worker starts"
        self.loaded_count = 0
        self.kill_count = 0
        self.is_given_up = False
        self._is_waiting = False
        self.started_s = time.monotonic()

    def view(self) -> RenderableType:
        elapsed_s = time.monotonic() - self.started_s
        sent = self.tally.calls.total()
        return live_view(
            Moment(self.phase, elapsed_s, self.plan.calls, sent, self.loaded_count, self.kill_count), self.audit
        )

    def is_too_far_ahead(self, tally: Tally) -> bool:
        """Whether the sender must wait for the ledger, or for the loader. Raises when the run is given up."""
        if self.is_given_up:
            raise _GivenUp
        sent = tally.calls.total()
        # Until it has fallen to a half: a sender that goes on at once would send tiny batches.
        part = 2 if self._is_waiting else 1
        self._is_waiting = not self.wish.is_kafka and (
            sent - self.audit.decided_count > _AHEAD_OF_LEDGER_MAX // part
            or sent - self.loaded_count > _AHEAD_OF_WAREHOUSE_MAX // part
        )
        return self._is_waiting


async def run_demo(wish: Wish, *, show: Callable[[RenderableType], None]) -> Summary:
    """Runs everything once. Raises WorkerMustStop, KafkaUnavailable, SendingFailed: one line for a person."""
    folder = wish.keep or Path(tempfile.mkdtemp(prefix="pstn-demo-"))
    for part in ("outbox", "reports"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        settings = await stack.enter_async_context(_broker(wish, folder))
        tables = await asyncio.to_thread(load_tables, settings.tables or resource_path("rating_tables"))
        plan = make_plan(
            tables, tenants=wish.tenants, calls=wish.calls, days=3, begin=None, now_ms=time.time_ns() // 1_000_000
        )
        run = _Run(wish, plan, settings, Audit(settings.topic(CDRS)))
        reader = AuditReader(run.audit, settings=settings, partition_count=PARTITION_COUNT)
        log = folder / "worker.log"
        worker: DemoWorker = WorkerProcess(settings, log) if wish.is_kafka else WorkerInside(settings, log)
        await stack.enter_async_context(worker)
        reading = asyncio.create_task(reader.run())
        stack.push_async_callback(_cancelled, reading)
        sent_by_partition = await _send_and_wait(run, reader, worker, reading, show)
        summary = await asyncio.to_thread(
            _conclude, run, folder, sent_by_partition, tables.tariffs[plan.tariff].description
        )
    if wish.keep is None:
        shutil.rmtree(folder / "warehouse", ignore_errors=True)
    return summary


@asynccontextmanager
async def _broker(wish: Wish, folder: Path) -> AsyncIterator[Settings]:
    common: dict[str, Any] = {  # of many types, as the settings are
        "partition_count": PARTITION_COUNT,
        "embedded_broker": not wish.is_kafka,
        "roles": ROLES,
        "warehouse": f"chdb:{(folder / 'warehouse').resolve()}",
        "outbox": (folder / "outbox").resolve(),
        "web_port": 0,
        "log_format": "json",
    }
    if wish.is_kafka:
        node = KafkaNode()
        try:
            await asyncio.to_thread(node.start)
            settings = Settings(bootstrap_servers=node.bootstrap, session_timeout_ms=_SESSION_TIMEOUT_MS, **common)
            await _make_topics(settings)
            yield settings
        finally:
            await asyncio.to_thread(node.close)
    else:
        with EmbeddedBroker() as broker:
            settings = Settings(bootstrap_servers=broker.bootstrap, **common)
            await _make_topics(settings)
            yield settings


async def _make_topics(settings: Settings) -> None:
    specs = specs_of(settings)
    names = [spec.name for spec in specs]

    def make() -> dict[str, str]:
        admin = connect_admin(settings.bootstrap_servers)
        if not settings.embedded_broker:
            create_topics(admin, settings.topic_prefix, specs, partition_count=PARTITION_COUNT, replication_factor=1)
        look = touch_topics if settings.embedded_broker else describe_topics
        return {name: state.topic_id for name, state in look(admin, settings.topic_prefix, names).items()}

    await initialise(settings, partition_count=PARTITION_COUNT, topic_ids=await asyncio.to_thread(make))


async def _send_and_wait(
    run: _Run,
    reader: AuditReader,
    worker: DemoWorker,
    reading: asyncio.Task[None],
    show: Callable[[RenderableType], None],
) -> Mapping[int, int]:
    """Sends all calls and returns when everything they caused has come to rest: CDRs sent, by partition."""
    linger_ms = 20 if run.wish.is_kafka else _EMBEDDED_LINGER_MS
    switch = Switch(run.settings.bootstrap_servers, run.settings.topic_prefix, linger_ms=linger_ms)

    def note(tally: Tally) -> None:
        run.tally = tally
        run.phase = "calls arrive" if tally.calls.total() else "accounts are opened"

    sending = asyncio.create_task(
        asyncio.to_thread(
            send_all,
            run.plan,
            seed=run.wish.seed,
            switch=switch,
            rate=run.wish.rate,
            on_progress=note,
            must_wait=run.is_too_far_ahead,
        )
    )
    counting = asyncio.create_task(_count_loaded(run))
    moved_at_s, seen, rests = time.monotonic(), (0, 0), 0
    try:
        while rests < 2:  # twice: a recharge may be between two topics when one looks
            await asyncio.sleep(_LOOK_S)
            show(run.view())
            worker.check()
            for task in (sending, reading):
                if task.done():
                    task.result()
            if run.kill_count == 0 and run.audit.decided_count >= run.plan.calls * _KILL_AT:
                run.kill_count += await worker.kill()
            now = (run.audit.decided_count, run.audit.events.total() + run.loaded_count + run.tally.calls.total())
            if now != seen:
                moved_at_s, seen = time.monotonic(), now
            if sending.done():
                run.tally = sending.result()
                run.phase = "the last ones are priced"
                rests = rests + 1 if await reader.is_at_rest(run.tally.calls.total()) else 0
            if time.monotonic() - moved_at_s > _STILL_S_MAX:
                raise WorkerMustStop(f"nothing has moved for {_STILL_S_MAX:.0f} s; see the worker's log")
    finally:
        run.is_given_up = True
        await _cancelled(counting)
        await asyncio.gather(sending, return_exceptions=True)
    run.phase = "the books are compared"
    show(run.view())
    return switch.cdrs_by_partition


async def _count_loaded(run: _Run) -> None:
    """Results that the warehouse has, for the eye and for the sender that must not run away."""

    def count() -> int:
        with_rows = "SELECT count() FROM rated_calls UNION ALL SELECT count() FROM rejected_cdrs"
        store = open_store(run.settings.warehouse, for_reading=True)
        try:
            return sum(int(str(row[0])) for row in store.query(with_rows).rows)
        finally:
            store.close()

    while True:
        with suppress(StoreAway, StoreRefused):  # not there yet, or its owner was just killed
            run.loaded_count = await asyncio.to_thread(count)
        await asyncio.sleep(_LOADED_LOOK_S)


def _conclude(run: _Run, folder: Path, sent_by_partition: Mapping[int, int], tariff: str) -> Summary:
    """Asks the warehouse, compares, writes the reports."""
    seconds = time.monotonic() - run.started_s
    store = open_store(run.settings.warehouse, for_reading=True)
    try:
        warehouse = read_warehouse(store, run.audit.checkpoints(), run.settings.topic(CDRS))
        problems = run.audit.problems(run.tally, warehouse, sent_by_partition)
        rejected = _counts(store, REJECTED_SQL)
        if rejected != run.tally.rejected():
            problems.append(f"rejects in the warehouse: {run.tally.rejected()} expected, {rejected} found")
        notices = {str(kind): (int(count), int(sum_)) for kind, count, sum_ in _rows(store, NOTICES_SQL)}
        usage = folder / "reports" / "usage.csv"
        with usage.open("w", encoding="utf-8", newline="") as out:
            write_csv(store.query(usage_sql(EVERYTHING, is_masking=run.settings.mask_numbers)), out)
        succeeded = notices.get("recharge_succeeded", (0, 0))
        summary = Summary(
            broker=APACHE if run.wish.is_kafka else EMBEDDED,
            tariff=tariff,
            currency=run.plan.currency,
            tenant_count=run.wish.tenants,
            seed=run.wish.seed,
            seconds=round(seconds, 1),
            worker_kills=run.kill_count,
            sent=run.tally.as_dict(),
            outcomes=_counts(store, OUTCOMES_SQL),
            unpaid=_counts(store, UNPAID_SQL),
            destinations=[Destination(*row) for row in _rows(store, DESTINATIONS_SQL)],
            recharges=Recharges(succeeded[0], notices.get("recharge_failed", (0, 0))[0], succeeded[1]),
            notices={kind: count for kind, (count, _) in notices.items()},
            suspended=run.audit.suspended(),
            rejected=rejected,
            balance_micros=sum(balance.balance_micros for balance in run.audit.balances()),
            folder=str(folder),
            files={
                "usage report": str(usage),
                "notices": str(folder / "outbox"),
                "summary": str(folder / "reports" / "summary.json"),
                "worker's log": str(folder / "worker.log"),
            },
            problems=problems,
        )
    finally:
        store.close()
    (folder / "reports" / "summary.json").write_text(json.dumps(summary.as_dict(), indent=1) + "\n", encoding="utf-8")
    return summary


def _rows(store: Store, sql: str) -> list[Any]:
    """Rows as the statement's own types, which the text of the SQL decides."""
    return list(store.query(sql).rows)


def _counts(store: Store, sql: str) -> dict[str, int]:
    return {str(name): int(count) for name, count in _rows(store, sql)}


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):  # what it had to say was asked before
        await task

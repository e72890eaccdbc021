"""A deployment on a real broker for one test: topics, checkpoints, a worker in this process, and what came out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.app import LedgerApp, create_app
from pipeline.base.avro import codec, codec_of
from pipeline.base.check_io import specs_of
from pipeline.base.ids import partition_of
from pipeline.base.settings_io import Settings
from pipeline.base.topics_io import connect_admin, create_topics, describe_topics
from pipeline.debit.init_io import initialise
from pipeline.debit.partition_io import LedgerPartition

PARTITIONS = 3
START = 1_780_000_000_000  # calls start here or a little later; the broker's clock is after it
WAIT_S = 20
TABLES = Path(__file__).resolve().parents[1] / "golden" / "examples" / "tables"  # made-up prices, easy to follow


@dataclass
class Deployment:
    """Topics of one prefix on a broker, with the settings of its workers."""

    settings: Settings
    admin: AdminClient
    sent: Counter[str] = field(default_factory=Counter)

    @classmethod
    async def make(cls, bootstrap: str, prefix: str, *, init: bool = True, **settings: Any) -> Deployment:
        made = cls(
            Settings(
                bootstrap_servers=bootstrap,
                topic_prefix=prefix,
                partition_count=PARTITIONS,
                web_port=0,
                roles=("ledger",),
                tick_interval_s=3600,
                session_timeout_ms=6_000,
                linger_ms=5,
                call_age_days_max=4_000,
                tables=TABLES,
                **settings,
            ),
            connect_admin(bootstrap),
        )
        create_topics(made.admin, prefix, specs_of(made.settings), partition_count=PARTITIONS, replication_factor=1)
        if init:
            await made.init()
        return made

    async def init(self) -> list[int]:
        found = describe_topics(self.admin, self.settings.topic_prefix, [s.name for s in specs_of(self.settings)])
        ids = {name: state.topic_id for name, state in found.items()}
        return await initialise(self.settings, partition_count=PARTITIONS, topic_ids=ids)

    @asynccontextmanager
    async def worker(self, **settings: Any) -> AsyncIterator[LedgerApp]:
        """A running worker of this process; stopped at the end whatever happens."""
        app = create_app(self.settings.model_copy(update=settings))
        try:
            await app.start()
            yield app
        finally:
            await app.stop()

    async def send(self, topic: str, messages: list[tuple[str, bytes]]) -> None:
        """(tenant, value) each, to the partition that owns the tenant."""
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.bootstrap_servers)
        await producer.start()
        try:
            for tenant, value in messages:
                partition = partition_of(tenant, PARTITIONS)
                await producer.send(self.settings.topic(topic), value, key=tenant.encode(), partition=partition)
            await producer.flush()
        finally:
            await producer.stop()

    async def open_accounts(self, tenants: list[str], amount_micros: int = 1_000_000_000) -> None:
        """Prepaid, funded, with one pay-as-you-go user `u`."""
        for tenant in tenants:
            await self.send("account-commands", [(tenant, value) for value in account_commands(tenant, amount_micros)])

    async def call(self, tenant: str, count: int, *, minutes: int = 1) -> None:
        """`count` calls to Germany, each of its own id."""
        values = []
        for _ in range(count):
            self.sent[tenant] += 1
            values.append((tenant, cdr(tenant, f"{tenant}-{self.sent[tenant]}", minutes=minutes)))
        await self.send("cdrs", values)

    async def read(self, topic: str, *, committed: bool = True) -> list[tuple[int, bytes | None, bytes]]:
        """Everything on a topic: (partition, key, value)."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.settings.bootstrap_servers,
            isolation_level="read_committed" if committed else "read_uncommitted",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(self.settings.topic(topic), number) for number in range(PARTITIONS)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning(*partitions)
            found: list[tuple[int, bytes | None, bytes]] = []
            for _ in range(200):
                fetched = await consumer.getmany(timeout_ms=50)
                for tp, records in fetched.items():
                    found += [(tp.partition, record.key, record.value) for record in records]
                if all([await consumer.position(tp) >= ends[tp] for tp in partitions]):
                    return found
            raise AssertionError(f"{topic} does not come to its end")
        finally:
            await consumer.stop()

    async def rated(self) -> list[dict[str, Any]]:
        return [codec("rated_call").decode(value) for _, _, value in await self.read("rated-calls")]

    async def ledger_entries(self) -> list[dict[str, Any]]:
        values = [value for _, _, value in await self.read("account-events")]
        return [codec("ledger_entry").decode(value) for value in values if codec_of(value).name == "ledger_entry"]

    async def rejected(self) -> list[dict[str, Any]]:
        return [codec("rejected").decode(value) for _, _, value in await self.read("rejected")]

    async def rated_when(self, count: int, wait_s: float = WAIT_S) -> list[dict[str, Any]]:
        """Rated calls, as soon as there are `count` of them (or when the wait is over, for the assertion to tell)."""
        return await eventually(self.rated, lambda rated: len(rated) >= count, wait_s=wait_s)

    def assert_exact(self, rated: list[dict[str, Any]]) -> None:
        """Each call sent has one result, and no result is of a call never sent."""
        found = Counter(call["usage_id"] for call in rated)
        wanted = Counter(f"{tenant}-{n}" for tenant, count in self.sent.items() for n in range(1, count + 1))
        assert found == wanted, {"missing": wanted - found, "twice or alien": found - wanted}


def account_commands(tenant: str, amount_micros: int) -> list[bytes]:
    common = {"tenant_id": tenant, "issued_by": "test"}
    user = {"user_id": "u", "licences": ["MCOPSTN_PAYG_1", "MCOPSTNPP"], "is_resource_account": False}
    return [
        codec("account_command").encode(common | fields)
        for fields in (
            {
                "command_id": "open",
                "kind": "open_account",
                "country": "US",
                "currency": "USD",
                "tariff": "hold_usd",
                "agreement": "prepaid",
                "overage_enabled": False,
                "dial_out_policy": "DialoutCPCandPSTNInternational",
            },
            {"command_id": "user", "kind": "set_user"} | user,
            {
                "command_id": "funds",
                "kind": "add_funds",
                "amount_micros": amount_micros,
                "currency": "USD",
                "purchased_at": int(time.time() * 1000),
                "payment_method": "card",
                "reference": "test",
            },
        )
    ]


def cdr(tenant: str, usage_id: str, *, minutes: int = 1) -> bytes:
    return codec("cdr").encode(
        {
            "usage_id": usage_id,
            "call_id": None,
            "conference_id": None,
            "tenant_id": tenant,
            "user_id": "u",
            "call_type": "user_out",
            "number_type": None,
            "caller_number": "+12065550100",
            "callee_number": "+493012345678",
            "start_time": START,
            "duration_s": minutes * 60,
            "usage_country": None,
            "operator": None,
            "duration_source": None,
        }
    )


async def eventually(read: Callable[[], Any], holds: Callable[[Any], bool], *, wait_s: float = WAIT_S) -> Any:
    """Reads until `holds` or the wait is over; the last reading either way."""
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        found = read()
        if asyncio.iscoroutine(found):
            found = await found
        if holds(found) or asyncio.get_running_loop().time() > deadline:
            return found
        await asyncio.sleep(0.1)


def owners_of(app: LedgerApp) -> dict[int, LedgerPartition]:
    """The ledger's owners of a worker, by partition."""
    return app.memberships["ledger"].owners if "ledger" in app.memberships else {}  # type: ignore[return-value]


def tenants_by_partition() -> dict[int, str]:
    """One tenant for each partition."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < PARTITIONS:
        tenant = f"tenant-{number}"
        found.setdefault(partition_of(tenant, PARTITIONS), tenant)
        number += 1
    return found

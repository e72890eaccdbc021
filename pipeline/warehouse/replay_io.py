"""Finds rejects in the warehouse, and sends their originals through again: same bytes, partition of their tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pipeline.base.ids import partition_of
from pipeline.base.kafka_io import KafkaClients, WorkerMustStop
from pipeline.base.settings_io import Settings
from pipeline.base.topics import CDRS, COMMANDS
from pipeline.base.topics_io import connect_admin
from pipeline.warehouse.rejects import Reject, RejectFilter, rated_sql, reject_of, rejects_sql
from pipeline.warehouse.store import Store

# Says in the log where a record came from; nothing decides by it.
REPLAY_HEADER = "replay-of"
_IDS_A_QUESTION = 500
_LIST_TIMEOUT_S = 15


def find_rejects(store: Store, wanted: RejectFilter, limit: int | None = None) -> list[Reject]:
    """The latest first. Memory: the originals of those found."""
    return [reject_of(row) for row in store.query(rejects_sql(wanted, limit)).rows]


def rated_calls_of(store: Store, rejects: Sequence[Reject]) -> set[tuple[str, str]]:
    """Tenant and usage id of those whose call has a result."""
    calls = sorted({(each.tenant_id, each.usage_id) for each in rejects if each.usage_id and not each.is_command})
    found: set[tuple[str, str]] = set()
    for start in range(0, len(calls), _IDS_A_QUESTION):
        answer = store.query(rated_sql(calls[start : start + _IDS_A_QUESTION]))
        found.update((str(tenant), str(usage)) for tenant, usage in answer.rows)
    return found


async def send_again(rejects: Sequence[Reject], settings: Settings, on_sent: Callable[[int], None]) -> None:
    """In their order; each is acknowledged by all replicas. Raises WorkerMustStop, BrokerUnreachable, KafkaError."""
    topics = {True: settings.topic(COMMANDS), False: settings.topic(CDRS)}
    admin = await asyncio.to_thread(connect_admin, settings.bootstrap_servers)
    listed = (await asyncio.to_thread(admin.list_topics, timeout=_LIST_TIMEOUT_S)).topics
    for topic in topics.values():
        if topic not in listed:
            raise WorkerMustStop(f"topic {topic} does not exist: type `pstn topics create`")
    producer = KafkaClients(settings).plain_producer()
    await producer.start()
    try:
        for count, reject in enumerate(rejects, 1):
            topic = topics[reject.is_command]
            number = partition_of(reject.tenant_id, len(listed[topic].partitions)) if reject.tenant_id else None
            await producer.send_and_wait(
                topic,
                reject.original,
                key=reject.tenant_id.encode() or None,
                partition=reject.partition if number is None else number,
                headers=[(REPLAY_HEADER, reject.reject_id.encode())],
            )
            on_sent(count)
    finally:
        await producer.stop()

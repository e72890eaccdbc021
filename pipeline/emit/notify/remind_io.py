"""Looks at planned reminders now and then, and at what their lots still hold: in the ledger's credit table.

A table that cannot be read delays reminders and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from pipeline.base.avro import DecodeError
from pipeline.base.ids import account_key
from pipeline.base.kafka_io import KafkaClients, PartitionStalled
from pipeline.base.settings_io import Settings
from pipeline.base.topics import CREDIT_TABLE
from pipeline.debit.account import Account
from pipeline.debit.stored import decode_account
from pipeline.emit.journal_io import JournalWriter
from pipeline.emit.notify.desk import NoticeDesk

log = structlog.get_logger(__name__)

_INTERVAL_S = 600.0


class Reminding:
    """The reminders of one partition."""

    def __init__(self, *, settings: Settings, clients: KafkaClients, number: int) -> None:
        self._clients = clients
        self._table = TopicPartition(settings.topic(CREDIT_TABLE), number)

    async def __call__(self, desk: NoticeDesk, writer: JournalWriter) -> None:
        """Runs until it is cancelled."""
        while True:
            if plans := desk.due_plans(time.time_ns() // 1_000_000):
                try:
                    accounts = await self._accounts({plan.tenant_id for plan in plans})
                except (PartitionStalled, KafkaError, DecodeError) as error:
                    log.warning("reminders_wait", partition=self._table.partition, error=str(error))
                else:
                    desk.look_at(plans, accounts, time.time_ns() // 1_000_000)
                    await writer.write(is_due=False)
            await asyncio.sleep(_INTERVAL_S)

    async def _accounts(self, tenant_ids: Collection[str]) -> dict[str, Account]:
        """Of these tenants, as committed now; who has none is missing. Reads the whole partition."""
        wanted = {account_key(tenant_id): tenant_id for tenant_id in tenant_ids}
        found: dict[str, bytes | None] = {}

        def take(records: list[ConsumerRecord]) -> None:
            found.update((wanted[each.key], each.value) for each in records if each.key in wanted)

        await self._clients.read_whole(self._table, take)
        return {tenant_id: decode_account(value) for tenant_id, value in found.items() if value is not None}

"""What is left of lots: read from a partition of the credit table, which the ledger writes."""

from __future__ import annotations

from collections.abc import Collection

from aiokafka import ConsumerRecord, TopicPartition

from pipeline.base.ids import account_key
from pipeline.base.kafka_io import KafkaClients, read_to_end
from pipeline.base.settings_io import Settings
from pipeline.base.topics import CREDIT_TABLE
from pipeline.debit.account import Account
from pipeline.debit.stored import decode_account


class LotReader:
    """Reads accounts of one partition as they are committed now."""

    def __init__(self, *, settings: Settings, clients: KafkaClients, number: int) -> None:
        self._clients = clients
        self._table = TopicPartition(settings.topic(CREDIT_TABLE), number)
        self._stall_s = settings.restore_stall_s

    async def accounts(self, tenant_ids: Collection[str]) -> dict[str, Account]:
        """Of these tenants; who has none is missing. Reads the whole partition. PartitionStalled, KafkaError."""
        wanted = {account_key(tenant_id): tenant_id for tenant_id in tenant_ids}
        found: dict[str, bytes | None] = {}

        def take(records: list[ConsumerRecord]) -> None:
            found.update((wanted[each.key], each.value) for each in records if each.key in wanted)

        end_offset = await self._clients.high_watermark(self._table)
        async with self._clients.reading() as consumer:
            start_offset = (await consumer.beginning_offsets([self._table]))[self._table]
            await read_to_end(
                consumer,
                self._table,
                start_offset=start_offset,
                end_offset=end_offset,
                stall_s=self._stall_s,
                take=take,
            )
        return {tenant_id: decode_account(value) for tenant_id, value in found.items() if value is not None}

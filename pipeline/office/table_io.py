"""Reads one partition of the credit table into a read model, once, to its true end."""

from __future__ import annotations

from aiokafka import ConsumerRecord, TopicPartition

from pipeline.base.ids import partition_of
from pipeline.base.kafka_io import KafkaClients
from pipeline.base.settings_io import Settings
from pipeline.base.topics import CREDIT_TABLE
from pipeline.office.credit_table import CreditTable


async def read_tenant(settings: Settings, tenant_id: str, partition_count: int) -> CreditTable:
    """The books of the tenant's partition as committed now."""
    table = CreditTable()
    await read_partition(settings, table, partition_of(tenant_id, partition_count))
    return table


async def read_all(settings: Settings, partition_count: int) -> CreditTable:
    """The books of every partition."""
    table = CreditTable()
    for number in range(partition_count):
        await read_partition(settings, table, number)
    return table


async def read_partition(settings: Settings, table: CreditTable, number: int) -> None:
    """Adds a partition's books. PartitionStalled while a transaction hangs."""
    clients = KafkaClients(settings)
    partition = TopicPartition(settings.topic(CREDIT_TABLE), number)

    def take(records: list[ConsumerRecord]) -> None:
        for record in records:
            table.take(number, record.key, record.value)

    await clients.read_whole(partition, take)

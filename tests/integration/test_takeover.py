"""How a partition is taken over without calls waiting for what need not be waited for."""

from __future__ import annotations

import asyncio

from aiokafka import TopicPartition

from pipeline.base.kafka_io import KafkaClients, stop_clients
from pipeline.debit.input_io import Input
from pipeline.embedded.kafka_io import KafkaNode
from tests.integration.ledger_harness import Deployment, account_commands, tenants_by_partition


async def _at_end_after_seek(deployment: Deployment, partition: TopicPartition, next_offset: int) -> bool:
    """What an input says that has fetched nothing yet."""
    stream = Input(partition, is_command=True, clients=KafkaClients(deployment.settings), checks_time=True)
    try:
        await stream.connect()
        await stream.seek(next_offset)
        return stream.at_end()
    finally:
        await stop_clients(stream.consumer)


def test_an_input_where_nothing_comes_holds_up_no_call_after_a_takeover(kafka: KafkaNode, topic_prefix: str) -> None:
    """The broker answers the first fetch of commands after half a second, the loop looked again after one: each call
    waited for so long at every takeover. One that waits to be read must still hold up later calls, as it may open their
    account."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        number, tenant = next(iter(tenants_by_partition().items()))
        partition = TopicPartition(deployment.settings.topic("account-commands"), number)
        assert await _at_end_after_seek(deployment, partition, 0)
        commands = account_commands(tenant, 1_000_000)
        await deployment.send("account-commands", [(tenant, value) for value in commands])
        assert await _at_end_after_seek(deployment, partition, len(commands))
        assert not await _at_end_after_seek(deployment, partition, len(commands) - 1)

    asyncio.run(run())

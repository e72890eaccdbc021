"""Sending: to the partition that owns the tenant, acknowledged, at the rate asked for."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from pipeline.base.ids import partition_of
from pipeline.base.topics_io import BrokerUnreachable
from pipeline.embedded.broker_io import FETCH_WAIT_MS_MAX, PARTITION_COUNT, EmbeddedBroker
from pipeline.embedded.customers import Plan
from pipeline.embedded.simulate import Tally
from pipeline.embedded.simulate_io import Switch, send_all

PLAN = Plan(tenants=10, calls=300, from_ms=1_772_409_600_000, until_ms=1_772_496_000_000, tariff="t", currency="USD")


async def _everything(bootstrap: str, topic: str) -> list[ConsumerRecord]:
    partitions = [TopicPartition(topic, number) for number in range(PARTITION_COUNT)]
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        check_crcs=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=FETCH_WAIT_MS_MAX,
    ) as consumer:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        while len(found) < sum(ends.values()):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
        return found


def test_every_record_arrives_once_on_the_partition_of_its_tenant(
    embedded_broker: EmbeddedBroker, topic_prefix: str
) -> None:
    """The ledger would forward a call on another's partition; a simulator of our own should need no such favour."""
    tally = send_all(PLAN, seed=1, switch=Switch(embedded_broker.bootstrap, topic_prefix), settle_s=0)
    cdrs = asyncio.run(_everything(embedded_broker.bootstrap, topic_prefix + "cdrs"))
    commands = asyncio.run(_everything(embedded_broker.bootstrap, topic_prefix + "account-commands"))
    assert (len(cdrs), len(commands)) == (tally.calls.total(), tally.commands.total())
    for record in cdrs + commands:
        assert record.partition == partition_of(record.key.decode(), PARTITION_COUNT)


def test_calls_are_no_faster_than_the_rate(embedded_broker: EmbeddedBroker, topic_prefix: str) -> None:
    started_s = time.monotonic()
    tally = send_all(PLAN, seed=1, switch=Switch(embedded_broker.bootstrap, topic_prefix), rate=600, settle_s=0)
    assert time.monotonic() - started_s >= tally.calls.total() / 600 - 0.1


def test_the_sender_waits_as_long_as_it_is_told_to(embedded_broker: EmbeddedBroker, topic_prefix: str) -> None:
    """The embedded broker drops its oldest records: who does not wait for the reader loses calls."""
    asked: list[int] = []

    def must_wait(tally: Tally) -> bool:
        asked.append(tally.calls.total())
        return len(asked) % 2 == 1  # at each place once

    send_all(PLAN, seed=1, switch=Switch(embedded_broker.bootstrap, topic_prefix), must_wait=must_wait, settle_s=0)
    assert all(first == second for first, second in zip(asked[::2], asked[1::2], strict=True))


def test_a_broker_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person sees one line with the address, not a stack of librdkafka's."""
    monkeypatch.setattr("pipeline.embedded.simulate_io._ANSWER_S_MAX", 0.5)
    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:1"):
        Switch("127.0.0.1:1", "pstn.")

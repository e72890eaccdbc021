"""Where the ledger stands, as it is found out from outside."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.settings_io import Settings
from pipeline.base.topics import CDRS, COMMANDS, CREDIT_TABLE
from pipeline.debit.checkpoint import Checkpoint
from pipeline.embedded.broker_io import EmbeddedBroker
from pipeline.ops import trimmed_io
from pipeline.ops.status import Trimmed
from pipeline.ops.trimmed_io import trimmed

BEGIN = {(CDRS, 0): 5, (COMMANDS, 0): 0}


def with_checkpoints(broker: EmbeddedBroker, prefix: str, *next_offsets: int) -> Settings:
    """A credit table that holds one after the other."""
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for each in next_offsets:
        value = Checkpoint(1, 1, each, 0, 4, {}, 1).encode()
        producer.produce(prefix + CREDIT_TABLE, value, CHECKPOINT_KEY, partition=0)
        producer.flush()
    return Settings(bootstrap_servers=broker.bootstrap, topic_prefix=prefix, embedded_broker=True)


def test_the_last_checkpoint_says_what_is_lost(embedded_broker: EmbeddedBroker, topic_prefix: str) -> None:
    settings = with_checkpoints(embedded_broker, topic_prefix, 0, 3)
    assert trimmed(settings, BEGIN, {0}) == [Trimmed(settings.topic(CDRS), 0, 3, 5)]
    assert trimmed(with_checkpoints(embedded_broker, topic_prefix, 5), BEGIN, {0}) == []


def test_a_checkpoint_that_may_not_be_the_last_says_nothing(
    embedded_broker: EmbeddedBroker, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow broker: the time is over after the first of two, and nobody is to be called for a gap that is none."""
    settings = with_checkpoints(embedded_broker, topic_prefix, 0, 9)
    now_s = 0.0

    class Slow(Consumer):
        def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Any]:
            nonlocal now_s
            found = super().consume(1, 10)
            now_s = math.inf
            return found

    monkeypatch.setattr(trimmed_io, "Consumer", Slow)
    monkeypatch.setattr(trimmed_io, "time", SimpleNamespace(monotonic=lambda: now_s))
    assert trimmed(settings, BEGIN, {0}) == []

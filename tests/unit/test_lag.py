"""What on-call staff read as lag: it must grow while an owner stands, and vanish with the partition."""

from __future__ import annotations

from aiokafka import TopicPartition
from prometheus_client import REGISTRY

from pipeline.base.lag_io import LagGauges, Progress

HERE = TopicPartition("lagtest.cdrs", 3)


def lag(role: str) -> tuple[float | None, float | None]:
    labels = {"role": role, "topic": HERE.topic, "partition": "3"}
    return REGISTRY.get_sample_value("pstn_lag_records", labels), REGISTRY.get_sample_value("pstn_lag_seconds", labels)


def test_seconds_are_the_age_of_the_oldest_record_that_waits():
    """Not the age of the last one applied: a partition that has been idle for an hour is not an hour behind."""
    gauges = LagGauges("a")
    gauges.show([HERE], [Progress(HERE, 100, 990_000)], {HERE: 150}, 1_000.0)
    assert lag("a") == (50.0, 10.0)
    gauges.show([HERE], [Progress(HERE, 150)], {HERE: 150}, 1_002.0)
    assert lag("a") == (0.0, 0.0)


def test_an_owner_that_stands_shows_a_lag_that_grows():
    """A restore, a parked partition, a broker that is away: nothing new is told, and the time passes all the same."""
    gauges = LagGauges("b")
    gauges.show([HERE], [Progress(HERE, 100, 990_000)], {HERE: 150}, 1_000.0)
    gauges.show([HERE], [], {HERE: 170}, 1_010.0)
    assert lag("b") == (70.0, 20.0)
    gauges.show([HERE], [Progress(HERE, 100)], {HERE: 170}, 1_020.0)
    assert lag("b") == (70.0, 30.0), "the oldest is not read again yet, and no younger for that"


def test_before_the_oldest_is_read_it_waits_since_it_is_known():
    """An offset alone has no time."""
    gauges = LagGauges("c")
    gauges.show([HERE], [Progress(HERE, 0)], {HERE: 5}, 1_000.0)
    gauges.show([HERE], [Progress(HERE, 0)], {HERE: 5}, 1_004.0)
    assert lag("c") == (5.0, 4.0)


def test_a_partition_given_away_shows_nothing():
    """Its new owner reports it; two workers that report one partition would alarm for ever."""
    gauges = LagGauges("d")
    gauges.show([HERE], [Progress(HERE, 100, 990_000, 7)], {HERE: 150}, 1_000.0)
    gauges.show([], [Progress(HERE, 100, 990_000, 7)], {}, 1_002.0)
    assert lag("d") == (None, None)
    assert REGISTRY.get_sample_value("pstn_unstable_records", {"topic": HERE.topic, "partition": "3"}) is None

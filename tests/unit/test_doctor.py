"""What the doctor says of settings: each that can lose money is a failure, with what to type."""

from __future__ import annotations

import pytest

from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.topics import TopicState, topic_specs
from pipeline.ops.doctor import (
    Finding,
    Wants,
    judge_broker,
    judge_checkpoints,
    judge_clock,
    judge_disk,
    judge_internal,
    judge_topics,
)

SPECS = topic_specs(duplicate_window_ms=7 * MS_PER_DAY, audit_ms=2_557 * MS_PER_DAY, replicated=True)
WANTS = Wants(60_000, 30_000, 60)
SAFE = {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}
BROKER = {"offsets.retention.minutes": "43200", "auto.create.topics.enable": "false"}


def as_created(name: str, **configs: str) -> TopicState:
    """A topic as `pstn topics create --replicas 3` makes it, but for some settings (`_` for `.`)."""
    [spec] = [spec for spec in SPECS if spec.name == name]
    changed = {key.replace("_", "."): value for key, value in configs.items()}
    return TopicState(name, "id", 12, {**spec.configs, **changed}, 3, 3)


def levels(found: list[Finding]) -> list[str]:
    return [finding.level for finding in found]


def test_topics_as_they_are_created_for_production_are_well():
    """Else nobody could ever see a clean bill, and nobody would look at the lines."""
    found = list(judge_topics(SPECS, {spec.name: as_created(spec.name) for spec in SPECS}, "pstn."))
    assert levels(found) == ["ok"] * len(SPECS)


@pytest.mark.parametrize(
    ("name", "setting", "value", "level"),
    [
        ("credit-table", "min.insync.replicas", "1", "fail"),
        ("cdrs", "unclean.leader.election.enable", "true", "fail"),
        ("cdrs", "message.timestamp.type", "CreateTime", "fail"),
        ("seen-calls", "message.timestamp.type", "CreateTime", "fail"),
        ("credit-table", "cleanup.policy", "delete", "fail"),
        ("cdrs", "retention.ms", str(13 * MS_PER_DAY), "fail"),
        ("seen-calls", "retention.ms", str(7 * MS_PER_DAY), "fail"),
        ("account-commands", "retention.ms", str(13 * MS_PER_DAY), "fail"),
        ("account-commands", "retention.ms", str(14 * MS_PER_DAY), "warn"),
        ("rated-calls", "retention.ms", str(7 * MS_PER_DAY), "warn"),
        ("account-commands", "retention.bytes", "1000000000", "fail"),
        ("rejected", "max.message.bytes", "1048588", "fail"),
        ("rated-calls", "message.timestamp.before.max.ms", "3600000", "fail"),
        ("credit-table", "max.compaction.lag.ms", str(2**62), "warn"),
        ("credit-table", "min.cleanable.dirty.ratio", "0.5", "warn"),
        ("credit-table", "segment.bytes", str(2**30), "warn"),
    ],
)
def test_each_setting_that_matters_is_found_when_it_is_wrong(name: str, setting: str, value: str, level: str):
    """One line, naming topic and setting, with what to do."""
    states = {spec.name: as_created(spec.name) for spec in SPECS}
    states[name] = states[name]._replace(configs={**states[name].configs, setting: value})
    [found] = [finding for finding in judge_topics(SPECS, states, "pstn.") if finding.level != "ok"]
    assert (found.level, found.area) == (level, f"pstn.{name}")
    assert setting in found.what
    assert found.do


@pytest.mark.parametrize(("setting", "value"), [("retention.ms", "-1"), ("retention.ms", str(90 * MS_PER_DAY))])
def test_more_retention_than_asked_is_well(setting: str, value: str):
    states = {spec.name: as_created(spec.name) for spec in SPECS}
    states["cdrs"] = states["cdrs"]._replace(configs={**states["cdrs"].configs, setting: value})
    assert set(levels(list(judge_topics(SPECS, states, "pstn.")))) == {"ok"}


def test_fewer_replicas_fail_and_one_that_lags_warns():
    states = {spec.name: as_created(spec.name) for spec in SPECS}
    states["cdrs"] = states["cdrs"]._replace(replica_count=2, in_sync_count=2)
    states["rejected"] = states["rejected"]._replace(in_sync_count=2)
    found = {f.area: f.level for f in judge_topics(SPECS, states, "") if f.level != "ok"}
    assert found == {"cdrs": "fail", "rejected": "warn"}


def test_a_missing_topic_and_uneven_partitions_fail():
    states = {spec.name: as_created(spec.name) for spec in SPECS if spec.name != "rejected"}
    states["cdrs"] = states["cdrs"]._replace(partition_count=13)
    failed = [finding.what for finding in judge_topics(SPECS, states, "pstn.") if finding.level == "fail"]
    assert len(failed) == 2
    assert "partition counts differ" in failed[0]
    assert failed[1] == "does not exist"


def test_kafkas_own_topics_are_held_to_the_same_replicas():
    """A transaction log with one replica forgets commits with its disk."""
    states = {
        "__transaction_state": TopicState("__transaction_state", "", 50, SAFE, 3, 3),
        "__consumer_offsets": TopicState("__consumer_offsets", "", 50, SAFE, 1, 1),
    }
    assert levels(list(judge_internal(states))) == ["ok", "fail"]
    assert levels(list(judge_internal({}))) == ["warn", "warn"]


@pytest.mark.parametrize(
    ("setting", "value", "level"),
    [
        ("transaction.max.timeout.ms", "59999", "fail"),
        ("group.max.session.timeout.ms", "29999", "fail"),
        ("group.min.session.timeout.ms", "30001", "fail"),
        ("transactional.id.expiration.ms", "120000", "fail"),
        ("log.cleaner.enable", "false", "fail"),
        ("auto.create.topics.enable", "true", "warn"),
        ("offsets.retention.minutes", "10080", "warn"),
    ],
)
def test_each_setting_of_a_broker_that_matters_is_found(setting: str, value: str, level: str):
    assert levels(list(judge_broker(BROKER, 3, WANTS))) == ["ok"]
    found = [finding for finding in judge_broker({**BROKER, setting: value}, 3, WANTS) if finding.level != "ok"]
    assert levels(found) == [level]
    assert setting.split(".")[-2] in found[0].what or "session" in found[0].what


def test_two_brokers_are_too_few():
    assert levels(list(judge_broker(BROKER, 2, WANTS))) == ["fail", "ok"]


@pytest.mark.parametrize(
    ("skew_s", "level"), [(None, "ok"), (0.4, "ok"), (-1.9, "ok"), (3.0, "warn"), (-61.0, "fail"), (90.0, "fail")]
)
def test_a_clock_that_is_off_is_told_before_it_decides_a_month(skew_s: float | None, level: str):
    assert judge_clock("clock", skew_s).level == level


@pytest.mark.parametrize(("free", "level"), [(2**29, "fail"), (5 * 2**30, "warn"), (50 * 2**30, "ok")])
def test_a_disk_that_fills_is_told_while_there_is_time(free: int, level: str):
    assert judge_disk("disk", free, 100 * 2**30).level == level


def test_an_empty_credit_table_is_no_ledger():
    assert judge_checkpoints({0: 1, 1: 5}).level == "ok"
    found = judge_checkpoints({0: 1, 1: 0})
    assert found.level == "fail"
    assert "pstn ledger init" in found.do

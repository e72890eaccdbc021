"""Looks at a deployment from outside: the brokers' admin protocol for positions and owners, one record each for ages.

It joins no group and commits nothing, so it may run beside any worker, or when none runs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.base.kafka_io import WorkerMustStop
from pipeline.base.settings_io import Settings
from pipeline.base.topics_io import connect_admin
from pipeline.ops.outside_io import outside_consumer
from pipeline.ops.status import ROLE_TOPICS, SKIP, Followed, Group, PartitionLag, Status, problems_of, rates_between
from pipeline.ops.trimmed_io import beginnings, trimmed

_ANSWER_S_MAX = 10
_AGES_S_MAX = 3.0
# One record of each partition is wanted, not the 64 MiB that librdkafka would fetch ahead.
_FETCH_BYTES = 64 * 1024

_Place = tuple[str, int]


class StatusReader:
    """Takes one look after the other. BrokerUnreachable or WorkerMustStop when there is nothing to look at."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin: AdminClient = connect_admin(settings.bootstrap_servers)
        listed = self._admin.list_topics(timeout=_ANSWER_S_MAX)
        self._broker_count = len(listed.brokers)
        names = sorted({topic for topics in ROLE_TOPICS.values() for topic in topics})
        if missing := [settings.topic(name) for name in names if settings.topic(name) not in listed.topics]:
            raise WorkerMustStop(
                f"topic {', '.join(missing)} does not exist: check --prefix, or type `pstn topics create`"
            )
        self._places = [
            (name, number) for name in names for number in sorted(listed.topics[settings.topic(name)].partitions)
        ]
        self._last: Status | None = None

    def look(self, followed: Followed) -> Status:
        """One look; `followed` is what has been read of the topics meanwhile."""
        notes: list[str] = []
        at_ms = int(time.time() * 1000)
        groups, owners = self._groups(notes)
        stable, high = self._ends(notes)
        lags: list[PartitionLag] = []
        for role, topics in ROLE_TOPICS.items():
            positions = self._positions(role, notes)
            for place in self._places:
                if place[0] not in topics:
                    continue
                position, end = positions.get(place), stable[place]
                owner, unstable = owners.get((role, place[1])), high[place] - end
                behind = None if position is None and end else max(0, end - (position or 0))
                seconds = None if behind is None else 0.0
                lags.append(PartitionLag(role, *place, owner, position, end, behind, seconds, unstable))
        lags = self._with_ages(lags)
        rates = rates_between(self._last, lags, at_ms)
        notes += [*self._trimmed(lags), *problems_of(groups, lags)]
        brokers, prefix = self._settings.bootstrap_servers, self._settings.topic_prefix
        self._last = Status(
            at_ms, brokers, self._broker_count, prefix, tuple(groups), tuple(lags), rates, followed, tuple(notes)
        )
        return self._last

    def _trimmed(self, lags: Sequence[PartitionLag]) -> list[str]:
        """Partitions that stand because retention was faster; the group's position may be behind their checkpoint."""
        numbers = {lag.partition for lag in lags}
        try:
            begin = beginnings(self._settings, self._admin, len(numbers))
            suspects = {
                lag.partition
                for lag in lags
                if lag.role == "ledger" and begin[lag.topic, lag.partition] > (lag.next_offset or 0)
            }
            found = trimmed(self._settings, begin, suspects) if suspects else []
        except KafkaException:  # the embedded broker does not tell
            return []
        return [f"{gap}: {SKIP}" for gap in found]

    def _groups(self, notes: list[str]) -> tuple[list[Group], dict[tuple[str, int], str]]:
        """The roles' groups, and who owns which partition."""
        asked = {self._settings.group(role): role for role in ROLE_TOPICS}
        owners: dict[tuple[str, int], str] = {}
        groups = []
        answers: dict[str, Future[Any]]
        try:
            answers = self._admin.describe_consumer_groups(list(asked), request_timeout=_ANSWER_S_MAX)
            for name, answer in answers.items():
                role, described = asked[name], _result_or_none(answer)
                if described is None:
                    groups.append(Group(role, "Dead", ()))
                    continue
                for member in described.members:
                    assigned = member.assignment.topic_partitions if member.assignment else ()
                    owners |= {(role, place.partition): member.client_id for place in assigned}
                clients = tuple(sorted(member.client_id for member in described.members))
                groups.append(Group(role, _state_name(described.state), clients))
        except KafkaException as error:
            notes.append(f"owners and group states: this broker does not tell ({_said(error)})")
            groups = [Group(role, "unknown", ()) for role in ROLE_TOPICS]
        return groups, owners

    def _ends(self, notes: list[str]) -> tuple[dict[_Place, int], dict[_Place, int]]:
        """Last stable offsets and high watermarks."""
        try:
            stable = self._offsets(IsolationLevel.READ_COMMITTED)
            return stable, self._offsets(IsolationLevel.READ_UNCOMMITTED)
        except KafkaException as error:
            notes.append(f"open transactions: this broker does not tell ({_said(error)})")
            high = {}
            consumer = Consumer(self._consumer_settings())
            try:
                for place in self._places:
                    where = TopicPartition(self._settings.topic(place[0]), place[1])
                    high[place] = consumer.get_watermark_offsets(where, timeout=_ANSWER_S_MAX)[1]
            finally:
                consumer.close()
            return high, high

    def _offsets(self, isolation: IsolationLevel) -> dict[_Place, int]:
        wanted = {TopicPartition(self._settings.topic(name), number): (name, number) for name, number in self._places}
        answers = self._admin.list_offsets(
            dict.fromkeys(wanted, OffsetSpec.latest()), isolation_level=isolation, request_timeout=_ANSWER_S_MAX
        )
        return {wanted[place]: answer.result().offset for place, answer in answers.items()}

    def _positions(self, role: str, notes: list[str]) -> dict[_Place, int]:
        """What the role's group has committed."""
        names = {self._settings.topic(topic): topic for topic in ROLE_TOPICS[role]}
        wanted = [TopicPartition(self._settings.topic(name), number) for name, number in self._places]
        request = ConsumerGroupTopicPartitions(
            self._settings.group(role), [place for place in wanted if place.topic in names]
        )
        try:
            answer = self._admin.list_consumer_group_offsets([request], request_timeout=_ANSWER_S_MAX)
            found = answer[self._settings.group(role)].result().topic_partitions
        except KafkaException as error:
            notes.append(f"lag of {role}: this broker does not tell ({_said(error)})")
            return {}
        return {(names[each.topic], each.partition): each.offset for each in found if each.offset >= 0}

    def _with_ages(self, lags: Sequence[PartitionLag]) -> list[PartitionLag]:
        """Each lag with the age of the record at its position. Roles may stand apart in one topic: a pass for each."""
        result = list(lags)
        for role in ROLE_TOPICS:
            behind = {(lag.topic, lag.partition): index for index, lag in enumerate(lags) if lag.role == role}
            wanted = {place: index for place, index in behind.items() if lags[index].lag_records}
            for place, written_ms in self._oldest({place: lags[i].next_offset or 0 for place, i in wanted.items()}):
                index = wanted[place]
                if written_ms is None:
                    result[index] = lags[index]._replace(lag_records=0)
                else:
                    age_s = max(0.0, time.time() - written_ms / 1000)
                    result[index] = lags[index]._replace(lag_seconds=round(age_s, 3))
        return result

    def _oldest(self, offsets: dict[_Place, int]) -> list[tuple[_Place, int | None]]:
        """The broker's time of the first record at or after each offset; None where only markers are left."""
        if not offsets:
            return []
        waiting = {(self._settings.topic(name), number): (name, number) for name, number in offsets}
        found: list[tuple[_Place, int | None]] = []
        consumer = Consumer(self._consumer_settings())
        try:
            consumer.assign(
                [TopicPartition(self._settings.topic(name), n, offset) for (name, n), offset in offsets.items()]
            )
            until_s = time.monotonic() + _AGES_S_MAX
            while waiting and time.monotonic() < until_s:
                for message in consumer.consume(num_messages=500, timeout=0.2):
                    place = waiting.pop((message.topic(), message.partition()), None)
                    if place is None:
                        continue
                    error = message.error()
                    if error is None:
                        found.append((place, message.timestamp()[1]))
                        consumer.pause([TopicPartition(message.topic(), message.partition())])
                    elif error.code() == KafkaError._PARTITION_EOF:
                        found.append((place, None))
        finally:
            consumer.close()
        return found

    def _consumer_settings(self) -> dict[str, Any]:
        return outside_consumer(self._settings) | {
            "fetch.message.max.bytes": _FETCH_BYTES,
            "queued.max.messages.kbytes": 1024,
        }


def _result_or_none(answer: Future[Any]) -> Any:
    """None for a group that never was: newer brokers answer so instead of describing it as dead."""
    try:
        return answer.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return None
        raise


def _state_name(state: Any) -> str:
    return str(state.name).replace("_", " ").title().replace(" ", "")


def _said(error: KafkaException) -> str:
    return str(error.args[0].str())

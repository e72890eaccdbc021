"""How far a role is behind, as gauges: in records, and in seconds since the oldest record that waits was written.

An owner that stands (away warehouse, restore, parked) must show a lag that grows, so the ends of the topics are asked
for apart from the reading, and the age is taken against the clock at each look. What is no longer owned disappears:
its new owner reports it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from aiokafka import TopicPartition

from pipeline.base.metrics_io import LAG_RECORDS, LAG_SECONDS, UNSTABLE_RECORDS


class Progress(NamedTuple):
    """Where an owner is: offset of the record that comes next, and the broker's time of the oldest that waits."""

    partition: TopicPartition
    next_offset: int
    oldest_ms: int | None = None
    """None when nothing read is waiting."""
    unstable_count: int | None = None
    """High watermark less last stable offset; None where nobody asks."""


class LagGauges:
    """The lag of one role on this worker."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._last: dict[TopicPartition, Progress] = {}
        self._behind_since_s: dict[TopicPartition, float] = {}

    def knows(self, partition: TopicPartition) -> bool:
        """Whether its position was ever told; an owner that stands keeps the last one."""
        return partition in self._last

    def show(
        self,
        owned: Collection[TopicPartition],
        progress: Iterable[Progress],
        ends: Mapping[TopicPartition, int],
        now_s: float,
    ) -> None:
        """`ends`: high watermarks, as last known."""
        for each in progress:
            self._last[each.partition] = each
        for gone in self._last.keys() - set(owned):
            self._forget(gone)
        for partition, each in self._last.items():
            labels = (self._role, partition.topic, str(partition.partition))
            behind = max(0, ends.get(partition, each.next_offset) - each.next_offset)
            self._behind_since_s[partition] = since_s = self._since(each, behind, now_s)
            LAG_RECORDS.labels(*labels).set(behind)
            LAG_SECONDS.labels(*labels).set(max(0.0, now_s - since_s))
            if each.unstable_count is not None:
                UNSTABLE_RECORDS.labels(*labels[1:]).set(each.unstable_count)

    def _forget(self, partition: TopicPartition) -> None:
        labels = (self._role, partition.topic, str(partition.partition))
        last = self._last.pop(partition)
        if self._behind_since_s.pop(partition, None) is not None:
            LAG_RECORDS.remove(*labels)
            LAG_SECONDS.remove(*labels)
            if last.unstable_count is not None:
                UNSTABLE_RECORDS.remove(*labels[1:])

    def _since(self, each: Progress, behind: int, now_s: float) -> float:
        """Since when the oldest waiting record waits; before it is read: since it is known that there is one."""
        if behind == 0:
            return now_s
        if each.oldest_ms is not None:
            return each.oldest_ms / 1000
        return min(self._behind_since_s.get(each.partition, now_s), now_s)

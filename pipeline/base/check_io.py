"""Looks at the topics before money is touched: at every start, and whenever a partition is taken over."""

from __future__ import annotations

import asyncio
import time

from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.kafka_io import WorkerMustStop
from pipeline.base.settings_io import Settings
from pipeline.base.threads_io import in_thread
from pipeline.base.topics import TopicSpec, TopicState, problems_of_topics, topic_specs
from pipeline.base.topics_io import connect_admin, describe_topics, touch_topics

# Twelve partitions taken over together ask once.
_FRESH_S = 5.0


def specs_of(settings: Settings) -> tuple[TopicSpec, ...]:
    """The topics of a deployment."""
    return topic_specs(
        duplicate_window_ms=settings.duplicate_window_days * MS_PER_DAY,
        audit_ms=settings.audit_days * MS_PER_DAY,
        replicated=settings.replication_factor > 1,
    )


class TopicCheck:
    """Refuses topics that would lose money, saying what to type."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()
        self._found: dict[str, TopicState] = {}
        self._found_at_s = float("-inf")

    @property
    def partition_count(self) -> int:
        """Of every topic, as found; `at_start` has made sure that they agree."""
        return next(iter(self._found.values())).partition_count

    async def at_start(self) -> None:
        """WorkerMustStop when a topic is missing or wrongly set; BrokerUnreachable when nobody answers."""
        await self._look()
        specs = specs_of(self._settings)
        problems = problems_of_topics(
            specs,
            self._found,
            prefix=self._settings.topic_prefix,
            configs_checked=not self._settings.embedded_broker,
        )
        if problems:
            raise WorkerMustStop("; ".join(problems))

    async def look_again(self) -> None:
        """Asks for the topics, unless that was a moment ago; who has time meanwhile need not wait for it later."""
        async with self._lock:
            if time.monotonic() - self._found_at_s > _FRESH_S:
                await self._look()

    async def against_checkpoint(self, partition_count: int, topic_ids: dict[str, str]) -> None:
        """WorkerMustStop when partitions were added or a topic was made anew since `pstn ledger init`."""
        await self.look_again()
        for name, state in self._found.items():
            full = self._settings.topic(name)
            if state.partition_count != partition_count:
                raise WorkerMustStop(
                    f"topic {full} has {state.partition_count} partitions, the ledger was made with {partition_count}:"
                    " the count of a prefix never changes, for it decides who owns a tenant; move to a new prefix"
                )
            if topic_ids.get(name, state.topic_id) != state.topic_id:
                raise WorkerMustStop(
                    f"topic {full} was made anew since `pstn ledger init`: its offsets mean other records;"
                    " move to a new prefix"
                )

    async def _look(self) -> None:
        names = [spec.name for spec in specs_of(self._settings)]
        look = touch_topics if self._settings.embedded_broker else describe_topics
        self._found = await in_thread(
            lambda: look(connect_admin(self._settings.bootstrap_servers), self._settings.topic_prefix, names)
        )
        self._found_at_s = time.monotonic()

"""A consumer for those who only look: it joins no group and moves no position."""

from __future__ import annotations

from typing import Any

from pipeline.base.settings_io import Settings


def outside_consumer(settings: Settings) -> dict[str, Any]:
    """Settings of a librdkafka consumer that only looks."""
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "group.id": settings.group("status"),  # demanded by the client; never joined, nothing is committed
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        "log_level": 0,
    }

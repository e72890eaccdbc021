"""How a process speaks: structlog, one line for each event."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog

from pipeline.base.settings_io import Settings


def configure_logging(settings: Settings, stream: TextIO = sys.stderr) -> None:
    """One line for each event: console on a terminal, JSON elsewhere. Libraries speak from warnings up."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not stream.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=stream, format="%(levelname)s %(name)s: %(message)s", force=True)
    # A transaction that follows the last one closely is retried while the broker writes markers: harmless.
    logging.getLogger("aiokafka.producer.sender").setLevel(logging.ERROR)

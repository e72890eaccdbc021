"""What a person at the command line sees when something is wrong: one line, exit code 2, never a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException
from pydantic import ValidationError
from rich.text import Text

from pipeline.base.kafka_io import PartitionStalled, WorkerMustStop
from pipeline.base.settings_io import Settings
from pipeline.base.topics_io import BrokerUnreachable
from pipeline.charge.tables_io import TableError
from pipeline.cli.terminal import Terminal
from pipeline.warehouse.store import StoreAway, StoreRefused

EXIT_WRONG = 2
stderr = Terminal(stderr=True, soft_wrap=True)


def fail(message: str, code: int = EXIT_WRONG) -> typer.Exit:
    """Prints the line; the caller raises what this returns."""
    stderr.print(Text("pstn:", style="bold red"), message)
    return typer.Exit(code)


@contextmanager
def one_line() -> Iterator[None]:
    """Turns what can be wrong outside of us into one line."""
    try:
        yield
    except (WorkerMustStop, PartitionStalled, BrokerUnreachable, TableError, StoreAway, StoreRefused) as error:
        raise fail(str(error)) from None
    except (KafkaError, KafkaException, OSError) as error:
        raise fail(f"{type(error).__name__}: {error}") from None


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment and the options that were given; one line for each that is wrong."""
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [
            f"setting {'.'.join(map(str, e['loc']))}: {e['msg']} (PSTN_{str(e['loc'][0]).upper()})"
            for e in error.errors()
        ]
        raise fail("; ".join(lines)) from None

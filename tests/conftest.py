"""Servers that tests share. Each is started once for a run, when the first test asks for it.

A test that uses one of them is marked by it (`-m "not kafka"` leaves it out). A server that cannot be started fails
the test with one line that says what to install: nothing is skipped silently.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from pipeline.embedded.broker_io import EmbeddedBroker
from pipeline.embedded.kafka_io import KafkaNode, KafkaUnavailable

_MARK_OF_FIXTURE = {"kafka": "kafka", "clickhouse_server": "clickhouse"}
_prefix_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--ledger-steps", type=int, default=8_000, help="steps of invented histories, product against oracle"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture, mark in _MARK_OF_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaNode]:
    """A running Apache Kafka of one node: `.bootstrap`, `.pause()`, `.kill()`; who kills it restarts it.

    `PSTN_TEST_KAFKA` names one that runs already, for tests that only need `.bootstrap` (`tests/sabotage.py`).
    """
    if bootstrap := os.environ.get("PSTN_TEST_KAFKA"):
        yield SimpleNamespace(bootstrap=bootstrap)  # type: ignore[misc]
        return
    try:
        node = KafkaNode().start()
    except KafkaUnavailable as missing:
        pytest.fail(str(missing), pytrace=False)
    yield node
    node.close()


@pytest.fixture
def topic_prefix() -> str:
    """A prefix of topics, groups and transactional ids that no other test of any run uses, such as `t4711-3.`"""
    return f"t{os.getpid()}-{next(_prefix_numbers)}."


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[EmbeddedBroker]:
    """The in-process broker, from the standard package set only: no transactions to speak of, 4 partitions a topic."""
    with EmbeddedBroker() as broker:
        yield broker

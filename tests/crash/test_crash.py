"""The short run: every role as a process, six faults, an exact judgement; and a sabotage that must be noticed.

`make crash-test` is the long one, and there every sabotage has its turn.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.embedded.clickhouse_server_io import ClickHouseServer
from pipeline.embedded.kafka_io import KafkaNode

from .options import Options
from .run import Outcome, run
from .sabotage import NAMES, SABOTAGES
from .transcript import Transcript

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# What takes long is not the faults: processes that start, partitions that are restored, rests.
QUICK: dict[str, Any] = {"partitions": 3, "tenants": 12, "helpers": ("loader,notifier,payments",), "pace": 0.4}
SHORT = ("kill_worker", "refused_batch", "pause_worker", "loader_killed", "wrong_partition", "broker_killed")


def outcome_of(options: Options, kafka: KafkaNode, server: ClickHouseServer, prefix: str, folder: Path) -> Outcome:
    transcript = Transcript(folder / "transcript.txt", sys.stdout)
    try:
        return run(
            options, node=kafka, clickhouse=server, prefix=prefix, folder=folder / "run", transcript=transcript
        )  # fmt: skip
    finally:
        transcript.close()


def test_after_six_faults_nothing_is_lost_or_doubled(
    kafka: KafkaNode, clickhouse_server: ClickHouseServer, topic_prefix: str, tmp_path: Path
) -> None:
    """The promise: one result for each CDR, balances right to the micro-unit, each event once, the warehouse agrees."""
    options = Options(seed=5, calls=900, faults=len(SHORT), kinds=SHORT, **QUICK)
    outcome = outcome_of(options, kafka, clickhouse_server, topic_prefix, tmp_path)
    assert {name: count for name, count in outcome.counts.items() if count} == {}, outcome.findings
    assert sorted(outcome.faults) == sorted(SHORT)
    assert outcome.calls >= options.calls


def test_a_sabotaged_worker_is_noticed(
    kafka: KafkaNode, clickhouse_server: ClickHouseServer, topic_prefix: str, tmp_path: Path
) -> None:
    """A check that cannot fail is no check."""
    name = "does_not_await_the_batches"
    [kind] = set(SABOTAGES[NAMES[name]])
    # Of this seed the fault refuses results: only there is it sure to be seen in one of them.
    options = Options(seed=1, calls=400, faults=1, kinds=(kind,), sabotage=name, settle_s=8, workers=1, **QUICK)
    outcome = outcome_of(options, kafka, clickhouse_server, topic_prefix, tmp_path)
    assert outcome.counts["cdrs_without_result"]

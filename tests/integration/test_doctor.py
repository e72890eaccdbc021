"""`pstn doctor` on a real broker and a real warehouse."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from typer.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.app import tick_command
from pipeline.embedded.kafka_io import KafkaNode
from tests.integration.ledger_harness import Deployment

pytestmark = pytest.mark.timeout(120)


def doctor(deployment: Deployment, warehouse: str, *more: str) -> tuple[int, dict[str, Any]]:
    settings = deployment.settings
    connection = ["--bootstrap", settings.bootstrap_servers, "--prefix", settings.topic_prefix]
    answer = CliRunner().invoke(
        cli, ["doctor", *connection, "--warehouse", warehouse, "--format", "json", *more], env={"PSTN_OUTBOX": "/tmp"}
    )
    return answer.exit_code, json.loads(answer.stdout)


def failures(found: dict[str, Any]) -> set[tuple[str, str]]:
    return {(f["area"], f["what"].split(",")[0]) for f in found["findings"] if f["level"] == "fail"}


def test_a_set_up_of_one_broker_fails_for_its_replicas_and_for_nothing_else(
    kafka: KafkaNode, topic_prefix: str, store: Any, warehouse_url: str
) -> None:
    """What `pstn topics create` and `pstn ledger init` make is right in all that one broker can have right."""
    deployment = asyncio.run(Deployment.make(kafka.bootstrap, topic_prefix))
    code, found = doctor(deployment, warehouse_url)
    assert code == 1
    whats = {what for _, what in failures(found)}
    assert whats == {"1", "1 replicas", "min.insync.replicas=1"}, failures(found)
    well = {f["area"] for f in found["findings"] if f["level"] == "ok"}
    assert {"brokers", "broker", "ledger", "warehouse", "warehouse clock", "rating tables", "outbox disk"} <= well


def test_what_is_wrong_is_named_with_what_to_type(kafka: KafkaNode, topic_prefix: str, tmp_path: Path) -> None:
    """Settings changed by hand, a ledger that was never begun, tables that are not there, a warehouse that is away."""
    deployment = asyncio.run(Deployment.make(kafka.bootstrap, topic_prefix, init=False))
    changes = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        for key, value in (("message.timestamp.type", "CreateTime"), ("retention.ms", "60000"))
    ]
    cdrs = ConfigResource(ResourceType.TOPIC, f"{topic_prefix}cdrs", incremental_configs=changes)
    for answer in deployment.admin.incremental_alter_configs([cdrs]).values():
        answer.result()
    away = "clickhouse://127.0.0.1:9/pstn"
    until_s = time.monotonic() + 30
    while True:  # a setting takes a moment to reach the broker that answers
        code, found = doctor(deployment, away, "--tables", str(tmp_path))
        told = failures(found)
        if any("retention.ms" in what for _, what in told) or time.monotonic() > until_s:
            break
    assert code == 1
    cdrs_lines = {what.partition("=")[0] for area, what in told if area == f"{topic_prefix}cdrs"}
    assert {"message.timestamp.type", "retention.ms"} <= cdrs_lines
    assert {"ledger", "warehouse", "rating tables"} <= {area for area, _ in told}
    assert all(f["do"] for f in found["findings"] if f["level"] != "ok")


def test_clocks_that_differ_are_measured_by_the_ticks(kafka: KafkaNode, topic_prefix: str, folder_url: str) -> None:
    """A worker two minutes ahead of the brokers: months would end at another moment than people think."""

    async def run() -> Deployment:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        ahead_ms = int(time.time() * 1000) + 120_000
        await deployment.send("account-commands", [("tenant-0", tick_command(0, ahead_ms))])
        return deployment

    _, found = doctor(asyncio.run(run()), folder_url)
    [clock] = [f for f in found["findings"] if f["area"] == "brokers' clock"]
    assert clock["level"] == "fail"
    assert "behind" in clock["what"]


def test_a_broker_that_is_away_is_a_finding_and_the_rest_is_still_looked_at(folder_url: str) -> None:
    answer = CliRunner().invoke(cli, ["doctor", "--bootstrap", "127.0.0.1:9", "--warehouse", folder_url])
    assert answer.exit_code == 1
    assert "fail  brokers: no Kafka broker answers at 127.0.0.1:9" in answer.stdout
    assert "rating tables" in answer.stdout

"""The demo as a person starts it: in a process of its own, with its exit code and its one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.embedded.kafka_io import fetch_jars

CALLS = 1_500


def run_demo(keep: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "pipeline", "demo", "--calls", str(CALLS), "--tenants", "20", "--format", "json"]
    done = subprocess.run(
        [*command, "--keep", str(keep), *options], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def assert_whole(told: dict[str, Any], keep: Path) -> None:
    """Every call has its result, money moved, and the files that are named are there."""
    assert told["reconciled"] is True
    assert told["problems"] == []
    rated = sum(told["outcomes"].values()) - told["outcomes"]["duplicate"]
    assert rated == told["sent"]["rated"]
    assert told["outcomes"]["duplicate"] == told["sent"]["resent"]
    assert told["rejected"] == told["sent"]["rejected"]
    assert sum(destination["revenue_micros"] for destination in told["destinations"]) > 0
    assert told["recharges"]["succeeded_count"] > 0
    assert told["suspended"]
    assert "PROXY" in told["tariff"]
    assert all(Path(path).exists() for path in told["files"].values())
    usage = (keep / "reports" / "usage.csv").read_text(encoding="utf-8").splitlines()
    assert len(usage) == rated + 1
    assert list((keep / "outbox").glob("*.eml"))


@pytest.mark.slow
def test_the_demo_reconciles_on_the_embedded_broker(tmp_path: Path) -> None:
    """What a newcomer types first."""
    told = run_demo(tmp_path)
    assert_whole(told, tmp_path)
    assert told["worker_kills"] == 0
    assert "no real transactions" in told["broker"]


@pytest.mark.slow
@pytest.mark.kafka
def test_the_demo_reconciles_on_apache_kafka_though_its_worker_is_killed(tmp_path: Path) -> None:
    """The claim of exactly-once, from end to end: switch, broker, ledger, warehouse, and kill -9 between them."""
    fetch_jars()
    told = run_demo(tmp_path, "--kafka", "--rate", "300")
    assert_whole(told, tmp_path)
    assert told["worker_kills"] == 1


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    """Two runs in one warehouse would be reconciled against half of the truth."""
    (tmp_path / "older").touch()
    command = [sys.executable, "-m", "pipeline", "demo", "--keep", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert "Traceback" not in done.stderr

"""`pstn worker --processes`: several workers under one parent, as on-call staff and orchestrators expect them."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.embedded.kafka_io import KafkaNode, free_port
from tests.integration.ledger_harness import TABLES, Deployment, eventually, tenants_by_partition

pytestmark = pytest.mark.timeout(180)


@contextmanager
def two_processes(deployment: Deployment, log: Path, port: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    settings = deployment.settings
    environment = os.environ | {
        "PSTN_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PSTN_TOPIC_PREFIX": settings.topic_prefix,
        "PSTN_SESSION_TIMEOUT_MS": "6000",
        "PSTN_CALL_AGE_DAYS_MAX": "4000",
        "PSTN_TABLES": str(TABLES),
        "PSTN_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "pipeline", "worker", "--roles", "ledger", "--processes", "2"]
    with log.open("wb") as stream:
        parent = subprocess.Popen(
            [*command, "--web-port", str(port)], env=environment, stdout=stream, stderr=stream, cwd=log.parent
        )
    try:
        yield parent
    finally:
        for child in children(parent):
            child.kill()
        parent.kill()
        parent.wait()


def children(parent: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(parent.pid).children() if parent.poll() is None else []


def said(log: Path, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("event") == event]


def owners(port: int) -> dict[int, list[int]]:
    """Partitions by worker, as each says on its own port."""
    found = {}
    for number in range(2):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port + number}/healthz", timeout=5) as page:
                found[number] = json.loads(page.read())["owned"].get("ledger", [])
        except OSError:
            found[number] = []
    return found


def are_shared(owned: dict[int, list[int]]) -> bool:
    """Each partition has one owner, and each worker some."""
    return all(owned.values()) and sorted(itertools.chain(*owned.values())) == [0, 1, 2]


def test_two_processes_share_the_work_and_a_killed_one_is_replaced(
    kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """Each call is charged once, whoever of the two dies in the midst of it; SIGTERM to the parent ends both."""
    log, port = tmp_path / "log", free_port()

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        tenants = list(tenants_by_partition().values())
        await deployment.open_accounts(tenants)
        with two_processes(deployment, log, port) as parent:
            shared = await eventually(lambda: owners(port), are_shared, wait_s=60)
            assert are_shared(shared), (shared, log.read_text()[-2000:])
            for tenant in tenants:
                await deployment.call(tenant, 400)
            victim = children(parent)[0]
            victim.send_signal(signal.SIGKILL)
            for tenant in tenants:
                await deployment.call(tenant, 400)
            rated = await deployment.rated_when(2_400, wait_s=60)
            deployment.assert_exact(rated)
            back = await eventually(lambda: owners(port), are_shared, wait_s=60)
            assert are_shared(back), "the one that was killed works again"
            [death] = said(log, "process_died")
            assert death["exit_code"] == -signal.SIGKILL
            assert len(said(log, "process_started")) == 3
            assert {line["process"] for line in said(log, "partitions_assigned")} == {0, 1}, "the log says whose line"
            asked_s, workers = time.monotonic(), children(parent)
            assert len(workers) == 2
            parent.terminate()
            assert parent.wait(10) == 0, log.read_text()[-2000:]
            assert time.monotonic() - asked_s < 5
            assert not any(worker.is_running() for worker in workers)

    asyncio.run(run())


def test_what_one_cannot_do_ends_all_with_its_code(kafka: KafkaNode, topic_prefix: str, tmp_path: Path) -> None:
    """A ledger without checkpoints is not mended by starting again: whoever watches the parent must see it."""
    log = tmp_path / "log"
    deployment = asyncio.run(Deployment.make(kafka.bootstrap, topic_prefix, init=False))
    with two_processes(deployment, log) as parent:
        assert parent.wait(60) == 2, log.read_text()[-2000:]
    assert "pstn ledger init" in log.read_text()


def test_workers_stop_when_their_parent_is_killed(kafka: KafkaNode, topic_prefix: str, tmp_path: Path) -> None:
    """Else the next parent finds ports and partitions taken by workers that nobody watches."""
    log = tmp_path / "log"

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        with two_processes(deployment, log) as parent:
            await eventually(lambda: said(log, "partitions_assigned"), lambda lines: len(lines) >= 2, wait_s=60)
            workers = children(parent)
            assert len(workers) == 2
            parent.kill()
            parent.wait()
            _, alive = psutil.wait_procs(workers, timeout=10)
            for worker in alive:
                worker.kill()
            assert not alive

    asyncio.run(run())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--warehouse", "chdb:here"], "chdb:here can be held by one process"),
        (["--roles", "ledger", "--web-port", "65535"], "end above 65535"),
    ],
)
def test_what_several_processes_cannot_share_is_said_at_once(options: list[str], told: str) -> None:
    answer = CliRunner().invoke(cli, ["worker", "--processes", "2", *options])
    assert answer.exit_code == 2
    assert told in answer.output
